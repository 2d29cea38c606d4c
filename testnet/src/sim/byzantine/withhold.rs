//! Saying less, to fewer, or later.

use super::{Delivery, Liar, Strategy, patience};
use crate::sim::MS;
use tercet_consensus::message::{Message, Phase};

impl Liar<'_> {
    /// Nothing, now and then.
    pub(super) fn withhold(&mut self, all: Vec<Delivery>) -> Vec<Delivery> {
        if self.world.rng.percent(40) {
            self.met(Strategy::Withhold);
            return Vec::new();
        }
        all
    }

    /// Only to some, to others at each height.
    pub(super) fn subset(&mut self, mut all: Vec<Delivery>) -> Vec<Delivery> {
        let Some(height) = self.height() else { return all };
        let fresh = self.world.rng.next();
        let mask = *self.memory().masks.entry(height.value()).or_insert(fresh);
        self.met(Strategy::Subset);
        all.retain(|delivery| mask >> delivery.to & 1 == 1);
        all
    }

    /// COMMITs at the last moment, to one peer first, or never.
    pub(super) fn late_commit(&mut self, mut all: Vec<Delivery>) -> Vec<Delivery> {
        let Some(Message::Vote(vote)) = all.first().and_then(Delivery::message) else {
            return all;
        };
        if vote.message.phase != Phase::Commit {
            return all;
        }
        self.met(Strategy::LateCommit);
        if self.world.rng.percent(30) {
            return Vec::new();
        }
        let late = patience(self.world, self.seat) + 30 * MS;
        for delivery in &mut all {
            let jitter = self.world.rng.time((0, 60 * MS));
            delivery.after += late.saturating_sub(60 * MS) + jitter;
        }
        all
    }

    /// Proposals come just after the others have lost patience, or just before.
    pub(super) fn slow(&mut self, strategy: Strategy, mut all: Vec<Delivery>) -> Vec<Delivery> {
        let Some(Message::PrePrepare(message)) = all.first().and_then(Delivery::message) else {
            return all;
        };
        if self.is_own_proposal(message) {
            self.met(strategy);
            let patience = patience(self.world, self.seat);
            let late = match strategy {
                Strategy::SlowEnough => patience.saturating_sub(30 * MS),
                _ => patience + 30 * MS,
            };
            all.iter_mut().for_each(|delivery| delivery.after += late);
        }
        all
    }
}
