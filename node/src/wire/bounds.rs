//! Bounds before allocation: walks protobuf bytes without building anything and counts what may repeat.

use prost::encoding::{WireType, decode_key, decode_varint};
use tercet_consensus::validators::VALIDATORS_MAX;
use tercet_consensus::verify::Reject;

/// The most counted fields in one frame, over all levels.
pub(super) const ELEMENTS_MAX: usize = 8 * VALIDATORS_MAX;

/// How often a field may stand in its message, and the rules inside it. A singular message has the limit 1, because protobuf merges
/// one that stands twice, and its lists with it.
#[derive(Debug)]
pub(super) struct Rule {
    tag: u32,
    max: usize,
    inside: &'static [Rule],
}

impl Rule {
    /// A message that stands once.
    pub(super) const fn one(tag: u32, inside: &'static [Rule]) -> Rule {
        Rule { tag, max: 1, inside }
    }

    /// A field that repeats.
    pub(super) const fn many(tag: u32, max: usize, inside: &'static [Rule]) -> Rule {
        Rule { tag, max, inside }
    }
}

/// Checks `bytes` against `rules`. The depth is that of the rules.
pub(super) fn check(bytes: &[u8], rules: &'static [Rule]) -> Result<(), Reject> {
    walk(bytes, rules, &mut 0)
}

fn walk(mut bytes: &[u8], rules: &'static [Rule], total: &mut usize) -> Result<(), Reject> {
    let mut counts = [0usize; RULES_MAX];
    while !bytes.is_empty() {
        let (tag, value) = field(&mut bytes)?;
        let found = rules.iter().zip(&mut counts).find(|(rule, _)| rule.tag == tag);
        let Some((rule, count)) = found else { continue };
        *count += 1;
        *total += 1;
        if *count > rule.max || *total > ELEMENTS_MAX {
            return Err(Reject::TooLarge);
        }
        if !rule.inside.is_empty() {
            walk(value, rule.inside, total)?;
        }
    }
    Ok(())
}

/// The most rules of one message.
const RULES_MAX: usize = 8;

/// The next field: its tag and, where it is length-delimited, its bytes.
fn field<'a>(bytes: &mut &'a [u8]) -> Result<(u32, &'a [u8]), Reject> {
    let malformed = Reject::Malformed("protobuf");
    let (tag, wire) = decode_key(bytes).map_err(|_| malformed)?;
    let length = match wire {
        WireType::Varint => {
            decode_varint(bytes).map_err(|_| malformed)?;
            0
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => decode_varint(bytes).map_err(|_| malformed)?,
        WireType::StartGroup | WireType::EndGroup => return Err(malformed),
    };
    let length = usize::try_from(length).map_err(|_| malformed)?;
    let (value, rest) = bytes.split_at_checked(length).ok_or(malformed)?;
    *bytes = rest;
    Ok((tag, if wire == WireType::LengthDelimited { value } else { &[] }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INNER: &[Rule] = &[Rule::many(1, 3, &[])];
    const OUTER: &[Rule] = &[Rule::one(2, INNER), Rule::many(3, ELEMENTS_MAX * 2, &[])];

    #[test]
    fn counts_at_every_level() {
        assert_eq!(check(&[0x12, 6, 0x0a, 0, 0x0a, 0, 0x0a, 0], OUTER), Ok(()));
        let four = [0x12, 8, 0x0a, 0, 0x0a, 0, 0x0a, 0, 0x0a, 0];
        assert_eq!(check(&four, OUTER), Err(Reject::TooLarge));
    }

    #[test]
    fn a_singular_message_that_stands_twice_is_refused() {
        assert_eq!(check(&[0x12, 0, 0x12, 0], OUTER), Err(Reject::TooLarge));
    }

    #[test]
    fn the_total_is_bounded() {
        let bytes = [0x1a, 0].repeat(ELEMENTS_MAX + 1);
        assert_eq!(check(bytes.get(2..).unwrap(), OUTER), Ok(()));
        assert_eq!(check(&bytes, OUTER), Err(Reject::TooLarge));
    }

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        let long = [0x12, 0xff, 0xff, 0xff, 0xff, 0x0f, 0];
        assert_eq!(check(&long, OUTER), Err(Reject::Malformed("protobuf")));
        assert_eq!(check(&[0x13], OUTER), Err(Reject::Malformed("protobuf")));
    }
}
