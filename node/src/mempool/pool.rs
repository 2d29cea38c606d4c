//! The pool, pure: transactions in the order of arrival, found by hash, with a memory of those seen lately.

use super::seen::Seen;
use crate::rpc::sources::{PoolError, PoolStats};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, hash_map};
use std::ops::Range;
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
    /// `cache_size`: the most hashes of transactions seen lately; 0 remembers none.
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
    /// When it last went to the primary.
    pub sent: Instant,
    /// How many blocks with room for it have left it out.
    pub left_out: u32,
    /// Whether the primary was suspected for it.
    pub suspected: bool,
    /// Whether it is no longer worth a block.
    pub aged: bool,
}

/// Transactions in the order of arrival.
#[derive(Debug)]
pub struct Pool {
    limits: Limits,
    order: BTreeMap<u64, Entry>,
    by_hash: HashMap<TxHash, u64>,
    seen: Seen,
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
            seen: Seen::new(limits.cache_max),
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
        if self.seen.put(&hash) { Err(PoolError::Seen) } else { Ok(()) }
    }

    /// Forgets that a transaction was seen.
    pub fn forget(&mut self, hash: &TxHash) {
        self.seen.forget(hash);
    }

    /// Forgets that any was seen.
    pub fn forget_all(&mut self) {
        self.seen = Seen::new(self.limits.cache_max);
    }

    /// Remembers that a transaction was seen, as one in a block.
    pub fn remember(&mut self, hash: TxHash) {
        self.seen.put(&hash);
    }

    /// Takes a transaction that the application accepted, if there is still room.
    ///
    /// # Errors
    /// Where others were taken since it was admitted, and nothing is left.
    pub fn add(&mut self, entry: Entry) -> Result<(), PoolError> {
        self.limits.admit(entry.tx.len(), &self.stats())?;
        if let hash_map::Entry::Vacant(place) = self.by_hash.entry(entry.hash) {
            place.insert(self.next);
            self.bytes += u64::try_from(entry.tx.len()).unwrap_or(u64::MAX);
            self.order.insert(self.next, entry);
            self.next += 1;
        }
        Ok(())
    }

    /// Removes a transaction.
    pub fn remove(&mut self, hash: &TxHash) -> Option<Entry> {
        let entry = self.order.remove(&self.by_hash.remove(hash)?)?;
        self.bytes = self.bytes.saturating_sub(u64::try_from(entry.tx.len()).unwrap_or(u64::MAX));
        Some(entry)
    }

    /// The oldest transactions that fit: their encoding in a block within `bytes_max`, their gas within `gas_max` (−1 for any). One
    /// that would not even fit alone is passed over, so that it does not stand in the way of all others.
    #[must_use]
    pub fn reap(&self, bytes_max: u64, gas_max: i64, count_max: usize) -> Vec<Bytes> {
        let gas_max = if gas_max < 0 { i64::MAX } else { gas_max };
        let (mut bytes, mut gas) = (0u64, 0i64);
        let mut txs = Vec::with_capacity(count_max.min(self.order.len()));
        for entry in self.order.values() {
            let (size, wanted) = (encoded_bytes(entry.tx.len()), entry.gas.max(0));
            if size > bytes_max || wanted > gas_max {
                continue;
            }
            bytes = bytes.saturating_add(size);
            gas = gas.saturating_add(wanted);
            if bytes > bytes_max || gas > gas_max || txs.len() >= count_max {
                break;
            }
            txs.push(entry.tx.clone());
        }
        txs
    }

    /// The oldest as long as this is so of them: the height and the time of those that came later are no lower.
    pub fn oldest_while(&self, is_so: impl Fn(&Entry) -> bool) -> Vec<TxHash> {
        self.order.values().take_while(|entry| is_so(entry)).map(|entry| entry.hash).collect()
    }

    /// The position behind the youngest transaction.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.next
    }

    /// The oldest transactions.
    pub fn oldest(&self) -> impl Iterator<Item = &Entry> {
        self.order.values()
    }

    /// The oldest transactions, to write to.
    pub fn oldest_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.order.values_mut()
    }

    /// Up to `limit` transactions at the positions in `range`, with the position to go on from; none where no more are there.
    #[must_use]
    pub fn page(&self, range: Range<u64>, limit: usize) -> (Vec<(TxHash, Bytes)>, Option<u64>) {
        if range.is_empty() {
            return (Vec::new(), None);
        }
        let page: Vec<_> = self.order.range(range).take(limit).collect();
        let last = page.last().filter(|_| page.len() == limit);
        let next = last.map(|(position, _)| **position + 1);
        (page.into_iter().map(|(_, entry)| (entry.hash, entry.tx.clone())).collect(), next)
    }
}

