//! An application whose connection breaks in the middle of a call.

use super::extensions::foreign;
use super::{CHAIN_ID, commit, genesis, hash, origin, public};
use crate::execution::executor::{Executor, Hooks, Parts};
use crate::execution::handshake::{self, Ready};
use crate::execution::{Done, ExecutionError, Job};
use crate::probe::Probe;
use crate::store::Chain;
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use tempfile::TempDir;
use tendermint::block::Height;
use tendermint_proto::v0_38::abci::{
    ExecTxResult, RequestApplySnapshotChunk, RequestCheckTx, RequestExtendVote,
    RequestFinalizeBlock, RequestInfo, RequestInitChain, RequestLoadSnapshotChunk,
    RequestOfferSnapshot, RequestPrepareProposal, RequestProcessProposal, RequestQuery,
    RequestVerifyVoteExtension, ResponseApplySnapshotChunk, ResponseCheckTx, ResponseCommit,
    ResponseExtendVote, ResponseFinalizeBlock, ResponseInfo, ResponseInitChain,
    ResponseListSnapshots, ResponseLoadSnapshotChunk, ResponseOfferSnapshot,
    ResponsePrepareProposal, ResponseProcessProposal, ResponseQuery, ResponseVerifyVoteExtension,
    response_verify_vote_extension::VerifyStatus,
};
use tercet_abci::grammar::Grammar;
use tercet_abci::{AppError, Application, Role};
use tercet_consensus::commit::Commit;
use tercet_consensus::verify::Direct;
use tercet_consensus::view::View;

/// Where the connection breaks: in the call of this method that is the `nth`, before or after the application has done what it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Break {
    method: &'static str,
    nth: usize,
    done: bool,
}

/// What the application that is there afterwards knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// All: the connection alone broke.
    Everything,
    /// What it had committed: it was restarted.
    Committed,
    /// Nothing: it has no disk.
    Nothing,
}

/// Its hash is the number of its transactions.
#[derive(Default)]
struct Counter {
    /// Height and number, committed.
    committed: (i64, u64),
    executed: Option<(i64, u64)>,
    /// Heights that it executed though they did not follow what it had committed.
    disorder: Vec<i64>,
    chain: String,
    /// The heights of the extensions that it was asked about, and how it fails at each.
    verified: Vec<i64>,
    fails_at: Option<fn() -> AppError>,
}

struct Fragile {
    app: Arc<Mutex<Counter>>,
    breaks: Vec<Break>,
    after: After,
    connected: bool,
    /// No transaction is checked.
    held: Arc<AtomicBool>,
}

impl Fragile {
    fn call<R>(
        &mut self,
        method: &'static str,
        call: impl FnOnce(&mut Counter) -> R,
    ) -> Result<R, AppError> {
        let lost = || AppError::Lost {
            method,
            role: Role::Consensus,
            address: "tcp://app".into(),
            why: "it was killed".into(),
        };
        if !self.connected {
            return Err(lost());
        }
        let at = self.breaks.iter_mut().find(|at| at.method == method);
        let breaks = at.and_then(|at| {
            at.nth = at.nth.checked_sub(1)?;
            (at.nth == 0).then_some(at.done)
        });
        let mut app = self.app.lock().expect("no test panics while it holds this");
        if breaks == Some(false) {
            self.connected = false;
            return Err(lost());
        }
        let answer = call(&mut app);
        if breaks == Some(true) {
            self.connected = false;
            return Err(lost());
        }
        Ok(answer)
    }
}

impl Application for Fragile {
    fn info(&mut self, _: RequestInfo) -> Result<ResponseInfo, AppError> {
        self.call("Info", |app| ResponseInfo {
            last_block_height: app.committed.0,
            last_block_app_hash: hash(app.committed.1),
            ..ResponseInfo::default()
        })
    }

    fn init_chain(&mut self, request: RequestInitChain) -> Result<ResponseInitChain, AppError> {
        self.call("InitChain", |app| {
            app.chain = request.chain_id;
            ResponseInitChain { app_hash: hash(0), ..ResponseInitChain::default() }
        })
    }

