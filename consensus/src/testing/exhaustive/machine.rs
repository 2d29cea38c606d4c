//! One correct replica: the real one, with what is around it in a node (journal, signer, application, timers), and the invariants
//! that concern it alone.

use super::bounds::{BlockKind, Forgets};
use super::local::{KINDS, Kind, Local, Signed, claim, small_claim};
use super::world::{Piece, Place, Trusting, World, number, signature};
use crate::message::{Decided, Message, Phase, SignRequest, Signed as SignedBy, SignedMessage};
use crate::record::{Cause, Record};
use crate::replica::{Action, Input, Replica, Timer, TimerKind};
use std::collections::VecDeque;
use std::sync::Arc;

/// A replica and its surroundings.
#[derive(Clone)]
pub(super) struct Machine {
    pub(super) replica: Replica,
    /// What is durable of this height.
    journal: Vec<Arc<Record>>,
    /// What it decided.
    pub(super) chain: Vec<Arc<Decided>>,
    timers: Vec<Timer>,
    /// The PRE-PREPAREs that were delivered: view, block and kind.
    candidates: Vec<(u8, u8, Kind)>,
    /// Requests that the signer has not answered.
    unsigned: Vec<SignRequest>,
    pub(super) local: Local,
}

/// What came of a move.
pub(super) struct Outcome {
    pub(super) machine: Machine,
    /// View and block of a decision, with all that was signed at its height.
    pub(super) decided: Option<(u8, u8, Signed)>,
    /// The invariant that broke.
    pub(super) broken: Option<String>,
    /// Whether it left the bounds.
    pub(super) beyond: bool,
}

impl Outcome {
    fn break_unless(&mut self, holds: bool, what: &str) {
        if !holds && self.broken.is_none() {
            self.broken = Some(what.to_owned());
        }
    }
}

impl Machine {
    /// A replica at the start of a height. `start`: the round in which it decided the height before.
    pub(super) fn new(world: &World, seat: usize, place: Place, start: u8) -> Machine {
        let seat_number = u8::try_from(seat).expect("few seats");
        let local = Local { start, ..Local::empty(seat_number, place) };
        let replica = Replica::new(world.settings(seat), world.start(place, Some(start)));
        let (journal, chain, timers, candidates, unsigned) = Default::default();
        let machine = Machine { replica, journal, chain, timers, candidates, unsigned, local };
        machine.feed(world, [Input::Work(true)]).machine
    }

    /// Whether it has a block that it has not signed anything for. Where blocks do not travel apart they come with what makes a replica
    /// sign; what else they bring about, comes about without them too.
    pub(super) fn has_idle_block(&self, world: &World) -> bool {
        let Local { place, signed, .. } = self.local;
        if usize::from(place.height) >= world.bounds.heights() {
            return false;
        }
        let sets = signed.prepares.iter().chain(&signed.commits);
        let used = sets.chain(signed.proposals.iter().flatten()).fold(0, |all, set| all | set);
        let mut blocks = (0u8..).zip(world.blocks(place));
        blocks.any(|(number, block)| {
            used >> number & 1 == 0 && self.replica.block(&block.id()).is_some()
        })
    }

