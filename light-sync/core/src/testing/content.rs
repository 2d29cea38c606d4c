//! What stands in the blocks of a generated chain, what came of it, and proofs of both, put together the plain way.

use crate::hash::Hash;
use crate::header::Height;
use crate::merkle;
use ics23::commitment_proof::Proof;
use ics23::{CommitmentProof, ExistenceProof, InnerOp, NonExistenceProof};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tendermint_proto::v0_38::abci::ExecTxResult;
use tendermint_proto::v0_38::crypto as pb;

/// The limits of blocks.
pub const PARAMS: (i64, i64) = (22_020_096, -1);

/// The transactions of a block.
#[must_use]
pub fn txs(height: Height) -> Vec<Vec<u8>> {
    (0..height % 4).map(|n| format!("key{n}=value{height}").into_bytes()).collect()
}

/// What came of them.
#[must_use]
pub fn results(height: Height) -> Vec<ExecTxResult> {
    let result = |(n, tx): (u32, Vec<u8>)| ExecTxResult {
        code: n % 2,
        data: tx.into(),
        log: "not the same everywhere".to_owned(),
        gas_wanted: 10,
        gas_used: 7,
        ..ExecTxResult::default()
    };
    (0..).zip(txs(height)).map(result).collect()
}

/// The state after a block: keys in order with their values.
#[must_use]
pub fn state(height: Height) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pair = |key: &str, value: String| (key.as_bytes().to_vec(), value.into_bytes());
    vec![
        pair("ant", "small".to_owned()),
        pair("bee", format!("at {height}")),
        pair("cat", format!("after {height}")),
        pair("dog", "large".to_owned()),
        pair("elk", "larger".to_owned()),
    ]
}

/// The leaf of a key and its value (CometBFT `crypto/merkle/proof_value.go`).
#[must_use]
pub fn leaf_of(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut leaf = vec![];
    for part in [key, Sha256::digest(value).as_slice()] {
        prost::encoding::encode_varint(part.len() as u64, &mut leaf);
        leaf.extend_from_slice(part);
    }
    leaf
}

fn leaves(height: Height) -> Vec<Vec<u8>> {
    state(height).iter().map(|(key, value)| leaf_of(key, value)).collect()
}

/// The root of the state after a block.
#[must_use]
pub fn app_hash(height: Height) -> Hash {
    Hash::new(prove(&leaves(height), 0).0)
}

/// What stands beside the way up, and on which side.
type Aunts = Vec<([u8; 32], bool)>;

/// The root over leaves and the way up from one.
fn prove(leaves: &[Vec<u8>], index: usize) -> ([u8; 32], Aunts) {
    if let [only] = leaves {
        return (merkle::leaf([only, &[]]), vec![]);
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    if let Some(index) = index.checked_sub(left.len()) {
        let (root, mut aunts) = prove(right, index);
        let other = prove(left, 0).0;
        aunts.push((other, true));
        (merkle::inner(&other, &root), aunts)
    } else {
        let (root, mut aunts) = prove(left, index);
        let other = prove(right, 0).0;
        aunts.push((other, false));
        (merkle::inner(&root, &other), aunts)
    }
}

/// The root over leaves, at least one, and the proof of one of them.
///
/// # Panics
/// Where there is no such leaf.
#[must_use]
pub fn inclusion(leaves: &[Vec<u8>], index: usize) -> (Hash, pb::Proof) {
    let (root, aunts) = prove(leaves, index);
    let number = |n: usize| i64::try_from(n).expect("a test's tree");
    let leaf_hash = merkle::leaf([&leaves[index], &[]]).to_vec();
    let aunts = aunts.into_iter().map(|(hash, _)| hash.to_vec()).collect();
    let (total, index) = (number(leaves.len()), number(index));
    (Hash::new(root), pb::Proof { total, index, leaf_hash, aunts })
}

/// The proof that a transaction stands in its block.
#[must_use]
pub fn tx_proof(height: Height, index: usize) -> pb::Proof {
    let hashes: Vec<Vec<u8>> = txs(height).iter().map(|tx| Sha256::digest(tx).to_vec()).collect();
    inclusion(&hashes, index).1
}

/// The value of a key after a block, or none, and the proof of it: a simple one of a value, one of ICS-23 of absence.
#[must_use]
pub fn query(height: Height, key: &[u8]) -> (Option<Vec<u8>>, pb::ProofOp) {
    let state = state(height);
    let Some(index) = state.iter().position(|(known, _)| known == key) else {
        return (None, absence(height, key));
    };
    let (_, proof) = inclusion(&leaves(height), index);
    let data = pb::ValueOp { key: key.to_vec(), proof: Some(proof) }.encode_to_vec();
    let op = pb::ProofOp { r#type: "simple:v".to_owned(), key: key.to_vec(), data };
    (Some(state[index].1.clone()), op)
}

fn absence(height: Height, key: &[u8]) -> pb::ProofOp {
    let state = state(height);
    let right = state.iter().position(|(known, _)| known.as_slice() > key);
    let left = right.unwrap_or(state.len()).checked_sub(1);
    let exist = |index: usize| {
        let (_, aunts) = prove(&leaves(height), index);
        let hash = ics23::HashOp::Sha256.into();
        let step = |(aunt, is_left): ([u8; 32], bool)| match is_left {
            true => InnerOp { hash, prefix: [&[1], aunt.as_slice()].concat(), suffix: vec![] },
            false => InnerOp { hash, prefix: vec![1], suffix: aunt.to_vec() },
        };
        ExistenceProof {
            key: state[index].0.clone(),
            value: state[index].1.clone(),
            leaf: ics23::tendermint_spec().leaf_spec,
            path: aunts.into_iter().map(step).collect(),
        }
    };
    let (left, right) = (left.map(exist), right.map(exist));
    let none = NonExistenceProof { key: key.to_vec(), left, right };
    let data = CommitmentProof { proof: Some(Proof::Nonexist(none)) }.encode_to_vec();
    pb::ProofOp { r#type: "ics23:simple".to_owned(), key: key.to_vec(), data }
}
