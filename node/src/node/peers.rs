//! The network, started with what peers are told and limited to.

use super::{BODIES_MAX, INBOX_MAX, PROTOCOL_VERSIONS, Settings};
use crate::audit::Audit;
use crate::engine::heights::Sets;
use crate::engine::signer::LocalSigner;
use crate::execution::block;
use crate::network::{
    self, ClassLimits, HelloContent, Inbound, Inboxes, Limits, Network, NetworkEvent, Timeouts,
    ValidatorProof,
};
use anyhow::Context as _;
use std::sync::Arc;
use tercet_consensus::key::{PublicKey, Signature};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// Events of the network that wait: two for each peer that is connected, and others.
const EVENTS_MAX: usize = 1_024;

/// The network with the other ends of its inboxes.
pub(super) struct Peers {
    pub(super) network: Network,
    pub(super) task: tokio::task::JoinHandle<()>,
    pub(super) consensus: mpsc::Receiver<Inbound>,
    pub(super) bodies: mpsc::Receiver<Inbound>,
    pub(super) transactions: mpsc::Receiver<Inbound>,
    pub(super) sync: mpsc::Receiver<Inbound>,
    pub(super) events: mpsc::Receiver<NetworkEvent>,
}

pub(super) fn start_network(
    settings: &Settings,
    signer: &LocalSigner,
    sets: &Sets,
    audit: &Audit,
    runtime: &Runtime,
) -> anyhow::Result<Peers> {
    let _inside = runtime.enter();
    let (consensus_in, consensus) = mpsc::channel(INBOX_MAX);
    let (bodies_in, bodies) = mpsc::channel(BODIES_MAX);
    let (transactions_in, transactions) = mpsc::channel(INBOX_MAX / 4);
    let (sync_in, sync) = mpsc::channel(BODIES_MAX);
    let (events_in, events) = mpsc::channel(EVENTS_MAX);
    let inboxes = Inboxes {
        consensus: consensus_in,
        bodies: bodies_in,
        transactions: transactions_in,
        sync: sync_in,
        events: events_in,
    };
    let audit = audit.clone();
    let (network, task) = network::start(
        network_settings(settings, signer, sets)?,
        inboxes,
        Arc::new(move |discard| audit.discard(discard)),
    )?;
    Ok(Peers { network, task, consensus, bodies, transactions, sync, events })
}

fn network_settings(
    settings: &Settings,
    signer: &LocalSigner,
    sets: &Sets,
) -> anyhow::Result<network::Settings> {
    let peer_id = network::peer_id(settings.node_secret).context("the node key cannot be used")?;
    let proof = ValidatorProof {
        key: signer.public().to_bytes().to_vec(),
        signature: signer.hello(settings.chain.id(), &peer_id.to_bytes()),
    };
    let net = &settings.network;
    let heights = sets.published();
    let bytes_max = block::block_bytes_max(&settings.chain.genesis.params);
    Ok(network::Settings {
        secret: settings.node_secret,
        listen: net.listen,
        transport: net.transport,
        persistent: net.persistent.clone(),
        unconditional: net.unconditional.iter().copied().collect(),
        private: net.private.iter().copied().collect(),
        peer_exchange: net.peer_exchange,
        limits: Limits {
            inbound: net.inbound_max,
            outbound: net.outbound_max,
            per_ip: net.per_ip_max,
            ..Limits::default()
        },
        classes: ClassLimits::default().with_block_bytes(bytes_max),
        timeouts: Timeouts {
            dial: net.dial_timeout,
            handshake: net.handshake_timeout,
            ..Timeouts::default()
        },
        hello: HelloContent {
            version_min: PROTOCOL_VERSIONS.0,
            version_max: PROTOCOL_VERSIONS.1,
            genesis_hash: settings.chain.genesis_hash,
            chain_id: settings.chain.id().to_owned(),
            validator: Some(proof),
            moniker: settings.moniker.clone(),
            listen_address: net.external.clone().unwrap_or_else(|| net.listen.to_string()),
            rpc_address: settings.rpc.laddr.clone().unwrap_or_default().replace("tcp://", ""),
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        verify: Arc::new(|key, message, signature| {
            PublicKey::from_bytes(key)
                .is_some_and(|key| key.verify(message, &Signature(*signature)))
        }),
        knows_validator: Arc::new(move |key| {
            let Some(key) = PublicKey::from_bytes(key) else { return false };
            let heights = heights.load();
            let info = heights.at(heights.current);
            info.is_some_and(|info| info.validators.index_of(&key.address()).is_some())
        }),
    })
}
