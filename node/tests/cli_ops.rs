//! The commands of an operator on a node that has stopped, with the program itself: rollback, inspect, replay.
#![allow(missing_docs)]

#[path = "support/program.rs"]
#[allow(dead_code)]
mod program;

use program::{ERRORS, Home, Node, PATIENCE, done, end, forward, post, refused, run, tercet};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tendermint_proto::v0_38::abci::{
    RequestFinalizeBlock, RequestInfo, RequestInitChain, RequestProcessProposal, RequestQuery,
    ResponseCommit, ResponseFinalizeBlock, ResponseInfo, ResponseInitChain,
    ResponseProcessProposal, ResponseQuery,
};
use tercet_abci::kvstore::{Durability, KvStore};
use tercet_abci::socket::Server;

/// Blocks with transactions alone, so that heights stand while nothing is sent.
const QUIET: [&str; 3] =
    ["--consensus.create_empty_blocks=false", "--proxy_app", "persistent_kvstore"];

/// Runs a node until it has committed so many transactions, and stops it: the height of its last block.
fn stopped_after(home: &Home, txs: u64, more: &[&str]) -> u64 {
    let node = Node::start(home, more);
    send(home, txs);
    let height = latest(&node);
    node.stop();
    height
}

fn send(home: &Home, txs: u64) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    for _ in 0..txs {
        let tx = format!("k{}=v", NEXT.fetch_add(1, Ordering::Relaxed));
        let sent = done(&["tx", "send", &tx, "--node", &home.rpc()]);
        assert!(sent.starts_with("committed at height"), "{sent}");
    }
}

fn ask(node: &Node, method: &str, params: &str) -> Value {
    value(&node.post(request(method, params).as_bytes()))
}

fn request(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
}

fn value(reply: &str) -> Value {
    let body = reply.split_once("\r\n\r\n").expect("a reply").1;
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {reply}"))
}

/// The height of the last block once it no longer grows: the block that proves the hash comes by itself.
fn latest(node: &Node) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = ask(node, "status", "{}");
        let info = &status["result"]["sync_info"];
        let height = info["latest_block_height"].as_str().expect("text").to_owned();
        let query = ask(node, "abci_info", "{}");
        let data = query["result"]["response"]["last_block_app_hash"].as_str().map(str::to_owned);
        let shown = info["latest_app_hash"].as_str().map(decoded);
        if data.as_deref().map(base64) == shown.map(Some) {
            return height.parse().expect("a height");
        }
        assert!(Instant::now() < deadline, "the hash is never proven: {status}");
        std::thread::yield_now();
    }
}

fn decoded(hex: &str) -> Vec<u8> {
    hex::decode(hex).expect("hexadecimal")
}

fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

/// The height in a line such as "Rolled back state to height 7 and hash AB".
fn height_in(line: &str) -> u64 {
    let rest = line.split("height ").nth(1).expect("a height");
    rest.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
}

#[test]
fn a_state_that_is_rolled_back_is_made_again_from_the_block() {
    let home = Home::new();
    let top = stopped_after(&home, 3, &QUIET);
    let line = done(&["rollback", "--home", home.arg()]);
    assert!(
        line.starts_with("Rolled back state to height ") && line.contains(" and hash "),
        "{line}"
    );
    assert_eq!(height_in(&line), top - 1);
    // Once more changes nothing: the block waits to be executed.
    assert_eq!(done(&["rollback", "--home", home.arg()]), line);
    let node = Node::start(&home, &QUIET);
    assert_eq!(latest(&node), top);
    send(&home, 1);
    assert!(latest(&node) > top);
    node.stop();
}

/// The application went back too, to nothing: every block is executed again.
#[test]
fn a_rollback_with_an_application_that_went_back_executes_the_block_again() {
    let home = Home::new();
    let top = stopped_after(&home, 2, &QUIET);
    done(&["rollback", "--home", home.arg()]);
    fs::remove_dir_all(home.file("data/kvstore.db")).expect("removed");
    let node = Node::start(&home, &QUIET);
    assert_eq!(latest(&node), top);
    node.stop();
}

