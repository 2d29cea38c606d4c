//! A small chain, a pool and an application that live in memory, and a raw HTTP client.

use crate::rpc::sources::*;
use crate::rpc::{Limits, Server, Waiters};
use arc_swap::ArcSwap;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tendermint::block::{Header, Height};
use tendermint::consensus::Params;
use tendermint::{Hash, Time};
use tendermint_proto::v0_38::abci::{
    Event, EventAttribute, ExecTxResult, RequestQuery, ResponseCheckTx, ResponseFinalizeBlock,
    ResponseInfo, ResponseQuery, ValidatorUpdate,
};
use tendermint_proto::v0_38::types as pb;
use tercet_consensus::block::{Block, SealedBlock};
use tercet_consensus::commit::{Commit, CommitSig};
use tercet_consensus::key::{PublicKey, Signature};
use tercet_consensus::validators::Validators;
use tercet_consensus::view::View;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

pub(super) const HEIGHTS: u64 = 25;

pub(crate) fn height(number: u64) -> Height {
    Height::try_from(number).unwrap()
}

fn key(seed: u8) -> PublicKey {
    let secret = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
    PublicKey::ed25519(secret.verifying_key().as_bytes()).unwrap()
}

pub(crate) fn validators() -> Validators {
    Validators::new((1..=4).map(|seed| (key(seed), 10))).unwrap()
}

fn time(second: u64) -> Time {
    Time::from_unix_timestamp(1_700_000_000 + i64::try_from(second).unwrap(), 120_000_000).unwrap()
}

pub(super) fn params() -> Params {
    Params {
        block: tendermint::block::Size { max_bytes: 22_020_096, max_gas: -1, time_iota_ms: 1000 },
        evidence: tendermint::evidence::Params {
            max_age_num_blocks: 100_000,
            max_age_duration: tendermint::evidence::Duration(Duration::from_secs(172_800)),
            max_bytes: 1_048_576,
        },
        validator: tendermint::consensus::params::ValidatorParams {
            pub_key_types: vec![tendermint::public_key::Algorithm::Ed25519],
        },
        version: Some(tendermint::consensus::params::VersionParams { app: 0 }),
        abci: tendermint::consensus::params::AbciParams { vote_extensions_enable_height: None },
    }
}

fn commit(block: &SealedBlock) -> Commit {
    let sig = |index: u8, address| {
        // One validator is absent.
        (index != 3).then_some(CommitSig {
            address,
            time: block.header().time,
            signature: Signature([index + 1; 64]),
            extension: None,
        })
    };
    let members = validators();
    Commit {
        height: block.header().height,
        view: View::ZERO,
        block_id: block.id(),
        signatures: (0..).zip(members.list()).map(|(i, member)| sig(i, member.address)).collect(),
    }
}

pub(super) fn block(number: u64, last: Option<&SealedBlock>, txs: Vec<Bytes>) -> SealedBlock {
    let members = validators();
    let header = Header {
        version: tendermint::block::header::Version { block: 11, app: 1 },
        chain_id: "fake-chain".parse().unwrap(),
        height: height(number),
        time: time(number),
        last_block_id: last.map(SealedBlock::id),
        last_commit_hash: None,
        data_hash: None,
        validators_hash: members.hash(),
        next_validators_hash: members.hash(),
        consensus_hash: Hash::Sha256([8; 32]),
        app_hash: vec![0; 8].try_into().unwrap(),
        last_results_hash: Some(Hash::Sha256([7; 32])),
        evidence_hash: None,
        proposer_address: members.list()[0].address,
    };
    let last_commit = last.map(commit);
    SealedBlock::seal(Block { header, txs, evidence: Default::default(), last_commit })
}

pub(crate) struct Chain(Vec<Arc<SealedBlock>>);

impl Chain {
    pub(super) fn new() -> Chain {
        let mut blocks: Vec<Arc<SealedBlock>> = Vec::new();
        for number in 1..=HEIGHTS {
            let txs = if number % 2 == 0 { vec![Bytes::from_static(b"a=<b>")] } else { vec![] };
            let next = block(number, blocks.last().map(|block| &**block), txs);
            blocks.push(Arc::new(next));
        }
        Chain(blocks)
    }

