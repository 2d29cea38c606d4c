//! The query API: every answer is verified before it is given.

use crate::content::base64;
use crate::node::{LONG, Manner, Node, chain_with_contents};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tercet_light_core::content::tx_hash;
use tercet_light_core::planner::{Condition, Config, Role};
use tercet_light_core::testing::chain::Chain;
use tercet_light_core::testing::content;
use tercet_light_core::testing::world::World;
use tercet_light_sync::api::{Api, CONNECTIONS_MAX, HEAD_BYTES_MAX, REQUEST_BYTES_MAX, Server};
use tercet_light_sync::driver::{Progress, Source, Syncer};
use tercet_light_sync::provider::{CallError, RpcProvider};
use tercet_light_sync::store::Store;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const LAST: u64 = 43;

/// A synced light node with its API, which asks `upstream`.
struct Light {
    url: String,
    tasks: Vec<JoinHandle<()>>,
    _folder: TempDir,
    _nodes: Vec<Node>,
}

impl Drop for Light {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn light(chain: &Chain, upstream: &[&Node]) -> Light {
    light_until(chain, upstream, 3, |now| now.status.condition == Condition::Synced).await
}

async fn light_until(
    chain: &Chain,
    upstream: &[&Node],
    count: usize,
    done: impl Fn(&Progress) -> bool,
) -> Light {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { run_headers: 20, ..Config::new(World::root(chain, 1)) };
    let store = Store::open(folder.path(), &config.root).unwrap();
    let mut nodes = vec![];
    for _ in 0..count {
        nodes.push(Node::new(chain, Manner::Honest).await);
    }
    let source = |node: &Node| Source { provider: Arc::new(node.provider()), role: Role::Provider };
    let syncer = Syncer::new(config.clone(), store, nodes.iter().map(source).collect()).unwrap();
    let (mut progress, reader) = (syncer.progress(), syncer.reader());
    let asked = upstream.iter().map(|node| node.provider()).collect();
    let api = Api::new(config.root, reader, progress.clone(), asked);
    let server = Server::bind("tcp://127.0.0.1:0", api).await.unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    let sync = tokio::spawn(async move {
        let end = syncer.run(std::future::pending()).await;
        panic!("ended: {end:?}");
    });
    let serve = tokio::spawn(async move { match server.serve().await {} });
    let waited = tokio::time::timeout(LONG, progress.wait_for(|now| done(now))).await;
    waited.expect("in time").expect("a syncer");
    Light { url, tasks: vec![sync, serve], _folder: folder, _nodes: nodes }
}

impl Light {
    async fn call(&self, method: &str, params: Value) -> Result<Value, String> {
        let client = RpcProvider::new(self.url.parse().unwrap());
        match client.result(method, &params, 64 << 20).await {
            Ok(raw) => Ok(serde_json::from_str(raw.get()).unwrap()),
            Err(CallError::Node { message, data }) => {
                assert_eq!(data.lines().count().max(1), 1, "{data}");
                Err(if data.is_empty() { message } else { data })
            }
            Err(CallError::Failed(why)) => panic!("{method}: {why:?}"),
        }
    }

    /// Status and body of a request as it is.
    async fn raw(&self, request: &[u8]) -> (u16, String) {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        read_reply(&mut stream).await
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.url.strip_prefix("http://").unwrap()).await.unwrap()
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let close = "Connection: close";
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: l\r\n{close}\r\n\r\n").as_bytes()).await
    }

    async fn post(&self, path: &str, body: &str) -> (u16, String) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: l\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.raw((head + body).as_bytes()).await
    }
}

async fn read_reply(stream: &mut TcpStream) -> (u16, String) {
    let mut bytes = vec![];
    stream.read_to_end(&mut bytes).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let status = text.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, text.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned())
}

