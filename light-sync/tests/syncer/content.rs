//! What a node says of blocks, transactions and the state of a generated chain.

use crate::node::commit;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use serde_json::{Value, json};
use tendermint_proto::v0_38::abci::ExecTxResult;
use tendermint_proto::v0_38::types as pb;
use tercet_light_core::content::tx_hash;
use tercet_light_core::header::Height;
use tercet_light_core::testing::chain::Chain;
use tercet_light_core::testing::content;

pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn result(of: &ExecTxResult) -> Value {
    json!({ "code": of.code, "data": base64(&of.data), "log": of.log, "info": "",
        "gas_wanted": of.gas_wanted.to_string(), "gas_used": of.gas_used.to_string(),
        "events": [{ "type": "invented", "attributes": [] }], "codespace": "" })
}

/// The result of a method.
pub(crate) fn reply(
    chain: &Chain,
    method: &str,
    params: &Value,
    height: Height,
) -> Result<Value, String> {
    Ok(match method {
        "block" => block(chain, height),
        "block_results" => {
            let results: Vec<Value> = content::results(height).iter().map(result).collect();
            json!({ "height": height.to_string(), "txs_results": results })
        }
        "consensus_params" => {
            let (bytes, gas) = content::PARAMS;
            json!({ "block_height": height.to_string(), "consensus_params": {
                "block": { "max_bytes": bytes.to_string(), "max_gas": gas.to_string() },
                "evidence": { "max_age_num_blocks": "100000" } } })
        }
        "tx" => {
            let hash = STANDARD.decode(params["hash"].as_str().unwrap()).unwrap();
            let find = |height: Height| {
                let txs = content::txs(height);
                let index = txs.iter().position(|tx| *tx_hash(tx).as_bytes() == *hash)?;
                Some((height, index, txs[index].clone()))
            };
            let found = (chain.spec.first..=chain.spec.last).find_map(find);
            let (height, index, tx) = found.ok_or("tx not found")?;
            json!({ "hash": hex::encode_upper(hash), "height": height.to_string(), "index": index,
                "tx": base64(&tx), "tx_result": result(&content::results(height)[index]),
                "proof": { "root_hash": "", "data": base64(&tx),
                    "proof": content::tx_proof(height, index) } })
        }
        "abci_query" => {
            let key = hex::decode(params["data"].as_str().unwrap()).unwrap();
            let (value, op) = content::query(height, &key);
            json!({ "response": { "code": 0, "log": "exists", "info": "", "index": "0",
                "key": base64(&key), "value": value.map(|value| base64(&value)),
                "proofOps": { "ops": [{ "type": op.r#type, "key": base64(&op.key),
                    "data": base64(&op.data) }] },
                "height": height.to_string(), "codespace": "" } })
        }
        "broadcast_tx_sync" => {
            json!({ "code": 0, "data": "", "log": "", "codespace": "", "hash": "00" })
        }
        "broadcast_tx_commit" => {
            let tx = STANDARD.decode(params["tx"].as_str().unwrap()).unwrap();
            let known = (1..=chain.spec.last).find(|height| content::txs(*height).contains(&tx));
            json!({ "check_tx": { "code": 0 }, "tx_result": { "code": 9 }, "hash": "00",
                "height": known.unwrap_or(0).to_string() })
        }
        "genesis" => json!({ "genesis": { "chain_id": chain.spec.chain_id } }),
        other => return Err(format!("no method {other}")),
    })
}

fn block(chain: &Chain, height: Height) -> Value {
    let header = pb::Header::decode(chain.header(height).bytes().clone()).unwrap();
    let last_commit = if height > chain.spec.first {
        commit(chain, height - 1)
    } else {
        json!({ "height": "0", "round": 0, "signatures": [],
            "block_id": { "hash": "", "parts": { "total": 0, "hash": "" } } })
    };
    let txs: Vec<String> = content::txs(height).iter().map(|tx| base64(tx)).collect();
    json!({ "block_id": null, "block": { "header": header, "data": { "txs": txs },
        "evidence": { "evidence": [] }, "last_commit": last_commit } })
}
