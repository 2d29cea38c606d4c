//! The task that asks peers for decided blocks, serves them, and verifies what comes before the replica sees it.

use super::plan::Plan;
use super::{NOTICES_MAX, Notice, SyncHandle};
use crate::audit::{Audit, Discarded};
use crate::engine::Event;
use crate::engine::heights::Published;
use crate::engine::verifier::Verifier;
use crate::network::{Class, Inbound, Network, PeerId};
use crate::store::Chain;
use crate::wire::{ItemLimits, Sync, SyncItem, SyncRequest, SyncResponse, SyncTip};
use crossbeam_channel::Sender;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tendermint::block::Height;
use tercet_consensus::replica::Input;
use tercet_consensus::verify::Reject;
use tokio::sync::mpsc;

/// How often timeouts are looked at.
const TURN: Duration = Duration::from_millis(100);
/// The most bytes of a response, unless one block alone is larger.
const RESPONSE_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// How far the replica may be ahead of what is asked for, so that a block that it is just deciding is not fetched.
const BEHIND_MIN: u64 = 2;

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
    behind: Arc<AtomicBool>,
    last_taken_ms: Arc<AtomicU64>,
    start: Instant,
    plan: Plan<PeerId>,
    /// Blocks that wait for their turn, with who sent them.
    waiting: BTreeMap<u64, (PeerId, SyncItem)>,
    /// The height that was last handed to the engine.
    handed: u64,
}

/// Starts the task on the current runtime.
#[must_use]
pub fn start(parts: Parts) -> (SyncHandle, tokio::task::JoinHandle<()>) {
    let (notices, queue) = mpsc::channel(NOTICES_MAX);
    let behind = Arc::new(AtomicBool::new(false));
    let last_taken_ms = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let task = Task {
        parts,
        notices: queue,
        behind: behind.clone(),
        last_taken_ms: last_taken_ms.clone(),
        start,
        plan: Plan::default(),
        waiting: BTreeMap::new(),
        handed: 0,
    };
    (SyncHandle { notices, behind, last_taken_ms, start }, tokio::spawn(task.run()))
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
                _ = turn.tick() => self.turn(),
            }
            self.hand_over().await;
            self.ask();
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
        let behind = self.plan.best() >= self.current() + BEHIND_MIN;
        self.behind.store(behind, Ordering::Relaxed);
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
        if response.items.is_empty() {
            return self.plan.blame(&peer, Instant::now());
        }
        let heights = request.from..request.from + request.count;
        for (height, item) in heights.zip(response.items) {
            self.waiting.entry(height).or_insert((peer, item));
        }
    }

    /// Hands the block of the replica's height to the engine, once, when it is here and verifies.
    async fn hand_over(&mut self) {
        let current = self.current();
        self.waiting.retain(|height, _| *height >= current);
        if self.handed == current {
            return;
        }
        let Some((peer, item)) = self.waiting.remove(&current) else { return };
        let (verifier, heights) = (self.parts.verifier.clone(), self.parts.heights.load_full());
        let verified = tokio::task::spawn_blocking(move || {
            let info = heights.at(heights.current).ok_or(Reject::Height)?;
            let validators = info.validators.count();
            let limits = ItemLimits { block_bytes_max: info.block_bytes_max, validators };
            let decided = item.decode(limits)?;
            if decided.block.header().height != heights.current {
                return Err(Reject::Height);
            }
            verifier.last_commit(&decided.block, &heights)?;
            heights.context(info).decided(decided, &*verifier.check())
        });
        match verified.await {
            Ok(Ok(decided)) => {
                self.handed = current;
                let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
                self.last_taken_ms.store(elapsed.max(1), Ordering::Relaxed);
                let input = Box::new(Input::Decided(decided));
                let event = Event::Input { input, origin: None };
                let events = self.parts.events.clone();
                // Either may fail only while the node is stopping.
                drop(tokio::task::spawn_blocking(move || events.send(event)).await);
            }
            Ok(Err(reject)) => {
                self.discard(peer, reject);
                self.plan.blame(&peer, Instant::now());
                self.waiting.retain(|_, (sender, _)| *sender != peer);
                self.parts.network.disconnect(peer, "it served a block that does not verify");
            }
            Err(error) => tracing::warn!(%error, "verification was interrupted"),
        }
    }

    fn ask(&mut self) {
        let connected: Vec<PeerId> = self.parts.network.peers().iter().map(|info| info.peer).collect();
        self.plan.keep_only(&connected);
        let (current, handed) = (self.current(), self.handed);
        let waiting = &self.waiting;
        let has = |height| waiting.contains_key(&height) || height == handed;
        for request in self.plan.next(Instant::now(), current, has) {
            if let Some(asked) = wire_request(&request) {
                self.send(request.peer, &Sync::Request(asked));
            }
        }
    }

    async fn serve(&self, peer: PeerId, request: SyncRequest) {
        let chain = self.parts.chain.clone();
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
    let mut height = request.from;
    for _ in 0..u64::from(request.count).min(super::plan::WINDOW) {
        let (Some(block), Some(commit)) = (chain.block_bytes(height)?, chain.seen_commit(height)?) else {
            break;
        };
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
