//! What the planner takes up at start.

use super::open::height_of;
use super::{ANCHOR, Store, StoreError};
use rocksdb::IteratorMode;
use std::collections::BTreeSet;
use tercet_light_core::block::TrustedBlock;
use tercet_light_core::chain::Edge;
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

    /// What a header says about the one below; that it is the one that was kept, its hash says.
    fn edge(&self, height: Height) -> Result<Edge, StoreError> {
        let damaged = || self.damaged("header", height);
        let header = self.header(height)?.ok_or_else(damaged)?;
        let hash = header.hash();
        if self.height(hash)? != Some(height) {
            return Err(damaged());
        }
        Edge::restore(&header, hash).ok_or_else(damaged)
    }
}
