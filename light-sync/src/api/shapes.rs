//! What goes in and out, in CometBFT's shapes.

pub(super) use crate::shapes::{header, show, upper, validator};

use crate::shapes::no_block_id;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tendermint_proto::v0_38::abci::ExecTxResult;
use tendermint_proto::v0_38::crypto as pb_crypto;
use tendermint_proto::v0_38::types as pb;
use tercet_light_core::commit::BlockId;

pub(super) fn read<T: DeserializeOwned>(raw: &RawValue) -> Result<T, String> {
    serde_json::from_str(raw.get()).map_err(|error| format!("it is malformed ({error})"))
}

/// A block; where there are no transactions or no last commit, as Go writes it.
pub(super) fn block(block: &pb::Block) -> Value {
    let mut shown = show(block);
    for list in ["/data/txs", "/evidence/evidence", "/last_commit/signatures"] {
        if let Some(list) = shown.pointer_mut(list).filter(|list| list.is_null()) {
            *list = json!([]);
        }
    }
    let last = block.header.as_ref().and_then(|header| header.last_block_id.as_ref());
    let is_first = last.is_none_or(|id| id.hash.is_empty());
    if is_first && let Some(shown) = shown.as_object_mut() {
        let id = no_block_id();
        let commit = json!({ "height": "0", "round": 0, "block_id": id, "signatures": [] });
        shown.insert("last_commit".to_owned(), commit);
        if let Some(id) = shown.get_mut("header").and_then(|header| header.get_mut("last_block_id"))
        {
            *id = no_block_id();
        }
    }
    shown
}

pub(super) fn block_id(id: &BlockId) -> Value {
    show(&id.to_proto())
}

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn from_base64(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|_| "it is malformed (base64)".to_owned())
}

fn bytes_or_null(bytes: &[u8]) -> Value {
    if bytes.is_empty() { Value::Null } else { base64(bytes).into() }
}

#[derive(Deserialize)]
pub(super) struct BlockAnswer {
    pub(super) block: pb::Block,
}

/// A result; of what it holds only this is hashed.
#[derive(Deserialize)]
pub(super) struct TxResult {
    #[serde(default)]
    code: u32,
    #[serde(default)]
    data: Option<String>,
    #[serde(default)]
    gas_wanted: Option<String>,
    #[serde(default)]
    gas_used: Option<String>,
}

impl TxResult {
    pub(super) fn read(self) -> Result<ExecTxResult, String> {
        let gas = |text: Option<String>| {
            let text = text.unwrap_or_default();
            if text.is_empty() { Ok(0) } else { text.parse() }
        };
        let malformed = |_| "it is malformed (gas)".to_owned();
        Ok(ExecTxResult {
            code: self.code,
            data: from_base64(&self.data.unwrap_or_default())?.into(),
            gas_wanted: gas(self.gas_wanted).map_err(malformed)?,
            gas_used: gas(self.gas_used).map_err(malformed)?,
            ..ExecTxResult::default()
        })
    }
}

/// A result with what is proven of it; the rest is empty.
pub(super) fn tx_result(of: &ExecTxResult) -> Value {
    json!({
        "code": of.code,
        "data": bytes_or_null(&of.data),
        "log": "",
        "info": "",
        "gas_wanted": of.gas_wanted.to_string(),
        "gas_used": of.gas_used.to_string(),
        "events": [],
        "codespace": "",
    })
}

#[derive(Deserialize)]
pub(super) struct ResultsAnswer {
    pub(super) txs_results: Option<Vec<TxResult>>,
}

#[derive(Deserialize)]
pub(super) struct ParamsAnswer {
    pub(super) consensus_params: ConsensusParams,
}

#[derive(Deserialize)]
pub(super) struct ConsensusParams {
    pub(super) block: BlockParams,
}

#[derive(Deserialize)]
pub(super) struct BlockParams {
    pub(super) max_bytes: String,
    pub(super) max_gas: String,
}

#[derive(Deserialize)]
pub(super) struct TxAnswer {
    pub(super) height: String,
    pub(super) tx: String,
    pub(super) proof: TxProof,
}

#[derive(Deserialize)]
pub(super) struct TxProof {
    pub(super) proof: pb_crypto::Proof,
}

#[derive(Deserialize)]
pub(super) struct QueryAnswer {
    pub(super) response: QueryResponse,
}

#[derive(Deserialize)]
pub(super) struct QueryResponse {
    #[serde(default)]
    pub(super) code: u32,
    #[serde(default)]
    pub(super) log: String,
    #[serde(default)]
    pub(super) index: Option<String>,
    #[serde(default)]
    pub(super) key: Option<String>,
    #[serde(default)]
    pub(super) value: Option<String>,
    #[serde(default, rename = "proofOps", alias = "proof_ops")]
    pub(super) proof_ops: Option<ProofOps>,
    #[serde(default)]
    pub(super) height: Option<String>,
    #[serde(default)]
    pub(super) codespace: String,
}

#[derive(Deserialize)]
pub(super) struct ProofOps {
    #[serde(default)]
    pub(super) ops: Option<Vec<ProofOp>>,
}

#[derive(Deserialize)]
pub(super) struct ProofOp {
    r#type: String,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    data: Option<String>,
}

impl ProofOp {
    pub(super) fn read(self) -> Result<pb_crypto::ProofOp, String> {
        let key = from_base64(&self.key.unwrap_or_default())?;
        let data = from_base64(&self.data.unwrap_or_default())?;
        Ok(pb_crypto::ProofOp { r#type: self.r#type, key, data })
    }
}

pub(super) fn proof_ops(ops: &[pb_crypto::ProofOp]) -> Value {
    let op = |op: &pb_crypto::ProofOp| json!({ "type": op.r#type, "key": base64(&op.key), "data": base64(&op.data) });
    json!({ "ops": ops.iter().map(op).collect::<Vec<_>>() })
}
