//! Which addresses to dial, and when. Pure: time and randomness come in as arguments.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;

use super::address::{NodeId, Place};
use super::dial::{PENALTY, PROBE_DELAY, PROBES_MAX, Schedule};

/// Most addresses besides the persistent ones.
const LEARNED_MAX: usize = 256;
/// Failed dials after which a learned address is forgotten.
const LEARNED_FAILURES_MAX: u32 = 4;
/// A connection that lasted this long proves that the peer wants it.
const STABLE: Duration = Duration::from_secs(2);
/// How many shorter ones in a row are dialled again at once.
const RUSHES_MAX: u32 = 4;

/// Names a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TargetId(u64);

/// Where an address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// From the configuration: kept for ever.
    Persistent,
    /// From another peer.
    Learned,
    /// A validator that was connected a moment ago.
    Probe,
}

/// The connection to `peer` just closed: is its process dead?
#[derive(Debug)]
struct Probe {
    peer: PeerId,
    left: u32,
}

#[derive(Debug)]
struct Target {
    place: Place,
    origin: Origin,
    /// Who answered there last; from the configuration if it says so.
    node: Option<NodeId>,
    schedule: Schedule,
    /// Dials at once since the last connection that lasted.
    rushes: u32,
    due: Instant,
    dialing: bool,
    probe: Option<Probe>,
}

/// What a failed dial means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing yet.
    Retrying,
    /// The first failure in a row.
    First,
    /// The peer was connected a moment ago and its port is closed now.
    Dead(PeerId),
}

/// All addresses to dial.
#[derive(Debug, Default)]
pub(super) struct Targets {
    next: u64,
    targets: BTreeMap<TargetId, Target>,
}

impl Targets {
    /// Adds an address that is due at once. Refuses a known one, and one too many.
    pub(super) fn add(&mut self, place: Place, origin: Origin, now: Instant) -> Option<TargetId> {
        if self.targets.values().any(|target| target.place == place) {
            return None;
        }
        let learned = self.targets.values().filter(|t| t.origin != Origin::Persistent).count();
        if origin != Origin::Persistent && learned >= LEARNED_MAX {
            return None;
        }
        let id = TargetId(self.next);
        self.next += 1;
        let target = Target {
            node: place.expected,
            place,
            origin,
            schedule: Schedule::new(now),
            rushes: 0,
            due: now,
            dialing: false,
            probe: None,
        };
        self.targets.insert(id, target);
        Some(id)
    }

    /// The place of a target and how many dials of it failed.
    pub(super) fn place(&self, id: TargetId) -> Option<(&Place, u32)> {
        self.targets.get(&id).map(|target| (&target.place, target.schedule.failures()))
    }

    /// The nodes that the configuration names.
    pub(super) fn persistent_nodes(&self) -> Vec<NodeId> {
        let persistent = self.targets.values().filter(|t| t.origin == Origin::Persistent);
        persistent.filter_map(|target| target.node).collect()
    }

    /// Whether the configuration names this address.
    pub(super) fn is_persistent(&self, id: TargetId) -> bool {
        self.targets.get(&id).is_some_and(|target| target.origin == Origin::Persistent)
    }

    /// What is to be dialled next and when. `connected` says whose connection exists already,
    /// `may_learn` whether a learned address may be dialled.
    pub(super) fn next(
        &self,
        connected: impl Fn(&NodeId) -> bool,
        may_learn: bool,
    ) -> Option<(TargetId, Instant)> {
        self.targets
            .iter()
            .filter(|(_, target)| !target.dialing)
            .filter(|(_, target)| !target.node.as_ref().is_some_and(&connected))
            .filter(|(_, target)| may_learn || target.origin != Origin::Learned)
            .map(|(id, target)| (*id, target.due))
            .min_by_key(|(_, due)| *due)
    }

    /// A dial is on its way.
    pub(super) fn dialing(&mut self, id: TargetId) {
        if let Some(target) = self.targets.get_mut(&id) {
            target.dialing = true;
        }
    }

