//! The thread that follows the chain: it indexes executed blocks and makes events of them, in the wake of the executor, which leaves
//! each block in a bounded queue and goes on. What finds no room there, or was executed while the node was going down, is read from the
//! store.

use super::bus::Bus;
use super::{Event, Executed, of_block};
use crate::store::index::Index;
use crate::store::{Applied, Chain, StoreError};
use crossbeam_channel::{Receiver, Sender, bounded, select};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tendermint::block::Height;
use tercet_consensus::block::SealedBlock;

/// Executed blocks that wait; further ones are read from the store when it is their turn.
const EXECUTED_MAX: usize = 8;
/// Blocks that are indexed before the events of one are published, where the index is behind: it gains on the chain, and events do not wait
/// for all of it.
const INDEXED_BEFORE: usize = 16;
/// How long nothing is indexed after a failure, while no block comes.
const RETRY: Duration = Duration::from_secs(1);

/// The executor's side. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Follow {
    latest: Arc<AtomicU64>,
    executed: Sender<Arc<Executed>>,
    wake: Sender<()>,
}

/// What the thread works with.
#[derive(Debug)]
pub struct FollowParts {
    /// The chain.
    pub chain: Chain,
    /// The index, where there is one.
    pub index: Option<Index>,
    /// Where events go.
    pub bus: Bus,
    /// What the engine tells.
    pub told: Receiver<Event>,
}

/// The thread.
#[derive(Debug)]
pub struct Follower {
    parts: FollowParts,
    latest: Arc<AtomicU64>,
    executed: Receiver<Arc<Executed>>,
    woken: Receiver<()>,
    /// The last height whose events are out.
    published: u64,
    /// The engine tells nothing more.
    is_silent: bool,
    /// The index could not be written.
    has_failed: bool,
}

impl Follow {
    /// A handle, and what is to be run on a thread of its own; it ends with the last handle. Blocks up to `applied`, which were executed
    /// before this start, are indexed and make no events.
    #[must_use]
    pub fn new(parts: FollowParts, applied: Option<Height>) -> (Follow, Follower) {
        let applied = applied.map_or(0, |height| height.value());
        let latest = Arc::new(AtomicU64::new(applied));
        let (sender, executed) = bounded(EXECUTED_MAX);
        let (wake, woken) = bounded(1);
        let follow = Follow { latest: Arc::clone(&latest), executed: sender, wake };
        let (published, is_silent, has_failed) = (applied, false, false);
        let follower =
            Follower { parts, latest, executed, woken, published, is_silent, has_failed };
        (follow, follower)
    }

    /// A block was executed. Waits for nothing.
    pub fn executed(&self, block: &Arc<SealedBlock>, applied: &Arc<Applied>) {
        self.latest.fetch_max(applied.height.value(), Ordering::AcqRel);
        let executed = Executed::new(Arc::clone(block), Arc::clone(applied));
        // Full: the thread sees by `latest` what it has to read.
        let _ = self.executed.try_send(Arc::new(executed));
        let _ = self.wake.try_send(());
    }
}

impl Follower {
    /// Works until there is no handle any more.
    pub fn run(&mut self) {
        while self.turn() {}
    }

    /// One step; false where there is no handle any more.
    fn turn(&mut self) -> bool {
        // Events come without end while somebody listens to them: they must not keep the index from going on.
        let indexed = self.executed.is_empty() && self.index_to(u64::MAX, 1);
        let never = crossbeam_channel::never();
        let told = if self.is_silent { &never } else { &self.parts.told };
        let pause = match (self.backlog().is_some(), self.has_failed) {
            _ if indexed => Duration::ZERO,
            (true, false) => Duration::ZERO,
            (true, true) => RETRY,
            (false, _) => Duration::MAX,
        };
        select! {
            recv(self.executed) -> executed => match executed {
                Ok(executed) => self.executed(&executed),
                Err(_) => return false,
            },
            recv(told) -> event => match event {
                Ok(event) => self.parts.bus.publish(event),
                Err(_) => self.is_silent = true,
            },
            recv(self.woken) -> _ => self.catch_up_events(),
            default(pause) => if !indexed { self.index_next() },
        }
        true
    }

    /// The next height to index that is not the next to come.
    fn backlog(&self) -> Option<u64> {
        let index = self.parts.index.as_ref()?;
        let base = self.parts.chain.base()?.value();
        let next = index.next().unwrap_or(base).max(base);
        (next <= self.latest.load(Ordering::Acquire)).then_some(next)
    }

