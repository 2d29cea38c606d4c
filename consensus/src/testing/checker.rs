//! The invariants of docs/protocol.md §11 that concern replicas: S1–S6, S9, S11, S12, and the lines of §8. They stand outside the
//! code that they check: they see what correct replicas persisted, released and decided, never what they think. Certificates that
//! count are those that *anyone could form*: from votes that correct replicas released and any votes of the faulty ones.

use crate::block::{BlockId, SealedBlock};
use crate::commit::Commit;
use crate::key::Address;
use crate::message::{Message, Phase, PrePrepare, SignedVote, ViewChangeMessage};
use crate::record::Record;
use crate::replica::{Kept, VOTE_VIEWS_MAX};
use crate::validators::Validators;
use crate::verify::{Context, SignatureCheck};
use crate::view::View;
use std::collections::BTreeMap;
use std::sync::Arc;
use tendermint::block::Height;

/// What one correct replica made durable, or let out, at one height.
#[derive(Debug, Default)]
struct Seen {
    votes: BTreeMap<(View, Phase), SignedVote>,
    proposals: BTreeMap<View, PrePrepare>,
    view_changes: BTreeMap<View, ViewChangeMessage>,
}

impl Seen {
    /// A PREPARE or COMMIT is durable, and so signed: in the order of the journal.
    fn add_vote(&mut self, vote: &SignedVote) {
        let at = (vote.message.view, vote.message.phase);
        check_order(self, at.0, "a vote");
        let first = self.votes.insert(at, vote.clone());
        assert_eq!(first, None, "S4/S11: {} voted twice at {at:?}", vote.message.validator);
    }

    fn highest_vote(&self) -> Option<View> {
        let votes = self.votes.keys().map(|(view, _)| *view);
        votes.chain(self.proposals.keys().copied()).max()
    }

    fn promise(&self) -> Option<View> {
        self.view_changes.keys().max().copied()
    }

    fn highest_commit(&self) -> Option<View> {
        let commits = self.votes.keys().filter(|(_, phase)| *phase == Phase::Commit);
        commits.map(|(view, _)| *view).max()
    }
}

/// What was seen of all correct replicas.
#[derive(Debug, Default)]
pub struct Checker {
    durable: BTreeMap<(Height, Address), Seen>,
    released: BTreeMap<(Height, Address), Seen>,
    /// The power of released votes, with that of the faulty.
    power: BTreeMap<(Height, View, Phase, BlockId), u64>,
    /// Blocks of prepare certificates.
    prepared: BTreeMap<(Height, View), BlockId>,
    /// Block and lowest view of commit certificates.
    committed: BTreeMap<Height, (BlockId, View)>,
    /// Who has decided which height.
    decided_by: BTreeMap<(Height, Address), View>,
    /// Rounds of the last commits in decided blocks.
    rounds: BTreeMap<Height, View>,
}

/// Who did something, and what it is checked against.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The replica.
    pub who: Address,
    /// What messages of the height are verified against.
    pub context: Context<'a>,
    /// The power of the faulty validators at that height.
    pub faulty: u64,
    /// How signatures are checked.
    pub check: &'a dyn SignatureCheck,
}

impl Checker {
    /// A record became durable. Records are in the order of signing, which that of sending need not be: after a crash what was signed
    /// before it is sent as peers ask for it.
    ///
    /// # Panics
    /// Where S2–S6 or S11 breaks.
    pub fn persisted(&mut self, scene: &Scene<'_>, record: &Record) {
        let key = (record.height(), scene.who);
        let signed = !matches!(record, Record::Decided { .. });
        assert!(
            !(signed && self.decided_by.contains_key(&key)),
            "S5: {} signed for the decided height {}: {record:?}",
            scene.who,
            record.height()
        );
        let durable = self.durable.entry(key).or_default();
        match record {
            Record::PrePrepare { message } => {
                check_order(durable, message.view(), "a proposal");
                let first = durable.proposals.insert(message.view(), message.clone());
                assert_eq!(first, None, "S4: {} proposed twice", scene.who);
            }
            Record::Prepare { vote, .. } => durable.add_vote(vote),
            Record::Commit { certificate, vote, .. } => {
                durable.add_vote(vote);
                let valid = scene.context.certificate(certificate, &scene.check);
                valid.expect("S6: the certificate of a COMMIT verifies");
                let (view, block_id) = (certificate.view, certificate.block_id);
                assert_eq!((vote.message.view, vote.message.block_id), (view, block_id), "S6");
                self.prepared(certificate.height, view, block_id);
            }
            Record::ViewChange { message, .. } => {
                let signed = &message.signed.message;
                assert!(durable.promise() < Some(signed.view), "S5: a promise fell");
                assert!(durable.highest_vote() < Some(signed.view), "S5: a promise below a vote");
                let claimed = signed.prepared.map(|claim| claim.view);
                assert!(
                    claimed >= durable.highest_commit(),
                    "a COMMIT was forgotten in a VIEW-CHANGE"
                );
                durable.view_changes.insert(signed.view, message.clone());
            }
            Record::Decided { .. } => {}
        }
    }

