//! What is kept: RocksDB in one folder.
//!
//! | Column family | Key | Value |
//! |---|---|---|
//! | `header` | height | the header's bytes as they were hashed |
//! | `height` | hash of a header | height |
//! | `anchor` | height | hash, commit, hashes of its sets, how it was verified, who sent it |
//! | `confirmed` | height | who agreed with the anchor |
//! | `validators` | hash | a validator set, once |
//! | `commit` | height | commits of `full` mode |
//! | `segment` | height of the anchor above | the anchor below, and the watermark: the lowest header with its hash. Gone once nothing is missing |
//! | `meta` | name | format, root, first height of the chain, fork, the one before that was resolved, the height below which headers were pruned |
//!
//! Headers and the watermark that counts them are written in one batch, and recovery takes the longest undamaged prefix of what was
//! written: so whatever a watermark says is there. What is above it is never verified again; reading checks hashes.

mod open;
mod prune;
mod reader;
mod record;
mod repair;
mod resolve;
mod restore;
mod summary;

pub use self::prune::PRUNE_MAX;
pub use self::reader::Reader;
pub use self::repair::{Checked, DAMAGES_MAX};
pub use self::resolve::Resolved;
pub use self::restore::Restored;
pub use self::summary::{ForkNote, Summary, read_root, summary};

use self::record::{AnchorRecord, ConfirmedRecord, ForkRecord, SegmentRecord};
use prost::Message as _;
use rocksdb::{ColumnFamily, DB, WriteBatch};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tercet_light_core::block::TrustedBlock;
use tercet_light_core::chain::TrustedRun;
use tercet_light_core::commit::Commit;
use tercet_light_core::hash::Hash;
use tercet_light_core::header::Height;
use tercet_light_core::planner::Fork;

/// What the folder says about its format.
pub const FORMAT: &str = "tercet light 1";

const HEADER: &str = "header";
const HEIGHT: &str = "height";
const ANCHOR: &str = "anchor";
const CONFIRMED: &str = "confirmed";
const VALIDATORS: &str = "validators";
const COMMIT: &str = "commit";
const SEGMENT: &str = "segment";
const META: &str = "meta";
const FAMILIES: [&str; 8] = [HEADER, HEIGHT, ANCHOR, CONFIRMED, VALIDATORS, COMMIT, SEGMENT, META];

const KEY_FORMAT: &[u8] = b"format";
const KEY_ROOT: &[u8] = b"root";
const KEY_BEGINNING: &[u8] = b"beginning";
const KEY_FORK: &[u8] = b"fork";
const KEY_RESOLVED: &[u8] = b"resolved fork";
const KEY_PRUNED: &[u8] = b"pruned";

/// Why the store did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("another tercet light runs on {}", .0.display())]
    Locked(PathBuf),
    /// There is none.
    #[error("there is no light store in {}: start with --trust-height and --trust-hash", .0.display())]
    Missing(PathBuf),
    /// It is of another format.
    #[error("{} holds {found:?} and this tercet reads {FORMAT:?}: use another --dir", .folder.display())]
    Format {
        /// The folder.
        folder: PathBuf,
        /// What it says.
        found: String,
    },
    /// It is of another chain.
    #[error("{} holds the chain {found:?} and not {wanted:?}: use another --dir", .folder.display())]
    OtherChain {
        /// The folder.
        folder: PathBuf,
        /// The chain that it holds.
        found: String,
        /// The chain that was asked for.
        wanted: String,
    },
    /// It was begun from another root, and does not hold the one asked for.
    #[error(
        "{} was begun from height {height} hash {hash} and does not hold the trusted header: use that root, or another --dir",
        .folder.display()
    )]
    OtherRoot {
        /// The folder.
        folder: PathBuf,
        /// The height of its root.
        height: Height,
        /// The hash of its root.
        hash: Hash,
    },
    /// Two chains were found that both verify.
    #[error(
        "{} holds a fork found at height {height}: two chains verify, say which is true with tercet light resolve",
        .folder.display()
    )]
    Forked {
        /// The folder.
        folder: PathBuf,
        /// The height of the blocks in conflict.
        height: Height,
    },
    /// There is no fork that could be resolved.
    #[error("{} holds no fork: there is nothing to resolve", .0.display())]
    NoFork(PathBuf),
    /// The block that is said to be true is on neither chain.
    #[error(
        "this block is on neither of the two chains in {}: name one above height {common}, best that of {height}; or sync from it into another --dir",
        .folder.display()
    )]
    OnNeither {
        /// The folder.
        folder: PathBuf,
        /// The last height that both chains share.
        common: Height,
        /// The height of the blocks in conflict.
        height: Height,
    },
    /// A folder could not be moved or removed.
    #[error("cannot write {}: see to the disk (space, rights)", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A value is not what was written.
    #[error(
        "damaged value in {}: {what} at {height}; repair with tercet light verify-db, or sync again into another --dir",
        .folder.display()
    )]
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// What it is.
        what: &'static str,
        /// Of which height.
        height: Height,
    },
    /// The database failed: disk full, input or output error, damage.
    #[error("the database in {} failed: see to the disk (space, rights, errors)", .folder.display())]
    Database {
        /// The folder.
        folder: PathBuf,
        /// The cause.
        source: rocksdb::Error,
    },
}

/// What is to be kept.
#[derive(Debug)]
pub enum Change {
    /// An anchor, and the name of who sent it.
    Anchor(Box<TrustedBlock>, String),
    /// An anchor agrees with these.
    Confirmed(Height, Vec<String>),
    /// Headers, in `full` mode with their commits.
    Filled(TrustedRun, Option<Vec<Commit>>),
    /// The chain begins here.
    Beginning(Height),
    /// Two chains verify.
    Fork(Box<Fork>),
}

