//! What was thrown away: every discarded message is counted by reason, peer and class, and written
//! to a bounded, rate-limited audit log (`tracing` target `audit`), so that an operator can show
//! who attacked him and with what. One noisy peer cannot crowd the others out of the log. What is
//! of no use and no fault (duplicates, messages that come too late or too early) is counted only.

use crate::lines::Lines;
use crate::network::{Class, Discard, PeerId};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tercet_consensus::key::Address;
use tercet_consensus::replica::Unused;
use tercet_consensus::verify::Reject;

/// The most lines in the audit log within one [`WINDOW`]; one of them at most about a peer, and
/// one about peers that are not known.
const LINES_MAX: usize = 20;
/// The window of the rate limit.
const WINDOW: Duration = Duration::from_secs(1);
/// How old the counters may be that those see who only look.
const SHOWN_FOR: Duration = Duration::from_secs(1);
/// The most (reason, peer, class) that are counted apart; what comes beyond is counted under no
/// peer.
const COUNTERS_MAX: usize = 4_096;

/// What the faults of a peer within [`FAULTS_WINDOW`] may cost, in the least that one of them does: to decode a short message.
const FAULTS_COST_MAX: u32 = 10_000;
/// What a fault costs of which nothing else is known: as much as a signature that has to be checked, and more.
pub const FAULT_COST: u32 = 100;
/// See [`FAULTS_COST_MAX`].
const FAULTS_WINDOW: Duration = Duration::from_secs(10);
/// Of so many peers faults are counted within one window.
const FAULTY_MAX: usize = 1_024;
/// What no correct node sends or passes on, in [`Discarded::reason`].
const FAULTS: [&str; 7] = [
    "malformed",
    "oversized",
    "unknown_sender",
    "unauthorised_sender",
    "bad_signature",
    "no_quorum",
    "unjustified",
];

/// One discarded message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discarded {
    /// Why, in one word for counters.
    pub reason: &'static str,
    /// Why, in words.
    pub detail: String,
    /// Whose, where known.
    pub peer: Option<PeerId>,
    /// Of which class, where known.
    pub class: Option<Class>,
    /// What it cost, at most [`FAULT_COST`].
    pub cost: u32,
}

impl Discarded {
    /// A message of a peer that failed verification.
    #[must_use]
    pub fn reject(reject: Reject, peer: PeerId, class: Class) -> Discarded {
        let reason = match reject {
            Reject::Malformed(_) => "malformed",
            Reject::TooLarge => "oversized",
            Reject::Height => "wrong_height",
            Reject::Past => "stale",
            Reject::UnknownValidator => "unknown_sender",
            Reject::NotPrimary => "unauthorised_sender",
            Reject::Signature => "bad_signature",
            Reject::NoQuorum => "no_quorum",
            Reject::Justification(_) => "unjustified",
        };
        Discarded::new(reason, reject.to_string(), Some(peer), Some(class))
    }

    /// The same where it is known what it cost to find out.
    #[must_use]
    pub fn at_cost(self, cost: u32) -> Discarded {
        Discarded { cost, ..self }
    }

    fn new(
        reason: &'static str,
        detail: String,
        peer: Option<PeerId>,
        class: Option<Class>,
    ) -> Discarded {
        Discarded { reason, detail, peer, class, cost: FAULT_COST }
    }

    /// A second vote of a validator for one height and view.
    #[must_use]
    pub fn equivocation(validator: Address) -> Discarded {
        let detail = format!("validator {validator} voted twice");
        Discarded::new("equivocation", detail, None, Some(Class::Consensus))
    }

    /// An answer that was not asked for.
    #[must_use]
    pub fn unasked(peer: PeerId, class: Class) -> Discarded {
        Discarded::new("unasked", "not asked for".to_owned(), Some(peer), Some(class))
    }
}

impl From<Discard> for Discarded {
    fn from(discard: Discard) -> Discarded {
        let Discard { reason, peer, class } = discard;
        Discarded::new(reason.name(), reason.name().to_owned(), peer, class)
    }
}

/// A counter's name: reason, peer and class.
pub type Counter = (&'static str, Option<PeerId>, Option<Class>);
/// How often each counter's messages came.
pub type Counts = BTreeMap<Counter, u64>;

#[derive(Debug)]
struct Inner {
    counts: Counts,
    /// Whom the lines of this window are about.
    lines: Lines<Option<PeerId>>,
    /// When the window of `faults` began.
    faults_since: Option<Instant>,
    /// What the faults of each peer cost.
    faults: HashMap<PeerId, u32>,
}

impl Default for Inner {
    fn default() -> Inner {
        Inner {
            counts: Counts::default(),
            lines: Lines::new(WINDOW, LINES_MAX),
            faults_since: None,
            faults: HashMap::new(),
        }
    }
}

/// What is done about a peer with too many faults.
type Expel = Box<dyn Fn(PeerId) + Send + Sync>;

#[derive(Default)]
struct Shared {
    expel: OnceLock<Expel>,
    inner: Mutex<Inner>,
    /// What those see who only look, and when it was read.
    shown: Mutex<Option<(Instant, Arc<Counts>)>>,
}

/// Counts and logs what is thrown away. A cheap handle.
#[derive(Clone, Default)]
pub struct Audit(Arc<Shared>);

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").finish_non_exhaustive()
    }
}

