//! The rules of PROTOCOL §5, one function each, and the loop that runs them until none fires.

use super::height::{OwnProposal, Prepared, Promise, Verdict};
use super::votes::Added;
use super::{Action, Input, Note, Replica, Timer, TimerKind};
use crate::block::{BlockId, SealedBlock};
use crate::commit::{Commit, CommitSig};
use crate::message::{
    Certificate, Decided, Justification, Message, Phase, PrePrepare, Proposal, SignRequest, Signed,
    SignedMessage, SignedVote, Verified, ViewChange, ViewChangeMessage, Vote,
};
use crate::record::{Cause, Record};
use crate::view::View;
use std::sync::Arc;
use std::time::Duration;
use tendermint::Time;
use tendermint::block::Height;

/// How often the rules may fire in one step; each firing makes something that can happen only once a view, so this is never reached.
const FIRINGS_MAX: usize = 1_000;

impl Replica {
    /// Runs every rule until none fires, then sets the timers.
    pub(super) fn run(&mut self, out: &mut Vec<Action>) {
        for _ in 0..FIRINGS_MAX {
            if self.at.decision.is_some() || !self.fire(out) {
                break;
            }
        }
        self.rule_timers(out);
    }

    /// The first rule that applies; false where none does.
    fn fire(&mut self, out: &mut Vec<Action>) -> bool {
        self.rule_decide(out)
            || self.rule_enter(out)
            || self.rule_enter_as_primary(out)
            || self.rule_view_change(out)
            || self.rule_new_view(out)
            || self.rule_fresh(out)
            || self.rule_accept(out)
            || self.rule_prepare(out)
            || self.rule_prepared(out)
    }

    // ---- The rules ----

    /// *Decide*: quorum of COMMITs for (h,v,b), of ANY view, also during a view change → decide b; h+1 starts in that view. A COMMIT
    /// quorum without the block stops all signing at h; the body is fetched by BlockID.
    fn rule_decide(&mut self, out: &mut Vec<Action>) -> bool {
        let Some((view, block_id)) = self.at.commit_quorum else { return false };
        let Some(block) = self.at.blocks.get(&block_id).cloned() else { return false };
        let commit = self.at.collect_commit(view, block_id);
        self.decide(Decided { block, commit }, out);
        true
    }

    /// *Entering v'*: anyone, with a valid NEW-VIEW for v' >= my view and >= my promise.
    fn rule_enter(&mut self, out: &mut Vec<Action>) -> bool {
        let top = self.at.top();
        let enterable = |m: &&Verified<PrePrepare>| {
            m.justification.is_some() && m.view() > self.at.view && m.view() >= top
        };
        let Some(message) = self.at.candidates.all().filter(enterable).max_by_key(|m| m.view()) else {
            return false;
        };
        let message = message.clone();
        self.enter(message.view(), out);
        self.at.new_view = Some(message);
        true
    }

    /// *Entering v'*: the new primary with a quorum of VIEW-CHANGE(h,v').
    fn rule_enter_as_primary(&mut self, out: &mut Vec<Action>) -> bool {
        let Some(view) = self.at.view_with_quorum() else { return false };
        if !self.signs() || view <= self.at.view || view < self.at.top() || !self.at.am_primary(view) {
            return false;
        }
        self.enter(view, out);
        true
    }

    /// *View change*: on proof of primary equivocation or a refused block, or when blocking power of senders have highest VIEW-CHANGE
    /// >= u > max(view, promise) (the largest such u), or carried over. Timers ask for it in [`Replica::record_timer`].
    fn rule_view_change(&mut self, out: &mut Vec<Action>) -> bool {
        if !self.signs() {
            return false;
        }
        let top = self.at.top();
        if let Some(view) = self.at.blocking_view().filter(|view| *view > top) {
            return self.view_change(view, Cause::Join, out);
        }
        if let Some(view) = self.at.carried.take().filter(|view| *view > top) {
            return self.view_change(view, Cause::Carried, out);
        }
        let view = self.at.view;
        if !self.at.may_vote(view) {
            return false;
        }
        if self.at.suspected == Some(view) {
            return self.view_change(view.next(), Cause::Timer, out);
        }
        if self.at.candidates.equivocates(view) {
            out.push(Action::Note(Note::Equivocation(view)));
            return self.view_change(view.next(), Cause::Primary, out);
        }
        let refused = self.at.candidates.of(view).map(|message| message.block_id());
        let refused = refused.filter(|id| self.at.verdicts.get(id) == Some(&Verdict::Refused)).next();
        if let Some(block_id) = refused {
            out.push(Action::Note(Note::Refused(block_id)));
            return self.view_change(view.next(), Cause::Primary, out);
        }
        false
    }

