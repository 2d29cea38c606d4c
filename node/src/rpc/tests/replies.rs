//! Replies against those captured from CometBFT, and through tendermint-rpc's client.

use super::fake::*;
use crate::rpc::Limits;
use crate::rpc::json;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::fmt;
use tendermint_rpc::client::CompatMode;
use tendermint_rpc::{Client as _, HttpClient};
use tercet_consensus::commit::Commit;

/// A captured reply; none, with a line that says so, where the vectors are not there.
fn captured(name: &str) -> Option<String> {
    let Some(folder) = std::env::var_os("TERCET_VECTORS") else {
        println!("skipped: TERCET_VECTORS is not set");
        return None;
    };
    let path = std::path::Path::new(&folder).join("rpc/incoming").join(name);
    Some(std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("{} is missing", path.display())))
}

fn value<T: serde::Serialize>(item: &T) -> Value {
    let mut out = Vec::new();
    json::append(&mut out, item).unwrap();
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn captured_headers_and_commits_come_out_as_they_went_in() {
    for name in ["block_at_height_1.json", "block_at_height_10.json", "block_by_hash.json"] {
        let Some(text) = captured(name) else { return };
        let reply: Value = serde_json::from_str(&text).unwrap();
        let block = &reply["result"]["block"];
        let header: tendermint::block::Header =
            serde_json::from_value(block["header"].clone()).unwrap();
        assert_eq!(value(&json::block::Header::from(header)), block["header"], "{name}");
        let commit = &block["last_commit"];
        if commit["height"] == "0" {
            assert_eq!(value(&json::block::Commit::default()), *commit);
            continue;
        }
        let parsed: tendermint::block::Commit = serde_json::from_value(commit.clone()).unwrap();
        let parsed = Commit::from_tendermint(&parsed).unwrap();
        assert_eq!(value(&json::block::Commit::from(&parsed)), *commit, "{name}");
    }
}

#[test]
fn captured_evidence_comes_out_as_it_went_in() {
    use tendermint_proto::v0_38::types as pb;
    let Some(text) = captured("block_search_evidence.json") else { return };
    let reply: Value = serde_json::from_str(&text).unwrap();
    let mut seen = 0;
    for block in reply["result"]["blocks"].as_array().unwrap() {
        for captured in block["block"]["evidence"]["evidence"].as_array().unwrap() {
            let evidence: pb::Evidence = serde_json::from_value(captured.clone()).unwrap();
            let ours = json::evidence::Evidence::new(evidence).unwrap();
            assert_eq!(value(&ours), *captured);
            seen += 1;
        }
    }
    assert!(seen > 0);
}

/// What a path to a value goes through, with objects' keys in the order of the text.
#[derive(Debug, Default, PartialEq)]
struct Keys(Vec<(String, Keys)>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Keys, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Keys;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("json")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    keys.push(entry);
                }
                Ok(Keys(keys))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Keys, A::Error> {
                let first = list.next_element()?.unwrap_or_default();
                while list.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(first)
            }
            fn visit_str<E>(self, _: &str) -> Result<Keys, E> {
                Ok(Keys::default())
            }
            fn visit_u64<E>(self, _: u64) -> Result<Keys, E> {
                Ok(Keys::default())
            }
            fn visit_i64<E>(self, _: i64) -> Result<Keys, E> {
                Ok(Keys::default())
            }
            fn visit_bool<E>(self, _: bool) -> Result<Keys, E> {
                Ok(Keys::default())
            }
            fn visit_unit<E>(self) -> Result<Keys, E> {
                Ok(Keys::default())
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// Compares keys and types; a null or an empty list fits everything.
fn compare(ours: &Value, theirs: &Value, path: &str) {
    match (ours, theirs) {
        (Value::Null, _) | (_, Value::Null) => {}
        (Value::Object(ours), Value::Object(theirs)) => {
            let names = |map: &serde_json::Map<String, Value>| {
                let known = |name: &&String| *name != "tercet_version" && *name != "app_state";
                map.keys().filter(known).cloned().collect::<Vec<_>>()
            };
            assert_eq!(names(ours), names(theirs), "{path}");
            for (name, theirs) in theirs {
                compare(&ours[name], theirs, &format!("{path}.{name}"));
            }
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            if let (Some(ours), Some(theirs)) = (ours.first(), theirs.first()) {
                compare(ours, theirs, &format!("{path}[]"));
            }
        }
        (Value::String(_), Value::String(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::Bool(_), Value::Bool(_)) => {}
        _ => panic!("{path}: {ours} is no {theirs}"),
    }
}

#[tokio::test]
async fn replies_have_the_shape_of_comets() {
    let running = start(Limits::default()).await;
    let mut client = Client::new(&running).await;
    for (name, path) in [
        ("abci_info.json", "/abci_info"),
        ("abci_query_with_existing_key.json", "/abci_query?path=%22%22&data=%22tx0%22"),
        ("abci_query_with_non_existent_key.json", "/abci_query?data=0x6e6f"),
        ("block_at_height_0.json", "/block?height=0"),
        ("block_at_height_10.json", "/block?height=11"),
        ("block_at_height_10.json", "/block?height=10"),
        ("block_results_at_height_10.json", "/block_results?height=11"),
        ("block_results_at_height_10.json", "/block_results?height=10"),
        ("blockchain_from_1_to_10.json", "/blockchain?minHeight=1&maxHeight=10"),
        ("broadcast_tx_async.json", "/broadcast_tx_async?tx=%22a=b%22"),
        ("broadcast_tx_commit.json", "/broadcast_tx_commit?tx=%22c=d%22"),
        ("broadcast_tx_sync.json", "/broadcast_tx_sync?tx=%22a=b%22"),
        ("commit_at_height_10.json", "/commit?height=10"),
        ("commit_at_height_10.json", "/commit"),
        ("consensus_params.json", "/consensus_params?height=10"),
        ("genesis.json", "/genesis"),
        ("net_info.json", "/net_info"),
        ("status.json", "/status"),
    ] {
        let Some(text) = captured(name) else { return };
        let mut theirs: Value = serde_json::from_str(&text).unwrap();
        let mut ours: Value = serde_json::from_str(&client.get(path).await.body).unwrap();
        theirs["id"].take();
        ours["id"].take();
        compare(&ours, &theirs, path);
    }
}

#[tokio::test]
async fn fields_stand_in_comets_order() {
    let running = start(Limits::default()).await;
    let mut client = Client::new(&running).await;
    // The one captured block that was not sorted by its recorder.
    let Some(text) = captured("block_by_hash.json") else { return };
    let theirs: Keys = serde_json::from_str(&text).unwrap();
    let ours: Keys = serde_json::from_str(&client.get("/block?height=11").await.body).unwrap();
    assert_eq!(ours, theirs);
    for (path, order) in [
        ("/status", "node_info sync_info validator_info tercet_version"),
        ("/validators", "block_height validators count total"),
        ("/num_unconfirmed_txs", "n_txs total total_bytes txs"),
        (
            "/block_results?height=10",
            "height txs_results finalize_block_events validator_updates consensus_param_updates app_hash",
        ),
        ("/commit", "signed_header canonical"),
        ("/check_tx?tx=%22a%22", "code data log info gas_wanted gas_used events codespace"),
    ] {
        let keys: Keys = serde_json::from_str(&client.get(path).await.body).unwrap();
        let result = &keys.0.iter().find(|(name, _)| name == "result").unwrap().1;
        let names: Vec<&str> = result.0.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.join(" "), order, "{path}");
    }
}

#[tokio::test]
async fn single_replies_are_as_documented() {
    let running = start(Limits::default()).await;
    let mut client = Client::new(&running).await;
    let body = client.get("/num_unconfirmed_txs").await.body;
    assert!(body.ends_with(r#"{"n_txs":"2","total":"2","total_bytes":"6","txs":null}}"#));
    let body = client.get("/unconfirmed_txs?limit=1").await.body;
    assert!(body.ends_with(r#"{"n_txs":"1","total":"2","total_bytes":"6","txs":["YT1i"]}}"#));
    let body = client.get("/block?height=10").await.body;
    assert!(body.contains(r#""txs":["YT08Yj4="]"#));
    let absent = r#"{"block_id_flag":1,"validator_address":"","timestamp":"0001-01-01T00:00:00Z","signature":null}"#;
    assert!(body.contains(absent), "{body}");
    let body = client.get("/status").await.body;
    assert!(body.contains(r#""moniker":"a\u003cb""#));
    assert!(body.contains(r#""version":"0.38.25","channels":"40202122233038606100""#));
    let body = client.get("/validators").await.body;
    assert!(body.contains(r#""voting_power":"10","proposer_priority":"0"}"#));
    let body = client.get("/block_results?height=10").await.body;
    assert!(
        body.contains(
            r#"{"Sum":{"type":"tendermint.crypto.PublicKey_Ed25519","value":{"ed25519":""#
        )
    );
    assert!(body.contains(r#""value":"\u003cv\u003e""#));
    let body = client.get("/header_by_hash?hash=0x00").await.body;
    assert!(body.ends_with(r#""result":{"header":null}}"#));
    let body = client.get("/block_by_hash?hash=0x00").await.body;
    let none = r#"{"block_id":{"hash":"","parts":{"total":0,"hash":""}},"block":null}}"#;
    assert!(body.ends_with(none));
    let body = client.get("/pbft_state").await.body;
    assert!(body.contains(r#""height":"26","view":0,"primary":""#), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tendermint_rpc_understands_every_reply() {
    let running = start(Limits::default()).await;
    let url: tendermint_rpc::HttpClientUrl = format!("http://{}", running.address).parse().unwrap();
    let client = HttpClient::builder(url).compat_mode(CompatMode::V0_38).build().unwrap();
    client.health().await.unwrap();
    let status = client.status().await.unwrap();
    assert_eq!(status.sync_info.latest_block_height, height(HEIGHTS));
    assert_eq!(CompatMode::from_version(status.node_info.version).unwrap(), CompatMode::V0_38);
    assert_eq!(client.net_info().await.unwrap().peers.len(), 1);
    let genesis = client.genesis::<Value>().await.unwrap();
    assert_eq!(genesis.app_state, serde_json::json!({"a": 1}));
    assert_eq!(client.genesis_chunked(0).await.unwrap().total, 1);
    assert_eq!(client.blockchain(3u32, 5u32).await.unwrap().block_metas.len(), 3);
    let latest = client.latest_block().await.unwrap();
    let block = client.block(10u32).await.unwrap();
    assert_eq!(block.block.data.len(), 1);
    assert_eq!(block.block.header.hash(), block.block_id.hash);
    let by_hash = client.block_by_hash(latest.block_id.hash).await.unwrap();
    assert_eq!(by_hash.block.unwrap(), latest.block);
    let header = client.header(10u32).await.unwrap().header;
    assert_eq!(header, block.block.header);
    let header = client.header_by_hash(block.block_id.hash).await.unwrap().header.unwrap();
    assert_eq!(header, block.block.header);
    let results = client.block_results(10u32).await.unwrap();
    assert_eq!(results.app_hash.as_bytes(), [2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(results.consensus_param_updates.unwrap().block, params().block);
    client.latest_block_results().await.unwrap();
    assert!(!client.latest_commit().await.unwrap().canonical);
    let commit = client.commit(10u32).await.unwrap();
    assert!(commit.canonical);
    assert_eq!(commit.signed_header.commit.signatures.len(), 4);
    let set = client.validators(10u32, tendermint_rpc::Paging::All).await.unwrap();
    assert_eq!(set.validators, validators().to_tendermint());
    assert_eq!(client.consensus_params(10u32).await.unwrap().consensus_params, params());
    client.latest_consensus_params().await.unwrap();
    assert_eq!(client.abci_info().await.unwrap().last_block_height, height(198));
    let query = client.abci_query(Some("/x".to_owned()), "tx0", Some(height(1)), false).await;
    assert_eq!(query.unwrap().value, b"value");
    assert!(client.broadcast_tx_sync("a=b").await.unwrap().code.is_ok());
    assert!(client.broadcast_tx_async("a=b").await.unwrap().code.is_ok());
    let committed = client.broadcast_tx_commit("c=d").await.unwrap();
    assert_eq!((committed.height, committed.tx_result.events.len()), (height(3), 1));
}
