//! What the application answers. CometBFT writes these messages with protobuf's JSON mapping, all fields present.

use super::{Base64, Hex, Text, is_zero};
use bytes::Bytes;
use serde::{Serialize, Serializer};
use tendermint_proto::v0_38::abci as pb;
use tendermint_proto::v0_38::crypto::{ProofOps, PublicKey, public_key};
use tendermint_proto::v0_38::types::ConsensusParams;

/// `CheckTx` result or the result of an executed transaction: the same fields in the same order.
#[derive(Serialize, Default)]
pub(crate) struct TxResult {
    code: u32,
    data: Base64<Bytes>,
    log: String,
    info: String,
    gas_wanted: Text<i64>,
    gas_used: Text<i64>,
    events: Vec<Event>,
    codespace: String,
}

impl From<pb::ResponseCheckTx> for TxResult {
    fn from(check: pb::ResponseCheckTx) -> TxResult {
        TxResult {
            code: check.code,
            data: Base64(check.data),
            log: check.log,
            info: check.info,
            gas_wanted: Text(check.gas_wanted),
            gas_used: Text(check.gas_used),
            events: check.events.into_iter().map(Event::from).collect(),
            codespace: check.codespace,
        }
    }
}

impl From<pb::ExecTxResult> for TxResult {
    fn from(result: pb::ExecTxResult) -> TxResult {
        TxResult {
            code: result.code,
            data: Base64(result.data),
            log: result.log,
            info: result.info,
            gas_wanted: Text(result.gas_wanted),
            gas_used: Text(result.gas_used),
            events: result.events.into_iter().map(Event::from).collect(),
            codespace: result.codespace,
        }
    }
}

/// An event inside a result: every field present.
#[derive(Serialize)]
pub(crate) struct Event {
    r#type: String,
    attributes: Vec<Attribute>,
}

#[derive(Serialize)]
struct Attribute {
    key: String,
    value: String,
    index: bool,
}

impl From<pb::Event> for Event {
    fn from(event: pb::Event) -> Event {
        let attribute = |attribute: pb::EventAttribute| Attribute {
            key: attribute.key,
            value: attribute.value,
            index: attribute.index,
        };
        Event {
            r#type: event.r#type,
            attributes: event.attributes.into_iter().map(attribute).collect(),
        }
    }
}

/// An event of a whole block: Go leaves out what is empty.
#[derive(Serialize)]
pub(crate) struct BlockEvent {
    #[serde(skip_serializing_if = "String::is_empty")]
    r#type: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<Attribute>,
}

impl From<pb::Event> for BlockEvent {
    fn from(event: pb::Event) -> BlockEvent {
        let Event { r#type, attributes } = Event::from(event);
        BlockEvent { r#type, attributes }
    }
}

/// Reply of `broadcast_tx_commit`.
#[derive(Serialize)]
pub(crate) struct CommitReply {
    pub(crate) check_tx: TxResult,
    pub(crate) tx_result: TxResult,
    pub(crate) hash: Hex<[u8; 32]>,
    pub(crate) height: Text<u64>,
}

/// Reply of `abci_query` and `abci_info`.
#[derive(Serialize)]
pub(crate) struct Response<T> {
    pub(crate) response: T,
}

/// The result of a query.
#[derive(Serialize)]
pub(crate) struct Query {
    code: u32,
    log: String,
    info: String,
    index: Text<i64>,
    key: Base64<Bytes>,
    value: Base64<Bytes>,
    #[serde(rename = "proofOps")]
    proof_ops: Option<Proof>,
    height: Text<i64>,
    codespace: String,
}

#[derive(Serialize)]
struct Proof {
    ops: Vec<ProofOp>,
}

#[derive(Serialize)]
struct ProofOp {
    r#type: String,
    key: Base64<Vec<u8>>,
    data: Base64<Vec<u8>>,
}

impl From<ProofOps> for Proof {
    fn from(proof: ProofOps) -> Proof {
        let op = |op: tendermint_proto::v0_38::crypto::ProofOp| ProofOp {
            r#type: op.r#type,
            key: Base64(op.key),
            data: Base64(op.data),
        };
        Proof { ops: proof.ops.into_iter().map(op).collect() }
    }
}

impl From<pb::ResponseQuery> for Query {
    fn from(query: pb::ResponseQuery) -> Query {
        Query {
            code: query.code,
            log: query.log,
            info: query.info,
            index: Text(query.index),
            key: Base64(query.key),
            value: Base64(query.value),
            proof_ops: query.proof_ops.map(Proof::from),
            height: Text(query.height),
            codespace: query.codespace,
        }
    }
}

/// What the application says of itself; empty fields are left out.
#[derive(Serialize)]
pub(crate) struct Info {
    #[serde(skip_serializing_if = "String::is_empty")]
    data: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "is_zero")]
    app_version: Text<u64>,
    #[serde(skip_serializing_if = "is_zero")]
    last_block_height: Text<i64>,
    #[serde(skip_serializing_if = "is_empty")]
    last_block_app_hash: Base64<Bytes>,
}

fn is_empty(bytes: &Base64<Bytes>) -> bool {
    bytes.0.is_empty()
}

impl From<pb::ResponseInfo> for Info {
    fn from(info: pb::ResponseInfo) -> Info {
        Info {
            data: info.data,
            version: info.version,
            app_version: Text(info.app_version),
            last_block_height: Text(info.last_block_height),
            last_block_app_hash: Base64(info.last_block_app_hash),
        }
    }
}