    /// The timers that it has armed.
    pub(super) fn timers(&self) -> impl Iterator<Item = Timer> + '_ {
        self.timers.iter().copied()
    }

    /// What its signer has not answered.
    pub(super) fn unsigned(&self) -> impl Iterator<Item = SignRequest> + '_ {
        self.unsigned.iter().cloned()
    }

    /// Delivers messages, one after the other.
    pub(super) fn deliver(&self, world: &World, pieces: &[Piece]) -> Outcome {
        let mut machine = self.clone();
        for piece in pieces {
            let (view, block, kind) = match *piece {
                Piece::PrePrepare { view, block, kind } => (view, block, kind),
                _ => continue,
            };
            // The replica keeps the first of those that differ only in what justifies a NEW-VIEW.
            let same = |old: &(u8, u8, Kind)| {
                (old.0, old.1, old.2 == Kind::Fresh) == (view, block, kind == Kind::Fresh)
            };
            if !machine.candidates.iter().any(same) {
                machine.candidates.push((view, block, kind));
            }
        }
        let inputs = pieces.iter().map(|piece| world.input(self.local.place, *piece));
        machine.feed(world, inputs)
    }

    /// Lets the timer of `kind` fire, where it runs.
    pub(super) fn fire(&self, world: &World, kind: TimerKind) -> Outcome {
        let timer = self.timers.iter().rev().find(|timer| timer.kind == kind);
        self.clone().feed(world, timer.map(|timer| Input::Timer(*timer)))
    }

    /// Lets the signer answer.
    pub(super) fn sign(&self, world: &World, request: usize) -> Outcome {
        let mut machine = self.clone();
        let seat = usize::from(machine.local.seat);
        let request = (request < machine.unsigned.len()).then(|| machine.unsigned.remove(request));
        machine.feed(world, request.map(|request| Input::Signed(answer(request, seat))))
    }

    /// A crash, and the restart from what is durable.
    pub(super) fn restart(&self, world: &World) -> Outcome {
        let Local { seat, place, start, .. } = self.local;
        let start = world.start(place, Some(start));
        let replica = Replica::new(world.settings(usize::from(seat)), start);
        let (timers, candidates, unsigned) = Default::default();
        let (journal, chain, local) = (self.journal.clone(), self.chain.clone(), self.local);
        let mut machine = Machine { replica, journal, chain, timers, candidates, unsigned, local };
        let forgotten = |record: &Record| match world.bounds.forgets {
            Forgets::Nothing => false,
            Forgets::Promise => matches!(record, Record::ViewChange { .. }),
            Forgets::Prepares => matches!(record, Record::Prepare { .. }),
            Forgets::Commits => matches!(record, Record::Commit { .. }),
        };
        machine.journal.retain(|record| !forgotten(record));
        let records: Vec<Input> =
            machine.journal.iter().map(|record| Input::Restored((**record).clone())).collect();
        machine.feed(world, records.into_iter().chain([Input::Work(true)]))
    }

    /// Feeds inputs and answers what the replica asks for: the application accepts every block, the signer signs at once or, where
    /// signatures are late, when it is told to.
    fn feed(self, world: &World, inputs: impl IntoIterator<Item = Input>) -> Outcome {
        let mut inputs: VecDeque<Input> = inputs.into_iter().collect();
        let mut outcome = Outcome { machine: self, decided: None, broken: None, beyond: false };
        while let Some(input) = inputs.pop_front() {
            let step = std::panic::AssertUnwindSafe(|| outcome.machine.replica.step(input));
            let Ok(actions) = std::panic::catch_unwind(step) else {
                outcome.broken = Some("S13: a panic".to_owned());
                return outcome;
            };
            let mut answers = Vec::new();
            for action in actions {
                outcome.carry_out(world, action, &mut answers);
            }
            answers.into_iter().rev().for_each(|answer| inputs.push_front(answer));
        }
        outcome.beyond |=
            outcome.machine.replica.promise().map(number) > Some(world.bounds.asks_max());
        outcome.machine.observe(world);
        outcome
    }

    /// Brings `local` up to date.
    fn observe(&mut self, world: &World) {
        let heights = world.bounds.heights();
        if usize::from(self.local.place.height) >= heights {
            let Local { seat, place, .. } = self.local;
            self.local = Local::empty(seat, Place { on: 0, ..place });
            return;
        }
        let replica = &self.replica;
        let local = &mut self.local;
        local.view = number(replica.view());
        local.promise = replica.promise().map_or(0, number);
        let carries = usize::from(local.place.height) + 1 < heights;
        local.asked_for = if carries { asked_for(replica) } else { 0 };
        local.carried &= carries && local.promise > 0;
        let prepared = replica.prepared();
        let prepared = prepared.map(|(view, id)| (number(view), world.number_of(&id).unwrap_or(0)));
        local.prepared = small_claim(prepared);
        local.accepted = replica.has_accepted();
        let may_accept = !local.accepted && local.promise <= local.view;
        let waiting = if may_accept { replica.status([]).pre_prepares } else { Vec::new() };
        let blocks: Vec<u8> = waiting.iter().filter_map(|id| world.number_of(id)).collect();
        self.candidates.retain(|(view, block, _)| *view == local.view && blocks.contains(block));
        local.waiting = [0; KINDS];
        for (_, block, kind) in &self.candidates {
            local.waiting[kind.index()] |= 1 << block;
        }
        if world.bounds.bodies || world.bounds.late {
            let ids = (0u8..).zip(world.blocks(local.place)).map(|(b, block)| (b, block.id()));
            let here = ids.filter(|(_, id)| replica.block(id).is_some());
            local.bodies = here.fold(0, |all, (block, _)| all | 1 << block);
            let stuck = replica.commit_quorum().filter(|(_, id)| replica.block(id).is_none());
            let stuck = stuck.map(|(v, id)| (number(v), world.number_of(&id).unwrap_or(0)));
            local.stuck = small_claim(stuck);
        }
        if !world.bounds.crashes {
            local.start = 0;
        }
        self.forget_stale_requests(world);
    }

    /// A request whose answer would be discarded now will always be: views and promise never fall.
    fn forget_stale_requests(&mut self, world: &World) {
        let seat = usize::from(self.local.seat);
        let replica = &self.replica;
        self.unsigned.retain(|request| {
            let answer = Input::Signed(answer(request.clone(), seat));
            let actions = replica.clone().step(answer);
            actions.iter().any(|action| matches!(action, Action::Persist(_)))
        });
        let kinds = self.unsigned.iter().map(kind);
        self.local.unsigned = kinds.fold(0, |all, kind| all | 1 << kind);
        let preparing = self.unsigned.iter().find_map(|request| match request {
            SignRequest::Vote { vote, .. } if vote.phase == Phase::Prepare => {
                world.number_of(&vote.block_id)
            }
            _ => None,
        });
        self.local.preparing = preparing.map_or(0, |block| 1 << block);
    }
}

