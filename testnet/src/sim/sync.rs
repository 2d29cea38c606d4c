//! Catch-up: the node's real plan (`tercet_node::sync::plan`) with the rules of its task, without its threads and channels.

use super::{MS, Nanos};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tendermint::block::Height;
use tercet_consensus::message::{Decided, Verified};
use tercet_consensus::verify::SignatureCheck;
use tercet_node::engine::heights::Heights;
use tercet_node::engine::outside::CatchUp;
use tercet_node::network::PeerId;
use tercet_node::sync::plan::{Plan, Request, WINDOW};

/// How often timeouts are looked at while something was asked for.
pub(crate) const TURN: Nanos = 100 * MS;
/// How long after the last block taken a replica counts as ingesting; the second where a peer says that there is more.
const INGESTING: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];
const BEHIND_MIN: u64 = 2;
const BATCH_MAX: usize = 32;
const HANDED_MAX: Duration = Duration::from_secs(5);
const UNEXECUTED_MAX: u64 = 128;

/// What the engine tells.
#[derive(Clone, Copy, Debug)]
enum Notice {
    Decided(PeerId, u64),
    TellTip(PeerId),
    Moved,
}

/// The state of one node's catch-up.
#[derive(Debug, Default)]
pub(crate) struct State {
    notices: Vec<Notice>,
    plan: Plan<PeerId>,
    ahead: BTreeMap<u64, (PeerId, Decided)>,
    handed: u64,
    handed_at: Option<Instant>,
    taken_at: Option<Instant>,
    behind: bool,
    more: bool,
}

/// What is to be sent or done after a look.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Requests.
    pub(crate) ask: Vec<Request<PeerId>>,
    /// Blocks for the engine.
    pub(crate) batches: Vec<Vec<Verified<Decided>>>,
}

/// The handle that the engine has.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedSync(Arc<Mutex<State>>);

impl SharedSync {
    /// The state.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a look at the state needs to know.
pub(crate) struct Scene<'a> {
    /// The time.
    pub(crate) now: Instant,
    /// The heights that can be verified.
    pub(crate) heights: &'a Heights,
    /// The last executed height.
    pub(crate) executed: u64,
    /// Who is connected.
    pub(crate) connected: &'a [PeerId],
    /// How signatures are checked.
    pub(crate) check: &'a dyn SignatureCheck,
}

impl State {
    /// Takes what the engine told. Whether a look may find something to do; `tips` gets whom to tell what can be had here.
    pub(crate) fn take_notices(&mut self, current: u64, tips: &mut Vec<PeerId>) -> bool {
        for notice in self.notices.drain(..) {
            match notice {
                Notice::Decided(peer, decided) => self.plan.peer_has(peer, decided, None),
                Notice::TellTip(peer) => tips.push(peer),
                Notice::Moved => {}
            }
        }
        let idle = self.ahead.is_empty() && self.plan.best() < current;
        if idle {
            (self.behind, self.more) = (false, false);
        }
        !idle
    }

    /// Whether something was asked for and not answered, or handed over and not used.
    pub(crate) fn waits(&self, current: u64) -> bool {
        self.handed > current || !self.ahead.is_empty() || self.plan.best() >= current
    }

    /// A peer says what it has.
    pub(crate) fn tip(&mut self, peer: PeerId, height: u64, base: u64) {
        self.plan.peer_has(peer, height, Some(base));
    }

    /// A peer's answer.
    pub(crate) fn response(
        &mut self,
        (peer, id): (PeerId, u64),
        (items, last): (&[Decided], u64),
        now: Instant,
    ) {
        let Some(request) = self.plan.answer(id, &peer) else { return };
        if items.is_empty() && last >= request.from {
            return self.plan.blame(&peer, now);
        }
        self.plan.peer_ends_at(&peer, last);
        for (height, item) in (request.from..request.from + request.count).zip(items) {
            self.ahead.insert(height, (peer, item.clone()));
        }
    }

    /// The clock: requests that nobody answered, blocks that the engine did not use.
    pub(crate) fn turn(&mut self, now: Instant, current: u64) {
        self.plan.expire(now);
        let long = self.handed_at.is_some_and(|at| now.duration_since(at) >= HANDED_MAX);
        if self.handed > current && long {
            self.handed = current.saturating_sub(1);
        }
    }

    /// Hands over what follows, asks for what is missing.
    pub(crate) fn look(&mut self, scene: &Scene<'_>) -> Outcome {
        let mut outcome = Outcome::default();
        let current = scene.heights.current.value();
        self.hand_over(scene, current, &mut outcome);
        self.plan.keep_only(scene.connected);
        let first = current.max(self.handed + 1);
        if self.plan.best() >= first {
            let ahead = &self.ahead;
            let has = |height| ahead.contains_key(&height);
            outcome.ask = self.plan.next(scene.now, first..=first.saturating_add(WINDOW), has);
        }
        self.behind = self.plan.attested() >= current + BEHIND_MIN;
        self.more = self.plan.best() > self.handed.max(current.saturating_sub(1));
        outcome
    }

    fn hand_over(&mut self, scene: &Scene<'_>, current: u64, outcome: &mut Outcome) {
        let end = scene.executed.saturating_add(UNEXECUTED_MAX);
        loop {
            let mut wanted = current.max(self.handed + 1);
            self.ahead = self.ahead.split_off(&wanted);
            let mut batch = Vec::new();
            while batch.len() < BATCH_MAX && wanted <= end {
                let Some((peer, decided)) = self.ahead.remove(&wanted) else { break };
                let height = decided.commit.height;
                // The validators of the next height are known when this one was taken.
                let Some(info) = scene.heights.at(height) else {
                    self.ahead.insert(wanted, (peer, decided));
                    break;
                };
                match scene.heights.context(info).decided(decided, &scene.check) {
                    Ok(decided) => batch.push(decided),
                    Err(_) => {
                        self.ahead.retain(|_, (from, _)| *from != peer);
                        self.plan.blame(&peer, scene.now);
                        break;
                    }
                }
                wanted += 1;
            }
            let Some(last) = batch.last() else { return };
            self.handed = last.commit.height.value();
            self.handed_at = Some(scene.now);
            self.taken_at = Some(scene.now);
            outcome.batches.push(batch);
        }
    }
}

impl CatchUp for SharedSync {
    fn peer_is_at(&self, peer: PeerId, height: Height) {
        self.lock().notices.push(Notice::Decided(peer, height.value().saturating_sub(1)));
    }

    fn tell_tip(&self, peer: PeerId) {
        self.lock().notices.push(Notice::TellTip(peer));
    }

    fn moved(&self) {
        self.lock().notices.push(Notice::Moved);
    }

    fn ingesting_until(&self) -> Option<Instant> {
        let state = self.lock();
        let [short, long] = INGESTING;
        state.taken_at.map(|at| at + if state.more { long } else { short })
    }

    fn has_more(&self) -> bool {
        self.lock().more
    }

    fn is_behind(&self) -> bool {
        self.lock().behind
    }
}
