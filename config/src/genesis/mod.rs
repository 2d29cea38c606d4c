//! `genesis.json`, in CometBFT's format (its `types/genesis.go`), with one object `tercet` beside it.
//!
//! ```json
//! { "chain_id": "…", …, "tercet": { "primary_term": "64", "min_block_interval": "0s" } }
//! ```

mod document;
mod hash;
mod params;
#[cfg(test)]
mod tests;

use crate::files;
use document::Document;
use serde_json::value::RawValue;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tendermint::Time;
use tendermint::block::Height;
use tendermint::consensus::Params;

/// The longest chain id. Source: CometBFT `types/genesis.go`, `MaxChainIDLen`.
pub const CHAIN_ID_BYTES_MAX: usize = 50;
/// The most voting power that all validators may have together. Source: CometBFT `types/validator_set.go`.
pub const TOTAL_POWER_MAX: u64 = (i64::MAX / 8).unsigned_abs();
/// The most validators. Source: CometBFT `types/vote_set.go`, `MaxVotesCount`.
pub const VALIDATORS_MAX: usize = 10_000;
/// The largest block in bytes. Source: CometBFT `types/params.go`, `MaxBlockSizeBytes`.
pub const BLOCK_BYTES_MAX: u64 = 104_857_600;
/// The highest height that a chain may begin at: above it no block is taken, as heights of 63 bits would soon be at their end.
pub const INITIAL_HEIGHT_MAX: u64 = 1 << 62;
/// Heights of one primary where the genesis says nothing else.
pub const PRIMARY_TERM: u64 = 64;

/// What all nodes of a chain begin with.
#[derive(Clone, Debug)]
pub struct Genesis {
    /// When the chain begins; the time of its first block.
    pub time: Time,
    /// The name of the chain.
    pub chain_id: String,
    /// The height of the first block.
    pub initial_height: Height,
    /// The first consensus parameters; a largest block of `u64::MAX` bytes stands for CometBFT's −1.
    pub params: Params,
    /// The first validators in the order of the file. None: the application names them.
    pub validators: Vec<GenesisValidator>,
    /// The hash of the application before the first block.
    pub app_hash: Vec<u8>,
    /// The application's first state, byte for byte as the file has it.
    pub app_state: Option<Box<RawValue>>,
    /// Parameters of the chain that CometBFT does not have.
    pub tercet: ChainParams,
    /// The same as the file has them.
    pub tercet_raw: Option<Box<RawValue>>,
    /// Top-level keys that neither CometBFT nor Tercet knows, and that do nothing: for a warning.
    pub ignored: Vec<String>,
}

/// A validator of the genesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenesisValidator {
    /// Its key.
    pub public_key: tendermint::PublicKey,
    /// Its voting power, at least 1.
    pub power: u64,
    /// What it is called.
    pub name: String,
}

/// The `tercet` object: parameters of the chain that CometBFT does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainParams {
    /// For how many heights a primary is planned.
    pub primary_term: u64,
    /// The least time between two blocks.
    pub min_block_interval: Duration,
}

impl Default for ChainParams {
    fn default() -> ChainParams {
        ChainParams { primary_term: PRIMARY_TERM, min_block_interval: Duration::ZERO }
    }
}

/// Why a genesis cannot be used. One line.
#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    /// There is none.
    #[error("{} does not exist; `tercet init` makes one, or copy that of the chain", .0.display())]
    Missing(PathBuf),
    /// The disk fails, or does not permit it.
    #[error("cannot use {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// It breaks a rule.
    #[error("{}{reason}", origin(.path.as_deref()))]
    Invalid {
        /// The file.
        path: Option<PathBuf>,
        /// Which rule.
        reason: String,
    },
}

fn origin(path: Option<&Path>) -> String {
    path.map_or_else(|| "genesis: ".to_owned(), |path| format!("{}: ", path.display()))
}

impl Genesis {
    /// Reads a file.
    ///
    /// # Errors
    /// Where there is none, or it breaks a rule.
    pub fn read(path: &Path) -> Result<Genesis, GenesisError> {
        let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => GenesisError::Missing(path.to_owned()),
            _ => GenesisError::Io { path: path.to_owned(), error },
        })?;
        let genesis = Document::parse(&text).and_then(Genesis::try_from);
        let path = Some(path.to_owned());
        genesis.map_err(|reason| GenesisError::Invalid { path, reason })
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// Where it breaks a rule.
    pub fn parse(text: &str) -> Result<Genesis, GenesisError> {
        let genesis = Document::parse(text).and_then(Genesis::try_from);
        genesis.map_err(|reason| GenesisError::Invalid { path: None, reason })
    }

    /// A genesis with the parameters that CometBFT begins with.
    #[must_use]
    pub fn new(chain_id: &str, time: Time, validators: Vec<GenesisValidator>) -> Genesis {
        Genesis {
            time,
            chain_id: chain_id.to_owned(),
            initial_height: Height::from(1u32),
            params: params::default(),
            validators,
            app_hash: Vec::new(),
            app_state: None,
            tercet: ChainParams::default(),
            tercet_raw: None,
            ignored: Vec::new(),
        }
    }

    /// What identifies the chain: SHA-256 over the parsed fields and the bytes of `app_state`, so that spaces, the order of
    /// keys and numbers written as strings make no difference outside of `app_state`.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        hash::hash(self)
    }

    /// The file's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        document::write(self)
    }

    /// Writes a file that must not exist yet.
    ///
    /// # Errors
    /// Where it exists or cannot be written.
    pub fn create(&self, path: &Path) -> Result<(), GenesisError> {
        let written = files::create(path, self.to_json().as_bytes(), files::PUBLIC);
        written.map_err(|error| GenesisError::Io { path: path.to_owned(), error })
    }
}
