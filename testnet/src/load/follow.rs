//! Follows the chain at one endpoint while the load runs: when each block was first seen there,
//! how many transactions it has, and, for a sample of the blocks, which of ours.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use serde_json::value::RawValue;

use super::ticks;
use super::tx::Transactions;
use crate::rpc::{Rpc, RpcError};

/// Headers that one call of `blockchain` returns at most.
const PAGE: u64 = 20;
/// Whole blocks are read at this pace in bytes a second, so that measuring costs the node little.
const SAMPLE_BYTES_PER_SECOND: u64 = 1024 * 1024;
/// After the last send, waiting ends when no loaded block came for this long.
const QUIET: Duration = Duration::from_secs(5);
/// Waiting for the rest ends at last after this long.
const DRAIN_MAX: Duration = Duration::from_secs(120);
/// Pause after a failed call.
const FAILED_PAUSE: Duration = Duration::from_millis(100);

/// How many transactions must be seen before following ends; unknown while sending goes on.
#[derive(Debug)]
pub(crate) struct Goal(AtomicU64);

impl Default for Goal {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Goal {
    /// Sending is over: `accepted` transactions are to be found.
    pub(crate) fn set(&self, accepted: u64) {
        self.0.store(accepted, Ordering::Relaxed);
    }

    fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|goal| *goal != u64::MAX)
    }
}

/// A block as it was seen to arrive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockSeen {
    /// Its height.
    pub(crate) height: u64,
    /// When the endpoint first told of it, in units of 10 µs since the start.
    pub(crate) arrived: u32,
    /// Its transactions.
    pub(crate) txs: u64,
    /// Its size in bytes.
    pub(crate) size_bytes: u64,
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    /// All blocks since the start, in order.
    pub(crate) blocks: Vec<BlockSeen>,
    /// Of a sample of blocks: our transactions' numbers with the time of arrival.
    pub(crate) sample: Vec<(u32, u32)>,
    /// Calls that failed.
    pub(crate) failures: u64,
}

/// Watches one endpoint.
pub(crate) struct Follower {
    rpc: Rpc,
    transactions: Transactions,
    poll: Duration,
    seen: u64,
    sampled_bytes: u64,
}

impl Follower {
    /// Starts at the block that `endpoint` has now.
    pub(crate) async fn open(
        endpoint: &str,
        transactions: Transactions,
        poll: Duration,
    ) -> Result<Self, RpcError> {
        let mut rpc = Rpc::new(endpoint);
        let seen = rpc.status().await?.sync_info.latest_block_height;
        Ok(Self { rpc, transactions, poll, seen, sampled_bytes: 0 })
    }

    /// Follows until the goal is reached or nothing comes any more.
    pub(crate) async fn run(mut self, start: Instant, goal: std::sync::Arc<Goal>) -> Followed {
        let mut followed = Followed::default();
        let mut committed = 0;
        let mut last_loaded = Instant::now();
        let mut sending_ended = None;
        loop {
            let before = followed.blocks.len();
            if self.look(start, &mut followed).await.is_err() {
                followed.failures += 1;
                tokio::time::sleep(FAILED_PAUSE).await;
            }
            let new = followed.blocks.get(before..).unwrap_or_default();
            let txs: u64 = new.iter().map(|block| block.txs).sum();
            committed += txs;
            if txs > 0 {
                last_loaded = Instant::now();
            }
            if let Some(accepted) = goal.get() {
                let ended = *sending_ended.get_or_insert_with(Instant::now);
                let quiet = last_loaded.max(ended).elapsed() > QUIET;
                if committed >= accepted || quiet || ended.elapsed() > DRAIN_MAX {
                    return followed;
                }
            }
            tokio::time::sleep(self.poll).await;
        }
    }

    /// One look: what is new since the last.
    async fn look(&mut self, start: Instant, followed: &mut Followed) -> Result<(), RpcError> {
        let latest = self.rpc.status().await?.sync_info.latest_block_height;
        let arrived = ticks(start, Instant::now());
        while self.seen < latest {
            let (from, to) = (self.seen + 1, latest.min(self.seen + PAGE));
            let mut metas = self.rpc.blockchain(from, to).await?.block_metas;
            metas.sort_by_key(|meta| meta.header.height);
            metas.retain(|meta| meta.header.height > self.seen);
            if metas.is_empty() {
                return Ok(());
            }
            for meta in metas {
                let block = BlockSeen {
                    height: meta.header.height,
                    arrived,
                    txs: meta.num_txs,
                    size_bytes: meta.block_size,
                };
                self.seen = block.height;
                followed.blocks.push(block);
                self.sample(start, block, followed).await?;
            }
        }
        Ok(())
    }

    /// Reads the whole block where the sample's pace allows it.
    async fn sample(
        &mut self,
        start: Instant,
        block: BlockSeen,
        followed: &mut Followed,
    ) -> Result<(), RpcError> {
        let budget = SAMPLE_BYTES_PER_SECOND * (1 + start.elapsed().as_secs());
        if block.txs == 0 || self.sampled_bytes >= budget {
            return Ok(());
        }
        self.sampled_bytes += block.size_bytes;
        let params = json!({"height": block.height.to_string()});
        let reply: Box<RawValue> = self.rpc.call("block", params).await?;
        let numbers = self.transactions.numbers_in_block(reply.get().as_bytes());
        followed.sample.extend(numbers.into_iter().map(|number| (number, block.arrived)));
        Ok(())
    }
}
