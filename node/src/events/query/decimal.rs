//! Decimal numbers of any size, compared exactly.

use std::cmp::Ordering;

/// The largest exponent of an indexed value that is read; larger ones are no numbers here.
const EXPONENT_MAX: i32 = 1_000;

/// A decimal number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decimal {
    /// Never for zero.
    negative: bool,
    /// Digits before the point, without leading zeros.
    whole: String,
    /// Digits behind it, without trailing zeros.
    fraction: String,
}

impl Decimal {
    fn new(negative: bool, whole: &str, fraction: &str) -> Decimal {
        let whole = whole.trim_start_matches('0').to_owned();
        let fraction = fraction.trim_end_matches('0').to_owned();
        let is_zero = whole.is_empty() && fraction.is_empty();
        Decimal { negative: negative && !is_zero, whole, fraction }
    }

    /// The number that a text begins with, as in `8atom` or `6.5stake`; none where it does not begin with a digit.
    #[must_use]
    pub fn leading(text: &str) -> Option<Decimal> {
        let (whole, rest) = digits(text);
        if whole.is_empty() {
            return None;
        }
        let fraction = rest.strip_prefix('.').map_or("", |rest| digits(rest).0);
        Some(Decimal::new(false, whole, fraction))
    }

    /// The number that a whole text is, with sign and exponent where it has them.
    #[must_use]
    pub fn whole(text: &str) -> Option<Decimal> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (whole, rest) = digits(unsigned);
        let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), digits);
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let negative = text.starts_with('-');
        let exponent = match rest.strip_prefix(['e', 'E']) {
            Some(exponent) => exponent.parse::<i32>().ok()?,
            None if rest.is_empty() => 0,
            None => return None,
        };
        match exponent {
            0 => Some(Decimal::new(negative, whole, fraction)),
            far if far.abs() > EXPONENT_MAX => None,
            _ => Some(shifted(negative, (whole, fraction), exponent)),
        }
    }
}

/// Decimal digits at the beginning of a text, and what follows.
fn digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// A number with its point moved to the right by `places`.
fn shifted(negative: bool, (whole, fraction): (&str, &str), places: i32) -> Decimal {
    let all = format!("{whole}{fraction}");
    let point = i64::try_from(whole.len()).unwrap_or(i64::MAX).saturating_add(places.into());
    let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or(0));
    if point <= 0 {
        return Decimal::new(negative, "", &format!("{}{all}", zeros(-point)));
    }
    let have = i64::try_from(all.len()).unwrap_or(i64::MAX);
    let filled = format!("{all}{}", zeros(point - have));
    let (whole, fraction) = filled.split_at(usize::try_from(point).unwrap_or(filled.len()));
    Decimal::new(negative, whole, fraction)
}

impl Ord for Decimal {
    fn cmp(&self, other: &Decimal) -> Ordering {
        // Of digits without leading zeros more are larger; of fractions the text decides, as a prefix is smaller.
        let sizes = |a: &Decimal, b: &Decimal| {
            let whole = a.whole.len().cmp(&b.whole.len()).then_with(|| a.whole.cmp(&b.whole));
            whole.then_with(|| a.fraction.cmp(&b.fraction))
        };
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => sizes(self, other),
            (true, true) => sizes(other, self),
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Decimal) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Decimal {
        Decimal::whole(text).unwrap()
    }

    #[test]
    fn numbers_of_any_size_are_ordered_exactly() {
        let sorted = [
            "-1e30",
            "-99999999999999999999.2",
            "-99999999999999999999.1",
            "-5",
            "-0.5",
            "0",
            "0.000000000000000000000000000000000000000000000000000001",
            "0.1",
            "1",
            "1.05",
            "1.5",
            "9",
            "10",
            "18446744073709551615",
            "18446744073709551615.6",
            "99999999999999999999.1",
            "1e30",
        ];
        for (index, smaller) in sorted.iter().enumerate() {
            for larger in &sorted[index + 1..] {
                assert!(whole(smaller) < whole(larger), "{smaller} < {larger}");
            }
        }
    }

    #[test]
    fn one_number_has_many_forms() {
        for same in ["7", "007", "7.", "7.000", "+7", "0.7e1", "700e-2", "70E-1", "7e0"] {
            assert_eq!(whole(same), whole("7"), "{same}");
        }
        assert_eq!(whole("-0"), whole("0"));
        assert_eq!(whole("25e-3"), whole("0.025"));
        for wrong in ["", "-", ".", "e5", "7stake", "7 ", "1e", "1e1001", "1e99999999999", "0x7"] {
            assert_eq!(Decimal::whole(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_follows_the_number_a_text_begins_with_does_not_count() {
        for (text, number) in [("8atom", "8"), ("6.5stake", "6.5"), ("8.", "8"), ("8.x", "8")] {
            assert_eq!(Decimal::leading(text), Some(whole(number)), "{text}");
        }
        for none in ["", "stake", "-5", "+5", ".5"] {
            assert_eq!(Decimal::leading(none), None, "{none}");
        }
    }
}
