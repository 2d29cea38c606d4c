//! The thread that owns pending evidence: takes it from this node's own replica, from peers and from clients, verifies it, keeps it on
//! disk until a block has it or it is too old, and tells the peers.
//!
//! Whoever builds a block reads [`Pending`] and waits for nobody. What waits for this thread is bounded, so that whoever offers evidence
//! that is costly to look at delays other evidence and nothing else.

use super::block::{bytes_max, check_piece};
use super::facts::Tip;
use super::pool::{Added, Pair, Pool};
use super::{EvidenceError, Invalid, Piece};
use crate::audit::{Audit, Discarded};
use crate::network::{Class, PeerId};
use crate::store::{Chain, State, StoreError};
use crate::wire;
use arc_swap::ArcSwap;
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded, select, tick};
use prost::Message as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tercet_consensus::replica::Unused;
use tercet_consensus::verify::{Reject, SignatureCheck};
use tokio::sync::oneshot;

/// The most votes of this node's own replica, and other notices, that wait for the owner.
const NOTICES_MAX: usize = 1_024;
/// The most frames of peers and calls of clients that wait for it.
const OFFERS_MAX: usize = 16;
/// Pending evidence is told again so often: to whoever came later or lost it (CometBFT `broadcastEvidenceIntervalS`).
const TOLD_AGAIN: Duration = Duration::from_secs(10);
/// The most bytes that are told again at once, the oldest first.
const TOLD_BYTES_MAX: usize = 1 << 20;

/// What is pending, the oldest height first, for whoever builds a block.
pub type Pending = Arc<ArcSwap<Vec<Arc<Piece>>>>;

/// Sends a frame to every peer.
pub type Broadcast = Box<dyn Fn(Bytes) + Send>;

type Reply = oneshot::Sender<Result<(), String>>;

/// What this node itself tells the owner.
enum Notice {
    Votes(Box<Pair>),
    Moved,
    Stop,
}

/// What others offer.
enum Offer {
    Peer { peer: PeerId, pieces: Vec<Bytes> },
    Client { piece: Box<Piece>, reply: Reply },
}

/// A handle on pending evidence.
#[derive(Clone)]
pub struct Evidence {
    notices: Sender<Notice>,
    offers: Sender<Offer>,
    moved: Arc<AtomicBool>,
    pending: Pending,
    audit: Audit,
}

/// What the owner is made of.
pub struct Parts {
    /// The chain.
    pub chain: Chain,
    /// How signatures are checked.
    pub check: Arc<dyn SignatureCheck + Send + Sync>,
    /// How peers are told.
    pub broadcast: Broadcast,
    /// What was thrown away.
    pub audit: Audit,
}

/// The queues' other ends.
struct Queues {
    notices: Receiver<Notice>,
    offers: Receiver<Offer>,
    moved: Arc<AtomicBool>,
}

impl Evidence {
    /// The handle and the owner, whose [`Owner::run`] ends after [`Evidence::stop`].
    #[must_use]
    pub fn new(parts: Parts) -> (Evidence, Owner) {
        let (notices, notice_queue) = bounded(NOTICES_MAX);
        let (offers, offer_queue) = bounded(OFFERS_MAX);
        let (moved, pending) = (Arc::new(AtomicBool::new(false)), Pending::default());
        let queues =
            Queues { notices: notice_queue, offers: offer_queue, moved: Arc::clone(&moved) };
        let audit = parts.audit.clone();
        let handle = Evidence { notices, offers, moved, pending: Arc::clone(&pending), audit };
        (handle, Owner { parts, queues, pool: Pool::default(), pending })
    }

    /// Two votes that this node's replica verified.
    pub fn votes(&self, pair: Pair) {
        if self.notices.try_send(Notice::Votes(Box::new(pair))).is_err() {
            tracing::warn!("evidence was seen faster than it is looked at: some is lost here");
        }
    }

    /// The chain has executed a block.
    pub fn moved(&self) {
        self.moved.store(true, Ordering::Release);
        // Where the queue is full the owner is at work, and looks afterwards.
        let _ = self.notices.try_send(Notice::Moved);
    }

    /// Pieces of a peer. Where too much waits they are dropped: whoever has them tells of them again.
    pub fn offer(&self, peer: PeerId, pieces: &[Bytes]) {
        if pieces.is_empty() || self.audit.skips(peer, Class::Transactions) {
            return;
        }
        // Copied: a piece must not keep its frame alive.
        let pieces = pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect();
        if self.offers.try_send(Offer::Peer { peer, pieces }).is_err() {
            self.audit.too_many(peer, Class::Transactions);
        }
    }