    /// *New view*: the primary of its view, entered by a quorum of VIEW-CHANGE(h,v'), sends PRE-PREPARE with J at once. It may use any
    /// quorum whose bound block it has. A primary that already signed fresh (h,v') sends no NEW-VIEW for v'.
    fn rule_new_view(&mut self, out: &mut Vec<Action>) -> bool {
        let view = self.at.view;
        let proposed = self.at.own_proposal.as_ref().is_some_and(|own| own.view >= view);
        if proposed || !self.signs() || !self.at.am_primary(view) || !self.at.may_vote(view) {
            return false;
        }
        match self.at.choose_justification(view) {
            Some(justification) => match &justification.certificate {
                Some(certificate) => {
                    let block_id = certificate.block_id;
                    self.ask_proposal(block_id, Some(justification), out)
                }
                None => match self.at.built.filter(|(built_for, _)| *built_for == view) {
                    Some((_, block_id)) => self.ask_proposal(block_id, Some(justification), out),
                    None => self.ask_build(out),
                },
            },
            None => false,
        }
    }

    /// *Fresh*: the primary of the start view pre-prepares on the last commit alone, when there is something to order, it has prepared
    /// nothing, and late COMMITs have been waited for.
    fn rule_fresh(&mut self, out: &mut Vec<Action>) -> bool {
        let view = self.at.view;
        let proposed = self.at.own_proposal.as_ref().is_some_and(|own| own.view >= view);
        let ready = self.signs()
            && !proposed
            && view == self.at.start_view()
            && self.at.am_primary(view)
            && self.at.may_vote(view)
            && self.at.prepared.is_none();
        if !ready {
            return false;
        }
        match self.at.built.filter(|(built_for, _)| *built_for == view) {
            Some((_, block_id)) if self.at.is_fresh(&block_id) => self.ask_proposal(block_id, None, out),
            Some(_) => false,
            None => self.at.work && self.late_commits_are_here(out) && self.ask_build(out),
        }
    }

    /// *Gathering late commits*: before pre-preparing h+1 the primary waits, at most `commit_grace` after deciding, for every validator
    /// whose COMMIT for either of the last two heights has arrived.
    fn late_commits_are_here(&mut self, out: &mut Vec<Action>) -> bool {
        if self.at.grace_over {
            return true;
        }
        let present = self.at.prior_committers();
        let members = &self.at.start.validators;
        let missing = |address| !present.contains(address) && members.index_of(address).is_some();
        if !self.committers.iter().any(missing) {
            return true;
        }
        if !self.at.timers.grace_runs() {
            self.arm_grace(out);
        }
        false
    }

    /// *Accepting*: a justified pre-prepare of my view whose whole block is here goes to the application, once.
    fn rule_accept(&mut self, out: &mut Vec<Action>) -> bool {
        if !self.signs() || !self.at.may_vote(self.at.view) {
            return false;
        }
        let Some(block_id) = self.at.acceptable() else { return false };
        if self.at.verdicts.contains_key(&block_id) {
            return false;
        }
        let Some(block) = self.at.blocks.get(&block_id).cloned() else { return false };
        self.at.verdicts.insert(block_id, Verdict::Asked);
        out.push(Action::Validate(block));
        true
    }

    /// *PREPARE(h,v,b)*: my height is h, view v, v >= promise, my first at (h,v), pre-prepare justified, whole block here, header
    /// valid, application accepted.
    fn rule_prepare(&mut self, out: &mut Vec<Action>) -> bool {
        let view = self.at.view;
        if !self.signs() || !self.at.may_vote(view) || self.at.prepare_asked >= Some(view) {
            return false;
        }
        let Some(block_id) = self.at.acceptable() else { return false };
        if self.at.verdicts.get(&block_id) != Some(&Verdict::Accepted) {
            return false;
        }
        let Some(time) = self.at.blocks.get(&block_id).map(|block| block.header().time) else {
            return false;
        };
        self.at.prepare_asked = Some(view);
        self.at.accepted = Some((view, block_id));
        self.ask_vote(Phase::Prepare, block_id, time, out)
    }

