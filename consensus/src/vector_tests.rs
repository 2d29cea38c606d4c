//! Golden vectors: every byte string that is signed or hashed, against what CometBFT makes of the same. What is embedded is always
//! checked; the folder of public test suites that `TERCET_VECTORS` names is checked where it is set.

use crate::block::{Block, BlockId, SealedBlock};
use crate::commit::{Commit, commit_hash};
use crate::key::{PublicKey, Signature};
use crate::message::{Phase, PreparedClaim, Proposal, ViewChange, Vote};
use crate::sign_bytes;
use crate::testing::messages::{block_id, view};
use crate::validators::Validators;
use crate::verify::{Context, Direct, Reject};
use serde_json::Value;
use std::path::PathBuf;
use tendermint::block::{Header, Height};
use tendermint::{Hash, Time};
use tendermint_proto::v0_38::types as pb;

const BLOCK_10: &str = include_str!("vectors/block_10.json");
const SPECCHECK: &str = include_str!("vectors/speccheck.json");

/// A file of the public test suites; says so where they are not there.
fn external(path: &str) -> Option<Value> {
    let Some(folder) = std::env::var_os("TERCET_VECTORS") else {
        println!("TERCET_VECTORS is not set: {path} is not checked, the embedded vectors are");
        return None;
    };
    let file = PathBuf::from(folder).join(path);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    Some(serde_json::from_str(&text).unwrap())
}

fn time(text: &str) -> Time {
    Time::parse_from_rfc3339(text).unwrap()
}

fn vote_of(phase: Phase, height: u32, round: u32, id: BlockId, at: Time) -> Vote {
    let validator = tendermint::account::Id::new([7; 20]);
    let height = Height::from(height);
    Vote {
        phase,
        height,
        view: view(round),
        block_id: id,
        time: at,
        validator,
        index: 0,
        extension: None,
    }
}

/// CometBFT `types/vote_test.go`, `TestVoteSignBytesTestVectors`, cases 1, 2 and 4 (with a type, which case 4 lacks).
#[test]
fn votes_are_signed_as_cometbft_signs_them() {
    let zero = time("0001-01-01T00:00:00Z");
    let rest = "1101000000000000001901000000000000002a0b088092b8c398feffffff01";
    for (phase, kind) in [(Phase::Commit, "0802"), (Phase::Prepare, "0801")] {
        let vote = vote_of(phase, 1, 1, BlockId::default(), zero);
        assert_eq!(hex::encode(sign_bytes::vote("", &vote)), format!("21{kind}{rest}"));
        let chain_id = format!("30{kind}{rest}320d746573745f636861696e5f6964");
        assert_eq!(hex::encode(sign_bytes::vote("test_chain_id", &vote)), chain_id);
    }
}

/// tendermint-rs `tendermint/src/proposal.rs`, made by Tendermint's Go code.
#[test]
fn proposals_are_signed_as_cometbft_signs_them() {
    let hash = "deadbeefdeadbeefbafbafbafbafbafadeadbeefdeadbeefbafbafbafbafbafa";
    let parts = "0022446688aaccee1133557799bbddff0022446688aaccee1133557799bbddff";
    let sha = |text: &str| Hash::Sha256(hex::decode(text).unwrap().try_into().unwrap());
    let part_set_header = tendermint::block::parts::Header::new(65_535, sha(parts)).unwrap();
    let mut proposal = Proposal {
        height: Height::from(12_345u32),
        view: view(23_456),
        prepared_view: None,
        block_id: BlockId { hash: sha(hash), part_set_header },
        time: time("2018-02-11T07:09:22.765Z"),
    };
    let head = "11393000000000000019a05b000000000000";
    let tail = format!(
        "2a4a0a20{hash}122608ffff031220{parts}320c08a2d8ffd30510c0f2e3ec023a0d746573745f636861696e5f6964"
    );
    let want = format!("88010820{head}20ffffffffffffffffff01{tail}");
    assert_eq!(hex::encode(sign_bytes::proposal("test_chain_id", &proposal)), want);
    proposal.prepared_view = Some(view(5));
    let want = format!("7f0820{head}2005{tail}");
    assert_eq!(hex::encode(sign_bytes::proposal("test_chain_id", &proposal)), want);
}

