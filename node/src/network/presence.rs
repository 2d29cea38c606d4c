//! Peers come and go: the hello's outcome, which connection carries a peer, what follows its end.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::{mpsc, oneshot};

use super::address::{self, Host, NodeId, PeerAddress, Place};
use super::dial::PENALTY;
use super::hello::{Hello, HelloError, KNOWN_PEERS_MAX};
use super::links::{Candidate, Link, SIMULTANEOUS, choose};
use super::peers::{Cut, Peer, PeerInfo, Penalty};
use super::session::{End, Report, Session};
use super::streams::StreamError;
use super::swarm::{Active, Driver};
use super::targets::{Lost, Origin};
use super::{DiscardReason, NetworkEvent};

/// What happens to a peer that is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Dialled at once: its connection broke.
    Now,
    /// Kept out for ten seconds, and dialled again after this long.
    After(Duration),
}

impl Again {
    /// For peers that misbehave or are not wanted.
    pub(super) const KEPT_OUT: Self = Self::After(KEPT_OUT);
}

/// A connection that just came to be.
#[derive(Debug)]
pub(super) struct Established {
    pub(super) peer: PeerId,
    pub(super) node: NodeId,
    pub(super) outbound: bool,
    pub(super) remote: Multiaddr,
}

/// Most addresses that are taken up from one peer, so that none fills the table alone.
const LEARN_MAX: usize = 16;
/// How long a peer that we cut is kept out.
const KEPT_OUT: Duration = Duration::from_secs(10);

impl Driver {
    /// Whether a dial that just succeeded is of no use: the peer is connected already, or we
    /// dialled it twice. Then it closes before its hello, so that the other side need not choose.
    pub(super) fn is_superfluous(&self, peer: &PeerId, now: Instant) -> bool {
        self.links
            .values()
            .filter(|link| link.peer == *peer)
            .any(|link| link.outbound || now.saturating_duration_since(link.since) >= SIMULTANEOUS)
    }

    /// A connection is established: says hello on it.
    pub(super) fn greet(&mut self, id: ConnectionId, to: Established) {
        let Established { peer, node, outbound, remote } = to;
        let (streams, opened) = mpsc::unbounded_channel();
        let (go, gone) = oneshot::channel();
        let session = Session {
            connection: id,
            peer,
            hello: self.shared.hello.encode(self.known_peers()),
            streams: opened,
            go: gone,
            shared: Arc::clone(&self.shared),
        };
        let session = self.sessions.spawn(session.run());
        let link = Link {
            peer,
            node,
            outbound,
            remote,
            since: Instant::now(),
            hello: None,
            refused: false,
            streams,
            go: Some(go),
            session,
        };
        self.links.insert(id, link);
    }

    /// A session has something to say.
    pub(super) fn on_report(&mut self, report: Report) {
        match report {
            Report::Ready(id, hello) => self.on_hello(id, hello),
            Report::Refused(id, error) => self.on_refused(id, &error),
            Report::Ended(id, end) => self.on_ended(id, &end),
        }
    }

    fn on_hello(&mut self, id: ConnectionId, hello: Hello) {
        let validator = hello.validator.as_deref().is_some_and(|key| (self.knows_validator)(key));
        self.swarm.behaviour_mut().gate.greeted(id, validator, Instant::now());
        let Some(peer) = self.links.get(&id).map(|link| link.peer) else { return };
        let may_stay = hello.validator.as_deref();
        let may_stay = may_stay.is_some_and(|key| self.may_take_slot(&peer, key));
        if self.swarm.behaviour().gate.in_validator_slot(id) && !may_stay {
            self.discard(DiscardReason::ConnectionDenied, Some(peer), None);
            self.drop_link(id, "all inbound slots are taken", Again::KEPT_OUT);
            return;
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        link.hello = Some(Arc::new(hello));
        self.settle(peer, "", Again::Now);
    }

    /// Whether `peer` may use a slot for validators: one node a key, or a single bad validator
    /// could fill all slots with nodes of its own.
    fn may_take_slot(&self, peer: &PeerId, key: &[u8]) -> bool {
        let gate = &self.swarm.behaviour().gate;
        let taken = self.links.iter().any(|(id, link)| {
            let other = link.hello.as_ref().and_then(|hello| hello.validator.as_deref());
            link.peer != *peer && other == Some(key) && gate.in_validator_slot(*id)
        });
        !taken && (self.knows_validator)(key)
    }

    fn on_refused(&mut self, id: ConnectionId, error: &HelloError) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.refused = true;
        let (peer, remote) = (link.peer, link.remote.clone());
        self.discard(hello_discard(error), Some(peer), None);
        if self.warn_refused.allows(Instant::now()) {
            tracing::warn!("refused peer {peer} at {remote}: {error}");
        } else {
            tracing::debug!("refused peer {peer} at {remote}: {error}");
        }
    }

