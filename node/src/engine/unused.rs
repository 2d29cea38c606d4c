//! Messages that leave nothing behind are counted, by peer: it is no fault to send one, but many are worth a look.

use super::Origin;
use super::run::Engine;
use crate::network::Class;
use tercet_consensus::block::PART_BYTES;
use tercet_consensus::replica::{Input, Unused};

impl Engine {
    /// Asked before the replica is fed what came with it, so copies of a frame are told apart here.
    pub(super) fn count_unused(&mut self, input: &Input, origin: &Origin) {
        let copy = origin.class == Class::Consensus && self.peers.is_copy(&origin.frame);
        let unused = self.parts.core.replica().unused(input);
        if let Some(unused) = unused.or_else(|| copy.then_some(Unused::Duplicate)) {
            self.parts.audit.count(unused, origin.peer, origin.class);
        }
    }

    /// A proposal tells how large its block is, for T.
    pub(super) fn note_proposed(&mut self, input: &Input, inputs: &mut Vec<Input>) {
        if let Input::PrePrepare(message) = input
            && message.height() == self.height()
        {
            // It says how many parts there are; the last may be short, so it does not count.
            let whole = usize::try_from(message.block_id().part_set_header.total.saturating_sub(1));
            self.parts.pace.proposed(whole.unwrap_or(usize::MAX).saturating_mul(PART_BYTES));
            inputs.push(Input::Timeout(self.parts.pace.timeout()));
        }
    }
}
