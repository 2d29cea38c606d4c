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

/// Captured replies that stand beside this file.
const SAMPLES: &[(&str, &str)] = &[
    ("abci_info.json", include_str!("samples/abci_info.json")),
    (
        "abci_query_with_existing_key.json",
        include_str!("samples/abci_query_with_existing_key.json"),
    ),
    ("block_at_height_1.json", include_str!("samples/block_at_height_1.json")),
    ("block_by_hash.json", include_str!("samples/block_by_hash.json")),
    ("block_results_at_height_10.json", include_str!("samples/block_results_at_height_10.json")),
    ("broadcast_tx_commit.json", include_str!("samples/broadcast_tx_commit.json")),
    ("broadcast_tx_sync.json", include_str!("samples/broadcast_tx_sync.json")),
    ("commit_at_height_10.json", include_str!("samples/commit_at_height_10.json")),
    ("consensus_params.json", include_str!("samples/consensus_params.json")),
    ("genesis.json", include_str!("samples/genesis.json")),
    ("net_info.json", include_str!("samples/net_info.json")),
    ("status.json", include_str!("samples/status.json")),
];

/// A captured reply. Without the folder of vectors only the samples are there; then none, with a line that says so.
fn captured(name: &str) -> Option<String> {
    let Some(folder) = std::env::var_os("TERCET_VECTORS") else {
        let sample = SAMPLES.iter().find(|(sample, _)| *sample == name);
        if sample.is_none() {
            println!("{name} is not compared: TERCET_VECTORS is not set");
        }
        return sample.map(|(_, text)| (*text).to_owned());
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
        let Some(text) = captured(name) else { continue };
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
            let mut captured = captured.clone();
            // The capture has these names of a later version; those of 0.38 are held by `evidence/samples`.
            let inner = captured["value"].as_object_mut().unwrap();
            for (name, own) in [
                ("total_voting_power", "TotalVotingPower"),
                ("validator_power", "ValidatorPower"),
                ("timestamp", "Timestamp"),
            ] {
                let named = inner.remove(name).unwrap();
                inner.insert(own.to_owned(), named);
            }
            assert_eq!(value(&ours), captured);
            seen += 1;
        }
    }
    assert!(seen > 0);
}

fn result(name: &str) -> Option<Value> {
    let reply: Value = serde_json::from_str(&captured(name)?).unwrap();
    Some(reply["result"].clone())
}

#[test]
fn captured_answers_of_the_application_come_out_as_they_went_in() {
    use json::abci::{BlockResults, CommitReply, Info, Query, Response, TxResult};
    use tendermint_proto::v0_38::abci as pb;
    let info = result("abci_info.json").unwrap();
    let parsed = pb::ResponseInfo {
        data: r#"{"size":0}"#.to_owned(),
        version: "2.0.0".to_owned(),
        app_version: 1,
        last_block_height: 198,
        last_block_app_hash: vec![0; 8].into(),
    };
    assert_eq!(value(&Response { response: Info::from(parsed) }), info);
    for name in ["abci_query_with_existing_key.json", "abci_query_with_non_existent_key.json"] {
        let Some(query) = result(name) else { continue };
        let parsed: tendermint_rpc::endpoint::abci_query::Response =
            serde_json::from_value(query.clone()).unwrap();
        let parsed = parsed.response;
        let ours = pb::ResponseQuery {
            log: parsed.log,
            info: parsed.info,
            index: parsed.index,
            key: parsed.key.into(),
            value: parsed.value.into(),
            height: parsed.height.value().cast_signed(),
            codespace: parsed.codespace,
            ..pb::ResponseQuery::default()
        };
        assert_eq!(value(&Response { response: Query::from(ours) }), query, "{name}");
    }
    let results = result("block_results_at_height_10.json").unwrap();
    let ours = BlockResults::new(10, pb::ResponseFinalizeBlock::default());
    assert_eq!(value(&ours), results);
    let commit = result("broadcast_tx_commit.json").unwrap();
    let check = pb::ResponseCheckTx { gas_wanted: 1, ..pb::ResponseCheckTx::default() };
    let events = commit["tx_result"]["events"].as_array().unwrap().iter().map(event).collect();
    let executed = pb::ExecTxResult { events, ..pb::ExecTxResult::default() };
    let hash: [u8; 32] = hex::decode(commit["hash"].as_str().unwrap()).unwrap().try_into().unwrap();
    let ours = CommitReply {
        check_tx: TxResult::from(check),
        tx_result: TxResult::from(executed),
        hash: json::Hex(hash),
        height: json::Text(227),
    };
    assert_eq!(value(&ours), commit);
}