    pub(super) fn at(&self, height: Height) -> Option<&Arc<SealedBlock>> {
        self.0.iter().find(|block| block.header().height == height)
    }
}

impl Blocks for Chain {
    fn base(&self) -> Option<Height> {
        Some(height(2))
    }
    fn height(&self) -> Option<Height> {
        Some(height(HEIGHTS))
    }
    fn block(&self, height: Height) -> Found<Arc<SealedBlock>> {
        Ok(self.at(height).cloned())
    }
    fn meta(&self, height: Height) -> Found<Meta> {
        let meta = |block: &Arc<SealedBlock>| Meta {
            block_id: block.id(),
            header: block.header().clone(),
            size_bytes: block.bytes().len(),
            num_txs: block.txs().len(),
        };
        Ok(self.at(height).map(meta))
    }
    fn height_of(&self, hash: &Hash) -> Found<Height> {
        let block = self.0.iter().find(|block| block.id().hash == *hash);
        Ok(block.map(|block| block.header().height))
    }
    fn seen_commit(&self, height: Height) -> Found<Commit> {
        Ok(self.at(height).map(|block| commit(block)))
    }
    fn canonical_commit(&self, height: Height) -> Found<Commit> {
        let next = self.at(height.increment());
        Ok(next.and_then(|block| block.last_commit().cloned()))
    }
    fn results(&self, height: Height) -> Found<ResponseFinalizeBlock> {
        if height.value() % 2 == 1 {
            return Ok(Some(ResponseFinalizeBlock::default()));
        }
        let key = tendermint_proto::v0_38::crypto::PublicKey {
            sum: Some(tendermint_proto::v0_38::crypto::public_key::Sum::Ed25519(
                key(9).to_bytes().to_vec(),
            )),
        };
        Ok(Some(ResponseFinalizeBlock {
            events: vec![event()],
            tx_results: vec![ExecTxResult { events: vec![event()], ..Default::default() }],
            validator_updates: vec![ValidatorUpdate { pub_key: Some(key), power: 5 }],
            consensus_param_updates: Some(params().into()),
            app_hash: Bytes::from_static(&[2, 0, 0, 0, 0, 0, 0, 0]),
        }))
    }
    fn validators(&self, _: Height) -> Found<Arc<Validators>> {
        Ok(Some(Arc::new(validators())))
    }
    fn params(&self, _: Height) -> Found<Params> {
        Ok(Some(params()))
    }
}

/// The chain of this file, but the block of every height is this one, with a result for each of its transactions.
pub(crate) struct Same(Chain, Arc<SealedBlock>);

impl Same {
    pub(crate) fn new(txs: Vec<Bytes>) -> Same {
        Same(Chain::new(), Arc::new(block(1, None, txs)))
    }
}

impl Blocks for Same {
    fn base(&self) -> Option<Height> {
        self.0.base()
    }
    fn height(&self) -> Option<Height> {
        self.0.height()
    }
    fn block(&self, _: Height) -> Found<Arc<SealedBlock>> {
        Ok(Some(Arc::clone(&self.1)))
    }
    fn meta(&self, height: Height) -> Found<Meta> {
        self.0.meta(height)
    }
    fn height_of(&self, hash: &Hash) -> Found<Height> {
        self.0.height_of(hash)
    }
    fn seen_commit(&self, height: Height) -> Found<Commit> {
        self.0.seen_commit(height)
    }
    fn canonical_commit(&self, height: Height) -> Found<Commit> {
        self.0.canonical_commit(height)
    }
    fn results(&self, _: Height) -> Found<ResponseFinalizeBlock> {
        let tx_results = vec![ExecTxResult::default(); self.1.txs().len()];
        Ok(Some(ResponseFinalizeBlock { tx_results, ..Default::default() }))
    }
    fn validators(&self, height: Height) -> Found<Arc<Validators>> {
        self.0.validators(height)
    }
    fn params(&self, height: Height) -> Found<Params> {
        self.0.params(height)
    }
}

