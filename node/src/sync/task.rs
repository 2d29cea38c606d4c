//! The task that asks peers for decided blocks, serves them, and verifies what comes before the replica sees it.

use super::ahead::{Ahead, Blame, Prepared};
use super::handed::Handed;
use super::plan::{Plan, WINDOW};
use super::suspicion::Suspicion;
use super::{NOTICES_MAX, Notice, SyncHandle, Told};
use crate::audit::{Audit, Discarded};
use crate::engine::Event;
use crate::engine::heights::Published;
use crate::engine::verifier::Verifier;
use crate::network::{Class, Inbound, Network, PeerId};
use crate::store::Chain;
use crate::wire::{Sync, SyncItem, SyncRequest, SyncResponse, SyncTip, UNASKED};
use crossbeam_channel::Sender;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tendermint::block::Height;
use tercet_consensus::message::{Decided, Verified};
use tercet_consensus::verify::Reject;
use tokio::sync::mpsc;

/// How often timeouts are looked at.
const TURN: Duration = Duration::from_millis(100);
/// The most bytes of a response, unless one block alone is larger.
const RESPONSE_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// How many heights make a replica behind: the block that it is just deciding does not.
const BEHIND_MIN: u64 = 2;
/// The most blocks that the engine is given at once, which it makes durable together.
const BATCH_MAX: usize = 32;
/// After how long what was handed over counts as lost.
const HANDED_MAX: Duration = Duration::from_secs(5);

/// What the task is made of.
pub struct Parts {
    /// The network.
    pub network: Network,
    /// Frames of the sync class.
    pub inbox: mpsc::Receiver<Inbound>,
    /// The chain, to serve from.
    pub chain: Chain,
    /// Who verifies.
    pub verifier: Verifier,
    /// The heights that can be verified.
    pub heights: Published,
    /// The engine.
    pub events: Sender<Event>,
    /// What was thrown away.
    pub audit: Audit,
}

struct Task {
    parts: Parts,
    notices: mpsc::Receiver<Notice>,
    told: Arc<Told>,
    start: Instant,
    plan: Plan<PeerId>,
    ahead: Ahead,
    prepared: mpsc::UnboundedReceiver<Prepared>,
    /// What was handed to the engine, and when the last of it.
    handed: Handed,
    handed_at: Instant,
    suspicion: Suspicion,
}

/// Starts the task on the current runtime.
#[must_use]
pub fn start(parts: Parts) -> (SyncHandle, tokio::task::JoinHandle<()>) {
    let (notices, queue) = mpsc::channel(NOTICES_MAX);
    let (told, start) = (Arc::new(Told::default()), Instant::now());
    let (ahead, prepared) = Ahead::new();
    let task = Task {
        parts,
        notices: queue,
        told: told.clone(),
        start,
        plan: Plan::default(),
        ahead,
        prepared,
        handed: Handed::default(),
        handed_at: start,
        suspicion: Suspicion::default(),
    };
    (SyncHandle { notices, told, start }, tokio::spawn(task.run()))
}

