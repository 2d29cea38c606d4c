//! From a seed to everything random about a run: who is there, what the network, the disks, the clocks and the applications are like,
//! and what goes wrong when. A plan is data, so a run can be repeated with less of it (see `shrink`), or written by hand (`scenario`).

use super::byzantine::Strategy;
use super::rng::Rng;
use super::{MS, Nanos, SECOND};
use std::collections::BTreeMap;

/// A place in the network: a node.
pub(crate) type Seat = usize;

/// When something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// At a time.
    At(Nanos),
    /// When the first correct replica has decided this height.
    Height(u64),
    /// When the node has made so many records durable.
    Records(Seat, u64),
}

/// A kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// PRE-PREPARE of a start view.
    PrePrepare,
    /// NEW-VIEW.
    NewView,
    /// PREPARE.
    Prepare,
    /// COMMIT.
    Commit,
    /// VIEW-CHANGE.
    ViewChange,
    /// The body of a block.
    Block,
    /// STATUS.
    Status,
    /// Blocks for those that are behind.
    Sync,
}

impl Kind {
    /// All, with their names in scenarios.
    pub(crate) const ALL: &[(Kind, &str)] = &[
        (Kind::PrePrepare, "pre-prepare"),
        (Kind::NewView, "new-view"),
        (Kind::Prepare, "prepare"),
        (Kind::Commit, "commit"),
        (Kind::ViewChange, "view-change"),
        (Kind::Block, "block"),
        (Kind::Status, "status"),
        (Kind::Sync, "sync"),
    ];

    fn lost_name(self) -> &'static str {
        match self {
            Kind::PrePrepare => "lost: pre-prepare",
            Kind::NewView => "lost: new view",
            Kind::Prepare => "lost: prepare",
            Kind::Commit => "lost: commit",
            Kind::ViewChange => "lost: view change",
            Kind::Block => "lost: block",
            Kind::Status => "lost: status",
            Kind::Sync => "lost: sync",
        }
    }
}

/// What goes wrong, apart from what is wrong all the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A process dies and comes back. `seen`: peers see its connections refused at once; otherwise they notice late.
    Crash { seat: Seat, down: Nanos, seen: bool },
    /// A process dies and does not come back.
    Dead { seat: Seat, seen: bool },
    /// All die at the same moment and come back.
    PowerLoss { down: Nanos },
    /// The next sync of the disk fails; the process ends and comes back.
    DiskFails { seat: Seat, down: Nanos },
    /// No message gets from any of `from` to any of `to`. `noticed`: after a while the connections count as closed.
    Cut { from: Vec<Seat>, to: Vec<Seat>, lasts: Nanos, both: bool, noticed: bool },
    /// Random links fail and come back, one after the other.
    Swizzle { lasts: Nanos },
    /// So many percent of the messages are lost.
    Loss { percent: u64, lasts: Nanos },
    /// So many percent of the messages of one kind are lost.
    Mute { kind: Kind, percent: u64, lasts: Nanos },
    /// A process does nothing for a while; its connections stay open.
    Freeze { seat: Seat, lasts: Nanos },
    /// A clock jumps by so many milliseconds.
    ClockJump { seat: Seat, by_ms: i64 },
    /// An application takes so long for each job, for a while.
    SlowApp { seat: Seat, each: Nanos, lasts: Nanos },
    /// Signers lose, delay and repeat so many in a thousand of their answers, for a while.
    Signers { permille: u64, lasts: Nanos },
}

impl Fault {
    /// Its name in coverage and traces.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Fault::Crash { .. } => "crash",
            Fault::Dead { .. } => "death",
            Fault::PowerLoss { .. } => "power loss of all",
            Fault::DiskFails { .. } => "failing sync",
            Fault::Cut { both: true, .. } => "partition",
            Fault::Cut { both: false, .. } => "one-way partition",
            Fault::Swizzle { .. } => "swizzle",
            Fault::Loss { .. } => "loss",
            Fault::Mute { kind, .. } => kind.lost_name(),
            Fault::Freeze { .. } => "freeze",
            Fault::ClockJump { .. } => "clock jump",
            Fault::SlowApp { .. } => "slow application",
            Fault::Signers { .. } => "faulty signers",
        }
    }
}

/// A fault and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Timed {
    /// When.
    pub(crate) when: When,
    /// What.
    pub(crate) fault: Fault,
}

