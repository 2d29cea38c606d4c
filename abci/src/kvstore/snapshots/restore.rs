//! A snapshot of a peer on its way into the store.

use super::{CHUNK_BYTES, CHUNKS_MAX, FORMAT, HASH_BYTES, archive, hash_of, offset};
use crate::kvstore::state::State;
use crate::kvstore::store::{Batch, Found, Store, StoreError};
use crate::kvstore::validators::Validators;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use tendermint_proto::v0_38::abci::Snapshot;
use tendermint_proto::v0_38::abci::response_apply_snapshot_chunk::Result as Applied;
use tendermint_proto::v0_38::abci::response_offer_snapshot::Result as Offered;
use tendermint_proto::v0_38::abci::{RequestApplySnapshotChunk, ResponseApplySnapshotChunk};

/// Bytes that are written to the store at once.
const BATCH_BYTES: usize = 4 << 20;

/// What to say of a snapshot before any of its chunks is here.
pub(in crate::kvstore) fn judge(snapshot: &Snapshot) -> Offered {
    let chunks = usize::try_from(snapshot.chunks).unwrap_or(usize::MAX);
    if snapshot.format != FORMAT {
        return Offered::RejectFormat;
    }
    let described = (1..=CHUNKS_MAX).contains(&chunks)
        && snapshot.metadata.len() == chunks * HASH_BYTES
        && Sha256::digest(&snapshot.metadata).as_slice() == snapshot.hash
        && (1..=i64::MAX.unsigned_abs()).contains(&snapshot.height);
    if described { Offered::Accept } else { Offered::Reject }
}

/// One that is being restored: its chunks, in a file, in their places.
pub(in crate::kvstore) struct Restore {
    path: PathBuf,
    file: File,
    height: u64,
    hashes: Bytes,
    /// What the application's hash must be.
    app_hash: Bytes,
    here: Vec<bool>,
}

/// What came of a chunk.
pub(in crate::kvstore) enum Progress {
    /// The answer; others must follow.
    More(ResponseApplySnapshotChunk),
    /// The answer after which nothing of it is used any more.
    Over(ResponseApplySnapshotChunk),
    /// All are here, and the store is what the snapshot says.
    Restored(State, Validators),
}

/// Why a whole snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is none, or not the one of this chain.
    #[error("{0}")]
    Wrong(&'static str),
}

impl Restore {
    pub(super) fn begin(path: PathBuf, snapshot: &Snapshot, app_hash: Bytes) -> io::Result<Self> {
        let file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        let hashes = snapshot.metadata.clone();
        let here = vec![false; hashes.len() / HASH_BYTES];
        Ok(Restore { path, file, height: snapshot.height, hashes, app_hash, here })
    }

    /// Takes a chunk. Chunks may come in any order, and again.
    ///
    /// # Errors
    /// Where the disk fails.
    pub(in crate::kvstore) fn apply(
        &mut self,
        request: &RequestApplySnapshotChunk,
        store: &Store,
    ) -> Result<Progress, StoreError> {
        let index = usize::try_from(request.index).unwrap_or(usize::MAX);
        let Some(expected) = hash_of(&self.hashes, index) else {
            tracing::error!(index, "a chunk that the snapshot does not have");
            return Ok(Progress::Over(answer(Applied::Abort)));
        };
        if Sha256::digest(&request.chunk).as_slice() != expected {
            tracing::warn!(index, sender = %request.sender, "a damaged chunk of a snapshot");
            return Ok(Progress::More(ResponseApplySnapshotChunk {
                refetch_chunks: vec![request.index],
                reject_senders: vec![request.sender.clone()],
                ..answer(Applied::Retry)
            }));
        }
        let last = index + 1 == self.here.len();
        let right = if last { 1..=CHUNK_BYTES } else { CHUNK_BYTES..=CHUNK_BYTES };
        if !right.contains(&request.chunk.len()) {
            return Ok(refused(&Unusable::Wrong("a chunk has not the size of its place")));
        }
        self.file.write_all_at(&request.chunk, offset(index))?;
        if let Some(here) = self.here.get_mut(index) {
            *here = true;
        }
        if self.here.contains(&false) {
            return Ok(Progress::More(answer(Applied::Accept)));
        }
        match self.install(store) {
            Ok((state, validators)) => Ok(Progress::Restored(state, validators)),
            Err(Unusable::Store(error)) => Err(error),
            Err(Unusable::Io(error)) if !is_content(&error) => Err(error.into()),
            Err(wrong) => Ok(refused(&wrong)),
        }
    }

    /// Reads all of it, and only then writes it to the store. The store's state is written last, in one batch with the validators: a
    /// crash before leaves a store that is emptied when it is opened.
    fn install(&self, store: &Store) -> Result<(State, Validators), Unusable> {
        let (state, validators) = self.check()?;
        store.write(Batch::restoring())?;
        let mut reader = self.reader()?;
        let mut batch = Batch::with_capacity(BATCH_BYTES);
        while let Some((key, value)) = archive::read(&mut reader)? {
            if let Found::Pair(key) = Found::of(&key) {
                batch.pair(key, &value);
            }
            if batch.bytes() >= BATCH_BYTES {
                store.write(std::mem::replace(&mut batch, Batch::with_capacity(BATCH_BYTES)))?;
            }
        }
        validators.iter().for_each(|validator| batch.validator(validator));
        batch.state(state);
        batch.restored();
        store.write(batch)?;
        Ok((state, validators))
    }

    /// What it says of the state, where all of it is as it must be.
    fn check(&self) -> Result<(State, Validators), Unusable> {
        let (mut state, mut validators, mut pairs) = (None, Vec::new(), 0_u64);
        let mut reader = self.reader()?;
        let mut before: Option<Vec<u8>> = None;
        while let Some((key, value)) = archive::read(&mut reader)? {
            if before.as_ref().is_some_and(|before| *before >= key) {
                return Err(Unusable::Wrong("its keys are not in order"));
            }
            match Found::of(&key) {
                Found::State => state = serde_json::from_slice::<State>(&value).ok(),
                Found::Pair(_) => pairs += 1,
                Found::Validator => validators.push(
                    Store::validator(&key, &value).ok_or(Unusable::Wrong("a validator is none"))?,
                ),
                Found::Other => return Err(Unusable::Wrong("it has an entry of another kind")),
            }
            before = Some(key);
        }
        let state = state.ok_or(Unusable::Wrong("it has no state"))?;
        let validators = Validators::whole(validators);
        let validators = validators.ok_or(Unusable::Wrong("its validators make no set"))?;
        if u64::try_from(state.height).ok() != Some(self.height) {
            return Err(Unusable::Wrong("it is of another height"));
        }
        if state.hash() != self.app_hash {
            return Err(Unusable::Wrong("its application hash is not the one of the chain"));
        }
        if pairs > state.size {
            return Err(Unusable::Wrong("it has more pairs than there were transactions"));
        }
        Ok((state, validators))
    }

    fn reader(&self) -> io::Result<BufReader<File>> {
        Ok(BufReader::new(File::open(&self.path)?))
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        // What stays is removed when the store is opened.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether it tells of what was read, and not of the disk.
fn is_content(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
}

/// An answer without more.
pub(in crate::kvstore) fn answer(result: Applied) -> ResponseApplySnapshotChunk {
    ResponseApplySnapshotChunk { result: result.into(), ..ResponseApplySnapshotChunk::default() }
}

fn refused(why: &Unusable) -> Progress {
    tracing::warn!("a snapshot is refused: {why}");
    Progress::Over(answer(Applied::RejectSnapshot))
}
