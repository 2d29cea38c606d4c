//! Query strings and forms (`application/x-www-form-urlencoded`), as Go's `net/url` reads them.

use std::borrow::Cow;
use std::collections::HashMap;

/// The most parameters that are looked at.
const PARAMS_MAX: usize = 64;

/// The parameters of a query string or form; the first of a name counts. What is malformed is skipped, as Go does.
pub(crate) fn parse(query: &str) -> HashMap<Cow<'_, str>, Cow<'_, str>> {
    let mut params = HashMap::new();
    for pair in query.split('&').take(PARAMS_MAX) {
        if pair.is_empty() || pair.contains(';') {
            continue;
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(name), Some(value)) = (unescape(name), unescape(value)) {
            params.entry(name).or_insert(value);
        }
    }
    params
}

/// Decodes `%XX` and `+`; none where an escape is malformed or the result is no UTF-8.
fn unescape(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => out.push(digit(bytes.next()?)? << 4 | digit(bytes.next()?)?),
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

fn digit(byte: u8) -> Option<u8> {
    let value = char::from(byte).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(query: &str, name: &str) -> Option<String> {
        parse(query).get(name).map(|value| value.clone().into_owned())
    }

    #[test]
    fn escapes_are_decoded() {
        assert_eq!(get("tx=%22a%3Db%22", "tx").as_deref(), Some("\"a=b\""));
        assert_eq!(get("tx=\"a+b\"", "tx").as_deref(), Some("\"a b\""));
        assert_eq!(get("a=1&b=2", "b").as_deref(), Some("2"));
        assert_eq!(get("%61=1", "a").as_deref(), Some("1"));
        assert_eq!(get("tx=\"a=b\"", "tx").as_deref(), Some("\"a=b\""));
    }

    #[test]
    fn the_first_of_a_name_counts_and_malformed_pairs_are_skipped() {
        assert_eq!(get("a=1&a=2", "a").as_deref(), Some("1"));
        assert_eq!(get("a=%zz&a=2", "a").as_deref(), Some("2"));
        assert_eq!(get("a=%2&b=%ff&c;d=1&e", "e").as_deref(), Some(""));
        assert_eq!(get("a=%2", "a"), None);
        assert_eq!(get("a=%ff", "a"), None);
        assert_eq!(get("c;d=1", "c;d"), None);
        assert_eq!(get("", ""), None);
    }
}
