//! The network: carries frames of bytes between peers. It knows peers, not consensus.
//!
//! * libp2p over TCP with Noise and Yamux, or over QUIC. A node's identity is the ed25519 key of
//!   its `node_key.json`, so a [`NodeId`] is CometBFT's.
//! * One long-lived stream a [`Class`] and direction; each side writes only on the streams that it
//!   opened. Frames have a length prefix of four bytes; a prefix above the limit of the class cuts
//!   the peer before anything is allocated for it.
//! * Hello first, in both directions: chain id, genesis hash, protocol versions, and a
//!   validator's proof of its key. Nothing is delivered, and the peer is not shown, before that.
//! * Two nodes that dial each other at the same moment keep the connection that the smaller peer
//!   id dialled; the other closes without an event.
//! * Received frames wait for room in the inbox of their class, and so does the peer, by TCP.
//!   Frames to send wait in a queue a peer and class, bounded in frames and bytes. A peer whose
//!   queue overflows (but for transactions, which the caller keeps), that takes no byte for
//!   [`Timeouts::write_stall`], or that is silent for [`Timeouts::silence`], is dropped.
//! * A persistent peer whose connection closes is dialled at once; if its port is closed by then,
//!   [`NetworkEvent::Refused`] says so within milliseconds: its process died. (Over QUIC nothing
//!   refuses a dial, and a dead peer is noticed by its silence only.)
//!
//! [`Network`] is a cheap handle for any thread. One task owns the libp2p swarm, and a few tasks a
//! peer read and write; a frame passes from [`Network::send`] to its writer without a hop through
//! the swarm's task.

mod address;
mod behaviour;
mod dial;
mod hello;
mod limits;
mod links;
mod muxer;
mod peers;
mod presence;
#[cfg(any(test, feature = "testing"))]
pub mod raw;
mod rooms;
mod session;
mod streams;
mod swarm;
mod targets;
#[cfg(test)]
pub(crate) mod tests;
mod transport;

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p::Multiaddr;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, watch};
use tokio::task::JoinHandle;

pub use address::{AddressError, NodeId, PeerAddress, public_key};
pub use hello::{
    Hello, HelloContent, HelloError, ValidatorProof, VerifySignature,
    sign_bytes as hello_sign_bytes,
};
pub use libp2p::PeerId;
pub use limits::{ClassLimit, ClassLimits, Limits};
pub use peers::{PeerInfo, Traffic};

pub use swarm::Occasional;

use peers::{Penalty, Table};

/// What a frame is about. Each class has its own stream, limits and queues, so that none waits
/// for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Votes, view changes, status.
    Consensus,
    /// Block bodies.
    Bodies,
    /// Transactions.
    Transactions,
    /// Catch-up.
    Sync,
}

impl Class {
    /// How many classes.
    pub const COUNT: usize = 4;
    /// All classes.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Consensus, Self::Bodies, Self::Transactions, Self::Sync];

    /// The position in [`Class::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The name in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Consensus => "consensus",
            Self::Bodies => "bodies",
            Self::Transactions => "transactions",
            Self::Sync => "sync",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What carries the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Transport {
    /// TCP with Noise and Yamux: the lowest latency.
    #[default]
    Tcp,
    /// QUIC over UDP.
    Quic,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Quic => "quic",
        })
    }
}

/// How long to wait for what.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// Until a TCP connection is made.
    pub dial: Duration,
    /// Until a connection is encrypted and multiplexed, either way.
    pub handshake: Duration,
    /// Until the peer's hello is there.
    pub hello: Duration,
    /// While a peer takes no byte of a write.
    pub write_stall: Duration,
    /// After which an idle consensus stream gets an empty frame.
    pub keep_alive: Duration,
    /// While nothing at all comes on the consensus stream.
    pub silence: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            dial: Duration::from_secs(3),
            handshake: Duration::from_secs(10),
            hello: Duration::from_secs(5),
            write_stall: Duration::from_secs(10),
            keep_alive: Duration::from_secs(5),
            silence: Duration::from_secs(20),
        }
    }
}

/// Says whether a consensus key is of a validator of the chain.
pub type KnowsValidator = dyn Fn(&[u8]) -> bool + Send + Sync;
/// Takes note of what is thrown away.
pub type Audit = dyn Fn(Discard) + Send + Sync;

/// Everything that the network has to be told.
#[derive(Clone)]
pub struct Settings {
    /// The ed25519 secret of `node_key.json` (its first 32 bytes).
    pub secret: [u8; 32],
    /// Where to accept peers. Port 0 takes a free one, see [`NetworkEvent::Listening`].
    pub listen: SocketAddr,
    /// What carries the bytes; the same on all nodes of a chain.
    pub transport: Transport,
    /// Peers to stay connected to; inbound limits do not count them.
    pub persistent: Vec<PeerAddress>,
    /// Other nodes that inbound limits do not count (CometBFT `unconditional_peer_ids`).
    pub unconditional: HashSet<NodeId>,
    /// Nodes whose addresses are not told to others (CometBFT `private_peer_ids`).
    pub private: HashSet<NodeId>,
    /// Whether to dial addresses that peers tell, and to tell them.
    pub peer_exchange: bool,
    /// How many connections.
    pub limits: Limits,
    /// How large frames and queues.
    pub classes: ClassLimits,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// What this node says of itself.
    pub hello: HelloContent,
    /// Checks the signature in a hello.
    pub verify: Arc<VerifySignature>,
    /// Who may use the inbound slots for validators.
    pub knows_validator: Arc<KnowsValidator>,
}

