//! The program itself and bad input: each is one line on standard error and exit code 1, or one line of the log of a node that goes
//! on. No panic, and nothing is lost.
#![allow(missing_docs)]

#[path = "support/program.rs"]
#[allow(dead_code)]
mod program;

use program::{ERRORS, Home, Node, PATIENCE, done, forward, refused, run, tercet};
use std::fs;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use tercet_abci::kvstore::{Durability, KvStore};

#[test]
fn a_broken_genesis() {
    let home = Home::new();
    let good = fs::read_to_string(home.genesis()).expect("a genesis");
    for (text, reason) in [
        ("", "not a genesis in CometBFT's format"),
        (&good[..good.len() / 2], "not a genesis in CometBFT's format"),
        ("[]", "not a genesis in CometBFT's format"),
        ("{}", "chain_id is missing"),
        (&good.replace("\"10\"", "\"-1\""), "genesis.json"),
        (&good.replace("\"10\"", "\"9223372036854775807\""), "genesis.json"),
        (
            &good.replace(
                "\"initial_height\": \"1\"",
                "\"initial_height\": \"9223372036854775808\"",
            ),
            "genesis.json",
        ),
        (
            &good.replace(
                "\"initial_height\": \"1\"",
                "\"initial_height\": \"4611686018427387905\"",
            ),
            "initial_height must be from 1 to 4611686018427387904",
        ),
        (&good.replace("ed25519", "bls12381"), "genesis.json"),
    ] {
        assert_ne!(text, good, "nothing was replaced");
        fs::write(home.genesis(), text).expect("written");
        let error = home.refuses(&[]);
        assert!(error.contains(reason), "{error}");
    }
    fs::write(home.genesis(), [0xff, 0xfe, 0]).expect("written");
    assert!(home.refuses(&[]).contains("UTF-8"));
    fs::remove_file(home.genesis()).expect("removed");
    assert!(home.refuses(&[]).contains("`tercet init` makes one"));
    fs::write(home.genesis(), &good).expect("written");
    Node::start(&home, &[]).stop();
}

#[test]
fn a_foreign_genesis() {
    let home = Home::new();
    let hash = home.refuses(&["--genesis_hash", "00"]);
    assert!(hash.contains("get the file of the chain again"), "{hash}");
    Node::start(&home, &[]).stop();
    home.change_genesis("test-chain", "another-chain");
    let error = home.refuses(&[]);
    assert!(error.contains("a chain of another genesis"), "{error}");
    home.change_genesis("another-chain", "test-chain");
    home.change_genesis("\"power\": \"10\"", "\"power\": \"11\"");
    let error = home.refuses(&[]);
    assert!(error.contains("a chain of another genesis"), "{error}");
    home.change_genesis("\"power\": \"11\"", "\"power\": \"10\"");
    Node::start(&home, &[]).stop();
}

#[test]
fn broken_keys_and_a_broken_watermark() {
    for name in
        ["config/node_key.json", "config/priv_validator_key.json", "data/priv_validator_state.json"]
    {
        let home = Home::new();
        let path = home.file(name);
        let good = fs::read(&path).expect("a file");
        for text in [&b""[..], b"{}", b"garbage", &good[..good.len() / 2]] {
            fs::write(&path, text).expect("written");
            let error = home.refuses(&[]);
            assert!(
                error.contains(path.file_name().and_then(|name| name.to_str()).expect("text")),
                "{error}"
            );
        }
    }
}

#[test]
fn an_unknown_configuration_key() {
    let home = Home::new();
    fs::write(home.file("config/config.toml"), "[p2p]\npex = true\nlader = 1").expect("written");
    let error = home.refuses(&[]);
    assert!(
        error.ends_with("line 3: unknown key \"p2p.lader\"; did you mean \"p2p.laddr\"?"),
        "{error}"
    );
    fs::write(home.file("config/config.toml"), "[p2p").expect("written");
    assert!(home.refuses(&[]).contains("config.toml line 1"));
    let error = refused(&["start", "--home", home.arg(), "--rpc.ladr", "x"]);
    assert!(error.contains("'--rpc.laddr'"), "{error}");
}

