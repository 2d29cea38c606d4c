//! The thread that owns the application's consensus role. Jobs come in order and each is answered; the first failure ends it.

use super::block::{check, data_bytes, data_bytes_max, header};
use super::handshake::{Misfit, Origin, resume};
use super::requests::{self, Prepare};
use super::updates::after_block;
use super::verdicts::Verdicts;
use super::{Applied, Done, ExecutionError, Job, Outcome, Refusal, State, extensions};
use crate::clock;
use crate::evidence::{self, EvidenceError, Piece, Tip};
use crate::lines::Lines;
use crate::probe::{Point, Probe};
use crate::store::Chain;
use bytes::Bytes;
use crossbeam_channel::{Receiver, TryRecvError};
use prost::Message as _;
use std::sync::Arc;
use tendermint::Hash;
use tendermint::block::{Header, Height};
use tendermint_proto::v0_38::abci::ResponseFinalizeBlock;
use tendermint_proto::v0_38::abci::response_process_proposal::ProposalStatus;
use tendermint_proto::v0_38::types as pb;
use tercet_abci::Application;
use tercet_consensus::block::{Block, SealedBlock, TRANSACTIONS_MAX};
use tercet_consensus::commit::Commit;
use tercet_consensus::key::Address;
use tercet_consensus::message::Vote;
use tercet_consensus::verify::SignatureCheck;
use tercet_consensus::view::View;

/// Hears of a block that the application has committed.
pub type OnCommitted = Box<dyn Fn(&Arc<SealedBlock>, &Arc<Applied>) + Send>;

/// How the executor reaches the rest of the node.
pub struct Hooks {
    /// Transactions for a block: at most so many bytes, as they count in a block, and so much gas (−1: no limit).
    pub reap: Box<dyn Fn(usize, i64) -> Vec<Bytes> + Send>,
    /// The application is about to commit a block: no transaction is checked from when this returns until `committed`. It returns also
    /// where a check does not end.
    pub hold: Box<dyn Fn() + Send>,
    /// It has not committed it.
    pub release: Box<dyn Fn() + Send>,
    /// Answers a job.
    pub done: Box<dyn Fn(Done) + Send>,
    /// The application has committed a block, and the chain's state is that after it: whoever hears of it reads what it did.
    pub committed: OnCommitted,
    /// Evidence for a block, the oldest first.
    pub evidence: Box<dyn Fn() -> Arc<Vec<Arc<Piece>>> + Send>,
    /// The application no longer needs blocks below this height.
    pub retain: Box<dyn Fn(Height) + Send>,
}

/// The application's consensus role with the state that it is driven from.
pub struct Executor {
    pub(super) app: Box<dyn Application>,
    chain: Chain,
    pub(super) state: State,
    /// The last COMMIT that was extended, with its extension.
    pub(super) extended: Option<(Vote, Bytes)>,
    /// The height that the application says it has committed; above the state's only after a crash.
    app_height: u64,
    origin: Origin,
    /// The address that proposals carry; none for a full node.
    me: Option<Address>,
    check: Arc<dyn SignatureCheck + Send + Sync>,
    pub(super) hooks: Hooks,
    /// What the application said of the blocks of this height.
    verdicts: Verdicts,
    /// What is told of vote extensions that do not count, by whose they are.
    pub(super) refused_extensions: Lines<Address>,
    /// When to say that the own one is refused: those of others do not hide it.
    pub(super) own_refused: Lines<()>,
    /// Whether the application failed at an extension of a height that is over: it is asked about none any more.
    pub(super) fails_late: bool,
    /// The last block that the application accepted, to be executed while it is being voted on, once no job waits.
    accepted: Option<Arc<SealedBlock>>,
    probe: Probe,
}

/// What an [`Executor`] is made of.
pub struct Parts {
    /// The application's consensus role, after the handshake.
    pub app: Box<dyn Application>,
    /// The chain.
    pub chain: Chain,
    /// The state after the handshake.
    pub state: State,
    /// The height of the application after the handshake.
    pub app_height: u64,
    /// What the handshake began with.
    pub origin: Origin,
    /// The validator's address; none for a full node.
    pub me: Option<Address>,
    /// How the signatures in evidence are checked.
    pub check: Arc<dyn SignatureCheck + Send + Sync>,
    /// The rest of the node.
    pub hooks: Hooks,
    /// Who hears where a block is.
    pub probe: Probe,
}

