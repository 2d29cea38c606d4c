//! A stand-in for executor, application and chain database: fast and deterministic, with the node's real rules for headers and for what
//! follows a block. The application's hash covers every transaction and every change of validators so far.

use super::ahead::Ahead;
use super::checkers::Executed;
use super::keys::{CHAIN_ID, key};
use super::node::SharedBlocks;
use super::plan::Plan;
use super::pool::SimPool;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use tendermint::Time;
use tendermint::block::Height;
use tendermint::consensus::Params;
use tendermint_proto::v0_38::abci::{ExecTxResult, ResponseFinalizeBlock, ValidatorUpdate};
use tendermint_proto::v0_38::crypto::{PublicKey, public_key::Sum};
use tendermint_proto::v0_38::types as pb;
use tercet_abci::grammar::{Call, Checker};
use tercet_consensus::block::{Block, SealedBlock};
use tercet_consensus::commit::Commit;
use tercet_consensus::key::Address;
use tercet_consensus::message::Vote;
use tercet_consensus::validators::Validators;
use tercet_node::evidence::Invalid;
use tercet_node::execution::updates::{after_block, results_hash};
use tercet_node::execution::{Applied, Done, Job, Outcome, Refusal, State, block};

/// A transaction that begins so is refused by every correct application.
pub(crate) const BAD: &[u8] = b"bad";

/// A decided block with what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// The block.
    pub(crate) block: Arc<SealedBlock>,
    /// What decided it here.
    pub(crate) commit: Commit,
    /// What came of it.
    pub(crate) applied: Arc<Applied>,
}

/// The application of one node with the blocks that it has executed; they are durable.
#[derive(Debug)]
pub(crate) struct App {
    /// The blocks, from the first height on.
    pub(crate) chain: Vec<Stored>,
    genesis: Arc<State>,
    me: Address,
    /// Jobs that wait; the first is under way where `busy`.
    pub(crate) jobs: VecDeque<Job>,
    /// Whether a job is under way.
    pub(crate) busy: bool,
    /// Where the engine finds the blocks.
    shared: RefCell<SharedBlocks>,
    /// The order of the calls that a node would make.
    order: Checker,
    /// The block that is executed before it is decided.
    pub(crate) ahead: Ahead,
}

/// What a chain begins with.
pub(crate) fn genesis(plan: &Plan) -> State {
    let members = plan.powers.iter().enumerate().filter(|(_, power)| **power > 0);
    let set = Validators::new(members.map(|(n, power)| (key(n).public, *power)));
    let set = Arc::new(set.expect("a plan's powers make a set"));
    State {
        chain_id: CHAIN_ID.into(),
        initial_height: Height::from(1u32),
        last_height: None,
        last_block_id: None,
        last_block_time: super::time_of(0, 0),
        last_validators: None,
        validators: Arc::clone(&set),
        next_validators: set,
        params: params(plan),
        app_hash: Vec::new(),
        last_results_hash: Some(results_hash(&[])),
        app_version: 1,
        evidence_floor: 0,
    }
}

fn params(plan: &Plan) -> Params {
    let begin = plan.extensions.filter(|e| e.said == 0).map(|e| e.begin);
    let begin = begin.and_then(|begin| Height::try_from(begin).ok());
    Params {
        block: tendermint::block::Size { max_bytes: 100_000, max_gas: -1, time_iota_ms: 1_000 },
        evidence: tendermint::evidence::Params {
            max_age_num_blocks: 100,
            max_age_duration: tendermint::evidence::Duration(std::time::Duration::from_secs(100)),
            max_bytes: 1_000,
        },
        validator: tendermint::consensus::params::ValidatorParams {
            pub_key_types: vec![tendermint::public_key::Algorithm::Ed25519],
        },
        version: None,
        abci: tendermint::consensus::params::AbciParams { vote_extensions_enable_height: begin },
    }
}

/// What a job needs besides the application.
pub(crate) struct Around<'a> {
    /// The node's pool.
    pub(crate) pool: &'a SimPool,
    /// The moment.
    pub(crate) instant: std::time::Instant,
    /// The node's clock.
    pub(crate) time: Time,
    /// The application's updates.
    pub(crate) plan: &'a Plan,
    /// What blocks led to, over all nodes.
    pub(crate) executed: &'a mut Executed,
}

impl App {
    /// At the start of a chain.
    pub(crate) fn new(genesis: Arc<State>, me: Address, ahead: Ahead) -> App {
        App {
            chain: Vec::new(),
            genesis,
            me,
            jobs: VecDeque::new(),
            busy: false,
            shared: RefCell::default(),
            order: Checker::default(),
            ahead,
        }
    }

    /// The engine finds the blocks there.
    pub(crate) fn shares(&self, blocks: SharedBlocks) {
        *self.shared.borrow_mut() = blocks;
    }

