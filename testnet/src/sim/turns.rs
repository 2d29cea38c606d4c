//! Turns of an engine: what reaches it, and what becomes of what it says.

use super::happening::What;
use super::keys::{peer, seat_of};
use super::met::Standing;
use super::network::{Out, Said, Sent, Wire};
use super::node::Batch;
use super::plan::{Fault, Seat, When};
use super::sync::{Outcome, Scene};
use super::world::World;
use super::{BASE, Nanos};
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use tercet_consensus::message::Message;
use tercet_consensus::record::Record;
use tercet_node::engine::run::Turn;
use tercet_node::engine::verifier::{block_author, known, verify_last_commit, verify_message};
use tercet_node::engine::{EngineError, Event, Origin};
use tercet_node::execution::Job;
use tercet_node::network::{Class, PeerId};
use tercet_node::wire::Consensus;

/// The least time between two turns of which the first asked for the second.
const AGAIN: Nanos = 1_000;

impl World {
    /// A turn of the engine at `seat`.
    pub(crate) fn turn(&mut self, seat: Seat) {
        let now = self.now;
        let node = self.node(seat);
        if now < node.busy_until.max(node.frozen_until) {
            return self.wake(seat, now);
        }
        let clocks = self.clocks(seat);
        let node = self.node_mut(seat);
        let events = std::mem::take(&mut node.inbox);
        node.disk.lock().begin_turn();
        let Some(engine) = &mut node.engine else { return };
        let held = node.snapshot.load().hold;
        let before = Standing::of(engine.replica());
        let result = engine.turn(clocks, events);
        let (kept, after) = (engine.replica().kept(), Standing::of(engine.replica()));
        self.checks.bounded(&kept, self.nodes.len());
        if self.is_correct(seat) {
            if before != after {
                self.met_turn(before, after);
            }
            self.accused(seat);
        }
        self.met_hold(seat, held);
        self.outcome(seat, result);
    }