/// What a transaction of this size takes in a block: a tag, its length as a varint, itself (CometBFT `types/tx.go`).
fn encoded_bytes(size: usize) -> u64 {
    let total = 1 + prost::length_delimiter_len(size) + size;
    u64::try_from(total).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    pub(in crate::mempool) fn pool(count_max: usize) -> Pool {
        Pool::new(Limits { count_max, bytes_max: 1 << 20, tx_bytes_max: 1_000, cache_max: 4 })
    }

    pub(in crate::mempool) fn entry(tx: &[u8]) -> Entry {
        Entry {
            tx: Bytes::copy_from_slice(tx),
            hash: Sha256::digest(tx).into(),
            gas: 1,
            height: Height::from(1u32),
            since: Instant::now(),
            sent: Instant::now(),
            left_out: 0,
            suspected: false,
            aged: false,
        }
    }

    fn put(pool: &mut Pool, tx: &[u8], gas: i64) -> Result<(), PoolError> {
        let entry = Entry { gas, ..entry(tx) };
        pool.admit(entry.hash, tx.len())?;
        pool.add(entry).expect("room");
        Ok(())
    }

    /// A pool of transactions of 10 bytes and 5 gas.
    fn tens(count: u8) -> Pool {
        let mut pool = pool(1_000);
        for n in 0..count {
            put(&mut pool, &[n; 10], 5).unwrap();
        }
        pool
    }

    #[test]
    fn what_is_refused_says_so_in_the_words_of_cometbft() {
        let mut pool = pool(2);
        let words = |result: Result<(), PoolError>| result.unwrap_err().to_string();
        let large = words(put(&mut pool, &[0; 1_001], 1));
        assert_eq!(large, "Tx too large. Max size is 1000, but got 1001");
        put(&mut pool, &[0; 1_000], 1).unwrap();
        assert_eq!(words(put(&mut pool, &[0; 1_000], 1)), "tx already exists in cache");
        put(&mut pool, b"b", 1).unwrap();
        let full = "mempool is full: number of txs 2 (max: 2), total txs bytes 1001 (max: 1048576)";
        assert_eq!(words(put(&mut pool, b"c", 1)), full);
        pool.remove(&entry(b"b").hash).unwrap();
        put(&mut pool, b"c", 1).unwrap();
    }

    #[test]
    fn its_bytes_are_limited() {
        let limits = Limits { count_max: 99, bytes_max: 25, tx_bytes_max: 20, cache_max: 9 };
        let mut pool = Pool::new(limits);
        put(&mut pool, &[1; 20], 1).unwrap();
        assert!(matches!(put(&mut pool, &[2; 6], 1), Err(PoolError::Full { bytes: 20, .. })));
        put(&mut pool, &[2; 5], 1).unwrap();
        assert_eq!(pool.stats(), PoolStats { count: 2, total_bytes: 25 });
        pool.remove(&entry(&[1; 20]).hash).unwrap();
        assert_eq!(pool.stats(), PoolStats { count: 1, total_bytes: 5 });
    }

    #[test]
    fn one_that_found_no_room_may_come_again() {
        let mut pool = pool(1);
        put(&mut pool, b"a", 1).unwrap();
        assert!(matches!(put(&mut pool, b"b", 1), Err(PoolError::Full { .. })));
        pool.remove(&entry(b"a").hash).unwrap();
        put(&mut pool, b"b", 1).unwrap();
    }

    #[test]
    fn the_cache_remembers_the_last_ones() {
        let mut pool = tens(1);
        let hash = entry(&[0; 10]).hash;
        pool.remove(&hash).unwrap();
        assert!(matches!(put(&mut pool, &[0; 10], 5), Err(PoolError::Seen)));
        pool.forget(&hash);
        put(&mut pool, &[0; 10], 5).unwrap();
        pool.remove(&hash).unwrap();
        for n in 1..=4 {
            put(&mut pool, &[n; 10], 5).unwrap();
        }
        put(&mut pool, &[0; 10], 5).unwrap();
        pool.remember(entry(b"committed elsewhere").hash);
        assert!(matches!(put(&mut pool, b"committed elsewhere", 5), Err(PoolError::Seen)));
    }

    #[test]
    fn one_in_the_pool_is_known_even_where_the_cache_has_forgotten_it() {
        let limits = Limits { count_max: 9, bytes_max: 99, tx_bytes_max: 20, cache_max: 0 };
        let mut pool = Pool::new(limits);
        put(&mut pool, b"a", 1).unwrap();
        assert!(matches!(put(&mut pool, b"a", 1), Err(PoolError::Seen)));
        pool.add(entry(b"a")).expect("room");
        assert_eq!(pool.stats(), PoolStats { count: 1, total_bytes: 1 });
        assert!(pool.remove(&entry(b"a").hash).is_some());
        assert_eq!((pool.stats(), pool.oldest().count()), (PoolStats::default(), 0));
    }

    #[test]
    fn a_reap_is_in_order_and_within_bytes_gas_and_count() {
        let pool = tens(9);
        let firsts = |txs: Vec<Bytes>| txs.iter().map(|tx| tx[0]).collect::<Vec<u8>>();
        let any = u64::MAX;
        assert_eq!(firsts(pool.reap(any, -1, 99)), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(firsts(pool.reap(any, -1, 2)), [0, 1]);
        // A tag, a length and ten bytes each.
        assert_eq!(firsts(pool.reap(36, -1, 99)), [0, 1, 2]);
        assert_eq!(firsts(pool.reap(35, -1, 99)), [0, 1]);
        assert_eq!(firsts(pool.reap(any, 15, 99)), [0, 1, 2]);
        assert_eq!(firsts(pool.reap(any, 14, 99)), [0, 1]);
        assert!(pool.reap(any, 0, 99).is_empty());
        assert!(pool.reap(0, -1, 99).is_empty());
    }

    #[test]
    fn one_that_fits_into_no_block_does_not_stand_in_the_way() {
        let mut pool = pool(9);
        put(&mut pool, b"greedy", i64::MAX).unwrap();
        put(&mut pool, &[7; 900], 1).unwrap();
        put(&mut pool, b"modest", 1).unwrap();
        assert_eq!(pool.reap(100, 10, 99), [Bytes::from_static(b"modest")]);
    }

    #[test]
    fn the_encoding_is_that_of_the_block() {
        for size in [0, 1, 127, 128, 16_383, 16_384, 1_048_576] {
            let data = tendermint_proto::v0_38::types::Data { txs: vec![vec![0; size]] };
            let encoded = u64::try_from(prost::Message::encoded_len(&data)).unwrap();
            assert_eq!(encoded_bytes(size), encoded);
        }
    }

    #[test]
    fn pages_cover_all_up_to_their_end() {
        let mut pool = tens(5);
        let end = pool.end();
        pool.remove(&entry(&[1; 10]).hash).unwrap();
        put(&mut pool, b"younger", 1).unwrap();
        let (page, next) = pool.page(0..end, 2);
        assert_eq!((page.len(), next), (2, Some(3)));
        let (page, next) = pool.page(3..end, 2);
        assert_eq!((page.len(), next), (2, Some(5)));
        assert_eq!(pool.page(5..end, 2), (vec![], None));
    }
}
