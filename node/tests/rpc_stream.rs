//! Whole nodes with the key-value store, as their clients hear of them over `/websocket`.
#![allow(missing_docs)]

#[path = "support/kvstore_net.rs"]
mod kvstore_net;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/socket.rs"]
mod socket;

use kvstore_net::{Net, run};
use serde_json::{Value, json};
use socket::Socket;
use std::collections::BTreeMap;
use tendermint_rpc::Client as _;

fn height(event: &Value) -> u64 {
    let value = &event["result"]["data"]["value"];
    let height = &value["block"]["header"]["height"];
    height.as_str().expect("a height").parse().expect("a number")
}

#[test]
fn blocks_and_transactions_are_told_to_those_who_subscribe() {
    let net = Net::start(1);
    run(async {
        let client = net.client(0).await;
        let mut socket = Socket::open(net.nodes[0].rpc_address().expect("a port")).await;
        socket.subscribe("blocks", "tm.event = 'NewBlock'").await;
        socket.subscribe("txs", "tm.event='Tx' AND app.key = 'name' AND tx.height > 0").await;
        for (at, tx) in ["other=1", "name=satoshi", "name=again"].into_iter().enumerate() {
            let reply = client.broadcast_tx_sync(tx.as_bytes()).await.expect("an answer");
            assert!(reply.code.is_ok(), "{at}");
        }
        let (mut blocks, mut txs): (Vec<Value>, Vec<Value>) = (vec![], vec![]);
        while txs.len() < 2 {
            let event = socket.next().await;
            match event["id"].as_str().expect("an id") {
                "blocks" => blocks.push(event),
                "txs" => txs.push(event),
                other => panic!("{other}"),
            }
        }
        let result = &txs[0]["result"];
        assert_eq!(result["query"], "tm.event='Tx' AND app.key = 'name' AND tx.height > 0");
        assert_eq!(result["data"]["type"], "tendermint/event/Tx");
        let told = &result["data"]["value"]["TxResult"];
        assert_eq!(told["tx"], "bmFtZT1zYXRvc2hp");
        assert_eq!(told["result"]["events"][0]["type"], "app");
        assert!(told["result"].get("log").is_none(), "what is empty is left out");
        let keys = &result["events"];
        assert_eq!(keys["app.key"], json!(["name", "satoshi"]));
        assert_eq!(keys["tm.event"], json!(["Tx"]));
        assert_eq!(keys["tx.height"], json!([told["height"]]));
        assert_eq!(keys["tx.hash"][0].as_str().expect("a hash").len(), 64);
        // Who hears of a transaction finds it.
        let hash = keys["tx.hash"][0].as_str().expect("a hash").parse().expect("a hash");
        let found = client.tx(hash, true).await.expect("it is indexed");
        assert_eq!(found.tx, b"name=satoshi");
        assert!(found.proof.is_some());
        // Blocks come one after the other, each as `block` has it.
        for pair in blocks.windows(2) {
            assert_eq!(height(&pair[0]) + 1, height(&pair[1]));
        }
        let first = &blocks[0]["result"]["data"];
        assert_eq!(first["type"], "tendermint/event/NewBlock");
        let at = tendermint::block::Height::try_from(height(&blocks[0])).expect("a height");
        let block = client.block(at).await.expect("the block");
        assert_eq!(first["value"]["block_id"]["hash"], block.block_id.hash.to_string());
        assert!(first["value"]["result_finalize_block"]["app_hash"].is_string());
    });
}

#[test]
fn who_was_away_goes_on_where_it_stopped() {
    let net = Net::start(1);
    run(async {
        let client = net.client(0).await;
        let mut heights = Vec::new();
        for at in 0..3 {
            let reply = client.broadcast_tx_commit(format!("k{at}=v")).await.expect("an answer");
            heights.push(reply.height.value());
        }
        let mut socket = Socket::open(net.nodes[0].rpc_address().expect("a port")).await;
        let params = json!({"query": "tm.event = 'Tx'", "height": heights[1].to_string()});
        socket.ask("again", "subscribe", params).await;
        assert_eq!(socket.next().await["result"], json!({}));
        let later = client.broadcast_tx_commit("later=v".as_bytes()).await.expect("an answer");
        let expected = [heights[1], heights[2], later.height.value()];
        for expected in expected {
            let event = socket.next().await;
            let height = &event["result"]["events"]["tx.height"][0];
            assert_eq!(*height, expected.to_string(), "{event}");
        }
        let beyond = json!({"query": "tm.event = 'NewBlock'", "height": "1000000"});
        let reply = socket.call("subscribe", beyond).await;
        let data = reply["error"]["data"].as_str().expect("a reason");
        assert!(data.contains("must be less than or equal to the current blockchain"), "{data}");
    });
}