/// CometBFT `types/vote.go`, `VoteExtensionSignBytes`: field by field.
#[test]
fn extensions_are_signed_as_cometbft_signs_them() {
    let vote = vote_of(Phase::Commit, 1, 1, block_id(1), time("2018-02-11T07:09:22.765Z"));
    let bytes = sign_bytes::extension("test_chain_id", &vote, b"ext");
    let want = "260a03657874110100000000000000190100000000000000220d746573745f636861696e5f6964";
    assert_eq!(hex::encode(bytes), want);
}

/// Our own domains: the bytes of docs/protocol.md §2.
#[test]
fn view_changes_and_hellos_have_fixed_bytes_of_their_own() {
    let domain = "007465726365742f766965772d6368616e67652f31";
    let chain = "05636861696e";
    let mut message = ViewChange {
        height: Height::from(258u32),
        view: view(3),
        prepared: None,
        validator: tendermint::account::Id::new([7; 20]),
        index: 0,
    };
    let head = format!("{domain}{chain}0800000000000001020400000003");
    assert_eq!(hex::encode(sign_bytes::view_change("chain", &message)), format!("{head}00"));
    message.prepared = Some(PreparedClaim { view: view(2), block_id: block_id(9) });
    let id = "09".repeat(32);
    let want = format!("{head}040000000220{id}040000000120{id}");
    assert_eq!(hex::encode(sign_bytes::view_change("chain", &message)), want);
    let hello = sign_bytes::hello("chain", b"peer");
    assert_eq!(hex::encode(hello), "007465726365742f68656c6c6f2f3105636861696e0470656572");
}

/// A commit's entry for one vote of a block that CometBFT made, and everything that hashes into its id.
#[test]
fn a_block_of_cometbft_has_its_id_and_its_commit_verifies() {
    let vector: Value = serde_json::from_str(BLOCK_10).unwrap();
    let read = |name: &str| vector.get(name).unwrap().clone();
    let header: Header = serde_json::from_value(read("header")).unwrap();
    let last: tendermint::block::Commit = serde_json::from_value(read("last_commit")).unwrap();
    let commit: tendermint::block::Commit = serde_json::from_value(read("commit")).unwrap();
    let id: BlockId = serde_json::from_value(read("block_id")).unwrap();
    let key =
        PublicKey::ed25519(&hex::decode(read("public_key").as_str().unwrap()).unwrap()).unwrap();

    let validators = Validators::new([(key, 10)]).unwrap();
    assert_eq!(validators.hash(), header.validators_hash);
    assert_eq!(validators.list()[0].address, header.proposer_address);
    assert_eq!(Some(commit_hash(&last)), header.last_commit_hash);
    assert_eq!(header.hash(), id.hash);

    let last_commit = Some(Commit::from_tendermint(&last).unwrap());
    let (chain_id, height) = (header.chain_id.to_string(), header.height);
    let evidence = pb::EvidenceList::default();
    let block = SealedBlock::seal(Block { header, txs: Vec::new(), evidence, last_commit });
    assert_eq!(block.id(), id, "the parts' hash covers every byte of the encoding");

    let schedule = crate::schedule::Schedule::new(&validators, 64);
    let context = Context {
        chain_id: &chain_id,
        height,
        validators: &validators,
        schedule: &schedule,
        extensions: Some(false),
    };
    let commit = Commit::from_tendermint(&commit).unwrap();
    assert_eq!(commit.verify(&context, &Direct), Ok(()));
    let wrong = Context { chain_id: "dockerchain2", ..context };
    assert_eq!(commit.verify(&wrong, &Direct), Err(Reject::Signature));
    assert_eq!(Commit::from_tendermint(&commit.to_tendermint()), Ok(commit));
}

#[test]
fn a_header_of_the_public_suite_has_its_hash() {
    let Some(vector) = external("header/header_with_known_hash.json") else {
        return embedded_header();
    };
    let header: Header = serde_json::from_value(vector).unwrap();
    let hash = "F30A71F2409FB15AACAEDB6CC122DFA2525BEE9CAE521721B06BFDCA291B8D56";
    assert_eq!(header.hash().to_string(), hash);
}

fn embedded_header() {
    let vector: Value = serde_json::from_str(BLOCK_10).unwrap();
    let header: Header = serde_json::from_value(vector.get("header").unwrap().clone()).unwrap();
    let hash = "00ECDAC463C201ECD4BDBBAAE4A53A4C80291D4051FD69ED97F6420CE1388BFE";
    assert_eq!(header.hash().to_string(), hash);
}

fn verifies(key: &str, message: &str, signature: &str) -> bool {
    let bytes = |text: &str| hex::decode(text).unwrap();
    let key = PublicKey::ed25519(&bytes(key));
    let signature = Signature::from_slice(&bytes(signature));
    key.zip(signature).is_some_and(|(key, signature)| key.verify(&bytes(message), &signature))
}

