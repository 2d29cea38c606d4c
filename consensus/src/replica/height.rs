//! State at one height. Source: docs/protocol.md §4.

use super::HeightStart;
use super::blocks::{Blocks, Worth};
use super::candidates::Candidates;
use super::judged::Judged;
use super::signing::Asked;
use super::timers::{Running, Timer};
use super::view_changes::ViewChanges;
use super::votes::Votes;
use crate::block::{BlockId, SealedBlock};
use crate::commit::Commit;
use crate::key::Address;
use crate::message::{
    Certificate, Justification, Phase, PrePrepare, PreparedClaim, SignedVote, Verified,
    ViewChangeMessage,
};
use crate::record::Cause;
use crate::validators::ValidatorIndex;
use crate::view::View;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// `prepared`: view, block id and certificate; the block is among the blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prepared {
    pub(super) view: View,
    pub(super) block_id: BlockId,
    pub(super) certificate: Certificate,
}

/// `promise`: the highest v' for which I sent (or asked to sign) VIEW-CHANGE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Promise {
    pub(super) view: View,
    pub(super) cause: Cause,
}

/// What header and application say of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Asked,
    Accepted,
    Refused,
}

impl Verdict {
    pub(super) fn answer(accepted: bool) -> Verdict {
        if accepted { Verdict::Accepted } else { Verdict::Refused }
    }
}

/// A proposal that I asked to be signed, or signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnProposal {
    pub(super) view: View,
    pub(super) block_id: BlockId,
    pub(super) justification: Option<Justification>,
    pub(super) signed: bool,
}

/// The state at one height.
#[derive(Clone, Debug)]
pub(super) struct At {
    pub(super) start: HeightStart,
    /// My index in V(h), where I am a validator.
    pub(super) me: Option<ValidatorIndex>,
    /// It never falls at a height.
    pub(super) view: View,
    /// The NEW-VIEW that put me into my view, to explain it to others.
    pub(super) new_view: Option<Verified<PrePrepare>>,
    pub(super) promise: Option<Promise>,
    pub(super) prepared: Option<Prepared>,
    /// `sent_prepare`: the highest view in which PREPARE was asked for. Set when the signature is asked for; views never fall.
    pub(super) prepare_asked: Option<View>,
    /// `sent_commit`, likewise.
    pub(super) commit_asked: Option<View>,
    /// The last proposal of mine.
    pub(super) own_proposal: Option<OwnProposal>,
    /// The view for which a block was asked to be built.
    pub(super) build_asked: Option<View>,
    /// The block that was built for a view.
    pub(super) built: Option<(View, BlockId)>,
    /// View and block of the accepted pre-prepare.
    pub(super) accepted: Option<(View, BlockId)>,
    pub(super) candidates: Candidates,
    pub(super) blocks: Blocks,
    /// The blocks that a durable record of this height holds.
    pub(super) durable_blocks: BTreeSet<BlockId>,
    pub(super) verdicts: BTreeMap<BlockId, Verdict>,
    pub(super) prepares: Votes,
    pub(super) commits: Votes,
    /// COMMITs of this height whose extension the application was asked about: one a validator and view, whatever came of it.
    pub(super) asked_about: Votes,
    /// About whose COMMIT the application is being asked, with the COMMIT of theirs that is next.
    pub(super) asking: BTreeMap<ValidatorIndex, Option<Verified<SignedVote>>>,
    /// Whose late COMMIT of the height before it was asked about.
    pub(super) asked_about_late: BTreeSet<ValidatorIndex>,
    /// Commit(h−1) with a vote extension in every entry, of the highest round known; where h−1 has them.
    pub(super) extended: Option<Commit>,
    /// What the application says of its entries.
    pub(super) judged: Judged,
    pub(super) view_changes: ViewChanges,
    /// Who sent PREPARE, COMMIT or VIEW-CHANGE of this height, and their power.
    active: (BTreeSet<ValidatorIndex>, u64),
    /// What was asked to be signed and has not left.
    pub(super) asked: Asked,
    /// A COMMIT quorum whose block is missing: stops all signing.
    pub(super) commit_quorum: Option<(View, BlockId)>,
    /// Commit(h) once decided, late COMMITs included.
    pub(super) decision: Option<Commit>,
    /// Whose entries in it the application has not seen, because it came with DECIDED.
    pub(super) unseen: BTreeSet<ValidatorIndex>,
    /// A VIEW-CHANGE to carry over from the height before.
    pub(super) carried: Option<View>,
    /// The view whose primary the node suspects.
    pub(super) suspected: Option<View>,
    pub(super) work: bool,
    /// Late COMMITs have been waited for.
    pub(super) grace_over: bool,
    /// The timer that was shortened because the primary's process died.
    pub(super) short: Option<Timer>,
    /// Such a timer has fired: once a height.
    pub(super) hurried: bool,
    pub(super) timers: Running,
}

