//! The application as the node calls it, against the rules of CometBFT's kvstore.

use super::validators::testing::{key, secp256k1};
use super::{Durability, KvStore};
use crate::optimistic::OptimisticApplication as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use tempfile::TempDir;
use tendermint_abci::Application as _;
use tendermint_proto::v0_38::abci::{
    Event, ExecTxResult, Misbehavior, MisbehaviorType, RequestCheckTx, RequestExtendVote,
    RequestFinalizeBlock, RequestInfo, RequestInitChain, RequestPrepareProposal,
    RequestProcessProposal, RequestQuery, RequestVerifyVoteExtension, ResponseCheckTx,
    ResponseCommit, ResponseFinalizeBlock, ResponseInfo, ResponseInitChain, ResponseQuery,
    Validator, ValidatorUpdate, response_process_proposal::ProposalStatus,
    response_verify_vote_extension::VerifyStatus,
};
use tendermint_proto::v0_38::crypto::{PublicKey, public_key::Sum};

/// A store and its folder.
struct Home {
    app: KvStore,
    folder: TempDir,
}

impl Home {
    fn new() -> Home {
        let folder = TempDir::new().unwrap();
        Home { app: open(&folder), folder }
    }

    /// Ends the process and starts another one: what was not committed is gone.
    fn restart(self) -> Home {
        let Home { app, folder } = self;
        drop(app);
        Home { app: open(&folder), folder }
    }
}

fn open(folder: &TempDir) -> KvStore {
    KvStore::open(&folder.path().join("kvstore.db"), Durability::Synced).unwrap()
}

fn finalize(app: &KvStore, height: i64, txs: &[&str]) -> ResponseFinalizeBlock {
    let txs = txs.iter().map(|tx| Bytes::copy_from_slice(tx.as_bytes())).collect();
    app.finalize_block(RequestFinalizeBlock { height, txs, ..Default::default() })
}

/// A whole block.
fn run(app: &KvStore, height: i64, txs: &[&str]) -> ResponseFinalizeBlock {
    let response = finalize(app, height, txs);
    assert_eq!(app.commit(), ResponseCommit { retain_height: 0 });
    response
}

fn query(app: &KvStore, path: &str, data: &[u8]) -> ResponseQuery {
    let data = Bytes::copy_from_slice(data);
    app.query(RequestQuery { path: path.to_owned(), data, height: 0, prove: false })
}

fn value(app: &KvStore, key: &str) -> Option<String> {
    let found = query(app, "", key.as_bytes());
    (found.log == "exists").then(|| String::from_utf8(found.value.to_vec()).unwrap())
}

/// Height and hash.
fn position(app: &KvStore) -> (i64, String) {
    let info = app.info(RequestInfo::default());
    (info.last_block_height, hex::encode(info.last_block_app_hash))
}

fn update(seed: u8, power: i64) -> ValidatorUpdate {
    let sum = Some(Sum::Ed25519(key(seed).as_bytes().to_vec()));
    ValidatorUpdate { pub_key: Some(PublicKey { sum }), power }
}

fn init(app: &KvStore, validators: Vec<ValidatorUpdate>) -> ResponseInitChain {
    app.init_chain(RequestInitChain { validators, ..Default::default() })
}

/// The transaction that sets a validator's power.
fn change(seed: u8, power: i64) -> String {
    format!("val=ed25519!{}!{power}", STANDARD.encode(key(seed).as_bytes()))
}