    /// A block in its turn: the index first, so that who hears of a transaction finds it.
    fn executed(&mut self, executed: &Arc<Executed>) {
        let height = executed.height().value();
        self.has_failed = false;
        self.index_to(height.saturating_sub(1), INDEXED_BEFORE);
        if self.backlog() == Some(height)
            && let Some(index) = &self.parts.index
        {
            let added = index.add(&executed.block, executed.results());
            self.has_failed = self.noted(added).is_none();
        }
        while self.published.saturating_add(1) < height {
            self.publish_stored();
        }
        if self.published < height {
            self.publish(executed);
        }
        // The wake-up for those that found no room may have come while the queue was full.
        self.catch_up_events();
    }

    /// Blocks that found no room in the queue.
    fn catch_up_events(&mut self) {
        while self.executed.is_empty() && self.published < self.latest.load(Ordering::Acquire) {
            self.publish_stored();
        }
    }

    /// The events of the block after the last, read from the store where somebody listens.
    fn publish_stored(&mut self) {
        let height = self.published.saturating_add(1);
        self.index_to(height, INDEXED_BEFORE);
        let is_heard = self.parts.bus.wanted() != Default::default();
        let stored = if is_heard { self.stored(height) } else { None };
        match stored {
            Some(executed) => self.publish(&executed),
            None => self.published = height,
        }
    }

    fn publish(&mut self, executed: &Arc<Executed>) {
        for event in of_block(executed, self.parts.bus.wanted()) {
            self.parts.bus.publish(event);
        }
        self.published = executed.height().value();
    }

    /// Indexes what waits up to a height, but at most so many blocks; whether there was any.
    fn index_to(&mut self, height: u64, most: usize) -> bool {
        for nth in 0..most {
            let waits = self.backlog().is_some_and(|next| next <= height);
            if self.has_failed || !waits {
                return nth > 0;
            }
            self.index_next();
        }
        true
    }

    /// Indexes a block that was executed before its turn could come.
    fn index_next(&mut self) {
        let Some(height) = self.backlog() else { return };
        let Some(index) = self.parts.index.clone() else { return };
        let done = match stored(&self.parts.chain, height) {
            Ok(Some(executed)) => index.add(&executed.block, executed.results()),
            Ok(None) => index.skip_to(height.saturating_add(1)),
            Err(error) => Err(error),
        };
        self.has_failed = self.noted(done).is_none();
    }

    fn stored(&self, height: u64) -> Option<Arc<Executed>> {
        let read = stored(&self.parts.chain, height);
        self.noted(read).flatten().map(Arc::new)
    }

    fn noted<T>(&self, result: Result<T, StoreError>) -> Option<T> {
        result
            .inspect_err(|error| tracing::warn!(%error, "following the chain failed; it is tried again with the next block"))
            .ok()
    }
}

