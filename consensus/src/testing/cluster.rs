//! A network of replicas in one thread under virtual time: delivery order, loss, duplicates, partitions, crashes and restarts all
//! follow from one seed. The replica, its journal records and every signature are real.

use super::checker::Checker;
use super::{key, validators};
use crate::block::{Block, SealedBlock};
use crate::commit::{Commit, median_time};
use crate::key::Signature;
use crate::message::{Decided, Message, Phase, SignRequest, Signed, SignedMessage};
use crate::record::Record;
use crate::replica::{Action, HeightStart, Input, Replica, Settings, Timer};
use crate::schedule::Schedule;
use crate::sign_bytes;
use crate::status::Status;
use crate::validators::{ValidatorIndex, Validators};
use crate::verify::{Context, Direct};
use crate::view::View;
use bytes::Bytes;
use ed25519_dalek::Signer as _;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tendermint::Time;
use tendermint::block::{Header, Height};
use tendermint_proto::v0_38::types as pb;

const CHAIN_ID: &str = "cluster";
const TERM: u64 = 3;
/// Between two STATUS rounds.
const STATUS: Duration = Duration::from_millis(100);

/// What goes wrong.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Share of messages that are lost before `until`, in percent.
    pub loss: u32,
    /// Share of messages that arrive twice, in percent.
    pub duplicates: u32,
    /// The longest delay.
    pub delay: Duration,
    /// Share of milliseconds in which some replica crashes and restarts, in a thousand, before `until`.
    pub crashes: u32,
    /// Share of messages cut by a partition in two that changes every 500 ms, in percent of the time, before `until`.
    pub partitions: u32,
    /// From then on the network is good.
    pub until: Duration,
}

#[derive(Clone)]
enum Event {
    Deliver { from: ValidatorIndex, to: ValidatorIndex, message: Message },
    Status { from: ValidatorIndex, to: ValidatorIndex, status: Status },
    DecidedFor { to: ValidatorIndex, decided: Decided },
    Timer { at: ValidatorIndex, epoch: u32, timer: Timer },
    Tick,
    Input { at: ValidatorIndex, epoch: u32, input: Box<Input> },
}

struct Node {
    replica: Replica,
    journal: Vec<Record>,
    chain: Vec<Decided>,
    /// Counts restarts, so that what was under way before one is lost.
    epoch: u32,
}

/// The network.
pub struct Cluster {
    rng: StdRng,
    now: Duration,
    sequence: u64,
    events: BTreeMap<(Duration, u64), Event>,
    nodes: Vec<Node>,
    validators: Arc<Validators>,
    schedule: Arc<Schedule>,
    /// Which test key belongs to which index.
    keys: Vec<u8>,
    faults: Faults,
    checker: Checker,
    /// Who is on which side of the partition.
    sides: Vec<bool>,
    dead: Vec<bool>,
}

impl Cluster {
    /// A network of replicas with these powers.
    ///
    /// # Panics
    /// Where the powers make no set.
    #[must_use]
    pub fn new(seed: u64, powers: &[u64], faults: Faults) -> Cluster {
        let validators = Arc::new(validators(powers));
        let schedule = Arc::new(Schedule::new(&validators, TERM));
        let number = |address| (0u8..).find(|n| super::public(*n).address() == address);
        let keys: Vec<u8> =
            validators.list().iter().map(|v| number(v.address).expect("a test key")).collect();
        let mut cluster = Cluster {
            rng: StdRng::seed_from_u64(seed),
            now: Duration::ZERO,
            sequence: 0,
            events: BTreeMap::new(),
            nodes: Vec::new(),
            keys,
            faults,
            checker: Checker::default(),
            sides: vec![false; powers.len()],
            dead: vec![false; powers.len()],
            validators,
            schedule,
        };
        for index in (0u32..).take(powers.len()) {
            let replica = cluster.fresh_replica(index, &[]);
            cluster.nodes.push(Node { replica, journal: Vec::new(), chain: Vec::new(), epoch: 0 });
            cluster.feed(index, Input::Work(true));
        }
        cluster.schedule_event(STATUS, Event::Tick);
        cluster
    }

