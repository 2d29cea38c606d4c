//! Hashes of transactions seen lately, in two generations: the young one fills, becomes the old one, and the old one is forgotten.
//! Less to touch for each transaction than a list in the order of use, which is what counts at tens of thousands a second.

use super::pool::TxHash;
use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::mem;

/// A memory of at most so many hashes, and at least of the last half of them. It keeps eight bytes of each, under a key of this
/// process that nobody knows: of half a million, a new one is taken for a known one once in 10^13.
#[derive(Debug)]
pub(super) struct Seen {
    young: Marks,
    old: Marks,
    key: RandomState,
    /// The most hashes of one generation; 0 remembers none.
    generation_max: usize,
}

type Marks = HashSet<u64, BuildHasherDefault<AsIs>>;

/// A mark is a hash already.
#[derive(Debug, Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, mark: u64) {
        self.0 = mark;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("marks are whole numbers");
    }
}

impl Seen {
    /// An empty memory of at most `max` hashes; of 1 none is remembered for long, of 0 none.
    pub(super) fn new(max: usize) -> Seen {
        let generation_max = max.div_ceil(2);
        Seen {
            young: Marks::default(),
            old: Marks::default(),
            key: RandomState::new(),
            generation_max,
        }
    }

    /// Remembers a hash as seen now. Whether it was seen before.
    pub(super) fn put(&mut self, hash: &TxHash) -> bool {
        if self.generation_max == 0 {
            return false;
        }
        let mark = self.key.hash_one(hash);
        if !self.young.insert(mark) {
            return true;
        }
        let known = self.old.contains(&mark);
        if self.young.len() >= self.generation_max {
            self.old.clear();
            mem::swap(&mut self.young, &mut self.old);
        }
        known
    }

    /// Forgets a hash.
    pub(super) fn forget(&mut self, hash: &TxHash) {
        let mark = self.key.hash_one(hash);
        self.young.remove(&mark);
        self.old.remove(&mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u8) -> TxHash {
        [n; 32]
    }

    #[test]
    fn the_last_half_is_always_remembered_and_never_more_than_the_most() {
        let mut seen = Seen::new(10);
        for n in 0..100 {
            assert!(!seen.put(&hash(n)), "{n} is new");
            let known = (0..=n).filter(|m| {
                let mark = seen.key.hash_one(hash(*m));
                seen.young.contains(&mark) || seen.old.contains(&mark)
            });
            let known: Vec<u8> = known.collect();
            assert!(known.len() <= 10, "{known:?}");
            let last: Vec<u8> = (n.saturating_sub(4)..=n).collect();
            assert!(known.ends_with(&last), "{known:?} after {n}");
        }
    }

    #[test]
    fn what_is_seen_again_stays() {
        let mut seen = Seen::new(4);
        seen.put(&hash(0));
        for n in 1..50 {
            seen.put(&hash(n));
            assert!(seen.put(&hash(0)), "forgotten after {n}");
        }
        seen.forget(&hash(0));
        assert!(!seen.put(&hash(0)));
    }

    #[test]
    fn a_memory_of_none_remembers_none() {
        let mut seen = Seen::new(0);
        assert!(!seen.put(&hash(1)));
        assert!(!seen.put(&hash(1)));
    }
}
