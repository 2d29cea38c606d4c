//! Points in time, as headers and votes have them. The time now comes from outside, see [`crate::planner`].

use std::time::Duration;
use tendermint_proto::google::protobuf::Timestamp;

/// The first second of the year 1, the earliest time that Tendermint knows.
const SECONDS_MIN: i64 = -62_135_596_800;
/// The last second of the year 9999.
const SECONDS_MAX: i64 = 253_402_300_799;
const NANOS: u32 = 1_000_000_000;

/// A point in time with nanoseconds, between the years 1 and 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    seconds: i64,
    nanos: u32,
}

impl Time {
    /// The latest time.
    pub const MAX: Time = Time { seconds: SECONDS_MAX, nanos: NANOS - 1 };
    /// The earliest time.
    pub const MIN: Time = Time { seconds: SECONDS_MIN, nanos: 0 };

    /// So many seconds after 1970; none outside of the years 1 to 9999, or where there are more nanoseconds than a second has.
    #[must_use]
    pub const fn from_unix(seconds: i64, nanos: u32) -> Option<Time> {
        if seconds < SECONDS_MIN || seconds > SECONDS_MAX || nanos >= NANOS {
            return None;
        }
        Some(Time { seconds, nanos })
    }

    /// Seconds since 1970.
    #[must_use]
    pub const fn unix_seconds(&self) -> i64 {
        self.seconds
    }

    /// Nanoseconds within the second.
    #[must_use]
    pub const fn nanos(&self) -> u32 {
        self.nanos
    }

    /// Later by `by`, at the latest [`Time::MAX`].
    #[must_use]
    pub fn after(&self, by: Duration) -> Time {
        let nanos = self.nanos + by.subsec_nanos();
        let carry = i64::from(nanos >= NANOS);
        let whole = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        let seconds = self.seconds.saturating_add(whole).saturating_add(carry);
        if seconds > SECONDS_MAX {
            return Time::MAX;
        }
        Time { seconds, nanos: nanos % NANOS }
    }

    /// How long this is after `earlier`; zero where it is not.
    #[must_use]
    pub fn since(&self, earlier: Time) -> Duration {
        if *self <= earlier {
            return Duration::ZERO;
        }
        let borrow = self.nanos < earlier.nanos;
        let seconds = self.seconds.abs_diff(earlier.seconds) - u64::from(borrow);
        let nanos = self.nanos + if borrow { NANOS } else { 0 } - earlier.nanos;
        Duration::new(seconds, nanos)
    }

    /// The same in Tendermint's type.
    ///
    /// # Panics
    /// Never: both know the same years.
    #[must_use]
    pub fn to_tendermint(self) -> tendermint::Time {
        tendermint::Time::from_unix_timestamp(self.seconds, self.nanos).expect("within the years")
    }

    pub(crate) fn to_proto(self) -> Timestamp {
        Timestamp { seconds: self.seconds, nanos: self.nanos.cast_signed() }
    }

    pub(crate) fn from_proto(time: &Timestamp) -> Option<Time> {
        Time::from_unix(time.seconds, u32::try_from(time.nanos).ok()?)
    }
}

impl From<tendermint::Time> for Time {
    fn from(time: tendermint::Time) -> Time {
        let proto = Timestamp::from(time);
        Time::from_proto(&proto).unwrap_or(Time::MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanos: u32) -> Time {
        Time::from_unix(seconds, nanos).unwrap()
    }

    #[test]
    fn times_add_and_subtract_with_nanoseconds() {
        let start = at(10, 900_000_000);
        let end = start.after(Duration::new(1, 200_000_000));
        assert_eq!(end, at(12, 100_000_000));
        assert_eq!(end.since(start), Duration::new(1, 200_000_000));
        assert_eq!(start.since(end), Duration::ZERO);
        assert_eq!(start.after(Duration::MAX), Time::MAX);
        assert_eq!(at(-2, 5).since(at(-3, 7)), Duration::new(0, 999_999_998));
    }

    #[test]
    fn times_outside_of_the_years_1_to_9999_do_not_exist() {
        assert_eq!(Time::from_unix(SECONDS_MAX + 1, 0), None);
        assert_eq!(Time::from_unix(SECONDS_MIN - 1, 0), None);
        assert_eq!(Time::from_unix(0, NANOS), None);
        assert_eq!(Time::from(Time::MAX.to_tendermint()), Time::MAX);
        assert_eq!(Time::from(Time::MIN.to_tendermint()), Time::MIN);
    }
}