    fn prepare_proposal(
        &mut self,
        request: RequestPrepareProposal,
    ) -> Result<ResponsePrepareProposal, AppError> {
        self.call("PrepareProposal", |_| ResponsePrepareProposal { txs: request.txs })
    }

    fn process_proposal(
        &mut self,
        _: RequestProcessProposal,
    ) -> Result<ResponseProcessProposal, AppError> {
        self.call("ProcessProposal", |_| ResponseProcessProposal { status: 1 })
    }

    fn finalize_block(
        &mut self,
        request: RequestFinalizeBlock,
    ) -> Result<ResponseFinalizeBlock, AppError> {
        self.call("FinalizeBlock", |app| {
            let (height, txs) = app.committed;
            if request.height != height + 1 || app.chain != CHAIN_ID {
                app.disorder.push(request.height);
            }
            let txs = txs + request.txs.len() as u64;
            app.executed = Some((request.height, txs));
            ResponseFinalizeBlock {
                tx_results: vec![ExecTxResult::default(); request.txs.len()],
                app_hash: hash(txs),
                ..ResponseFinalizeBlock::default()
            }
        })
    }

    fn commit(&mut self) -> Result<ResponseCommit, AppError> {
        self.call("Commit", |app| {
            match app.executed.take() {
                Some(executed) => app.committed = executed,
                None => app.disorder.push(app.committed.0),
            }
            ResponseCommit::default()
        })
    }

    fn reconnect(&mut self) -> Result<(), AppError> {
        assert!(!self.held.load(Ordering::SeqCst), "transactions are refused, and do not wait");
        if std::mem::replace(&mut self.connected, true) {
            return Ok(());
        }
        let mut app = self.app.lock().expect("no test panics while it holds this");
        match self.after {
            After::Everything => {}
            After::Committed => app.executed = None,
            After::Nothing => {
                let (disorder, verified) = (app.disorder.clone(), app.verified.clone());
                let fails_at = app.fails_at;
                *app = Counter { disorder, verified, fails_at, ..Counter::default() }
            }
        }
        Ok(())
    }

    fn query(&mut self, _: RequestQuery) -> Result<ResponseQuery, AppError> {
        unreachable!("another role's")
    }
    fn check_tx(&mut self, _: RequestCheckTx) -> Result<ResponseCheckTx, AppError> {
        unreachable!("another role's")
    }
    fn extend_vote(&mut self, _: RequestExtendVote) -> Result<ResponseExtendVote, AppError> {
        unreachable!("not asked for")
    }
    fn verify_vote_extension(
        &mut self,
        request: RequestVerifyVoteExtension,
    ) -> Result<ResponseVerifyVoteExtension, AppError> {
        let fails_at = self.call("VerifyVoteExtension", |app| {
            app.verified.push(request.height);
            assert!(app.verified.len() < 10, "asked again and again");
            app.fails_at
        })?;
        let Some(error) = fails_at.map(|error| error()) else {
            return Ok(ResponseVerifyVoteExtension { status: VerifyStatus::Accept.into() });
        };
        self.connected = !error.is_lost();
        Err(error)
    }
    fn list_snapshots(&mut self) -> Result<ResponseListSnapshots, AppError> {
        unreachable!("another role's")
    }
    fn offer_snapshot(
        &mut self,
        _: RequestOfferSnapshot,
    ) -> Result<ResponseOfferSnapshot, AppError> {
        unreachable!("another role's")
    }
    fn load_snapshot_chunk(
        &mut self,
        _: RequestLoadSnapshotChunk,
    ) -> Result<ResponseLoadSnapshotChunk, AppError> {
        unreachable!("another role's")
    }
    fn apply_snapshot_chunk(
        &mut self,
        _: RequestApplySnapshotChunk,
    ) -> Result<ResponseApplySnapshotChunk, AppError> {
        unreachable!("another role's")
    }
}

/// An executor with such an application.
struct Rig {
    app: Arc<Mutex<Counter>>,
    executor: Executor,
    done: Receiver<Done>,
    heard: Arc<Mutex<Vec<Height>>>,
    _folder: TempDir,
}

