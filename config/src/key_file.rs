//! `node_key.json` and `priv_validator_key.json`, in CometBFT's format. Source: CometBFT `p2p/key.go`, `privval/file.go`.

use crate::files;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};
use zeroize::{Zeroize as _, Zeroizing};

const PRIVATE: &str = "tendermint/PrivKeyEd25519";
const PUBLIC: &str = "tendermint/PubKeyEd25519";

/// The largest file that is read: more is no key.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is none.
    #[error("{} does not exist; `tercet init` makes one", .0.display())]
    Missing(PathBuf),
    /// It is there already, and keys are never overwritten.
    #[error("{} exists already, and keys are not overwritten", .0.display())]
    Exists(PathBuf),
    /// The disk fails, or does not permit it.
    #[error("cannot use {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// It is no key file.
    #[error("{} is no key file: {reason}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong; never with the file's content.
        reason: String,
    },
    /// The system has no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

/// An ed25519 key pair. The secret is wiped from memory when dropped, and never printed.
struct Pair(SigningKey);

impl Pair {
    fn generate() -> Result<Pair, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        OsRng.try_fill_bytes(seed.as_mut_slice()).map_err(|_| KeyError::Random)?;
        Ok(Pair(SigningKey::from_bytes(&seed)))
    }

    fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// The first 20 bytes of the hash of the public key: CometBFT's address of keys.
    fn address(&self) -> [u8; 20] {
        address_of(&self.public())
    }

    fn private_key(&self) -> TypedKey {
        let bytes = Zeroizing::new(self.0.to_keypair_bytes());
        TypedKey { kind: PRIVATE.into(), value: STANDARD.encode(*bytes) }
    }

    fn public_key(&self) -> TypedKey {
        TypedKey { kind: PUBLIC.into(), value: STANDARD.encode(self.public()) }
    }

    fn of(key: &TypedKey) -> Result<Pair, String> {
        if key.kind != PRIVATE {
            return Err(other_type(&key.kind, PRIVATE));
        }
        let bytes = STANDARD.decode(&key.value).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| "priv_key is not base64".to_owned())?;
        let length = bytes.len();
        let bytes: Zeroizing<[u8; 64]> = bytes
            .as_slice()
            .try_into()
            .map(Zeroizing::new)
            .map_err(|_| format!("priv_key has {length} bytes where an ed25519 key has 64"))?;
        SigningKey::from_keypair_bytes(&bytes)
            .map(Pair)
            .map_err(|_| "the two halves of priv_key do not belong together".to_owned())
    }
}

/// The address of an ed25519 public key: the first 20 bytes of its SHA-256.
#[must_use]
pub fn address_of(public_key: &[u8; 32]) -> [u8; 20] {
    let mut address = [0; 20];
    address.copy_from_slice(&Sha256::digest(public_key)[..20]);
    address
}

/// Says what to do about a key that is not ed25519.
pub(crate) fn other_type(kind: &str, expected: &str) -> String {
    if kind.contains("Secp256k1") {
        return format!(
            "the key is secp256k1 ({kind}), and Tercet signs with ed25519 only ({expected}): make a new key with `tercet keys generate`"
        );
    }
    format!("the key has the type {kind:?}, which must be {expected:?}")
}

/// CometBFT's `{"type": …, "value": …}`.
#[derive(Serialize, Deserialize)]
struct TypedKey {
    #[serde(rename = "type")]
    kind: String,
    value: String,
}

impl Drop for TypedKey {
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

#[derive(Serialize, Deserialize)]
struct NodeDocument {
    priv_key: TypedKey,
}

#[derive(Serialize, Deserialize)]
struct ValidatorDocument {
    #[serde(default)]
    address: String,
    #[serde(default)]
    pub_key: Option<TypedKey>,
    priv_key: TypedKey,
}

/// The key that peers know a node by: `node_key.json`.
pub struct NodeKey(Pair);

/// The key that votes: `priv_validator_key.json`.
pub struct ValidatorKey(Pair);

impl NodeKey {
    /// A fresh key.
    ///
    /// # Errors
    /// Where the system has no random bytes.
    pub fn generate() -> Result<NodeKey, KeyError> {
        Pair::generate().map(NodeKey)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// Where there is none, or it is no key file.
    pub fn read(path: &Path) -> Result<NodeKey, KeyError> {
        let document: NodeDocument = parse(path)?;
        Pair::of(&document.priv_key).map(NodeKey).map_err(content(path))
    }

    /// Writes the file, for the owner only. An existing one stays, and is an error.
    ///
    /// # Errors
    /// Where it exists or cannot be written.
    pub fn create(&self, path: &Path) -> Result<(), KeyError> {
        create(path, &NodeDocument { priv_key: self.0.private_key() })
    }

    /// Reads the file; makes it where there is none.
    ///
    /// # Errors
    /// As [`NodeKey::read`] and [`NodeKey::create`].
    pub fn read_or_create(path: &Path) -> Result<NodeKey, KeyError> {
        match NodeKey::read(path) {
            Err(KeyError::Missing(_)) => {
                let key = NodeKey::generate()?;
                key.create(path).map(|()| key)
            }
            read => read,
        }
    }

    /// CometBFT's node id: the first 20 bytes of the hash of the public key, in lower-case hexadecimal.
    #[must_use]
    pub fn id(&self) -> String {
        hex::encode(self.0.address())
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.0.public()
    }

    /// The secret: the seed of the key.
    #[must_use]
    pub fn secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.0.to_bytes())
    }
}