impl Task {
    async fn run(mut self) {
        let mut turn = tokio::time::interval(TURN);
        turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                inbound = self.parts.inbox.recv() => match inbound {
                    Some(inbound) => self.take(inbound).await,
                    None => return,
                },
                notice = self.notices.recv() => match notice {
                    Some(notice) => self.notice(notice),
                    None => return,
                },
                Some(prepared) = self.prepared.recv() => self.take_prepared(prepared),
                _ = turn.tick() => self.turn(),
            }
            self.hand_over();
            self.ask();
            self.tell();
        }
    }

    fn current(&self) -> u64 {
        self.parts.heights.load().current.value()
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Decided(peer, decided) => self.plan.peer_has(peer, decided.value(), None),
            Notice::TellTip(peer) => self.tell_tip(peer),
            Notice::Moved => {}
        }
    }

    fn turn(&mut self) {
        for peer in self.plan.expire(Instant::now()) {
            tracing::debug!(%peer, "a peer did not serve the blocks that it said it has");
        }
        let current = self.current();
        if self.handed.last() > current && self.handed_at.elapsed() >= HANDED_MAX {
            // The engine did not use what it was given, or was told twice what it is not at any more.
            self.handed.again_from(current.saturating_sub(1));
        }
    }

    fn tell(&self) {
        let current = self.current();
        let behind = self.plan.attested() >= current + BEHIND_MIN;
        let more = self.plan.best() > self.handed.last().max(current.saturating_sub(1));
        self.told.behind.store(behind, Ordering::Relaxed);
        self.told.more.store(more, Ordering::Relaxed);
    }

    fn tell_tip(&self, peer: PeerId) {
        if let (Some(height), Some(base)) = (self.parts.chain.height(), self.parts.chain.base()) {
            self.send(peer, &Sync::Tip(SyncTip { height, base }));
        }
    }

    async fn take(&mut self, inbound: Inbound) {
        let peer = inbound.peer;
        let block_bytes_max = self.block_bytes_max();
        let limits = |id| {
            let request = self.plan.request(id).filter(|request| request.peer == peer)?;
            Some(wire_request(request)?.limits(block_bytes_max))
        };
        match Sync::decode(inbound.bytes, limits) {
            Ok(Sync::Request(request)) => self.serve(peer, request).await,
            Ok(Sync::Response(response)) => self.take_response(peer, response),
            Ok(Sync::Tip(tip)) if tip.base <= tip.height => {
                self.plan.peer_has(peer, tip.height.value(), Some(tip.base.value()));
            }
            Ok(Sync::Tip(_)) => self.discard(peer, Reject::Malformed("base above height")),
            Err(UNASKED) => self.parts.audit.discard(Discarded::unasked(peer, Class::Sync)),
            Err(reject) => self.discard(peer, reject),
        }
    }

    fn block_bytes_max(&self) -> usize {
        let heights = self.parts.heights.load();
        heights.at(heights.current).map_or(0, |info| info.block_bytes_max)
    }

    fn discard(&self, peer: PeerId, reject: Reject) {
        self.parts.audit.discard(Discarded::reject(reject, peer, Class::Sync));
    }

    fn take_response(&mut self, peer: PeerId, response: SyncResponse) {
        let Some(request) = self.plan.answer(response.id, &peer) else {
            return self.parts.audit.discard(Discarded::unasked(peer, Class::Sync));
        };
        let last = response.last.value();
        if response.items.is_empty() && last >= request.from {
            if self.plan.has_pruned(&peer, request.from) {
                return;
            }
            return self.plan.blame(&peer, Instant::now());
        }
        self.plan.peer_ends_at(&peer, last);
        tracing::debug!(%peer, from = request.from, count = response.items.len(), last, "blocks came");
        let heights = request.from..request.from + request.count;
        for (height, item) in heights.zip(response.items) {
            self.ahead.add(height, peer, item, &self.parts.verifier);
        }
    }

    fn take_prepared(&mut self, prepared: Prepared) {
        if let Err(blame) = self.ahead.prepared(prepared) {
            self.blame(blame);
        }
    }

    fn blame(&mut self, (peer, reject): Blame) {
        self.discard(peer, reject);
        self.plan.blame(&peer, Instant::now());
        self.ahead.drop_from(&peer);
        self.parts.network.disconnect(peer, "it served a block that does not verify");
    }

    /// Says so where it may be this node that is wrong.
    fn suspect(&mut self, height: u64, (peer, reject): &Blame) {
        if self.suspicion.refused(height, *peer) {
            tracing::error!(
                height,
                "the blocks that several peers serve do not verify under this node's validators ({reject}): where it is not they who lie, \
                 this node's application answered InitChain or FinalizeBlock with other validators than theirs; compare its version and \
                 the genesis with theirs"
            );
        }
    }

    /// The height that the engine needs next.
    fn wanted(&self) -> u64 {
        self.current().max(self.handed.last() + 1)
    }

    /// Hands the blocks that follow to the engine, each once, as far as they are here and verify.
    fn hand_over(&mut self) {
        self.ahead.drop_below(self.wanted());
        loop {
            let batch = self.batch();
            if batch.is_empty() {
                return;
            }
            self.handed_at = Instant::now();
            let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.told.last_taken_ms.store(elapsed.max(1), Ordering::Relaxed);
            tracing::debug!(
                count = batch.len(),
                last = self.handed.last(),
                "blocks are handed over"
            );
            let events = &self.parts.events;
            // A full queue is waited for, beside the runtime; it fails only while the node is stopping.
            tokio::task::block_in_place(|| drop(events.send(Event::Decided(batch))));
        }
    }

    fn batch(&mut self) -> Vec<Verified<Decided>> {
        let heights = self.parts.heights.load_full();
        let executed = self.parts.chain.height().map_or(heights.current.value(), |at| at.value());
        self.handed.executed(executed);
        let mut batch = Vec::new();
        let mut height = self.wanted();
        while batch.len() < BATCH_MAX {
            let Some(bytes) = self.ahead.bytes_of(height) else { break };
            if !self.handed.may_take(height, bytes, executed) {
                break;
            }
            let (ahead, verifier) = (&mut self.ahead, &self.parts.verifier);
            match tokio::task::block_in_place(|| ahead.take(height, &heights, verifier)) {
                Ok(Some(decided)) => {
                    self.handed.add(height, bytes);
                    batch.push(decided);
                }
                Ok(None) => break,
                Err(blame) => {
                    self.suspect(height, &blame);
                    self.blame(blame);
                    break;
                }
            }
            height += 1;
        }
        batch
    }

    fn ask(&mut self) {
        let connected: Vec<PeerId> =
            self.parts.network.peers().iter().map(|info| info.peer).collect();
        self.plan.keep_only(&connected);
        let first = self.wanted();
        let window = if self.ahead.has_room() { WINDOW } else { 0 };
        let ahead = &self.ahead;
        let has = |height| ahead.has(height);
        for request in self.plan.next(Instant::now(), first..=first.saturating_add(window), has) {
            if let Some(asked) = wire_request(&request) {
                self.send(request.peer, &Sync::Request(asked));
            }
        }
    }

    async fn serve(&self, peer: PeerId, request: SyncRequest) {
        let chain = self.parts.chain.clone();
        if chain.base().is_some_and(|base| request.from < base) {
            // It asks by what it was told before these were pruned. Comes before the answer, so that the answer is no broken promise.
            self.tell_tip(peer);
        }
        let answer = tokio::task::spawn_blocking(move || respond(&chain, &request)).await;
        match answer {
            Ok(Ok(response)) => self.send(peer, &Sync::Response(response)),
            Ok(Err(error)) => tracing::warn!(%error, "blocks cannot be served"),
            Err(error) => tracing::warn!(%error, "serving was interrupted"),
        }
    }

    fn send(&self, peer: PeerId, message: &Sync) {
        if let Err(error) = self.parts.network.send(peer, Class::Sync, message.encode()) {
            tracing::debug!(%peer, %error, "not sent");
        }
    }
}

