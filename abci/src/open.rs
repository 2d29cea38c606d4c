//! From the name in the configuration to an application.

use crate::application::{AppError, Roles};
use crate::in_process::{in_process, optimistic};
use crate::kvstore::{Durability, KvStore};
use crate::noop::Noop;
use crate::remote::{self, Settings, Stop};
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

/// The folder of the kvstore inside the node's data folder.
const KVSTORE_FOLDER: &str = "kvstore.db";

/// Why there is no application.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A name that is none.
    #[error(
        "proxy_app = \"{0}\" names no application: set kvstore, persistent_kvstore, noop, tcp://HOST:PORT or unix://PATH"
    )]
    Unknown(String),
    /// The node was told to stop before the application in another process was there.
    #[error(transparent)]
    App(#[from] AppError),
    /// The kvstore's database did not open.
    #[error("the kvstore's database in {} cannot be opened: see to the disk; where its data is damaged, remove the folder, and the chain is executed again", folder.display())]
    Database {
        /// Where it is.
        folder: PathBuf,
        /// What the database said.
        source: rocksdb::Error,
    },
    /// Files of the kvstore's database were removed.
    #[error(
        "{} lacks files of its database (CURRENT): remove the folder, and the chain is executed again",
        folder.display()
    )]
    Incomplete {
        /// Where it is.
        folder: PathBuf,
    },
    /// The kvstore's snapshots cannot be looked at.
    #[error("the kvstore's snapshots in {} cannot be read: see to the disk, or remove them", folder.join("snapshots").display())]
    Snapshots {
        /// Where the kvstore is.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The kvstore's data is not what was written.
    #[error("the kvstore's data in {} cannot be read", folder.display())]
    Damaged {
        /// Where it is.
        folder: PathBuf,
        /// What is damaged.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// The application that a configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// `proxy_app`: `kvstore`, `persistent_kvstore` or `noop`, or the address of one in another process.
    pub proxy_app: String,
    /// The kvstores have their data below this folder, in one folder for both, so the name can be changed.
    pub data_dir: PathBuf,
    /// Every how many heights they make a snapshot; 0: never.
    pub snapshot_interval: u64,
    /// Whether those inside the node that can execute blocks before they are decided do so.
    pub optimistic: bool,
    /// How long the kvstores take longer than they need for a block, to see how a node does with a slow application.
    pub block_delay: Duration,
}

/// Opens an application. One in another process is waited for until `stop` is told.
///
/// # Errors
/// For unknown names, and where the kvstore's data cannot be opened.
pub fn open(named: &Named, settings: &Settings, stop: &Stop) -> Result<Roles, OpenError> {
    let kvstore = |durability| {
        let app = KvStore::open(&named.data_dir.join(KVSTORE_FOLDER), durability)?;
        let app = app.snapshots_every(named.snapshot_interval).block_delay(named.block_delay);
        Ok(if named.optimistic { optimistic(app) } else { in_process(app) })
    };
    match named.proxy_app.as_str() {
        "kvstore" => kvstore(Durability::Buffered),
        "persistent_kvstore" => kvstore(Durability::Synced),
        "noop" => Ok(in_process(Noop)),
        address => match address.parse() {
            Ok(address) => Ok(remote::connect(&address, settings, stop)?),
            Err(_) => Err(OpenError::Unknown(address.to_owned())),
        },
    }
}
