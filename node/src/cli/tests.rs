//! The command line, without a node.

use super::*;
use clap::CommandFactory as _;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use tercet_config::{Config, Genesis, Home, Loaded, NodeKey, SignState, ValidatorKey};

fn parse(args: &[&str]) -> Cli {
    let args = std::iter::once("tercet").chain(args.iter().copied());
    Cli::try_parse_from(args).unwrap_or_else(|error| panic!("{error}"))
}

fn done(args: &[&str]) {
    run(&parse(args)).unwrap_or_else(|error| panic!("{args:?}: {error:#}"));
}

fn refused(args: &[&str]) -> String {
    let error = run(&parse(args)).expect_err("it is refused");
    one_line(&format!("{error:#}"))
}

fn temporary() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("home").display().to_string();
    (folder, path)
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
    let mut help = Cli::command();
    for name in ["start", "init", "testnet", "reset"] {
        let command = help.find_subcommand_mut(name).expect("a command");
        assert!(command.render_long_help().to_string().contains("tercet"), "{name}");
    }
}

#[test]
fn flags_are_cometbfts_in_both_spellings() {
    let start = |args: &[&str]| match parse(args).command {
        Command::Start(start) => start.flags.0,
        other => panic!("{other:?}"),
    };
    let flags = start(&[
        "start",
        "--proxy_app=kvstore",
        "--p2p.persistent-peers",
        "/ip4/1.2.3.4/tcp/1",
        "--p2p.external-address",
        "a:1",
        "--consensus.create_empty_blocks=false",
        "--p2p.pex",
        "--rpc.unsafe",
        "--mempool.keep-invalid-txs-in-cache=true",
        "--consensus.commit_grace",
        "5ms",
        "--log_level",
        "debug",
    ]);
    let value = |path: &str| {
        let flag = flags.iter().find(|(name, _)| name == path);
        flag.map(|(_, value)| value.as_str())
    };
    assert_eq!(value("proxy_app"), Some("kvstore"));
    assert_eq!(value("p2p.persistent_peers"), Some("/ip4/1.2.3.4/tcp/1"));
    assert_eq!(value("p2p.external_address"), Some("a:1"));
    assert_eq!(value("consensus.create_empty_blocks"), Some("false"));
    assert_eq!(value("p2p.pex"), Some("true"));
    assert_eq!(value("rpc.unsafe"), Some("true"));
    assert_eq!(value("mempool.keep-invalid-txs-in-cache"), Some("true"));
    assert_eq!(flags.len(), 8);
    let mut loaded = Loaded::default();
    for (path, value) in &flags {
        loaded.set(path, value).expect("a key");
    }
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    for alias in ["node", "run"] {
        assert!(start(&[alias]).is_empty());
    }
}

#[test]
fn commands_have_both_spellings() {
    for name in ["show-node-id", "show_node_id", "show-validator", "show_validator"] {
        parse(&[name, "--home", "/h"]);
    }
    let cli = parse(&["--home", "/a", "show-node-id", "--log-format", "json"]);
    assert_eq!(cli.global.home.as_deref(), Some(Path::new("/a")));
    assert_eq!(cli.global.log_format.as_deref(), Some("json"));
}

#[test]
fn commands_of_cometbft_with_other_names_say_which() {
    for (name, instead) in [
        ("unsafe-reset-priv-validator", "tercet reset --unsafe"),
        ("replay-console", "tercet replay"),
        ("gen-validator", "tercet keys generate validator"),
        ("gen-node-key", "tercet keys generate node"),
    ] {
        let error = refused(&[name, "--keep-addr-book"]);
        assert!(error.contains(instead), "{error}");
    }
}

#[test]
fn what_cannot_be_parsed_is_one_line_with_the_help_to_read() {
    let told = |args: &[&str]| {
        let args = std::iter::once("tercet").chain(args.iter().copied());
        usage(&Cli::try_parse_from(args).expect_err("it is refused").render().to_string())
    };
    assert_eq!(
        told(&["start", "--rpc.ladr", "x"]),
        "error: unexpected argument '--rpc.ladr' found, tip: a similar argument exists: \
         '--rpc.laddr'; see tercet start --help"
    );
    assert_eq!(
        told(&["tx", "send"]),
        "error: the following required arguments were not provided: <TX>; see tercet tx send --help"
    );
    let keys = told(&["keys", "generate", "foo"]);
    assert!(keys.ends_with("[possible values: node, validator]; see tercet --help"), "{keys}");
    assert!(!told(&["bogus"]).contains('\n'));
}

