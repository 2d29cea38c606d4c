//! Public keys and signatures, and the one function that verifies a signature.
//!
//! Every signature that influences validity is verified here, by ZIP-215 rules, so that two nodes can never disagree about one:
//! other Ed25519 verifiers accept another set of signatures.

use std::fmt;
use tendermint::public_key::Algorithm;
use tendermint_proto::v0_38::crypto as pb;
use tendermint_proto::v0_38::crypto::public_key::Sum;

/// The address of a validator: 20 bytes of a hash of its public key.
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

/// The most bytes of a public key.
pub const KEY_BYTES_MAX: usize = 33;

/// The raw bytes of a public key, as genesis, ABCI and hashes of validator sets hold them: 32 of Ed25519, 33 (the compressed point) of
/// secp256k1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyBytes {
    bytes: [u8; KEY_BYTES_MAX],
    length: usize,
}

impl KeyBytes {
    fn new(key: &[u8]) -> KeyBytes {
        let (mut bytes, length) = ([0; KEY_BYTES_MAX], key.len().min(KEY_BYTES_MAX));
        bytes.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
        KeyBytes { bytes, length }
    }
}

impl std::ops::Deref for KeyBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes.split_at(self.length).0
    }
}

impl AsRef<[u8]> for KeyBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// The key of a validator, of either kind that Tendermint knows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PublicKey {
    /// Ed25519, verified by ZIP-215 rules; the point is decoded once.
    Ed25519(ed25519_zebra::VerificationKey),
    /// secp256k1, verified as CometBFT does (`crypto/secp256k1/secp256k1.go`): ECDSA over SHA-256 of the message, in 64 bytes r and s, of
    /// which s is the lower one.
    Secp256k1(k256::ecdsa::VerifyingKey),
}

impl PublicKey {
    /// The Ed25519 key in these 32 bytes; none where they are no point of the curve.
    #[must_use]
    pub fn ed25519(bytes: &[u8]) -> Option<PublicKey> {
        let bytes: [u8; 32] = bytes.try_into().ok()?;
        ed25519_zebra::VerificationKey::try_from(bytes).ok().map(PublicKey::Ed25519)
    }

    /// The secp256k1 key in these 33 bytes; none where they are no compressed point of the curve.
    #[must_use]
    pub fn secp256k1(bytes: &[u8]) -> Option<PublicKey> {
        let bytes: &[u8; 33] = bytes.try_into().ok()?;
        // k256 takes other forms of 33 bytes too, of which there would be two of one key.
        if !matches!(bytes, [2 | 3, ..]) {
            return None;
        }
        k256::ecdsa::VerifyingKey::from_sec1_bytes(bytes).ok().map(PublicKey::Secp256k1)
    }

    /// The key in these bytes, of the kind that has so many.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<PublicKey> {
        PublicKey::ed25519(bytes).or_else(|| PublicKey::secp256k1(bytes))
    }

    /// The raw bytes of the key.
    #[must_use]
    pub fn to_bytes(&self) -> KeyBytes {
        match self {
            PublicKey::Ed25519(key) => KeyBytes::new(&<[u8; 32]>::from(*key)),
            PublicKey::Secp256k1(key) => KeyBytes::new(key.to_encoded_point(true).as_bytes()),
        }
    }

    /// The address, always derived and never read: the first 20 bytes of SHA-256 of an Ed25519 key, RIPEMD-160 of SHA-256 of a secp256k1
    /// one.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::from(self.to_tendermint())
    }

    /// Whether `signature` over `message` is this key's.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        match self {
            PublicKey::Ed25519(key) => {
                key.verify(&ed25519_zebra::Signature::from(signature.0), message).is_ok()
            }
            PublicKey::Secp256k1(key) => verify_secp256k1(key, message, signature),
        }
    }

    /// The same key as Tendermint's type.
    ///
    /// # Panics
    /// Never: both types hold a key that was decoded.
    #[must_use]
    pub fn to_tendermint(&self) -> tendermint::PublicKey {
        match self {
            PublicKey::Ed25519(_) => tendermint::PublicKey::from_raw_ed25519(&self.to_bytes()),
            PublicKey::Secp256k1(key) => Some(tendermint::PublicKey::Secp256k1(*key)),
        }
        .expect("the key is decoded")
    }

    /// The same key as ABCI and the hash of a validator set hold it.
    #[must_use]
    pub fn to_proto(&self) -> pb::PublicKey {
        let bytes = self.to_bytes().to_vec();
        pb::PublicKey {
            sum: Some(match self {
                PublicKey::Ed25519(_) => Sum::Ed25519(bytes),
                PublicKey::Secp256k1(_) => Sum::Secp256k1(bytes),
            }),
        }
    }

    /// Its kind, as the consensus parameters name it.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self {
            PublicKey::Ed25519(_) => Algorithm::Ed25519,
            PublicKey::Secp256k1(_) => Algorithm::Secp256k1,
        }
    }
}

fn verify_secp256k1(
    key: &k256::ecdsa::VerifyingKey,
    message: &[u8],
    signature: &Signature,
) -> bool {
    use k256::ecdsa::signature::Verifier as _;
    let Ok(signature) = k256::ecdsa::Signature::from_slice(&signature.0) else { return false };
    // Of s and −s only the lower is a signature, so that nobody can make another of one.
    signature.normalize_s().is_none() && key.verify(message, &signature).is_ok()
}

impl TryFrom<&pb::PublicKey> for PublicKey {
    type Error = UnsupportedKey;

    fn try_from(key: &pb::PublicKey) -> Result<PublicKey, UnsupportedKey> {
        match key.sum.as_ref().ok_or(UnsupportedKey)? {
            Sum::Ed25519(bytes) => PublicKey::ed25519(bytes),
            Sum::Secp256k1(bytes) => PublicKey::secp256k1(bytes),
        }
        .ok_or(UnsupportedKey)
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
        match key {
            tendermint::PublicKey::Secp256k1(key) => Ok(PublicKey::Secp256k1(*key)),
            key => key
                .ed25519()
                .and_then(|key| PublicKey::ed25519(key.as_bytes()))
                .ok_or(UnsupportedKey),
        }
    }
}

/// The key is of a kind that this node does not verify, or not a valid key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key is not a valid ed25519 or secp256k1 key")]
pub struct UnsupportedKey;