    /// What the engine of a correct node says against others is proven, and never against a correct one.
    fn accused(&mut self, seat: Seat) {
        let votes = {
            let mut accused =
                self.node(seat).accused.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *accused)
        };
        for (first, second) in votes {
            self.checks.accused(&first, &second);
            self.coverage.met("rule", "two votes of one validator shown");
        }
    }

    fn met_hold(&mut self, seat: Seat, before: Option<&'static str>) {
        let held = self.node(seat).snapshot.load().hold;
        if held != before
            && let Some(reason) = held
        {
            self.coverage.met("hold", reason);
        }
    }

    /// What a turn, or a start, led to.
    pub(crate) fn outcome(&mut self, seat: Seat, result: Result<Turn, EngineError>) {
        match result {
            Ok(_) => self.leave(seat),
            Err(EngineError::Journal(_) | EngineError::Reservation(_)) => {
                self.trace.say(self.now, seat, || "the sync failed: the process ends".into());
                let down = self.rng.time((super::MS, 500 * super::MS));
                self.node_mut(seat).outbox.take();
                self.crash(seat, Some(down), true);
            }
            Err(error) if self.is_correct(seat) => panic!("node {seat} ended: {error}"),
            Err(_) => self.crash(seat, None, true),
        }
    }

    /// Sends what may leave at once, and plans the rest for after the syncs that it waits for.
    fn leave(&mut self, seat: Seat) {
        let node = self.node_mut(seat);
        let outs = node.outbox.take();
        let jobs: Vec<Job> = node.jobs.try_iter().collect();
        let (syncs, epoch) = (node.disk.lock().begin_turn(), node.epoch);
        if syncs == 0 {
            self.release(seat, Batch { outs, jobs });
        } else {
            self.leave_after(seat, (syncs, epoch), outs, jobs);
        }
        self.late_signatures(seat);
        self.catch_up(seat);
        self.plan_next(seat);
    }

    /// The same of a turn that made `syncs` syncs.
    fn leave_after(
        &mut self,
        seat: Seat,
        (syncs, epoch): (usize, u32),
        outs: Vec<Out>,
        jobs: Vec<Job>,
    ) {
        let mut batches: Vec<Batch> = (0..=syncs).map(|_| Batch::default()).collect();
        for out in outs {
            let batch = batches.get_mut(out.after_syncs).expect("a sync of this turn");
            batch.outs.push(out);
        }
        let mut at = 0;
        for job in jobs {
            // Building and checking do not leave the machine; what is decided is durable first. Their order stays.
            if matches!(job, Job::Apply { .. }) {
                at = syncs;
            }
            batches.get_mut(at).expect("a batch").jobs.push(job);
        }
        let mut batches = batches.into_iter();
        if let Some(first) = batches.next() {
            self.release(seat, first);
        }
        let sync = self.node(seat).plan.sync;
        let mut after = 0;
        for batch in batches {
            after += self.rng.time(sync);
            self.node_mut(seat).batches.push_back(batch);
            self.after(after, What::Flush { seat, epoch });
        }
        let now = self.now;
        self.node_mut(seat).busy_until = now + after;
    }

    fn plan_next(&mut self, seat: Seat) {
        let now = self.instant();
        let Some(engine) = &mut self.node_mut(seat).engine else { return };
        let deadline = engine.deadline(now).saturating_duration_since(*BASE).as_nanos();
        let deadline = Nanos::try_from(deadline).unwrap_or(Nanos::MAX);
        let at = deadline.max(self.now + AGAIN);
        self.wake(seat, at);
        if !self.node(seat).inbox.is_empty() {
            self.wake(seat, self.now + AGAIN);
        }
    }

    fn late_signatures(&mut self, seat: Seat) {
        let epoch = self.node(seat).epoch;
        let late = {
            let mut late = self.node(seat).late.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *late)
        };
        for (after, message) in late {
            self.after(after, What::Late { seat, epoch, message: Box::new(message) });
        }
    }

    /// A sync is over: its records are durable, and what waited for them leaves.
    pub(crate) fn flush(&mut self, seat: Seat) {
        let writes = self.node(seat).disk.lock().synced();
        self.durable(seat, &writes);
        if let Some(batch) = self.node_mut(seat).batches.pop_front() {
            self.release(seat, batch);
        }
    }

    /// Writes are on the disk.
    pub(crate) fn durable(&mut self, seat: Seat, writes: &[super::disk::Write]) {
        for write in writes {
            let super::disk::Write::Record(record) = write else { continue };
            if !self.is_correct(seat) {
                continue;
            }
            self.met_record(record);
            if let Record::Commit { vote, .. } = &**record {
                self.committed(seat);
                self.saw_commit(seat, &vote.message);
            }
            self.checks.persisted(self.node(seat).plan.key, record);
            self.node_mut(seat).records += 1;
            let count = self.node(seat).records;
            self.due(|when| *when == When::Records(seat, count));
        }
    }

    /// Begins the faults that are due.
    pub(crate) fn due(&mut self, is_due: impl Fn(&When) -> bool) {
        let plan = Rc::clone(&self.plan);
        for (index, timed) in plan.faults.iter().enumerate() {
            if is_due(&timed.when) {
                // A moment later, so that it may fall between two syncs.
                let after = match timed.fault {
                    Fault::DiskFails { .. } => 0,
                    _ => self.rng.time((0, 2 * super::MS)),
                };
                self.after(after, What::Fault(index));
            }
        }
    }

    /// What may leave leaves.
    fn release(&mut self, seat: Seat, batch: Batch) {
        for out in batch.outs {
            self.send(seat, out);
        }
        if batch.jobs.is_empty() {
            return;
        }
        for job in batch.jobs {
            if let Job::Apply { block, commit } = &job
                && self.is_correct(seat)
            {
                self.trace.decided(self.now, seat, block, commit);
                let new = self.checks.decided(self.node(seat).plan.key, block, commit);
                if new {
                    self.met_decision(block, commit);
                    let height = commit.height.value();
                    self.decided_at.insert(height, self.now);
                    self.due(|when| *when == When::Height(height));
                    if height >= self.plan.heal.0 {
                        self.heal();
                    }
                }
            }
            self.node_mut(seat).app.jobs.push_back(job);
        }
        self.next_job(seat);
    }

    fn send(&mut self, seat: Seat, out: Out) {
        let Out { to, said, .. } = out;
        let sent = match said {
            Said::Forward(frame) => {
                self.coverage.met("rule", "relayed");
                let number = frame.as_ref().try_into().map(u64::from_be_bytes);
                let number = number.ok().and_then(|number| usize::try_from(number).ok());
                let Some(sent) = number.and_then(|n| self.sent.get(n)) else { return };
                Rc::clone(sent)
            }
            Said::Message(message) => {
                if self.is_correct(seat) {
                    if let Consensus::Message(message) = &message {
                        self.checks.sent(self.node(seat).plan.key, message);
                        if matches!(message, Message::Prior(_)) {
                            self.coverage.met("rule", "prior sent");
                        }
                    } else if let Consensus::FetchBlock(_) = &message {
                        self.coverage.met("rule", "block fetched");
                    } else if matches!(&message, Consensus::Status(status) if status.lacks_extensions)
                    {
                        self.coverage.met("rule", "extended commit asked for");
                    }
                } else {
                    return super::byzantine::says(self, seat, to, message);
                }
                self.envelope(Wire::Consensus(message))
            }
        };
        self.trace.sends(self.now, seat, to.as_ref(), &sent);
        self.send_to(seat, to, &sent);
    }

    /// Sends to one peer, or to all.
    pub(crate) fn send_to(&mut self, seat: Seat, to: Option<PeerId>, sent: &Rc<Sent>) {
        match to {
            Some(to) => {
                if let Some(to) = seat_of(&to) {
                    self.transmit(seat, to, sent);
                }
            }
            None => {
                for to in self.seats().filter(|to| *to != seat) {
                    self.transmit(seat, to, sent);
                }
            }
        }
    }

    /// A message reaches a node: verified by the node's own code, as its verifier does.
    pub(crate) fn deliver(&mut self, from: Seat, to: Seat, sent: &Rc<Sent>) {
        match &sent.wire {
            Wire::Consensus(Consensus::Status(status)) => {
                let status = sent.status.get_or_init(|| Arc::new(status.clone()));
                let (peer, status) = (peer(from), Arc::clone(status));
                self.tell(to, Event::Status { peer, status, room: None });
            }
            Wire::Consensus(Consensus::FetchBlock(fetch)) => {
                let (height, block_id) = (fetch.height, fetch.block_id);
                self.tell(to, Event::FetchBlock { peer: peer(from), height, block_id, room: None });
            }
            Wire::Consensus(Consensus::Message(message)) => {
                self.trace.hears(self.now, to, from, message);
                if let Message::PrePrepare(message) = message
                    && self.is_correct(to)
                {
                    self.met_proposal(to, message);
                }
                if let Some(event) = self.verify(from, to, message, sent) {
                    self.tell(to, event);
                }
                if !self.is_correct(to) {
                    super::byzantine::hears(self, to, message);
                }
            }
            Wire::Txs(txs) => self.pool(to, txs),
            Wire::Ask(request) => self.serve(from, to, request),
            Wire::Blocks { id, items, last } => {
                let now = self.instant();
                let answer = (items.as_slice(), *last);
                self.node(to).sync.lock().response((peer(from), *id), answer, now);
                self.catch_up_now(to);
            }
            Wire::Tip { height, base } => {
                self.node(to).sync.lock().tip(peer(from), *height, *base);
                self.catch_up_now(to);
            }
        }
    }

    fn verify(&mut self, from: Seat, to: Seat, message: &Message, sent: &Sent) -> Option<Event> {
        let heights = self.node(to).heights.load();
        let (height, class) = match message {
            Message::Vote(vote) => (vote.message.height, Class::Consensus),
            Message::ViewChange(message) => (message.signed.message.height, Class::Consensus),
            Message::PrePrepare(message) => (message.height(), Class::Consensus),
            Message::Prior(commit) => (commit.height, Class::Consensus),
            Message::Block(block) => (block.header().height, Class::Bodies),
        };
        let info = known(&heights, height).ok()??;
        if let Message::Block(block) = message
            && block.last_commit().is_some_and(|commit| heights.at(commit.height).is_none())
        {
            // Too old to be of use.
            return None;
        }
        let check = &self.checks.check;
        let verdict = sent.verdict.get_or_init(|| match message {
            Message::Block(block) => {
                verify_last_commit(block, &heights, check)?;
                let input = tercet_consensus::replica::Input::Block(block.clone());
                Ok((input, block_author(block, info)))
            }
            message => verify_message(message.clone(), &heights, check)
                .map(|verified| verified.expect("its height is known")),
        });
        match verdict {
            Ok((input, author)) => {
                let origin = Origin {
                    peer: peer(from),
                    author: *author,
                    class,
                    frame: sent.frame.clone(),
                    room: None,
                };
                Some(Event::Input { input: Box::new(input.clone()), origin: Some(origin) })
            }
            Err(reject) => {
                let honest = self.is_correct(from);
                assert!(!honest, "a correct replica's message is refused: {reject}: {message:?}");
                let reject = *reject;
                self.met_reject(message, &reject);
                None
            }
        }
    }

    /// Serves blocks.
    fn serve(&mut self, from: Seat, at: Seat, request: &tercet_node::sync::plan::Request<PeerId>) {
        let app = &self.node(at).app;
        let last = match app.height() {
            0 => request.from,
            height => height,
        };
        let heights = request.from..request.from + request.count;
        let items = heights.map_while(|height| {
            app.stored(height).map(|stored| tercet_consensus::message::Decided {
                block: stored.block.clone(),
                commit: stored.commit.clone(),
            })
        });
        let wire = Wire::Blocks { id: request.id, items: items.collect(), last };
        let sent = self.envelope(wire);
        self.transmit(at, from, &sent);
    }

    fn catch_up(&mut self, seat: Seat) {
        let node = self.node(seat);
        let Some(engine) = &node.engine else { return };
        let current = engine.replica().height().value();
        let mut tips = Vec::new();
        let look = node.sync.lock().take_notices(current, &mut tips);
        let height = node.app.height();
        if height > 0 && !tips.is_empty() {
            let sent = self.envelope(Wire::Tip { height, base: 1 });
            tips.into_iter().for_each(|peer| self.send_to(seat, Some(peer), &sent));
        }
        if look {
            self.catch_up_now(seat);
        }
    }

    /// Looks at what catch-up has to do.
    fn catch_up_now(&mut self, seat: Seat) {
        let connected: Vec<PeerId> =
            self.seats().filter(|other| self.links.see(*other, seat).told).map(peer).collect();
        let node = self.node(seat);
        let heights = node.heights.load_full();
        let scene = Scene {
            now: self.instant(),
            heights: &heights,
            executed: node.app.height(),
            connected: &connected,
            check: &self.checks.check,
        };
        let outcome = node.sync.lock().look(&scene);
        self.carry_out(seat, outcome);
        let node = self.node(seat);
        let (epoch, current) = (node.epoch, heights.current.value());
        if !node.sync_turn && node.sync.lock().waits(current) {
            self.node_mut(seat).sync_turn = true;
            self.after(super::sync::TURN, What::SyncTurn { seat, epoch });
        }
    }

    fn carry_out(&mut self, seat: Seat, outcome: Outcome) {
        for request in outcome.ask {
            let sent = self.envelope(Wire::Ask(request));
            self.send_to(seat, Some(request.peer), &sent);
        }
        for batch in outcome.batches {
            self.coverage.met("rule", "decided by catch-up");
            self.trace.say(self.now, seat, || format!("{} blocks from peers", batch.len()));
            self.tell(seat, Event::Decided(batch));
        }
    }

    /// Catch-up's clock.
    pub(crate) fn sync_turn(&mut self, seat: Seat) {
        self.node_mut(seat).sync_turn = false;
        let current = self.node(seat).heights.load().current.value();
        self.node(seat).sync.lock().turn(self.instant(), current);
        self.catch_up_now(seat);
    }
}
