//! Snapshots: the whole store at a height, in chunks, for a node that begins there instead of at the first block (state sync).
//!
//! Every so many heights (`KvStore::snapshots_every`) the store is written to a file, beside the blocks that go on meanwhile, and the last
//! [`KEPT_MAX`] of the files are kept. A node with the same blocks writes the same bytes, so chunks of one snapshot may come from many.
//!
//! | | |
//! |---|---|
//! | format | 1 |
//! | content | each entry of the database in the order of keys: length and bytes of the key, length and bytes of the value; lengths are varints |
//! | chunks | [`CHUNK_BYTES`] each, the last one what is left |
//! | metadata | SHA-256 of each chunk, one after the other |
//! | hash | SHA-256 of the metadata |
//!
//! Whoever restores knows of a bad chunk when it comes, and who sent it. What a snapshot says as a whole can be checked against the
//! application's hash alone, which here is the number of transactions, as in CometBFT's kvstore: it does not cover the pairs.
//!
//! The manner of CometBFT's end-to-end application (`test/e2e/app/snapshots.go`).

mod archive;
mod restore;
#[cfg(test)]
mod tests;

pub(super) use restore::{Progress, Restore, answer, judge};

use super::store::{Store, StoreError};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tendermint_proto::v0_38::abci::Snapshot;

/// The only format.
const FORMAT: u32 = 1;
/// Bytes of a chunk. CometBFT takes up to 16 MB in a message.
const CHUNK_BYTES: usize = 1 << 20;
/// The most chunks: 64 GiB, with 2 MiB of metadata. CometBFT takes up to 4 MB in a message.
const CHUNKS_MAX: usize = 1 << 16;
/// The most snapshots that are kept, the last ones.
const KEPT_MAX: usize = 10;
/// Bytes of a hash.
const HASH_BYTES: usize = 32;

const DATA: &str = "data";
const HASHES: &str = "hashes";
const RESTORED: &str = "restored";
const UNFINISHED: &str = "unfinished";

/// Why a snapshot could not be made.
#[derive(Debug, thiserror::Error)]
enum SnapshotError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the store has more than {CHUNKS_MAX} chunks of {CHUNK_BYTES} bytes")]
    TooLarge,
    #[error("the application ends")]
    Ends,
}

/// The snapshots of a store, in a folder.
pub(super) struct Snapshots {
    kept: Arc<Kept>,
    every: AtomicU64,
    stop: Arc<AtomicBool>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Those that are there: the hashes of their chunks, by height.
struct Kept {
    folder: PathBuf,
    list: Mutex<BTreeMap<u64, Bytes>>,
}

impl Snapshots {
    /// Those in a folder; what is not a whole snapshot is removed.
    pub(super) fn open(folder: PathBuf) -> io::Result<Snapshots> {
        let list = Mutex::new(found(&folder)?);
        Ok(Snapshots {
            kept: Arc::new(Kept { folder, list }),
            every: AtomicU64::new(0),
            stop: Arc::default(),
            writer: Mutex::default(),
        })
    }

    /// Makes one every so many heights from now on; 0: none.
    pub(super) fn every(&self, heights: u64) {
        self.every.store(heights, Ordering::Relaxed);
    }

    /// A block of this height is committed: makes a snapshot where one is due and none is being made. The store may go on at once.
    pub(super) fn committed(&self, store: &Arc<Store>, height: i64) {
        let Ok(height) = u64::try_from(height) else { return };
        let every = self.every.load(Ordering::Relaxed);
        if every == 0 || height == 0 || !height.is_multiple_of(every) {
            return;
        }
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.as_ref().is_some_and(|writer| !writer.is_finished()) {
            tracing::warn!(height, "no snapshot: the one before is still being written");
            return;
        }
        let (kept, store, stop) = (self.kept.clone(), store.clone(), self.stop.clone());
        let (taken, view) = sync_channel(1);
        *writer = Some(std::thread::spawn(move || {
            let view = store.view();
            // The commit waits for it.
            let _ = taken.send(());
            match kept.write(height, |out| archive::write(&view, out, &stop)) {
                Ok(()) => tracing::info!(height, "a snapshot was written"),
                Err(SnapshotError::Ends) => {}
                Err(error) => tracing::error!(height, %error, "no snapshot could be written"),
            }
        }));
        // An error means that the thread ended, which tells why itself.
        let _ = view.recv();
    }

    /// All, the lowest height first.
    pub(super) fn list(&self) -> Vec<Snapshot> {
        let snapshot = |(height, hashes): (&u64, &Bytes)| Snapshot {
            height: *height,
            format: FORMAT,
            chunks: u32::try_from(hashes.len() / HASH_BYTES).unwrap_or(u32::MAX),
            hash: Bytes::copy_from_slice(&Sha256::digest(hashes)),
            metadata: hashes.clone(),
        };
        self.kept.list().iter().map(snapshot).collect()
    }

