//! The bus: from events to subscriptions, each a bounded ring. Where one is full, the publishing thread, for which nothing waits but other
//! subscriptions, waits a moment; a subscription that is not read even then is ended, and its client told why. In all it waits a small
//! part of its time, however many do not read.

use super::query::Query;
use super::{Event, Kinds};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tendermint::block::Height;
use tokio::sync::Notify;

/// The most bytes of events, with their JSON, that all subscriptions together keep; then the one that lags most is ended.
pub const EVENTS_BYTES_MAX: usize = 256 << 20;

/// How long an event waits for subscriptions that are full.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long none waits after one has waited in vain.
const IMPATIENCE: Duration = Duration::from_secs(1);

/// Why a subscription has ended, in CometBFT's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// Its client asked for it.
    #[error("client unsubscribed")]
    Unsubscribed,
    /// Its client does not read.
    #[error("internal subscription event buffer is out of capacity")]
    OutOfCapacity,
    /// The node stops.
    #[error("CometBFT exited")]
    Exited,
}

/// Why nothing is subscribed to or unsubscribed from, in CometBFT's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// So many clients have subscriptions.
    #[error("max_subscription_clients {0} reached")]
    Clients(usize),
    /// The client has so many.
    #[error("max_subscriptions_per_client {0} reached")]
    PerClient(usize),
    /// The client has this query already.
    #[error("already subscribed")]
    AlreadySubscribed,
    /// It has not.
    #[error("subscription not found")]
    NotFound,
    /// The node stops.
    #[error("CometBFT exited")]
    Exited,
}

/// How many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    /// Clients with subscriptions.
    pub clients: usize,
    /// Subscriptions of one.
    pub per_client: usize,
    /// Events of one that are not read yet.
    pub events: usize,
}

/// A client: a number of its own.
pub type Client = u64;

/// The bus. A handle: clones share it.
#[derive(Clone, Debug, Default)]
pub struct Bus(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    all: Mutex<All>,
    wanted: AtomicU32,
    held: Arc<AtomicUsize>,
    /// Until when no event waits.
    impatient: Mutex<Option<Instant>>,
    /// Whether an event waits, and who tells it that there is room.
    is_waiting: AtomicBool,
    room: Condvar,
}

#[derive(Debug, Default)]
struct All {
    /// By the query as it is written back, so that what many ask is matched once.
    groups: BTreeMap<String, Group>,
    /// How many subscriptions each client has.
    clients: HashMap<Client, usize>,
    /// The number of the next event.
    next: u64,
    closed: bool,
}

#[derive(Debug)]
struct Group {
    query: Query,
    kinds: Kinds,
    rings: Vec<(Client, Arc<Ring>)>,
}

#[derive(Debug, Default)]
struct Ring {
    state: Mutex<State>,
    capacity: usize,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Whether nothing is taken yet.
    paused: bool,
    /// The block that the last event is about.
    block: Option<Height>,
    queue: VecDeque<(u64, Arc<Counted>)>,
    ended: Option<End>,
}

/// An event, counted as long as somebody keeps it.
#[derive(Debug)]
pub struct Counted {
    event: Event,
    weight: usize,
    held: Arc<AtomicUsize>,
}

impl std::ops::Deref for Counted {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.held.fetch_sub(self.weight, Ordering::AcqRel);
    }
}

/// A subscription; it ends when it is dropped.
#[derive(Debug)]
pub struct Subscription {
    bus: Bus,
    client: Client,
    text: String,
    ring: Arc<Ring>,
}

impl Bus {
    /// The kinds that somebody listens to.
    #[must_use]
    pub fn wanted(&self) -> Kinds {
        Kinds(self.0.wanted.load(Ordering::Acquire))
    }

    /// How many clients have subscriptions.
    #[must_use]
    pub fn clients(&self) -> usize {
        lock(&self.0.all).clients.len()
    }

    /// How many subscriptions a client has.
    #[must_use]
    pub fn subscriptions_of(&self, client: Client) -> usize {
        lock(&self.0.all).clients.get(&client).copied().unwrap_or(0)
    }

