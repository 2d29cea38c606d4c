//! The journal: what must be durable before a message leaves, and the signing watermark.
//!
//! One write batch an append; with `sync` it is on disk when the call returns. A failed append leaves unknown what is on disk: the
//! caller ends the process.

use super::folder::Folder;
use super::{StoreError, options, wal};
use crate::wire::{decode_record, encode_record};
use bytes::Bytes;
use rocksdb::{DB, DBRawIterator, Options, WriteBatch, WriteOptions};
use std::collections::BTreeMap;
use std::path::Path;
use tendermint::block::Height;
use tercet_consensus::record::Record;

/// What the folder's format file says.
const FORMAT: &str = "tercet journal 1";
/// First byte of the key of a record; the height and the number within it follow, both big-endian.
const RECORD: u8 = b'r';
/// Key of the signing watermark.
const RESERVED: &[u8] = b"m/reserved";

/// Heights of which the number of the next record is kept.
const HEIGHTS_MAX: usize = 4;

/// The journal of one replica.
#[derive(Debug)]
pub struct Journal {
    db: DB,
    folder: Folder,
    reserved: Option<Height>,
    /// The number of the next record, of the last heights appended to.
    next: BTreeMap<Height, u64>,
    /// Heights below are pruned.
    pruned: u64,
}

impl Journal {
    /// Opens the journal in the folder `dir` (`data/journal`), or creates it.
    ///
    /// # Errors
    /// Where another process has it, its format is unknown, it is damaged before its end, or the disk fails.
    pub fn open(dir: &Path) -> Result<Journal, StoreError> {
        Journal::open_with(dir, &options::journal())
    }

    pub(super) fn open_with(dir: &Path, options: &Options) -> Result<Journal, StoreError> {
        let folder = Folder::open(dir, FORMAT)?;
        wal::check(dir)?;
        let db = DB::open(options, dir).map_err(|error| folder.failed(error))?;
        let mut journal = Journal { db, folder, reserved: None, next: BTreeMap::new(), pruned: 0 };
        journal.reserved = journal.read_reserved()?;
        Ok(journal)
    }

