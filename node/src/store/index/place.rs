//! Keys of postings.

use super::Scope;
use sha2::{Digest as _, Sha256};

/// Bytes of a hash in a key: half a SHA-256.
const HASH_BYTES: usize = 16;
/// Bytes of a place.
pub(super) const PLACE_BYTES: usize = 16;
/// Bytes before a place: the scope and a hash.
pub(super) const PREFIX_BYTES: usize = 1 + HASH_BYTES;

/// An entry.
pub(super) enum Posting<'a> {
    /// In `is`.
    Is(Vec<u8>),
    /// In `has`, with the value.
    Has(Vec<u8>, &'a [u8]),
}

/// Height, index in the block, number of the event.
pub(super) type Place = [u8; PLACE_BYTES];

pub(super) fn place(height: u64, index: u32, event: u32) -> Place {
    let mut place = [0; PLACE_BYTES];
    let bytes = height.to_be_bytes().into_iter().chain(index.to_be_bytes());
    for (to, from) in place.iter_mut().zip(bytes.chain(event.to_be_bytes())) {
        *to = from;
    }
    place
}

/// Height and index of a place.
pub(super) fn parse_place(bytes: &[u8]) -> Option<(u64, u32)> {
    let height = u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
    let index = u32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
    Some((height, index))
}

/// The key of a transaction by its place.
pub(super) fn tx_place(height: u64, index: u32) -> Vec<u8> {
    [&height.to_be_bytes()[..], &index.to_be_bytes()].concat()
}

/// What the keys of a tag with a value begin with.
pub(super) fn is_prefix(scope: Scope, tag: &str, value: &str) -> Vec<u8> {
    let length = u64::try_from(tag.len()).unwrap_or(u64::MAX).to_be_bytes();
    prefix(scope, &[&length, tag.as_bytes(), value.as_bytes()])
}

/// What the keys of a tag begin with.
pub(super) fn has_prefix(scope: Scope, tag: &str) -> Vec<u8> {
    prefix(scope, &[tag.as_bytes()])
}

fn prefix(scope: Scope, parts: &[&[u8]]) -> Vec<u8> {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    let hash = hash.finalize();
    let mut key = Vec::with_capacity(PREFIX_BYTES + PLACE_BYTES + 4);
    key.push(scope.byte());
    key.extend(hash.iter().take(HASH_BYTES));
    key
}

pub(super) fn is_key(scope: Scope, tag: &str, value: &str, place: &Place) -> Vec<u8> {
    let mut key = is_prefix(scope, tag, value);
    key.extend_from_slice(place);
    key
}

pub(super) fn has_key(scope: Scope, tag: &str, place: &Place, attribute: u32) -> Vec<u8> {
    let mut key = has_prefix(scope, tag);
    key.extend_from_slice(place);
    key.extend_from_slice(&attribute.to_be_bytes());
    key
}
