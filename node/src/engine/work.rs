//! When a block is due: transactions at once, empty blocks by CometBFT's keys, the block that proves a changed application hash after a
//! short delay, none before `min_block_interval`.

use std::time::{Duration, Instant};
use tendermint::block::Height;

/// The rules.
#[derive(Clone, Debug)]
pub struct WorkSettings {
    /// `create_empty_blocks`: after how long an empty block is due; none where there are none.
    pub empty_block_interval: Option<Duration>,
    /// After how long the block that proves a changed application hash is due.
    pub proof_block_delay: Duration,
    /// Genesis parameter: the least time between two blocks.
    pub min_block_interval: Duration,
    /// The initial height: its block is due at once.
    pub initial_height: Height,
    /// Genesis parameter `primary_term`.
    pub term: u64,
}

/// Whether there is something to order.
#[derive(Debug)]
pub struct Work {
    settings: WorkSettings,
    /// When the last block was decided here.
    last_block: Instant,
    /// Whether the last executed block changed the application hash.
    unproven: bool,
    told: Option<(Height, bool)>,
    next_check: Option<Instant>,
}

impl Work {
    /// Nothing is known yet; the last block counts as just now.
    #[must_use]
    pub fn new(settings: WorkSettings, now: Instant) -> Work {
        Work { settings, last_block: now, unproven: true, told: None, next_check: None }
    }

    /// A block was decided.
    pub fn decided(&mut self, now: Instant) {
        self.last_block = now;
    }

    /// A block was executed.
    pub fn applied(&mut self, _height: Height, app_hash_changed: bool) {
        self.unproven = app_hash_changed;
    }

    /// A height starts: the replica knows of no work yet.
    pub fn new_height(&mut self) {
        self.told = None;
    }

    /// Whether a block is due at `height`; the next moment when that may change by the clock alone is kept.
    pub fn is_due(&mut self, now: Instant, height: Height, transactions: bool) -> bool {
        let earliest = self.last_block + self.settings.min_block_interval;
        let first = height == self.settings.initial_height;
        let proof = self.unproven.then_some(self.settings.proof_block_delay);
        let empty = self.settings.empty_block_interval;
        let wait = match transactions || first {
            true => Some(Duration::ZERO),
            false => [proof, empty].into_iter().flatten().min(),
        };
        let due_at = wait.map(|wait| (self.last_block + wait).max(earliest));
        let due = due_at.is_some_and(|due_at| now >= due_at);
        self.next_check = due_at.filter(|_| !due);
        due
    }

    /// When to look again.
    #[must_use]
    pub fn next_check(&self) -> Option<Instant> {
        self.next_check
    }

    /// Whether the replica has to be told `due`.
    pub fn tell(&mut self, height: Height, due: bool) -> bool {
        let changed = match self.told {
            Some(told) => told != (height, due),
            None => due,
        };
        self.told = Some((height, due));
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn work(empty: Option<Duration>, min: Duration) -> (Work, Instant) {
        let now = Instant::now();
        let settings = WorkSettings {
            empty_block_interval: empty,
            proof_block_delay: 100 * MS,
            min_block_interval: min,
            initial_height: Height::from(1u32),
            term: 64,
        };
        (Work::new(settings, now), now)
    }

    fn due_after(work: &mut Work, now: Instant, transactions: bool) -> Option<Duration> {
        let height = Height::from(7u32);
        let times = (0..5_000).step_by(10).map(Duration::from_millis);
        times.into_iter().find(|after| work.is_due(now + *after, height, transactions))
    }

    #[test]
    fn a_transaction_is_due_at_once_but_not_before_the_interval() {
        let (mut work, now) = self::work(None, Duration::ZERO);
        assert_eq!(due_after(&mut work, now, true), Some(Duration::ZERO));
        let (mut work, now) = self::work(None, 500 * MS);
        assert_eq!(due_after(&mut work, now, true), Some(500 * MS));
    }

    #[test]
    fn a_changed_application_hash_is_proven_in_every_mode() {
        for empty in [None, Some(1_000 * MS)] {
            let (mut work, now) = self::work(empty, Duration::ZERO);
            work.applied(Height::from(6u32), true);
            assert_eq!(due_after(&mut work, now, false), Some(100 * MS));
            work.applied(Height::from(6u32), false);
            assert_eq!(due_after(&mut work, now, false), empty);
        }
    }

    #[test]
    fn the_first_block_is_due_at_once() {
        let (mut work, now) = self::work(None, Duration::ZERO);
        assert!(work.is_due(now, Height::from(1u32), false));
    }
}
