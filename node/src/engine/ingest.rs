//! Decided blocks of peers, many at a time: a replica that is behind makes a batch of decisions durable with one sync, and does not wait
//! for the application between two of them.

use super::run::Engine;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tendermint::block::Height;
use tercet_consensus::message::{Decided, Verified};
use tercet_consensus::replica::Input;

/// The most blocks that wait.
const AHEAD_MAX: usize = 256;
/// The most bytes of them, where there is more than one.
const AHEAD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The most blocks that are decided in one step.
const BATCH_MAX: usize = 32;

/// For so long after a start, and after blocks were taken, a replica asks often for what it lacks: what the others said while it was
/// behind was not meant for it, and the chain goes on meanwhile.
const FOLLOWING: Duration = Duration::from_secs(2);

/// Decided blocks that wait for their turn, by height.
#[derive(Debug)]
pub(super) struct Ahead {
    blocks: Waiting<Verified<Decided>>,
    following_until: Instant,
}

impl Ahead {
    /// None yet.
    pub(super) fn new(now: Instant) -> Ahead {
        Ahead { blocks: Waiting::new(), following_until: now + FOLLOWING }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.by_height.is_empty()
    }

    /// Whether it was behind a moment ago.
    pub(super) fn is_following(&self, now: Instant) -> bool {
        now < self.following_until
    }

    /// Whether the block of `height` is here.
    pub(super) fn has(&self, height: Height) -> bool {
        self.blocks.by_height.contains_key(&height)
    }

    fn add(&mut self, decided: Verified<Decided>) {
        let bytes = decided.block.bytes().len();
        self.blocks.add(decided.commit.height, bytes, decided);
    }
}

/// What waits by height, bounded in number and in bytes.
#[derive(Debug)]
struct Waiting<T> {
    by_height: BTreeMap<Height, (usize, T)>,
    bytes: usize,
}

impl<T> Waiting<T> {
    fn new() -> Waiting<T> {
        Waiting { by_height: BTreeMap::new(), bytes: 0 }
    }

    /// The farthest go where there is too much, but for the last one; they are fetched again.
    fn add(&mut self, height: Height, bytes: usize, value: T) {
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some((old, _)) = self.by_height.insert(height, (bytes, value)) {
            self.bytes = self.bytes.saturating_sub(old);
        }
        while self.by_height.len() > AHEAD_MAX
            || (self.bytes > AHEAD_BYTES_MAX && self.by_height.len() > 1)
        {
            let Some((_, (bytes, _))) = self.by_height.pop_last() else { return };
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    fn take(&mut self, height: Height) -> Option<T> {
        let (bytes, value) = self.by_height.remove(&height)?;
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(value)
    }

    fn drop_below(&mut self, height: Height) {
        self.by_height = self.by_height.split_off(&height);
        self.bytes = self.by_height.values().map(|(bytes, _)| bytes).sum();
    }
}

impl Engine {
    /// Takes decided blocks. From now on nothing is signed until they are used up.
    pub(super) fn take_decided(&mut self, batch: Vec<Verified<Decided>>, inputs: &mut Vec<Input>) {
        let height = self.height();
        for decided in batch.into_iter().filter(|decided| decided.commit.height >= height) {
            self.note_foreign_commits(&decided);
            self.ahead.add(decided);
        }
        if !self.ahead.is_empty() {
            self.ahead.following_until = self.now.instant + FOLLOWING;
            self.hold.ingesting = true;
            self.hold_now(inputs);
        }
    }

    /// Decides the heights whose blocks are here, one after the other. The validators of the next height follow from a decided header
    /// that says they stay the same, because a quorum has checked it; otherwise the application is waited for.
    pub(super) fn ingest(&mut self, inputs: &mut Vec<Input>) {
        let mut height = self.height();
        let mut extended = self.parts.core.replica().has_extensions();
        self.ahead.blocks.drop_below(height);
        for _ in 0..BATCH_MAX {
            let Some(decided) = self.ahead.blocks.take(height) else { return };
            // Checked while it was open whether its height has vote extensions. The replica would not take it; it is fetched again.
            if extended && !decided.commit.is_extended() {
                return tracing::debug!(%height, "a decided block without its vote extensions is dropped");
            }
            let next = height.increment();
            let stays = self.parts.sets.at(height).cloned().filter(|info| {
                decided.block.header().next_validators_hash == info.validators.hash()
            });
            if let Some(info) = stays {
                self.parts.sets.assume(&info);
            }
            inputs.push(Input::Decided(decided));
            // While the journal is replayed, each height needs its records.
            if self.parts.core.is_restoring() {
                return;
            }
            let Some(start) = self.start_of(next).filter(|_| self.may_advance_to(next)) else {
                return;
            };
            extended = start.extensions;
            inputs.extend([Input::Timeout(self.parts.pace.timeout()), Input::Advance(start)]);
            height = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn add(waiting: &mut Waiting<()>, heights: std::ops::RangeInclusive<u32>, bytes: usize) {
        heights.for_each(|height| waiting.add(Height::from(height), bytes, ()));
    }

    #[test]
    fn decided_blocks_that_wait_are_bounded_in_bytes_and_the_nearest_stay() {
        let mut waiting = Waiting::new();
        add(&mut waiting, 1..=100, 4 * MIB);
        assert_eq!((waiting.by_height.len(), waiting.bytes), (16, 64 * MIB));
        assert!(waiting.take(Height::from(1u32)).is_some());
        // The same block again counts once.
        add(&mut waiting, 2..=2, 4 * MIB);
        assert_eq!((waiting.by_height.len(), waiting.bytes), (15, 60 * MIB));
        waiting.drop_below(Height::from(10u32));
        assert_eq!((waiting.by_height.len(), waiting.bytes), (7, 28 * MIB));
        add(&mut waiting, 11..=400, 0);
        assert_eq!(waiting.by_height.len(), AHEAD_MAX);
    }

    #[test]
    fn one_block_always_waits_however_large() {
        let mut waiting = Waiting::new();
        add(&mut waiting, 5..=6, 100 * MIB);
        assert!(waiting.take(Height::from(5u32)).is_some());
        assert_eq!(waiting.bytes, 0);
    }
}
