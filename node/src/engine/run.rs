//! The engine's thread: one match over events, one over actions.

use super::heights::Sets;
use super::journaled::Journaled;
use super::pace::Pace;
use super::peers::Peers;
use super::timers::Timers;
use super::work::{Work, WorkSettings};
use super::{EngineError, Event, Origin};
use crate::audit::{Audit, Discarded};
use crate::mempool::RelayMap;
use crate::execution::{Applied, Done, ExecutionError, Job};
use crate::network::{Class, Network, PeerId};
use crate::store::Chain;
use crate::sync::SyncHandle;
use crate::wire::{Consensus, FetchBlock, Frame};
use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tendermint::block::Height;
use tercet_consensus::key::Address;
use tercet_consensus::message::{Decided, Message, Phase};
use tercet_consensus::replica::{Action, HeightStart, Input, Note, VOTE_VIEWS_MAX};
use tercet_consensus::status::Status;
use tercet_consensus::view::View;

/// The most events that are taken into one batch, that is, into one sync.
const BATCH_MAX: usize = 512;
/// The shortest time between two STATUS rounds.
const STATUS_MIN: Duration = Duration::from_millis(75);
/// The time between two STATUS rounds while nothing goes on.
const STATUS_IDLE: Duration = Duration::from_millis(500);
/// After how many heights the journal is pruned.
const CHECKPOINT_HEIGHTS: u64 = 64;

/// What the engine is made of.
pub struct Parts {
    /// Replica and journal.
    pub core: Journaled,
    /// Validator sets by height.
    pub sets: Sets,
    /// The chain database, for heights that were decided.
    pub chain: Chain,
    /// The network.
    pub network: Network,
    /// Jobs for the application's thread.
    pub jobs: Sender<Job>,
    /// What the engine is told.
    pub events: Receiver<Event>,
    /// The pool of transactions.
    pub pool: Arc<dyn Pool>,
    /// Who catches up when peers are ahead.
    pub sync: SyncHandle,
    /// What was thrown away.
    pub audit: Audit,
    /// T.
    pub pace: Pace,
    /// When a block is due.
    pub work: WorkSettings,
    /// Sign nothing up to this height: the data is stale.
    pub stale_until: Option<Height>,
    /// To whom transactions of peers are passed on, for the mempool.
    pub relay: RelayMap,
    /// Where others read the engine's state.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
}

/// What the engine asks of the pool.
pub trait Pool: Send + Sync {
    /// Whether a transaction waits that is worth a block.
    fn has_work(&self) -> bool;
    /// Who is primary: transactions go straight there.
    fn primary(&self, peer: Option<PeerId>);
    /// Whether the primary should be suspected, because it left a transaction out of several blocks with room for it; once a
    /// transaction.
    fn suspects(&self) -> bool;
}

/// The engine's state, for those who only look.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Height, 0 before the start.
    pub height: u64,
    /// View.
    pub view: u32,
    /// Start view of the height.
    pub start_view: u32,
    /// Promised view.
    pub promise: Option<u32>,
    /// View and block hash of what is prepared.
    pub prepared: Option<(u32, String)>,
    /// The primary's address.
    pub primary: String,
    /// Whether this node is a validator at this height.
    pub validator: bool,
    /// Why nothing is signed, where that is so.
    pub hold: Option<&'static str>,
    /// T in milliseconds.
    pub timeout_ms: u64,
    /// Validators directly connected.
    pub connected: Vec<String>,
    /// Whether peers are ahead.
    pub behind: bool,
    /// View changes since the start.
    pub view_changes: u64,
}

/// The engine.
pub struct Engine {
    parts: Parts,
    me: Option<Address>,
    peers: Peers,
    timers: Timers,
    work: Work,
    /// The last height that the application has executed.
    applied: Option<Height>,
    hold: Hold,
    next_status: Instant,
    /// Whether a message of this height has come, or there is something to order.
    active: bool,
    /// The height at the last STATUS round.
    status_height: Option<Height>,
    view_changes: u64,
    /// The term in which the last suspicion was raised.
    suspected_term: Option<u64>,
    failure: Option<EngineError>,
}