    /// Appends records in one batch; with `sync` they are durable on return.
    ///
    /// # Errors
    /// Where the disk fails; what is on it is then unknown.
    pub fn append(&mut self, records: &[Record], sync: bool) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for record in records {
            let height = record.height();
            let number = self.next_number(height)?;
            batch.put(key(height.value(), number), encode_record(record));
            self.next.insert(height, number.saturating_add(1));
        }
        self.write(batch, sync)?;
        while self.next.len() > HEIGHTS_MAX {
            self.next.pop_first();
        }
        Ok(())
    }

    /// All records of heights from `from` on, by height and within it in the order in which they were appended. Of one height at a
    /// time, see [`Journal::records`]: all at once may be large.
    ///
    /// # Errors
    /// Where a record is damaged or the disk fails.
    pub fn replay(&self, from: Height) -> Result<Vec<Record>, StoreError> {
        self.read(from.value(), u64::MAX)
    }

    /// The records of `height`, in the order in which they were appended.
    ///
    /// # Errors
    /// Where a record is damaged or the disk fails.
    pub fn records(&self, height: Height) -> Result<Vec<Record>, StoreError> {
        self.read(height.value(), height.value())
    }

    /// The highest height that has records.
    ///
    /// # Errors
    /// Where a key is damaged or the disk fails.
    pub fn last_height(&self) -> Result<Option<Height>, StoreError> {
        let mut iterator = self.db.raw_iterator();
        iterator.seek_for_prev(key(u64::MAX, u64::MAX));
        let Some((height, _)) = self.record_at(&iterator)? else { return Ok(None) };
        let damaged = |_| self.folder.damaged(format!("record {height}"), "not a height");
        Height::try_from(height).map(Some).map_err(damaged)
    }

    /// The records of the heights from `first` to `last`.
    fn read(&self, first: u64, last: u64) -> Result<Vec<Record>, StoreError> {
        let mut records = Vec::new();
        let mut iterator = self.db.raw_iterator();
        iterator.seek(key(first, 0));
        while let Some((height, number)) = self.record_at(&iterator)?
            && height <= last
        {
            let name = format!("record {height}/{number}");
            let value = Bytes::copy_from_slice(iterator.value().unwrap_or_default());
            let record =
                decode_record(value).map_err(|reject| self.folder.damaged(name.clone(), reject))?;
            if record.height().value() != height {
                return Err(self.folder.damaged(name, "the record is of another height"));
            }
            records.push(record);
            iterator.next();
        }
        Ok(records)
    }

    /// Forgets the records of heights below `height`; not synced.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn prune_below(&mut self, height: Height) -> Result<(), StoreError> {
        if height.value() <= self.pruned {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        batch.delete_range(key(self.pruned, 0), key(height.value(), 0));
        self.pruned = height.value();
        self.write(batch, false)
    }

    /// Forgets the records of `height` and above, durable on return. Only for what was decided and not signed here.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn forget_from(&mut self, height: Height) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.delete_range(key(height.value(), 0), key(u64::MAX, u64::MAX));
        self.next.clear();
        self.write(batch, true)
    }

    /// The signing watermark: nothing of a height above it was ever signed.
    #[must_use]
    pub fn reserved(&self) -> Option<Height> {
        self.reserved
    }

    /// Raises the signing watermark, durable on return; never lowers it.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn reserve(&mut self, upto: Height) -> Result<(), StoreError> {
        if self.reserved.is_some_and(|reserved| upto <= reserved) {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        batch.put(RESERVED, upto.value().to_be_bytes());
        self.write(batch, true)?;
        self.reserved = Some(upto);
        Ok(())
    }

    fn read_reserved(&self) -> Result<Option<Height>, StoreError> {
        let value = self.db.get(RESERVED).map_err(|error| self.folder.failed(error))?;
        let Some(value) = value else { return Ok(None) };
        let height = <[u8; 8]>::try_from(value).ok();
        let height = height.and_then(|bytes| Height::try_from(u64::from_be_bytes(bytes)).ok());
        let damaged = || self.folder.damaged("reserved".into(), "not a height");
        height.map(Some).ok_or_else(damaged)
    }

    fn write(&self, batch: WriteBatch, sync: bool) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.db.write_opt(batch, &options).map_err(|error| self.folder.failed(error))
    }

    /// The number of the next record of `height`.
    fn next_number(&self, height: Height) -> Result<u64, StoreError> {
        if let Some(number) = self.next.get(&height) {
            return Ok(*number);
        }
        let mut iterator = self.db.raw_iterator();
        iterator.seek_for_prev(key(height.value(), u64::MAX));
        Ok(match self.record_at(&iterator)? {
            Some((found, number)) if found == height.value() => number.saturating_add(1),
            _ => 0,
        })
    }

    /// Height and number of the record that the iterator is at; none at the end, or before the first record.
    fn record_at(&self, iterator: &DBRawIterator<'_>) -> Result<Option<(u64, u64)>, StoreError> {
        iterator.status().map_err(|error| self.folder.failed(error))?;
        let Some(found) = iterator.key() else { return Ok(None) };
        if found == RESERVED {
            return Ok(None);
        }
        let parsed = parse_key(found);
        parsed.map(Some).ok_or_else(|| self.folder.damaged(format!("{found:?}"), "not a key"))
    }

    #[cfg(test)]
    pub(super) fn database(&self) -> &DB {
        &self.db
    }
}

pub(super) fn key(height: u64, number: u64) -> Vec<u8> {
    [&[RECORD][..], &height.to_be_bytes(), &number.to_be_bytes()].concat()
}

/// Height and number in the key of a record.
fn parse_key(key: &[u8]) -> Option<(u64, u64)> {
    let (&kind, rest) = key.split_first()?;
    let (height, number) = rest.split_first_chunk()?;
    let number = u64::from_be_bytes(number.try_into().ok()?);
    (kind == RECORD).then_some((u64::from_be_bytes(*height), number))
}
