//! Whole nodes in this process, on loopback, with an application that can be looked at.

pub(crate) mod observer;

mod ports;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tendermint::Time;
use tendermint::block::Height;
use tendermint::consensus::Params;
use tendermint_proto::v0_38::abci::response_verify_vote_extension::VerifyStatus;
use tendermint_proto::v0_38::abci::{
    ExecTxResult, ExtendedVoteInfo, RequestExtendVote, RequestFinalizeBlock, RequestInfo,
    RequestInitChain, RequestPrepareProposal, RequestProcessProposal, RequestQuery,
    RequestVerifyVoteExtension, ResponseCommit, ResponseExtendVote, ResponseFinalizeBlock,
    ResponseInfo, ResponseInitChain, ResponsePrepareProposal, ResponseProcessProposal,
    ResponseQuery, ResponseVerifyVoteExtension,
};
use tendermint_proto::v0_38::types::{AbciParams, BlockIdFlag, ConsensusParams};
use tercet_abci::Named;
use tercet_abci::grammar::Grammar;
use tercet_abci::remote::{self, Protocol, Stop};
use tercet_consensus::key::{Address, PublicKey};
use tercet_consensus::validators::Validators;
use tercet_node::engine::pace::PaceSettings;
use tercet_node::engine::work::WorkSettings;
use tercet_node::execution::{State, updates};
use tercet_node::mempool;
use tercet_node::network::{self, NodeId, PeerAddress, Transport};
use tercet_node::node::{ChainSettings, NetworkSettings, Node, RpcSettings, Settings};
use tercet_node::rpc;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const MS: Duration = Duration::from_millis(1);

/// An application that remembers which block held which transaction, and lets tests wait for one.
#[derive(Clone, Default)]
pub(crate) struct App(Arc<(Mutex<Chain>, Condvar)>);

/// What the application has seen.
#[derive(Default)]
pub(crate) struct Chain {
    /// The height of the last block.
    pub(crate) height: u64,
    /// The transactions, with the heights of their blocks.
    pub(crate) txs: BTreeMap<Bytes, u64>,
    /// The hash of each block, by height: what must be the same everywhere.
    pub(crate) hashes: BTreeMap<u64, Bytes>,
    /// The height from which on COMMITs carry vote extensions: the one after the block of [`EXTEND`].
    pub(crate) extends_from: Option<u64>,
    /// For how many heights it was asked for a block with the vote extensions of the height before.
    pub(crate) extended_proposals: u64,
    /// What was wrong with vote extensions that it was shown.
    pub(crate) faults: Vec<String>,
    /// How often it was asked whether the block with this hash is acceptable.
    pub(crate) judged: BTreeMap<Bytes, u64>,
    /// Whether it refuses every other block when it is asked for the first time, and accepts it afterwards.
    pub(crate) contrary: bool,
}

/// The transaction that switches vote extensions on.
pub(crate) const EXTEND: &str = "extend=1";

/// What the application extends a COMMIT of this height with.
fn extension(height: i64) -> Bytes {
    Bytes::from(format!("extension of {height}"))
}

impl Chain {
    /// Looks at the commit that a proposal is to be built on.
    fn check_extensions(&mut self, height: i64, votes: &[ExtendedVoteInfo]) {
        let before = height - 1;
        let extended = self.extends_from.is_some_and(|from| before as u64 >= from);
        for vote in votes.iter().filter(|v| v.block_id_flag == i32::from(BlockIdFlag::Commit)) {
            let right = if extended { extension(before) } else { Bytes::new() };
            if vote.vote_extension != right || vote.extension_signature.is_empty() == extended {
                self.faults.push(format!("proposal {height}: {vote:?}"));
            }
        }
        self.extended_proposals += u64::from(extended);
    }
}

impl App {
    /// Waits until `wanted` says so.
    pub(crate) fn wait(&self, what: &str, wanted: impl Fn(&Chain) -> bool) {
        let (chain, changed) = &*self.0;
        let deadline = Instant::now() + PATIENCE;
        let mut chain = chain.lock().expect("no panic holds it");
        while !wanted(&chain) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: still not at height {}", chain.height);
            chain = changed.wait_timeout(chain, left).expect("no panic holds it").0;
        }
    }

    /// Looks at what it has seen.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&Chain) -> R) -> R {
        look(&self.0.0.lock().expect("no panic holds it"))
    }

    /// Has it contradict itself.
    pub(crate) fn contradict(&self) {
        self.0.0.lock().expect("no panic holds it").contrary = true;
    }

    /// Another application that has seen the same.
    pub(crate) fn copy(&self) -> App {
        let chain = self.look(|chain| Chain {
            height: chain.height,
            txs: chain.txs.clone(),
            hashes: chain.hashes.clone(),
            extends_from: chain.extends_from,
            ..Chain::default()
        });
        App(Arc::new((Mutex::new(chain), Condvar::new())))
    }

    /// Waits for a transaction.
    pub(crate) fn wait_for(&self, tx: &str) {
        self.wait(tx, |chain| chain.txs.contains_key(tx.as_bytes()));
    }
}

