//! Keys of postings, and what stands under them: all of one block together, as most blocks say the same of many transactions.

use super::Scope;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};

/// Bytes of a hash in a key: half a SHA-256.
const HASH_BYTES: usize = 16;
/// Bytes before a height: the scope and a hash.
pub(super) const PREFIX_BYTES: usize = 1 + HASH_BYTES;
/// Bytes of an index and the number of an event.
const SPOT_BYTES: usize = 8;
/// Bytes of the length of a value.
const LENGTH_BYTES: usize = 4;

/// Bytes before a value.
pub(super) const VALUE_HEAD_BYTES: usize = SPOT_BYTES + LENGTH_BYTES;

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
    pub(super) is: BTreeMap<Prefix, Vec<u8>>,
    /// Spots of a tag, each with its value.
    pub(super) has: BTreeMap<Prefix, Vec<u8>>,
    /// Prefixes of tags: a block has few.
    tags: HashMap<(Scope, String), Prefix>,
}

impl Postings {
    /// Adds an attribute. Those of one scope come in the order of their spots.
    pub(super) fn add(&mut self, scope: Scope, spot: Spot, (tag, value): (String, &str)) {
        let spots = self.is.entry(is_prefix(scope, &tag, value)).or_default();
        put_spot(spots, spot);
        let of_tag = self.tags.entry((scope, tag));
        let prefix = *of_tag.or_insert_with_key(|(scope, tag)| has_prefix(*scope, tag));
        let values = self.has.entry(prefix).or_default();
        put_spot(values, spot);
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        values.extend_from_slice(&length.to_be_bytes());
        values.extend_from_slice(value.as_bytes());
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

/// The spots of a tag with their values, in order; what cannot be read ends it.
pub(super) fn values(bytes: &[u8]) -> impl Iterator<Item = (Spot, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let spot = spot(rest)?;
        let length = rest.get(SPOT_BYTES..SPOT_BYTES + LENGTH_BYTES)?;
        let length = u32::from_be_bytes(length.try_into().ok()?);
        let from = SPOT_BYTES + LENGTH_BYTES;
        let to = from.checked_add(usize::try_from(length).ok()?)?;
        let value = rest.get(from..to)?;
        rest = rest.get(to..)?;
        Some((spot, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postings_come_out_as_they_went_in_and_anything_else_ends_them() {
        let mut postings = Postings::default();
        for (spot, value) in [((0, 1), "x"), ((0, 1), ""), ((7, 0), "x")] {
            postings.add(Scope::Txs, spot, ("a.b".to_owned(), value));
        }
        let is: Vec<Spot> = spots(&postings.is[&is_prefix(Scope::Txs, "a.b", "x")]).collect();
        assert_eq!(is, [(0, 1), (7, 0)]);
        let has = &postings.has[&has_prefix(Scope::Txs, "a.b")];
        let expected: [(Spot, &[u8]); 3] = [((0, 1), b"x"), ((0, 1), b""), ((7, 0), b"x")];
        assert_eq!(values(has).collect::<Vec<_>>(), expected);
        for cut in 0..has.len() {
            assert!(values(&has[..cut]).count() <= 3);
        }
        assert_eq!(values(&[0xff; 64]).count(), 0);
        assert_eq!(height_of(&key(&has_prefix(Scope::Blocks, "a.b"), 77)), Some(77));
        assert_eq!(height_of(&[1; 5]), None);
    }
}
