//! What the parts of the node need, from the configuration, the genesis and the keys.

use crate::engine::pace::PaceSettings;
use crate::engine::work::WorkSettings;
use crate::execution::State;
use crate::mempool;
use crate::network::{PeerAddress, Transport};
use crate::probe::Probe;
use crate::rpc;
use bytes::Bytes;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tendermint::block::Height;
use tercet_config::ValidatorSecret;

/// Everything that the node is told, checked.
pub struct Settings {
    /// `data/`.
    pub data: PathBuf,
    /// `data/priv_validator_state.json`.
    pub sign_state: PathBuf,
    /// The chain.
    pub chain: ChainSettings,
    /// The name that the operator gave the node.
    pub moniker: String,
    /// The ed25519 secret of `node_key.json`.
    pub node_secret: [u8; 32],
    /// The secret of `priv_validator_key.json`.
    pub validator_secret: ValidatorSecret,
    /// The application.
    pub app: tercet_abci::Named,
    /// How an application in another process is called.
    pub app_calls: tercet_abci::remote::Settings,
    /// Peers.
    pub network: NetworkSettings,
    /// The pool.
    pub mempool: mempool::Settings,
    /// T.
    pub pace: PaceSettings,
    /// How long a timer runs where the primary's process died.
    pub disconnect_grace: Duration,
    /// When a block is due.
    pub work: WorkSettings,
    /// Clients.
    pub rpc: RpcSettings,
    /// Whether transactions and blocks are indexed by their events.
    pub is_indexed: bool,
    /// Prometheus; none where it is not served.
    pub metrics: Option<MetricsSettings>,
    /// Who hears where blocks are on their way; nobody but in tests.
    pub probe: Probe,
}

/// What the genesis says.
pub struct ChainSettings {
    /// The state before the first block.
    pub genesis: State,
    /// Whether the genesis names validators; where not, those of `genesis` stand in for what `InitChain` has to name.
    pub names_validators: bool,
    /// `app_state`, byte for byte.
    pub app_state: Bytes,
    /// The hash that peers compare.
    pub genesis_hash: [u8; 32],
    /// Genesis parameter `primary_term`.
    pub term: u64,
    /// The genesis as the RPC shows it.
    pub shown: rpc::sources::Genesis,
}

/// Peers.
pub struct NetworkSettings {
    /// Where to accept them.
    pub listen: SocketAddr,
    /// The address that peers are told.
    pub external: Option<String>,
    /// What carries the bytes.
    pub transport: Transport,
    /// Peers to stay connected to.
    pub persistent: Vec<PeerAddress>,
    /// Peers that inbound limits do not count.
    pub unconditional: Vec<crate::network::NodeId>,
    /// Peers whose addresses are not told to others.
    pub private: Vec<crate::network::NodeId>,
    /// Whether to dial addresses that peers tell, and to tell them.
    pub peer_exchange: bool,
    /// Inbound and outbound connections.
    pub inbound_max: usize,
    /// Outbound connections to peers that are not persistent.
    pub outbound_max: usize,
    /// Until a connection is made.
    pub dial_timeout: Duration,
    /// Until it is encrypted.
    pub handshake_timeout: Duration,
    /// Connections from one IP address.
    pub per_ip_max: usize,
}

/// Clients.
pub struct RpcSettings {
    /// Where to listen; none for no RPC.
    pub laddr: Option<String>,
    /// Certificate and key, where it speaks TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Limits.
    pub limits: rpc::Limits,
    /// Where CometBFT's gRPC listens; none for none.
    pub grpc_laddr: Option<String>,
    /// Connections to it at a time; 0 is no limit.
    pub grpc_connections_max: usize,
}

/// Prometheus.
pub struct MetricsSettings {
    /// Where to listen: `host:port`.
    pub address: String,
    /// Connections at a time; 0 is no limit.
    pub connections_max: usize,
    /// What CometBFT's names begin with.
    pub namespace: String,
}

impl ChainSettings {
    /// The chain.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.genesis.chain_id
    }

    /// The height of its first block.
    #[must_use]
    pub fn initial_height(&self) -> Height {
        self.genesis.initial_height
    }
}
