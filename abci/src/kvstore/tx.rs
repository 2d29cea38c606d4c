//! What a transaction says. Two forms: `key=value`, and `val=<kind>!<base64 of the key>!<power>`, which changes a validator; the kind is ed25519 or secp256k1.
//!
//! Clients may write `key:value` too. The primary puts it into its block as `key=value`, and in a block nothing else is valid.
//! Bytes, not text: everything but `=` and `:` may stand in keys and values.
//!
//! Stricter than CometBFT where CometBFT's kvstore stops its chain later on:
//! - `val:x` would stand in a block as the malformed validator change `val=x`, and each replica would reject the block;
//! - a validator change needs a key (a point of the curve) and a power that a validator set may have in total, or the
//!   node could not go on from the block;
//! - a block with `key:value` is rejected, and not found out about when it is to be committed.

use super::validators::{POWER_MAX, PublicKey};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use bytes::{Bytes, BytesMut};
use std::borrow::Cow;

/// How validator changes begin.
const VALIDATOR_PREFIX: &[u8] = b"val=";
/// A transaction that would begin so in a block.
const VALIDATOR_PREFIX_OTHER: &[u8] = b"val:";
/// Go's `base64.StdEncoding`, which does not look at the unused bits of the last character.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// A transaction in the form that it has in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tx {
    /// Sets a key; the `=` stands at this place, with at least a byte on each side.
    Pair {
        /// Where the `=` is.
        equals: usize,
    },
    /// Sets the power of a validator; 0 removes it.
    Validator {
        /// The validator.
        key: PublicKey,
        /// At most [`POWER_MAX`].
        power: u64,
    },
}

/// Why a transaction is refused (code 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// Neither one `=` nor one `:`, or it is the first or last byte.
    #[error("a transaction is key=value or key:value")]
    Pair,
    /// Begins with `val=` or `val:` and does not go on as it has to.
    #[error("a validator transaction is val=<ed25519 or secp256k1>!<base64 of the key>!<power>")]
    Validator,
}

/// Reads a transaction of a block.
pub(super) fn parse(tx: &[u8]) -> Result<Tx, Malformed> {
    if let Some(change) = tx.strip_prefix(VALIDATOR_PREFIX) {
        return validator(change).ok_or(Malformed::Validator);
    }
    match separator(tx) {
        Some((equals, b'=')) => Ok(Tx::Pair { equals }),
        _ => Err(Malformed::Pair),
    }
}

/// Whether a client's transaction can get into a block.
pub(super) fn check(tx: &[u8]) -> Result<(), Malformed> {
    if tx.starts_with(VALIDATOR_PREFIX_OTHER) {
        return Err(Malformed::Validator);
    }
    match separator(tx) {
        Some((_, b':')) => Ok(()),
        _ => parse(tx).map(|_| ()),
    }
}

/// A client's transaction as it stands in a block; none where it cannot get into one.
pub(super) fn block_form(tx: Bytes) -> Option<Bytes> {
    check(&tx).ok()?;
    let Some((colon, b':')) = separator(&tx) else { return Some(tx) };
    let mut changed = BytesMut::from(tx);
    if let Some(byte) = changed.get_mut(colon) {
        *byte = b'=';
    }
    Some(changed.freeze())
}

/// Key and value as the events tell them: what is left and right of the only `=`, or twice the whole transaction.
pub(super) fn event_parts(tx: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = tx.split(|byte| *byte == b'=');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(key), Some(value), None) => (key, value),
        _ => (tx, tx),
    }
}

/// The only `=` or `:`, and where it is; none where there are more, or it is the first or last byte.
fn separator(tx: &[u8]) -> Option<(usize, u8)> {
    let at = tx.iter().position(|byte| matches!(byte, b'=' | b':'))?;
    let (separator, value) = tx.get(at..)?.split_first()?;
    let only = !value.contains(&b'=') && !value.contains(&b':');
    (only && at > 0 && !value.is_empty()).then_some((at, *separator))
}

