//! Asynchronous signing. What is asked for may come back late, twice, altered or never. Source: docs/protocol.md §5 "Signing takes time".
//!
//! What was asked for stays noted until it has left. Every guard of its rule is checked again when it comes back, and a signature
//! whose guard no longer holds is discarded: it was never durable, so it never left. A hold drops what comes back meanwhile; when the
//! hold ends, everything that still stands is asked for again, and so is a VIEW-CHANGE that stays out for longer than T. (A lost
//! PREPARE, COMMIT or proposal costs one view, because its timer runs; a lost VIEW-CHANGE would cost all.)

use super::height::OwnProposal;
use super::{Action, Replica};
use crate::block::BlockId;
use crate::message::{
    Justification, Message, Phase, PrePrepare, Proposal, SignRequest, Signed, SignedMessage,
    SignedVote, Verified, ViewChange, ViewChangeMessage, Vote,
};
use crate::record::Record;
use crate::view::View;
use tendermint::Time;

/// What was asked to be signed and has not left: the last of each kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    proposal: Option<Proposal>,
    prepare: Option<Vote>,
    commit: Option<Vote>,
    view_change: Option<ViewChange>,
}

impl Replica {
    pub(super) fn ask_proposal(
        &mut self,
        block_id: BlockId,
        justification: Option<Justification>,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some(time) = self.at.blocks.get(&block_id).map(|block| block.header().time) else {
            return false;
        };
        let (height, view) = (self.height(), self.at.view);
        let certificate = justification.as_ref().and_then(|j| j.certificate.as_ref());
        let prepared_view = certificate.map(|certificate| certificate.view);
        self.at.own_proposal = Some(OwnProposal { view, block_id, justification, signed: false });
        let proposal = Proposal { height, view, prepared_view, block_id, time };
        self.at.asked.proposal = Some(proposal.clone());
        out.push(Action::Sign(SignRequest::Proposal(proposal)));
        true
    }

    pub(super) fn ask_vote(
        &mut self,
        phase: Phase,
        block_id: BlockId,
        time: Time,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some((index, validator)) = self.identity() else { return false };
        let (height, view) = (self.height(), self.at.view);
        let vote = Vote { phase, height, view, block_id, time, validator, index, extension: None };
        *self.at.asked.vote(phase) = Some(vote.clone());
        out.push(self.vote_request(vote));
        true
    }

    pub(super) fn ask_view_change(&mut self, view: View, out: &mut Vec<Action>) -> bool {
        let Some((index, validator)) = self.identity() else { return false };
        let (height, prepared) = (self.height(), self.at.claim());
        let message = ViewChange { height, view, prepared, validator, index };
        self.at.asked.view_change = Some(message.clone());
        out.push(Action::Sign(SignRequest::ViewChange(message)));
        true
    }

    fn vote_request(&self, vote: Vote) -> Action {
        let extend = self.wants_extension(vote.phase);
        Action::Sign(SignRequest::Vote { vote, extend })
    }

    fn wants_extension(&self, phase: Phase) -> bool {
        phase == Phase::Commit && self.at.start.extensions
    }

    fn identity(&self) -> Option<(crate::validators::ValidatorIndex, crate::key::Address)> {
        let index = self.at.me?;
        Some((index, self.at.address(index)?))
    }

    /// Asks again for everything that was asked for, has not left and still may.
    pub(super) fn ask_again(&mut self, out: &mut Vec<Action>) {
        if !self.signs() {
            return;
        }
        if let Some(proposal) = self.at.asked.proposal.clone().filter(|p| self.may_propose(p)) {
            out.push(Action::Sign(SignRequest::Proposal(proposal)));
        }
        for phase in [Phase::Prepare, Phase::Commit] {
            if let Some(vote) = self.at.asked.vote(phase).clone().filter(|v| self.may_release(v)) {
                out.push(self.vote_request(vote));
            }
        }
        self.ask_view_change_again(out);
    }

    pub(super) fn ask_view_change_again(&self, out: &mut Vec<Action>) {
        if let Some(message) = self.unsigned_view_change().filter(|_| self.signs()) {
            out.push(Action::Sign(SignRequest::ViewChange(message.clone())));
        }
    }

    /// The VIEW-CHANGE that I promised and that has not left.
    pub(super) fn unsigned_view_change(&self) -> Option<&ViewChange> {
        self.at.asked.view_change.as_ref().filter(|message| self.may_ask_for_view(message))
    }

    // ---- The guards, when asking again and when a signature comes back ----

    fn may_propose(&self, proposal: &Proposal) -> bool {
        let own = self.at.own_proposal.as_ref().filter(|own| {
            (own.view, own.block_id, own.signed) == (proposal.view, proposal.block_id, false)
        });
        self.at.may_vote(proposal.view)
            && own.is_some_and(|own| own.justification.is_some() || self.at.prepared.is_none())
    }

