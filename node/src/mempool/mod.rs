//! The mempool: one thread owns it. Transactions come from clients and peers, pass `CheckTx`, wait in the pool and go straight to the
//! primary and to the peers that lack them, in batches.
//!
//! - [`pool`]: the pool, pure.
//! - [`age`]: which transactions the primary leaves out.
//! - [`owner`]: the thread.
//!
//! Two queues feed the owner: a short one for the engine (reap, committed) that always goes first, and a bounded one for transactions,
//! which rejects at the door when it is full.

pub mod age;
mod owner;
pub mod pool;

use crate::engine::Event;
use crate::network::{Inbound, Network, PeerId};
use crate::rpc::sources::{BoxFuture, PoolError, PoolStats};
use arc_swap::ArcSwap;
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use pool::Limits;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use tendermint::block::Height;
use tendermint_proto::v0_38::abci::ResponseCheckTx;
use tercet_abci::Application;
use tercet_consensus::block::SealedBlock;
use tokio::sync::oneshot;

/// The most transactions and frames that wait for the owner.
const INTAKE_MAX: usize = 16_384;

/// To whom the transactions of a peer are passed on: the peers that it is not connected to.
pub type RelayMap = Arc<ArcSwap<BTreeMap<PeerId, Vec<PeerId>>>>;

/// The pool's configuration, in CometBFT's words.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Sizes.
    pub limits: Limits,
    /// `recheck`.
    pub recheck: bool,
    /// `broadcast`.
    pub broadcast: bool,
    /// `keep-invalid-txs-in-cache`.
    pub keep_invalid: bool,
    /// `max_batch_size`: the most transactions of a block.
    pub batch_max: usize,
}

/// A transaction or a frame of them.
enum Intake {
    Client { tx: Bytes, reply: Option<oneshot::Sender<Result<ResponseCheckTx, PoolError>>> },
    Peer(Inbound),
}

/// What the engine's side asks.
enum Control {
    Reap { bytes_max: u64, gas_max: i64, reply: Sender<Vec<Bytes>> },
    First { limit: usize, reply: oneshot::Sender<Vec<Bytes>> },
    Committed(Committed),
    Primary(Option<PeerId>),
    Stop,
}

/// A block that was executed.
#[derive(Clone)]
pub struct Committed {
    /// The block.
    pub block: Arc<SealedBlock>,
    /// The codes of its results, in order.
    pub codes: Vec<u32>,
    /// The largest block in bytes, for whether this one had room.
    pub block_bytes_max: usize,
    /// Whether this node proposed it.
    pub mine: bool,
}

/// Counters that others read without asking the owner.
#[derive(Debug, Default)]
struct Counters {
    count: AtomicUsize,
    bytes: AtomicU64,
    /// Transactions that are worth a block.
    eligible: AtomicUsize,
    /// The primary should be suspected.
    suspects: AtomicBool,
}

/// A handle on the mempool.
#[derive(Clone)]
pub struct Mempool {
    intake: Sender<Intake>,
    control: Sender<Control>,
    counters: Arc<Counters>,
    limits: Limits,
}

/// What the owner is made of.
pub struct Parts {
    /// The configuration.
    pub settings: Settings,
    /// The application's mempool role.
    pub app: Box<dyn Application>,
    /// The network.
    pub network: Network,
    /// To whom a peer's transactions are passed on.
    pub relay: RelayMap,
    /// The engine, woken when the first transaction arrives.
    pub events: Sender<Event>,
    /// What was thrown away.
    pub audit: crate::audit::Audit,
    /// The height of the last executed block.
    pub height: Height,
    /// Ends the process: the application failed.
    pub failed: Box<dyn Fn(String) + Send>,
}

/// The queues' other ends.
struct Queues {
    intake: Receiver<Intake>,
    control: Receiver<Control>,
}