/// "ZIP-215 must accept cases 0-5 and 9-11, refuse 6-8" (ed25519-speccheck).
#[test]
fn signatures_are_verified_by_zip_215() {
    let cases: Vec<Value> = serde_json::from_str(SPECCHECK).unwrap();
    assert_eq!(cases.len(), 12);
    for (number, case) in cases.iter().enumerate() {
        let text = |name: &str| case.get(name).unwrap().as_str().unwrap();
        let accepted = verifies(text("pub_key"), text("message"), text("signature"));
        assert_eq!(accepted, !(6..=8).contains(&number), "case {number}");
    }
    if let Some(theirs) = external("ed25519/speccheck_cases.json") {
        assert_eq!(theirs, Value::from(cases), "the embedded cases are those of the suite");
    }
}

/// Wycheproof: ZIP-215 differs on exactly one case, which consensus must accept.
#[test]
fn signatures_of_wycheproof_have_the_verdict_of_zip_215() {
    let Some(suite) = external("ed25519/wycheproof_ed25519.json") else {
        return signatures_are_verified_by_zip_215();
    };
    let mut different = Vec::new();
    for group in suite.get("testGroups").unwrap().as_array().unwrap() {
        let key = group.pointer("/publicKey/pk").unwrap().as_str().unwrap();
        for test in group.get("tests").unwrap().as_array().unwrap() {
            let text = |name: &str| test.get(name).unwrap().as_str().unwrap();
            if verifies(key, text("msg"), text("sig")) != (text("result") == "valid") {
                different.push(test.get("tcId").unwrap().as_u64().unwrap());
            }
        }
    }
    assert_eq!(different, [151]);
}

/// CometBFT `crypto/secp256k1/secp256k1_test.go`, `secpDataTable`: a key and its address.
const SECP256K1: [&str; 3] = [
    "a96e62ed3955e65be32703f12d87b6b5cf26039ecfa948dc5107a495418e5330",
    "02950e1cdfcb133d6024109fd489f734eeb4502418e538c28481f22bce276f248c",
    "7c2bb42a8be69791ec763e51f5a49bcd41e82237",
];

#[test]
fn a_secp256k1_key_has_the_address_that_cometbft_gives_it() {
    let [secret, public, address] = SECP256K1.map(|text| hex::decode(text).unwrap());
    let secret = k256::ecdsa::SigningKey::from_slice(&secret).unwrap();
    assert_eq!(secret.verifying_key().to_encoded_point(true).as_bytes(), public);
    let key = PublicKey::secp256k1(&public).unwrap();
    assert_eq!(key.address().as_bytes(), address);
    assert_eq!((&*key.to_bytes(), PublicKey::from_bytes(&public)), (&public[..], Some(key)));
    assert_eq!(PublicKey::try_from(&key.to_tendermint()), Ok(key));
    assert_eq!(PublicKey::try_from(&key.to_proto()), Ok(key));
}

/// CometBFT `VerifySignature`: r and s in 64 bytes over SHA-256, and of s and −s the lower one alone.
#[test]
fn a_secp256k1_signature_has_one_form() {
    use k256::ecdsa::signature::Signer as _;
    let [secret, public, _] = SECP256K1.map(|text| hex::decode(text).unwrap());
    let secret = k256::ecdsa::SigningKey::from_slice(&secret).unwrap();
    let key = PublicKey::secp256k1(&public).unwrap();
    let signature: k256::ecdsa::Signature = secret.sign(b"message");
    let good = Signature(signature.to_bytes().into());
    assert!(key.verify(b"message", &good));
    assert!(!key.verify(b"other", &good));
    let (r, s) = signature.split_scalars();
    let high = k256::ecdsa::Signature::from_scalars(r, -s).unwrap();
    assert!(!key.verify(b"message", &Signature(high.to_bytes().into())), "the higher s");
    for zero in [Signature([0; 64]), Signature([0xff; 64])] {
        assert!(!key.verify(b"message", &zero));
    }
    let compact = [&[5], &public[1..]].concat();
    for wrong in [&public[..32], &compact, &[public.clone(), vec![0]].concat()] {
        assert_eq!(PublicKey::secp256k1(wrong), None);
    }
    let uncompressed = secret.verifying_key().to_encoded_point(false);
    assert_eq!(PublicKey::secp256k1(uncompressed.as_bytes()), None);
}
