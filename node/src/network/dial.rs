//! When to dial: back-off with jitter. Pure: time and randomness come in as arguments.

use std::time::{Duration, Instant};

/// Delay after the first failed dial.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Longest delay while the peer has been away for less than [`RECENT`].
const RECENT_DELAY_MAX: Duration = Duration::from_secs(1);
/// Longest delay afterwards.
const DELAY_MAX: Duration = Duration::from_secs(10);
/// How long a peer counts as away for a moment only.
const RECENT: Duration = Duration::from_secs(60);
/// Delay after a peer turned out to be of another chain, another node, or hostile.
pub(super) const PENALTY: Duration = Duration::from_secs(60);
/// Delay between the dials that tell a dead process from one that is just closing.
pub(super) const PROBE_DELAY: Duration = Duration::from_millis(20);
/// How many such dials.
pub(super) const PROBES_MAX: u32 = 5;

/// The back-off of one address.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    failures: u32,
    lost_at: Instant,
}

impl Schedule {
    /// A peer that is wanted from `now` on.
    pub(super) fn new(now: Instant) -> Self {
        Self { failures: 0, lost_at: now }
    }

    /// The connection closed: the next dial is due at once.
    pub(super) fn lost(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// How many dials failed since the peer was last connected.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// A dial failed: how long to wait. `random` is any number; it shortens the delay by up to a
    /// quarter, so that peers do not dial in step.
    pub(super) fn failed(&mut self, now: Instant, random: u32) -> Duration {
        let recent = now.saturating_duration_since(self.lost_at) < RECENT;
        let longest = if recent { RECENT_DELAY_MAX } else { DELAY_MAX };
        let delay = FIRST_DELAY.saturating_mul(1 << self.failures.min(10)).min(longest);
        self.failures = self.failures.saturating_add(1);
        delay * (75 + random % 26) / 100
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_one_second_in_the_first_minute_and_to_ten_later() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let delays: Vec<u128> = (0..6).map(|_| schedule.failed(start, 25).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1000, 1000]);
        let later = start + RECENT;
        assert_eq!(schedule.failed(later, 25), Duration::from_millis(6_400));
        assert_eq!(schedule.failed(later, 25), DELAY_MAX);
        for _ in 0..100 {
            assert_eq!(schedule.failed(later, 25), DELAY_MAX);
        }
        schedule.lost(later);
        assert_eq!(schedule.failed(later, 25), FIRST_DELAY);
    }

    #[test]
    fn jitter_only_shortens() {
        let now = Instant::now();
        for random in 0..200 {
            let delay = Schedule::new(now).failed(now, random);
            assert!(delay >= FIRST_DELAY * 3 / 4 && delay <= FIRST_DELAY, "{delay:?}");
        }
    }
}