#[test]
fn the_last_of_two_equal_flags_counts() {
    let cli = parse(&["start", "--home", "/a", "--moniker", "x", "--home", "/b", "--moniker", "y"]);
    assert_eq!(cli.global.home.as_deref(), Some(Path::new("/b")));
    let Command::Start(start) = cli.command else { panic!("{:?}", cli.command) };
    assert_eq!(start.flags.0, [("moniker".to_owned(), "y".to_owned())]);
}

#[test]
fn init_makes_a_home_and_keeps_what_is_there() {
    let (_folder, path) = temporary();
    done(&["init", "--home", &path, "--moniker", "alice", "--chain-id", "c"]);
    let home = Home::new(&path);
    let config = Loaded::from_home(&home).expect("a configuration").config;
    assert_eq!(config, Config { moniker: "alice".into(), ..Config::default() });
    let key = ValidatorKey::read(&home.validator_key_file(&config)).expect("a key");
    let node = NodeKey::read(&home.node_key_file(&config)).expect("a key");
    let genesis = Genesis::read(&home.genesis_file(&config)).expect("a genesis");
    assert_eq!(genesis.chain_id, "c");
    assert_eq!(genesis.validators[0].public_key, key.public());
    assert_eq!(genesis.validators[0].power, 10);
    let state = SignState::load(&home.sign_state_file(&config)).expect("a watermark");
    assert_eq!(state, Some(SignState::default()));
    done(&["init", "--home", &path, "--moniker", "bob"]);
    let again = Genesis::read(&home.genesis_file(&config)).expect("a genesis");
    assert_eq!(again.hash(), genesis.hash());
    assert_eq!(NodeKey::read(&home.node_key_file(&config)).expect("a key").id(), node.id());
    done(&["show-node-id", "--home", &path]);
    done(&["show_validator", "--home", &path]);
    done(&["keys", "show", "--home", &path]);
    let error = refused(&["keys", "generate", "validator", "--home", &path]);
    assert!(error.contains("not overwritten"), "{error}");
}

#[test]
fn init_names_what_it_cannot_do() {
    let (_folder, path) = temporary();
    let long = "x".repeat(51);
    let error = refused(&["init", "--home", &path, "--chain-id", &long]);
    assert!(error.contains("--chain-id"), "{error}");
    let error = refused(&["show-node-id", "--home", "/nowhere"]);
    assert!(error.contains("tercet init"), "{error}");
    let error = refused(&["init", "--home", "/proc/nowhere"]);
    assert!(error.starts_with("cannot create /proc/nowhere"), "{error}");
    std::fs::write(Home::new(&path).config_file(), "[p2p]\nladr = \"\"").expect("written");
    let error = refused(&["show-node-id", "--home", &path]);
    assert!(error.ends_with("did you mean \"p2p.laddr\"?"), "{error}");
}

#[test]
fn a_testnet_has_one_genesis_and_nodes_that_know_each_other() {
    let (_folder, path) = temporary();
    done(&[
        "testnet",
        "--v",
        "3",
        "--n",
        "1",
        "--o",
        &path,
        "--starting-ip-address",
        "10.0.0.254",
        "--p2p-port",
        "7",
        "--initial-height",
        "5",
    ]);
    let mut hashes = Vec::new();
    for index in 0..4 {
        let home = Home::new(Path::new(&path).join(format!("node{index}")));
        let loaded = Loaded::from_home(&home).expect("a configuration");
        loaded.check().expect("it fits");
        let peers = &loaded.config.p2p.persistent_peers;
        assert_eq!(peers.len(), 3);
        let own = NodeKey::read(&home.node_key_file(&loaded.config)).expect("a key").id();
        assert!(peers.iter().all(|peer| !peer.as_str().contains(&own)));
        assert_eq!(loaded.config.moniker, format!("node{index}"));
        if index == 0 {
            assert!(peers[0].as_str().ends_with("@10.0.0.255:7"), "{peers:?}");
            assert!(peers[1].as_str().ends_with("@10.0.1.0:7"), "{peers:?}");
        }
        let genesis = Genesis::read(&home.genesis_file(&loaded.config)).expect("a genesis");
        assert_eq!((genesis.validators.len(), genesis.initial_height.value()), (3, 5));
        assert_eq!(genesis.validators[1].name, "node1");
        hashes.push(genesis.hash());
    }
    hashes.dedup();
    assert_eq!(hashes.len(), 1);
    let error = refused(&["testnet", "--v", "1", "-o", &path]);
    assert!(error.contains("exists already"), "{error}");
}

