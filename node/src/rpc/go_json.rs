//! How Go's `encoding/json` and `encoding/base64` read a value and say what is wrong with it, so that clients that match error texts
//! find the same. Sources: Go `encoding/json/scanner.go`, `decode.go`, `encoding/base64/base64.go`.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

/// Go takes a last character whose unused bits are not zero.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// What a text in JSON is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A number, as written.
    Number(&'a str),
    /// Any other value, by Go's name of its kind.
    Other(&'static str),
}

/// What is wrong with a text that begins like a number, a literal, or no value of JSON; what it is otherwise. Strings, lists and objects
/// are looked at no further than their first character.
///
/// # Errors
/// In Go's words.
pub(super) fn scan(text: &str) -> Result<Found<'_>, String> {
    let text = text.trim_start_matches([' ', '\t', '\r', '\n']);
    let Some(first) = text.bytes().next() else { return Err(end()) };
    match first {
        b'-' | b'0'..=b'9' => {
            let length = number(text.as_bytes())?;
            let (number, rest) = text.split_at(length);
            only_space(rest)?;
            Ok(Found::Number(number))
        }
        b't' => literal(text, "true", "bool"),
        b'f' => literal(text, "false", "bool"),
        b'n' => literal(text, "null", "null"),
        b'"' => Ok(Found::Other("string")),
        b'[' => Ok(Found::Other("array")),
        b'{' => Ok(Found::Other("object")),
        other => Err(invalid(other, "looking for beginning of value")),
    }
}

/// How long the number at the beginning is.
fn number(bytes: &[u8]) -> Result<usize, String> {
    let at = |index: usize| bytes.get(index).copied();
    let digits = |from: usize| bytes.iter().skip(from).take_while(|b| b.is_ascii_digit()).count();
    let needed = |index: usize, context: &str| match at(index) {
        Some(byte) if byte.is_ascii_digit() => Ok(()),
        Some(byte) => Err(invalid(byte, context)),
        None => Err(end()),
    };
    let mut length = usize::from(at(0) == Some(b'-'));
    needed(length, "in numeric literal")?;
    length += if at(length) == Some(b'0') { 1 } else { digits(length) };
    if at(length) == Some(b'.') {
        needed(length + 1, "after decimal point in numeric literal")?;
        length += 1 + digits(length + 1);
    }
    if matches!(at(length), Some(b'e' | b'E')) {
        length += 1 + usize::from(matches!(at(length + 1), Some(b'+' | b'-')));
        needed(length, "in exponent of numeric literal")?;
        length += digits(length);
    }
    Ok(length)
}

fn literal<'a>(text: &'a str, word: &str, kind: &'static str) -> Result<Found<'a>, String> {
    for (index, expected) in word.bytes().enumerate() {
        match text.as_bytes().get(index) {
            Some(byte) if *byte == expected => {}
            Some(byte) => {
                let expected = char::from(expected);
                let context = format!("in literal {word} (expecting '{expected}')");
                return Err(invalid(*byte, &context));
            }
            None => return Err(end()),
        }
    }
    only_space(text.get(word.len()..).unwrap_or_default())?;
    Ok(Found::Other(kind))
}

fn only_space(rest: &str) -> Result<(), String> {
    match rest.trim_start_matches([' ', '\t', '\r', '\n']).bytes().next() {
        Some(byte) => Err(invalid(byte, "after top-level value")),
        None => Ok(()),
    }
}

fn end() -> String {
    "unexpected end of JSON input".to_owned()
}

/// Go takes text byte by byte, and writes the byte as the character of that number.
fn invalid(byte: u8, context: &str) -> String {
    let quoted = match byte {
        b'\'' => r"\'".to_owned(),
        b'"' => "\"".to_owned(),
        b'\\' => r"\\".to_owned(),
        b'\t' => r"\t".to_owned(),
        b'\r' => r"\r".to_owned(),
        b'\n' => r"\n".to_owned(),
        0x20..=0x7e | 0xa1..=0xac | 0xae..=0xff => char::from(byte).to_string(),
        0x80..=0xa0 | 0xad => format!("\\u{byte:04x}"),
        _ => format!("\\x{byte:02x}"),
    };
    format!("invalid character '{quoted}' {context}")
}

