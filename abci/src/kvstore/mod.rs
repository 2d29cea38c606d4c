//! The key-value store of CometBFT 0.38 (`abci/example/kvstore/kvstore.go`), with its codes, events and application hash, so that
//! whatever is tested against it there can be tested against it here.
//!
//! # Transactions
//!
//! `key=value` (or `key:value`, which the primary rewrites) sets a key. `val=ed25519!<base64 of the key>!<power>` changes a
//! validator, `val=secp256k1!…` one with a key of that kind. All else has code 2. `CheckTx`, `PrepareProposal` and `ProcessProposal` look at the transaction alone and take
//! no lock.
//!
//! # Where it differs
//!
//! A chain that works with CometBFT has the same outcomes here. Where CometBFT's kvstore would stop its
//! chain, this one refuses the transaction: malformed ones in `CheckTx` with code 2 and in a proposal with REJECT (module `tx`);
//! and changes that no validator set can take (module `validators`) in `FinalizeBlock` with code 3 and no events, as only the
//! block tells. Evidence against somebody who is no validator any more is ignored. Two things CometBFT could live with: keys that are no
//! point of their curve, which nobody can verify (code 2), and the first validator with a key of a kind that no validator has (code 3), as the store does
//! not know whether the chain's parameters permit the kind. Queries and `Info`
//! see the last committed block, never a block between `FinalizeBlock` and `Commit`.
//!
//! # Where the data is
//!
//! On disk, also for `proxy_app = "kvstore"`, which CometBFT keeps in memory: a million transactions of 250 bytes are 250 MB of
//! payload, and a volatile application would have to replay its whole chain at every start. `kvstore` leaves it to the operating
//! system when to write ([`Durability::Buffered`]), `persistent_kvstore` syncs each block. Why: docs/adr/004-kvstore-backend.md.
//!
//! # Snapshots
//!
//! A store serves the snapshots that it has, the last ten of those that [`KvStore::snapshots_every`] has it make, in the folder `snapshots` beside
//! its database, and restores one where it has no block yet. `CometBFT`'s kvstore has none; the manner is that of its end-to-end application.
//!
//! # Failure
//!
//! ABCI has no answer for "my disk failed", so the calls panic, which [`in_process`](crate::in_process()) turns into an error
//! that ends the node. A block takes effect in one atomic write of `Commit`: whatever happens before, the application is at the
//! old height.

mod events;
mod snapshots;
mod state;
mod store;
mod tx;
mod validators;

#[cfg(test)]
mod tests;

pub use store::Durability;

use crate::open::OpenError;
use crate::optimistic::OptimisticApplication;
use bytes::Bytes;
use snapshots::{Progress, Restore, Snapshots};
use state::State;
use std::fmt;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use store::{Batch, Store, StoreError};
use tendermint_proto::v0_38::abci::{
    ExecTxResult, Misbehavior, MisbehaviorType, RequestApplySnapshotChunk, RequestCheckTx,
    RequestFinalizeBlock, RequestInfo, RequestInitChain, RequestLoadSnapshotChunk,
    RequestOfferSnapshot, RequestPrepareProposal, RequestProcessProposal, RequestQuery,
    ResponseApplySnapshotChunk, ResponseCheckTx, ResponseCommit, ResponseFinalizeBlock,
    ResponseInfo, ResponseInitChain, ResponseListSnapshots, ResponseLoadSnapshotChunk,
    ResponseOfferSnapshot, ResponsePrepareProposal, ResponseProcessProposal, ResponseQuery,
    response_apply_snapshot_chunk, response_offer_snapshot,
    response_process_proposal::ProposalStatus,
};
use tx::Tx;
use validators::{Changes, Validator, Validators};

/// The ABCI version that `Info` tells (CometBFT `version/version.go`, `ABCISemVer`).
const ABCI_VERSION: &str = "2.0.0";
/// The version of the application's protocol.
const APP_VERSION: u64 = 1;
/// Executed, or fit for the pool.
const CODE_OK: u32 = 0;
/// Neither a pair nor a validator change.
const CODE_INVALID_FORMAT: u32 = 2;
/// A validator change that the set cannot take.
const CODE_UNAUTHORIZED: u32 = 3;
/// The path of queries for validators; all others ask for keys.
const VALIDATOR_PATH: &str = "/val";
/// The folder of the snapshots, in that of the database, which leaves it alone.
const SNAPSHOTS_FOLDER: &str = "snapshots";
/// What a pair takes in a batch besides its transaction: the prefix of the key, a tag and two lengths.
const PAIR_OVERHEAD_BYTES: usize = 20;