    /// Bytes of events that wait to be read.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.0.held.load(Ordering::Acquire)
    }

    /// Whether a client may subscribe to one thing more.
    ///
    /// # Errors
    /// Where not.
    pub fn admits(&self, client: Client, most: Most) -> Result<(), BusError> {
        lock(&self.0.all).admits(client, most)
    }

    /// Subscribes.
    ///
    /// # Errors
    /// Where there is no room for it, the client has this query already, or the node stops.
    pub fn subscribe(
        &self,
        client: Client,
        query: Query,
        most: Most,
    ) -> Result<Subscription, BusError> {
        let (text, capacity) = (query.to_string(), most.events);
        let mut all = lock(&self.0.all);
        all.admits(client, most)?;
        let kinds = Kinds::of(&query);
        let group = all.groups.entry(text.clone()).or_insert_with(|| Group {
            query,
            kinds,
            rings: Vec::new(),
        });
        if group.rings.iter().any(|(other, _)| *other == client) {
            return Err(BusError::AlreadySubscribed);
        }
        let ring = Arc::new(Ring { capacity: capacity.max(1), ..Ring::default() });
        group.rings.push((client, Arc::clone(&ring)));
        *all.clients.entry(client).or_default() += 1;
        self.count(&all);
        Ok(Subscription { bus: self.clone(), client, text, ring })
    }

    /// Ends a client's subscription.
    ///
    /// # Errors
    /// Where there is none.
    pub fn unsubscribe(&self, client: Client, query: &Query) -> Result<(), BusError> {
        let ended = self.remove(client, &query.to_string());
        ended.map(|ring| ring.end(End::Unsubscribed)).ok_or(BusError::NotFound)
    }

    /// Ends all subscriptions of a client.
    ///
    /// # Errors
    /// Where it has none.
    pub fn unsubscribe_all(&self, client: Client) -> Result<(), BusError> {
        let of_client = |(text, group): (&String, &Group)| {
            group.rings.iter().any(|(other, _)| *other == client).then(|| text.clone())
        };
        let texts: Vec<String> = lock(&self.0.all).groups.iter().filter_map(of_client).collect();
        let ended = texts.iter().filter_map(|text| self.remove(client, text));
        let count = ended.map(|ring| ring.end(End::Unsubscribed)).count();
        if count == 0 { Err(BusError::NotFound) } else { Ok(()) }
    }

    /// Hands an event to all whose query it meets. One thread publishes; it waits for rings that are full, for a moment.
    pub fn publish(&self, event: Event) {
        let (number, rings) = {
            let mut all = lock(&self.0.all);
            let number = all.next;
            all.next += 1;
            let met =
                |group: &&Group| group.kinds.has(event.kind) && group.query.matches(&event.keys);
            let met = all.groups.values().filter(met).flat_map(Group::all);
            (number, met.collect::<Vec<Arc<Ring>>>())
        };
        if rings.is_empty() {
            return;
        }
        let block = event.block_height();
        self.wait_for_room(&rings, block);
        event.share(&self.0.held);
        let weight = event.weight();
        self.0.held.fetch_add(weight, Ordering::AcqRel);
        let event = Arc::new(Counted { event, weight, held: Arc::clone(&self.0.held) });
        for ring in rings {
            ring.push(number, &event);
        }
        drop(event);
        while self.held_bytes() > EVENTS_BYTES_MAX && lock(&self.0.all).end_slowest(block) {}
    }

    fn wait_for_room(&self, rings: &[Arc<Ring>], block: Option<Height>) {
        let is_full = || rings.iter().any(|ring| ring.is_full(block));
        if !is_full() {
            return;
        }
        let now = Instant::now();
        let mut impatient = lock(&self.0.impatient);
        if impatient.is_some_and(|until| now < until) {
            return;
        }
        self.0.is_waiting.store(true, Ordering::SeqCst);
        while is_full() {
            let left = PATIENCE.saturating_sub(now.elapsed());
            if left.is_zero() {
                *impatient = Some(Instant::now() + IMPATIENCE);
                break;
            }
            let waited = self.0.room.wait_timeout(impatient, left);
            impatient = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        self.0.is_waiting.store(false, Ordering::SeqCst);
    }

    /// A ring has room again.
    fn tell_room(&self) {
        if self.0.is_waiting.load(Ordering::SeqCst) {
            drop(lock(&self.0.impatient));
            self.0.room.notify_all();
        }
    }

    /// Ends all subscriptions: the node stops.
    pub fn close(&self) {
        let mut all = lock(&self.0.all);
        all.closed = true;
        all.groups.values().flat_map(Group::all).for_each(|ring| ring.end(End::Exited));
    }

    fn remove(&self, client: Client, text: &str) -> Option<Arc<Ring>> {
        let mut all = lock(&self.0.all);
        let group = all.groups.get_mut(text)?;
        let index = group.rings.iter().position(|(other, _)| *other == client)?;
        let (_, ring) = group.rings.swap_remove(index);
        if group.rings.is_empty() {
            all.groups.remove(text);
        }
        if let Some(count) = all.clients.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                all.clients.remove(&client);
            }
        }
        self.count(&all);
        Some(ring)
    }

    fn count(&self, all: &All) {
        let wanted = all.groups.values().fold(0, |wanted, group| wanted | group.kinds.0);
        self.0.wanted.store(wanted, Ordering::Release);
    }
}

