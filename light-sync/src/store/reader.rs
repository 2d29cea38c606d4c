//! Reading what is kept, also while it is written.

use super::open::{decode_root, failed, height_of};
use super::record::{AnchorRecord, decode_set};
use super::{
    ANCHOR, COMMIT, CONFIRMED, HEADER, HEIGHT, KEY_ROOT, META, StoreError, VALIDATORS, family,
};
use prost::Message as _;
use rocksdb::{ColumnFamily, DB, Direction, IteratorMode};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tercet_consensus::validators::Validators;
use tercet_light_core::block::{TrustedBlock, UntrustedBlock};
use tercet_light_core::commit::Commit;
use tercet_light_core::hash::Hash;
use tercet_light_core::header::{Header, Height};
use tercet_light_core::options::TrustRoot;

/// Reads a store that is open. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) db: Arc<DB>,
    pub(super) folder: PathBuf,
}

impl Reader {
    pub(super) fn new(db: DB, folder: &Path) -> Reader {
        Reader { db: Arc::new(db), folder: folder.to_owned() }
    }

    /// The column family of a name in [`super::FAMILIES`].
    pub(super) fn family(&self, name: &str) -> &ColumnFamily {
        family(&self.db, name)
    }

    pub(super) fn failed(&self, source: rocksdb::Error) -> StoreError {
        failed(&self.folder, source)
    }

    /// Where trust began.
    ///
    /// # Errors
    /// Where the database fails or is damaged.
    pub fn root(&self) -> Result<TrustRoot, StoreError> {
        let bytes = self.meta(KEY_ROOT)?.unwrap_or_default();
        decode_root(&bytes).ok_or_else(|| self.damaged("root", 0))
    }

    /// A header that is verified.
    ///
    /// # Errors
    /// Where the database fails or is damaged.
    pub fn header(&self, height: Height) -> Result<Option<Header>, StoreError> {
        let raw = self.db.get_cf(self.family(HEADER), height.to_be_bytes());
        let Some(raw) = raw.map_err(|source| self.failed(source))? else { return Ok(None) };
        match Header::decode(raw.into()) {
            Ok(header) if header.height() == height => Ok(Some(header)),
            _ => Err(self.damaged("header", height)),
        }
    }

    /// The height of the header with this hash.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn height(&self, hash: Hash) -> Result<Option<Height>, StoreError> {
        let bytes = self.db.get_cf(self.family(HEIGHT), hash.as_bytes());
        Ok(bytes.map_err(|source| self.failed(source))?.and_then(|bytes| height_of(&bytes)))
    }

    /// The lowest header that is there.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn lowest(&self) -> Result<Option<Height>, StoreError> {
        let first = self.db.iterator_cf(self.family(HEADER), IteratorMode::Start).next();
        let first = first.transpose().map_err(|source| self.failed(source))?;
        Ok(first.and_then(|(key, _)| height_of(&key)))
    }

    /// The commit of a height, where it was kept: of anchors, and in `full` mode of all.
    ///
    /// # Errors
    /// Where the database fails or is damaged.
    pub fn commit(&self, height: Height) -> Result<Option<Commit>, StoreError> {
        let get = |name| {
            let bytes = self.db.get_cf(self.family(name), height.to_be_bytes());
            bytes.map_err(|source| self.failed(source))
        };
        let damaged = || self.damaged("commit", height);
        let bytes = match (get(COMMIT)?, get(ANCHOR)?) {
            (Some(bytes), _) => bytes,
            (None, Some(record)) => {
                AnchorRecord::decode(record.as_slice()).map_err(|_| damaged())?.commit
            }
            (None, None) => return Ok(None),
        };
        Commit::decode(&bytes).map(Some).map_err(|_| damaged())
    }

    /// The highest anchor that is confirmed.
    pub(super) fn confirmed(&self) -> Result<Option<Height>, StoreError> {
        let from = IteratorMode::From(&[0xff; 8], Direction::Reverse);
        let last = self.db.iterator_cf(self.family(CONFIRMED), from).next();
        let last = last.transpose().map_err(|source| self.failed(source))?;
        Ok(last.and_then(|(key, _)| height_of(&key)))
    }

    /// An anchor; its hash and those of its sets are checked.
    ///
    /// # Errors
    /// Where there is none, or the database fails or is damaged.
    pub(super) fn anchor(&self, height: Height) -> Result<TrustedBlock, StoreError> {
        let damaged = || self.damaged("anchor", height);
        let bytes = self.db.get_cf(self.family(ANCHOR), height.to_be_bytes());
        let bytes = bytes.map_err(|source| self.failed(source))?.ok_or_else(damaged)?;
        let record = AnchorRecord::decode(bytes.as_slice()).map_err(|_| damaged())?;
        let set = |hash: &[u8]| {
            let hash = Hash::from_slice(hash).ok_or_else(damaged)?;
            self.set(hash)?.ok_or_else(damaged)
        };
        let block = UntrustedBlock {
            header: self.header(height)?.ok_or_else(damaged)?,
            commit: Commit::decode(&record.commit).map_err(|_| damaged())?,
            validators: set(&record.validators)?,
            next_validators: Some(set(&record.next_validators)?),
        };
        let hash = Hash::from_slice(&record.hash).ok_or_else(damaged)?;
        TrustedBlock::restore(block, hash).map_err(|_| damaged())
    }

    /// A validator set by its hash.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn set(&self, hash: Hash) -> Result<Option<Arc<Validators>>, StoreError> {
        let bytes = self.db.get_cf(self.family(VALIDATORS), hash.as_bytes());
        let bytes = bytes.map_err(|source| self.failed(source))?;
        let set = bytes.and_then(|bytes| decode_set(&bytes));
        Ok(set.filter(|set| Hash::from_tendermint(set.hash()) == Some(hash)))
    }

    pub(super) fn meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.get_cf(self.family(META), key).map_err(|source| self.failed(source))
    }

    pub(super) fn damaged(&self, what: &'static str, height: Height) -> StoreError {
        StoreError::Damaged { folder: self.folder.clone(), what, height }
    }
}