/// The kvstore. Clones are the same store.
#[derive(Clone)]
pub struct KvStore(Arc<Shared>);

struct Shared {
    store: Arc<Store>,
    chain: Mutex<Chain>,
    snapshots: Snapshots,
    /// The snapshot that is being restored.
    restore: Mutex<Option<Restore>>,
    /// How many milliseconds a block takes longer than it needs.
    delay_ms: AtomicU64,
}

/// What blocks change. Only the consensus role locks it.
struct Chain {
    /// The state that is committed.
    state: State,
    /// The validators that are committed.
    validators: Validators,
    /// The block between `FinalizeBlock` and `Commit`.
    staged: Option<Staged>,
}

/// What an executed block changes.
pub struct Staged {
    state: State,
    pairs: Vec<Pair>,
    changes: Vec<Validator>,
}

/// `key=value` as it came, and where the `=` is: nothing is copied until the batch.
struct Pair {
    tx: Bytes,
    equals: usize,
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged").field("state", &self.state).finish_non_exhaustive()
    }
}

impl fmt::Debug for KvStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvStore").finish_non_exhaustive()
    }
}

impl KvStore {
    /// Opens the store in a folder of its own, or creates one there.
    ///
    /// # Errors
    /// Where the folder cannot be written, another process has it open, or its data is damaged.
    pub fn open(folder: &Path, durability: Durability) -> Result<KvStore, OpenError> {
        let store = Arc::new(Store::open(folder, durability)?);
        let snapshots = Snapshots::open(folder.join(SNAPSHOTS_FOLDER))
            .map_err(|source| OpenError::Snapshots { folder: folder.to_owned(), source })?;
        let damaged = |error: StoreError| OpenError::Damaged {
            folder: folder.to_owned(),
            source: Box::new(error),
        };
        let state = store.view().state().map_err(damaged)?;
        let validators = store.validators().map_err(damaged)?;
        let chain = Mutex::new(Chain { state, validators, staged: None });
        let restore = Mutex::default();
        let delay_ms = AtomicU64::default();
        Ok(KvStore(Arc::new(Shared { store, chain, snapshots, restore, delay_ms })))
    }

    /// Makes a snapshot every so many heights from now on; 0, as at first: none.
    #[must_use]
    pub fn snapshots_every(self, heights: u64) -> KvStore {
        self.0.snapshots.every(heights);
        self
    }

    /// Executes each block so much longer than it takes, in whole milliseconds, as the application of CometBFT's end-to-end tests can
    /// (`test/e2e/app/app.go`, `finalize_block_delay`).
    #[must_use]
    pub fn block_delay(self, delay: Duration) -> KvStore {
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.0.delay_ms.store(delay, Ordering::Relaxed);
        self
    }

    fn chain(&self) -> MutexGuard<'_, Chain> {
        self.0.chain.lock().expect("the node ends when a call has panicked")
    }
}

impl tendermint_abci::Application for KvStore {
    fn info(&self, _: RequestInfo) -> ResponseInfo {
        let state = answered(self.0.store.view().state());
        ResponseInfo {
            data: format!("{{\"size\":{}}}", state.size),
            version: ABCI_VERSION.to_owned(),
            app_version: APP_VERSION,
            last_block_height: state.height,
            last_block_app_hash: state.hash(),
        }
    }

    fn init_chain(&self, request: RequestInitChain) -> ResponseInitChain {
        let mut chain = self.chain();
        let validators = request.validators.iter().map(|update| {
            Validator::of(update).unwrap_or_else(|| panic!("{update:?} is no validator"))
        });
        let validators: Validators = validators.collect();
        let mut batch = Batch::with_capacity(0);
        chain.validators.iter().for_each(|old| batch.remove(old));
        validators.iter().for_each(|new| batch.validator(new));
        answered(self.0.store.write(batch));
        chain.validators = validators;
        ResponseInitChain { app_hash: chain.state.hash(), ..ResponseInitChain::default() }
    }

