//! What the RPC reads from: small traits and snapshots, so that no route ever waits for the engine or holds an application lock.

use crate::events::{Bus, Step, VoteSeen};
use crate::store::index::Index;
use arc_swap::ArcSwap;
use bytes::Bytes;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tendermint::block::{Header, Height};
use tendermint::consensus::Params;
use tendermint::{Hash, Time};
use tendermint_proto::v0_38::abci::{
    RequestQuery, ResponseCheckTx, ResponseFinalizeBlock, ResponseInfo, ResponseQuery,
};
use tendermint_proto::v0_38::types as pb;
use tercet_consensus::block::{BlockId, SealedBlock};
use tercet_consensus::commit::Commit;
use tercet_consensus::key::{Address, PublicKey};
use tercet_consensus::validators::Validators;
use tercet_consensus::view::View;

/// A boxed future without borrows.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a look into the chain found, or what went wrong, in words for the client.
pub type Found<T> = Result<Option<T>, String>;

/// A header with its id and sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    /// The block's id.
    pub block_id: BlockId,
    /// Its header.
    pub header: Header,
    /// The size of the block in bytes.
    pub size_bytes: usize,
    /// How many transactions it holds.
    pub num_txs: usize,
}

/// The stored chain. Calls may block on the disk; the RPC makes them on its blocking threads.
pub trait Blocks: Send + Sync {
    /// The lowest stored height.
    fn base(&self) -> Option<Height>;
    /// The highest stored height.
    fn height(&self) -> Option<Height>;
    /// The block at `height`.
    ///
    /// # Errors
    /// Where the store cannot be read; so everywhere below.
    fn block(&self, height: Height) -> Found<Arc<SealedBlock>>;
    /// Header, id and sizes of the block at `height`.
    ///
    /// # Errors
    /// See [`Blocks::block`].
    fn meta(&self, height: Height) -> Found<Meta>;
    /// The height of the block with this hash.
    ///
    /// # Errors
    /// See [`Blocks::block`].
    fn height_of(&self, hash: &Hash) -> Found<Height>;
    /// The commit that decided `height` here.
    ///
    /// # Errors
    /// See [`Blocks::block`].
    fn seen_commit(&self, height: Height) -> Found<Commit>;
    /// The commit of `height` that stands in the block after it.
    ///
    /// # Errors
    /// See [`Blocks::block`].
    fn canonical_commit(&self, height: Height) -> Found<Commit>;
    /// What the application answered to the block at `height`.
    ///
    /// # Errors
    /// See [`Blocks::block`].
    fn results(&self, height: Height) -> Found<ResponseFinalizeBlock>;
    /// The validators of `height`.
    ///
    /// # Errors
    /// See [`Blocks::block`].
    fn validators(&self, height: Height) -> Found<Arc<Validators>>;
    /// The consensus parameters of `height`.
    ///
    /// # Errors
    /// See [`Blocks::block`].
    fn params(&self, height: Height) -> Found<Params>;
}

/// Why the pool did not take a transaction, in CometBFT's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// It was seen lately.
    #[error("tx already exists in cache")]
    Seen,
    /// There is no room.
    #[error(
        "mempool is full: number of txs {count} (max: {count_max}), total txs bytes {bytes} (max: {bytes_max})"
    )]
    Full {
        /// Transactions in the pool.
        count: usize,
        /// How many it may hold.
        count_max: usize,
        /// Their size.
        bytes: u64,
        /// How much it may hold.
        bytes_max: u64,
    },
    /// It is too large for any block.
    #[error("Tx too large. Max size is {max}, but got {size}")]
    TooLarge {
        /// The limit in bytes.
        max: usize,
        /// Its size.
        size: usize,
    },
    /// The pool or the application does not answer; the reason.
    #[error("{0}")]
    Unavailable(String),
}

/// A transaction with its SHA-256, which is taken once on its way from the client into a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashedTx {
    bytes: Bytes,
    hash: [u8; 32],
}

impl From<Bytes> for HashedTx {
    fn from(bytes: Bytes) -> HashedTx {
        HashedTx::new(bytes)
    }
}

impl HashedTx {
    /// Hashes a transaction.
    #[must_use]
    pub fn new(bytes: Bytes) -> HashedTx {
        let hash = Sha256::digest(&bytes).into();
        HashedTx { bytes, hash }
    }

    /// The transaction.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its SHA-256.
    #[must_use]
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// Both.
    #[must_use]
    pub fn into_parts(self) -> (Bytes, [u8; 32]) {
        (self.bytes, self.hash)
    }
}

/// How full the pool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Transactions.
    pub count: usize,
    /// Their bytes.
    pub total_bytes: u64,
}

