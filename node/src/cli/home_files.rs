//! Makes the files of a home, and leaves those that are there.

use anyhow::Context as _;
use clap::ValueEnum;
use std::path::Path;
use tercet_config::{Config, Home, KeyType, NodeKey, SignState, ValidatorKey};

/// A kind of validator key, as flags name it.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum KeyKind {
    /// Ed25519, what most chains use.
    #[default]
    Ed25519,
    /// secp256k1 with ECDSA; the chain's validator.pub_key_types must permit it.
    Secp256k1,
}

impl From<KeyKind> for KeyType {
    fn from(kind: KeyKind) -> KeyType {
        match kind {
            KeyKind::Ed25519 => KeyType::Ed25519,
            KeyKind::Secp256k1 => KeyType::Secp256k1,
        }
    }
}

/// The keys of a home, and which files are new.
pub(super) struct Made {
    pub(super) node: NodeKey,
    pub(super) validator: ValidatorKey,
    /// One line for each file.
    pub(super) report: Vec<String>,
}

/// Makes folders, `config.toml` and both keys, where they are missing. A new validator key gets a fresh watermark with it.
pub(super) fn make(home: &Home, config: &Config, kind: KeyType) -> anyhow::Result<Made> {
    home.ensure(config)?;
    let mut report = Vec::new();
    let mut note = |path: &Path, is_new: bool| {
        let word = if is_new { "made" } else { "kept" };
        report.push(format!("{word} {}", path.display()));
    };
    let path = home.config_file();
    let is_new = !path.exists();
    if is_new {
        write_new(&path, &config.to_toml())?;
    }
    note(&path, is_new);
    let path = home.node_key_file(config);
    let is_new = !path.exists();
    let node = NodeKey::read_or_create(&path)?;
    note(&path, is_new);
    let path = home.validator_key_file(config);
    let is_new = !path.exists();
    let validator = match is_new {
        true => new_validator(home, config, kind)?,
        false => ValidatorKey::read(&path)?,
    };
    note(&path, is_new);
    Ok(Made { node, validator, report })
}

/// Makes a validator key, and the watermark that says that it has signed nothing. A watermark that is there stays: a new key
/// is only held back by it.
pub(super) fn new_validator(
    home: &Home,
    config: &Config,
    kind: KeyType,
) -> anyhow::Result<ValidatorKey> {
    let key = ValidatorKey::generate(kind)?;
    let state = home.sign_state_file(config);
    key.create(&home.validator_key_file(config))?;
    if !state.exists() {
        SignState::default().save(&state)?;
    }
    Ok(key)
}

/// Writes a file that must not exist yet.
fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// What the machine calls itself: the name of a node that has no other.
pub(super) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { Config::default().moniker } else { name.to_owned() }
}

/// Six characters for the name of a new chain, as in CometBFT's `test-chain-XXXXXX`.
pub(super) fn suffix() -> String {
    const CHARACTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let pick = |_| char::from(CHARACTERS[rand::random_range(0..CHARACTERS.len())]);
    (0..6).map(pick).collect()
}
