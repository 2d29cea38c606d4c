//! The world: virtual time, one queue of events, and everything that happens.

use super::application::{Around, genesis};
use super::checkers::{Checks, Executed};
use super::coverage::Coverage;
use super::happening::{Entry, What};
use super::liveness::Liveness;
use super::network::{Links, Sent, Wire};
use super::node::Node;
use super::plan::{Fault, Kind, Plan, Seat, When};
use super::pool;
use super::rng::Rng;
use super::trace::Trace;
use super::{BASE, MS, Nanos, time_of};
use bytes::Bytes;
use std::cell::OnceCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tercet_consensus::replica::Input;
use tercet_node::engine::Event;
use tercet_node::engine::outside::Now;
use tercet_node::execution::Done;

/// More events than any run needs: beyond, it goes round in circles.
const EVENTS_MAX: u64 = 2_000_000;
/// The most transactions that wait before clients wait too.
const UNDECIDED_MAX: usize = 200;
/// How often pools tell each other what waits.
const GOSSIP: Nanos = 400 * MS;

/// Everything there is.
pub(crate) struct World {
    /// What was planned.
    pub(crate) plan: Rc<Plan>,
    /// The randomness of delays and the like.
    pub(crate) rng: Rng,
    /// The time since the start.
    pub(crate) now: Nanos,
    sequence: u64,
    /// Events and turns so far.
    events: u64,
    /// When the next turn of each engine is; `Nanos::MAX` for none.
    turns: Vec<Nanos>,
    /// The earliest of them, and whose it is.
    next_turn: (Nanos, Seat),
    queue: BinaryHeap<Reverse<Entry>>,
    /// The nodes.
    pub(crate) nodes: Vec<Node>,
    /// The links between them.
    pub(crate) links: Links,
    /// Links that faults cut, by fault.
    pub(crate) cuts: Vec<Vec<(Seat, Seat)>>,
    /// How many percent of the messages are lost at the moment, beside those that are lost all the time.
    pub(crate) loss: u64,
    /// Kinds of messages that are lost at the moment, and how many percent of them.
    pub(crate) muted: Vec<(Kind, u64)>,
    /// The network has healed.
    pub(crate) healed: bool,
    /// How many messages there were.
    messages: u64,
    /// Messages that may be relayed, by number.
    pub(crate) sent: Vec<Rc<Sent>>,
    /// What is checked.
    pub(crate) checks: Checks,
    /// What blocks led to.
    pub(crate) executed: Executed,
    /// What was met.
    pub(crate) coverage: Coverage,
    /// Progress after the healing.
    pub(crate) liveness: Liveness,
    /// What is told of the run.
    pub(crate) trace: Trace,
    /// What a network that means ill has in mind.
    pub(crate) adversary: super::adversary::Adversary,
    /// What Byzantine nodes remember.
    pub(crate) byzantine: BTreeMap<Seat, super::byzantine::Memory>,
    /// When each height was decided first.
    pub(crate) decided_at: BTreeMap<u64, Nanos>,
    /// Transactions that correct nodes took, and when.
    pub(crate) txs: BTreeMap<Bytes, Nanos>,
    /// Whether messages are relayed: only where some pairs have no connection.
    relays: bool,
}