impl Audit {
    /// Takes note of one discarded message.
    pub fn discard(&self, discarded: impl Into<Discarded>) {
        let Discarded { reason, detail, peer, class, cost } = discarded.into();
        let mut inner = self.lock();
        inner.add((reason, peer, class));
        let is_fault = FAULTS.contains(&reason);
        let expelled =
            peer.filter(|peer| is_fault && inner.is_too_much(*peer, cost, Instant::now()));
        if let Some((peer, expel)) = expelled.zip(self.0.expel.get()) {
            expel(peer);
        }
        if let Some(suppressed) = inner.lines.line(peer, Instant::now()) {
            drop(inner);
            let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
            let class = class.map(Class::name).unwrap_or_default();
            tracing::warn!(target: "audit", reason, peer, class, suppressed, "discarded: {detail}");
        }
    }

    /// From now on `expel` is called about a peer with more faults than a correct one can have. The first call counts.
    pub fn on_too_many_faults(&self, expel: impl Fn(PeerId) + Send + Sync + 'static) {
        drop(self.0.expel.set(Box::new(expel)));
    }

    /// Whether a peer had too many faults a moment ago: what it sent before it was dropped is not worth a look. Counted where it had.
    #[must_use]
    pub fn skips(&self, peer: PeerId, class: Class) -> bool {
        let mut inner = self.lock();
        // The clock is read for those alone who have any: this is asked for every message.
        let skips = inner.faults.contains_key(&peer) && inner.has_too_many(peer, Instant::now());
        if skips {
            inner.add(("of_a_dropped_peer", Some(peer), Some(class)));
        }
        skips
    }

    /// Takes note of a message that is of no use and no fault: counted, without a line.
    pub fn count(&self, unused: Unused, peer: PeerId, class: Class) {
        let reason = match unused {
            Unused::Duplicate => "duplicate",
            Unused::Stale => "stale",
            Unused::Future => "future",
        };
        self.lock().add((reason, Some(peer), Some(class)));
    }

    /// Takes note of a message whose author has signed too many.
    pub fn too_many(&self, peer: PeerId, class: Class) {
        self.lock().add(("too_many", Some(peer), Some(class)));
    }