fn app_hash(chain: &Chain) -> Bytes {
    Bytes::copy_from_slice(&(chain.txs.len() as u64).to_be_bytes())
}

impl tendermint_abci::Application for App {
    fn info(&self, _: RequestInfo) -> ResponseInfo {
        self.look(|chain| ResponseInfo {
            last_block_height: chain.height as i64,
            last_block_app_hash: app_hash(chain),
            ..ResponseInfo::default()
        })
    }

    fn query(&self, request: RequestQuery) -> ResponseQuery {
        let begin = [&request.data[..], b"="].concat();
        let found = self.look(|chain| chain.txs.keys().find(|tx| tx.starts_with(&begin)).cloned());
        let value = found.map(|tx| tx.slice(begin.len()..)).unwrap_or_default();
        ResponseQuery { key: request.data, value, ..ResponseQuery::default() }
    }

    fn init_chain(&self, _: RequestInitChain) -> ResponseInitChain {
        ResponseInitChain { app_hash: self.look(app_hash), ..ResponseInitChain::default() }
    }

    fn prepare_proposal(&self, request: RequestPrepareProposal) -> ResponsePrepareProposal {
        let mut chain = self.0.0.lock().expect("no panic holds it");
        let votes = request.local_last_commit.map_or(Vec::new(), |commit| commit.votes);
        chain.check_extensions(request.height, &votes);
        ResponsePrepareProposal { txs: request.txs }
    }

    fn extend_vote(&self, request: RequestExtendVote) -> ResponseExtendVote {
        ResponseExtendVote { vote_extension: extension(request.height) }
    }

    fn verify_vote_extension(
        &self,
        request: RequestVerifyVoteExtension,
    ) -> ResponseVerifyVoteExtension {
        let right = request.vote_extension == extension(request.height);
        let status = if right { VerifyStatus::Accept } else { VerifyStatus::Reject };
        ResponseVerifyVoteExtension { status: status.into() }
    }

    fn process_proposal(&self, request: RequestProcessProposal) -> ResponseProcessProposal {
        let mut chain = self.0.0.lock().expect("no panic holds it");
        let contrary = chain.contrary && request.hash.first().is_some_and(|byte| byte % 2 == 0);
        let times = chain.judged.entry(request.hash).or_default();
        *times += 1;
        // ACCEPT or REJECT.
        ResponseProcessProposal { status: if contrary && *times == 1 { 2 } else { 1 } }
    }

    fn finalize_block(&self, request: RequestFinalizeBlock) -> ResponseFinalizeBlock {
        let mut chain = self.0.0.lock().expect("no panic holds it");
        let height = request.height as u64;
        let extend = request.txs.iter().any(|tx| tx == EXTEND.as_bytes());
        if extend {
            chain.extends_from = Some(height + 1);
        }
        let abci = AbciParams { vote_extensions_enable_height: request.height + 1 };
        let params = ConsensusParams { abci: Some(abci), ..ConsensusParams::default() };
        chain.height = height;
        chain.hashes.insert(height, request.hash);
        let results = vec![ExecTxResult::default(); request.txs.len()];
        for tx in request.txs {
            chain.txs.insert(tx, height);
        }
        ResponseFinalizeBlock {
            tx_results: results,
            app_hash: app_hash(&chain),
            consensus_param_updates: extend.then_some(params),
            ..ResponseFinalizeBlock::default()
        }
    }

    fn commit(&self) -> ResponseCommit {
        self.0.1.notify_all();
        ResponseCommit::default()
    }
}

/// A network of validators with these powers.
pub(crate) struct Net {
    folder: TempDir,
    ports: Vec<u16>,
    /// What each node's application has seen; it outlives the node.
    pub(crate) apps: Vec<App>,
    /// Where the application of each node is, where it is in another process.
    remotes: Vec<Option<(remote::Address, Protocol)>>,
    /// In what order it was called.
    grammars: Vec<Grammar>,
    nodes: Vec<Option<Node>>,
    validators: Arc<Validators>,
    transport: Transport,
    /// Whom each node dials.
    peers: Vec<Vec<usize>>,
    genesis_time: Time,
    initial_height: Height,
    /// Whose validator key each node has; its own unless told otherwise.
    keys: Vec<usize>,
}

fn secret(kind: u8, index: usize) -> [u8; 32] {
    let mut secret = [kind; 32];
    secret[0] = u8::try_from(index).expect("few nodes");
    secret
}

fn public(index: usize) -> PublicKey {
    let key = SigningKey::from_bytes(&secret(1, index));
    PublicKey::ed25519(key.verifying_key().as_bytes()).expect("a key")
}

