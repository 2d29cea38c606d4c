//! The pool, pure: transactions in the order of arrival, found by hash, with a memory of those seen lately.

use crate::rpc::sources::{PoolError, PoolStats};
use bytes::Bytes;
use lru::LruCache;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::time::Instant;
use tendermint::block::Height;

/// SHA-256 of a transaction.
pub type TxHash = [u8; 32];

/// CometBFT's limits on the pool.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `size`: transactions.
    pub count_max: usize,
    /// `max_txs_bytes`.
    pub bytes_max: u64,
    /// `max_tx_bytes`.
    pub tx_bytes_max: usize,
    /// `cache_size`: hashes of transactions seen lately; 0 remembers none.
    pub cache_max: usize,
}

impl Limits {
    /// Whether a transaction of this size has room.
    ///
    /// # Errors
    /// CometBFT's words where it has not.
    pub fn admit(&self, size: usize, stats: &PoolStats) -> Result<(), PoolError> {
        if size > self.tx_bytes_max {
            return Err(PoolError::TooLarge { max: self.tx_bytes_max, size });
        }
        let bytes = stats.total_bytes + u64::try_from(size).unwrap_or(u64::MAX);
        if stats.count >= self.count_max || bytes > self.bytes_max {
            return Err(self.full(stats));
        }
        Ok(())
    }

    /// That the pool is full.
    #[must_use]
    pub fn full(&self, stats: &PoolStats) -> PoolError {
        PoolError::Full {
            count: stats.count,
            count_max: self.count_max,
            bytes: stats.total_bytes,
            bytes_max: self.bytes_max,
        }
    }
}

/// A transaction in the pool.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its bytes.
    pub tx: Bytes,
    /// Its hash.
    pub hash: TxHash,
    /// What the application says that it wants.
    pub gas: i64,
    /// The height of the last executed block when it came.
    pub height: Height,
    /// When it came.
    pub since: Instant,
    /// How many blocks with room for it have left it out.
    pub left_out: u32,
    /// Whether the primary was suspected for it.
    pub suspected: bool,
}

/// Transactions in the order of arrival.
#[derive(Debug)]
pub struct Pool {
    limits: Limits,
    order: BTreeMap<u64, Entry>,
    by_hash: HashMap<TxHash, u64>,
    cache: Option<LruCache<TxHash, ()>>,
    next: u64,
    bytes: u64,
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(limits: Limits) -> Pool {
        Pool {
            limits,
            order: BTreeMap::new(),
            by_hash: HashMap::new(),
            cache: NonZeroUsize::new(limits.cache_max).map(LruCache::new),
            next: 0,
            bytes: 0,
        }
    }

    /// How full it is.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        PoolStats { count: self.order.len(), total_bytes: self.bytes }
    }

    /// Whether a transaction may be checked: it has room and was not seen lately. Remembers it as seen.
    ///
    /// # Errors
    /// Where not.
    pub fn admit(&mut self, hash: TxHash, size: usize) -> Result<(), PoolError> {
        if self.by_hash.contains_key(&hash) {
            return Err(PoolError::Seen);
        }
        self.limits.admit(size, &self.stats())?;
        let seen = self.cache.as_mut().and_then(|cache| cache.put(hash, ()));
        if seen.is_some() { Err(PoolError::Seen) } else { Ok(()) }
    }

    /// Forgets that a transaction was seen.
    pub fn forget(&mut self, hash: &TxHash) {
        if let Some(cache) = &mut self.cache {
            cache.pop(hash);
        }
    }

    /// Remembers that a transaction was seen, as one in a block.
    pub fn remember(&mut self, hash: TxHash) {
        if let Some(cache) = &mut self.cache {
            cache.put(hash, ());
        }
    }

    /// Takes a transaction that the application accepted.
    pub fn add(&mut self, entry: Entry) {
        let size = u64::try_from(entry.tx.len()).unwrap_or(u64::MAX);
        if self.by_hash.insert(entry.hash, self.next).is_none() {
            self.bytes += size;
            self.order.insert(self.next, entry);
            self.next += 1;
        }
    }

    /// Removes a transaction.
    pub fn remove(&mut self, hash: &TxHash) -> Option<Entry> {
        let entry = self.order.remove(&self.by_hash.remove(hash)?)?;
        self.bytes = self.bytes.saturating_sub(u64::try_from(entry.tx.len()).unwrap_or(u64::MAX));
        Some(entry)
    }

    /// The oldest transactions that fit: their encoding in a block within `bytes_max`, their gas within `gas_max` (−1 for any).
    #[must_use]
    pub fn reap(&self, bytes_max: u64, gas_max: i64, count_max: usize) -> Vec<Bytes> {
        let (mut bytes, mut gas) = (0u64, 0i64);
        let mut txs = Vec::new();
        for entry in self.order.values() {
            bytes = bytes.saturating_add(encoded_bytes(entry.tx.len()));
            gas = gas.saturating_add(entry.gas.max(0));
            if bytes > bytes_max || (gas_max >= 0 && gas > gas_max) || txs.len() >= count_max {
                break;
            }
            txs.push(entry.tx.clone());
        }
        txs
    }

    /// The oldest transactions.
    pub fn oldest(&self) -> impl Iterator<Item = &Entry> {
        self.order.values()
    }

    /// The oldest transactions, to write to.
    pub fn oldest_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.order.values_mut()
    }

    /// Up to `limit` transactions from position `from` on, with the position to go on from; none where the end is reached.
    #[must_use]
    pub fn page(&self, from: u64, limit: usize) -> (Vec<(TxHash, Bytes)>, Option<u64>) {
        let page: Vec<_> = self.order.range(from..).take(limit).collect();
        let next = page.last().map(|(position, _)| **position + 1);
        (page.into_iter().map(|(_, entry)| (entry.hash, entry.tx.clone())).collect(), next)
    }
}

/// What a transaction of this size takes in a block: a tag, its length as a varint, itself (CometBFT `types/tx.go`).
fn encoded_bytes(size: usize) -> u64 {
    let total = 1 + prost::length_delimiter_len(size) + size;
    u64::try_from(total).unwrap_or(u64::MAX)
}
