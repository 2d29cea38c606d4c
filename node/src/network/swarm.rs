//! The task that owns the libp2p swarm: connections come and go here; frames do not pass through.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::identity::Keypair;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{self, ConnectionId, DialError, ListenError, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::address::{self, Host, NodeId, Place};
use super::behaviour::{Behaviour, ConnectionReport, Event};
use super::limits::Gate;
use super::links::Link;
use super::peers::{Cut, Peer, Table};
use super::presence::{Again, Established};
use super::rooms::Rooms;
use super::session::{Opened, Report, Shared};
use super::streams::Budget;
use super::targets::{Failure, Origin, TargetId, Targets};
use super::transport::{self, STREAMS_MAX};
use super::{
    Audit, Class, Dial, Discard, DiscardReason, Gauges, Inboxes, KnowsValidator, Network,
    NetworkEvent, Settings, StartError, Transport,
};

/// Longest resolution of a DNS name.
const RESOLVE_MAX: Duration = Duration::from_secs(5);
/// Time before a listener that closed is opened again.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);
/// Lines about the same in the time of `WARN_AGAIN`; what comes beyond is the audit's.
const WARNINGS_MAX: u32 = 4;
/// See [`WARNINGS_MAX`].
const WARN_AGAIN: Duration = Duration::from_secs(10);
/// Memory for long frames under way from peers that are no validators.
const BUDGET_BYTES: usize = 96 * 1024 * 1024;
/// How long to sleep when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// A peer whose hello is done.
pub(super) struct Active {
    pub(super) peer: Arc<Peer>,
    pub(super) node: NodeId,
    /// The connection that carries it; none while another takes over.
    pub(super) link: Option<ConnectionId>,
    /// Where it listens, if it is worth a dial without being asked: for validators.
    pub(super) listens: Option<Place>,
    pub(super) since: Instant,
    pub(super) connected_since: SystemTime,
    /// The room to tell that it is gone.
    pub(super) farewell: OwnedPermit<NetworkEvent>,
}

/// Bounds how often something is said that peers can cause.
#[derive(Debug, Default)]
pub struct Occasional {
    since: Option<Instant>,
    count: u32,
}

impl Occasional {
    /// Whether it may be said now.
    pub fn allows(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WARN_AGAIN) {
            *self = Self { since: Some(now), count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count <= WARNINGS_MAX
    }
}

/// The most wishes of clients to dial peers that wait.
const DIALS_MAX: usize = 16;
/// The most addresses that are dialled, where clients add to them.
const TARGETS_MAX: usize = 1_024;

/// The answer to a DNS query.
type Resolved = (TargetId, io::Result<Vec<SocketAddr>>);

/// The state of the task.
pub(super) struct Driver {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) local: PeerId,
    pub(super) peer_exchange: bool,
    pub(super) private: HashSet<NodeId>,
    pub(super) knows_validator: Arc<KnowsValidator>,
    pub(super) shared: Arc<Shared>,
    pub(super) table: Arc<Table>,
    pub(super) targets: Targets,
    pub(super) links: HashMap<ConnectionId, Link>,
    pub(super) active: HashMap<PeerId, Active>,
    pub(super) sessions: JoinSet<()>,
    pub(super) presences: u64,
    pub(super) cuts: mpsc::UnboundedSender<Cut>,
    audit: Arc<Audit>,
    transport: Transport,
    listen: SocketAddr,
    listen_again: Option<Instant>,
    pub(super) warn_refused: Occasional,
    warn_accept: Occasional,
    dials: HashMap<ConnectionId, TargetId>,
    resolved: mpsc::UnboundedSender<Resolved>,
    gauges: watch::Sender<Gauges>,
}

/// What reaches the driver from other tasks.
struct Wishes {
    reports: mpsc::UnboundedReceiver<Report>,
    cuts: mpsc::UnboundedReceiver<Cut>,
    resolved: mpsc::UnboundedReceiver<Resolved>,
    dials: mpsc::Receiver<Dial>,
    stop: Arc<Notify>,
}

