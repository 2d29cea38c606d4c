//! Proofs that a transaction stands in a block (CometBFT `crypto/merkle`, RFC 6962).

use sha2::{Digest as _, Sha256};

/// A hash.
pub(crate) type Node = [u8; 32];

/// What shows that one leaf of a tree is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TxProof {
    /// The root of the tree.
    pub(crate) root: Node,
    /// How many leaves there are.
    pub(crate) total: usize,
    /// Which one it is.
    pub(crate) index: usize,
    /// Its hash.
    pub(crate) leaf: Node,
    /// The hashes beside the way up, from the leaf on.
    pub(crate) aunts: Vec<Node>,
}

/// The proof of a transaction among all of a block, by their hashes; none where there are not so many.
pub(crate) fn tx_proof(hashes: &[[u8; 32]], index: usize) -> Option<TxProof> {
    let leaf = leaf(hashes.get(index)?);
    let mut aunts = Vec::new();
    let root = climb(hashes, Some(index), &mut aunts);
    Some(TxProof { root, total: hashes.len(), index, leaf, aunts })
}

/// The root over `hashes`, with what stands beside the way from the leaf at `index`.
fn climb(hashes: &[[u8; 32]], index: Option<usize>, aunts: &mut Vec<Node>) -> Node {
    match hashes {
        [] => Sha256::digest([]).into(),
        [hash] => leaf(hash),
        hashes => {
            let split = hashes.len().next_power_of_two() / 2;
            let (left, right) = hashes.split_at(split);
            let in_left = index.filter(|index| *index < split);
            let in_right = index.and_then(|index| index.checked_sub(split));
            let (left, right) = (climb(left, in_left, aunts), climb(right, in_right, aunts));
            aunts.extend(in_left.map(|_| right).or(in_right.map(|_| left)));
            let node = Sha256::new().chain_update([1]).chain_update(left).chain_update(right);
            node.finalize().into()
        }
    }
}

fn leaf(hash: &[u8; 32]) -> Node {
    Sha256::new().chain_update([0]).chain_update(hash).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Up from a leaf, as a client that has the root verifies.
    fn verify(proof: &TxProof) -> bool {
        fn up((index, total): (usize, usize), leaf: Node, aunts: &[Node]) -> Option<Node> {
            if total == 1 {
                return aunts.is_empty().then_some(leaf);
            }
            let (last, rest) = aunts.split_last()?;
            let split = total.next_power_of_two() / 2;
            let (left, right) = match index < split {
                true => (up((index, split), leaf, rest)?, *last),
                false => (*last, up((index - split, total - split), leaf, rest)?),
            };
            let node = Sha256::new().chain_update([1]).chain_update(left).chain_update(right);
            Some(node.finalize().into())
        }
        up((proof.index, proof.total), proof.leaf, &proof.aunts) == Some(proof.root)
    }

    #[test]
    fn every_leaf_is_proved_against_the_root_of_the_header() {
        for total in 1..=33u8 {
            let hashes: Vec<[u8; 32]> = (0..total).map(|byte| [byte; 32]).collect();
            let root = tercet_consensus::merkle::root(&hashes);
            for index in 0..hashes.len() {
                let proof = tx_proof(&hashes, index).unwrap();
                assert_eq!(tendermint::Hash::Sha256(proof.root), root, "{index} of {total}");
                assert!(verify(&proof), "{index} of {total}");
            }
            assert_eq!(tx_proof(&hashes, hashes.len()), None);
        }
    }
}