impl Executor {
    /// An executor.
    #[must_use]
    pub fn new(parts: Parts) -> Executor {
        let Parts { app, chain, state, app_height, origin, me, check, hooks, probe } = parts;
        let (extended, verdicts, accepted) = (None, Verdicts::default(), None);
        Executor {
            app,
            chain,
            state,
            extended,
            app_height,
            origin,
            me,
            check,
            hooks,
            verdicts,
            refused_extensions: extensions::lines(),
            own_refused: extensions::lines(),
            fails_late: false,
            accepted,
            probe,
        }
    }

    /// Works until there are no more jobs, or one fails; the failure is told as [`Done::Failed`].
    pub fn run(&mut self, jobs: &Receiver<Job>) {
        loop {
            let worked = match jobs.try_recv() {
                Ok(job) => self.work(job),
                // No job that waits is delayed by a block that may never be decided.
                Err(TryRecvError::Empty) if self.accepted.is_some() => self.speculate(),
                Err(TryRecvError::Empty) => match jobs.recv() {
                    Ok(job) => self.work(job),
                    Err(_) => return,
                },
                Err(TryRecvError::Disconnected) => return,
            };
            if let Err(error) = worked {
                (self.hooks.done)(Done::Failed(error));
                return;
            }
        }
    }

    /// Has the application execute the block that it accepted, before that is decided. What comes of it stays with the application until
    /// `FinalizeBlock` of the same block: the node knows nothing of it and makes nothing durable, so a crash leaves nothing.
    pub(super) fn speculate(&mut self) -> Result<(), ExecutionError> {
        let Some(block) = self.accepted.take() else { return Ok(()) };
        let height = block.header().height;
        if self.state.next_height() != height || height.value() <= self.app_height {
            return Ok(());
        }
        let request = requests::finalize(&block, &self.state);
        self.app.speculate(request).map_err(|error| ExecutionError::App(error).at(height))
    }

    /// Does a job. Where the connection to the application breaks meanwhile, the application that is there afterwards is brought to where
    /// the chain is, and asked again: until then nobody hears of the job, so nothing is signed that depends on it. Another's vote extension
    /// that it is lost over is given up.
    pub(super) fn work(&mut self, job: Job) -> Result<(), ExecutionError> {
        for losses in 1u32.. {
            let result = self.attempt(&job);
            let result = result.map_err(|error| match job.height() {
                Some(height) => error.at(height),
                None => error,
            });
            let error = match result {
                Err(error) if error.is_lost() => error,
                result => return result,
            };
            tracing::warn!("{error}; consensus waits until it is back");
            self.app_height = resume(self.app.as_mut(), &self.chain, &self.origin)?.app_height;
            tracing::info!(height = self.app_height, "the application is back");
            if let Job::VerifyExtension(vote) = &job
                && self.gives_up(vote, losses, &error)
            {
                break;
            }
        }
        Ok(())
    }

    fn attempt(&mut self, job: &Job) -> Result<(), ExecutionError> {
        match job {
            Job::Propose { height, view, last_commit } => {
                self.propose(*height, *view, last_commit.clone())
            }
            Job::Validate(block) => self.validate(block),
            Job::Extend { vote, block } => self.extend(vote, block),
            Job::VerifyExtension(vote) => self.verify_extension(vote),
            Job::Revive(back) => {
                self.app.info(self.origin.info())?;
                // Who asked may have ended in the meantime.
                let _ = back.send(());
                Ok(())
            }
            Job::Apply { block, commit } => self.apply(block, commit),
        }
    }

    /// Builds a block after the state. A job that came too late or too early (the state has moved on, or is not there yet) is dropped:
    /// the replica asks again in its next view.
    fn propose(
        &mut self,
        height: Height,
        view: View,
        last_commit: Option<Commit>,
    ) -> Result<(), ExecutionError> {
        let Some(me) = self.me.filter(|_| self.state.next_height() == height) else {
            return Ok(());
        };
        let Some(header) = header(&self.state, last_commit.as_ref(), me) else { return Ok(()) };
        let evidence = self.evidence()?;
        let bytes_max = data_bytes_max(&self.state, evidence.encoded_len());
        let txs = (self.hooks.reap)(bytes_max, self.state.params.block.max_gas);
        let prepare = Prepare {
            header: &header,
            last_commit: last_commit.as_ref(),
            txs,
            bytes_max,
            evidence: &evidence,
        };
        let answer = self.app.prepare_proposal(requests::prepare(prepare, &self.state))?;
        let txs = proposed(answer.txs, height, bytes_max);
        let block = Block { header, txs, evidence, last_commit };
        let block = Arc::new(SealedBlock::seal(block));
        (self.hooks.done)(Done::Proposed { height, view, block });
        Ok(())
    }

