//! Vote extensions (ABCI 2.0): a COMMIT that carries one counts once the application has accepted it, a late one too; and a block is
//! built on a commit that has them all, because the application is shown them. Source: docs/protocol.md §5, §8; CometBFT
//! `consensus/state.go`, `addVote`, `createProposalBlock`.
//!
//! A commit that decides (DECIDED) needs no such answer to decide, but it needs the extensions: if one without were taken by all, nobody
//! could build the next block. What it says is looked at before a block is built on it (`judged`). Blocks hold commits without.

use super::inputs::Place;
use super::votes::Added;
use super::{Action, Replica};
use crate::commit::Commit;
use crate::message::{Phase, SignedVote, Verified};
use crate::view::View;

impl Replica {
    /// A vote of this height: it counts, or the application is asked about its extension, once a validator and view.
    pub(super) fn take_vote(&mut self, vote: Verified<SignedVote>, out: &mut Vec<Action>) {
        let (phase, extended) = (vote.message.phase, vote.message.extension.is_some());
        match phase {
            Phase::Commit if self.at.start.extensions && extended => self.ask_about(vote, out),
            // Verified while it was open whether the height has extensions.
            Phase::Commit if self.at.start.extensions != extended => {}
            _ => self.count(vote, out),
        }
    }

    /// One question a validator is under way at a time, and of its other COMMITs that of the highest view waits; the rest comes again by
    /// STATUS. So no one fills the application's queue.
    fn ask_about(&mut self, vote: Verified<SignedVote>, out: &mut Vec<Action>) {
        let (view, index) = (vote.message.view, vote.message.index);
        let known = self.at.asked_about.of(view, index).is_some();
        if let Some(waiting) = self.at.asking.get_mut(&index).filter(|_| !known) {
            if waiting.as_ref().is_none_or(|waiting| waiting.message.view < view) {
                *waiting = Some(vote);
            }
            return;
        }
        let validators = self.at.start.validators.clone();
        match self.at.asked_about.add(vote.clone(), &validators) {
            Added::New => {
                self.at.asking.insert(index, None);
                out.push(Action::VerifyExtension(vote));
            }
            Added::Conflict(first) => {
                out.push(Action::Evidence(Box::new((*first, vote.into_inner()))));
            }
            Added::Duplicate | Added::Old => {}
        }
    }

    /// A vote of another height: a COMMIT of the height before joins its commit, where its place there is free.
    pub(super) fn take_late_commit(&mut self, vote: Verified<SignedVote>, out: &mut Vec<Action>) {
        let extended = vote.message.extension.is_some();
        if !self.at.start.prior_extensions {
            self.at.add_late_commit(&vote);
        } else if extended
            && self.unused_late(&vote).is_none()
            && self.at.asked_about_late.insert(vote.message.index)
        {
            out.push(Action::VerifyExtension(vote));
        }
    }

    /// What the application says of a COMMIT's extension. One that it rejects is as if it had never come.
    pub(super) fn record_extension_verified(
        &mut self,
        vote: Verified<SignedVote>,
        accepted: bool,
        out: &mut Vec<Action>,
    ) {
        match self.place(vote.message.height) {
            Place::Here => {
                let waiting = self.at.asking.remove(&vote.message.index).flatten();
                if accepted {
                    self.count(vote, out);
                }
                if let Some(waiting) = waiting {
                    self.ask_about(waiting, out);
                }
            }
            Place::Elsewhere => self.at.judge_late(&vote, accepted),
            Place::Next => {}
        }
    }
}

impl super::height::At {
    /// Whether a block can be built on a commit of exactly this round.
    pub(super) fn builds_on(&self, round: View) -> bool {
        !self.start.prior_extensions || self.extended.as_ref().is_some_and(|c| c.view == round)
    }

    /// Commit(h−1) that a block is built on: with vote extensions where h−1 has them, as far as the application does not reject them.
    /// None where such a one is not here.
    pub(super) fn commit_to_build_on(&self) -> Option<Option<Commit>> {
        match self.start.prior_extensions {
            false => Some(self.start.prior.clone()),
            true => self.extended.as_ref().map(|commit| Some(self.judged.good_part(commit))),
        }
    }

    /// Whether the commit of my start view lacks vote extensions that a block needs.
    pub(super) fn lacks_extensions(&self) -> bool {
        self.start.prior.as_ref().is_some_and(|prior| !self.builds_on(prior.view))
    }

    /// Commit(h−1) of my start view for a peer, with vote extensions where they are here.
    pub(super) fn prior_to_send(&self) -> Option<&Commit> {
        self.late_commit()
    }
}