/// An executed block from the store.
///
/// # Errors
/// Where the chain cannot be read.
pub fn stored(chain: &Chain, height: u64) -> Result<Option<Executed>, StoreError> {
    let Ok(height) = Height::try_from(height) else { return Ok(None) };
    let (block, results) = (chain.block(height)?, chain.results(height)?);
    Ok(block.zip(results).map(|(block, results)| Executed::stored(block, results)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Tell;
    use crate::events::bus::Most;
    use crate::events::query::Query;
    use crate::store::chain_tests::chain_of;
    use tempfile::TempDir;

    const BLOCKS: u64 = 20;

    fn height(at: u64) -> Height {
        Height::try_from(at).unwrap()
    }

    fn follower(applied: Option<u64>) -> (TempDir, FollowParts, Follow, Follower) {
        let (folder, chain) = chain_of(BLOCKS);
        let index = Index::open(&folder.path().join("index"), &chain).unwrap();
        let bus = Bus::default();
        let (_, told) = Tell::new(&bus);
        let parts = |bus: &Bus, told| FollowParts {
            chain: chain.clone(),
            index: Some(index.clone()),
            bus: bus.clone(),
            told,
        };
        let (follow, follower) = Follow::new(parts(&bus, told), applied.map(height));
        let seen = parts(&bus, Tell::new(&bus).1);
        (folder, seen, follow, follower)
    }

    #[test]
    fn what_was_executed_before_the_start_is_indexed_and_makes_no_events() {
        let (_folder, parts, follow, mut follower) = follower(Some(BLOCKS));
        let query = Query::parse("tm.event EXISTS").unwrap();
        let subscription =
            parts.bus.subscribe(1, query, Most { clients: 1, per_client: 1, events: 1 }).unwrap();
        let index = parts.index.unwrap();
        while index.next() != Some(BLOCKS + 1) {
            assert!(follower.turn());
        }
        assert!(!subscription.is_ended());
        let block = parts.chain.block(height(7)).unwrap().unwrap();
        let results = parts.chain.results(height(7)).unwrap().unwrap();
        let found = index.tx(&block.tx_hashes()[0]).unwrap();
        assert_eq!(found.is_some(), !results.tx_results.is_empty(), "{found:?}");
        drop(follow);
        while follower.turn() {}
    }

    fn subscribed(parts: &FollowParts, query: &str) -> crate::events::Subscription {
        let most = Most { clients: 1, per_client: 1, events: 10_000 };
        parts.bus.subscribe(1, Query::parse(query).unwrap(), most).unwrap()
    }

    fn round() -> Event {
        use crate::events::{Data, Kind, Step, Where};
        let view = tercet_consensus::view::View::ZERO;
        let at = Where { height: height(5), view, step: Step::Propose };
        Event::new(Kind::NewRound, Data::Round(at))
    }

    #[test]
    fn the_index_goes_on_while_events_of_consensus_come_without_end() {
        let (_folder, chain) = chain_of(BLOCKS);
        let index = Index::open(&_folder.path().join("index"), &chain).unwrap();
        let (sender, told) = bounded(1_000);
        let parts = FollowParts { chain, index: Some(index.clone()), bus: Bus::default(), told };
        let _subscription = subscribed(&parts, "tm.event = 'NewRound'");
        (0..1_000).for_each(|_| sender.send(round()).unwrap());
        let (_follow, mut follower) = Follow::new(parts, Some(height(BLOCKS)));
        (0..BLOCKS).for_each(|_| assert!(follower.turn()));
        assert_eq!(index.next(), Some(BLOCKS + 1));
    }

    #[tokio::test]
    async fn who_hears_of_a_transaction_finds_it_though_the_index_was_behind() {
        let (_folder, parts, follow, mut follower) = follower(None);
        let subscription = subscribed(&parts, "tm.event = 'NewBlock'");
        let block = parts.chain.block(height(7)).unwrap().unwrap();
        let results = parts.chain.results(height(7)).unwrap().unwrap();
        let state = parts.chain.state().unwrap().unwrap();
        let applied = Applied { height: height(7), results, state, offences: Default::default() };
        follow.executed(&block, &Arc::new(applied));
        // It may take the wake-up first.
        let heard = loop {
            assert!(follower.turn());
            if follower.published == 7 {
                break subscription.next().await.unwrap();
            }
        };
        assert_eq!(heard.block_height(), Some(height(1)));
        assert_eq!(parts.index.unwrap().next(), Some(8));
    }

    #[tokio::test]
    async fn blocks_that_found_no_room_are_told_from_the_store() {
        let (_folder, parts, follow, mut follower) = follower(None);
        let query = Query::parse("tm.event = 'NewBlock'").unwrap();
        let subscription =
            parts.bus.subscribe(1, query, Most { clients: 1, per_client: 1, events: 100 }).unwrap();
        let state = parts.chain.state().unwrap().unwrap();
        for at in 1..=BLOCKS {
            let block = parts.chain.block(height(at)).unwrap().unwrap();
            let results = parts.chain.results(height(at)).unwrap().unwrap();
            let (state, offences) = (state.clone(), Default::default());
            let applied = Applied { height: height(at), results, state, offences };
            follow.executed(&block, &Arc::new(applied));
        }
        assert_eq!(follower.executed.len(), EXECUTED_MAX);
        drop(follow);
        // The wake-up is taken while the queue is full.
        assert!(follower.woken.try_recv().is_ok());
        follower.catch_up_events();
        while !follower.executed.is_empty() {
            assert!(follower.turn());
        }
        for at in 1..=BLOCKS {
            let event = subscription.next().await.unwrap();
            assert_eq!(event.block_height(), Some(height(at)));
        }
    }
}