    /// The evidence for the next block: what is pending and would be accepted. It goes first; transactions take what it leaves.
    fn evidence(&self) -> Result<pb::EvidenceList, ExecutionError> {
        let pending = (self.hooks.evidence)();
        let tip = Tip::of(&self.state);
        let bytes_max = evidence::block::bytes_max(&tip).min(data_bytes_max(&self.state, 0));
        evidence::block::select(&pending, bytes_max, |piece| {
            match evidence::block::check_piece(piece, &tip, &self.chain, &*self.check) {
                Ok(()) => Ok(true),
                Err(EvidenceError::Invalid(_)) => Ok(false),
                Err(EvidenceError::Store(error)) => Err(error.into()),
            }
        })
    }

    fn validate(&mut self, block: &Arc<SealedBlock>) -> Result<(), ExecutionError> {
        let result = self.judge(block)?;
        // Where COMMITs are extended the application has to answer for each before it counts: its timer would run on the execution.
        let begin = self.state.params.abci.vote_extensions_enable_height;
        let extended = begin.is_some_and(|begin| begin <= block.header().height);
        if result.is_ok() && !extended && self.app.is_optimistic() {
            self.accepted = Some(Arc::clone(block));
        }
        (self.hooks.done)(Done::Validated { block_id: block.id(), result });
        Ok(())
    }

    fn judge(&mut self, block: &SealedBlock) -> Result<Result<(), Refusal>, ExecutionError> {
        if let Err(refusal) = check(block, &self.state, clock::now()) {
            return Ok(Err(refusal));
        }
        if let Err(invalid) = check_evidence(block, &self.state, &self.chain, &*self.check)? {
            return Ok(Err(invalid));
        }
        let answer = self.app.process_proposal(requests::process(block, &self.state))?;
        let accepted = answer.status == i32::from(ProposalStatus::Accept);
        let height = block.header().height;
        if let Some(line) = self.verdicts.judged(height, &block.id(), accepted) {
            tracing::error!("{line}");
        }
        if accepted {
            return Ok(Ok(()));
        }
        let rejects = answer.status == i32::from(ProposalStatus::Reject);
        Ok(Err(if rejects { Refusal::Application } else { Refusal::Status(answer.status) }))
    }

    /// Executes a decided block, once: one that the state already covers is answered by nothing.
    fn apply(&mut self, block: &Arc<SealedBlock>, commit: &Commit) -> Result<(), ExecutionError> {
        let height = block.header().height;
        if height < self.state.next_height() {
            return Ok(());
        }
        if let Some(line) = self.verdicts.decided(height, &block.id()) {
            tracing::error!("{line}");
        }
        let begin = self.state.params.abci.vote_extensions_enable_height;
        // Verified while it was open whether the height has them, it may hold some.
        match begin.is_some_and(|begin| begin <= height) || !commit.has_extensions() {
            true => self.chain.save_block(block, commit)?,
            false => self.chain.save_block(block, &commit.clone().without_extensions())?,
        }
        self.probe.reach(Point::Stored);
        self.accepted = None;
        let applied = Arc::new(self.execute(block)?);
        let app_hash_changed = applied.state.app_hash != self.state.app_hash;
        if height.value() > self.app_height {
            // What the application answered must survive a crash after its Commit: it is never asked twice.
            self.chain.apply(&applied)?;
            self.probe.reach(Point::Saved);
            self.chain.sync()?;
            self.probe.reach(Point::Synced);
            (self.hooks.hold)();
            let committed = self.app.commit().inspect_err(|_| (self.hooks.release)());
            let retain = committed?.retain_height;
            self.probe.reach(Point::Committed);
            self.app_height = height.value();
            if let Some(below) = retained(retain, height) {
                (self.hooks.retain)(below);
            }
        } else {
            self.chain.apply(&applied)?;
        }
        self.state = applied.state.clone();
        (self.hooks.committed)(block, &applied);
        (self.hooks.done)(Done::Applied(Outcome { applied, app_hash_changed }));
        Ok(())
    }

    fn execute(&mut self, block: &SealedBlock) -> Result<Applied, ExecutionError> {
        let height = block.header().height;
        check_sequence(block, &self.state)?;
        let results = if height.value() > self.app_height {
            let results = self.app.finalize_block(requests::finalize(block, &self.state))?;
            self.probe.reach(Point::Executed);
            results
        } else {
            known_results(&self.chain, height)?
        };
        executed(&self.chain, &self.state, block, results)
    }
}