#[test]
fn a_block_that_this_validator_has_signed_is_not_removed() {
    let home = Home::new();
    let top = stopped_after(&home, 2, &QUIET);
    let error = refused(&["rollback", "--hard", "--home", home.arg()]);
    for words in ["has signed at height", "double sign", "without --hard", "tercet reset"] {
        assert!(error.contains(words), "{words}: {error}");
    }
    // Without the journal it is not known.
    fs::remove_dir_all(home.file("data/journal")).expect("removed");
    let error = refused(&["rollback", "--hard", "--home", home.arg()]);
    assert!(error.contains("does not fit priv_validator_state.json"), "{error}");
    // Nor without both.
    fs::remove_file(home.file("data/priv_validator_state.json")).expect("removed");
    let error = refused(&["rollback", "--hard", "--home", home.arg()]);
    for words in ["neither the journal nor priv_validator_state.json", "without --hard"] {
        assert!(error.contains(words), "{words}: {error}");
    }
    let line = done(&["rollback", "--home", home.arg()]);
    assert_eq!(height_in(&line), top - 1, "nothing had changed");
}

#[test]
fn a_full_node_fetches_a_block_again_that_was_removed() {
    let (home, full) = (Home::new(), Home::new());
    fs::copy(home.genesis(), full.genesis()).expect("copied");
    let node = Node::start(&home, &QUIET);
    let id = done(&["show-node-id", "--home", home.arg()]);
    let peer = format!("{}@{}", id.trim(), node.peers);
    let with_peer = [&QUIET[..], &["--p2p.persistent_peers", &peer]].concat();
    let follower = Node::start(&full, &with_peer);
    send(&home, 3);
    let top = latest(&node);
    wait_for(&follower, top);
    follower.stop();
    for below in 1..=2 {
        let line = done(&["rollback", "--hard", "--home", full.arg()]);
        assert!(line.starts_with("Rolled back both state and block to height"), "{line}");
        assert_eq!(height_in(&line), top - below);
    }
    // The application did not go back.
    let error = full.refuses(&with_peer);
    assert!(error.contains(&format!("the application is at height {top}")), "{error}");
    assert!(error.contains(&format!("roll the application back to {}", top - 2)), "{error}");
    fs::remove_dir_all(full.file("data/kvstore.db")).expect("removed");
    let follower = Node::start(&full, &with_peer);
    wait_for(&follower, top);
    follower.stop();
    node.stop();
}

fn wait_for(node: &Node, height: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = ask(node, "status", "{}");
        let at = status["result"]["sync_info"]["latest_block_height"].as_str().map(str::parse);
        if at == Some(Ok(height)) {
            return;
        }
        assert!(Instant::now() < deadline, "not at {height}: {status}");
        std::thread::yield_now();
    }
}

#[test]
fn commands_of_a_stopped_node_are_refused_where_one_runs_or_nothing_is_there() {
    let home = Home::new();
    for command in ["rollback", "inspect", "replay"] {
        let error = refused(&[command, "--home", home.arg()]);
        assert!(error.contains("there is no database"), "{error}");
    }
    let node = Node::start(&home, &QUIET);
    for command in ["rollback", "inspect", "replay"] {
        let error = refused(&[command, "--home", home.arg()]);
        assert!(error.contains("another tercet runs on this home"), "{error}");
    }
    node.stop();
}

