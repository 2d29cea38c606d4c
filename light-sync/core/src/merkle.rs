//! Tendermint's Merkle tree (RFC 6962 with SHA-256) over the fields of a header.
//!
//! SHA-256 runs on whole blocks that are padded here, because almost all that is hashed is one or two blocks long and buffering
//! would cost as much as hashing. The function itself is `sha2`'s, with the processor's instructions where there are any.

use sha2::digest::generic_array::GenericArray;

/// The most bytes that go through the short way: two blocks without the padding.
const SHORT_BYTES_MAX: usize = 128 - 9;

const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// A message of at most two blocks that is being put together.
struct Short {
    bytes: [u8; 128],
    length: usize,
}

impl Short {
    fn new(prefix: u8) -> Short {
        let mut bytes = [0; 128];
        bytes[0] = prefix;
        Short { bytes, length: 1 }
    }

    fn put(&mut self, part: &[u8]) {
        let end = self.length + part.len();
        if let Some(room) = self.bytes.get_mut(self.length..end) {
            room.copy_from_slice(part);
        }
        self.length = end;
    }

    /// SHA-256; callers put at most [`SHORT_BYTES_MAX`] bytes.
    fn hash(mut self) -> [u8; 32] {
        debug_assert!(self.length <= SHORT_BYTES_MAX, "callers see to it");
        let bits = (self.length as u64) * 8;
        self.put(&[0x80]);
        let blocks = if self.length + 8 <= 64 { 1 } else { 2 };
        self.bytes[blocks * 64 - 8..blocks * 64].copy_from_slice(&bits.to_be_bytes());
        let (first, second) = self.bytes.split_at(64);
        let both = [GenericArray::clone_from_slice(first), GenericArray::clone_from_slice(second)];
        let mut state = INITIAL;
        sha2::compress256(&mut state, &both[..blocks]);
        let mut out = [0; 32];
        for (to, word) in out.chunks_exact_mut(4).zip(state) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        out
    }
}

/// The hash of a leaf that consists of these parts.
pub(crate) fn leaf(parts: [&[u8]; 2]) -> [u8; 32] {
    let [first, second] = parts;
    if first.len() + second.len() < SHORT_BYTES_MAX {
        let mut short = Short::new(0);
        short.put(first);
        short.put(second);
        return short.hash();
    }
    use sha2::Digest as _;
    sha2::Sha256::new().chain_update([0]).chain_update(first).chain_update(second).finalize().into()
}

/// The hash of an inner node.
pub(crate) fn inner(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut short = Short::new(1);
    short.put(left);
    short.put(right);
    short.hash()
}

/// The root over the hashes of 14 leaves, as many as a header has fields.
pub(crate) fn root(leaves: &[[u8; 32]; 14]) -> [u8; 32] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = leaves;
    let quarter = |a, b, c, d| inner(&inner(a, b), &inner(c, d));
    let left = inner(&quarter(a, b, c, d), &quarter(e, f, g, h));
    inner(&left, &inner(&quarter(i, j, k, l), &inner(m, n)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};

    #[test]
    fn leaves_of_every_length_have_the_hash_of_sha256() {
        let bytes: Vec<u8> = (0..=255).collect();
        for length in 0..256 {
            let (first, second) = bytes[..length].split_at(length / 3);
            let want: [u8; 32] =
                Sha256::new().chain_update([0]).chain_update(&bytes[..length]).finalize().into();
            assert_eq!(leaf([first, second]), want, "{length} bytes");
        }
    }

    #[test]
    fn the_root_is_that_of_the_tendermint_crate() {
        let fields: Vec<Vec<u8>> = (0..14u8).map(|n| vec![n; usize::from(n) * 3]).collect();
        let leaves: Vec<[u8; 32]> = fields.iter().map(|field| leaf([field, &[]])).collect();
        let want = tendermint::merkle::simple_hash_from_byte_vectors::<
            tendermint::crypto::default::Sha256,
        >(&fields);
        assert_eq!(root(&leaves.try_into().unwrap()), want);
    }
}