#[test]
fn what_is_not_supported() {
    let home = Home::new();
    for (flag, value, reason) in [
        ("--proxy_app", "mine", "proxy_app"),
        ("--priv_validator_laddr", "tcp://127.0.0.1:1", "remote signers"),
        ("--p2p.persistent_peers", "nobody", "id@host:port"),
        ("--log_level", "loud", "log_level"),
    ] {
        let error = home.refuses(&[flag, value]);
        assert!(error.contains(reason), "{error}");
    }
}

/// It is no error that the application is not there yet: the node says so and waits, and a signal ends that.
#[test]
fn an_application_that_is_not_there_is_waited_for_until_the_node_is_asked_to_stop() {
    let home = Home::new();
    let address = format!("unix://{}", home.file("app.sock").display());
    let (rpc, more) = (home.rpc(), ["--proxy_app", &address]);
    let mut child = tercet(&home.start_args(&rpc, &more)).spawn().expect("it runs");
    let (sender, log) = channel();
    forward(child.stdout.take().expect("its output"), "", sender.clone());
    forward(child.stderr.take().expect("its errors"), ERRORS, sender);
    let peers = SocketAddr::from(([127, 0, 0, 1], 0));
    let node = Node { child: Some(child), rpc: home.file("rpc.sock"), peers, log };
    let line = node.log_line(|line| line.contains("cannot be reached"));
    assert!(line.contains(&address) && line.contains("start it"), "{line}");
    node.stop();
}

/// Stands between a node and its application, and breaks all connections again and again, each time after some more was said.
struct Breaker {
    server: PathBuf,
    open: Mutex<Vec<UnixStream>>,
    /// How often it has broken them.
    broken: AtomicUsize,
    /// What may still be said until it does.
    left: AtomicUsize,
}

impl Breaker {
    /// What is said before each break: few pieces at first.
    fn pieces(broken: usize) -> usize {
        const PIECES: [usize; 12] = [6, 7, 9, 11, 13, 15, 17, 20, 23, 27, 31, 40];
        PIECES.get(broken).copied().unwrap_or(usize::MAX)
    }

    fn listen(server: PathBuf, at: &std::path::Path) -> Arc<Breaker> {
        let listener = UnixListener::bind(at).expect("a socket");
        let left = AtomicUsize::new(Breaker::pieces(0));
        let breaker = Breaker { server, open: Mutex::default(), broken: AtomicUsize::new(0), left };
        let breaker = Arc::new(breaker);
        let accepts = breaker.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let far = UnixStream::connect(&accepts.server).expect("it listens");
                let clone = |stream: &UnixStream| stream.try_clone().expect("a clone");
                accepts.open.lock().expect("whole").extend([clone(&near), clone(&far)]);
                for (from, to) in [(clone(&near), clone(&far)), (far, near)] {
                    let breaker = accepts.clone();
                    std::thread::spawn(move || breaker.copy(from, to));
                }
            }
        });
        breaker
    }

    fn copy(&self, mut from: UnixStream, mut to: UnixStream) {
        let mut piece = [0; 4096];
        while let Ok(bytes @ 1..) = from.read(&mut piece) {
            if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                let broken = self.broken.fetch_add(1, Ordering::AcqRel) + 1;
                self.left.store(Breaker::pieces(broken), Ordering::Release);
                for stream in self.open.lock().expect("whole").drain(..) {
                    // The other end may have closed it.
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                }
            } else if to.write_all(&piece[..bytes]).is_err() {
                return;
            }
        }
    }
}