impl World {
    /// A world at the start of a plan.
    pub(crate) fn new(plan: Plan, trace: Trace) -> World {
        let plan = Rc::new(plan);
        let mut rng = Rng::new(plan.seed);
        let genesis = Arc::new(genesis(&plan));
        let nodes = plan.nodes.iter();
        let nodes: Vec<Node> = nodes
            .map(|node| Node::new(&plan, node.clone(), &genesis, Rng::new(rng.next())))
            .collect();
        let mut world = World {
            links: Links::new(nodes.len(), &plan.net.unlinked),
            checks: Checks::new(&plan, &genesis),
            relays: !plan.net.unlinked.is_empty(),
            now: 0,
            sequence: 0,
            events: 0,
            turns: vec![Nanos::MAX; nodes.len()],
            next_turn: (Nanos::MAX, 0),
            queue: BinaryHeap::new(),
            cuts: Vec::new(),
            loss: 0,
            muted: Vec::new(),
            healed: false,
            messages: 0,
            sent: Vec::new(),
            executed: Executed::default(),
            coverage: Coverage::default(),
            liveness: Liveness::default(),
            adversary: Default::default(),
            byzantine: BTreeMap::new(),
            decided_at: BTreeMap::new(),
            txs: BTreeMap::new(),
            trace,
            nodes,
            rng,
            plan,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for seat in self.seats() {
            let after = self.rng.time((0, 20 * MS));
            self.after(after, What::Restart(seat));
        }
        let plan = Rc::clone(&self.plan);
        for (index, timed) in plan.faults.iter().enumerate() {
            if let When::At(at) = timed.when {
                self.after(at, What::Fault(index));
            }
        }
        if plan.txs_every.is_some() {
            self.after(MS, What::Client);
            self.after(GOSSIP, What::Gossip);
        }
        self.after(plan.heal.1, What::Heal);
    }

    /// Runs to the end of the plan.
    ///
    /// # Panics
    /// Where an invariant breaks.
    pub(crate) fn run(&mut self) {
        while !self.is_over() {
            self.happen_next();
        }
        self.judge_end();
    }

    /// Runs until a height is decided somewhere, or to a time.
    pub(crate) fn run_to(&mut self, height: u64, limit: Nanos) {
        while !self.decided_at.contains_key(&height) && self.now < limit {
            self.happen_next();
        }
    }

    /// The longest T of a correct node, in milliseconds.
    pub(crate) fn timeout_ms(&self) -> u64 {
        let correct = self.seats().filter(|seat| self.is_correct(*seat));
        correct.map(|seat| self.node(seat).snapshot.load().timeout_ms).max().unwrap_or(0)
    }

    fn happen_next(&mut self) {
        self.events += 1;
        let (turn, seat) = self.next_turn;
        let first = self.queue.peek().map_or(Nanos::MAX, |Reverse(entry)| entry.key.0);
        if turn < first {
            self.now = turn;
            self.take_turn(seat);
            self.turn(seat);
        } else {
            let Some(Reverse(Entry { key: (at, _), what })) = self.queue.pop() else {
                panic!("nothing happens any more");
            };
            self.now = at;
            self.happen(what);
        }
        assert!(self.events < EVENTS_MAX, "the run goes round in circles");
    }

    /// How many events there were.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// All seats.
    pub(crate) fn seats(&self) -> std::ops::Range<Seat> {
        0..self.nodes.len()
    }

    /// The node at a seat.
    pub(crate) fn node(&self, seat: Seat) -> &Node {
        self.nodes.get(seat).expect("a seat")
    }

    /// The same, to change.
    pub(crate) fn node_mut(&mut self, seat: Seat) -> &mut Node {
        self.nodes.get_mut(seat).expect("a seat")
    }

    /// Whether the node at a seat is correct.
    pub(crate) fn is_correct(&self, seat: Seat) -> bool {
        self.node(seat).plan.byzantine.is_empty()
    }

    /// Whether the node at a seat is correct and does not die for good: what it promises to a client counts.
    fn stays(&self, seat: Seat) -> bool {
        let dies = |fault: &Fault| matches!(fault, Fault::Dead { seat: dead, .. } if *dead == seat);
        self.is_correct(seat) && !self.plan.faults.iter().any(|timed| dies(&timed.fault))
    }

    /// Plans something.
    pub(crate) fn after(&mut self, after: Nanos, what: What) {
        self.sequence += 1;
        let key = (self.now + after, self.sequence);
        self.queue.push(Reverse(Entry { key, what }));
    }

    /// The moment, as an engine sees it.
    pub(crate) fn instant(&self) -> Instant {
        *BASE + Duration::from_nanos(self.now)
    }

    /// The clocks of a node.
    pub(crate) fn clocks(&self, seat: Seat) -> Now {
        let plan = &self.node(seat).plan;
        let drift = i64::try_from(self.now / 1_000_000).unwrap_or(0) * plan.drift_ppm / 1_000_000;
        Now { instant: self.instant(), time: time_of(self.now, plan.clock_ms + drift) }
    }

    /// Makes sure that a node has a turn at this moment or before.
    pub(crate) fn wake(&mut self, seat: Seat, at: Nanos) {
        let node = self.node(seat);
        if !node.is_up() {
            return;
        }
        let at = at.max(node.busy_until).max(node.frozen_until);
        let planned = self.turns.get_mut(seat).expect("a seat");
        *planned = at.min(*planned);
        self.next_turn = self.next_turn.min((at, seat));
    }

    /// A node has no turn planned any more.
    pub(crate) fn take_turn(&mut self, seat: Seat) {
        *self.turns.get_mut(seat).expect("a seat") = Nanos::MAX;
        let turns = self.turns.iter().copied().zip(0..);
        self.next_turn = turns.min().unwrap_or((Nanos::MAX, 0));
    }

    /// Tells an engine something.
    pub(crate) fn tell(&mut self, seat: Seat, event: Event) {
        let lag = self.node(seat).plan.lag;
        let at = self.now + self.rng.time(lag);
        if self.node(seat).is_up() {
            self.node_mut(seat).inbox.push(event);
            self.wake(seat, at);
        }
    }

    /// Something to be sent.
    pub(crate) fn envelope(&mut self, wire: Wire) -> Rc<Sent> {
        self.messages += 1;
        let number = self.messages - 1;
        // Engines tell copies by their frames.
        let frame = Bytes::copy_from_slice(&number.to_be_bytes());
        let sent = Rc::new(Sent { wire, frame, verdict: OnceCell::new(), status: OnceCell::new() });
        if self.relays {
            self.sent.push(Rc::clone(&sent));
        }
        sent
    }

    /// Sends over a link: it may be lost, late or doubled.
    pub(crate) fn transmit(&mut self, from: Seat, to: Seat, sent: &Rc<Sent>) {
        let link = self.links.see(from, to);
        let plan = Rc::clone(&self.plan);
        let net = &plan.net;
        let lost = !self.healed && (self.rng.permille(net.lost) || self.rng.percent(self.loss));
        if !link.up
            || link.cuts > 0
            || lost
            || self.is_muted(sent)
            || self.is_stopped(from, to, sent)
        {
            return;
        }
        let copies = if !self.healed && self.rng.permille(net.doubled) { 2 } else { 1 };
        let epoch = self.node(to).epoch;
        for _ in 0..copies {
            let mut delay = self.rng.time(net.delay);
            if !self.healed && self.rng.permille(net.stragglers) {
                delay += self.rng.time((0, 10 * net.delay.1));
            }
            self.after(delay, What::Deliver { from, to, epoch, sent: Rc::clone(sent) });
        }
    }

    fn is_muted(&mut self, sent: &Sent) -> bool {
        if self.muted.is_empty() {
            return false;
        }
        let Some(kind) = sent.kind() else { return false };
        let percent = self.muted.iter().filter(|(muted, _)| *muted == kind).map(|(_, p)| *p).max();
        percent.is_some_and(|percent| self.rng.percent(percent))
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Deliver { from, to, epoch, sent } => {
                if self.node(to).epoch == epoch && self.node(to).is_up() {
                    self.deliver(from, to, &sent);
                }
            }
            What::Flush { seat, epoch } if self.node(seat).epoch == epoch => self.flush(seat),
            What::Job { seat, epoch } if self.node(seat).epoch == epoch => self.job(seat),
            What::SyncTurn { seat, epoch } if self.node(seat).epoch == epoch => {
                self.sync_turn(seat);
            }
            What::Late { seat, epoch, message } if self.node(seat).epoch == epoch => {
                self.coverage.met("rule", "signature late");
                let input = Box::new(Input::Signed(*message));
                self.tell(seat, Event::Input { input, origin: None });
            }
            What::Flush { .. } | What::Job { .. } | What::SyncTurn { .. } | What::Late { .. } => {}
            What::Crash(_) if self.healed => {}
            What::Crash(seat) => {
                let down = self.rng.time((5 * MS, 400 * MS));
                self.crash(seat, Some(down), true);
            }
            What::Restart(seat) => self.restart(seat),
            What::Connect { a, b, epochs } => self.connect(a, b, epochs),
            What::Noticed { at, of, refused, life } => self.noticed((at, of), refused, life),
            What::Fault(index) => self.fault(index),
            What::Cut { index, on } => self.cut(index, on),
            What::Loss { percent, on: true } => self.loss = (self.loss + percent).min(100),
            What::Loss { percent, on: false } => self.loss = self.loss.saturating_sub(percent),
            What::Mute { mute, on } => self.mute(mute, on),
            What::FastApp(seat) => self.node_mut(seat).slow_app = None,
            What::SignersWell => self.signers(0),
            What::Client => self.client(),
            What::Gossip => self.gossip(),
            What::Heal => self.heal(),
        }
    }

