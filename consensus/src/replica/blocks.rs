//! The whole blocks of a height.

use crate::block::{BlockId, SealedBlock};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most blocks that are kept though nothing names them yet (a body may overtake its PRE-PREPARE).
const UNNAMED_MAX: usize = 2;
/// The most blocks that are kept.
const BLOCKS_MAX: usize = 64;

/// The blocks, by id.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks(BTreeMap<BlockId, Arc<SealedBlock>>);

impl Blocks {
    /// Keeps `block`, dropping others that `named` does not know where there is no room.
    pub(super) fn add(&mut self, block: Arc<SealedBlock>, named: impl Fn(&BlockId) -> bool) {
        let id = block.id();
        let is_named = named(&id);
        let unnamed = || self.0.keys().filter(|id| !named(id)).copied();
        if self.0.contains_key(&id) || (!is_named && unnamed().count() >= UNNAMED_MAX) {
            return;
        }
        if self.0.len() >= BLOCKS_MAX {
            let Some(victim) = unnamed().next() else { return };
            self.0.remove(&victim);
        }
        self.0.insert(id, block);
    }

    pub(super) fn get(&self, id: &BlockId) -> Option<&Arc<SealedBlock>> {
        self.0.get(id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = BlockId> + '_ {
        self.0.keys().copied()
    }
}