impl ValidatorKey {
    /// A fresh key.
    ///
    /// # Errors
    /// Where the system has no random bytes.
    pub fn generate() -> Result<ValidatorKey, KeyError> {
        Pair::generate().map(ValidatorKey)
    }

    /// Reads the file; address and public key, where it has them, must fit the private key.
    ///
    /// # Errors
    /// Where there is none, or it is no key file.
    pub fn read(path: &Path) -> Result<ValidatorKey, KeyError> {
        let document: ValidatorDocument = parse(path)?;
        let key = Pair::of(&document.priv_key).map(ValidatorKey).map_err(content(path))?;
        let address = &document.address;
        if !address.is_empty() && !address.eq_ignore_ascii_case(&key.address_hex()) {
            let reason =
                format!("address {address} is not that of priv_key ({})", key.address_hex());
            return Err(content(path)(reason));
        }
        if let Some(public) = &document.pub_key
            && (public.kind != PUBLIC || public.value != key.0.public_key().value)
        {
            return Err(content(path)("pub_key does not belong to priv_key".into()));
        }
        Ok(key)
    }

    /// Writes the file, for the owner only. An existing one stays, and is an error.
    ///
    /// # Errors
    /// Where it exists or cannot be written.
    pub fn create(&self, path: &Path) -> Result<(), KeyError> {
        create(path, &self.document())
    }

    fn document(&self) -> ValidatorDocument {
        ValidatorDocument {
            address: self.address_hex(),
            pub_key: Some(self.0.public_key()),
            priv_key: self.0.private_key(),
        }
    }

    /// The validator's address.
    #[must_use]
    pub fn address(&self) -> [u8; 20] {
        self.0.address()
    }

    /// The address as CometBFT writes it: upper-case hexadecimal.
    #[must_use]
    pub fn address_hex(&self) -> String {
        hex::encode_upper(self.address())
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.0.public()
    }

    /// The public key as `show-validator` prints it and a genesis holds it.
    #[must_use]
    pub fn public_json(&self) -> String {
        serde_json::json!({ "type": PUBLIC, "value": STANDARD.encode(self.public()) }).to_string()
    }

    /// The key that signs; it wipes itself when dropped.
    #[must_use]
    pub fn signing_key(&self) -> SigningKey {
        self.0.0.clone()
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.id())
    }
}

impl fmt::Debug for ValidatorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ValidatorKey({})", self.address_hex())
    }
}

fn content(path: &Path) -> impl FnOnce(String) -> KeyError {
    let path = path.to_owned();
    |reason| KeyError::Content { path, reason }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> KeyError {
    let path = path.to_owned();
    |error| match error.kind() {
        std::io::ErrorKind::NotFound => KeyError::Missing(path),
        std::io::ErrorKind::AlreadyExists => KeyError::Exists(path),
        _ => KeyError::Io { path, error },
    }
}

fn parse<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, KeyError> {
    let size = std::fs::metadata(path).map_err(io(path))?.len();
    if size > FILE_BYTES_MAX {
        return Err(content(path)(format!("it has {size} bytes")));
    }
    let text = Zeroizing::new(std::fs::read(path).map_err(io(path))?);
    // The message of the parser may quote the file, and with it the key.
    serde_json::from_slice(&text).map_err(|error| {
        content(path)(format!(
            "it is not in CometBFT's format (line {}, column {})",
            error.line(),
            error.column()
        ))
    })
}

fn create(path: &Path, document: &impl Serialize) -> Result<(), KeyError> {
    let text = serde_json::to_vec_pretty(document).map(Zeroizing::new);
    let mut text = text.map_err(|error| content(path)(error.to_string()))?;
    text.push(b'\n');
    files::create(path, &text, files::SECRET).map_err(io(path))
}

#[cfg(test)]
#[path = "key_file_tests.rs"]
mod tests;