    /// The process starts: the handshake.
    pub(crate) fn begin(&mut self) {
        self.order.begin();
        self.order.told(i64::try_from(self.height()).unwrap_or(i64::MAX));
        if self.chain.is_empty() {
            self.call(Call::InitChain { initial_height: 1 });
        }
    }

    fn call(&mut self, call: Call) {
        if let Err(disorder) = self.order.call(call) {
            panic!("ABCI: {disorder}");
        }
    }

    /// The state after the last block.
    pub(crate) fn state(&self) -> &State {
        self.chain.last().map_or(&*self.genesis, |stored| &stored.applied.state)
    }

    /// The last executed height.
    pub(crate) fn height(&self) -> u64 {
        self.state().last_height.map_or(0, |height| height.value())
    }

    /// The block of a height.
    pub(crate) fn stored(&self, height: u64) -> Option<&Stored> {
        self.chain.get(usize::try_from(height.checked_sub(1)?).ok()?)
    }

    /// The process ends: what was not done is lost.
    pub(crate) fn crash(&mut self) {
        self.jobs.clear();
        self.busy = false;
        self.ahead.crash();
    }

    /// Does the job that is under way.
    pub(crate) fn work(&mut self, around: Around<'_>) -> Option<Done> {
        self.busy = false;
        let plan = around.plan;
        let job = self.jobs.pop_front()?;
        let done = self.job(job, around);
        if self.jobs.is_empty() {
            let state = self.chain.last().map_or(&*self.genesis, |stored| &stored.applied.state);
            self.ahead.idle(state, plan);
        }
        done
    }

    fn job(&mut self, job: Job, around: Around<'_>) -> Option<Done> {
        match job {
            Job::Propose { height, view, last_commit } => {
                if let Some(commit) = &last_commit {
                    let (wanted, extended) =
                        (extends(self.state(), commit.height), commit.is_extended());
                    assert!(
                        !wanted || extended,
                        "a block {height} on a commit without vote extensions"
                    );
                    let refused = commit.signatures.iter().flatten().find(|entry| {
                        entry.extension.as_ref().is_some_and(|extension| {
                            extension.data != self::extension(entry.address, commit.height)
                        })
                    });
                    assert!(
                        refused.is_none(),
                        "a block {height} on an extension that the application refuses: {refused:?}"
                    );
                }
                let block = self.propose(height, last_commit, around.pool)?;
                self.call(Call::PrepareProposal(number(height)));
                Some(Done::Proposed { height, view, block })
            }
            Job::Validate(block) => {
                let result = judge(&block, self.state(), around.time);
                if matches!(result, Ok(()) | Err(Refusal::Application)) {
                    self.call(Call::ProcessProposal(number(block.header().height)));
                }
                if result.is_ok() {
                    self.ahead.accepted(&block);
                }
                Some(Done::Validated { block_id: block.id(), result })
            }
            Job::Apply { block, commit } => self.apply(block, commit, around).map(Done::Applied),
            Job::Extend { vote, block: _ } => {
                let data = extension(vote.validator, vote.height);
                if self.state().next_height() != vote.height {
                    return None;
                }
                self.call(Call::ExtendVote(number(vote.height)));
                self.call(Call::VerifyVoteExtension(number(vote.height)));
                Some(Done::Extended { vote, data })
            }
            Job::VerifyExtension(vote) => {
                let Vote { validator, height, extension: data, .. } = &vote.message;
                let right = extension(*validator, *height);
                self.call(Call::VerifyVoteExtension(number(*height)));
                let accepted = data.as_ref().is_some_and(|extension| extension.data == right);
                Some(Done::ExtensionVerified { vote, accepted })
            }
            // The mempool's, of which there is none here.
            Job::Revive(_) => None,
        }
    }

    fn propose(
        &self,
        height: Height,
        last_commit: Option<Commit>,
        pool: &SimPool,
    ) -> Option<Arc<SealedBlock>> {
        let state = self.state();
        if state.next_height() != height {
            return None;
        }
        let header = block::header(state, last_commit.as_ref(), self.me)?;
        let txs = pool.lock().reap();
        let evidence = pb::EvidenceList::default();
        Some(Arc::new(SealedBlock::seal(Block { header, txs, evidence, last_commit })))
    }

