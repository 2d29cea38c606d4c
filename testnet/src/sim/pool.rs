//! A pool of transactions: the node's own pool and its rule against censorship (`tercet_node::mempool::{pool, age}`), without the thread
//! that owns them, the application's CheckTx and the addressing of transactions: whatever waits is told to everyone, again and again.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tendermint::block::Height;
use tercet_consensus::block::SealedBlock;
use tercet_node::engine::run::{Pool as Seam, Primary};
use tercet_node::mempool::age::{Age, Decided};
use tercet_node::mempool::pool::{Entry, Limits, Pool};

/// The most transactions of a block.
const TXS_MAX: usize = 8;
/// The largest block in bytes.
const BLOCK_BYTES_MAX: usize = 100_000;
const LIMITS: Limits =
    Limits { count_max: 5_000, bytes_max: 1 << 20, tx_bytes_max: 1_000, cache_max: 10_000 };

/// A transaction on its way, with its hash.
pub(crate) type Tx = (Bytes, [u8; 32]);

/// A transaction that is to be sent.
pub(crate) fn tx(bytes: Bytes) -> Tx {
    let hash = Sha256::digest(&bytes).into();
    (bytes, hash)
}

/// What is in a pool.
#[derive(Debug)]
pub(crate) struct Waiting {
    pool: Pool,
    age: Age,
    primary: Primary,
    suspects: bool,
}

/// The pool of one node.
#[derive(Debug)]
pub(crate) struct SimPool(Mutex<Waiting>);

impl Default for SimPool {
    fn default() -> SimPool {
        let (pool, age) = (Pool::new(LIMITS), Age::default());
        SimPool(Mutex::new(Waiting { pool, age, primary: Primary::Elsewhere, suspects: false }))
    }
}

impl SimPool {
    /// What is in it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Takes a transaction; false where it was here before.
    pub(crate) fn add(&mut self, (tx, hash): &Tx, now: Instant) -> bool {
        let hash = *hash;
        if self.pool.admit(hash, tx.len()).is_err() {
            return false;
        }
        let entry = Entry {
            tx: tx.clone(),
            hash,
            gas: 1,
            height: Height::from(1u32),
            since: now,
            sent: now,
            left_out: 0,
            suspected: false,
            aged: false,
        };
        self.pool.add(entry).is_ok()
    }

    /// A block was executed; `mine`: this node proposed it.
    pub(crate) fn committed(&mut self, block: &SealedBlock, mine: bool, now: Instant) {
        for hash in block.tx_hashes() {
            if let Some(entry) = self.pool.remove(hash) {
                self.age.committed(&entry);
            }
            self.pool.remember(*hash);
        }
        let room = block.bytes().len() * 2 < BLOCK_BYTES_MAX && block.txs().len() * 2 < TXS_MAX;
        self.suspects |= self.age.block(&mut self.pool, Decided { now, room, mine });
    }

    /// Whether the primary is suspected, and the engine has not asked yet.
    pub(crate) fn is_suspicious(&self) -> bool {
        self.suspects
    }

    /// The oldest ones.
    pub(crate) fn oldest(&self, count: usize) -> Vec<Bytes> {
        self.pool.reap(u64::MAX, -1, count)
    }

    /// Those of a block.
    pub(crate) fn reap(&self) -> Vec<Bytes> {
        self.oldest(TXS_MAX)
    }
}

impl Seam for SimPool {
    fn has_work(&self) -> bool {
        self.waiting() > 0
    }

    fn waiting(&self) -> usize {
        let waiting = self.lock();
        waiting.pool.stats().count.saturating_sub(waiting.age.aged())
    }

    fn primary(&self, primary: Primary) {
        let mut waiting = self.lock();
        if waiting.primary == primary {
            return;
        }
        let Waiting { pool, age, .. } = &mut *waiting;
        age.rotated(pool);
        (waiting.primary, waiting.suspects) = (primary, false);
    }

    fn suspects(&self) -> bool {
        std::mem::take(&mut self.lock().suspects)
    }
}
