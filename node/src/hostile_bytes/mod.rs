//! Everything that decodes bytes of others, as functions of bytes: random ones, valid ones with damage, and valid ones go in, and what
//! comes out must hold together. `tercet-testnet fuzz` runs the same for as long as one likes.
//!
//! - [`TARGETS`]: every decoder, what must hold of it, and valid bytes to begin with.
//! - [`mutate`]: how valid bytes are damaged, from a seed.

pub mod mutate;
mod targets;
#[cfg(test)]
mod tests;

pub use targets::TARGETS;

use mutate::Mutator;

/// One decoder.
pub struct Target {
    /// What it is called.
    pub name: &'static str,
    /// Decodes the bytes and checks what comes out of them.
    pub run: fn(&[u8]),
    /// Valid bytes.
    pub corpus: fn() -> Vec<Vec<u8>>,
    /// The most memory that it may take beyond a multiple of the input, in bytes; the multiple is [`HEAP_FACTOR`].
    pub heap_bytes_max: usize,
}

/// A decoder takes at most so many times the bytes that it is given, at its peak, beside a constant.
pub const HEAP_FACTOR: usize = 4;

/// Bytes of one seed for one target: a third random, the rest valid ones with damage.
#[must_use]
pub fn input(target: &Target, corpus: &[Vec<u8>], seed: u64) -> Vec<u8> {
    let salt = target
        .name
        .bytes()
        .fold(seed, |salt, byte| salt.wrapping_mul(0x0100_0000_01b3).wrapping_add(u64::from(byte)));
    let mut mutator = Mutator::new(salt);
    match seed % 3 {
        0 => mutator.random(),
        _ => mutator.damaged(corpus),
    }
}
