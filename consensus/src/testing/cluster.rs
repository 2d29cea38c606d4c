//! A network of replicas in one thread under virtual time: delivery order, loss, duplicates, partitions, crashes and restarts all
//! follow from one seed. The replica, its journal records and every signature are real. A crash loses what was not yet synced, up to
//! any record; signers are slow, lose requests and answer twice; one validator may be a liar (see `liar.rs`).

use super::checker::Checker;
use super::liar::Liar;
use super::public;
use super::sets::Sets;
use crate::commit::Commit;
use crate::key::Address;
use crate::message::{Decided, Message};
use crate::record::Record;
use crate::replica::{Action, HeightStart, Input, Replica, Settings};
use crate::status::Status;
use crate::verify::{Context, Reject};
use crate::view::View;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tendermint::block::Height;

pub use super::sets::header;

/// The chain of every cluster.
pub const CHAIN_ID: &str = "cluster";
/// Between two STATUS rounds.
const STATUS: Duration = Duration::from_millis(100);
pub(super) const MS: Duration = Duration::from_millis(1);

/// A replica's place in the cluster; its validator key is that of the same number.
pub type Seat = u8;

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Share of messages that are lost before `until`, in percent.
    pub loss: u32,
    /// Share of messages that arrive twice, in percent.
    pub duplicates: u32,
    /// The longest delay.
    pub delay: Duration,
    /// Share of STATUS rounds in which some replica crashes and restarts, in a thousand, before `until`.
    pub crashes: u32,
    /// Share of half seconds in which a partition cuts the network in two, in percent, before `until`.
    pub partitions: u32,
    /// Share of signatures that are lost, late or doubled before `until`, in percent.
    pub signers: u32,
    /// Share of STATUS rounds in which some replica is held for a while, in a thousand, before `until`.
    pub holds: u32,
    /// From then on the network is good.
    pub until: Duration,
}

/// What a cluster is made of.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The power of each seat's validator at each height from which on it holds; 0 where it is none. The first entry is of height 1.
    pub powers: Vec<(u32, Vec<u64>)>,
    /// What goes wrong.
    pub faults: Faults,
    /// The seat of the liar.
    pub liar: Option<Seat>,
    /// The height from which on COMMITs carry vote extensions.
    pub extensions_from: Option<u32>,
}

#[derive(Clone)]
pub(super) enum Event {
    Deliver { to: Seat, message: Message, honest: bool },
    Status { from: Seat, to: Seat, status: Status },
    Decided { to: Seat, decided: Decided },
    Input { at: Seat, epoch: u32, input: Box<Input> },
    Synced { at: Seat, epoch: u32 },
    Tick,
}

/// One step's outcome that waits for the disk.
struct Batch {
    records: Vec<Record>,
    late: Vec<Action>,
}

pub(super) struct Node {
    pub(super) replica: Replica,
    pub(super) address: Address,
    journal: Vec<Record>,
    unsynced: VecDeque<Batch>,
    pub(super) chain: Vec<Decided>,
    /// Counts restarts, so that what was under way before one is lost.
    epoch: u32,
}

/// The network.
pub struct Cluster {
    pub(super) rng: StdRng,
    pub(super) now: Duration,
    sequence: u64,
    events: BTreeMap<(Duration, u64), Event>,
    pub(super) nodes: Vec<Node>,
    pub(super) sets: Sets,
    pub(super) faults: Faults,
    pub(super) checker: Checker,
    pub(super) liar: Option<Liar>,
    /// Who is on which side of the partition.
    sides: Vec<bool>,
    dead: Vec<bool>,
    /// Steps taken by all replicas.
    steps: u64,
}

