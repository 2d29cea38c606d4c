//! The genesis.

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const KEY: &str = "bNNlGls5R25wC3Sd8720F/3+7IZBhXcD22MNFtPk/v0=";
const ADDRESS: &str = "2DD9F44FD9067555C322243C3C913BA7B51D2BE0";

/// What CometBFT 0.38 writes.
fn comet() -> Value {
    json!({
        "genesis_time": "2023-05-17T14:12:48.347696215Z",
        "chain_id": "dockerchain",
        "initial_height": "1",
        "consensus_params": {
            "block": { "max_bytes": "22020096", "max_gas": "-1" },
            "evidence": {
                "max_age_num_blocks": "100000",
                "max_age_duration": "172800000000000",
                "max_bytes": "1048576"
            },
            "validator": { "pub_key_types": ["ed25519"] },
            "version": { "app": "0" },
            "abci": { "vote_extensions_enable_height": "0" }
        },
        "validators": [{
            "address": ADDRESS,
            "pub_key": { "type": "tendermint/PubKeyEd25519", "value": KEY },
            "power": "10",
            "name": ""
        }],
        "app_hash": ""
    })
}

/// The file with one value replaced, or a key removed by `null`.
fn with(pointer: &str, value: Value) -> String {
    let mut genesis = comet();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let place = genesis.pointer_mut(parent).expect("the parent exists");
    match place {
        Value::Array(items) => {
            let index: usize = name.parse().expect("an index");
            items.truncate(index);
            items.push(value);
        }
        Value::Object(map) if value.is_null() => {
            map.remove(name);
        }
        Value::Object(map) => {
            map.insert(name.to_owned(), value);
        }
        _ => panic!("{pointer} has no parent"),
    }
    genesis.to_string()
}

fn parse(text: &str) -> Genesis {
    Genesis::parse(text).expect("a genesis")
}

#[test]
fn the_file_of_cometbft_is_read() {
    let genesis = parse(&comet().to_string());
    assert_eq!(genesis.time.to_rfc3339(), "2023-05-17T14:12:48.347696215Z");
    assert_eq!(genesis.chain_id, "dockerchain");
    assert_eq!(genesis.initial_height.value(), 1);
    assert_eq!(genesis.params, params::default());
    let [validator] = genesis.validators.as_slice() else { panic!("one validator") };
    assert_eq!((validator.power, validator.name.as_str()), (10, ""));
    assert_eq!(tendermint::account::Id::from(validator.public_key).to_string(), ADDRESS);
    assert!(genesis.app_hash.is_empty() && genesis.app_state.is_none());
    assert_eq!(
        genesis.tercet,
        ChainParams { primary_term: 64, min_block_interval: Duration::ZERO }
    );
    assert!(genesis.ignored.is_empty());
}