#[test]
fn a_testnet_says_what_it_cannot_make() {
    let (folder, path) = temporary();
    for (args, reason) in [
        (vec!["--v", "0"], "--v must be"),
        (vec!["--v", "5000"], "1000 nodes"),
        (vec!["--v", "2", "--hostname", "a"], "--hostname is given 1 times"),
        (vec!["--v", "2", "--starting-ip-address", "255.255.255.255"], "not enough addresses"),
        (vec!["--config", "/nowhere.toml"], "cannot read /nowhere.toml"),
    ] {
        let error = refused(&[vec!["testnet", "-o", path.as_str()], args].concat());
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    done(&[
        "testnet",
        "--v",
        "1",
        "-o",
        &path,
        "--populate-persistent-peers=false",
        "--hostname-suffix",
        ".x",
    ]);
    let home = Home::new(Path::new(&path).join("node0"));
    let config = Loaded::from_home(&home).expect("a configuration").config;
    assert!(config.p2p.persistent_peers.is_empty());
    assert_eq!(config.moniker, "node0.x");
}

#[test]
fn reset_keeps_keys_and_the_watermark() {
    let (_folder, path) = temporary();
    done(&["init", "--home", &path]);
    let home = Home::new(&path);
    let config = Config::default();
    let watermark = home.sign_state_file(&config);
    SignState { height: 64 }.save(&watermark).expect("saved");
    let journal = home.data_dir(&config).join("journal");
    std::fs::create_dir(&journal).expect("a folder");
    std::fs::write(journal.join("FORMAT"), "x").expect("written");
    done(&["reset", "--home", &path]);
    assert!(!journal.exists());
    assert!(home.validator_key_file(&config).exists());
    let height = |path: &Path| SignState::load(path).expect("loaded").map(|state| state.height);
    assert_eq!(height(&watermark), Some(64));
    std::fs::create_dir(&journal).expect("a folder");
    done(&["reset-state", "--home", &path]);
    assert!(!journal.exists(), "CometBFT's name of it");
    assert_eq!(height(&watermark), Some(64));
    std::fs::create_dir(&journal).expect("a folder");
    std::fs::remove_file(&watermark).expect("removed");
    assert!(refused(&["reset", "--home", &path]).contains("is missing"));
    assert!(journal.exists());
    done(&["reset", "--home", &path, "--unsafe"]);
    assert!(!journal.exists());
    assert_eq!(height(&watermark), Some(0));
    for name in ["unsafe-reset-all", "unsafe_reset_all"] {
        std::fs::create_dir(&journal).expect("a folder");
        SignState { height: 64 }.save(&watermark).expect("saved");
        done(&[name, "--keep-addr-book", "--home", &path]);
        assert!(!journal.exists(), "CometBFT's name of the unsafe one");
        assert_eq!(height(&watermark), Some(0));
    }
}

#[test]
fn reset_of_a_home_that_is_not_there_is_no_success() {
    let (_folder, path) = temporary();
    assert_eq!(refused(&["reset", "--home", &path]), format!("there is no home at {path}"));
}

#[test]
fn reset_never_removes_keys_whatever_db_dir_says() {
    let (_folder, path) = temporary();
    done(&["init", "--home", &path]);
    let home = Home::new(&path);
    std::fs::write(home.config_file(), "db_dir = \"./config/..\"").expect("written");
    assert!(refused(&["reset", "--home", &path, "--unsafe"]).contains("must stay"));
    assert!(home.validator_key_file(&Config::default()).exists());
}

#[test]
fn reset_refuses_while_a_node_runs() {
    let (_folder, path) = temporary();
    done(&["init", "--home", &path]);
    let chain = Path::new(&path).join("data/chain");
    std::fs::create_dir(&chain).expect("a folder");
    let file = std::fs::File::create(chain.join("FORMAT")).expect("a file");
    let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock);
    let lock = lock.map_err(|(_, errno)| errno).expect("locked");
    assert!(refused(&["reset", "--home", &path]).contains("stop it first"));
    assert!(chain.exists());
    drop(lock);
    done(&["reset", "--home", &path]);
}

