//! The invariants (docs/protocol.md "Invariants"), outside the code that they check. S1–S6, S9, S11, S12 are those of
//! `tercet_consensus::testing::checker`; S7 and S8 are here and in `application`, S10 in `light`, S13 is that nothing panics, and the
//! liveness of the world is judged by `liveness`.

use super::keys::{CHAIN_ID, Check, key};
use super::plan::Plan;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tendermint::block::Height;
use tercet_consensus::block::{BlockId, SealedBlock};
use tercet_consensus::commit::Commit;
use tercet_consensus::key::Address;
use tercet_consensus::message::{Message, SignedVote, Vote};
use tercet_consensus::record::Record;
use tercet_consensus::replica::Kept;
use tercet_consensus::schedule::Schedule;
use tercet_consensus::testing::checker::{Checker, Scene};
use tercet_consensus::validators::{Validator, Validators};
use tercet_consensus::verify::{Context, SignatureCheck as _};
use tercet_node::execution::{Applied, State};

/// What blocks led to. Execution is deterministic, so it is done once for all nodes; the state that a node was in before is compared.
#[derive(Debug, Default)]
pub(crate) struct Executed(BTreeMap<(u64, BlockId), Arc<Applied>>);

impl Executed {
    /// What `block` led to.
    pub(crate) fn of(
        &mut self,
        block: &SealedBlock,
        execute: impl FnOnce() -> Applied,
    ) -> Arc<Applied> {
        let key = (block.header().height.value(), block.id());
        Arc::clone(self.0.entry(key).or_insert_with(|| Arc::new(execute())))
    }
}

/// A validator set with its schedule and the power of the Byzantine in it.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    /// The set.
    pub(crate) validators: Arc<Validators>,
    /// Its schedule.
    pub(crate) schedule: Arc<Schedule>,
    faulty: u64,
}

/// Everything that is checked.
pub(crate) struct Checks {
    checker: Checker,
    sets: BTreeMap<u64, Set>,
    byzantine: Vec<Address>,
    term: u64,
    /// What was decided at each height, and in which view.
    pub(crate) decided: BTreeMap<u64, (BlockId, u32)>,
    /// The last height that each node has executed in this life and the ones before.
    executed: BTreeMap<usize, u64>,
    /// Transactions in decided blocks.
    txs: BTreeSet<Bytes>,
    /// How signatures are checked.
    pub(crate) check: Check,
}

impl Checks {
    /// At the start of a chain.
    pub(crate) fn new(plan: &Plan, genesis: &State) -> Checks {
        let keys = 0..plan.powers.len();
        let byzantine = keys.filter(|n| plan.is_byzantine_key(*n)).map(|n| key(n).address);
        let mut checks = Checks {
            checker: Checker::default(),
            sets: BTreeMap::new(),
            byzantine: byzantine.collect(),
            term: plan.term,
            decided: BTreeMap::new(),
            executed: BTreeMap::new(),
            txs: BTreeSet::new(),
            check: Check::new(plan.real_signatures),
        };
        checks.learn(1, &genesis.validators);
        checks.learn(2, &genesis.next_validators);
        checks
    }

    fn learn(&mut self, height: u64, validators: &Arc<Validators>) {
        if let Some(known) = self.sets.get(&height) {
            assert_eq!(known.validators.hash(), validators.hash(), "S7: two sets at {height}");
            return;
        }
        let same = self.sets.values().next_back();
        let same = same.filter(|set| set.validators.hash() == validators.hash()).cloned();
        let set = same.unwrap_or_else(|| {
            let faulty = |address| validators.index_of(address).map(|i| validators.power_at(i));
            Set {
                validators: Arc::clone(validators),
                schedule: Arc::new(Schedule::new(validators, self.term)),
                faulty: self.byzantine.iter().filter_map(faulty).sum(),
            }
        });
        self.sets.insert(height, set);
    }

    /// V(height), where anyone knows it.
    pub(crate) fn set(&self, height: u64) -> Option<&Set> {
        self.sets.get(&height)
    }