impl Cluster {
    /// A network of replicas at height 1.
    ///
    /// # Panics
    /// Where the powers make no set.
    #[must_use]
    pub fn new(seed: u64, options: Options) -> Cluster {
        let seats = options.powers.first().map_or(0, |(_, powers)| powers.len());
        let mut cluster = Cluster {
            rng: StdRng::seed_from_u64(seed),
            now: Duration::ZERO,
            sequence: 0,
            events: BTreeMap::new(),
            nodes: Vec::new(),
            sets: Sets::new(&options.powers, options.extensions_from),
            faults: options.faults,
            checker: Checker::default(),
            liar: options.liar.map(Liar::new),
            sides: vec![false; seats],
            dead: vec![false; seats],
            steps: 0,
        };
        for seat in (0u8..).take(seats) {
            let address = public(seat).address();
            let replica = cluster.fresh_replica(address, &[]);
            let (journal, unsynced, chain) = (Vec::new(), VecDeque::new(), Vec::new());
            cluster.nodes.push(Node { replica, address, journal, unsynced, chain, epoch: 0 });
        }
        for seat in cluster.seats() {
            cluster.feed(seat, Input::Work(true));
        }
        cluster.schedule_event(STATUS, Event::Tick);
        cluster
    }

    /// Stops a replica for good. `seen`: its peers see its connections refused.
    pub fn kill(&mut self, seat: Seat, seen: bool) {
        self.dead[usize::from(seat)] = true;
        let validator = self.node(seat).address;
        for other in self.seats().filter(|other| seen && *other != seat) {
            self.feed(other, Input::Down { validator, down: true });
        }
    }

    /// A power loss: every replica restarts, losing what was not synced.
    pub fn restart_all(&mut self) {
        for seat in self.seats() {
            self.restart(seat);
        }
    }

    /// Runs until every living correct replica has decided `heights`, or `limit` of virtual time has passed. Returns when that was.
    ///
    /// # Errors
    /// The state of every replica, where the limit was reached.
    ///
    /// # Panics
    /// Where an invariant breaks.
    pub fn run(&mut self, heights: usize, limit: Duration) -> Result<Duration, String> {
        loop {
            if self.seats().filter(|s| self.counts(*s)).all(|s| self.node(s).chain.len() >= heights)
            {
                return Ok(self.now);
            }
            let next = self.events.first_entry().filter(|next| next.key().0 <= limit);
            let Some(((at, _), event)) = next.map(|next| next.remove_entry()) else {
                return Err(self.describe());
            };
            self.now = at;
            self.happen(event);
        }
    }

    /// The most heights that any correct replica has decided.
    #[must_use]
    pub fn tip(&self) -> usize {
        self.seats()
            .filter(|s| self.counts(*s))
            .map(|s| self.node(s).chain.len())
            .max()
            .unwrap_or(0)
    }

    /// The highest view in which any replica is.
    #[must_use]
    pub fn highest_view(&self) -> View {
        self.nodes.iter().map(|node| node.replica.view()).max().unwrap_or_default()
    }