    /// All counters.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    /// The counters as they were at most a second ago: who asks again and again makes nobody wait who counts.
    #[must_use]
    pub fn shown(&self) -> Arc<Counts> {
        let mut shown = self.0.shown.lock().unwrap_or_else(PoisonError::into_inner);
        match &*shown {
            Some((read, counts)) if read.elapsed() < SHOWN_FOR => counts.clone(),
            _ => {
                let counts = Arc::new(self.counts());
                *shown = Some((Instant::now(), counts.clone()));
                counts
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add(&mut self, key: Counter) {
        let room = self.counts.len() < COUNTERS_MAX || self.counts.contains_key(&key);
        let key = if room { key } else { (key.0, None, key.2) };
        *self.counts.entry(key).or_default() += 1;
    }

    /// Forgets the faults of a window that is over.
    fn begin_window(&mut self, now: Instant) {
        let since = *self.faults_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= FAULTS_WINDOW {
            self.faults_since = Some(now);
            self.faults.clear();
        }
    }

    /// Whether the peer had too many faults within this window.
    fn has_too_many(&mut self, peer: PeerId, now: Instant) -> bool {
        self.begin_window(now);
        self.faults.get(&peer).is_some_and(|cost| *cost >= FAULTS_COST_MAX)
    }

    /// Whether with a fault of this cost the peer has too many of them: once in [`FAULTS_COST_MAX`].
    fn is_too_much(&mut self, peer: PeerId, cost: u32, now: Instant) -> bool {
        self.begin_window(now);
        if self.faults.len() >= FAULTY_MAX && !self.faults.contains_key(&peer) {
            return false;
        }
        let sum = self.faults.entry(peer).or_default();
        let before = *sum / FAULTS_COST_MAX;
        *sum = sum.saturating_add(cost);
        *sum / FAULTS_COST_MAX > before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many faults of unknown cost are too many.
    const FAULTS_MAX: u32 = FAULTS_COST_MAX / FAULT_COST;

    #[test]
    fn everything_is_counted_and_the_log_is_bounded() {
        let audit = Audit::default();
        let peer = PeerId::random();
        for _ in 0..1_000 {
            audit.discard(Discarded::reject(Reject::Signature, peer, Class::Consensus));
        }
        assert_eq!(audit.counts()[&("bad_signature", Some(peer), Some(Class::Consensus))], 1_000);
        let mut inner = Inner::default();
        let now = Instant::now();
        let mut line = |peer, at| inner.lines.line(Some(peer), at);
        let noisy = (0..1_000).filter(|_| line(peer, now).is_some()).count();
        assert_eq!(noisy, 1);
        assert_eq!(line(PeerId::random(), now), Some(999));
        let others = (0..1_000).filter(|_| line(PeerId::random(), now).is_some()).count();
        assert_eq!(others, LINES_MAX - 2);
        assert_eq!(line(peer, now + WINDOW), Some(982));
    }

    #[test]
    fn what_is_no_fault_is_counted_without_a_line() {
        let (audit, peer) = (Audit::default(), PeerId::random());
        for unused in [Unused::Duplicate, Unused::Stale, Unused::Future] {
            audit.count(unused, peer, Class::Bodies);
        }
        for reason in ["duplicate", "stale", "future"] {
            assert_eq!(audit.counts()[&(reason, Some(peer), Some(Class::Bodies))], 1);
        }
        assert!(audit.lock().lines.is_untouched(), "no line was asked for");
    }

    #[test]
    fn a_peer_with_too_many_faults_in_a_short_time_is_named() {
        let (mut inner, now, peer) = (Inner::default(), Instant::now(), PeerId::random());
        for count in 1..=3 * FAULTS_MAX {
            let named = count.is_multiple_of(FAULTS_MAX);
            assert_eq!(inner.is_too_much(peer, FAULT_COST, now), named, "{count}");
        }
        assert_eq!(inner.faults[&peer], 3 * FAULTS_COST_MAX);
        // Few faults over a long time.
        let times = (1..100).map(|n| now + FAULTS_WINDOW * n);
        let mut fault = |at| inner.is_too_much(peer, FAULT_COST, at);
        assert!(times.into_iter().all(|at| (1..FAULTS_MAX).all(|_| !fault(at))));
    }

    #[test]
    fn a_fault_counts_for_what_it_cost_and_what_a_correct_node_may_send_for_nothing() {
        let (audit, peer) = (Audit::default(), PeerId::random());
        let discard = |reject, cost| {
            audit.discard(Discarded::reject(reject, peer, Class::Consensus).at_cost(cost));
        };
        (0..1_000).for_each(|_| discard(Reject::Height, FAULT_COST));
        (1..FAULTS_COST_MAX).for_each(|_| discard(Reject::UnknownValidator, 1));
        assert!(!audit.skips(peer, Class::Consensus));
        discard(Reject::UnknownValidator, 1);
        assert!(audit.skips(peer, Class::Consensus));
    }

    #[test]
    fn what_a_peer_sent_before_it_was_dropped_is_not_looked_at() {
        let (audit, peer) = (Audit::default(), PeerId::random());
        let class = Class::Consensus;
        for _ in 0..FAULTS_MAX {
            assert!(!audit.skips(peer, class));
            audit.discard(Discarded::reject(Reject::Signature, peer, class));
        }
        assert!(audit.skips(peer, class) && !audit.skips(PeerId::random(), class));
        assert_eq!(audit.counts()[&("of_a_dropped_peer", Some(peer), Some(class))], 1);
    }

    /// It may come back, and be a validator: what it says then is looked at, also where nobody made another fault meanwhile.
    #[test]
    fn a_peer_that_was_dropped_is_heard_again() {
        let (mut inner, now, peer) = (Inner::default(), Instant::now(), PeerId::random());
        for _ in 0..FAULTS_MAX {
            inner.is_too_much(peer, FAULT_COST, now);
        }
        assert!(inner.has_too_many(peer, now));
        assert!(!inner.has_too_many(peer, now + FAULTS_WINDOW));
    }

    #[test]
    fn invented_peers_do_not_grow_the_counts_of_faults() {
        let (mut inner, now) = (Inner::default(), Instant::now());
        for _ in 0..2 * FAULTY_MAX {
            inner.is_too_much(PeerId::random(), FAULT_COST, now);
        }
        assert_eq!(inner.faults.len(), FAULTY_MAX);
    }

    #[test]
    fn invented_peers_do_not_grow_the_counters() {
        let audit = Audit::default();
        for _ in 0..COUNTERS_MAX + 100 {
            audit.discard(Discarded::unasked(PeerId::random(), Class::Sync));
        }
        assert!(audit.counts().len() <= COUNTERS_MAX + 1);
    }
}
