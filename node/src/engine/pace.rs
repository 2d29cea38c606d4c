//! T, the view-change timeout, from what the last heights took, scaled by block size. Source: PROTOCOL §5 "Timers".
//!
//! What was measured says nothing about larger blocks than those that were measured. So T is larger by as much as the largest decided
//! block of the last heights is larger than the largest measured one: heights that saw a VIEW-CHANGE are not measured, and a network in
//! which every large block needs longer than T would change views at every height. What is only proposed does not count: anyone can
//! sign a size.

use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tendermint::block::Height;

/// Over how many heights the slowest is looked for.
const HEIGHTS: usize = 32;
/// T falls so slowly: within this time by about two thirds of what it is too long. A fast chain forgets its last heights within a second,
/// and a machine that was overloaded a second ago may well be so again.
const FALLS: Duration = Duration::from_secs(8);

/// Blocks below this size count as this large: the size does not matter then.
const SMALL_BYTES: usize = 64 * 1024;

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
    /// The size of its block, once decided.
    bytes: Option<usize>,
}

/// Measures and answers T.
#[derive(Debug)]
pub struct Pace {
    settings: PaceSettings,
    samples: VecDeque<Sample>,
    /// The sizes of the last decided blocks.
    decided: VecDeque<usize>,
    /// T without the scale, and when it was looked at last.
    timeout: Duration,
    fell: Option<Instant>,
    /// T with the scale: it is asked for all the time, and changes a few times a height.
    scaled: Duration,
}

impl Pace {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(settings: PaceSettings) -> Pace {
        Pace {
            settings,
            samples: VecDeque::new(),
            decided: VecDeque::new(),
            timeout: settings.initial,
            fell: None,
            scaled: settings.initial,
        }
    }

    /// A pre-prepare of `height` was accepted.
    pub fn accepted(&mut self, height: Height, now: Instant) {
        if self.samples.back().is_some_and(|sample| sample.height >= height) {
            return;
        }
        self.samples.push_back(Sample { height, accepted: now, slowest: None, bytes: None });
        if self.samples.len() > HEIGHTS {
            self.samples.pop_front();
        }
        self.fall(now);
        self.scale();
    }

    /// A COMMIT of `height` arrived; late ones, after the decision, count as well. Whose COMMIT takes longer than T is absent: nobody
    /// waits for it, so it says nothing, and one that is kept back for minutes must not lengthen T.
    pub fn commit(&mut self, height: Height, now: Instant) {
        let longest = self.timeout();
        if let Some(sample) = self.samples.iter_mut().rev().find(|sample| sample.height == height) {
            let took = now.saturating_duration_since(sample.accepted);
            if took > longest {
                return;
            }
            sample.slowest = sample.slowest.max(Some(took));
            self.timeout = self.timeout.max(self.measured().unwrap_or_default());
            self.scale();
        }
    }

    /// The height was decided, with a block of so many bytes.
    pub fn decided(&mut self, height: Height, bytes: usize) {
        self.decided.push_back(bytes);
        if self.decided.len() > HEIGHTS {
            self.decided.pop_front();
        }
        if let Some(sample) = self.samples.iter_mut().rev().find(|sample| sample.height == height) {
            sample.bytes = Some(bytes);
        }
        self.scale();
    }

    /// The height saw a VIEW-CHANGE: it says nothing about the pace.
    pub fn view_change(&mut self, height: Height) {
        self.samples.retain(|sample| sample.height != height);
        self.scale();
    }

    /// T: at least what was measured, and more for larger blocks than the measured ones; it rises at once and falls slowly.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.scaled.max(self.timeout)
    }

    /// Brings the scaled T up to date.
    fn scale(&mut self) {
        let measured = self.samples.iter().filter(|sample| sample.slowest.is_some());
        let measured = measured.filter_map(|sample| sample.bytes).max();
        let largest = self.decided.iter().copied().max().unwrap_or_default();
        self.scaled = measured.map_or(self.timeout, |measured| {
            scaled(self.timeout, largest, measured).min(self.settings.ceiling)
        });
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

/// `time`, as much longer as `bytes` are more than `measured`.
fn scaled(time: Duration, bytes: usize, measured: usize) -> Duration {
    let units = |bytes: usize| u32::try_from(bytes.max(SMALL_BYTES) / 1_024).unwrap_or(u32::MAX);
    time.saturating_mul(units(bytes)) / units(measured)
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

    /// A height that took no longer than the floor allows, with a block of this size.
    fn quick(pace: &mut Pace, at: u32, bytes: usize, start: &mut Instant) {
        height(pace, at, start, 10 * MS);
        pace.decided(Height::from(at), bytes);
    }

    #[test]
    fn a_large_block_that_was_measured_lengthens_nothing() {
        let (mut pace, mut now) = (pace(), Instant::now());
        (1..=80).for_each(|at| quick(&mut pace, at, 1_000, &mut now));
        let small = pace.timeout();
        assert!(small < 310 * MS, "{small:?}");
        quick(&mut pace, 81, 4 * SMALL_BYTES, &mut now);
        assert!(pace.timeout() <= small, "{:?}", pace.timeout());
    }

    #[test]
    fn small_blocks_are_all_alike_and_the_largest_cost_no_more_than_the_ceiling() {
        let (mut pace, mut now) = (pace(), Instant::now());
        (1..=80).for_each(|at| quick(&mut pace, at, 1_000, &mut now));
        let small = pace.timeout();
        for (at, bytes, timeout) in [(81u32, SMALL_BYTES, small), (82, usize::MAX, 3_000 * MS)] {
            pace.accepted(Height::from(at), now);
            pace.view_change(Height::from(at));
            pace.decided(Height::from(at), bytes);
            assert!(pace.timeout() <= timeout && pace.timeout() + MS > timeout, "{bytes} bytes");
        }
        (83..=113).for_each(|at| quick(&mut pace, at, 1_000, &mut now));
        assert_eq!(pace.timeout(), 3_000 * MS);
        quick(&mut pace, 114, 1_000, &mut now);
        assert!(pace.timeout() <= small, "{:?}", pace.timeout());
    }

    #[test]
    fn a_commit_that_is_kept_back_for_longer_than_t_lengthens_nothing() {
        let (mut pace, mut now) = (pace(), Instant::now());
        height(&mut pace, 1, &mut now, 10 * MS);
        pace.commit(Height::from(1u32), now + 60_000 * MS);
        assert_eq!(pace.timeout(), 1_000 * MS);
        (2..=60).for_each(|later| height(&mut pace, later, &mut now, 10 * MS));
        assert!(pace.timeout() < 310 * MS, "{:?}", pace.timeout());
    }

    #[test]
    fn large_blocks_that_always_lead_to_a_view_change_lengthen_it_until_one_does_not() {
        let (mut pace, mut now) = (pace(), Instant::now());
        (1..=80).for_each(|at| quick(&mut pace, at, 1_000, &mut now));
        pace.accepted(Height::from(81u32), now);
        let small = pace.timeout();
        pace.view_change(Height::from(81u32));
        pace.decided(Height::from(81u32), 8 * SMALL_BYTES);
        assert_eq!(pace.timeout(), small * 8);
        height(&mut pace, 82, &mut now, 200 * MS);
        pace.decided(Height::from(82u32), 8 * SMALL_BYTES);
        assert_eq!(pace.timeout(), 820 * MS, "measured");
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
        height(&mut pace, 1, &mut now, 900 * MS);
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