/// What follows `val=`. An empty kind of key is ed25519, as for CometBFT.
fn validator(change: &[u8]) -> Option<Tx> {
    let mut parts = change.split(|byte| *byte == b'!');
    let (kind, key, power) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let key = BASE64.decode(without_newlines(key)).ok()?;
    let key = match kind {
        b"" | b"ed25519" => PublicKey::ed25519(&key)?,
        b"secp256k1" => PublicKey::secp256k1(&key)?,
        _ => return None,
    };
    let power = std::str::from_utf8(power).ok()?.parse::<i64>().ok()?;
    let power = u64::try_from(power).ok().filter(|power| *power <= POWER_MAX)?;
    Some(Tx::Validator { key, power })
}

/// Go's decoder skips newlines wherever they are.
fn without_newlines(base64: &[u8]) -> Cow<'_, [u8]> {
    let newline = |byte: &u8| matches!(byte, b'\r' | b'\n');
    if base64.iter().any(newline) {
        base64.iter().copied().filter(|byte| !newline(byte)).collect()
    } else {
        Cow::Borrowed(base64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::validators::testing::{key, secp256k1};
    use super::*;
    use proptest::prelude::*;

    fn change(kind: &str, key: &[u8], power: &str) -> Vec<u8> {
        let key = base64::engine::general_purpose::STANDARD.encode(key);
        format!("val={kind}!{key}!{power}").into_bytes()
    }

    #[test]
    fn one_separator_between_two_other_bytes_is_a_pair() {
        assert_eq!(parse(b"a=b"), Ok(Tx::Pair { equals: 1 }));
        assert_eq!(parse(b"\xff\x00=\xfe!"), Ok(Tx::Pair { equals: 2 }));
        assert_eq!(parse(b"val"), Err(Malformed::Pair));
        for tx in ["a=b", "a:b", "name=satoshi", "val1=2", "vale:2", "a=val", "a:!"] {
            assert_eq!(check(tx.as_bytes()), Ok(()), "{tx}");
        }
        let wrong = [
            "", "a", "=", ":", "a=", "=a", "a:", ":a", "a==b", "a::b", "a=b=c", "a:b:c", "a=b:c",
            "a:b=c", "=a=", ":a:", "a=b:", ":a=b",
        ];
        for tx in wrong {
            assert_eq!(check(tx.as_bytes()), Err(Malformed::Pair), "{tx}");
        }
    }

    #[test]
    fn a_validator_change_has_a_kind_a_key_and_a_power() {
        let key = key(1);
        for kind in ["", "ed25519"] {
            for (power, expected) in [("10", 10), ("0", 0), ("-0", 0), ("+7", 7), ("007", 7)] {
                let tx = Tx::Validator { key, power: expected };
                assert_eq!(parse(&change(kind, key.as_bytes(), power)), Ok(tx), "{kind} {power}");
            }
        }
        let [key, _] = secp256k1();
        let tx = Tx::Validator { key, power: 10 };
        assert_eq!(parse(&change("secp256k1", key.as_bytes(), "10")), Ok(tx));
        let key = self::key(1);
        let most = POWER_MAX.to_string();
        let expected = Tx::Validator { key, power: POWER_MAX };
        assert_eq!(parse(&change("ed25519", key.as_bytes(), &most)), Ok(expected));
    }

    #[test]
    fn a_validator_change_that_the_chain_could_not_go_on_from_is_refused() {
        let (good, [one, _]) = (key(1), secp256k1());
        let too_much = (POWER_MAX + 1).to_string();
        let no_point =
            (0..=255).map(|byte| [byte; 32]).find(|key| PublicKey::ed25519(key).is_none());
        let text = String::from_utf8(change("ed25519", good.as_bytes(), "1")).unwrap();
        let wrong = [
            change("secp256k1", good.as_bytes(), "1"),
            change("secp256k1", &[5; 33], "1"),
            change("ed25519", one.as_bytes(), "1"),
            change("", one.as_bytes(), "1"),
            change("sr25519", good.as_bytes(), "1"),
            change("Ed25519", good.as_bytes(), "1"),
            change("ed25519", &[1; 31], "1"),
            change("ed25519", &[1; 33], "1"),
            change("ed25519", b"", "1"),
            change("ed25519", &no_point.unwrap(), "1"),
            change("ed25519", good.as_bytes(), "-1"),
            change("ed25519", good.as_bytes(), ""),
            change("ed25519", good.as_bytes(), "+"),
            change("ed25519", good.as_bytes(), "1_0"),
            change("ed25519", good.as_bytes(), " 1"),
            change("ed25519", good.as_bytes(), "1.0"),
            change("ed25519", good.as_bytes(), "9223372036854775808"),
            change("ed25519", good.as_bytes(), &too_much),
            format!("{text}!").into_bytes(),
            text.replacen("ed25519!", "", 1).into_bytes(),
            text.replace("val=", "val:").into_bytes(),
            text.replace("=!", "!").into_bytes(),
            b"val=".to_vec(),
            b"val=1".to_vec(),
            b"val=a=b".to_vec(),
            b"val=!!1".to_vec(),
            b"val=ed25519!*!1".to_vec(),
        ];
        for tx in wrong {
            assert!(check(&tx).is_err(), "{}", String::from_utf8_lossy(&tx));
            assert!(parse(&tx).is_err(), "{}", String::from_utf8_lossy(&tx));
        }
    }

    #[test]
    fn what_would_become_a_malformed_validator_change_is_refused() {
        for tx in ["val:1", "val:a", "val:secp256k1!AAAA!1"] {
            assert_eq!(check(tx.as_bytes()), Err(Malformed::Validator), "{tx}");
            assert_eq!(block_form(Bytes::from(tx)), None, "{tx}");
        }
    }

    #[test]
    fn the_base64_is_read_as_go_reads_it() {
        let key = key(1);
        let text = String::from_utf8(change("ed25519", key.as_bytes(), "5")).unwrap();
        let (head, tail) = text.split_at(20);
        let newlines = format!("{head}\r\n{tail}");
        assert_eq!(parse(newlines.as_bytes()), Ok(Tx::Validator { key, power: 5 }));

        // The last character before the padding has two unused bits: the next one of the alphabet is the same key.
        let mut unused_bit = text.into_bytes();
        let at = unused_bit.len() - 4;
        unused_bit[at] += 1;
        assert_eq!(parse(&unused_bit), Ok(Tx::Validator { key, power: 5 }));
    }

    #[test]
    fn a_colon_becomes_an_equals_sign_in_a_block() {
        assert_eq!(parse(b"a:b"), Err(Malformed::Pair));
        assert_eq!(block_form(Bytes::from("a:b")), Some(Bytes::from("a=b")));
        assert_eq!(block_form(Bytes::from("a=b")), Some(Bytes::from("a=b")));
        assert_eq!(block_form(Bytes::from("a:b=c")), None);
    }

    #[test]
    fn a_shared_transaction_is_not_changed_in_place() {
        let submitted = Bytes::from(b"a:b".to_vec());
        assert_eq!(block_form(submitted.clone()), Some(Bytes::from("a=b")));
        assert_eq!(submitted, "a:b");
    }

    #[test]
    fn events_tell_key_and_value_or_the_whole() {
        assert_eq!(event_parts(b"a=b"), (&b"a"[..], &b"b"[..]));
        assert_eq!(event_parts(b"ab"), (&b"ab"[..], &b"ab"[..]));
        assert_eq!(event_parts(b"a=b=c"), (&b"a=b=c"[..], &b"a=b=c"[..]));
    }

    proptest! {
        #[test]
        fn what_passes_the_check_is_valid_in_a_block(tx in "(val)?[a:=!]{0,8}|\\PC{0,12}") {
            let tx = Bytes::from(tx);
            match block_form(tx.clone()) {
                Some(form) => {
                    prop_assert!(parse(&form).is_ok());
                    prop_assert_eq!(block_form(form.clone()), Some(form));
                }
                None => prop_assert!(check(&tx).is_err() && parse(&tx).is_err()),
            }
        }

        #[test]
        fn a_pair_is_what_the_naive_rule_says(tx in "[a:=]{0,6}") {
            let count = |byte: char| tx.chars().filter(|c| *c == byte).count();
            let inner = |byte: char| !tx.starts_with(byte) && !tx.ends_with(byte);
            let naive = (count(':') == 1 && count('=') == 0 && inner(':'))
                || (count('=') == 1 && count(':') == 0 && inner('='));
            prop_assert_eq!(check(tx.as_bytes()).is_ok(), naive);
        }
    }
}