fn event(event: &Value) -> tendermint_proto::v0_38::abci::Event {
    use tendermint_proto::v0_38::abci as pb;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let attribute = |attribute: &Value| pb::EventAttribute {
        key: text(&attribute["key"]),
        value: text(&attribute["value"]),
        index: attribute["index"].as_bool().unwrap(),
    };
    let attributes = event["attributes"].as_array().unwrap().iter().map(attribute).collect();
    pb::Event { r#type: text(&event["type"]), attributes }
}

#[test]
fn captured_parameters_genesis_and_status_come_out_as_they_went_in() {
    let reply = result("consensus_params.json").unwrap();
    let parsed: tendermint::consensus::Params =
        serde_json::from_value(reply["consensus_params"].clone()).unwrap();
    let ours = json::chain::ParamsReply {
        block_height: json::Text(10),
        consensus_params: (&parsed).into(),
    };
    assert_eq!(value(&ours), reply);

    let genesis = &result("genesis.json").unwrap()["genesis"];
    let mut with_state = genesis.clone();
    with_state["app_state"].take();
    let parsed: tendermint::Genesis<Value> = serde_json::from_value(with_state).unwrap();
    let validator = |info: &tendermint::validator::Info| {
        (
            (&info.pub_key).try_into().unwrap(),
            info.power.value(),
            info.name.clone().unwrap_or_default(),
        )
    };
    let state =
        genesis.get("app_state").map(|state| serde_json::value::to_raw_value(state).unwrap());
    let ours = crate::rpc::sources::Genesis {
        time: parsed.genesis_time,
        chain_id: parsed.chain_id.to_string(),
        initial_height: height(parsed.initial_height.unsigned_abs()),
        params: parsed.consensus_params,
        validators: parsed.validators.iter().map(validator).collect(),
        app_hash: vec![],
        app_state: state,
        tercet: None,
    };
    assert_eq!(value(&json::chain::GenesisDoc::from(&ours)), *genesis);

    let mut theirs = result("status.json").unwrap();
    // Their version stands there; ours comes beside the one that clients know.
    theirs["node_info"]["version"] = crate::rpc::COMPATIBLE_VERSION.into();
    theirs["tercet_version"] = env!("CARGO_PKG_VERSION").into();
    let parsed: tendermint_rpc::endpoint::status::Response =
        serde_json::from_value(theirs.clone()).unwrap();
    assert_eq!(value(&json::node::StatusReply::from(&standing(&parsed))), theirs);
}

/// A snapshot of the node that a captured status is of.
fn standing(status: &tendermint_rpc::endpoint::status::Response) -> crate::rpc::sources::Snapshot {
    use crate::rpc::sources::{NodeInfo, Snapshot, Tip};
    let (info, sync) = (&status.node_info, &status.sync_info);
    Snapshot {
        node: std::sync::Arc::new(NodeInfo {
            id: info.id.to_string(),
            listen_addr: "tcp://0.0.0.0:26656".to_owned(),
            chain_id: info.network.to_string(),
            moniker: info.moniker.to_string(),
            rpc_address: "tcp://0.0.0.0:26657".to_owned(),
            tx_index: true,
        }),
        app_version: 1,
        catching_up: false,
        earliest: Some(Tip {
            hash: sync.earliest_block_hash,
            app_hash: sync.earliest_app_hash.as_bytes().to_vec(),
            height: sync.earliest_block_height,
            time: sync.earliest_block_time,
        }),
        latest: Some(Tip {
            hash: sync.latest_block_hash,
            app_hash: sync.latest_app_hash.as_bytes().to_vec(),
            height: sync.latest_block_height,
            time: sync.latest_block_time,
        }),
        key: (&status.validator_info.pub_key).try_into().unwrap(),
        power: status.validator_info.power.value(),
        ..snapshot(&Chain::new())
    }
}

#[test]
fn no_limit_on_a_block_is_shown_as_minus_one() {
    let mut without_limit = params();
    without_limit.block.max_bytes = u64::MAX;
    let shown = value(&json::chain::ConsensusParams::from(&without_limit));
    assert_eq!(shown["block"]["max_bytes"], "-1");
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
        let Some(text) = captured(name) else { continue };
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
    assert!(body.contains(r#""clock_suspect":"-3600""#), "{body}");
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
    let mut shown = client.consensus_params(10u32).await.unwrap().consensus_params;
    // CometBFT shows "0" for none.
    assert_eq!(shown.abci.vote_extensions_enable_height.take(), Some(height(0)));
    assert_eq!(shown, params());
    client.latest_consensus_params().await.unwrap();
    assert_eq!(client.abci_info().await.unwrap().last_block_height, height(198));
    let query = client.abci_query(Some("/x".to_owned()), "tx0", Some(height(1)), false).await;
    assert_eq!(query.unwrap().value, b"value");
    assert!(client.broadcast_tx_sync("a=b").await.unwrap().code.is_ok());
    assert!(client.broadcast_tx_async("a=b").await.unwrap().code.is_ok());
    let committed = client.broadcast_tx_commit("c=d").await.unwrap();
    assert_eq!((committed.height, committed.tx_result.events.len()), (height(3), 1));
}
