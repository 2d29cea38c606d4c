//! Vote extensions that are signed as they should be, and that every application refuses.

use super::{Delivery, Liar, Strategy};
use bytes::Bytes;
use std::rc::Rc;
use tercet_consensus::commit::{Commit, CommitSig};
use tercet_consensus::message::{Extension, Message, Phase, SignedVote, Vote};

/// What it extends its COMMITs with.
const WRONG: Bytes = Bytes::from_static(b"wrong");

impl Liar<'_> {
    /// COMMITs with a wrong extension, to some.
    pub(super) fn extend_wrongly(&mut self, mut all: Vec<Delivery>) -> Vec<Delivery> {
        let Some(Message::Vote(vote)) = all.first().and_then(Delivery::message) else {
            return all;
        };
        if vote.message.phase != Phase::Commit || vote.message.extension.is_none() {
            return all;
        }
        self.met(Strategy::WrongExtension);
        let signature = vote.signature;
        let extension = Some(self.wrong_extension(&vote.message));
        let wrong = Vote { extension, ..vote.message.clone() };
        let wrong = self.wrap(Message::Vote(SignedVote { message: wrong, signature }));
        all.retain(|_| self.world.rng.percent(50));
        all.iter_mut().for_each(|delivery| delivery.sent = Rc::clone(&wrong));
        all
    }

    /// As soon as it hears anything at a height: the commit of the height before, with its wrong entry in it, while primaries still wait for
    /// late COMMITs.
    pub(super) fn commit_wrongly(&mut self) {
        let Some(before) = self.height().and_then(|height| height.value().checked_sub(1)) else {
            return;
        };
        if self.memory().priors.insert(before)
            && let Some(prior) = self.wrong_prior(before)
        {
            self.send_to_some(80, Message::Prior(prior));
        }
    }

    fn wrong_extension(&self, vote: &Vote) -> Extension {
        let real = self.world.plan.real_signatures;
        crate::sim::keys::extension(self.key(), real, vote, WRONG)
    }

    /// The commit of a height that it has, with its own entry as it likes it.
    fn wrong_prior(&mut self, height: u64) -> Option<Commit> {
        let mut commit = self.world.node(self.seat).app.stored(height)?.commit.clone();
        if !commit.is_extended() {
            return None;
        }
        let index = self.index(commit.height)?;
        let vote = Vote {
            phase: Phase::Commit,
            height: commit.height,
            view: commit.view,
            block_id: commit.block_id,
            time: crate::sim::time_of(self.world.now, 0),
            validator: self.address(),
            index,
            extension: None,
        };
        let SignedVote { message: vote, signature } = self.vote(vote)?;
        let extension = Some(self.wrong_extension(&vote));
        let own = CommitSig { address: vote.validator, time: vote.time, signature, extension };
        *commit.signatures.get_mut(usize::try_from(index).ok()?)? = Some(own);
        Some(commit)
    }
}
