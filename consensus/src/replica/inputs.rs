//! What each input leaves behind, before the rules run.

use super::height::Promise;
use super::votes::Added;
use super::{Action, Input, Replica, Timer, TimerKind};
use crate::block::{BlockId, SealedBlock};
use crate::commit::{Commit, CommitSig};
use crate::message::{Decided, Phase, PrePrepare, Signed, SignedVote, Verified, ViewChangeMessage};
use crate::record::Cause;
use crate::view::View;
use std::sync::Arc;
use tendermint::block::Height;

impl Replica {
    pub(super) fn record_pre_prepare(
        &mut self,
        message: Verified<PrePrepare>,
        out: &mut Vec<Action>,
    ) {
        let height = message.height();
        match self.place(height) {
            Place::Here => self.at.candidates.add(message, self.at.view),
            Place::Next => self.keep_for_next(height, Input::PrePrepare(message)),
            Place::Elsewhere => return,
        }
        self.check_certificates(out);
    }

    pub(super) fn record_block(&mut self, block: Arc<SealedBlock>, out: &mut Vec<Action>) {
        let height = block.header().height;
        match self.place(height) {
            Place::Here => {
                if let Some(commit) = block.last_commit() {
                    // A Commit(h−1) of a higher round inside a received block raises my view; its signatures were verified.
                    self.record_prior(commit, out);
                }
                self.at.keep_block(block);
            }
            Place::Next => self.keep_for_next(height, Input::Block(block)),
            Place::Elsewhere => {}
        }
    }

    /// A Commit(h−1).
    pub(super) fn record_prior(&mut self, commit: &Commit, out: &mut Vec<Action>) {
        let before = self.at.view;
        if !self.at.raise(commit) {
            return self.alarm(format!("height {} has two commits", commit.height), out);
        }
        for vote in self.at.additions(commit) {
            self.take_late_commit(Verified::new(vote), out);
        }
        if self.at.view != before {
            self.entered(out);
        }
    }

    pub(super) fn record_vote(&mut self, vote: Verified<SignedVote>, out: &mut Vec<Action>) {
        let height = vote.message.height;
        match self.place(height) {
            Place::Here => self.take_vote(vote, out),
            Place::Next => self.keep_for_next(height, Input::Vote(vote)),
            Place::Elsewhere => match self.at.prior_against(&vote) {
                Some(first) => out.push(Action::Evidence(Box::new((first, vote.into_inner())))),
                None => self.take_late_commit(vote, out),
            },
        }
    }

    pub(super) fn count(&mut self, vote: Verified<SignedVote>, out: &mut Vec<Action>) {
        let (phase, view) = (vote.message.phase, vote.message.view);
        if self.at.decision.is_some() {
            return self.count_late(vote, out);
        }
        self.at.note_active(vote.message.index);
        let validators = self.at.start.validators.clone();
        let votes = self.at.votes_mut(phase);
        if let Added::Conflict(first) = votes.add(vote.clone(), &validators) {
            out.push(Action::Evidence(Box::new((*first, vote.into_inner()))));
            return;
        }
        if phase == Phase::Commit
            && self.at.commit_quorum.is_none()
            && let Some(block_id) = self.at.commits.quorum(view, &validators)
        {
            self.at.commit_quorum = Some((view, block_id));
            self.at.commits.hold(view);
            if self.at.blocks.get(&block_id).is_none() {
                out.push(Action::FetchBlock(block_id));
            }
        }
    }

    /// Of a decided height: it joins the commit, or proves that its sender signed twice.
    fn count_late(&mut self, vote: Verified<SignedVote>, out: &mut Vec<Action>) {
        let (phase, view, index) = (vote.message.phase, vote.message.view, vote.message.index);
        let first = self.at.votes(phase).of(view, index);
        if let Some(first) = first.filter(|first| first.message.block_id != vote.message.block_id) {
            out.push(Action::Evidence(Box::new((first.clone(), vote.into_inner()))));
        } else if let Some(decision) = &mut self.at.decision {
            add_to_commit(decision, &vote);
            self.at.seen_late(&vote.message);
        }
    }

    /// Keeps it where it is higher than what its sender sent before. To a new one for a view not above mine the answer is what put me
    /// into mine; one that somebody replays gets none.
    pub(super) fn record_view_change(
        &mut self,
        message: Verified<ViewChangeMessage>,
        out: &mut Vec<Action>,
    ) {
        let signed = &message.signed.message;
        let (height, view, index) = (signed.height, signed.view, signed.index);
        match self.place(height) {
            Place::Here => {}
            Place::Next => return self.keep_for_next(height, Input::ViewChange(message)),
            Place::Elsewhere => return,
        }
        if self.at.view_changes.view_of(index) >= Some(view) {
            return;
        }
        if view <= self.at.view
            && Some(index) != self.at.me
            && let Some(explanation) = self.explanation()
        {
            out.push(Action::Send(signed.validator, explanation));
        }
        if Some(index) == self.at.me && self.promise() < Some(view) {
            // My signature, though I forgot it (a journal that was lost): it binds.
            self.at.promise = Some(Promise { view, cause: Cause::Carried });
        }
        self.at.add_view_change(message);
        self.check_certificates(out);
    }

