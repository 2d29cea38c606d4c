//! The chain: blocks with what decided them, states and results, from any height on.
//!
//! Nothing here is synced by itself: the journal has what must be durable, and [`Chain::sync`] comes before the journal forgets it.

use super::folder::Folder;
use super::{StoreError, options};
use crate::wire;
use bytes::Bytes;
use lru::LruCache;
use prost::Message as _;
use rocksdb::{ColumnFamily, DB, DBPinnableSlice, DBRawIterator, Options, WriteBatch};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tendermint::Hash;
use tendermint::block::{Header, Height};
use tendermint_proto::v0_38::types as pb;
use tercet_consensus::block::{BLOCK_BYTES_MAX, BlockId, SealedBlock};
use tercet_consensus::commit::Commit;
use tercet_consensus::validators::Validators;

/// What the folder's format file says.
const FORMAT: &str = "tercet chain 1";
/// RocksDB's own column family, which is always there and empty.
const DEFAULT: &str = "default";
/// Validator sets that are kept decoded.
const VALIDATORS_CACHED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(7);

/// A column family; its key is a height where nothing else is said.
#[derive(Clone, Copy, Debug)]
pub(super) enum Family {
    /// Bytes of the block.
    Block,
    /// [`BlockMeta`].
    Meta,
    /// Height by hash of the header.
    Hash,
    /// The commit that decided the block here.
    Commit,
    /// The state, under one key.
    State,
    /// V(h) where it differs from V(h-1).
    Validators,
    /// The parameters where they differ from those of the height before.
    Params,
    /// What the application answered.
    Results,
    /// Offences by key: which stand in blocks, and what is pending.
    Evidence,
}

impl Family {
    const ALL: [Family; 9] = [
        Family::Block,
        Family::Meta,
        Family::Hash,
        Family::Commit,
        Family::State,
        Family::Validators,
        Family::Params,
        Family::Results,
        Family::Evidence,
    ];

    fn name(self) -> &'static str {
        match self {
            Family::Block => "block",
            Family::Meta => "meta",
            Family::Hash => "hash",
            Family::Commit => "commit",
            Family::State => "state",
            Family::Validators => "validators",
            Family::Params => "params",
            Family::Results => "results",
            Family::Evidence => "evidence",
        }
    }

    /// Whether its values are large.
    fn is_large(self) -> bool {
        matches!(self, Family::Block | Family::Results)
    }
}

/// What is known of a block without its body.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockMeta {
    /// Its id.
    pub block_id: BlockId,
    /// Its header.
    pub header: Header,
    /// The size of its encoding.
    pub size_bytes: usize,
    /// How many transactions it holds.
    pub num_txs: usize,
}

/// The chain as one node has it. A clone is the same store.
#[derive(Clone, Debug)]
pub struct Chain(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) db: DB,
    pub(super) folder: Folder,
    /// The lowest and the highest block, zero for none.
    pub(super) base: AtomicU64,
    height: AtomicU64,
    /// The height of the next block to be applied, zero before [`Chain::init`].
    pub(super) next: AtomicU64,
    /// By the height at which the set was stored.
    validators: Mutex<LruCache<u64, Arc<Validators>>>,
}

impl Chain {
    /// Opens the chain in the folder `dir` (`data/chain`), or creates it.
    ///
    /// # Errors
    /// Where another process has it, its format is unknown, it is damaged, or the disk fails.
    pub fn open(dir: &Path) -> Result<Chain, StoreError> {
        let folder = Folder::open(dir, FORMAT)?;
        let db = DB::open_cf_with_opts(&options::chain(), dir, families());
        let db = db.map_err(|error| folder.failed(error))?;
        Chain::load(db, folder)
    }

    /// Opens the chain of a stopped node to read it: nothing on the disk changes, and no node starts on it meanwhile.
    ///
    /// # Errors
    /// As [`Chain::open`], and where there is none.
    pub fn open_read_only(dir: &Path) -> Result<Chain, StoreError> {
        let folder = Folder::open_existing(dir, FORMAT)?;
        let options = options::chain();
        let there = DB::list_cf(&options, dir).map_err(|error| folder.failed(error))?;
        let families = families().filter(|(name, _)| there.iter().any(|found| found == name));
        let db = DB::open_cf_with_opts_for_read_only(&options, dir, families, false);
        let db = db.map_err(|error| folder.failed(error))?;
        Chain::load(db, folder)
    }

    fn load(db: DB, folder: Folder) -> Result<Chain, StoreError> {
        let chain = Chain(Arc::new(Inner {
            db,
            folder,
            base: AtomicU64::new(0),
            height: AtomicU64::new(0),
            next: AtomicU64::new(0),
            validators: Mutex::new(LruCache::new(VALIDATORS_CACHED)),
        }));
        chain.load_span()?;
        chain.load_next()?;
        Ok(chain)
    }

    /// The lowest stored block.
    #[must_use]
    pub fn base(&self) -> Option<Height> {
        known(&self.0.base)
    }

    /// The highest stored block.
    #[must_use]
    pub fn height(&self) -> Option<Height> {
        known(&self.0.height)
    }

