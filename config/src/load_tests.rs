//! The configuration file, variables, flags and the template.

use super::*;
use crate::{Listen, LogFormat, ProxyApp, Transport, format_duration};
use proptest::prelude::*;
use std::time::Duration;

const COMETBFT: &str = include_str!("cometbft_0_38.toml");
const ID: &str = "70d834561f91613153e4a873f01a2cbbf1b9678d";

fn parse(text: &str) -> Result<Loaded, ConfigError> {
    Loaded::from_text(text, Path::new("config.toml"))
}

fn read(text: &str) -> Loaded {
    parse(text).expect("a configuration")
}

fn error(text: &str) -> String {
    let error = parse(text).expect_err(text).to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn the_file_that_cometbft_writes_is_read_without_a_warning() {
    let loaded = read(COMETBFT);
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let expected = Config {
        proxy_app: ProxyApp::Socket(Listen::tcp("127.0.0.1", 26658)),
        moniker: "technodrome".into(),
        ..Config::default()
    };
    assert_eq!(loaded.config, expected);
    loaded.check().expect("nothing conflicts");
}

#[test]
fn every_key_of_cometbft_is_known_by_its_own_name() {
    let known: Vec<&str> = names().chain(SILENT.iter().copied()).collect();
    let table = DeTable::parse(COMETBFT).expect("TOML");
    let mut entries = Vec::new();
    flatten("", table.get_ref(), &mut entries);
    assert!(entries.len() > 90);
    for entry in entries {
        assert!(known.contains(&entry.path.as_str()), "{}", entry.path);
    }
}

#[test]
fn no_name_stands_twice() {
    let mut all: Vec<String> = names().map(variable).collect();
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count);
}

#[test]
fn a_key_without_meaning_warns_once_where_it_is_changed() {
    let text = "[consensus]\ntimeout_propose = \"2s\"\ntimeout_commit = \"0s\"\n[tx_index]\npsql-conn = \"host=h\"\n[statesync]\nenable = true\ntrust_period = \"168h\"\n";
    let warnings = read(text).warnings;
    assert_eq!(
        warnings,
        [
            "config.toml line 2: consensus.timeout_propose = \"2s\" has no effect in Tercet: PBFT has one timeout: consensus.view_change_timeout",
            "config.toml line 5: tx_index.psql-conn = \"host=h\" has no effect in Tercet: transactions are indexed in the node, not in PostgreSQL",
            "config.toml line 7: statesync.enable = true has no effect in Tercet: there is no state sync yet; blocks are fetched from peers",
        ]
    );
}

#[test]
fn the_tables_of_later_cometbft_warn_once_each() {
    let text = "[p2p.libp2p]\nenabled = true\nbootstrap_peers = [{ host = \"a\", id = \"b\" }]\n[p2p.libp2p.scaler]\nmin = 4\n[blocksync]\nadaptive_sync = true\n";
    let warnings = read(text).warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("[p2p.libp2p] has no effect"), "{warnings:?}");
}

#[test]
fn an_unknown_key_names_its_line_and_the_nearest() {
    for (text, line, nearest) in [
        ("\n\nmonicker = \"a\"", 3, "moniker"),
        ("[rpc]\nladdress = \"\"", 2, "rpc.laddr"),
        ("[consensus]\n# x\nview_change_timout = \"1s\"", 3, "consensus.view_change_timeout"),
        ("[consensus]\ntimeout_propse = \"1s\"", 2, "consensus.timeout_propose"),
        ("[p2p]\nmax_tx_bytes = 5", 2, "mempool.max_tx_bytes"),
        ("persistent_peers = \"\"", 1, "p2p.persistent_peers"),
        ("[p2p]\npersistent-peer = \"\"", 2, "p2p.persistent_peers"),
    ] {
        let error = error(text);
        assert!(error.starts_with(&format!("config.toml line {line}: unknown key")), "{error}");
        assert!(error.ends_with(&format!("did you mean \"{nearest}\"?")), "{error}");
    }
    assert!(error("zzz = 1").ends_with("docs/operator.md lists the keys"));
    assert!(error("[zzz]\nqqqq = 1").contains("\"zzz.qqqq\""));
}

