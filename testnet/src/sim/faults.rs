//! What goes wrong: crashes, partitions and the like, and the healing.

use super::happening::What;
use super::keys::{key, peer};
use super::met::write_name;
use super::plan::{Fault, Kind, Seat};
use super::world::World;
use super::{MS, Nanos, SECOND};
use std::rc::Rc;
use std::sync::PoisonError;
use tercet_node::engine::Event;
use tercet_node::engine::run::Turn;

impl World {
    /// A fault of the plan begins.
    pub(crate) fn fault(&mut self, index: usize) {
        let plan = Rc::clone(&self.plan);
        let Some(timed) = plan.faults.get(index).filter(|_| !self.healed) else { return };
        self.coverage.met("fault", timed.fault.name());
        self.trace.fault(self.now, &timed.fault);
        match &timed.fault {
            Fault::Crash { seat, down, seen } => self.crash(*seat, Some(*down), *seen),
            Fault::Dead { seat, seen } => self.crash(*seat, None, *seen),
            Fault::PowerLoss { down } => {
                for seat in self.seats() {
                    let later = self.rng.time((0, 30 * MS));
                    self.crash(seat, Some(down + later), false);
                }
            }
            // The process ends, and starts again, when the failure shows.
            Fault::DiskFails { seat, .. } => self.node(*seat).disk.lock().fail_next(),
            Fault::Cut { from, to, lasts, both, noticed } => {
                let mut pairs = Vec::new();
                for a in from {
                    for b in to.iter().filter(|b| *b != a) {
                        pairs.push((*a, *b));
                        pairs.extend(both.then_some((*b, *a)));
                    }
                }
                self.cut_for(pairs, (0, *lasts), *noticed);
            }
            Fault::Swizzle { lasts } => self.swizzle(*lasts),
            Fault::Loss { percent, lasts } => {
                self.after(0, What::Loss { percent: *percent, on: true });
                self.after(*lasts, What::Loss { percent: *percent, on: false });
            }
            Fault::Mute { kind, percent, lasts } => {
                let mute = (*kind, *percent);
                self.after(0, What::Mute { mute, on: true });
                self.after(*lasts, What::Mute { mute, on: false });
            }
            Fault::Freeze { seat, lasts } => {
                let until = self.now + lasts;
                self.node_mut(*seat).frozen_until = until;
            }
            Fault::ClockJump { seat, by_ms } => self.node_mut(*seat).plan.clock_ms += by_ms,
            Fault::SlowApp { seat, each, lasts } => {
                self.node_mut(*seat).slow_app = Some(*each);
                self.after(*lasts, What::FastApp(*seat));
            }
            Fault::Signers { permille, lasts } => {
                self.signers(*permille);
                self.after(*lasts, What::SignersWell);
            }
        }
    }

    /// Messages of a kind are lost, or no more.
    pub(crate) fn mute(&mut self, mute: (Kind, u64), on: bool) {
        if on && !self.healed {
            self.muted.push(mute);
        } else if let Some(at) = self.muted.iter().position(|other| *other == mute) {
            self.muted.remove(at);
        }
    }

    /// How often signers fail from now on.
    pub(crate) fn signers(&mut self, permille: u64) {
        for node in self.nodes.iter().filter(|node| node.plan.byzantine.is_empty()) {
            node.signer_faults.lock().unwrap_or_else(PoisonError::into_inner).0 = permille;
        }
    }

    fn swizzle(&mut self, lasts: Nanos) {
        for _ in 0..2 * self.nodes.len() {
            let (a, b) = (self.rng.index(self.nodes.len()), self.rng.index(self.nodes.len()));
            let begins = self.rng.time((0, lasts));
            let ends = self.rng.time((begins, lasts));
            if a != b {
                let noticed = self.rng.percent(30);
                self.cut_for(vec![(a, b), (b, a)], (begins, ends), noticed);
            }
        }
    }

    fn cut_for(&mut self, pairs: Vec<(Seat, Seat)>, (begins, ends): (Nanos, Nanos), noticed: bool) {
        let index = self.cuts.len();
        if noticed {
            for (a, b) in &pairs {
                let after = begins + self.rng.time((100 * MS, SECOND));
                if after < ends {
                    let (at, of) = (*b, *a);
                    let life = self.links.see(of, at).life;
                    self.after(after, What::Noticed { at, of, refused: false, life });
                }
            }
        }
        self.cuts.push(pairs);
        self.after(begins, What::Cut { index, on: true });
        self.after(ends, What::Cut { index, on: false });
    }

    /// Links let nothing through any more, or do so again.
    pub(crate) fn cut(&mut self, index: usize, on: bool) {
        let pairs = self.cuts.get(index).cloned().unwrap_or_default();
        for (a, b) in pairs {
            let link = self.links.at(a, b);
            match (on, self.healed) {
                (true, false) => link.cuts += 1,
                (true, true) => {}
                (false, _) => link.cuts = link.cuts.saturating_sub(1),
            }
            if !on {
                self.connect_later(a, b);
            }
        }
    }

    /// Connects two nodes that are not, after a moment, if both are there and nothing is between them then.
    fn connect_later(&mut self, a: Seat, b: Seat) {
        let (there, back) = (self.links.see(a, b), self.links.see(b, a));
        if !there.allowed || (there.up && back.up && there.told && back.told) {
            return;
        }
        let after = self.rng.time((MS, 40 * MS));
        let epochs = (self.node(a).epoch, self.node(b).epoch);
        self.after(after, What::Connect { a, b, epochs });
    }

