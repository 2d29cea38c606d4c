//! Bounds: how many connections, how large frames, how long queues. libp2p has no connection
//! limits of its own unless asked, so the gate here is asked on every connection.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

use super::Class;
use super::address::NodeId;

/// Most connections to one peer at a moment: one, and room for a handover.
const LINKS_PER_PEER_MAX: usize = 4;
/// Most peers that are remembered as refused, most addresses, and most addresses that are not to be refused.
const PENALTIES_MAX: usize = 1024;
/// How long a place is remembered at which a validator or a node that is always let in was connected.
const TRUSTED_FOR: Duration = Duration::from_secs(60 * 60);
/// Who has an IPv6 address has all of these first bits.
const IPV6_NET_BITS: u32 = 64;

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
    /// Proved the key of a validator.
    validator: bool,
}

impl Admitted {
    /// Where it comes from or goes to, by [`place`], if a validator or a free node was greeted on it.
    fn trusted_place(&self) -> Option<IpAddr> {
        let trusted = self.greeted && (self.validator || self.free);
        self.ip.filter(|_| trusted).map(place)
    }
}

/// Counts connections. One entry a connection, removed on every way out.
#[derive(Debug)]
pub(super) struct Gate {
    limits: Limits,
    free: HashSet<NodeId>,
    admitted: HashMap<ConnectionId, Admitted>,
    penalties: HashMap<PeerId, Instant>,
    /// Addresses of peers that were expelled, by [`place`].
    shunned: HashMap<IpAddr, Instant>,
    /// Where validators and free nodes were connected, by [`place`]: one whose connection breaks comes back from there.
    trusted: HashMap<IpAddr, Instant>,
}

impl Gate {
    /// A gate that always lets the nodes of `free` in.
    pub(super) fn new(limits: Limits, free: HashSet<NodeId>) -> Self {
        let (admitted, penalties, shunned, trusted) = Default::default();
        Self { limits, free, admitted, penalties, shunned, trusted }
    }

    /// An inbound connection starts its handshake.
    pub(super) fn pending(
        &mut self,
        id: ConnectionId,
        ip: Option<IpAddr>,
        now: Instant,
    ) -> Result<(), Denied> {
        if ip.is_some_and(|ip| self.shuns(ip, now)) {
            return Err(Denied::Penalty);
        }
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
        let entry = Admitted { ip, peer, inbound: true, free, reserved, ..Admitted::default() };
        self.admitted.insert(id, entry);
        Ok(())
    }

    /// A dial succeeded.
    pub(super) fn outbound(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        ip: Option<IpAddr>,
    ) -> Result<(), Denied> {
        let node = NodeId::of_peer(&peer).ok_or(Denied::Key)?;
        self.check_per_peer(&peer)?;
        let free = self.free.contains(&node);
        self.admitted.insert(id, Admitted { ip, peer: Some(peer), free, ..Admitted::default() });
        Ok(())
    }

    /// The hello of a connection is done.
    pub(super) fn greeted(&mut self, id: ConnectionId, validator: bool, now: Instant) {
        if let Some(entry) = self.admitted.get_mut(&id) {
            (entry.greeted, entry.validator) = (true, validator);
            let at = entry.trusted_place();
            self.trust(at, now);
        }
    }

    fn trust(&mut self, at: Option<IpAddr>, now: Instant) {
        if let Some(at) = at {
            remember(&mut self.trusted, at, now, TRUSTED_FOR);
        }
    }

    fn check_per_peer(&self, peer: &PeerId) -> Result<(), Denied> {
        let links = self.admitted.values().filter(|a| a.peer.as_ref() == Some(peer)).count();
        if links >= LINKS_PER_PEER_MAX { Err(Denied::PerPeer) } else { Ok(()) }
    }

    /// A connection ended, in whatever way.
    pub(super) fn ended(&mut self, id: ConnectionId, now: Instant) {
        if let Some(entry) = self.admitted.remove(&id) {
            self.trust(entry.trusted_place(), now);
        }
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
        remember(&mut self.penalties, peer, now, length);
    }