/// What a network does all the time until it heals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Net {
    /// The least and the usual longest delay.
    pub(crate) delay: (Nanos, Nanos),
    /// How many in a thousand are delayed up to ten times as long, so that others overtake them.
    pub(crate) stragglers: u64,
    /// How many in a thousand are lost.
    pub(crate) lost: u64,
    /// How many in a thousand arrive twice.
    pub(crate) doubled: u64,
    /// Pairs that have no connection.
    pub(crate) unlinked: Vec<(Seat, Seat)>,
}

/// What one node is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodePlan {
    /// The number of its key; twins share one.
    pub(crate) key: usize,
    /// From the first event to the turn that takes it.
    pub(crate) lag: (Nanos, Nanos),
    /// How long a sync takes.
    pub(crate) sync: (Nanos, Nanos),
    /// How long a job of the application takes.
    pub(crate) app: (Nanos, Nanos),
    /// How wrong its clock is, in milliseconds.
    pub(crate) clock_ms: i64,
    /// How fast it drifts, in parts per million.
    pub(crate) drift_ppm: i64,
    /// What it does where it is Byzantine.
    pub(crate) byzantine: Vec<Strategy>,
}

/// Everything about a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Where the randomness of delays and the like comes from.
    pub(crate) seed: u64,
    /// The nodes.
    pub(crate) nodes: Vec<NodePlan>,
    /// The power of each key at the first height; 0 where it is no validator.
    pub(crate) powers: Vec<u64>,
    /// The application's updates: height, key, power.
    pub(crate) changes: Vec<(u64, usize, u64)>,
    /// Heights between two planned rotations.
    pub(crate) term: u64,
    /// The network.
    pub(crate) net: Net,
    /// What goes wrong.
    pub(crate) faults: Vec<Timed>,
    /// After how long an empty block is due; none: only with transactions.
    pub(crate) empty_blocks: Option<Nanos>,
    /// Between two transactions, on average; none: no transactions.
    pub(crate) txs_every: Option<Nanos>,
    /// Real signatures.
    pub(crate) real_signatures: bool,
    /// The network heals when this height is decided, or at this time.
    pub(crate) heal: (u64, Nanos),
    /// The run ends when every correct replica has decided this height, and so many after the heights decided at the healing.
    pub(crate) heights: (u64, u64),
}

impl Plan {
    /// The plan of a seed.
    pub(crate) fn of(seed: u64) -> Plan {
        Maker { rng: Rng::new(seed ^ 0x7465_7263_6574), seed }.plan()
    }

    /// Whether a seat is correct.
    pub(crate) fn is_correct(&self, seat: Seat) -> bool {
        self.nodes.get(seat).is_some_and(|node| node.byzantine.is_empty())
    }

    /// Whether a key is used by a Byzantine node.
    pub(crate) fn is_byzantine_key(&self, key: usize) -> bool {
        self.nodes.iter().any(|node| node.key == key && !node.byzantine.is_empty())
    }

    /// Whether nothing at all goes wrong, so that no view may change (L5).
    pub(crate) fn is_good(&self) -> bool {
        self.faults.is_empty()
            && self.net.lost == 0
            && self.net.stragglers == 0
            && self.net.delay.1 <= 20 * MS
            && self.nodes.iter().all(|node| {
                node.byzantine.is_empty()
                    && node.app.1 <= 5 * MS
                    && node.lag.1 <= 5 * MS
                    && node.sync.1 <= 5 * MS
            })
    }

    /// The powers at each height of a run, as far as updates change them: height from which on they hold, powers.
    pub(crate) fn powers_by_height(&self) -> Vec<(u64, Vec<u64>)> {
        let mut all = vec![(1, self.powers.clone())];
        let mut by_height: BTreeMap<u64, Vec<(usize, u64)>> = BTreeMap::new();
        for (height, key, power) in &self.changes {
            by_height.entry(*height + 2).or_default().push((*key, *power));
        }
        for (height, updates) in by_height {
            let mut powers = all.last().map(|(_, powers)| powers.clone()).unwrap_or_default();
            for (key, power) in updates {
                if let Some(entry) = powers.get_mut(key) {
                    *entry = power;
                }
            }
            all.push((height, powers));
        }
        all
    }

