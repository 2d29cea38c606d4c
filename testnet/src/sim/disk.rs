//! A disk: the journal and the signing watermark of one node. What a turn of the engine writes is durable when its sync is over; a crash
//! before that loses any suffix of it.

use super::met::write_name;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tendermint::block::Height;
use tercet_consensus::record::Record;
use tercet_node::engine::EngineError;
use tercet_node::engine::outside::{Records, Watermark};
use tercet_node::store::StoreError;

/// One write that waits for its sync.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    /// A record of the journal.
    Record(Arc<Record>),
    /// The watermark in the journal, and what it was before.
    Reserve(Option<u64>),
    /// The watermark in the file, and what it was before.
    File(Option<u64>),
}

/// What is on the disk, with what waits to be.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    records: BTreeMap<u64, Vec<Arc<Record>>>,
    reserved: Option<u64>,
    file: Option<u64>,
    /// Not durable yet, in order, one entry a sync.
    pending: VecDeque<Vec<Write>>,
    /// Syncs since the last look.
    syncs: usize,
    /// The name of what became durable last.
    last: Option<&'static str>,
    /// The next sync fails.
    fails: bool,
}

/// A disk that the engine and the world share.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedDisk(Arc<Mutex<Disk>>);

impl SharedDisk {
    /// The disk.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    /// How many syncs a turn made so far.
    pub(crate) fn syncs(&self) -> usize {
        self.syncs
    }

    /// Starts to count syncs anew; how many there were.
    pub(crate) fn begin_turn(&mut self) -> usize {
        std::mem::take(&mut self.syncs)
    }

    /// The next sync fails.
    pub(crate) fn fail_next(&mut self) {
        self.fails = true;
    }

    /// The oldest sync is over: what it made durable.
    pub(crate) fn synced(&mut self) -> Vec<Write> {
        let writes = self.pending.pop_front().unwrap_or_default();
        self.last = writes.last().map(|write| write_name(Some(write))).or(self.last);
        writes
    }

    /// The name of what became durable last.
    pub(crate) fn last_durable(&self) -> &'static str {
        self.last.unwrap_or("nothing")
    }

    /// How many writes wait.
    pub(crate) fn unsynced(&self) -> usize {
        self.pending.iter().map(Vec::len).sum()
    }

    /// The machine stops: the first `kept` of the writes that waited are on the disk, the others are not. What is there now, and what
    /// was lost first.
    pub(crate) fn crash(&mut self, kept: usize) -> (Vec<Write>, Option<Write>) {
        let mut writes: Vec<Write> = self.pending.drain(..).flatten().collect();
        let lost = writes.split_off(kept.min(writes.len()));
        for write in lost.iter().rev() {
            match write {
                Write::Record(record) => {
                    let height = record.height().value();
                    if let Some(records) = self.records.get_mut(&height) {
                        records.pop();
                        if records.is_empty() {
                            self.records.remove(&height);
                        }
                    }
                }
                Write::Reserve(before) => self.reserved = *before,
                Write::File(before) => self.file = *before,
            }
        }
        self.last = writes.last().map(|write| write_name(Some(write))).or(self.last);
        self.syncs = 0;
        self.fails = false;
        (writes, lost.into_iter().next())
    }

    /// Whether there are records of a height.
    pub(crate) fn has_records(&self, height: u64) -> bool {
        self.records.contains_key(&height)
    }

    /// The signing watermarks of journal and file.
    pub(crate) fn watermarks(&self) -> (Option<u64>, Option<u64>) {
        (self.reserved, self.file)
    }

    /// Completes an interrupted write at a start, as a node does.
    pub(crate) fn complete_file(&mut self) {
        if self.reserved.is_some() {
            self.file = self.reserved;
        }
    }

    fn write(&mut self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.pending.push_back(writes);
        if std::mem::take(&mut self.fails) {
            let source = std::io::Error::other("the sync failed");
            return Err(StoreError::File { path: "journal".into(), source });
        }
        self.syncs += 1;
        Ok(())
    }
}

impl Records for SharedDisk {
    fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let mut disk = self.lock();
        let records: Vec<Arc<Record>> = records.iter().cloned().map(Arc::new).collect();
        for record in &records {
            let height = record.height().value();
            disk.records.entry(height).or_default().push(Arc::clone(record));
        }
        disk.write(records.into_iter().map(Write::Record).collect())
    }

    fn records(&self, height: Height) -> Result<Vec<Record>, StoreError> {
        let disk = self.lock();
        let records = disk.records.get(&height.value());
        Ok(records.map(|all| all.iter().map(|r| Record::clone(r)).collect()).unwrap_or_default())
    }

    fn last_height(&self) -> Result<Option<Height>, StoreError> {
        let last = self.lock().records.keys().next_back().copied();
        Ok(last.and_then(|height| Height::try_from(height).ok()))
    }

    fn prune_below(&mut self, height: Height) -> Result<(), StoreError> {
        let mut disk = self.lock();
        disk.records = disk.records.split_off(&height.value());
        Ok(())
    }

    fn reserved(&self) -> Option<Height> {
        self.lock().reserved.and_then(|height| Height::try_from(height).ok())
    }

    fn reserve(&mut self, upto: Height) -> Result<(), StoreError> {
        let mut disk = self.lock();
        if disk.reserved.is_some_and(|reserved| upto.value() <= reserved) {
            return Ok(());
        }
        let before = disk.reserved.replace(upto.value());
        disk.write(vec![Write::Reserve(before)])
    }
}

impl Watermark for SharedDisk {
    fn load(&self) -> Result<Option<u64>, EngineError> {
        Ok(self.lock().file)
    }

    fn save(&mut self, height: u64) -> Result<(), EngineError> {
        let mut disk = self.lock();
        let before = disk.file.replace(height);
        let written = disk.write(vec![Write::File(before)]);
        written.map_err(|error| EngineError::Reservation(error.to_string()))
    }
}