    /// A job of the application is done.
    fn job(&mut self, seat: Seat) {
        let Now { instant, time } = self.clocks(seat);
        let plan = Rc::clone(&self.plan);
        let correct = self.is_correct(seat);
        let node = self.nodes.get_mut(seat).expect("a seat");
        let executed = &mut self.executed;
        let around = Around { pool: &node.pool, instant, time, plan: &plan, executed };
        let done = node.app.work(around);
        let ahead = node.app.ahead.met.take();
        ahead.into_iter().for_each(|name| self.coverage.met("executed ahead", name));
        self.next_job(seat);
        let Some(done) = done else { return };
        self.trace.done(self.now, seat, &done);
        match &done {
            Done::Applied(outcome) if correct => {
                self.checks.applied(seat, &outcome.applied);
                self.progress();
                for update in &outcome.applied.results.validator_updates {
                    let removed = update.power == 0;
                    let name =
                        if removed { "validator removed" } else { "validator added or changed" };
                    self.coverage.met("rule", name);
                }
                if self.node(seat).pool.lock().is_suspicious() {
                    self.coverage.met("rule", "primary suspected of censorship");
                }
            }
            Done::ExtensionVerified { vote, .. } => {
                let late = vote.message.height < self.node(seat).app.state().next_height();
                let name =
                    if late { "late vote extension verified" } else { "vote extension verified" };
                self.coverage.met("rule", name);
            }
            Done::Validated { result: Err(refusal), .. } => {
                self.coverage.met("rule", "block refused");
                self.coverage.met("refused", super::byzantine::refused_field(refusal));
            }
            _ => {}
        }
        self.tell(seat, Event::Executed(Box::new(done)));
    }