fn event() -> Event {
    let attribute = EventAttribute { key: "key".to_owned(), value: "<v>".to_owned(), index: true };
    Event { r#type: "app".to_owned(), attributes: vec![attribute] }
}

/// Commits at once what begins with `c`, refuses by name, takes the rest and never commits it. What begins with `meet` is answered
/// when ten of them wait.
struct FakePool {
    waiters: Waiters,
    meeting: Arc<tokio::sync::Barrier>,
}

impl FakePool {
    fn check(&self, tx: &Bytes) -> Result<ResponseCheckTx, PoolError> {
        match &tx[..] {
            b"seen" => Err(PoolError::Seen),
            b"full" => Err(PoolError::Full { count: 5, count_max: 5, bytes: 70, bytes_max: 100 }),
            b"large" => Err(PoolError::TooLarge { max: 4, size: 5 }),
            b"bad" => Ok(ResponseCheckTx { code: 2, log: "a<b".to_owned(), ..Default::default() }),
            _ => Ok(ResponseCheckTx { gas_wanted: 1, ..Default::default() }),
        }
    }
}

impl Pool for FakePool {
    fn check_tx(&self, tx: HashedTx) -> BoxFuture<Result<ResponseCheckTx, PoolError>> {
        let tx = tx.into_parts().0;
        let checked = self.check(&tx);
        if tx.starts_with(b"c") {
            let results = ResponseFinalizeBlock {
                tx_results: vec![ExecTxResult { events: vec![event()], ..Default::default() }],
                ..Default::default()
            };
            self.waiters.publish(&block(3, None, vec![tx.clone()]), &results);
        }
        if tx.starts_with(b"meet") {
            let meeting = self.meeting.clone();
            return Box::pin(async move {
                meeting.wait().await;
                checked
            });
        }
        Box::pin(async move { checked })
    }
    fn submit(&self, tx: HashedTx) -> Result<(), PoolError> {
        self.check(tx.bytes()).map(|_| ())
    }
    fn flush(&self) -> BoxFuture<Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
    }
    fn stats(&self) -> PoolStats {
        PoolStats { count: 2, total_bytes: 6 }
    }
    fn counts(&self) -> PoolCounts {
        let sizes = [0, 0, 1, 1, 1, 2, 0, 1];
        PoolCounts { failed: 1, rejected: 2, evicted: 3, rechecked: 4, sizes, size_sum: 2_000 }
    }
    fn first(&self, limit: usize) -> BoxFuture<Vec<Bytes>> {
        let txs = vec![Bytes::from_static(b"a=b"), Bytes::from_static(b"c=d")];
        Box::pin(async move { txs.into_iter().take(limit).collect() })
    }
    fn holds(&self, _: &[u8; 32]) -> Option<bool> {
        Some(true)
    }
}

struct FakeApp;

impl App for FakeApp {
    fn query(&self, request: RequestQuery) -> BoxFuture<Result<ResponseQuery, String>> {
        Box::pin(async move {
            if request.path == "/none" {
                return Err("the application is gone".to_owned());
            }
            let (key, height) = (request.data, request.height.saturating_add(7));
            let value = if key == "tx0" { Bytes::from_static(b"value") } else { Bytes::new() };
            let log = if value.is_empty() { "does not exist" } else { "exists" };
            Ok(ResponseQuery { key, height, value, log: log.to_owned(), ..Default::default() })
        })
    }
    fn info(&self) -> BoxFuture<Result<ResponseInfo, String>> {
        Box::pin(async {
            Ok(ResponseInfo {
                data: "{\"size\":0}".to_owned(),
                version: "2.0.0".to_owned(),
                app_version: 1,
                last_block_height: 198,
                last_block_app_hash: Bytes::from_static(&[0; 8]),
            })
        })
    }
    fn check_tx(&self, _: Bytes) -> BoxFuture<Result<ResponseCheckTx, String>> {
        Box::pin(async { Ok(ResponseCheckTx { gas_wanted: 1, ..Default::default() }) })
    }
}

struct FakeNet;

