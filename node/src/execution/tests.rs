//! The executor and the handshake against a scripted application.

mod commits;
mod evidence;
mod extensions;
mod lost;
mod optimistic;
mod proposals;
mod rules;
mod table;

use super::executor::{Executor, Hooks, Parts};
use super::handshake::{self, Origin, Ready};
use super::{Done, ExecutionError, Job, Refusal, State, block, updates};
use crate::evidence::Piece;
use crate::probe::Probe;
use crate::store::Chain;
use bytes::Bytes;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tendermint::block::Height;
use tendermint::consensus::Params;
use tendermint::{Hash, Time};
use tendermint_proto::v0_38::abci::response_process_proposal::ProposalStatus;
use tendermint_proto::v0_38::abci::response_verify_vote_extension::VerifyStatus;
use tendermint_proto::v0_38::abci::{
    ExecTxResult, Misbehavior, RequestExtendVote, RequestFinalizeBlock, RequestInfo,
    RequestInitChain, RequestPrepareProposal, RequestProcessProposal, RequestVerifyVoteExtension,
    ResponseCommit, ResponseExtendVote, ResponseFinalizeBlock, ResponseInfo, ResponseInitChain,
    ResponsePrepareProposal, ResponseProcessProposal, ResponseVerifyVoteExtension, ValidatorUpdate,
};
use tendermint_proto::v0_38::crypto::{PublicKey as RawKey, public_key::Sum};
use tendermint_proto::v0_38::types::ConsensusParams;
use tercet_abci::Application;
use tercet_abci::grammar::Grammar;
use tercet_abci::optimistic::OptimisticApplication;
use tercet_consensus::block::{Block, SealedBlock};
use tercet_consensus::commit::{Commit, CommitSig};
use tercet_consensus::message::{Phase, Vote};
use tercet_consensus::sign_bytes;
use tercet_consensus::testing::{public, sign, validators};
use tercet_consensus::verify::Direct;
use tercet_consensus::view::View;

const CHAIN_ID: &str = "test-chain";

/// An application whose hash is the number of its transactions, with a script for what it should do wrong. The order of its calls is
/// watched.
#[derive(Clone, Default)]
struct App(Arc<Mutex<Inner>>, Grammar);

#[derive(Default)]
struct Inner {
    height: i64,
    txs: u64,
    pending: u64,
    calls: Vec<String>,
    updates: Vec<ValidatorUpdate>,
    param_updates: Option<ConsensusParams>,
    results_missing: usize,
    results_extra: usize,
    /// What it was told in InitChain, and what it answers to it where not its hash alone.
    told: Option<RequestInitChain>,
    init: Option<ResponseInitChain>,
    /// How many validators the last FinalizeBlock said have voted before.
    votes: Vec<usize>,
    /// The status that it answers ProcessProposal with, where not ACCEPT.
    judges: Option<i32>,
    prepared: Option<Vec<Bytes>>,
    /// What it extends COMMITs with, and whether it rejects every extension.
    extension: Bytes,
    rejects_extensions: bool,
    /// The status that it answers VerifyVoteExtension with, where it is none of those.
    verify_status: Option<i32>,
    /// What each call was told of misbehaviour, with the name of the call.
    misbehavior: Vec<(&'static str, Vec<Misbehavior>)>,
    /// Whether it executes blocks before they are decided, and what hears that it does.
    optimistic: bool,
    at_execute: Option<Box<dyn FnMut() + Send>>,
    /// Runs at the start of each Commit, with its height.
    at_commit: Option<Box<dyn FnMut(i64) + Send>>,
}

fn hash(txs: u64) -> Bytes {
    Bytes::copy_from_slice(&txs.to_be_bytes())
}

impl App {
    fn with<R>(&self, change: impl FnOnce(&mut Inner) -> R) -> R {
        change(&mut self.0.lock().expect("no test panics while it holds this"))
    }

    fn hear(&self, call: &'static str, misbehavior: &[Misbehavior]) {
        if !misbehavior.is_empty() {
            self.with(|inner| inner.misbehavior.push((call, misbehavior.to_vec())));
        }
    }