    fn apply(
        &mut self,
        block: Arc<SealedBlock>,
        commit: Commit,
        around: Around<'_>,
    ) -> Option<Outcome> {
        let state = self.chain.last().map_or(&*self.genesis, |stored| &stored.applied.state);
        if block.header().height < state.next_height() {
            return None;
        }
        // S7 and S8: contiguous, and every correct replica's checks pass but the one of the clock.
        if let Err(refusal) = judge(&block, state, block.header().time) {
            panic!("S8: the decided block {} does not pass: {refusal}", block.header().height);
        }
        let before = self.ahead.decided(&block, state);
        let applied = around.executed.of(&block, || finalize(&block, state, around.plan));
        if let Some(before) = before {
            assert_eq!(
                before.results,
                applied.results,
                "S8: block {} executed before it was decided led elsewhere",
                block.header().height
            );
        }
        let app_hash_changed = applied.state.app_hash != state.app_hash;
        let mut pool = around.pool.lock();
        let mine = block.header().proposer_address == self.me;
        pool.committed(&block, mine, around.instant);
        drop(pool);
        let hash = Bytes::copy_from_slice(block.id().hash.as_bytes());
        self.call(Call::FinalizeBlock { height: number(block.header().height), hash });
        self.call(Call::Commit);
        self.shared.borrow().push(Arc::clone(&block));
        self.chain.push(Stored { block, commit, applied: Arc::clone(&applied) });
        Some(Outcome { applied, app_hash_changed })
    }
}

/// What the application extends a COMMIT with: what anyone can check.
pub(crate) fn extension(validator: Address, height: Height) -> Bytes {
    let hasher = Sha256::new().chain_update(validator.as_bytes());
    Bytes::copy_from_slice(&hasher.chain_update(height.value().to_be_bytes()).finalize())
}

/// Whether COMMITs of `height`, which is executed, carry vote extensions.
fn extends(state: &State, height: Height) -> bool {
    state.params.abci.vote_extensions_enable_height.is_some_and(|begin| begin <= height)
}

fn number(height: Height) -> i64 {
    i64::try_from(height.value()).unwrap_or(i64::MAX)
}

/// Header rules, then `ProcessProposal`.
fn judge(block: &SealedBlock, state: &State, time: Time) -> Result<(), Refusal> {
    block::check(block, state, time)?;
    if !block.block().evidence.evidence.is_empty() {
        // Nobody proposes any here.
        return Err(Refusal::Evidence(Invalid::Form("evidence in a simulated block")));
    }
    let bad = block.txs().iter().any(|tx| tx.starts_with(BAD));
    if bad { Err(Refusal::Application) } else { Ok(()) }
}

/// `FinalizeBlock`, and what follows from it by the node's rules.
fn finalize(block: &SealedBlock, state: &State, plan: &Plan) -> Applied {
    after_block(state, block, results(block, state, plan)).expect("a plan's updates are sound")
}

/// What the application answers to `FinalizeBlock`.
pub(crate) fn results(block: &SealedBlock, state: &State, plan: &Plan) -> ResponseFinalizeBlock {
    let height = block.header().height.value();
    let validator_updates: Vec<ValidatorUpdate> = plan
        .changes
        .iter()
        .filter(|(at, _, _)| *at == height)
        .map(|(_, n, power)| {
            let bytes = key(*n).public.to_bytes().to_vec();
            let pub_key = Some(PublicKey { sum: Some(Sum::Ed25519(bytes)) });
            ValidatorUpdate { pub_key, power: i64::try_from(*power).unwrap_or(1) }
        })
        .collect();
    let app_hash = if block.txs().is_empty() && validator_updates.is_empty() {
        state.app_hash.clone()
    } else {
        let hasher = Sha256::new().chain_update(&state.app_hash).chain_update(block.bytes());
        hasher.finalize().to_vec()
    };
    let tx_results = block.txs().iter().map(|_| ExecTxResult::default()).collect();
    let app_hash = Bytes::from(app_hash);
    ResponseFinalizeBlock {
        tx_results,
        validator_updates,
        app_hash,
        consensus_param_updates: params_update(plan, height),
        ..Default::default()
    }
}

/// The application's word that vote extensions begin, in the block of the plan.
fn params_update(plan: &Plan, height: u64) -> Option<pb::ConsensusParams> {
    let extensions = plan.extensions.filter(|extensions| extensions.said == height)?;
    let begin = i64::try_from(extensions.begin).ok()?;
    let abci = pb::AbciParams { vote_extensions_enable_height: begin };
    Some(pb::ConsensusParams { abci: Some(abci), ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> App {
        App::new(Arc::new(genesis(&Plan::of(1))), key(0).address, Ahead::default())
    }

    #[test]
    #[should_panic(expected = "ABCI: PrepareProposal of height 1 before the application was asked")]
    fn a_node_that_forgets_the_handshake_is_caught() {
        app().call(Call::PrepareProposal(1));
    }

    #[test]
    #[should_panic(expected = "ABCI: VerifyVoteExtension of height 3 where height 1 is next")]
    fn a_node_that_asks_about_another_height_is_caught() {
        let mut app = app();
        app.begin();
        app.call(Call::VerifyVoteExtension(3));
    }
}
