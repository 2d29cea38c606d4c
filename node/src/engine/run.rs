//! The engine's thread: one match over events; that over actions is in `actions`.
//!
//! [`Engine::turn`] waits for nothing but the journal's disk and reads no clock; [`Engine::run`] is the loop around it.

use super::clock_watch::ClockWatch;
use super::hold::Hold;
use super::ingest::Ahead;
use super::notes::Offence;
use super::outside::Now;
use super::peers::Peers;
use super::timers::Timers;
use super::work::Work;
use super::{EngineError, Event, Origin};
use crate::execution::{Applied, Done, ExecutionError};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tendermint::block::Height;
use tercet_consensus::block::SealedBlock;
use tercet_consensus::key::Address;
use tercet_consensus::message::Phase;
use tercet_consensus::replica::{HeightStart, Input, Replica, Timer};

pub use super::parts::{Parts, Pool, Primary, Witness};
pub use super::snapshot::Snapshot;

/// The most events that are taken into one batch, that is, into one sync.
const BATCH_MAX: usize = 512;
/// After how many heights the journal is pruned.
const CHECKPOINT_HEIGHTS: u64 = 64;

/// Whether there are more turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There are.
    Continue,
    /// It was told to stop.
    Stop,
}

/// The engine.
pub struct Engine {
    pub(super) parts: Parts,
    pub(super) me: Option<Address>,
    pub(super) peers: Peers,
    timers: Timers,
    /// Timers that the turn wants; they run once it is over.
    pub(super) unarmed: Vec<(Timer, Duration)>,
    pub(super) work: Work,
    /// The last height that the application has executed.
    applied: Option<Height>,
    /// Transactions in blocks that are decided and not executed: the pool still counts them.
    pub(super) unexecuted: BTreeMap<Height, usize>,
    pub(super) hold: Hold,
    /// Decided blocks of peers that wait for their turn.
    pub(super) ahead: Ahead,
    pub(super) next_status: Instant,
    /// Whether a message of this height has come, or there is something to order.
    pub(super) active: bool,
    /// The height at the last STATUS round.
    pub(super) status_height: Option<Height>,
    pub(super) view_changes: u64,
    /// The term in which the last suspicion was raised.
    suspected_term: Option<u64>,
    /// Who was seen to sign two votes at this height or the one before: each offence is told once.
    pub(super) equivocations: BTreeSet<Offence>,
    pub(super) failure: Option<EngineError>,
    /// The last decided blocks, to be served by id.
    pub(super) recent: VecDeque<Arc<SealedBlock>>,
    pub(super) clock: ClockWatch,
    /// The clocks at the start of this turn.
    pub(super) now: Now,
    /// When votes were published last.
    pub(super) votes_at: Instant,
}

impl Engine {
    /// An engine that goes on after the last executed height.
    #[must_use]
    pub fn new(parts: Parts, me: Option<Address>, applied: Option<Height>, at: Now) -> Engine {
        let now = at.instant;
        let mut engine = Engine {
            now: at,
            work: Work::new(parts.work.clone(), now),
            me,
            peers: Peers::default(),
            timers: Timers::default(),
            unarmed: Vec::new(),
            applied,
            unexecuted: BTreeMap::new(),
            hold: Hold::new(now + parts.pace.timeout(), parts.stale_until),
            ahead: Ahead::new(now),
            next_status: now,
            active: false,
            status_height: None,
            view_changes: 0,
            suspected_term: None,
            equivocations: BTreeSet::new(),
            failure: None,
            recent: VecDeque::new(),
            clock: ClockWatch::default(),
            votes_at: now,
            parts,
        };
        engine.publish();
        engine
    }

