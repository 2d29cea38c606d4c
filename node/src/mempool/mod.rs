//! The mempool: one thread owns it. Transactions come from clients and peers, pass `CheckTx`, wait in the pool and go straight to the
//! primary and to the peers that lack them, in batches.
//!
//! - [`pool`]: the pool, pure.
//! - `seen`: which were seen lately.
//! - [`age`]: which transactions the primary leaves out.
//! - `owner`: the thread.
//! - `check`: what the application is asked, and in which order.
//! - `caller`: a second thread, which waits for the application: the owner never does, so neither does who asks the owner.
//!
//! Two queues feed the owner: a short one for the engine (reap, committed) that always goes first, and one for transactions, bounded
//! in number and bytes, which rejects clients at the door when it is full and makes peers wait. At the door, on the caller's thread, a
//! transaction is hashed and copied: what is kept must not hold a whole frame or request in memory.

pub mod age;
mod caller;
mod check;
mod counted;
mod owner;
#[cfg(test)]
mod owner_tests;
pub mod pool;
mod seen;

use crate::audit::{Audit, Discarded};
use crate::engine::Event;
use crate::engine::run::Primary;
use crate::network::{Class, Inbound, Network, PeerId};
use crate::rpc::sources::{BoxFuture, HashedTx, PoolCounts, PoolError, PoolStats};
use crate::wire;
use arc_swap::ArcSwap;
use bytes::Bytes;
use caller::Caller;
use counted::Counted;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use owner::{Owner, Seams};
use pool::{Entry, Limits, TxHash};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tendermint::block::Height;
use tendermint_proto::v0_38::abci::ResponseCheckTx;
use tercet_abci::Application;
use tercet_consensus::block::SealedBlock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

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
    /// `type` is `nop`: it takes no transactions, neither from clients nor from peers.
    pub nop: bool,
    /// How long a transaction may wait.
    pub life: Life,
}

/// How long a transaction may wait (CometBFT 0.37 `mempool/v1/mempool.go`, `purgeExpiredTxs`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// `ttl-num-blocks`; 0 is for ever.
    pub blocks: u64,
    /// `ttl-duration`; 0 is for ever.
    pub time: Duration,
}

impl Life {
    /// Whether it is over for one that came at this height and time.
    fn is_over(&self, entry: &Entry, (height, now): (Height, Instant)) -> bool {
        let blocks = height.value().saturating_sub(entry.height.value());
        let time = now.saturating_duration_since(entry.since);
        (self.blocks > 0 && blocks > self.blocks) || (!self.time.is_zero() && time > self.time)
    }
}

/// What a mempool of type `nop` answers (CometBFT `mempool/nop_mempool.go`).
const NOP: &str = "not allowed with `nop` mempool";

/// The most bytes that wait for the owner.
const INTAKE_BYTES_MAX: usize = 32 << 20;
/// How long a Commit waits for a CheckTx that is under way, from when that began. One that takes longer holds up no block after it.
const HOLD_MAX: Duration = Duration::from_millis(250);
/// How many clients' questions wait for the owner; one more is answered with nothing.
const ASKED_MAX: usize = 64;
/// What one that waits takes besides its bytes.
const INTAKE_OVERHEAD_BYTES: usize = 256;

type Reply = oneshot::Sender<Result<ResponseCheckTx, PoolError>>;

/// A transaction with its hash.
struct Tx {
    bytes: Bytes,
    hash: TxHash,
}

impl Tx {
    /// The same, of which the hash is known.
    fn known(tx: &HashedTx) -> Tx {
        Tx { bytes: Bytes::copy_from_slice(tx.bytes()), hash: *tx.hash() }
    }

    /// Copied, whatever buffer it is a part of.
    fn copied(bytes: &[u8]) -> Tx {
        Tx { bytes: Bytes::copy_from_slice(bytes), hash: Sha256::digest(bytes).into() }
    }
}

