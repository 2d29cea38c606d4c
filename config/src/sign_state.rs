//! `data/priv_validator_state.json`: up to which height signing is reserved.

use crate::files;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What CometBFT calls the step of a precommit: the last in a round.
const PRECOMMIT: u8 = 3;

/// The watermark outside the database: nothing above `height` was signed with this key in this home.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

/// What to do about a damaged one. The journal and the peers know the rest.
const REMEDY: &str = "remove it and keep data/journal: the node signs again once the chain has passed what it may have signed";

/// CometBFT's form (its `privval/file.go`, `FilePVLastSignState`). A reservation is written as if the last round of its
/// height were signed, so that CometBFT, given the home, signs nothing up to there.
#[derive(Serialize, Deserialize)]
struct Document {
    height: Height,
    #[serde(default)]
    round: i32,
    #[serde(default)]
    step: u8,
}

/// CometBFT writes a string.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Height {
    Text(String),
    Number(u64),
}

impl SignState {
    /// Writes the file, atomically, and syncs it and its folder.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn save(&self, path: &Path) -> Result<(), SignStateError> {
        let failed = |reason: String| SignStateError { path: path.to_owned(), reason };
        let (round, step) = if self.height == 0 { (0, 0) } else { (i32::MAX, PRECOMMIT) };
        let document = Document { height: Height::Text(self.height.to_string()), round, step };
        let mut text =
            serde_json::to_vec_pretty(&document).map_err(|error| failed(error.to_string()))?;
        text.push(b'\n');
        files::replace(path, &text, files::SECRET).map_err(|error| failed(error.to_string()))
    }

    /// Reads the file, which CometBFT may have written; none where there is none.
    ///
    /// # Errors
    /// Where it cannot be read or says something else. A damaged watermark must never be taken for none.
    pub fn load(path: &Path) -> Result<Option<SignState>, SignStateError> {
        let failed = |reason: String| SignStateError { path: path.to_owned(), reason };
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
        };
        let document: Document = serde_json::from_slice(&text)
            .map_err(|error| failed(format!("it is damaged ({error}): {REMEDY}")))?;
        let height = match document.height {
            Height::Number(height) => Ok(height),
            Height::Text(text) => {
                text.parse().map_err(|_| format!("height {text:?} is no height: {REMEDY}"))
            }
        };
        Ok(Some(SignState { height: height.map_err(failed)? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("priv_validator_state.json");
        std::fs::write(&path, text).expect("written");
        (folder, path)
    }

    #[test]
    fn a_saved_watermark_is_loaded_and_replaced() {
        let (_folder, path) = file("");
        for height in [0, 64, u64::MAX] {
            let state = SignState { height };
            state.save(&path).expect("saved");
            assert_eq!(SignState::load(&path).expect("loaded"), Some(state));
        }
    }

    #[test]
    fn the_files_of_cometbft_are_read() {
        let signed = r#"{"height":"7","round":1,"step":3,"signature":"AAAA","signbytes":"0A"}"#;
        for (text, height) in [(r#"{"height":"0","round":0,"step":0}"#, 0), (signed, 7)] {
            let (_folder, path) = file(text);
            assert_eq!(SignState::load(&path).expect("loaded"), Some(SignState { height }));
        }
    }

    #[test]
    fn a_reservation_looks_signed_to_cometbft() {
        let (_folder, path) = file("");
        SignState { height: 64 }.save(&path).expect("saved");
        let text = std::fs::read_to_string(&path).expect("a file");
        assert_eq!(text, "{\n  \"height\": \"64\",\n  \"round\": 2147483647,\n  \"step\": 3\n}\n");
        SignState::default().save(&path).expect("saved");
        let text = std::fs::read_to_string(&path).expect("a file");
        assert_eq!(text, "{\n  \"height\": \"0\",\n  \"round\": 0,\n  \"step\": 0\n}\n");
    }

    #[test]
    fn a_damaged_watermark_is_an_error_and_a_missing_one_is_none() {
        for text in
            ["", "{}", "null", r#"{"height":"-1"}"#, r#"{"height":"x"}"#, r#"{"height":"5","#]
        {
            let (_folder, path) = file(text);
            let error = SignState::load(&path).expect_err(text).to_string();
            assert!(
                error.contains("priv_validator_state.json") && !error.contains('\n'),
                "{error}"
            );
        }
        let (_folder, path) = file("");
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(SignState::load(&path).expect("none"), None);
    }
}
