//! Days and moments as Go reads them (`time.Parse` with `2006-01-02` and `time.RFC3339`), with its error texts.

const DATE: &str = "2006-01-02";
const TIME: &str = "2006-01-02T15:04:05Z07:00";
/// Digits of a second's fraction that count.
const FRACTION_DIGITS: usize = 9;
const NANOS: i128 = 1_000_000_000;

/// The day in nanoseconds from 1970 to its beginning.
///
/// # Errors
/// In Go's words.
pub fn date(text: &str) -> Result<i128, String> {
    let mut read = Reader { all: text, layout: DATE, rest: text };
    let day = read.day()?;
    read.end(&day)?;
    Ok(day.nanos())
}

/// The moment in nanoseconds since 1970.
///
/// # Errors
/// In Go's words.
pub fn time(text: &str) -> Result<i128, String> {
    let mut read = Reader { all: text, layout: TIME, rest: text };
    let day = read.day()?;
    read.literal("T")?;
    // Go takes an hour of one digit.
    let hour = read.number("15", 1)?;
    read.within("hour", hour < 24)?;
    read.literal(":")?;
    let minute = read.number("04", 2)?;
    read.within("minute", minute < 60)?;
    read.literal(":")?;
    let second = read.number("05", 2)?;
    read.within("second", second < 60)?;
    let fraction = read.fraction();
    let offset = read.offset()?;
    read.end(&day)?;
    let seconds = i128::from(hour * 3_600 + minute * 60 + second) - i128::from(offset);
    Ok(day.nanos() + seconds * NANOS + i128::from(fraction))
}

/// The year of a moment given in nanoseconds since 1970, in UTC.
pub(super) fn year(text: &str) -> i64 {
    text.get(..4).and_then(|year| year.parse().ok()).unwrap_or(0)
}

struct Day {
    year: i64,
    month: i64,
    day: i64,
}

impl Day {
    fn is_there(&self) -> bool {
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let days = match self.month {
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            _ => 31,
        };
        (1..=days).contains(&self.day)
    }

    /// Days since 1970 in the proleptic Gregorian calendar, counted in years that begin with March.
    fn nanos(&self) -> i128 {
        let (year, month) = if self.month > 2 {
            (self.year, self.month - 3)
        } else {
            (self.year - 1, self.month + 9)
        };
        let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
        let days = year * 365 + leaps + (153 * month + 2) / 5 + self.day - 1 - 719_468;
        i128::from(days) * 86_400 * NANOS
    }
}

struct Reader<'a> {
    all: &'a str,
    layout: &'static str,
    rest: &'a str,
}

