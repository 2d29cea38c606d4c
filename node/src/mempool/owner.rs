//! The thread that owns the pool.

use super::age::{Age, Decided};
use super::caller::Caller;
use super::check::{CHECK_BEGIN, Frame, Recheck, UnderWay};
use super::pool::{Entry, Pool};
use super::{
    Committed, Control, Counters, Intake, Outbox, Queues, RelayMap, Reply, Revive, Settings,
};
use crate::engine::Event;
use crate::engine::run::Primary;
use crate::lines::Lines;
use crate::network::PeerId;
use crate::rpc::sources::PoolError;
use crate::wire;
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TryRecvError, after, at, never, select};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tendermint::block::Height;
use tendermint_proto::v0_38::abci::ResponseCheckTx;

/// How many transactions, or bytes of them, go out in one frame; a larger one goes alone.
const BATCH_TXS: usize = 512;
const BATCH_BYTES: usize = 128 * 1024;
/// How often it is said that the application did not answer in time.
const LATE_LINES: Duration = Duration::from_secs(10);
/// What is still here after so long goes to the primary again; below any view-change timeout, so that nobody suspects a primary for what
/// it has not got.
const RESEND_AFTER: Duration = Duration::from_millis(100);
/// How many transactions are looked at for that, oldest first.
const RESEND_LOOK_MAX: usize = 8_192;
/// How many transactions go to the primary again at a time.
pub(super) const RESEND_MAX: usize = 1_024;

/// What the owner is made of, see [`super::Parts`].
pub(super) struct Seams {
    pub(super) settings: Settings,
    pub(super) outbox: Box<dyn Outbox>,
    pub(super) relay: RelayMap,
    pub(super) events: Sender<Event>,
    pub(super) height: Height,
    pub(super) revive: Revive,
    pub(super) failed: Box<dyn Fn(String) + Send>,
}

pub(super) struct Owner {
    pub(super) parts: Seams,
    pub(super) queues: Queues,
    pub(super) caller: Caller,
    pub(super) counters: Arc<Counters>,
    pub(super) pool: Pool,
    pub(super) age: Age,
    primary: Primary,
    pub(super) height: Height,
    /// The largest block and its most gas, as far as known.
    pub(super) block_bytes_max: usize,
    pub(super) gas_max: i64,
    /// Accepted since the last batch went out, by the peer that they came from.
    pub(super) fresh: HashMap<Option<PeerId>, Vec<Bytes>>,
    pub(super) fresh_count: usize,
    pub(super) fresh_bytes: usize,
    /// The connection to the application broke: nobody asks it until this says that it is where the chain is.
    pub(super) away: Option<Receiver<()>>,
    /// What the application is being asked.
    pub(super) under_way: Option<UnderWay>,
    /// The application commits a block: it is asked nothing.
    pub(super) held: bool,
    /// Who waits for it to answer before that.
    pub(super) commits: Option<Sender<()>>,
    /// When to say that it did not answer in time.
    pub(super) late_lines: Lines<()>,
    /// What has come, and what is left of a peer's transactions.
    pub(super) offered: Option<Intake>,
    pub(super) frame: Option<Frame>,
    /// Answers that go out together: to wake many at once costs little more than to wake one.
    pub(super) replies: Vec<(Reply, Result<ResponseCheckTx, PoolError>)>,
    pub(super) recheck: Recheck,
    /// How many the application is asked about at a time.
    pub(super) new_chunk: usize,
    pub(super) recheck_chunk: usize,
    pub(super) failed: bool,
}

/// Whether the owner goes on.
enum Flow {
    On,
    Stop,
}

impl Owner {
    pub(super) fn new(
        parts: Seams,
        (queues, caller): (Queues, Caller),
        counters: Arc<Counters>,
    ) -> Owner {
        Owner {
            pool: Pool::new(parts.settings.limits),
            height: parts.height,
            parts,
            queues,
            caller,
            counters,
            age: Age::default(),
            primary: Primary::Elsewhere,
            block_bytes_max: usize::MAX,
            gas_max: -1,
            fresh: HashMap::new(),
            fresh_count: 0,
            fresh_bytes: 0,
            away: None,
            under_way: None,
            held: false,
            commits: None,
            late_lines: Lines::new(LATE_LINES, 1),
            offered: None,
            frame: None,
            replies: Vec::new(),
            recheck: Recheck::default(),
            new_chunk: CHECK_BEGIN,
            recheck_chunk: CHECK_BEGIN,
            failed: false,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let flow = self.turn();
            self.answer();
            self.count();
            if matches!(flow, Flow::Stop) || self.failed {
                return;
            }
        }
    }

