//! Files that are there as a whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The permissions of a file with a secret in it.
pub(crate) const SECRET: u32 = 0o600;
/// The permissions of any other file.
pub(crate) const PUBLIC: u32 = 0o644;

/// Writes a file that must not exist yet; it appears with all its bytes, which are on the disk.
pub(crate) fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let new = sibling(path);
    let linked = write(&new, bytes, mode).and_then(|()| {
        // A link, unlike a rename, fails where the name is taken.
        std::fs::hard_link(&new, path)
    });
    let removed = std::fs::remove_file(&new);
    linked.and(removed).and_then(|()| sync_folder(path))
}

/// Writes a file in place of the one that may be there.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let new = sibling(path);
    let renamed = write(&new, bytes, mode).and_then(|()| std::fs::rename(&new, path));
    if renamed.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(&new);
    }
    renamed.and_then(|()| sync_folder(path))
}

/// A name beside `path` that no other process uses.
fn sibling(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".new-{}", std::process::id()));
    path.with_file_name(name)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // One that is left of a process that was killed has nothing of worth.
    let _ = std::fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_created_file_is_never_overwritten_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key.json");
        create(&path, b"first", SECRET).expect("created");
        let error = create(&path, b"second", SECRET).expect_err("it exists");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).expect("a file"), b"first");
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, SECRET);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn a_replaced_file_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.json");
        replace(&path, b"first", SECRET).expect("written");
        replace(&path, b"second", SECRET).expect("written");
        assert_eq!(std::fs::read(&path).expect("a file"), b"second");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
        assert!(replace(&folder.path().join("none/state.json"), b"", SECRET).is_err());
    }
}