    /// Runs until it is told to stop, or fails.
    ///
    /// # Errors
    /// Why it cannot go on.
    pub fn run(&mut self, events: &Receiver<Event>) -> Result<(), EngineError> {
        self.start(Now::read())?;
        loop {
            // Waits for events, at most to the next deadline, and takes all that are there.
            let first = match events.recv_deadline(self.deadline(Instant::now())) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(EngineError::PartEnded("the network"));
                }
            };
            let batch = first.into_iter().chain(events.try_iter().take(BATCH_MAX));
            if self.turn(Now::read(), batch)? == Turn::Stop {
                return Ok(());
            }
        }
    }

    /// Goes on from what the journal has. Comes before the first turn.
    ///
    /// # Errors
    /// Where the journal cannot be read, or the disk fails.
    pub fn start(&mut self, now: Now) -> Result<(), EngineError> {
        self.now = now;
        self.load_decided();
        self.restore()?;
        self.parts.sets.publish(self.height());
        Ok(())
    }

    /// Takes `events` and does everything that is due at `now`. It waits for nothing but the disk.
    ///
    /// # Errors
    /// Why it cannot go on: the process has to end.
    pub fn turn(
        &mut self,
        now: Now,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<Turn, EngineError> {
        self.now = now;
        let mut inputs = Vec::new();
        for event in events {
            if matches!(event, Event::Stop) {
                return Ok(Turn::Stop);
            }
            self.take(event, &mut inputs);
        }
        self.tick(&mut inputs);
        self.ingest(&mut inputs);
        let before = self.height();
        self.step(inputs)?;
        if self.height() != before {
            self.moved();
        }
        while self.parts.core.replica().is_decided() {
            // What happened at a height is told before the replica leaves it.
            self.publish();
            if !self.try_advance()? {
                break;
            }
        }
        self.look();
        self.publish();
        self.failure.take().map_or(Ok(Turn::Continue), Err)
    }

    /// The replica, to look at.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        self.parts.core.replica()
    }

    /// Replays what the journal has of this height.
    fn restore(&mut self) -> Result<(), EngineError> {
        let actions = self.parts.core.restore(self.now.time)?;
        self.tell_hold(true);
        for action in actions {
            self.carry_out(action);
        }
        Ok(())
    }

    pub(super) fn height(&self) -> Height {
        self.parts.core.replica().height()
    }

    /// When the next turn is due, even if nothing happens before. The timers of the last turn run from `now` on, when it is over: not from
    /// its start, as a slow disk would use them up.
    pub fn deadline(&mut self, now: Instant) -> Instant {
        for (timer, after) in self.unarmed.drain(..) {
            self.timers.arm(timer, after, now);
        }
        if self.ahead.has(self.height()) {
            return self.now.instant;
        }
        let ingesting = self.hold.ingesting.then(|| self.parts.sync.ingesting_until()).flatten();
        let (timer, relays) = (self.timers.next(), self.peers.relays_due());
        let deadlines = [timer, relays, self.hold.until(), ingesting, self.work.next_check()];
        deadlines.into_iter().flatten().fold(self.next_status, Instant::min)
    }

    /// The match over events.
    fn take(&mut self, event: Event, inputs: &mut Vec<Input>) {
        match event {
            Event::Input { input, origin } => self.take_input(*input, origin, inputs),
            Event::Decided(batch) => self.take_decided(batch, inputs),
            Event::Status { peer, status, room: _ } => self.take_status(peer, &status),
            Event::FetchBlock { peer, height, block_id, room: _ } => {
                self.serve_block(peer, height, &block_id);
            }
            Event::Executed(done) => self.take_executed(*done, inputs),
            Event::PeerUp { peer, validator } => {
                self.peers.up(peer, validator);
                if let Some(status) = self.peers.early(&peer) {
                    self.take_status(peer, &status);
                }
                self.send_status(Some(peer));
                self.point_pool();
                inputs.extend(validator.map(|validator| Input::Down { validator, down: false }));
            }
            Event::PeerDown { peer } => {
                self.peers.down(&peer);
                self.point_pool();
            }
            Event::PeerRefused { peer } => {
                // Where it is connected again, the refusal is old.
                let validator = self.peers.validator_of(&peer);
                let validator = validator.filter(|v| self.peers.peer_of(v).is_none());
                let member = |address: &Address| {
                    self.parts.core.replica().validators().index_of(address).is_some()
                };
                let validator = validator.filter(member);
                inputs.extend(validator.map(|validator| Input::Down { validator, down: true }));
            }
            Event::KeyElsewhere { peer } => {
                tracing::error!(%peer, "another node holds this validator key: this one signs nothing more; stop one of the two");
                self.hold.key_elsewhere = true;
                self.hold_now(inputs);
            }
            Event::Pool | Event::Stop => {}
        }
    }

    fn take_input(&mut self, input: Input, origin: Option<Origin>, inputs: &mut Vec<Input>) {
        if let Some(origin) = &origin {
            let unused = self.count_unused(&input, origin);
            // What is of no use here, anyone can make without end. Whoever lacks it asks for it.
            if !unused {
                self.relay(&input, origin);
            }
            self.note_foreign(&input, inputs);
            self.note_commit(&input, unused);
            if let Input::Vote(vote) = &input
                && !unused
            {
                self.tell_vote(vote);
            }
        }
        self.set_active();
        inputs.push(input);
    }

    /// What a COMMIT says of the pace: a new one, of a height without a VIEW-CHANGE.
    fn note_commit(&mut self, input: &Input, unused: bool) {
        let replica = self.parts.core.replica();
        if let Input::Vote(vote) = input
            && vote.message.phase == Phase::Commit
            && !unused
            && !(vote.message.height == replica.height() && replica.saw_view_change())
        {
            self.parts.pace.commit(vote.message.height, self.now.instant);
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
                    let (height, replica) = (self.height(), self.parts.core.replica());
                    let (view, primary) = (replica.view(), replica.primary());
                    tracing::warn!(%height, %view, %primary, block = %block_id.hash, "the proposed block is refused: {refusal}");
                }
                inputs.push(Input::Validated { block_id, accepted: result.is_ok() });
            }
            Done::Extended { vote, data } => {
                inputs.extend(self.parts.core.extend(vote, data, self.now.time));
            }
            Done::ExtensionVerified { vote, accepted } => {
                inputs.push(Input::ExtensionVerified { vote, accepted });
            }
            Done::Applied(outcome) => self.take_applied(&outcome.applied, outcome.app_hash_changed),
            Done::Failed(ExecutionError::Store(error)) => {
                self.failure = Some(EngineError::Chain(error))
            }
            Done::Failed(error) => self.failure = Some(EngineError::Execution(error.to_string())),
        }
    }

    fn take_applied(&mut self, applied: &Arc<Applied>, app_hash_changed: bool) {
        self.applied = Some(applied.height);
        self.parts.sets.learn(&applied.state);
        self.work.applied(applied.height, app_hash_changed);
        self.unexecuted.retain(|height, _| *height > applied.height);
        self.parts.sets.publish(self.height());
        self.parts.sync.moved();
        if applied.height.value().is_multiple_of(CHECKPOINT_HEIGHTS)
            // The chain database holds the block and what it led to durably: it was synced before the application's Commit.
            && let Err(error) = self.parts.core.prune_below(applied.height)
        {
            self.failure = Some(error);
        }
    }

    /// Everything that is due by the clock.
    fn tick(&mut self, inputs: &mut Vec<Input>) {
        let now = self.now.instant;
        inputs.extend(self.timers.due(now).into_iter().map(Input::Timer));
        if now >= self.next_status {
            self.next_status = now + self.status_interval();
            if self.status_height == Some(self.height()) || self.ahead.is_following(now) {
                self.send_status(None);
                self.fetch_missing(false);
            }
            self.status_height = Some(self.height());
        }
        self.map_relays();
        self.update_hold(inputs);
        self.update_work(self.height(), inputs);
        self.update_suspicion(inputs);
    }

    /// Something goes on at this height: STATUS comes often from now on.
    pub(super) fn set_active(&mut self) {
        if !self.active {
            self.active = true;
            self.next_status = self.next_status.min(self.now.instant + self.status_interval());
        }
    }

    /// Whether there is something to order at `height`. The pool still counts what is decided and not executed yet; without that, every
    /// transaction would be followed by an empty block, and the propose timer would start too early.
    fn update_work(&mut self, height: Height, inputs: &mut Vec<Input>) {
        let ready = self.applied.is_none_or(|applied| applied.increment() >= height);
        let ordered: usize = self.unexecuted.values().sum();
        let transactions = self.parts.pool.waiting() > ordered;
        let due =
            self.work.is_due(self.now.instant, height, transactions) && (ready || transactions);
        if self.work.tell(height, due) {
            inputs.push(Input::Work(due));
        }
        if due {
            self.set_active();
        }
    }

    /// *Age*: the pool suspects the primary; once a term. Asked where the replica is at its height, as a suspicion is of its view.
    fn update_suspicion(&mut self, inputs: &mut Vec<Input>) {
        let (height, view) = (self.height(), self.parts.core.replica().view());
        let term = height.value() / self.parts.work.term.max(1);
        if self.suspected_term != Some(term) && self.parts.pool.suspects() {
            self.suspected_term = Some(term);
            inputs.push(Input::Suspect { height, view });
        }
    }

    /// Moves a decided replica to the next height, once its validators are known, and whether it has vote extensions. True where it
    /// moved.
    fn try_advance(&mut self) -> Result<bool, EngineError> {
        let replica = self.parts.core.replica();
        if !replica.is_decided() {
            return Ok(false);
        }
        let next = replica.height().increment();
        let Some(start) = self.start_of(next).filter(|_| self.may_advance_to(next)) else {
            return Ok(false);
        };
        let mut inputs = vec![Input::Timeout(self.parts.pace.timeout())];
        self.work.new_height();
        self.update_hold(&mut inputs);
        inputs.push(Input::Advance(start));
        self.update_work(next, &mut inputs);
        let restoring = self.parts.core.is_restoring();
        self.step(inputs)?;
        if restoring {
            self.restore()?;
        }
        self.moved();
        Ok(true)
    }

    /// What is known of `height`, where its validators are.
    pub(super) fn start_of(&self, height: Height) -> Option<HeightStart> {
        let info = self.parts.sets.at(height)?;
        let before = Height::try_from(height.value().saturating_sub(1)).ok();
        let before = before.and_then(|before| self.parts.sets.at(before));
        Some(HeightStart {
            height,
            validators: info.validators.clone(),
            schedule: info.schedule.clone(),
            prior: None,
            extensions: info.extensions == Some(true),
            prior_extensions: before.is_some_and(|before| before.extensions == Some(true)),
        })
    }

    /// Whether it is known that `height` has vote extensions, or not; or it is decided already, so that nothing is signed there.
    pub(super) fn may_advance_to(&self, height: Height) -> bool {
        let known = self.parts.sets.at(height).is_some_and(|info| info.extensions.is_some());
        known || self.ahead.has(height)
    }

    /// The replica is at another height.
    fn moved(&mut self) {
        self.parts.sets.publish(self.height());
        self.active = false;
        let height = self.height().value();
        self.equivocations.retain(|offence| offence.0.value() + 1 >= height);
        self.peers.new_height();
        if self.hold.ingesting {
            // What is missing here, and what this validator signed before its data was lost, comes with the answers.
            self.set_active();
            if self.ahead.is_empty() && !self.parts.sync.has_more() {
                self.next_status = self.now.instant;
                self.status_height = Some(self.height());
            }
        }
        self.point_pool();
        self.parts.sync.moved();
    }

    /// What the log should know about at once.
    fn look(&mut self) {
        if !self.parts.core.replica().is_validator() {
            self.hold.nobody_waits();
        }
    }
}