    /// A chunk; none where there is no such, or it is damaged.
    pub(super) fn chunk(&self, height: u64, format: u32, index: u32) -> Option<Bytes> {
        let hashes = self.kept.list().get(&height).filter(|_| format == FORMAT)?.clone();
        let index = usize::try_from(index).ok()?;
        let expected = hash_of(&hashes, index)?;
        let read = read_chunk(&self.kept.file(height, DATA), index);
        match read {
            Ok(chunk) if Sha256::digest(&chunk).as_slice() == expected => Some(chunk.into()),
            Ok(_) => {
                tracing::error!(height, index, "a chunk of a snapshot is damaged");
                None
            }
            Err(error) => {
                tracing::error!(height, index, %error, "a chunk of a snapshot cannot be read");
                None
            }
        }
    }

    /// Begins to restore one that a peer has.
    pub(super) fn restore(&self, snapshot: &Snapshot, app_hash: Bytes) -> io::Result<Restore> {
        fs::create_dir_all(&self.kept.folder)?;
        Restore::begin(self.kept.folder.join(RESTORED), snapshot, app_hash)
    }

    /// Waits for the one that is being made.
    #[cfg(test)]
    pub(super) fn written(&self) {
        if let Some(writer) = self.writer.lock().unwrap().take() {
            writer.join().unwrap();
        }
    }
}

impl Drop for Snapshots {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // A panic in it has been told.
            let _ = writer.join();
        }
    }
}

impl Kept {
    fn list(&self) -> MutexGuard<'_, BTreeMap<u64, Bytes>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, height: u64, kind: &str) -> PathBuf {
        self.folder.join(format!("{height}.{kind}"))
    }

    /// Writes a snapshot, which is there when its hashes are, and removes those that are too old.
    fn write(
        &self,
        height: u64,
        content: impl FnOnce(&mut Chunked) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        fs::create_dir_all(&self.folder)?;
        let unfinished = self.file(height, UNFINISHED);
        let mut out = Chunked::new(File::create(&unfinished)?);
        content(&mut out)?;
        let (file, hashes) = out.finish()?;
        file.sync_all()?;
        fs::rename(&unfinished, self.file(height, DATA))?;
        let mut file = File::create(&unfinished)?;
        file.write_all(&hashes)?;
        file.sync_all()?;
        fs::rename(&unfinished, self.file(height, HASHES))?;
        let mut list = self.list();
        list.insert(height, hashes.into());
        while list.len() > KEPT_MAX
            && let Some((old, _)) = list.pop_first()
        {
            fs::remove_file(self.file(old, HASHES))?;
            fs::remove_file(self.file(old, DATA))?;
        }
        Ok(())
    }
}

/// The hash of a chunk.
fn hash_of(hashes: &[u8], index: usize) -> Option<&[u8]> {
    hashes.get(index.checked_mul(HASH_BYTES)?..)?.get(..HASH_BYTES)
}

fn offset(index: usize) -> u64 {
    (index as u64).saturating_mul(CHUNK_BYTES as u64)
}

fn read_chunk(path: &Path, index: usize) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let (mut chunk, mut read) = (vec![0; CHUNK_BYTES], 0);
    while let Some(rest) = chunk.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset(index) + read as u64)? {
            0 => break,
            bytes => read += bytes,
        }
    }
    chunk.truncate(read);
    Ok(chunk)
}

/// The whole snapshots in a folder, at most [`KEPT_MAX`]; everything else is removed from it.
fn found(folder: &Path) -> io::Result<BTreeMap<u64, Bytes>> {
    let mut list = BTreeMap::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(list),
        Err(error) => return Err(error),
    };
    let named = |entry: &fs::DirEntry, kind: &str| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_suffix(kind)?.strip_suffix('.')?.parse::<u64>().ok()
    };
    for height in entries.iter().filter_map(|entry| named(entry, HASHES)) {
        let path = |kind| folder.join(format!("{height}.{kind}"));
        let hashes = fs::read(path(HASHES))?;
        let chunks = hashes.len() / HASH_BYTES;
        let bytes = fs::metadata(path(DATA)).map_or(0, |data| data.len());
        let whole = hashes.len().is_multiple_of(HASH_BYTES)
            && (1..=CHUNKS_MAX).contains(&chunks)
            && bytes > offset(chunks - 1)
            && bytes <= offset(chunks);
        if whole {
            list.insert(height, Bytes::from(hashes));
        }
    }
    while list.len() > KEPT_MAX {
        list.pop_first();
    }
    for entry in &entries {
        let height = named(entry, HASHES).or_else(|| named(entry, DATA));
        if height.is_none_or(|height| !list.contains_key(&height)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(list)
}

/// A file in chunks, whose hashes are made on the way.
struct Chunked {
    file: File,
    chunk: Vec<u8>,
    hashes: Vec<u8>,
}

impl Chunked {
    fn new(file: File) -> Chunked {
        Chunked { file, chunk: Vec::with_capacity(CHUNK_BYTES), hashes: Vec::new() }
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), SnapshotError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
            if self.chunk.len() == CHUNK_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SnapshotError> {
        if self.hashes.len() >= CHUNKS_MAX * HASH_BYTES {
            return Err(SnapshotError::TooLarge);
        }
        self.hashes.extend_from_slice(&Sha256::digest(&self.chunk));
        self.file.write_all(&self.chunk)?;
        self.chunk.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<(File, Vec<u8>), SnapshotError> {
        if !self.chunk.is_empty() || self.hashes.is_empty() {
            self.flush()?;
        }
        Ok((self.file, self.hashes))
    }
}
