//! T, the view-change timeout, from what the last heights took. Source: PROTOCOL §5 "Timers".

use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tendermint::block::Height;

/// Over how many heights the slowest is looked for.
const HEIGHTS: usize = 32;

/// Bounds and start of T.
#[derive(Clone, Copy, Debug)]
pub struct PaceSettings {
    /// T before anything is known.
    pub initial: Duration,
    /// Its least.
    pub floor: Duration,
    /// Its most.
    pub ceiling: Duration,
    /// `commit_grace`.
    pub grace: Duration,
}

/// One height without a VIEW-CHANGE.
#[derive(Debug)]
struct Sample {
    height: Height,
    /// When the pre-prepare of the height was accepted.
    accepted: Instant,
    /// From then to the slowest COMMIT so far.
    slowest: Option<Duration>,
}

/// Measures and answers T.
#[derive(Debug)]
pub struct Pace {
    settings: PaceSettings,
    samples: VecDeque<Sample>,
}

impl Pace {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(settings: PaceSettings) -> Pace {
        Pace { settings, samples: VecDeque::new() }
    }

    /// A pre-prepare of `height` was accepted.
    pub fn accepted(&mut self, height: Height, now: Instant) {
        if self.samples.back().is_some_and(|sample| sample.height >= height) {
            return;
        }
        self.samples.push_back(Sample { height, accepted: now, slowest: None });
        if self.samples.len() > HEIGHTS {
            self.samples.pop_front();
        }
    }

    /// A COMMIT of `height` arrived; late ones, after the decision, count as well.
    pub fn commit(&mut self, height: Height, now: Instant) {
        if let Some(sample) = self.samples.iter_mut().rev().find(|sample| sample.height == height) {
            let took = now.saturating_duration_since(sample.accepted);
            sample.slowest = sample.slowest.max(Some(took));
        }
    }

    /// The height saw a VIEW-CHANGE: it says nothing about the pace.
    pub fn view_change(&mut self, height: Height) {
        self.samples.retain(|sample| sample.height != height);
    }

    /// T = clamp(grace + 4 × the longest of the last heights; floor, ceiling). It rises at once and falls as the slow heights leave.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        let longest = self.samples.iter().filter_map(|sample| sample.slowest).max();
        let Some(longest) = longest else { return self.settings.initial };
        let measured = self.settings.grace.saturating_add(longest.saturating_mul(4));
        measured.clamp(self.settings.floor, self.settings.ceiling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn pace() -> Pace {
        let (initial, floor, ceiling) = (1_000 * MS, 300 * MS, 3_000 * MS);
        Pace::new(PaceSettings { initial, floor, ceiling, grace: 20 * MS })
    }

    fn height(pace: &mut Pace, height: u32, took: Duration) {
        let start = Instant::now();
        pace.accepted(Height::from(height), start);
        pace.commit(Height::from(height), start + took);
    }

    #[test]
    fn it_rises_at_once_and_falls_when_the_slow_height_is_forgotten() {
        let mut pace = pace();
        assert_eq!(pace.timeout(), 1_000 * MS);
        height(&mut pace, 1, 10 * MS);
        assert_eq!(pace.timeout(), 300 * MS);
        height(&mut pace, 2, 200 * MS);
        assert_eq!(pace.timeout(), 820 * MS);
        for later in 0..31 {
            height(&mut pace, 3 + later, 10 * MS);
            assert_eq!(pace.timeout(), 820 * MS);
        }
        height(&mut pace, 34, 10 * MS);
        assert_eq!(pace.timeout(), 300 * MS);
    }

    #[test]
    fn it_stays_below_the_ceiling_and_ignores_heights_with_a_view_change() {
        let mut pace = pace();
        height(&mut pace, 1, 10_000 * MS);
        assert_eq!(pace.timeout(), 3_000 * MS);
        pace.view_change(Height::from(1u32));
        assert_eq!(pace.timeout(), 1_000 * MS);
    }

    #[test]
    fn a_commit_that_comes_after_the_next_height_began_counts_for_its_own() {
        let mut pace = pace();
        let start = Instant::now();
        pace.accepted(Height::from(1u32), start);
        pace.accepted(Height::from(2u32), start + 10 * MS);
        pace.commit(Height::from(1u32), start + 200 * MS);
        assert_eq!(pace.timeout(), 820 * MS);
    }
}
