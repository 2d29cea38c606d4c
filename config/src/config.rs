//! The configuration of a node, typed. Which key of `config.toml` is which field, and what it means, stands in `keys`.

use crate::address::Listen;
use crate::peers::{NodeIdText, PeerText};
use std::path::PathBuf;
use std::time::Duration;

/// The pace of empty blocks where `create_empty_blocks` is on without an interval.
pub const EMPTY_BLOCK_INTERVAL: Duration = Duration::from_secs(1);

/// Everything that `config.toml`, the environment and flags say about a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `proxy_app`: the application.
    pub proxy_app: ProxyApp,
    /// `abci`: how an application in another process is spoken to.
    pub abci: AbciProtocol,
    /// `abci_call_warn`: after how long an application in another process that has not answered is told in the log.
    pub abci_call_warn: Duration,
    /// `abci_call_timeout`: after how long the node leaves; zero: never.
    pub abci_call_timeout: Duration,
    /// `abci_exit_on_disconnect`: whether it leaves where the connection breaks.
    pub abci_exit_on_disconnect: bool,
    /// `kvstore_snapshot_interval`: every how many heights the kvstore inside the node makes a snapshot; 0: never.
    pub kvstore_snapshot_interval: u64,
    /// `kvstore_block_delay`: how long it takes longer than it needs for a block.
    pub kvstore_block_delay: Duration,
    /// `optimistic_execution`: whether applications inside the node that can execute blocks before they are decided do so.
    pub optimistic_execution: bool,
    /// `moniker`: the name that the operator gives the node.
    pub moniker: String,
    /// `db_dir`: the folder of the databases.
    pub db_dir: PathBuf,
    /// `log_level`: what is logged.
    pub log_level: LogLevel,
    /// `log_format`: how it is logged.
    pub log_format: LogFormat,
    /// `genesis_file`.
    pub genesis_file: PathBuf,
    /// `priv_validator_key_file`.
    pub priv_validator_key_file: PathBuf,
    /// `priv_validator_state_file`: the watermark of signing.
    pub priv_validator_state_file: PathBuf,
    /// `priv_validator_laddr`: must be empty, see [`crate::Loaded::check`].
    pub priv_validator_laddr: String,
    /// `node_key_file`.
    pub node_key_file: PathBuf,
    /// `[rpc]`.
    pub rpc: RpcConfig,
    /// `[p2p]`.
    pub p2p: P2pConfig,
    /// `[mempool]`.
    pub mempool: MempoolConfig,
    /// `[consensus]`.
    pub consensus: ConsensusConfig,
    /// `[tx_index]`.
    pub tx_index: TxIndexConfig,
    /// `[instrumentation]`.
    pub instrumentation: InstrumentationConfig,
}

/// `[tx_index]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxIndexConfig {
    /// `indexer`.
    pub indexer: Indexer,
}

/// Where transactions and blocks are indexed by their events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indexer {
    /// In a database of the node.
    Kv,
    /// Nowhere.
    Null,
}

/// Who keeps the transactions that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MempoolKind {
    /// The node, which passes them on to its peers.
    Flood,
    /// The application alone: the node takes none.
    Nop,
}

/// How an application in another process is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbciProtocol {
    /// CometBFT's socket protocol.
    Socket,
    /// gRPC.
    Grpc,
}

/// The application that the node drives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyApp {
    /// CometBFT's key-value store, in the process.
    Kvstore,
    /// The same, synced to the disk at each block.
    PersistentKvstore,
    /// CometBFT's application that does nothing.
    Noop,
    /// An application behind a socket.
    Socket(Listen),
}

/// What is logged, in CometBFT's syntax: `info`, or `consensus:debug,*:error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevel(pub(crate) String);

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Plain,
    /// One JSON object a line.
    Json,
}

/// What carries the bytes between peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP with Noise and Yamux.
    Tcp,
    /// QUIC over UDP.
    Quic,
}

