//! Bounds: how many connections, how large frames, how long queues. libp2p has no connection
//! limits of its own unless asked, so the gate here is asked on every connection.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

use super::Class;
use super::address::NodeId;

/// Most connections to one peer at a moment: one, and room for a handover.
const LINKS_PER_PEER_MAX: usize = 4;
/// Most peers that are remembered as refused.
const PENALTIES_MAX: usize = 1024;

/// How many connections are accepted and made.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Established inbound connections (CometBFT `max_num_inbound_peers`).
    pub inbound: usize,
    /// Outbound connections to peers that are not persistent (`max_num_outbound_peers`).
    pub outbound: usize,
    /// Inbound slots beyond `inbound` for known validators only.
    pub validator_slots: usize,
    /// Inbound connections from one IP address, pending and established.
    pub per_ip: usize,
    /// Inbound connections whose hello is not done.
    pub pending: usize,
    /// The same from one IP address.
    pub pending_per_ip: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            inbound: 40,
            outbound: 10,
            validator_slots: 100,
            per_ip: 16,
            pending: 64,
            pending_per_ip: 8,
        }
    }
}

/// Bounds of one class of messages, per peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassLimit {
    /// Longest frame in either direction, without its length prefix.
    pub frame_bytes_max: usize,
    /// Most frames that wait to be written.
    pub queue_frames_max: usize,
    /// Most bytes that wait to be written.
    pub queue_bytes_max: usize,
}

/// The bounds of every class.
#[derive(Debug, Clone)]
pub struct ClassLimits {
    /// Votes, view changes, status.
    pub consensus: ClassLimit,
    /// Block bodies.
    pub bodies: ClassLimit,
    /// Transactions.
    pub transactions: ClassLimit,
    /// Catch-up.
    pub sync: ClassLimit,
}

const MIB: usize = 1024 * 1024;

impl Default for ClassLimits {
    fn default() -> Self {
        let limit = |frame_mib, queue_frames_max, queue_mib| ClassLimit {
            frame_bytes_max: frame_mib * MIB,
            queue_frames_max,
            queue_bytes_max: queue_mib * MIB,
        };
        Self {
            consensus: limit(4, 4096, 16),
            bodies: limit(24, 256, 64),
            transactions: limit(4, 16_384, 8),
            sync: limit(24, 256, 64),
        }
    }
}

impl ClassLimits {
    /// The same bounds, with room for blocks of `bytes_max` bytes.
    #[must_use]
    pub fn with_block_bytes(mut self, bytes_max: usize) -> Self {
        for class in [&mut self.bodies, &mut self.sync] {
            class.frame_bytes_max = class.frame_bytes_max.max(bytes_max.saturating_add(2 * MIB));
            class.queue_bytes_max =
                class.queue_bytes_max.max(class.frame_bytes_max.saturating_mul(2));
        }
        self
    }

    /// The bounds of `class`.
    #[must_use]
    pub fn of(&self, class: Class) -> ClassLimit {
        match class {
            Class::Consensus => self.consensus,
            Class::Bodies => self.bodies,
            Class::Transactions => self.transactions,
            Class::Sync => self.sync,
        }
    }
}

/// Why a connection was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    #[error("too many connections that have not said hello")]
    Pending,
    #[error("too many connections from this IP address")]
    PerIp,
    #[error("all inbound slots are taken")]
    Inbound,
    #[error("too many connections of this peer")]
    PerPeer,
    #[error("refused a moment ago")]
    Penalty,
    #[error("its key is not ed25519")]
    Key,
}

#[derive(Debug, Default)]
struct Admitted {
    ip: Option<IpAddr>,
    /// None while in the handshake, and for every dial.
    peer: Option<PeerId>,
    inbound: bool,
    /// Persistent or unconditional: not counted.
    free: bool,
    reserved: bool,
    greeted: bool,
}

/// Counts connections. One entry a connection, removed on every way out.
#[derive(Debug)]
pub(super) struct Gate {
    limits: Limits,
    free: HashSet<NodeId>,
    admitted: HashMap<ConnectionId, Admitted>,
    penalties: HashMap<PeerId, Instant>,
}

