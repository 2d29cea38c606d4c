//! State at one height. Source: PROTOCOL §4.

use super::blocks::Blocks;
use super::candidates::Candidates;
use super::timers::Running;
use super::votes::Votes;
use super::{Action, ByValidator, HeightStart};
use crate::block::{BlockId, SealedBlock};
use crate::commit::Commit;
use crate::key::Address;
use crate::message::{
    Certificate, Justification, PrePrepare, PreparedClaim, Signed, Verified, ViewChange,
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
    /// The highest VIEW-CHANGE of each sender, mine included.
    pub(super) view_changes: ByValidator<Verified<ViewChangeMessage>>,
    /// A COMMIT quorum whose block is missing: stops all signing.
    pub(super) commit_quorum: Option<(View, BlockId)>,
    /// Commit(h) once decided, late COMMITs included.
    pub(super) decision: Option<Commit>,
    /// A VIEW-CHANGE to carry over from the height before.
    pub(super) carried: Option<View>,
    /// The view whose primary the node suspects.
    pub(super) suspected: Option<View>,
    pub(super) work: bool,
    /// Late COMMITs have been waited for.
    pub(super) grace_over: bool,
    /// A timer was shortened because the primary's process died.
    pub(super) hurried: bool,
    pub(super) timers: Running,
}

impl At {
    pub(super) fn new(start: HeightStart, me: Option<&Address>) -> At {
        let me = me.and_then(|me| start.validators.index_of(me));
        let view = start.prior.as_ref().map_or(View::ZERO, |prior| prior.view);
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
            view_changes: BTreeMap::new(),
            commit_quorum: None,
            decision: None,
            carried: None,
            suspected: None,
            work: false,
            grace_over: false,
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

    /// *Start view*: a Commit(h−1) of a higher round raises my view. One of the same round adds votes that were missing.
    pub(super) fn raise(&mut self, commit: &Commit, out: &mut Vec<Action>) {
        let Some(prior) = &mut self.start.prior else { return };
        if commit.height != prior.height || self.decision.is_some() {
            return;
        }
        if commit.block_id != prior.block_id {
            out.push(Action::Alarm(format!("height {} has two commits", commit.height)));
            return;
        }
        if commit.view > prior.view {
            *prior = commit.clone();
            self.view = self.view.max(commit.view);
        } else if commit.view == prior.view {
            for (mine, theirs) in prior.signatures.iter_mut().zip(&commit.signatures) {
                if mine.is_none() {
                    mine.clone_from(theirs);
                }
            }
        }
    }

    /// Whose COMMIT for the height before has arrived, by address.
    pub(super) fn prior_committers(&self) -> BTreeSet<Address> {
        let entries = self.start.prior.iter().flat_map(|prior| &prior.signatures);
        entries.flatten().map(|entry| entry.address).collect()
    }

    /// The power of the senders whose highest VIEW-CHANGE is for `view` or later.
    pub(super) fn power_asking_for(&self, view: View) -> u64 {
        let senders = self.view_changes.iter();
        let asking = senders.filter(|(_, message)| message.signed.message.view >= view);
        self.start.validators.power_of(asking.map(|(index, _)| *index))
    }

    pub(super) fn quorum_asks_for(&self, view: View) -> bool {
        self.start.validators.is_quorum(self.power_asking_for(view))
    }

    /// The largest u for which blocking power has highest VIEW-CHANGE >= u.
    pub(super) fn blocking_view(&self) -> Option<View> {
        let mut by_view: Vec<(View, ValidatorIndex)> = self
            .view_changes
            .iter()
            .map(|(index, message)| (message.signed.message.view, *index))
            .collect();
        by_view.sort_unstable_by(|a, b| b.cmp(a));
        let mut power = 0;
        by_view.into_iter().find_map(|(view, index)| {
            power += self.start.validators.power_at(index);
            self.start.validators.is_blocking(power).then_some(view)
        })
    }

    /// Whether a justified PRE-PREPARE is here, or PREPARE, COMMIT or VIEW-CHANGE of this height from blocking power.
    pub(super) fn others_are_active(&self) -> bool {
        if self.candidates.of(self.view).any(|message| self.is_justified(message) == Some(true)) {
            return true;
        }
        let mut senders: BTreeSet<ValidatorIndex> = self.view_changes.keys().copied().collect();
        senders.extend(self.prepares.senders());
        senders.extend(self.commits.senders());
        self.start.validators.is_blocking(self.start.validators.power_of(senders))
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

    /// What my VIEW-CHANGE says that I have prepared.
    pub(super) fn claim(&self) -> Option<PreparedClaim> {
        self.prepared.as_ref().map(|p| PreparedClaim { view: p.view, block_id: p.block_id })
    }

    /// Whether a message of this height names the block, so that it is worth keeping.
    pub(super) fn names(&self, id: &BlockId) -> bool {
        self.candidates.all().any(|message| message.block_id() == *id)
            || self.prepared.as_ref().is_some_and(|prepared| prepared.block_id == *id)
            || self.durable_blocks.contains(id)
            || self.commit_quorum.is_some_and(|(_, quorum)| quorum == *id)
            || self.built.is_some_and(|(_, built)| built == *id)
            || self.claims().any(|claim| claim.block_id == *id)
            || self.prepares.quorum(self.view, &self.start.validators) == Some(*id)
    }

    /// The blocks that others claim to have prepared.
    pub(super) fn claims(&self) -> impl Iterator<Item = PreparedClaim> + '_ {
        self.view_changes.values().filter_map(|message| message.signed.message.prepared)
    }

    pub(super) fn keep_block(&mut self, block: Arc<SealedBlock>) {
        let mut blocks = std::mem::take(&mut self.blocks);
        blocks.add(block, |id| self.names(id));
        self.blocks = blocks;
    }

    /// The block, where no durable record of this height holds it yet; from now on one does.
    pub(super) fn block_to_persist(&mut self, id: &BlockId) -> Option<Arc<SealedBlock>> {
        self.durable_blocks.insert(*id).then(|| self.blocks.get(id).cloned()).flatten()
    }

    /// The VIEW-CHANGEs for exactly `view`.
    pub(super) fn view_changes_for(&self, view: View) -> Vec<&Signed<ViewChange>> {
        self.view_changes
            .values()
            .map(|message| &message.signed)
            .filter(|signed| signed.message.view == view)
            .collect()
    }

    /// *Carry-over*: the view to ask for on entering h+1, if I decide h in w after sending VIEW-CHANGE(h,>w) by a timer or by joining
    /// and having seen VIEW-CHANGE(h,>w), of whatever cause, from blocking power, myself included.
    pub(super) fn carry_over(&self) -> Option<View> {
        let w = self.decision.as_ref()?.view;
        let promise = self.promise.filter(|promise| promise.view > w)?;
        let counts = promise.cause != Cause::Carried;
        let blocking = self.start.validators.is_blocking(self.power_asking_for(w.next()));
        (counts && blocking).then(|| w.next())
    }
}
