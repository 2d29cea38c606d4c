//! Keys of postings, and what stands under them: all of one block together, as most blocks say the same of many transactions.

use super::{RESERVED, Scope};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::ops::Range;

/// Bytes of a hash in a key: half a SHA-256.
const HASH_BYTES: usize = 16;
/// Bytes before a height: the scope and a hash.
pub(super) const PREFIX_BYTES: usize = 1 + HASH_BYTES;
/// Bytes of an index and the number of an event.
const SPOT_BYTES: usize = 8;
/// Bytes of the length of a value.
const LENGTH_BYTES: usize = 4;

/// Bytes before a value.
const VALUE_HEAD_BYTES: usize = SPOT_BYTES + LENGTH_BYTES;

/// What keys begin with.
pub(super) type Prefix = [u8; PREFIX_BYTES];

/// An index in a block, and the number of an event.
pub(super) type Spot = (u32, u32);

/// Where an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) height: u64,
    pub(super) spot: Spot,
}

/// What the keys of a tag with a value begin with.
pub(super) fn is_prefix(scope: Scope, tag: &str, value: &str) -> Prefix {
    let length = u64::try_from(tag.len()).unwrap_or(u64::MAX).to_be_bytes();
    prefix(scope, &[&length, tag.as_bytes(), value.as_bytes()])
}

/// What the keys of a tag begin with.
pub(super) fn has_prefix(scope: Scope, tag: &str) -> Prefix {
    prefix(scope, &[tag.as_bytes()])
}

fn prefix(scope: Scope, parts: &[&[u8]]) -> Prefix {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    let hash = hash.finalize();
    let mut key = [scope.byte(); PREFIX_BYTES];
    key.iter_mut().skip(1).zip(hash).for_each(|(to, from)| *to = from);
    key
}

/// The key of a block's postings.
pub(super) fn key(prefix: &Prefix, height: u64) -> Vec<u8> {
    [&prefix[..], &height.to_be_bytes()].concat()
}