fn kind(request: &SignRequest) -> u8 {
    match request {
        SignRequest::Vote { vote, .. } if vote.phase == Phase::Prepare => 0,
        SignRequest::Vote { .. } => 1,
        SignRequest::ViewChange(_) => 2,
        SignRequest::Proposal(_) => 3,
    }
}

/// The signer.
pub(super) fn answer(request: SignRequest, seat: usize) -> SignedMessage {
    let signature = signature(seat);
    match request {
        SignRequest::Proposal(message) => SignedMessage::Proposal(SignedBy { message, signature }),
        SignRequest::Vote { vote: message, .. } => {
            SignedMessage::Vote(SignedBy { message, signature })
        }
        SignRequest::ViewChange(message) => {
            SignedMessage::ViewChange(SignedBy { message, signature })
        }
    }
}

/// The highest view that senders of blocking power are known to ask for.
fn asked_for(replica: &Replica) -> u8 {
    let asks: Vec<_> =
        replica.view_changes().map(|m| (m.signed.message.view, m.signed.message.index)).collect();
    let set = replica.validators();
    let power = |view| set.power_of(asks.iter().filter(|ask| ask.0 >= view).map(|ask| ask.1));
    let views = asks.iter().map(|ask| ask.0).filter(|view| set.is_blocking(power(*view)));
    views.max().map_or(0, number)
}

impl Outcome {
    fn carry_out(&mut self, world: &World, action: Action, answers: &mut Vec<Input>) {
        match action {
            Action::Persist(record) => self.persist(world, record),
            Action::Broadcast(message) => self.release(world, &message),
            Action::Sign(request) if world.bounds.late => {
                let unsigned = &mut self.machine.unsigned;
                unsigned.retain(|old| kind(old) != kind(&request));
                unsigned.push(request);
            }
            Action::Sign(request) => {
                let seat = usize::from(self.machine.local.seat);
                answers.push(Input::Signed(answer(request, seat)));
            }
            Action::Validate(block) => {
                answers.push(Input::Validated { block_id: block.id(), accepted: true });
            }
            Action::VerifyExtension(vote) => {
                answers.push(Input::ExtensionVerified { vote, accepted: true });
            }
            Action::Arm { timer, .. } => {
                self.machine.timers.retain(|old| old.kind != timer.kind);
                self.machine.timers.push(timer);
            }
            Action::Decide(decided) => {
                let view = number(decided.commit.view);
                let block = world.number_of(&decided.commit.block_id).unwrap_or(0);
                let round = decided.block.last_commit().map_or(0, |commit| number(commit.view));
                self.break_unless(round <= view, "S9: a block decided below its last commit");
                self.machine.chain.push(Arc::new(decided));
                self.decide(world, view, block, answers);
            }
            Action::Alarm(what) => self.break_unless(false, &format!("an alarm: {what}")),
            // S11 is S4 over what was signed: whose votes a row of the table holds is not told apart, so evidence says nothing here.
            Action::Propose { view, last_commit, .. } => {
                let round = last_commit.map_or(0, |commit| number(commit.view));
                let seat = usize::from(self.machine.local.seat);
                let wanted = BlockKind { round, proposer: seat };
                if let Some(block) = world.find(self.machine.local.place, wanted) {
                    answers.push(Input::Built { view, block });
                }
            }
            Action::Evidence(_) | Action::Send(..) | Action::FetchBlock(_) | Action::Note(_) => {}
        }
    }

