//! Evidence in the chain: which offences stand in blocks, and what is pending.
//!
//! A mark is written in one batch with the state after its block ([`Chain::apply`]), so it is there exactly where the block is executed.
//! What is pending is what this node would tell of: not synced, and dropped where its mark is there.

use super::StoreError;
use super::chain::{Chain, Family, key, parse_key};
use rocksdb::{Direction, IteratorMode, WriteBatch};
use tendermint::block::Height;

/// First byte of the key of a mark; the offence follows, the value is the height of the block.
const MARK: u8 = 0;
/// First byte of the key of a pending piece; the offence follows, the value is the piece.
const PENDING: u8 = 1;

/// An offence and the piece that tells of it, both as bytes.
pub type StoredPiece = (Vec<u8>, Vec<u8>);

impl Chain {
    /// The height of the block in which the offence stands; none before that block is executed.
    ///
    /// # Errors
    /// Where the mark is damaged or the disk fails.
    pub fn evidence_mark(&self, offence: &[u8]) -> Result<Option<Height>, StoreError> {
        let Some(value) = self.get(Family::Evidence, &prefixed(MARK, offence))? else {
            return Ok(None);
        };
        let damaged = || self.0.folder.damaged("a mark of evidence".into(), "not a height");
        parse_key(&value).map(Some).ok_or_else(damaged)
    }

    /// The marks of the block at `height`, for the batch that stores the state after it.
    pub(super) fn put_marks(&self, batch: &mut WriteBatch, height: Height, offences: &[Vec<u8>]) {
        for offence in offences {
            batch.put_cf(self.family(Family::Evidence), prefixed(MARK, offence), key(height));
        }
    }

    /// Removes the marks of the block at `height`, which is executed no more.
    pub(super) fn drop_marks(
        &self,
        batch: &mut WriteBatch,
        height: Height,
    ) -> Result<(), StoreError> {
        let mode = IteratorMode::From(&[MARK], Direction::Forward);
        for entry in self.0.db.iterator_cf(self.family(Family::Evidence), mode) {
            let (mark, block) = entry.map_err(|error| self.0.folder.failed(error))?;
            if mark.first() == Some(&MARK) && parse_key(&block) == Some(height) {
                batch.delete_cf(self.family(Family::Evidence), mark);
            }
        }
        Ok(())
    }

    /// Stores a pending piece; not synced.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn put_pending_evidence(&self, offence: &[u8], piece: &[u8]) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(Family::Evidence), prefixed(PENDING, offence), piece);
        self.write(batch)
    }

    /// Forgets pending pieces; not synced.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn drop_pending_evidence(&self, offences: &[Vec<u8>]) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for offence in offences {
            batch.delete_cf(self.family(Family::Evidence), prefixed(PENDING, offence));
        }
        self.write(batch)
    }

    /// Every pending piece with its offence, the oldest height first.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn pending_evidence(&self) -> Result<Vec<StoredPiece>, StoreError> {
        let mode = IteratorMode::From(&[PENDING], Direction::Forward);
        let mut pieces = Vec::new();
        for entry in self.0.db.iterator_cf(self.family(Family::Evidence), mode) {
            let (key, value) = entry.map_err(|error| self.0.folder.failed(error))?;
            if let Some((&PENDING, offence)) = key.split_first() {
                pieces.push((offence.to_vec(), value.to_vec()));
            }
        }
        Ok(pieces)
    }
}

#[cfg(test)]
impl Chain {
    /// Everything that was written, in the batches in which it was: what is not lost by a crash is the first so many.
    pub(crate) fn batches(&self) -> Vec<Vec<u8>> {
        let batches = self.0.db.get_updates_since(0).expect("the log is there");
        batches.map(|batch| batch.expect("a batch").1.data().to_vec()).collect()
    }

    /// Writes batches of another store of this format.
    pub(crate) fn write_batches(&self, batches: &[Vec<u8>]) {
        batches.iter().for_each(|batch| {
            self.write(WriteBatch::from_data(batch)).expect("a disk");
        });
        self.load_next().expect("a state");
    }
}

fn prefixed(kind: u8, offence: &[u8]) -> Vec<u8> {
    [&[kind], offence].concat()
}