#[test]
fn f_is_no_key() {
    for key in ["f", "max_faulty", "consensus.f"] {
        assert!(Config::default().set(key, "1").is_err(), "{key}");
    }
}

#[test]
fn a_wrong_value_names_its_line_its_key_and_what_is_right() {
    for (text, parts) in [
        ("[mempool]\nsize = -1", ["line 2: mempool.size", "whole number"]),
        ("[mempool]\nsize = 1.5", ["mempool.size", "whole number"]),
        ("[mempool]\nsize = \"many\"", ["mempool.size", "whole number"]),
        ("[mempool]\ntype = \"app\"", ["mempool.type", "\"flood\" or \"nop\""]),
        ("[mempool]\nttl-duration = 5", ["mempool.ttl-duration", "no unit"]),
        ("[mempool]\nrecheck = \"yes\"", ["mempool.recheck", "true or false"]),
        ("[consensus]\ncommit_grace = 20", ["consensus.commit_grace", "no unit"]),
        ("[consensus]\ncommit_grace = \"20\"", ["consensus.commit_grace", "300ms"]),
        ("[consensus]\ncommit_grace = \"-1s\"", ["consensus.commit_grace", "negative"]),
        ("[rpc]\nladdr = \"26657\"", ["rpc.laddr", "tcp://host:port"]),
        ("[rpc]\ncors_allowed_origins = [1]", ["rpc.cors_allowed_origins", "list of strings"]),
        ("[p2p]\npersistent_peers = \"a@b:1\"", ["p2p.persistent_peers", "40 hexadecimal"]),
        ("[p2p]\ntransport = \"udp\"", ["p2p.transport", "\"tcp\" or \"quic\""]),
        ("log_level = \"loud\"", ["log_level", "debug"]),
        ("moniker = 1979-05-27", ["moniker", "a string"]),
        ("rpc = 5", ["unknown key \"rpc\"", "did you mean \"rpc."]),
        ("moniker = \"a", ["config.toml line 1", ""]),
        ("moniker = \"a\"\nmoniker = \"b\"", ["config.toml line 2", "duplicate"]),
    ] {
        let error = error(text);
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn values_have_the_types_that_they_are_used_as() {
    let text = format!(
        "log_format = \"json\"\n[rpc]\nladdr = \"\"\n[p2p]\ntransport = \"quic\"\npersistent_peers = \"tcp://{ID}@h:1, /ip4/1.2.3.4/udp/5/quic-v1,\"\nunconditional_peer_ids = \"{ID}\"\n[mempool]\nsize = \"7\"\ncache_size = 0x10\nmax_txs_bytes = 1_000\n[consensus]\nview_change_timeout = \"1m30s\"\n"
    );
    let config = read(&text).config;
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(config.rpc.laddr, None);
    assert_eq!(config.p2p.transport, Transport::Quic);
    let peers: Vec<&str> = config.p2p.persistent_peers.iter().map(|peer| peer.as_str()).collect();
    assert_eq!(peers, [format!("{ID}@h:1").as_str(), "/ip4/1.2.3.4/udp/5/quic-v1"]);
    assert_eq!(config.p2p.unconditional_peer_ids.len(), 1);
    assert_eq!((config.mempool.size, config.mempool.cache_size), (7, 16));
    assert_eq!(config.mempool.max_txs_bytes, 1_000);
    assert_eq!(config.consensus.view_change_timeout, Duration::from_secs(90));
}

#[test]
fn empty_blocks_come_by_cometbfts_keys() {
    let interval = |on: &str, interval: &str| {
        let mut config = Config::default();
        config.set("consensus.create_empty_blocks", on).expect("a bool");
        config.set("consensus.create_empty_blocks_interval", interval).expect("a duration");
        config.consensus.empty_block_interval()
    };
    assert_eq!(interval("true", "0s"), Some(Duration::from_secs(1)));
    assert_eq!(interval("true", "5s"), Some(Duration::from_secs(5)));
    assert_eq!(interval("false", "5s"), None);
    assert_eq!(interval("false", "0"), None);
}

#[test]
fn variables_override_the_file_and_flags_override_variables() {
    let mut loaded =
        read("moniker = \"file\"\n[rpc]\nladdr = \"tcp://h:1\"\n[mempool]\nsize = 1\n");
    let variables = [
        ("TERCET_RPC_LADDR", "tcp://h:2"),
        ("TERCET_MEMPOOL_SIZE", "2"),
        ("TERCET_MEMPOOL_KEEP_INVALID_TXS_IN_CACHE", "true"),
        ("TERCET_HOME", "/elsewhere"),
        ("CMT_MONIKER", "comet"),
        ("TERCET_NONSENSE", "1"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    loaded.environment(variables).expect("variables");
    loaded.set("mempool.size", "3").expect("a flag");
    assert_eq!(loaded.config.moniker, "file");
    assert_eq!(loaded.config.rpc.laddr, Some(Listen::tcp("h", 2)));
    assert_eq!(loaded.config.mempool.size, 3);
    assert!(loaded.config.mempool.keep_invalid_txs_in_cache);
    assert_eq!(loaded.warnings, ["variable TERCET_NONSENSE is no key of the configuration"]);
}

#[test]
fn errors_of_variables_and_flags_name_them() {
    let mut loaded = Loaded::default();
    let variable = ("TERCET_MEMPOOL_SIZE".to_owned(), "x".to_owned());
    let error = loaded.environment([variable]).expect_err("no number").to_string();
    assert!(error.starts_with("variable TERCET_MEMPOOL_SIZE: mempool.size: \"x\""), "{error}");
    let error = loaded.set("p2p.persistent_pears", "").expect_err("no key").to_string();
    assert_eq!(
        error,
        "command line: unknown key \"p2p.persistent_pears\"; did you mean \"p2p.persistent_peers\"?"
    );
    loaded.set("p2p.external-address", "1.2.3.4:5").expect("a key with a dash");
    assert_eq!(loaded.config.p2p.external_address, "1.2.3.4:5");
    loaded.set("p2p.seed_mode", "true").expect("a key without meaning");
    assert_eq!(loaded.warnings.len(), 1);
}

#[test]
fn lists_are_written_with_commas_or_as_arrays() {
    let origins = |text: &str| {
        let mut config = Config::default();
        let set = config.set("rpc.cors_allowed_origins", text);
        set.map(|()| config.rpc.cors_allowed_origins)
    };
    assert_eq!(origins("a, b").expect("a list"), ["a", "b"]);
    assert_eq!(origins(r#"["a", "b"]"#).expect("a list"), ["a", "b"]);
    assert!(origins("[]").expect("a list").is_empty());
    assert!(origins("").expect("a list").is_empty());
    for text in ["[", "[1]", "[\"a\""] {
        let error = origins(text).expect_err(text).to_string();
        assert!(error.contains("a list of strings"), "{error}");
    }
}

#[test]
fn settings_that_do_not_fit_each_other_are_refused_with_both_names() {
    for (path, value, parts) in [
        ("priv_validator_laddr", "tcp://0.0.0.0:1", ["remote signers", "priv_validator_key_file"]),
        ("rpc.tls_cert_file", "a.pem", ["rpc.tls_cert_file", "needs rpc.tls_key_file"]),
        ("rpc.tls_key_file", "a.pem", ["rpc.tls_key_file", "needs rpc.tls_cert_file"]),
        ("mempool.size", "0", ["mempool.size", "1 or more"]),
        ("mempool.max_txs_bytes", "10", ["mempool.max_tx_bytes", "mempool.max_txs_bytes"]),
        ("consensus.max_batch_size", "0", ["consensus.max_batch_size", "1 or more"]),
        ("consensus.view_change_timeout", "4s", ["(\"4s\")", "ceiling (\"3s\")"]),
        ("consensus.view_change_timeout", "1ms", ["floor (\"300ms\")", "(\"1ms\")"]),
        ("consensus.view_change_timeout_floor", "0s", ["floor", "above 0"]),
        ("consensus.view_change_timeout_ceiling", "1h", ["ceiling", "10 minutes"]),
        ("consensus.commit_grace", "300ms", ["commit_grace", "must be below"]),
        ("p2p.laddr", "unix:///p2p.sock", ["p2p.laddr", "need a port"]),
        ("p2p.dial_timeout", "0s", ["p2p.dial_timeout", "above 0"]),
        ("rpc.experimental_subscription_buffer_size", "99", ["buffer_size", "from 100"]),
        ("rpc.experimental_websocket_write_buffer_size", "199", ["websocket_write", "from 200"]),
    ] {
        let mut loaded = Loaded::default();
        loaded.check().expect("the defaults fit");
        loaded.set(path, value).expect("a value");
        let error = loaded.check().expect_err(path).to_string();
        assert!(parts.iter().all(|part| error.contains(part)) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn the_template_says_the_defaults_and_has_every_key() {
    let text = Config::default().to_toml();
    let loaded = read(&text);
    assert_eq!(loaded, Loaded::default());
    let table = DeTable::parse(&text).expect("TOML");
    let mut entries = Vec::new();
    flatten("", table.get_ref(), &mut entries);
    entries.sort_by_key(|entry| entry.at);
    let written: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
    let known: Vec<&str> = KEYS.iter().map(|key| key.path).collect();
    assert_eq!(written, known);
}

#[test]
fn the_template_keeps_what_differs() {
    let mut config = Config::default();
    for (path, value) in [
        ("moniker", "a \"quoted\" \\ name\tü"),
        ("proxy_app", "unix:///app.sock"),
        ("rpc.laddr", ""),
        ("rpc.cors_allowed_origins", "https://a.example,*"),
        ("p2p.persistent_peers", "/ip4/1.2.3.4/tcp/5"),
        ("p2p.private_peer_ids", ID),
        ("log_level", "p2p:debug,*:error"),
        ("consensus.create_empty_blocks_interval", "1h0m0.5s"),
        ("rpc.unsafe", "true"),
        ("rpc.experimental_close_on_slow_client", "true"),
        ("tx_index.indexer", "null"),
        ("instrumentation.audit_log", "data/audit.log"),
    ] {
        config.set(path, value).expect(path);
    }
    assert_eq!(read(&config.to_toml()).config, config);
}

#[test]
fn the_operators_table_has_every_key() {
    let table = crate::keys_as_markdown();
    assert_eq!(table.lines().count(), KEYS.len() + 2);
    let guide = include_str!("../../docs/operator.md");
    for line in table.lines() {
        assert!(guide.contains(line), "docs/operator.md lacks: {line}");
    }
}

#[test]
fn a_home_without_a_file_has_the_defaults() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = Home::new(folder.path());
    assert_eq!(Loaded::from_home(&home).expect("defaults"), Loaded::default());
    home.ensure(&Config::default()).expect("folders");
    std::fs::write(home.config_file(), "moniker = \"here\"").expect("written");
    assert_eq!(Loaded::from_home(&home).expect("a file").config.moniker, "here");
    std::fs::write(home.config_file(), [0xff, 0xfe]).expect("written");
    assert!(matches!(Loaded::from_home(&home), Err(ConfigError::Read { .. })));
}

proptest! {
    #[test]
    fn any_duration_is_written_and_read_back(nanos in 0..=i64::MAX.unsigned_abs()) {
        let duration = Duration::from_nanos(nanos);
        let mut config = Config::default();
        config.set("p2p.dial_timeout", &format_duration(duration)).expect("a duration");
        prop_assert_eq!(config.p2p.dial_timeout, duration);
        prop_assert_eq!(read(&config.to_toml()).config, config);
    }

    #[test]
    fn any_name_is_written_and_read_back(name in "\\PC*") {
        let config = Config { moniker: name.trim().to_owned(), ..Config::default() };
        prop_assert_eq!(read(&config.to_toml()).config, config);
    }

    #[test]
    fn no_text_panics(text in "\\PC*") {
        let _ = parse(&text);
    }
}