/// `[rpc]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcConfig {
    /// `laddr`: where the RPC listens; none: it does not.
    pub laddr: Option<Listen>,
    /// `cors_allowed_origins`.
    pub cors_allowed_origins: Vec<String>,
    /// `cors_allowed_methods`.
    pub cors_allowed_methods: Vec<String>,
    /// `cors_allowed_headers`.
    pub cors_allowed_headers: Vec<String>,
    /// `max_open_connections`; 0 is no limit.
    pub max_open_connections: usize,
    /// `unsafe`: whether there are the routes that change what the node does.
    pub has_unsafe: bool,
    /// `ui`: whether there is a page for people at `/ui`.
    pub ui: bool,
    /// `max_subscription_clients`: clients that subscribe, and as many that wait in `broadcast_tx_commit`.
    pub max_subscription_clients: usize,
    /// `max_subscriptions_per_client`.
    pub max_subscriptions_per_client: usize,
    /// `experimental_subscription_buffer_size`: events of a subscription that wait to be read.
    pub subscription_buffer_size: usize,
    /// `experimental_websocket_write_buffer_size`: replies and events of a WebSocket that wait to be written.
    pub websocket_write_buffer_size: usize,
    /// `experimental_close_on_slow_client`.
    pub close_on_slow_client: bool,
    /// `timeout_broadcast_tx_commit`.
    pub timeout_broadcast_tx_commit: Duration,
    /// `max_request_batch_size`; 0 is no limit.
    pub max_request_batch_size: usize,
    /// `max_body_bytes`.
    pub max_body_bytes: usize,
    /// `max_header_bytes`.
    pub max_header_bytes: usize,
    /// `requests_per_second`: of one address, Tercet's own; 0 is no limit.
    pub requests_per_second: u64,
    /// `requests_burst`: of one address at once; 0: as many as in a second.
    pub requests_burst: u64,
    /// `tls_cert_file`, see [`Home::tls_files`](crate::Home::tls_files).
    pub tls_cert_file: PathBuf,
    /// `tls_key_file`.
    pub tls_key_file: PathBuf,
    /// `grpc_laddr`: where CometBFT's gRPC `BroadcastAPI` listens; none: it does not.
    pub grpc_laddr: Option<Listen>,
    /// `grpc_max_open_connections`; 0 is no limit.
    pub grpc_max_open_connections: usize,
}

/// `[p2p]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct P2pConfig {
    /// `laddr`: where peers connect.
    pub laddr: Listen,
    /// `external_address`: what peers are told to dial; empty: what they see.
    pub external_address: String,
    /// `transport`: Tercet's own.
    pub transport: Transport,
    /// `seeds`: peers to ask for addresses.
    pub seeds: Vec<PeerText>,
    /// `persistent_peers`: peers to stay connected to.
    pub persistent_peers: Vec<PeerText>,
    /// `max_num_inbound_peers`.
    pub max_num_inbound_peers: usize,
    /// `max_num_outbound_peers`.
    pub max_num_outbound_peers: usize,
    /// `unconditional_peer_ids`: inbound limits do not count these.
    pub unconditional_peer_ids: Vec<NodeIdText>,
    /// `private_peer_ids`: their addresses are not told to others.
    pub private_peer_ids: Vec<NodeIdText>,
    /// `pex`: whether addresses are exchanged with peers.
    pub pex: bool,
    /// `allow_duplicate_ip`: whether one IP address may hold any number of connections.
    pub allow_duplicate_ip: bool,
    /// `handshake_timeout`.
    pub handshake_timeout: Duration,
    /// `dial_timeout`.
    pub dial_timeout: Duration,
}

/// `[mempool]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MempoolConfig {
    /// `type`.
    pub kind: MempoolKind,
    /// `recheck`.
    pub recheck: bool,
    /// `broadcast`.
    pub broadcast: bool,
    /// `size`: transactions.
    pub size: usize,
    /// `max_txs_bytes`: of all transactions.
    pub max_txs_bytes: u64,
    /// `max_tx_bytes`: of one.
    pub max_tx_bytes: usize,
    /// `cache_size`: remembered hashes.
    pub cache_size: usize,
    /// `keep-invalid-txs-in-cache`.
    pub keep_invalid_txs_in_cache: bool,
    /// `ttl-duration`: how long a transaction may wait; 0 is for ever.
    pub ttl_duration: Duration,
    /// `ttl-num-blocks`: for how many blocks; 0 is for ever.
    pub ttl_num_blocks: u64,
}

/// `[consensus]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsensusConfig {
    /// `view_change_timeout`: before anything is measured.
    pub view_change_timeout: Duration,
    /// `view_change_timeout_floor`: the least that measuring makes of it.
    pub view_change_timeout_floor: Duration,
    /// `view_change_timeout_ceiling`: the most.
    pub view_change_timeout_ceiling: Duration,
    /// `max_batch_size`: transactions in a block.
    pub max_batch_size: usize,
    /// `commit_grace`: how long a primary waits for late commits.
    pub commit_grace: Duration,
    /// `disconnect_grace`: how long a lost connection to the primary may take to come back.
    pub disconnect_grace: Duration,
    /// `proof_block_delay`: until the block that proves a changed application hash.
    pub proof_block_delay: Duration,
    /// `create_empty_blocks`.
    pub create_empty_blocks: bool,
    /// `create_empty_blocks_interval`; see [`ConsensusConfig::empty_block_interval`].
    pub create_empty_blocks_interval: Duration,
}

/// `[instrumentation]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstrumentationConfig {
    /// `prometheus`: whether metrics are served.
    pub prometheus: bool,
    /// `prometheus_listen_addr`: where.
    pub prometheus_listen_addr: Listen,
    /// `max_open_connections` of that port; 0 is no limit.
    pub max_open_connections: usize,
    /// `namespace`: what the names of CometBFT's metrics begin with.
    pub namespace: String,
    /// `audit_log`: the file for discarded messages; empty: the log.
    pub audit_log: PathBuf,
}

