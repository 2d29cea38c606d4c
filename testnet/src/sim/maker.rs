//! From a seed to a plan: how much of what.

use super::adversary::{DEEP, Scheme};
use super::byzantine::Strategy;
use super::plan::{Extensions, Fault, Kind, Net, NodePlan, Plan, Seat, Timed, When};
use super::rng::Rng;
use super::{MS, Nanos, SECOND};

/// The plan of a seed.
pub(crate) fn make(seed: u64) -> Plan {
    Maker { rng: Rng::new(seed ^ 0x7465_7263_6574), seed }.plan()
}

/// Makes a plan.
struct Maker {
    rng: Rng,
    seed: u64,
}

impl Maker {
    fn plan(mut self) -> Plan {
        let good = self.rng.percent(8);
        // Most often where a third is a whole number: one more that fails would be too many.
        let validators = *self.rng.pick(&[4, 4, 4, 5, 6, 7, 7]);
        let spare = if self.rng.percent(25) { 1 + self.rng.index(2) } else { 0 };
        let full = if self.rng.percent(15) { 1 } else { 0 };
        let count = validators + spare + full;
        let powers = self.powers(validators, count);
        let quick = good || self.rng.percent(60);
        let delay_max = if quick { self.rng.between(1, 12) } else { self.rng.between(12, 60) } * MS;
        let empty_blocks = self.rng.percent(70).then(|| self.rng.between(0, 80) * MS);
        let txs_every = match empty_blocks {
            Some(_) => self.rng.percent(50).then(|| self.rng.between(20, 400) * MS),
            None => Some(self.rng.between(10, 100) * MS),
        };
        // Most are short; views far above the start take their time.
        let heal = if self.rng.percent(85) { (800, 2_500) } else { (2_500, 7_000) };
        let heal = self.rng.between(heal.0, heal.1) * MS;
        let mut plan = Plan {
            seed: self.seed,
            nodes: (0..count).map(|key| self.node(key, good)).collect(),
            powers,
            changes: Vec::new(),
            extensions: self.extensions(),
            term: *self.rng.pick(&[1, 2, 3, 5, 8, 64]),
            net: self.net(good, delay_max, count),
            faults: Vec::new(),
            empty_blocks,
            txs_every,
            real_signatures: self.seed % 20 == 19,
            heal: (self.rng.between(8, 14), heal),
            heights: (20, 6),
        };
        if spare > 0 || self.rng.percent(15) {
            self.change_sets(&mut plan);
        }
        if !good {
            self.byzantine(&mut plan);
            self.adversary(&mut plan);
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

    fn extensions(&mut self) -> Option<Extensions> {
        self.rng.percent(25).then(|| {
            let said = self.rng.below(8);
            // As early as can be, often: whoever has not executed the block cannot know.
            let wait = if self.rng.percent(60) { 1 } else { self.rng.between(1, 5) };
            Extensions { said, begin: said + wait }
        })
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
        let lag = match self.rng.below(2) {
            _ if slow => (MS, 30 * MS),
            0 => (20_000, 900_000),
            // A process that takes what has come in a while at once.
            _ => (100_000, 4 * MS),
        };
        let drift = if self.rng.percent(70) { 0 } else { self.rng.between(0, 400) };
        NodePlan {
            key,
            lag,
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
        if !good && count >= 5 && self.rng.percent(12) {
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
            adversary: None,
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

    /// A network that means ill, in some plans; it needs time, and little else beside it.
    fn adversary(&mut self, plan: &mut Plan) {
        let scheme = match self.rng.below(100) {
            0..6 => Scheme::Views,
            6..10 => Scheme::SecondCommit,
            _ => return,
        };
        plan.net.adversary = Some(scheme);
        plan.net.lost = 0;
        plan.heal.1 = self.rng.time((4 * SECOND, 9 * SECOND));
        if scheme == Scheme::SecondCommit {
            plan.net.unlinked.retain(|(a, b)| {
                plan.nodes.get(*a).map(|n| n.key) == plan.nodes.get(*b).map(|n| n.key)
            });
            for node in plan.nodes.iter_mut().filter(|node| !node.byzantine.is_empty()) {
                if node.byzantine != [Strategy::Twin] && self.rng.percent(60) {
                    node.byzantine = vec![Strategy::SecondCommit];
                }
            }
        } else {
            if self.rng.percent(25) {
                plan.heal = (14, self.rng.time((DEEP, 2 * DEEP)));
            }
            // The best ally of such a network is a primary that chooses among certificates.
            for node in plan.nodes.iter_mut().filter(|node| !node.byzantine.is_empty()) {
                if node.byzantine != [Strategy::Twin] && self.rng.percent(60) {
                    node.byzantine = vec![Strategy::ForgesNewView];
                }
            }
        }
    }

    fn faults(&mut self, plan: &mut Plan) {
        if plan.net.adversary.is_some() && self.rng.percent(70) {
            return;
        }
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
