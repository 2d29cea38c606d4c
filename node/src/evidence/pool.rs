//! What is pending, and what waits for its height to be decided. Pure.

use super::piece::{Key, Piece, What};
use std::collections::BTreeMap;
use std::sync::Arc;
use tendermint::block::Height;
use tercet_consensus::key::Address;
use tercet_consensus::message::{Phase, SignedVote};

/// The most pieces that are pending.
pub const PENDING_MAX: usize = 1_000;
/// The most bytes of pieces that are pending.
pub const PENDING_BYTES_MAX: usize = 4 << 20;
/// The most of them that attacks on light clients may take: each may be large, and votes must find room beside them.
pub const ATTACK_BYTES_MAX: usize = 3 << 20;
/// The most pieces about one validator's votes: one who signs twice in ever more views crowds out nobody else's offences.
pub const PENDING_OF_ONE_MAX: usize = 64;
/// The most pairs of votes that wait for their height to be decided.
pub const UNDECIDED_MAX: usize = 1_024;
/// The most of them of one validator.
pub const UNDECIDED_OF_ONE_MAX: usize = 16;

/// Two votes of one validator.
pub type Pair = (SignedVote, SignedVote);

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is pending now.
    New,
    /// One about the same offence was.
    Known,
    /// There is no room.
    Full,
}

/// Pending evidence, by offence; the oldest height first.
#[derive(Debug, Default)]
pub struct Pool {
    pending: BTreeMap<Key, Arc<Piece>>,
    bytes: usize,
    attack_bytes: usize,
    of_one: BTreeMap<Address, usize>,
    undecided: BTreeMap<Key, Pair>,
}

impl Pool {
    /// Whether nothing is here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.undecided.is_empty()
    }

    /// Keeps two votes until their height is decided; of one offence the first two. False where there is no room.
    pub fn wait(&mut self, pair: Pair) -> bool {
        let key = key(&pair.0);
        if self.undecided.contains_key(&key) {
            return true;
        }
        let validator = pair.0.message.validator;
        let of_one = self.undecided.keys().filter(|key| key.validator() == Some(validator));
        if self.undecided.len() >= UNDECIDED_MAX || of_one.count() >= UNDECIDED_OF_ONE_MAX {
            return false;
        }
        self.undecided.insert(key, pair);
        true
    }

    /// Takes out the votes of the heights up to `height`.
    pub fn take_decided(&mut self, height: Height) -> Vec<Pair> {
        let mut decided = Vec::new();
        while let Some(first) = self.undecided.first_entry() {
            if first.key().height > height.value() {
                break;
            }
            decided.push(first.remove());
        }
        decided
    }

    /// Whether the offence is pending.
    #[must_use]
    pub fn has(&self, key: &Key) -> bool {
        self.pending.contains_key(key)
    }

    /// What would become of the piece.
    #[must_use]
    pub fn would_add(&self, piece: &Piece) -> Added {
        let key = piece.key();
        if self.has(&key) {
            return Added::Known;
        }
        let size = piece.size_bytes();
        let of_one = key.validator().and_then(|validator| self.of_one.get(&validator));
        let full = self.pending.len() >= PENDING_MAX
            || self.bytes.saturating_add(size) > PENDING_BYTES_MAX
            || (piece.is_attack() && self.attack_bytes.saturating_add(size) > ATTACK_BYTES_MAX)
            || of_one.is_some_and(|count| *count >= PENDING_OF_ONE_MAX);
        if full { Added::Full } else { Added::New }
    }

    /// Adds a verified piece, where there is room.
    pub fn add(&mut self, piece: Piece) -> Added {
        let added = self.would_add(&piece);
        if added == Added::New {
            let (key, size) = (piece.key(), piece.size_bytes());
            self.bytes += size;
            if piece.is_attack() {
                self.attack_bytes += size;
            }
            if let Some(validator) = key.validator() {
                *self.of_one.entry(validator).or_default() += 1;
            }
            self.pending.insert(key, Arc::new(piece));
        }
        added
    }

    /// Forgets an offence.
    pub fn remove(&mut self, key: &Key) {
        let Some(piece) = self.pending.remove(key) else { return };
        self.bytes = self.bytes.saturating_sub(piece.size_bytes());
        if piece.is_attack() {
            self.attack_bytes = self.attack_bytes.saturating_sub(piece.size_bytes());
        }
        if let Some(validator) = key.validator()
            && let Some(count) = self.of_one.get_mut(&validator)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_one.remove(&validator);
            }
        }
    }

    /// All that is pending, the oldest height first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Piece>> {
        self.pending.values().cloned().collect()
    }
}

/// The offence that a vote is half of.
fn key(vote: &SignedVote) -> Key {
    let message = &vote.message;
    let kind = if message.phase == Phase::Prepare { 1 } else { 2 };
    let (view, validator) = (message.view.number(), message.validator);
    Key { height: message.height.value(), what: What::Votes { view, kind, validator } }
}
