//! T, the view-change timeout, from what the last heights took. Source: PROTOCOL §5 "Timers".

use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tendermint::block::Height;

/// Over how many heights the slowest is looked for.
const HEIGHTS: usize = 32;
/// T falls so slowly: within this time by about two thirds of what it is too long. A fast chain forgets its last heights within a second,
/// and a machine that was overloaded a second ago may well be so again.
const FALLS: Duration = Duration::from_secs(8);

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
    /// T, and when it was looked at last.
    timeout: Duration,
    fell: Option<Instant>,
}

impl Pace {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(settings: PaceSettings) -> Pace {
        Pace { settings, samples: VecDeque::new(), timeout: settings.initial, fell: None }
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
        self.fall(now);
    }

    /// A COMMIT of `height` arrived; late ones, after the decision, count as well.
    pub fn commit(&mut self, height: Height, now: Instant) {
        if let Some(sample) = self.samples.iter_mut().rev().find(|sample| sample.height == height) {
            let took = now.saturating_duration_since(sample.accepted);
            sample.slowest = sample.slowest.max(Some(took));
            self.timeout = self.timeout.max(self.measured().unwrap_or_default());
        }
    }

    /// The height saw a VIEW-CHANGE: it says nothing about the pace.
    pub fn view_change(&mut self, height: Height) {
        self.samples.retain(|sample| sample.height != height);
    }

    /// T: at least what was measured; it rises at once and falls slowly.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// clamp(grace + 4 × the longest of the last heights; floor, ceiling).
    fn measured(&self) -> Option<Duration> {
        let longest = self.samples.iter().filter_map(|sample| sample.slowest).max()?;
        let measured = self.settings.grace.saturating_add(longest.saturating_mul(4));
        Some(measured.clamp(self.settings.floor, self.settings.ceiling))
    }

    fn fall(&mut self, now: Instant) {
        let since =
            self.fell.replace(now).map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let Some(measured) = self.measured() else { return };
        let above = self.timeout.saturating_sub(measured);
        self.timeout = self
            .timeout
            .saturating_sub(above.mul_f64((since.as_secs_f64() / FALLS.as_secs_f64()).min(1.0)));
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

    /// A height that began at `start` and took so long; then a second passes.
    fn height(pace: &mut Pace, height: u32, start: &mut Instant, took: Duration) {
        pace.accepted(Height::from(height), *start);
        pace.commit(Height::from(height), *start + took);
        *start += 1_000 * MS;
    }

    #[test]
    fn it_rises_at_once_and_falls_slowly_when_the_slow_height_is_forgotten() {
        let (mut pace, mut now) = (pace(), Instant::now());
        assert_eq!(pace.timeout(), 1_000 * MS);
        height(&mut pace, 1, &mut now, 400 * MS);
        assert_eq!(pace.timeout(), 1_620 * MS);
        for later in 2..=32 {
            height(&mut pace, later, &mut now, 10 * MS);
            assert_eq!(pace.timeout(), 1_620 * MS);
        }
        let mut last = pace.timeout();
        for later in 33..=40 {
            height(&mut pace, later, &mut now, 10 * MS);
            let timeout = pace.timeout();
            assert!(timeout < last && timeout > last * 3 / 4, "{last:?} to {timeout:?}");
            last = timeout;
        }
        assert!(last > 600 * MS && last < 800 * MS, "{last:?}");
        (41..=100).for_each(|later| height(&mut pace, later, &mut now, 10 * MS));
        assert!(pace.timeout() < 310 * MS, "{:?}", pace.timeout());
    }

    #[test]
    fn heights_in_quick_succession_do_not_hurry_its_fall() {
        let (mut pace, now) = (pace(), Instant::now());
        pace.accepted(Height::from(1u32), now);
        pace.commit(Height::from(1u32), now + 400 * MS);
        for later in 2..=200u32 {
            let at = now + 400 * MS + 5 * MS * later;
            pace.accepted(Height::from(later), at);
            pace.commit(Height::from(later), at + 4 * MS);
        }
        assert!(pace.timeout() > 1_400 * MS, "{:?}", pace.timeout());
    }

    #[test]
    fn it_stays_below_the_ceiling_and_ignores_heights_with_a_view_change() {
        let (mut pace, mut now) = (pace(), Instant::now());
        height(&mut pace, 1, &mut now, 10_000 * MS);
        assert_eq!(pace.timeout(), 3_000 * MS);
        pace.view_change(Height::from(1u32));
        (2..=60).for_each(|later| height(&mut pace, later, &mut now, 10 * MS));
        assert!(pace.timeout() < 310 * MS, "{:?}", pace.timeout());
    }

    #[test]
    fn a_commit_that_comes_after_the_next_height_began_counts_for_its_own() {
        let mut pace = pace();
        let start = Instant::now();
        pace.accepted(Height::from(1u32), start);
        pace.accepted(Height::from(2u32), start + 10 * MS);
        pace.commit(Height::from(1u32), start + 400 * MS);
        assert_eq!(pace.timeout(), 1_620 * MS);
    }
}