/// Why nothing is signed.
#[derive(Debug)]
struct Hold {
    /// Until peers were heard or this moment has passed.
    restart: Option<Instant>,
    /// Validators heard since the start.
    heard: BTreeSet<Address>,
    stale_until: Option<Height>,
    key_elsewhere: bool,
    /// The journal has records of later heights.
    restoring: bool,
    /// Decided blocks are coming in.
    ingesting: bool,
    /// What the replica was told last.
    told: bool,
}

impl Engine {
    /// An engine that goes on after the last executed height.
    #[must_use]
    pub fn new(parts: Parts, me: Option<Address>, applied: Option<Height>) -> Engine {
        let now = Instant::now();
        let hold = Hold {
            restart: Some(now + parts.pace.timeout()),
            heard: BTreeSet::new(),
            stale_until: parts.stale_until,
            key_elsewhere: false,
            restoring: false,
            ingesting: false,
            told: false,
        };
        Engine {
            work: Work::new(parts.work.clone(), now),
            me,
            peers: Peers::default(),
            timers: Timers::default(),
            applied,
            hold,
            next_status: now,
            active: false,
            status_height: None,
            view_changes: 0,
            suspected_term: None,
            failure: None,
            parts,
        }
    }

    /// Runs until it is told to stop, or fails.
    ///
    /// # Errors
    /// Why it cannot go on.
    pub fn run(mut self) -> Result<(), EngineError> {
        self.restore()?;
        self.parts.sets.publish(self.height());
        loop {
            let mut inputs = Vec::new();
            if !self.gather(&mut inputs)? {
                return Ok(());
            }
            self.tick(&mut inputs);
            self.step(inputs)?;
            while self.try_advance()? {}
            self.look();
            self.publish();
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
        }
    }

    /// Replays what the journal has of this height.
    fn restore(&mut self) -> Result<(), EngineError> {
        self.hold.told = true;
        for action in self.parts.core.restore()? {
            self.carry_out(action);
        }
        Ok(())
    }

    fn height(&self) -> Height {
        self.parts.core.replica().height()
    }

