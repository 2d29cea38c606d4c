//! The index: where transactions and blocks stand that have events of the application with `index` set. Everything in it can be made
//! again from the chain; it has a watermark, so that what a crash cut short is filled in at the next start.
//!
//! | Family | Key | Value |
//! |---|---|---|
//! | `span` | `span` | the lowest height, and the next to be indexed |
//! | `tx` | SHA-256 of a transaction | where it stands last: its height, its index in the block |
//! | `count` | height | how many transactions there are up to it, from the first indexed |
//! | `is` | scope, hash of tag and value, height | where in the block: index of the transaction, number of the event |
//! | `has` | scope, hash of the tag, height | the same, each with the value |
//!
//! All numbers are big-endian: postings are in the order of the chain. There is one entry for all that a block says of a value, as most
//! transactions say the same. What was executed stands in the chain and is read from there.

mod place;
mod search;
#[cfg(test)]
mod tests;

use place::Postings;
pub use search::{Accepts, Found, PAGE_MAX, Scope, Search, SearchError};

use super::folder::Folder;
use super::{Chain, StoreError, options};
use rocksdb::{ColumnFamily, DB, DBPinnableSlice, WriteBatch, WriteOptions};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tendermint::block::Height;
use tendermint_proto::v0_38::abci::{Event, ResponseFinalizeBlock};
use tercet_consensus::block::SealedBlock;

/// What the folder's format file says.
const FORMAT: &str = "tercet index 2";
/// What every format of an index begins with.
const ANY_FORMAT: &str = "tercet index ";
/// The key of the watermark.
const SPAN_KEY: &[u8] = b"span";
/// Heights that one call of [`Index::prune`] removes at most.
const PRUNE_BATCH: u64 = 100;
/// Transactions after which it takes no further height: while they are looked up nothing is indexed.
const PRUNE_TXS: usize = 10_000;
/// Keys that the node makes itself, which an application's events cannot take (CometBFT refuses such blocks).
const RESERVED: [&str; 3] = ["tx.hash", "tx.height", "block.height"];

/// A column family.
#[derive(Clone, Copy, Debug)]
enum Family {
    Span,
    Tx,
    Count,
    Is,
    Has,
}

impl Family {
    const ALL: [Family; 5] = [Family::Span, Family::Tx, Family::Count, Family::Is, Family::Has];

    fn name(self) -> &'static str {
        match self {
            Family::Span => "span",
            Family::Tx => "tx",
            Family::Count => "count",
            Family::Is => "is",
            Family::Has => "has",
        }
    }
}

/// What is indexed: heights from `base` to before `next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    base: u64,
    next: u64,
}

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxAt {
    /// The height of its block.
    pub height: Height,
    /// Its index in the block.
    pub index: u32,
}

/// The index. A clone is the same store.
#[derive(Clone, Debug)]
pub struct Index(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: DB,
    folder: Folder,
    /// Held while something is written.
    writing: Mutex<()>,
    /// Changed once it is written, under `writing`; read without it.
    span: Mutex<Option<Span>>,
}

impl Index {
    /// Opens the index in the folder `dir` (`data/index`), or creates it. Where it is of another format, or does not fit the chain any more
    /// (the chain was rolled back, or was pruned while there was no index), it is begun anew.
    ///
    /// # Errors
    /// Where another process has it, it is damaged, or the disk fails.
    pub fn open(dir: &Path, chain: &Chain) -> Result<Index, StoreError> {
        let anew = || {
            let failed = |source| StoreError::File { path: dir.to_owned(), source };
            std::fs::remove_dir_all(dir).map_err(failed)?;
            Index::open_alone(dir)
        };
        let index = match Index::open_alone(dir) {
            Err(StoreError::Format { found, known, .. }) if found.starts_with(ANY_FORMAT) => {
                tracing::info!(%found, %known, "the index is of another format: it is made anew from the chain");
                anew()?
            }
            opened => opened?,
        };
        let applied = chain.state()?.and_then(|state| state.last_height);
        let (base, applied) = (value(chain.base()), value(applied));
        let fits = |span: Span| span.next <= applied.saturating_add(1) && span.base >= base;
        if index.span().is_none_or(fits) {
            return Ok(index);
        }
        drop(index);
        anew()
    }

    /// See [`Index::open`]; whatever the chain is.
    pub(crate) fn open_alone(dir: &Path) -> Result<Index, StoreError> {
        let folder = Folder::open(dir, FORMAT)?;
        let families = options::index_families(Family::ALL.iter().map(|family| family.name()));
        let db = DB::open_cf_with_opts(&options::index(), dir, families);
        Index::load(db, folder)
    }

    /// Opens the index of a stopped node to read it.
    ///
    /// # Errors
    /// As [`Index::open`], and where there is none.
    pub fn open_read_only(dir: &Path) -> Result<Index, StoreError> {
        let folder = Folder::open_existing(dir, FORMAT)?;
        let families = options::index_families(Family::ALL.iter().map(|family| family.name()));
        let db = DB::open_cf_with_opts_for_read_only(&options::index(), dir, families, false);
        Index::load(db, folder)
    }

