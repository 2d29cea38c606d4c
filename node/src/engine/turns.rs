//! Whose frame is verified next: each peer's wait in a queue of their own, and the peers take turns. However much one of them sends, a frame
//! of another waits for one of his, not for all.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// What waits, by peer. It has no bound of its own: what is in it holds its room.
#[derive(Debug)]
pub(super) struct Turns<P, T> {
    waiting: HashMap<P, VecDeque<T>>,
    /// The peers of which something waits, the next one first.
    order: VecDeque<P>,
}

impl<P, T> Default for Turns<P, T> {
    fn default() -> Turns<P, T> {
        Turns { waiting: HashMap::new(), order: VecDeque::new() }
    }
}

impl<P: Copy + Eq + Hash, T> Turns<P, T> {
    /// Something more of `peer` waits.
    pub(super) fn add(&mut self, peer: P, item: T) {
        let queue = self.waiting.entry(peer).or_default();
        if queue.is_empty() {
            self.order.push_back(peer);
        }
        queue.push_back(item);
    }

    /// Takes the first of the peer whose turn it is.
    pub(super) fn next(&mut self) -> Option<T> {
        let peer = self.order.pop_front()?;
        let queue = self.waiting.get_mut(&peer)?;
        let item = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&peer);
        } else {
            self.order.push_back(peer);
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_waits_for_one_of_each_other_peer_however_many_they_have() {
        let mut turns = Turns::default();
        (0..1_000).for_each(|n| turns.add("flood", n));
        turns.add("honest", 1_000);
        turns.add("honest", 1_001);
        turns.add("other", 2_000);
        let taken: Vec<i32> = std::iter::from_fn(|| turns.next()).take(6).collect();
        assert_eq!(taken, [0, 1_000, 2_000, 1, 1_001, 2]);
        assert_eq!(std::iter::from_fn(|| turns.next()).count(), 997);
        assert!(turns.waiting.is_empty() && turns.order.is_empty(), "who is gone leaves nothing");
    }
}
