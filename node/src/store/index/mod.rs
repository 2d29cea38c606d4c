//! The index: where transactions and blocks stand that have events of the application with `index` set. Everything in it can be made
//! again from the chain; it has a watermark, so that what a crash cut short is filled in at the next start.
//!
//! | Family | Key | Value |
//! |---|---|---|
//! | `span` | `span` | the lowest height, and the next to be indexed |
//! | `tx` | SHA-256 of a transaction | its height, its index in the block, its code |
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
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tendermint::block::Height;
use tendermint_proto::v0_38::abci::{Event, ResponseFinalizeBlock};
use tercet_consensus::block::SealedBlock;

/// What the folder's format file says.
const FORMAT: &str = "tercet index 1";
/// The key of the watermark.
const SPAN_KEY: &[u8] = b"span";
/// Heights that one call of [`Index::prune`] removes.
const PRUNE_BATCH: u64 = 100;
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
    /// The code of its result.
    pub code: u32,
}

/// The index. A clone is the same store.
#[derive(Clone, Debug)]
pub struct Index(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: DB,
    folder: Folder,
    /// Held while something is written.
    span: Mutex<Option<Span>>,
}

impl Index {
    /// Opens the index in the folder `dir` (`data/index`), or creates it. Where it does not fit the chain any more (the chain was rolled
    /// back, or was pruned while there was no index), it is begun anew.
    ///
    /// # Errors
    /// Where another process has it, its format is unknown, it is damaged, or the disk fails.
    pub fn open(dir: &Path, chain: &Chain) -> Result<Index, StoreError> {
        let index = Index::open_alone(dir)?;
        let applied = chain.state()?.and_then(|state| state.last_height);
        let (base, applied) = (value(chain.base()), value(applied));
        let fits = |span: Span| span.next <= applied.saturating_add(1) && span.base >= base;
        if index.span().is_none_or(fits) {
            return Ok(index);
        }
        drop(index);
        let failed = |source| StoreError::File { path: dir.to_owned(), source };
        std::fs::remove_dir_all(dir).map_err(failed)?;
        Index::open_alone(dir)
    }

    /// See [`Index::open`]; whatever the chain is.
    pub(crate) fn open_alone(dir: &Path) -> Result<Index, StoreError> {
        let folder = Folder::open(dir, FORMAT)?;
        let families = Family::ALL.iter().map(|family| (family.name(), false));
        let db = DB::open_cf_with_opts(&options::chain(), dir, options::families(families));
        Index::load(db, folder)
    }

    /// Opens the index of a stopped node to read it.
    ///
    /// # Errors
    /// As [`Index::open`], and where there is none.
    pub fn open_read_only(dir: &Path) -> Result<Index, StoreError> {
        let folder = Folder::open_existing(dir, FORMAT)?;
        let families = Family::ALL.iter().map(|family| (family.name(), false));
        let families = options::families(families);
        let db = DB::open_cf_with_opts_for_read_only(&options::chain(), dir, families, false);
        Index::load(db, folder)
    }

    fn load(db: Result<DB, rocksdb::Error>, folder: Folder) -> Result<Index, StoreError> {
        let db = db.map_err(|error| folder.failed(error))?;
        let index = Index(Arc::new(Inner { db, folder, span: Mutex::new(None) }));
        let span = index.read_span()?;
        *index.lock() = span;
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
        *self.lock()
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
        let mut span = self.lock();
        if span.is_some_and(|span| height < span.next) {
            return Ok(());
        }
        let base = span.map_or(height, |span| span.base);
        let mut batch = WriteBatch::default();
        let before = self.count(height.saturating_sub(1))?;
        let count = before.saturating_add(block.txs().len().try_into().unwrap_or(u64::MAX));
        batch.put_cf(self.family(Family::Count), height.to_be_bytes(), count.to_be_bytes());
        let postings = postings(results);
        for (prefix, spots) in &postings.is {
            batch.put_cf(self.family(Family::Is), place::key(prefix, height), spots);
        }
        for (prefix, values) in &postings.has {
            batch.put_cf(self.family(Family::Has), place::key(prefix, height), values);
        }
        self.put_txs(&mut batch, block, results)?;
        let after = Span { base, next: height.saturating_add(1) };
        self.put_span(&mut batch, after);
        self.write(batch, false)?;
        *span = Some(after);
        Ok(())
    }

    /// Goes on behind heights of which the chain has no results.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn skip_to(&self, height: u64) -> Result<(), StoreError> {
        let mut span = self.lock();
        if span.is_some_and(|span| height <= span.next) {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        let base = span.filter(|span| span.base < span.next).map_or(height, |span| span.base);
        let after = Span { base, next: height };
        self.put_span(&mut batch, after);
        self.write(batch, false)?;
        *span = Some(after);
        Ok(())
    }