    /// Refuses connections from where this one comes, for a while and before their handshake, which costs more than what a stranger can be
    /// expelled for: an identity is new at no price. Where others behind the same address are connected or were within [`TRUSTED_FOR`],
    /// validators or nodes that are always let in, it has no effect, nor where this node dialled.
    pub(super) fn shun(&mut self, id: ConnectionId, now: Instant, length: Duration) {
        let entry = self.admitted.get(&id).filter(|entry| entry.inbound);
        if let Some(ip) = entry.and_then(|entry| entry.ip) {
            remember(&mut self.shunned, place(ip), now, length);
        }
    }

    fn shuns(&self, ip: IpAddr, now: Instant) -> bool {
        let at = place(ip);
        let holds = |until: Option<&Instant>| until.is_some_and(|until| *until > now);
        holds(self.shunned.get(&at))
            && !holds(self.trusted.get(&at))
            && !self.admitted.values().any(|entry| entry.trusted_place() == Some(at))
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

/// Old ones make room; where there is none, a further one is not remembered.
fn remember<K: Eq + Hash>(kept: &mut HashMap<K, Instant>, key: K, now: Instant, length: Duration) {
    if kept.len() >= PENALTIES_MAX {
        kept.retain(|_, until| *until > now);
    }
    if kept.len() < PENALTIES_MAX || kept.contains_key(&key) {
        kept.insert(key, now + length);
    }
}

/// All addresses that one who has `ip` can come from.
fn place(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let net = u128::MAX << (u128::BITS - IPV6_NET_BITS);
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & net))
        }
        ip => ip,
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
        let (mut gate, now) = (gate(), Instant::now());
        assert_eq!(gate.pending(id(1), ip(1), now), Ok(()));
        assert_eq!(gate.pending(id(2), ip(1), now), Ok(()));
        assert_eq!(gate.pending(id(3), ip(1), now), Err(Denied::Pending));
        assert_eq!(gate.pending(id(4), ip(2), now), Ok(()));
        assert_eq!(gate.pending(id(5), ip(3), now), Err(Denied::Pending));
        gate.ended(id(1), now);
        assert_eq!(gate.pending(id(6), ip(3), now), Ok(()));
        for n in [2, 4, 6] {
            gate.ended(id(n), now);
        }
        assert_eq!(gate.len(), 0);
    }

    #[test]
    fn a_connection_is_pending_until_its_hello_is_done() {
        let (mut gate, now) = (gate(), Instant::now());
        for n in [1, 2] {
            gate.pending(id(n), ip(1), now).unwrap();
            gate.inbound(id(n), peer(u8::try_from(n).unwrap()), now).unwrap();
        }
        assert_eq!(gate.pending(id(3), ip(1), now), Err(Denied::Pending));
        gate.greeted(id(1), false, now);
        assert_eq!(gate.pending(id(3), ip(1), now), Ok(()));
    }

    #[test]
    fn slots_beyond_the_limit_are_for_validators_and_free_nodes_take_none() {
        let (mut gate, now) = (gate(), Instant::now());
        gate.set_free(NodeId::of_peer(&peer(9)).unwrap());
        for (n, at) in [(1, 1), (2, 2), (3, 3), (9, 4)] {
            gate.pending(id(n), ip(at), now).unwrap();
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
    fn where_an_expelled_stranger_came_from_is_shunned_but_not_for_validators_behind_the_same_address()
     {
        let (mut gate, now, second) = (gate(), Instant::now(), Duration::from_secs(1));
        gate.pending(id(1), ip(1), now).unwrap();
        gate.inbound(id(1), peer(1), now).unwrap();
        gate.shun(id(1), now, second);
        gate.ended(id(1), now);
        assert_eq!(gate.pending(id(2), ip(1), now), Err(Denied::Penalty));
        assert_eq!(gate.pending(id(3), ip(2), now), Ok(()));
        gate.ended(id(3), now);
        assert_eq!(gate.pending(id(4), ip(1), now + second), Ok(()));
        gate.inbound(id(4), peer(4), now).unwrap();
        for (validator, refused) in [(false, true), (true, false)] {
            gate.greeted(id(4), validator, now);
            assert_eq!(gate.pending(id(5), ip(1), now).is_err(), refused);
        }
    }

    /// Whoever is behind the same address as a faulty node is not locked out when its connection breaks.
    #[test]
    fn where_a_validator_or_a_free_node_was_greeted_within_an_hour_nobody_is_shunned() {
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(60 * 60));
        for (validator, free, refused) in
            [(true, false, false), (false, true, false), (false, false, true)]
        {
            let (mut gate, now) = (gate(), Instant::now());
            gate.set_free(NodeId::of_peer(&peer(if free { 1 } else { 9 })).unwrap());
            gate.pending(id(1), ip(1), now).unwrap();
            gate.inbound(id(1), peer(1), now).unwrap();
            gate.greeted(id(1), validator, now);
            // It was connected for long, and its connection breaks.
            let later = now + 2 * hour;
            gate.ended(id(1), later);
            let shunned_at = |gate: &mut Gate, at| {
                gate.admitted
                    .insert(id(2), Admitted { ip: ip(1), inbound: true, ..Default::default() });
                gate.shun(id(2), at, second);
                gate.ended(id(2), at);
                let outcome = gate.pending(id(3), ip(1), at);
                gate.ended(id(3), at);
                outcome.is_err()
            };
            assert_eq!(shunned_at(&mut gate, later + hour - second), refused);
            assert!(shunned_at(&mut gate, later + hour));
        }
    }

    #[test]
    fn places_of_validators_are_bounded_and_known_ones_are_renewed() {
        let (mut gate, now) = (gate(), Instant::now());
        let at =
            |n: usize| Some(IpAddr::from(Ipv6Addr::from_bits(u128::try_from(n).unwrap() << 64)));
        let mut greet = |n: usize, now| {
            gate.outbound(id(n), peer(1), at(n)).unwrap();
            gate.greeted(id(n), true, now);
            gate.ended(id(n), now);
            (gate.trusted.len(), gate.trusted.get(&place(at(n).unwrap())).copied())
        };
        for n in 0..2 * PENALTIES_MAX {
            greet(n, now);
        }
        let later = now + Duration::from_secs(1);
        assert_eq!(greet(0, later), (PENALTIES_MAX, Some(later + TRUSTED_FOR)));
    }

    #[test]
    fn where_this_node_dialled_nobody_is_shunned() {
        let (mut gate, now) = (gate(), Instant::now());
        gate.outbound(id(1), peer(1), ip(1)).unwrap();
        gate.shun(id(1), now, Duration::from_secs(1));
        gate.ended(id(1), now);
        assert_eq!(gate.pending(id(2), ip(1), now), Ok(()));
    }

    #[test]
    fn addresses_that_are_shunned_are_bounded_and_one_ipv6_network_is_one() {
        let (mut gate, now, second) = (gate(), Instant::now(), Duration::from_secs(1));
        for n in 0..2 * PENALTIES_MAX {
            let ip = IpAddr::from(Ipv6Addr::from_bits(u128::try_from(n).unwrap() << 64));
            gate.pending(id(n), Some(ip), now).unwrap();
            gate.shun(id(n), now, second);
            gate.ended(id(n), now);
        }
        assert_eq!(gate.shunned.len(), PENALTIES_MAX);
        let near = IpAddr::from(Ipv6Addr::from_bits((7 << 64) + 12_345));
        assert_eq!(gate.pending(id(0), Some(near), now), Err(Denied::Penalty));
    }

    #[test]
    fn the_links_of_one_peer_are_bounded() {
        let mut gate = gate();
        for n in 0..LINKS_PER_PEER_MAX {
            assert_eq!(gate.outbound(id(n), peer(1), None), Ok(()));
        }
        assert_eq!(gate.outbound(id(9), peer(1), None), Err(Denied::PerPeer));
        assert!(!gate.may_dial());
    }
}