impl Net for FakeNet {
    fn peers(&self) -> Vec<PeerView> {
        vec![PeerView {
            id: "cf4a66aa29e5123abfdfbdf485da6788bb8e46d1".to_owned(),
            listen_addr: "tcp://0.0.0.0:26656".to_owned(),
            version: "0.38.25".to_owned(),
            moniker: "peer".to_owned(),
            rpc_address: String::new(),
            outbound: true,
            remote_ip: [10, 0, 0, 1].into(),
            age: Duration::from_secs(5),
            idle: Duration::from_millis(3),
            sent_bytes: 100,
            received_bytes: 200,
        }]
    }
    fn listening(&self) -> bool {
        true
    }
    fn dial(&self, peers: &[String], how: DialHow) -> Result<(), String> {
        let is_good = peers.iter().all(|peer| peer.contains('@')) && !how.private;
        if is_good { Ok(()) } else { Err("no".to_owned()) }
    }
}

pub(super) fn snapshot(chain: &Chain) -> Snapshot {
    let tip = |number| {
        let block = chain.at(height(number)).unwrap();
        Tip {
            hash: block.id().hash,
            app_hash: vec![0; 8],
            height: height(number),
            time: block.header().time,
        }
    };
    let members = validators();
    let seen = |member: &tercet_consensus::validators::Validator| ValidatorSeen {
        address: member.address,
        power: member.power,
        connected: true,
    };
    Snapshot {
        node: Arc::new(NodeInfo {
            id: "cf4a66aa29e5123abfdfbdf485da6788bb8e46d2".to_owned(),
            listen_addr: "tcp://0.0.0.0:26656".to_owned(),
            chain_id: "fake-chain".to_owned(),
            moniker: "a<b".to_owned(),
            rpc_address: "tcp://0.0.0.0:26657".to_owned(),
            tx_index: false,
        }),
        app_version: 1,
        catching_up: false,
        earliest: Some(tip(2)),
        latest: Some(tip(HEIGHTS)),
        key: members.list()[0].key,
        power: 10,
        pbft: PbftState {
            height: height(HEIGHTS + 1),
            view: View::ZERO,
            primary: Some(members.list()[0].address),
            promise: None,
            start_view: View::ZERO,
            prepared: None,
            hold: None,
            clock_off_secs: Some(-3_600),
            view_changes: 0,
            total_power: 40,
            f: 13,
            quorum: 27,
            timeout: Duration::from_millis(300),
            validators: members.list().iter().map(seen).collect(),
            round: RoundSeen {
                step: Some(crate::events::Step::Prevote),
                since: Some(time(HEIGHTS)),
                accepted: Some(chain.at(height(HEIGHTS)).unwrap().id()),
                votes: [
                    Arc::new(vec![crate::events::VoteSeen {
                        index: 1,
                        validator: members.list()[1].address,
                        block: Hash::Sha256([0xab; 32]),
                        time: time(HEIGHTS),
                        signature: [1, 2, 3, 4, 5, 6],
                        extension: [0; 6],
                    }]),
                    Arc::default(),
                ],
            },
        },
        fault: None,
    }
}

/// Takes all evidence but that of height 13.
struct FakeEvidence;

impl Evidence for FakeEvidence {
    fn add(&self, evidence: pb::Evidence) -> BoxFuture<Result<[u8; 32], String>> {
        let piece = crate::evidence::Piece::new(evidence).expect("the tests send sound forms");
        let refused = piece.height() == height(13);
        let error = || "failed to add evidence: Invalid evidence: too old".to_owned();
        let answer = if refused { Err(error()) } else { Ok(piece.hash()) };
        Box::pin(std::future::ready(answer))
    }
}

pub(crate) fn sources() -> Sources {
    sources_to_change().0
}

/// The same with the snapshot that they read.
pub(crate) fn sources_to_change() -> (Sources, Arc<ArcSwap<Snapshot>>) {
    let status = Arc::new(ArcSwap::from_pointee(snapshot(&Chain::new())));
    (sources_with(Arc::clone(&status)), status)
}