impl Net {
    /// A network whose nodes are connected all to all; none is started. Nodes beyond the powers are full nodes.
    pub(crate) fn new(powers: &[u64], full_nodes: usize, transport: Transport) -> Net {
        let count = powers.len() + full_nodes;
        let members = powers.iter().enumerate().map(|(index, power)| (public(index), *power));
        Net {
            folder: tempfile::tempdir().expect("a folder"),
            ports: (0..count).map(|_| ports::free_port()).collect(),
            apps: (0..count).map(|_| App::default()).collect(),
            remotes: vec![None; count],
            grammars: (0..count).map(|_| Grammar::default()).collect(),
            nodes: (0..count).map(|_| None).collect(),
            validators: Arc::new(Validators::new(members).expect("a set")),
            transport,
            peers: (0..count).map(|i| (0..count).filter(|j| *j != i).collect()).collect(),
            genesis_time: Time::now(),
            initial_height: Height::from(1u32),
            keys: (0..count).collect(),
        }
    }

    /// Gives node `index` an application of another process.
    pub(crate) fn reach(&mut self, index: usize, address: remote::Address, protocol: Protocol) {
        self.remotes[index] = Some((address, protocol));
    }

    /// Lets node `index` dial only these.
    pub(crate) fn connect(&mut self, index: usize, to: &[usize]) {
        self.peers[index] = to.to_vec();
    }

    /// Lets the chain begin at this height.
    pub(crate) fn begin_at(&mut self, height: u32) {
        self.initial_height = Height::from(height);
    }

    /// Gives node `index` the validator key of node `of`.
    pub(crate) fn copy_key(&mut self, index: usize, of: usize) {
        self.keys[index] = of;
    }

    /// Starts a node, or starts it again.
    pub(crate) fn start(&mut self, index: usize) {
        let settings = self.settings(index);
        let stop = Stop::default();
        let roles = match &self.remotes[index] {
            None => tercet_abci::in_process(self.apps[index].clone()),
            Some((address, protocol)) => {
                let calls = remote::Settings { protocol: *protocol, ..Default::default() };
                remote::connect(address, &calls, &stop).expect("it is there")
            }
        };
        let roles = self.grammars[index].watch(roles);
        self.nodes[index] =
            Some(Node::start(settings, &stop, || Ok(roles)).expect("the node starts"));
    }

    /// Starts all nodes.
    pub(crate) fn start_all(&mut self) {
        (0..self.nodes.len()).for_each(|index| self.start(index));
    }

    /// Stops a node.
    pub(crate) fn stop(&mut self, index: usize) {
        self.nodes[index].take().expect("it runs").stop();
    }

    /// A node that runs.
    pub(crate) fn node(&self, index: usize) -> &Node {
        self.nodes[index].as_ref().expect("it runs")
    }

