//! What is told of the replica to those who listen to events of consensus, by CometBFT's names: what happened between two snapshots, and
//! votes. Never waits, and costs an atomic load where nobody listens.

use super::run::Engine;
use super::snapshot::Snapshot;
use crate::events::{Data, Kind, Step, Where};
use tendermint::block::Height;
use tercet_consensus::message::{Message, SignedVote};
use tercet_consensus::record::Cause;
use tercet_consensus::view::View;

impl Engine {
    /// What happened between two snapshots.
    pub(super) fn tell_moves(&self, last: &Snapshot, now: &Snapshot) {
        if self.parts.tell.is_silent() {
            return;
        }
        let Some(at) = place(now) else { return };
        let moved = (last.height, last.view) != (now.height, now.view);
        if let Some(before) = place(last).filter(|_| last.height < now.height)
            && before.step < Step::Commit
        {
            self.tell_round(Kind::NewRoundStep, Where { step: Step::Commit, ..before });
        }
        let from = if moved { Step::NewRound } else { last.step.unwrap_or(Step::NewRound) };
        if moved {
            self.tell_new_round(now, Where { step: Step::NewRound, ..at });
        }
        for step in [Step::Propose, Step::Prevote, Step::Precommit, Step::Commit] {
            if from < step && step <= at.step {
                self.tell_step(Where { step, ..at }, (last, now));
            }
        }
    }

    fn tell_step(&self, at: Where, (last, now): (&Snapshot, &Snapshot)) {
        match at.step {
            Step::Prevote => self.tell_proposal(now, Where { step: Step::Propose, ..at }),
            Step::Precommit => self.tell_prepared((last, now), Where { step: Step::Prevote, ..at }),
            Step::NewRound | Step::Propose | Step::Commit => {}
        }
        self.tell_round(Kind::NewRoundStep, at);
    }

    fn tell_new_round(&self, now: &Snapshot, at: Where) {
        let Some(primary) = now.primary else { return };
        let index = self.parts.core.replica().validators().index_of(&primary).unwrap_or(0);
        self.parts.tell.tell(Kind::NewRound, || Data::NewRound(at, primary, index));
    }

    fn tell_proposal(&self, now: &Snapshot, at: Where) {
        if let Some(id) = now.accepted {
            self.parts.tell.tell(Kind::CompleteProposal, || Data::Proposal(at, id));
        }
    }

    /// A prepare certificate is a polka, and locks: on the block of an earlier one again, or on another. What is decided without one here
    /// was prepared elsewhere.
    fn tell_prepared(&self, (last, now): (&Snapshot, &Snapshot), at: Where) {
        if now.prepared.is_none_or(|(view, _)| view != now.view) {
            return;
        }
        self.tell_round(Kind::Polka, at);
        let block = |snapshot: &Snapshot| snapshot.prepared.map(|(_, hash)| hash);
        match block(last).filter(|_| last.height == now.height) {
            None => self.tell_round(Kind::Lock, at),
            Some(before) if Some(before) == block(now) => self.tell_round(Kind::Relock, at),
            Some(_) => {
                self.tell_round(Kind::Unlock, at);
                self.tell_round(Kind::Lock, at);
            }
        }
        self.tell_round(Kind::ValidBlock, at);
    }

    fn tell_round(&self, kind: Kind, at: Where) {
        self.parts.tell.tell(kind, || Data::Round(at));
    }

    /// A vote that was sent or received.
    pub(super) fn tell_vote(&self, vote: &SignedVote) {
        self.parts.tell.tell(Kind::Vote, || Data::Vote(Box::new(vote.clone())));
    }

    /// A message of this node's own.
    pub(super) fn tell_message(tell: &crate::events::Tell, message: &Message) {
        if let Message::Vote(vote) = message {
            tell.tell(Kind::Vote, || Data::Vote(Box::new(vote.clone())));
        }
    }

    /// A view change because time was up: for a proposal, or for what follows it.
    pub(super) fn tell_timeout(&self, cause: Cause) {
        if self.parts.tell.is_silent() || cause != Cause::Timer {
            return;
        }
        let replica = self.parts.core.replica();
        let (height, view, step) = (replica.height(), replica.view(), self.phase());
        let kind = if step < Step::Prevote { Kind::TimeoutPropose } else { Kind::TimeoutWait };
        self.tell_round(kind, Where { height, view, step });
    }
}

fn place(snapshot: &Snapshot) -> Option<Where> {
    let height = Height::try_from(snapshot.height).ok().filter(|height| height.value() > 0)?;
    Some(Where { height, view: View::new(snapshot.view)?, step: snapshot.step? })
}
