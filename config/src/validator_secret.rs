//! The secret of a validator key, of either kind that CometBFT has. Source: CometBFT `crypto/ed25519`, `crypto/secp256k1`.

use crate::key_file::{KeyError, TypedKey, other_type};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use k256::ecdsa;
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use tendermint::PublicKey;
use zeroize::Zeroizing;

const PRIVATE: &str = "tendermint/PrivKeyEd25519";
pub(crate) const PRIVATE_SECP256K1: &str = "tendermint/PrivKeySecp256k1";
pub(crate) const PUBLIC: &str = "tendermint/PubKeyEd25519";
pub(crate) const PUBLIC_SECP256K1: &str = "tendermint/PubKeySecp256k1";
/// What types of keys a file may have, for people.
const TYPES: &str = "tendermint/PrivKeyEd25519 or tendermint/PrivKeySecp256k1";

/// A kind of validator key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyType {
    /// Ed25519, what most chains use.
    #[default]
    Ed25519,
    /// secp256k1 with ECDSA.
    Secp256k1,
}

/// The secret that a validator signs with; it wipes itself when dropped, and is never printed.
#[derive(Clone)]
pub enum ValidatorSecret {
    /// Ed25519.
    Ed25519(SigningKey),
    /// secp256k1.
    Secp256k1(ecdsa::SigningKey),
}

impl From<SigningKey> for ValidatorSecret {
    fn from(key: SigningKey) -> ValidatorSecret {
        ValidatorSecret::Ed25519(key)
    }
}

impl ValidatorSecret {
    /// A fresh one.
    ///
    /// # Errors
    /// Where the system has no random bytes.
    pub(crate) fn generate(kind: KeyType) -> Result<ValidatorSecret, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        loop {
            OsRng.try_fill_bytes(seed.as_mut_slice()).map_err(|_| KeyError::Random)?;
            match kind {
                KeyType::Ed25519 => return Ok(SigningKey::from_bytes(&seed).into()),
                // One in 2^128 is no scalar of the curve.
                KeyType::Secp256k1 => {
                    if let Ok(key) = ecdsa::SigningKey::from_slice(seed.as_slice()) {
                        return Ok(ValidatorSecret::Secp256k1(key));
                    }
                }
            }
        }
    }

    /// The public key.
    ///
    /// # Panics
    /// Never: the public half of a key is a key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        match self {
            ValidatorSecret::Ed25519(key) => {
                PublicKey::from_raw_ed25519(key.verifying_key().as_bytes()).expect("a public key")
            }
            ValidatorSecret::Secp256k1(key) => PublicKey::Secp256k1(*key.verifying_key()),
        }
    }

    /// The signature over `message`: Ed25519, or ECDSA over its SHA-256 with the lower s, as CometBFT signs.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        match self {
            ValidatorSecret::Ed25519(key) => key.sign(message).to_bytes(),
            ValidatorSecret::Secp256k1(key) => {
                let signature: ecdsa::Signature = ecdsa::signature::Signer::sign(key, message);
                signature.to_bytes().into()
            }
        }
    }

    /// As key files hold it.
    pub(crate) fn typed(&self) -> TypedKey {
        match self {
            ValidatorSecret::Ed25519(key) => {
                TypedKey::new(PRIVATE, Zeroizing::new(key.to_keypair_bytes()).as_slice())
            }
            ValidatorSecret::Secp256k1(key) => {
                let bytes = Zeroizing::new(<[u8; 32]>::from(key.to_bytes()));
                TypedKey::new(PRIVATE_SECP256K1, bytes.as_slice())
            }
        }
    }

    /// From a key file; what is wrong, in words without the key.
    pub(crate) fn of(key: &TypedKey) -> Result<ValidatorSecret, String> {
        match key.kind() {
            PRIVATE => ed25519(&key.bytes()?).map(ValidatorSecret::Ed25519),
            PRIVATE_SECP256K1 => {
                let bytes = key.bytes()?;
                let length = bytes.len();
                let bytes: Zeroizing<[u8; 32]> =
                    bytes.as_slice().try_into().map(Zeroizing::new).map_err(|_| {
                        format!("priv_key has {length} bytes where a secp256k1 key has 32")
                    })?;
                ecdsa::SigningKey::from_slice(bytes.as_slice())
                    .map(ValidatorSecret::Secp256k1)
                    .map_err(|_| "priv_key is no secp256k1 key".to_owned())
            }
            kind => Err(other_type(kind, TYPES)),
        }
    }
}

/// An ed25519 key from its secret and public halves.
pub(crate) fn ed25519(bytes: &[u8]) -> Result<SigningKey, String> {
    let length = bytes.len();
    let bytes: Zeroizing<[u8; 64]> = bytes
        .try_into()
        .map(Zeroizing::new)
        .map_err(|_| format!("priv_key has {length} bytes where an ed25519 key has 64"))?;
    SigningKey::from_keypair_bytes(&bytes)
        .map_err(|_| "the two halves of priv_key do not belong together".to_owned())
}

/// A public key as key files and genesis hold it: type and base64.
pub(crate) fn typed_public(key: &PublicKey) -> (&'static str, String) {
    let kind = match key {
        PublicKey::Secp256k1(_) => PUBLIC_SECP256K1,
        _ => PUBLIC,
    };
    (kind, STANDARD.encode(key.to_bytes()))
}

/// The public key of a typed one; what is wrong, in words.
pub(crate) fn public_of(kind: &str, base64: &str) -> Result<PublicKey, String> {
    let bytes = || STANDARD.decode(base64).map_err(|_| "pub_key is not base64".to_owned());
    let long = |name: &str, wanted: usize, bytes: &[u8]| match bytes.len() == wanted {
        true => Ok(()),
        false => Err(format!("pub_key has {} bytes where {name} key has {wanted}", bytes.len())),
    };
    match kind {
        PUBLIC => {
            let bytes = bytes()?;
            long("an ed25519", 32, &bytes)?;
            let point = bytes.as_slice().try_into().ok();
            let point = point.filter(|p| ed25519_dalek::VerifyingKey::from_bytes(p).is_ok());
            let key = point.and_then(|_: [u8; 32]| PublicKey::from_raw_ed25519(&bytes));
            key.ok_or_else(|| "pub_key is not a point of ed25519".to_owned())
        }
        PUBLIC_SECP256K1 => {
            let bytes = bytes()?;
            long("a secp256k1", 33, &bytes)?;
            let key = PublicKey::from_raw_secp256k1(&bytes);
            key.ok_or_else(|| "pub_key is not a point of secp256k1".to_owned())
        }
        kind => Err(format!(
            "the key has the type {kind:?}, which must be {PUBLIC:?} or {PUBLIC_SECP256K1:?}"
        )),
    }
}