    /// *Prepared*: quorum of PREPAREs for (h,v,b) from distinct validators, and the block, **while v is my view and v >= promise** →
    /// `prepared`, which only a higher view replaces → persist → COMMIT(h,v,b). Otherwise no COMMIT: without this guard the protocol
    /// forks (PROTOCOL §10).
    fn rule_prepared(&mut self, out: &mut Vec<Action>) -> bool {
        let view = self.at.view;
        if !self.at.may_vote(view) || self.at.commit_asked >= Some(view) || !self.signs() {
            return false;
        }
        let validators = &self.at.start.validators;
        let Some(block_id) = self.at.prepares.quorum(view, validators) else { return false };
        let Some(block) = self.at.blocks.get(&block_id) else { return false };
        let earliest = block.header().time.checked_add(Duration::from_millis(1));
        let earliest = earliest.unwrap_or(block.header().time);
        let certificate = Certificate {
            height: self.at.start.height,
            view,
            block_id,
            votes: self.at.prepares.for_block(view, block_id).cloned().collect(),
        };
        self.at.prepared = Some(Prepared { view, block_id, certificate });
        self.at.commit_asked = Some(view);
        self.ask_vote(Phase::Commit, block_id, earliest, out)
    }

    // ---- What the rules do ----

    /// Enters `view`; it never falls.
    fn enter(&mut self, view: View, out: &mut Vec<Action>) {
        self.at.view = view;
        self.at.new_view = None;
        out.push(Action::Note(Note::Entered { view, primary: self.at.primary_address(view) }));
    }

    /// Promises `view` and asks for the signature under VIEW-CHANGE. The promise holds from now on, though nothing is durable before
    /// the signature is back: a crash in between forgets both.
    fn view_change(&mut self, view: View, cause: Cause, out: &mut Vec<Action>) -> bool {
        let Some((index, validator)) = self.identity() else { return false };
        self.at.promise = Some(Promise { view, cause });
        let message = ViewChange {
            height: self.height(),
            view,
            prepared: self.at.claim(),
            validator,
            index,
        };
        out.push(Action::Note(Note::ViewChange { view, cause }));
        out.push(Action::Sign(SignRequest::ViewChange(message)));
        true
    }

    fn ask_build(&mut self, out: &mut Vec<Action>) -> bool {
        let view = self.at.view;
        if self.at.build_asked >= Some(view) {
            return false;
        }
        self.at.build_asked = Some(view);
        let last_commit = self.at.start.prior.clone();
        out.push(Action::Propose { height: self.height(), view, last_commit });
        true
    }

    fn ask_proposal(
        &mut self,
        block_id: BlockId,
        justification: Option<Justification>,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some(time) = self.at.blocks.get(&block_id).map(|block| block.header().time) else {
            return false;
        };
        let view = self.at.view;
        let certificate = justification.as_ref().and_then(|j| j.certificate.as_ref());
        let prepared_view = certificate.map(|certificate| certificate.view);
        let height = self.height();
        self.at.own_proposal = Some(OwnProposal { view, block_id, justification, signed: false });
        let proposal = Proposal { height, view, prepared_view, block_id, time };
        out.push(Action::Sign(SignRequest::Proposal(proposal)));
        true
    }

    fn ask_vote(&mut self, phase: Phase, block_id: BlockId, time: Time, out: &mut Vec<Action>) -> bool {
        let Some((index, validator)) = self.identity() else { return false };
        let (height, view) = (self.height(), self.at.view);
        let vote =
            Vote { phase, height, view, block_id, time, validator, index, extension: None };
        let extend = phase == Phase::Commit && self.at.start.extensions;
        out.push(Action::Sign(SignRequest::Vote { vote, extend }));
        true
    }

    fn identity(&self) -> Option<(crate::validators::ValidatorIndex, crate::key::Address)> {
        let index = self.at.me?;
        Some((index, self.at.address(index)?))
    }

    pub(super) fn decide(&mut self, decided: Decided, out: &mut Vec<Action>) {
        let block = self.at.durable_blocks.insert(decided.block.id()).then(|| decided.block.clone());
        self.at.decision = Some(decided.commit.clone());
        self.at.keep_block(decided.block.clone());
        out.push(Action::Persist(Record::Decided { commit: decided.commit.clone(), block }));
        out.push(Action::Decide(decided));
    }

    // ---- What inputs leave behind ----

