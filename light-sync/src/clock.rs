//! The only clock of the syncer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tercet_light_core::time::Time;

/// The time now; the earliest one where the machine's clock stands before 1970.
#[must_use]
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Time::from_unix(seconds, since.subsec_nanos()).unwrap_or(Time::MIN)
}
