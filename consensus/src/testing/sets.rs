//! The validator sets of a cluster, by height.

use super::checker::Scene;
use super::cluster::CHAIN_ID;
use super::liar::Liar;
use super::public;
use crate::commit::Commit;
use crate::key::{Address, PublicKey, Signature};
use crate::schedule::Schedule;
use crate::validators::Validators;
use crate::verify::{Context, SignatureCheck};
use sha2::{Digest as _, Sha256};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use tendermint::Time;
use tendermint::block::{Header, Height};

/// Heights between two planned rotations.
const TERM: u64 = 3;

/// A set and its schedule.
pub(super) type Set = (Arc<Validators>, Arc<Schedule>);

/// Every set with the height from which on it holds, ascending, and the signatures that were found good.
pub(super) struct Sets {
    sets: Vec<(Height, Set)>,
    /// The height from which on COMMITs carry vote extensions.
    extensions_from: Option<u32>,
    pub(super) check: Memory,
}

/// Remembers good signatures, as a node does: most are seen many times.
#[derive(Debug, Default)]
pub(super) struct Memory(RefCell<BTreeSet<[u8; 32]>>);

impl SignatureCheck for Memory {
    fn check(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        let hasher = Sha256::new().chain_update(key.to_bytes()).chain_update(signature.0);
        let id: [u8; 32] = hasher.chain_update(message).finalize().into();
        if self.0.borrow().contains(&id) {
            return true;
        }
        let good = key.verify(message, signature);
        if good {
            self.0.borrow_mut().insert(id);
        }
        good
    }
}

impl Sets {
    pub(super) fn new(powers: &[(u32, Vec<u64>)], extensions_from: Option<u32>) -> Sets {
        let set = |powers: &[u64]| -> Set {
            let members = (0u8..).zip(powers).filter(|(_, power)| **power > 0);
            let members = members.map(|(seat, power)| (public(seat), *power));
            let validators = Validators::new(members).expect("a set");
            let schedule = Schedule::new(&validators, TERM);
            (Arc::new(validators), Arc::new(schedule))
        };
        let sets = powers.iter().map(|(height, powers)| (Height::from(*height), set(powers)));
        Sets { sets: sets.collect(), extensions_from, check: Memory::default() }
    }

    /// V(height).
    pub(super) fn at(&self, height: Height) -> &Set {
        let from = |(from, _): &&(Height, Set)| *from <= height;
        &self.sets.iter().rev().find(from).or(self.sets.first()).expect("a set").1
    }

    /// What messages of `height` are verified against.
    pub(super) fn context(&self, height: Height) -> Context<'_> {
        let (validators, schedule) = self.at(height);
        let extensions = Some(self.extends(height.value()));
        Context { chain_id: CHAIN_ID, height, validators, schedule, extensions }
    }

    /// Whether COMMITs of this height carry vote extensions.
    pub(super) fn extends(&self, height: u64) -> bool {
        self.extensions_from.is_some_and(|from| height >= u64::from(from))
    }

    /// What the checker wants to know about something that `who` did at `height`.
    pub(super) fn scene(&self, who: Address, height: Height, liar: Option<&Liar>) -> Scene<'_> {
        let (validators, _) = self.at(height);
        let index = liar.and_then(|liar| validators.index_of(&public(liar.seat).address()));
        let faulty = index.map_or(0, |index| validators.power_at(index));
        Scene { who, context: self.context(height), faulty, check: &self.check }
    }
}

/// A header for tests: nothing but what the replica looks at is real.
///
/// # Panics
/// Never.
#[must_use]
pub fn header(
    height: Height,
    time: Time,
    proposer_address: Address,
    validators: &Validators,
    last_commit: Option<&Commit>,
) -> Header {
    Header {
        version: tendermint::block::header::Version { block: 11, app: 1 },
        chain_id: CHAIN_ID.try_into().expect("a chain id"),
        height,
        time,
        last_block_id: last_commit.map(|commit| commit.block_id),
        last_commit_hash: None,
        data_hash: None,
        validators_hash: validators.hash(),
        next_validators_hash: validators.hash(),
        consensus_hash: tendermint::Hash::Sha256([1; 32]),
        app_hash: tendermint::AppHash::default(),
        last_results_hash: None,
        evidence_hash: None,
        proposer_address,
    }
}
