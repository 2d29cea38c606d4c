//! Proofs that a leaf stands in a Merkle tree of Tendermint (CometBFT `crypto/merkle/proof.go`).

use crate::hash::Hash;
use crate::merkle;
use tendermint_proto::v0_38::crypto as pb;

/// The most hashes beside the way up: a tree of 2^63 leaves has as many (CometBFT allows `MaxAunts`, 100).
pub const AUNTS_MAX: usize = 64;

/// What is wrong with a proof of inclusion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InclusionError {
    /// Its numbers or hashes cannot be those of a tree.
    #[error("the proof is malformed")]
    Malformed,
    /// It is the proof of another leaf.
    #[error("the proof is of another leaf")]
    OtherLeaf,
    /// It leads to another root.
    #[error("the proof leads to another root")]
    OtherRoot,
}

/// A way from one leaf up to the root. That it exists says that its shape is one of a tree, nothing about the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inclusion {
    total: u64,
    index: u64,
    leaf: [u8; 32],
    /// From the leaf up.
    aunts: Vec<[u8; 32]>,
}

impl Inclusion {
    /// Reads a proof.
    ///
    /// # Errors
    /// Where it is none of any tree: no leaves, an index behind them, hashes of another length, more than [`AUNTS_MAX`].
    pub fn from_proto(proof: &pb::Proof) -> Result<Inclusion, InclusionError> {
        let number = |n: i64| u64::try_from(n).map_err(|_| InclusionError::Malformed);
        let (total, index) = (number(proof.total)?, number(proof.index)?);
        if index >= total || proof.aunts.len() > AUNTS_MAX {
            return Err(InclusionError::Malformed);
        }
        let hash = |bytes: &Vec<u8>| {
            <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| InclusionError::Malformed)
        };
        let aunts = proof.aunts.iter().map(hash).collect::<Result<_, _>>()?;
        Ok(Inclusion { total, index, leaf: hash(&proof.leaf_hash)?, aunts })
    }

    /// Which leaf it is, counted from 0.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many leaves there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The root that it leads to from the leaf with these bytes.
    ///
    /// # Errors
    /// Where it is the proof of another leaf, or has more or fewer hashes than the way up has steps.
    pub fn root(&self, leaf: &[u8]) -> Result<Hash, InclusionError> {
        let hash = merkle::leaf([leaf, &[]]);
        if hash != self.leaf {
            return Err(InclusionError::OtherLeaf);
        }
        let root = climb((self.index, self.total), hash, &self.aunts);
        root.map(Hash::new).ok_or(InclusionError::Malformed)
    }

    /// Checks that the leaf with these bytes stands in the tree with this root.
    ///
    /// # Errors
    /// See [`InclusionError`].
    pub fn verify(&self, root: Hash, leaf: &[u8]) -> Result<(), InclusionError> {
        if self.root(leaf)? == root { Ok(()) } else { Err(InclusionError::OtherRoot) }
    }
}

/// Up from a leaf; the highest hash stands last. At most as deep as there are aunts.
fn climb((index, total): (u64, u64), leaf: [u8; 32], aunts: &[[u8; 32]]) -> Option<[u8; 32]> {
    if total <= 1 {
        return aunts.is_empty().then_some(leaf);
    }
    let (last, rest) = aunts.split_last()?;
    // The largest power of two below the total.
    let split = 1u64 << (u64::BITS - 1 - (total - 1).leading_zeros());
    Some(if index < split {
        merkle::inner(&climb((index, split), leaf, rest)?, last)
    } else {
        merkle::inner(last, &climb((index - split, total - split), leaf, rest)?)
    })
}