    /// Begins the next job, where one waits.
    pub(crate) fn next_job(&mut self, seat: Seat) {
        let node = self.node(seat);
        if node.app.busy || node.app.jobs.is_empty() {
            return;
        }
        let (times, slow, epoch) = (node.plan.app, node.slow_app, node.epoch);
        let takes = slow.unwrap_or_else(|| self.rng.time(times));
        self.node_mut(seat).app.busy = true;
        self.after(takes, What::Job { seat, epoch });
    }

    /// A transaction reaches a correct node.
    fn client(&mut self) {
        let Some(every) = self.plan.txs_every else { return };
        let after = self.rng.time((every / 2, every * 3 / 2));
        self.after(after, What::Client);
        let correct: Vec<Seat> =
            self.seats().filter(|s| self.stays(*s) && self.node(*s).is_up()).collect();
        if correct.is_empty() {
            return;
        }
        // L2 is about what a network keeps up with: once it is well, clients wait while much waits (scenario more-than-it-takes).
        if self.healed && self.txs.len() >= self.checks.decided_txs() + UNDECIDED_MAX {
            return;
        }
        let seat = *self.rng.pick(&correct);
        let tx = Bytes::from(format!("tx{}", self.txs.len()));
        self.txs.insert(tx.clone(), self.now);
        let tx = pool::tx(tx);
        self.pool(seat, std::slice::from_ref(&tx));
        let sent = self.envelope(Wire::Txs(vec![tx]));
        for to in self.seats().filter(|to| *to != seat) {
            self.transmit(seat, to, &sent);
        }
    }

    /// Transactions come to a pool.
    pub(crate) fn pool(&mut self, seat: Seat, txs: &[pool::Tx]) {
        let now = self.instant();
        let mut pool = self.node(seat).pool.lock();
        let new = txs.iter().filter(|tx| pool.add(tx, now)).count();
        drop(pool);
        if new > 0 {
            self.tell(seat, Event::Pool);
        }
    }

    fn gossip(&mut self) {
        self.after(GOSSIP, What::Gossip);
        for seat in self.seats() {
            let txs = self.node(seat).pool.lock().oldest(16);
            if txs.is_empty() || !self.node(seat).is_up() {
                continue;
            }
            let sent = self.envelope(Wire::Txs(txs.into_iter().map(pool::tx).collect()));
            for to in self.seats().filter(|to| *to != seat) {
                self.transmit(seat, to, &sent);
            }
        }
    }
}
