//! Decided blocks of peers, many at a time: a replica that is behind makes a batch of decisions durable with one sync, and does not wait
//! for the application between two of them.

use super::run::Engine;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tendermint::block::Height;
use tercet_consensus::message::{Decided, Verified};
use tercet_consensus::replica::Input;

/// The most blocks that wait.
const AHEAD_MAX: usize = 256;
/// The most blocks that are decided in one step.
const BATCH_MAX: usize = 32;

/// For so long after a start, and after blocks were taken, a replica asks often for what it lacks: what the others said while it was
/// behind was not meant for it, and the chain goes on meanwhile.
const FOLLOWING: Duration = Duration::from_secs(2);

/// Decided blocks that wait for their turn, by height.
#[derive(Debug)]
pub(super) struct Ahead {
    blocks: BTreeMap<Height, Verified<Decided>>,
    following_until: Instant,
}

impl Ahead {
    /// None yet.
    pub(super) fn new(now: Instant) -> Ahead {
        Ahead { blocks: BTreeMap::new(), following_until: now + FOLLOWING }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Whether it was behind a moment ago.
    pub(super) fn is_following(&self, now: Instant) -> bool {
        now < self.following_until
    }

    /// Whether the block of `height` is here.
    pub(super) fn has(&self, height: Height) -> bool {
        self.blocks.contains_key(&height)
    }

    /// The farthest goes where there are too many; it is fetched again.
    fn add(&mut self, decided: Verified<Decided>) {
        self.blocks.insert(decided.commit.height, decided);
        if self.blocks.len() > AHEAD_MAX {
            self.blocks.pop_last();
        }
    }
}

impl Engine {
    /// Takes decided blocks. From now on nothing is signed until they are used up.
    pub(super) fn take_decided(&mut self, batch: Vec<Verified<Decided>>, inputs: &mut Vec<Input>) {
        let height = self.height();
        for decided in batch.into_iter().filter(|decided| decided.commit.height >= height) {
            self.ahead.add(decided);
        }
        if !self.ahead.is_empty() {
            self.ahead.following_until = self.now.instant + FOLLOWING;
            self.hold.ingesting = true;
            self.hold_now(inputs);
        }
    }

    /// Decides the heights whose blocks are here, one after the other. The validators of the next height follow from a decided header
    /// that says they stay the same, because a quorum has checked it; otherwise the application is waited for.
    pub(super) fn ingest(&mut self, inputs: &mut Vec<Input>) {
        let mut height = self.height();
        self.ahead.blocks = self.ahead.blocks.split_off(&height);
        for _ in 0..BATCH_MAX {
            let Some(decided) = self.ahead.blocks.remove(&height) else { return };
            let next = height.increment();
            let stays = self.parts.sets.at(height).cloned().filter(|info| {
                decided.block.header().next_validators_hash == info.validators.hash()
            });
            if let Some(info) = stays {
                self.parts.sets.learn(next, &info.validators, info.block_bytes_max);
            }
            inputs.push(Input::Decided(decided));
            // While the journal is replayed, each height needs its records.
            if self.parts.core.is_restoring() {
                return;
            }
            let Some(start) = self.start_of(next) else { return };
            inputs.extend([Input::Timeout(self.parts.pace.timeout()), Input::Advance(start)]);
            height = next;
        }
    }
}
