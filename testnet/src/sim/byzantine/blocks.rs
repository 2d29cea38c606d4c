//! Other blocks than the right ones: without transactions, or wrong in one place.

use super::{Delivery, Liar, Strategy};
use crate::sim::application::BAD;
use bytes::Bytes;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tendermint::{AppHash, Hash};
use tercet_consensus::block::{Block, SealedBlock};
use tercet_consensus::message::Message;

/// How many ways there are to spoil a block.
const CASES: u64 = 17;

impl Liar<'_> {
    /// Replaces its own blocks, and proposes those.
    pub(super) fn swap_blocks(&mut self, strategy: Strategy, all: Vec<Delivery>) -> Vec<Delivery> {
        match all.first().and_then(Delivery::message) {
            Some(Message::Block(block)) if block.header().proposer_address == self.address() => {
                let block = Arc::clone(block);
                let other = self.other(strategy, &block);
                self.replace(all, other.map(Message::Block))
            }
            Some(Message::PrePrepare(message)) if self.is_own_proposal(message) => {
                let swapped = self.world.byzantine.get(&self.seat).map(|memory| &memory.swapped);
                let other = swapped.and_then(|all| all.get(&message.block_id())).cloned();
                let other = other.and_then(|other| self.propose_instead(message, &other));
                self.replace(all, other)
            }
            _ => all,
        }
    }

    /// The other block that stands for this one.
    fn other(&mut self, strategy: Strategy, block: &Arc<SealedBlock>) -> Option<Arc<SealedBlock>> {
        if let Some(other) = self.memory().swapped.get(&block.id()) {
            return Some(Arc::clone(other));
        }
        let height = block.header().height;
        // Who censors does so always.
        let now = strategy == Strategy::Censor || self.world.rng.percent(60);
        if Some(height) != self.height() || !now {
            return None;
        }
        let mut other = block.block().clone();
        match strategy {
            Strategy::Censor if other.txs.is_empty() => return None,
            Strategy::Censor => other.txs.clear(),
            _ => {
                let case = self.world.rng.below(CASES);
                spoil(&mut other, case);
            }
        }
        self.met(strategy);
        let other = Arc::new(SealedBlock::seal(other));
        self.memory().swapped.insert(block.id(), Arc::clone(&other));
        Some(other)
    }

    /// The same deliveries of another message.
    pub(super) fn replace(&mut self, all: Vec<Delivery>, other: Option<Message>) -> Vec<Delivery> {
        let Some(other) = other else { return all };
        let sent = self.wrap(other);
        all.into_iter().map(|delivery| Delivery { sent: Rc::clone(&sent), ..delivery }).collect()
    }
}

/// Makes one part of a block wrong.
fn spoil(block: &mut Block, case: u64) {
    let wrong = Hash::Sha256([7; 32]);
    let header = &mut block.header;
    match case {
        0 => header.version.app += 1,
        1 => header.version.block += 1,
        2 => header.chain_id = "another".try_into().unwrap_or(header.chain_id.clone()),
        3 => header.height = header.height.increment(),
        4 => header.time = (header.time + Duration::from_millis(1)).unwrap_or(header.time),
        5 => header.time = (header.time - Duration::from_millis(1)).unwrap_or(header.time),
        6 => header.time = (header.time + Duration::from_secs(3_600)).unwrap_or(header.time),
        7 => header.last_block_id = header.last_block_id.map(super::fuzz::other_digest),
        8 => header.validators_hash = wrong,
        9 => header.next_validators_hash = wrong,
        10 => header.consensus_hash = wrong,
        11 => header.app_hash = AppHash::try_from(vec![7; 32]).unwrap_or_default(),
        12 => header.last_results_hash = Some(wrong),
        13 => header.proposer_address = tendermint::account::Id::new([7; 20]),
        14 => block.txs.push(Bytes::from_static(BAD)),
        // A last commit with too little power, or none.
        15 => {
            if let Some(commit) = &mut block.last_commit {
                commit.signatures.iter_mut().skip(1).for_each(|entry| *entry = None);
            }
        }
        _ => block.txs.push(Bytes::from(vec![b'x'; 200_000])),
    }
}
