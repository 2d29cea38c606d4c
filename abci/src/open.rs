//! From the name in the configuration to an application.

use crate::application::{AppError, Roles};
use crate::in_process::in_process;
use crate::kvstore::{Durability, KvStore};
use crate::noop::Noop;
use crate::socket::{self, Settings, Stop};
use std::error::Error;
use std::path::{Path, PathBuf};

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
    /// The kvstore's data is not what was written.
    #[error("the kvstore's data in {} cannot be read", folder.display())]
    Damaged {
        /// Where it is.
        folder: PathBuf,
        /// What is damaged.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Opens the application with this name, as it stands in `proxy_app`: `kvstore`, `persistent_kvstore` or `noop`, or the address of one in
/// another process, which is waited for until `stop` is told. The kvstores have their data below `data_dir`, in one folder for both, so
/// the name can be changed.
///
/// # Errors
/// For other names, and where the kvstore's data cannot be opened.
pub fn open(
    proxy_app: &str,
    data_dir: &Path,
    settings: &Settings,
    stop: &Stop,
) -> Result<Roles, OpenError> {
    let kvstore = |durability| KvStore::open(&data_dir.join(KVSTORE_FOLDER), durability);
    match proxy_app {
        "kvstore" => kvstore(Durability::Buffered).map(in_process),
        "persistent_kvstore" => kvstore(Durability::Synced).map(in_process),
        "noop" => Ok(in_process(Noop)),
        address => match address.parse() {
            Ok(address) => Ok(socket::connect(&address, settings, stop)?),
            Err(_) => Err(OpenError::Unknown(address.to_owned())),
        },
    }
}
