//! Nodes for tests: each in a runtime of its own, so that it can be killed.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::network::*;

/// Longest wait for any event.
const WAIT_MAX: Duration = Duration::from_secs(15);
const INBOX_FRAMES_MAX: usize = 64;

pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT_MAX, future).await.expect("it happens in time")
}

pub(super) fn secret(n: u8) -> [u8; 32] {
    [n; 32]
}

/// A port that is free now.
pub(super) fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The proof of validator `n` for the node `peer`.
pub(super) fn validator(n: u8, peer: &PeerId) -> ValidatorProof {
    let key = SigningKey::from_bytes(&[100 + n; 32]);
    let signature = key.sign(&hello_sign_bytes("test-chain", peer)).to_bytes();
    ValidatorProof { key: key.verifying_key().to_bytes().to_vec(), signature }
}

pub(super) fn generous_limits() -> Limits {
    Limits { per_ip: 100, pending_per_ip: 100, ..Limits::default() }
}

#[derive(Clone)]
pub(super) struct Config {
    pub(super) settings: Settings,
    /// How many events may wait.
    pub(super) events_max: usize,
}

pub(super) fn config(n: u8) -> Config {
    let verify = |key: &[u8], message: &[u8], signature: &[u8; 64]| {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        let key = key.try_into().ok().and_then(|key| VerifyingKey::from_bytes(key).ok());
        key.is_some_and(|key| key.verify_strict(message, &signature).is_ok())
    };
    Config {
        events_max: 64,
        settings: Settings {
            secret: secret(n),
            listen: "127.0.0.1:0".parse().unwrap(),
            transport: Transport::Tcp,
            persistent: Vec::new(),
            unconditional: HashSet::new(),
            private: HashSet::new(),
            peer_exchange: false,
            limits: generous_limits(),
            classes: ClassLimits::default(),
            timeouts: Timeouts::default(),
            hello: HelloContent {
                version_min: 1,
                version_max: 1,
                genesis_hash: [1; 32],
                chain_id: "test-chain".to_owned(),
                validator: None,
                moniker: format!("node {n}"),
                listen_address: String::new(),
                rpc_address: String::new(),
                software_version: "0".to_owned(),
            },
            verify: Arc::new(verify),
            knows_validator: Arc::new(|_| false),
        },
    }
}

impl Config {
    pub(super) fn over(mut self, transport: Transport) -> Self {
        self.settings.transport = transport;
        self
    }

    pub(super) fn persistent(mut self, address: PeerAddress) -> Self {
        self.settings.persistent.push(address);
        self
    }

    pub(super) fn at(mut self, listen: SocketAddr) -> Self {
        self.settings.listen = listen;
        self
    }

    pub(super) fn with_validator(mut self, n: u8) -> Self {
        let peer = peer_id(self.settings.secret).unwrap();
        self.settings.hello.validator = Some(validator(n, &peer));
        self
    }

    pub(super) fn address_at(&self, listen: SocketAddr) -> PeerAddress {
        let peer = peer_id(self.settings.secret).unwrap();
        let id = NodeId::of_peer(&peer).unwrap();
        PeerAddress::NodeId { id, host: listen.ip().to_string(), port: listen.port() }
    }
}

pub(super) struct Node {
    pub(super) network: Network,
    pub(super) listen: SocketAddr,
    runtime: Option<Runtime>,
    config: Config,
    pub(super) events: mpsc::Receiver<NetworkEvent>,
    pub(super) inboxes: [mpsc::Receiver<Inbound>; Class::COUNT],
    discards: mpsc::UnboundedReceiver<Discard>,
}

