//! T, the view-change timeout, from what the last heights took. Source: PROTOCOL §5 "Timers".

use std::collections::VecDeque;
use std::time::{Duration, Instant};

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

/// Measures and answers T.
#[derive(Debug)]
pub struct Pace {
    settings: PaceSettings,
    samples: VecDeque<Duration>,
    /// When the pre-prepare of the height was accepted.
    accepted: Option<Instant>,
    /// From then to the slowest COMMIT so far.
    slowest: Option<Duration>,
}

impl Pace {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(settings: PaceSettings) -> Pace {
        Pace { settings, samples: VecDeque::new(), accepted: None, slowest: None }
    }

    /// A pre-prepare was accepted.
    pub fn accepted(&mut self, now: Instant) {
        self.accepted.get_or_insert(now);
    }

    /// A COMMIT of this height arrived, or a late one for it.
    pub fn commit(&mut self, now: Instant) {
        if let Some(accepted) = self.accepted {
            self.slowest = Some(now.saturating_duration_since(accepted));
        }
    }

    /// The height is over; one with a VIEW-CHANGE says nothing about the pace.
    pub fn height_over(&mut self, saw_view_change: bool) {
        let sample = self.slowest.take();
        self.accepted = None;
        let Some(sample) = sample.filter(|_| !saw_view_change) else { return };
        self.samples.push_back(sample);
        if self.samples.len() > HEIGHTS {
            self.samples.pop_front();
        }
    }

    /// T = clamp(grace + 4 × the longest of the last heights; floor, ceiling). It rises at once and falls as the slow heights leave.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        let Some(longest) = self.samples.iter().max() else { return self.settings.initial };
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

    fn height(pace: &mut Pace, took: Duration, saw_view_change: bool) {
        let start = Instant::now();
        pace.accepted(start);
        pace.commit(start + took);
        pace.height_over(saw_view_change);
    }

    #[test]
    fn it_rises_at_once_and_falls_when_the_slow_height_is_forgotten() {
        let mut pace = pace();
        assert_eq!(pace.timeout(), 1_000 * MS);
        height(&mut pace, 10 * MS, false);
        assert_eq!(pace.timeout(), 300 * MS);
        height(&mut pace, 200 * MS, false);
        assert_eq!(pace.timeout(), 820 * MS);
        for _ in 0..HEIGHTS {
            height(&mut pace, 10 * MS, false);
        }
        assert_eq!(pace.timeout(), 300 * MS);
    }

    #[test]
    fn it_stays_below_the_ceiling_and_ignores_heights_with_a_view_change() {
        let mut pace = pace();
        height(&mut pace, 10_000 * MS, true);
        assert_eq!(pace.timeout(), 1_000 * MS);
        height(&mut pace, 10_000 * MS, false);
        assert_eq!(pace.timeout(), 3_000 * MS);
    }
}