    pub(super) fn record_pre_prepare(&mut self, message: Verified<PrePrepare>, out: &mut Vec<Action>) {
        match self.place(message.height()) {
            Place::Here => self.at.candidates.add(message, self.at.view),
            Place::Next => self.future.keep(message.height(), Input::PrePrepare(message)),
            Place::Elsewhere => {}
        }
        self.check_certificates(out);
    }

    pub(super) fn record_block(&mut self, block: Arc<SealedBlock>, out: &mut Vec<Action>) {
        let height = block.header().height;
        match self.place(height) {
            Place::Here => {
                if let Some(commit) = block.last_commit() {
                    // A Commit(h−1) of a higher round inside a received block raises my view; its signatures were verified.
                    self.at.raise(commit, out);
                }
                self.at.keep_block(block);
            }
            Place::Next => self.future.keep(height, Input::Block(block)),
            Place::Elsewhere => {}
        }
    }

    pub(super) fn record_vote(&mut self, vote: Verified<SignedVote>, out: &mut Vec<Action>) {
        let height = vote.message.height;
        match self.place(height) {
            Place::Here => self.count(vote, out),
            Place::Next => self.future.keep(height, Input::Vote(vote)),
            Place::Elsewhere => self.at.add_late_commit(&vote),
        }
    }

    fn count(&mut self, vote: Verified<SignedVote>, out: &mut Vec<Action>) {
        let (phase, view) = (vote.message.phase, vote.message.view);
        if self.at.decision.is_some() {
            if let Some(decision) = &mut self.at.decision {
                add_to_commit(decision, &vote);
            }
            return;
        }
        let validators = self.at.start.validators.clone();
        let votes = match phase {
            Phase::Prepare => &mut self.at.prepares,
            Phase::Commit => &mut self.at.commits,
        };
        if let Added::Conflict(first) = votes.add(vote.clone(), &validators) {
            out.push(Action::Evidence(Box::new((*first, vote.into_inner()))));
            return;
        }
        if phase == Phase::Commit
            && self.at.commit_quorum.is_none()
            && let Some(block_id) = votes.quorum(view, &validators)
        {
            self.at.commit_quorum = Some((view, block_id));
            if self.at.blocks.get(&block_id).is_none() {
                out.push(Action::FetchBlock(block_id));
            }
        }
    }

    pub(super) fn record_view_change(
        &mut self,
        message: Verified<ViewChangeMessage>,
        out: &mut Vec<Action>,
    ) {
        let signed = &message.signed.message;
        let (height, view, index) = (signed.height, signed.view, signed.index);
        match self.place(height) {
            Place::Here => {}
            Place::Next => return self.future.keep(height, Input::ViewChange(message)),
            Place::Elsewhere => return,
        }
        if view <= self.at.view
            && Some(index) != self.at.me
            && let Some(explanation) = self.explanation()
        {
            out.push(Action::Send(signed.validator, explanation));
        }
        let old = self.at.view_changes.get(&index).map(|old| old.signed.message.view);
        if old < Some(view) {
            self.at.view_changes.insert(index, message);
            self.check_certificates(out);
        }
    }

    pub(super) fn record_decided(&mut self, decided: &Verified<Decided>, out: &mut Vec<Action>) {
        if decided.commit.height == self.height() && self.at.decision.is_none() {
            self.decide((**decided).clone(), out);
        }
    }

    pub(super) fn record_built(&mut self, view: View, block: Arc<SealedBlock>) {
        if block.header().height == self.height() && self.at.build_asked == Some(view) {
            self.at.built = Some((view, block.id()));
            self.at.keep_block(block);
        }
    }

    /// A timer sends VIEW-CHANGE for max(view, promise) + 1; a stale one is dropped.
    pub(super) fn record_timer(&mut self, timer: Timer, out: &mut Vec<Action>) {
        if timer.height != self.height() || !self.at.timers.take(timer) {
            return;
        }
        match timer.kind {
            TimerKind::Grace => self.at.grace_over = true,
            TimerKind::Propose | TimerKind::Commit | TimerKind::NewView => {
                if self.signs() {
                    let view = self.at.top().next();
                    self.view_change(view, Cause::Timer, out);
                }
            }
        }
    }

    pub(super) fn record_suspicion(&mut self, height: Height, view: View) {
        if height == self.height() && self.at.may_vote(view) && self.at.accepted.is_none() {
            self.at.suspected = Some(view);
        }
    }

