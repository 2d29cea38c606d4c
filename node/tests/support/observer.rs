//! A peer that only looks: what every validator signed, as any node of the network sees it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tercet_consensus::key::{Address, PublicKey, Signature};
use tercet_consensus::message::{Message, Phase, SignedVote};
use tercet_node::network::{
    self, Class, ClassLimits, HelloContent, Inbound, Inboxes, Limits, Network, PeerAddress,
    Timeouts, Transport,
};
use tercet_node::wire::{Consensus, Frame};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// The distinct votes of one validator for one height and view.
type Votes = BTreeMap<(Address, u64, u32, Phase), Vec<SignedVote>>;

/// Connected to nodes, it keeps every vote that they send.
pub(crate) struct Observer {
    votes: Arc<Mutex<Votes>>,
    network: Network,
    runtime: Option<Runtime>,
}

impl Observer {
    /// An observer of the nodes at these addresses.
    pub(crate) fn start(number: u8, nodes: Vec<PeerAddress>) -> Observer {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let _inside = runtime.enter();
        let (inboxes, consensus) = inboxes(&runtime);
        let (network, _) =
            network::start(settings(number, nodes), inboxes, Arc::new(|_| ())).expect("a network");
        let votes = Arc::<Mutex<Votes>>::default();
        runtime.spawn(watch(consensus, votes.clone()));
        Observer { votes, network, runtime: Some(runtime) }
    }

    /// Waits until it is connected to so many nodes.
    pub(crate) fn wait_for(&self, nodes: usize) {
        let deadline = std::time::Instant::now() + super::PATIENCE;
        while self.network.peers().len() < nodes {
            assert!(std::time::Instant::now() < deadline, "the observer is not connected");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Says something to all.
    pub(crate) fn say(&self, message: &Consensus) {
        if let Frame::Consensus(frame) = message.encode() {
            self.network.broadcast(Class::Consensus, frame);
        }
    }

    /// No validator signed two blocks for one height, view and phase.
    pub(crate) fn assert_nobody_signed_twice(&self) {
        for (key, votes) in &*self.votes.lock().expect("no panic holds it") {
            let first = &votes[0].message.block_id;
            let same = votes.iter().all(|vote| vote.message.block_id == *first);
            assert!(same, "two votes at {key:?}: {votes:?}");
        }
    }

    /// The heights at which this validator was seen to vote, with how many different signatures each has at most.
    pub(crate) fn heights_of(&self, validator: Address) -> BTreeMap<u64, usize> {
        let mut heights = BTreeMap::new();
        for ((who, height, _, _), votes) in &*self.votes.lock().expect("no panic holds it") {
            if *who == validator {
                let most: &mut usize = heights.entry(*height).or_default();
                *most = (*most).max(votes.len());
            }
        }
        heights
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.network.stop();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn watch(mut consensus: mpsc::Receiver<Inbound>, votes: Arc<Mutex<Votes>>) {
    while let Some(inbound) = consensus.recv().await {
        let Ok(Consensus::Message(Message::Vote(vote))) = Consensus::decode(inbound.bytes) else {
            continue;
        };
        let message = &vote.message;
        let key = (message.validator, message.height.value(), message.view.number(), message.phase);
        let mut votes = votes.lock().expect("no panic holds it");
        let known = votes.entry(key).or_default();
        if !known.contains(&vote) {
            known.push(vote);
        }
    }
}

fn inboxes(runtime: &Runtime) -> (Inboxes, mpsc::Receiver<Inbound>) {
    let (consensus, received) = mpsc::channel(1_024);
    let ignored = || {
        let (sender, mut receiver) = mpsc::channel::<Inbound>(64);
        runtime.spawn(async move { while receiver.recv().await.is_some() {} });
        sender
    };
    let (events, mut told) = mpsc::channel(64);
    runtime.spawn(async move { while told.recv().await.is_some() {} });
    let inboxes =
        Inboxes { consensus, bodies: ignored(), transactions: ignored(), sync: ignored(), events };
    (inboxes, received)
}

/// What a peer needs to connect to the test chain.
pub(crate) fn settings(number: u8, nodes: Vec<PeerAddress>) -> network::Settings {
    network::Settings {
        secret: [0x90 + number; 32],
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        transport: Transport::Tcp,
        persistent: nodes,
        unconditional: Default::default(),
        private: Default::default(),
        peer_exchange: false,
        limits: Limits::default(),
        classes: ClassLimits::default().with_block_bytes(1 << 20),
        timeouts: Timeouts::default(),
        hello: HelloContent {
            version_min: 1,
            version_max: 1,
            genesis_hash: [7; 32],
            chain_id: "test-chain".into(),
            validator: None,
            moniker: "observer".into(),
            listen_address: String::new(),
            rpc_address: String::new(),
            software_version: String::new(),
        },
        verify: Arc::new(|key, message, signature| {
            PublicKey::ed25519(key).is_some_and(|key| key.verify(message, &Signature(*signature)))
        }),
        knows_validator: Arc::new(|_| true),
    }
}
