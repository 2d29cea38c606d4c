//! The thread that owns the pool.

use super::age::Age;
use super::pool::{Entry, Pool, TxHash};
use super::{Committed, Control, Counters, Intake, Parts, Queues};
use crate::audit::Discarded;
use crate::engine::Event;
use crate::network::{Class, Inbound, PeerId};
use crate::rpc::sources::PoolError;
use crate::wire;
use bytes::Bytes;
use crossbeam_channel::{TryRecvError, select};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tendermint::block::Height;
use tendermint_proto::v0_38::abci::{CheckTxType, RequestCheckTx, ResponseCheckTx};

/// How many transactions are checked before the engine's questions are looked at again.
const CHUNK: usize = 64;
/// How many transactions, or bytes of them, go out in one frame.
const BATCH_TXS: usize = 512;
const BATCH_BYTES: usize = 128 * 1024;
/// How many transactions are rechecked at a time, when nothing else is to do.
const RECHECK_CHUNK: usize = 64;
/// A transaction that is still here after so many blocks goes to the primary again.
const RESEND_BLOCKS: u64 = 8;
/// How many transactions go to the primary again after a block.
const RESEND_MAX: usize = 512;

pub(super) struct Owner {
    parts: Parts,
    queues: Queues,
    counters: Arc<Counters>,
    pool: Pool,
    age: Age,
    primary: Option<PeerId>,
    height: Height,
    /// Accepted since the last batch went out, by the peer that they came from.
    fresh: HashMap<Option<PeerId>, Vec<Bytes>>,
    fresh_count: usize,
    fresh_bytes: usize,
    /// Where the recheck goes on.
    recheck: Option<u64>,
    failed: bool,
}

/// Whether the owner goes on.
enum Flow {
    On,
    Stop,
}