impl Reader<'_> {
    fn unlike(&self, rest: &str, element: &str) -> String {
        format!(
            "parsing time {:?} as {:?}: cannot parse {rest:?} as {element:?}",
            self.all, self.layout
        )
    }

    fn within(&self, what: &str, is_within: bool) -> Result<(), String> {
        if is_within {
            Ok(())
        } else {
            Err(format!("parsing time {:?}: {what} out of range", self.all))
        }
    }

    fn literal(&mut self, text: &str) -> Result<(), String> {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.ok_or_else(|| self.unlike(self.rest, text))?;
        Ok(())
    }

    /// At least so many digits, at most two (four for the year).
    fn number(&mut self, element: &'static str, least: usize) -> Result<i64, String> {
        let most = element.len();
        let count = self.rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.rest.split_at(count);
        let number = digits.parse().ok().filter(|_| count >= least);
        let number = number.ok_or_else(|| self.unlike(self.rest, element))?;
        self.rest = rest;
        Ok(number)
    }

    fn day(&mut self) -> Result<Day, String> {
        let year = self.number("2006", 4)?;
        self.literal("-")?;
        let month = self.number("01", 2)?;
        self.within("month", (1..=12).contains(&month))?;
        self.literal("-")?;
        let day = self.number("02", 2)?;
        Ok(Day { year, month, day })
    }

    /// The fraction of a second in nanoseconds; there need be none.
    fn fraction(&mut self) -> u32 {
        let Some(rest) = self.rest.strip_prefix(['.', ',']) else { return 0 };
        let count = rest.bytes().take_while(u8::is_ascii_digit).count();
        if count == 0 {
            return 0;
        }
        let (digits, rest) = rest.split_at(count);
        self.rest = rest;
        let digits = digits.get(..FRACTION_DIGITS.min(count)).unwrap_or_default();
        format!("{digits:0<FRACTION_DIGITS$}").parse().unwrap_or(0)
    }

    /// Seconds east of UTC.
    fn offset(&mut self) -> Result<i64, String> {
        const ELEMENT: &str = "Z07:00";
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let before = self.rest;
        let bad = |read: &Self| read.unlike(before, ELEMENT);
        let sign = match before.as_bytes().first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(bad(self)),
        };
        self.rest = before.get(1..).unwrap_or_default();
        let hours = self.number("15", 2).map_err(|_| bad(self))?;
        self.literal(":").map_err(|_| bad(self))?;
        let minutes = self.number("04", 2).map_err(|_| bad(self))?;
        self.within("time zone offset hour", hours <= 24)?;
        self.within("time zone offset minute", minutes <= 60)?;
        Ok(sign * (hours * 3_600 + minutes * 60))
    }

    fn end(&self, day: &Day) -> Result<(), String> {
        if !self.rest.is_empty() {
            return Err(format!("parsing time {:?}: extra text: {:?}", self.all, self.rest));
        }
        self.within("day", day.is_there())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_moments_are_counted_from_1970() {
        assert_eq!(date("1970-01-01"), Ok(0));
        assert_eq!(date("1969-12-31"), Ok(-86_400 * NANOS));
        assert_eq!(date("2000-03-01"), Ok(951_868_800 * NANOS));
        assert_eq!(date("2024-02-29"), Ok(1_709_164_800 * NANOS));
        assert_eq!(time("2013-05-03T14:45:00Z"), Ok(1_367_592_300 * NANOS));
        assert_eq!(time("2013-05-03T14:45:00+07:00"), Ok((1_367_592_300 - 7 * 3_600) * NANOS));
        assert_eq!(time("2013-05-03T14:45:00-02:30"), Ok((1_367_592_300 + 9_000) * NANOS));
        assert_eq!(time("2013-05-03T14:45:00.5Z"), Ok(1_367_592_300 * NANOS + 500_000_000));
        assert_eq!(
            time("2013-05-03T14:45:00,1234567899Z"),
            Ok(1_367_592_300 * NANOS + 123_456_789)
        );
        assert_eq!(time("2013-05-03T4:45:00Z"), time("2013-05-03T04:45:00Z"));
    }

    #[test]
    fn what_is_none_is_told_as_go_tells_it() {
        for (text, error) in [
            ("", r#"parsing time "" as "2006-01-02": cannot parse "" as "2006""#),
            ("-05-03", r#"parsing time "-05-03" as "2006-01-02": cannot parse "-05-03" as "2006""#),
            ("20130503", r#"parsing time "20130503" as "2006-01-02": cannot parse "0503" as "-""#),
            ("2013-31-03", r#"parsing time "2013-31-03": month out of range"#),
            ("2013-01-83", r#"parsing time "2013-01-83": day out of range"#),
            ("2023-02-29", r#"parsing time "2023-02-29": day out of range"#),
            ("2013-01-011", r#"parsing time "2013-01-011": extra text: "1""#),
        ] {
            assert_eq!(date(text).unwrap_err(), error);
        }
        for (text, error) in [
            (
                "2013-05-03T14:45:00",
                r#"parsing time "2013-05-03T14:45:00" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00""#,
            ),
            ("2021-01-01T34:56:18Z", r#"parsing time "2021-01-01T34:56:18Z": hour out of range"#),
            (
                "2013-05-:45:00Z",
                r#"parsing time "2013-05-:45:00Z" as "2006-01-02T15:04:05Z07:00": cannot parse ":45:00Z" as "02""#,
            ),
        ] {
            assert_eq!(time(text).unwrap_err(), error);
        }
    }
}