impl At {
    pub(super) fn new(mut start: HeightStart, me: Option<&Address>) -> At {
        if !start.prior_extensions {
            // Taken while it was open whether the height before has them.
            start.prior = start.prior.map(Commit::without_extensions);
        }
        let me = me.and_then(|me| start.validators.index_of(me));
        let view = start.prior.as_ref().map_or(View::ZERO, |prior| prior.view);
        let extended = start.prior.clone().filter(|p| start.prior_extensions && p.is_extended());
        At {
            me,
            view,
            start,
            new_view: None,
            promise: None,
            prepared: None,
            prepare_asked: None,
            commit_asked: None,
            own_proposal: None,
            build_asked: None,
            built: None,
            accepted: None,
            candidates: Candidates::default(),
            blocks: Blocks::default(),
            durable_blocks: BTreeSet::new(),
            verdicts: BTreeMap::new(),
            prepares: Votes::default(),
            commits: Votes::default(),
            asked_about: Votes::default(),
            asking: BTreeMap::new(),
            asked_about_late: BTreeSet::new(),
            extended,
            judged: Judged::default(),
            view_changes: ViewChanges::default(),
            active: (BTreeSet::new(), 0),
            asked: Asked::default(),
            commit_quorum: None,
            decision: None,
            unseen: BTreeSet::new(),
            carried: None,
            suspected: None,
            work: false,
            grace_over: false,
            short: None,
            hurried: false,
            timers: Running::default(),
        }
    }

    /// The round of the best known Commit(h−1); 0 at the initial height.
    pub(super) fn start_view(&self) -> View {
        self.start.prior.as_ref().map_or(View::ZERO, |prior| prior.view)
    }

    /// The greater of view and promise.
    pub(super) fn top(&self) -> View {
        self.promise.map_or(self.view, |promise| promise.view.max(self.view))
    }

    /// Whether I may sign PRE-PREPARE, PREPARE or COMMIT at `view`: it is my view, and not below my promise.
    pub(super) fn may_vote(&self, view: View) -> bool {
        view == self.view && self.promise.is_none_or(|promise| promise.view <= view)
    }

    pub(super) fn primary(&self, view: View) -> ValidatorIndex {
        self.start.schedule.primary(self.start.height, view)
    }

    pub(super) fn primary_address(&self, view: View) -> Address {
        let index = self.primary(view);
        self.address(index).expect("the schedule names members of its set")
    }

    pub(super) fn address(&self, index: ValidatorIndex) -> Option<Address> {
        self.start.validators.at(index).map(|validator| validator.address)
    }

    pub(super) fn am_primary(&self, view: View) -> bool {
        self.me == Some(self.primary(view))
    }

    /// *Start view*: a Commit(h−1) of a higher round raises my view. One of the same round adds votes that were missing, where
    /// no application has a say in them (see `additions`). False where it is for another block than the one I know: then more than f
    /// validators are faulty.
    #[must_use]
    pub(super) fn raise(&mut self, commit: &Commit) -> bool {
        let bare;
        let commit = if self.start.prior_extensions || !commit.has_extensions() {
            commit
        } else {
            bare = commit.clone().without_extensions();
            &bare
        };
        let Some(prior) = &self.start.prior else { return true };
        if commit.height != prior.height {
            return true;
        }
        if commit.block_id != prior.block_id {
            return false;
        }
        if self.start.prior_extensions && commit.is_extended() {
            self.raise_extended(commit);
        }
        let Some(prior) = &mut self.start.prior else { return true };
        if commit.view > prior.view && self.decision.is_none() {
            *prior = commit.clone();
            self.asked_about_late.clear();
            if commit.view > self.view {
                self.view = commit.view;
                self.new_view = None;
            }
        } else if commit.view == prior.view && !commit.has_extensions() {
            merge(prior, commit);
        }
        true
    }

