//! Signing what was not asked for.

use super::{Delivery, Liar, Strategy};
use crate::sim::{MS, SECOND};
use tercet_consensus::block::BlockId;
use tercet_consensus::message::{Message, Phase, ViewChange, ViewChangeMessage, Vote};
use tercet_consensus::replica::VOTE_VIEWS_MAX;
use tercet_consensus::view::View;

impl Liar<'_> {
    /// Both votes for whatever it hears of at its height.
    pub(super) fn sign_anything(&mut self, message: &Message) {
        let here = self.height();
        match message {
            Message::Vote(vote) if Some(vote.message.height) == here => {
                self.vote_for(vote.message.view, vote.message.block_id);
            }
            Message::PrePrepare(message) if Some(message.height()) == here => {
                self.vote_for(message.view(), message.block_id());
            }
            _ => {}
        }
    }

    fn vote_for(&mut self, view: View, block_id: BlockId) {
        let Some(height) = self.height() else { return };
        let Some(index) = self.index(height) else { return };
        // Once for each, or two such nodes would answer each other for ever.
        if !self.memory().signed.insert((height, view, block_id)) {
            return;
        }
        let validator = self.address();
        let time = crate::sim::time_of(self.world.now + SECOND, 0);
        self.met(Strategy::SignsAnything);
        for phase in [Phase::Prepare, Phase::Commit] {
            let vote =
                Vote { phase, height, view, block_id, time, validator, index, extension: None };
            if let Some(vote) = self.vote(vote) {
                self.send_to_some(40, Message::Vote(vote));
            }
        }
    }

    /// COMMITs of as many later views as others keep, right behind each of its own, so that its own would give way; and bodies to few, so
    /// that those who have counted it wait for the block.
    pub(super) fn commit_ahead(&mut self, mut all: Vec<Delivery>) -> Vec<Delivery> {
        let Some(message) = all.first().and_then(Delivery::message) else { return all };
        if matches!(message, Message::Block(_)) {
            all.retain(|_| self.world.rng.percent(40));
            return all;
        }
        let Message::Vote(own) = message else { return all };
        if own.message.phase != Phase::Commit {
            return all;
        }
        self.met(Strategy::CommitsAhead);
        let (mut view, own, peers) = (own.message.view, own.message.clone(), all.clone());
        for _ in 0..VOTE_VIEWS_MAX {
            view = view.next();
            let Some(vote) = self.vote(Vote { view, ..own.clone() }) else { return all };
            let sent = self.wrap(Message::Vote(vote));
            all.extend(peers.iter().map(|peer| Delivery {
                to: peer.to,
                sent: std::rc::Rc::clone(&sent),
                after: peer.after + self.world.rng.time((MS, 40 * MS)),
            }));
        }
        all
    }

    /// VIEW-CHANGEs for views of its own choice.
    pub(super) fn ask_for_views(&mut self, message: &Message) {
        let Message::Vote(heard) = message else { return };
        let Some(height) = self.height().filter(|height| *height == heard.message.height) else {
            return;
        };
        let Some(index) = self.index(height) else { return };
        if !self.world.rng.percent(8) {
            return;
        }
        let asked = self.memory().asked.get(&height).copied();
        let mut view = asked.unwrap_or(heard.message.view).next();
        if self.world.rng.percent(5) {
            let far = u32::try_from(self.world.rng.below(1 << 20)).unwrap_or(0);
            view = View::new(view.number().saturating_add(far)).unwrap_or(view);
        }
        self.memory().asked.insert(height, view);
        self.met(Strategy::AsksForViews);
        let change = ViewChange { height, view, prepared: None, validator: self.address(), index };
        if let Some(signed) = self.view_change(change) {
            let message = ViewChangeMessage { signed, certificate: None };
            self.send_to_some(60, Message::ViewChange(message));
        }
    }
}