    fn calls(&self) -> Vec<String> {
        self.with(|inner| std::mem::take(&mut inner.calls))
    }
}

impl tendermint_abci::Application for App {
    fn info(&self, _: RequestInfo) -> ResponseInfo {
        self.with(|inner| ResponseInfo {
            last_block_height: inner.height,
            last_block_app_hash: hash(inner.txs),
            app_version: 3,
            ..ResponseInfo::default()
        })
    }

    fn init_chain(&self, request: RequestInitChain) -> ResponseInitChain {
        self.with(|inner| {
            inner.calls.push(format!("init {}", String::from_utf8_lossy(&request.app_state_bytes)));
            inner.told = Some(request);
            let plain = ResponseInitChain { app_hash: hash(0), ..ResponseInitChain::default() };
            inner.init.clone().unwrap_or(plain)
        })
    }

    fn prepare_proposal(&self, request: RequestPrepareProposal) -> ResponsePrepareProposal {
        self.hear("prepare", &request.misbehavior);
        let txs = self.with(|inner| inner.prepared.clone()).unwrap_or(request.txs);
        ResponsePrepareProposal { txs }
    }

    fn process_proposal(&self, request: RequestProcessProposal) -> ResponseProcessProposal {
        self.hear("process", &request.misbehavior);
        ResponseProcessProposal { status: self.with(|inner| inner.judges).unwrap_or(1) }
    }

    fn extend_vote(&self, request: RequestExtendVote) -> ResponseExtendVote {
        self.with(|inner| {
            inner.calls.push(format!("extend {}", request.height));
            ResponseExtendVote { vote_extension: inner.extension.clone() }
        })
    }

    fn verify_vote_extension(
        &self,
        request: RequestVerifyVoteExtension,
    ) -> ResponseVerifyVoteExtension {
        self.with(|inner| {
            inner.calls.push(format!("verify {}", request.height));
            let rejects = inner.rejects_extensions;
            let status = if rejects { VerifyStatus::Reject } else { VerifyStatus::Accept };
            ResponseVerifyVoteExtension { status: inner.verify_status.unwrap_or(status.into()) }
        })
    }

    fn finalize_block(&self, request: RequestFinalizeBlock) -> ResponseFinalizeBlock {
        self.hear("finalize", &request.misbehavior);
        self.with(|inner| {
            inner.calls.push(format!("finalize {}", request.height));
            inner.pending = request.txs.len() as u64;
            inner.height = request.height;
            let results = request.txs.len().saturating_sub(inner.results_missing);
            let results = results + inner.results_extra;
            inner.votes.push(request.decided_last_commit.map_or(0, |commit| commit.votes.len()));
            ResponseFinalizeBlock {
                tx_results: vec![ExecTxResult::default(); results],
                validator_updates: std::mem::take(&mut inner.updates),
                consensus_param_updates: inner.param_updates.take(),
                app_hash: hash(inner.txs + inner.pending),
                ..ResponseFinalizeBlock::default()
            }
        })
    }

    fn commit(&self) -> ResponseCommit {
        self.with(|inner| {
            inner.calls.push(format!("commit {}", inner.height));
            let height = inner.height;
            if let Some(at_commit) = &mut inner.at_commit {
                at_commit(height);
            }
            inner.txs += std::mem::take(&mut inner.pending);
            ResponseCommit::default()
        })
    }
}

impl OptimisticApplication for App {
    type Work = (i64, u64);

    fn execute(&self, request: &RequestFinalizeBlock) -> (ResponseFinalizeBlock, (i64, u64)) {
        self.with(|inner| {
            inner.calls.push(format!("execute {}", request.height));
            if let Some(at_execute) = &mut inner.at_execute {
                at_execute();
            }
            let txs = request.txs.len() as u64;
            let response = ResponseFinalizeBlock {
                tx_results: vec![ExecTxResult::default(); request.txs.len()],
                app_hash: hash(inner.txs + txs),
                ..ResponseFinalizeBlock::default()
            };
            (response, (request.height, txs))
        })
    }

