//! `tx`, `tx_search` and `block_search` over a small index.

use super::fake::*;
use crate::rpc::routes::{Method, call, find};
use crate::rpc::server::Api;
use crate::rpc::{Limits, params};
use bytes::Bytes;
use serde_json::{Value, json};
use std::time::Duration;

/// Blocks 2 to 25; those of even heights hold the transaction `a=<b>` with one event each, and their block another.
async fn running() -> (tempfile::TempDir, Running) {
    start_indexed(Limits::default()).await
}

async fn ask(running: &Running, method: &str, params: Value) -> Value {
    let mut client = Client::new(running).await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    serde_json::from_str(&client.post(&call.to_string()).await.body).unwrap()
}

fn heights(reply: &Value) -> Vec<u64> {
    let txs = reply["result"]["txs"].as_array().unwrap();
    txs.iter().map(|tx| tx["height"].as_str().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn a_transaction_is_found_with_its_proof() {
    let (_folder, running) = running().await;
    let hash = running.sources.blocks.block(height(24)).unwrap().unwrap().tx_hashes()[0];
    let base64 = json!(base64(&hash));
    let reply = ask(&running, "tx", json!({"hash": base64, "prove": true})).await;
    let found = &reply["result"];
    assert_eq!(found["hash"], hex::encode_upper(hash));
    // The same transaction stands in every second block: the last one counts.
    assert_eq!((&found["height"], &found["index"]), (&json!("24"), &json!(0)));
    let header = running.sources.blocks.meta(height(24)).unwrap().unwrap().header;
    assert_eq!(found["proof"]["root_hash"], header.data_hash.unwrap().to_string());
    assert_eq!(found["proof"]["data"], found["tx"]);
    assert_eq!(found["proof"]["proof"]["total"], "1");
    let plain = ask(&running, "tx", json!({"hash": base64})).await;
    assert!(plain["result"].get("proof").is_none());
    let none = ask(&running, "tx", json!({"hash": "AQI="})).await;
    assert_eq!(none["error"]["data"], "tx (0102) not found");
}

#[tokio::test]
async fn searches_are_paged_and_ordered() {
    let (_folder, running) = running().await;
    let search = |query: &str, page: &str, order: &str| json!({"query": query, "page": page, "per_page": "5", "order_by": order, "prove": false});
    let reply = ask(&running, "tx_search", search("app.key = '<v>'", "2", "asc")).await;
    assert_eq!(reply["result"]["total_count"], "12");
    assert_eq!(heights(&reply), [12, 14, 16, 18, 20]);
    let reply = ask(&running, "tx_search", search("app.key CONTAINS 'v'", "1", "desc")).await;
    assert_eq!(heights(&reply), [24, 22, 20, 18, 16]);
    let bounds = "tx.height > 5 AND tx.height <= 10";
    let reply = ask(&running, "tx_search", search(bounds, "1", "")).await;
    assert_eq!(heights(&reply), [6, 8, 10]);
    let both = format!("{bounds} AND app.key EXISTS");
    let reply = ask(&running, "tx_search", search(&both, "1", "")).await;
    assert_eq!(heights(&reply), [6, 8, 10]);
    let beyond = ask(&running, "tx_search", search(bounds, "2", "")).await;
    assert_eq!(beyond["error"]["data"], "page should be within [1, 1] range, given 2");
    let order = ask(&running, "tx_search", search(bounds, "1", "up")).await;
    let words = "expected order_by to be either `asc` or `desc` or empty";
    assert_eq!(order["error"]["data"], words);
    let none = ask(&running, "tx_search", search("tm.event = 'Tx'", "1", "")).await;
    assert_eq!((&none["result"]["total_count"], &none["result"]["txs"]), (&json!("0"), &json!([])));
    let malformed = ask(&running, "tx_search", search("a", "1", "")).await;
    assert_eq!(malformed["error"]["data"], "offset 1: EOF");
    let long = ask(&running, "tx_search", search(&"a".repeat(513), "1", "")).await;
    assert_eq!(long["error"]["data"], "maximum query length exceeded");
}

#[tokio::test]
async fn a_search_by_hash_finds_the_one() {
    let (_folder, running) = running().await;
    let hash = running.sources.blocks.block(height(2)).unwrap().unwrap().tx_hashes()[0];
    let query = format!("tx.hash = '{}' AND app.key = 'other'", hex::encode_upper(hash));
    let reply = ask(&running, "tx_search", json!({"query": query})).await;
    assert_eq!(reply["result"]["total_count"], "1");
    let reply = ask(&running, "tx_search", json!({"query": "tx.hash = 'xyz'"})).await;
    let data = reply["error"]["data"].as_str().unwrap();
    assert!(data.starts_with("error during searching for a hash in the query: "), "{data}");
}

#[tokio::test]
async fn blocks_are_found_by_their_own_events_the_last_first() {
    let (_folder, running) = running().await;
    let query = json!({"query": "app.key = '<v>' AND block.height < 9"});
    let reply = ask(&running, "block_search", query).await;
    assert_eq!(reply["result"]["total_count"], "4");
    let blocks = reply["result"]["blocks"].as_array().unwrap();
    let heights: Vec<&Value> =
        blocks.iter().map(|block| &block["block"]["header"]["height"]).collect();
    assert_eq!(heights, ["8", "6", "4", "2"]);
}

const MIB: usize = 1 << 20;
const TOO_LARGE: &str = "the page is too large: ask for a smaller per_page";

fn bytes(mib: usize) -> Bytes {
    vec![7; mib * MIB].into()
}

async fn page(running: &Running, method: &str, size: usize) -> Result<usize, String> {
    let query = json!({"query": "app.key = '<v>'", "per_page": size.to_string()});
    let reply = ask(running, method, query).await;
    let list = if method == "tx_search" { "txs" } else { "blocks" };
    match reply["error"]["data"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(reply["result"][list].as_array().unwrap().len()),
    }
}

#[tokio::test]
async fn a_page_has_at_most_32_mib_and_is_asked_for_in_smaller_ones() {
    let (_folder, running) = start_same(Same::new(vec![bytes(12)])).await;
    for method in ["tx_search", "block_search"] {
        assert_eq!(page(&running, method, 2).await, Ok(2), "{method}");
        assert_eq!(page(&running, method, 3).await, Err(TOO_LARGE.to_owned()), "{method}");
    }
    // A page of one is never too large.
    let (_folder, running) = start_same(Same::new(vec![bytes(33)])).await;
    for method in ["tx_search", "block_search"] {
        assert_eq!(page(&running, method, 1).await, Ok(1), "{method}");
    }
}

#[tokio::test]
async fn small_transactions_in_large_blocks_are_not_read_without_end() {
    let (_folder, running) = start_same(Same::new(vec![Bytes::from_static(b"a"), bytes(33)])).await;
    assert_eq!(page(&running, "tx_search", 4).await, Ok(4));
    assert_eq!(page(&running, "tx_search", 5).await, Err(TOO_LARGE.to_owned()));
}

/// Its clock goes on only while everything waits.
#[tokio::test(start_paused = true)]
async fn a_search_that_finds_no_place_is_refused_soon() {
    let api = Api::new(sources(), Limits::default()).unwrap();
    let all = u32::try_from(api.searches.available_permits()).unwrap();
    let _busy = api.searches.acquire_many(all).await.unwrap();
    let begun = tokio::time::Instant::now();
    let args = params::from_json(find("tx_search").unwrap().params, None).unwrap();
    let refused = call(&api, Method::TxSearch, args).await.err().unwrap();
    let mut text = Vec::new();
    crate::rpc::jsonrpc::error(&mut text, None, &refused);
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("too many searches are under way, try again"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn without_an_index_it_is_said() {
    let running = start(Limits::default()).await;
    let query = json!({"query": "a.b = 'c'"});
    for (method, words) in [
        ("tx_search", "transaction indexing is disabled"),
        ("block_search", "block indexing is disabled"),
    ] {
        assert_eq!(ask(&running, method, query.clone()).await["error"]["data"], words);
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