    /// Waits for events, at most to the next deadline, and takes all that are there. False: stop.
    fn gather(&mut self, inputs: &mut Vec<Input>) -> Result<bool, EngineError> {
        let first = match self.parts.events.recv_deadline(self.deadline()) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Err(EngineError::PartEnded("the network")),
        };
        let rest = self.parts.events.clone();
        for event in first.into_iter().chain(rest.try_iter().take(BATCH_MAX)) {
            if matches!(event, Event::Stop) {
                return Ok(false);
            }
            self.take(event, inputs);
        }
        Ok(true)
    }

    fn deadline(&self) -> Instant {
        let deadlines = [self.timers.next(), self.hold.restart, self.work.next_check()];
        deadlines.into_iter().flatten().fold(self.next_status, Instant::min)
    }

    /// The match over events.
    fn take(&mut self, event: Event, inputs: &mut Vec<Input>) {
        match event {
            Event::Input { input, origin } => self.take_input(*input, origin, inputs),
            Event::Status { peer, status } => self.take_status(peer, &status),
            Event::FetchBlock { peer, height, block_id } => self.serve_block(peer, height, &block_id),
            Event::Executed(done) => self.take_executed(*done, inputs),
            Event::PeerUp { peer, validator } => {
                self.peers.up(peer, validator);
                self.send_status(Some(peer));
                self.map_relays();
                self.point_pool();
                inputs.extend(validator.map(|validator| Input::Down { validator, down: false }));
            }
            Event::PeerDown { peer } => {
                self.peers.down(&peer);
                self.map_relays();
            }
            Event::PeerRefused { peer } => {
                let validator = self.peers.validator_of(&peer);
                inputs.extend(validator.map(|validator| Input::Down { validator, down: true }));
            }
            Event::KeyElsewhere { peer } => {
                tracing::error!(%peer, "another node holds this validator key: this one signs nothing more; stop one of the two");
                self.hold.key_elsewhere = true;
            }
            Event::Pool | Event::Stop => {}
        }
    }

    fn take_input(&mut self, input: Input, origin: Option<Origin>, inputs: &mut Vec<Input>) {
        if let Some(origin) = &origin {
            self.relay(origin);
        }
        self.set_active();
        if let Input::Vote(vote) = &input {
            if vote.message.phase == Phase::Commit {
                self.parts.pace.commit(vote.message.height, Instant::now());
            }
            let mine = self.me == Some(vote.message.validator);
            if mine && !self.parts.core.replica().has_vote(&vote.message) {
                self.own_vote_from_elsewhere(vote.message.height, vote.message.view);
                return;
            }
        }
        inputs.push(input);
    }

    /// A valid signature of this key that the journal lacks: the data is stale, or another node has the key.
    fn own_vote_from_elsewhere(&mut self, height: Height, view: View) {
        let replica = self.parts.core.replica();
        // Votes of views that lie far back are no longer kept.
        let kept = u64::from(view.number()) + VOTE_VIEWS_MAX as u64 > u64::from(replica.view().number());
        if height != self.height() || replica.is_decided() || !kept {
            return;
        }
        let until = height.value() + super::journaled::RESERVATION_HEIGHTS;
        let until = Height::try_from(until).unwrap_or(height);
        if self.hold.stale_until.is_none_or(|stale| stale < until) {
            tracing::error!(
                %height, %until,
                "a peer shows a signature of this validator that its journal lacks: signing nothing until the chain has passed it"
            );
            self.hold.stale_until = Some(until);
        }
    }

    fn relay(&mut self, origin: &Origin) {
        let Some(author) = &origin.author else { return };
        for peer in self.peers.relay_to(&origin.frame, &origin.peer, author) {
            self.send(peer, origin.class, origin.frame.clone());
        }
    }

    fn take_status(&mut self, peer: PeerId, status: &Status) {
        let height = self.height();
        let direct = self.parts.sets.at(status.height).map(|info| {
            let list = (0u32..).zip(info.validators.list());
            list.filter(|(index, _)| status.direct.has(*index)).map(|(_, v)| v.address).collect()
        });
        let Some(known) = self.peers.get_mut(&peer) else { return };
        known.height = Some(status.height);
        let before = known.direct.clone();
        if let Some(direct) = direct {
            known.direct = direct;
        }
        let changed = !std::mem::replace(&mut known.heard, true) || before != known.direct;
        let validator = known.validator;
        if changed {
            self.map_relays();
        }
        self.hold.heard.extend(validator);
        self.parts.sync.peer_is_at(peer, status.height);
        if status.height < height {
            self.parts.sync.tell_tip(peer);
            return;
        }
        for message in self.parts.core.replica().answer(status) {
            self.send_message(peer, &message);
        }
    }

    fn map_relays(&self) {
        self.parts.relay.store(Arc::new(self.peers.relay_map()));
    }

    fn serve_block(&mut self, peer: PeerId, height: Height, id: &tercet_consensus::block::BlockId) {
        if let Some(message) = self.parts.core.replica().block(id) {
            self.send_message(peer, &message);
            return;
        }
        match self.parts.chain.block(height) {
            Ok(Some(block)) if block.id() == *id => self.send_message(peer, &Message::Block(block)),
            Ok(_) => {}
            Err(error) => tracing::warn!(%height, %error, "a block cannot be served"),
        }
    }

    fn take_executed(&mut self, done: Done, inputs: &mut Vec<Input>) {
        match done {
            Done::Proposed { height, view, block } => {
                if height == self.height() {
                    inputs.push(Input::Built { view, block });
                }
            }
            Done::Validated { block_id, result } => {
                if let Err(refusal) = &result {
                    tracing::warn!(block = %block_id.hash, "block refused: {refusal}");
                }
                inputs.push(Input::Validated { block_id, accepted: result.is_ok() });
            }
            Done::Applied(outcome) => self.take_applied(&outcome.applied, outcome.app_hash_changed),
            Done::Failed(ExecutionError::Store(error)) => self.failure = Some(EngineError::Chain(error)),
            Done::Failed(error) => self.failure = Some(EngineError::Execution(error.to_string())),
        }
    }

    fn take_applied(&mut self, applied: &Arc<Applied>, app_hash_changed: bool) {
        self.applied = Some(applied.height);
        let state = &applied.state;
        let next = applied.height.increment();
        let bytes_max = crate::execution::block::block_bytes_max(&state.params);
        self.parts.sets.learn(next, &state.validators, bytes_max);
        self.parts.sets.learn(next.increment(), &state.next_validators, bytes_max);
        self.work.applied(applied.height, app_hash_changed);
        self.parts.sets.publish(self.height());
        if applied.height.value().is_multiple_of(CHECKPOINT_HEIGHTS)
            // The chain database holds the block and what it led to durably: it was synced before the application's Commit.
            && let Err(error) = self.parts.core.prune_below(applied.height)
        {
            self.failure = Some(error);
        }
    }

    /// Everything that is due by the clock.
    fn tick(&mut self, inputs: &mut Vec<Input>) {
        let now = Instant::now();
        inputs.extend(self.timers.due(now).into_iter().map(Input::Timer));
        if now >= self.next_status {
            self.next_status = now + self.status_interval();
            if self.status_height == Some(self.height()) {
                self.send_status(None);
                self.fetch_missing();
            }
            self.status_height = Some(self.height());
        }
        self.update_hold(now, inputs);
        self.update_work(now, inputs);
    }

    /// A quarter of T; longer while nothing goes on at this height, so that an idle network costs little.
    fn status_interval(&self) -> Duration {
        if self.active { (self.parts.pace.timeout() / 4).max(STATUS_MIN) } else { STATUS_IDLE }
    }

    /// Something goes on at this height: STATUS comes often from now on.
    fn set_active(&mut self) {
        if !self.active {
            self.active = true;
            self.next_status = self.next_status.min(Instant::now() + self.status_interval());
        }
    }

    fn update_hold(&mut self, now: Instant, inputs: &mut Vec<Input>) {
        if self.hold.restart.is_some_and(|until| now >= until || self.heard_enough()) {
            self.hold.restart = None;
        }
        if self.hold.stale_until.is_some_and(|until| self.height() > until) {
            self.hold.stale_until = None;
            tracing::info!("the chain has passed the signing reservation: signing again");
        }
        self.hold.restoring = self.parts.core.is_restoring();
        self.hold.ingesting = self.parts.sync.is_ingesting(now);
        let hold = self.hold.reason().is_some();
        if hold != self.hold.told {
            self.hold.told = hold;
            inputs.push(Input::Hold(hold));
        }
    }

    /// STATUS from more than a third of the power of the others, or there is no other.
    fn heard_enough(&self) -> bool {
        let validators = self.parts.core.replica().validators();
        let others = validators.list().iter().filter(|v| Some(v.address) != self.me);
        let (mut total, mut heard) = (0u64, 0u64);
        for validator in others {
            total += validator.power;
            heard += if self.hold.heard.contains(&validator.address) { validator.power } else { 0 };
        }
        total == 0 || heard > total / 3
    }

    fn update_work(&mut self, now: Instant, inputs: &mut Vec<Input>) {
        let height = self.height();
        let ready = self.applied.is_none_or(|applied| applied.increment() >= height);
        let due = self.work.is_due(now, height, self.parts.pool.has_work()) && ready;
        if self.work.tell(height, due) {
            inputs.push(Input::Work(due));
        }
        if due {
            self.set_active();
        }
        let replica = self.parts.core.replica();
        let term = height.value() / self.parts.work.term.max(1);
        if self.suspected_term != Some(term) && self.parts.pool.suspects() {
            self.suspected_term = Some(term);
            inputs.push(Input::Suspect { height, view: replica.view() });
        }
    }

    fn step(&mut self, inputs: Vec<Input>) -> Result<(), EngineError> {
        let mut early = Vec::new();
        let late = {
            let (jobs, network) = (&self.parts.jobs, &self.parts.network);
            self.parts.core.step(inputs, &mut |action| match action {
                Action::Validate(block) => drop(jobs.send(Job::Validate(block))),
                Action::Propose { height, view, last_commit } => {
                    drop(jobs.send(Job::Propose { height, view, last_commit }));
                }
                Action::Broadcast(message) => broadcast(network, &message),
                other => early.push(other),
            })?
        };
        for action in early.into_iter().chain(late) {
            self.carry_out(action);
        }
        let replica = self.parts.core.replica();
        if replica.has_accepted() && !replica.is_decided() {
            self.parts.pace.accepted(replica.height(), Instant::now());
        }
        Ok(())
    }

    /// The match over actions. Everything that an action of this step needed durable is durable.
    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Broadcast(message) => broadcast(&self.parts.network, &message),
            Action::Send(validator, message) => {
                if let Some(peer) = self.peers.peer_of(&validator) {
                    self.send_message(peer, &message);
                }
            }
            Action::Arm { timer, after } => self.timers.arm(timer, Instant::now() + after),
            Action::Decide(decided) => self.decided(decided),
            Action::Evidence(votes) => {
                let (first, second) = *votes;
                tracing::error!(validator = %first.message.validator, height = %first.message.height,
                    "a validator signed two votes for one height and view");
                self.parts.audit.discard(Discarded::equivocation(first.message.validator));
                drop(second);
            }
            Action::FetchBlock(_) => self.fetch_missing(),
            Action::Alarm(what) => self.failure = Some(EngineError::Alarm(what)),
            Action::Note(note) => self.note(note),
            // `Journaled` keeps these to itself or gives them out early.
            Action::Persist(_) | Action::Sign(_) | Action::Validate(_) | Action::Propose { .. } => {}
        }
    }

    fn note(&mut self, note: Note) {
        let height = self.height();
        match note {
            Note::ViewChange { view, cause } => {
                self.view_changes += 1;
                tracing::info!(%height, %view, ?cause, "view change");
            }
            Note::Entered { view, primary } => tracing::info!(%height, %view, %primary, "new view"),
            Note::Equivocation(view) => {
                tracing::error!(%height, %view, "the primary signed two proposals for one view");
            }
            Note::Refused(block_id) => tracing::warn!(%height, block = %block_id.hash, "refused"),
        }
    }

    fn decided(&mut self, decided: Decided) {
        let replica = self.parts.core.replica();
        if replica.saw_view_change() {
            self.parts.pace.view_change(replica.height());
        }
        self.work.decided(Instant::now());
        let Decided { block, commit } = decided;
        // A closed channel means that the node is stopping.
        drop(self.parts.jobs.send(Job::Apply { block, commit }));
    }

    /// Moves a decided replica to the next height, once its validators are known. True where it moved.
    fn try_advance(&mut self) -> Result<bool, EngineError> {
        let replica = self.parts.core.replica();
        let next = replica.height().increment();
        let Some(info) = self.parts.sets.at(next).filter(|_| replica.is_decided()) else {
            return Ok(false);
        };
        let start = HeightStart {
            height: next,
            validators: info.validators.clone(),
            schedule: info.schedule.clone(),
            prior: None,
            extensions: false,
        };
        let timeout = self.parts.pace.timeout();
        self.parts.sets.publish(next);
        self.work.new_height();
        self.active = false;
        if self.hold.ingesting {
            // What this validator signed here before its data was lost comes with the answers.
            self.set_active();
        }
        let mut inputs = vec![Input::Timeout(timeout), Input::Advance(start)];
        self.update_hold(Instant::now(), &mut inputs);
        self.update_work(Instant::now(), &mut inputs);
        let restoring = self.parts.core.is_restoring();
        self.step(inputs)?;
        if restoring {
            self.restore()?;
        }
        self.point_pool();
        self.parts.sync.height_is(next);
        Ok(true)
    }

    /// Tells the pool who is primary.
    fn point_pool(&self) {
        let primary = self.parts.core.replica().primary();
        self.parts.pool.primary(self.peers.peer_of(&primary));
    }

    fn fetch_missing(&self) {
        let height = self.height();
        for block_id in self.parts.core.replica().missing() {
            let (class, frame) = encode(&Consensus::FetchBlock(FetchBlock { height, block_id }));
            self.parts.network.broadcast(class, frame);
        }
    }

    fn send_status(&self, to: Option<PeerId>) {
        let replica = self.parts.core.replica();
        let direct = self.peers.direct().chain(self.me);
        let direct: BTreeSet<_> =
            direct.filter_map(|address| replica.validators().index_of(&address)).collect();
        let (class, frame) = encode(&Consensus::Status(replica.status(direct)));
        match to {
            Some(peer) => self.send(peer, class, frame),
            None => self.parts.network.broadcast(class, frame),
        }
    }

    fn send_message(&self, peer: PeerId, message: &Message) {
        let (class, frame) = encode(&Consensus::Message(message.clone()));
        self.send(peer, class, frame);
    }

    /// A peer whose queue is full is dropped by the network; what it misses comes back by STATUS.
    fn send(&self, peer: PeerId, class: Class, frame: bytes::Bytes) {
        if let Err(error) = self.parts.network.send(peer, class, frame) {
            tracing::debug!(%peer, %class, %error, "not sent");
        }
    }

    /// What the log should know about at once.
    fn look(&mut self) {
        if !self.parts.core.replica().is_validator() {
            self.hold.restart = None;
        }
    }

    fn publish(&self) {
        let replica = self.parts.core.replica();
        let last = self.parts.snapshot.load();
        let view_now = (replica.height().value(), replica.view().number(), self.view_changes);
        let same = (last.height, last.view, last.view_changes) == view_now
            && last.hold == self.hold.reason()
            && last.connected.len() == self.peers.direct().count();
        if same {
            return;
        }
        self.parts.snapshot.store(Arc::new(Snapshot {
            height: view_now.0,
            view: view_now.1,
            start_view: replica.start_view().number(),
            promise: replica.promise().map(tercet_consensus::view::View::number),
            prepared: replica.prepared().map(|(view, id)| (view.number(), id.hash.to_string())),
            primary: replica.primary().to_string(),
            validator: replica.is_validator(),
            hold: self.hold.reason(),
            timeout_ms: u64::try_from(self.parts.pace.timeout().as_millis()).unwrap_or(u64::MAX),
            connected: self.peers.direct().map(|address| address.to_string()).collect(),
            behind: self.parts.sync.is_behind(),
            view_changes: self.view_changes,
        }));
    }
}

impl Hold {
    fn reason(&self) -> Option<&'static str> {
        if self.key_elsewhere {
            Some("another node holds this validator key")
        } else if self.stale_until.is_some() {
            Some("the data is older than the key's use")
        } else if self.restoring {
            Some("replaying the journal")
        } else if self.ingesting {
            Some("catching up")
        } else if self.restart.is_some() {
            Some("restarted: waiting to hear from peers")
        } else {
            None
        }
    }
}

fn broadcast(network: &Network, message: &Message) {
    let (class, frame) = encode(&Consensus::Message(message.clone()));
    network.broadcast(class, frame);
}

fn encode(message: &Consensus) -> (Class, bytes::Bytes) {
    match message.encode() {
        Frame::Consensus(frame) => (Class::Consensus, frame),
        Frame::Body(frame) => (Class::Bodies, frame),
    }
}