fn at(height: u64) -> Value {
    json!({ "height": height.to_string() })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_is_what_the_chain_has() {
    let chain = chain_with_contents(LAST);
    let node = Node::new(&chain, Manner::Honest).await;
    let light = light(&chain, &[&node]).await;
    for height in [1, 2, 7, 20, LAST] {
        let hash = chain.hash(height).to_string();
        let header = light.call("header", at(height)).await.unwrap();
        assert_eq!(header["header"]["height"], height.to_string());
        let by_hash = light.call("header_by_hash", json!({ "hash": hash })).await.unwrap();
        assert_eq!(by_hash, header);
        let block = light.call("block", at(height)).await.unwrap();
        assert_eq!(block["block_id"]["hash"], hash);
        assert_eq!(block["block"]["header"], header["header"]);
        let txs: Vec<String> = content::txs(height).iter().map(|tx| base64(tx)).collect();
        assert_eq!(block["block"]["data"]["txs"], json!(txs));
        let below = height.saturating_sub(1).to_string();
        assert_eq!(block["block"]["last_commit"]["height"], below);
        let by_hash = light.call("block_by_hash", json!({ "hash": hash })).await.unwrap();
        assert_eq!(by_hash, block);
        let commit = light.call("commit", at(height)).await.unwrap();
        assert_eq!(commit["signed_header"]["commit"]["block_id"]["hash"], hash);
        assert_eq!(commit["canonical"], height < LAST);
        let validators = light.call("validators", at(height)).await.unwrap();
        assert_eq!(validators["total"], "4");
        let params = light.call("consensus_params", at(height)).await.unwrap();
        let block = json!({ "max_bytes": "22020096", "max_gas": "-1" });
        assert_eq!(params["consensus_params"], json!({ "block": block }));
    }
    let latest = light.call("block", json!({})).await.unwrap();
    assert_eq!(latest["block"]["header"]["height"], LAST.to_string());
    let status = light.call("status", json!({})).await.unwrap();
    assert_eq!(status["sync_info"]["latest_block_height"], LAST.to_string());
    assert_eq!(status["node_info"]["network"], "light-test");
    assert_eq!(status["sync_info"]["catching_up"], false);
    let chain_part = light.call("blockchain", json!({ "maxHeight": "30" })).await.unwrap();
    let heights = chain_part["block_metas"].as_array().unwrap().iter();
    let heights: Vec<_> = heights.map(|meta| meta["header"]["height"].clone()).collect();
    assert_eq!(heights, (11..=30).rev().map(|h| json!(h.to_string())).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_and_results_are_given_with_what_is_proven_of_them() {
    let chain = chain_with_contents(LAST);
    let node = Node::new(&chain, Manner::Honest).await;
    let light = light(&chain, &[&node]).await;
    let tx = &content::txs(7)[1];
    let hash = tx_hash(tx);
    let found = light.call("tx", json!({ "hash": base64(hash.as_bytes()) })).await.unwrap();
    assert_eq!((&found["height"], &found["index"]), (&json!("7"), &json!(1)));
    assert_eq!(found["hash"], hash.to_string());
    assert_eq!(found["tx_result"]["code"], 1);
    // No hash covers these.
    assert_eq!(found["tx_result"]["log"], "");
    assert_eq!(found["tx_result"]["events"], json!([]));
    let (status, by_uri) = light.get(&format!("/tx?hash=0x{hash}&prove=true")).await;
    assert_eq!(status, 200);
    let by_uri: Value = serde_json::from_str(&by_uri).unwrap();
    assert_eq!(by_uri["result"], found);
    let results = light.call("block_results", at(7)).await.unwrap();
    assert_eq!(results["txs_results"][1], found["tx_result"]);
    let none = light.call("tx", json!({ "hash": base64(&[7; 32]) })).await.unwrap_err();
    assert_eq!(none, "tx not found");
    let given = light.call("broadcast_tx_commit", json!({ "tx": base64(tx) })).await.unwrap();
    assert_eq!((&given["height"], &given["tx_result"]["code"]), (&json!("7"), &json!(1)));
    let given = light.call("broadcast_tx_sync", json!({ "tx": base64(tx) })).await.unwrap();
    assert_eq!(given["hash"], hash.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_is_given_with_its_proof_absence_too() {
    let chain = chain_with_contents(LAST);
    let node = Node::new(&chain, Manner::Honest).await;
    let light = light(&chain, &[&node]).await;
    let query = |key: &str| json!({ "path": "/key", "data": hex::encode(key) });
    let latest = light.call("abci_query", query("bee")).await.unwrap();
    // The latest state that a trusted header names.
    assert_eq!(latest["response"]["height"], (LAST - 1).to_string());
    assert_eq!(latest["response"]["value"], base64(format!("at {}", LAST - 1).as_bytes()));
    let mut old = query("bee");
    old["height"] = json!("5");
    let old = light.call("abci_query", old).await.unwrap();
    assert_eq!(old["response"]["value"], base64(b"at 5"));
    for absent in ["a", "bat", "zebra"] {
        let none = light.call("abci_query", query(absent)).await.unwrap();
        assert_eq!(none["response"]["value"], Value::Null);
        assert_eq!(none["response"]["proofOps"]["ops"][0]["type"], "ics23:simple");
    }
    let too_high = json!({ "path": "/key", "data": "aa", "height": LAST.to_string() });
    let refused = light.call("abci_query", too_high).await.unwrap_err();
    let text = format!("height {LAST} is proven by the header of {}", LAST + 1);
    assert!(refused.starts_with(&text), "{refused}");
    let other = json!({ "path": "/app/simulate", "data": "aa" });
    let refused = light.call("abci_query", other).await.unwrap_err();
    assert!(refused.starts_with("no proof is known for the path"), "{refused}");
}

fn forgeries() -> Vec<(&'static str, Value, &'static str, Value)> {
    let tx = |height| base64(tx_hash(&content::txs(height)[0]).as_bytes());
    let query = |key: &str| json!({ "path": "/key", "data": hex::encode(key), "height": "9" });
    let other_op = |height, key: &[u8]| {
        let (_, op) = content::query(height, key);
        json!([{ "type": op.r#type, "key": base64(&op.key), "data": base64(&op.data) }])
    };
    let block = |pointer, value| ("block", at(7), pointer, value);
    let tx_answer = |pointer, value| ("tx", json!({ "hash": tx(7) }), pointer, value);
    let results = |pointer, value| ("block_results", at(7), pointer, value);
    let state = |pointer, value| ("abci_query", query("bee"), pointer, value);
    let ops = "/response/proofOps/ops";
    vec![
        block("/block/data/txs", json!([])),
        block("/block/data/txs/0", json!(base64(b"forged"))),
        block("/block/header/app_hash", json!("AA".repeat(32))),
        block("/block/last_commit/round", json!(1)),
        block("/block/last_commit/block_id/parts/total", json!(2)),
        block("/block/last_commit/signatures/0/timestamp", json!("2023-05-17T14:12:53Z")),
        block("/block/last_commit/signatures", json!([])),
        tx_answer("/tx", json!(base64(b"forged"))),
        tx_answer("/height", json!("11")),
        tx_answer("/height", json!("0")),
        tx_answer("/height", json!(u64::MAX.to_string())),
        tx_answer("/proof/proof/index", json!("1")),
        tx_answer("/proof/proof/total", json!("0")),
        tx_answer("/proof/proof/aunts", json!([])),
        results("/txs_results/0/code", json!(5)),
        results("/txs_results/0/data", json!(base64(b"forged"))),
        results("/txs_results/0/gas_used", json!("8")),
        results("/txs_results", Value::Null),
        ("consensus_params", at(7), "/consensus_params/block/max_gas", json!("7")),
        ("commit", at(7), "/signed_header/commit/round", json!(1)),
        (
            "commit",
            at(7),
            "/signed_header/commit/signatures/0/timestamp",
            json!("2023-05-17T14:12:53Z"),
        ),
        ("commit", at(7), "/signed_header/commit/block_id/parts/total", json!(2)),
        // T-77: another value, no value, a value where there is none; proofs of another key, of another height, none at all.
        state("/response/value", json!(base64(b"forged"))),
        state("/response/value", Value::Null),
        state("/response/key", json!(base64(b"cat"))),
        state("/response/height", json!("8")),
        state("/response/code", json!(1)),
        state("/response/proofOps", Value::Null),
        state(ops, json!([])),
        state(ops, other_op(9, b"cat")),
        state(ops, other_op(8, b"bee")),
        state(ops, other_op(9, b"bat")),
        ("abci_query", query("bat"), "/response/value", json!(base64(b"there is none"))),
        ("abci_query", query("bat"), ops, other_op(9, b"a")),
    ]
}

/// Each forgery is refused where the node is alone, and the truth is given where another one has it.
#[tokio::test(flavor = "multi_thread")]
async fn forged_answers_are_refused_and_asked_of_somebody_else() {
    let chain = chain_with_contents(LAST);
    let honest = Node::new(&chain, Manner::Honest).await;
    let truth = light(&chain, &[&honest]).await;
    for (method, params, pointer, value) in forgeries() {
        let manner = Manner::Forges(method, pointer, value.clone());
        let liar = Node::new(&chain, manner).await;
        let alone = light(&chain, &[&liar]).await;
        let refused = alone.call(method, params.clone()).await;
        let refused = refused.expect_err(&format!("{method}{pointer} = {value}"));
        assert!(!refused.is_empty());
        let both = light(&chain, &[&liar, &honest]).await;
        let wanted = truth.call(method, params.clone()).await.unwrap();
        for _ in 0..2 {
            assert_eq!(both.call(method, params.clone()).await.unwrap(), wanted, "{pointer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_given_that_too_few_have_confirmed() {
    let chain = chain_with_contents(LAST);
    let node = Node::new(&chain, Manner::Honest).await;
    let verified = |now: &Progress| {
        let top = now.status.verified.is_some_and(|point| point.height == LAST);
        top && now.status.missing == 0
    };
    let light = light_until(&chain, &[&node], 1, verified).await;
    for method in ["status", "header", "block", "commit", "validators", "blockchain"] {
        let refused = light.call(method, json!({})).await.unwrap_err();
        assert_eq!(refused, "nothing is trusted yet: too few providers have confirmed a block");
    }
    let (status, text) = light.get("/readyz").await;
    assert_eq!((status, text.as_str()), (503, "Unconfirmed, 0 headers missing\n"));
    let own = light.call("light_status", json!({})).await.unwrap();
    assert_eq!((&own["condition"], &own["trusted"]), (&json!("Unconfirmed"), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_header_covers_stands_under_unsafe_alone() {
    let chain = chain_with_contents(LAST);
    let node = Node::new(&chain, Manner::Honest).await;
    let light = light(&chain, &[&node]).await;
    for method in ["genesis", "tx_search", "net_info", "abci_info"] {
        let refused = light.call(method, json!({})).await.unwrap_err();
        assert!(refused.contains("no header covers this answer"), "{refused}");
    }
    let (status, body) = light.get("/unsafe/genesis").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["result"]["genesis"]["chain_id"]), (200, &json!("light-test")));
    let call = json!({ "jsonrpc": "2.0", "id": "a", "method": "genesis" }).to_string();
    let (_, again) = light.post("/unsafe", &call).await;
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!((&again["result"], &again["id"]), (&body["result"], &json!("a")));
    let unknown = json!({ "jsonrpc": "2.0", "id": 1, "method": "dial_peers" }).to_string();
    assert!(light.post("/unsafe", &unknown).await.1.contains("Method not found"));
    assert!(light.post("/", &unknown).await.1.contains("Method not found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn heights_that_are_not_there_are_refused_with_one_line() {
    let chain = chain_with_contents(LAST);
    let node = Node::new(&chain, Manner::Honest).await;
    let light = light(&chain, &[&node]).await;
    for method in ["header", "block", "commit", "validators", "block_results"] {
        let refused = light.call(method, at(LAST + 1)).await.unwrap_err();
        assert!(refused.contains("is the latest that is trusted"), "{refused}");
        light.call(method, at(u64::MAX)).await.unwrap_err();
        light.call(method, json!({ "height": "-1" })).await.unwrap_err();
        light.call(method, json!({ "height": [] })).await.unwrap_err();
    }
    let unknown = light.call("block_by_hash", json!({ "hash": "AB".repeat(32) })).await;
    assert!(unknown.unwrap_err().contains("no trusted block has the hash"));
    light.call("block_by_hash", json!({ "hash": "AB" })).await.unwrap_err();
    light.call("validators", json!({ "page": "2" })).await.unwrap_err();
    light.call("validators", json!({ "per_page": u64::MAX, "page": u64::MAX })).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_have_limits() {
    let chain = chain_with_contents(LAST);
    let node = Node::new(&chain, Manner::Honest).await;
    let light = light(&chain, &[&node]).await;
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "health" });
    let batch = |count: usize| Value::from(vec![call.clone(); count]).to_string();
    let replies: Value = serde_json::from_str(&light.post("/", &batch(10)).await.1).unwrap();
    assert_eq!(replies.as_array().unwrap().len(), 10);
    for bad in [&batch(11), &batch(0), "", "[1", "{}", "7", "[[]]", &"[".repeat(100_000)] {
        let (_, reply) = light.post("/", bad).await;
        assert!(reply.contains("error"), "{bad:.40}: {reply}");
    }
    // No byte beyond what the server reads: what it leaves unread would reset the connection, and the answer with it.
    let short = r#"{"method":"health"}"#;
    let long = |bytes: usize| format!("{short}{}", " ".repeat(bytes - short.len()));
    assert_ne!(light.post("/", &long(REQUEST_BYTES_MAX)).await.0, 413);
    assert_eq!(light.post("/", &long(REQUEST_BYTES_MAX + 1)).await.0, 413);
    let start = "GET /";
    let head = format!("{start}{}", "a".repeat(HEAD_BYTES_MAX - start.len()));
    assert_eq!(light.raw(head.as_bytes()).await.0, 431);
    assert_eq!(
        light.raw(b"DELETE / HTTP/1.1\r\nHost: l\r\nConnection: close\r\n\r\n").await.0,
        405
    );
    assert_eq!(light.get("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(light.get("/readyz").await, (200, "ok\n".to_owned()));
    let (_, metrics) = light.get("/metrics").await;
    assert!(metrics.contains(&format!("\ntercet_light_trusted_height {LAST}\n")), "{metrics}");
}

/// A connection beyond the limit is served once another one ends.
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded() {
    let chain = chain_with_contents(5);
    let node = Node::new(&chain, Manner::Honest).await;
    let light = light(&chain, &[&node]).await;
    let request = b"GET /healthz HTTP/1.1\r\nHost: l\r\n\r\n";
    let mut open = vec![];
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = light.connect().await;
        stream.write_all(request).await.unwrap();
        stream.read_u8().await.unwrap();
        open.push(stream);
    }
    let mut one_more = light.connect().await;
    one_more.write_all(request).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), one_more.read_u8()).await;
    assert!(early.is_err(), "served beyond the limit");
    drop(open.pop());
    tokio::time::timeout(LONG, one_more.read_u8()).await.unwrap().unwrap();
}
