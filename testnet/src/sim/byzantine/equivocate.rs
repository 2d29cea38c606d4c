//! Two messages where there must be one.

use super::{Delivery, Liar, Strategy};
use bytes::Bytes;
use std::rc::Rc;
use std::sync::Arc;
use tercet_consensus::block::{BlockId, SealedBlock};
use tercet_consensus::message::{Message, Phase, PrePrepare, Proposal};

impl Liar<'_> {
    /// Half of the peers get another block; some get both.
    pub(super) fn equivocate_pre_prepare(&mut self, all: Vec<Delivery>) -> Vec<Delivery> {
        let Some(Message::PrePrepare(message)) = all.first().and_then(Delivery::message) else {
            return all;
        };
        let bound = message.justification.as_ref().is_some_and(|j| j.certificate.is_some());
        let own = self.is_own_proposal(message);
        if bound || !own || self.world.rng.percent(30) {
            return all;
        }
        let Some(block) = self.block(&message.block_id()) else { return all };
        let twin = self.twin_of(&block);
        let Some(other) = self.propose_instead(message, &twin) else { return all };
        self.met(Strategy::EquivocatePrePrepare);
        let (body, other) = (self.wrap(Message::Block(twin)), self.wrap(other));
        let mut out = Vec::new();
        for delivery in all {
            let (to, after) = (delivery.to, delivery.after);
            let choice = self.world.rng.below(5);
            if choice >= 2 {
                out.push(Delivery { to, sent: Rc::clone(&body), after });
                out.push(Delivery { to, sent: Rc::clone(&other), after });
            }
            if choice != 2 && choice != 3 {
                out.push(delivery);
            }
        }
        out
    }

    /// Whether a proposal is signed by this node.
    pub(super) fn is_own_proposal(&self, message: &PrePrepare) -> bool {
        let set = self.world.checks.set(message.height().value());
        let primary = set.map(|set| set.schedule.primary(message.height(), message.view()));
        primary.is_some() && primary == self.index(message.height())
    }

    fn twin_of(&self, block: &SealedBlock) -> Arc<SealedBlock> {
        let mut twin = block.block().clone();
        twin.txs.push(Bytes::from_static(b"twin"));
        Arc::new(SealedBlock::seal(twin))
    }

    /// The same proposal for another block.
    pub(super) fn propose_instead(
        &self,
        message: &PrePrepare,
        block: &SealedBlock,
    ) -> Option<Message> {
        let proposal = Proposal {
            block_id: block.id(),
            time: block.header().time,
            ..message.proposal.message.clone()
        };
        let proposal = self.proposal(proposal)?;
        let justification = message.justification.clone();
        Some(Message::PrePrepare(PrePrepare { proposal, justification }))
    }

    /// Some peers get a vote for another block; some get both.
    pub(super) fn equivocate_vote(
        &mut self,
        strategy: Strategy,
        all: Vec<Delivery>,
    ) -> Vec<Delivery> {
        let phase = match strategy {
            Strategy::EquivocatePrepare => Phase::Prepare,
            _ => Phase::Commit,
        };
        let Some(Message::Vote(vote)) = all.first().and_then(Delivery::message) else {
            return all;
        };
        if vote.message.phase != phase || vote.message.validator != self.address() {
            return all;
        }
        let other = self.other_block(vote.message.block_id);
        let mut message = vote.message.clone();
        message.block_id = other;
        let Some(other) = self.vote(message) else { return all };
        self.met(strategy);
        let other = self.wrap(Message::Vote(other));
        let mut out = Vec::new();
        for delivery in all {
            let (to, after) = (delivery.to, delivery.after);
            let choice = self.world.rng.below(4);
            if choice >= 2 {
                out.push(Delivery { to, sent: Rc::clone(&other), after });
            }
            if choice != 2 {
                out.push(delivery);
            }
        }
        out
    }

    /// Another block of the height, where there is one, or one that does not exist.
    pub(super) fn other_block(&mut self, id: BlockId) -> BlockId {
        let replica = self.world.node(self.seat).engine.as_ref().map(|engine| engine.replica());
        let known = replica.map(|replica| replica.status([]).blocks).unwrap_or_default();
        let others: Vec<BlockId> = known.into_iter().filter(|other| *other != id).collect();
        if others.is_empty() || self.world.rng.percent(30) {
            return super::fuzz::other_digest(id);
        }
        *self.world.rng.pick(&others)
    }
}
