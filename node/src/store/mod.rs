//! What the node keeps on disk: the only place that knows RocksDB.
//!
//! | Folder | Holds | Opened with |
//! |---|---|---|
//! | `data/journal` | the durable records of the protocol and the signing watermark, see [`Journal`] | a torn tail is dropped, damage before it refuses to start |
//! | `data/index` | where transactions and blocks with indexed events stand, see [`index::Index`] | as the chain; it can be made again from it |
//! | `data/chain` | blocks, commits, states, results, see [`Chain`] | the longest undamaged prefix of what was written; the journal and the peers have the rest |
//!
//! Keys are big-endian, so heights sort. What is read is not trusted: a value that cannot be decoded is [`StoreError::Damaged`].
//! A folder is locked by the process that has it open and carries the version of its format.

mod chain;
mod chain_state;
mod evidence;
mod folder;
pub mod index;
mod journal;
mod options;
mod prune;
mod rollback;
mod state;
mod wal;

#[cfg(test)]
pub(crate) mod chain_tests;
#[cfg(test)]
mod journal_tests;

#[cfg(any(test, feature = "testing"))]
pub mod hostile;

pub use chain::{BlockMeta, Chain};
pub use evidence::StoredPiece;
pub use journal::Journal;
pub use prune::Pruned;
pub use rollback::RollbackError;
pub use state::{Applied, State};

use std::path::PathBuf;
use tendermint::block::Height;

/// Why a store did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the folder open.
    #[error("another tercet runs on this home ({} is locked)", .folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// There is no database.
    #[error("there is no database in {}", .folder.display())]
    Missing {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder is not of the format that this build reads.
    #[error(
        "{} holds {found:?} and this tercet reads {known:?}: use the version that wrote it",
        .folder.display()
    )]
    Format {
        /// The folder.
        folder: PathBuf,
        /// What it says.
        found: String,
        /// What it should say.
        known: String,
    },
    /// A value cannot be what was written.
    #[error("damaged value in {} at {key}: {what}", .folder.display())]
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// The key.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// A log is damaged before its end, so that records which were durable would be lost.
    #[error("{} is damaged at byte {offset}", .file.display())]
    Log {
        /// The file.
        file: PathBuf,
        /// Where the damage begins.
        offset: u64,
    },
    /// Files of the database were removed.
    #[error("{} lacks files of its database (CURRENT, FORMAT)", .folder.display())]
    Incomplete {
        /// The folder.
        folder: PathBuf,
    },
    /// The database failed: disk full, input or output error, damage.
    #[error("the database in {} failed", .folder.display())]
    Database {
        /// The folder.
        folder: PathBuf,
        /// The cause.
        source: rocksdb::Error,
    },
    /// A file could not be read or written.
    #[error("cannot use {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// What is to be stored leaves a gap.
    #[error("height {height} does not follow {last}")]
    Gap {
        /// What is to be stored.
        height: Height,
        /// The last stored.
        last: Height,
    },
    /// Another block is stored at this height.
    #[error("another block is stored at height {height}")]
    Conflict {
        /// The height.
        height: Height,
    },
}

/// What to do about a damaged journal.
const JOURNAL_REMEDY: &str = "check the disk, then remove data/journal and keep priv_validator_state.json: the node signs again once \
     the chain has passed what it may have signed";
/// What to do about a damaged chain.
const CHAIN_REMEDY: &str = "check the disk, then `tercet reset` fetches the chain from peers again";
/// What to do about a damaged index.
const INDEX_REMEDY: &str =
    "check the disk, then remove data/index: it is made again from the chain";
/// What to do where a block was not stored.
const GAP_REMEDY: &str = "start again: what is missing comes from the journal or from peers; where it comes back, `tercet reset` fetches \
     the whole chain from them";
/// What to do where the machine failed.
const MACHINE_REMEDY: &str = "see to the disk (space, rights, errors), then start again";

impl StoreError {
    /// What the operator does about it, where it is the machine's fault.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        let of = |path: &std::path::Path| {
            let is = |name: &str| path.iter().any(|part| part == name);
            Some(match is("journal") {
                true => JOURNAL_REMEDY,
                false if is("index") => INDEX_REMEDY,
                false => CHAIN_REMEDY,
            })
        };
        match self {
            StoreError::Log { file: path, .. }
            | StoreError::Damaged { folder: path, .. }
            | StoreError::Incomplete { folder: path } => of(path),
            StoreError::Database { folder, source } if is_damage(source) => of(folder),
            StoreError::Database { .. } | StoreError::File { .. } => Some(MACHINE_REMEDY),
            StoreError::Missing { .. } => {
                Some("a node that has run once has one; --home says where")
            }
            StoreError::Gap { .. } => Some(GAP_REMEDY),
            StoreError::Locked { .. } | StoreError::Format { .. } | StoreError::Conflict { .. } => {
                None
            }
        }
    }

    /// Whether the machine failed (disk, database, files), so that the operator has to act and the process should end.
    #[must_use]
    pub fn is_environment(&self) -> bool {
        match self {
            StoreError::Locked { .. }
            | StoreError::Log { .. }
            | StoreError::Incomplete { .. }
            | StoreError::Database { .. }
            | StoreError::File { .. } => true,
            StoreError::Missing { .. }
            | StoreError::Format { .. }
            | StoreError::Damaged { .. }
            | StoreError::Gap { .. }
            | StoreError::Conflict { .. } => false,
        }
    }
}

/// Whether what is on disk is not what was written. A missing file is an input or output error for RocksDB.
fn is_damage(error: &rocksdb::Error) -> bool {
    error.kind() == rocksdb::ErrorKind::Corruption || error.to_string().contains("No such file")
}