    /// Every guard is checked again when a signature returns, and one whose guard no longer holds is discarded (it was never durable,
    /// so it never left).
    pub(super) fn record_signed(&mut self, message: SignedMessage, out: &mut Vec<Action>) {
        if !self.signs() {
            return;
        }
        match message {
            SignedMessage::Proposal(signed) => self.release_proposal(signed, out),
            SignedMessage::Vote(vote) => match vote.message.phase {
                Phase::Prepare => self.release_prepare(vote, out),
                Phase::Commit => self.release_commit(vote, out),
            },
            SignedMessage::ViewChange(signed) => self.release_view_change(signed, out),
        }
    }

    fn release_proposal(&mut self, proposal: Signed<Proposal>, out: &mut Vec<Action>) {
        let (view, block_id) = (proposal.message.view, proposal.message.block_id);
        if proposal.message.height != self.height() || !self.at.may_vote(view) {
            return;
        }
        let Some(block) = self.at.blocks.get(&block_id).cloned() else { return };
        let Some(own) = &mut self.at.own_proposal else { return };
        if (own.view, own.block_id, own.signed) != (view, block_id, false) {
            return;
        }
        if own.justification.is_none() && self.at.prepared.is_some() {
            return;
        }
        own.signed = true;
        let message = PrePrepare { proposal, justification: own.justification.clone() };
        out.push(Action::Persist(Record::PrePrepare { message: message.clone() }));
        out.push(Action::Broadcast(Message::PrePrepare(message.clone())));
        out.push(Action::Broadcast(Message::Block(block)));
        let message = Verified::new(message);
        if message.justification.is_some() {
            self.at.new_view = Some(message.clone());
        }
        self.at.candidates.add(message, self.at.view);
    }

    fn release_prepare(&mut self, vote: SignedVote, out: &mut Vec<Action>) {
        let (view, block_id) = (vote.message.view, vote.message.block_id);
        let guard = vote.message.height == self.height()
            && self.at.may_vote(view)
            && self.at.accepted == Some((view, block_id));
        let pre_prepare = self.at.candidates.of(view).find(|m| {
            m.block_id() == block_id && self.at.is_justified(m) == Some(true)
        });
        let Some(pre_prepare) = pre_prepare.filter(|_| guard).map(|m| (**m).clone()) else { return };
        let block = self.at.block_to_persist(&block_id);
        out.push(Action::Persist(Record::Prepare { pre_prepare, block, vote: vote.clone() }));
        out.push(Action::Broadcast(Message::Vote(vote.clone())));
        self.count(Verified::new(vote), out);
    }

    fn release_commit(&mut self, vote: SignedVote, out: &mut Vec<Action>) {
        let (view, block_id) = (vote.message.view, vote.message.block_id);
        let Some(prepared) = &self.at.prepared else { return };
        let guard = vote.message.height == self.height()
            && self.at.may_vote(view)
            && (prepared.view, prepared.block_id) == (view, block_id);
        if !guard {
            return;
        }
        let certificate = prepared.certificate.clone();
        let block = self.at.block_to_persist(&block_id);
        out.push(Action::Persist(Record::Commit { certificate, block, vote: vote.clone() }));
        out.push(Action::Broadcast(Message::Vote(vote.clone())));
        self.count(Verified::new(vote), out);
    }

    fn release_view_change(&mut self, signed: Signed<ViewChange>, out: &mut Vec<Action>) {
        let Some(promise) = self.at.promise else { return };
        let guard = signed.message.height == self.height()
            && signed.message.view == promise.view
            && promise.view > self.at.view
            && signed.message.prepared == self.at.claim();
        if !guard {
            return;
        }
        let certificate = self.at.prepared.as_ref().map(|prepared| prepared.certificate.clone());
        let message = ViewChangeMessage { signed, certificate };
        let cause = promise.cause;
        out.push(Action::Persist(Record::ViewChange { message: message.clone(), cause }));
        out.push(Action::Broadcast(Message::ViewChange(message.clone())));
        self.record_view_change(Verified::new(message), out);
    }

    /// Two valid certificates for different blocks at one (h, view) mean more than f faults: alarm and halt.
    fn check_certificates(&self, out: &mut Vec<Action>) {
        let mut claims: Vec<_> = self.at.claims().map(|claim| (claim.view, claim.block_id)).collect();
        claims.extend(self.at.prepared.as_ref().map(|p| (p.view, p.block_id)));
        claims.extend(self.at.candidates.all().filter_map(|message| {
            let certificate = message.justification.as_ref()?.certificate.as_ref()?;
            Some((certificate.view, certificate.block_id))
        }));
        claims.sort_unstable();
        claims.dedup();
        for ((view, _), (other, _)) in claims.iter().zip(claims.iter().skip(1)) {
            if view == other {
                let height = self.height();
                out.push(Action::Alarm(format!("two blocks are prepared at height {height}, view {view}")));
            }
        }
    }