/// The largest transactions in bytes of all buckets but the last (CometBFT `mempool/metrics.gen.go`, `TxSizeBytes`).
pub const POOL_SIZES: [u64; 7] = [1, 3, 9, 27, 81, 243, 729];

/// What a pool has counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Transactions that the application, or the gas of a block, refused.
    pub failed: u64,
    /// Those that found no room.
    pub rejected: u64,
    /// Those that were taken, and became invalid or too old.
    pub evicted: u64,
    /// Checks of such as were taken already.
    pub rechecked: u64,
    /// Those that were taken, by the buckets of [`POOL_SIZES`] and a last one.
    pub sizes: [u64; POOL_SIZES.len() + 1],
    /// Their bytes.
    pub size_sum: u64,
}

/// The transaction pool.
pub trait Pool: Send + Sync {
    /// Offers a transaction and waits for the application's `CheckTx`. It is offered when this is called, not when the future is
    /// first polled, so that transactions keep their order.
    fn check_tx(&self, tx: HashedTx) -> BoxFuture<Result<ResponseCheckTx, PoolError>>;
    /// Offers a transaction without waiting.
    ///
    /// # Errors
    /// Where it is refused at the door.
    fn submit(&self, tx: HashedTx) -> Result<(), PoolError>;
    /// How full it is.
    fn stats(&self) -> PoolStats;
    /// What it has counted.
    fn counts(&self) -> PoolCounts {
        PoolCounts::default()
    }
    /// The first `limit` transactions, oldest first.
    fn first(&self, limit: usize) -> BoxFuture<Vec<Bytes>>;
    /// Forgets all transactions.
    fn flush(&self) -> BoxFuture<Result<(), String>>;
    /// Whether it holds the transaction with this SHA-256; none where the pool cannot say.
    fn holds(&self, hash: &[u8; 32]) -> Option<bool> {
        let _ = hash;
        None
    }
}

/// Evidence of misbehaviour.
pub trait Evidence: Send + Sync {
    /// Offers a piece and waits until it is verified; the answer is CometBFT's hash of it, or why it is not taken, in CometBFT's words.
    fn add(&self, evidence: pb::Evidence) -> BoxFuture<Result<[u8; 32], String>>;
}

/// The application's query side.
pub trait App: Send + Sync {
    /// Asks the application.
    fn query(&self, request: RequestQuery) -> BoxFuture<Result<ResponseQuery, String>>;
    /// What the application says of itself.
    fn info(&self) -> BoxFuture<Result<ResponseInfo, String>>;
    /// Checks a transaction without offering it to the pool.
    fn check_tx(&self, tx: Bytes) -> BoxFuture<Result<ResponseCheckTx, String>>;
}

/// One connected peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// CometBFT's node id: lower-case hexadecimal, 40 digits.
    pub id: String,
    /// Where it listens.
    pub listen_addr: String,
    /// The CometBFT version that it is compatible with.
    pub version: String,
    /// The name that its operator gave it.
    pub moniker: String,
    /// Where its RPC listens, as far as it says.
    pub rpc_address: String,
    /// Whether this node dialled.
    pub outbound: bool,
    /// Its address.
    pub remote_ip: IpAddr,
    /// How long it has been connected.
    pub age: Duration,
    /// How long nothing has come from it.
    pub idle: Duration,
    /// Bytes sent to it.
    pub sent_bytes: u64,
    /// Bytes received from it.
    pub received_bytes: u64,
}

/// The network.
pub trait Net: Send + Sync {
    /// The connected peers.
    fn peers(&self) -> Vec<PeerView>;
    /// How many are connected.
    fn peer_count(&self) -> usize {
        self.peers().len()
    }
    /// Whether it accepts connections.
    fn listening(&self) -> bool;
    /// Has peers dialled, given as `id@host:port`.
    ///
    /// # Errors
    /// Where an address is none, in CometBFT's words, or too much is to be dialled already.
    fn dial(&self, peers: &[String], how: DialHow) -> Result<(), String>;
}

/// What is to become of peers that are dialled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DialHow {
    /// Stay connected to them.
    pub persistent: bool,
    /// The limits of connections do not count them.
    pub unconditional: bool,
    /// Others are not told of them.
    pub private: bool,
}

/// What never changes about this node while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// CometBFT's node id: lower-case hexadecimal, 40 digits.
    pub id: String,
    /// Where it listens for peers.
    pub listen_addr: String,
    /// The chain.
    pub chain_id: String,
    /// The name that its operator gave it.
    pub moniker: String,
    /// Where its RPC listens.
    pub rpc_address: String,
    /// Whether transactions are indexed.
    pub tx_index: bool,
}

/// A block as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Its hash.
    pub hash: Hash,
    /// The application hash in its header.
    pub app_hash: Vec<u8>,
    /// Its height.
    pub height: Height,
    /// Its time.
    pub time: Time,
}

