//! The libp2p side of a connection: opens one outbound stream a class, accepts one inbound stream
//! a class, and passes both on. Each side writes only on the streams that it opened.
//!
//! This replaces `libp2p-stream`, whose streams do not say which connection they belong to (two
//! connections exist for a moment after a simultaneous dial), which drops inbound streams when
//! several peers connect at once, and which keeps an entry for every connection ever made.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, ReadyUpgrade, UpgradeInfo};
use libp2p::swarm::behaviour::ConnectionClosed;
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, Stream, StreamProtocol, SubstreamProtocol, THandlerInEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::Class;
use super::address;
use super::limits::Gate;

/// Longest negotiation of a stream.
const NEGOTIATION_MAX: Duration = Duration::from_secs(10);

impl Class {
    fn protocol(self) -> StreamProtocol {
        StreamProtocol::new(match self {
            Self::Consensus => "/tercet/consensus/1",
            Self::Bodies => "/tercet/bodies/1",
            Self::Transactions => "/tercet/transactions/1",
            Self::Sync => "/tercet/sync/1",
        })
    }
}

/// What happened on a connection.
#[derive(Debug)]
pub(super) enum Event {
    /// A stream is negotiated: ours to write on if `outbound`, ours to read from otherwise.
    Opened { class: Class, outbound: bool, stream: Stream },
    /// The peer opened a second stream of a class.
    Duplicate(Class),
    /// The peer does not accept our stream.
    Failed(Class, String),
}

/// Accepts the stream of any class.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnyClass;

impl UpgradeInfo for AnyClass {
    type Info = StreamProtocol;
    type InfoIter = std::array::IntoIter<StreamProtocol, { Class::COUNT }>;

    fn protocol_info(&self) -> Self::InfoIter {
        Class::ALL.map(Class::protocol).into_iter()
    }
}

impl InboundUpgrade<Stream> for AnyClass {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

/// The streams of one connection.
#[derive(Debug)]
pub(super) struct Handler {
    to_open: VecDeque<Class>,
    accepted: [bool; Class::COUNT],
    events: VecDeque<Event>,
}

impl Handler {
    fn new() -> Self {
        Self {
            to_open: Class::ALL.into(),
            accepted: [false; Class::COUNT],
            events: VecDeque::new(),
        }
    }

    fn accept(&mut self, stream: Stream, protocol: &StreamProtocol) {
        let Some(class) = Class::ALL.into_iter().find(|c| c.protocol() == *protocol) else {
            return;
        };
        if std::mem::replace(&mut self.accepted[class.index()], true) {
            // One is enough to cut the peer; more are not worth memory.
            if self.events.is_empty() {
                self.events.push_back(Event::Duplicate(class));
            }
        } else {
            self.events.push_back(Event::Opened { class, outbound: false, stream });
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Event;
    type InboundProtocol = AnyClass;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Class;

    fn listen_protocol(&self) -> SubstreamProtocol<AnyClass> {
        SubstreamProtocol::new(AnyClass, ()).with_timeout(NEGOTIATION_MAX)
    }

    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Class, Event>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        if let Some(class) = self.to_open.pop_front() {
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(class.protocol()), class)
                .with_timeout(NEGOTIATION_MAX);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, AnyClass, Self::OutboundProtocol, (), Class>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, protocol),
                ..
            }) => self.accept(stream, &protocol),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info: class,
            }) => self.events.push_back(Event::Opened { class, outbound: true, stream }),
            ConnectionEvent::DialUpgradeError(failure) => {
                let reason = failure.error.to_string();
                self.events.push_back(Event::Failed(failure.info, reason));
            }
            _ => {}
        }
    }
}

/// What a connection has to say, and which connection.
#[derive(Debug)]
pub(super) struct ConnectionReport {
    pub(super) connection: ConnectionId,
    pub(super) event: Event,
}

/// Asks the gate about every connection and collects streams.
#[derive(Debug)]
pub(super) struct Behaviour {
    pub(super) gate: Gate,
    reports: VecDeque<ConnectionReport>,
}

impl Behaviour {
    pub(super) fn new(gate: Gate) -> Self {
        Self { gate, reports: VecDeque::new() }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = ConnectionReport;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let ip = address::socket(remote).map(|socket| socket.ip());
        self.gate.pending(connection, ip, Instant::now()).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        let admitted = self.gate.inbound(connection, peer, Instant::now());
        admitted.map(|()| Handler::new()).map_err(ConnectionDenied::new)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        let ip = address::socket(remote).map(|socket| socket.ip());
        let admitted = self.gate.outbound(connection, peer, ip);
        admitted.map(|()| Handler::new()).map_err(ConnectionDenied::new)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                self.gate.ended(connection_id, Instant::now());
            }
            FromSwarm::ListenFailure(failure) => {
                self.gate.ended(failure.connection_id, Instant::now())
            }
            FromSwarm::DialFailure(failure) => {
                self.gate.ended(failure.connection_id, Instant::now())
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, connection: ConnectionId, event: Event) {
        self.reports.push_back(ConnectionReport { connection, event });
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ToSwarm<ConnectionReport, THandlerInEvent<Self>>> {
        match self.reports.pop_front() {
            Some(report) => Poll::Ready(ToSwarm::GenerateEvent(report)),
            None => Poll::Pending,
        }
    }
}