fn sources_with(status: Arc<ArcSwap<Snapshot>>) -> Sources {
    let chain = Chain::new();
    let waiters = Waiters::new();
    let genesis = Genesis {
        time: time(0),
        chain_id: "fake-chain".to_owned(),
        initial_height: height(1),
        params: params(),
        validators: vec![(key(1), 10, String::new())],
        app_hash: vec![],
        app_state: Some(serde_json::value::to_raw_value(&serde_json::json!({"a": 1})).unwrap()),
        tercet: None,
    };
    Sources {
        blocks: Arc::new(chain),
        pool: Arc::new(FakePool {
            waiters: waiters.clone(),
            meeting: Arc::new(tokio::sync::Barrier::new(10)),
        }),
        evidence: Arc::new(FakeEvidence),
        app: Arc::new(FakeApp),
        net: Arc::new(FakeNet),
        status,
        bus: crate::events::Bus::default(),
        index: None,
        waiters,
        genesis: Arc::new(genesis),
    }
}

/// A running server; it stops with this value.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) sources: Sources,
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A server with an index of what its blocks hold.
pub(super) async fn start_indexed(limits: Limits) -> (tempfile::TempDir, Running) {
    let (folder, index) = index();
    (folder, start_with(limits, Some(index)).await)
}

/// The same index over a chain that has this block at every height.
pub(super) async fn start_same(same: Same) -> (tempfile::TempDir, Running) {
    let (folder, index) = index();
    let snapshot = Arc::new(ArcSwap::from_pointee(snapshot(&Chain::new())));
    let sources = sources_with(snapshot.clone());
    let sources = Sources { index: Some(index), blocks: Arc::new(same), ..sources };
    (folder, start_on(Limits::default(), (sources, snapshot)).await)
}

fn index() -> (tempfile::TempDir, crate::store::index::Index) {
    let folder = tempfile::tempdir().unwrap();
    let index = crate::store::index::Index::open_alone(&folder.path().join("index")).unwrap();
    let chain = Chain::new();
    for at in 2..=HEIGHTS {
        let results = chain.results(height(at)).unwrap().unwrap();
        index.add(chain.at(height(at)).unwrap(), &results).unwrap();
    }
    (folder, index)
}

pub(super) async fn start(limits: Limits) -> Running {
    start_with(limits, None).await
}

async fn start_with(limits: Limits, index: Option<crate::store::index::Index>) -> Running {
    let snapshot = Arc::new(ArcSwap::from_pointee(snapshot(&Chain::new())));
    let sources = Sources { index, ..sources_with(snapshot.clone()) };
    start_on(limits, (sources, snapshot)).await
}

/// A server on a free port, not yet running.
pub(super) async fn bound(limits: Limits) -> Server {
    Server::bind("tcp://127.0.0.1:0", sources(), limits).await.unwrap()
}

async fn start_on(
    limits: Limits,
    (sources, snapshot): (Sources, Arc<ArcSwap<Snapshot>>),
) -> Running {
    let server = Server::bind("tcp://127.0.0.1:0", sources.clone(), limits).await.unwrap();
    let address = server.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(server.run(stop.clone()));
    Running { address, sources, snapshot, stop }
}

/// A reply as it came.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

/// A connection of a client that writes what it likes.
pub(super) struct Client {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl Client {
    pub(super) async fn new(running: &Running) -> Client {
        Client { stream: TcpStream::connect(running.address).await.unwrap(), rest: vec![] }
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    pub(super) async fn try_send(&mut self, text: &str) -> std::io::Result<()> {
        self.stream.write_all(text.as_bytes()).await
    }

    /// The next reply; none where the server has closed the connection.
    pub(super) async fn reply(&mut self) -> Option<Reply> {
        let end = loop {
            if let Some(end) = self.rest.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await?;
        };
        let head = String::from_utf8(self.rest.drain(..end).collect()).unwrap().to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        while self.rest.len() < length {
            self.more().await?;
        }
        let body = String::from_utf8(self.rest.drain(..length).collect()).unwrap();
        let status = head.get(9..12).unwrap().parse().unwrap();
        Some(Reply { status, head, body })
    }

    async fn more(&mut self) -> Option<()> {
        match self.stream.read_buf(&mut self.rest).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(()),
        }
    }

    pub(super) async fn get(&mut self, path: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        self.reply().await.unwrap()
    }

    pub(super) async fn post(&mut self, body: &str) -> Reply {
        self.send(posted(body)).await;
        self.reply().await.unwrap()
    }
}

pub(super) fn posted(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