    fn on_ended(&mut self, id: ConnectionId, end: &End) {
        let Some(link) = self.links.get(&id) else { return };
        let (peer, remote) = (link.peer, link.remote.clone());
        let again = match end {
            End::Refused => Again::After(PENALTY),
            End::Stream(class, StreamError::Oversized { .. }) => {
                if self.warn_refused.allows(Instant::now()) {
                    tracing::warn!("dropped peer {peer} at {remote}: {end}");
                }
                self.discard(DiscardReason::Oversized, Some(peer), Some(*class));
                Again::After(PENALTY)
            }
            End::Stream(class, StreamError::Truncated) => {
                self.discard(DiscardReason::Truncated, Some(peer), Some(*class));
                Again::Now
            }
            End::Stream(..) => Again::Now,
            End::HelloTimeout(_) | End::Stopping => Again::KEPT_OUT,
        };
        self.drop_link(id, &end.to_string(), again);
    }

    /// Somebody wants a peer dropped.
    pub(super) fn on_cut(&mut self, cut: Cut) {
        let current = self.active.get(&cut.peer).map(|active| active.peer.presence);
        if current != Some(cut.presence) {
            return;
        }
        let ids: Vec<ConnectionId> = self.links_of(&cut.peer).map(|(id, _)| id).collect();
        for id in ids {
            if cut.penalty == Penalty::Place {
                self.swarm.behaviour_mut().gate.shun(id, Instant::now(), KEPT_OUT);
            }
            self.close(id);
        }
        let again = match cut.penalty {
            Penalty::None => Again::Now,
            Penalty::Peer | Penalty::Place => {
                self.keep_out(cut.peer);
                Again::KEPT_OUT
            }
        };
        self.settle(cut.peer, &cut.reason, again);
    }

    fn links_of(&self, peer: &PeerId) -> impl Iterator<Item = (ConnectionId, &Link)> {
        let peer = *peer;
        self.links.iter().filter(move |(_, link)| link.peer == peer).map(|(id, link)| (*id, link))
    }

    fn keep_out(&mut self, peer: PeerId) {
        self.swarm.behaviour_mut().gate.penalise(peer, Instant::now(), KEPT_OUT);
    }

    /// Ends a connection and draws the consequences.
    pub(super) fn drop_link(&mut self, id: ConnectionId, reason: &str, again: Again) {
        let Some(link) = self.close(id) else { return };
        let again = if link.refused { Again::After(PENALTY) } else { again };
        if again != Again::Now {
            self.keep_out(link.peer);
        }
        self.settle_link(&link, reason, again);
    }

    /// Ends a connection without consequences.
    fn close(&mut self, id: ConnectionId) -> Option<Link> {
        let link = self.links.remove(&id)?;
        link.session.abort();
        self.swarm.close_connection(id);
        if let Some(active) = self.active.get_mut(&link.peer)
            && active.link == Some(id)
        {
            active.link = None;
        }
        Some(link)
    }

    fn settle_link(&mut self, link: &Link, reason: &str, again: Again) {
        if !self.active.contains_key(&link.peer) && self.links_of(&link.peer).next().is_none() {
            self.never_connected(link, reason, again);
        } else {
            self.settle(link.peer, reason, again);
        }
    }

    fn never_connected(&mut self, link: &Link, reason: &str, again: Again) {
        tracing::debug!(peer = %link.peer, reason, "connection ended before its hello");
        let now = Instant::now();
        match again {
            Again::Now => self.targets.unsuccessful(link.node, now, rand::random()),
            Again::After(length) => self.targets.penalise(link.node, now, length),
        }
    }

    /// Makes sure that the right connection carries `peer`, and that a peer without one is gone.
    /// `reason` and `again` are about the connection that ended last.
    fn settle(&mut self, peer: PeerId, reason: &str, again: Again) {
        let candidates: Vec<Candidate> = self
            .links_of(&peer)
            .map(|(id, link)| Candidate {
                id,
                outbound: link.outbound,
                since: link.since,
                greeted: link.hello.is_some(),
            })
            .collect();
        if candidates.is_empty() {
            self.gone(peer, reason, again);
            return;
        }
        let smaller = self.local < peer;
        let present = self.active.contains_key(&peer);
        let Some(chosen) = choose(&candidates, smaller, present) else { return };
        if self.active.get(&peer).and_then(|active| active.link) != Some(chosen) {
            self.carry(peer, chosen);
        }
        for loser in candidates.iter().filter(|other| other.greeted && other.id != chosen) {
            tracing::debug!(%peer, "closing the second connection");
            self.close(loser.id);
        }
    }

