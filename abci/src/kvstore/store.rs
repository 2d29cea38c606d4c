//! The kvstore on disk: one RocksDB with the keys of CometBFT's.
//!
//! | key | value |
//! |---|---|
//! | `stateKey` | [`State`] as JSON |
//! | `kvPairKey:<key>` | the value |
//! | `val=<32 bytes of the public key>` | `ValidatorUpdate`, protobuf with its length before it |
//! | `restoring` | nothing; there while a snapshot is written, so that an unfinished one is removed |
//!
//! What a commit writes is one batch: all of it is there after a crash, or nothing.

use super::state::State;
use super::validators::{PublicKey, Validator, Validators};
use crate::open::OpenError;
use prost::Message as _;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, Direction, IteratorMode, LogLevel, Options,
    Snapshot, WriteBatch, WriteOptions,
};
use std::path::Path;
use tendermint_proto::v0_38::abci::ValidatorUpdate;

const STATE_KEY: &[u8] = b"stateKey";
const PAIR_PREFIX: &[u8] = b"kvPairKey:";
const VALIDATOR_PREFIX: &[u8] = b"val=";
const RESTORING_KEY: &[u8] = b"restoring";

const MIB: usize = 1 << 20;
/// Memory for what is not in a table yet. RocksDB takes twice as much while it writes one.
const BUFFER_BYTES: usize = 8 * MIB;
/// Cache of the tables, with their indices and filters: what bounds the memory however many keys there are.
const CACHE_BYTES: usize = 8 * MIB;
/// Length of the logs from which a flush is forced.
const WAL_BYTES_MAX: u64 = 32 << 20;
/// Files that are kept open.
const OPEN_FILES_MAX: i32 = 64;
/// RocksDB's own log files that are kept, and the size of each.
const INFO_LOGS_MAX: usize = 2;
const INFO_LOG_BYTES_MAX: usize = MIB;
/// Bits of the filters for each key: one in a hundred look-ups of an absent key reads a table in vain.
const FILTER_BITS: f64 = 10.0;

/// When a commit is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When the operating system writes it. A crash of the process loses nothing, one of the machine the last blocks, which the
    /// node then replays.
    Buffered,
    /// Before `Commit` returns.
    Synced,
}

/// Why a stored value could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("the kvstore's database failed")]
    Database(#[from] rocksdb::Error),
    #[error("the kvstore's {0} in the database cannot be read")]
    Damaged(&'static str),
    #[error("a snapshot of the kvstore cannot be written: see to the disk")]
    Snapshot(#[from] std::io::Error),
}

/// The database.
pub(super) struct Store {
    db: DB,
    durability: Durability,
}

impl Store {
    /// Opens it, and creates it where it is not there.
    pub(super) fn open(folder: &Path, durability: Durability) -> Result<Store, OpenError> {
        // Without it RocksDB would begin a new database over what is left of the old one.
        if !folder.join("CURRENT").exists() && has_data(folder) {
            return Err(OpenError::Incomplete { folder: folder.to_owned() });
        }
        let db = DB::open(&options(), folder);
        let failed = |source| OpenError::Database { folder: folder.to_owned(), source };
        let db = db.map_err(failed)?;
        if db.get(RESTORING_KEY).map_err(failed)?.is_some() {
            tracing::warn!("a snapshot was not restored to its end: the kvstore begins empty");
            let mut batch = Batch::restoring();
            batch.restored();
            db.write(batch.writes).map_err(failed)?;
        }
        Ok(Store { db, durability })
    }

    /// The validator that an entry of the database is.
    pub(super) fn validator(key: &[u8], value: &[u8]) -> Option<Validator> {
        let update = ValidatorUpdate::decode_length_delimited(value).ok()?;
        Validator::of(&update).filter(|validator| validator_key(validator.key) == key)
    }

    /// A view of it that commits do not change.
    pub(super) fn view(&self) -> View<'_> {
        View(self.db.snapshot())
    }

    /// All validators.
    pub(super) fn validators(&self) -> Result<Validators, StoreError> {
        let from = IteratorMode::From(VALIDATOR_PREFIX, Direction::Forward);
        let mut found = Vec::new();
        for entry in self.db.iterator(from) {
            let (key, value) = entry?;
            if !key.starts_with(VALIDATOR_PREFIX) {
                break;
            }
            let validator = Store::validator(&key, &value);
            found.push(validator.ok_or(StoreError::Damaged("validator"))?);
        }
        Ok(found.into_iter().collect())
    }

    /// Writes all of a batch or nothing.
    pub(super) fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(self.durability == Durability::Synced);
        Ok(self.db.write_opt(batch.writes, &options)?)
    }
}

/// The database between two commits.
pub(super) struct View<'a>(Snapshot<'a>);

