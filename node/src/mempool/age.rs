//! *age* (censorship): which transactions the primary leaves out of blocks that had room for them. Source: PROTOCOL §5 "Timers".
//!
//! A transaction that several blocks with room left out, over at least `AGE_MIN`, is a reason to suspect the primary, once. All that
//! are as old are marked with it, and the number of blocks doubles each time until one of the suspected is committed: transactions that
//! the application itself drops cost a few view changes in all. Such a transaction is no longer worth a block either. A new primary is
//! given `GRACE_BLOCKS` before it is suspected for what others left out.

use super::pool::{Entry, Pool};
use std::time::{Duration, Instant};

/// In how many blocks a transaction must have been left out.
const BLOCKS: u32 = 16;
/// In how many of them by the primary that is suspected.
const GRACE_BLOCKS: u32 = 8;
/// How long it must have waited.
const AGE_MIN: Duration = Duration::from_secs(1);
/// The number of blocks grows no further.
const BLOCKS_MAX: u32 = 1 << 20;

/// What the primary leaves out.
#[derive(Debug)]
pub struct Age {
    blocks: u32,
    /// How many transactions are no longer worth a block.
    aged: usize,
}

impl Default for Age {
    fn default() -> Age {
        Age { blocks: BLOCKS, aged: 0 }
    }
}

/// A decided block, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Decided {
    /// When.
    pub now: Instant,
    /// Whether it could have held more.
    pub room: bool,
    /// Whether this node proposed it.
    pub mine: bool,
}

impl Age {
    /// Transactions that are not worth a block any more.
    #[must_use]
    pub fn aged(&self) -> usize {
        self.aged
    }

    /// A transaction was committed.
    pub fn committed(&mut self, entry: &Entry) {
        self.left(entry);
        if entry.suspected {
            // Suspicion works.
            self.blocks = BLOCKS;
        }
    }

    /// A transaction left the pool.
    pub fn left(&mut self, entry: &Entry) {
        self.aged = self.aged.saturating_sub(usize::from(entry.aged));
    }

    /// Another validator is primary.
    pub fn rotated(&self, pool: &mut Pool) {
        let most = self.blocks.saturating_sub(GRACE_BLOCKS);
        for entry in pool.oldest_mut().filter(|entry| !entry.suspected) {
            entry.left_out = entry.left_out.min(most);
        }
    }

    /// A block was decided, and its transactions have left the pool. True: suspect the primary, unless it is this node itself.
    pub fn block(&mut self, pool: &mut Pool, decided: Decided) -> bool {
        let mut suspect = false;
        if !decided.room {
            return suspect;
        }
        self.aged = 0;
        for entry in pool.oldest_mut() {
            entry.left_out = entry.left_out.saturating_add(1);
            let old = decided.now.saturating_duration_since(entry.since) >= AGE_MIN;
            // Once suspected for, not worth a block whatever a rotation does to the count.
            entry.aged = entry.suspected || (old && entry.left_out >= BLOCKS);
            self.aged += usize::from(entry.aged);
            if entry.aged && entry.left_out >= self.blocks && !entry.suspected && !decided.mine {
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

#[cfg(test)]
mod tests {
    use super::super::pool::tests::{entry, pool};
    use super::*;

    /// A pool with these transactions, some seconds old.
    fn waiting(txs: std::ops::Range<u32>) -> (Pool, Decided) {
        let mut pool = pool(10_000);
        let now = Instant::now() + Duration::from_secs(10);
        for n in txs {
            pool.add(entry(&n.to_le_bytes())).expect("room");
        }
        (pool, Decided { now, room: true, mine: false })
    }

    fn suspicions(age: &mut Age, pool: &mut Pool, decided: Decided, blocks: u32) -> u32 {
        (0..blocks).map(|_| u32::from(age.block(pool, decided))).sum()
    }

    #[test]
    fn a_transaction_that_is_left_out_leads_to_one_suspicion() {
        let (mut pool, decided) = waiting(0..1);
        let mut age = Age::default();
        assert_eq!(suspicions(&mut age, &mut pool, decided, BLOCKS - 1), 0);
        assert_eq!(age.aged(), 0);
        assert!(age.block(&mut pool, decided));
        assert_eq!(age.aged(), 1);
        assert_eq!(suspicions(&mut age, &mut pool, decided, 10_000), 0);
        assert_eq!(age.aged(), 1);
    }

    #[test]
    fn a_full_block_an_own_block_and_a_young_transaction_are_no_reason() {
        let (mut pool, decided) = waiting(0..3);
        let mut age = Age::default();
        let full = Decided { room: false, ..decided };
        assert_eq!(suspicions(&mut age, &mut pool, full, 100), 0);
        let mine = Decided { mine: true, ..decided };
        assert_eq!(suspicions(&mut age, &mut pool, mine, 100), 0);
        let young = Decided { now: Instant::now(), ..decided };
        let (mut pool, _) = waiting(0..3);
        assert_eq!(suspicions(&mut age, &mut pool, young, 100), 0);
        assert_eq!(age.aged(), 0);
    }

    #[test]
    fn a_thousand_that_the_application_drops_cost_one_suspicion() {
        let (mut pool, decided) = waiting(0..1_000);
        let mut age = Age::default();
        assert_eq!(suspicions(&mut age, &mut pool, decided, 1_000), 1);
        assert_eq!(age.aged(), 1_000, "none is worth a block");
    }

    #[test]
    fn a_steady_stream_that_the_application_drops_costs_ever_fewer() {
        let (mut pool, decided) = waiting(0..0);
        let mut age = Age::default();
        let mut suspected = 0;
        for n in 0..4_096u32 {
            pool.add(entry(&n.to_le_bytes())).expect("room");
            suspected += u32::from(age.block(&mut pool, decided));
            if n % 64 == 0 {
                age.rotated(&mut pool);
            }
        }
        assert!((1..=9).contains(&suspected), "{suspected}");
    }

    #[test]
    fn a_censored_one_behind_many_that_the_application_drops_is_noticed() {
        let (mut pool, decided) = waiting(0..2_000);
        let mut age = Age::default();
        assert_eq!(suspicions(&mut age, &mut pool, decided, 100), 1);
        pool.add(entry(b"censored")).expect("room");
        assert_eq!(suspicions(&mut age, &mut pool, decided, 2 * BLOCKS - 1), 0);
        assert!(age.block(&mut pool, decided));
    }

    #[test]
    fn suspicion_that_worked_makes_the_next_as_quick() {
        let (mut pool, decided) = waiting(0..1);
        let mut age = Age::default();
        assert_eq!(suspicions(&mut age, &mut pool, decided, BLOCKS), 1);
        let committed = pool.remove(&entry(&0u32.to_le_bytes()).hash).unwrap();
        assert!(committed.suspected);
        age.committed(&committed);
        assert_eq!(age.aged(), 0);
        pool.add(entry(b"next")).expect("room");
        assert_eq!(suspicions(&mut age, &mut pool, decided, BLOCKS), 1);
    }

    #[test]
    fn a_new_primary_is_not_suspected_for_what_others_left_out() {
        let (mut pool, decided) = waiting(0..1);
        let mut age = Age::default();
        assert_eq!(suspicions(&mut age, &mut pool, decided, BLOCKS - 1), 0);
        age.rotated(&mut pool);
        assert_eq!(suspicions(&mut age, &mut pool, decided, GRACE_BLOCKS - 1), 0);
        assert_eq!(suspicions(&mut age, &mut pool, decided, 1), 1);
    }
}