/// What comes to be checked; it holds its room in the queue until it was, a frame until its last is.
enum Intake {
    Client { tx: Tx, reply: Option<Reply>, room: OwnedSemaphorePermit },
    Peer { peer: PeerId, txs: Vec<Tx>, room: OwnedSemaphorePermit },
}

/// What the engine's side asks.
enum Control {
    Reap {
        bytes_max: u64,
        gas_max: i64,
        reply: Sender<Vec<Bytes>>,
    },
    /// Clients ask, so it holds one of [`ASKED_MAX`] places until it is answered.
    First {
        limit: usize,
        reply: oneshot::Sender<Vec<Bytes>>,
        place: OwnedSemaphorePermit,
    },
    /// Asked for by a client; holds a place as well.
    Flush {
        reply: oneshot::Sender<()>,
        place: OwnedSemaphorePermit,
    },
    /// The application is about to commit a block; answered once it is asked nothing.
    Hold {
        reply: Sender<()>,
    },
    /// It has not committed it.
    Release,
    Committed(Committed),
    Primary(Primary),
    GasMax(i64),
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
    /// Executed blocks whose transactions have not been removed yet.
    executing: AtomicUsize,
    /// The primary should be suspected.
    suspects: AtomicBool,
    /// The owner is gone.
    ended: AtomicBool,
    /// What CometBFT counts.
    counted: Counted,
}

/// A handle on the mempool.
#[derive(Clone)]
pub struct Mempool {
    intake: Sender<Intake>,
    control: Sender<Control>,
    counters: Arc<Counters>,
    limits: Limits,
    /// See [`Settings::nop`].
    nop: bool,
    /// Bytes that may still wait in the queue.
    room: Arc<Semaphore>,
    /// Places for questions of clients.
    asked: Arc<Semaphore>,
    audit: Audit,
}

/// What the mempool is made of.
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
    pub audit: Audit,
    /// The height of the last executed block.
    pub height: Height,
    /// Has an application brought back to where the chain is that this role has lost; the answer comes, or the sender goes, once it is.
    pub revive: Revive,
    /// Ends the process: the application failed.
    pub failed: Box<dyn Fn(String) + Send>,
}

/// See [`Parts::revive`].
pub type Revive = Box<dyn Fn() -> Receiver<()> + Send>;

/// How transactions leave for peers.
trait Outbox: Send {
    /// The connected peers.
    fn peers(&self) -> Vec<PeerId>;
    /// Sends a frame. A full queue only delays: what is still here after some blocks goes to the primary again.
    fn send(&self, peer: PeerId, frame: Bytes);
}

impl Outbox for Network {
    fn peers(&self) -> Vec<PeerId> {
        Network::peers(self).iter().map(|info| info.peer).collect()
    }

    fn send(&self, peer: PeerId, frame: Bytes) {
        if let Err(error) = Network::send(self, peer, Class::Transactions, frame) {
            tracing::trace!(%peer, %error, "transactions not sent");
        }
    }
}

/// The queues' other ends.
struct Queues {
    intake: Receiver<Intake>,
    control: Receiver<Control>,
    counters: Arc<Counters>,
}

impl Drop for Queues {
    /// Nobody waits for an answer that no longer comes: what is in a queue is dropped here, and what comes later finds `ended` set.
    fn drop(&mut self) {
        self.counters.ended.store(true, Ordering::SeqCst);
        while self.intake.try_recv().is_ok() {}
        while self.control.try_recv().is_ok() {}
    }
}