    /// Stores a block and the (extended) commit that decided it, in one batch, not synced. The first may be of any height, every other
    /// follows the highest; a stored one may be stored again.
    ///
    /// # Errors
    /// Where it leaves a gap, another block is stored at its height, or the disk fails.
    pub fn save_block(&self, block: &SealedBlock, seen: &Commit) -> Result<(), StoreError> {
        let height = block.header().height;
        self.check_place(height, &block.id())?;
        let meta = pb::BlockMeta {
            block_id: Some(block.id().into()),
            block_size: i64::try_from(block.bytes().len()).unwrap_or(i64::MAX),
            header: Some(block.header().clone().into()),
            num_txs: i64::try_from(block.txs().len()).unwrap_or(i64::MAX),
        };
        let key = key(height);
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(Family::Block), key, block.bytes());
        batch.put_cf(self.family(Family::Meta), key, meta.encode_to_vec());
        batch.put_cf(self.family(Family::Hash), block.id().hash.as_bytes(), key);
        batch.put_cf(self.family(Family::Commit), key, wire::encode_commit(seen));
        self.write(batch)?;
        let value = height.value();
        let _ = self.0.base.compare_exchange(0, value, Ordering::AcqRel, Ordering::Acquire);
        self.0.height.fetch_max(value, Ordering::AcqRel);
        Ok(())
    }

    /// The block at `height`.
    ///
    /// # Errors
    /// Where it is damaged or the disk fails.
    pub fn block(&self, height: Height) -> Result<Option<Arc<SealedBlock>>, StoreError> {
        let Some(bytes) = self.block_bytes(height)? else { return Ok(None) };
        let block = wire::decode_block(bytes, BLOCK_BYTES_MAX)
            .map_err(|reject| self.damaged(Family::Block, height, reject))?;
        if block.header().height != height {
            return Err(self.damaged(Family::Block, height, "a block of another height"));
        }
        Ok(Some(Arc::new(block)))
    }

    /// The bytes of the block at `height`, not decoded.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn block_bytes(&self, height: Height) -> Result<Option<Bytes>, StoreError> {
        let found = self.get(Family::Block, &key(height))?;
        Ok(found.map(|bytes| Bytes::copy_from_slice(&bytes)))
    }

    /// Header, id and sizes of the block at `height`.
    ///
    /// # Errors
    /// Where they are damaged or the disk fails.
    pub fn meta(&self, height: Height) -> Result<Option<BlockMeta>, StoreError> {
        let Some(bytes) = self.get(Family::Meta, &key(height))? else { return Ok(None) };
        let meta = decode_meta(&bytes).filter(|meta| meta.header.height == height);
        meta.map(Some).ok_or_else(|| self.damaged(Family::Meta, height, "not a block's meta data"))
    }

    /// The height of the block whose header has this hash.
    ///
    /// # Errors
    /// Where the entry is damaged or the disk fails.
    pub fn height_of(&self, hash: &Hash) -> Result<Option<Height>, StoreError> {
        let Some(bytes) = self.get(Family::Hash, hash.as_bytes())? else { return Ok(None) };
        let height = parse_key(&bytes);
        let damaged = || self.0.folder.damaged(format!("hash {hash}"), "not a height");
        height.map(Some).ok_or_else(damaged)
    }

    /// The commit that decided `height` on this node, with vote extensions where the height has them.
    ///
    /// # Errors
    /// Where it is damaged or the disk fails.
    pub fn seen_commit(&self, height: Height) -> Result<Option<Commit>, StoreError> {
        let Some(bytes) = self.get(Family::Commit, &key(height))? else { return Ok(None) };
        let commit = wire::decode_commit(&bytes)
            .map_err(|reject| self.damaged(Family::Commit, height, reject))?;
        if commit.height != height {
            return Err(self.damaged(Family::Commit, height, "a commit of another height"));
        }
        Ok(Some(commit))
    }

    /// The encoded [`Chain::seen_commit`], for [`wire::SyncItem`].
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn seen_commit_bytes(&self, height: Height) -> Result<Option<Bytes>, StoreError> {
        let found = self.get(Family::Commit, &key(height))?;
        Ok(found.map(|bytes| Bytes::copy_from_slice(&bytes)))
    }

    /// The commit of `height` that stands in the block after it.
    ///
    /// # Errors
    /// Where it is damaged or the disk fails.
    pub fn canonical_commit(&self, height: Height) -> Result<Option<Commit>, StoreError> {
        let Some(after) = after(height) else { return Ok(None) };
        let Some(bytes) = self.get(Family::Block, &key(after))? else { return Ok(None) };
        wire::decode_last_commit(&bytes)
            .map_err(|reject| self.damaged(Family::Block, after, reject))
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.0.db.flush_wal(true).map_err(|error| self.0.folder.failed(error))
    }

    /// The highest block is another now: it was removed.
    pub(super) fn set_height(&self, height: Height) {
        self.0.height.store(height.value(), Ordering::Release);
    }

    fn load_span(&self) -> Result<(), StoreError> {
        // Headers stay longer than blocks.
        let base = self.first(Family::Block)?.unwrap_or(0);
        let top = self.last(Family::Block)?.unwrap_or(0);
        self.0.base.store(base, Ordering::Release);
        self.0.height.store(top, Ordering::Release);
        Ok(())
    }

    /// The lowest height of a family.
    pub(super) fn first(&self, family: Family) -> Result<Option<u64>, StoreError> {
        let mut iterator = self.0.db.raw_iterator_cf(self.family(family));
        iterator.seek_to_first();
        self.height_at(family, &iterator)
    }

    /// The highest height of a family.
    fn last(&self, family: Family) -> Result<Option<u64>, StoreError> {
        let mut iterator = self.0.db.raw_iterator_cf(self.family(family));
        iterator.seek_to_last();
        self.height_at(family, &iterator)
    }

    fn height_at(
        &self,
        family: Family,
        iterator: &DBRawIterator<'_>,
    ) -> Result<Option<u64>, StoreError> {
        iterator.status().map_err(|error| self.0.folder.failed(error))?;
        let Some(found) = iterator.key() else { return Ok(None) };
        let damaged = || self.0.folder.damaged(format!("a key of {}", family.name()), "no height");
        Ok(Some(parse_key(found).ok_or_else(damaged)?.value()))
    }

    /// The entry at `height`, or the nearest before it.
    pub(super) fn before(
        &self,
        family: Family,
        height: Height,
    ) -> Result<Option<(Height, Vec<u8>)>, StoreError> {
        let mut iterator = self.0.db.raw_iterator_cf(self.family(family));
        iterator.seek_for_prev(key(height));
        iterator.status().map_err(|error| self.0.folder.failed(error))?;
        let Some((found, value)) = iterator.item() else { return Ok(None) };
        let damaged = || self.0.folder.damaged(format!("a key of {}", family.name()), "no height");
        let found = parse_key(found).ok_or_else(damaged)?;
        Ok(Some((found, value.to_vec())))
    }

    /// Checks that a block may be stored at `height`.
    fn check_place(&self, height: Height, id: &BlockId) -> Result<(), StoreError> {
        match self.height() {
            None => Ok(()),
            Some(last) if Some(height) == after(last) => Ok(()),
            Some(last) if height > last => Err(StoreError::Gap { height, last }),
            Some(last) => match self.meta(height)? {
                Some(meta) if meta.block_id == *id => Ok(()),
                Some(_) => Err(StoreError::Conflict { height }),
                None => Err(StoreError::Gap { height, last }),
            },
        }
    }

    pub(super) fn family(&self, family: Family) -> &ColumnFamily {
        // An older version's chain, opened to read, lacks those that came later: they are empty, as the default one is.
        let family = self.0.db.cf_handle(family.name());
        family.or_else(|| self.0.db.cf_handle(DEFAULT)).expect("every column family is opened")
    }

    pub(super) fn get(
        &self,
        family: Family,
        key: &[u8],
    ) -> Result<Option<DBPinnableSlice<'_>>, StoreError> {
        let found = self.0.db.get_pinned_cf(self.family(family), key);
        found.map_err(|error| self.0.folder.failed(error))
    }

    pub(super) fn write(&self, batch: WriteBatch) -> Result<(), StoreError> {
        self.0.db.write(batch).map_err(|error| self.0.folder.failed(error))
    }

    pub(super) fn damaged(
        &self,
        family: Family,
        height: Height,
        what: impl ToString,
    ) -> StoreError {
        self.0.folder.damaged(format!("{} {height}", family.name()), what)
    }

    pub(super) fn cache(&self) -> std::sync::MutexGuard<'_, LruCache<u64, Arc<Validators>>> {
        self.0.validators.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn put_raw(&self, family: Family, key: &[u8], value: &[u8]) {
        self.0.db.put_cf(self.family(family), key, value).unwrap();
        self.cache().clear();
    }
}