    fn prepared(&mut self, height: Height, view: View, block_id: BlockId) {
        let first = *self.prepared.entry((height, view)).or_insert(block_id);
        assert_eq!(first, block_id, "S2: two blocks prepared at height {height}, view {view}");
        if let Some((committed, at)) = self.committed.get(&height)
            && view > *at
        {
            assert_eq!(
                *committed, block_id,
                "S3: another block prepared at {height} above its commit"
            );
        }
    }

    fn committed(&mut self, height: Height, view: View, block_id: BlockId) {
        let entry = self.committed.entry(height).or_insert((block_id, view));
        assert_eq!(entry.0, block_id, "S1: two blocks committed at height {height}");
        entry.1 = entry.1.min(view);
        let lowest = entry.1;
        for ((_, at), prepared) in self.prepared.range((height, lowest)..=(height, View::MAX)) {
            assert!(
                *at == lowest || *prepared == block_id,
                "S3: another block prepared at {height}, {at}"
            );
        }
    }

    /// A replica let a message of its own out for the first time.
    ///
    /// # Panics
    /// Where S1–S6, S11 or a line of §8 breaks.
    pub fn released(&mut self, scene: &Scene<'_>, message: &Message) {
        let key = (scene.context.height, scene.who);
        let durable = self.durable.entry(key).or_default();
        let seen = self.released.entry(key).or_default();
        match message {
            Message::Vote(vote) => {
                let at = (vote.message.view, vote.message.phase);
                assert_eq!(durable.votes.get(&at), Some(vote), "§8: a vote that is not durable");
                let first = seen.votes.insert(at, vote.clone());
                assert_eq!(first, None, "S4/S11: {} voted twice at {at:?}", scene.who);
                self.add_power(scene, vote);
            }
            Message::PrePrepare(message) => {
                let view = message.view();
                assert_eq!(
                    durable.proposals.get(&view),
                    Some(message),
                    "§8: a proposal that is not durable"
                );
                let first = seen.proposals.insert(view, message.clone());
                assert_eq!(first, None, "S4: {} proposed twice in {view}", scene.who);
            }
            Message::ViewChange(message) => {
                let signed = &message.signed.message;
                let known = durable.view_changes.get(&signed.view);
                assert_eq!(known, Some(message), "§8: a VIEW-CHANGE that is not durable");
                seen.view_changes.insert(signed.view, message.clone());
            }
            Message::Block(_) | Message::Prior(_) => return,
        }
        assert!(
            !self.decided_by.contains_key(&key),
            "S5: {} signed for the decided height {}: {message:?}",
            scene.who,
            scene.context.height
        );
    }

