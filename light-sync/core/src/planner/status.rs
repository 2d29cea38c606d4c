//! What is trusted and why.

use super::anchors::Anchor;
use super::{Fault, Planner, ProviderId};
use crate::block::TrustedBlock;
use crate::chain::Edge;
use crate::hash::Hash;
use crate::header::Height;
use crate::time::Time;

/// A block by height, hash and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Its height.
    pub height: Height,
    /// Its hash.
    pub hash: Hash,
    /// Its time.
    pub time: Time,
}

/// How it stands, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Two chains verify; nothing goes on until the operator decides.
    Frozen,
    /// Every provider has another header at the trusted height: the root is wrong, or the providers are.
    RootRefuted,
    /// Two thirds of the providers contradict the local clock; no trust is extended.
    ClockSuspect,
    /// Nobody has shown the block of the root yet.
    SeekingRoot,
    /// What is trusted is older than the trusting period; a new root is needed.
    Expired,
    /// The highest anchor was not compared with enough providers yet.
    Unconfirmed,
    /// Headers are missing, or providers say that there are more blocks, or none has said anything yet.
    Syncing,
    /// Everything is there.
    Synced,
}

/// See [`Planner::status`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// How it stands.
    pub condition: Condition,
    /// The highest block that is verified.
    pub verified: Option<Point>,
    /// The highest block that may be served as trusted: verified and confirmed; where everything is frozen, at most the last block
    /// that both chains share.
    pub trusted: Option<Point>,
    /// How many headers are missing between anchors and below the root.
    pub missing: u64,
    /// Who is not asked any more, and why.
    pub refused: Vec<(ProviderId, Fault)>,
}

fn point(anchor: &Anchor) -> Point {
    let block = &anchor.block;
    Point { height: block.height(), hash: block.hash(), time: block.header().time() }
}

impl Planner {
    /// What is trusted and why.
    #[must_use]
    pub fn status(&self) -> Status {
        let most = self.fork.unwrap_or(Height::MAX);
        let confirmed = self.anchors.confirmed.map(|height| height.min(most));
        let trusted = confirmed.and_then(|height| {
            self.anchors.all.range(..=height).next_back().map(|(_, anchor)| point(anchor))
        });
        Status {
            condition: self.condition(),
            verified: self.anchors.top().map(point),
            trusted,
            missing: self.missing(),
            refused: self.providers.refused().map(|(id, fault)| (id, fault.clone())).collect(),
        }
    }

    /// How many anchors are kept here, at most [`super::ANCHORS_MAX`].
    #[must_use]
    pub fn anchors(&self) -> usize {
        self.anchors.all.len()
    }

    fn missing(&self) -> u64 {
        self.segments.values().map(super::segments::Segment::missing).sum()
    }

    fn condition(&self) -> Condition {
        let top = self.anchors.top().map(|anchor| anchor.block.height());
        if self.fork.is_some() {
            Condition::Frozen
        } else if self.anchors.is_root_refuted() && self.providers.good().count() == 0 {
            Condition::RootRefuted
        } else if self.clock_suspect {
            Condition::ClockSuspect
        } else if top.is_none() {
            Condition::SeekingRoot
        } else if self.is_top_expired() {
            Condition::Expired
        } else if self.anchors.confirmed != top {
            Condition::Unconfirmed
        } else if self.is_behind(top) {
            Condition::Syncing
        } else {
            Condition::Synced
        }
    }

    fn is_behind(&self, top: Option<Height>) -> bool {
        let filling = self.config.fill && (self.missing() > 0 || self.commits.missing() > 0);
        // Until somebody has said how far the chain is, nobody knows that this is all of it.
        filling || self.providers.attested().is_none_or(|height| Some(height) > top)
    }

    /// Takes up what was kept: anchors in ascending order, of which those in `confirmed` are, and for each segment that is not
    /// whole, by the height of the anchor above it, what its lowest header says. Nothing of it is verified again; restore the
    /// blocks with [`TrustedBlock::restore`] and the edges with [`Edge::restore`], which check hashes.
    ///
    /// Segments that are whole are named with an edge at their lowest height.
    pub fn restore(&mut self, anchors: Vec<(TrustedBlock, bool)>, edges: Vec<(Height, Edge)>) {
        for (block, confirmed) in anchors {
            let height = block.height();
            if self.anchors.top().is_some_and(|top| top.block.height() >= height) {
                continue;
            }
            self.add_anchor(block, None);
            if confirmed {
                self.anchors.confirmed = self.anchors.confirmed.max(Some(height));
                self.audits.remove(&height);
            }
        }
        for (upper, edge) in edges {
            self.resume_segment(upper, edge);
        }
    }
}
