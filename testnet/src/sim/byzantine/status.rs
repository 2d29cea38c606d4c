//! Saying what one has as it is not.

use super::{Liar, Strategy};
use tercet_consensus::block::BlockId;
use tercet_consensus::status::{Bitmap, STATUS_BLOCKS_MAX, Status};

/// Every bit that a validator of a run has.
const ALL: [u8; 3] = [0xff; 3];

impl Liar<'_> {
    /// A STATUS with one or more parts made up: everything there, or nothing; blocks that others have; another height; connections to
    /// others than the ones there are.
    pub(super) fn false_status(&mut self, status: &Status) -> Status {
        self.met(Strategy::FalseStatus);
        let (mut lie, view) = (status.clone(), status.view);
        match self.world.rng.below(5) {
            0 => {
                let all = || vec![(view, Bitmap::from_bytes(ALL.to_vec()))];
                (lie.prepares, lie.commits) = (all(), all());
            }
            1 => {
                (lie.prepares, lie.commits, lie.view_changes) = Default::default();
                (lie.pre_prepares, lie.blocks) = Default::default();
                lie.lacks_extensions = true;
            }
            2 => lie.height = status.height.increment(),
            3 => lie.direct = Bitmap::from_bytes(vec![self.world.rng.next().to_le_bytes()[0]]),
            _ => lie.blocks = self.blocks_of_others(),
        }
        lie
    }

    /// What the others are about, whether it is here or not.
    fn blocks_of_others(&self) -> Vec<BlockId> {
        let engines = self.world.nodes.iter().filter_map(|node| node.engine.as_ref());
        let accepted = engines.filter_map(|engine| engine.replica().accepted());
        let mut blocks: Vec<BlockId> = accepted.collect();
        blocks.sort_unstable();
        blocks.dedup();
        blocks.truncate(STATUS_BLOCKS_MAX);
        blocks
    }
}
