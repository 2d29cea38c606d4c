//! *age* (censorship): which transactions the primary leaves out of blocks that had room for them. Source: PROTOCOL §5 "Timers".
//!
//! A transaction that several blocks with room left out, over at least [`AGE_MIN`], is a reason to suspect the primary, once. All that
//! are as old are marked with it, and the number of blocks doubles each time until one of the suspected is committed: transactions that
//! the application itself drops cost a few view changes in all. Such a transaction is no longer worth a block either.

use super::pool::Pool;
use std::time::{Duration, Instant};

/// How many of the oldest transactions are looked at after each block.
const SCAN_MAX: usize = 512;
/// In how many blocks a transaction must have been left out.
const BLOCKS: u32 = 16;
/// How long it must have waited.
const AGE_MIN: Duration = Duration::from_secs(1);
/// The number of blocks grows no further.
const BLOCKS_MAX: u32 = 1 << 20;

/// What the primary leaves out.
#[derive(Debug)]
pub struct Age {
    blocks: u32,
    /// How many of the oldest transactions are no longer worth a block.
    aged: usize,
}

impl Default for Age {
    fn default() -> Age {
        Age { blocks: BLOCKS, aged: 0 }
    }
}

impl Age {
    /// Transactions that are not worth a block any more.
    #[must_use]
    pub fn aged(&self) -> usize {
        self.aged
    }

    /// A suspected transaction was committed after all: suspicion works.
    pub fn vindicated(&mut self) {
        self.blocks = BLOCKS;
    }

    /// A block was decided; `room` where it could have held more. True: suspect the primary, unless it is this node itself.
    pub fn block(&mut self, pool: &mut Pool, now: Instant, room: bool, mine: bool) -> bool {
        let mut suspect = false;
        self.aged = 0;
        for entry in pool.oldest_mut().take(SCAN_MAX) {
            entry.left_out = entry.left_out.saturating_add(u32::from(room));
            let old = now.saturating_duration_since(entry.since) >= AGE_MIN;
            let aged = old && entry.left_out >= BLOCKS;
            self.aged += usize::from(aged);
            if aged && entry.left_out >= self.blocks && !entry.suspected && !mine {
                entry.suspected = true;
                suspect = true;
            }
        }
        if suspect {
            self.blocks = self.blocks.saturating_mul(2).min(BLOCKS_MAX);
        }
        suspect
    }
}