fn wire_request(request: &super::plan::Request<PeerId>) -> Option<SyncRequest> {
    Some(SyncRequest {
        id: request.id,
        from: Height::try_from(request.from).ok()?,
        count: u32::try_from(request.count).ok()?,
        bytes_max: RESPONSE_BYTES_MAX,
    })
}

/// The blocks asked for, as many as are here and fit; at least one where the first is here.
fn respond(chain: &Chain, request: &SyncRequest) -> Result<SyncResponse, crate::store::StoreError> {
    let budget = request.bytes_max.min(RESPONSE_BYTES_MAX);
    let mut left = usize::try_from(budget).unwrap_or(usize::MAX);
    let mut items = Vec::new();
    let last = chain.height().unwrap_or(request.from);
    let extended_from = match chain.state()? {
        Some(state) => state.params.abci.vote_extensions_enable_height,
        None => None,
    };
    let mut height = request.from;
    for _ in 0..u64::from(request.count).min(super::plan::WINDOW) {
        let (Some(block), Some(commit)) = (chain.block_bytes(height)?, chain.seen_commit(height)?)
        else {
            break;
        };
        // Taken while it was open whether the height has vote extensions; others have it with them.
        if extended_from.is_some_and(|from| from <= height) && !commit.is_extended() {
            break;
        }
        let item = SyncItem { block, commit: crate::wire::encode_commit(&commit) };
        let size = item.block.len() + item.commit.len();
        if size > left && !items.is_empty() {
            break;
        }
        left = left.saturating_sub(size);
        items.push(item);
        height = height.increment();
    }
    Ok(SyncResponse { id: request.id, items, last })
}