    /// A replica let a message out: one of its own for the first time, the same again, or another's.
    ///
    /// # Panics
    /// Where an invariant breaks.
    pub fn sent(&mut self, scene: &Scene<'_>, message: &Message) {
        let seen = self.released.get(&(scene.context.height, scene.who));
        let (own, known) = match message {
            Message::Vote(vote) => {
                let at = (vote.message.view, vote.message.phase);
                let known = seen.and_then(|seen| seen.votes.get(&at));
                (vote.message.validator == scene.who, known == Some(vote))
            }
            Message::ViewChange(message) => {
                let view = message.signed.message.view;
                let known = seen.and_then(|seen| seen.view_changes.get(&view));
                (message.signed.message.validator == scene.who, known == Some(message))
            }
            Message::PrePrepare(message) => {
                let primary = scene.context.schedule.primary(message.height(), message.view());
                let primary = scene.context.validators.at(primary).map(|v| v.address);
                let known = seen.and_then(|seen| seen.proposals.get(&message.view()));
                (primary == Some(scene.who), known == Some(message))
            }
            Message::Block(_) | Message::Prior(_) => return,
        };
        if own && self.decided_by.contains_key(&(scene.context.height, scene.who)) {
            // Signed before the decision (see `persisted`), so it may be sent again, even if a crash kept it from being sent before.
            self.resent(scene, message);
        } else if own && !known {
            self.released(scene, message);
        }
    }

    /// A replica sent one of its own messages again: it must be the same.
    ///
    /// # Panics
    /// Where S4 breaks.
    pub fn resent(&self, scene: &Scene<'_>, message: &Message) {
        let Some(durable) = self.durable.get(&(scene.context.height, scene.who)) else { return };
        match message {
            Message::Vote(vote) if vote.message.validator == scene.who => {
                let known = durable.votes.get(&(vote.message.view, vote.message.phase));
                assert_eq!(known, Some(vote), "S4: a vote was signed again");
            }
            Message::ViewChange(message) if message.signed.message.validator == scene.who => {
                let known = durable.view_changes.get(&message.signed.message.view);
                assert_eq!(known, Some(message), "S4: a VIEW-CHANGE was signed again");
            }
            _ => {}
        }
    }

    fn add_power(&mut self, scene: &Scene<'_>, vote: &SignedVote) {
        let vote = &vote.message;
        let validators: &Validators = scene.context.validators;
        let key = (vote.height, vote.view, vote.phase, vote.block_id);
        let power = self.power.entry(key).or_insert(scene.faulty);
        *power += validators.power_at(vote.index);
        if validators.is_quorum(*power) {
            match vote.phase {
                Phase::Prepare => self.prepared(vote.height, vote.view, vote.block_id),
                Phase::Commit => self.committed(vote.height, vote.view, vote.block_id),
            }
        }
    }

    /// A replica decided.
    ///
    /// # Panics
    /// Where S1, S3 or S9 breaks.
    pub fn decided(&mut self, scene: &Scene<'_>, block: &Arc<SealedBlock>, commit: &Commit) {
        let height = commit.height;
        assert_eq!(block.id(), commit.block_id);
        commit.verify(&scene.context, &scene.check).expect("a decision's commit verifies");
        self.committed(height, commit.view, commit.block_id);
        self.decided_by.insert((height, scene.who), commit.view);
        let Some(last) = block.last_commit() else { return };
        assert!(last.view <= commit.view, "S9: the round fell at height {height}");
        self.rounds.insert(height, last.view);
        let before = Height::try_from(height.value() - 1).ok().and_then(|h| self.rounds.get(&h));
        assert!(before.is_none_or(|before| *before <= last.view), "S9: the round fell at {height}");
    }

    /// S12 after a step: what a replica keeps is bounded by the number of validators alone.
    ///
    /// # Panics
    /// Where it is not.
    pub fn bounded(&self, kept: &Kept, validators: usize) {
        let votes = 2 * validators * VOTE_VIEWS_MAX;
        assert!(kept.votes <= votes, "S12: {} votes", kept.votes);
        assert!(kept.pre_prepares <= 21, "S12: {} pre-prepares", kept.pre_prepares);
        assert!(kept.blocks <= 64, "S12: {} blocks", kept.blocks);
        assert!(kept.view_changes <= 2 * validators, "S12: {} view changes", kept.view_changes);
        assert!(kept.early <= 21 + 25 + 3 * validators, "S12: {} early messages", kept.early);
    }

    /// How many heights were committed.
    #[must_use]
    pub fn heights(&self) -> usize {
        self.committed.len()
    }
}

/// S5: the views of what a replica signs at a height never fall, and nothing lies below its promise.
fn check_order(seen: &Seen, view: View, what: &str) {
    assert!(seen.highest_vote() <= Some(view), "S5: the view of {what} fell");
    assert!(seen.promise() <= Some(view), "S5: {what} below the promise");
}
