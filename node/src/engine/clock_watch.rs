//! Whether this machine's clock agrees with those of the others: the median of the times in a fresh commit is a time of an honest one.
//!
//! A clock that is ahead is seen in the blocks of now alone, because old blocks are behind every clock. One that is behind is seen
//! in any block.

use super::outside::Now;
use std::time::{Duration, Instant};
use tendermint::Time;

/// From this difference on a clock is wrong.
const WRONG_SECS: i64 = 10;
/// For how long it must have been so: a process that slept reads old commits for a moment.
const SURE: Duration = Duration::from_secs(3);

/// Watches the clock.
#[derive(Debug, Default)]
pub(super) struct ClockWatch {
    since: Option<Instant>,
    off_secs: Option<i64>,
    told: bool,
}

impl ClockWatch {
    /// By how many seconds the clock is ahead of the others, where it is wrong.
    pub(super) fn off_secs(&self) -> Option<i64> {
        self.off_secs
    }

    /// A block was decided whose commit has this median time; `fresh` where it was decided just now. Tells once that the clock is wrong,
    /// and once that it is right again.
    pub(super) fn see(&mut self, median: Time, fresh: bool, now: Now) {
        let off = now.time.unix_timestamp().saturating_sub(median.unix_timestamp());
        if off > 0 && !fresh {
            return;
        }
        if off.abs() < WRONG_SECS {
            self.since = None;
            self.off_secs = None;
            if std::mem::take(&mut self.told) {
                tracing::info!("this machine's clock agrees with the others again");
            }
            return;
        }
        let since = *self.since.get_or_insert(now.instant);
        if now.instant.saturating_duration_since(since) < SURE {
            return;
        }
        self.off_secs = Some(off);
        if !std::mem::replace(&mut self.told, true) {
            let way = if off > 0 { "ahead of" } else { "behind" };
            tracing::warn!(
                "this machine's clock is {} s {way} those of the others: set it (chrony, systemd-timesyncd); this node judges and times blocks by it",
                off.unsigned_abs()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_is_told_once_it_is_sure() {
        let start = Instant::now();
        let at = |after: u64, unix: i64| Now {
            instant: start + Duration::from_secs(after),
            time: Time::from_unix_timestamp(unix, 0).expect("a time"),
        };
        let median = |unix| Time::from_unix_timestamp(unix, 0).expect("a time");
        let mut watch = ClockWatch::default();
        watch.see(median(1_000), true, at(0, 4_600));
        assert_eq!(watch.off_secs(), None, "it may have slept");
        watch.see(median(1_003), true, at(3, 4_603));
        assert_eq!((watch.off_secs(), watch.told), (Some(3_600), true));
        watch.see(median(1_004), true, at(4, 1_004));
        assert_eq!((watch.off_secs(), watch.told), (None, false));
        // Old blocks are behind every clock, and no block is ahead of a right one.
        watch.see(median(10), false, at(5, 1_005));
        watch.see(median(11), false, at(15, 1_015));
        assert_eq!(watch.off_secs(), None);
        watch.see(median(2_000), false, at(16, 1_016));
        watch.see(median(2_003), false, at(19, 1_019));
        assert_eq!(watch.off_secs(), Some(-984));
    }
}