    /// Whether every correct node has a key of its own.
    pub(crate) fn is_sound(&self) -> bool {
        let sharing = |seat: Seat, key| {
            self.nodes.iter().enumerate().any(|(other, node)| other != seat && node.key == key)
        };
        let mut correct = self.nodes.iter().enumerate().filter(|(_, n)| n.byzantine.is_empty());
        correct.all(|(seat, node)| !sharing(seat, node.key))
    }

    /// Whether the correct that do not die reach each other over links between them.
    pub(crate) fn is_connected(&self) -> bool {
        let dead = |seat: Seat| {
            self.faults.iter().any(|t| matches!(t.fault, Fault::Dead { seat: s, .. } if s == seat))
        };
        let mut rest: Vec<Seat> =
            (0..self.nodes.len()).filter(|s| self.is_correct(*s) && !dead(*s)).collect();
        let mut reached: Vec<Seat> = rest.pop().into_iter().collect();
        while let Some(at) = reached.pop() {
            let linked =
                |other: &Seat| !self.net.unlinked.contains(&(at.min(*other), at.max(*other)));
            let (next, others): (Vec<Seat>, Vec<Seat>) = rest.into_iter().partition(linked);
            reached.extend(next);
            rest = others;
        }
        rest.is_empty()
    }

    /// Whether the Byzantine and the dead have less than a third of the power at every height, and four validators or more are there
    /// where there were.
    pub(crate) fn is_within_bounds(&self) -> bool {
        let dead: Vec<usize> = self
            .faults
            .iter()
            .filter_map(|timed| match timed.fault {
                Fault::Dead { seat, .. } => self.nodes.get(seat).map(|node| node.key),
                _ => None,
            })
            .collect();
        let faulty = |key: usize| self.is_byzantine_key(key) || dead.contains(&key);
        self.powers_by_height().iter().all(|(_, powers)| {
            let total: u64 = powers.iter().sum();
            let bad = powers.iter().enumerate().filter(|(key, _)| faulty(*key));
            let bad: u64 = bad.map(|(_, power)| *power).sum();
            total > 0 && bad * 3 < total
        })
    }
}

/// Makes a plan.
struct Maker {
    rng: Rng,
    seed: u64,
}

impl Maker {
    fn plan(mut self) -> Plan {
        let good = self.rng.percent(8);
        let validators = 4 + self.rng.index(4);
        let spare = if self.rng.percent(30) { 1 + self.rng.index(2) } else { 0 };
        let full = if self.rng.percent(25) { 1 } else { 0 };
        let count = validators + spare + full;
        let powers = self.powers(validators, count);
        let quick = good || self.rng.percent(60);
        let delay_max = if quick { self.rng.between(1, 12) } else { self.rng.between(12, 60) } * MS;
        let empty_blocks = self.rng.percent(70).then(|| self.rng.between(0, 80) * MS);
        let txs_every = match empty_blocks {
            Some(_) => self.rng.percent(50).then(|| self.rng.between(20, 400) * MS),
            None => Some(self.rng.between(10, 100) * MS),
        };
        let mut plan = Plan {
            seed: self.seed,
            nodes: (0..count).map(|key| self.node(key, good)).collect(),
            powers,
            changes: Vec::new(),
            term: *self.rng.pick(&[1, 2, 3, 5, 8, 64]),
            net: self.net(good, delay_max, count),
            faults: Vec::new(),
            empty_blocks,
            txs_every,
            real_signatures: self.seed % 20 == 19,
            heal: (self.rng.between(8, 14), self.rng.between(1_500, 6_000) * MS),
            heights: (20, 6),
        };
        if spare > 0 || self.rng.percent(15) {
            self.change_sets(&mut plan);
        }
        if !good {
            self.byzantine(&mut plan);
            self.faults(&mut plan);
        }
        if !plan.is_connected() {
            // Without a path between correct nodes nothing can be expected; twins stay apart.
            let twin = |(a, b): &(Seat, Seat)| {
                plan.nodes.get(*a).map(|n| n.key) == plan.nodes.get(*b).map(|n| n.key)
            };
            let unlinked = plan.net.unlinked.iter().copied().filter(twin).collect();
            plan.net.unlinked = unlinked;
        }
        plan
    }

    fn powers(&mut self, validators: usize, count: usize) -> Vec<u64> {
        let weighted = self.rng.percent(40);
        let mut powers: Vec<u64> =
            (0..validators).map(|_| if weighted { self.rng.between(1, 10) } else { 1 }).collect();
        powers.resize(count, 0);
        powers
    }