#[test]
fn what_is_left_out_has_cometbfts_defaults() {
    let genesis = parse(r#"{"genesis_time":"2026-01-31T13:00:00+01:00","chain_id":"c"}"#);
    assert_eq!(genesis.time.to_rfc3339(), "2026-01-31T12:00:00Z");
    assert_eq!(genesis.initial_height.value(), 1);
    assert_eq!(genesis.params, params::default());
    assert!(genesis.validators.is_empty());
    let numbers = parse(&with("/initial_height", json!(7)));
    assert_eq!(numbers.initial_height.value(), 7);
    assert_eq!(parse(&with("/initial_height", json!("0"))).initial_height.value(), 1);
    let unlimited = parse(&with("/consensus_params/block/max_bytes", json!("-1")));
    assert_eq!(unlimited.params.block.max_bytes, u64::MAX);
    assert_eq!(parse(&with("/app_hash", json!("0a0B"))).app_hash, [10, 11]);
    assert_eq!(
        parse(&with("/consensus_params/version", json!({"app_version": "3"})))
            .params
            .version
            .map(|v| v.app),
        Some(3)
    );
    assert_eq!(parse(&with("/validators/0/address", Value::Null)).validators.len(), 1);
    assert!(parse(&with("/app_state", Value::Null)).app_state.is_none());
}

#[test]
fn unknown_keys_are_ignored_and_named() {
    assert_eq!(parse(&with("/app_version", json!("1"))).ignored, ["app_version"]);
}

#[test]
fn the_chain_parameters_of_tercet_are_read() {
    let object = json!({ "primary_term": "8", "min_block_interval": "250ms" });
    let genesis = parse(&with("/tercet", object));
    let expected = ChainParams { primary_term: 8, min_block_interval: Duration::from_millis(250) };
    assert_eq!(genesis.tercet, expected);
    assert!(genesis.tercet_raw.is_some());
    assert_eq!(parse(&with("/tercet", json!({}))).tercet, ChainParams::default());
}

#[test]
fn every_broken_rule_is_named_in_one_line() {
    let validator = |kind: &str, key: &str, power: Value| json!([{ "pub_key": { "type": kind, "value": key }, "power": power, "name": "" }]);
    let kind = "tendermint/PubKeyEd25519";
    let twice = json!([comet()["validators"][0], comet()["validators"][0]]);
    for (pointer, value, reason) in [
        ("/chain_id", json!(""), "chain_id is missing"),
        ("/chain_id", json!("x".repeat(51)), "51 bytes"),
        ("/genesis_time", Value::Null, "genesis_time is missing"),
        ("/genesis_time", json!("0001-01-01T00:00:00Z"), "genesis_time is missing"),
        ("/genesis_time", json!("yesterday"), "is no time"),
        ("/initial_height", json!("-1"), "initial_height"),
        ("/initial_height", json!("4611686018427387905"), "from 1 to 4611686018427387904"),
        ("/initial_height", json!("9223372036854775808"), "63 bits"),
        ("/initial_height", json!(1.5), "whole"),
        ("/app_hash", json!("xyz"), "hexadecimal"),
        (
            "/validators",
            twice,
            "validators[1]: 2DD9F44FD9067555C322243C3C913BA7B51D2BE0 stands there twice",
        ),
        ("/validators", validator(kind, KEY, json!("0")), "validators[0]: power must be 1 or more"),
        ("/validators", validator(kind, KEY, json!("-5")), "power must be"),
        ("/validators", validator(kind, KEY, json!("1152921504606846976")), "more voting power"),
        ("/validators", validator("tendermint/PubKeySecp256k1", KEY, json!("1")), "secp256k1"),
        (
            "/validators",
            validator("ed25519", KEY, json!("1")),
            "must be \"tendermint/PubKeyEd25519\"",
        ),
        ("/validators", validator(kind, "AAAA", json!("1")), "3 bytes"),
        ("/validators", validator(kind, "*", json!("1")), "base64"),
        ("/validators/0/address", json!("00"), "is not that of pub_key"),
        (
            "/consensus_params/block",
            json!({}),
            "block.max_bytes must be -1 or from 1 to 104857600, and is 0",
        ),
        ("/consensus_params/block/max_bytes", json!("104857601"), "block.max_bytes"),
        ("/consensus_params/block/max_bytes", json!("-2"), "block.max_bytes"),
        ("/consensus_params/block/max_bytes", json!("1000"), "is above block.max_bytes"),
        ("/consensus_params/block/max_gas", json!("-2"), "block.max_gas"),
        ("/consensus_params/evidence/max_age_num_blocks", json!("0"), "max_age_num_blocks"),
        ("/consensus_params/evidence/max_age_duration", json!("-1"), "max_age_duration"),
        ("/consensus_params/evidence/max_bytes", json!("-1"), "evidence.max_bytes"),
        ("/consensus_params/validator/pub_key_types", json!([]), "pub_key_types is empty"),
        ("/consensus_params/validator/pub_key_types", json!(["bls12_381"]), "is not supported"),
        ("/consensus_params/version/app", json!("-1"), "version.app"),
        (
            "/consensus_params/abci/vote_extensions_enable_height",
            json!("-1"),
            "vote_extensions_enable_height is -1",
        ),
        ("/tercet", json!({ "primary_turn": "8" }), "unknown field `primary_turn`"),
        ("/tercet", json!({ "primary_term": "0" }), "primary_term"),
        ("/tercet", json!({ "min_block_interval": "5" }), "min_block_interval"),
        ("/tercet", json!({ "min_block_interval": "1h" }), "below an hour"),
        ("/tercet", json!([]), "tercet"),
    ] {
        let error = Genesis::parse(&with(pointer, value)).expect_err(reason).to_string();
        assert!(error.contains(reason) && !error.contains('\n'), "{pointer}: {error}");
    }
    for text in ["", "null", "[]", "{", "\u{0}", "{\"chain_id\":\"a\",\"chain_id\":\"b\"}"] {
        let error = Genesis::parse(text).expect_err(text).to_string();
        assert!(error.contains("CometBFT's format") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn vote_extensions_and_secp256k1_validators_are_read_and_written() {
    let begin = with("/consensus_params/abci/vote_extensions_enable_height", json!("7"));
    let genesis = parse(&begin);
    let set = genesis.params.abci.vote_extensions_enable_height;
    assert_eq!(set.map(|height| height.value()), Some(7));
    assert_eq!(parse(&genesis.to_json()).hash(), genesis.hash());
    let key = STANDARD.encode(
        hex::decode("02950e1cdfcb133d6024109fd489f734eeb4502418e538c28481f22bce276f248c")
            .expect("hexadecimal"),
    );
    let typed = json!({ "type": "tendermint/PubKeySecp256k1", "value": key });
    let validators = json!([{ "pub_key": typed, "power": "3", "name": "",
        "address": "7C2BB42A8BE69791EC763E51F5A49BCD41E82237" }]);
    let alone = with("/validators", validators);
    let error = Genesis::parse(&alone).expect_err("not permitted").to_string();
    assert!(error.contains("pub_key_types") && error.contains("secp256k1"), "{error}");
    let mut permitted: Value = serde_json::from_str(&alone).expect("JSON");
    permitted["consensus_params"]["validator"]["pub_key_types"] = json!(["secp256k1"]);
    let genesis = parse(&permitted.to_string());
    assert!(matches!(genesis.validators[0].public_key, tendermint::PublicKey::Secp256k1(_)));
    assert_eq!(parse(&genesis.to_json()).hash(), genesis.hash());
}

#[test]
fn the_hash_knows_the_chain_and_not_the_file() {
    let genesis = parse(&comet().to_string());
    let pretty = serde_json::to_string_pretty(&comet()).expect("text");
    assert_eq!(parse(&pretty).hash(), genesis.hash());
    assert_eq!(parse(&with("/initial_height", json!(1))).hash(), genesis.hash());
    assert_eq!(parse(&with("/consensus_params", Value::Null)).hash(), genesis.hash());
    assert_eq!(
        parse(&with("/genesis_time", json!("2023-05-17T16:12:48.347696215+02:00"))).hash(),
        genesis.hash()
    );
    assert_eq!(parse(&with("/tercet", json!({ "primary_term": 64 }))).hash(), genesis.hash());
    assert_eq!(parse(&with("/unknown", json!(1))).hash(), genesis.hash());
}

#[test]
fn the_hash_changes_with_every_field() {
    let mut hashes = std::collections::HashSet::from([parse(&comet().to_string()).hash()]);
    for (pointer, value) in [
        ("/genesis_time", json!("2023-05-17T14:12:48.347696216Z")),
        ("/chain_id", json!("dockerchain2")),
        ("/initial_height", json!("2")),
        ("/consensus_params/block/max_bytes", json!("22020095")),
        ("/consensus_params/block/max_gas", json!("0")),
        ("/consensus_params/evidence/max_age_num_blocks", json!("1")),
        ("/consensus_params/evidence/max_age_duration", json!("1")),
        ("/consensus_params/evidence/max_bytes", json!("1")),
        ("/consensus_params/validator/pub_key_types", json!(["ed25519", "ed25519"])),
        ("/consensus_params/version/app", json!("1")),
        ("/validators", json!([])),
        ("/validators/0/power", json!("11")),
        ("/validators/0/name", json!("alice")),
        ("/app_hash", json!("00")),
        ("/app_state", json!({})),
        ("/app_state", json!("")),
        ("/tercet", json!({ "primary_term": 63 })),
        ("/tercet", json!({ "min_block_interval": "1ns" })),
    ] {
        assert!(hashes.insert(parse(&with(pointer, value)).hash()), "{pointer}");
    }
}

/// Changing this changes the identity of every chain: nodes with other hashes refuse each other.
#[test]
fn the_hash_is_pinned() {
    let genesis = parse(&with("/app_state", json!({ "a": 1 })));
    assert_eq!(
        hex::encode(genesis.hash()),
        "723a3153d6930e91d3270d613ea6a4e080c405365298556766dac0532d249765"
    );
}

#[test]
fn the_application_state_is_kept_and_hashed_byte_for_byte() {
    let file =
        |state: &str| comet().to_string().replacen('{', &format!("{{\"app_state\":{state},"), 1);
    let odd = "{ \"b\" : 1.50,\n\t\"a\":\"\\u003c\" }";
    let genesis = parse(&file(odd));
    assert_eq!(genesis.app_state.as_ref().map(|state| state.get()), Some(odd));
    assert_ne!(genesis.hash(), parse(&file("{\"b\":1.5,\"a\":\"<\"}")).hash());
    let written = parse(&genesis.to_json());
    assert_eq!(written.hash(), genesis.hash());
}

#[test]
fn a_written_genesis_is_read_back_and_never_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("genesis.json");
    let validators = parse(&comet().to_string()).validators;
    let mut genesis = Genesis::new("chain", Time::unix_epoch(), validators);
    genesis.params.block.max_bytes = u64::MAX;
    genesis.tercet.min_block_interval = Duration::from_millis(5);
    genesis.create(&path).expect("written");
    let read = Genesis::read(&path).expect("read");
    assert_eq!(read.hash(), genesis.hash());
    assert!(genesis.create(&path).is_err());
    let text = genesis.to_json();
    assert!(text.contains("\n  \"tercet\": {\n    \"primary_term\": \"64\",\n"), "{text}");
    let missing = Genesis::read(&folder.path().join("none")).expect_err("none").to_string();
    assert!(missing.contains("tercet init"), "{missing}");
    std::fs::write(&path, "{}").expect("written");
    let error = Genesis::read(&path).expect_err("no genesis").to_string();
    assert!(error.starts_with(&path.display().to_string()), "{error}");
}
