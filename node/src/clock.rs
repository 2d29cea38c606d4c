//! The wall clock: the only place that reads it for consensus, and where tests make it wrong.

use clap::Args;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tendermint::Time;

/// How wrong the clock of this process is, and since when.
static SKEW: OnceLock<(Instant, Skew)> = OnceLock::new();

/// How wrong the clock is made.
#[derive(Clone, Debug, Default, Args)]
pub struct Skew {
    /// By so many milliseconds.
    #[arg(long, hide = true, default_value_t = 0, allow_negative_numbers = true)]
    clock_offset_ms: i64,
    /// By so many microseconds more each second.
    #[arg(long, hide = true, default_value_t = 0, allow_negative_numbers = true)]
    clock_drift_ppm: i64,
    /// Jumps: after so many milliseconds, by so many, as 5000:-10000.
    #[arg(long, hide = true, value_delimiter = ',')]
    clock_jump: Vec<Jump>,
}

#[derive(Clone, Copy, Debug)]
struct Jump {
    after: Duration,
    by_ms: i64,
}

impl FromStr for Jump {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Jump, Self::Err> {
        let parsed = text.split_once(':').and_then(|(after, by)| {
            let after = Duration::from_millis(after.parse().ok()?);
            Some(Jump { after, by_ms: by.parse().ok()? })
        });
        parsed.ok_or("write after:by, both in milliseconds")
    }
}

impl Skew {
    /// Makes the clock of this process wrong; only the first call counts.
    pub fn apply(&self) {
        let _ = SKEW.set((Instant::now(), self.clone()));
    }

    /// Whether it is wrong at all.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        (self.clock_offset_ms, self.clock_drift_ppm) != (0, 0) || !self.clock_jump.is_empty()
    }

    /// By how many milliseconds the clock is wrong after so long.
    fn shift_ms(&self, elapsed: Duration) -> i64 {
        let ran = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
        let drift = ran.saturating_mul(self.clock_drift_ppm) / 1_000_000;
        let jumps = self.clock_jump.iter().filter(|jump| jump.after <= elapsed);
        let jumps = jumps.fold(0i64, |sum, jump| sum.saturating_add(jump.by_ms));
        self.clock_offset_ms.saturating_add(drift).saturating_add(jumps)
    }
}

/// The time by this process's clock.
#[must_use]
pub fn now() -> Time {
    let real = Time::now();
    let shift = SKEW.get().map_or(0, |(since, skew)| skew.shift_ms(since.elapsed()));
    let by = Duration::from_millis(shift.unsigned_abs());
    let shifted = if shift < 0 { real - by } else { real + by };
    shifted.unwrap_or(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_drift_and_jumps_add_up() {
        let skew = Skew {
            clock_offset_ms: -3_600_000,
            clock_drift_ppm: 1_000_000,
            clock_jump: vec![
                "5000:-10000".parse().expect("a jump"),
                "9000:7".parse().expect("a jump"),
            ],
        };
        assert_eq!(skew.shift_ms(Duration::ZERO), -3_600_000);
        assert_eq!(skew.shift_ms(Duration::from_secs(4)), -3_600_000 + 4_000);
        assert_eq!(skew.shift_ms(Duration::from_secs(9)), -3_600_000 + 9_000 - 10_000 + 7);
        assert!("5000".parse::<Jump>().is_err());
    }
}
