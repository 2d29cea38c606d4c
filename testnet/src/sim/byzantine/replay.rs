//! Old messages again.

use super::{Delivery, Liar, Strategy};
use tercet_consensus::message::Message;

/// How many old messages are remembered.
const OLD_MAX: usize = 96;

impl Liar<'_> {
    /// Keeps a message to send it again one day.
    pub(super) fn remember(&mut self, message: &Message) {
        if self.world.rng.percent(70) {
            return;
        }
        let at = self.world.rng.index(OLD_MAX);
        let old = &mut self.memory().old;
        if old.len() < OLD_MAX {
            old.push(message.clone());
        } else if let Some(entry) = old.get_mut(at) {
            *entry = message.clone();
        }
    }

    /// With each message some old ones.
    pub(super) fn replay(&mut self, mut all: Vec<Delivery>) -> Vec<Delivery> {
        if let Some(message) = all.first().and_then(Delivery::message).cloned() {
            self.remember(&message);
        }
        let old = self.memory().old.clone();
        if old.is_empty() {
            return all;
        }
        self.met(Strategy::Replays);
        for _ in 0..self.world.rng.below(3) {
            let sent = self.world.rng.pick(&old).clone();
            let (sent, to) = (self.wrap(sent), self.world.rng.index(self.world.nodes.len()));
            if to != self.seat {
                all.push(Delivery { to, sent, after: 0 });
            }
        }
        all
    }
}
