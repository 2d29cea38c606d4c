//! The thread that owns the pool.

use super::age::{Age, Decided};
use super::check::{Asked, RECHECK_MIN};
use super::pool::{Entry, Pool};
use super::{
    Committed, Control, Counters, Intake, Outbox, Queues, RelayMap, Reply, Revive, Settings,
};
use crate::engine::Event;
use crate::engine::run::Primary;
use crate::network::PeerId;
use crate::rpc::sources::PoolError;
use crate::wire;
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TryRecvError, after, never, select};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tendermint::block::Height;
use tendermint_proto::v0_38::abci::ResponseCheckTx;
use tercet_abci::Application;

/// How many transactions or frames are checked before the engine's questions are looked at again.
const CHUNK: usize = 64;
/// How many transactions, or bytes of them, go out in one frame; a larger one goes alone.
const BATCH_TXS: usize = 512;
const BATCH_BYTES: usize = 128 * 1024;
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
    pub(super) app: Box<dyn Application>,
    pub(super) outbox: Box<dyn Outbox>,
    pub(super) relay: RelayMap,
    pub(super) events: Sender<Event>,
    pub(super) height: Height,
    pub(super) revive: Revive,
    pub(super) failed: Box<dyn Fn(String) + Send>,
}

pub(super) struct Owner {
    pub(super) parts: Seams,
    queues: Queues,
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
    /// Admitted, and to be checked together.
    pub(super) asked: Vec<Asked>,
    /// Answers that go out together: to wake many at once costs little more than to wake one.
    pub(super) replies: Vec<(Reply, Result<ResponseCheckTx, PoolError>)>,
    /// What is left to recheck, and whether to begin anew after it, as another block was executed meanwhile.
    pub(super) recheck: Range<u64>,
    pub(super) recheck_again: bool,
    /// How many are rechecked at a time.
    pub(super) recheck_chunk: usize,
    pub(super) failed: bool,
}

/// Whether the owner goes on.
enum Flow {
    On,
    Stop,
}

impl Owner {
    pub(super) fn new(parts: Seams, queues: Queues, counters: Arc<Counters>) -> Owner {
        Owner {
            pool: Pool::new(parts.settings.limits),
            height: parts.height,
            parts,
            queues,
            counters,
            age: Age::default(),
            primary: Primary::Elsewhere,
            block_bytes_max: usize::MAX,
            gas_max: -1,
            fresh: HashMap::new(),
            fresh_count: 0,
            fresh_bytes: 0,
            away: None,
            asked: Vec::new(),
            replies: Vec::new(),
            recheck: 0..0,
            recheck_again: false,
            recheck_chunk: RECHECK_MIN,
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

    /// What the engine asks, a chunk of what has come, a chunk of the recheck; sleeps where none of them is there.
    fn turn(&mut self) -> Flow {
        if matches!(self.controls(), Flow::Stop) {
            return Flow::Stop;
        }
        self.look_for_application();
        let took = self.intake();
        self.answer();
        if !took || self.fresh_count >= BATCH_TXS || self.fresh_bytes >= BATCH_BYTES {
            self.flush();
        }
        let rechecked = self.recheck_some();
        if took || rechecked || self.failed {
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
        let queues = (self.queues.control.clone(), self.queues.intake.clone());
        let empty = self.pool.stats().count == 0;
        let again = if empty { never() } else { after(RESEND_AFTER) };
        let back = self.away.clone().unwrap_or_else(never);
        select! {
            recv(again) -> _ => {
                self.expire();
                self.resend_waiting();
                Flow::On
            }
            recv(back) -> _ => {
                self.back();
                Flow::On
            }
            recv(queues.0) -> control => match control {
                Ok(control) => self.control(control),
                Err(_) => Flow::Stop,
            },
            recv(queues.1) -> intake => match intake {
                Ok(intake) => {
                    self.take(intake);
                    self.check_asked();
                    Flow::On
                }
                Err(_) => Flow::Stop,
            },
        }
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
            Control::Committed(committed) => self.committed(&committed),
            Control::Primary(peer) => self.rotate(peer),
            Control::GasMax(gas_max) => self.gas_max = gas_max,
            Control::Stop => return Flow::Stop,
        }
        Flow::On
    }

    /// Takes a chunk of what clients and peers sent; false where nothing was there.
    fn intake(&mut self) -> bool {
        let mut taken = 0;
        while taken < CHUNK
            && let Ok(intake) = self.queues.intake.try_recv()
        {
            self.take(intake);
            taken += 1;
        }
        self.check_asked();
        taken > 0
    }

    fn take(&mut self, intake: Intake) {
        match intake {
            Intake::Client { tx, reply, room } => {
                self.admit(Asked { tx, from: None, reply });
                drop(room);
            }
            Intake::Peer { peer, txs, room } => {
                for tx in txs {
                    // A peer's transaction that is known or refused is no fault of the peer: it cannot know.
                    self.admit(Asked { tx, from: Some(peer), reply: None });
                }
                drop(room);
            }
        }
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
        self.recheck = 0..0;
        self.count();
    }

    fn committed(&mut self, committed: &Committed) {
        let block = &committed.block;
        self.height = block.header().height;
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
            if self.recheck.is_empty() {
                self.recheck = 0..self.pool.end();
            } else {
                self.recheck_again = true;
            }
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