/// Where the replica stands, as `pbft_state` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PbftState {
    /// The height being decided.
    pub height: Height,
    /// The view.
    pub view: View,
    /// The primary of the view.
    pub primary: Option<Address>,
    /// The view that it has promised to move to, while it changes views.
    pub promise: Option<View>,
    /// The view in which the height began.
    pub start_view: View,
    /// View and block hash of what is prepared.
    pub prepared: Option<(View, Hash)>,
    /// Why this node signs nothing, where that is so.
    pub hold: Option<&'static str>,
    /// By how many seconds its clock is ahead of the others', where it is wrong.
    pub clock_off_secs: Option<i64>,
    /// View changes since the start.
    pub view_changes: u64,
    /// The power of all validators.
    pub total_power: u64,
    /// The power that may be faulty.
    pub f: u64,
    /// The power that decides.
    pub quorum: u64,
    /// The view-change timeout.
    pub timeout: Duration,
    /// The validators of the height.
    pub validators: Vec<ValidatorSeen>,
    /// How far the view is, and what stands in it.
    pub round: RoundSeen,
}

/// The view, as `consensus_state` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoundSeen {
    /// How far it is.
    pub step: Option<Step>,
    /// When the height began on this node.
    pub since: Option<Time>,
    /// The block that is accepted.
    pub accepted: Option<BlockId>,
    /// The votes: PREPARE, COMMIT.
    pub votes: [Arc<Vec<VoteSeen>>; 2],
}

/// Messages of a peer that were thrown away, as `pbft_state` shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscardedSeen {
    /// Why.
    pub reason: &'static str,
    /// Of which class of messages, where known.
    pub class: Option<&'static str>,
    /// The node id of the peer, where known.
    pub peer: Option<String>,
    /// How many since the start.
    pub count: u64,
}

/// A validator as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatorSeen {
    /// Its address.
    pub address: Address,
    /// Its power.
    pub power: u64,
    /// Whether there is a connection to it (always to oneself).
    pub connected: bool,
}

/// What the node says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// What never changes.
    pub node: Arc<NodeInfo>,
    /// The application's protocol version.
    pub app_version: u64,
    /// Whether it is behind its peers.
    pub catching_up: bool,
    /// The lowest block that it has.
    pub earliest: Option<Tip>,
    /// The highest block that it has applied.
    pub latest: Option<Tip>,
    /// Its consensus key.
    pub key: PublicKey,
    /// Its voting power; 0 where it is no validator.
    pub power: u64,
    /// Where the replica stands.
    pub pbft: PbftState,
    /// Why the node has stopped working, where it has.
    pub fault: Option<String>,
}

/// Where the node stands. Calls may block on the disk; the RPC makes them on its blocking threads.
pub trait Status: Send + Sync {
    /// Where it stands now.
    ///
    /// # Errors
    /// Where the store cannot be read.
    fn snapshot(&self) -> Result<Arc<Snapshot>, String>;

    /// Messages of peers that were thrown away, the most frequent first.
    fn discarded(&self) -> Vec<DiscardedSeen> {
        Vec::new()
    }
}

impl Status for ArcSwap<Snapshot> {
    fn snapshot(&self) -> Result<Arc<Snapshot>, String> {
        Ok(self.load_full())
    }
}

/// The genesis document, parsed.
#[derive(Clone, Debug)]
pub struct Genesis {
    /// When the chain starts.
    pub time: Time,
    /// The chain.
    pub chain_id: String,
    /// The height of the first block.
    pub initial_height: Height,
    /// The first consensus parameters.
    pub params: Params,
    /// The first validators in the order of the file: key, power, name.
    pub validators: Vec<(PublicKey, u64, String)>,
    /// The application hash that the file states.
    pub app_hash: Vec<u8>,
    /// The application's first state.
    pub app_state: Option<Box<RawValue>>,
    /// What stands in the file beyond CometBFT's format.
    pub tercet: Option<Box<RawValue>>,
}

/// Everything that the routes read from. Cheap to clone.
#[derive(Clone)]
pub struct Sources {
    /// The chain.
    pub blocks: Arc<dyn Blocks>,
    /// The pool.
    pub pool: Arc<dyn Pool>,
    /// Evidence.
    pub evidence: Arc<dyn Evidence>,
    /// The application.
    pub app: Arc<dyn App>,
    /// The network.
    pub net: Arc<dyn Net>,
    /// Where the node stands.
    pub status: Arc<dyn Status>,
    /// Events.
    pub bus: Bus,
    /// The index of transactions and blocks, where there is one.
    pub index: Option<Index>,
    /// Who waits for a transaction to be committed.
    pub waiters: super::waiters::Waiters,
    /// The genesis document.
    pub genesis: Arc<Genesis>,
}
