//! What it costs to kill or freeze a primary: the times between blocks, seen from outside.

use std::fmt;
use std::time::Duration;

use super::{median_max, millis};

/// Gaps longer than this are counted while a validator is dead.
const LONG_GAP: Duration = Duration::from_millis(100);

/// What striking one primary cost, seen at another validator.
pub(super) struct Struck {
    /// Times between blocks from the strike to the end, in order, the last one open.
    all: Vec<Duration>,
    pub(super) largest: Duration,
    /// How many were over `LONG_GAP`.
    long: usize,
}

impl Struck {
    /// From the gaps in their order.
    pub(super) fn new(gaps: &[Duration]) -> Self {
        let long = gaps.iter().filter(|gap| **gap > LONG_GAP).count();
        let largest = gaps.iter().max().copied().unwrap_or_default();
        Self { all: gaps.to_owned(), largest, long }
    }
}

impl fmt::Display for Struck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let away: Duration = self.all.iter().sum();
        write!(
            f,
            "largest gap {}, {} blocks in {:.1} s, {} gaps over {}",
            millis(self.largest),
            self.all.len().saturating_sub(1),
            away.as_secs_f64(),
            self.long,
            millis(LONG_GAP)
        )
    }
}

/// Median and maximum of the largest gaps of all rounds.
pub(super) fn largest(rounds: &[Struck]) -> Option<(Duration, Duration)> {
    median_max(&mut rounds.iter().map(|round| round.largest).collect::<Vec<_>>())
}

/// The figures over all rounds, one line each.
pub(super) fn figures(rounds: &[Struck]) -> Vec<String> {
    let Some((median, max)) = largest(rounds) else { return Vec::new() };
    let of_largest = format!(
        "largest gap between blocks per round: median {}, max {}",
        millis(median),
        millis(max)
    );
    let mut all: Vec<Duration> = rounds.iter().flat_map(|round| round.all.clone()).collect();
    let long: usize = rounds.iter().map(|round| round.long).sum();
    let of_all = median_max(&mut all).map(|(median, _)| {
        format!(
            "all {} gaps while one validator was away: median {}, {long} over {}",
            all.len(),
            millis(median),
            millis(LONG_GAP)
        )
    });
    [of_largest].into_iter().chain(of_all).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_gap_of_each_round_counts() {
        let round = |gaps: &[u64]| {
            Struck::new(&gaps.iter().map(|ms| Duration::from_millis(*ms)).collect::<Vec<_>>())
        };
        let rounds = [round(&[40, 900, 5, 150]), round(&[70, 5, 5]), round(&[300, 5])];
        assert_eq!(
            rounds[0].to_string(),
            "largest gap 900 ms, 3 blocks in 1.1 s, 2 gaps over 100 ms"
        );
        assert_eq!(
            figures(&rounds),
            [
                "largest gap between blocks per round: median 300 ms, max 900 ms",
                "all 9 gaps while one validator was away: median 40 ms, 3 over 100 ms",
            ]
        );
        assert!(figures(&[]).is_empty());
    }
}