/// The column families with their options.
fn families() -> impl Iterator<Item = (&'static str, Options)> {
    options::families(Family::ALL.iter().map(|family| (family.name(), family.is_large())))
}

pub(super) fn key(height: Height) -> [u8; 8] {
    height.value().to_be_bytes()
}

pub(super) fn parse_key(bytes: &[u8]) -> Option<Height> {
    Height::try_from(u64::from_be_bytes(bytes.try_into().ok()?)).ok()
}

/// The next height; none after the last that there can be.
pub(super) fn after(height: Height) -> Option<Height> {
    Height::try_from(height.value().saturating_add(1)).ok()
}

fn known(slot: &AtomicU64) -> Option<Height> {
    match slot.load(Ordering::Acquire) {
        0 => None,
        height => Height::try_from(height).ok(),
    }
}

pub(super) fn decode_meta(bytes: &[u8]) -> Option<BlockMeta> {
    let raw = pb::BlockMeta::decode(bytes).ok()?;
    Some(BlockMeta {
        block_id: BlockId::try_from(raw.block_id?).ok()?,
        header: Header::try_from(raw.header?).ok()?,
        size_bytes: usize::try_from(raw.block_size).ok()?,
        num_txs: usize::try_from(raw.num_txs).ok()?,
    })
}
