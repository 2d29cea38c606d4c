//! Lies in view changes.

use super::{Delivery, Liar, Strategy};
use std::rc::Rc;
use tercet_consensus::message::{
    Justification, Message, PrePrepare, PreparedClaim, Proposal, Signed, ViewChange,
    ViewChangeMessage,
};
use tercet_consensus::view::View;

impl Liar<'_> {
    /// Some peers hear that it has prepared nothing, or something without proof, or in another view.
    pub(super) fn lie_about_prepared(&mut self, all: Vec<Delivery>) -> Vec<Delivery> {
        let Some(Message::ViewChange(message)) = all.first().and_then(Delivery::message) else {
            return all;
        };
        if message.signed.message.validator != self.address() {
            return all;
        }
        let (mut signed, mut certificate) =
            (message.signed.message.clone(), message.certificate.clone());
        let case = self.world.rng.below(5);
        match (&mut signed.prepared, case) {
            (Some(claim), 0) => claim.view = claim.view.next(),
            (Some(claim), 1) => claim.block_id = super::fuzz::other_digest(claim.block_id),
            (Some(_), 2) => {
                if let Some(votes) = certificate.as_mut().map(|c| &mut c.votes) {
                    // One signature twice, instead of another.
                    let first = votes.first().cloned();
                    votes.pop();
                    votes.extend(first);
                }
            }
            (Some(_), _) => {
                signed.prepared = None;
                certificate = None;
            }
            (None, _) => {
                let block_id =
                    super::fuzz::other_digest(tercet_consensus::testing::messages::block_id(1));
                signed.prepared = Some(PreparedClaim { view: View::ZERO, block_id });
            }
        }
        let Some(signed) = self.view_change(signed) else { return all };
        self.met(Strategy::LiesAboutPrepared);
        let sent = self.wrap(Message::ViewChange(ViewChangeMessage { signed, certificate }));
        let mut out = Vec::new();
        for delivery in all {
            match self.world.rng.percent(70) {
                true => out.push(Delivery { sent: Rc::clone(&sent), ..delivery }),
                false => out.push(delivery),
            }
        }
        out
    }

    /// One part of its NEW-VIEW is changed; some peers get the right one too.
    pub(super) fn forge_new_view(&mut self, all: Vec<Delivery>) -> Vec<Delivery> {
        let Some(Message::PrePrepare(message)) = all.first().and_then(Delivery::message) else {
            return all;
        };
        let Some(j) = message.justification.clone().filter(|_| self.is_own_proposal(message))
        else {
            return all;
        };
        let Some(forged) = self.forged(message, j) else { return all };
        self.met(Strategy::ForgesNewView);
        let sent = self.wrap(Message::PrePrepare(forged));
        let mut out = Vec::new();
        for delivery in all {
            out.push(Delivery { sent: Rc::clone(&sent), ..delivery.clone() });
            if self.world.rng.percent(50) {
                out.push(delivery);
            }
        }
        out
    }

    fn forged(&mut self, message: &PrePrepare, mut j: Justification) -> Option<PrePrepare> {
        let mut proposal = message.proposal.message.clone();
        let changes = &mut j.view_changes;
        match self.world.rng.below(12) {
            0 => drop(changes.pop()),
            1 => {
                let first = changes.first().cloned();
                changes.pop();
                changes.extend(first);
            }
            2 => j.certificate = None,
            3 => {
                j.certificate = None;
                proposal.prepared_view = None;
            }
            4 => proposal.block_id = super::fuzz::other_digest(proposal.block_id),
            5 => proposal.prepared_view = proposal.prepared_view.map(View::next),
            6 => {
                if let Some(change) = changes.first_mut() {
                    change.message.view = change.message.view.next();
                }
            }
            7 => {
                if let Some(votes) = j.certificate.as_mut().map(|c| &mut c.votes) {
                    votes.pop();
                }
            }
            // As if nobody had prepared anything.
            8..11 => {
                let block = self.own_block()?;
                (proposal.block_id, proposal.time) = (block.id(), block.header().time);
                (proposal.prepared_view, j.certificate) = (None, None);
                self.send_to_some(100, Message::Block(block));
            }
            // Without any reason.
            _ => {
                let proposal = self.proposal(proposal)?;
                return Some(PrePrepare { proposal, justification: None });
            }
        }
        let proposal = self.proposal(proposal)?;
        Some(PrePrepare { proposal, justification: Some(j) })
    }

    /// Makes a NEW-VIEW of any quorum that it has heard, with itself having prepared nothing.
    pub(super) fn justify_at_will(&mut self, message: &Message) {
        let Message::ViewChange(message) = message else { return };
        let change = &message.signed.message;
        let (height, view) = (change.height, change.view);
        if Some(height) != self.height() {
            return;
        }
        let (index, change) = (change.index, message.clone());
        self.memory().changes.entry((height, view)).or_default().insert(index, change);
        let Some(me) = self.index(height) else { return };
        let Some(set) = self.world.checks.set(height.value()).cloned() else { return };
        if set.schedule.primary(height, view) != me {
            return;
        }
        let validator = self.address();
        let mine = ViewChange { height, view, prepared: None, validator, index: me };
        let Some(signed) = self.view_change(mine) else { return };
        let heard = self.memory().changes.get(&(height, view)).cloned().unwrap_or_default();
        let mut order: Vec<ViewChangeMessage> =
            heard.into_values().filter(|m| m.signed.message.index != me).collect();
        self.world.rng.shuffle(&mut order);
        order.insert(0, ViewChangeMessage { signed, certificate: None });
        let mut power = 0;
        order.retain(|m| {
            let wanted = !set.validators.is_quorum(power);
            power += if wanted { set.validators.power_at(m.signed.message.index) } else { 0 };
            wanted
        });
        if set.validators.is_quorum(power) {
            self.new_view(&order);
        }
    }

    fn new_view(&mut self, chosen: &[ViewChangeMessage]) {
        let claim = |m: &&ViewChangeMessage| m.signed.message.prepared.map(|claim| claim.view);
        let highest = chosen.iter().max_by_key(claim).filter(|m| claim(m).is_some());
        let certificate = highest.and_then(|m| m.certificate.clone());
        let bound = highest.and_then(|m| m.signed.message.prepared);
        let view_changes: Vec<Signed<ViewChange>> =
            chosen.iter().map(|m| m.signed.clone()).collect();
        let Some(first) = view_changes.first().map(|signed| signed.message.clone()) else { return };
        let (block_id, time) = match bound {
            Some(claim) => match self.block(&claim.block_id) {
                Some(block) => (block.id(), block.header().time),
                None => return,
            },
            None => {
                let Some(block) = self.own_block() else { return };
                let (id, time) = (block.id(), block.header().time);
                self.send_to_some(80, Message::Block(block));
                (id, time)
            }
        };
        let proposal = Proposal {
            height: first.height,
            view: first.view,
            prepared_view: bound.map(|claim| claim.view),
            block_id,
            time,
        };
        let Some(proposal) = self.proposal(proposal) else { return };
        self.met(Strategy::JustifiesAtWill);
        let justification = Some(Justification { view_changes, certificate });
        self.send_to_some(60, Message::PrePrepare(PrePrepare { proposal, justification }));
    }

    /// A block of its own for its height.
    fn own_block(&self) -> Option<std::sync::Arc<tercet_consensus::block::SealedBlock>> {
        use tercet_consensus::block::{Block, SealedBlock};
        let node = self.world.node(self.seat);
        let state = node.app.state();
        let last_commit = node.app.chain.last().map(|stored| stored.commit.clone());
        if Some(state.next_height()) != self.height() {
            return None;
        }
        let me = self.address();
        let header = tercet_node::execution::block::header(state, last_commit.as_ref(), me)?;
        let txs = node.pool.lock().oldest(2);
        let evidence = tendermint_proto::v0_38::types::EvidenceList::default();
        Some(std::sync::Arc::new(SealedBlock::seal(Block { header, txs, evidence, last_commit })))
    }
}