impl Gate {
    /// A gate that always lets the nodes of `free` in.
    pub(super) fn new(limits: Limits, free: HashSet<NodeId>) -> Self {
        Self { limits, free, admitted: HashMap::new(), penalties: HashMap::new() }
    }

    /// An inbound connection starts its handshake.
    pub(super) fn pending(&mut self, id: ConnectionId, ip: Option<IpAddr>) -> Result<(), Denied> {
        let pending = || self.admitted.values().filter(|a| a.inbound && !a.free && !a.greeted);
        if pending().count() >= self.limits.pending
            || pending().filter(|a| a.ip == ip).count() >= self.limits.pending_per_ip
        {
            return Err(Denied::Pending);
        }
        self.admitted.insert(id, Admitted { ip, inbound: true, ..Admitted::default() });
        Ok(())
    }

    /// An inbound connection ended its handshake.
    pub(super) fn inbound(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        now: Instant,
    ) -> Result<(), Denied> {
        let pending = self.admitted.remove(&id);
        let ip = pending.and_then(|entry| entry.ip);
        let node = NodeId::of_peer(&peer).ok_or(Denied::Key)?;
        if self.penalties.get(&peer).is_some_and(|until| *until > now) {
            return Err(Denied::Penalty);
        }
        self.check_per_peer(&peer)?;
        let free = self.free.contains(&node);
        let counted = || self.admitted.values().filter(|a| a.inbound && !a.free);
        let established = counted().filter(|a| a.peer.is_some()).count();
        if !free {
            if counted().filter(|a| a.ip == ip && a.peer.is_some()).count() >= self.limits.per_ip {
                return Err(Denied::PerIp);
            }
            if established >= self.limits.inbound + self.limits.validator_slots {
                return Err(Denied::Inbound);
            }
        }
        let reserved = !free && established >= self.limits.inbound;
        let peer = Some(peer);
        let entry = Admitted { ip, peer, inbound: true, free, reserved, greeted: false };
        self.admitted.insert(id, entry);
        Ok(())
    }

    /// A dial succeeded.
    pub(super) fn outbound(&mut self, id: ConnectionId, peer: PeerId) -> Result<(), Denied> {
        let node = NodeId::of_peer(&peer).ok_or(Denied::Key)?;
        self.check_per_peer(&peer)?;
        let free = self.free.contains(&node);
        self.admitted.insert(id, Admitted { peer: Some(peer), free, ..Admitted::default() });
        Ok(())
    }

    /// The hello of a connection is done.
    pub(super) fn greeted(&mut self, id: ConnectionId) {
        if let Some(entry) = self.admitted.get_mut(&id) {
            entry.greeted = true;
        }
    }

    fn check_per_peer(&self, peer: &PeerId) -> Result<(), Denied> {
        let links = self.admitted.values().filter(|a| a.peer.as_ref() == Some(peer)).count();
        if links >= LINKS_PER_PEER_MAX { Err(Denied::PerPeer) } else { Ok(()) }
    }

    /// A connection ended, in whatever way.
    pub(super) fn ended(&mut self, id: ConnectionId) {
        self.admitted.remove(&id);
    }

    /// Whether the connection stands in a slot that is kept for validators.
    pub(super) fn in_validator_slot(&self, id: ConnectionId) -> bool {
        self.admitted.get(&id).is_some_and(|entry| entry.reserved)
    }

    /// Whether another peer that is not persistent may be dialled.
    pub(super) fn may_dial(&self) -> bool {
        let outbound = self.admitted.values().filter(|a| !a.inbound && !a.free).count();
        outbound < self.limits.outbound
    }

    /// Keeps `peer` out for a while.
    pub(super) fn penalise(&mut self, peer: PeerId, now: Instant, length: Duration) {
        if self.penalties.len() >= PENALTIES_MAX {
            self.penalties.retain(|_, until| *until > now);
        }
        if self.penalties.len() < PENALTIES_MAX {
            self.penalties.insert(peer, now + length);
        }
    }

    /// From now on `node` is let in whatever the counts.
    pub(super) fn set_free(&mut self, node: NodeId) {
        self.free.insert(node);
    }