    /// How many inputs all replicas have taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    fn counts(&self, seat: Seat) -> bool {
        !self.dead[usize::from(seat)] && !self.lies(seat)
    }

    pub(super) fn lies(&self, seat: Seat) -> bool {
        self.liar.as_ref().is_some_and(|liar| liar.seat == seat)
    }

    pub(super) fn node(&self, seat: Seat) -> &Node {
        &self.nodes[usize::from(seat)]
    }

    pub(super) fn seats(&self) -> impl Iterator<Item = Seat> + use<> {
        (0u8..).take(self.nodes.len())
    }

    fn describe(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(|node| node.replica.summary()).collect();
        format!("at {:?}: {}", self.now, nodes.join("; "))
    }

    fn schedule_event(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + after, self.sequence), event);
    }

    pub(super) fn faulty(&self) -> bool {
        self.now < self.faults.until
    }

    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { to, message, honest } => self.deliver(to, message, honest),
            Event::Status { from, to, status } => self.answer(from, to, &status),
            Event::Decided { to, decided } => {
                let height = decided.commit.height;
                if self.node(to).replica.height() == height {
                    let verified = self.sets.context(height).decided(decided, &self.sets.check);
                    self.feed(to, Input::Decided(verified.expect("a replica's DECIDED")));
                }
            }
            Event::Input { at, epoch, input } if self.node(at).epoch == epoch => {
                self.feed(at, *input)
            }
            Event::Synced { at, epoch } if self.node(at).epoch == epoch => self.synced(at),
            Event::Input { .. } | Event::Synced { .. } => {}
            Event::Tick => self.tick(),
        }
    }

    /// STATUS of every replica, crashes, holds, partitions.
    fn tick(&mut self) {
        if !self.faulty() {
            self.sides.fill(false);
        } else if self.now.subsec_millis() % 500 < 100 {
            let percent = self.faults.partitions;
            let cut = self.chance(percent);
            for side in 0..self.sides.len() {
                self.sides[side] = cut && self.rng.random();
            }
        }
        if self.faulty() && self.rng.random_range(0..1000) < self.faults.crashes {
            let victim = self.random_seat();
            self.restart(victim);
        }
        if self.faulty() && self.rng.random_range(0..1000) < self.faults.holds {
            let (victim, until) = (self.random_seat(), self.rng.random_range(MS..600 * MS));
            self.feed(victim, Input::Hold(true));
            self.feed_later(victim, Input::Hold(false), until);
        }
        for seat in self.seats() {
            if !self.dead[usize::from(seat)] {
                self.send_status(seat);
            }
        }
        self.schedule_event(STATUS, Event::Tick);
    }

    fn random_seat(&mut self) -> Seat {
        let count = u8::try_from(self.nodes.len()).expect("a small network");
        self.rng.random_range(0..count)
    }

    fn send_status(&mut self, from: Seat) {
        if !self.node(from).unsynced.is_empty() {
            return;
        }
        let replica = &self.node(from).replica;
        let (status, missing) = (replica.status([]), replica.missing());
        for to in self.seats().filter(|to| *to != from) {
            let status = status.clone();
            self.transmit(from, to, Event::Status { from, to, status });
        }
        for block_id in missing {
            for other in self.seats().filter(|other| *other != from) {
                if let Some(message) = self.node(other).replica.block(&block_id) {
                    self.send(other, from, message);
                }
            }
        }
    }

    pub(super) fn send(&mut self, from: Seat, to: Seat, message: Message) {
        let honest = !self.lies(from);
        self.transmit(from, to, Event::Deliver { to, message, honest });
    }

    fn transmit(&mut self, from: Seat, to: Seat, event: Event) {
        let cut = self.sides[usize::from(from)] != self.sides[usize::from(to)];
        let loss = self.faults.loss;
        if self.dead[usize::from(to)] || (self.faulty() && (cut || self.chance(loss))) {
            return;
        }
        let copies = if self.chance(self.faults.duplicates) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = self.rng.random_range(Duration::from_micros(50)..=self.faults.delay);
            self.schedule_event(delay, event.clone());
        }
    }

    /// Verifies as a node does, and feeds the replica. What a correct replica sends always verifies, where the height is known.
    fn deliver(&mut self, to: Seat, message: Message, honest: bool) {
        match self.verify(message.clone()) {
            Ok(input) => {
                self.feed(to, input);
                if self.lies(to) {
                    self.lie_about(&message);
                }
            }
            Err(reject) => assert!(!honest, "a correct replica's message: {reject}: {message:?}"),
        }
    }

    fn verify(&self, message: Message) -> Result<Input, Reject> {
        let at = |height| -> Context<'_> { self.sets.context(height) };
        Ok(match message {
            Message::Vote(vote) => {
                Input::Vote(at(vote.message.height).vote(vote, &self.sets.check)?)
            }
            Message::ViewChange(message) => Input::ViewChange(
                at(message.signed.message.height).view_change(message, &self.sets.check)?,
            ),
            Message::PrePrepare(message) => {
                Input::PrePrepare(at(message.height()).pre_prepare(message, &self.sets.check)?)
            }
            Message::Prior(commit) => {
                Input::Prior(at(commit.height).commit(commit, &self.sets.check)?)
            }
            Message::Block(block) => Input::Block(block),
        })
    }

    fn answer(&mut self, from: Seat, to: Seat, status: &Status) {
        if !self.node(to).unsynced.is_empty() {
            return; // A node answers between steps, when all is durable.
        }
        let index = usize::try_from(status.height.value() - 1).expect("a small height");
        if let Some(decided) = self.node(to).chain.get(index).cloned() {
            self.transmit(to, from, Event::Decided { to: from, decided });
        }
        for message in self.node(to).replica.answer(status) {
            if !self.lies(to) {
                self.checker
                    .resent(&self.sets.scene(self.node(to).address, status.height, None), &message);
            }
            self.send(to, from, message);
        }
    }

    pub(super) fn feed_later(&mut self, at: Seat, input: Input, after: Duration) {
        let (epoch, input) = (self.node(at).epoch, Box::new(input));
        self.schedule_event(after, Event::Input { at, epoch, input });
    }

    pub(super) fn feed(&mut self, at: Seat, input: Input) {
        if self.dead[usize::from(at)] {
            return;
        }
        self.steps += 1;
        let replica = &mut self.nodes[usize::from(at)].replica;
        let actions = replica.step(input);
        self.checker.bounded(&replica.kept(), self.sides.len());
        let (mut records, mut late) = (Vec::new(), Vec::new());
        for action in actions {
            match action {
                Action::Persist(record) => records.push(record),
                Action::Broadcast(Message::Block(_)) => self.carry_out(at, action),
                Action::Broadcast(_) | Action::Send(..) | Action::Decide(_) => late.push(action),
                _ => self.carry_out(at, action),
            }
        }
        let node = &mut self.nodes[usize::from(at)];
        if records.is_empty() && node.unsynced.is_empty() {
            late.into_iter().for_each(|action| self.carry_out(at, action));
        } else {
            node.unsynced.push_back(Batch { records, late });
            let epoch = node.epoch;
            let after = self.rng.random_range(Duration::ZERO..4 * MS);
            self.schedule_event(after, Event::Synced { at, epoch });
        }
    }

    /// The oldest batch is on disk: what waited for it leaves.
    fn synced(&mut self, at: Seat) {
        let Some(batch) = self.nodes[usize::from(at)].unsynced.pop_front() else { return };
        self.write(at, batch.records);
        batch.late.into_iter().for_each(|action| self.carry_out(at, action));
    }

    fn write(&mut self, at: Seat, records: Vec<Record>) {
        for record in records {
            if !self.lies(at) {
                let scene =
                    self.sets.scene(self.node(at).address, record.height(), self.liar.as_ref());
                self.checker.persisted(&scene, &record);
            }
            self.nodes[usize::from(at)].journal.push(record);
        }
    }

    pub(super) fn start(&self, height: Height, prior: Option<Commit>) -> HeightStart {
        let (validators, schedule) = self.sets.at(height).clone();
        let at = height.value();
        let (extensions, prior_extensions) = (self.sets.extends(at), self.sets.extends(at - 1));
        HeightStart { height, validators, schedule, prior, extensions, prior_extensions }
    }

    fn fresh_replica(&self, me: Address, chain: &[Decided]) -> Replica {
        let settings = Settings {
            me: Some(me),
            commit_grace: 20 * MS,
            disconnect_grace: 20 * MS,
            timeout: 400 * MS,
        };
        let prior = chain.last().map(|decided| decided.commit.clone());
        let height = u32::try_from(chain.len() + 1).expect("a small height");
        Replica::new(settings, self.start(Height::from(height), prior))
    }

    /// What was not synced is lost, from some record on.
    fn restart(&mut self, seat: Seat) {
        let unsynced = std::mem::take(&mut self.nodes[usize::from(seat)].unsynced);
        let mut records: Vec<Record> =
            unsynced.into_iter().flat_map(|batch| batch.records).collect();
        let written = self.rng.random_range(0..=records.len());
        records.truncate(written);
        self.write(seat, records);
        let node = self.node(seat);
        let replica = self.fresh_replica(node.address, &node.chain);
        let height = replica.height();
        let records: Vec<Record> =
            node.journal.iter().filter(|record| record.height() == height).cloned().collect();
        let node = &mut self.nodes[usize::from(seat)];
        node.replica = replica;
        node.epoch += 1;
        let hold = self.rng.random();
        self.feed(seat, Input::Hold(hold));
        for record in records {
            self.feed(seat, Input::Restored(record));
        }
        self.feed(seat, Input::Work(true));
        self.feed_later(seat, Input::Hold(false), 100 * MS);
    }
}
