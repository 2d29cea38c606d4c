//! Pruning of the chain.

use super::StoreError;
use super::chain::{Chain, Family, key};
use rocksdb::WriteBatch;
use std::sync::atomic::Ordering;
use tendermint::block::Height;

/// Heights that one batch removes.
const PRUNE_BATCH: u64 = 1_000;

impl Chain {
    /// Removes blocks, commits and results below `below`, but never the highest block or the last applied one, and says how many
    /// heights went. It may take long: call it in the background.
    ///
    /// # Errors
    /// Where a stored value is damaged or the disk fails.
    pub fn prune(&self, below: Height) -> Result<u64, StoreError> {
        let (Some(base), Some(height)) = (self.base(), self.height()) else { return Ok(0) };
        let applied = self.0.next.load(Ordering::Acquire).saturating_sub(1);
        let end = below.value().min(height.value()).min(applied);
        let mut from = base.value();
        while from < end {
            let to = from.saturating_add(PRUNE_BATCH).min(end);
            self.prune_range(from, to)?;
            from = to;
        }
        if from > base.value() {
            for family in [Family::Block, Family::Results] {
                let family = self.family(family);
                self.0.db.compact_range_cf(family, None::<[u8; 8]>, Some(from.to_be_bytes()));
            }
        }
        Ok(from.saturating_sub(base.value()))
    }

    /// Removes the heights from `from` to before `to`, one batch.
    fn prune_range(&self, from: u64, to: u64) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for height in from..to {
            let height = Height::try_from(height).expect("a stored height is below 2^63");
            if let Some(meta) = self.meta(height)? {
                batch.delete_cf(self.family(Family::Hash), meta.block_id.hash.as_bytes());
            }
        }
        let (start, end) = (from.to_be_bytes(), to.to_be_bytes());
        for family in [Family::Block, Family::Meta, Family::Commit, Family::Results] {
            batch.delete_range_cf(self.family(family), start, end);
        }
        let end = Height::try_from(to).expect("a stored height is below 2^63");
        for family in [Family::Validators, Family::Params] {
            // What holds at `to` stays, though it was stored before.
            if let Some((stored, _)) = self.before(family, end)? {
                batch.delete_range_cf(self.family(family), [0; 8], key(stored));
            }
        }
        self.0.base.store(to, Ordering::Release);
        self.write(batch)
    }
}