    /// A piece of a client; the answer says why it is not taken. One that is pending or committed already is.
    #[must_use]
    pub fn add(&self, piece: Piece) -> oneshot::Receiver<Result<(), String>> {
        let (reply, answer) = oneshot::channel();
        let offer = Offer::Client { piece: Box::new(piece), reply };
        if let Err(refused) = self.offers.try_send(offer)
            && let Offer::Client { reply, .. } = refused.into_inner()
        {
            // Who asked may have ended.
            let _ = reply.send(Err("too much evidence waits to be verified: try again".into()));
        }
        answer
    }

    /// What is pending.
    #[must_use]
    pub fn pending(&self) -> Arc<Vec<Arc<Piece>>> {
        self.pending.load_full()
    }

    /// Ends the owner.
    pub fn stop(&self) {
        // Where the queue is full for so long, the owner hangs, and the process ends without it.
        let _ = self.notices.send_timeout(Notice::Stop, Duration::from_secs(1));
    }
}

/// The owner of pending evidence.
pub struct Owner {
    parts: Parts,
    queues: Queues,
    pool: Pool,
    pending: Pending,
}

impl Owner {
    /// Works until it is told to stop.
    pub fn run(&mut self) {
        self.load();
        self.publish();
        let ticks = tick(TOLD_AGAIN);
        loop {
            let (notices, offers) = (self.queues.notices.clone(), self.queues.offers.clone());
            select! {
                recv(notices) -> notice => match notice {
                    Ok(Notice::Votes(pair)) => self.wait(*pair),
                    Ok(Notice::Moved) => {}
                    Ok(Notice::Stop) | Err(_) => return,
                },
                recv(offers) -> offer => match offer {
                    Ok(offer) => self.look(offer),
                    Err(_) => return,
                },
                recv(ticks) -> _ => self.tell_again(),
            }
            if self.queues.moved.swap(false, Ordering::AcqRel) {
                self.update();
            }
        }
    }

    /// What was pending when the node stopped.
    fn load(&mut self) {
        let load = |this: &mut Owner| -> Result<(), StoreError> {
            let Some(state) = this.parts.chain.state()? else { return Ok(()) };
            for (offence, bytes) in this.parts.chain.pending_evidence()? {
                let piece = wire::decode_evidence(&bytes).ok().and_then(|raw| Piece::new(raw).ok());
                let kept = match piece.map(|piece| this.take(piece, &state)) {
                    Some(Err(EvidenceError::Store(error))) => return Err(error),
                    Some(Ok(added)) => added == Added::New,
                    Some(Err(EvidenceError::Invalid(_))) | None => false,
                };
                if !kept {
                    this.parts.chain.drop_pending_evidence(&[offence])?;
                }
            }
            Ok(())
        };
        told(load(self));
    }

    fn wait(&mut self, pair: Pair) {
        if !self.pool.wait(pair) {
            tracing::warn!("too many validators signed twice at one height: some is lost here");
        }
        self.update();
    }

    fn look(&mut self, offer: Offer) {
        match offer {
            Offer::Peer { peer, pieces } => {
                for bytes in pieces {
                    if self.parts.audit.skips(peer, Class::Transactions) {
                        return;
                    }
                    self.look_at(peer, &bytes);
                }
            }
            Offer::Client { piece, reply } => {
                let result = self.take_now(*piece);
                let full = || Err("the evidence pool is full".to_owned());
                let answer = match result {
                    Ok(Added::New | Added::Known) => Ok(()),
                    Ok(Added::Full) => full(),
                    Err(EvidenceError::Invalid(invalid)) => {
                        Err(format!("Invalid evidence: {invalid}"))
                    }
                    Err(EvidenceError::Store(error)) => Err(error.to_string()),
                };
                // Who asked may have given up.
                let _ = reply.send(answer);
            }
        }
    }

    fn look_at(&mut self, peer: PeerId, bytes: &[u8]) {
        let (audit, class) = (self.parts.audit.clone(), Class::Transactions);
        let discard = |reject| audit.discard(Discarded::reject(reject, peer, class));
        let raw = match wire::decode_evidence(bytes) {
            Ok(raw) => raw,
            Err(reject) => return discard(reject),
        };
        let result = Piece::new(raw).map_err(EvidenceError::from);
        match result.and_then(|piece| self.take_now(piece)) {
            Ok(Added::New) => {}
            Ok(Added::Known) => audit.count(Unused::Duplicate, peer, class),
            Ok(Added::Full) => audit.too_many(peer, class),
            Err(EvidenceError::Invalid(invalid)) if invalid.is_fault() => discard(reject(&invalid)),
            Err(EvidenceError::Invalid(Invalid::Early(_))) => {
                audit.count(Unused::Future, peer, class);
            }
            Err(EvidenceError::Invalid(_)) => audit.count(Unused::Stale, peer, class),
            Err(EvidenceError::Store(error)) => told(Err(error)),
        }
    }