    /// A connection is there.
    pub(crate) fn connect(&mut self, a: Seat, b: Seat, epochs: (u32, u32)) {
        let same = (self.node(a).epoch, self.node(b).epoch) == epochs;
        let up = self.node(a).is_up() && self.node(b).is_up();
        let (there, back) = (self.links.see(a, b), self.links.see(b, a));
        let known = there.up && back.up && there.told && back.told;
        if !same || !up || there.cuts > 0 || back.cuts > 0 || known {
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            let link = self.links.at(from, to);
            link.up = true;
            link.life += 1;
            if std::mem::replace(&mut link.told, true) {
                self.tell(to, Event::PeerDown { peer: peer(from) });
            }
            let validator = Some(key(self.node(from).plan.key).address);
            self.tell(to, Event::PeerUp { peer: peer(from), validator });
        }
    }

    /// A node notices that a peer is gone.
    pub(crate) fn noticed(&mut self, (at, of): (Seat, Seat), refused: bool, life: u32) {
        let link = self.links.see(of, at);
        if link.life != life || !link.told {
            return;
        }
        for (from, to) in [(of, at), (at, of)] {
            self.links.at(from, to).up = false;
        }
        self.links.at(of, at).told = false;
        self.tell(at, Event::PeerDown { peer: peer(of) });
        let engine = self.node(at).engine.as_ref();
        let primary = key(self.node(of).plan.key).address;
        if refused && engine.is_some_and(|engine| engine.replica().primary() == primary) {
            self.coverage.met("rule", "the primary's connection refused");
        }
        if refused {
            self.tell(at, Event::PeerRefused { peer: peer(of) });
        }
        // Both ends see a connection close; it comes back where nothing is between them.
        if self.links.see(at, of).told && self.node(of).is_up() {
            self.links.at(at, of).told = false;
            self.tell(of, Event::PeerDown { peer: peer(at) });
        }
        if self.links.see(at, of).cuts == 0 && self.links.see(of, at).cuts == 0 {
            self.connect_later(at, of);
        }
    }

    /// A process dies; it comes back after `down`, or never. Of what waits for the disk, some is there and the rest is not.
    pub(crate) fn crash(&mut self, seat: Seat, down: Option<Nanos>, seen: bool) {
        if !self.node(seat).is_up() {
            return;
        }
        let unsynced = self.node(seat).disk.lock().unsynced() as u64;
        let kept = usize::try_from(self.rng.between(0, unsynced)).expect("a count");
        let before = self.node(seat).disk.lock().last_durable();
        let (writes, lost) = self.node(seat).disk.lock().crash(kept);
        if self.is_correct(seat) {
            let last = writes.last().map_or(before, |write| write_name(Some(write)));
            self.coverage.met("durable before a crash last", last);
            self.coverage.met("lost in a crash first", write_name(lost.as_ref()));
        }
        self.durable(seat, &writes);
        self.take_turn(seat);
        let node = self.node_mut(seat);
        node.engine = None;
        node.epoch += 1;
        node.inbox.clear();
        node.batches.clear();
        node.busy_until = 0;
        node.frozen_until = 0;
        node.sync_turn = false;
        node.dead = down.is_none();
        node.app.crash();
        node.late.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.trace.say(self.now, seat, || format!("DOWN, {kept} of {unsynced} writes on disk"));
        self.forget_links(seat, seen);
        if let Some(down) = down {
            self.after(down, What::Restart(seat));
        }
    }

    fn forget_links(&mut self, seat: Seat, seen: bool) {
        for other in self.seats().filter(|other| *other != seat) {
            for (from, to) in [(seat, other), (other, seat)] {
                self.links.at(from, to).up = false;
            }
            self.links.at(other, seat).told = false;
            let range = if seen { (100_000, 5 * MS) } else { (300 * MS, 2 * SECOND) };
            let after = self.rng.time(range);
            let life = self.links.see(seat, other).life;
            self.after(after, What::Noticed { at: other, of: seat, refused: seen, life });
        }
    }

    /// A process starts.
    pub(crate) fn restart(&mut self, seat: Seat) {
        if self.node(seat).is_up() || self.node(seat).dead {
            return;
        }
        let (plan, clocks) = (Rc::clone(&self.plan), self.clocks(seat));
        let again = self.node(seat).disk.lock().has_records(self.node(seat).app.height() + 1);
        if again && self.is_correct(seat) {
            self.coverage.met("rule", "restored from the journal");
        }
        let opened = self.node_mut(seat).open(&plan, clocks);
        self.trace.say(self.now, seat, || "UP".into());
        if self.node(seat).snapshot.load().hold.is_some() {
            self.coverage.met("rule", "held after a restart");
        }
        self.outcome(seat, opened.map(|()| Turn::Continue));
        for other in self.seats() {
            if self.node(other).is_up() && other != seat {
                self.connect_later(seat, other);
            }
        }
    }

    /// The network is good from now on, and nothing more goes wrong.
    pub(crate) fn heal(&mut self) {
        if std::mem::replace(&mut self.healed, true) {
            return;
        }
        self.trace.say_all(self.now, "HEALED");
        self.loss = 0;
        self.muted.clear();
        self.signers(0);
        for seat in self.seats() {
            self.node_mut(seat).slow_app = None;
            self.node_mut(seat).frozen_until = 0;
            self.wake(seat, self.now + MS);
            for other in self.seats() {
                self.links.at(seat, other).cuts = 0;
            }
        }
        for a in self.seats() {
            for b in a + 1..self.nodes.len() {
                if self.node(a).is_up() && self.node(b).is_up() {
                    self.connect_later(a, b);
                }
            }
        }
        self.begin_liveness();
    }
}