#[test]
fn inspect_serves_the_stored_routes_of_cometbft_and_nothing_else() {
    let home = Home::new();
    let node = Node::start(&home, &QUIET);
    send(&home, 2);
    let top = latest(&node);
    let routes = [
        ("blockchain", r#"{"minHeight":"1","maxHeight":"2"}"#),
        ("block", r#"{"height":"2"}"#),
        ("block", "{}"),
        ("block_results", r#"{"height":"1"}"#),
        ("block_results", "{}"),
        ("commit", r#"{"height":"1"}"#),
        ("header", r#"{"height":"2"}"#),
        ("validators", "{}"),
        ("consensus_params", "{}"),
    ];
    let mut asked: Vec<(String, Value)> = Vec::new();
    for (method, params) in routes {
        asked.push((request(method, params), ask(&node, method, params)));
    }
    let hash = asked[1].1["result"]["block_id"]["hash"].as_str().expect("a hash").to_owned();
    for method in ["block_by_hash", "header_by_hash"] {
        let params = format!(r#"{{"hash":"{}"}}"#, encoded(method, &hash));
        asked.push((request(method, &params), ask(&node, method, &params)));
    }
    node.stop();
    let before = files(&home);
    let socket = home.file("inspect.sock");
    let laddr = format!("unix://{}", socket.display());
    let mut child = tercet(&["inspect", "--home", home.arg(), "--rpc.laddr", &laddr]);
    let mut child = child.spawn().expect("it runs");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    assert!(lines.any(|line| line.expect("text").contains("serving stored blocks")), "it serves");
    for (request, right) in &asked {
        let found = value(&post(&socket, request.as_bytes()));
        assert!(found["error"].is_null(), "{request}: {found}");
        assert_eq!(&found["result"], &right["result"], "{request}");
    }
    for method in ["status", "abci_info", "broadcast_tx_sync", "net_info", "genesis", "health"] {
        let reply = value(&post(&socket, request(method, "{}").as_bytes()));
        assert_eq!(reply["error"]["code"], -32601, "{method}: {reply}");
    }
    let above = request("block", &format!(r#"{{"height":"{}"}}"#, top + 1));
    let reply = value(&post(&socket, above.as_bytes())).to_string();
    assert!(reply.contains("must be less than or equal to the current"), "{reply}");
    // No node starts on the data meanwhile.
    let error = home.refuses(&QUIET);
    assert!(error.starts_with("another tercet runs on this home"), "{error}");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it runs");
    assert_eq!(end(child, PATIENCE).status.code(), Some(0));
    assert_eq!(files(&home), before, "nothing on the disk has changed");
    Node::start(&home, &QUIET).stop();
}

/// A hash as the route takes it in JSON: `block_by_hash` in base64, as CometBFT.
fn encoded(method: &str, hash: &str) -> String {
    use base64::Engine as _;
    match method {
        "block_by_hash" => base64::engine::general_purpose::STANDARD.encode(decoded(hash)),
        _ => hash.to_owned(),
    }
}

/// The files of the chain with their lengths, but RocksDB's own log.
fn files(home: &Home) -> Vec<(String, u64)> {
    let entries = fs::read_dir(home.file("data/chain")).expect("a folder");
    let mut files: Vec<(String, u64)> = entries
        .map(|entry| entry.expect("an entry"))
        .map(|entry| {
            let length = entry.metadata().expect("its metadata").len();
            (entry.file_name().to_string_lossy().into_owned(), length)
        })
        .filter(|(name, _)| !name.starts_with("LOG"))
        .collect();
    files.sort();
    files
}

/// The kvstore with an odd hash from some height on.
#[derive(Clone)]
struct Odd {
    right: KvStore,
    from: i64,
    /// How many proposals it refuses.
    refuses: Arc<AtomicU64>,
    /// The height whose `FinalizeBlock` it never answers.
    silent_at: Option<i64>,
}

impl tendermint_abci::Application for Odd {
    fn info(&self, request: RequestInfo) -> ResponseInfo {
        self.right.info(request)
    }

    fn init_chain(&self, request: RequestInitChain) -> ResponseInitChain {
        self.right.init_chain(request)
    }

    fn query(&self, request: RequestQuery) -> ResponseQuery {
        self.right.query(request)
    }

    fn process_proposal(&self, request: RequestProcessProposal) -> ResponseProcessProposal {
        let left = self.refuses.load(Ordering::Acquire);
        if request.height > 1 && left > 0 {
            self.refuses.store(left - 1, Ordering::Release);
            return ResponseProcessProposal { status: 2 };
        }
        self.right.process_proposal(request)
    }

    fn finalize_block(&self, request: RequestFinalizeBlock) -> ResponseFinalizeBlock {
        let height = request.height;
        while self.silent_at == Some(height) {
            std::thread::park();
        }
        let mut answer = self.right.finalize_block(request);
        if height >= self.from {
            answer.app_hash = vec![0xab; 8].into();
            answer.tx_results.iter_mut().for_each(|result| result.code = 9);
        }
        answer
    }

    fn commit(&self) -> ResponseCommit {
        self.right.commit()
    }
}

/// Serves an application on a socket of this home.
fn serve(home: &Home, name: &str, from: i64, refuses: u64) -> String {
    serve_with(home, name, |app| Odd { from, refuses: Arc::new(AtomicU64::new(refuses)), ..app })
}

/// The same with any oddity.
fn serve_with(home: &Home, name: &str, odd: impl FnOnce(Odd) -> Odd) -> String {
    let right = KvStore::open(&home.file(name), Durability::Buffered).expect("a kvstore");
    let address = format!("unix://{}", home.file(&format!("{name}.sock")).display());
    let server = Server::bind(&address.parse().expect("an address")).expect("a socket");
    let app = odd(Odd { right, from: i64::MAX, refuses: Arc::default(), silent_at: None });
    std::thread::spawn(move || server.serve(&app));
    address
}

#[test]
fn a_replay_finds_no_difference_or_the_first() {
    let home = Home::new();
    let top = stopped_after(&home, 4, &QUIET);
    let same = format!("blocks 1 to {top}: every hash and result is the same\n");
    assert_eq!(done(&["replay", "--home", home.arg()]), same);
    assert_eq!(done(&["replay", "--home", home.arg()]), same, "it left nothing behind");
    // On an application in another process, in two parts.
    let app = serve(&home, "right", i64::MAX, 0);
    let args = ["replay", "--home", home.arg(), "--proxy_app", &app];
    let line = done(&[&args[..], &["--to", "2"]].concat());
    assert_eq!(line, "blocks 1 to 2: every hash and result is the same\n");
    let error = refused(&[&args[..], &["--from", "2"]].concat());
    assert!(error.contains("at height 2, so a replay begins with block 3"), "{error}");
    let line = done(&[&args[..], &["--from", "3"]].concat());
    assert_eq!(line, format!("blocks 3 to {top}: every hash and result is the same\n"));
    let error = refused(&args);
    assert!(error.contains(&format!("at height {top}")) && error.contains("empty"), "{error}");
    // On one that goes wrong.
    let app = serve(&home, "wrong", 2, 0);
    let output = run(&["replay", "--home", home.arg(), "--proxy_app", &app]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(said.starts_with("first difference: block 2: "), "{said}");
    assert!(said.contains("application hash ABABABABABABABAB, and the chain has"), "{said}");
    // The node itself goes on as if nothing had been.
    let node = Node::start(&home, &QUIET);
    assert_eq!(latest(&node), top);
    node.stop();
}

#[test]
fn a_replay_does_not_touch_the_data_of_the_node() {
    let home = Home::new();
    stopped_after(&home, 1, &QUIET);
    let data = home.file("data");
    let error =
        refused(&["replay", "--home", home.arg(), "--app_data", data.to_str().expect("text")]);
    assert!(error.contains("is the node's own data"), "{error}");
}

/// A refused proposal is one line with the reason, and a view change; the chain goes on.
#[test]
fn a_proposal_that_the_application_refuses_is_one_line_and_a_view_change() {
    let home = Home::new();
    let app = serve(&home, "picky", i64::MAX, 1);
    let node = Node::start(&home, &["--proxy_app", &app]);
    let line = node.log_line(|line| line.contains("refused"));
    for words in ["WARN", "height=2", "view=0", "the application rejects it", "primary="] {
        assert!(line.contains(words), "{words}: {line}");
    }
    let next = node.log_line(|line| line.contains("refused") || line.contains("view change"));
    assert!(next.contains("view change") && next.contains("view=1"), "{next}");
    send(&home, 1);
    let state = ask(&node, "pbft_state", "{}");
    assert_eq!(state["result"]["view_changes"].to_string().trim_matches('"'), "1", "{state}");
    node.stop();
}

#[test]
fn a_genesis_without_validators_needs_them_from_the_application() {
    let home = Home::new();
    let text = fs::read_to_string(home.genesis()).expect("a genesis");
    let mut genesis: Value = serde_json::from_str(&text).expect("JSON");
    genesis["validators"] = Value::Array(Vec::new());
    fs::write(home.genesis(), genesis.to_string()).expect("written");
    let error = home.refuses(&[]);
    assert!(error.contains("genesis.json names no validators"), "{error}");
    assert!(error.contains("InitChain"), "{error}");
}

/// The lines are those of docs/applications.md.
#[test]
fn an_application_that_never_answers_is_told_with_call_height_and_time_and_then_the_node_leaves() {
    let home = Home::new();
    let app = serve_with(&home, "silent", |app| Odd { silent_at: Some(2), ..app });
    let limits = ["--abci_call_warn", "1s", "--abci_call_timeout", "3s"];
    let mut node = Node::start(&home, &[&["--proxy_app", &app][..], &limits[..]].concat());
    for seconds in [1, 2] {
        let line = node.log_line(|line| line.contains("not answered"));
        let told = format!(
            r#" WARN the application has not answered yet: the node waits for it method="FinalizeBlock" role=consensus height=2 seconds={seconds}"#
        );
        assert!(line.ends_with(&told), "{line}");
    }
    let line = node.log_line(|line| line.contains("not answered"));
    let left = "ERROR the application has not answered FinalizeBlock (consensus) of height 2 after 3 s, and abci_call_timeout gives it no longer";
    assert!(line.ends_with(left), "{line}");
    let output = end(node.child.take().expect("it runs"), PATIENCE);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
}

/// Where a certificate is configured, the RPC speaks TLS, and the command line with it.
#[test]
fn a_node_that_speaks_tls_answers_who_trusts_its_certificate() {
    let home = Home::new();
    let pair = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a pair");
    fs::write(home.file("config/rpc.pem"), pair.cert.pem()).expect("written");
    fs::write(home.file("config/rpc-key.pem"), pair.key_pair.serialize_pem()).expect("written");
    let tls = ["--rpc.tls_cert_file", "rpc.pem", "--rpc.tls_key_file", "rpc-key.pem"];
    let args = [
        &home.start_args("tcp://127.0.0.1:0", &tls)[..],
        &["--rpc.grpc_laddr", "tcp://127.0.0.1:0"],
    ];
    let mut child = tercet(&args.concat()).spawn().expect("it runs");
    let (sender, log) = std::sync::mpsc::channel();
    forward(child.stdout.take().expect("its output"), "", sender.clone());
    forward(child.stderr.take().expect("its errors"), ERRORS, sender);
    let peers = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let node = Node { child: Some(child), rpc: home.file("none"), peers, log };
    let line = node.log_line(|line| {
        line.contains("rpc laddr=\"https://") || line.contains("rpc laddr=https://")
    });
    let address = line.split("laddr=").nth(1).expect("an address");
    let address = address.split_whitespace().next().expect("an address").trim_matches('"');
    let ca = home.file("config/rpc.pem").display().to_string();
    let status = done(&["status", "--node", address, "--ca", &ca]);
    assert!(status.contains("test-chain"), "{status}");
    let error = refused(&["status", "--node", address]);
    assert!(error.contains("--ca says which certificate to trust"), "{error}");
    let plain = address.replace("https", "tcp");
    assert!(refused(&["status", "--node", &plain]).contains("cannot ask the node"));
    node.stop();
    fs::write(home.file("config/rpc.pem"), "nothing").expect("written");
    let error = home.refuses(&tls);
    assert!(error.contains("rpc.tls_cert_file") && error.contains("rpc.pem"), "{error}");
}