#[test]
fn start_refuses_another_genesis_and_a_remote_signer() {
    let (_folder, path) = temporary();
    done(&["init", "--home", &path]);
    let error = refused(&["start", "--home", &path, "--genesis_hash", "00"]);
    assert!(error.contains("has the SHA-256"), "{error}");
    let error = refused(&["start", "--home", &path, "--priv_validator_laddr", "tcp://h:1"]);
    assert!(error.contains("remote signers"), "{error}");
    let error = refused(&["start", "--home", &path, "--rpc.laddr", "nonsense"]);
    assert!(error.starts_with("command line: rpc.laddr: \"nonsense\""), "{error}");
}

/// A node that answers one request with `reply`, and its address.
fn node(reply: &'static str) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut request = Vec::new();
        let mut chunk = [0; 4096];
        // All requests here end with the end of a JSON object.
        while !request.ends_with(b"}") {
            let count = stream.read(&mut chunk).expect("a request");
            request.extend_from_slice(&chunk[..count]);
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", reply.len());
        stream.write_all(head.as_bytes()).expect("written");
        stream.write_all(reply.as_bytes()).expect("written");
        String::from_utf8(request).expect("text")
    });
    (format!("tcp://{address}"), thread)
}

#[test]
fn status_asks_the_node() {
    let (address, thread) = node(r#"{"jsonrpc":"2.0","id":1,"result":{"sync_info":{}}}"#);
    done(&["status", "--node", &address]);
    let request = thread.join().expect("a request");
    assert!(request.contains(r#""method":"status""#), "{request}");
}

#[test]
fn a_refused_transaction_is_an_error() {
    let (address, thread) = node(
        r#"{"jsonrpc":"2.0","id":1,"result":{"check_tx":{"code":2,"log":"bad"},"tx_result":{"code":0},"hash":"","height":"0"}}"#,
    );
    let error = refused(&["tx", "send", "a:b", "-n", &address]);
    assert_eq!(error, "refused by the application's check, code 2: bad");
    let request = thread.join().expect("a request");
    assert!(
        request.contains(r#""method":"broadcast_tx_commit","params":{"tx":"YTpi"}"#),
        "{request}"
    );
}

#[test]
fn a_query_sends_the_key_in_hexadecimal() {
    let (address, thread) = node(
        r#"{"jsonrpc":"2.0","id":1,"result":{"response":{"code":0,"log":"exists","value":"dg=="}}}"#,
    );
    done(&["query", "k", "--node", &address.replace("tcp", "http")]);
    let request = thread.join().expect("a request");
    assert!(request.contains(r#""data":"6b""#), "{request}");
}

#[test]
fn errors_of_the_node_and_of_the_way_to_it_are_one_line() {
    let (address, thread) = node(
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"Internal error","data":"tx already exists in cache"}}"#,
    );
    let error = refused(&["tx", "send", "k=v", "--node", &address]);
    assert_eq!(error, "the node refuses: tx already exists in cache");
    thread.join().expect("a request");
    let (address, thread) = node("<html>");
    assert!(refused(&["status", "--node", &address]).contains("is no node's RPC"));
    thread.join().expect("a request");
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one");
    let error = refused(&["status", "--node", &format!("tcp://{closed}")]);
    assert!(error.contains("--node says where"), "{error}");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("one").to_string();
    let error = refused(&["status", "--node", &address, "--timeout", "10ms"]);
    assert!(error.contains("--timeout"), "{error}");
    assert!(refused(&["status", "--node", "nowhere"]).contains("tcp://host:port"));
    assert!(refused(&["query", "0xzz"]).contains("hexadecimal"));
}

#[test]
fn versions_are_printed() {
    done(&["version"]);
    done(&["version", "--json"]);
    done(&["version", "-v"]);
}