/// The transactions of a proposal: those that the application answered, or none where they are more than a block may hold. CometBFT
/// proposes nothing then, and the round runs into its timeout; a block without transactions keeps the chain going meanwhile.
fn proposed(txs: Vec<Bytes>, height: Height, bytes_max: usize) -> Vec<Bytes> {
    let (count, bytes) = (txs.len(), data_bytes(&txs));
    if count <= TRANSACTIONS_MAX && bytes <= bytes_max {
        return txs;
    }
    tracing::error!(
        %height,
        "the application answered PrepareProposal with {count} transactions of {bytes} bytes, and a block may have {TRANSACTIONS_MAX} of \
         {bytes_max} bytes (max_tx_bytes): proposing an empty block instead; mend the application"
    );
    Vec::new()
}

/// Whether the evidence in a block after `state` is valid.
fn check_evidence(
    block: &SealedBlock,
    state: &State,
    chain: &Chain,
    check: &dyn SignatureCheck,
) -> Result<Result<(), Refusal>, ExecutionError> {
    let list = &block.block().evidence;
    match evidence::check_block(list, &Tip::of(state), chain, check) {
        Ok(()) => Ok(Ok(())),
        Err(EvidenceError::Invalid(invalid)) => Ok(Err(Refusal::Evidence(invalid))),
        Err(EvidenceError::Store(error)) => Err(error.into()),
    }
}

/// Below which height blocks may go, where the application says so. CometBFT refuses a height above its last block too
/// (`store/store.go`, `PruneBlocks`).
pub(super) fn retained(retain: i64, height: Height) -> Option<Height> {
    if retain == 0 {
        return None;
    }
    let below = u64::try_from(retain).ok().and_then(|retain| Height::try_from(retain).ok());
    let below = below.filter(|below| *below <= height);
    if below.is_none() {
        tracing::error!(
            %height,
            "the application answered Commit with the retain_height {retain}, and it is from 0 to that of the block: no block is removed; \
             mend the application"
        );
    }
    below
}

/// A decided block must follow the state in all that the state knows. Its evidence was judged before it was voted for: what that was judged by
/// may be pruned by now, and what a quorum decided is executed.
pub(super) fn check_sequence(block: &SealedBlock, state: &State) -> Result<(), ExecutionError> {
    let header = block.header();
    let at = state.last_height.map_or(0, |height| height.value());
    let wrong = |what: String| ExecutionError::Sequence { height: header.height, state: at, what };
    // The clock does not matter for what is decided.
    check(block, state, header.time).map_err(|refusal| match diverged(&refusal, block, state) {
        Some(error) => error,
        None => wrong(refusal.to_string()),
    })
}

/// Where a decided block has another hash than what the application computed, it is the application that is wrong, not the disk.
fn diverged(refusal: &Refusal, block: &SealedBlock, state: &State) -> Option<ExecutionError> {
    let Refusal::Header { field, found, expected } = refusal else { return None };
    let header = block.header();
    let (ours, theirs) = match *field {
        "app_hash" => (hex::encode_upper(&state.app_hash), header.app_hash.to_string()),
        "last_results_hash" => {
            let text = |hash: Option<Hash>| hash.map(|hash| hash.to_string()).unwrap_or_default();
            (text(state.last_results_hash), text(header.last_results_hash))
        }
        // It is compared before what says whether the block belongs here at all.
        "version.app" if !belongs(header, state) => return None,
        // What its updates led to.
        "validators_hash" | "next_validators_hash" | "consensus_hash" | "version.app" => {
            (expected.clone(), found.clone())
        }
        _ => return None,
    };
    let (at, height) = (state.last_height, header.height);
    Some(ExecutionError::Diverged { field, at, height, ours, theirs })
}

/// Whether a block is the next one of this chain.
fn belongs(header: &Header, state: &State) -> bool {
    let before = header.last_block_id.as_ref().map(|id| id.hash);
    header.chain_id.as_str() == state.chain_id
        && header.height == state.next_height()
        && before == state.last_block_id.as_ref().map(|id| id.hash)
}

/// What a stored block that the application answered with `results` led to.
pub(super) fn executed(
    chain: &Chain,
    state: &State,
    block: &SealedBlock,
    results: ResponseFinalizeBlock,
) -> Result<Applied, ExecutionError> {
    let mut applied = after_block(state, block, results)?;
    applied.state.evidence_floor = chain.evidence_floor(&applied.state)?;
    Ok(applied)
}

/// What the application answered to a block that it has committed already.
pub(super) fn known_results(
    chain: &Chain,
    height: Height,
) -> Result<ResponseFinalizeBlock, ExecutionError> {
    Ok(chain.results(height)?.ok_or(Misfit::NoAnswer(height))?)
}
