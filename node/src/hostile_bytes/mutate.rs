//! How valid bytes are damaged. The same seed gives the same bytes on every machine.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// The longest random input.
const RANDOM_BYTES_MAX: usize = 512;
/// The most kinds of damage done to one input.
const DAMAGES_MAX: usize = 4;
/// The longest input after damage, as a multiple of what it was, and beyond.
const GROWN_BYTES_MAX: usize = 64 * 1024;

/// Varints at the edges: of one to ten bytes, of 31, 32, 63 and 64 bits, negative as protobuf writes it, and overlong.
const VARINTS: [&[u8]; 10] = [
    &[0x00],
    &[0x7f],
    &[0x80, 0x01],
    &[0xff, 0xff, 0xff, 0xff, 0x07],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0x80, 0x80, 0x80, 0x80, 0x10],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0x80, 0x80, 0x00],
];
/// Words that texts are made of.
const WORDS: [&str; 14] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\u0000",
    "null",
    "-1",
    "1e999",
    "9223372036854775808",
    "%",
    "=",
    "\u{fffd}",
    "true",
];

/// Makes bytes from a seed.
pub struct Mutator(StdRng);

impl Mutator {
    /// The one of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Mutator {
        Mutator(StdRng::seed_from_u64(seed))
    }

    /// Random bytes.
    pub fn random(&mut self) -> Vec<u8> {
        let length = self.below(RANDOM_BYTES_MAX + 1);
        (0..length).map(|_| self.0.random()).collect()
    }

    /// One of the valid ones, damaged in up to `DAMAGES_MAX` ways.
    pub fn damaged(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.pick(corpus);
        for _ in 0..=self.below(DAMAGES_MAX) {
            self.damage(&mut bytes, corpus);
        }
        bytes
    }

    fn damage(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let (at, length) = (self.below(bytes.len() + 1), self.length());
        let end = (at + length).min(bytes.len());
        match self.below(10) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let copy = bytes.get(at..end).unwrap_or_default().to_vec();
                insert(bytes, at, &copy);
            }
            3 => {
                let random: Vec<u8> = (0..length).map(|_| self.0.random()).collect();
                insert(bytes, at, &random);
            }
            4 => {
                // A part of another valid one.
                let other = self.pick(corpus);
                let from = self.below(other.len() + 1);
                let upto = (from + length).min(other.len());
                insert(bytes, at, other.get(from..upto).unwrap_or_default());
            }
            5 => {
                // What stands here becomes a varint at an edge: a value, a tag, or a length that lies.
                let varint = VARINTS[self.below(VARINTS.len())];
                let over = self.below(3);
                bytes.splice(at..(at + over).min(bytes.len()), varint.iter().copied());
            }
            6 => {
                let word = WORDS[self.below(WORDS.len())];
                insert(bytes, at, word.as_bytes());
            }
            7 => {
                // The same element many times.
                let element = bytes.get(at..end).unwrap_or_default().to_vec();
                let times = self.below(1_000);
                insert(bytes, at, &element.repeat(times));
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.0.random_range(0..8);
                }
            }
        }
        bytes.truncate(GROWN_BYTES_MAX);
    }

    fn pick(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        match corpus.len() {
            0 => Vec::new(),
            count => corpus[self.below(count)].clone(),
        }
    }

    /// A length that is mostly short.
    fn length(&mut self) -> usize {
        let most = [2, 8, 64, 512][self.below(4)];
        1 + self.below(most)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0.random_range(0..bound.max(1))
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, more: &[u8]) {
    bytes.splice(at..at, more.iter().copied());
}
