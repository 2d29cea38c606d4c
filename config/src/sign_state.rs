//! `data/priv_validator_state.json`: up to which height signing is reserved.

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The watermark outside the database: nothing above `height` was signed with this key in this home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignState {
    /// The reserved height.
    pub height: u64,
}

/// Why the file could not be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {}: {reason}", .path.display())]
pub struct SignStateError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

impl SignState {
    /// Reads the file; none where it is not there.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn load(path: &Path) -> Result<Option<SignState>, SignStateError> {
        let failed = |reason: String| SignStateError { path: path.to_owned(), reason };
        match std::fs::read(path) {
            Ok(text) => {
                serde_json::from_slice(&text).map(Some).map_err(|error| failed(error.to_string()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Writes the file, atomically, and syncs it and its folder.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn save(&self, path: &Path) -> Result<(), SignStateError> {
        let failed = |error: std::io::Error| SignStateError {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let text = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        let new = path.with_extension("json.new");
        let mut file = File::create(&new).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&new, path).map_err(failed)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}
