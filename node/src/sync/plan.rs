//! Which heights to ask of whom. Pure: time is given. Rules: no peer's word moves a target that it cannot serve, blame is per peer, an
//! answer counts only for the request that it names.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// How many heights one request asks for.
pub const CHUNK: u64 = 64;
/// How far ahead of the replica blocks are fetched.
pub const WINDOW: u64 = 512;
/// How many requests one peer has at a time.
const PER_PEER_MAX: usize = 2;
/// After how long a request counts as failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// For how long a peer that failed is asked nothing.
const PENALTY: Duration = Duration::from_secs(2);

/// A request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<P> {
    /// Names it.
    pub id: u64,
    /// Who is asked.
    pub peer: P,
    /// The first height.
    pub from: u64,
    /// How many heights.
    pub count: u64,
    /// When it counts as failed.
    pub deadline: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    decided: u64,
    base: u64,
    not_before: Option<Instant>,
}

/// The plan.
#[derive(Clone, Debug)]
pub struct Plan<P> {
    sources: BTreeMap<P, Source>,
    requests: BTreeMap<u64, Request<P>>,
    next_id: u64,
}

impl<P: Ord + Copy> Default for Plan<P> {
    fn default() -> Plan<P> {
        Plan { sources: BTreeMap::new(), requests: BTreeMap::new(), next_id: 1 }
    }
}

impl<P: Ord + Copy> Plan<P> {
    /// A peer has decided up to `decided` and has blocks from `base` on, where it said so.
    pub fn peer_has(&mut self, peer: P, decided: u64, base: Option<u64>) {
        let new = Source { decided, base: base.unwrap_or(1), not_before: None };
        let source = self.sources.entry(peer).or_insert(new);
        source.decided = source.decided.max(decided);
        if let Some(base) = base.filter(|base| *base <= decided) {
            source.base = base;
        }
    }

    /// A peer's answer says what its highest block is. That it lacks what it was asked for is then no lie: it has decided a block a moment
    /// before it has stored it.
    pub fn peer_ends_at(&mut self, peer: &P, last: u64) {
        if let Some(source) = self.sources.get_mut(peer) {
            source.decided = last;
        }
    }

    /// Whether a peer has said that it no longer has `height`.
    #[must_use]
    pub fn has_pruned(&self, peer: &P, height: u64) -> bool {
        self.sources.get(peer).is_some_and(|source| source.base > height)
    }

    /// Only these peers are connected; what others were asked goes to these.
    pub fn keep_only(&mut self, connected: &[P]) {
        self.sources.retain(|peer, _| connected.contains(peer));
        self.requests.retain(|_, request| connected.contains(&request.peer));
    }

    /// A peer failed to serve what it claimed: its claim is forgotten, and it is left alone for a while.
    pub fn blame(&mut self, peer: &P, now: Instant) {
        self.requests.retain(|_, request| request.peer != *peer);
        if let Some(source) = self.sources.get_mut(peer) {
            source.decided = 0;
            source.not_before = Some(now + PENALTY);
        }
    }

    /// The request that this answer belongs to, where it was asked of this peer. It is over.
    pub fn answer(&mut self, id: u64, peer: &P) -> Option<Request<P>> {
        let known = self.requests.get(&id).is_some_and(|request| request.peer == *peer);
        known.then(|| self.requests.remove(&id)).flatten()
    }

    /// The request with this id.
    #[must_use]
    pub fn request(&self, id: u64) -> Option<&Request<P>> {
        self.requests.get(&id)
    }

    /// The highest height that a peer says it has decided.
    #[must_use]
    pub fn best(&self) -> u64 {
        self.sources.values().map(|source| source.decided).max().unwrap_or(0)
    }

    /// The highest height that two peers say they have decided, or the only one: one peer's word is no fact.
    #[must_use]
    pub fn attested(&self) -> u64 {
        let mut decided: Vec<u64> = self.sources.values().map(|source| source.decided).collect();
        decided.sort_unstable_by(|a, b| b.cmp(a));
        decided.get(1).or(decided.first()).copied().unwrap_or(0)
    }

    /// The peers whose requests have timed out; they are blamed.
    pub fn expire(&mut self, now: Instant) -> Vec<P> {
        let late = self.requests.values().filter(|request| request.deadline <= now);
        let peers: Vec<P> = late.map(|request| request.peer).collect();
        for peer in &peers {
            self.blame(peer, now);
        }
        peers
    }

    /// New requests: `wanted` are the heights to fetch, `has` says what is here already.
    pub fn next(
        &mut self,
        now: Instant,
        wanted: RangeInclusive<u64>,
        has: impl Fn(u64) -> bool,
    ) -> Vec<Request<P>> {
        let mut out = Vec::new();
        let current = *wanted.start();
        let end = self.best().min(*wanted.end());
        let mut height = current;
        while height <= end {
            if has(height) || self.is_asked(height) {
                height += 1;
                continue;
            }
            let open = |h: &u64| *h <= end && !has(*h) && !self.is_asked(*h);
            let count = (height..height + CHUNK).take_while(open).map(|_| 1).sum();
            let Some(request) = self.assign(now, height, count) else { break };
            height += request.count;
            out.push(request);
        }
        out
    }