    /// What the engine asks, what the application answers, and what it is asked next; sleeps where none of them is there.
    fn turn(&mut self) -> Flow {
        if matches!(self.controls(), Flow::Stop) {
            return Flow::Stop;
        }
        self.hear();
        self.look_for_application();
        let asked = self.ask();
        self.answer();
        let more = asked && self.under_way.is_none();
        let checking = more || self.under_way.as_ref().is_some_and(UnderWay::is_new);
        if !checking || self.fresh_count >= BATCH_TXS || self.fresh_bytes >= BATCH_BYTES {
            self.flush();
        }
        if self.failed || more {
            return Flow::On;
        }
        self.count();
        self.wait()
    }

    /// Answers everything that the engine asks.
    fn controls(&mut self) -> Flow {
        loop {
            match self.queues.control.try_recv() {
                Ok(control) => {
                    if matches!(self.control(control), Flow::Stop) {
                        return Flow::Stop;
                    }
                }
                Err(TryRecvError::Empty) => return Flow::On,
                Err(TryRecvError::Disconnected) => return Flow::Stop,
            }
        }
    }

    /// Sleeps until something is there, or what waits in the pool goes to the primary again.
    fn wait(&mut self) -> Flow {
        let free = self.is_lost() || !(self.held || self.under_way.is_some());
        let intake = if free { self.queues.intake.clone() } else { never() };
        let (control, answers) = (self.queues.control.clone(), self.caller.answers.clone());
        let idle = self.pool.stats().count == 0 && self.fresh_count == 0;
        let again = if idle { never() } else { after(RESEND_AFTER) };
        let awaited = self.under_way.as_ref().filter(|_| self.commits.is_some());
        let late = awaited.and_then(UnderWay::awaited_until).map_or_else(never, at);
        let back = self.away.clone().unwrap_or_else(never);
        select! {
            recv(again) -> _ => {
                self.flush();
                self.expire();
                self.resend_waiting();
            }
            recv(late) -> _ => self.let_commit(),
            recv(back) -> _ => self.back(),
            recv(answers) -> answer => match answer {
                Ok(answer) => self.settle(answer),
                Err(_) => self.end_without_caller(),
            },
            recv(control) -> control => match control {
                Ok(control) => return self.control(control),
                Err(_) => return Flow::Stop,
            },
            recv(intake) -> intake => match intake {
                Ok(intake) => self.offered = Some(intake),
                Err(_) => return Flow::Stop,
            },
        }
        Flow::On
    }

    fn control(&mut self, control: Control) -> Flow {
        match control {
            Control::Reap { bytes_max, gas_max, reply } => {
                let txs = self.pool.reap(bytes_max, gas_max, self.parts.settings.batch_max);
                drop(reply.send(txs));
            }
            Control::First { limit, reply, place } => {
                let first = self.pool.oldest().take(limit);
                drop(reply.send(first.map(|entry| entry.tx.clone()).collect()));
                drop(place);
            }
            Control::Flush { reply, place } => {
                self.flush_pool();
                drop((reply.send(()), place));
            }
            Control::Hold { reply } => self.hold(reply),
            Control::Release => self.held = false,
            Control::Committed(committed) => self.committed(&committed),
            Control::Primary(peer) => self.rotate(peer),
            Control::GasMax(gas_max) => self.gas_max = gas_max,
            Control::Stop => return Flow::Stop,
        }
        Flow::On
    }

    /// Wakes those who wait for an answer.
    fn answer(&mut self) {
        for (reply, answer) in self.replies.drain(..) {
            drop(reply.send(answer));
        }
    }

    /// Sends what was accepted since the last time: to the primary first, then to all others that lack it.
    fn flush(&mut self) {
        self.fresh_count = 0;
        self.fresh_bytes = 0;
        for (from, txs) in std::mem::take(&mut self.fresh) {
            let targets = self.targets(from);
            for frame in frames(txs).take_while(|_| !targets.is_empty()) {
                for peer in &targets {
                    self.parts.outbox.send(*peer, frame.clone());
                }
            }
        }
    }

    /// A client's transactions go to every peer, the primary first; a peer's only to those that it is not connected to.
    fn targets(&self, from: Option<PeerId>) -> Vec<PeerId> {
        if let Some(from) = from {
            return self.parts.relay.load().get(&from).cloned().unwrap_or_default();
        }
        let mut peers = self.parts.outbox.peers();
        if let Some(at) = peers.iter().position(|peer| Primary::Peer(*peer) == self.primary) {
            peers.swap(0, at);
        }
        peers
    }