/// So many frames of [`Class::Consensus`] of one peer may be received and not done with: the next one is read when one of them is, and until
/// then the peer waits, by TCP. A correct peer has more under way in a burst alone, such as all votes of a large height that it passes on.
pub const SHARE_FRAMES_MAX: usize = 128;
/// The same of [`Class::Bodies`].
pub const SHARE_BODIES_MAX: usize = 4;
/// The same in bytes, of each of both classes: an eighth of what may wait to be verified, so that no peer fills that alone. A longer frame waits
/// until none of its peer is under way.
pub const SHARE_BYTES_MAX: u32 = 8 * 1024 * 1024;

/// A frame from a peer whose hello is done. Up to 4 KiB, `bytes` has its memory to itself; longer
/// ones may share theirs with a neighbour, so copy a part that is to be kept for long.
#[derive(Debug)]
pub struct Inbound {
    /// Who sent it.
    pub peer: PeerId,
    /// On which stream it came.
    pub class: Class,
    /// The frame.
    pub bytes: Bytes,
    /// What it takes of the room for frames of its class that wait, given back when this is
    /// dropped.
    pub room: Option<OwnedSemaphorePermit>,
    /// What it takes of its peer's share, where its class has one: see [`SHARE_FRAMES_MAX`].
    pub share: Option<OwnedSemaphorePermit>,
}

/// Where received frames and events go.
#[derive(Debug, Clone)]
pub struct Inboxes {
    /// Frames of [`Class::Consensus`].
    pub consensus: mpsc::Sender<Inbound>,
    /// Frames of [`Class::Bodies`].
    pub bodies: mpsc::Sender<Inbound>,
    /// Frames of [`Class::Transactions`].
    pub transactions: mpsc::Sender<Inbound>,
    /// Frames of [`Class::Sync`].
    pub sync: mpsc::Sender<Inbound>,
    /// Peers that come and go. A peer is let in only where there is room to tell that it comes
    /// and that it goes.
    pub events: mpsc::Sender<NetworkEvent>,
}

impl Inboxes {
    fn of(&self, class: Class) -> &mpsc::Sender<Inbound> {
        match class {
            Class::Consensus => &self.consensus,
            Class::Bodies => &self.bodies,
            Class::Transactions => &self.transactions,
            Class::Sync => &self.sync,
        }
    }
}

/// Peers that come and go. A frame of a peer may overtake its `Connected`, because frames and
/// events have channels of their own; the peer is in [`Network::peers`] before both.
#[derive(Debug, Clone)]
pub enum NetworkEvent {
    /// The node accepts peers at this address.
    Listening(SocketAddr),
    /// The hello of a peer is done.
    Connected(PeerInfo),
    /// A connected peer is gone.
    Disconnected {
        /// Who.
        peer: PeerId,
        /// The same, by its node id.
        node_id: NodeId,
        /// Why, in words.
        reason: String,
    },
    /// A peer whose connection just closed has closed its port as well: its process died.
    Refused {
        /// Who.
        peer: PeerId,
    },
    /// The node at this address has our own identity: it is this node, or a copy of its home.
    OwnIdentity {
        /// Which address.
        address: Multiaddr,
    },
}

/// Something that was thrown away, and whose it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discard {
    /// Why.
    pub reason: DiscardReason,
    /// Whose, if it is known.
    pub peer: Option<PeerId>,
    /// Of which class, if it is known.
    pub class: Option<Class>,
}

/// Why something was thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiscardReason {
    /// A frame longer than its class allows.
    Oversized,
    /// A frame that ended before its length: the connection closed within it.
    Truncated,
    /// A hello that could not be read or had impossible fields.
    MalformedHello,
    /// A hello of another chain, genesis or protocol.
    Incompatible,
    /// A hello whose signature did not prove its consensus key.
    BadSignature,
    /// A second stream of a class.
    DuplicateStream,
    /// A connection beyond the limits, or of a peer that was refused a moment ago.
    ConnectionDenied,
    /// Another node than the expected one answered a dial.
    WrongNode,
    /// A connection whose handshake failed: random bytes, or another protocol.
    Handshake,
}

impl DiscardReason {
    /// The name in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Oversized => "oversized",
            Self::Truncated => "truncated",
            Self::MalformedHello => "malformed_hello",
            Self::Incompatible => "incompatible",
            Self::BadSignature => "bad_signature",
            Self::DuplicateStream => "duplicate_stream",
            Self::ConnectionDenied => "connection_denied",
            Self::WrongNode => "wrong_node",
            Self::Handshake => "handshake",
        }
    }
}