#[test]
fn consensus_is_told_by_comets_names() {
    let net = Net::start(1);
    run(async {
        let client = net.client(0).await;
        let mut socket = Socket::open(net.nodes[0].rpc_address().expect("a port")).await;
        let kinds = ["NewRound", "CompleteProposal", "Polka", "Lock", "ValidBlock"];
        for kind in kinds {
            socket.subscribe(kind, &format!("tm.event = '{kind}'")).await;
        }
        let mut others = Socket::open(net.nodes[0].rpc_address().expect("a port")).await;
        others.subscribe("Vote", "tm.event = 'Vote'").await;
        others.subscribe("NewRoundStep", "tm.event = 'NewRoundStep'").await;
        client.broadcast_tx_sync("a=b".as_bytes()).await.expect("an answer");
        let mut seen: BTreeMap<String, Value> = BTreeMap::new();
        while seen.len() < kinds.len() {
            let event = socket.next().await;
            let kind = event["id"].as_str().expect("an id").to_owned();
            seen.insert(kind, event["result"]["data"].clone());
        }
        assert_eq!(seen["NewRound"]["type"], "tendermint/event/NewRound");
        assert_eq!(seen["NewRound"]["value"]["step"], "RoundStepNewRound");
        assert_eq!(seen["NewRound"]["value"]["proposer"]["index"], 0);
        assert!(seen["CompleteProposal"]["value"]["block_id"]["parts"]["total"].is_number());
        assert_eq!(seen["Polka"]["type"], "tendermint/event/RoundState");
        let mut steps = Vec::new();
        let mut votes = Vec::new();
        while steps.len() < 4 || votes.len() < 2 {
            let event = others.next().await;
            let value = &event["result"]["data"]["value"];
            match event["id"].as_str().expect("an id") {
                "Vote" => votes.push(value["Vote"]["type"].as_u64().expect("a type")),
                _ => steps.push(value["step"].as_str().expect("a step").to_owned()),
            }
        }
        assert!(votes.contains(&1) && votes.contains(&2), "{votes:?}");
        assert!(steps.iter().any(|step| step == "RoundStepPrevote"), "{steps:?}");
        assert!(steps.iter().any(|step| step == "RoundStepCommit"), "{steps:?}");
    });
}

/// Commits a transaction, and returns its hash.
async fn commit(client: &tendermint_rpc::HttpClient, tx: &str) -> tendermint::Hash {
    let reply = client.broadcast_tx_commit(tx.as_bytes()).await.expect("an answer");
    assert!(reply.tx_result.code.is_ok());
    reply.hash
}

#[test]
fn an_index_that_is_lost_is_filled_again_at_the_next_start() {
    let mut net = Net::start(1);
    let hashes = run(async {
        let client = net.client(0).await;
        let mut hashes = Vec::new();
        for at in 0..5 {
            hashes.push(commit(&client, &format!("k{at}=v")).await);
        }
        hashes
    });
    net.restart(0, |data| std::fs::remove_dir_all(data.join("index")).expect("it is there"));
    run(async {
        let client = net.client(0).await;
        // The last is there once all before it are.
        while client.tx(hashes[4], false).await.is_err() {}
        for (at, hash) in hashes.iter().enumerate() {
            let found = client.tx(*hash, false).await.expect("it is indexed");
            assert_eq!(found.tx, format!("k{at}=v").into_bytes());
        }
        let query = "app.key = 'k3'".parse().expect("a query");
        let order = tendermint_rpc::Order::Ascending;
        let found = client.tx_search(query, true, 1, 10, order).await.expect("an answer");
        assert_eq!(found.total_count, 1);
        // And what comes afterwards is indexed as well.
        let hash = commit(&client, "later=v").await;
        while client.tx(hash, false).await.is_err() {}
    });
}

#[test]
fn many_events_come_without_one_left_out() {
    const TXS: usize = 1_000;
    let net = Net::start(1);
    run(async {
        let address = net.nodes[0].rpc_address().expect("a port");
        let mut events = Socket::open(address).await;
        events.subscribe("txs", "tm.event = 'Tx'").await;
        let mut sender = Socket::open(address).await;
        let sending = async {
            for at in 0..TXS {
                let tx = serde_json::json!({"tx": base64(format!("k{at}=v").as_bytes())});
                sender.ask(&at.to_string(), "broadcast_tx_sync", tx).await;
                let reply = sender.next().await;
                assert_eq!(reply["result"]["code"], 0, "{reply}");
            }
        };
        let hearing = async {
            let mut seen = std::collections::BTreeSet::new();
            while seen.len() < TXS {
                let event = events.next().await;
                let key = &event["result"]["events"]["app.key"][0];
                assert!(seen.insert(key.as_str().expect("a key").to_owned()), "{key} came twice");
            }
        };
        futures::join!(sending, hearing);
    });
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