    fn node(&mut self, key: usize, good: bool) -> NodePlan {
        let slow = !good && self.rng.percent(8);
        let clock_ms = match self.rng.below(10) {
            0..6 => 0,
            6..9 => i64::try_from(self.rng.between(0, 4_000)).unwrap_or(0) - 2_000,
            _ => i64::try_from(self.rng.between(0, 50_000)).unwrap_or(0) - 25_000,
        };
        let drift = if self.rng.percent(70) { 0 } else { self.rng.between(0, 400) };
        NodePlan {
            key,
            lag: if slow { (MS, 30 * MS) } else { (20_000, 900_000) },
            sync: if slow { (5 * MS, 60 * MS) } else { (100_000, 4 * MS) },
            app: if slow { (10 * MS, 80 * MS) } else { (100_000, 2 * MS) },
            clock_ms,
            drift_ppm: i64::try_from(drift).unwrap_or(0) - 200,
            byzantine: Vec::new(),
        }
    }

    fn net(&mut self, good: bool, delay_max: Nanos, count: usize) -> Net {
        let bad = !good && self.rng.percent(50);
        let mut unlinked = Vec::new();
        if !good && count >= 5 && self.rng.percent(20) {
            // A ring of neighbours stays, so the rest is reached by relaying.
            for a in 0..count {
                for b in a + 2..count {
                    if (a, b) != (0, count - 1) && self.rng.percent(40) {
                        unlinked.push((a, b));
                    }
                }
            }
        }
        Net {
            delay: (50_000, delay_max),
            stragglers: if bad { self.rng.between(0, 60) } else { 0 },
            lost: if bad && self.rng.percent(60) { self.rng.between(0, 150) } else { 0 },
            doubled: if bad { self.rng.between(0, 100) } else { 0 },
            unlinked,
        }
    }

    fn change_sets(&mut self, plan: &mut Plan) {
        for _ in 0..self.rng.between(1, 5) {
            let height = self.rng.between(1, 14);
            let key = self.rng.index(plan.powers.len());
            let taken = plan.changes.iter().any(|(h, k, _)| (*h, *k) == (height, key));
            let before = plan.changes.clone();
            let power = if self.rng.percent(30) { 0 } else { self.rng.between(1, 6) };
            if taken {
                continue;
            }
            plan.changes.push((height, key, power));
            plan.changes.sort_unstable();
            if !self.sets_are_sound(plan) {
                plan.changes = before;
            }
        }
    }

    /// Removals are of members, and enough validators remain.
    fn sets_are_sound(&self, plan: &Plan) -> bool {
        let all = plan.powers_by_height();
        let enough = all.iter().all(|(_, powers)| powers.iter().filter(|p| **p > 0).count() >= 4);
        let removes = plan.changes.iter().filter(|(_, _, power)| *power == 0);
        let sound = removes.clone().all(|(height, key, _)| {
            let before = all.iter().rev().find(|(from, _)| *from < height + 2);
            before.and_then(|(_, powers)| powers.get(*key)).is_some_and(|power| *power > 0)
        });
        enough && sound
    }

    fn byzantine(&mut self, plan: &mut Plan) {
        if !self.rng.percent(55) {
            return;
        }
        let mut order: Vec<usize> = (0..plan.nodes.len()).collect();
        self.rng.shuffle(&mut order);
        let most = 1 + self.rng.index(2);
        let mut chosen = 0;
        for seat in order {
            if chosen == most || plan.powers.get(seat).is_none_or(|power| *power == 0) {
                continue;
            }
            let strategies = Strategy::choose(&mut self.rng);
            if let Some(node) = plan.nodes.get_mut(seat) {
                node.byzantine = strategies;
            }
            if plan.is_within_bounds() {
                chosen += 1;
            } else if let Some(node) = plan.nodes.get_mut(seat) {
                node.byzantine.clear();
            }
        }
        self.twin(plan);
    }

    /// A second node with the key of a Byzantine one.
    fn twin(&mut self, plan: &mut Plan) {
        let Some(seat) = plan.nodes.iter().position(|node| !node.byzantine.is_empty()) else {
            return;
        };
        if !self.rng.percent(20) {
            return;
        }
        if let Some(node) = plan.nodes.get_mut(seat) {
            node.byzantine = vec![Strategy::Twin];
            let twin = node.clone();
            let other = plan.nodes.len();
            plan.nodes.push(twin);
            plan.net.unlinked.push((seat, other));
            // Each peer knows one of the two, or both.
            for peer in (0..other).filter(|peer| *peer != seat) {
                match self.rng.below(4) {
                    0 => plan.net.unlinked.push((peer.min(seat), peer.max(seat))),
                    1 => plan.net.unlinked.push((peer, other)),
                    _ => {}
                }
            }
        }
    }