    fn take_now(&mut self, piece: Piece) -> Result<Added, EvidenceError> {
        let state = self.parts.chain.state()?.ok_or(Invalid::Early(piece.height()))?;
        let added = self.take(piece, &state)?;
        if added == Added::New {
            self.publish();
        }
        Ok(added)
    }

    /// Takes a piece that is valid and not known: it is on disk before it is told to anyone.
    fn take(&mut self, piece: Piece, state: &State) -> Result<Added, EvidenceError> {
        let (tip, chain) = (Tip::of(state), &self.parts.chain);
        match self.pool.would_add(&piece) {
            Added::New => {}
            known => return Ok(known),
        }
        match check_piece(&piece, &tip, chain, &*self.parts.check) {
            Err(EvidenceError::Invalid(Invalid::Committed)) => return Ok(Added::Known),
            result => result?,
        }
        let piece = match chain.validators(piece.height())? {
            Some(validators) => piece.canonical(&validators),
            None => piece,
        };
        let (size, most) = (piece.size_bytes(), bytes_max(&tip));
        if size + 1 + prost::length_delimiter_len(size) > most {
            return Err(Invalid::TooMuch(size, most).into());
        }
        let bytes = piece.raw().encode_to_vec();
        chain.put_pending_evidence(&piece.key().to_bytes(), &bytes)?;
        tracing::warn!(height = %piece.height(), offence = ?piece.key().what, "evidence is pending");
        let added = self.pool.add(piece);
        (self.parts.broadcast)(wire::encode_pieces(vec![bytes.into()]));
        Ok(added)
    }

    /// The chain has moved: votes whose height is decided become evidence, and what a block has or is too old goes.
    fn update(&mut self) {
        if self.pool.is_empty() {
            return;
        }
        let update = |this: &mut Owner| -> Result<(), StoreError> {
            let Some(state) = this.parts.chain.state()? else { return Ok(()) };
            let Some(last) = state.last_height else { return Ok(()) };
            for pair in this.pool.take_decided(last) {
                this.accuse(&pair, &state)?;
            }
            this.forget(&state)
        };
        told(update(self));
        self.publish();
    }

    /// Makes evidence of two votes of a decided height.
    fn accuse(&mut self, pair: &Pair, state: &State) -> Result<(), StoreError> {
        let height = pair.0.message.height;
        let (meta, validators) =
            (self.parts.chain.meta(height)?, self.parts.chain.validators(height)?);
        let Some((meta, validators)) = meta.zip(validators) else { return Ok(()) };
        let Some(piece) = Piece::of_votes(pair, meta.header.time, &validators) else {
            return Ok(());
        };
        match self.take(piece, state) {
            Ok(Added::Full) => tracing::warn!(%height, "no room for evidence"),
            Ok(Added::New | Added::Known) => {}
            Err(EvidenceError::Invalid(invalid)) => {
                tracing::warn!(%height, "evidence of this node's own is not valid: {invalid}");
            }
            Err(EvidenceError::Store(error)) => return Err(error),
        }
        Ok(())
    }

    /// Forgets what a block has and what is too old.
    fn forget(&mut self, state: &State) -> Result<(), StoreError> {
        let (tip, mut gone) = (Tip::of(state), Vec::new());
        for piece in self.pool.list() {
            let key = piece.key();
            let committed = self.parts.chain.evidence_mark(&key.to_bytes())?.is_some();
            let old = piece.height().value() < tip.floor
                || tip.check_age(piece.height(), piece.time()).is_err();
            if committed || old {
                self.pool.remove(&key);
                gone.push(key.to_bytes());
            }
        }
        if gone.is_empty() { Ok(()) } else { self.parts.chain.drop_pending_evidence(&gone) }
    }

    fn publish(&self) {
        self.pending.store(Arc::new(self.pool.list()));
    }

    fn tell_again(&self) {
        let mut bytes = 0;
        let mut frame = Vec::new();
        for piece in self.pool.list() {
            bytes += piece.size_bytes();
            if bytes > TOLD_BYTES_MAX {
                break;
            }
            frame.push(piece.raw().encode_to_vec().into());
            if frame.len() == wire::PIECES_MAX {
                (self.parts.broadcast)(wire::encode_pieces(std::mem::take(&mut frame)));
            }
        }
        if !frame.is_empty() {
            (self.parts.broadcast)(wire::encode_pieces(frame));
        }
    }
}

/// How a fault is counted.
fn reject(invalid: &Invalid) -> Reject {
    match invalid {
        Invalid::Signature(_) => Reject::Signature,
        Invalid::Stranger { .. } => Reject::UnknownValidator,
        _ => Reject::Malformed("evidence that does not hold"),
    }
}

/// A disk that fails ends the node where it matters; evidence can wait.
fn told(result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::error!("evidence could not be kept: {error}");
    }
}

#[cfg(test)]
#[path = "owner_tests.rs"]
mod tests;
