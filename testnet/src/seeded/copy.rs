//! The copy of the source that the flaws are planted in.

use super::patch::Patch;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A copy of the tracked files, removed when dropped.
pub(crate) struct Copy {
    folder: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// Copies the tracked files of the repository at `source`, to be compiled to `target`.
    ///
    /// # Errors
    /// Where it is no repository, a file cannot be copied, or the source itself is compiled to `target`.
    pub(crate) fn new(source: &Path, target: Option<&Path>) -> anyhow::Result<Copy> {
        let temp = std::env::temp_dir();
        let folder = temp.join(format!("tercet-seeded-bugs-{}", std::process::id()));
        let target = target.map_or_else(|| temp.join("tercet-seeded-bugs-target"), Path::to_owned);
        let others =
            [Some(source.join("target")), std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from)];
        // Cargo tells two copies of a source apart by the age of their files alone, so a flaw could end up in a build of the other.
        if others.iter().flatten().any(|other| same(other, &target)) {
            bail!("{} is where this source itself is compiled to", target.display());
        }
        let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(source).output();
        let listed = listed.context("git is needed to list the files")?;
        if !listed.status.success() {
            bail!("{} is no git repository", source.display());
        }
        let copy = Copy { folder, target };
        for file in String::from_utf8(listed.stdout)?.split_terminator('\0') {
            let to = copy.folder.join(file);
            std::fs::create_dir_all(to.parent().unwrap_or(&copy.folder))?;
            std::fs::copy(source.join(file), &to).with_context(|| format!("cannot copy {file}"))?;
        }
        Ok(copy)
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where it is compiled to.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Puts the flaw in.
    ///
    /// # Errors
    /// Where it does not apply.
    pub(crate) fn plant(&self, patch: &Patch) -> anyhow::Result<()> {
        patch.git_apply(&self.folder, "--apply")
    }

    /// Takes the flaw out.
    ///
    /// # Errors
    /// Where it was not in.
    pub(crate) fn remove(&self, patch: &Patch) -> anyhow::Result<()> {
        patch.git_apply(&self.folder, "--reverse")
    }
}

fn same(one: &Path, other: &Path) -> bool {
    one == other
        || one.canonicalize().ok().is_some_and(|one| other.canonicalize().ok() == Some(one))
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What cannot be removed lies in the temporary folder.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