    /// Removes what is below `to`, a batch of heights at a time; true where there is more. The chain must still have the blocks, from
    /// which follows what there is of them. Synced: afterwards the chain may let them go.
    ///
    /// # Errors
    /// Where the chain cannot be read or the disk fails.
    pub fn prune(&self, chain: &Chain, to: u64) -> Result<bool, StoreError> {
        let mut span = self.lock();
        let Some(now) = *span else { return Ok(false) };
        let end = to.min(now.next).min(now.base.saturating_add(PRUNE_BATCH));
        if now.base >= end {
            return Ok(false);
        }
        let mut batch = WriteBatch::default();
        for at in now.base..end {
            self.remove(&mut batch, chain, at)?;
        }
        // The count below the lowest height stays: others are counted from it.
        let kept = end.saturating_sub(1).to_be_bytes();
        batch.delete_range_cf(self.family(Family::Count), [0; 8], kept);
        let after = Span { base: end, next: now.next };
        self.put_span(&mut batch, after);
        self.write(batch, true)?;
        *span = Some(after);
        Ok(end < to.min(now.next))
    }

    fn remove(&self, batch: &mut WriteBatch, chain: &Chain, at: u64) -> Result<(), StoreError> {
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
        for hash in block.tx_hashes() {
            if self.tx(hash)?.is_none_or(|newest| newest.height == height) {
                batch.delete_cf(self.family(Family::Tx), hash);
            }
        }
        Ok(())
    }

    /// Where the transaction with this hash stands: the last one that did not fail, or else the last.
    ///
    /// # Errors
    /// Where it is damaged or the disk fails.
    pub fn tx(&self, hash: &[u8; 32]) -> Result<Option<TxAt>, StoreError> {
        let Some(bytes) = self.get(Family::Tx, hash)? else { return Ok(None) };
        let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let height = || Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?));
        let height = height().and_then(|height| Height::try_from(height).ok());
        let at = height.zip(number(8).zip(number(12)));
        let damaged =
            || self.0.folder.damaged(format!("tx {}", hex::encode_upper(hash)), "no place");
        let (height, (index, code)) = at.ok_or_else(damaged)?;
        Ok(Some(TxAt { height, index, code }))
    }

    fn put_txs(
        &self,
        batch: &mut WriteBatch,
        block: &SealedBlock,
        results: &ResponseFinalizeBlock,
    ) -> Result<(), StoreError> {
        let height = block.header().height.value();
        let mut here: HashMap<&[u8; 32], u32> = HashMap::new();
        let txs = block.tx_hashes().iter().zip(&results.tx_results);
        for (index, (hash, result)) in (0u32..).zip(txs) {
            // One that failed does not take the place of one that did not (CometBFT `state/txindex/kv/kv.go`, `Index`).
            let before = match here.get(hash) {
                Some(code) => Some(*code),
                None if result.code != 0 => self.tx(hash)?.map(|before| before.code),
                None => None,
            };
            if result.code != 0 && before == Some(0) {
                continue;
            }
            here.insert(hash, result.code);
            let numbers = [index.to_be_bytes(), result.code.to_be_bytes()].concat();
            let at = [&height.to_be_bytes()[..], &numbers].concat();
            batch.put_cf(self.family(Family::Tx), hash, at);
        }
        Ok(())
    }

    /// How many transactions there are up to a height, from the first that was indexed.
    fn count(&self, height: u64) -> Result<u64, StoreError> {
        let mut counts = self.0.db.raw_iterator_cf(self.family(Family::Count));
        // Heights that were passed over have none of their own.
        counts.seek_for_prev(height.to_be_bytes());
        counts.status().map_err(|error| self.0.folder.failed(error))?;
        let Some(bytes) = counts.value() else { return Ok(0) };
        let damaged = |_| self.0.folder.damaged(format!("count {height}"), "no number");
        <[u8; 8]>::try_from(bytes).map(u64::from_be_bytes).map_err(damaged)
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

    fn lock(&self) -> MutexGuard<'_, Option<Span>> {
        // The span is changed as a whole, after what it says was written.
        self.0.span.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
            let tag = format!("{}.{}", event.r#type, attribute.key);
            if !RESERVED.contains(&tag.as_str()) {
                all.add(scope, (index, number), (tag, &attribute.value));
            }
        }
    }
}

fn value(height: Option<Height>) -> u64 {
    height.map_or(0, |height| height.value())
}