    /// Where a node accepts peers.
    pub(crate) fn listens(&self, index: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[index]))
    }

    /// The validators.
    pub(crate) fn validators(&self) -> &Validators {
        &self.validators
    }

    /// The validator key of a node.
    pub(crate) fn key(&self, index: usize) -> SigningKey {
        SigningKey::from_bytes(&secret(1, self.keys[index]))
    }

    /// Where a node's RPC listens.
    pub(crate) fn rpc(&self, index: usize) -> SocketAddr {
        self.nodes[index].as_ref().and_then(Node::rpc_address).expect("it runs")
    }

    /// A node's data folder.
    pub(crate) fn data(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("node{index}")).join("data")
    }

    /// Where these nodes accept peers.
    pub(crate) fn addresses(&self, nodes: &[usize]) -> Vec<PeerAddress> {
        nodes.iter().map(|node| self.peer(*node)).collect()
    }

    /// The address of a node's validator key.
    pub(crate) fn address(&self, index: usize) -> Address {
        public(self.keys[index]).address()
    }

    /// Sends a transaction to a node, which must take it.
    pub(crate) fn send(&self, index: usize, tx: &str) {
        let reply = self.get(index, &format!("broadcast_tx_sync?tx=%22{tx}%22"));
        assert!(reply.contains("\"code\":0"), "{reply}");
    }

    /// One GET.
    pub(crate) fn get(&self, index: usize, path: &str) -> String {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(self.rpc(index)).expect("connected");
        write!(stream, "GET /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .expect("sent");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("a reply");
        reply
    }

    /// Every block that two applications have both seen is the same block.
    pub(crate) fn assert_one_chain(&self) {
        let chains: Vec<_> =
            self.apps.iter().map(|app| app.look(|chain| chain.hashes.clone())).collect();
        for (index, chain) in chains.iter().enumerate() {
            for other in &chains[..index] {
                for (height, hash) in chain {
                    assert!(
                        other.get(height).is_none_or(|found| found == hash),
                        "two blocks at height {height}"
                    );
                }
            }
        }
    }

    fn settings(&self, index: usize) -> Settings {
        let data = self.data(index);
        std::fs::create_dir_all(&data).expect("a folder");
        let sign_state = data.join("priv_validator_state.json");
        if !sign_state.exists() {
            tercet_config::SignState { height: 0 }.save(&sign_state).expect("written");
        }
        Settings {
            is_indexed: false,
            sign_state,
            data,
            chain: self.chain(),
            moniker: format!("node{index}"),
            node_secret: secret(2, index),
            validator_secret: SigningKey::from_bytes(&secret(1, self.keys[index])).into(),
            probe: Default::default(),
            app: Named {
                proxy_app: "in process".into(),
                data_dir: PathBuf::new(),
                snapshot_interval: 0,
                optimistic: true,
                block_delay: Duration::ZERO,
            },
            app_calls: Default::default(),
            network: self.network(index),
            mempool: mempool::Settings {
                limits: mempool::pool::Limits {
                    count_max: 5_000,
                    bytes_max: 1 << 30,
                    tx_bytes_max: 1 << 20,
                    cache_max: 10_000,
                },
                recheck: true,
                broadcast: true,
                keep_invalid: false,
                batch_max: 10_000,
                nop: false,
                life: mempool::Life::default(),
            },
            pace: PaceSettings {
                initial: 1_000 * MS,
                floor: 300 * MS,
                ceiling: 3_000 * MS,
                grace: 20 * MS,
            },
            disconnect_grace: 20 * MS,
            work: WorkSettings {
                empty_block_interval: Some(1_000 * MS),
                proof_block_delay: 100 * MS,
                min_block_interval: Duration::ZERO,
                initial_height: self.initial_height,
                term: 64,
            },
            metrics: None,
            rpc: RpcSettings {
                laddr: Some("tcp://127.0.0.1:0".into()),
                limits: rpc::Limits::default(),
                tls: None,
                grpc_laddr: None,
                grpc_connections_max: 0,
            },
        }
    }

    fn peer(&self, index: usize) -> PeerAddress {
        PeerAddress::NodeId {
            id: network::peer_id(secret(2, index))
                .and_then(|id| NodeId::of_peer(&id))
                .expect("an id"),
            host: "127.0.0.1".into(),
            port: self.ports[index],
        }
    }

    fn network(&self, index: usize) -> NetworkSettings {
        NetworkSettings {
            listen: SocketAddr::from(([127, 0, 0, 1], self.ports[index])),
            external: None,
            transport: self.transport,
            persistent: self.peers[index].iter().map(|peer| self.peer(*peer)).collect(),
            unconditional: Vec::new(),
            private: Vec::new(),
            peer_exchange: false,
            inbound_max: 40,
            outbound_max: 10,
            dial_timeout: 3_000 * MS,
            handshake_timeout: 20_000 * MS,
            per_ip_max: 100,
        }
    }

    fn chain(&self) -> ChainSettings {
        let params = params();
        let genesis = State {
            chain_id: "test-chain".into(),
            initial_height: self.initial_height,
            last_height: None,
            last_block_id: None,
            last_block_time: self.genesis_time,
            last_validators: None,
            validators: self.validators.clone(),
            next_validators: self.validators.clone(),
            params: params.clone(),
            app_hash: Vec::new(),
            last_results_hash: Some(updates::results_hash(&[])),
            app_version: 0,
            evidence_floor: 0,
        };
        let shown = rpc::sources::Genesis {
            time: self.genesis_time,
            chain_id: "test-chain".into(),
            initial_height: self.initial_height,
            params,
            validators: Vec::new(),
            app_hash: Vec::new(),
            app_state: None,
            tercet: None,
        };
        ChainSettings {
            genesis,
            names_validators: true,
            app_state: Bytes::new(),
            genesis_hash: [7; 32],
            term: 64,
            shown,
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.nodes.iter_mut().filter_map(Option::take).for_each(Node::stop);
        let disorders: Vec<_> = self.grammars.iter().flat_map(Grammar::disorders).collect();
        assert!(disorders.is_empty() || std::thread::panicking(), "{disorders:?}");
    }
}

fn params() -> Params {
    use tendermint::consensus::params::{AbciParams, ValidatorParams};
    Params {
        block: tendermint::block::Size { max_bytes: 1 << 20, max_gas: -1, time_iota_ms: 1_000 },
        evidence: tendermint::evidence::Params {
            max_age_num_blocks: 100_000,
            max_age_duration: tendermint::evidence::Duration(Duration::from_secs(172_800)),
            max_bytes: 1 << 16,
        },
        validator: ValidatorParams {
            pub_key_types: vec![tendermint::public_key::Algorithm::Ed25519],
        },
        version: None,
        abci: AbciParams::default(),
    }
}
