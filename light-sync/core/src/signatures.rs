//! Signatures in batches.
//!
//! Ed25519 follows ZIP-215, by which a batch and its single signatures always have the same verdict (other rules do not promise
//! it), and which is what CometBFT verifies by. The weights of a batch come from a hash over all that is in it (as Fiat and Shamir
//! do), so that no randomness is needed and nobody can choose signatures by the weights. Signatures of one key over many commits
//! share work, which is what makes the batch of a stable set fast. Where a batch fails it is halved, so that one bad commit costs a
//! few batches and not the gain of the others; a commit alone is checked signature by signature. secp256k1 has no batches.

use ed25519_zebra::VerificationKeyBytes;
use ed25519_zebra::batch::{Item, Verifier};
use rand_core::{TryCryptoRng, TryRng};
use sha2::{Digest as _, Sha256};
use std::convert::Infallible;
use std::ops::Range;
use tercet_consensus::key::{PublicKey, Signature};

/// A batch of fewer signatures than this is not faster than one by one.
const BATCH_MIN: usize = 4;

/// Signatures of several commits, to be verified together.
#[derive(Default)]
pub(crate) struct Batch {
    items: Vec<Item>,
    transcript: Sha256,
    /// A group for each commit: its part of `items`, and whether what was checked alone is good.
    groups: Vec<(Range<usize>, bool)>,
}

impl Batch {
    /// Starts the next group; what is added belongs to it.
    pub(crate) fn begin(&mut self) {
        let end = self.items.len();
        self.groups.push((end..end, true));
    }

    /// Adds the signature of `key` over `message` to the group that was begun last.
    pub(crate) fn add(&mut self, key: &PublicKey, message: &[u8], signature: &Signature) {
        let Some((range, good)) = self.groups.last_mut() else { return };
        match key {
            PublicKey::Ed25519(key) => {
                let key = VerificationKeyBytes::from(*key);
                let length = (message.len() as u64).to_le_bytes();
                self.transcript.update(<[u8; 32]>::from(key));
                self.transcript.update(signature.0);
                self.transcript.update(length);
                self.transcript.update(message);
                self.items.push((key, ed25519_zebra::Signature::from(signature.0), message).into());
                range.end = self.items.len();
            }
            PublicKey::Secp256k1(_) => *good &= key.verify(message, signature),
        }
    }

    /// Whether all signatures of each group are good, in the order in which they were begun.
    pub(crate) fn verify(self) -> Vec<bool> {
        let seed: [u8; 32] = self.transcript.finalize().into();
        let mut good: Vec<bool> = self.groups.iter().map(|(_, good)| *good).collect();
        let open: Vec<usize> = (0..good.len()).filter(|group| good[*group]).collect();
        let check = Check { items: &self.items, groups: &self.groups, seed };
        check.halve(&open, &mut good);
        good
    }
}

struct Check<'a> {
    items: &'a [Item],
    groups: &'a [(Range<usize>, bool)],
    seed: [u8; 32],
}

impl Check<'_> {
    /// Writes into `good` which of the groups `open` are.
    fn halve(&self, open: &[usize], good: &mut [bool]) {
        match open {
            [] => {}
            _ if self.together(open) => {}
            [alone] => good[*alone] = self.one_by_one(*alone),
            _ => {
                let (left, right) = open.split_at(open.len() / 2);
                self.halve(left, good);
                self.halve(right, good);
            }
        }
    }

    fn together(&self, groups: &[usize]) -> bool {
        let ranges = || groups.iter().map(|group| self.groups[*group].0.clone());
        let count: usize = ranges().map(|range| range.len()).sum();
        if count < BATCH_MIN {
            return groups.iter().all(|group| self.one_by_one(*group));
        }
        let mut batch = Verifier::new();
        ranges().for_each(|range| self.items[range].iter().for_each(|i| batch.queue(i.clone())));
        batch.verify(Weights::new(&self.seed, groups)).is_ok()
    }

    fn one_by_one(&self, group: usize) -> bool {
        self.items[self.groups[group].0.clone()].iter().all(|i| i.clone().verify_single().is_ok())
    }
}

/// The weights of a batch: SHA-256 in counter mode over what the batch consists of.
struct Weights {
    seed: [u8; 32],
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl Weights {
    fn new(seed: &[u8; 32], groups: &[usize]) -> Weights {
        let mut hash = Sha256::new_with_prefix(b"tercet/light/batch/1");
        hash.update(seed);
        groups.iter().for_each(|group| hash.update((*group as u64).to_le_bytes()));
        Weights { seed: hash.finalize().into(), counter: 0, block: [0; 32], used: 32 }
    }

    fn byte(&mut self) -> u8 {
        if self.used == self.block.len() {
            let hash = Sha256::new_with_prefix(self.seed).chain_update(self.counter.to_le_bytes());
            self.block = hash.finalize().into();
            self.counter += 1;
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }
}

impl TryRng for Weights {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(std::array::from_fn(|_| self.byte())))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(std::array::from_fn(|_| self.byte())))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        out.iter_mut().for_each(|byte| *byte = self.byte());
        Ok(())
    }
}

impl TryCryptoRng for Weights {}