    fn may_release(&self, vote: &Vote) -> bool {
        let (view, block_id) = (vote.view, vote.block_id);
        let allowed = match vote.phase {
            Phase::Prepare => {
                self.at.accepted == Some((view, block_id))
                    && self.at.justified(view, &block_id).is_some()
            }
            Phase::Commit => {
                self.at.prepared.as_ref().is_some_and(|p| (p.view, p.block_id) == (view, block_id))
            }
        };
        // At most one a view and phase ever leaves.
        allowed
            && self.at.may_vote(view)
            && self.at.votes(vote.phase).of(view, vote.index).is_none()
    }

    fn may_ask_for_view(&self, message: &ViewChange) -> bool {
        let promised = self.at.promise.is_some_and(|promise| promise.view == message.view);
        promised
            && message.view > self.at.view
            && message.prepared == self.at.claim()
            && self.at.view_changes.view_of(message.index) < Some(message.view)
    }

    // ---- What comes back ----

    /// Lets a signed message leave, durably first, where it is what was asked for and may still leave.
    pub(super) fn record_signed(&mut self, message: SignedMessage, out: &mut Vec<Action>) {
        if !self.signs() {
            return;
        }
        match message {
            SignedMessage::Proposal(signed) => self.release_proposal(signed, out),
            SignedMessage::Vote(vote) => self.release_vote(vote, out),
            SignedMessage::ViewChange(signed) => self.release_view_change(signed, out),
        }
    }

    fn release_proposal(&mut self, proposal: Signed<Proposal>, out: &mut Vec<Action>) {
        let asked = self.at.asked.proposal.as_ref() == Some(&proposal.message);
        if !asked || !self.may_propose(&proposal.message) {
            return;
        }
        let Some(block) = self.at.blocks.get(&proposal.message.block_id).cloned() else { return };
        let Some(own) = &mut self.at.own_proposal else { return };
        own.signed = true;
        let message = PrePrepare { proposal, justification: own.justification.clone() };
        self.at.asked.proposal = None;
        out.push(Action::Persist(Record::PrePrepare { message: message.clone() }));
        out.push(Action::Broadcast(Message::PrePrepare(message.clone())));
        out.push(Action::Broadcast(Message::Block(block)));
        let message = Verified::new(message);
        if message.justification.is_some() {
            self.at.new_view = Some(message.clone());
        }
        self.at.candidates.add(message, self.at.view);
    }

    fn release_vote(&mut self, vote: SignedVote, out: &mut Vec<Action>) {
        let phase = vote.message.phase;
        let extended = self.wants_extension(phase);
        let asked = self.at.asked.vote(phase).as_ref();
        let right = asked.is_some_and(|asked| answers(asked, &vote.message, extended));
        if !right || !self.may_release(&vote.message) {
            return;
        }
        let Some(record) = self.vote_record(&vote) else { return };
        *self.at.asked.vote(phase) = None;
        out.push(Action::Persist(record));
        out.push(Action::Broadcast(Message::Vote(vote.clone())));
        self.count(Verified::new(vote), out);
    }

    fn vote_record(&mut self, vote: &SignedVote) -> Option<Record> {
        let Vote { phase, view, block_id, .. } = vote.message;
        let vote = vote.clone();
        match phase {
            Phase::Prepare => {
                let pre_prepare = self.at.justified(view, &block_id)?.clone();
                let block = self.at.block_to_persist(&block_id);
                Some(Record::Prepare { pre_prepare, block, vote })
            }
            Phase::Commit => {
                let certificate = self.at.prepared.as_ref()?.certificate.clone();
                let block = self.at.block_to_persist(&block_id);
                Some(Record::Commit { certificate, block, vote })
            }
        }
    }

    fn release_view_change(&mut self, signed: Signed<ViewChange>, out: &mut Vec<Action>) {
        let asked = self.at.asked.view_change.as_ref() == Some(&signed.message);
        let Some(promise) = self.at.promise.filter(|_| asked) else { return };
        if !self.may_ask_for_view(&signed.message) {
            return;
        }
        self.at.asked.view_change = None;
        let certificate = self.at.prepared.as_ref().map(|prepared| prepared.certificate.clone());
        let message = ViewChangeMessage { signed, certificate };
        out.push(Action::Persist(Record::ViewChange {
            message: message.clone(),
            cause: promise.cause,
        }));
        out.push(Action::Broadcast(Message::ViewChange(message.clone())));
        self.record_view_change(Verified::new(message), out);
    }
}

impl Asked {
    fn vote(&mut self, phase: Phase) -> &mut Option<Vote> {
        match phase {
            Phase::Prepare => &mut self.prepare,
            Phase::Commit => &mut self.commit,
        }
    }
}

/// Whether `vote` is what was asked for: the signer adds nothing but its clock to a COMMIT, no earlier than the earliest time, and the
/// extension where there is to be one.
fn answers(asked: &Vote, vote: &Vote, extended: bool) -> bool {
    let time = match vote.phase {
        Phase::Prepare => vote.time == asked.time,
        Phase::Commit => vote.time >= asked.time,
    };
    let same = Vote { time: asked.time, extension: None, ..vote.clone() } == *asked;
    time && same && vote.extension.is_some() == extended
}