    /// Takes a commit with extensions that is of a higher round. What one of the same round adds is no part of it before the application
    /// has accepted it.
    fn raise_extended(&mut self, commit: &Commit) {
        if self.extended.as_ref().is_none_or(|known| known.view < commit.view) {
            self.extended = Some(commit.clone());
            self.judged.forget();
        }
    }

    /// Whose COMMIT for the height before has arrived, by address.
    pub(super) fn prior_committers(&self) -> BTreeSet<Address> {
        let entries = self.start.prior.iter().flat_map(|prior| &prior.signatures);
        entries.flatten().map(|entry| entry.address).collect()
    }

    pub(super) fn quorum_asks_for(&self, view: View) -> bool {
        let validators = &self.start.validators;
        validators.is_quorum(self.view_changes.power_asking_for(view, validators))
    }

    /// Keeps a VIEW-CHANGE that is higher than what its sender sent before.
    pub(super) fn add_view_change(&mut self, message: Verified<ViewChangeMessage>) {
        self.note_active(message.signed.message.index);
        let mine = self.am_primary(self.view).then_some(self.view);
        self.view_changes.add(message, mine, &self.start.validators);
    }

    /// A validator sent PREPARE, COMMIT or VIEW-CHANGE of this height.
    pub(super) fn note_active(&mut self, index: ValidatorIndex) {
        let (senders, power) = &mut self.active;
        if senders.insert(index) {
            *power = power.saturating_add(self.start.validators.power_at(index));
        }
    }

    /// Whether a justified PRE-PREPARE is here, or PREPARE, COMMIT or VIEW-CHANGE of this height from blocking power. A NEW-VIEW was
    /// verified with its J, so it counts before its block is here.
    pub(super) fn others_are_active(&self) -> bool {
        self.start.validators.is_blocking(self.active.1)
            || self.candidates.of(self.view).any(|message| {
                message.justification.is_some() || self.is_justified(message) == Some(true)
            })
    }

    pub(super) fn votes(&self, phase: Phase) -> &Votes {
        match phase {
            Phase::Prepare => &self.prepares,
            Phase::Commit => &self.commits,
        }
    }

    pub(super) fn votes_mut(&mut self, phase: Phase) -> &mut Votes {
        match phase {
            Phase::Prepare => &mut self.prepares,
            Phase::Commit => &mut self.commits,
        }
    }

    /// Whether I, the primary of `view`, have proposed there: a proposal of that view can only be mine, even one that I forgot.
    pub(super) fn proposed(&self, view: View) -> bool {
        self.own_proposal.as_ref().is_some_and(|own| own.view >= view)
            || self.candidates.of(view).next().is_some()
    }

    /// J for `view`, of which I am primary.
    pub(super) fn choose_justification(&self, view: View) -> Option<Justification> {
        let is_here = |id: &BlockId| self.blocks.get(id).is_some();
        self.view_changes.justification(view, &self.start.validators, is_here)
    }

    /// The justified pre-prepare of `block_id` at `view`, whose block is here.
    pub(super) fn justified(&self, view: View, block_id: &BlockId) -> Option<&PrePrepare> {
        let mut messages = self.candidates.of(view).filter(|m| m.block_id() == *block_id);
        messages.find(|message| self.is_justified(message) == Some(true)).map(|message| &**message)
    }