    fn place(&self, height: Height) -> Place {
        if height == self.height() {
            Place::Here
        } else if height == self.height().increment() {
            Place::Next
        } else {
            Place::Elsewhere
        }
    }
}

/// Where a message of some height belongs.
enum Place {
    Here,
    Next,
    Elsewhere,
}

impl super::height::At {
    /// Commit(h) from every COMMIT that is here.
    fn collect_commit(&self, view: View, block_id: BlockId) -> Commit {
        let count = self.start.validators.count();
        let mut commit =
            Commit { height: self.start.height, view, block_id, signatures: vec![None; count] };
        for vote in self.commits.for_block(view, block_id) {
            add_to_commit(&mut commit, vote);
        }
        commit
    }

    /// A late COMMIT for the height before.
    fn add_late_commit(&mut self, vote: &SignedVote) {
        if let Some(prior) = &mut self.start.prior {
            add_to_commit(prior, vote);
        }
    }

    /// The view for which a quorum of senders has its highest VIEW-CHANGE; two quorums meet, so there is at most one.
    fn view_with_quorum(&self) -> Option<View> {
        let view = self.blocking_view()?;
        let exact = self.view_changes_for(view);
        let power = self.start.validators.power_of(exact.iter().map(|signed| signed.message.index));
        self.start.validators.is_quorum(power).then_some(view)
    }

    /// The pre-prepared block of my view that is justified and whole.
    fn acceptable(&self) -> Option<BlockId> {
        let mut messages = self.candidates.of(self.view);
        messages.find(|message| self.is_justified(message) == Some(true)).map(|m| m.block_id())
    }

    /// Whether the block builds on a commit of my view.
    fn is_fresh(&self, block_id: &BlockId) -> bool {
        let block = self.blocks.get(block_id);
        block.is_some_and(|b| b.last_commit().map_or(View::ZERO, |c| c.view) == self.view)
    }

    /// J for `view`: all its VIEW-CHANGEs, or as many as still are a quorum after leaving out those that claim a block which is
    /// missing here. Claims of one view name one block, or an alarm was raised.
    fn choose_justification(&self, view: View) -> Option<Justification> {
        let mut chosen = self.view_changes_for(view);
        loop {
            let signers = chosen.iter().map(|signed| signed.message.index);
            if !self.start.validators.is_quorum(self.start.validators.power_of(signers)) {
                return None;
            }
            let highest = chosen.iter().filter_map(|s| s.message.prepared).max_by_key(|claim| claim.view);
            let view_changes = || chosen.iter().map(|signed| (*signed).clone()).collect();
            let Some(claim) = highest else {
                return Some(Justification { view_changes: view_changes(), certificate: None });
            };
            if self.blocks.get(&claim.block_id).is_some() {
                let certificate = self.certificate_for(claim.view, claim.block_id)?;
                let certificate = Some(certificate.clone());
                return Some(Justification { view_changes: view_changes(), certificate });
            }
            chosen.retain(|signed| signed.message.prepared != Some(claim));
        }
    }

    fn certificate_for(&self, view: View, block_id: BlockId) -> Option<&Certificate> {
        let mut certificates = self.view_changes.values().filter_map(|m| m.certificate.as_ref());
        certificates.find(|certificate| (certificate.view, certificate.block_id) == (view, block_id))
    }
}

/// Fills a validator's entry of `commit` with its vote, where the vote is for it and the entry is empty.
fn add_to_commit(commit: &mut Commit, vote: &SignedVote) {
    let message = &vote.message;
    let fits = message.phase == Phase::Commit
        && (message.height, message.view, message.block_id)
            == (commit.height, commit.view, commit.block_id);
    let entry = usize::try_from(message.index).ok().and_then(|i| commit.signatures.get_mut(i));
    if let Some(entry @ None) = entry.filter(|_| fits) {
        *entry = Some(CommitSig {
            address: message.validator,
            time: message.time,
            signature: vote.signature,
            extension: message.extension.clone(),
        });
    }
}