impl Mempool {
    /// Starts the two threads, of which the one that is given back ends last, after [`Mempool::stop`].
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(parts: Parts) -> std::io::Result<(Mempool, JoinHandle<()>)> {
        let Parts { settings, app, network, relay, events, audit, height, revive, failed } = parts;
        let (mempool, queues) = Mempool::door(&settings, audit);
        let outbox = Box::new(network);
        let seams = Seams { settings, outbox, relay, events, height, revive, failed };
        let (caller, calling) = Caller::start(app)?;
        let owner = Owner::new(seams, (queues, caller), mempool.counters.clone());
        let name = std::thread::Builder::new().name("mempool".into());
        let thread = name.spawn(move || {
            owner.run();
            // The owner has told of a panic, as the end of the answers.
            drop(calling.join());
        })?;
        Ok((mempool, thread))
    }

    /// The handle, and what feeds the owner.
    fn door(settings: &Settings, audit: Audit) -> (Mempool, Queues) {
        let (limits, nop) = (settings.limits, settings.nop);
        let (intake, intake_queue) = bounded(INTAKE_MAX);
        let (control, control_queue) = unbounded();
        let counters = Arc::new(Counters::default());
        let room = Arc::new(Semaphore::new(INTAKE_BYTES_MAX));
        let ends = counters.clone();
        let queues = Queues { intake: intake_queue, control: control_queue, counters: ends };
        let asked = Arc::new(Semaphore::new(ASKED_MAX));
        (Mempool { intake, control, counters, limits, nop, room, asked, audit }, queues)
    }

    /// Hands over what peers send, until the network ends; evidence, which comes in the same class, to `evidence`. A full queue makes the
    /// peers wait.
    pub async fn run(
        self,
        mut inbox: tokio::sync::mpsc::Receiver<Inbound>,
        evidence: impl Fn(PeerId, &[Bytes]) + Send,
    ) {
        while let Some(Inbound { peer, class, bytes, .. }) = inbox.recv().await {
            let size = room_for(bytes.len());
            let txs: Vec<Tx> = match wire::decode_transactions(bytes) {
                Ok(found) => {
                    evidence(peer, &found.evidence);
                    found.txs.iter().map(|tx| Tx::copied(tx)).collect()
                }
                Err(reject) => {
                    self.audit.discard(Discarded::reject(reject, peer, class));
                    continue;
                }
            };
            if txs.is_empty() || self.nop {
                continue;
            }
            // The room is never closed.
            let Ok(room) = self.room.clone().acquire_many_owned(size).await else { return };
            let intake = Intake::Peer { peer, txs, room };
            if let Err(TrySendError::Full(intake)) = self.intake.try_send(intake) {
                let queue = self.intake.clone();
                // The owner is gone where this fails, and the node is stopping.
                drop(tokio::task::spawn_blocking(move || queue.send(intake)).await);
            }
        }
    }

    /// The application is about to commit a block: it is asked nothing from now on. Returns when it has answered what it is being asked, or
    /// has not within `HOLD_MAX`; [`Mempool::committed`] or [`Mempool::release`] ends it.
    pub fn hold(&self) {
        let (reply, answer) = bounded(1);
        drop(self.control.send(Control::Hold { reply }));
        if !self.counters.ended.load(Ordering::SeqCst) {
            // The owner has ended where this fails, and the node is stopping.
            let _ = answer.recv();
        }
    }

    /// The application has not committed the block that it was held for.
    pub fn release(&self) {
        drop(self.control.send(Control::Release));
    }

    /// A block was executed: its transactions leave the pool, and what is left is rechecked before anything new is checked.
    pub fn committed(&self, committed: Committed) {
        self.counters.executing.fetch_add(1, Ordering::AcqRel);
        drop(self.control.send(Control::Committed(committed)));
    }

    /// Forgets all transactions, and that any was seen.
    pub fn flush(&self) -> BoxFuture<Result<(), String>> {
        let (reply, answer) = oneshot::channel();
        let stopping = || "the mempool has stopped".to_owned();
        let asked = match Arc::clone(&self.asked).try_acquire_owned() {
            Ok(place) => self.control.send(Control::Flush { reply, place }).map_err(|_| stopping()),
            Err(_) => Err(format!("{ASKED_MAX} questions wait for the mempool already")),
        };
        Box::pin(async move {
            asked?;
            answer.await.map_err(|_| stopping())
        })
    }

