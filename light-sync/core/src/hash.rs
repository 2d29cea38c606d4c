//! Hashes of headers, sets and commits.

use std::fmt;

/// A SHA-256 hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash of these bytes as they are.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Hash {
        Hash(bytes)
    }

    /// The hash in these bytes; none unless there are exactly 32.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Hash> {
        bytes.try_into().ok().map(Hash)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The same in Tendermint's type.
    #[must_use]
    pub const fn to_tendermint(self) -> tendermint::Hash {
        tendermint::Hash::Sha256(self.0)
    }

    /// From Tendermint's type; none for its empty hash.
    #[must_use]
    pub const fn from_tendermint(hash: tendermint::Hash) -> Option<Hash> {
        match hash {
            tendermint::Hash::Sha256(bytes) => Some(Hash(bytes)),
            tendermint::Hash::None => None,
        }
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02X}{b:02X}{c:02X}{d:02X}…")
    }
}