/// Why the network did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// [`start`] was called outside a tokio runtime.
    #[error("the network needs a tokio runtime")]
    Runtime,
    /// The keys do not work.
    #[error("the node key cannot be used")]
    Key,
    /// A peer address that cannot be dialled.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A queue that does not hold one frame of the longest.
    #[error("the {0} queue holds no frame of the longest that its class allows")]
    Limits(Class),
    /// The address is in use or not of this machine.
    #[error("cannot listen on {address}: {reason}; is another node running?")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
}

/// Why a frame was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No such peer, or its hello is not done.
    #[error("the peer is not connected")]
    NotConnected,
    /// The queue is full. For a class other than transactions the peer is being dropped.
    #[error("the queue of the peer is full")]
    Full,
    /// The frame is empty or longer than its class allows.
    #[error("the frame is empty or longer than its class allows")]
    Size,
}

/// How much the network holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gauges {
    /// Peers whose hello is done.
    pub peers: usize,
    /// Connections, those in their handshake included.
    pub connections: usize,
    /// Addresses that are dialled when they are not connected.
    pub addresses: usize,
}

/// A cheap handle on the network, for any thread.
#[derive(Clone)]
pub struct Network {
    local: PeerId,
    table: Arc<Table>,
    stop: Arc<Notify>,
    gauges: watch::Receiver<Gauges>,
    dials: mpsc::Sender<Dial>,
}

/// Peers to dial, beside those of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Their addresses.
    pub peers: Vec<PeerAddress>,
    /// Whether to stay connected to them.
    pub persistent: bool,
    /// Whether the limits of connections do not count them.
    pub unconditional: bool,
    /// Whether others are not told of them.
    pub private: bool,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("local", &self.local).finish_non_exhaustive()
    }
}

impl Network {
    /// This node.
    #[must_use]
    pub fn local(&self) -> PeerId {
        self.local
    }

    /// Queues a frame for a peer. Never waits.
    ///
    /// # Errors
    /// When the peer is not connected, the frame is too long, or the queue is full; then, but for
    /// transactions, the peer is dropped, because it does not read.
    pub fn send(&self, peer: PeerId, class: Class, frame: Bytes) -> Result<(), SendError> {
        let table = self.table.load();
        table.peers.get(&peer).ok_or(SendError::NotConnected)?.send(class, frame)
    }

    /// Queues a frame for every peer whose hello is done. Never waits.
    pub fn broadcast(&self, class: Class, frame: Bytes) {
        for peer in self.table.load().peers.values() {
            // A full queue is counted and punished in `Peer::send`.
            let _ = peer.send(class, frame.clone());
        }
    }

    /// The peers whose hello is done.
    #[must_use]
    pub fn peers(&self) -> Arc<Vec<PeerInfo>> {
        Arc::clone(&self.table.load().infos)
    }

    /// Drops a peer and keeps it out for ten seconds.
    pub fn disconnect(&self, peer: PeerId, reason: impl Into<String>) {
        self.cut(peer, reason.into(), Penalty::Peer);
    }

    /// The same for one that floods: whoever comes from its IP address (IPv6: its network of 64 bits) is kept out with it and is not even
    /// asked who he is, unless a validator or a node that is always let in was connected from there within an hour.
    pub fn expel(&self, peer: PeerId, reason: impl Into<String>) {
        self.cut(peer, reason.into(), Penalty::Place);
    }

    fn cut(&self, peer: PeerId, reason: String, penalty: Penalty) {
        if let Some(peer) = self.table.load().peers.get(&peer) {
            peer.cut(reason, penalty);
        }
    }

    /// How much the network holds.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        *self.gauges.borrow()
    }

    /// Has peers dialled. What becomes of it shows in [`Network::peers`]; false where too much is to be dialled already, or the node
    /// stops.
    #[must_use]
    pub fn dial(&self, dial: Dial) -> bool {
        self.dials.try_send(dial).is_ok()
    }

    /// Closes all connections and ends the network's task.
    pub fn stop(&self) {
        self.stop.notify_one();
    }
}

/// The peer id of a node with this secret; also what a hello signature binds.
#[must_use]
pub fn peer_id(secret: [u8; 32]) -> Option<PeerId> {
    let keys = libp2p::identity::Keypair::ed25519_from_bytes(secret).ok()?;
    Some(keys.public().to_peer_id())
}

/// Starts the network on the current tokio runtime. The task ends when [`Network::stop`] is
/// called, and by nothing else.
///
/// # Errors
/// When the settings cannot work or the address cannot be listened on.
pub fn start(
    settings: Settings,
    inboxes: Inboxes,
    audit: Arc<Audit>,
) -> Result<(Network, JoinHandle<()>), StartError> {
    swarm::start(settings, inboxes, audit)
}
