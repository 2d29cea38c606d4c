//! Who waits for which transaction to be committed: the registry behind `broadcast_tx_commit`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tendermint::block::Height;
use tendermint_proto::v0_38::abci::{ExecTxResult, ResponseFinalizeBlock};
use tercet_consensus::block::SealedBlock;
use tokio::sync::oneshot;

/// SHA-256 of a transaction.
type TxHash = [u8; 32];
/// Who waits, by transaction, each under a number of its own.
type ByHash = HashMap<TxHash, Vec<(usize, oneshot::Sender<Committed>)>>;

/// Where a transaction was committed and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// The height of its block.
    pub height: Height,
    /// The result of its execution.
    pub result: ExecTxResult,
}

/// The registry. A handle: clones share it.
#[derive(Clone, Default)]
pub struct Waiters(Arc<Shared>);

#[derive(Default)]
struct Shared {
    by_hash: Mutex<ByHash>,
    count: AtomicUsize,
    next: AtomicUsize,
}

/// A place in the registry; leaving is dropping it.
pub(crate) struct Waiter {
    shared: Arc<Shared>,
    hash: TxHash,
    number: usize,
    receiver: oneshot::Receiver<Committed>,
}

impl Waiters {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Waiters {
        Waiters::default()
    }

    /// How many wait.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.count.load(Ordering::Acquire)
    }

    /// Takes a place for the transaction with this hash; none where `count_max` wait already.
    pub(crate) fn wait(&self, hash: TxHash, count_max: usize) -> Option<Waiter> {
        let (sender, receiver) = oneshot::channel();
        let mut by_hash = lock(&self.0);
        if self.count() >= count_max {
            return None;
        }
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.count.fetch_add(1, Ordering::AcqRel);
        by_hash.entry(hash).or_default().push((number, sender));
        Some(Waiter { shared: Arc::clone(&self.0), hash, number, receiver })
    }

    /// Tells those who wait for a transaction of this block. The node calls it after the block is applied; without anybody waiting
    /// it costs one atomic load.
    pub fn publish(&self, block: &SealedBlock, results: &ResponseFinalizeBlock) {
        if self.count() == 0 {
            return;
        }
        let height = block.header().height;
        let mut by_hash = lock(&self.0);
        for (hash, result) in block.tx_hashes().iter().zip(&results.tx_results) {
            for (_, sender) in by_hash.remove(hash).unwrap_or_default() {
                let committed = Committed { height, result: result.clone() };
                // Who left in the meantime has dropped the receiver.
                let _ = sender.send(committed);
            }
        }
    }
}

impl Waiter {
    /// The news; none where the registry is gone.
    pub(crate) async fn committed(&mut self) -> Option<Committed> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut by_hash = lock(&self.shared);
        if let Some(list) = by_hash.get_mut(&self.hash) {
            list.retain(|(number, _)| *number != self.number);
            if list.is_empty() {
                by_hash.remove(&self.hash);
            }
        }
        self.shared.count.fetch_sub(1, Ordering::AcqRel);
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, ByHash> {
    // Nothing that runs under the lock can panic halfway through a change.
    shared.by_hash.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_waiters_is_bounded_and_leaving_makes_room() {
        let waiters = Waiters::new();
        let first = waiters.wait([1; 32], 2);
        let second = waiters.wait([1; 32], 2);
        assert!(first.is_some() && second.is_some());
        assert!(waiters.wait([2; 32], 2).is_none());
        drop(first);
        assert_eq!(waiters.count(), 1);
        assert!(waiters.wait([2; 32], 2).is_some());
        drop(second);
        assert_eq!(waiters.count(), 0);
        assert!(lock(&waiters.0).is_empty());
    }
}