    /// Stops a replica for good.
    pub fn kill(&mut self, index: ValidatorIndex) {
        self.dead[index as usize] = true;
    }

    /// Runs until every living replica has decided `heights`, or `limit` of virtual time has passed. Returns when that was.
    ///
    /// # Errors
    /// The state of every replica, where the limit was reached.
    ///
    /// # Panics
    /// Where an invariant breaks.
    pub fn run(&mut self, heights: usize, limit: Duration) -> Result<Duration, String> {
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            if self.now > limit {
                return Err(self.describe());
            }
            self.happen(event);
            let living = self.nodes.iter().zip(&self.dead).filter(|(_, dead)| !**dead);
            if living.clone().all(|(node, _)| node.chain.len() >= heights) {
                return Ok(self.now);
            }
        }
        Err(self.describe())
    }

    /// The highest view in which any living replica is.
    #[must_use]
    pub fn highest_view(&self) -> View {
        self.nodes.iter().map(|node| node.replica.view()).max().unwrap_or_default()
    }

    fn describe(&self) -> String {
        let node = |node: &Node| {
            format!(
                "height {} view {} promise {:?} decided {}",
                node.replica.height(),
                node.replica.view(),
                node.replica.promise(),
                node.chain.len()
            )
        };
        let nodes: Vec<String> = self.nodes.iter().map(node).collect();
        format!("at {:?}: {}", self.now, nodes.join("; "))
    }

    fn schedule_event(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + after, self.sequence), event);
    }

    fn faulty(&self) -> bool {
        self.now < self.faults.until
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, message } => self.deliver(from, to, message),
            Event::Status { from, to, status } => self.answer(from, to, &status),
            Event::DecidedFor { to, decided } => {
                let height = self.nodes[to as usize].replica.height();
                if height == decided.commit.height {
                    let verified = self.context(height).decided(decided, &Direct);
                    self.feed(to, Input::Decided(verified.expect("a correct replica's DECIDED")));
                }
            }
            Event::Timer { at, epoch, timer } => {
                if self.nodes[at as usize].epoch == epoch {
                    self.feed(at, Input::Timer(timer));
                }
            }
            Event::Input { at, epoch, input } => {
                if self.nodes[at as usize].epoch == epoch {
                    self.feed(at, *input);
                }
            }
            Event::Tick => self.tick(),
        }
    }

    /// STATUS of every replica, crashes, partitions.
    fn tick(&mut self) {
        let count = self.count();
        if self.faulty() && self.now.subsec_millis() % 500 < 100 {
            let partitions = self.faults.partitions;
            let cut = self.chance(partitions);
            for side in 0..self.sides.len() {
                self.sides[side] = cut && self.rng.random();
            }
        } else if !self.faulty() {
            self.sides.fill(false);
        }
        if self.faulty() && self.rng.random_range(0..1000) < self.faults.crashes {
            let victim = self.rng.random_range(0..count);
            self.restart(victim);
        }
        for from in 0..count {
            if self.dead[from as usize] {
                continue;
            }
            let status = self.nodes[from as usize].replica.status(0..count);
            for to in (0..count).filter(|to| *to != from) {
                let status = status.clone();
                self.transmit(from, to, Event::Status { from, to, status });
            }
            for block_id in self.nodes[from as usize].replica.missing() {
                let holder = self.nodes.iter().find_map(|node| node.replica.block(&block_id));
                if let Some(Message::Block(block)) = holder {
                    self.feed(from, Input::Block(block));
                }
            }
        }
        self.schedule_event(STATUS, Event::Tick);
    }

    fn count(&self) -> ValidatorIndex {
        u32::try_from(self.nodes.len()).expect("a small network")
    }

    fn transmit(&mut self, from: ValidatorIndex, to: ValidatorIndex, event: Event) {
        let cut = self.sides[from as usize] != self.sides[to as usize];
        let loss = self.faults.loss;
        if self.dead[to as usize] || (self.faulty() && (cut || self.chance(loss))) {
            return;
        }
        let copies = if self.chance(self.faults.duplicates) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = self.rng.random_range(Duration::from_micros(50)..=self.faults.delay);
            self.schedule_event(delay, event.clone());
        }
    }

    fn context(&self, height: Height) -> Context<'_> {
        Context {
            chain_id: CHAIN_ID,
            height,
            validators: &self.validators,
            schedule: &self.schedule,
            extensions: false,
        }
    }

    /// Verifies as a node does, and feeds the replica.
    fn deliver(&mut self, _from: ValidatorIndex, to: ValidatorIndex, message: Message) {
        let input = match message {
            Message::Vote(vote) => {
                self.context(vote.message.height).vote(vote, &Direct).map(Input::Vote)
            }
            Message::ViewChange(message) => self
                .context(message.signed.message.height)
                .view_change(message, &Direct)
                .map(Input::ViewChange),
            Message::PrePrepare(message) => {
                self.context(message.height()).pre_prepare(message, &Direct).map(Input::PrePrepare)
            }
            Message::Prior(commit) => {
                self.context(commit.height).commit(commit, &Direct).map(Input::Prior)
            }
            Message::Block(block) => Ok(Input::Block(block)),
        };
        self.feed(to, input.expect("what a correct replica sends verifies"));
    }

    fn answer(&mut self, from: ValidatorIndex, to: ValidatorIndex, status: &Status) {
        let node = &self.nodes[to as usize];
        let messages = node.replica.answer(status);
        let index = usize::try_from(status.height.value() - 1).expect("a small height");
        let decided = node.chain.get(index).cloned();
        for message in messages {
            self.transmit(to, from, Event::Deliver { from: to, to: from, message });
        }
        if let Some(decided) = decided {
            self.transmit(to, from, Event::DecidedFor { to: from, decided });
        }
    }

    fn feed(&mut self, at: ValidatorIndex, input: Input) {
        if self.dead[at as usize] {
            return;
        }
        let actions = self.nodes[at as usize].replica.step(input);
        let (records, rest): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|action| matches!(action, Action::Persist(_)));
        for action in records {
            if let Action::Persist(record) = action {
                let height = record.height();
                let mut checker = std::mem::take(&mut self.checker);
                checker.persisted(at, &record, &self.context(height));
                self.checker = checker;
                self.nodes[at as usize].journal.push(record);
            }
        }
        for action in rest {
            self.carry_out(at, action);
        }
    }

    fn carry_out(&mut self, at: ValidatorIndex, action: Action) {
        let epoch = self.nodes[at as usize].epoch;
        match action {
            Action::Broadcast(message) => {
                self.checker.released(at, &message);
                for to in (0..self.count()).filter(|to| *to != at) {
                    let message = message.clone();
                    self.transmit(at, to, Event::Deliver { from: at, to, message });
                }
            }
            Action::Send(to, message) => {
                if let Some(to) = self.validators.index_of(&to) {
                    self.transmit(at, to, Event::Deliver { from: at, to, message });
                }
            }
            Action::Arm { timer, after } => {
                self.schedule_event(after, Event::Timer { at, epoch, timer });
            }
            Action::Sign(request) => {
                let input = Box::new(Input::Signed(self.sign(at, request)));
                let delay = self.rng.random_range(Duration::ZERO..Duration::from_millis(3));
                self.schedule_event(delay, Event::Input { at, epoch, input });
            }
            Action::Propose { height, view, last_commit } => {
                let block = self.build(at, height, last_commit);
                let input = Box::new(Input::Built { view, block });
                self.schedule_event(Duration::from_millis(1), Event::Input { at, epoch, input });
            }
            Action::Validate(block) => {
                let input = Box::new(Input::Validated { block_id: block.id(), accepted: true });
                self.schedule_event(Duration::from_millis(1), Event::Input { at, epoch, input });
            }
            Action::Decide(decided) => self.decided(at, decided),
            Action::Evidence(votes) => panic!("S11: evidence among correct replicas: {votes:?}"),
            Action::Alarm(what) => panic!("alarm among correct replicas: {what}"),
            Action::FetchBlock(_) | Action::Note(_) | Action::Persist(_) => {}
        }
    }

    fn decided(&mut self, at: ValidatorIndex, decided: Decided) {
        self.checker.decided(at, &decided.block, &decided.commit);
        let next = decided.commit.height.increment();
        self.nodes[at as usize].chain.push(decided);
        let start = self.start(next, None);
        self.feed(at, Input::Advance(start));
        self.feed(at, Input::Work(true));
    }

    fn start(&self, height: Height, prior: Option<Commit>) -> HeightStart {
        HeightStart {
            height,
            validators: self.validators.clone(),
            schedule: self.schedule.clone(),
            prior,
            extensions: false,
        }
    }

    fn fresh_replica(&self, index: ValidatorIndex, chain: &[Decided]) -> Replica {
        let settings = Settings {
            me: self.validators.at(index).map(|validator| validator.address),
            commit_grace: Duration::from_millis(20),
            disconnect_grace: Duration::from_millis(20),
            timeout: Duration::from_millis(400),
        };
        let prior = chain.last().map(|decided| decided.commit.clone());
        let height = u32::try_from(chain.len() + 1).expect("a small height");
        Replica::new(settings, self.start(Height::from(height), prior))
    }

    /// Everything that is not durable is lost.
    fn restart(&mut self, index: ValidatorIndex) {
        let node = &self.nodes[index as usize];
        let replica = self.fresh_replica(index, &node.chain);
        let height = replica.height();
        let records: Vec<Record> =
            node.journal.iter().filter(|record| record.height() == height).cloned().collect();
        let node = &mut self.nodes[index as usize];
        node.replica = replica;
        node.epoch += 1;
        for record in records {
            self.feed(index, Input::Restored(record));
        }
        self.feed(index, Input::Work(true));
    }

    fn sign(&self, at: ValidatorIndex, request: SignRequest) -> SignedMessage {
        let key = key(self.keys[at as usize]);
        let sign = |bytes: Vec<u8>| Signature(key.sign(&bytes).to_bytes());
        match request {
            SignRequest::Proposal(message) => {
                let signature = sign(sign_bytes::proposal(CHAIN_ID, &message));
                SignedMessage::Proposal(Signed { message, signature })
            }
            SignRequest::Vote { vote: mut message, .. } => {
                if message.phase == Phase::Commit {
                    message.time = message.time.max(clock(self.now));
                }
                let signature = sign(sign_bytes::vote(CHAIN_ID, &message));
                SignedMessage::Vote(Signed { message, signature })
            }
            SignRequest::ViewChange(message) => {
                let signature = sign(sign_bytes::view_change(CHAIN_ID, &message));
                SignedMessage::ViewChange(Signed { message, signature })
            }
        }
    }

    fn build(
        &mut self,
        at: ValidatorIndex,
        height: Height,
        last_commit: Option<Commit>,
    ) -> Arc<SealedBlock> {
        let time = match &last_commit {
            Some(commit) => median_time(commit, &self.validators).expect("a median"),
            None => clock(Duration::ZERO),
        };
        let proposer = self.validators.at(at).expect("a validator").address;
        let tx = Bytes::copy_from_slice(&self.rng.random::<u64>().to_be_bytes());
        let header = header(height, time, proposer, &self.validators, last_commit.as_ref());
        Arc::new(SealedBlock::seal(Block {
            header,
            txs: vec![tx],
            evidence: pb::EvidenceList::default(),
            last_commit,
        }))
    }
}

fn clock(now: Duration) -> Time {
    Time::from_unix_timestamp(1_700_000_000, 0)
        .ok()
        .and_then(|start| start.checked_add(now))
        .expect("a time")
}

/// A header for tests: nothing but what the replica looks at is real.
///
/// # Panics
/// Never.
#[must_use]
pub fn header(
    height: Height,
    time: Time,
    proposer_address: crate::key::Address,
    validators: &Validators,
    last_commit: Option<&Commit>,
) -> Header {
    Header {
        version: tendermint::block::header::Version { block: 11, app: 1 },
        chain_id: CHAIN_ID.try_into().expect("a chain id"),
        height,
        time,
        last_block_id: last_commit.map(|commit| commit.block_id),
        last_commit_hash: None,
        data_hash: None,
        validators_hash: validators.hash(),
        next_validators_hash: validators.hash(),
        consensus_hash: tendermint::Hash::Sha256([1; 32]),
        app_hash: tendermint::AppHash::default(),
        last_results_hash: None,
        evidence_hash: None,
        proposer_address,
    }
}
