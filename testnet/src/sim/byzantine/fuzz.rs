//! Small-scope mutations. Source: ByzzFuzz (Winter et al., 2023): most implementation bugs show with messages that differ from right ones by
//! a little.

use super::{Delivery, Liar, Strategy};
use std::rc::Rc;
use tendermint::Hash;
use tendermint::block::Height;
use tercet_consensus::block::BlockId;
use tercet_consensus::message::{Message, PrePrepare, ViewChangeMessage};
use tercet_consensus::view::View;

impl Liar<'_> {
    /// Changes one field of its own message by a little and signs it anew; to all or to some.
    pub(super) fn fuzz(&mut self, all: Vec<Delivery>) -> Vec<Delivery> {
        if !self.world.rng.percent(20) {
            return all;
        }
        let Some(message) = all.first().and_then(Delivery::message).cloned() else { return all };
        let Some(other) = self.mutated(message) else { return all };
        self.met(Strategy::Fuzzes);
        let sent = self.wrap(other);
        let share = *self.world.rng.pick(&[30, 60, 100]);
        let mut out = Vec::new();
        for delivery in all {
            match self.world.rng.percent(share) {
                true => out.push(Delivery { sent: Rc::clone(&sent), ..delivery }),
                false => out.push(delivery),
            }
        }
        out
    }

    fn mutated(&mut self, message: Message) -> Option<Message> {
        let me = self.address();
        let (field, up) = (self.world.rng.below(4), self.world.rng.percent(50));
        match message {
            Message::Vote(vote) if vote.message.validator == me => {
                let mut vote = vote.message;
                match field {
                    0 => vote.view = step(vote.view, up),
                    1 => vote.height = step_height(vote.height, up),
                    2 => vote.block_id = other_digest(vote.block_id),
                    _ => vote.index = if up { vote.index + 1 } else { vote.index.wrapping_sub(1) },
                }
                self.vote(vote).map(Message::Vote)
            }
            Message::ViewChange(message) if message.signed.message.validator == me => {
                let (mut change, certificate) = (message.signed.message, message.certificate);
                match field {
                    0 => change.view = step(change.view, up),
                    1 => change.height = step_height(change.height, up),
                    2 => {
                        if let Some(claim) = &mut change.prepared {
                            claim.view = step(claim.view, up);
                        }
                    }
                    _ => change.index = if up { change.index + 1 } else { 0 },
                }
                let signed = self.view_change(change)?;
                Some(Message::ViewChange(ViewChangeMessage { signed, certificate }))
            }
            Message::PrePrepare(message) if self.is_own_proposal(&message) => {
                let mut proposal = message.proposal.message;
                match field {
                    0 => proposal.view = step(proposal.view, up),
                    1 => proposal.height = step_height(proposal.height, up),
                    2 => proposal.block_id = other_digest(proposal.block_id),
                    _ => proposal.prepared_view = proposal.prepared_view.map(|v| step(v, up)),
                }
                let proposal = self.proposal(proposal)?;
                let justification = message.justification;
                Some(Message::PrePrepare(PrePrepare { proposal, justification }))
            }
            _ => None,
        }
    }
}

fn step(view: View, up: bool) -> View {
    let number = if up { view.number().saturating_add(1) } else { view.number().saturating_sub(1) };
    View::new(number).unwrap_or(view)
}

fn step_height(height: Height, up: bool) -> Height {
    let number = if up { height.value() + 1 } else { height.value().saturating_sub(1).max(1) };
    Height::try_from(number).unwrap_or(height)
}

/// An id that differs in one bit.
pub(super) fn other_digest(mut id: BlockId) -> BlockId {
    if let Hash::Sha256(mut bytes) = id.hash {
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        id.hash = Hash::Sha256(bytes);
    }
    id
}
