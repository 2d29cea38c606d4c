//! What the planner takes up at start.

use super::open::height_of;
use super::record::{AnchorRecord, decode_set};
use super::{ANCHOR, CONFIRMED, HEIGHT, Store, StoreError, VALIDATORS};
use prost::Message as _;
use rocksdb::{Direction, IteratorMode};
use std::collections::BTreeSet;
use std::sync::Arc;
use tercet_consensus::validators::Validators;
use tercet_light_core::block::{TrustedBlock, UntrustedBlock};
use tercet_light_core::chain::Edge;
use tercet_light_core::commit::Commit;
use tercet_light_core::hash::Hash;
use tercet_light_core::header::Height;
use tercet_light_core::planner::ANCHORS_MAX;

/// What [`tercet_light_core::planner::Planner::restore`] takes.
#[derive(Debug, Default)]
pub struct Restored {
    /// Anchors in ascending order, and whether each is confirmed.
    pub anchors: Vec<(TrustedBlock, bool)>,
    /// By the anchor above, what the lowest header of each segment says.
    pub edges: Vec<(Height, Edge)>,
}

impl Store {
    /// Reads what is to be taken up: the first anchor, the latest, and those around what is missing. Between the others nothing is
    /// missing, so they stand for one whole segment.
    ///
    /// # Errors
    /// Where the database fails or is damaged.
    pub fn restore(&self, fill_from: Option<Height>) -> Result<Restored, StoreError> {
        let confirmed = self.confirmed()?;
        let mut anchors: Vec<(TrustedBlock, bool)> = vec![];
        let mut edges = vec![];
        for height in self.heights_to_restore()? {
            let below = anchors.last().map(|(block, _)| block.height());
            let lowest = match (self.segments.get(&height), below) {
                (Some(segment), Some(_)) => segment.watermark,
                (Some(segment), None) => segment.watermark.max(fill_from.unwrap_or(1)),
                (None, Some(below)) => below + 1,
                (None, None) => height,
            };
            anchors.push((self.anchor(height)?, confirmed.is_some_and(|most| height <= most)));
            if lowest < height {
                edges.push((height, self.edge(lowest)?));
            }
        }
        Ok(Restored { anchors, edges })
    }

    fn heights_to_restore(&self) -> Result<BTreeSet<Height>, StoreError> {
        let mut heights: BTreeSet<Height> =
            self.anchor_heights(IteratorMode::Start, 1)?.into_iter().collect();
        heights.extend(self.anchor_heights(IteratorMode::End, ANCHORS_MAX - 1)?);
        for (upper, segment) in &self.segments {
            heights.insert(*upper);
            heights.extend(segment.lower);
        }
        Ok(heights)
    }

    fn anchor_heights(
        &self,
        from: IteratorMode<'_>,
        count: usize,
    ) -> Result<Vec<Height>, StoreError> {
        self.db
            .iterator_cf(self.family(ANCHOR), from)
            .take(count)
            .map(|entry| {
                let (key, _) = entry.map_err(|source| self.failed(source))?;
                height_of(&key).ok_or_else(|| self.damaged("anchor", 0))
            })
            .collect()
    }

    /// The highest anchor that is confirmed.
    fn confirmed(&self) -> Result<Option<Height>, StoreError> {
        let from = IteratorMode::From(&[0xff; 8], Direction::Reverse);
        let last = self.db.iterator_cf(self.family(CONFIRMED), from).next();
        let last = last.transpose().map_err(|source| self.failed(source))?;
        Ok(last.and_then(|(key, _)| height_of(&key)))
    }

    fn anchor(&self, height: Height) -> Result<TrustedBlock, StoreError> {
        let damaged = || self.damaged("anchor", height);
        let bytes = self.db.get_cf(self.family(ANCHOR), height.to_be_bytes());
        let bytes = bytes.map_err(|source| self.failed(source))?.ok_or_else(damaged)?;
        let record = AnchorRecord::decode(bytes.as_slice()).map_err(|_| damaged())?;
        let block = UntrustedBlock {
            header: self.header(height)?.ok_or_else(damaged)?,
            commit: Commit::decode(&record.commit).map_err(|_| damaged())?,
            validators: self.set(&record.validators)?.ok_or_else(damaged)?,
            next_validators: Some(self.set(&record.next_validators)?.ok_or_else(damaged)?),
        };
        let hash = Hash::from_slice(&record.hash).ok_or_else(damaged)?;
        TrustedBlock::restore(block, hash).map_err(|_| damaged())
    }

    fn set(&self, hash: &[u8]) -> Result<Option<Arc<Validators>>, StoreError> {
        let bytes = self.db.get_cf(self.family(VALIDATORS), hash);
        let bytes = bytes.map_err(|source| self.failed(source))?;
        Ok(bytes.and_then(|bytes| decode_set(&bytes)))
    }

    /// What a header says about the one below; that it is the one that was kept, its hash says.
    fn edge(&self, height: Height) -> Result<Edge, StoreError> {
        let damaged = || self.damaged("header", height);
        let header = self.header(height)?.ok_or_else(damaged)?;
        let hash = header.hash();
        let of = self.db.get_cf(self.family(HEIGHT), hash.as_bytes());
        let of = of.map_err(|source| self.failed(source))?;
        if of.and_then(|bytes| height_of(&bytes)) != Some(height) {
            return Err(damaged());
        }
        Edge::restore(&header, hash).ok_or_else(damaged)
    }
}
