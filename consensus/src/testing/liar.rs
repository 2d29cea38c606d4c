//! A Byzantine validator: it runs a replica, so that it takes part, but says different things to different peers, signs for whatever
//! it sees, forgets what it has prepared, asks for views at will, and as primary proposes two blocks and picks its J as it likes. All
//! that it sends is well formed and signed: what is not never gets past verification.

use super::cluster::{Cluster, Seat};
use super::outputs::{clock, sign};
use crate::block::{BlockId, SealedBlock};
use crate::message::{
    Justification, Message, Phase, PrePrepare, PreparedClaim, Proposal, SignRequest, Signed,
    SignedMessage, ViewChange, ViewChangeMessage, Vote,
};
use crate::validators::ValidatorIndex;
use crate::view::View;
use rand::Rng;
use rand::seq::SliceRandom;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tendermint::block::Height;

/// What the liar remembers.
pub(super) struct Liar {
    pub(super) seat: Seat,
    view_changes: BTreeMap<(Height, View), BTreeMap<ValidatorIndex, ViewChangeMessage>>,
}

impl Liar {
    pub(super) fn new(seat: Seat) -> Liar {
        Liar { seat, view_changes: BTreeMap::new() }
    }
}

impl Cluster {
    /// Instead of one message to everyone: another to each peer, or none.
    pub(super) fn lie(&mut self, message: &Message) {
        let Some(seat) = self.liar.as_ref().map(|liar| liar.seat) else { return };
        let other = match message {
            Message::PrePrepare(message) => self.twin_of(seat, message),
            Message::ViewChange(message) => self.other_view_change(seat, message),
            Message::Vote(_) | Message::Block(_) | Message::Prior(_) => None,
        };
        for to in self.seats().filter(|to| *to != seat) {
            match (self.rng.random_range(0..4), &other) {
                (0, _) if !matches!(message, Message::Block(_)) => {}
                (1, Some(other)) => self.send(seat, to, other.clone()),
                (2, Some(other)) => {
                    self.send(seat, to, other.clone());
                    self.send(seat, to, message.clone());
                }
                _ => self.send(seat, to, message.clone()),
            }
        }
    }

    /// A second proposal for the same view, where the block is not bound.
    fn twin_of(&mut self, seat: Seat, message: &PrePrepare) -> Option<Message> {
        let bound = message.justification.as_ref().is_some_and(|j| j.certificate.is_some());
        let block = match self.node(seat).replica.block(&message.block_id())? {
            Message::Block(block) if !bound => block,
            _ => return None,
        };
        let twin = self.build(seat, message.height(), block.last_commit().cloned());
        self.show(seat, &twin);
        let proposal = Proposal { block_id: twin.id(), ..message.proposal.message.clone() };
        self.proposal(seat, proposal, message.justification.clone())
    }

    fn show(&mut self, seat: Seat, block: &Arc<SealedBlock>) {
        for to in self.seats().filter(|to| *to != seat) {
            self.send(seat, to, Message::Block(block.clone()));
        }
    }

    fn proposal(
        &self,
        seat: Seat,
        proposal: Proposal,
        j: Option<Justification>,
    ) -> Option<Message> {
        match sign(seat, SignRequest::Proposal(proposal), clock(self.now)) {
            SignedMessage::Proposal(proposal) => {
                Some(Message::PrePrepare(PrePrepare { proposal, justification: j }))
            }
            _ => None,
        }
    }

    /// For a later view, or forgetting what was prepared.
    fn other_view_change(&mut self, seat: Seat, message: &ViewChangeMessage) -> Option<Message> {
        let mut signed = message.signed.message.clone();
        let forget = self.chance(70);
        if forget {
            signed.prepared = None;
        } else {
            signed.view = signed.view.next().next();
        }
        let certificate = message.certificate.clone().filter(|_| !forget);
        self.view_change(seat, signed, certificate)
    }

    fn view_change(
        &self,
        seat: Seat,
        message: ViewChange,
        certificate: Option<crate::message::Certificate>,
    ) -> Option<Message> {
        match sign(seat, SignRequest::ViewChange(message), clock(self.now)) {
            SignedMessage::ViewChange(signed) => {
                Some(Message::ViewChange(ViewChangeMessage { signed, certificate }))
            }
            _ => None,
        }
    }