    fn faults(&mut self, plan: &mut Plan) {
        // In a storm everything goes wrong all the time, above all votes that do not arrive: so views are left when something is
        // prepared in them.
        let storm = self.rng.percent(20);
        let share = if storm { 50 } else { 25 };
        let kinds: Vec<u64> = (0..13).filter(|_| self.rng.percent(share)).collect();
        if kinds.is_empty() {
            return;
        }
        let most = if storm { 25 } else { 8 };
        for _ in 0..self.rng.between(1, most) {
            let kind = *self.rng.pick(&kinds);
            let when = self.when(plan);
            let fault = self.fault(plan, kind);
            plan.faults.push(Timed { when, fault });
            if !plan.is_within_bounds() {
                plan.faults.pop();
            }
        }
    }

    fn when(&mut self, plan: &Plan) -> When {
        match self.rng.below(10) {
            0..4 => When::At(self.rng.time((0, plan.heal.1.min(2 * SECOND)))),
            4..8 => When::Height(self.rng.between(1, plan.heal.0)),
            _ => When::Records(self.correct_seat(plan), self.rng.between(1, 40)),
        }
    }

    fn correct_seat(&mut self, plan: &Plan) -> Seat {
        let correct: Vec<Seat> = (0..plan.nodes.len()).filter(|s| plan.is_correct(*s)).collect();
        *self.rng.pick(&correct)
    }

    fn fault(&mut self, plan: &Plan, kind: u64) -> Fault {
        let seat = self.correct_seat(plan);
        let long = self.rng.time((20 * MS, 1_500 * MS));
        let down = self.rng.time((5 * MS, 1_200 * MS));
        match kind {
            0 | 1 => Fault::Crash { seat, down, seen: self.rng.percent(60) },
            2 => Fault::DiskFails { seat, down },
            3 => Fault::PowerLoss { down },
            4 => self.cut(plan, long),
            5 => Fault::Swizzle { lasts: long },
            6 => Fault::Loss { percent: self.rng.between(20, 100), lasts: long / 2 },
            7 => Fault::Freeze { seat, lasts: long },
            8 => match self.rng.below(3) {
                0 => Fault::Dead { seat, seen: self.rng.percent(60) },
                1 => {
                    let by_ms = i64::try_from(self.rng.between(0, 40_000)).unwrap_or(0) - 20_000;
                    Fault::ClockJump { seat, by_ms }
                }
                _ => Fault::SlowApp { seat, each: self.rng.time((MS, 300 * MS)), lasts: long },
            },
            9 => Fault::Signers { permille: self.rng.between(20, 300), lasts: long },
            _ => {
                let (kind, _) = *self.rng.pick(Kind::ALL);
                let kind = if self.rng.percent(40) { Kind::Commit } else { kind };
                let percent = if self.rng.percent(50) { 100 } else { self.rng.between(30, 99) };
                Fault::Mute { kind, percent, lasts: self.rng.time((100 * MS, 2_500 * MS)) }
            }
        }
    }

    fn cut(&mut self, plan: &Plan, lasts: Nanos) -> Fault {
        let all: Vec<Seat> = (0..plan.nodes.len()).collect();
        let (both, noticed) = (self.rng.percent(65), self.rng.percent(40));
        let (mut from, mut to) = (Vec::new(), Vec::new());
        match self.rng.below(3) {
            // One alone.
            0 => {
                let alone = *self.rng.pick(&all);
                from.push(alone);
                to.extend(all.iter().copied().filter(|seat| *seat != alone));
            }
            // Two sides.
            1 => {
                for seat in all {
                    if self.rng.percent(50) { from.push(seat) } else { to.push(seat) }
                }
            }
            // A bridge: some links between two groups, while others reach both.
            _ => {
                for seat in all {
                    match self.rng.below(3) {
                        0 => from.push(seat),
                        1 => to.push(seat),
                        _ => {}
                    }
                }
            }
        }
        Fault::Cut { from, to, lasts, both, noticed }
    }
}