    fn adopt(&self, (height, txs): (i64, u64)) {
        self.with(|inner| {
            inner.calls.push(format!("adopt {height}"));
            (inner.height, inner.pending) = (height, txs);
        });
    }
}

pub(crate) fn params() -> Params {
    Params {
        block: tendermint::block::Size { max_bytes: 10_000, max_gas: -1, time_iota_ms: 1_000 },
        evidence: tendermint::evidence::Params {
            max_age_num_blocks: 100,
            max_age_duration: tendermint::evidence::Duration(std::time::Duration::from_secs(100)),
            max_bytes: 1_000,
        },
        validator: tendermint::consensus::params::ValidatorParams {
            pub_key_types: vec![tendermint::public_key::Algorithm::Ed25519],
        },
        version: None,
        abci: tendermint::consensus::params::AbciParams::default(),
    }
}

fn genesis() -> State {
    let set = Arc::new(validators(&[10]));
    State {
        chain_id: CHAIN_ID.into(),
        initial_height: Height::from(1u32),
        last_height: None,
        last_block_id: None,
        last_block_time: Time::from_unix_timestamp(1_700_000_000, 0).expect("a time"),
        last_validators: None,
        validators: set.clone(),
        next_validators: set,
        params: params(),
        app_hash: Vec::new(),
        last_results_hash: Some(updates::results_hash(&[])),
        app_version: 0,
        evidence_floor: 0,
    }
}

/// A node without consensus: it proposes, validates and applies by hand.
struct Rig {
    folder: TempDir,
    app: App,
    chain: Chain,
    executor: Executor,
    done: Receiver<Done>,
    pool: Arc<Mutex<Vec<Bytes>>>,
    origin: Origin,
    /// Evidence that is pending.
    pending: Arc<Mutex<Vec<Arc<Piece>>>>,
    /// What the pool hears of, in order.
    heard: Arc<Mutex<Vec<&'static str>>>,
}

/// The consensus role of an application, as a node that starts has it.
fn consensus(app: &App) -> Box<dyn Application> {
    let roles = match app.with(|inner| inner.optimistic) {
        true => tercet_abci::optimistic(app.clone()),
        false => tercet_abci::in_process(app.clone()),
    };
    app.1.watch(roles).consensus
}

fn origin() -> Origin {
    Origin {
        genesis: genesis(),
        names_validators: true,
        app_state: Bytes::from_static(b"{}"),
        version: "0.38.25",
    }
}

/// What a chain begins with whose first block has this height.
fn origin_at(initial: u32) -> Origin {
    let initial_height = Height::from(initial);
    Origin { genesis: State { initial_height, ..genesis() }, ..origin() }
}

impl Rig {
    fn new() -> Rig {
        Rig::of(origin())
    }

    fn of(origin: Origin) -> Rig {
        Rig::with(App::default(), origin).expect("a handshake")
    }

    /// A node with nothing on its disk.
    fn with(app: App, origin: Origin) -> Result<Rig, ExecutionError> {
        let folder = tempfile::tempdir().expect("a folder");
        let chain = Chain::open(&folder.path().join("chain")).expect("a chain");
        Rig::start(folder, chain, app, origin)
    }