fn evidence(seed: u8, kind: MisbehaviorType, power: i64) -> Misbehavior {
    let address = Bytes::copy_from_slice(&Sha256::digest(key(seed).as_bytes())[..20]);
    let validator = Some(Validator { address, power });
    Misbehavior { r#type: kind.into(), validator, height: 1, ..Default::default() }
}

/// Type and attributes of an event: key, value, whether it is indexed.
fn told(event: &Event) -> (&str, Vec<(&str, &str, bool)>) {
    let attributes = event.attributes.iter();
    (&event.r#type, attributes.map(|a| (a.key.as_str(), a.value.as_str(), a.index)).collect())
}

fn expected_event<'a>(creator: &'a str, key: &'a str) -> (&'a str, Vec<(&'a str, &'a str, bool)>) {
    let attributes = vec![
        ("creator", creator, true),
        ("key", key, true),
        ("index_key", "index is working", true),
        ("noindex_key", "index is working", false),
    ];
    ("app", attributes)
}

#[test]
fn a_new_store_is_at_height_0_with_a_hash_of_eight_zeros() {
    let home = Home::new();
    let expected = ResponseInfo {
        data: "{\"size\":0}".to_owned(),
        version: "2.0.0".to_owned(),
        app_version: 1,
        last_block_height: 0,
        last_block_app_hash: Bytes::from_static(&[0; 8]),
    };
    assert_eq!(home.app.info(RequestInfo::default()), expected);
    let expected =
        ResponseInitChain { app_hash: Bytes::from_static(&[0; 8]), ..Default::default() };
    assert_eq!(init(&home.app, vec![update(1, 10)]), expected);
}

#[test]
fn info_tells_size_height_and_hash() {
    let home = Home::new();
    run(&home.app, 1, &["a=1", "b=2"]);
    let response = run(&home.app, 2, &["c=3"]);
    let info = home.app.info(RequestInfo::default());
    assert_eq!((info.data.as_str(), info.last_block_height), ("{\"size\":3}", 2));
    assert_eq!(hex::encode(&info.last_block_app_hash), "0600000000000000");
    assert_eq!(info.last_block_app_hash, response.app_hash);
}

#[test]
fn the_hash_is_that_after_the_transactions_of_the_block() {
    let home = Home::new();
    let hash = |height, txs: &[&str]| hex::encode(run(&home.app, height, txs).app_hash);
    assert_eq!(hash(1, &[]), "0000000000000000");
    assert_eq!(hash(2, &["a=1"]), "0200000000000000");
    assert_eq!(hash(3, &["a=1"; 63]), "8001000000000000");
    assert_eq!(hash(4, &[]), "8001000000000000");
    assert_eq!(hash(5, &["a=1"; 8128]), "8080010000000000");
}

#[test]
fn check_tx_has_code_0_and_gas_1_or_code_2() {
    let home = Home::new();
    let check = |tx: &str, kind| {
        let tx = Bytes::copy_from_slice(tx.as_bytes());
        home.app.check_tx(RequestCheckTx { tx, r#type: kind })
    };
    for kind in [0, 1] {
        let good = ResponseCheckTx { code: 0, gas_wanted: 1, ..Default::default() };
        let bad = ResponseCheckTx { code: 2, ..Default::default() };
        for tx in ["a=b", "a:b", &change(1, 5)] {
            assert_eq!(check(tx, kind), good, "{tx}");
        }
        for tx in ["", "a", "a=b=c", "a:b=c", "=b", "a:", "val=1", "val:1"] {
            assert_eq!(check(tx, kind), bad, "{tx}");
        }
    }
}

#[test]
fn a_proposal_has_the_valid_transactions_in_order_with_equals_signs() {
    let home = Home::new();
    let validator = change(1, 5);
    let txs = ["b:2", "bad", "a=1", "val:1", &validator, "x=y=z"].map(str::to_owned);
    let txs = txs.into_iter().map(Bytes::from).collect();
    let request = RequestPrepareProposal { txs, max_tx_bytes: 1, ..Default::default() };
    let prepared = home.app.prepare_proposal(request).txs;
    assert_eq!(prepared, ["b=2", "a=1", &validator]);

    let status = |txs| {
        home.app.process_proposal(RequestProcessProposal { txs, ..Default::default() }).status()
    };
    assert_eq!(status(prepared.clone()), ProposalStatus::Accept);
    assert_eq!(status(Vec::new()), ProposalStatus::Accept);
    for bad in ["b:2", "bad", "val:1", "val=1", "val=sr25519!AAAA!1", "a=b=c"] {
        let mut txs = prepared.clone();
        txs.push(Bytes::from(bad));
        assert_eq!(status(txs), ProposalStatus::Reject, "{bad}");
    }
}

#[test]
fn a_transaction_has_two_events() {
    let home = Home::new();
    let response = run(&home.app, 1, &["name=satoshi"]);
    let [result] = &response.tx_results[..] else { panic!("one result") };
    let events: Vec<_> = result.events.iter().map(told).collect();
    let expected =
        [expected_event("Cosmoshi Netowoko", "name"), expected_event("Cosmoshi", "satoshi")];
    assert_eq!(events, expected);
    let rest = ExecTxResult { events: Vec::new(), ..result.clone() };
    assert_eq!(rest, ExecTxResult::default());
    assert_eq!(response.events, []);
    assert_eq!(response.consensus_param_updates, None);
}

#[test]
fn the_events_of_a_validator_change_tell_all_of_it() {
    let home = Home::new();
    let tx = change(1, 5);
    let response = run(&home.app, 1, &[&tx]);
    let events: Vec<_> = response.tx_results[0].events.iter().map(told).collect();
    assert_eq!(events, [expected_event("Cosmoshi Netowoko", &tx), expected_event("Cosmoshi", &tx)]);
}

#[test]
fn bytes_that_are_no_text_are_kept_and_told_as_replacement_characters() {
    let home = Home::new();
    let txs = vec![Bytes::from_static(b"\xff\x00=\xfe")];
    let request = RequestFinalizeBlock { height: 1, txs, ..Default::default() };
    let response = home.app.finalize_block(request);
    home.app.commit();
    let events: Vec<_> = response.tx_results[0].events.iter().map(told).collect();
    assert_eq!(events[0], expected_event("Cosmoshi Netowoko", "\u{fffd}\0"));
    assert_eq!(query(&home.app, "", b"\xff\x00").value, Bytes::from_static(b"\xfe"));
}

#[test]
fn queries_tell_value_height_and_whether_it_exists() {
    let home = Home::new();
    run(&home.app, 1, &["a=1"]);
    run(&home.app, 2, &["a=2"]);
    let found = ResponseQuery {
        log: "exists".to_owned(),
        key: Bytes::from("a"),
        value: Bytes::from("2"),
        height: 2,
        ..Default::default()
    };
    for path in ["", "/store", "/key", "val"] {
        assert_eq!(query(&home.app, path, b"a"), found, "{path}");
    }
    let missing = ResponseQuery {
        log: "does not exist".to_owned(),
        key: Bytes::from("b"),
        height: 2,
        ..Default::default()
    };
    assert_eq!(query(&home.app, "", b"b"), missing);

    let request = RequestQuery { data: Bytes::from("a"), prove: true, ..Default::default() };
    let proven = ResponseQuery { index: -1, ..found };
    assert_eq!(home.app.query(RequestQuery { height: 1, ..request.clone() }), proven);
    assert_eq!(home.app.query(request), proven);
}

#[test]
fn a_validator_is_found_by_its_key() {
    let home = Home::new();
    init(&home.app, vec![update(1, 10)]);
    let stored = |seed| query(&home.app, "/val", key(seed).as_bytes());
    let mut golden = vec![38, 0x0a, 34, 0x0a, 32];
    golden.extend_from_slice(key(1).as_bytes());
    golden.extend_from_slice(&[0x10, 10]);
    let expected = ResponseQuery {
        key: Bytes::copy_from_slice(key(1).as_bytes()),
        value: Bytes::from(golden),
        ..Default::default()
    };
    assert_eq!(stored(1), expected);
    run(&home.app, 1, &[&change(2, 300)]);
    let found = ValidatorUpdate::decode_length_delimited(stored(2).value).unwrap();
    assert_eq!(found, update(2, 300));
    assert_eq!(stored(3).value, Bytes::new());
    run(&home.app, 2, &[&change(1, 0)]);
    assert_eq!(stored(1).value, Bytes::new());
}

#[test]
fn validator_changes_are_told_once_a_validator_in_order() {
    let home = Home::new();
    init(&home.app, vec![update(1, 10), update(2, 10)]);
    let txs = [change(3, 5), change(1, 7), change(3, 6), change(2, 0)];
    let response = run(&home.app, 1, &[&txs[0], "a=b", &txs[1], &txs[2], &txs[3]]);
    assert_eq!(response.validator_updates, [update(3, 6), update(1, 7), update(2, 0)]);
    assert!(response.tx_results.iter().all(|result| result.code == 0));
    assert_eq!(run(&home.app, 2, &["c=d"]).validator_updates, []);
}

#[test]
fn a_validator_change_that_would_stop_the_chain_has_code_3() {
    let home = Home::new();
    init(&home.app, vec![update(1, 10)]);
    let much = i64::MAX / 8;
    let txs = [change(1, 0), change(2, 0), change(2, much), change(2, much - 10)];
    let response = run(&home.app, 1, &[&txs[0], &txs[1], &txs[2], &txs[3]]);
    let codes: Vec<_> =
        response.tx_results.iter().map(|result| (result.code, result.log.as_str())).collect();
    let too_much = "the powers would be more than 1152921504606846975 in total";
    let expected = [
        (3, "it is the last validator"),
        (3, "there is no such validator"),
        (3, too_much),
        (0, ""),
    ];
    assert_eq!(codes, expected);
    assert_eq!(response.tx_results[0].events, []);
    assert_eq!(response.validator_updates, [update(2, much - 10)]);
    assert_eq!(hex::encode(response.app_hash), "0800000000000000");
}

#[test]
fn a_malformed_transaction_in_a_block_has_code_2_and_sets_nothing() {
    let home = Home::new();
    let response = run(&home.app, 1, &["a:b", "val=1", "x", "c=d"]);
    let codes: Vec<_> = response.tx_results.iter().map(|result| result.code).collect();
    assert_eq!(codes, [2, 2, 2, 0]);
    assert_eq!(value(&home.app, "a"), None);
    assert_eq!(value(&home.app, "c"), Some("d".to_owned()));
    assert_eq!(hex::encode(response.app_hash), "0800000000000000");
}

#[test]
fn a_double_signer_loses_one_of_the_power_that_it_had() {
    let home = Home::new();
    init(&home.app, vec![update(1, 10), update(2, 10), update(3, 1)]);
    let misbehavior = vec![
        evidence(1, MisbehaviorType::DuplicateVote, 8),
        evidence(2, MisbehaviorType::LightClientAttack, 10),
        evidence(3, MisbehaviorType::DuplicateVote, 1),
        evidence(4, MisbehaviorType::DuplicateVote, 10),
        Misbehavior { r#type: MisbehaviorType::DuplicateVote.into(), ..Default::default() },
    ];
    let request = RequestFinalizeBlock { height: 1, misbehavior, ..Default::default() };
    let updates = home.app.finalize_block(request).validator_updates;
    assert_eq!(updates, [update(1, 7), update(3, 0)]);
}

#[test]
fn the_store_survives_a_restart() {
    let home = Home::new();
    init(&home.app, vec![update(1, 10), update(2, 10)]);
    run(&home.app, 1, &["a=1", &change(3, 5), &change(2, 0)]);
    let before = position(&home.app);
    let home = home.restart();
    assert_eq!(position(&home.app), before);
    assert_eq!(before, (1, "0600000000000000".to_owned()));
    assert_eq!(value(&home.app, "a"), Some("1".to_owned()));

    // The set is known again: 2 is gone, and 3 is there to be punished.
    let misbehavior = vec![
        evidence(2, MisbehaviorType::DuplicateVote, 10),
        evidence(3, MisbehaviorType::DuplicateVote, 5),
    ];
    let request = RequestFinalizeBlock { height: 2, misbehavior, ..Default::default() };
    assert_eq!(home.app.finalize_block(request).validator_updates, [update(3, 4)]);
}

#[test]
fn a_crash_before_commit_leaves_the_old_height() {
    let home = Home::new();
    init(&home.app, vec![update(1, 10)]);
    run(&home.app, 1, &["a=1"]);
    let (before, txs) = (position(&home.app), ["a=2", "b=2", &change(2, 5)]);
    let lost = finalize(&home.app, 2, &txs);
    let home = home.restart();
    assert_eq!(position(&home.app), before);
    assert_eq!(value(&home.app, "a"), Some("1".to_owned()));
    assert_eq!(query(&home.app, "/val", key(2).as_bytes()).value, Bytes::new());
    assert_eq!(run(&home.app, 2, &txs), lost);
    assert_eq!(value(&home.app, "b"), Some("2".to_owned()));
}

#[test]
fn a_block_that_is_executed_twice_counts_once() {
    let home = Home::new();
    let first = finalize(&home.app, 1, &["a=1"]);
    assert_eq!(run(&home.app, 1, &["a=1"]), first);
    assert_eq!(position(&home.app), (1, "0200000000000000".to_owned()));
    home.app.commit();
    assert_eq!(position(&home.app), (1, "0200000000000000".to_owned()));
}

#[test]
fn a_block_is_not_seen_before_its_commit() {
    let home = Home::new();
    finalize(&home.app, 1, &["a=1"]);
    assert_eq!(position(&home.app).0, 0);
    assert_eq!(value(&home.app, "a"), None);
    home.app.commit();
    assert_eq!(position(&home.app).0, 1);
    assert_eq!(value(&home.app, "a"), Some("1".to_owned()));
}

#[test]
fn a_chain_that_is_initialised_again_has_the_new_validators() {
    let home = Home::new();
    init(&home.app, vec![update(1, 10), update(2, 10)]);
    let home = home.restart();
    init(&home.app, vec![update(2, 20)]);
    assert_eq!(query(&home.app, "/val", key(1).as_bytes()).value, Bytes::new());
    let codes = run(&home.app, 1, &[&change(1, 0), &change(2, 0)]).tx_results;
    assert!(codes.iter().all(|result| result.code == 3), "{codes:?}");
}

#[test]
fn clones_are_the_same_store() {
    let home = Home::new();
    let (consensus, clone) = (home.app.clone(), home.app.clone());
    run(&consensus, 1, &["a=1"]);
    assert_eq!(value(&clone, "a"), Some("1".to_owned()));
    assert_eq!(position(&clone), position(&consensus));
}

#[test]
fn a_database_without_its_current_file_is_not_begun_anew() {
    let folder = TempDir::new().expect("a folder");
    drop(open(&folder));
    let database = folder.path().join("kvstore.db");
    std::fs::remove_file(database.join("CURRENT")).expect("removed");
    let opened = KvStore::open(&database, Durability::Synced);
    assert!(opened.is_err_and(|error| error.to_string().contains("remove the folder")));
}

#[test]
fn there_are_no_vote_extensions() {
    let app = Home::new().app;
    assert!(app.extend_vote(RequestExtendVote::default()).vote_extension.is_empty());
    let verified = app.verify_vote_extension(RequestVerifyVoteExtension::default());
    assert_eq!(verified.status(), VerifyStatus::Accept);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Blocks of random transactions, some lost in a crash before their commit and executed again, against a map.
    #[test]
    fn it_agrees_with_a_map(
        blocks in proptest::collection::vec((proptest::collection::vec("[a-c]{1,2}=[x-z]{1,3}", 0..6), any::<bool>()), 1..8)
    ) {
        let mut home = Home::new();
        let (mut model, mut size) = (BTreeMap::new(), 0_u8);
        for (height, (txs, crashes)) in (1..).zip(&blocks) {
            let txs: Vec<_> = txs.iter().map(String::as_str).collect();
            if *crashes {
                finalize(&home.app, height, &txs);
                home = home.restart();
            }
            run(&home.app, height, &txs);
            for tx in txs {
                model.extend(tx.split_once('='));
                size += 1;
            }
            prop_assert_eq!(position(&home.app), (height, format!("{:02x}00000000000000", size * 2)));
        }
        for (key, expected) in model {
            prop_assert_eq!(value(&home.app, key), Some(expected.to_owned()));
        }
    }
}

/// What a block of these transactions is asked for.
fn block(height: i64, txs: &[String]) -> RequestFinalizeBlock {
    let txs = txs.iter().map(|tx| Bytes::from(tx.clone())).collect();
    RequestFinalizeBlock { height, txs, ..Default::default() }
}

/// A transaction of a block: pairs and changes of three validators.
fn some_tx() -> impl Strategy<Value = String> {
    let change = (0..3_u8, 0..4_u64).prop_map(|(n, power)| {
        format!("val=ed25519!{}!{power}", STANDARD.encode(key(n).as_bytes()))
    });
    prop_oneof![4 => "[a-c]=[x-z]{1,3}", 1 => change]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// A store that executes blocks before they are decided is the same as one that does not, whichever is decided.
    #[test]
    fn executing_ahead_changes_nothing_whatever_is_decided(
        blocks in prop::collection::vec(
            (prop::collection::vec(some_tx(), 0..5), prop::collection::vec(some_tx(), 0..5), any::<bool>()),
            1..4,
        ),
    ) {
        let (ahead, plain) = (Home::new(), Home::new());
        for (height, (decided, other, lucky)) in (1..).zip(&blocks) {
            let (decided, other) = (block(height, decided), block(height, other));
            let response = if *lucky {
                drop(ahead.app.execute(&other));
                let (response, work) = ahead.app.execute(&decided);
                ahead.app.adopt(work);
                response
            } else {
                drop(ahead.app.execute(&decided));
                drop(ahead.app.execute(&other));
                ahead.app.finalize_block(decided.clone())
            };
            prop_assert_eq!(response, plain.app.finalize_block(decided));
            ahead.app.commit();
            plain.app.commit();
        }
        let (ahead, plain) = (ahead.restart(), plain.restart());
        prop_assert_eq!(ahead.app.info(RequestInfo::default()), plain.app.info(RequestInfo::default()));
        for n in 0..3 {
            let of = |home: &Home| query(&home.app, "/val", key(n).as_bytes());
            prop_assert_eq!(of(&ahead), of(&plain));
        }
        for name in ["a", "b", "c"] {
            prop_assert_eq!(query(&ahead.app, "", name.as_bytes()), query(&plain.app, "", name.as_bytes()));
        }
    }
}

#[test]
fn nobody_sees_a_block_that_was_executed_and_not_decided() {
    let home = Home::new();
    run(&home.app, 1, &["a=1"]);
    let before = home.app.info(RequestInfo::default());
    drop(home.app.execute(&block(2, &["a=2".into(), "b=1".into()])));
    assert_eq!(home.app.commit(), ResponseCommit::default(), "there is nothing to commit");
    assert_eq!(home.app.info(RequestInfo::default()), before);
    assert_eq!(query(&home.app, "", b"a").value, "1");
}

/// CometBFT's `UpdateValidator` takes both kinds (`abci/types/pubkey.go`).
#[test]
fn validators_with_secp256k1_keys_come_go_and_are_stored() {
    let home = Home::new();
    let [one, two] = secp256k1();
    let of = |key: &[u8], power| {
        let pub_key = Some(PublicKey { sum: Some(Sum::Secp256k1(key.to_vec())) });
        ValidatorUpdate { pub_key, power }
    };
    let validators = vec![of(one.as_bytes(), 10)];
    home.app.init_chain(RequestInitChain { validators, ..Default::default() });
    let change = |key: &[u8], power| format!("val=secp256k1!{}!{power}", STANDARD.encode(key));
    let ed25519 = format!("val=ed25519!{}!5", STANDARD.encode(key(1).as_bytes()));
    let response = run(&home.app, 1, &[&change(two.as_bytes(), 7), &ed25519]);
    let codes: Vec<u32> = response.tx_results.iter().map(|result| result.code).collect();
    assert_eq!(codes, [0, 3], "no validator has an ed25519 key");
    assert_eq!(response.validator_updates, [of(two.as_bytes(), 7)]);
    let home = home.restart();
    assert!(!query(&home.app, "/val", two.as_bytes()).value.is_empty());
    let response = run(&home.app, 2, &[&change(one.as_bytes(), 0)]);
    assert_eq!(response.validator_updates, [of(one.as_bytes(), 0)]);
    assert!(query(&home.app, "/val", one.as_bytes()).value.is_empty());
}
