//! Tendermint's Merkle tree (RFC 6962 with SHA-256), by the `tendermint` crate.

use tendermint::Hash;
use tendermint::crypto::default::Sha256;

/// The root over `leaves`; SHA-256 of nothing for an empty list.
#[must_use]
pub fn root(leaves: &[impl AsRef<[u8]>]) -> Hash {
    Hash::Sha256(tendermint::merkle::simple_hash_from_byte_vectors::<Sha256>(leaves))
}