/// Whatever is being said when a connection to the application breaks, it is made again, and nothing is lost: the application has executed
/// every block once, as both show.
#[test]
fn connections_to_the_application_that_break_lose_nothing() {
    let (home, folder) = (Home::new(), tempfile::tempdir().expect("a folder"));
    let app = KvStore::open(folder.path(), Durability::Buffered).expect("a kvstore");
    let (inner, outer) = (folder.path().join("inner.sock"), folder.path().join("outer.sock"));
    let server = format!("unix://{}", inner.display()).parse().expect("an address");
    let server = tercet_abci::socket::Server::bind(&server).expect("a socket");
    std::thread::spawn(move || server.serve(&app));
    let breaker = Breaker::listen(inner, &outer);
    let node = Node::start(&home, &["--proxy_app", &format!("unix://{}", outer.display())]);
    for n in 0..40 {
        // What was being checked when the connection broke is refused, and may be sent again.
        let tx = format!("key{n}={n}");
        let sent = (0..1_000).map(|_| run(&["tx", "send", &tx, "--node", &home.rpc()]));
        let mut ends = sent.map(|output| (output.status.success(), output.stderr));
        let refused = |(done, why): &(bool, Vec<u8>)| {
            let why = String::from_utf8_lossy(why);
            assert!(*done || why.contains("the connection to the application"), "{why}");
            !done
        };
        assert!(ends.any(|end| !refused(&end)), "{tx} is never taken");
    }
    assert_eq!(breaker.broken.load(Ordering::Acquire), 12, "it broke them every time");
    node.log_line(|line| line.contains("the application is back"));
    let info = node.post(br#"{"jsonrpc":"2.0","id":1,"method":"abci_info","params":{}}"#);
    assert!(info.contains(r#"{\"size\":40}"#), "{info}");
    node.stop();
}

#[test]
fn a_port_in_use() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("tcp://{}", taken.local_addr().expect("an address"));
    let error = home.refuses(&["--p2p.laddr", &address]);
    assert!(error.contains("Address already in use") && error.contains("another node"), "{error}");
    let error = home.refuses(&["--rpc.laddr", &address]);
    assert!(error.contains(&address) && error.contains("Address already in use"), "{error}");
    Node::start(&home, &[]).stop();
}

#[test]
fn a_second_start_on_one_home() {
    let home = Home::new();
    let node = Node::start(&home, &[]);
    let error = refused(&home.start_args("tcp://127.0.0.1:0", &[]));
    assert!(error.starts_with("another tercet runs on this home"), "{error}");
    let error = refused(&["reset", "--home", home.arg()]);
    assert!(error.contains("stop it first"), "{error}");
    let sent = done(&["tx", "send", "still=alive", "--node", &home.rpc()]);
    assert!(sent.starts_with("committed at height"), "{sent}");
    node.stop();
}

#[test]
fn two_homes_with_one_key() {
    let (first, second) = (Home::new(), Home::new());
    for file in ["config/genesis.json", "config/priv_validator_key.json"] {
        fs::copy(first.file(file), second.file(file)).expect("copied");
    }
    let node = Node::start(&first, &[]);
    let id = done(&["show-node-id", "--home", first.arg()]);
    let peer = format!("{}@{}", id.trim(), node.peers);
    let copy = Node::start(&second, &["--p2p.persistent_peers", &peer]);
    for node in [&node, &copy] {
        let line = node.log_line(|line| line.contains("another node holds this validator key"));
        assert!(line.contains("ERROR") && line.contains("stop one of the two"), "{line}");
    }
    copy.stop();
    node.stop();
}

#[test]
fn a_transaction_that_is_malformed_too_large_or_there_already() {
    let home = Home::new();
    let node = Node::start(&home, &["--mempool.max_tx_bytes", "100"]);
    let rpc = home.rpc();
    let send = |tx: &str| refused(&["tx", "send", tx, "--node", &rpc]);
    for tx in ["", "nothing", "=", "a=b=c", "val=ed25519!AAAA!1", "val=nonsense"] {
        assert!(send(tx).starts_with("refused by the application's check, code 2"), "{tx}");
    }
    let error = send(&format!("a={}", "b".repeat(99)));
    assert!(error.ends_with("Tx too large. Max size is 100, but got 101"), "{error}");
    assert!(send("0xnothex").contains("is not hexadecimal"));
    done(&["tx", "send", "a=b", "--node", &rpc]);
    assert!(send("a=b").ends_with("tx already exists in cache"));
    let missing = refused(&["query", "c", "--node", &rpc]);
    assert_eq!(missing, "c: does not exist");
    node.stop();
}

#[test]
fn garbage_for_json() {
    let home = Home::new();
    let node = Node::start(&home, &[]);
    let nested = "[".repeat(100_000);
    let large = vec![b' '; 2_000_000];
    for (body, reason) in [
        (&b"garbage"[..], "-32700"),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1", "-32700"),
        (&[0xff; 1000], "-32700"),
        (nested.as_bytes(), "-32700"),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"nothing\"}", "-32601"),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"block\",\"params\":{\"height\":\"9223372036854775808\"}}", "-32602"),
        (&large, "HTTP/1.1 "),
    ] {
        let reply = node.post(body);
        assert!(reply.contains(reason), "{reason}: {reply}");
    }
    assert!(
        node.post(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"health\"}")
            .contains("\"result\":{}")
    );
    node.stop();
}

