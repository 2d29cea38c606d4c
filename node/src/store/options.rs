//! How the databases are opened.
//!
//! Log files are not recycled: RocksDB turns that off by itself for the recovery mode of the journal, because what a recycled log
//! ends with looks like damage.

use rocksdb::{
    BlockBasedOptions, Cache, DBCompactionStyle, DBCompressionType, DBRecoveryMode, LogLevel,
    Options,
};

const MIB: usize = 1 << 20;
/// Memory for what the journal has not written to a table yet: some six blocks of 1.25 MB.
const JOURNAL_BUFFER_BYTES: usize = 8 * MIB;
/// Records of the journal from this size on, those with a block, go to blob files. A table keeps a reference, so compaction never
/// copies them, and a file goes as a whole once all in it are pruned: 600 blocks of 1.25 MB are written 2.0 times (log and blob file)
/// in place of 5.3 times, for half the processor time.
const JOURNAL_BLOB_BYTES_MIN: u64 = 16 << 10;
/// Cache of the journal, which is read at start alone.
const JOURNAL_CACHE_BYTES: usize = MIB;
/// Length of the journal's logs from which a flush is forced.
const JOURNAL_WAL_BYTES_MAX: u64 = 16 << 20;
/// Memory of one column family of the chain for what is not in a table yet. Larger ones are no faster (2 GB of 1 MB values).
const CHAIN_BUFFER_BYTES: usize = 8 * MIB;
/// The same over all column families.
const CHAIN_BUFFERS_BYTES_MAX: usize = 16 * MIB;
/// Memory of one column family of the index, and over all of them.
const INDEX_BUFFER_BYTES: usize = 16 * MIB;
const INDEX_BUFFERS_BYTES_MAX: usize = 32 * MIB;
/// Cache of the chain, over all column families. What stands in blob files is not cached.
const CHAIN_CACHE_BYTES: usize = 8 * MIB;
/// Blocks and results from this size on go to blob files. With pruning, 2 GB of 1 MB values take 6.7 s of processor time in place of
/// 11.3 s, and 3.4 GB of writes in place of 4.9 GB. Blob files need no collection: heights grow and the oldest go first, so a file is
/// garbage as a whole or not at all.
const CHAIN_BLOB_BYTES_MIN: u64 = 4 << 10;
/// Length of the chain's logs from which a flush is forced.
const CHAIN_WAL_BYTES_MAX: u64 = 64 << 20;
/// Files that one database keeps open.
const OPEN_FILES_MAX: i32 = 256;
/// RocksDB's own log files that are kept, and the size of each.
const INFO_LOGS_MAX: usize = 2;
const INFO_LOG_BYTES_MAX: usize = MIB;

/// The journal: a torn tail is dropped, damage before it is an error. The default mode (point in time) would silently drop durable
/// records behind a damaged one.
pub(super) fn journal() -> Options {
    let mut options = database();
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_total_wal_size(JOURNAL_WAL_BYTES_MAX);
    options.set_write_buffer_size(JOURNAL_BUFFER_BYTES);
    options.set_compression_type(DBCompressionType::None);
    options.set_block_based_table_factory(&tables(&Cache::new_lru_cache(JOURNAL_CACHE_BYTES)));
    options.set_enable_blob_files(true);
    options.set_min_blob_size(JOURNAL_BLOB_BYTES_MIN);
    options
}

/// The chain: the longest prefix of what was written, over all column families.
pub(super) fn chain() -> Options {
    let mut options = database();
    options.create_missing_column_families(true);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_max_total_wal_size(CHAIN_WAL_BYTES_MAX);
    options.set_db_write_buffer_size(CHAIN_BUFFERS_BYTES_MAX);
    options
}

/// The column families of the chain, which share one cache; each says whether its values are large.
pub(super) fn families<'a>(
    families: impl Iterator<Item = (&'a str, bool)>,
) -> impl Iterator<Item = (&'a str, Options)> {
    let cache = Cache::new_lru_cache(CHAIN_CACHE_BYTES);
    families.map(move |(name, large)| {
        let mut options = Options::default();
        options.set_write_buffer_size(CHAIN_BUFFER_BYTES);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_block_based_table_factory(&tables(&cache));
        if large {
            options.set_enable_blob_files(true);
            options.set_min_blob_size(CHAIN_BLOB_BYTES_MIN);
            options.set_blob_compression_type(DBCompressionType::Lz4);
        }
        (name, options)
    })
}

/// The index: as the chain, with more memory, as its keys are hashes, so that each table that is written is merged with all others.
pub(super) fn index() -> Options {
    let mut options = chain();
    options.set_db_write_buffer_size(INDEX_BUFFERS_BYTES_MAX);
    options
}

/// The column families of the index: merged as a whole now and then, which writes each key less often than level by level.
pub(super) fn index_families<'a>(
    names: impl Iterator<Item = &'a str>,
) -> impl Iterator<Item = (&'a str, Options)> {
    families(names.map(|name| (name, false))).map(|(name, mut options)| {
        options.set_write_buffer_size(INDEX_BUFFER_BYTES);
        options.set_compaction_style(DBCompactionStyle::Universal);
        (name, options)
    })
}

fn database() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_max_background_jobs(2);
    options.set_keep_log_file_num(INFO_LOGS_MAX);
    options.set_max_log_file_size(INFO_LOG_BYTES_MAX);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

fn tables(cache: &Cache) -> BlockBasedOptions {
    let mut options = BlockBasedOptions::default();
    options.set_block_cache(cache);
    // Or they grow with the chain, outside the cache.
    options.set_cache_index_and_filter_blocks(true);
    options.set_bloom_filter(10.0, false);
    options
}
