//! CometBFT's JSON: 64-bit integers as strings, hashes in upper-case hexadecimal, byte strings in base64, times in RFC 3339 with
//! nanoseconds, strings escaped as Go does. Each file holds one group of shapes; the order of fields is CometBFT's.

pub(crate) mod abci;
pub(crate) mod block;
pub(crate) mod chain;
pub(crate) mod consensus;
pub(crate) mod events;
pub(crate) mod evidence;
pub(crate) mod evidence_given;
pub(crate) mod node;
pub(crate) mod search;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;
use std::fmt;
use std::io;
use tendermint_proto::google::protobuf::Timestamp;

/// Appends `value` to `out`, escaped as Go's encoder does.
///
/// # Errors
/// Where a value refuses to be serialized; none of this module's does.
pub(crate) fn append<T: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    value: &T,
) -> Result<(), serde_json::Error> {
    value.serialize(&mut serde_json::Serializer::with_formatter(out, GoStrings))
}

/// Appends `text` as a JSON string.
pub(crate) fn append_text(out: &mut Vec<u8>, text: &str) {
    if text.is_empty() {
        out.extend_from_slice(b"\"\"");
        return;
    }
    append(out, text).expect("a string always serializes");
}

/// Appends `bytes` as a JSON string of upper-case hexadecimal.
pub(crate) fn append_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    out.reserve(2 * bytes.len() + 2);
    out.push(b'"');
    for byte in bytes {
        out.push(digit(byte >> 4));
        out.push(digit(byte & 15));
    }
    out.push(b'"');
}

/// Escapes `<`, `>`, `&`, U+2028 and U+2029 beside what JSON demands, as Go's `encoding/json` does.
struct GoStrings;

impl Formatter for GoStrings {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut plain = 0;
        for (at, found) in fragment.char_indices() {
            let escaped: &[u8] = match found {
                '<' => b"\\u003c",
                '>' => b"\\u003e",
                '&' => b"\\u0026",
                '\u{2028}' => b"\\u2028",
                '\u{2029}' => b"\\u2029",
                _ => continue,
            };
            writer.write_all(fragment.get(plain..at).unwrap_or_default().as_bytes())?;
            writer.write_all(escaped)?;
            plain = at + found.len_utf8();
        }
        writer.write_all(fragment.get(plain..).unwrap_or_default().as_bytes())
    }
}

/// A value that stands as a string of its decimal or textual form, as 64-bit integers do.
#[derive(Clone, Copy, Default)]
pub(crate) struct Text<T>(pub(crate) T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Bytes in upper-case hexadecimal; nothing is `""`.
#[derive(Clone, Default)]
pub(crate) struct Hex<B>(pub(crate) B);

impl<B: AsRef<[u8]>> Serialize for Hex<B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode_upper(self.0.as_ref()))
    }
}

/// Bytes in base64; nothing is `null`, as a nil slice in Go.
#[derive(Clone, Default)]
pub(crate) struct Base64<B>(pub(crate) B);

impl<B: AsRef<[u8]>> Serialize for Base64<B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_ref() {
            [] => serializer.serialize_none(),
            bytes => Base64Text(bytes).serialize(serializer),
        }
    }
}

/// Bytes in base64; nothing is `""`.
#[derive(Clone, Default)]
pub(crate) struct Base64Text<B>(pub(crate) B);

impl<B: AsRef<[u8]>> Serialize for Base64Text<B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0.as_ref()))
    }
}

/// A time; none is Go's zero time.
#[derive(Clone, Copy, Default)]
pub(crate) struct Rfc3339(pub(crate) Option<Timestamp>);

impl From<tendermint::Time> for Rfc3339 {
    fn from(time: tendermint::Time) -> Rfc3339 {
        let timestamp = tendermint_proto::google::protobuf::Timestamp::from(time);
        Rfc3339(Some(timestamp))
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ZERO: &str = "0001-01-01T00:00:00Z";
        let Some(Timestamp { seconds, nanos }) = self.0 else { return f.write_str(ZERO) };
        let Ok(time) = time::OffsetDateTime::from_unix_timestamp(seconds) else {
            return f.write_str(ZERO);
        };
        let (date, clock) = (time.date(), time.time());
        write!(f, "{:04}-{:02}-{:02}T", date.year(), u8::from(date.month()), date.day())?;
        write!(f, "{:02}:{:02}:{:02}", clock.hour(), clock.minute(), clock.second())?;
        if nanos > 0 {
            let fraction = format!("{nanos:09}");
            write!(f, ".{}", fraction.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Whether a number is zero, which Go's `omitempty` leaves out.
pub(crate) fn is_zero<T: Default + PartialEq>(number: &Text<T>) -> bool {
    number.0 == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json<T: Serialize>(value: T) -> String {
        let mut out = Vec::new();
        append(&mut out, &value).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        assert_eq!(
            json("a<b>&\u{2028}é\"\\\n\u{1}"),
            r#""a\u003cb\u003e\u0026\u2028é\"\\\n\u0001""#
        );
        let mut out = Vec::new();
        append_text(&mut out, "");
        append_text(&mut out, "<");
        assert_eq!(out, br#""""\u003c""#);
    }

    #[test]
    fn bytes_and_numbers_take_comets_forms() {
        assert_eq!(json(Hex([0xab, 0x01])), "\"AB01\"");
        assert_eq!(json(Hex([])), "\"\"");
        assert_eq!(json(Base64("value")), "\"dmFsdWU=\"");
        assert_eq!(json(Base64("")), "null");
        assert_eq!(json(Base64Text("")), "\"\"");
        assert_eq!(json(Text(-5i64)), "\"-5\"");
        let mut out = Vec::new();
        append_hex(&mut out, &[0x0f, 0xa0]);
        assert_eq!(out, b"\"0FA0\"");
    }

    #[test]
    fn times_lose_their_trailing_zeros() {
        let time = |seconds, nanos| json(Rfc3339(Some(Timestamp { seconds, nanos })));
        assert_eq!(time(0, 0), "\"1970-01-01T00:00:00Z\"");
        assert_eq!(time(1_684_332_768, 347_696_215), "\"2023-05-17T14:12:48.347696215Z\"");
        assert_eq!(time(1_726_243_107, 59_566_170), "\"2024-09-13T15:58:27.05956617Z\"");
        assert_eq!(time(i64::MAX, 0), "\"0001-01-01T00:00:00Z\"");
        assert_eq!(time(0, -5), "\"1970-01-01T00:00:00Z\"");
        assert_eq!(json(Rfc3339(None)), "\"0001-01-01T00:00:00Z\"");
    }
}