pub(super) fn start(
    settings: Settings,
    inboxes: Inboxes,
    audit: Arc<Audit>,
) -> Result<(Network, JoinHandle<()>), StartError> {
    let runtime = tokio::runtime::Handle::try_current().map_err(|_| StartError::Runtime)?;
    for class in Class::ALL {
        let limit = settings.classes.of(class);
        if limit.frame_bytes_max > limit.queue_bytes_max || limit.queue_frames_max == 0 {
            return Err(StartError::Limits(class));
        }
    }
    let keys = Keypair::ed25519_from_bytes(settings.secret).map_err(|_| StartError::Key)?;
    let swarm = listening_swarm(&keys, &settings)?;
    let targets = persistent_targets(&settings, &keys)?;
    let (cuts, cut_wishes) = mpsc::unbounded_channel();
    let (resolved, resolutions) = mpsc::unbounded_channel();
    let (reports, session_reports) = mpsc::unbounded_channel();
    let (gauges, gauge_readings) = watch::channel(Gauges::default());
    let (dials, dial_wishes) = mpsc::channel(DIALS_MAX);
    let driver = Driver {
        swarm,
        local: keys.public().to_peer_id(),
        peer_exchange: settings.peer_exchange,
        private: settings.private,
        knows_validator: settings.knows_validator,
        shared: Arc::new(Shared {
            hello: settings.hello,
            verify: settings.verify,
            classes: settings.classes,
            inboxes,
            rooms: Rooms::default(),
            timeouts: settings.timeouts,
            budget: Budget::new(BUDGET_BYTES),
            reports,
        }),
        table: Arc::default(),
        targets,
        links: HashMap::new(),
        active: HashMap::new(),
        sessions: JoinSet::new(),
        presences: 0,
        cuts,
        audit,
        transport: settings.transport,
        listen: settings.listen,
        listen_again: None,
        warn_refused: Occasional::default(),
        warn_accept: Occasional::default(),
        dials: HashMap::new(),
        resolved,
        gauges,
    };
    let stop = Arc::new(Notify::new());
    let network = Network {
        local: driver.local,
        table: Arc::clone(&driver.table),
        stop: Arc::clone(&stop),
        gauges: gauge_readings,
        dials,
    };
    let wishes = Wishes {
        reports: session_reports,
        cuts: cut_wishes,
        resolved: resolutions,
        dials: dial_wishes,
        stop,
    };
    Ok((network, runtime.spawn(driver.run(wishes))))
}

fn listening_swarm(keys: &Keypair, settings: &Settings) -> Result<Swarm<Behaviour>, StartError> {
    let transport = transport::build(keys, settings.transport, &settings.timeouts)?;
    let gate = Gate::new(settings.limits.clone(), settings.unconditional.clone());
    let config =
        swarm::Config::with_tokio_executor().with_max_negotiating_inbound_streams(STREAMS_MAX);
    let local = keys.public().to_peer_id();
    let mut swarm = Swarm::new(transport, Behaviour::new(gate), local, config);
    let address = settings.listen;
    let failed = |reason: String| StartError::Listen { address, reason };
    if settings.transport == Transport::Tcp {
        // libp2p shares a listening port with whoever else allows it; this bind does not.
        std::net::TcpListener::bind(address).map_err(|error| failed(error.to_string()))?;
    }
    let listened = swarm.listen_on(address::multiaddr(address, settings.transport));
    listened.map_err(|error| failed(error.to_string()))?;
    Ok(swarm)
}

fn persistent_targets(settings: &Settings, keys: &Keypair) -> Result<Targets, StartError> {
    let own = NodeId::of_peer(&keys.public().to_peer_id());
    let mut targets = Targets::default();
    for peer in &settings.persistent {
        let place = Place::new(peer, settings.transport)?;
        if place.expected.is_some() && place.expected == own {
            tracing::debug!(%peer, "this node is in its own list of persistent peers");
            continue;
        }
        targets.add(place, Origin::Persistent, Instant::now());
    }
    Ok(targets)
}