    fn check_tx(&self, request: RequestCheckTx) -> ResponseCheckTx {
        match tx::check(&request.tx) {
            Ok(()) => {
                ResponseCheckTx { code: CODE_OK, gas_wanted: 1, ..ResponseCheckTx::default() }
            }
            Err(_) => ResponseCheckTx { code: CODE_INVALID_FORMAT, ..ResponseCheckTx::default() },
        }
    }

    fn prepare_proposal(&self, request: RequestPrepareProposal) -> ResponsePrepareProposal {
        ResponsePrepareProposal {
            txs: request.txs.into_iter().filter_map(tx::block_form).collect(),
        }
    }

    fn process_proposal(&self, request: RequestProcessProposal) -> ResponseProcessProposal {
        let valid = request.txs.iter().all(|tx| tx::parse(tx).is_ok());
        let status = if valid { ProposalStatus::Accept } else { ProposalStatus::Reject };
        ResponseProcessProposal { status: status.into() }
    }

    fn finalize_block(&self, request: RequestFinalizeBlock) -> ResponseFinalizeBlock {
        let (response, work) = self.execute(&request);
        self.adopt(work);
        response
    }

    fn commit(&self) -> ResponseCommit {
        let mut chain = self.chain();
        if let Some(staged) = chain.staged.take() {
            answered(self.0.store.write(staged.batch()));
            self.0.snapshots.committed(&self.0.store, staged.state.height);
            chain.state = staged.state;
            staged.changes.into_iter().for_each(|change| chain.validators.apply(change));
        }
        ResponseCommit::default()
    }

    fn query(&self, request: RequestQuery) -> ResponseQuery {
        let view = self.0.store.view();
        if request.path == VALIDATOR_PATH {
            let value = answered(view.validator(&request.data)).unwrap_or_default();
            return ResponseQuery {
                key: request.data,
                value: value.into(),
                ..ResponseQuery::default()
            };
        }
        let value = answered(view.value(&request.data));
        ResponseQuery {
            log: if value.is_some() { "exists" } else { "does not exist" }.to_owned(),
            index: if request.prove { -1 } else { 0 },
            key: request.data,
            value: value.unwrap_or_default().into(),
            height: answered(view.state()).height,
            ..ResponseQuery::default()
        }
    }

    fn list_snapshots(&self) -> ResponseListSnapshots {
        ResponseListSnapshots { snapshots: self.0.snapshots.list() }
    }

    fn load_snapshot_chunk(&self, request: RequestLoadSnapshotChunk) -> ResponseLoadSnapshotChunk {
        let RequestLoadSnapshotChunk { height, format, chunk } = request;
        let chunk = self.0.snapshots.chunk(height, format, chunk).unwrap_or_default();
        ResponseLoadSnapshotChunk { chunk }
    }

    fn offer_snapshot(&self, request: RequestOfferSnapshot) -> ResponseOfferSnapshot {
        let mut restore = self.restoring();
        *restore = None;
        let offered = request.snapshot.unwrap_or_default();
        let result = if self.chain().state.height > 0 {
            tracing::error!("a snapshot is offered, and there are blocks already");
            response_offer_snapshot::Result::Abort
        } else {
            snapshots::judge(&offered)
        };
        if result == response_offer_snapshot::Result::Accept {
            let begun = self.0.snapshots.restore(&offered, request.app_hash);
            *restore = Some(answered(begun.map_err(StoreError::from)));
        }
        ResponseOfferSnapshot { result: result.into() }
    }

    fn apply_snapshot_chunk(
        &self,
        request: RequestApplySnapshotChunk,
    ) -> ResponseApplySnapshotChunk {
        let mut restore = self.restoring();
        let Some(under_way) = restore.as_mut() else {
            return snapshots::answer(response_apply_snapshot_chunk::Result::Abort);
        };
        match answered(under_way.apply(&request, &self.0.store)) {
            Progress::More(answer) => answer,
            Progress::Over(answer) => {
                *restore = None;
                answer
            }
            Progress::Restored(state, validators) => {
                *restore = None;
                *self.chain() = Chain { state, validators, staged: None };
                snapshots::answer(response_apply_snapshot_chunk::Result::Accept)
            }
        }
    }
}

