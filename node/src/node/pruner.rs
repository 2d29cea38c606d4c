//! Prunes the chain in the background, on a thread of its own: the executor says what the application retains and goes on.

use crate::probe::{Point, Probe};
use crate::store::index::Index;
use crate::store::{Chain, StoreError};
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use tendermint::block::Height;

/// A handle on the thread, which ends with the last of them.
pub(super) struct Pruner {
    below: Arc<AtomicU64>,
    wake: Sender<()>,
}

impl Pruner {
    /// Starts the thread, which goes on with what a crash has left undone.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub(super) fn start(
        (chain, index): (Chain, Option<Index>),
        probe: Probe,
    ) -> std::io::Result<(Pruner, JoinHandle<()>)> {
        let retained = chain.retain().unwrap_or_else(|error| {
            failed(&error);
            None
        });
        let below = Arc::new(AtomicU64::new(retained.map_or(0, |height| height.value())));
        let (wake, woken) = bounded(1);
        // Never full: nobody else has it yet.
        let _ = wake.try_send(());
        let pruning = Pruning { chain, index, wanted: Arc::clone(&below), woken, probe };
        let thread = std::thread::Builder::new().name("prune".into());
        let thread = thread.spawn(move || pruning.run())?;
        Ok((Pruner { below, wake }, thread))
    }

    /// The application retains the blocks from `below` on. Waits for nothing.
    pub(super) fn retain(&self, below: Height) {
        self.below.fetch_max(below.value(), Ordering::AcqRel);
        // Full: it looks once more anyway.
        let _ = self.wake.try_send(());
    }
}

/// The thread's side.
struct Pruning {
    chain: Chain,
    index: Option<Index>,
    wanted: Arc<AtomicU64>,
    woken: Receiver<()>,
    probe: Probe,
}

impl Pruning {
    fn run(&self) {
        while self.woken.recv().is_ok() {
            if let Err(error) = self.prune() {
                failed(&error);
            }
        }
    }

    /// Prunes batch by batch until there is nothing more, or the node stops.
    fn prune(&self) -> Result<(), StoreError> {
        let mut remembered = self.chain.retain()?;
        let mut blocks = 0;
        loop {
            let below = Height::try_from(self.wanted.load(Ordering::Acquire)).ok();
            let Some(below) = below.filter(|below| below.value() > 0) else { return Ok(()) };
            if remembered.is_none_or(|remembered| remembered < below) {
                self.chain.set_retain(below)?;
                remembered = Some(below);
            }
            self.prune_index(below)?;
            let pruned = self.chain.prune_batch(below)?;
            blocks += pruned.blocks;
            if pruned.blocks > 0 {
                self.probe.reach(Point::Pruned);
            }
            if !pruned.more {
                if blocks > 0 {
                    tracing::debug!(blocks, %below, "pruned");
                }
                return Ok(());
            }
            if self.woken.try_recv() == Err(TryRecvError::Disconnected) {
                return Ok(());
            }
        }
    }

    /// Removes from the index what the chain lets go next: first, as it follows from the blocks what there is of them.
    fn prune_index(&self, below: Height) -> Result<(), StoreError> {
        let Some((index, (_, to))) = self.index.as_ref().zip(self.chain.next_batch(below)) else {
            return Ok(());
        };
        while index.prune(&self.chain, to)? {}
        Ok(())
    }
}

fn failed(error: &StoreError) {
    tracing::warn!(%error, "pruning failed; it is tried again with the next block");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::chain_tests::chain_of;
    use std::time::{Duration, Instant};

    fn height(at: u64) -> Height {
        Height::try_from(at).expect("a height")
    }

    #[test]
    fn what_is_no_longer_retained_goes_in_the_background() {
        let (_folder, chain) = chain_of(50);
        let (pruner, thread) =
            Pruner::start((chain.clone(), None), Probe::default()).expect("a thread");
        pruner.retain(height(20));
        pruner.retain(height(41));
        pruner.retain(height(30));
        let deadline = Instant::now() + Duration::from_secs(60);
        while chain.base() != Some(height(41)) {
            assert!(Instant::now() < deadline, "it is at {:?}", chain.base());
            std::thread::yield_now();
        }
        drop(pruner);
        thread.join().expect("no panic");
        assert_eq!(chain.base(), Some(height(41)));
        assert_eq!(chain.retain().expect("readable"), Some(height(41)));
    }

    #[test]
    fn the_index_goes_before_the_blocks_from_which_it_follows() {
        let (folder, chain) = chain_of(50);
        let index = Index::open(&folder.path().join("index"), &chain).expect("an index");
        for at in 1..=50 {
            let block = chain.block(height(at)).expect("readable").expect("a block");
            let results = chain.results(height(at)).expect("readable").expect("results");
            index.add(&block, &results).expect("indexed");
        }
        let parts = (chain.clone(), Some(index.clone()));
        let (pruner, thread) = Pruner::start(parts, Probe::default()).expect("a thread");
        pruner.retain(height(41));
        let deadline = Instant::now() + Duration::from_secs(60);
        while chain.base() != Some(height(41)) {
            assert!(Instant::now() < deadline, "it is at {:?}", chain.base());
            std::thread::yield_now();
        }
        drop(pruner);
        thread.join().expect("no panic");
        let search = crate::store::index::Search {
            scope: crate::store::index::Scope::Blocks,
            heights: (0, u64::MAX),
            height_accepts: None,
            is: vec![],
            has: vec![],
            descending: false,
            skip: 0,
            take: 1,
        };
        let found = index.search(&search).expect("an answer");
        assert_eq!((found.total, found.places), (10, vec![(height(41), 0)]));
        drop(index);
        let index = Index::open(&folder.path().join("index"), &chain).expect("an index");
        assert_eq!(index.next(), Some(51), "it fits the chain, and is not made again");
    }

    #[test]
    fn what_a_crash_left_undone_is_done_at_the_next_start() {
        let (_folder, chain) = chain_of(50);
        chain.set_retain(height(33)).expect("written");
        let (pruner, thread) =
            Pruner::start((chain.clone(), None), Probe::default()).expect("a thread");
        drop(pruner);
        thread.join().expect("no panic");
        assert_eq!(chain.base(), Some(height(33)));
    }

    #[test]
    fn nothing_goes_where_the_application_retains_all() {
        let (_folder, chain) = chain_of(5);
        let (pruner, thread) =
            Pruner::start((chain.clone(), None), Probe::default()).expect("a thread");
        drop(pruner);
        thread.join().expect("no panic");
        assert_eq!(chain.base(), Some(height(1)));
    }
}