/// The height in a key.
pub(super) fn height_of(key: &[u8]) -> Option<u64> {
    let bytes = key.get(PREFIX_BYTES..)?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// The postings of one block, by what their keys begin with.
#[derive(Default)]
pub(super) struct Postings {
    /// Spots of a value.
    pub(super) is: HashMap<Prefix, Vec<u8>>,
    /// Spots of a tag, each with its value.
    pub(super) has: HashMap<Prefix, Vec<u8>>,
    tags: Vec<Tag>,
    numbers: HashMap<(Scope, String), usize>,
    /// The tag of the last attribute.
    last: usize,
}

/// A tag.
struct Tag {
    scope: Scope,
    name: String,
    /// What its keys begin with; none where it is reserved.
    prefix: Option<Prefix>,
    /// The last value with its prefix: most transactions say the same.
    value: Option<(String, Prefix)>,
    /// The tag that came after it: transactions say much the same in one order.
    next: usize,
}

impl Tag {
    fn new(scope: Scope, (kind, key): (&str, &str)) -> Tag {
        let name = format!("{kind}.{key}");
        let prefix = (!RESERVED.contains(&name.as_str())).then(|| has_prefix(scope, &name));
        Tag { scope, name, prefix, value: None, next: 0 }
    }

    fn is(&self, scope: Scope, (kind, key): (&str, &str)) -> bool {
        let rest = self.name.strip_prefix(kind).and_then(|rest| rest.strip_prefix('.'));
        self.scope == scope && rest == Some(key)
    }

    /// What the keys of a value begin with.
    fn prefix_of(&mut self, value: &str) -> Prefix {
        if let Some((last, prefix)) = &self.value
            && last == value
        {
            return *prefix;
        }
        let prefix = is_prefix(self.scope, &self.name, value);
        match &mut self.value {
            Some((last, of_last)) => {
                value.clone_into(last);
                *of_last = prefix;
            }
            none => *none = Some((value.to_owned(), prefix)),
        }
        prefix
    }
}

impl Postings {
    /// Adds an attribute: type of its event, key, value. Those of one scope come in the order of their spots.
    pub(super) fn add(&mut self, scope: Scope, spot: Spot, (kind, key, value): (&str, &str, &str)) {
        let Some(tag) = self.tag(scope, (kind, key)) else { return };
        let Some(of_tag) = tag.prefix else { return };
        let of_value = tag.prefix_of(value);
        put_spot(self.is.entry(of_value).or_default(), spot);
        let values = self.has.entry(of_tag).or_default();
        put_spot(values, spot);
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        values.extend_from_slice(&length.to_be_bytes());
        values.extend_from_slice(value.as_bytes());
    }

    /// The tag with this type of event and key.
    fn tag(&mut self, scope: Scope, name: (&str, &str)) -> Option<&mut Tag> {
        let next = self.tags.get(self.last).map_or(0, |last| last.next);
        if !self.tags.get(next).is_some_and(|tag| tag.is(scope, name)) {
            let found = self.number(scope, name);
            if let Some(last) = self.tags.get_mut(self.last) {
                last.next = found;
            }
            self.last = found;
        } else {
            self.last = next;
        }
        self.tags.get_mut(self.last)
    }

    fn number(&mut self, scope: Scope, (kind, key): (&str, &str)) -> usize {
        let tags = &mut self.tags;
        *self.numbers.entry((scope, format!("{kind}.{key}"))).or_insert_with(|| {
            tags.push(Tag::new(scope, (kind, key)));
            tags.len() - 1
        })
    }
}

fn put_spot(out: &mut Vec<u8>, (index, event): Spot) {
    out.extend_from_slice(&index.to_be_bytes());
    out.extend_from_slice(&event.to_be_bytes());
}

fn spot(bytes: &[u8]) -> Option<Spot> {
    let number = |at: usize| {
        let bytes = bytes.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    Some((number(0)?, number(4)?))
}

/// The spots of a value, in order.
pub(super) fn spots(bytes: &[u8]) -> impl DoubleEndedIterator<Item = Spot> {
    bytes.chunks_exact(SPOT_BYTES).filter_map(spot)
}

/// The spots of a tag, in order, and where in `bytes` the value of each is; what cannot be read ends it.
pub(super) fn ranges(bytes: &[u8]) -> impl Iterator<Item = (Spot, Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let head = bytes.get(at..)?.get(..VALUE_HEAD_BYTES)?;
        let length = u32::from_be_bytes(head.get(SPOT_BYTES..)?.try_into().ok()?);
        let from = at.checked_add(VALUE_HEAD_BYTES)?;
        let to = from.checked_add(usize::try_from(length).ok()?).filter(|to| *to <= bytes.len())?;
        at = to;
        Some((spot(head)?, from..to))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event type may hold dots, and blocks and transactions may say the same.
    #[test]
    fn tags_are_told_apart_in_whatever_order_they_come() {
        let mut postings = Postings::default();
        let all = [
            (Scope::Blocks, "a", "b", "1"),
            (Scope::Txs, "a", "b.c", "1"),
            (Scope::Txs, "a.b", "c", "2"),
            (Scope::Txs, "a", "b", "2"),
            (Scope::Txs, "a.b", "c", "1"),
            (Scope::Txs, "a", "b.c", "1"),
            (Scope::Txs, "tx", "height", "1"),
        ];
        for (number, (scope, kind, key, value)) in (0u32..).zip(all) {
            postings.add(scope, (number, 0), (kind, key, value));
        }
        let is = |scope, tag, value| {
            let spots = postings.is.get(&is_prefix(scope, tag, value));
            spots.map_or_else(Vec::new, |found| spots_of(found))
        };
        assert_eq!(is(Scope::Blocks, "a.b", "1"), [0]);
        assert_eq!(is(Scope::Txs, "a.b.c", "1"), [1, 4, 5]);
        assert_eq!(is(Scope::Txs, "a.b.c", "2"), [2]);
        assert_eq!(is(Scope::Txs, "a.b", "2"), [3]);
        assert_eq!(
            (is(Scope::Txs, "a.b", "1"), is(Scope::Txs, "tx.height", "1")),
            (vec![], vec![])
        );
        assert_eq!((postings.is.len(), postings.has.len()), (4, 3));
    }

    fn spots_of(bytes: &[u8]) -> Vec<u32> {
        spots(bytes).map(|(index, _)| index).collect()
    }

    #[test]
    fn postings_come_out_as_they_went_in_and_anything_else_ends_them() {
        let mut postings = Postings::default();
        for (spot, value) in [((0, 1), "x"), ((0, 1), ""), ((7, 0), "x")] {
            postings.add(Scope::Txs, spot, ("a", "b", value));
        }
        let is: Vec<Spot> = spots(&postings.is[&is_prefix(Scope::Txs, "a.b", "x")]).collect();
        assert_eq!(is, [(0, 1), (7, 0)]);
        let has = &postings.has[&has_prefix(Scope::Txs, "a.b")];
        let expected: [(Spot, &[u8]); 3] = [((0, 1), b"x"), ((0, 1), b""), ((7, 0), b"x")];
        let values: Vec<_> = ranges(has).map(|(spot, at)| (spot, &has[at])).collect();
        assert_eq!(values, expected);
        for cut in 0..has.len() {
            assert!(ranges(&has[..cut]).count() < 3);
        }
        assert_eq!(ranges(&[0xff; 64]).count(), 0);
        assert_eq!(height_of(&key(&has_prefix(Scope::Blocks, "a.b"), 77)), Some(77));
        assert_eq!(height_of(&[1; 5]), None);
    }
}
