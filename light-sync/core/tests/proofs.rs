//! Proofs of transactions and of the state: the public vectors of ICS-23, which `TERCET_VECTORS` names, trees of our own, and
//! proofs that show something else.
#![allow(missing_docs, clippy::unwrap_used)]

use prost::Message as _;
use serde::Deserialize;
use tendermint_proto::v0_38::crypto as pb;
use tercet_light_core::content::{check_tx, tx_hash};
use tercet_light_core::hash::Hash;
use tercet_light_core::proofs::{KeyPath, OP_BYTES_MAX, ProofError, STEPS_MAX, verify_query};
use tercet_light_core::testing::chain::{Chain, Spec};
use tercet_light_core::testing::content::{inclusion, leaf_of, query};
use tercet_light_core::tree::{AUNTS_MAX, Inclusion, InclusionError};

#[derive(Deserialize)]
struct Raw {
    key: String,
    proof: String,
    root: String,
    value: String,
}

/// One vector: a tree, a root, and what a proof shows in it.
#[derive(Clone)]
struct Case {
    name: String,
    op: pb::ProofOp,
    root: Vec<u8>,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

fn cases() -> Vec<Case> {
    let Some(folder) = std::env::var_os("TERCET_VECTORS") else {
        eprintln!("NOT TESTED: TERCET_VECTORS is not set, so the vectors of ICS-23 are not there");
        return vec![];
    };
    let mut cases = vec![];
    for (tree, kind) in [("iavl", "ics23:iavl"), ("tendermint", "ics23:simple")] {
        let folder = std::path::Path::new(&folder).join("ics23").join(tree);
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let raw: Raw = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let key = hex::decode(raw.key).unwrap();
            let value = Some(hex::decode(raw.value).unwrap()).filter(|value| !value.is_empty());
            let data = hex::decode(raw.proof).unwrap();
            let op = pb::ProofOp { r#type: kind.to_owned(), key: key.clone(), data };
            let root = hex::decode(raw.root).unwrap();
            cases.push(Case { name: path.display().to_string(), op, root, key, value });
        }
    }
    assert_eq!(cases.len(), 12);
    cases
}

impl Case {
    fn check(&self) -> Result<(), ProofError> {
        let path = KeyPath::new("/key", &self.key).unwrap();
        verify_query(&self.root, &path, self.value.as_deref(), std::slice::from_ref(&self.op))
    }
}

#[test]
fn the_vectors_of_ics23_hold() {
    for case in cases() {
        assert_eq!(case.check(), Ok(()), "{}", case.name);
    }
}

#[test]
fn a_proof_with_any_byte_changed_shows_nothing() {
    for case in cases() {
        for at in 0..case.op.data.len() {
            for change in [1, 0x10, 0x80] {
                let mut changed = case.clone();
                changed.op.data[at] ^= change;
                assert!(changed.check().is_err(), "{}: byte {at} by {change}", case.name);
            }
        }
    }
}

#[test]
fn a_proof_shows_nothing_but_what_it_is_for() {
    for case in cases() {
        let mut other = case.clone();
        other.root[0] ^= 1;
        assert!(other.check().is_err(), "another root: {}", case.name);
        let mut other = case.clone();
        other.root.clear();
        assert_eq!(other.check(), Err(ProofError::NoRoot), "no root: {}", case.name);
        let mut other = case.clone();
        other.key.push(0);
        assert_eq!(other.check(), Err(ProofError::OtherKey), "another key: {}", case.name);
        other.op.key.push(0);
        assert!(other.value.is_none() || other.check().is_err(), "its key too: {}", case.name);
        let mut other = case.clone();
        other.value = match case.value {
            Some(_) => None,
            None => Some(b"there is none".to_vec()),
        };
        assert!(other.check().is_err(), "absence for a value or the reverse: {}", case.name);
        let mut other = case.clone();
        let swapped = if case.op.r#type == "ics23:iavl" { "ics23:simple" } else { "ics23:iavl" };
        other.op.r#type = swapped.to_owned();
        assert!(other.check().is_err(), "another tree: {}", case.name);
        other.op.r#type = "simple:k".to_owned();
        assert_eq!(other.check(), Err(ProofError::Kind("simple:k".to_owned())));
    }
}

/// The key of an absence proof lies in a gap; a key that is there is not shown to be absent by the gap beside it.
#[test]
fn a_gap_beside_a_key_does_not_show_its_absence() {
    let all = cases();
    for none in all.iter().filter(|case| case.value.is_none()) {
        for some in all.iter().filter(|case| case.value.is_some() && case.root == none.root) {
            let mut forged = none.clone();
            forged.key.clone_from(&some.key);
            forged.op.key.clone_from(&some.key);
            assert!(forged.check().is_err(), "{} for {}", none.name, some.name);
        }
    }
}

#[test]
fn every_leaf_of_every_tree_is_shown_and_no_other() {
    for total in 1..=33usize {
        let leaves: Vec<Vec<u8>> = (0..total).map(|n| vec![u8::try_from(n).unwrap(); n]).collect();
        for index in 0..total {
            let (root, proof) = inclusion(&leaves, index);
            let known = Hash::from_tendermint(tercet_consensus::merkle::root(&leaves));
            assert_eq!(Some(root), known);
            let own = &leaves[index];
            let read = Inclusion::from_proto(&proof).unwrap();
            assert_eq!(read.verify(root, own), Ok(()));
            assert_eq!(read.verify(root, b"another"), Err(InclusionError::OtherLeaf));
            for (index, total) in [(index + 1, total), (index, total + 1), (index, total * 4)] {
                let mut moved = proof.clone();
                moved.index = i64::try_from(index).unwrap();
                moved.total = i64::try_from(total).unwrap();
                let shown = Inclusion::from_proto(&moved).map(|it| it.verify(root, own));
                // A tree of another size may have the same way up from this leaf; another place never has.
                let other_size = moved.index == proof.index;
                assert!(other_size || !matches!(shown, Ok(Ok(()))), "{index} of {total}");
            }
        }
    }
}

#[test]
fn shapes_that_no_tree_has_are_malformed() {
    let leaves: Vec<Vec<u8>> = (0..5u8).map(|n| vec![n]).collect();
    let (root, good) = inclusion(&leaves, 3);
    let bad = |change: fn(&mut pb::Proof)| {
        let mut proof = good.clone();
        change(&mut proof);
        Inclusion::from_proto(&proof).and_then(|read| read.verify(root, &leaves[3]))
    };
    assert_eq!(bad(|_| ()), Ok(()));
    let malformed = Err(InclusionError::Malformed);
    assert_eq!(bad(|proof| proof.total = 0), malformed);
    assert_eq!(bad(|proof| proof.total = -1), malformed);
    assert_eq!(bad(|proof| proof.index = -1), malformed);
    assert_eq!(bad(|proof| proof.index = 5), malformed);
    assert_eq!(bad(|proof| proof.aunts[0].truncate(31)), malformed);
    assert_eq!(bad(|proof| proof.aunts.truncate(1)), malformed);
    assert_eq!(bad(|proof| proof.aunts.push(vec![0; 32])), malformed);
    assert_eq!(bad(|proof| proof.aunts = vec![vec![0; 32]; AUNTS_MAX + 1]), malformed);
    assert_eq!(bad(|proof| proof.total = i64::MAX), malformed);
}

/// T-77: the state of block 5 is named by the header of 6 and by no other.
#[test]
fn the_state_after_a_block_is_shown_by_the_next_header_alone() {
    let chain = Chain::new(Spec { last: 9, contents: true, ..Spec::default() });
    for key in [&b"bee"[..], b"ant", b"elk", b"a", b"bat", b"zebra"] {
        let (value, op) = query(5, key);
        let path = KeyPath::new("/key", key).unwrap();
        let verify = |height: u64| {
            let root = chain.header(height).app_hash();
            verify_query(root, &path, value.as_deref(), std::slice::from_ref(&op))
        };
        assert_eq!(verify(6), Ok(()), "{key:?}");
        for height in [1, 4, 5, 7, 9] {
            assert_eq!(verify(height), Err(ProofError::OtherRoot), "{key:?} at {height}");
        }
    }
}

#[test]
fn a_transaction_is_shown_by_the_hash_of_its_header_alone() {
    let chain = Chain::new(Spec { last: 3, ..Spec::default() });
    // The chain's data hash is one that no transactions have.
    let (_, proof) = inclusion(&[tx_hash(b"tx").as_bytes().to_vec()], 0);
    let proof = Inclusion::from_proto(&proof).unwrap();
    assert!(check_tx(chain.header(2), b"tx", &proof).is_err());
}

/// One level above a tree: a store by its name, in a simple tree.
fn store_over(case: &Case, name: &str) -> (Vec<u8>, pb::ProofOp) {
    let pair = |name: &str, value: &[u8]| leaf_of(name.as_bytes(), value);
    let leaves = [pair("acc", b"1"), pair(name, &case.root), pair("other", &case.root)];
    let (root, proof) = inclusion(&leaves, 1);
    let data = pb::ValueOp { key: name.as_bytes().to_vec(), proof: Some(proof) }.encode_to_vec();
    let op = pb::ProofOp { r#type: "simple:v".to_owned(), key: name.as_bytes().to_vec(), data };
    (root.as_bytes().to_vec(), op)
}

#[test]
fn a_value_in_a_store_is_shown_through_both_trees_and_for_that_store_only() {
    for case in cases() {
        let (root, outer) = store_over(&case, "bank");
        let ops = [case.op.clone(), outer.clone()];
        let value = case.value.as_deref();
        let path = |path: &str| KeyPath::new(path, &case.key).unwrap();
        assert_eq!(verify_query(&root, &path("/store/bank/key"), value, &ops), Ok(()));
        let other = verify_query(&root, &path("/store/other/key"), value, &ops);
        assert_eq!(other, Err(ProofError::OtherKey));
        let count = Err(ProofError::Count { found: 1, wanted: 2 });
        assert_eq!(verify_query(&root, &path("/store/bank/key"), value, &ops[..1]), count);
        let reversed = [outer.clone(), case.op.clone()];
        assert!(verify_query(&root, &path("/store/bank/key"), value, &reversed).is_err());
        // The proof of the store of another name, under the name that was asked for.
        let (_, mut named) = store_over(&case, "bonk");
        named.key = b"bank".to_vec();
        let ops = [case.op.clone(), named];
        assert!(verify_query(&root, &path("/store/bank/key"), value, &ops).is_err());
    }
}

#[test]
fn paths_without_known_keys_and_keys_that_are_none_are_refused() {
    for path in ["/store/bank/subspace", "/store//key", "/app/simulate", "/store/bank/key/x", "x"] {
        let refused = KeyPath::new(path, b"key").unwrap_err();
        assert_eq!(refused, ProofError::Path(path.to_owned()));
        assert_eq!(refused.to_string().lines().count(), 1);
    }
    assert_eq!(KeyPath::new("/key", b""), Err(ProofError::Key));
    assert_eq!(KeyPath::new("", b"k"), KeyPath::new("/key", b"k"));
}

#[test]
fn a_simple_tree_shows_no_absence() {
    let (root, proof) = inclusion(&[leaf_of(b"k", b"value")], 0);
    let data = pb::ValueOp { key: b"k".to_vec(), proof: Some(proof) }.encode_to_vec();
    let op = [pb::ProofOp { r#type: "simple:v".to_owned(), key: b"k".to_vec(), data }];
    let path = KeyPath::new("/key", b"k").unwrap();
    assert_eq!(verify_query(root.as_bytes(), &path, Some(b"value"), &op), Ok(()));
    assert_eq!(verify_query(root.as_bytes(), &path, None, &op), Err(ProofError::Absence));
    let other = verify_query(root.as_bytes(), &path, Some(b"other"), &op);
    assert_eq!(other, Err(ProofError::Inclusion(InclusionError::OtherLeaf)));
}

#[test]
fn long_proofs_and_steps_without_a_hash_are_not_computed() {
    let Some(case) = cases().into_iter().find(|case| case.name.ends_with("/exist_left.json"))
    else {
        return;
    };
    let mut long = case.clone();
    long.op.data.resize(OP_BYTES_MAX + 1, 0);
    assert_eq!(long.check(), Err(ProofError::Malformed));
    let proof = ics23::CommitmentProof::decode(case.op.data.as_slice()).unwrap();
    let Some(ics23::commitment_proof::Proof::Exist(exist)) = proof.proof else {
        panic!("no proof")
    };
    let with = |exist| ics23::CommitmentProof {
        proof: Some(ics23::commitment_proof::Proof::Exist(exist)),
    };
    let mut deep = exist.clone();
    deep.path = vec![exist.path[0].clone(); STEPS_MAX + 1];
    let mut plain = exist.clone();
    plain.path[0].hash = ics23::HashOp::NoHash.into();
    for changed in [deep, plain] {
        let mut case = case.clone();
        case.op.data = with(changed).encode_to_vec();
        assert_eq!(case.check(), Err(ProofError::Malformed));
    }
    // Batches too.
    let entry = ics23::BatchEntry { proof: Some(ics23::batch_entry::Proof::Exist(exist)) };
    let batch = ics23::BatchProof { entries: vec![entry] };
    let mut batched = case.clone();
    let proof = Some(ics23::commitment_proof::Proof::Batch(batch));
    batched.op.data = ics23::CommitmentProof { proof }.encode_to_vec();
    assert_eq!(batched.check(), Err(ProofError::Malformed));
}