impl ConsensusConfig {
    /// After how long without a block an empty one is due; none where there are none.
    #[must_use]
    pub fn empty_block_interval(&self) -> Option<Duration> {
        let interval = self.create_empty_blocks_interval;
        let interval = if interval.is_zero() { EMPTY_BLOCK_INTERVAL } else { interval };
        self.create_empty_blocks.then_some(interval)
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            proxy_app: ProxyApp::Kvstore,
            abci: AbciProtocol::Socket,
            abci_call_warn: Duration::from_secs(10),
            abci_call_timeout: Duration::ZERO,
            abci_exit_on_disconnect: false,
            kvstore_snapshot_interval: 0,
            kvstore_block_delay: Duration::ZERO,
            optimistic_execution: true,
            moniker: "anonymous".into(),
            db_dir: "data".into(),
            log_level: LogLevel("info".into()),
            log_format: LogFormat::Plain,
            genesis_file: "config/genesis.json".into(),
            priv_validator_key_file: "config/priv_validator_key.json".into(),
            priv_validator_state_file: "data/priv_validator_state.json".into(),
            priv_validator_laddr: String::new(),
            node_key_file: "config/node_key.json".into(),
            rpc: RpcConfig::default(),
            p2p: P2pConfig::default(),
            mempool: MempoolConfig::default(),
            consensus: ConsensusConfig::default(),
            tx_index: TxIndexConfig { indexer: Indexer::Kv },
            instrumentation: InstrumentationConfig::default(),
        }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

impl Default for InstrumentationConfig {
    fn default() -> InstrumentationConfig {
        InstrumentationConfig {
            prometheus: false,
            prometheus_listen_addr: Listen::tcp("0.0.0.0", 26660),
            max_open_connections: 3,
            namespace: "cometbft".into(),
            audit_log: PathBuf::new(),
        }
    }
}

impl Default for RpcConfig {
    fn default() -> RpcConfig {
        let headers = ["Origin", "Accept", "Content-Type", "X-Requested-With", "X-Server-Time"];
        RpcConfig {
            laddr: Some(Listen::tcp("127.0.0.1", 26657)),
            cors_allowed_origins: Vec::new(),
            cors_allowed_methods: words(&["HEAD", "GET", "POST"]),
            cors_allowed_headers: words(&headers),
            max_open_connections: 900,
            has_unsafe: false,
            ui: true,
            max_subscription_clients: 100,
            max_subscriptions_per_client: 5,
            subscription_buffer_size: 200,
            websocket_write_buffer_size: 200,
            close_on_slow_client: false,
            timeout_broadcast_tx_commit: Duration::from_secs(10),
            max_request_batch_size: 10,
            max_body_bytes: 1_000_000,
            max_header_bytes: 1 << 20,
            requests_per_second: 0,
            requests_burst: 0,
            tls_cert_file: PathBuf::new(),
            tls_key_file: PathBuf::new(),
            grpc_laddr: None,
            grpc_max_open_connections: 900,
        }
    }
}

impl Default for P2pConfig {
    fn default() -> P2pConfig {
        P2pConfig {
            laddr: Listen::tcp("0.0.0.0", 26656),
            external_address: String::new(),
            transport: Transport::Tcp,
            seeds: Vec::new(),
            persistent_peers: Vec::new(),
            max_num_inbound_peers: 40,
            max_num_outbound_peers: 10,
            unconditional_peer_ids: Vec::new(),
            private_peer_ids: Vec::new(),
            pex: true,
            allow_duplicate_ip: false,
            handshake_timeout: Duration::from_secs(20),
            dial_timeout: Duration::from_secs(3),
        }
    }
}

impl Default for MempoolConfig {
    fn default() -> MempoolConfig {
        MempoolConfig {
            kind: MempoolKind::Flood,
            recheck: true,
            broadcast: true,
            size: 5_000,
            max_txs_bytes: 1 << 30,
            max_tx_bytes: 1 << 20,
            cache_size: 10_000,
            keep_invalid_txs_in_cache: false,
            ttl_duration: Duration::ZERO,
            ttl_num_blocks: 0,
        }
    }
}

impl Default for ConsensusConfig {
    fn default() -> ConsensusConfig {
        ConsensusConfig {
            view_change_timeout: Duration::from_secs(1),
            view_change_timeout_floor: Duration::from_millis(300),
            view_change_timeout_ceiling: Duration::from_secs(3),
            max_batch_size: 20_000,
            commit_grace: Duration::from_millis(20),
            disconnect_grace: Duration::from_millis(20),
            proof_block_delay: Duration::from_millis(100),
            create_empty_blocks: true,
            create_empty_blocks_interval: Duration::ZERO,
        }
    }
}
