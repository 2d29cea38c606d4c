//! Pruning: headers below a window go, of which later ones need nothing. Anchors stay, and above each the header that names it, so
//! that what is left is linked to them.

use super::{ANCHOR, COMMIT, HEADER, HEIGHT, KEY_PRUNED, META, Store, StoreError};
use crate::store::open::height_of;
use rocksdb::{Direction, IteratorMode, WriteBatch};
use tercet_light_core::header::{Header, Height};

/// The most headers that are removed at once.
pub const PRUNE_MAX: usize = 10_000;

impl Store {
    /// Removes headers more than `keep` below the highest anchor, at most [`PRUNE_MAX`]; none above a height that is missing. Gives
    /// back how many.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn prune(&mut self, keep: u64) -> Result<usize, StoreError> {
        let Some(limit) = self.top.and_then(|top| top.checked_sub(keep)) else { return Ok(0) };
        let gap = self.segments.values().filter_map(|segment| segment.lower).min();
        let limit = limit.min(gap.unwrap_or(Height::MAX));
        // Below the first anchor stands only what was asked for.
        let Some(first) = self.first_anchor()? else { return Ok(0) };
        let from = self.pruned()?.max(first);
        let mut batch = WriteBatch::default();
        let (mut count, mut reached) = (0, from);
        let start = from.to_be_bytes();
        let start = IteratorMode::From(&start, Direction::Forward);
        for entry in self.db.iterator_cf(self.family(HEADER), start) {
            let (key, raw) = entry.map_err(|source| self.failed(source))?;
            let height = height_of(&key).ok_or_else(|| self.damaged("header", 0))?;
            if height >= limit || count == PRUNE_MAX {
                break;
            }
            reached = height + 1;
            if self.is_anchor(height)? || (height > 1 && self.is_anchor(height - 1)?) {
                continue;
            }
            batch.delete_cf(self.family(HEADER), key);
            batch.delete_cf(self.family(COMMIT), height.to_be_bytes());
            let header = Header::decode(raw.into_vec().into());
            let header = header.map_err(|_| self.damaged("header", height))?;
            batch.delete_cf(self.family(HEIGHT), header.hash().as_bytes());
            count += 1;
        }
        if reached > from {
            batch.put_cf(self.family(META), KEY_PRUNED, reached.to_be_bytes());
            self.db.write(batch).map_err(|source| self.failed(source))?;
        }
        Ok(count)
    }

    /// Below this height headers were removed.
    pub(super) fn pruned(&self) -> Result<Height, StoreError> {
        Ok(self.meta(KEY_PRUNED)?.and_then(|bytes| height_of(&bytes)).unwrap_or(0))
    }

    fn first_anchor(&self) -> Result<Option<Height>, StoreError> {
        let first = self.db.iterator_cf(self.family(ANCHOR), IteratorMode::Start).next();
        let first = first.transpose().map_err(|source| self.failed(source))?;
        Ok(first.and_then(|(key, _)| height_of(&key)))
    }

    fn is_anchor(&self, height: Height) -> Result<bool, StoreError> {
        let found = self.db.get_pinned_cf(self.family(ANCHOR), height.to_be_bytes());
        Ok(found.map_err(|source| self.failed(source))?.is_some())
    }
}
