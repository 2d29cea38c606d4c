//! `node_key.json` and `priv_validator_key.json`, in CometBFT's format. Source: CometBFT `p2p/key.go`, `privval/file.go`.

use crate::files;
use crate::validator_secret::{KeyType, ValidatorSecret, ed25519, typed_public};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};
use tendermint::{PublicKey, account};
use zeroize::{Zeroize as _, Zeroizing};

const PRIVATE: &str = "tendermint/PrivKeyEd25519";

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

/// The address of an ed25519 public key: the first 20 bytes of its SHA-256.
#[must_use]
pub fn address_of(public_key: &[u8; 32]) -> [u8; 20] {
    let mut address = [0; 20];
    address.copy_from_slice(&Sha256::digest(public_key)[..20]);
    address
}

/// Says what to do about a key of a type that cannot be used.
pub(crate) fn other_type(kind: &str, expected: &str) -> String {
    format!("the key has the type {kind:?}, which must be {expected}")
}

/// CometBFT's `{"type": …, "value": …}`.
#[derive(Serialize, Deserialize)]
pub(crate) struct TypedKey {
    #[serde(rename = "type")]
    kind: String,
    value: String,
}

impl TypedKey {
    pub(crate) fn new(kind: &str, bytes: &[u8]) -> TypedKey {
        TypedKey { kind: kind.to_owned(), value: STANDARD.encode(bytes) }
    }

    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    /// The bytes of a private key.
    pub(crate) fn bytes(&self) -> Result<Zeroizing<Vec<u8>>, String> {
        let bytes = STANDARD.decode(&self.value).map(Zeroizing::new);
        bytes.map_err(|_| "priv_key is not base64".to_owned())
    }
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
pub struct NodeKey(SigningKey);

/// The key that votes: `priv_validator_key.json`.
pub struct ValidatorKey(ValidatorSecret);

impl NodeKey {
    /// A fresh key.
    ///
    /// # Errors
    /// Where the system has no random bytes.
    pub fn generate() -> Result<NodeKey, KeyError> {
        match ValidatorSecret::generate(KeyType::Ed25519)? {
            ValidatorSecret::Ed25519(key) => Ok(NodeKey(key)),
            ValidatorSecret::Secp256k1(_) => Err(KeyError::Random),
        }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// Where there is none, or it is no key file.
    pub fn read(path: &Path) -> Result<NodeKey, KeyError> {
        let document: NodeDocument = parse(path)?;
        let key = &document.priv_key;
        match key.kind() {
            PRIVATE => key.bytes().and_then(|bytes| ed25519(&bytes)),
            kind => Err(other_type(kind, PRIVATE)),
        }
        .map(NodeKey)
        .map_err(content(path))
    }

    /// Writes the file, for the owner only. An existing one stays, and is an error.
    ///
    /// # Errors
    /// Where it exists or cannot be written.
    pub fn create(&self, path: &Path) -> Result<(), KeyError> {
        let bytes = Zeroizing::new(self.0.to_keypair_bytes());
        create(path, &NodeDocument { priv_key: TypedKey::new(PRIVATE, bytes.as_slice()) })
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
        hex::encode(address_of(&self.public()))
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// The secret: the seed of the key.
    #[must_use]
    pub fn secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }
}

impl ValidatorKey {
    /// A fresh key.
    ///
    /// # Errors
    /// Where the system has no random bytes.
    pub fn generate(kind: KeyType) -> Result<ValidatorKey, KeyError> {
        ValidatorSecret::generate(kind).map(ValidatorKey)
    }

    /// Reads the file; address and public key, where it has them, must fit the private key.
    ///
    /// # Errors
    /// Where there is none, or it is no key file.
    pub fn read(path: &Path) -> Result<ValidatorKey, KeyError> {
        let document: ValidatorDocument = parse(path)?;
        let key = ValidatorSecret::of(&document.priv_key).map(ValidatorKey);
        let key = key.map_err(content(path))?;
        let address = &document.address;
        if !address.is_empty() && !address.eq_ignore_ascii_case(&key.address_hex()) {
            let reason =
                format!("address {address} is not that of priv_key ({})", key.address_hex());
            return Err(content(path)(reason));
        }
        if let Some(public) = &document.pub_key
            && (public.kind(), public.value.clone()) != typed_public(&key.public())
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
        let (kind, value) = typed_public(&self.public());
        ValidatorDocument {
            address: self.address_hex(),
            pub_key: Some(TypedKey { kind: kind.to_owned(), value }),
            priv_key: self.0.typed(),
        }
    }

    /// The validator's address.
    #[must_use]
    pub fn address(&self) -> account::Id {
        account::Id::from(self.public())
    }

    /// The address as CometBFT writes it: upper-case hexadecimal.
    #[must_use]
    pub fn address_hex(&self) -> String {
        hex::encode_upper(self.address())
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.0.public()
    }

    /// The public key as `show-validator` prints it and a genesis holds it.
    #[must_use]
    pub fn public_json(&self) -> String {
        let (kind, value) = typed_public(&self.public());
        serde_json::json!({ "type": kind, "value": value }).to_string()
    }

    /// What signs.
    #[must_use]
    pub fn secret(&self) -> ValidatorSecret {
        self.0.clone()
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
