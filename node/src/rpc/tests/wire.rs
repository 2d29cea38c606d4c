use super::fake::*;
use crate::rpc::http::Handler;
use crate::rpc::server::Api;
use crate::rpc::{Cors, Limits, Server};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

fn call(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

async fn client() -> (Running, Client) {
    let running = start(Limits::default()).await;
    let client = Client::new(&running).await;
    (running, client)
}

/// Base64 of a transaction inside params.
fn tx(tx: &str) -> String {
    use base64::Engine as _;
    format!(r#"{{"tx":"{}"}}"#, base64::engine::general_purpose::STANDARD.encode(tx))
}

#[tokio::test]
async fn a_connection_is_kept_alive_and_pipelined_replies_keep_their_order() {
    let (_running, mut client) = client().await;
    for round in 0..3 {
        let reply = client.post(&call(&round.to_string(), "health", "{}")).await;
        assert_eq!(reply.body, format!(r#"{{"jsonrpc":"2.0","id":{round},"result":{{}}}}"#));
        assert!(reply.head.contains("content-type: application/json\r\n"), "{}", reply.head);
        assert!(reply.head.contains("x-server-time: 1"), "{}", reply.head);
    }
    let calls: Vec<String> = (0..50)
        .map(|id| match id % 2 {
            0 => posted(&call(&id.to_string(), "broadcast_tx_sync", &tx("a=b"))),
            _ => posted(&call(&id.to_string(), "block", "{}")),
        })
        .collect();
    client.send(calls.concat()).await;
    for id in 0..50 {
        let reply = client.reply().await.unwrap();
        assert!(reply.body.starts_with(&format!(r#"{{"jsonrpc":"2.0","id":{id},"res"#)));
    }
}

#[tokio::test]
async fn broadcast_replies_are_comets_byte_by_byte() {
    let (running, mut client) = client().await;
    let reply = client.post(&call("\"x\"", "broadcast_tx_sync", &tx("async-key=value"))).await;
    let hash = "9F28904F9C0F3AB74A81CBA48E39124DA1C680B47FBFCBA0126870DB722BCC30";
    let expected = format!(
        r#"{{"jsonrpc":"2.0","id":"x","result":{{"code":0,"data":"","log":"","codespace":"","hash":"{hash}"}}}}"#
    );
    assert_eq!(reply.body, expected);
    let reply = client.post(&call("\"x\"", "broadcast_tx_async", &tx("async-key=value"))).await;
    assert_eq!(reply.body, expected);
    let reply = client.get("/broadcast_tx_sync?tx=%22async-key=value%22").await;
    assert_eq!(reply.body, expected.replace("\"x\"", "-1"));
    // Quotes as they are, as people type them, on a connection of its own: after a POST nothing is looked at any more.
    let mut fresh = Client::new(&running).await;
    let reply = fresh.get("/broadcast_tx_sync?tx=\"async-key=value\"").await;
    assert_eq!(reply.body, expected.replace("\"x\"", "-1"));
    let reply = client.post(&call("1", "broadcast_tx_sync", &tx("bad"))).await;
    assert!(reply.body.contains(r#""code":2,"data":"","log":"a\u003cb","codespace":"","hash":"#));
}

/// A sample of CometBFT's: `duplicate` or `attack`, and what kind of line.
fn sample(name: &str, kind: &str) -> String {
    let lines = include_str!("../../evidence/samples/cometbft.txt").lines();
    let start = format!("{name} {kind} ");
    lines.filter_map(|line| line.strip_prefix(&start)).next().expect("a line").to_owned()
}

#[tokio::test]
async fn evidence_is_taken_and_answered_as_comet_does() {
    let (_running, mut client) = client().await;
    for name in ["duplicate", "attack"] {
        let (json, reply) = (sample(name, "json"), sample(name, "reply"));
        let params = format!(r#"{{"evidence":{json}}}"#);
        let answer = client.post(&call("1", "broadcast_evidence", &params)).await;
        assert_eq!(answer.body, format!(r#"{{"jsonrpc":"2.0","id":1,"result":{reply}}}"#));
        let answer = client.post(&call("1", "broadcast_evidence", &format!("[{json}]"))).await;
        assert!(answer.body.contains(&reply), "{}", answer.body);
    }
    let old = sample("duplicate", "json").replace(r#""height":"10""#, r#""height":"13""#);
    let params = format!(r#"{{"evidence":{old}}}"#);
    let answer = client.post(&call("1", "broadcast_evidence", &params)).await;
    let error = r#""code":-32603,"message":"Internal error","data":"failed to add evidence: Invalid evidence: too old""#;
    assert!(answer.body.contains(error), "{}", answer.body);
    for params in ["{}", r#"{"evidence":null}"#] {
        let answer = client.post(&call("1", "broadcast_evidence", params)).await;
        assert!(answer.body.contains(r#""data":"no evidence was provided""#), "{}", answer.body);
    }
    let wrong =
        [r#"{"evidence":5}"#, r#"{"evidence":{"type":"x","value":{}}}"#, r#"{"evidence":[]}"#];
    for params in wrong {
        let answer = client.post(&call("1", "broadcast_evidence", params)).await;
        assert!(
            answer.body.contains("error converting json params to arguments"),
            "{}",
            answer.body
        );
    }
}

#[tokio::test]
async fn a_refused_transaction_says_why_in_comets_words() {
    let (_running, mut client) = client().await;
    let full = "mempool is full: number of txs 5 (max: 5), total txs bytes 70 (max: 100)";
    let large = "Tx too large. Max size is 4, but got 5";
    for (name, text) in [("seen", "tx already exists in cache"), ("full", full), ("large", large)] {
        for method in ["broadcast_tx_sync", "broadcast_tx_async"] {
            let reply = client.post(&call("1", method, &tx(name))).await;
            let error = format!(
                r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-32603,"message":"Internal error","data":"{text}"}}}}"#
            );
            assert_eq!((reply.status, reply.body), (200, error));
        }
    }
    let reply = client.post(&call("1", "broadcast_tx_commit", &tx("seen"))).await;
    assert!(reply.body.contains("error on broadcastTxCommit: tx already exists in cache"));
}

#[tokio::test]
async fn broadcast_tx_commit_answers_when_the_block_is_there_or_says_where_the_transaction_stands()
{
    let limits = Limits {
        timeout_broadcast_tx_commit: Duration::from_millis(20),
        max_subscription_clients: 1,
        ..Limits::default()
    };
    let running = start(limits).await;
    let mut client = Client::new(&running).await;
    let reply = client.post(&call("1", "broadcast_tx_commit", &tx("c=d"))).await;
    assert!(reply.body.contains(r#""tx_result":{"code":0,"data":null,"#), "{}", reply.body);
    assert!(reply.body.ends_with(r#","height":"3"}}"#), "{}", reply.body);
    let reply = client.post(&call("1", "broadcast_tx_commit", &tx("bad"))).await;
    assert!(reply.body.contains(r#""check_tx":{"code":2,"#), "{}", reply.body);
    assert!(reply.body.ends_with(r#","height":"0"}}"#), "{}", reply.body);
    let reply = client.post(&call("1", "broadcast_tx_commit", &tx("never"))).await;
    let text = "timed out waiting for tx to be included in a block: it is still in the mempool";
    assert!(reply.body.contains(text), "{}", reply.body);
    let _other = running.sources.waiters.wait([0; 32], 1).unwrap();
    let reply = client.post(&call("1", "broadcast_tx_commit", &tx("c=d"))).await;
    assert!(reply.body.contains("\"max_subscription_clients 1 reached\""), "{}", reply.body);
}

#[tokio::test]
async fn batches_follow_comets_rules() {
    let (_running, mut client) = client().await;
    let health = |id: &str| call(id, "health", "{}");
    let reply = client.post(&format!("[{},{}]", health("1"), health("2"))).await;
    let both = r#"[{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","id":2,"result":{}}]"#;
    assert_eq!(reply.body, both);
    let one = client.post(&format!("[{},{{\"method\":\"health\"}}]", health("1"))).await;
    assert_eq!(one.body, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    for none in ["[]", "null", "[null]", "{\"method\":\"health\"}", "[{\"id\":null}]"] {
        let reply = client.post(none).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, ""), "{none}");
    }
    let many = vec![health("1"); 11].join(",");
    let reply = client.post(&format!("[{many}]")).await;
    let text = "batch request exceeds maximum (10) allowed number of requests";
    assert_eq!(
        reply.body,
        format!(
            r#"{{"jsonrpc":"2.0","error":{{"code":-32600,"message":"Invalid Request","data":"{text}"}}}}"#
        )
    );
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn transactions_of_a_batch_wait_together_and_replies_keep_their_order() {
    let (_running, mut client) = client().await;
    // Each is answered only when all ten wait.
    let calls: Vec<String> = (0..10)
        .map(|id| call(&id.to_string(), "broadcast_tx_sync", &tx(&format!("meet{id}"))))
        .collect();
    let reply = client.post(&format!("[{}]", calls.join(","))).await;
    let replies: Vec<serde_json::Value> = serde_json::from_str(&reply.body).unwrap();
    let ids: Vec<_> = replies.iter().map(|reply| reply["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (0..10).collect::<Vec<_>>());
    assert!(replies.iter().all(|reply| reply["result"]["code"] == 0), "{}", reply.body);
    // Other calls stand between them in order, and what is refused does not hurt the others.
    let mixed = [
        call("1", "broadcast_tx_sync", &tx("seen")),
        call("2", "health", "{}"),
        r#"{"method":"broadcast_tx_sync"}"#.to_owned(),
        call("3", "broadcast_tx_sync", &tx("a=b")),
        call("4", "broadcast_tx_sync", r#"{"tx":"!"}"#),
    ];
    let reply = client.post(&format!("[{}]", mixed.join(","))).await;
    let replies: Vec<serde_json::Value> = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(replies.len(), 4);
    assert_eq!(replies[0]["error"]["data"], "tx already exists in cache");
    assert_eq!(replies[1]["result"], serde_json::json!({}));
    assert_eq!(replies[2]["result"]["code"], 0);
    assert_eq!(replies[3]["error"]["code"], -32602);
}

#[tokio::test]
async fn a_malformed_transaction_is_refused_with_the_byte_at_which_it_is_wrong() {
    let (_running, mut client) = client().await;
    for (params, text) in [
        (r#"{"tx":"YT1i!"}"#, "illegal base64 data at input byte 4"),
        (r#"{"tx":"YT1"}"#, "illegal base64 data at input byte 0"),
        (r#"{"tx":5}"#, "json: cannot unmarshal number into Go value of type types.Tx"),
        (r#"{"tx":["YT1i"]}"#, "json: cannot unmarshal string into Go value of type uint8"),
        (r#"{"tx":[1,256]}"#, "json: cannot unmarshal number 256 into Go value of type uint8"),
        (r#"["YT1i","YT1i"]"#, r#"expected 1 parameters ([tx]), got 2 ([\"YT1i\",\"YT1i\"])"#),
    ] {
        for method in ["broadcast_tx_sync", "broadcast_tx_async", "broadcast_tx_commit", "check_tx"]
        {
            let reply = client.post(&call("1", method, params)).await;
            let error = format!(
                r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-32602,"message":"Invalid params","data":"error converting json params to arguments: {text}"}}}}"#
            );
            assert_eq!((reply.status, reply.body), (200, error), "{method}");
        }
    }
    let reply = client.get("/broadcast_tx_sync?tx=0x613d6").await;
    let text = "error converting http params to arguments: encoding/hex: odd length hex string";
    assert!(reply.status == 500 && reply.body.contains(text), "{}", reply.body);
    // As in CometBFT, nothing at all is an empty transaction.
    let empty = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";
    for params in ["{}", "null", r#"{"tx":null}"#, r#"{"tx":""}"#, r#"[null]"#] {
        let reply = client.post(&call("1", "broadcast_tx_sync", params)).await;
        assert!(reply.body.contains(empty), "{params}: {}", reply.body);
    }
}

#[tokio::test]
async fn who_does_not_read_its_replies_is_cut_off() {
    let limits = Limits { write_timeout: Duration::from_millis(200), ..Limits::default() };
    let running = start(limits).await;
    let mut deaf = Client::new(&running).await;
    // More replies than the socket's buffers take, then nothing is read.
    let request = "GET /blockchain HTTP/1.1\r\nHost: x\r\n\r\n".repeat(64);
    let cut = async {
        loop {
            if deaf.try_send(&request).await.is_err() {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), cut).await.expect("it is cut off");
    assert_eq!(Client::new(&running).await.get("/health").await.status, 200);
}

#[tokio::test]
async fn what_is_no_request_is_a_parse_error() {
    let (_running, mut client) = client().await;
    for wrong in
        ["{", "5", "[1]", "{\"id\":true}", "{\"id\":1,\"method\":5}", "\u{0}", "[{\"id\":[]}]"]
    {
        let reply = client.post(wrong).await;
        assert_eq!(reply.status, 500, "{wrong}");
        let head = r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error. Invalid JSON","data":"error unmarshaling request: "#;
        assert!(reply.body.starts_with(head), "{}", reply.body);
    }
}

#[tokio::test]
async fn wrong_calls_are_told_apart() {
    let (_running, mut client) = client().await;
    let reply = client.post(&call("1", "no_such", "{}")).await;
    let missing = r#"{"code":-32601,"message":"Method not found"}}"#;
    assert!(reply.status == 200 && reply.body.ends_with(missing));
    let reply = client.post(&call("1", "subscribe", "{}")).await;
    assert!(reply.status == 200 && reply.body.ends_with(missing));
    let reply = client.get("/subscribe").await;
    assert!(reply.status == 404 && reply.body.ends_with(missing));
    let reply = client.get("/no_such").await;
    assert_eq!((reply.status, reply.body.as_str()), (404, "404 page not found\n"));
    let reply = client.post(&call("1", "block", "{\"height\":5}")).await;
    let text = r#"error converting json params to arguments: invalid 64-bit integer encoding \"5\", expected string"#;
    assert!(reply.status == 200 && reply.body.contains(text), "{}", reply.body);
    let reply = client.get("/block?height=0x5").await;
    let text = r#""id":-1,"error":{"code":-32602,"message":"Invalid params","data":"error converting http params to arguments: got a hex string arg, but expected 'int64'""#;
    assert!(reply.status == 500 && reply.body.contains(text), "{}", reply.body);
    let reply = client.get("/abci_query?path=%22/none%22").await;
    assert!(reply.status == 500 && reply.body.contains("the application is gone"));
}

#[tokio::test]
async fn heights_and_pages_are_checked_in_comets_words() {
    let (_running, mut client) = client().await;
    for (path, text) in [
        ("/block?height=0", "height must be greater than 0, but got 0"),
        ("/block?height=-1", "height must be greater than 0, but got -1"),
        (
            "/commit?height=26",
            "height 26 must be less than or equal to the current blockchain height 25",
        ),
        ("/header?height=1", "height 1 is not available, lowest height is 2"),
        (
            "/validators?height=27",
            "height 27 must be less than or equal to the current blockchain height 26",
        ),
        ("/validators?page=2", "page should be within [1, 1] range, given 2"),
        ("/validators?page=3&per_page=2", "page should be within [1, 2] range, given 3"),
        ("/blockchain?minHeight=-1", "heights must be non-negative"),
        ("/blockchain?minHeight=5&maxHeight=3", "min height 5 can't be greater than max height 3"),
        ("/genesis_chunked?chunk=1", "there are 0 chunks, 1 is invalid"),
    ] {
        let reply = client.get(path).await;
        assert_eq!(reply.status, 500, "{path}");
        assert!(reply.body.contains(&format!(r#""data":"{text}""#)), "{path}: {}", reply.body);
    }
    let reply = client.get("/validators?height=26&per_page=3&page=2").await;
    assert!(reply.body.contains(r#""count":"1","total":"4""#), "{}", reply.body);
    let reply = client.get("/blockchain").await;
    assert_eq!(reply.body.matches("block_size").count(), 20);
    let reply = client.get("/block?height=").await;
    assert!(reply.body.contains(r#""height":"25""#));
}

#[tokio::test]
async fn only_what_never_changes_is_cacheable() {
    let (_running, mut client) = client().await;
    let hash = "0".repeat(64);
    let unknown = format!("/block_by_hash?hash=0x{hash}");
    for (path, cacheable) in [
        ("/block?height=3", true),
        ("/block", false),
        ("/commit?height=3", true),
        ("/commit?height=25", false),
        ("/status", false),
        ("/genesis", true),
        ("/abci_info", false),
        ("/blockchain", false),
        (unknown.as_str(), false),
    ] {
        let reply = client.get(path).await;
        let has = reply.head.contains("cache-control: public, max-age=86400\r\n");
        assert_eq!((reply.status, has), (200, cacheable), "{path}");
    }
    let block = call("1", "block", "{\"height\":\"3\"}");
    let reply = client.post(&block).await;
    assert!(reply.head.contains("max-age"));
    let reply = client.post(&format!("[{block},{}]", call("2", "status", "{}"))).await;
    assert!(!reply.head.contains("max-age"));
}

#[tokio::test]
async fn forms_and_the_list_of_routes_are_served() {
    let (_running, mut client) = client().await;
    let form = "height=3&unknown=1";
    client
        .send(format!(
            "POST /block HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        ))
        .await;
    assert!(client.reply().await.unwrap().body.contains(r#""height":"3""#));
    let reply = client.get("/").await;
    assert!(reply.head.contains("content-type: text/html\r\n"));
    assert!(
        reply.body.contains("<a href=\"/abci_query?path=_&amp;data=_&amp;height=_&amp;prove=_\">")
    );
}

#[tokio::test]
async fn an_oversized_body_is_refused_unread() {
    let limits = Limits { max_body_bytes: 100, ..Limits::default() };
    let running = start(limits).await;
    let text = r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request","data":"error reading request body: http: request body too large"}}"#;
    let mut client = Client::new(&running).await;
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n").await;
    let reply = client.reply().await.unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (400, text));
    let mut client = Client::new(&running).await;
    let chunk = format!("64\r\n{}\r\n", " ".repeat(100));
    let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(format!("{head}{chunk}{chunk}0\r\n\r\n")).await;
    let reply = client.reply().await.unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (400, text));
    let mut client = Client::new(&running).await;
    client.send(format!("{head}32\r\n{0}\r\n32\r\n{0}\r\n0\r\n\r\n", " ".repeat(50))).await;
    assert_eq!(client.reply().await.unwrap().status, 500);
}

#[tokio::test]
async fn garbage_and_giant_heads_end_only_their_own_connection() {
    let running = start(Limits { max_header_bytes: 8192, ..Limits::default() }).await;
    let mut good = Client::new(&running).await;
    let giant = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(100_000));
    let lines = format!("GET / HTTP/1.1\r\n{}\r\n", "X: a\r\n".repeat(500));
    for garbage in ["\u{0}\u{1}\u{2}\r\n\r\n", "GET\r\n\r\n", &giant, &lines, "{}\n\n\r\n\r\n"] {
        let mut client = Client::new(&running).await;
        client.send(garbage).await;
        while let Some(reply) = client.reply().await {
            assert!(matches!(reply.status, 400 | 431), "{}", reply.head);
        }
    }
    assert_eq!(good.get("/health").await.status, 200);
}

#[tokio::test]
async fn who_does_not_finish_a_request_is_cut_off() {
    let running =
        start(Limits { read_timeout: Duration::from_millis(50), ..Limits::default() }).await;
    let mut head = Client::new(&running).await;
    head.send("GET /status HTTP/1.1\r\nHo").await;
    while let Some(reply) = head.reply().await {
        assert_eq!(reply.status, 408);
    }
    let mut idle = Client::new(&running).await;
    assert!(idle.reply().await.is_none());
    let mut body = Client::new(&running).await;
    body.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{").await;
    let reply = body.reply().await.unwrap();
    assert!(reply.status == 400 && reply.body.contains("i/o timeout"));
    assert!(body.reply().await.is_none());
}

#[tokio::test]
async fn further_connections_wait_for_a_free_slot() {
    let running = start(Limits { max_open_connections: 1, ..Limits::default() }).await;
    let mut first = Client::new(&running).await;
    assert_eq!(first.get("/health").await.status, 200);
    let mut second = Client::new(&running).await;
    second.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let early = tokio::time::timeout(Duration::from_millis(50), second.reply()).await;
    assert!(early.is_err());
    drop(first);
    assert_eq!(second.reply().await.unwrap().status, 200);
}

#[tokio::test]
async fn health_tells_the_reason() {
    let (running, mut client) = client().await;
    let reply = client.get("/healthz").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "ok, at height 25\n"));
    let reply = client.get("/readyz").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "ok, at height 25, 1 peers\n"));
    let mut snapshot = (**running.snapshot.load()).clone();
    snapshot.catching_up = true;
    running.snapshot.store(Arc::new(snapshot.clone()));
    let reply = client.get("/readyz").await;
    assert_eq!((reply.status, reply.body.as_str()), (503, "catching up, at height 25\n"));
    snapshot.fault = Some("the disk is full".to_owned());
    running.snapshot.store(Arc::new(snapshot));
    for path in ["/healthz", "/readyz"] {
        let reply = client.get(path).await;
        assert_eq!((reply.status, reply.body.as_str()), (503, "the disk is full\n"));
    }
}

#[tokio::test]
async fn browsers_are_told_whether_they_may_call() {
    let origins = vec!["https://a.example".to_owned()];
    let limits = Limits { cors: Cors { origins, ..Cors::default() }, ..Limits::default() };
    let running = start(limits).await;
    let mut client = Client::new(&running).await;
    let ask = |origin: &str, method: &str| {
        format!(
            "OPTIONS / HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n\r\n"
        )
    };
    let allow = "access-control-allow-origin: https://a.example\r\n";
    client.send(ask("https://a.example", "POST")).await;
    let reply = client.reply().await.unwrap();
    assert_eq!(reply.status, 204);
    assert!(reply.head.contains(allow), "{}", reply.head);
    assert!(reply.head.contains("access-control-allow-methods: head, get, post\r\n"));
    for (origin, method) in [("https://b.example", "POST"), ("https://a.example", "PUT")] {
        client.send(ask(origin, method)).await;
        assert!(!client.reply().await.unwrap().head.contains("access-control-allow-origin"));
    }
    client.send("GET /health HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\n\r\n").await;
    assert!(client.reply().await.unwrap().head.contains(allow));
    assert!(!client.get("/health").await.head.contains("access-control-allow-origin"));
}

#[tokio::test]
async fn an_address_needs_a_scheme_and_a_free_port() {
    let running = start(Limits::default()).await;
    let bind = |laddr: String| async move {
        Server::bind(&laddr, sources(), Limits::default())
            .await
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let error = bind("127.0.0.1:0".to_owned()).await;
    assert_eq!(error, "rpc.laddr \"127.0.0.1:0\" needs a scheme: tcp://host:port or unix://path");
    let taken = format!("tcp://{}", running.address);
    assert_eq!(bind(taken.clone()).await, format!("rpc.laddr: the rpc cannot listen on {taken}"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rpc.sock");
    let laddr = format!("unix://{}", path.display());
    let server = Server::bind(&laddr, sources(), Limits::default()).await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let task = tokio::spawn(server.run(stop.clone()));
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    assert!(reply.ends_with(r#"{"jsonrpc":"2.0","id":-1,"result":{}}"#), "{reply}");
    stop.cancel();
    task.await.unwrap();
}

fn garbage() -> impl Strategy<Value = String> {
    let names: Vec<&str> = crate::rpc::routes::ROUTES.iter().map(|route| route.name).collect();
    let argument = prop_oneof![
        Just("null".to_owned()),
        Just("\"-9223372036854775808\"".to_owned()),
        Just("\"9223372036854775807\"".to_owned()),
        Just("\"18446744073709551615\"".to_owned()),
        "\"[0-9a-fA-F=]{0,70}\"",
        "\\PC{0,20}",
        Just("[[[[{}]]]]".to_owned()),
    ];
    let object = (
        prop::sample::select(vec![
            "height",
            "hash",
            "tx",
            "page",
            "per_page",
            "minHeight",
            "chunk",
        ]),
        argument.clone(),
    )
        .prop_map(|(name, argument)| format!("{{\"{name}\":{argument}}}"));
    let list = prop::collection::vec(argument, 0..5)
        .prop_map(|arguments| format!("[{}]", arguments.join(",")));
    let known = (prop::sample::select(names), prop_oneof![object, list])
        .prop_map(|(name, params)| call("1", name, &params));
    prop_oneof![
        known.clone(),
        prop::collection::vec(known, 0..4).prop_map(|calls| format!("[{}]", calls.join(","))),
        "\\PC{0,60}",
        "[\\[\\]{}\",:0-9a-z]{0,60}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_body_panics(body in garbage()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let limits = Limits {
            timeout_broadcast_tx_commit: Duration::from_millis(1),
            ..Limits::default()
        };
        let handler = Handler::new(Api::new(sources(), limits).unwrap(), None);
        runtime.block_on(async {
            if let Ok(out) = handler.body(body.as_bytes()).await
                && !out.json.is_empty()
            {
                serde_json::from_slice::<serde_json::Value>(&out.json).unwrap();
            }
        });
    }
}

/// What clients do not take waits in a bounded number of bytes, whoever they are and however many.
#[tokio::test]
async fn large_replies_that_have_not_left_are_bounded_in_bytes() {
    use crate::rpc::replies::{REPLIES_BYTES_MAX, Room};
    let limits = Limits { write_timeout: Duration::from_millis(50), ..Limits::default() };
    let api = Api::new(sources(), limits).unwrap();
    let first = Room::take(&api, REPLIES_BYTES_MAX / 2 + 1).await.unwrap();
    let leaving = first.hold(vec![1; 10]);
    let refused = Room::take(&api, REPLIES_BYTES_MAX / 2).await.unwrap_err();
    assert!(refused.contains("on their way"), "{refused}");
    // Small ones always go.
    Room::take(&api, 60_000).await.unwrap();
    let part = leaving.slice(5..);
    drop(leaving);
    Room::take(&api, REPLIES_BYTES_MAX / 2).await.unwrap_err();
    drop(part);
    Room::take(&api, REPLIES_BYTES_MAX).await.unwrap();
    Room::take(&api, REPLIES_BYTES_MAX + 1).await.unwrap_err();
}