/// A part that is not whole yet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    /// The anchor below; none below the root.
    lower: Option<Height>,
    /// The lowest header that is there without a gap above it.
    watermark: Height,
    /// Runs that were filled below a gap, by their highest height: their lowest, and its hash.
    ahead: BTreeMap<Height, (Height, Hash)>,
}

/// The store, open for writing by this process alone.
#[derive(Debug)]
pub struct Store {
    reader: Reader,
    /// The highest anchor.
    top: Option<Height>,
    /// By the anchor above, and its hash at the watermark.
    segments: BTreeMap<Height, Segment>,
}

impl std::ops::Deref for Store {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Store {
    /// What reads it beside whoever writes.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Keeps changes, all or none.
    ///
    /// # Errors
    /// Where the database fails; then the store is not to be used any more.
    pub fn apply(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for change in changes {
            match change {
                Change::Anchor(block, source) => self.put_anchor(&mut batch, block, source)?,
                Change::Confirmed(height, by) => self.put_confirmed(&mut batch, *height, by),
                Change::Filled(run, commits) => {
                    self.put_run(&mut batch, run, commits.as_deref().unwrap_or_default())?;
                }
                Change::Beginning(height) => {
                    batch.put_cf(self.family(META), KEY_BEGINNING, height.to_be_bytes());
                }
                Change::Fork(fork) => self.put_fork(&mut batch, fork),
            }
        }
        self.db.write(batch).map_err(|source| self.failed(source))
    }

    fn put_anchor(
        &mut self,
        batch: &mut WriteBatch,
        block: &TrustedBlock,
        source: &str,
    ) -> Result<(), StoreError> {
        let height = block.height();
        // Restored anchors are told again.
        if self.top.is_some_and(|top| top >= height) {
            return Ok(());
        }
        let how = match self.top {
            None => "root",
            Some(below) if below + 1 == height => "adjacent",
            Some(_) => "skipped",
        };
        let record = AnchorRecord::new(block, how, source);
        batch.put_cf(self.family(ANCHOR), height.to_be_bytes(), record.encode_to_vec());
        self.put_header(batch, height, block.header().bytes(), block.hash());
        for set in [block.validators(), block.next_validators()] {
            self.put_set(batch, set)?;
        }
        let lower = self.top.replace(height);
        if lower.is_none_or(|below| below + 1 < height) {
            let segment = Segment { lower, watermark: height, ahead: BTreeMap::new() };
            self.put_segment(batch, height, &segment, block.hash());
            self.segments.insert(height, segment);
        }
        Ok(())
    }

    fn put_header(&self, batch: &mut WriteBatch, height: Height, raw: &[u8], hash: Hash) {
        batch.put_cf(self.family(HEADER), height.to_be_bytes(), raw);
        batch.put_cf(self.family(HEIGHT), hash.as_bytes(), height.to_be_bytes());
    }

    fn put_confirmed(&self, batch: &mut WriteBatch, height: Height, by: &[String]) {
        let record = ConfirmedRecord { by: by.to_vec() };
        batch.put_cf(self.family(CONFIRMED), height.to_be_bytes(), record.encode_to_vec());
    }

    fn put_run(
        &mut self,
        batch: &mut WriteBatch,
        run: &TrustedRun,
        commits: &[Commit],
    ) -> Result<(), StoreError> {
        for (header, hash) in run.headers().iter().zip(run.hashes()) {
            self.put_header(batch, header.height(), header.bytes(), *hash);
        }
        for commit in commits {
            let key = commit.height.to_be_bytes();
            batch.put_cf(self.family(COMMIT), key, commit.encode());
        }
        let hash = run.hashes().first().copied();
        let above = self.segments.range_mut(run.high() + 1..).next();
        let (Some((upper, segment)), Some(hash)) = (above, hash) else { return Ok(()) };
        let upper = *upper;
        segment.ahead.insert(run.high(), (run.low(), hash));
        let mut reached = None;
        while let Some((low, hash)) = segment.ahead.remove(&(segment.watermark - 1)) {
            segment.watermark = low;
            reached = Some(hash);
        }
        let Some(hash) = reached else { return Ok(()) };
        let segment = segment.clone();
        if segment.is_whole() {
            self.segments.remove(&upper);
            batch.delete_cf(self.family(SEGMENT), upper.to_be_bytes());
        } else {
            self.put_segment(batch, upper, &segment, hash);
        }
        Ok(())
    }

    fn put_segment(&self, batch: &mut WriteBatch, upper: Height, segment: &Segment, hash: Hash) {
        let record = SegmentRecord {
            lower: segment.lower.unwrap_or(0),
            watermark: segment.watermark,
            hash: hash.as_bytes().to_vec(),
        };
        batch.put_cf(self.family(SEGMENT), upper.to_be_bytes(), record.encode_to_vec());
    }

    fn put_fork(&self, batch: &mut WriteBatch, fork: &Fork) {
        batch.put_cf(self.family(META), KEY_FORK, ForkRecord::new(fork).encode_to_vec());
    }
}

impl Segment {
    /// Whether nothing is missing. Below the root that is not known: more may be asked for later.
    fn is_whole(&self) -> bool {
        self.lower.is_some_and(|lower| self.watermark <= lower + 1)
    }
}

/// The column family of a name in [`FAMILIES`], all of which are opened.
fn family<'a>(db: &'a DB, name: &str) -> &'a ColumnFamily {
    db.cf_handle(name).expect("all column families are opened")
}