    /// Whatever arrives, the liar signs for it; as primary it makes a NEW-VIEW of any quorum.
    pub(super) fn lie_about(&mut self, message: &Message) {
        let Some(seat) = self.liar.as_ref().map(|liar| liar.seat) else { return };
        let here = self.node(seat).replica.height();
        match message {
            Message::Vote(vote) if vote.message.height == here => {
                self.vote_for(seat, vote.message.view, vote.message.block_id);
            }
            Message::PrePrepare(message) if message.height() == here => {
                self.vote_for(seat, message.view(), message.block_id());
            }
            Message::ViewChange(message) if message.signed.message.height == here => {
                self.justify_as_it_likes(seat, message);
            }
            _ => {}
        }
    }

    fn vote_for(&mut self, seat: Seat, view: View, block_id: BlockId) {
        let (height, validator) = (self.node(seat).replica.height(), self.node(seat).address);
        let Some(index) = self.sets.at(height).0.index_of(&validator) else { return };
        for phase in [Phase::Prepare, Phase::Commit] {
            let time = clock(self.now + Duration::from_secs(1));
            let vote =
                Vote { phase, height, view, block_id, time, validator, index, extension: None };
            let request = SignRequest::Vote { vote, extend: false };
            let SignedMessage::Vote(vote) = sign(seat, request, clock(self.now)) else { return };
            self.send_to_some(seat, &Message::Vote(vote));
        }
    }

    fn send_to_some(&mut self, seat: Seat, message: &Message) {
        for to in self.seats().filter(|to| *to != seat) {
            if self.chance(15) {
                self.send(seat, to, message.clone());
            }
        }
    }

    fn justify_as_it_likes(&mut self, seat: Seat, message: &ViewChangeMessage) {
        let (height, view) = (message.signed.message.height, message.signed.message.view);
        let (validators, schedule) = self.sets.at(height).clone();
        let Some(me) = validators.index_of(&self.node(seat).address) else { return };
        let Some(liar) = &mut self.liar else { return };
        let known = liar.view_changes.entry((height, view)).or_default();
        known.insert(message.signed.message.index, message.clone());
        if schedule.primary(height, view) != me {
            return;
        }
        let mut order: Vec<ViewChangeMessage> = known.values().cloned().collect();
        let validator = self.node(seat).address;
        let mine = ViewChange { height, view, prepared: None, validator, index: me };
        let Some(Message::ViewChange(mine)) = self.view_change(seat, mine, None) else { return };
        order.retain(|m| m.signed.message.index != me);
        order.shuffle(&mut self.rng);
        order.insert(0, mine);
        let mut power = 0;
        order.retain(|m| {
            let wanted = !validators.is_quorum(power);
            power += if wanted { validators.power_at(m.signed.message.index) } else { 0 };
            wanted
        });
        if validators.is_quorum(power) {
            self.new_view(seat, &order);
        }
    }

    fn new_view(&mut self, seat: Seat, chosen: &[ViewChangeMessage]) {
        let claim = |m: &&ViewChangeMessage| m.signed.message.prepared.map(|claim| claim.view);
        let highest = chosen.iter().max_by_key(claim).filter(|m| claim(m).is_some());
        let certificate = highest.and_then(|m| m.certificate.clone());
        let bound: Option<PreparedClaim> = highest.and_then(|m| m.signed.message.prepared);
        let view_changes: Vec<Signed<ViewChange>> =
            chosen.iter().map(|m| m.signed.clone()).collect();
        let Some(first) = view_changes.first().map(|signed| signed.message.clone()) else { return };
        let block_id = match bound {
            Some(claim) => claim.block_id,
            None => {
                let last = self.node(seat).chain.last().map(|decided| decided.commit.clone());
                let block = self.build(seat, first.height, last);
                self.show(seat, &block);
                block.id()
            }
        };
        let proposal = Proposal {
            height: first.height,
            view: first.view,
            prepared_view: bound.map(|claim| claim.view),
            block_id,
            time: clock(self.now),
        };
        let j = Justification { view_changes, certificate };
        if let Some(message) = self.proposal(seat, proposal, Some(j)) {
            for to in self.seats().filter(|to| *to != seat) {
                if self.chance(40) {
                    self.send(seat, to, message.clone());
                }
            }
        }
    }
}
