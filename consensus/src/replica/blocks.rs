//! The whole blocks of a height.

use crate::block::{BlockId, SealedBlock};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most blocks that are kept though nothing names them yet (a body may overtake its PRE-PREPARE). Nobody signs a body, so anyone
/// can send some: the newest stay.
const UNKNOWN_MAX: usize = 4;
/// The most blocks that are kept.
const BLOCKS_MAX: usize = 64;

/// What a block is good for; the least worthy leaves first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Worth {
    /// No message names it.
    Unknown,
    /// I PREPAREd it in an earlier view; it is on disk.
    Kept,
    /// A message that may still count names it.
    Needed,
}

/// The blocks, by id.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks {
    by_id: BTreeMap<BlockId, (u64, Arc<SealedBlock>)>,
    /// How many were ever added: their order.
    added: u64,
}

impl Blocks {
    /// Keeps `block`, dropping the oldest of those that are worth least where there is no room.
    pub(super) fn add(&mut self, block: Arc<SealedBlock>, worth: impl Fn(&BlockId) -> Worth) {
        let id = block.id();
        if self.by_id.contains_key(&id) {
            return;
        }
        let new = worth(&id);
        let unknown = self.by_id.keys().filter(|id| worth(id) == Worth::Unknown).count();
        if self.by_id.len() >= BLOCKS_MAX || (new == Worth::Unknown && unknown >= UNKNOWN_MAX) {
            let ranked = self.by_id.iter().map(|(id, (order, _))| (worth(id), *order, *id));
            match ranked.min_by_key(|(worth, order, _)| (*worth, *order)) {
                Some((worth, _, victim)) if worth < Worth::Needed && worth <= new => {
                    self.by_id.remove(&victim);
                }
                _ => return,
            }
        }
        self.added += 1;
        self.by_id.insert(id, (self.added, block));
    }

    pub(super) fn get(&self, id: &BlockId) -> Option<&Arc<SealedBlock>> {
        self.by_id.get(id).map(|(_, block)| block)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = BlockId> + '_ {
        self.by_id.keys().copied()
    }

    /// All of them, in the order of arrival.
    pub(super) fn into_blocks(self) -> impl Iterator<Item = Arc<SealedBlock>> {
        let mut blocks: Vec<_> = self.by_id.into_values().collect();
        blocks.sort_unstable_by_key(|(order, _)| *order);
        blocks.into_iter().map(|(_, block)| block)
    }
}