impl Owner {
    pub(super) fn new(parts: Parts, queues: Queues, counters: Arc<Counters>) -> Owner {
        Owner {
            pool: Pool::new(parts.settings.limits),
            height: parts.height,
            parts,
            queues,
            counters,
            age: Age::default(),
            primary: None,
            fresh: HashMap::new(),
            fresh_count: 0,
            fresh_bytes: 0,
            recheck: None,
            failed: false,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            if matches!(self.controls(), Flow::Stop) || self.failed {
                return;
            }
            let took = self.intake();
            if !took || self.fresh_count >= BATCH_TXS || self.fresh_bytes >= BATCH_BYTES {
                self.flush();
            }
            self.count();
            if !took && !self.recheck_some() && matches!(self.wait(), Flow::Stop) {
                return;
            }
        }
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

    /// Sleeps until something is there.
    fn wait(&mut self) -> Flow {
        let queues = (self.queues.control.clone(), self.queues.intake.clone());
        select! {
            recv(queues.0) -> control => match control {
                Ok(control) => self.control(control),
                Err(_) => Flow::Stop,
            },
            recv(queues.1) -> intake => match intake {
                Ok(intake) => {
                    self.take(intake);
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
            Control::First { limit, reply } => {
                drop(reply.send(self.pool.oldest().take(limit).map(|entry| entry.tx.clone()).collect()));
            }
            Control::Committed(committed) => self.committed(&committed),
            Control::Primary(peer) => self.primary = peer,
            Control::Stop => return Flow::Stop,
        }
        Flow::On
    }

    /// Takes a chunk of what clients and peers sent; false where nothing was there.
    fn intake(&mut self) -> bool {
        for taken in 0..CHUNK {
            match self.queues.intake.try_recv() {
                Ok(intake) => self.take(intake),
                Err(_) => return taken > 0,
            }
        }
        true
    }

    fn take(&mut self, intake: Intake) {
        match intake {
            Intake::Client { tx, reply } => {
                let answer = self.check(tx, None);
                if let Some(reply) = reply {
                    drop(reply.send(answer));
                }
            }
            Intake::Peer(inbound) => self.take_frame(&inbound),
        }
    }

    fn take_frame(&mut self, inbound: &Inbound) {
        match wire::decode_transactions(inbound.bytes.clone()) {
            Ok(txs) => {
                for tx in txs {
                    // A peer's transaction that is known or refused is no fault of the peer: it cannot know.
                    drop(self.check(tx, Some(inbound.peer)));
                }
            }
            Err(reject) => {
                self.parts.audit.discard(Discarded::reject(reject, inbound.peer, inbound.class));
            }
        }
    }

    fn check(&mut self, tx: Bytes, from: Option<PeerId>) -> Result<ResponseCheckTx, PoolError> {
        let hash: TxHash = Sha256::digest(&tx).into();
        self.pool.admit(hash, tx.len())?;
        let answer = self.ask(tx.clone(), CheckTxType::New)?;
        if answer.code == 0 {
            let entry = Entry {
                tx: tx.clone(),
                hash,
                gas: answer.gas_wanted,
                height: self.height,
                since: Instant::now(),
                left_out: 0,
                suspected: false,
            };
            self.pool.add(entry);
            self.fresh_count += 1;
            self.fresh_bytes += tx.len();
            self.fresh.entry(from).or_default().push(tx);
        } else if !self.parts.settings.keep_invalid {
            self.pool.forget(&hash);
        }
        Ok(answer)
    }

    fn ask(&mut self, tx: Bytes, kind: CheckTxType) -> Result<ResponseCheckTx, PoolError> {
        let request = RequestCheckTx { tx, r#type: kind.into() };
        self.parts.app.check_tx(request).map_err(|error| {
            self.failed = true;
            (self.parts.failed)(error.to_string());
            PoolError::Unavailable(error.to_string())
        })
    }

    /// Sends what was accepted since the last time: to the primary first, then to all others that lack it.
    fn flush(&mut self) {
        self.fresh_count = 0;
        self.fresh_bytes = 0;
        for (from, txs) in std::mem::take(&mut self.fresh) {
            if !self.parts.settings.broadcast {
                continue;
            }
            let targets = self.targets(from);
            if targets.is_empty() {
                continue;
            }
            for batch in txs.chunks(BATCH_TXS) {
                let frame = wire::encode_transactions(batch.to_vec());
                for peer in &targets {
                    self.send(*peer, frame.clone());
                }
            }
        }
    }

    /// A client's transactions go to every peer, the primary first; a peer's only to those that it is not connected to.
    fn targets(&self, from: Option<PeerId>) -> Vec<PeerId> {
        match from {
            Some(from) => self.parts.relay.load().get(&from).cloned().unwrap_or_default(),
            None => {
                let peers = self.parts.network.peers();
                let others = peers.iter().map(|info| info.peer);
                let others = others.filter(|peer| Some(*peer) != self.primary);
                self.primary.into_iter().chain(others).collect()
            }
        }
    }

    /// A full queue only delays: what is still here after some blocks goes to the primary again.
    fn send(&self, peer: PeerId, frame: Bytes) {
        if let Err(error) = self.parts.network.send(peer, Class::Transactions, frame) {
            tracing::trace!(%peer, %error, "transactions not sent");
        }
    }

    fn committed(&mut self, committed: &Committed) {
        let block = &committed.block;
        self.height = block.header().height;
        for (hash, code) in block.tx_hashes().iter().zip(&committed.codes) {
            if let Some(entry) = self.pool.remove(hash)
                && entry.suspected
            {
                self.age.vindicated();
            }
            if *code == 0 || self.parts.settings.keep_invalid {
                self.pool.remember(*hash);
            } else {
                self.pool.forget(hash);
            }
        }
        let room = block.bytes().len() * 2 < committed.block_bytes_max
            && block.txs().len() * 2 < self.parts.settings.batch_max;
        if self.age.block(&mut self.pool, Instant::now(), room, committed.mine) {
            self.counters.suspects.store(true, Ordering::Release);
        }
        if self.parts.settings.recheck && self.recheck.is_none() {
            self.recheck = Some(0);
        }
        self.resend();
        self.count();
    }

    /// What has waited for several blocks goes to the primary again: it may have lost it, or be a new one.
    fn resend(&self) {
        let Some(primary) = self.primary else { return };
        let waited = |entry: &&Entry| {
            let blocks = self.height.value().saturating_sub(entry.height.value());
            blocks > 0 && blocks.is_multiple_of(RESEND_BLOCKS)
        };
        let oldest = self.pool.oldest().take(RESEND_MAX);
        let txs: Vec<Bytes> = oldest.filter(waited).map(|entry| entry.tx.clone()).collect();
        if !txs.is_empty() {
            self.send(primary, wire::encode_transactions(txs));
        }
    }

    /// Rechecks a few transactions; false where none is left to recheck.
    fn recheck_some(&mut self) -> bool {
        let Some(from) = self.recheck else { return false };
        let (page, next) = self.pool.page(from, RECHECK_CHUNK);
        self.recheck = next;
        for (hash, tx) in page {
            match self.ask(tx, CheckTxType::Recheck) {
                Ok(answer) if answer.code != 0 => {
                    self.pool.remove(&hash);
                    if !self.parts.settings.keep_invalid {
                        self.pool.forget(&hash);
                    }
                }
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        self.recheck.is_some()
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