    pub(super) fn record_decided(&mut self, decided: &Verified<Decided>, out: &mut Vec<Action>) {
        let bare = self.at.start.extensions && !decided.commit.is_extended();
        if decided.commit.height != self.height() || bare {
            return;
        }
        let known = self.at.decision.as_ref().map(|commit| commit.block_id);
        let known = known.or(self.at.commit_quorum.map(|(_, block_id)| block_id));
        if known.is_some_and(|known| known != decided.commit.block_id) {
            self.alarm(format!("two blocks are decided at height {}", self.height()), out);
        } else if self.at.decision.is_none() {
            self.compare_with_seen(&decided.commit, out);
            self.at.unseen = self.at.unseen_of(&decided.commit);
            self.decide((**decided).clone(), out);
        }
    }

    /// A COMMIT in the commit of others for another block than the one that I have of its sender.
    fn compare_with_seen(&self, commit: &Commit, out: &mut Vec<Action>) {
        for index in commit.present() {
            let seen = self.at.commits.of(commit.view, index);
            let seen = seen.or_else(|| self.at.asked_about.of(commit.view, index));
            let seen = seen.filter(|vote| vote.message.block_id != commit.block_id);
            if let Some((seen, (message, signature))) = seen.zip(commit.vote(index)) {
                let other = Signed { message, signature };
                out.push(Action::Evidence(Box::new((seen.clone(), other))));
            }
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
        self.at.hurried |= self.at.short == Some(timer);
        match timer.kind {
            TimerKind::Grace => self.at.grace_over = true,
            TimerKind::Signer => self.ask_view_change_again(out),
            TimerKind::Propose | TimerKind::Commit | TimerKind::NewView => {
                if self.signs() {
                    let view = self.at.top().next();
                    self.view_change(view, Cause::Timer, out);
                }
            }
        }
    }

    /// *Age*: counts at once where no block is under way; otherwise it would change nothing, so it counts at the next height.
    pub(super) fn record_suspicion(&mut self, height: Height, view: View) {
        if height != self.height() || view != self.at.view {
            return;
        }
        if self.has_accepted() || self.at.decision.is_some() {
            self.suspicion = Some(view);
        } else if self.at.may_vote(view) {
            self.at.suspected = Some(view);
        }
    }

    /// Two valid certificates for different blocks at one (h, view) mean more than f faults: alarm and halt. A COMMIT quorum implies
    /// one. Claims count where their certificate was verified with them, not those that merely stand in a J.
    pub(super) fn check_certificates(&mut self, out: &mut Vec<Action>) {
        let mut proven: Vec<(View, BlockId)> =
            self.at.view_changes.claims().map(|claim| (claim.view, claim.block_id)).collect();
        proven.extend(self.at.prepared.as_ref().map(|p| (p.view, p.block_id)));
        proven.extend(self.at.commit_quorum);
        proven.extend(self.at.candidates.all().filter_map(|message| {
            let certificate = message.justification.as_ref()?.certificate.as_ref()?;
            Some((certificate.view, certificate.block_id))
        }));
        proven.sort_unstable();
        proven.dedup();
        let twice = proven.windows(2).find_map(|pair| match pair {
            [(view, _), (other, _)] if view == other => Some(*view),
            _ => None,
        });
        if let Some(view) = twice {
            let height = self.height();
            self.alarm(format!("two blocks are prepared at height {height}, view {view}"), out);
        }
    }

    /// More than f validators are faulty: nothing is signed from now on.
    fn alarm(&mut self, what: String, out: &mut Vec<Action>) {
        if !self.halted {
            self.halted = true;
            out.push(Action::Alarm(what));
        }
    }

    fn keep_for_next(&mut self, height: Height, input: Input) {
        self.future.keep(height, self.at.start_view(), input);
    }

    pub(super) fn place(&self, height: Height) -> Place {
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
pub(super) enum Place {
    Here,
    Next,
    Elsewhere,
}

impl super::height::At {
    /// Commit(h) from every COMMIT that is here.
    pub(super) fn collect_commit(&self, view: View, block_id: BlockId) -> Commit {
        let count = self.start.validators.count();
        let mut commit =
            Commit { height: self.start.height, view, block_id, signatures: vec![None; count] };
        for vote in self.commits.for_block(view, block_id) {
            add_to_commit(&mut commit, vote);
        }
        commit
    }

    /// The COMMIT in Commit(h−1) that a late one of its sender, of the same view, contradicts.
    fn prior_against(&self, vote: &SignedVote) -> Option<SignedVote> {
        let (prior, message) = (self.start.prior.as_ref()?, &vote.message);
        let same = message.phase == Phase::Commit
            && (message.height, message.view) == (prior.height, prior.view);
        let contradicts = same && message.block_id != prior.block_id;
        let (message, signature) = prior.vote(message.index).filter(|_| contradicts)?;
        Some(Signed { message, signature })
    }

    /// A late COMMIT for the height before.
    pub(super) fn add_late_commit(&mut self, vote: &SignedVote) {
        for prior in self.start.prior.iter_mut().chain(&mut self.extended) {
            add_to_commit(prior, vote);
        }
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
