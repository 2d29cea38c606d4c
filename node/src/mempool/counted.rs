//! What CometBFT's metrics of the mempool count (`mempool/metrics.go`).

use crate::rpc::sources::{POOL_SIZES, PoolCounts, PoolError};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start.
#[derive(Debug, Default)]
pub(super) struct Counted {
    failed: AtomicU64,
    rejected: AtomicU64,
    evicted: AtomicU64,
    rechecked: AtomicU64,
    sizes: [AtomicU64; POOL_SIZES.len() + 1],
    size_sum: AtomicU64,
}

impl Counted {
    /// One found no room; other refusals count for nothing.
    pub(super) fn refused(&self, error: &PoolError) {
        if matches!(error, PoolError::Full { .. }) {
            self.rejected.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The application, or the gas of a block, refused one.
    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// One was taken.
    pub(super) fn taken(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let bucket = POOL_SIZES.partition_point(|most| *most < bytes);
        if let Some(bucket) = self.sizes.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.size_sum.fetch_add(bytes, Ordering::Relaxed);
    }

    /// One has left that was taken and stands in no block.
    pub(super) fn evicted(&self) {
        self.evicted.fetch_add(1, Ordering::Relaxed);
    }

    /// So many were checked again.
    pub(super) fn rechecked(&self, count: usize) {
        self.rechecked.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> PoolCounts {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PoolCounts {
            failed: value(&self.failed),
            rejected: value(&self.rejected),
            evicted: value(&self.evicted),
            rechecked: value(&self.rechecked),
            sizes: self.sizes.each_ref().map(value),
            size_sum: value(&self.size_sum),
        }
    }
}