    fn with(&mut self, who: usize, height: Height, check: impl FnOnce(&mut Checker, &Scene<'_>)) {
        let set = self.sets.get(&height.value()).expect("V(h) of a height that somebody is at");
        let context = Context {
            chain_id: CHAIN_ID,
            height,
            validators: &set.validators,
            schedule: &set.schedule,
            extensions: None,
        };
        let who = key(who).address;
        let scene = Scene { who, context, faulty: set.faulty, check: &self.check };
        check(&mut self.checker, &scene);
    }

    /// A correct replica made a record durable.
    pub(crate) fn persisted(&mut self, who: usize, record: &Record) {
        self.with(who, record.height(), |checker, scene| checker.persisted(scene, record));
    }

    /// A correct replica let a message out.
    pub(crate) fn sent(&mut self, who: usize, message: &Message) {
        let height = match message {
            Message::Vote(vote) => vote.message.height,
            Message::ViewChange(message) => message.signed.message.height,
            Message::PrePrepare(message) => message.height(),
            Message::Block(_) | Message::Prior(_) => return,
        };
        self.with(who, height, |checker, scene| checker.sent(scene, message));
    }

    /// Two votes that a correct replica shows as an offence: of a Byzantine validator, both signed by it, for two blocks of one height, view
    /// and phase.
    pub(crate) fn accused(&self, first: &SignedVote, second: &SignedVote) {
        let (a, b) = (&first.message, &second.message);
        let place = |vote: &Vote| (vote.height, vote.view, vote.phase, vote.validator);
        assert_eq!(place(a), place(b), "evidence of votes that do not belong together");
        assert_ne!(a.block_id, b.block_id, "evidence of one vote");
        assert!(self.byzantine.contains(&a.validator), "evidence against the correct {a:?}, {b:?}");
        let set = self.set(a.height.value()).expect("V(h) of a height that somebody is at");
        let member = set.validators.list().iter().find(|member| member.address == a.validator);
        let key = &member.expect("evidence against a validator of the height").key;
        for vote in [first, second] {
            let bytes = tercet_consensus::sign_bytes::vote(CHAIN_ID, &vote.message);
            let good = self.check.check(key, &bytes, &vote.signature);
            assert!(good, "evidence of a vote that nobody signed: {vote:?}");
        }
    }

    /// S10, as far as it can be seen at once: what a commit proves, counted without the code that made it.
    fn tally(&self, commit: &Commit) {
        let set = self.set(commit.height.value()).expect("V(h) of a decided height");
        let signers: BTreeSet<Address> =
            commit.signatures.iter().flatten().map(|entry| entry.address).collect();
        let of = |members: &mut dyn Iterator<Item = &Validator>| -> u128 {
            members.map(|member| u128::from(member.power)).sum()
        };
        let list = set.validators.list();
        let signed = of(&mut list.iter().filter(|member| signers.contains(&member.address)));
        let all = of(&mut list.iter());
        let height = commit.height;
        assert!(3 * signed > 2 * all, "S10: the commit of {height} has {signed} of {all}");
    }

    /// A correct replica decided. True where it is the first.
    pub(crate) fn decided(
        &mut self,
        who: usize,
        block: &Arc<SealedBlock>,
        commit: &Commit,
    ) -> bool {
        self.tally(commit);
        self.with(who, commit.height, |checker, scene| checker.decided(scene, block, commit));
        let known = (commit.block_id, commit.view.number());
        let new = !self.decided.contains_key(&commit.height.value());
        if new {
            self.txs.extend(block.txs().iter().cloned());
        }
        let first = self.decided.entry(commit.height.value()).or_insert(known);
        assert_eq!(first.0, commit.block_id, "S1: two blocks at height {}", commit.height);
        new
    }

    /// A correct node executed a block.
    pub(crate) fn applied(&mut self, seat: usize, applied: &Applied) {
        let height = applied.height.value();
        let last = self.executed.insert(seat, height).unwrap_or(0);
        assert_eq!(last + 1, height, "S7: node {seat} executed {height} after {last}");
        self.learn(height + 1, &applied.state.validators);
        self.learn(height + 2, &applied.state.next_validators);
    }

    /// Whether a transaction is in a decided block.
    pub(crate) fn is_decided_tx(&self, tx: &Bytes) -> bool {
        self.txs.contains(tx)
    }

    /// How many transactions decided blocks hold.
    pub(crate) fn decided_txs(&self) -> usize {
        self.txs.len()
    }

    /// S12.
    pub(crate) fn bounded(&self, kept: &Kept, validators: usize) {
        self.checker.bounded(kept, validators);
    }

    /// The highest height that a correct replica has decided.
    pub(crate) fn tip(&self) -> u64 {
        self.decided.keys().next_back().copied().unwrap_or(0)
    }
}