    /// How many connections are counted.
    pub(super) fn len(&self) -> usize {
        self.admitted.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::identity::Keypair;

    fn peer(n: u8) -> PeerId {
        Keypair::ed25519_from_bytes([n; 32]).unwrap().public().to_peer_id()
    }

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    fn gate() -> Gate {
        let limits = Limits {
            inbound: 1,
            outbound: 1,
            validator_slots: 1,
            per_ip: 2,
            pending: 3,
            pending_per_ip: 2,
        };
        Gate::new(limits, HashSet::new())
    }

    fn ip(n: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, n]))
    }

    #[test]
    fn pending_connections_are_bounded_in_total_and_per_ip() {
        let mut gate = gate();
        assert_eq!(gate.pending(id(1), ip(1)), Ok(()));
        assert_eq!(gate.pending(id(2), ip(1)), Ok(()));
        assert_eq!(gate.pending(id(3), ip(1)), Err(Denied::Pending));
        assert_eq!(gate.pending(id(4), ip(2)), Ok(()));
        assert_eq!(gate.pending(id(5), ip(3)), Err(Denied::Pending));
        gate.ended(id(1));
        assert_eq!(gate.pending(id(6), ip(3)), Ok(()));
        for n in [2, 4, 6] {
            gate.ended(id(n));
        }
        assert_eq!(gate.len(), 0);
    }

    #[test]
    fn a_connection_is_pending_until_its_hello_is_done() {
        let (mut gate, now) = (gate(), Instant::now());
        for n in [1, 2] {
            gate.pending(id(n), ip(1)).unwrap();
            gate.inbound(id(n), peer(u8::try_from(n).unwrap()), now).unwrap();
        }
        assert_eq!(gate.pending(id(3), ip(1)), Err(Denied::Pending));
        gate.greeted(id(1));
        assert_eq!(gate.pending(id(3), ip(1)), Ok(()));
    }

    #[test]
    fn slots_beyond_the_limit_are_for_validators_and_free_nodes_take_none() {
        let (mut gate, now) = (gate(), Instant::now());
        gate.set_free(NodeId::of_peer(&peer(9)).unwrap());
        for (n, at) in [(1, 1), (2, 2), (3, 3), (9, 4)] {
            gate.pending(id(n), ip(at)).unwrap();
            let outcome = gate.inbound(id(n), peer(u8::try_from(n).unwrap()), now);
            assert_eq!(outcome.is_err(), n == 3, "{n}");
            assert_eq!(gate.in_validator_slot(id(n)), n == 2, "{n}");
        }
        assert_eq!(gate.len(), 3);
    }

    #[test]
    fn a_penalty_keeps_a_peer_out_until_it_ends() {
        let (mut gate, now) = (gate(), Instant::now());
        gate.penalise(peer(1), now, Duration::from_secs(1));
        assert_eq!(gate.inbound(id(1), peer(1), now), Err(Denied::Penalty));
        assert_eq!(gate.inbound(id(2), peer(1), now + Duration::from_secs(1)), Ok(()));
    }

    #[test]
    fn peers_that_are_remembered_as_refused_are_bounded_and_old_ones_make_room() {
        let (mut gate, now) = (gate(), Instant::now());
        let second = Duration::from_secs(1);
        for _ in 0..2 * PENALTIES_MAX {
            gate.penalise(PeerId::random(), now, second);
        }
        assert_eq!(gate.penalties.len(), PENALTIES_MAX);
        gate.penalise(peer(1), now + second, second);
        assert_eq!(gate.inbound(id(1), peer(1), now + second), Err(Denied::Penalty));
        assert_eq!(gate.penalties.len(), 1);
    }

    #[test]
    fn the_links_of_one_peer_are_bounded() {
        let mut gate = gate();
        for n in 0..LINKS_PER_PEER_MAX {
            assert_eq!(gate.outbound(id(n), peer(1)), Ok(()));
        }
        assert_eq!(gate.outbound(id(9), peer(1)), Err(Denied::PerPeer));
        assert!(!gate.may_dial());
    }
}
