//! The folder of a database: who has it and what format it has. Both stand in one file, [`FILE`], which is locked while the
//! database is open and says the format, as `tercet journal 1`.

use super::StoreError;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

/// The file with the format and the lock.
pub(super) const FILE: &str = "FORMAT";
/// The most bytes that are read of it.
const FILE_BYTES_MAX: u64 = 256;
/// RocksDB's file that names its current manifest: where it is, a database is.
const DATABASE_FILE: &str = "CURRENT";
/// What a database has written by the time it has data: without [`DATABASE_FILE`], RocksDB would begin a new one over it.
const DATA_EXTENSIONS: [&str; 3] = ["log", "sst", "blob"];

/// A folder that this process has locked and that has the right format.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Held as long as the folder is.
    _lock: Flock<File>,
}

impl Folder {
    /// Creates the folder where it is not there, locks it and checks that its format is `format`.
    pub(super) fn open(path: &Path, format: &str) -> Result<Folder, StoreError> {
        let failed = |source| StoreError::File { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(failed)?;
        let mut file = OpenOptions::new();
        let file = file.read(true).append(true).create(true).open(path.join(FILE));
        let lock = Flock::lock(file.map_err(failed)?, FlockArg::LockExclusiveNonblock);
        let mut lock = lock.map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => StoreError::Locked { folder: path.to_owned() },
            errno => failed(errno.into()),
        })?;
        let mut found = Vec::new();
        (&mut *lock).take(FILE_BYTES_MAX).read_to_end(&mut found).map_err(failed)?;
        let found = String::from_utf8_lossy(&found).trim_end().to_owned();
        let begun = path.join(DATABASE_FILE).exists();
        if (found.is_empty() && begun) || (!begun && has_data(path).map_err(failed)?) {
            return Err(StoreError::Incomplete { folder: path.to_owned() });
        }
        if found.is_empty() {
            writeln!(lock, "{format}").and_then(|()| lock.sync_all()).map_err(failed)?;
            sync_folder(path).map_err(failed)?;
        } else if found != format {
            let (folder, known) = (path.to_owned(), format.to_owned());
            return Err(StoreError::Format { folder, found, known });
        }
        Ok(Folder { path: path.to_owned(), _lock: lock })
    }

    /// Locks a folder with a database, which stays as it is.
    pub(super) fn open_existing(path: &Path, format: &str) -> Result<Folder, StoreError> {
        if path.join(FILE).exists() {
            Folder::open(path, format)
        } else {
            Err(StoreError::Missing { folder: path.to_owned() })
        }
    }

    /// A failure of the database in it.
    pub(super) fn failed(&self, source: rocksdb::Error) -> StoreError {
        StoreError::Database { folder: self.path.clone(), source }
    }

    /// A value in it that cannot be what was written.
    pub(super) fn damaged(&self, key: String, what: impl ToString) -> StoreError {
        StoreError::Damaged { folder: self.path.clone(), key, what: what.to_string() }
    }
}

/// Whether a file of the folder holds what a database wrote.
fn has_data(path: &Path) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        if DATA_EXTENSIONS.iter().any(|kind| file.extension().is_some_and(|found| found == *kind)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes the folder's entry and its parent's durable.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}