    fn decide(&mut self, world: &World, view: u8, block: u8, answers: &mut Vec<Input>) {
        let machine = &mut self.machine;
        let local = &mut machine.local;
        self.decided = Some((view, block, local.signed));
        let place = Place { height: local.place.height + 1, on: block };
        (local.place, local.start, local.signed) = (place, view, Signed::default());
        local.carried = false;
        machine.journal.clear();
        machine.timers.clear();
        machine.candidates.clear();
        machine.unsigned.clear();
        if usize::from(place.height) < world.bounds.heights() {
            answers.push(Input::Advance(world.start(place, None)));
            answers.push(Input::Work(true));
        }
    }

    /// S4, S5, S6 and the lines of docs/protocol.md §8, as a record becomes durable.
    fn persist(&mut self, world: &World, record: Record) {
        let signed = self.machine.local.signed;
        let (votes, promise) = (signed.highest_vote(), signed.highest_view_change());
        match &record {
            Record::Prepare { vote, .. } | Record::Commit { vote, .. } => {
                let (phase, view) = (vote.message.phase, number(vote.message.view));
                let block = world.number_of(&vote.message.block_id).unwrap_or(0);
                self.break_unless(votes <= Some(view), "S5: the view of a vote fell");
                self.break_unless(promise <= Some(view), "S5: a vote below the promise");
                let set = &mut self.machine.local.signed.votes_mut(phase)[usize::from(view)];
                let before = std::mem::replace(set, *set | 1 << block);
                self.break_unless(before == 0, "S4: two votes in one view and phase");
            }
            Record::ViewChange { message, cause } => {
                let message = &message.signed.message;
                let view = number(message.view);
                if view > world.bounds.asks_max() {
                    self.beyond = true;
                    return;
                }
                let prepared = message.prepared.map(|claim| {
                    (number(claim.view), world.number_of(&claim.block_id).unwrap_or(0))
                });
                let committed = (0u8..).zip(signed.commits).filter(|(_, set)| *set != 0);
                let committed = committed.map(|(view, _)| view).max();
                let forgot = prepared.map(|(view, _)| view) < committed;
                self.break_unless(votes < Some(view), "S5: a promise below a vote");
                self.break_unless(promise < Some(view), "S5: a promise fell");
                self.break_unless(!forgot, "a COMMIT was forgotten in a VIEW-CHANGE");
                self.machine.local.signed.view_changes[usize::from(view)] |= 1 << claim(prepared);
                self.machine.local.carried = *cause == Cause::Carried;
            }
            Record::PrePrepare { message } => {
                let view = number(message.view());
                let block = world.number_of(&message.block_id()).unwrap_or(0);
                let kind = match &message.justification {
                    None => Kind::Fresh,
                    Some(j) => j.certificate.as_ref().map_or(Kind::Free, |certificate| {
                        Kind::Bound { at: number(certificate.view) }
                    }),
                };
                self.break_unless(votes <= Some(view), "S5: the view of a proposal fell");
                self.break_unless(promise <= Some(view), "S5: a proposal below the promise");
                let before = signed.proposals.iter().any(|kind| kind[usize::from(view)] != 0);
                self.break_unless(!before, "S4: two proposals in one view");
                let context = world.context(message.height());
                let valid = context.pre_prepare(message.clone(), &Trusting);
                self.break_unless(valid.is_ok(), "a proposal that does not verify");
                let proposals = &mut self.machine.local.signed.proposals[kind.index()];
                proposals[usize::from(view)] |= 1 << block;
            }
            Record::Decided { .. } => {}
        }
        if let Record::Commit { certificate, vote, .. } = &record {
            let context = world.context(certificate.height);
            let valid = context.certificate(certificate, &Trusting).is_ok();
            let same = certificate.block_id == vote.message.block_id;
            let view = certificate.view == vote.message.view;
            self.break_unless(valid && same && view, "S6: a COMMIT without its certificate");
        }
        self.machine.journal.push(Arc::new(record));
    }

    /// Nothing leaves that is not durable.
    fn release(&mut self, world: &World, message: &Message) {
        let me = world.address(usize::from(self.machine.local.seat));
        let durable = self.machine.journal.iter().any(|record| match (message, &**record) {
            (Message::Vote(vote), Record::Prepare { vote: known, .. })
            | (Message::Vote(vote), Record::Commit { vote: known, .. }) => vote == known,
            (Message::ViewChange(message), Record::ViewChange { message: known, .. }) => {
                message == known
            }
            (Message::PrePrepare(message), Record::PrePrepare { message: known }) => {
                message == known
            }
            _ => false,
        });
        let free = match message {
            Message::Vote(vote) => vote.message.validator != me,
            Message::ViewChange(message) => message.signed.message.validator != me,
            Message::PrePrepare(_) => false,
            Message::Block(_) | Message::Prior(_) => true,
        };
        self.break_unless(durable || free, "§8: a message left before it was durable");
    }
}