    /// A dial reached `node`. An error says who was expected.
    pub(super) fn reached(
        &mut self,
        id: TargetId,
        node: NodeId,
        now: Instant,
    ) -> Result<(), NodeId> {
        let Some(target) = self.targets.get_mut(&id) else { return Ok(()) };
        target.dialing = false;
        match target.place.expected {
            Some(expected) if expected != node => {
                target.due = now + PENALTY;
                // What peers told was wrong, or a lie.
                if target.origin != Origin::Persistent {
                    self.targets.remove(&id);
                }
                Err(expected)
            }
            _ => {
                target.node = Some(node);
                Ok(())
            }
        }
    }

    /// A dial failed.
    pub(super) fn failed(
        &mut self,
        id: TargetId,
        refused: bool,
        now: Instant,
        random: u32,
    ) -> Failure {
        let Some(target) = self.targets.get_mut(&id) else { return Failure::Retrying };
        target.dialing = false;
        if let Some(probe) = &mut target.probe
            && !refused
            && probe.left > 0
        {
            probe.left -= 1;
            target.due = now + PROBE_DELAY;
            return Failure::Retrying;
        }
        let probe = target.probe.take();
        target.due = now + target.schedule.failed(now, random);
        let failures = target.schedule.failures();
        let forget = match target.origin {
            Origin::Persistent => false,
            Origin::Learned => failures >= LEARNED_FAILURES_MAX,
            Origin::Probe => true,
        };
        if forget {
            self.targets.remove(&id);
        }
        match probe {
            Some(probe) if refused => Failure::Dead(probe.peer),
            _ if failures == 1 => Failure::First,
            _ => Failure::Retrying,
        }
    }

    /// A connection to `node` ended before its hello.
    pub(super) fn unsuccessful(&mut self, node: NodeId, now: Instant, random: u32) {
        for target in self.targets.values_mut().filter(|target| target.node == Some(node)) {
            target.due = now + target.schedule.failed(now, random);
        }
    }

    /// `node` is connected: what was dialled only to find it has done its work.
    pub(super) fn connected(&mut self, node: NodeId) {
        self.targets.retain(|_, t| t.origin != Origin::Probe || t.node != Some(node));
        for target in self.targets.values_mut().filter(|target| target.node == Some(node)) {
            target.probe = None;
        }
    }

    /// The connection to `node` closed after `lasted`: dials it at once, to tell a dead process
    /// from a broken connection. `known` is where it listens, if it is worth a dial even though
    /// no target says so.
    pub(super) fn lost(&mut self, lost: Lost, now: Instant, random: u32) {
        let Lost { peer, node, lasted, known } = lost;
        if !self.targets.values().any(|target| target.node == Some(node))
            && let Some(place) = known
        {
            self.add(place, Origin::Probe, now);
        }
        for target in self.targets.values_mut().filter(|target| target.node == Some(node)) {
            target.rushes = if lasted >= STABLE { 0 } else { target.rushes.saturating_add(1) };
            if target.rushes < RUSHES_MAX {
                target.schedule.lost(now);
                target.due = now;
            } else {
                target.due = now + target.schedule.failed(now, random);
            }
            target.probe = Some(Probe { peer, left: PROBES_MAX });
        }
    }

    /// Leaves `node` alone for a while.
    pub(super) fn penalise(&mut self, node: NodeId, now: Instant, length: Duration) {
        self.targets.retain(|_, t| t.origin == Origin::Persistent || t.node != Some(node));
        for target in self.targets.values_mut().filter(|target| target.node == Some(node)) {
            target.due = now + length;
            target.probe = None;
        }
    }

    /// Forgets an address.
    pub(super) fn remove(&mut self, id: TargetId) {
        self.targets.remove(&id);
    }

    /// How many addresses.
    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }
}

