//! Opening: of the right format, the right chain and the right root, or not at all.

use super::record::{ForkRecord, RootRecord, SegmentRecord};
use super::{
    ANCHOR, FAMILIES, FORMAT, KEY_FORK, KEY_FORMAT, KEY_ROOT, META, Reader, SEGMENT, Segment,
    Store, StoreError, family,
};
use prost::Message as _;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRecoveryMode, IteratorMode, LogLevel,
    Options, WriteBatch,
};
use std::collections::BTreeMap;
use std::path::Path;
use tercet_light_core::hash::Hash;
use tercet_light_core::header::Height;
use tercet_light_core::options::TrustRoot;

const MIB: usize = 1 << 20;
/// Memory for what is in no table yet, over all column families.
const BUFFERS_BYTES_MAX: usize = 32 * MIB;
/// Memory of one column family for it.
const BUFFER_BYTES: usize = 16 * MIB;
/// Cache over all column families.
const CACHE_BYTES: usize = 16 * MIB;
/// Length of the logs from which a flush is forced.
const WAL_BYTES_MAX: u64 = 64 << 20;
/// Files that are kept open.
const OPEN_FILES_MAX: i32 = 256;

impl Store {
    /// Opens the store in `folder` for the chain of `root`, or begins one there.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(folder: &Path, root: &TrustRoot) -> Result<Store, StoreError> {
        let failed = |source| failed(folder, source);
        let db = DB::open_cf_with_opts(&options(), folder, families()).map_err(failed)?;
        let reader = Reader::new(db, folder);
        let mut store = Store { reader, top: None, segments: BTreeMap::new() };
        match store.meta(KEY_FORMAT)? {
            None => store.begin(root)?,
            Some(found) => {
                check_format(folder, &found)?;
                store.check_root(root)?;
            }
        }
        store.check_fork()?;
        store.load()?;
        Ok(store)
    }

    /// Opens what is there for repair, by this process alone, also where it holds a fork.
    pub(super) fn open_for_repair(folder: &Path) -> Result<Store, StoreError> {
        drop(read_only(folder)?);
        let db = DB::open_cf_with_opts(&options(), folder, families());
        let db = db.map_err(|source| failed(folder, source))?;
        let reader = Reader::new(db, folder);
        let mut store = Store { reader, top: None, segments: BTreeMap::new() };
        store.load()?;
        Ok(store)
    }

    fn begin(&self, root: &TrustRoot) -> Result<(), StoreError> {
        let record = RootRecord {
            chain_id: root.chain_id.clone(),
            height: root.height,
            hash: root.hash.as_bytes().to_vec(),
        };
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(META), KEY_FORMAT, FORMAT);
        batch.put_cf(self.family(META), KEY_ROOT, record.encode_to_vec());
        self.db.write(batch).map_err(|source| self.failed(source))
    }

    /// The store was begun from this root, or holds its header.
    fn check_root(&self, wanted: &TrustRoot) -> Result<(), StoreError> {
        let folder = self.folder.clone();
        let root = self.root()?;
        if root.chain_id != wanted.chain_id {
            let (found, wanted) = (root.chain_id, wanted.chain_id.clone());
            return Err(StoreError::OtherChain { folder, found, wanted });
        }
        if (root.height, root.hash) == (wanted.height, wanted.hash) {
            return Ok(());
        }
        let header = self.header(wanted.height)?;
        if header.is_some_and(|header| header.hash() == wanted.hash) {
            return Ok(());
        }
        Err(StoreError::OtherRoot { folder, height: root.height, hash: root.hash })
    }

    fn check_fork(&self) -> Result<(), StoreError> {
        let Some(bytes) = self.meta(KEY_FORK)? else { return Ok(()) };
        let height = ForkRecord::decode(bytes.as_slice()).map_or(0, |fork| fork.height);
        Err(StoreError::Forked { folder: self.folder.clone(), height })
    }

    fn load(&mut self) -> Result<(), StoreError> {
        let last = self.db.iterator_cf(self.family(ANCHOR), IteratorMode::End).next();
        let last = last.transpose().map_err(|source| self.failed(source))?;
        self.top = last.and_then(|(key, _)| height_of(&key));
        let mut segments = BTreeMap::new();
        for entry in self.db.iterator_cf(self.family(SEGMENT), IteratorMode::Start) {
            let (key, value) = entry.map_err(|source| self.failed(source))?;
            let upper = height_of(&key).ok_or_else(|| self.damaged("segment", 0))?;
            let record = SegmentRecord::decode(&*value);
            let record = record.map_err(|_| self.damaged("segment", upper))?;
            let lower = Some(record.lower).filter(|lower| *lower > 0);
            let watermark = record.watermark;
            segments.insert(upper, Segment { lower, watermark, ahead: BTreeMap::new() });
        }
        self.segments = segments;
        Ok(())
    }
}

/// An empty database.
pub(super) fn create(folder: &Path) -> Result<Reader, StoreError> {
    let db = DB::open_cf_with_opts(&options(), folder, families());
    Ok(Reader::new(db.map_err(|source| failed(folder, source))?, folder))
}

/// Opens what another process may be writing, to read what it is now.
pub(super) fn read_only(folder: &Path) -> Result<DB, StoreError> {
    if !folder.join("CURRENT").exists() {
        return Err(StoreError::Missing(folder.to_owned()));
    }
    let mut options = options();
    options.create_if_missing(false);
    options.create_missing_column_families(false);
    let db = DB::open_cf_for_read_only(&options, folder, FAMILIES, false);
    let db = db.map_err(|source| failed(folder, source))?;
    let format = db.get_cf(family(&db, META), KEY_FORMAT);
    let format = format.map_err(|source| failed(folder, source))?;
    check_format(folder, &format.unwrap_or_default())?;
    Ok(db)
}

fn check_format(folder: &Path, found: &[u8]) -> Result<(), StoreError> {
    if found == FORMAT.as_bytes() {
        return Ok(());
    }
    let found = String::from_utf8_lossy(found).into_owned();
    Err(StoreError::Format { folder: folder.to_owned(), found })
}

/// RocksDB says by text alone that somebody else has the lock, or that there are families of somebody else.
pub(super) fn failed(folder: &Path, source: rocksdb::Error) -> StoreError {
    let folder = folder.to_owned();
    let text = source.to_string();
    if text.contains("lock") && text.contains("LOCK") {
        StoreError::Locked(folder)
    } else if text.contains("Column families not opened")
        || text.contains("Column family not found")
    {
        StoreError::Format { folder, found: "another database".to_owned() }
    } else {
        StoreError::Database { folder, source }
    }
}

pub(super) fn decode_root(bytes: &[u8]) -> Option<TrustRoot> {
    let RootRecord { chain_id, height, hash } = RootRecord::decode(bytes).ok()?;
    let hash = Hash::from_slice(&hash)?;
    Some(TrustRoot { chain_id, height, hash, genesis_hash: None })
}

pub(super) fn height_of(bytes: &[u8]) -> Option<Height> {
    bytes.try_into().ok().map(Height::from_be_bytes)
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_db_write_buffer_size(BUFFERS_BYTES_MAX);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_max_background_jobs(2);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(MIB);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

fn families() -> impl Iterator<Item = (&'static str, Options)> {
    let cache = Cache::new_lru_cache(CACHE_BYTES);
    FAMILIES.into_iter().map(move |name| {
        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(&cache);
        tables.set_cache_index_and_filter_blocks(true);
        let mut options = Options::default();
        options.set_write_buffer_size(BUFFER_BYTES);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_block_based_table_factory(&tables);
        (name, options)
    })
}
