//! Messages that leave nothing behind are counted, by peer: it is no fault to send one, but many are worth a look.

use super::Origin;
use super::run::Engine;
use crate::network::Class;
use tercet_consensus::replica::{Input, Unused};

impl Engine {
    /// Asked before the replica is fed what came with it, so copies of a frame are told apart here.
    /// Whether the message is of no use.
    pub(super) fn count_unused(&mut self, input: &Input, origin: &Origin) -> bool {
        let copy = origin.class == Class::Consensus && self.peers.is_copy(&origin.frame);
        let unused = self.parts.core.replica().unused(input);
        if let Some(unused) = unused.or_else(|| copy.then_some(Unused::Duplicate)) {
            self.parts.audit.count(unused, origin.peer, origin.class);
            return true;
        }
        false
    }
}
