//! What the engine was given and the application has not executed yet: bounded in heights and in bytes, so that a replica that catches
//! up with large blocks does not hold more of them than one that follows the chain does.

use std::collections::VecDeque;

/// The most heights between the last executed block and the last one handed over.
const HEIGHTS_MAX: u64 = 128;
/// The most bytes of the blocks in between, with their commits; a larger block goes alone.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// The blocks that were handed over, by height and size.
#[derive(Debug, Default)]
pub(super) struct Handed {
    last: u64,
    pending: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl Handed {
    /// The height that was last handed over; 0 for none.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Whether the block of `height`, of so many bytes, may be handed over while `executed` is the last height that was executed. One
    /// always may where nothing is pending, however large.
    pub(super) fn may_take(&self, height: u64, bytes: usize, executed: u64) -> bool {
        let fits = self.bytes.saturating_add(bytes) <= BYTES_MAX;
        height <= executed.saturating_add(HEIGHTS_MAX) && (self.pending.is_empty() || fits)
    }

    /// The block of `height` is handed over.
    pub(super) fn add(&mut self, height: u64, bytes: usize) {
        self.last = height;
        self.pending.push_back((height, bytes));
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Everything up to `height` was executed.
    pub(super) fn executed(&mut self, height: u64) {
        while let Some((_, bytes)) = self.pending.front().copied().filter(|(at, _)| *at <= height) {
            self.pending.pop_front();
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    /// What was handed over above `height` was lost: it is handed over again.
    pub(super) fn again_from(&mut self, height: u64) {
        self.last = height;
        while let Some((_, bytes)) = self.pending.back().copied().filter(|(at, _)| *at > height) {
            self.pending.pop_back();
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    /// Hands over blocks of this size from `from` on, as many as may be.
    fn hand(handed: &mut Handed, from: u64, bytes: usize, executed: u64) -> u64 {
        let mut height = from;
        while handed.may_take(height, bytes, executed) {
            handed.add(height, bytes);
            height += 1;
        }
        height - from
    }

    #[test]
    fn blocks_that_wait_for_the_application_are_bounded_in_bytes() {
        let mut handed = Handed::default();
        assert_eq!(hand(&mut handed, 1, 4 * MIB, 0), 16);
        handed.executed(3);
        assert_eq!(hand(&mut handed, 17, 4 * MIB, 3), 3);
        handed.executed(19);
        assert_eq!(handed.bytes, 0);
    }

    #[test]
    fn small_blocks_are_bounded_in_heights() {
        let mut handed = Handed::default();
        assert_eq!(hand(&mut handed, 1, 1_000, 0), HEIGHTS_MAX);
        handed.executed(5);
        assert_eq!(hand(&mut handed, 129, 1_000, 5), 5);
    }

    #[test]
    fn a_block_above_the_bound_goes_alone() {
        let mut handed = Handed::default();
        assert_eq!(hand(&mut handed, 1, 100 * MIB, 0), 1);
        handed.executed(1);
        assert_eq!(hand(&mut handed, 2, 100 * MIB, 1), 1);
        assert_eq!(handed.last(), 2);
    }

    #[test]
    fn what_was_lost_is_handed_over_again_and_counts_once() {
        let mut handed = Handed::default();
        assert_eq!(hand(&mut handed, 1, 4 * MIB, 0), 16);
        handed.again_from(4);
        assert_eq!((handed.last(), handed.bytes), (4, 16 * MIB));
        assert_eq!(hand(&mut handed, 5, 4 * MIB, 0), 12);
    }
}