impl All {
    fn admits(&self, client: Client, most: Most) -> Result<(), BusError> {
        let of_client = self.clients.get(&client).copied().unwrap_or(0);
        if self.closed {
            Err(BusError::Exited)
        } else if self.clients.len() >= most.clients {
            Err(BusError::Clients(most.clients))
        } else if of_client >= most.per_client {
            Err(BusError::PerClient(most.per_client))
        } else {
            Ok(())
        }
    }

    /// Ends the subscription that has the oldest event to read; false where none has any. Whoever has read all but what is told of
    /// `block` just now lags behind nothing.
    fn end_slowest(&self, block: Option<Height>) -> bool {
        let rings = self.groups.values().flat_map(Group::all);
        let slowest = rings.filter_map(|ring| Some((ring.oldest(block)?, ring)));
        let slowest = slowest.min_by_key(|(oldest, _)| *oldest);
        slowest.is_some_and(|(_, ring)| {
            ring.end(End::OutOfCapacity);
            true
        })
    }
}

impl Group {
    fn all(&self) -> impl Iterator<Item = Arc<Ring>> {
        self.rings.iter().map(|(_, ring)| Arc::clone(ring))
    }
}

impl State {
    /// Whether the last event was about the same block.
    fn goes_on(&self, block: Option<Height>) -> bool {
        block.is_some() && block == self.block
    }
}

impl Ring {
    fn push(&self, number: u64, event: &Arc<Counted>) {
        let mut state = lock(&self.state);
        if state.ended.is_some() || state.paused {
            return;
        }
        // All of a block come at once, so that nobody could take them in time: who has read enough before them gets them all.
        let block = event.block_height();
        let goes_on = state.goes_on(block);
        state.block = block;
        if !goes_on && state.queue.len() >= self.capacity {
            drop(state);
            return self.end(End::OutOfCapacity);
        }
        state.queue.push_back((number, Arc::clone(event)));
        drop(state);
        self.wake.notify_one();
    }

    /// Whether an event about this block has no room in it.
    fn is_full(&self, block: Option<Height>) -> bool {
        let state = lock(&self.state);
        let is_open = state.ended.is_none() && !state.paused;
        is_open && !state.goes_on(block) && state.queue.len() >= self.capacity
    }

    /// Ends it; what was not read is let go.
    fn end(&self, end: End) {
        let mut state = lock(&self.state);
        state.ended.get_or_insert(end);
        state.queue = VecDeque::new();
        drop(state);
        self.wake.notify_one();
    }

    /// The number of the oldest event, where it is not about `block`.
    fn oldest(&self, block: Option<Height>) -> Option<u64> {
        let state = lock(&self.state);
        let (number, event) = state.queue.front()?;
        (block.is_none() || event.block_height() != block).then_some(*number)
    }

    fn take(&self) -> Option<Result<Arc<Counted>, End>> {
        let mut state = lock(&self.state);
        match state.queue.pop_front() {
            Some((_, event)) => Some(Ok(event)),
            None => state.ended.map(Err),
        }
    }
}

impl Subscription {
    /// Takes no events, until [`Subscription::go_live`]: for one that is told of older blocks first.
    pub fn pause(&self) {
        lock(&self.ring.state).paused = true;
    }

    /// Takes the events from now on.
    pub fn go_live(&self) {
        lock(&self.ring.state).paused = false;
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        lock(&self.ring.state).ended.is_some()
    }

    /// The next event; waits until there is one.
    ///
    /// # Errors
    /// Where the subscription has ended, and why.
    pub async fn next(&self) -> Result<Arc<Counted>, End> {
        loop {
            if let Some(next) = self.ring.take() {
                self.bus.tell_room();
                return next;
            }
            self.ring.wake.notified().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // Only its own: the client may have subscribed to the same again.
        let is_own = |all: &All| {
            let group = all.groups.get(&self.text);
            group.is_some_and(|group| {
                group.rings.iter().any(|(_, ring)| Arc::ptr_eq(ring, &self.ring))
            })
        };
        let own = is_own(&lock(&self.bus.0.all));
        if own {
            self.bus.remove(self.client, &self.text);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that runs under a lock can panic halfway through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "bus_tests.rs"]
mod tests;