    /// From now on `id` carries `peer`.
    fn carry(&mut self, peer: PeerId, id: ConnectionId) {
        let room = match self.active.contains_key(&peer) {
            true => None,
            false => match self.room_to_tell() {
                None => {
                    self.discard(DiscardReason::ConnectionDenied, Some(peer), None);
                    self.drop_link(id, "this node has no time for more peers", Again::Now);
                    return;
                }
                room => room,
            },
        };
        let Some(link) = self.links.get_mut(&id) else { return };
        let (Some(hello), Some(go)) = (link.hello.clone(), link.go.take()) else { return };
        let (node, outbound, remote) = (link.node, link.outbound, link.remote.clone());
        let validator = hello.validator.as_deref().is_some_and(|key| (self.knows_validator)(key));
        let (welcome, farewell) = room.unzip();
        if let Some(farewell) = farewell {
            self.presences += 1;
            let (presence, cuts) = (self.presences, self.cuts.clone());
            let handle = Peer::new(peer, presence, &self.shared.classes, cuts);
            let active = Active {
                peer: Arc::new(handle.with_validator(validator)),
                node,
                link: None,
                listens: None,
                since: Instant::now(),
                connected_since: SystemTime::now(),
                farewell,
            };
            self.active.insert(peer, active);
        }
        let Some(active) = self.active.get_mut(&peer) else { return };
        active.link = Some(id);
        active.listens = probe_place(&hello, node, &remote);
        let info = PeerInfo {
            peer,
            node_id: node,
            hello: Arc::clone(&hello),
            remote_ip: address::socket(&remote).map(|socket| socket.ip()),
            remote,
            outbound,
            connected_since: active.connected_since,
            traffic: Arc::clone(&active.peer.traffic),
        };
        let handle = Arc::clone(&active.peer);
        self.table.insert(Arc::clone(&handle), info.clone());
        self.targets.connected(node);
        if let Some(welcome) = welcome {
            welcome.send(NetworkEvent::Connected(info));
            self.learn(&hello);
        }
        // It fails only when the session is over, and then its report is on the way.
        let _ = go.send(handle);
    }

    /// Room to tell that a peer comes and that it goes; none where those who are told are far behind.
    fn room_to_tell(&self) -> Option<(OwnedPermit<NetworkEvent>, OwnedPermit<NetworkEvent>)> {
        let events = &self.shared.inboxes.events;
        let room = || events.clone().try_reserve_owned().ok();
        Some((room()?, room()?))
    }

    /// `peer` has no connection any more.
    fn gone(&mut self, peer: PeerId, reason: &str, again: Again) {
        let Some(active) = self.active.remove(&peer) else { return };
        self.table.remove(&peer);
        let now = Instant::now();
        match again {
            Again::Now => {
                let lasted = now.saturating_duration_since(active.since);
                let lost = Lost { peer, node: active.node, lasted, known: active.listens };
                self.targets.lost(lost, now, rand::random());
            }
            Again::After(length) => self.targets.penalise(active.node, now, length),
        }
        let (node_id, reason) = (active.node, reason.to_owned());
        active.farewell.send(NetworkEvent::Disconnected { peer, node_id, reason });
    }

    /// Addresses that other peers may know.
    fn known_peers(&self) -> Vec<String> {
        if !self.peer_exchange {
            return Vec::new();
        }
        let infos = Arc::clone(&self.table.load().infos);
        infos
            .iter()
            .filter(|info| !self.private.contains(&info.node_id))
            .filter_map(|info| {
                let socket = if info.outbound {
                    address::socket(&info.remote)
                } else {
                    address::listening(&info.hello.listen_address, &info.remote)
                }?;
                let (host, port) = (socket.ip().to_string(), socket.port());
                Some(PeerAddress::NodeId { id: info.node_id, host, port }.to_string())
            })
            .take(KNOWN_PEERS_MAX)
            .collect()
    }

    /// Takes up the addresses that a peer told.
    fn learn(&mut self, hello: &Hello) {
        if !self.peer_exchange {
            return;
        }
        let own = NodeId::of_peer(&self.local);
        for text in hello.known_peers.iter().take(LEARN_MAX) {
            let Ok(PeerAddress::NodeId { id, host, port }) = text.parse() else { continue };
            let Ok(ip) = host.parse() else { continue };
            let known = Some(id) == own || self.active.values().any(|active| active.node == id);
            if !known && port != 0 {
                let place = Place { host: Host::Ip(ip), port, expected: Some(id) };
                self.targets.add(place, Origin::Learned, Instant::now());
            }
        }
    }
}

/// Where a validator listens, to see after its end whether its process lives.
fn probe_place(hello: &Hello, node: NodeId, remote: &Multiaddr) -> Option<Place> {
    hello.validator.as_ref()?;
    let socket = address::listening(&hello.listen_address, remote)?;
    Some(Place { host: Host::Ip(socket.ip()), port: socket.port(), expected: Some(node) })
}

fn hello_discard(error: &HelloError) -> DiscardReason {
    match error {
        HelloError::Malformed(_) => DiscardReason::MalformedHello,
        HelloError::Signature => DiscardReason::BadSignature,
        HelloError::ChainId { .. } | HelloError::Genesis { .. } | HelloError::Version { .. } => {
            DiscardReason::Incompatible
        }
    }
}