impl Mempool {
    /// Starts the owner's thread.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(parts: Parts) -> std::io::Result<Mempool> {
        let (intake, intake_queue) = bounded(INTAKE_MAX);
        let (control, control_queue) = unbounded();
        let counters = Arc::new(Counters::default());
        let limits = parts.settings.limits;
        let queues = Queues { intake: intake_queue, control: control_queue };
        let owner = owner::Owner::new(parts, queues, counters.clone());
        std::thread::Builder::new().name("mempool".into()).spawn(move || owner.run())?;
        Ok(Mempool { intake, control, counters, limits })
    }

    /// Hands over what peers send, until the network ends. A full queue makes the peers wait.
    pub async fn run(self, mut inbox: tokio::sync::mpsc::Receiver<Inbound>) {
        while let Some(inbound) = inbox.recv().await {
            if let Err(TrySendError::Full(intake)) = self.intake.try_send(Intake::Peer(inbound)) {
                let queue = self.intake.clone();
                // The owner is gone where this fails, and the node is stopping.
                drop(tokio::task::spawn_blocking(move || queue.send(intake)).await);
            }
        }
    }

    /// A block was executed: its transactions leave the pool.
    pub fn committed(&self, committed: Committed) {
        drop(self.control.send(Control::Committed(committed)));
    }

    /// Transactions for a block.
    #[must_use]
    pub fn reap(&self, bytes_max: u64, gas_max: i64) -> Vec<Bytes> {
        let (reply, answer) = bounded(1);
        drop(self.control.send(Control::Reap { bytes_max, gas_max, reply }));
        answer.recv().unwrap_or_default()
    }

    /// Who is primary.
    pub fn primary(&self, peer: Option<PeerId>) {
        drop(self.control.send(Control::Primary(peer)));
    }

    /// Whether a transaction waits that is worth a block.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.counters.eligible.load(Ordering::Acquire) > 0
    }

    /// Whether the primary should be suspected; asks once.
    #[must_use]
    pub fn suspects(&self) -> bool {
        self.counters.suspects.swap(false, Ordering::AcqRel)
    }

    /// Ends the owner.
    pub fn stop(&self) {
        drop(self.control.send(Control::Stop));
    }

    /// How full it is.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        PoolStats {
            count: self.counters.count.load(Ordering::Relaxed),
            total_bytes: self.counters.bytes.load(Ordering::Relaxed),
        }
    }

    /// Offers a transaction and waits for the application's `CheckTx`.
    #[must_use]
    pub fn check_tx(&self, tx: Bytes) -> BoxFuture<Result<ResponseCheckTx, PoolError>> {
        let (reply, answer) = oneshot::channel();
        let offered = self.offer(tx, Some(reply));
        Box::pin(async move {
            offered?;
            let gone = || PoolError::Unavailable("the node is stopping".into());
            answer.await.unwrap_or_else(|_| Err(gone()))
        })
    }

    /// Offers a transaction without waiting.
    ///
    /// # Errors
    /// Where it is refused at the door.
    pub fn submit(&self, tx: Bytes) -> Result<(), PoolError> {
        self.offer(tx, None)
    }

    /// The first `limit` transactions, oldest first.
    #[must_use]
    pub fn first(&self, limit: usize) -> BoxFuture<Vec<Bytes>> {
        let (reply, answer) = oneshot::channel();
        drop(self.control.send(Control::First { limit, reply }));
        Box::pin(async move { answer.await.unwrap_or_default() })
    }

    /// At the door: the size, whether the pool is full, and whether the owner keeps up.
    fn offer(
        &self,
        tx: Bytes,
        reply: Option<oneshot::Sender<Result<ResponseCheckTx, PoolError>>>,
    ) -> Result<(), PoolError> {
        self.limits.admit(tx.len(), &self.stats())?;
        match self.intake.try_send(Intake::Client { tx, reply }) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(self.limits.full(&self.stats())),
            Err(TrySendError::Disconnected(_)) => {
                Err(PoolError::Unavailable("the node is stopping".into()))
            }
        }
    }
}