impl OptimisticApplication for KvStore {
    type Work = Staged;

    fn execute(&self, request: &RequestFinalizeBlock) -> (ResponseFinalizeBlock, Staged) {
        std::thread::sleep(Duration::from_millis(self.0.delay_ms.load(Ordering::Relaxed)));
        let chain = self.chain();
        let mut block = Block::begin(&chain, request.txs.len());
        request.misbehavior.iter().for_each(|evidence| block.punish(evidence));
        let tx_results = request.txs.iter().map(|tx| block.execute(tx.clone())).collect();
        let staged = block.finish(request.height);
        let response = ResponseFinalizeBlock {
            tx_results,
            validator_updates: staged.changes.iter().map(Validator::update).collect(),
            app_hash: staged.state.hash(),
            ..ResponseFinalizeBlock::default()
        };
        (response, staged)
    }

    fn adopt(&self, staged: Staged) {
        self.chain().staged = Some(staged);
    }
}

impl KvStore {
    fn restoring(&self) -> MutexGuard<'_, Option<Restore>> {
        self.0.restore.lock().expect("the node ends when a call has panicked")
    }
}

/// A block while it is executed.
struct Block<'a> {
    size: u64,
    pairs: Vec<Pair>,
    changes: Changes<'a>,
}

impl<'a> Block<'a> {
    fn begin(chain: &'a Chain, txs: usize) -> Block<'a> {
        let changes = chain.validators.changes();
        Block { size: chain.state.size, pairs: Vec::with_capacity(txs), changes }
    }

    /// Takes a unit of power from a validator that signed two votes of one phase.
    fn punish(&mut self, evidence: &Misbehavior) {
        let Some(validator) = &evidence.validator else { return };
        if evidence.r#type() != MisbehaviorType::DuplicateVote {
            return;
        }
        if let Err(refused) = self.changes.punish(&validator.address, validator.power) {
            tracing::warn!(height = evidence.height, %refused, "a validator is not punished");
        }
    }

    fn execute(&mut self, tx: Bytes) -> ExecTxResult {
        self.size += 1;
        match tx::parse(&tx) {
            Ok(Tx::Pair { equals }) => {
                let result = executed(&tx);
                self.pairs.push(Pair { tx, equals });
                result
            }
            Ok(Tx::Validator { key, power }) => match self.changes.set(Validator { key, power }) {
                Ok(()) => executed(&tx),
                Err(refused) => failed(CODE_UNAUTHORIZED, &refused),
            },
            Err(malformed) => failed(CODE_INVALID_FORMAT, &malformed),
        }
    }

    fn finish(self, height: i64) -> Staged {
        let state = State { size: self.size, height };
        Staged { state, pairs: self.pairs, changes: self.changes.finish() }
    }
}

impl Staged {
    fn batch(&self) -> Batch {
        let bytes = self.pairs.iter().map(|pair| pair.tx.len() + PAIR_OVERHEAD_BYTES).sum();
        let mut batch = Batch::with_capacity(bytes);
        for Pair { tx, equals } in &self.pairs {
            let (key, value) = tx.split_at(*equals);
            batch.pair(key, value.get(1..).unwrap_or_default());
        }
        self.changes.iter().for_each(|change| batch.validator(change));
        batch.state(self.state);
        batch
    }
}

fn executed(tx: &[u8]) -> ExecTxResult {
    ExecTxResult { code: CODE_OK, events: events::of(tx), ..ExecTxResult::default() }
}

fn failed(code: u32, why: &impl ToString) -> ExecTxResult {
    ExecTxResult { code, log: why.to_string(), ..ExecTxResult::default() }
}

/// What the database said.
///
/// # Panics
/// Where it failed: see the module's documentation. It is no bug, so no panic hook tells of it: the node does, in one line.
fn answered<T>(answer: Result<T, StoreError>) -> T {
    answer.unwrap_or_else(|error| {
        let text = match &error {
            StoreError::Database(cause) => format!("{error}: {cause}"),
            StoreError::Snapshot(cause) => format!("{error}: {cause}"),
            StoreError::Damaged(_) => error.to_string(),
        };
        resume_unwind(Box::new(text))
    })
}