impl View<'_> {
    /// The state, that of a new chain where none is stored.
    pub(super) fn state(&self) -> Result<State, StoreError> {
        let Some(json) = self.0.get(STATE_KEY)? else { return Ok(State::default()) };
        serde_json::from_slice(&json).map_err(|_| StoreError::Damaged("state"))
    }

    /// The value of a key.
    pub(super) fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get([PAIR_PREFIX, key].concat())?)
    }

    /// Everything, in the order of keys.
    pub(super) fn entries(&self) -> impl Iterator<Item = Result<Entry, StoreError>> {
        let entries = self.0.iterator(IteratorMode::Start);
        entries.map(|entry| entry.map_err(StoreError::from))
    }

    /// A validator, encoded, by the bytes of its public key.
    pub(super) fn validator(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get([VALIDATOR_PREFIX, key].concat())?)
    }
}

/// Key and value.
type Entry = (Box<[u8]>, Box<[u8]>);

/// What an entry of the database is, by its key.
pub(super) enum Found<'a> {
    /// The state.
    State,
    /// The value of this key.
    Pair(&'a [u8]),
    /// A validator.
    Validator,
    /// Nothing that a store has.
    Other,
}

impl Found<'_> {
    /// What this key stands for.
    pub(super) fn of(key: &[u8]) -> Found<'_> {
        if key == STATE_KEY {
            Found::State
        } else if let Some(name) = key.strip_prefix(PAIR_PREFIX) {
            Found::Pair(name)
        } else if key.starts_with(VALIDATOR_PREFIX) {
            Found::Validator
        } else {
            Found::Other
        }
    }
}

/// What one commit writes.
pub(super) struct Batch {
    writes: WriteBatch,
    key: Vec<u8>,
}

impl Batch {
    /// One with room for so many bytes.
    pub(super) fn with_capacity(bytes: usize) -> Batch {
        Batch { writes: WriteBatch::with_capacity_bytes(bytes), key: Vec::new() }
    }

    /// Empties the store, and says that a snapshot is written from here on.
    pub(super) fn restoring() -> Batch {
        let mut batch = Batch::with_capacity(0);
        for prefix in [PAIR_PREFIX, VALIDATOR_PREFIX] {
            batch.writes.delete_range(prefix, after(prefix).as_slice());
        }
        batch.writes.delete(STATE_KEY);
        batch.writes.put(RESTORING_KEY, []);
        batch
    }

    /// Says that it is written.
    pub(super) fn restored(&mut self) {
        self.writes.delete(RESTORING_KEY);
    }

    /// How large it is.
    pub(super) fn bytes(&self) -> usize {
        self.writes.size_in_bytes()
    }

    /// Sets a key.
    pub(super) fn pair(&mut self, key: &[u8], value: &[u8]) {
        self.key.clear();
        self.key.extend_from_slice(PAIR_PREFIX);
        self.key.extend_from_slice(key);
        self.writes.put(&self.key, value);
    }

    /// Sets or removes a validator.
    pub(super) fn validator(&mut self, validator: &Validator) {
        let key = validator_key(validator.key);
        if validator.power == 0 {
            self.writes.delete(key);
        } else {
            self.writes.put(key, validator.update().encode_length_delimited_to_vec());
        }
    }

    /// Removes a validator.
    pub(super) fn remove(&mut self, validator: &Validator) {
        self.writes.delete(validator_key(validator.key));
    }

    /// Sets the state.
    ///
    /// # Panics
    /// Never: two numbers are JSON.
    pub(super) fn state(&mut self, state: State) {
        let json = serde_json::to_vec(&state).expect("two numbers are JSON");
        self.writes.put(STATE_KEY, json);
    }
}

/// Whether a file of the folder holds what a database wrote.
fn has_data(folder: &Path) -> bool {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut kinds = files.filter_map(|file| file.path().extension().map(ToOwned::to_owned));
    kinds.any(|kind| ["log", "sst", "blob"].iter().any(|data| kind == *data))
}

/// The first key behind all that begin so.
fn after(prefix: &[u8]) -> Vec<u8> {
    let mut after = prefix.to_vec();
    if let Some(last) = after.last_mut() {
        *last = last.saturating_add(1);
    }
    after
}

fn validator_key(key: PublicKey) -> Vec<u8> {
    [VALIDATOR_PREFIX, key.as_bytes()].concat()
}

fn options() -> Options {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_bloom_filter(FILTER_BITS, false);

    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_write_buffer_size(BUFFER_BYTES);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_max_background_jobs(2);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_block_based_table_factory(&tables);
    options.set_keep_log_file_num(INFO_LOGS_MAX);
    options.set_max_log_file_size(INFO_LOG_BYTES_MAX);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}