/// Bytes that are the same each time.
fn noise(count: usize) -> Vec<u8> {
    let next = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let states = std::iter::successors(Some(7), next);
    states.map(|state| state.to_be_bytes()[0]).take(count).collect()
}

#[test]
fn peers_that_send_random_bytes_truncated_frames_and_false_lengths() {
    let home = Home::new();
    let node = Node::start(&home, &[]);
    // What libp2p says first: the length and name of the protocol that chooses protocols.
    let greeting: &[u8] = b"\x13/multistream/1.0.0\n";
    let noise_protocol: &[u8] = b"\x07/noise\n";
    let mut inputs = vec![noise(100_000), vec![0xff; 64], vec![0; 10_000], greeting[..7].to_vec()];
    let false_length = [0xff, 0xff, 0xff, 0xff, 0x0f];
    for rest in [&[0xff; 12][..], &false_length, &noise(5_000)] {
        inputs.push([greeting, rest].concat());
        inputs.push([greeting, noise_protocol, rest].concat());
    }
    for input in inputs {
        let mut stream = TcpStream::connect(node.peers).expect("connected");
        // The node may close before all is written.
        let _ = stream.write_all(&input);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        assert!(answer.len() < 10_000, "{} bytes, {read:?}", answer.len());
    }
    let sent = done(&["tx", "send", "still=alive", "--node", &home.rpc()]);
    assert!(sent.starts_with("committed at height"), "{sent}");
    node.stop();
}

#[test]
fn nothing_to_ask() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one");
    let node = format!("tcp://{closed}");
    for args in [&["status"][..], &["query", "k"], &["tx", "send", "k=v"]] {
        let error = refused(&[args, &["--node", &node]].concat());
        assert!(error.contains("--node says where"), "{error}");
    }
}

#[test]
fn usage_errors_and_helps() {
    for args in [
        &["nothing"][..],
        &["start", "--nothing"],
        &["tx", "send"],
        &["keys", "generate", "other"],
        &["init", "--initial-height", "0"],
        &["testnet", "--v", "0"],
        &["status", "--timeout", "soon"],
        &["reset", "--home", "/nowhere"],
        &["rollback", "--home", "/nowhere"],
        &["inspect", "--home", "/nowhere"],
        &["replay", "--home", "/nowhere"],
        &["replay", "--from", "-1"],
        &["show-node-id", "--home", "/nowhere"],
        &["show-validator", "--home", "/nowhere"],
        &["start", "--home", "/nowhere"],
        &["init", "--home", "/proc/nowhere"],
    ] {
        refused(args);
    }
    for command in [
        "",
        "start",
        "init",
        "testnet",
        "status",
        "tx",
        "tx send",
        "query",
        "keys",
        "keys show",
        "keys generate",
        "show-node-id",
        "show-validator",
        "reset",
        "rollback",
        "inspect",
        "replay",
        "version",
    ] {
        let args = command.split_whitespace().chain(["--help"]).collect::<Vec<_>>();
        assert!(done(&args).contains("Usage: tercet"), "{command}");
    }
}
