//! A pool of transactions, as far as consensus sees one: what waits, and where the primary is.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tercet_node::engine::run::{Pool, Primary};

/// What is in a pool.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    txs: BTreeMap<u64, Bytes>,
    known: BTreeSet<Bytes>,
    next: u64,
    /// Where the primary was said to be.
    pub(crate) primary: Option<Primary>,
    /// Whether the primary is to be suspected at the next question.
    pub(crate) suspect: bool,
}

/// The pool of one node.
#[derive(Debug, Default)]
pub(crate) struct SimPool(Mutex<Waiting>);

impl SimPool {
    /// What is in it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Takes a transaction; false where it was here before.
    pub(crate) fn add(&mut self, tx: &Bytes) -> bool {
        let new = self.known.insert(tx.clone());
        if new {
            self.next += 1;
            self.txs.insert(self.next, tx.clone());
        }
        new
    }

    /// A transaction was committed.
    pub(crate) fn committed(&mut self, tx: &Bytes) {
        if !self.known.insert(tx.clone()) {
            self.txs.retain(|_, waiting| waiting != tx);
        }
    }

    /// The oldest ones.
    pub(crate) fn oldest(&self, count: usize) -> Vec<Bytes> {
        self.txs.values().take(count).cloned().collect()
    }
}

impl Pool for SimPool {
    fn has_work(&self) -> bool {
        !self.lock().txs.is_empty()
    }

    fn waiting(&self) -> usize {
        self.lock().txs.len()
    }

    fn primary(&self, primary: Primary) {
        self.lock().primary = Some(primary);
    }

    fn suspects(&self) -> bool {
        std::mem::take(&mut self.lock().suspect)
    }
}