    fn start(
        folder: TempDir,
        chain: Chain,
        app: App,
        origin: Origin,
    ) -> Result<Rig, ExecutionError> {
        let mut app_role = consensus(&app);
        let Ready { state, app_height } = handshake::start(app_role.as_mut(), &chain, &origin)?;
        let (sender, done) = channel();
        let pool = Arc::new(Mutex::new(Vec::<Bytes>::new()));
        let reaped = pool.clone();
        let pending = Arc::new(Mutex::new(Vec::<Arc<Piece>>::new()));
        let told = pending.clone();
        let heard = Arc::<Mutex<Vec<&'static str>>>::default();
        let hears = |what| -> Box<dyn Fn() + Send> {
            let heard = heard.clone();
            Box::new(move || heard.lock().expect("whole").push(what))
        };
        let committed = hears("committed");
        let hooks = Hooks {
            reap: Box::new(move |_, _| std::mem::take(&mut *reaped.lock().expect("the pool"))),
            hold: hears("hold"),
            release: hears("release"),
            done: Box::new(move |done| sender.send(done).expect("the test listens")),
            committed: Box::new(move |_, _| committed()),
            evidence: Box::new(move || Arc::new(told.lock().expect("pending").clone())),
            retain: Box::new(|_| {}),
        };
        let me = Some(public(0).address());
        let chain_too = chain.clone();
        let parts = Parts {
            app: app_role,
            chain: chain_too,
            state,
            app_height,
            origin: origin.clone(),
            me,
            check: Arc::new(Direct),
            hooks,
            probe: Probe::default(),
        };
        let executor = Executor::new(parts);
        Ok(Rig { folder, app, chain, executor, done, pool, origin, pending, heard })
    }

    /// The node dies and starts again, with this application.
    fn restart(self, app: App) -> Result<Rig, ExecutionError> {
        let Rig { folder, chain, executor, origin, .. } = self;
        drop((executor, chain));
        let chain = Chain::open(&folder.path().join("chain")).expect("the chain opens again");
        Rig::start(folder, chain, app, origin)
    }

    fn work(&mut self, job: Job) -> Option<Done> {
        match self.executor.work(job) {
            Ok(()) => self.done.try_recv().ok(),
            Err(error) => Some(Done::Failed(error)),
        }
    }

    fn propose(
        &mut self,
        height: u32,
        txs: &[&str],
        last_commit: Option<Commit>,
    ) -> Arc<SealedBlock> {
        let txs = txs.iter().map(|tx| Bytes::copy_from_slice(tx.as_bytes())).collect();
        *self.pool.lock().expect("the pool") = txs;
        let height = Height::from(height);
        match self.work(Job::Propose { height, view: View::ZERO, last_commit }) {
            Some(Done::Proposed { block, .. }) => block,
            other => panic!("not proposed: {other:?}"),
        }
    }

    fn judge(&mut self, block: SealedBlock) -> Result<(), Refusal> {
        match self.work(Job::Validate(Arc::new(block))) {
            Some(Done::Validated { result, .. }) => result,
            other => panic!("not judged: {other:?}"),
        }
    }

    fn apply(&mut self, block: &Arc<SealedBlock>) -> Result<State, ExecutionError> {
        match self.work(Job::Apply { block: block.clone(), commit: commit(block) }) {
            Some(Done::Applied(outcome)) => Ok(outcome.applied.state.clone()),
            Some(Done::Failed(error)) => Err(error),
            other => panic!("not applied: {other:?}"),
        }
    }