impl Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Node")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Node {
    pub(super) fn try_start(config: Config) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (events_in, events) = mpsc::channel(config.events_max);
        let (senders, inboxes): (Vec<_>, Vec<_>) =
            (0..Class::COUNT).map(|_| mpsc::channel(INBOX_FRAMES_MAX)).unzip();
        let (discards_in, discards) = mpsc::unbounded_channel();
        let inboxes_in = Inboxes {
            consensus: senders[0].clone(),
            bodies: senders[1].clone(),
            transactions: senders[2].clone(),
            sync: senders[3].clone(),
            events: events_in,
        };
        let audit = Arc::new(move |discard| {
            let _ = discards_in.send(discard);
        });
        let guard = runtime.enter();
        let started = start(config.settings.clone(), inboxes_in, audit);
        drop(guard);
        let network = match started {
            Ok((network, _task)) => network,
            Err(error) => {
                runtime.shutdown_background();
                return Err(error);
            }
        };
        Ok(Self {
            network,
            listen: config.settings.listen,
            runtime: Some(runtime),
            config,
            events,
            inboxes: inboxes.try_into().unwrap(),
            discards,
        })
    }

    /// Starts and waits until the node listens. A port that a killed node has not closed yet is
    /// waited for by trying again.
    pub(super) async fn start(config: Config) -> Self {
        let mut node = soon(async {
            loop {
                match Self::try_start(config.clone()) {
                    Ok(node) => return node,
                    Err(StartError::Listen { .. }) => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            }
        })
        .await;
        node.listen = node
            .event(|event| match event {
                NetworkEvent::Listening(socket) => Some(*socket),
                _ => None,
            })
            .await;
        node
    }

    pub(super) fn address(&self) -> PeerAddress {
        self.config.address_at(self.listen)
    }

    /// Ends the node as `kill -9` would: no goodbye, all sockets closed.
    pub(super) fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// The next event must be the wanted one.
    pub(super) async fn event<T>(&mut self, wanted: impl Fn(&NetworkEvent) -> Option<T>) -> T {
        let event = soon(self.events.recv()).await.expect("the network runs");
        wanted(&event).unwrap_or_else(|| panic!("unexpected event {event:?}"))
    }

    pub(super) async fn connected(&mut self) -> PeerInfo {
        self.event(|event| match event {
            NetworkEvent::Connected(info) => Some(info.clone()),
            _ => None,
        })
        .await
    }

    pub(super) async fn disconnected(&mut self) -> (PeerId, String) {
        self.event(|event| match event {
            NetworkEvent::Disconnected { peer, reason, .. } => Some((*peer, reason.clone())),
            _ => None,
        })
        .await
    }

    pub(super) async fn refused(&mut self) -> PeerId {
        self.event(|event| match event {
            NetworkEvent::Refused { peer } => Some(*peer),
            _ => None,
        })
        .await
    }

    pub(super) fn no_more_events(&mut self) -> bool {
        self.events.try_recv().is_err()
    }

    pub(super) async fn receive(&mut self, class: Class) -> Inbound {
        soon(self.inboxes[class.index()].recv()).await.expect("the network runs")
    }

    pub(super) fn nothing_received(&mut self, class: Class) -> bool {
        self.inboxes[class.index()].try_recv().is_err()
    }

    pub(super) async fn discarded(&mut self, reason: DiscardReason) -> Discard {
        soon(async {
            loop {
                let discard = self.discards.recv().await.expect("the network runs");
                if discard.reason == reason {
                    return discard;
                }
            }
        })
        .await
    }

    async fn gauges(&self, wanted: impl FnMut(&Gauges) -> bool) {
        let mut gauges = self.network.gauges.clone();
        gauges.wait_for(wanted).await.expect("the network runs");
    }

    /// No connection and no dial besides the persistent ones.
    pub(super) async fn idle(&self) {
        let addresses = self.config.settings.persistent.len();
        let idle = Gauges { peers: 0, connections: 0, addresses };
        self.gauges(|gauges| *gauges == idle).await;
    }

    pub(super) async fn connections(&self, count: usize) {
        self.gauges(|gauges| gauges.connections == count).await;
    }

    pub(super) async fn present(&self, count: usize) {
        self.gauges(|gauges| gauges.peers == count).await;
    }
}