/// Base64 with padding; line ends are passed over.
///
/// # Errors
/// In Go's words, with the place that Go names.
pub(super) fn base64(text: &str) -> Result<Vec<u8>, String> {
    let illegal = |at: usize| format!("illegal base64 data at input byte {at}");
    if let Some(at) = corrupt(text.as_bytes()) {
        return Err(illegal(at));
    }
    let bytes: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    BASE64.decode(bytes).map_err(|_| illegal(text.len()))
}

/// Where Go's decoder stops.
fn corrupt(bytes: &[u8]) -> Option<usize> {
    let is_line_end = |byte: u8| matches!(byte, b'\r' | b'\n');
    let mut rest = bytes.iter().copied().enumerate().filter(|(_, byte)| !is_line_end(*byte));
    let mut inside = 0;
    while let Some((at, byte)) = rest.next() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => inside = (inside + 1) % 4,
            b'=' if inside < 2 => return Some(at),
            b'=' => {
                if inside == 2 {
                    match rest.next() {
                        None => return Some(bytes.len()),
                        Some((at, byte)) if byte != b'=' => return Some(at),
                        Some(_) => {}
                    }
                }
                return rest.next().map(|(at, _)| at);
            }
            _ => return Some(at),
        }
    }
    (inside > 0).then(|| bytes.len() - inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `CometBFT` 0.38.25 answers.
    #[test]
    fn what_is_wrong_is_said_in_the_words_of_go() {
        for (text, error) in [
            ("", "unexpected end of JSON input"),
            ("0x01", "invalid character 'x' after top-level value"),
            ("01", "invalid character '1' after top-level value"),
            ("+1", "invalid character '+' looking for beginning of value"),
            ("abc", "invalid character 'a' looking for beginning of value"),
            ("'abc'", r"invalid character '\'' looking for beginning of value"),
            (r"\u00e9", r"invalid character '\\' looking for beginning of value"),
            ("é", "invalid character 'Ã' looking for beginning of value"),
            ("-", "unexpected end of JSON input"),
            ("-a", "invalid character 'a' in numeric literal"),
            ("1.", "unexpected end of JSON input"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1e", "unexpected end of JSON input"),
            ("1e+x", "invalid character 'x' in exponent of numeric literal"),
            ("tru", "unexpected end of JSON input"),
            ("trux", "invalid character 'x' in literal true (expecting 'e')"),
            ("nope", "invalid character 'o' in literal null (expecting 'u')"),
            ("true 1", "invalid character '1' after top-level value"),
        ] {
            assert_eq!(scan(text), Err(error.to_owned()), "{text}");
        }
        assert_eq!(scan(" 1.5e-3 "), Ok(Found::Number("1.5e-3")));
        assert_eq!(scan("-0"), Ok(Found::Number("-0")));
        assert_eq!(scan("true"), Ok(Found::Other("bool")));
        assert_eq!(scan("null\n"), Ok(Found::Other("null")));
        assert_eq!(scan("[1"), Ok(Found::Other("array")));
    }

    #[test]
    fn base64_is_read_and_refused_as_go_does() {
        for (text, at) in [
            ("0", 0),
            ("+1", 0),
            ("abc", 0),
            ("YWJjZ", 4),
            ("9223372036854775807", 16),
            ("-1==", 0),
            ("a=", 1),
            ("ab=", 3),
            ("ab=c", 3),
            ("YWJj=", 4),
            ("ab==c", 4),
            ("YW!j", 2),
        ] {
            let right = Err(format!("illegal base64 data at input byte {at}"));
            assert_eq!(base64(text), right, "{text}");
        }
        assert_eq!(base64("YW\nJj\r\n"), Ok(b"abc".to_vec()));
        assert_eq!(base64("YWK="), Ok(b"ab".to_vec()), "unused bits that are not zero");
        assert_eq!(base64(""), Ok(Vec::new()));
    }
}
