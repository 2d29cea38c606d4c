//! The index: where transactions and blocks stand that have events of the application with `index` set. Everything in it can be made
//! again from the chain; it has a watermark, so that what a crash cut short is filled in at the next start.
//!
//! | Family | Key | Value |
//! |---|---|---|
//! | `span` | `span` | the lowest height, and the next to be indexed |
//! | `tx` | SHA-256 of a transaction | `TxResult` of CometBFT |
//! | `at` | height, index in the block | SHA-256 of the transaction |
//! | `count` | height | how many transactions there are up to it, from the first indexed |
//! | `is` | scope, hash of tag and value, place | nothing |
//! | `has` | scope, hash of the tag, place, number of the attribute | the value |
//!
//! A place is a height, an index in the block and the number of an event, all big-endian: postings are in the order of the chain.

mod place;
mod search;
#[cfg(test)]
mod tests;

pub use search::{Accepts, Found, PAGE_MAX, Scope, Search, SearchError};

use super::folder::Folder;
use super::{Chain, StoreError, options};
use place::{Posting, has_key, is_key, place, tx_place};
use prost::Message as _;
use rocksdb::{ColumnFamily, DB, DBPinnableSlice, WriteBatch, WriteOptions};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tendermint::block::Height;
use tendermint_proto::v0_38::abci::{Event, ResponseFinalizeBlock, TxResult};
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
    At,
    Count,
    Is,
    Has,
}

impl Family {
    const ALL: [Family; 6] =
        [Family::Span, Family::Tx, Family::At, Family::Count, Family::Is, Family::Has];

    fn name(self) -> &'static str {
        match self {
            Family::Span => "span",
            Family::Tx => "tx",
            Family::At => "at",
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
        self.postings(block, results, &mut |posting| match posting {
            Posting::Is(key) => batch.put_cf(self.family(Family::Is), key, []),
            Posting::Has(key, value) => batch.put_cf(self.family(Family::Has), key, value),
        });
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
        self.postings(&block, &results, &mut |posting| match posting {
            Posting::Is(key) => batch.delete_cf(self.family(Family::Is), key),
            Posting::Has(key, _) => batch.delete_cf(self.family(Family::Has), key),
        });
        for (index, hash) in (0u32..).zip(block.tx_hashes()) {
            batch.delete_cf(self.family(Family::At), tx_place(at, index));
            let newest = self.tx(hash)?;
            if newest.is_none_or(|newest| u64::try_from(newest.height) == Ok(at)) {
                batch.delete_cf(self.family(Family::Tx), hash);
            }
        }
        Ok(())
    }

    /// What is known of the transaction with this hash: of the last one that did not fail, or else the last.
    ///
    /// # Errors
    /// Where it is damaged or the disk fails.
    pub fn tx(&self, hash: &[u8; 32]) -> Result<Option<TxResult>, StoreError> {
        let Some(bytes) = self.get(Family::Tx, hash)? else { return Ok(None) };
        let damaged =
            |_| self.0.folder.damaged(format!("tx {}", hex::encode_upper(hash)), "no TxResult");
        TxResult::decode(&*bytes).map(Some).map_err(damaged)
    }

    /// The hash of the transaction at a place.
    ///
    /// # Errors
    /// Where it is damaged or the disk fails.
    pub fn hash_at(&self, height: Height, index: u32) -> Result<Option<[u8; 32]>, StoreError> {
        let key = tx_place(height.value(), index);
        let Some(bytes) = self.get(Family::At, &key)? else { return Ok(None) };
        let damaged = |_| self.0.folder.damaged(format!("at {height}/{index}"), "no hash");
        <[u8; 32]>::try_from(&*bytes).map(Some).map_err(damaged)
    }

    fn put_txs(
        &self,
        batch: &mut WriteBatch,
        block: &SealedBlock,
        results: &ResponseFinalizeBlock,
    ) -> Result<(), StoreError> {
        let height = block.header().height;
        let txs = block.txs().iter().zip(block.tx_hashes()).zip(&results.tx_results);
        for (index, ((tx, hash), result)) in (0u32..).zip(txs) {
            batch.put_cf(self.family(Family::At), tx_place(height.value(), index), hash);
            // One that failed does not take the place of one that did not (CometBFT `state/txindex/kv/kv.go`, `Index`).
            let succeeded = |old: TxResult| old.result.is_some_and(|result| result.code == 0);
            if result.code != 0 && self.tx(hash)?.is_some_and(succeeded) {
                continue;
            }
            let record = TxResult {
                height: height.into(),
                index,
                tx: tx.clone(),
                result: Some(result.clone()),
            };
            batch.put_cf(self.family(Family::Tx), hash, record.encode_to_vec());
        }
        Ok(())
    }

    /// Everything that stands in `is` and `has` of a block.
    fn postings(
        &self,
        block: &SealedBlock,
        results: &ResponseFinalizeBlock,
        each: &mut dyn FnMut(Posting<'_>),
    ) {
        let height = block.header().height.value();
        events(Scope::Blocks, (height, 0), &results.events, each);
        for (index, result) in (0u32..).zip(&results.tx_results) {
            events(Scope::Txs, (height, index), &result.events, each);
        }
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

/// The postings of a list of events: of attributes with a key and `index` set, in events with a type.
fn events(
    scope: Scope,
    (height, index): (u64, u32),
    events: &[Event],
    each: &mut dyn FnMut(Posting<'_>),
) {
    for (number, event) in (0u32..).zip(events) {
        let place = place(height, index, number);
        for (nth, attribute) in (0u32..).zip(&event.attributes) {
            let tag = format!("{}.{}", event.r#type, attribute.key);
            let is_named = !event.r#type.is_empty() && !attribute.key.is_empty();
            if !is_named || !attribute.index || RESERVED.contains(&tag.as_str()) {
                continue;
            }
            each(Posting::Is(is_key(scope, &tag, &attribute.value, &place)));
            each(Posting::Has(has_key(scope, &tag, &place, nth), attribute.value.as_bytes()));
        }
    }
}

fn value(height: Option<Height>) -> u64 {
    height.map_or(0, |height| height.value())
}
