//! Durations in Go's syntax: `300ms`, `1.5s`, `1m30s`. Source: Go's `time.ParseDuration` and `Duration.String`.

use std::time::Duration;

/// The units, in nanoseconds, the longest names first.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
];

/// The longest duration: what Go can hold.
pub const DURATION_MAX: Duration = Duration::from_nanos(i64::MAX.unsigned_abs());

/// Not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Another syntax.
    #[error("{0:?} is no duration: write for example \"300ms\", \"10s\" or \"1m30s\"")]
    Syntax(String),
    /// Below zero.
    #[error("{0:?} is negative")]
    Negative(String),
    /// More than 292 years.
    #[error("{0:?} is too long")]
    TooLong(String),
}

/// Reads a duration. What is finer than a nanosecond is cut off.
///
/// # Errors
/// Where the text is not Go's syntax, negative, or beyond [`DURATION_MAX`].
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let syntax = || DurationError::Syntax(text.to_owned());
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut rest = unsigned;
    let mut total: u128 = 0;
    if unsigned != "0" {
        if rest.is_empty() {
            return Err(syntax());
        }
        while !rest.is_empty() {
            let (nanos, after) = part(rest).ok_or_else(syntax)?;
            total = total.saturating_add(nanos);
            rest = after;
        }
    }
    if text.starts_with('-') && total > 0 {
        return Err(DurationError::Negative(text.to_owned()));
    }
    match u64::try_from(total) {
        Ok(nanos) if Duration::from_nanos(nanos) <= DURATION_MAX => Ok(Duration::from_nanos(nanos)),
        _ => Err(DurationError::TooLong(text.to_owned())),
    }
}

/// The nanoseconds of one number with its unit, and what follows it.
fn part(text: &str) -> Option<(u128, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(end);
    let (name_end, _) = rest
        .char_indices()
        .find(|(_, c)| c.is_ascii_digit() || *c == '.')
        .unwrap_or((rest.len(), ' '));
    let (name, rest) = rest.split_at(name_end);
    let (_, unit) = UNITS.iter().find(|(unit, _)| *unit == name)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = whole.saturating_mul(u128::from(*unit));
    let mut place = u128::from(*unit);
    // Each digit counts a tenth of the one before it; the sum is exact for all units, whose size is a multiple of a power of ten.
    let mut below: u128 = 0;
    let mut scale: u128 = 1;
    for digit in fraction.bytes().take(18) {
        below = below * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    place = place.saturating_mul(below) / scale;
    nanos = nanos.saturating_add(place);
    Some((nanos, rest))
}

/// Writes a duration as Go does: `1m30s`, `1.5s`, `300ms`, `0s`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let below = |unit: u128, name: &str| format!("{}{name}", decimal(nanos, unit));
    match nanos {
        0 => "0s".into(),
        1..1_000 => below(1, "ns"),
        1_000..1_000_000 => below(1_000, "µs"),
        1_000_000..1_000_000_000 => below(1_000_000, "ms"),
        _ => {
            let (minutes, rest) = (duration.as_secs() / 60, nanos % 60_000_000_000);
            let seconds = format!("{}s", decimal(rest, 1_000_000_000));
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// `value / unit` in decimals without trailing zeros; `unit` is a power of ten.
fn decimal(value: u128, unit: u128) -> String {
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    let fraction = format!("{rest:0digits$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn go_durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("-0s", 0),
            ("300ms", 300_000_000),
            ("1m30s", 90_000_000_000),
            ("168h0m0s", 604_800_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("+5s", 5_000_000_000),
            ("10µs", 10_000),
            ("10μs", 10_000),
            ("0.1ns", 0),
            ("1h1ms", 3_600_001_000_000),
            ("9223372036854775807ns", 9_223_372_036_854_775_807),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in
            ["", "1", "s", ".s", "1d", "1 s", "1.2.3s", "- 1s", "1sm", "ms5", "é", "+", "٣s"]
        {
            assert!(matches!(parse_duration(text), Err(DurationError::Syntax(_))), "{text}");
        }
        assert!(matches!(parse_duration("-1s"), Err(DurationError::Negative(_))));
        for text in ["9223372036854775808ns", "2562048h", "99999999999999999999999h"] {
            assert!(matches!(parse_duration(text), Err(DurationError::TooLong(_))), "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (text, nanos) in [
            ("0s", 0),
            ("1ns", 1),
            ("1.1µs", 1_100),
            ("300ms", 300_000_000),
            ("1.5s", 1_500_000_000),
            ("1m30s", 90_000_000_000),
            ("168h0m0s", 604_800_000_000_000),
        ] {
            assert_eq!(format_duration(Duration::from_nanos(nanos)), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(nanos in 0..=i64::MAX.unsigned_abs()) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn near_misses_do_not_panic(text in "[-+]?([0-9]{0,40}\\.?[0-9]{0,40}(ns|us|µs|ms|s|m|h|d)?){0,4}") {
            let _ = parse_duration(&text);
        }
    }
}