/// A connection that closed.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) peer: PeerId,
    pub(super) node: NodeId,
    pub(super) lasted: Duration,
    pub(super) known: Option<Place>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::address::Host;

    const NODE: NodeId = NodeId([1; 20]);

    fn place(port: u16) -> Place {
        Place { host: Host::Ip([127, 0, 0, 1].into()), port, expected: Some(NODE) }
    }

    fn lost(peer: PeerId, lasted: Duration) -> Lost {
        Lost { peer, node: NODE, lasted, known: Some(place(9)) }
    }

    #[test]
    fn a_lost_peer_is_dialled_at_once_and_a_refusal_means_dead_once() {
        let (mut targets, now, peer) = (Targets::default(), Instant::now(), PeerId::random());
        let id = targets.add(place(1), Origin::Persistent, now).unwrap();
        assert_eq!(targets.next(|node| *node == NODE, false), None);
        targets.lost(lost(peer, STABLE), now, 0);
        assert_eq!(targets.next(|_| false, false), Some((id, now)));
        targets.dialing(id);
        assert_eq!(targets.next(|_| false, false), None);
        assert_eq!(targets.failed(id, true, now, 25), Failure::Dead(peer));
        assert_eq!(targets.failed(id, true, now, 25), Failure::Retrying);
        assert_eq!(targets.next(|_| false, false), Some((id, now + Duration::from_millis(200))));
    }

    #[test]
    fn a_dial_that_a_dying_process_still_accepts_is_repeated_until_the_port_closes() {
        let (mut targets, now, peer) = (Targets::default(), Instant::now(), PeerId::random());
        let id = targets.add(place(1), Origin::Persistent, now).unwrap();
        targets.lost(lost(peer, STABLE), now, 0);
        assert_eq!(targets.failed(id, false, now, 0), Failure::Retrying);
        assert_eq!(targets.next(|_| false, false), Some((id, now + PROBE_DELAY)));
        assert_eq!(targets.failed(id, true, now, 0), Failure::Dead(peer));
    }

    #[test]
    fn connections_that_close_at_once_are_not_dialled_in_a_tight_loop() {
        let (mut targets, now, peer) = (Targets::default(), Instant::now(), PeerId::random());
        targets.add(place(1), Origin::Persistent, now).unwrap();
        let mut delays = Vec::new();
        for _ in 0..8 {
            targets.lost(lost(peer, Duration::ZERO), now, 25);
            let (_, due) = targets.next(|_| false, false).unwrap();
            delays.push((due - now).as_millis());
        }
        assert_eq!(delays, [0, 0, 0, 100, 200, 400, 800, 1000]);
    }

    #[test]
    fn a_validator_without_a_target_is_probed_and_then_forgotten() {
        let (mut targets, now, peer) = (Targets::default(), Instant::now(), PeerId::random());
        targets.lost(lost(peer, STABLE), now, 0);
        let (id, _) = targets.next(|_| false, false).unwrap();
        assert_eq!(targets.failed(id, true, now, 0), Failure::Dead(peer));
        assert_eq!(targets.len(), 0);
        targets.lost(lost(peer, STABLE), now, 0);
        targets.connected(NODE);
        assert_eq!(targets.len(), 0);
    }

    #[test]
    fn another_node_at_the_address_is_an_error_and_left_alone() {
        let (mut targets, now) = (Targets::default(), Instant::now());
        let id = targets.add(place(1), Origin::Persistent, now).unwrap();
        assert_eq!(targets.reached(id, NodeId([2; 20]), now), Err(NODE));
        assert_eq!(targets.next(|_| false, true), Some((id, now + PENALTY)));
        let told = targets.add(place(2), Origin::Learned, now).unwrap();
        assert_eq!(targets.reached(told, NodeId([2; 20]), now), Err(NODE));
        assert_eq!(targets.len(), 1);
    }

    #[test]
    fn learned_addresses_are_bounded_and_forgotten_after_failures() {
        let (mut targets, now) = (Targets::default(), Instant::now());
        for port in 0..1000 {
            targets.add(place(port), Origin::Learned, now);
        }
        assert_eq!(targets.len(), LEARNED_MAX);
        assert_eq!(targets.next(|_| false, false), None);
        let (id, _) = targets.next(|_| false, true).unwrap();
        for _ in 0..LEARNED_FAILURES_MAX {
            targets.failed(id, true, now, 0);
        }
        assert_eq!(targets.len(), LEARNED_MAX - 1);
    }
}
