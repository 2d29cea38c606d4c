//! When several peers serve the block of one height and none verifies, it may be this node that is wrong: one whose application answered
//! InitChain or FinalizeBlock with other validators than the others' would shun everybody without a word.

use crate::network::PeerId;

/// What is refused of the height that is needed next.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    height: u64,
    first: Option<PeerId>,
    told: bool,
}

impl Suspicion {
    /// A peer's block of `height`, the next one, does not verify; whether to say so: once a height, when a second peer's does not.
    pub(super) fn refused(&mut self, height: u64, peer: PeerId) -> bool {
        if self.height != height {
            *self = Suspicion { height, first: Some(peer), told: false };
            return false;
        }
        let second = self.first.is_some_and(|first| first != peer);
        second && !std::mem::replace(&mut self.told, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_peer_whose_block_does_not_verify_is_told_once_a_height() {
        let (one, two, three) = (PeerId::random(), PeerId::random(), PeerId::random());
        let mut suspicion = Suspicion::default();
        assert!(!suspicion.refused(5, one), "a liar");
        assert!(!suspicion.refused(5, one), "the same liar");
        assert!(suspicion.refused(5, two));
        assert!(!suspicion.refused(5, three), "told");
        assert!(!suspicion.refused(6, two), "another height");
        assert!(suspicion.refused(6, one));
    }
}
