//! What a replica does with no message: asked before it is fed, so that whoever gave it can be told apart. Nothing here changes a
//! replica, and `step` takes whatever it is given.

use super::{Input, Replica};
use crate::block::BlockId;
use crate::commit::Commit;
use crate::message::{Phase, PrePrepare, SignedVote, ViewChangeMessage, Vote};
use crate::view::View;
use std::cmp::Ordering;
use tendermint::block::Height;

/// Why a verified message of a peer leaves nothing behind. None of it is a fault: messages are sent again and overtake each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unused {
    /// It is here already.
    Duplicate,
    /// Its height or view is over, or its sender has said something later.
    Stale,
    /// Its height is farther away than the next.
    Future,
}

impl Replica {
    /// Why `input`, a message of a peer, would leave nothing behind now; none where it would, and for what is no message.
    #[must_use]
    pub fn unused(&self, input: &Input) -> Option<Unused> {
        match input {
            Input::Vote(vote) => self.unused_vote(vote),
            Input::ViewChange(message) => self.unused_view_change(message),
            Input::PrePrepare(message) => self.unused_pre_prepare(message),
            Input::Block(block) => {
                let (height, id) = (block.header().height, block.id());
                self.elsewhere(height).or_else(|| {
                    let here = self.at.blocks.get(&id).is_some();
                    let kept =
                        if height == self.height() { here } else { self.future.has(height, &id) };
                    kept.then_some(Unused::Duplicate)
                })
            }
            _ => None,
        }
    }

    /// For what is neither of this height nor of the next.
    fn elsewhere(&self, height: Height) -> Option<Unused> {
        if height < self.height() {
            Some(Unused::Stale)
        } else {
            (height > self.height().increment()).then_some(Unused::Future)
        }
    }

    fn unused_vote(&self, vote: &SignedVote) -> Option<Unused> {
        let message = &vote.message;
        match message.height.cmp(&self.height()) {
            // A late COMMIT of the height before counts in its commit.
            Ordering::Less => self.unused_late(vote),
            Ordering::Equal if self.is_asked_about(vote) => Some(Unused::Duplicate),
            Ordering::Equal if self.at.decision.is_some() => {
                unused_in(self.at.decision.as_ref(), vote)
            }
            Ordering::Equal => {
                let votes = match message.phase {
                    Phase::Prepare => &self.at.prepares,
                    Phase::Commit => &self.at.commits,
                };
                votes.unused(message.view, message.index, message.block_id)
            }
            Ordering::Greater => self
                .elsewhere(message.height)
                .or_else(|| compare(self.future.view_of_vote(message), message.view)),
        }
    }

    /// Whether a COMMIT of the height before has no place in its commit.
    pub(super) fn unused_late(&self, vote: &SignedVote) -> Option<Unused> {
        if self.at.start.prior_extensions && self.at.decision.is_some() {
            // No block is built on that commit any more, and the application goes on.
            return Some(Unused::Stale);
        }
        let asked = self.at.asked_about_late.contains(&vote.message.index);
        let known = unused_in(self.at.late_commit(), vote);
        known.or(asked.then_some(Unused::Duplicate))
    }

    /// Whether the application was asked about this COMMIT's extension.
    fn is_asked_about(&self, vote: &SignedVote) -> bool {
        let Vote { phase, view, index, block_id, .. } = &vote.message;
        *phase == Phase::Commit
            && self.at.asked_about.unused(*view, *index, *block_id) == Some(Unused::Duplicate)
    }

    fn unused_view_change(&self, message: &ViewChangeMessage) -> Option<Unused> {
        let message = &message.signed.message;
        self.elsewhere(message.height).or_else(|| {
            let known = match message.height == self.height() {
                true => self.at.view_changes.view_of(message.index),
                false => self.future.view_of_view_change(message),
            };
            compare(known, message.view)
        })
    }

    fn unused_pre_prepare(&self, message: &PrePrepare) -> Option<Unused> {
        let height = message.height();
        self.elsewhere(height).or_else(|| match height == self.height() {
            true => self.at.candidates.unused(message, self.at.view),
            false => self.future.unused_pre_prepare(message, self.at.start_view()),
        })
    }
}

/// What a sender says for `new` where it has said something for `known`: only the highest is kept.
fn compare(known: Option<View>, new: View) -> Option<Unused> {
    match known?.cmp(&new) {
        Ordering::Less => None,
        Ordering::Equal => Some(Unused::Duplicate),
        Ordering::Greater => Some(Unused::Stale),
    }
}

/// Whether a COMMIT has a place in a commit that is known, and the place is free.
fn unused_in(commit: Option<&Commit>, vote: &SignedVote) -> Option<Unused> {
    let message = &vote.message;
    let of = |commit: &Commit| -> (Height, View, BlockId) {
        (commit.height, commit.view, commit.block_id)
    };
    let wanted = (message.height, message.view, message.block_id);
    let fits = |commit: &&Commit| message.phase == Phase::Commit && of(commit) == wanted;
    let Some(commit) = commit.filter(fits) else { return Some(Unused::Stale) };
    let index = usize::try_from(message.index).ok()?;
    commit.signatures.get(index)?.as_ref().map(|_| Unused::Duplicate)
}