    /// *Justified pre-prepare at (h,v)*, for my view; none while the block that decides it is missing.
    ///
    /// fresh: `block.last_commit.round == v` (or v = 0 at the initial height), and I have `prepared = none`.
    /// new view, free or bound: J was verified with the message. Both override a local lock; only *fresh* respects it.
    /// In every case `block.last_commit.round <= v`.
    /// The proposer in the header is the primary of the view where the block is fresh or free; a bound one keeps its own.
    pub(super) fn is_justified(&self, message: &PrePrepare) -> Option<bool> {
        let block = self.blocks.get(&message.block_id())?;
        let view = message.view();
        if block.last_commit().is_some() != self.start.prior.is_some() {
            return Some(false);
        }
        let last = block.last_commit().map_or(View::ZERO, |commit| commit.view);
        let own_proposer = block.header().proposer_address == self.primary_address(view);
        Some(match &message.justification {
            None => self.is_unlocked_for(message) && last == view && own_proposer,
            Some(Justification { certificate: None, .. }) => last <= view && own_proposer,
            Some(Justification { certificate: Some(_), .. }) => last <= view,
        })
    }

    /// Whether nothing is prepared here, or exactly what `message` proposes.
    fn is_unlocked_for(&self, message: &PrePrepare) -> bool {
        let same = |p: &Prepared| (p.view, p.block_id) == (message.view(), message.block_id());
        self.prepared.as_ref().is_none_or(same)
    }

    /// Whether a refused block is a reason to leave `view` at once. Once as many views have failed as there are validators the fault is
    /// hardly the primary's, and the timer decides, with its back-off (ADR 009).
    pub(super) fn refusals_count(&self, view: View) -> bool {
        let failed = view.number().saturating_sub(self.start_view().number());
        usize::try_from(failed).is_ok_and(|failed| failed < self.start.validators.count())
    }

    /// What my VIEW-CHANGE says that I have prepared.
    pub(super) fn claim(&self) -> Option<PreparedClaim> {
        self.prepared.as_ref().map(|p| PreparedClaim { view: p.view, block_id: p.block_id })
    }

    /// What a block of this height is good for.
    fn worth(&self, id: &BlockId) -> Worth {
        let needed = self.candidates.want(id, self.view)
            || self.prepared.as_ref().is_some_and(|prepared| prepared.block_id == *id)
            || self.own_proposal.as_ref().is_some_and(|own| own.block_id == *id)
            || self.commit_quorum.is_some_and(|(_, quorum)| quorum == *id)
            || self.decision.as_ref().is_some_and(|commit| commit.block_id == *id)
            || self.built.is_some_and(|(_, built)| built == *id)
            || self.view_changes.claims().any(|claim| claim.block_id == *id)
            || self.prepares.quorum(self.view, &self.start.validators) == Some(*id);
        match needed {
            true => Worth::Needed,
            false if self.durable_blocks.contains(id) => Worth::Kept,
            false => Worth::Unknown,
        }
    }

    pub(super) fn keep_block(&mut self, block: Arc<SealedBlock>) {
        let mut blocks = std::mem::take(&mut self.blocks);
        blocks.add(block, |id| self.worth(id));
        self.blocks = blocks;
    }

    /// The block, where no durable record of this height holds it yet; from now on one does.
    pub(super) fn block_to_persist(&mut self, id: &BlockId) -> Option<Arc<SealedBlock>> {
        let block = self.blocks.get(id)?.clone();
        self.durable_blocks.insert(*id).then_some(block)
    }

    /// *Carry-over*: the view to ask for on entering h+1, if I decide h in w after sending VIEW-CHANGE(h,>w) for any cause but carry-over
    /// (ADR 009) and having seen VIEW-CHANGE(h,>w), of whatever cause, from blocking power, myself included.
    pub(super) fn carry_over(&self) -> Option<View> {
        let w = self.decision.as_ref()?.view;
        let promise = self.promise.filter(|promise| promise.view > w)?;
        let counts = promise.cause != Cause::Carried;
        let blocking = self
            .start
            .validators
            .is_blocking(self.view_changes.power_asking_for(w.next(), &self.start.validators));
        (counts && blocking).then(|| w.next())
    }
}

/// Adds the entries that are missing.
fn merge(commit: &mut Commit, other: &Commit) {
    for (mine, theirs) in commit.signatures.iter_mut().zip(&other.signatures) {
        if mine.is_none() {
            mine.clone_from(theirs);
        }
    }
}