    /// Transactions for a block. It waits for the owner, who never waits for the application.
    #[must_use]
    pub fn reap(&self, bytes_max: u64, gas_max: i64) -> Vec<Bytes> {
        let (reply, answer) = bounded(1);
        drop(self.control.send(Control::Reap { bytes_max, gas_max, reply }));
        if self.counters.ended.load(Ordering::SeqCst) {
            return Vec::new();
        }
        answer.recv().unwrap_or_default()
    }

    /// Where the primary is.
    pub fn primary(&self, primary: Primary) {
        drop(self.control.send(Control::Primary(primary)));
    }

    /// The most gas of a block, −1 for any: what wants more is refused.
    pub fn gas_max(&self, gas_max: i64) {
        drop(self.control.send(Control::GasMax(gas_max)));
    }

    /// Whether a transaction waits that is worth a block. None does while an executed block's transactions are still being removed: they
    /// would ask for an empty block. The engine hears when that is done.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.counters.executing.load(Ordering::Acquire) == 0
            && self.counters.eligible.load(Ordering::Acquire) > 0
    }

    /// How many transactions wait that are worth a block, as last counted.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.counters.eligible.load(Ordering::Acquire)
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

    /// What it has counted since the start.
    #[must_use]
    pub fn counts(&self) -> PoolCounts {
        self.counters.counted.now()
    }

    /// Offers a transaction and waits for the application's `CheckTx`.
    #[must_use]
    pub fn check_tx(
        &self,
        tx: impl Into<HashedTx>,
    ) -> BoxFuture<Result<ResponseCheckTx, PoolError>> {
        let (reply, answer) = oneshot::channel();
        let offered = self.offer(&tx.into(), Some(reply));
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
    pub fn submit(&self, tx: impl Into<HashedTx>) -> Result<(), PoolError> {
        self.offer(&tx.into(), None)
    }

    /// The first `limit` transactions, oldest first.
    #[must_use]
    pub fn first(&self, limit: usize) -> BoxFuture<Vec<Bytes>> {
        let (reply, answer) = oneshot::channel();
        if let Ok(place) = self.asked.clone().try_acquire_owned() {
            drop(self.control.send(Control::First { limit, reply, place }));
        }
        Box::pin(async move { answer.await.unwrap_or_default() })
    }

    /// At the door: the size, whether the pool is full, and whether the owner keeps up.
    fn offer(&self, hashed: &HashedTx, reply: Option<Reply>) -> Result<(), PoolError> {
        if self.nop {
            return Err(PoolError::Unavailable(NOP.to_owned()));
        }
        let tx = hashed.bytes();
        let counted = &self.counters.counted;
        self.limits.admit(tx.len(), &self.stats()).inspect_err(|error| counted.refused(error))?;
        let full = || {
            let full = self.limits.full(&self.stats());
            counted.refused(&full);
            full
        };
        if self.intake.is_full() {
            return Err(full());
        }
        let room = self.room.clone().try_acquire_many_owned(room_for(tx.len()));
        let intake =
            Intake::Client { tx: Tx::known(hashed), reply, room: room.map_err(|_| full())? };
        let stopping = || PoolError::Unavailable("the node is stopping".into());
        self.intake.try_send(intake).map_err(|error| match error {
            TrySendError::Full(_) => full(),
            TrySendError::Disconnected(_) => stopping(),
        })?;
        if self.counters.ended.load(Ordering::SeqCst) { Err(stopping()) } else { Ok(()) }
    }
}

/// The room that so many bytes take in the queue; what is larger than all of it takes all.
fn room_for(bytes: usize) -> u32 {
    let bytes = bytes.saturating_add(INTAKE_OVERHEAD_BYTES).min(INTAKE_BYTES_MAX);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