    /// Forgets everything. Checks under way still come back, and what they accept is taken.
    fn flush_pool(&mut self) {
        let hashes: Vec<_> = self.pool.oldest().map(|entry| entry.hash).collect();
        for hash in hashes {
            if let Some(entry) = self.pool.remove(&hash) {
                self.age.committed(&entry);
            }
        }
        self.pool.forget_all();
        self.recheck = Recheck::default();
        self.count();
    }

    fn committed(&mut self, committed: &Committed) {
        let block = &committed.block;
        self.height = block.header().height;
        self.held = false;
        self.mark_committed(block);
        for (hash, code) in block.tx_hashes().iter().zip(&committed.codes) {
            if let Some(entry) = self.pool.remove(hash) {
                self.age.committed(&entry);
            }
            if *code == 0 || self.parts.settings.keep_invalid {
                self.pool.remember(*hash);
            } else {
                self.pool.forget(hash);
            }
        }
        self.expire();
        self.block_bytes_max = committed.block_bytes_max;
        let batch_max = self.parts.settings.batch_max;
        let room = block.bytes().len().saturating_mul(2) < committed.block_bytes_max
            && block.txs().len().saturating_mul(2) < batch_max;
        let decided = Decided { now: Instant::now(), room, mine: committed.mine };
        if self.age.block(&mut self.pool, decided) {
            self.counters.suspects.store(true, Ordering::Release);
        }
        if self.parts.settings.recheck {
            self.recheck_after_block();
        }
        if room {
            self.resend_waiting();
        }
        self.count();
        self.counters.executing.fetch_sub(1, Ordering::AcqRel);
        if self.counters.eligible.load(Ordering::Acquire) > 0 {
            drop(self.parts.events.try_send(Event::Pool));
        }
    }

    /// Drops what has waited for too long. It stays known, so that no peer brings it back.
    fn expire(&mut self) {
        let (life, now) = (self.parts.settings.life, (self.height, Instant::now()));
        for hash in self.pool.oldest_while(|entry| life.is_over(entry, now)) {
            if let Some(entry) = self.pool.remove(&hash) {
                self.age.left(&entry);
                self.counters.counted.evicted();
            }
        }
    }

    /// The primary may lack what it has not put into a block for a while: its pool was full, or it has restarted. Until it has them, its
    /// chain may rest while this node waits for them to be ordered.
    fn resend_waiting(&mut self) {
        let now = Instant::now();
        self.resend(|entry| now.saturating_duration_since(entry.sent) >= RESEND_AFTER);
    }

    /// Another primary gets what has waited for a block or longer, and no blame for what others left out.
    fn rotate(&mut self, primary: Primary) {
        if primary == self.primary {
            return;
        }
        self.primary = primary;
        self.counters.suspects.store(false, Ordering::Release);
        self.age.rotated(&mut self.pool);
        let height = self.height;
        self.resend(|entry| entry.height < height);
    }

    /// Some of the oldest go to the primary again: it may have lost them, or be a new one.
    fn resend(&mut self, which: impl Fn(&Entry) -> bool) {
        let targets = match self.primary {
            _ if !self.parts.settings.broadcast => return,
            Primary::Here => return,
            Primary::Peer(peer) => vec![peer],
            Primary::Elsewhere => self.parts.outbox.peers(),
        };
        let now = Instant::now();
        let oldest = self.pool.oldest_mut().take(RESEND_LOOK_MAX).filter(|entry| which(entry));
        let txs = oldest.take(RESEND_MAX).map(|entry| {
            entry.sent = now;
            entry.tx.clone()
        });
        for frame in frames(txs.collect()) {
            for peer in &targets {
                self.parts.outbox.send(*peer, frame.clone());
            }
        }
    }

    /// Publishes the counters, and wakes the engine when the first transaction is there.
    fn count(&self) {
        let stats = self.pool.stats();
        let eligible = stats.count.saturating_sub(self.age.aged());
        self.counters.count.store(stats.count, Ordering::Relaxed);
        self.counters.bytes.store(stats.total_bytes, Ordering::Relaxed);
        let before = self.counters.eligible.swap(eligible, Ordering::AcqRel);
        if before == 0 && eligible > 0 {
            drop(self.parts.events.try_send(Event::Pool));
        }
    }
}

/// The frames for these transactions, each within [`BATCH_TXS`] and, where it holds more than one, [`BATCH_BYTES`].
fn frames(txs: Vec<Bytes>) -> impl Iterator<Item = Bytes> {
    let mut rest = txs.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut batch = vec![rest.next()?];
        let mut bytes = batch.iter().map(Bytes::len).sum::<usize>();
        while batch.len() < BATCH_TXS
            && let Some(tx) = rest.next_if(|tx| bytes + tx.len() <= BATCH_BYTES)
        {
            bytes += tx.len();
            batch.push(tx);
        }
        Some(wire::encode_transactions(batch))
    })
}