/// Reply of `block_results`: what is empty is `null`.
#[derive(Serialize)]
pub(crate) struct BlockResults {
    height: Text<u64>,
    txs_results: Option<Vec<TxResult>>,
    finalize_block_events: Option<Vec<BlockEvent>>,
    validator_updates: Option<Vec<ValidatorUpdate>>,
    consensus_param_updates: Option<ParamUpdates>,
    app_hash: Base64<Bytes>,
}

impl BlockResults {
    /// The reply for the block at `height`.
    pub(crate) fn new(height: u64, results: pb::ResponseFinalizeBlock) -> BlockResults {
        BlockResults {
            height: Text(height),
            txs_results: list(results.tx_results),
            finalize_block_events: list(results.events),
            validator_updates: list(results.validator_updates),
            consensus_param_updates: results.consensus_param_updates.map(ParamUpdates::from),
            app_hash: Base64(results.app_hash),
        }
    }
}

pub(crate) fn list<T, U: From<T>>(items: Vec<T>) -> Option<Vec<U>> {
    (!items.is_empty()).then(|| items.into_iter().map(U::from).collect())
}

#[derive(Serialize)]
pub(crate) struct ValidatorUpdate {
    pub_key: SumKey,
    #[serde(skip_serializing_if = "is_zero")]
    power: Text<i64>,
}

impl From<pb::ValidatorUpdate> for ValidatorUpdate {
    fn from(update: pb::ValidatorUpdate) -> ValidatorUpdate {
        ValidatorUpdate { pub_key: SumKey(update.pub_key), power: Text(update.power) }
    }
}

/// A key as Go's encoder writes the generated protobuf type, which is the one exception among CometBFT's replies.
struct SumKey(Option<PublicKey>);

impl Serialize for SumKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Outer<'a> {
            #[serde(rename = "Sum")]
            sum: Option<Sum<'a>>,
        }
        #[derive(Serialize)]
        #[serde(tag = "type", content = "value")]
        enum Sum<'a> {
            #[serde(rename = "tendermint.crypto.PublicKey_Ed25519")]
            Ed25519 { ed25519: Base64<&'a [u8]> },
            #[serde(rename = "tendermint.crypto.PublicKey_Secp256K1")]
            Secp256k1 { secp256k1: Base64<&'a [u8]> },
        }
        let sum = match self.0.as_ref().and_then(|key| key.sum.as_ref()) {
            Some(public_key::Sum::Ed25519(key)) => Some(Sum::Ed25519 { ed25519: Base64(key) }),
            Some(public_key::Sum::Secp256k1(key)) => {
                Some(Sum::Secp256k1 { secp256k1: Base64(key) })
            }
            None => None,
        };
        Outer { sum }.serialize(serializer)
    }
}

/// Changed parameters; Go leaves out what is zero.
#[derive(Serialize)]
pub(crate) struct ParamUpdates {
    #[serde(skip_serializing_if = "Option::is_none")]
    block: Option<BlockParams>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<EvidenceParams>,
    #[serde(skip_serializing_if = "Option::is_none")]
    validator: Option<ValidatorParams>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<VersionParams>,
    #[serde(skip_serializing_if = "Option::is_none")]
    abci: Option<AbciParams>,
}

#[derive(Serialize)]
struct BlockParams {
    #[serde(skip_serializing_if = "is_zero")]
    max_bytes: Text<i64>,
    #[serde(skip_serializing_if = "is_zero")]
    max_gas: Text<i64>,
}

#[derive(Serialize)]
struct EvidenceParams {
    #[serde(skip_serializing_if = "is_zero")]
    max_age_num_blocks: Text<i64>,
    max_age_duration: Text<i128>,
    #[serde(skip_serializing_if = "is_zero")]
    max_bytes: Text<i64>,
}

#[derive(Serialize)]
struct ValidatorParams {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub_key_types: Vec<String>,
}

#[derive(Serialize)]
struct VersionParams {
    #[serde(skip_serializing_if = "is_zero")]
    app: Text<u64>,
}

#[derive(Serialize)]
struct AbciParams {
    #[serde(skip_serializing_if = "is_zero")]
    vote_extensions_enable_height: Text<i64>,
}

impl From<ConsensusParams> for ParamUpdates {
    fn from(params: ConsensusParams) -> ParamUpdates {
        ParamUpdates {
            block: params.block.map(|block| BlockParams {
                max_bytes: Text(block.max_bytes),
                max_gas: Text(block.max_gas),
            }),
            evidence: params.evidence.map(|evidence| {
                let age = evidence.max_age_duration.unwrap_or_default();
                let nanos = i128::from(age.seconds) * 1_000_000_000 + i128::from(age.nanos);
                EvidenceParams {
                    max_age_num_blocks: Text(evidence.max_age_num_blocks),
                    max_age_duration: Text(nanos),
                    max_bytes: Text(evidence.max_bytes),
                }
            }),
            validator: params
                .validator
                .map(|validator| ValidatorParams { pub_key_types: validator.pub_key_types }),
            version: params.version.map(|version| VersionParams { app: Text(version.app) }),
            abci: params.abci.map(|abci| AbciParams {
                vote_extensions_enable_height: Text(abci.vote_extensions_enable_height),
            }),
        }
    }
}