impl Rig {
    fn new(breaks: &[Break], after: After) -> Result<Rig, ExecutionError> {
        let folder = tempfile::tempdir().expect("a folder");
        let chain = Chain::open(&folder.path().join("chain")).expect("a chain");
        let app = Arc::new(Mutex::new(Counter::default()));
        let held = Arc::new(AtomicBool::new(false));
        let hold = |on: bool| {
            let held = held.clone();
            move || held.store(on, Ordering::SeqCst)
        };
        let (breaks, held_too) = (breaks.to_vec(), held.clone());
        let role = Fragile { app: app.clone(), breaks, after, connected: true, held: held_too };
        let mut role = Grammar::default().watch_role(Role::Consensus, Box::new(role));
        let Ready { state, app_height } = handshake::start(role.as_mut(), &chain, &origin())?;
        let (sender, done) = channel();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = heard.clone();
        let committed = hold(false);
        let hooks = Hooks {
            reap: Box::new(|_, _| vec![Bytes::from_static(b"tx"); 3]),
            hold: Box::new(hold(true)),
            release: Box::new(hold(false)),
            done: Box::new(move |done| sender.send(done).expect("the test listens")),
            committed: Box::new(move |block, _| {
                committed();
                hears.lock().expect("whole").push(block.header().height);
            }),
            evidence: Box::new(Arc::default),
            retain: Box::new(|_| {}),
        };
        let executor = Executor::new(Parts {
            app: role,
            chain,
            state,
            app_height,
            origin: origin(),
            me: Some(public(0).address()),
            check: Arc::new(Direct),
            hooks,
            probe: Probe::default(),
        });
        Ok(Rig { app, executor, done, heard, _folder: folder })
    }

    fn app(&self) -> MutexGuard<'_, Counter> {
        self.app.lock().expect("whole")
    }

    /// A height with three transactions is proposed, judged and applied: its commit, and the application's hash.
    fn height(
        &mut self,
        height: u32,
        last_commit: Option<Commit>,
    ) -> Result<(Commit, Vec<u8>), ExecutionError> {
        let height = Height::from(height);
        self.executor.work(Job::Propose { height, view: View::ZERO, last_commit })?;
        let Ok(Done::Proposed { block, .. }) = self.done.try_recv() else { panic!("not proposed") };
        self.executor.work(Job::Validate(block.clone()))?;
        let Ok(Done::Validated { result, .. }) = self.done.try_recv() else { panic!("not judged") };
        assert_eq!(result, Ok(()));
        self.executor.work(Job::Apply { block: block.clone(), commit: commit(&block) })?;
        let Ok(Done::Applied(outcome)) = self.done.try_recv() else { panic!("not applied") };
        assert!(self.done.try_recv().is_err(), "told once");
        Ok((commit(&block), outcome.applied.state.app_hash.clone()))
    }

    /// Whether the extension of another's COMMIT counts.
    fn verify(&mut self, height: u32) -> Result<bool, ExecutionError> {
        self.executor.work(Job::VerifyExtension(foreign(height)))?;
        let Ok(Done::ExtensionVerified { vote, accepted }) = self.done.try_recv() else {
            panic!("no answer")
        };
        assert_eq!(vote, foreign(height));
        assert!(self.done.try_recv().is_err(), "told once");
        Ok(accepted)
    }
}

/// What can be seen of four heights: the application hashes in the states, the heights that the rest of the node heard of, and where the
/// application is.
type Seen = (Vec<Vec<u8>>, Vec<Height>, (i64, u64));

fn run(breaks: &[Break], after: After) -> Result<Seen, ExecutionError> {
    let mut rig = Rig::new(breaks, after)?;
    let (mut last_commit, mut hashes) = (None, vec![genesis().app_hash]);
    for height in 1..=4u32 {
        let (commit, hash) = rig.height(height, last_commit)?;
        hashes.push(hash);
        last_commit = Some(commit);
    }
    let app = rig.app();
    assert!(app.disorder.is_empty(), "{breaks:?} {after:?}");
    let heard = rig.heard.lock().expect("whole").clone();
    Ok((hashes, heard, app.committed))
}