    fn load(db: Result<DB, rocksdb::Error>, folder: Folder) -> Result<Index, StoreError> {
        let db = db.map_err(|error| folder.failed(error))?;
        let (writing, span) = (Mutex::new(()), Mutex::new(None));
        let index = Index(Arc::new(Inner { db, folder, writing, span }));
        let span = index.read_span()?;
        index.set_span(span);
        Ok(index)
    }

    fn read_span(&self) -> Result<Option<Span>, StoreError> {
        let Some(bytes) = self.get(Family::Span, SPAN_KEY)? else { return Ok(None) };
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 8)?;
            Some(u64::from_be_bytes(bytes.try_into().ok()?))
        };
        let span = number(0).zip(number(8)).map(|(base, next)| Span { base, next });
        let span = span.filter(|span| span.base <= span.next);
        span.map(Some).ok_or_else(|| self.0.folder.damaged("span".into(), "no heights"))
    }

    fn span(&self) -> Option<Span> {
        // It is changed as a whole.
        *self.0.span.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_span(&self, span: Option<Span>) {
        *self.0.span.lock().unwrap_or_else(PoisonError::into_inner) = span;
    }

    /// The height that is indexed next; none before the first.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.span().map(|span| span.next)
    }

    /// Indexes a block with what the application answered to it. The first may be of any height, and a height that is indexed already is
    /// passed over.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn add(
        &self,
        block: &SealedBlock,
        results: &ResponseFinalizeBlock,
    ) -> Result<(), StoreError> {
        let height = block.header().height.value();
        let postings = postings(results);
        let _writing = self.writing();
        let span = self.span();
        if span.is_some_and(|span| height < span.next) {
            return Ok(());
        }
        let base = base_of(span, height);
        let mut batch = WriteBatch::default();
        let before = self.count(height.saturating_sub(1))?;
        let count = before.saturating_add(block.txs().len().try_into().unwrap_or(u64::MAX));
        batch.put_cf(self.family(Family::Count), height.to_be_bytes(), count.to_be_bytes());
        for (family, lists) in [(Family::Is, &postings.is), (Family::Has, &postings.has)] {
            for (prefix, list) in lists {
                batch.put_cf(self.family(family), place::key(prefix, height), list);
            }
        }
        self.put_txs(&mut batch, block);
        self.move_to(Span { base, next: height.saturating_add(1) }, batch, false)
    }

    /// Goes on behind heights of which the chain has no results.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn skip_to(&self, height: u64) -> Result<(), StoreError> {
        let _writing = self.writing();
        let span = self.span();
        if span.is_some_and(|span| height <= span.next) {
            return Ok(());
        }
        let after = Span { base: base_of(span, height), next: height };
        self.move_to(after, WriteBatch::default(), false)
    }

    /// Removes what is below `to`, a batch of heights at a time; true where there is more. The chain must still have the blocks, from
    /// which follows what there is of them. Synced: afterwards the chain may let them go. One thread prunes; the chain is read before
    /// anything is held, so that searches and the next block wait for no more than the removal.
    ///
    /// # Errors
    /// Where the chain cannot be read or the disk fails.
    pub fn prune(&self, chain: &Chain, to: u64) -> Result<bool, StoreError> {
        let Some(now) = self.span() else { return Ok(false) };
        let most = to.min(now.next).min(now.base.saturating_add(PRUNE_BATCH));
        let (mut batch, mut hashes, mut end) = (WriteBatch::default(), Vec::new(), now.base);
        while end < most && hashes.len() < PRUNE_TXS {
            self.remove((&mut batch, &mut hashes), chain, end)?;
            end += 1;
        }
        let _writing = self.writing();
        let next = self.span().map_or(now.next, |span| span.next);
        // What is not indexed by now never will be: its blocks go.
        let end = if end == next { end.max(to) } else { end };
        if end == now.base {
            return Ok(false);
        }
        for (height, hash) in hashes {
            if self.tx(&hash)?.is_none_or(|last| last.height.value() == height) {
                batch.delete_cf(self.family(Family::Tx), hash);
            }
        }
        // The count below the lowest height stays: others are counted from it.
        let kept = self.last_counted(end.saturating_sub(1))?.unwrap_or(0).to_be_bytes();
        batch.delete_range_cf(self.family(Family::Count), [0; 8], kept);
        let after = Span { base: end, next: next.max(end) };
        self.move_to(after, batch, true)?;
        Ok(end < to.min(after.next))
    }

    /// Lists what there is of a height: its postings, and its transactions, which may stand in a later block too.
    fn remove(
        &self,
        (batch, hashes): (&mut WriteBatch, &mut Vec<(u64, [u8; 32])>),
        chain: &Chain,
        at: u64,
    ) -> Result<(), StoreError> {
        let Ok(height) = Height::try_from(at) else { return Ok(()) };
        let Some(block) = chain.block(height)? else { return Ok(()) };
        let Some(results) = chain.results(height)? else { return Ok(()) };
        let postings = postings(&results);
        for prefix in postings.is.keys() {
            batch.delete_cf(self.family(Family::Is), place::key(prefix, at));
        }
        for prefix in postings.has.keys() {
            batch.delete_cf(self.family(Family::Has), place::key(prefix, at));
        }
        hashes.extend(block.tx_hashes().iter().map(|hash| (at, *hash)));
        Ok(())
    }

    /// Where the transaction with this hash stands: the last one, as in CometBFT, whose indexer writes over an earlier one whatever
    /// became of either (`state/txindex/indexer_service.go` and `kv/kv.go`, `AddBatch`; `Index`, which would not, is not called).
    ///
    /// # Errors
    /// Where it is damaged or the disk fails.
    pub fn tx(&self, hash: &[u8; 32]) -> Result<Option<TxAt>, StoreError> {
        let Some(bytes) = self.get(Family::Tx, hash)? else { return Ok(None) };
        let index = || Some(u32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?));
        let height = || Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?));
        let height = height().and_then(|height| Height::try_from(height).ok());
        let damaged =
            || self.0.folder.damaged(format!("tx {}", hex::encode_upper(hash)), "no place");
        let (height, index) = height.zip(index()).ok_or_else(damaged)?;
        Ok(Some(TxAt { height, index }))
    }

    fn put_txs(&self, batch: &mut WriteBatch, block: &SealedBlock) {
        let family = self.family(Family::Tx);
        let mut at = [0; 12];
        at[..8].copy_from_slice(&block.header().height.value().to_be_bytes());
        // Of several places in one block the last is written last.
        for (index, hash) in (0u32..).zip(block.tx_hashes()) {
            at[8..].copy_from_slice(&index.to_be_bytes());
            batch.put_cf(family, hash, at);
        }
    }

    /// How many transactions there are up to a height, from the first that was indexed.
    fn count(&self, height: u64) -> Result<u64, StoreError> {
        Ok(self.counted(height)?.map_or(0, |(_, count)| count))
    }

    /// The last height up to this one that has a count.
    fn last_counted(&self, height: u64) -> Result<Option<u64>, StoreError> {
        Ok(self.counted(height)?.map(|(height, _)| height))
    }

    fn counted(&self, height: u64) -> Result<Option<(u64, u64)>, StoreError> {
        let mut counts = self.0.db.raw_iterator_cf(self.family(Family::Count));
        // Heights that were passed over have none of their own.
        counts.seek_for_prev(height.to_be_bytes());
        counts.status().map_err(|error| self.0.folder.failed(error))?;
        let Some((at, count)) = counts.item() else { return Ok(None) };
        let number = |bytes: &[u8]| <[u8; 8]>::try_from(bytes).map(u64::from_be_bytes).ok();
        let damaged = || self.0.folder.damaged(format!("count {height}"), "no number");
        number(at).zip(number(count)).map(Some).ok_or_else(damaged)
    }

    /// Writes what leads to a span.
    fn move_to(&self, after: Span, mut batch: WriteBatch, synced: bool) -> Result<(), StoreError> {
        self.put_span(&mut batch, after);
        self.write(batch, synced)?;
        self.set_span(Some(after));
        Ok(())
    }

    fn put_span(&self, batch: &mut WriteBatch, span: Span) {
        let bytes = [span.base.to_be_bytes(), span.next.to_be_bytes()].concat();
        batch.put_cf(self.family(Family::Span), SPAN_KEY, bytes);
    }

    fn write(&self, batch: WriteBatch, synced: bool) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(synced);
        self.0.db.write_opt(batch, &options).map_err(|error| self.0.folder.failed(error))
    }

    fn family(&self, family: Family) -> &ColumnFamily {
        self.0.db.cf_handle(family.name()).expect("every column family is opened")
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, StoreError> {
        let found = self.0.db.get_pinned_cf(self.family(family), key);
        found.map_err(|error| self.0.folder.failed(error))
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        // It guards nothing but the order.
        self.0.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lowest height of an index that goes on with `height`: where there is nothing in it, it begins there.
fn base_of(span: Option<Span>, height: u64) -> u64 {
    span.filter(|span| span.base < span.next).map_or(height, |span| span.base)
}

/// Everything that stands in `is` and `has` of a block.
fn postings(results: &ResponseFinalizeBlock) -> Postings {
    let mut all = Postings::default();
    events(&mut all, (Scope::Blocks, 0), &results.events);
    for (index, result) in (0u32..).zip(&results.tx_results) {
        events(&mut all, (Scope::Txs, index), &result.events);
    }
    all
}

/// The postings of a list of events: of attributes with a key and `index` set, in events with a type.
fn events(all: &mut Postings, (scope, index): (Scope, u32), events: &[Event]) {
    for (number, event) in (0u32..).zip(events).filter(|(_, event)| !event.r#type.is_empty()) {
        for attribute in event.attributes.iter().filter(|one| one.index && !one.key.is_empty()) {
            all.add(scope, (index, number), (&event.r#type, &attribute.key, &attribute.value));
        }
    }
}

fn value(height: Option<Height>) -> u64 {
    height.map_or(0, |height| height.value())
}