impl Driver {
    async fn run(mut self, mut wishes: Wishes) {
        for node in self.targets.persistent_nodes() {
            self.swarm.behaviour_mut().gate.set_free(node);
        }
        loop {
            let due = self.dial_due();
            self.publish_gauges();
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                Some(report) = wishes.reports.recv() => self.on_report(report),
                Some(cut) = wishes.cuts.recv() => self.on_cut(cut),
                Some(dial) = wishes.dials.recv() => self.on_dial(&dial),
                Some((id, resolved)) = wishes.resolved.recv() => self.on_resolved(id, resolved),
                Some(_) = self.sessions.join_next() => {}
                () = tokio::time::sleep_until(due.into()) => {}
                () = wishes.stop.notified() => break,
            }
        }
        self.table.clear();
    }

    /// Somebody who may wants these peers dialled.
    fn on_dial(&mut self, dial: &Dial) {
        let origin = if dial.persistent { Origin::Persistent } else { Origin::Learned };
        for peer in &dial.peers {
            let place = match Place::new(peer, self.transport) {
                Ok(place) if self.targets.len() < TARGETS_MAX => place,
                Ok(_) => {
                    tracing::warn!(%peer, "not dialled: {TARGETS_MAX} addresses are dialled already");
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%peer, %error, "not dialled");
                    continue;
                }
            };
            if let Some(node) = place.expected {
                if dial.private {
                    self.private.insert(node);
                }
                if dial.unconditional || dial.persistent {
                    self.swarm.behaviour_mut().gate.set_free(node);
                }
            }
            self.targets.add(place, origin, Instant::now());
        }
    }

    fn publish_gauges(&self) {
        let gauges = Gauges {
            peers: self.active.len(),
            connections: self.swarm.behaviour().gate.len().max(self.links.len()),
            addresses: self.targets.len(),
        };
        self.gauges.send_if_modified(|old| std::mem::replace(old, gauges) != gauges);
    }

    pub(super) fn event(&self, event: NetworkEvent) {
        // It fails when the node is stopping, or where so much is to be told that a hint more or
        // less is of no matter: who comes and goes has room of its own.
        let _ = self.shared.inboxes.events.try_send(event);
    }

    pub(super) fn discard(
        &self,
        reason: DiscardReason,
        peer: Option<PeerId>,
        class: Option<Class>,
    ) {
        (self.audit)(Discard { reason, peer, class });
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<ConnectionReport>) {
        match event {
            SwarmEvent::Behaviour(report) => self.on_stream(report),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_established(peer_id, connection_id, endpoint);
            }
            SwarmEvent::ConnectionClosed { connection_id, cause, .. } => {
                let cause = cause.map_or("it closed the connection".to_owned(), |e| e.to_string());
                self.drop_link(connection_id, &cause, Again::Now);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.on_dial_failed(connection_id, &error);
            }
            SwarmEvent::IncomingConnectionError { error, send_back_addr, peer_id, .. } => {
                self.on_inbound_failed(&error, &send_back_addr, peer_id);
            }
            SwarmEvent::NewListenAddr { address, .. } => self.on_listening(&address),
            SwarmEvent::ListenerError { error, .. } => self.on_accept_failed(&error),
            SwarmEvent::ListenerClosed { reason, .. } => {
                tracing::warn!(?reason, "the listener closed, opening it again");
                self.listen_again = Some(Instant::now() + LISTEN_AGAIN);
            }
            _ => {}
        }
    }

    fn on_listening(&self, address: &Multiaddr) {
        if let Some(socket) = address::socket(address) {
            tracing::debug!(%socket, "listening for peers");
            self.event(NetworkEvent::Listening(socket));
        }
    }

    /// Out of file descriptors, most likely: libp2p pauses and tries again, ten times a second.
    fn on_accept_failed(&mut self, error: &io::Error) {
        if self.warn_accept.allows(Instant::now()) {
            tracing::warn!(%error, "cannot accept a connection, trying again");
        }
    }

    fn on_inbound_failed(&self, error: &ListenError, remote: &Multiaddr, peer: Option<PeerId>) {
        tracing::debug!(%error, %remote, "inbound connection failed");
        match error {
            ListenError::Denied { .. } => {
                self.discard(DiscardReason::ConnectionDenied, peer, None);
            }
            ListenError::LocalPeerId { .. } => {
                self.event(NetworkEvent::OwnIdentity { address: remote.clone() });
            }
            _ => self.discard(DiscardReason::Handshake, peer, None),
        }
    }

    fn on_stream(&mut self, report: ConnectionReport) {
        let ConnectionReport { connection, event } = report;
        let Some(link) = self.links.get(&connection) else { return };
        match event {
            Event::Opened { class, outbound, stream } => {
                // It fails only when the session is over, and then the link goes as well.
                let _ = link.streams.send(Opened { class, outbound, stream });
            }
            Event::Duplicate(class) => {
                self.discard(DiscardReason::DuplicateStream, Some(link.peer), Some(class));
                let reason = format!("it opened a second {class} stream");
                self.drop_link(connection, &reason, Again::KEPT_OUT);
            }
            Event::Failed(class, error) => {
                let reason = format!("cannot open the {class} stream: {error}");
                self.drop_link(connection, &reason, Again::Now);
            }
        }
    }

    fn on_established(&mut self, peer: PeerId, id: ConnectionId, endpoint: ConnectedPoint) {
        let target = self.dials.remove(&id);
        let Some(node) = NodeId::of_peer(&peer) else {
            // The gate lets in ed25519 keys only.
            self.swarm.close_connection(id);
            return;
        };
        let now = Instant::now();
        if let Some(target) = target {
            if let Err(expected) = self.targets.reached(target, node, now) {
                let remote = endpoint.get_remote_address();
                if self.targets.is_persistent(target) {
                    tracing::error!(
                        "{remote} is node {node}, not {expected}: check persistent_peers"
                    );
                }
                self.discard(DiscardReason::WrongNode, Some(peer), None);
                self.swarm.close_connection(id);
                return;
            }
            if self.targets.is_persistent(target) {
                self.swarm.behaviour_mut().gate.set_free(node);
            }
        }
        let (outbound, remote) = match endpoint {
            ConnectedPoint::Dialer { address, .. } => (true, address),
            ConnectedPoint::Listener { send_back_addr, .. } => (false, send_back_addr),
        };
        if outbound && self.is_superfluous(&peer, now) {
            self.swarm.close_connection(id);
            return;
        }
        self.greet(id, Established { peer, node, outbound, remote });
    }

    /// Starts the dials that are due and says when the next one is.
    fn dial_due(&mut self) -> Instant {
        let now = Instant::now();
        if self.listen_again.is_some_and(|due| due <= now) {
            let listen = address::multiaddr(self.listen, self.transport);
            self.listen_again = self.swarm.listen_on(listen).err().map(|_| now + LISTEN_AGAIN);
        }
        loop {
            let linked: HashSet<NodeId> = self.links.values().map(|link| link.node).collect();
            let may_learn = self.peer_exchange && self.swarm.behaviour().gate.may_dial();
            let next = self.targets.next(|node| linked.contains(node), may_learn);
            let listen_due = self.listen_again.unwrap_or(now + IDLE);
            match next {
                Some((id, due)) if due <= now => self.dial(id),
                Some((_, due)) => return due.min(listen_due),
                None => return listen_due,
            }
        }
    }

    fn dial(&mut self, id: TargetId) {
        self.targets.dialing(id);
        let Some((place, _)) = self.targets.place(id) else { return };
        match &place.host {
            Host::Ip(ip) => {
                let socket = SocketAddr::new(*ip, place.port);
                self.dial_socket(id, socket);
            }
            Host::Name(name) => {
                let (name, port) = (name.clone(), place.port);
                let resolved = self.resolved.clone();
                tokio::spawn(async move {
                    let lookup = tokio::net::lookup_host((name.as_str(), port));
                    let sockets = match tokio::time::timeout(RESOLVE_MAX, lookup).await {
                        Ok(found) => found.map(Iterator::collect),
                        Err(_) => Err(io::ErrorKind::TimedOut.into()),
                    };
                    // It fails only when the network has stopped.
                    let _ = resolved.send((id, sockets));
                });
            }
        }
    }

    fn on_resolved(&mut self, id: TargetId, resolved: io::Result<Vec<SocketAddr>>) {
        let Some((_, failures)) = self.targets.place(id) else { return };
        match resolved {
            Ok(sockets) if !sockets.is_empty() => {
                // Another of its addresses with every failure.
                let turn = usize::try_from(failures).unwrap_or(0) % sockets.len();
                self.dial_socket(id, sockets[turn]);
            }
            Ok(_) => self.target_failed(id, false, "the name has no address"),
            Err(error) => self.target_failed(id, false, &error.to_string()),
        }
    }

    fn dial_socket(&mut self, id: TargetId, socket: SocketAddr) {
        let options = DialOpts::unknown_peer_id()
            .address(address::multiaddr(socket, self.transport))
            .allocate_new_port()
            .build();
        self.dials.insert(options.connection_id(), id);
        let connection = options.connection_id();
        if let Err(error) = self.swarm.dial(options) {
            self.on_dial_failed(connection, &error);
        }
    }

    fn on_dial_failed(&mut self, connection: ConnectionId, error: &DialError) {
        let Some(id) = self.dials.remove(&connection) else { return };
        if let DialError::LocalPeerId { address } = error {
            tracing::warn!(%address, "the node at this address has this node's own key");
            self.event(NetworkEvent::OwnIdentity { address: address.clone() });
            self.targets.remove(id);
            return;
        }
        self.target_failed(id, transport::refused(error), &error.to_string());
    }

    fn target_failed(&mut self, id: TargetId, refused: bool, reason: &str) {
        let port = self.targets.place(id).map(|(place, _)| place.to_string()).unwrap_or_default();
        tracing::debug!(address = port, reason, "dial failed");
        match self.targets.failed(id, refused, Instant::now(), rand::random()) {
            Failure::Retrying => {}
            Failure::First => {
                let reason = if refused { "connection refused" } else { reason };
                tracing::info!("cannot reach {port} yet ({reason}), trying again");
            }
            Failure::Dead(peer) => self.event(NetworkEvent::Refused { peer }),
        }
    }
}