    /// Applies a block with these transactions and gives the commit of it.
    fn advance(&mut self, height: u32, txs: &[&str], last: Option<Commit>) -> (State, Commit) {
        let block = self.propose(height, txs, last);
        let state = self.apply(&block).expect("applied");
        (state, commit(&block))
    }
}

fn commit(block: &SealedBlock) -> Commit {
    let (height, block_id, view) = (block.header().height, block.id(), View::ZERO);
    let time = block.header().time.checked_add(std::time::Duration::from_secs(1)).expect("a time");
    let validator = public(0).address();
    let vote = Vote {
        phase: Phase::Commit,
        height,
        view,
        block_id,
        time,
        validator,
        index: 0,
        extension: None,
    };
    let signature = sign(0, &sign_bytes::vote(CHAIN_ID, &vote));
    let entry = CommitSig { address: validator, time, signature, extension: None };
    Commit { height, view, block_id, signatures: vec![Some(entry)] }
}

fn update(n: u8, power: i64) -> ValidatorUpdate {
    let sum = Some(Sum::Ed25519(public(n).to_bytes().to_vec()));
    ValidatorUpdate { pub_key: Some(RawKey { sum }), power }
}

#[test]
fn a_block_is_proposed_accepted_and_executed_once() {
    let mut rig = Rig::new();
    assert_eq!(rig.app.calls(), ["init {}"]);
    let first = rig.propose(1, &["a", "b"], None);
    assert_eq!(rig.judge((*first).clone()), Ok(()));
    let state = rig.apply(&first).expect("applied");
    assert_eq!(state.app_hash, hash(2));
    assert_eq!(rig.app.calls(), ["finalize 1", "commit 1"]);
    assert!(rig.work(Job::Apply { block: first.clone(), commit: commit(&first) }).is_none());
    assert!(rig.app.calls().is_empty(), "a block is executed once");

    let second = rig.propose(2, &[], Some(commit(&first)));
    assert_eq!(second.header().app_hash.as_bytes(), &hash(2)[..]);
    assert_eq!(second.header().last_block_id, Some(first.id()));
    assert_eq!(second.header().last_results_hash, state.last_results_hash);
    assert!(second.header().time > first.header().time);
    assert_eq!(rig.judge((*second).clone()), Ok(()));
}

#[test]
fn every_field_of_a_header_is_checked() {
    let mut rig = Rig::new();
    let (_, last) = rig.advance(1, &["a"], None);
    let good = rig.propose(2, &["c"], Some(last)).block().clone();
    let other = Hash::Sha256([7; 32]);
    type Spoil = Box<dyn Fn(&mut Block)>;
    let cases: Vec<(&str, Spoil)> = vec![
        ("version.block", Box::new(|b| b.header.version.block += 1)),
        ("version.app", Box::new(|b| b.header.version.app += 1)),
        ("chain_id", Box::new(|b| b.header.chain_id = "other".parse().expect("an id"))),
        ("height", Box::new(|b| b.header.height = Height::from(3u32))),
        ("last_block_id", Box::new(|b| b.header.last_block_id = None)),
        ("time", Box::new(|b| b.header.time = later(b.header.time))),
        ("validators_hash", Box::new(move |b| b.header.validators_hash = other)),
        ("next_validators_hash", Box::new(move |b| b.header.next_validators_hash = other)),
        ("consensus_hash", Box::new(move |b| b.header.consensus_hash = other)),
        ("app_hash", Box::new(|b| b.header.app_hash = vec![9; 8].try_into().expect("a hash"))),
        ("last_results_hash", Box::new(move |b| b.header.last_results_hash = Some(other))),
        ("proposer_address", Box::new(|b| b.header.proposer_address = public(9).address())),
        (
            "last_commit",
            Box::new(move |b| b.last_commit.as_mut().expect("a commit").block_id.hash = other),
        ),
    ];
    for (field, spoil) in cases {
        let mut block = good.clone();
        spoil(&mut block);
        match rig.judge(SealedBlock::seal(block)) {
            Err(Refusal::Header { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{field}: {other:?}"),
        }
    }
    assert_eq!(rig.judge(SealedBlock::seal(good)), Ok(()), "the unspoilt one is accepted");
}

/// "A block later than now + 60 s is refused before PREPARE."
#[test]
fn a_block_of_the_future_is_refused() {
    let mut rig = Rig::new();
    let (state, last) = rig.advance(1, &["a"], None);
    let block = rig.propose(2, &["c"], Some(last));
    let judge = |clock_behind: u64| {
        let behind = std::time::Duration::from_secs(clock_behind);
        let now = block.header().time.checked_sub(behind).expect("a time");
        super::block::check(&block, &state, now)
    };
    assert_eq!(judge(60), Ok(()));
    assert!(matches!(judge(61), Err(Refusal::Future(_))));
}

fn later(time: Time) -> Time {
    time.checked_add(std::time::Duration::from_nanos(1)).expect("a time")
}

#[test]
fn what_the_application_rejects_or_is_too_large_is_refused() {
    let mut rig = Rig::new();
    let block = rig.propose(1, &["a"], None);
    // UNKNOWN is no acceptance, nor is what no version of ABCI knows.
    for (status, refusal) in [
        (ProposalStatus::Reject.into(), Refusal::Application),
        (ProposalStatus::Unknown.into(), Refusal::Status(0)),
        (7, Refusal::Status(7)),
    ] {
        rig.app.with(|inner| inner.judges = Some(status));
        assert_eq!(rig.judge((*block).clone()), Err(refusal), "status {status}");
    }
    rig.app.with(|inner| inner.judges = None);
    assert_eq!(rig.judge((*block).clone()), Ok(()));
    let mut large = block.block().clone();
    large.txs = vec![Bytes::from(vec![0; 10_000])];
    assert!(matches!(rig.judge(SealedBlock::seal(large)), Err(Refusal::TooLarge(_, 10_000))));
}

#[test]
fn validator_updates_take_effect_two_heights_later() {
    let mut rig = Rig::new();
    rig.app.with(|inner| inner.updates = vec![update(1, 4)]);
    let (state, last) = rig.advance(1, &[], None);
    assert_eq!(state.validators.count(), 1);
    assert_eq!(state.next_validators.count(), 2);
    let (state, _) = rig.advance(2, &[], Some(last));
    assert_eq!(state.validators.count(), 2);
    assert_eq!(state.validators.total_power(), 14);
}

/// CometBFT checks the kind of a key only where its power is above zero: whoever is there may always be removed.
#[test]
fn a_kind_of_key_that_is_no_longer_permitted_can_be_removed_and_not_added() {
    let mut before = genesis();
    let two = Arc::new(validators(&[10, 10]));
    (before.validators, before.next_validators) = (two.clone(), two);
    before.params.validator.pub_key_types = vec![tendermint::public_key::Algorithm::Secp256k1];
    let after = |update: ValidatorUpdate| {
        let mut rig = Rig::new();
        let block = rig.propose(1, &[], None);
        let validator_updates = vec![update];
        let results = ResponseFinalizeBlock { validator_updates, ..Default::default() };
        updates::after_block(&before, &block, results).map(|applied| applied.state)
    };
    let removed = after(update(1, 0)).expect("a removal");
    assert_eq!(removed.next_validators.count(), 1);
    let error = after(update(2, 5)).expect_err("not permitted").to_string();
    assert!(error.contains("pub_key_types"), "{error}");
}

/// "before ABCI Commit(h): block h and Commit(h)", and what the application answered, are durable: after a power cut in its Commit the
/// application may have the block, and is never asked again. The files as they are in that moment are what the cut leaves.
#[test]
fn block_and_answer_are_durable_before_the_application_commits() {
    let mut rig = Rig::new();
    let (_, last) = rig.advance(1, &["a"], None);
    let (from, copies) = (rig.folder.path().join("chain"), tempfile::tempdir().expect("a folder"));
    let to = copies.path().join("chain");
    let copy = to.clone();
    rig.app.with(|inner| {
        inner.at_commit = Some(Box::new(move |_| {
            std::fs::create_dir(&copy).expect("one Commit");
            for entry in std::fs::read_dir(&from).expect("the chain") {
                let path = entry.expect("a file").path();
                std::fs::copy(&path, copy.join(path.file_name().expect("a name"))).expect("copied");
            }
        }));
    });
    rig.advance(2, &["b", "c"], Some(last));
    let height = Height::from(2u32);
    let left = Chain::open(&to).expect("the copy opens");
    assert!(left.block(height).expect("read").is_some(), "the block");
    assert!(left.seen_commit(height).expect("read").is_some(), "its commit");
    let results = left.results(height).expect("read").expect("the answer");
    assert_eq!(results.tx_results.len(), 2);
}

#[test]
fn limits_of_a_block_count_as_comet_bft_counts_them() {
    let state = genesis();
    assert_eq!(block::data_bytes_max(&state, 0), 10_000 - 11 - 626 - 94);
    assert_eq!(
        block::data_bytes(&[Bytes::from(vec![0; 127]), Bytes::from(vec![0; 128])]),
        2 + 127 + 3 + 128
    );
}