    fn is_asked(&self, height: u64) -> bool {
        self.requests
            .values()
            .any(|request| (request.from..request.from + request.count).contains(&height))
    }

    /// Asks the least busy peer that has `from`.
    fn assign(&mut self, now: Instant, from: u64, count: u64) -> Option<Request<P>> {
        let busy =
            |peer: &P| self.requests.values().filter(|request| request.peer == *peer).count();
        let (peer, source) = self
            .sources
            .iter()
            .filter(|(_, source)| source.base <= from && from <= source.decided)
            .filter(|(_, source)| source.not_before.is_none_or(|until| until <= now))
            .filter(|(peer, _)| busy(peer) < PER_PEER_MAX)
            .min_by_key(|(peer, _)| busy(peer))?;
        let count = count.min(source.decided - from + 1);
        let request =
            Request { id: self.next_id, peer: *peer, from, count, deadline: now + REQUEST_TIMEOUT };
        self.next_id += 1;
        self.requests.insert(request.id, request);
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(plan: &mut Plan<u8>, now: Instant, current: u64) -> Vec<(u8, u64, u64)> {
        let requests = plan.next(now, current..=current + WINDOW, |_| false);
        requests.into_iter().map(|request| (request.peer, request.from, request.count)).collect()
    }

    #[test]
    fn the_window_is_shared_among_peers_that_have_it() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        plan.peer_has(1, 1_000, Some(1));
        plan.peer_has(2, 60, Some(1));
        plan.peer_has(3, 1_000, Some(50));
        let all = asked(&mut plan, now, 10);
        assert_eq!(all.iter().map(|(_, _, count)| count).sum::<u64>(), 4 * CHUNK);
        assert!(all.iter().all(|(peer, from, count)| match peer {
            2 => from + count <= 61,
            3 => *from >= 50,
            _ => true,
        }));
        assert!(asked(&mut plan, now, 10).is_empty(), "nothing is asked twice");
    }

    #[test]
    fn a_liar_costs_one_timeout_and_others_serve() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        plan.peer_has(1, u64::MAX / 2, None);
        plan.peer_has(2, 20, Some(1));
        asked(&mut plan, now, 20);
        let later = now + REQUEST_TIMEOUT;
        assert!(plan.expire(later).contains(&1));
        plan.peer_has(2, 20, Some(1));
        assert_eq!(plan.best(), 20);
    }

    #[test]
    fn an_answer_counts_only_for_its_request_and_peer() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        plan.peer_has(1, 5, Some(1));
        let request = plan.next(now, 1..=9, |_| false)[0];
        assert_eq!(plan.answer(request.id, &2), None);
        assert_eq!(plan.answer(request.id + 1, &1), None);
        assert_eq!(plan.answer(request.id, &1), Some(request));
        assert_eq!(plan.answer(request.id, &1), None);
    }

    #[test]
    fn what_is_here_is_not_asked_for() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        plan.peer_has(1, 10, Some(1));
        let requests = plan.next(now, 1..=99, |height| height % 2 == 1);
        assert!(requests.iter().all(|request| request.from % 2 == 0 && request.count == 1));
    }

    #[test]
    fn a_peer_that_has_decided_but_not_yet_stored_a_block_is_no_liar() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        plan.peer_has(1, 10, Some(1));
        let request = plan.next(now, 10..=99, |_| false)[0];
        assert_eq!(plan.answer(request.id, &1), Some(request));
        plan.peer_ends_at(&1, 9);
        assert!(asked(&mut plan, now, 10).is_empty(), "it said that it has no more");
        plan.peer_has(1, 10, None);
        assert_eq!(
            asked(&mut plan, now, 10),
            [(1, 10, 1)],
            "it is asked again as soon as it says so"
        );
    }

    #[test]
    fn a_peer_that_has_pruned_meanwhile_is_no_liar_and_asked_for_what_it_has() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        plan.peer_has(1, 100, Some(1));
        let request = plan.next(now, 10..=99, |_| false)[0];
        assert!(!plan.has_pruned(&1, request.from));
        plan.peer_has(1, 100, Some(40));
        assert!(plan.has_pruned(&1, 39) && !plan.has_pruned(&1, 40) && !plan.has_pruned(&2, 39));
        assert_eq!(plan.answer(request.id, &1), Some(request));
        assert!(asked(&mut plan, now, 10).iter().all(|(_, from, _)| *from >= 40));
    }

    #[test]
    fn one_peer_that_claims_the_sky_makes_nobody_behind() {
        let mut plan = Plan::default();
        plan.peer_has(1, 1_000_000, None);
        assert_eq!(plan.attested(), 1_000_000);
        plan.peer_has(2, 7, Some(1));
        plan.peer_has(3, 6, Some(1));
        assert_eq!((plan.best(), plan.attested()), (1_000_000, 7));
    }
}