/// Whatever call the connection breaks in, before the application has done what it asks or after, and whatever the application that is there
/// afterwards still knows: the chain is the same, each height is told once, and the application has executed each once on what it had.
#[test]
fn an_application_that_is_lost_in_any_call_is_brought_back_and_asked_again() {
    let undisturbed = run(&[], After::Everything).expect("nothing fails");
    assert_eq!(undisturbed.2, (4, 12));
    let methods =
        ["Info", "InitChain", "PrepareProposal", "ProcessProposal", "FinalizeBlock", "Commit"];
    for after in [After::Everything, After::Committed, After::Nothing] {
        for (method, done) in methods.iter().flat_map(|m| [(*m, false), (*m, true)]) {
            for nth in 1..=3 {
                let at = Break { method, nth, done };
                let seen = run(&[at], after).expect("it is brought back");
                assert_eq!(seen, undisturbed, "{at:?} {after:?}");
                // And once more while it is brought back.
                for again in ["Info", "FinalizeBlock", "Commit"] {
                    let breaks = [at, Break { method: again, nth: nth + 1, done }];
                    let seen = run(&breaks, after).expect("it is brought back");
                    assert_eq!(seen, undisturbed, "{breaks:?} {after:?}");
                }
            }
        }
    }
}

fn lost() -> AppError {
    let (role, address, why) = (Role::Consensus, "tcp://app".into(), "it died".into());
    AppError::Lost { method: "VerifyVoteExtension", role, address, why }
}

fn exception() -> AppError {
    let (role, message) = (Role::Consensus, "no such height".into());
    AppError::Exception { method: "VerifyVoteExtension", role, message }
}

fn no_answer() -> AppError {
    let (role, what) = (Role::Consensus, "nothing".into());
    AppError::Answer { method: "VerifyVoteExtension", role, what }
}

/// One validator's extension that the application dies of would stop every node, each asking again for ever. Once it may have died of
/// something else.
#[test]
fn an_extension_that_the_application_dies_of_twice_does_not_count() {
    for after in [After::Everything, After::Committed, After::Nothing] {
        let mut rig = Rig::new(&[], after).expect("it begins");
        rig.app().fails_at = Some(lost);
        assert!(!rig.verify(1).expect("the node goes on"));
        assert_eq!(rig.app().verified, [1, 1]);
        rig.app().fails_at = None;
        assert!(rig.verify(1).expect("the application is back"));
        rig.height(1, None).expect("the chain goes on");
    }
    let at = Break { method: "VerifyVoteExtension", nth: 1, done: true };
    let mut rig = Rig::new(&[at], After::Committed).expect("it begins");
    assert!(rig.verify(1).expect("asked again"));
    assert_eq!(rig.app().verified, [1, 1]);
}

/// No application of CometBFT is ever asked about a height that is over, and some fail then in whatever way they do: that is no reason to
/// stop, nor to ask at every height.
#[test]
fn an_application_that_fails_at_a_late_extension_is_asked_about_none_any_more() {
    for error in [lost, exception, no_answer] {
        let mut rig = Rig::new(&[], After::Committed).expect("it begins");
        rig.height(1, None).expect("a height");
        rig.app().fails_at = Some(error);
        assert!(!rig.verify(1).expect("the node goes on"), "{}", error());
        rig.app().fails_at = None;
        assert!(!rig.verify(1).expect("the node goes on"), "{}", error());
        assert_eq!(rig.app().verified, [1], "{}", error());
        assert!(rig.verify(2).expect("of this height it is asked"));
        assert_eq!(rig.app().verified, [1, 2]);
    }
    let mut rig = Rig::new(&[], After::Committed).expect("it begins");
    rig.height(1, None).expect("a height");
    assert!(rig.verify(1).expect("one that can look at it is asked"));
    rig.app().fails_at = Some(exception);
    assert!(rig.verify(2).is_err(), "as CometBFT, at the height that is next");
}
