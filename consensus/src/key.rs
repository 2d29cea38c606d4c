//! Public keys and signatures, and the one function that verifies a signature.
//!
//! Every signature that influences validity is verified here, by ZIP-215 rules, so that two nodes can never disagree about one:
//! other Ed25519 verifiers accept another set of signatures.

use sha2::{Digest, Sha256};
use std::fmt;

/// The address of a validator: the first 20 bytes of SHA-256 of its public key.
pub type Address = tendermint::account::Id;

/// A signature as it stands in votes and commits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signature(pub [u8; 64]);

impl Signature {
    /// The signature in these bytes; none unless there are exactly 64.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Signature> {
        bytes.try_into().ok().map(Signature)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Signature({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

/// The key of a validator. An enum, because Tendermint knows more than one kind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PublicKey {
    /// Ed25519, verified by ZIP-215 rules; the point is decoded once.
    Ed25519(ed25519_zebra::VerificationKey),
}

impl PublicKey {
    /// The Ed25519 key in these 32 bytes; none where they are no point of the curve.
    #[must_use]
    pub fn ed25519(bytes: &[u8]) -> Option<PublicKey> {
        let bytes: [u8; 32] = bytes.try_into().ok()?;
        ed25519_zebra::VerificationKey::try_from(bytes).ok().map(PublicKey::Ed25519)
    }

    /// The raw bytes of the key.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        match self {
            PublicKey::Ed25519(key) => (*key).into(),
        }
    }

    /// The address, always derived and never read.
    #[must_use]
    pub fn address(&self) -> Address {
        let digest: [u8; 32] = Sha256::digest(self.to_bytes()).into();
        let mut address = [0; 20];
        address.copy_from_slice(digest.split_at(20).0);
        Address::new(address)
    }

    /// Whether `signature` over `message` is this key's.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        match self {
            PublicKey::Ed25519(key) => {
                key.verify(&ed25519_zebra::Signature::from(signature.0), message).is_ok()
            }
        }
    }

    /// The same key as Tendermint's type.
    ///
    /// # Panics
    /// Never: both types hold a key that was decoded.
    #[must_use]
    pub fn to_tendermint(&self) -> tendermint::PublicKey {
        tendermint::PublicKey::from_raw_ed25519(&self.to_bytes()).expect("the key is decoded")
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.address())
    }
}

impl TryFrom<&tendermint::PublicKey> for PublicKey {
    type Error = UnsupportedKey;

    fn try_from(key: &tendermint::PublicKey) -> Result<PublicKey, UnsupportedKey> {
        key.ed25519().and_then(|key| PublicKey::ed25519(key.as_bytes())).ok_or(UnsupportedKey)
    }
}

/// The key is of a kind that this node does not verify, or not a valid key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key is not a valid ed25519 key")]
pub struct UnsupportedKey;
