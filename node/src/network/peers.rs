//! The table of connected peers: what [`super::Network`] sends through, without a hop through the
//! task that owns the swarm.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use super::address::NodeId;
use super::hello::Hello;
use super::limits::{ClassLimit, ClassLimits};
use super::{Class, SHARE_BODIES_MAX, SHARE_BYTES_MAX, SHARE_FRAMES_MAX, SendError};

/// Bytes and frames exchanged with a peer since it connected, by class.
#[derive(Debug, Default)]
pub struct Traffic {
    sent: [AtomicU64; Class::COUNT],
    received: [AtomicU64; Class::COUNT],
}

impl Traffic {
    /// Bytes written to the peer on `class`, with length prefixes.
    #[must_use]
    pub fn sent_bytes(&self, class: Class) -> u64 {
        self.sent[class.index()].load(Ordering::Relaxed)
    }

    /// Bytes of the frames received from the peer on `class`, with length prefixes.
    #[must_use]
    pub fn received_bytes(&self, class: Class) -> u64 {
        self.received[class.index()].load(Ordering::Relaxed)
    }

    /// Bytes written to the peer on all classes.
    #[must_use]
    pub fn sent_bytes_total(&self) -> u64 {
        Class::ALL.iter().map(|class| self.sent_bytes(*class)).sum()
    }

    /// Bytes received from the peer on all classes.
    #[must_use]
    pub fn received_bytes_total(&self) -> u64 {
        Class::ALL.iter().map(|class| self.received_bytes(*class)).sum()
    }

    pub(super) fn add_sent(&self, class: Class, bytes: usize) {
        self.sent[class.index()].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn add_received(&self, class: Class, bytes: usize) {
        self.received[class.index()].fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A peer whose hello is done.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// Its libp2p identity.
    pub peer: PeerId,
    /// Its CometBFT node id.
    pub node_id: NodeId,
    /// What it said of itself, checked.
    pub hello: Arc<Hello>,
    /// Where the connection comes from or goes to.
    pub remote: Multiaddr,
    /// The address in `remote`.
    pub remote_ip: Option<IpAddr>,
    /// Whether this node dialled.
    pub outbound: bool,
    /// When it connected.
    pub connected_since: SystemTime,
    /// Bytes exchanged.
    pub traffic: Arc<Traffic>,
}

impl PeerInfo {
    /// The peer's consensus key, if it proved one.
    #[must_use]
    pub fn validator(&self) -> Option<&[u8]> {
        self.hello.validator.as_deref()
    }
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    /// Of the queued frames and of those that are being written.
    frames_held: usize,
    bytes_held: usize,
}

/// The bounded queue of one class of one peer. It outlives a handover between connections.
#[derive(Debug)]
pub(super) struct Lane {
    queue: Mutex<Queue>,
    ready: Notify,
    limit: ClassLimit,
}

/// Frames taken for writing; they count as held until this is dropped.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    lane: &'a Lane,
    pub(super) frames: VecDeque<Bytes>,
    frames_held: usize,
    bytes_held: usize,
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let mut queue = self.lane.lock();
        queue.frames_held -= self.frames_held;
        queue.bytes_held -= self.bytes_held;
    }
}

impl Lane {
    pub(super) fn new(limit: ClassLimit) -> Self {
        Self { queue: Mutex::default(), ready: Notify::new(), limit }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame; never waits.
    pub(super) fn push(&self, frame: Bytes) -> Result<(), SendError> {
        if frame.is_empty() || frame.len() > self.limit.frame_bytes_max {
            return Err(SendError::Size);
        }
        let mut queue = self.lock();
        let bytes = queue.bytes_held + frame.len();
        if queue.frames_held >= self.limit.queue_frames_max || bytes > self.limit.queue_bytes_max {
            return Err(SendError::Full);
        }
        queue.bytes_held = bytes;
        queue.frames_held += 1;
        queue.frames.push_back(frame);
        let first = queue.frames.len() == 1;
        drop(queue);
        if first {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Waits until there are frames and takes all of them.
    pub(super) async fn take(&self) -> Batch<'_> {
        loop {
            if let Some(batch) = self.take_now() {
                return batch;
            }
            self.ready.notified().await;
        }
    }

    fn take_now(&self) -> Option<Batch<'_>> {
        let mut queue = self.lock();
        if queue.frames.is_empty() {
            return None;
        }
        let frames = std::mem::take(&mut queue.frames);
        drop(queue);
        let (frames_held, bytes_held) = (frames.len(), frames.iter().map(Bytes::len).sum());
        Some(Batch { lane: self, frames, frames_held, bytes_held })
    }
}

/// Asks the task that owns the swarm to drop a peer.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) peer: PeerId,
    /// Of which [`Peer::presence`], so that a late wish does not hit a peer that came back.
    pub(super) presence: u64,
    pub(super) reason: String,
    pub(super) penalty: Penalty,
}

/// What is kept out for a while after a peer was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Penalty {
    /// Nothing.
    None,
    /// The peer.
    Peer,
    /// The peer, and whoever comes from the same place.
    Place,
}

/// How many frames of a peer may wait. Transactions and catch-up have one reader, which does a frame after the other.
fn share_frames(class: Class) -> Option<usize> {
    match class {
        Class::Consensus => Some(SHARE_FRAMES_MAX),
        Class::Bodies => Some(SHARE_BODIES_MAX),
        Class::Transactions | Class::Sync => None,
    }
}

/// A peer from its hello to its disconnection, whichever connection carries it.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) presence: u64,
    pub(super) lanes: [Lane; Class::COUNT],
    pub(super) traffic: Arc<Traffic>,
    /// Whether it proved the key of a known validator when it connected.
    pub(super) validator: bool,
    /// Its share of what may wait here, by class, in bytes.
    shares: [Option<Arc<Semaphore>>; Class::COUNT],
    id: PeerId,
    cutting: AtomicBool,
    cuts: mpsc::UnboundedSender<Cut>,
}

impl Peer {
    pub(super) fn new(
        id: PeerId,
        presence: u64,
        limits: &ClassLimits,
        cuts: mpsc::UnboundedSender<Cut>,
    ) -> Self {
        Self {
            presence,
            validator: false,
            lanes: Class::ALL.map(|class| Lane::new(limits.of(class))),
            traffic: Arc::default(),
            shares: Class::ALL.map(|class| {
                share_frames(class).map(|_| Arc::new(Semaphore::new(SHARE_BYTES_MAX as usize)))
            }),
            id,
            cutting: AtomicBool::new(false),
            cuts,
        }
    }

    /// The same peer, as a validator or not.
    pub(super) fn with_validator(self, validator: bool) -> Self {
        Self { validator, ..self }
    }

    /// Waits until a frame of the peer with so many bytes may be handed on; none where its class has no shares. It takes what is its part of as
    /// many frames as may be under way, or as much as it is long, and at most the whole share.
    pub(super) async fn share(&self, class: Class, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let least = SHARE_BYTES_MAX / u32::try_from(share_frames(class)?).ok()?;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(least, SHARE_BYTES_MAX);
        let share = self.shares.get(class.index())?.clone()?;
        // It fails only when the semaphore is closed, which it never is.
        share.acquire_many_owned(bytes).await.ok()
    }

    /// Queues a frame. A peer that lets its queue overflow is cut, except for transactions, where
    /// the caller keeps what does not fit.
    pub(super) fn send(&self, class: Class, frame: Bytes) -> Result<(), SendError> {
        let outcome = self.lanes[class.index()].push(frame);
        if outcome == Err(SendError::Full) && class != Class::Transactions {
            self.cut(format!("it does not read: its {class} queue is full"), Penalty::None);
        }
        outcome
    }

    /// Asks once for the end of this peer; so the queue of wishes is bounded by the peers.
    pub(super) fn cut(&self, reason: String, penalty: Penalty) {
        if !self.cutting.swap(true, Ordering::Relaxed) {
            let cut = Cut { peer: self.id, presence: self.presence, reason, penalty };
            // It fails only when the network has stopped, and then there is nothing to cut.
            let _ = self.cuts.send(cut);
        }
    }
}

/// One state of the table.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) peers: HashMap<PeerId, Arc<Peer>>,
    pub(super) infos: Arc<Vec<PeerInfo>>,
}

/// All peers whose hello is done. Written by the task that owns the swarm, read by everyone.
#[derive(Debug, Default)]
pub(super) struct Table(ArcSwap<Snapshot>);

impl Table {
    pub(super) fn load(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.0.load()
    }

    /// Adds or replaces a peer.
    pub(super) fn insert(&self, peer: Arc<Peer>, info: PeerInfo) {
        let old = self.0.load();
        let mut peers = old.peers.clone();
        let mut infos: Vec<PeerInfo> =
            old.infos.iter().filter(|other| other.peer != info.peer).cloned().collect();
        peers.insert(info.peer, peer);
        infos.push(info);
        self.0.store(Arc::new(Snapshot { peers, infos: Arc::new(infos) }));
    }

    pub(super) fn clear(&self) {
        self.0.store(Arc::default());
    }

    pub(super) fn remove(&self, peer: &PeerId) {
        let old = self.0.load();
        let mut peers = old.peers.clone();
        peers.remove(peer);
        let infos = old.infos.iter().filter(|info| info.peer != *peer).cloned().collect();
        self.0.store(Arc::new(Snapshot { peers, infos: Arc::new(infos) }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> Lane {
        Lane::new(ClassLimit { frame_bytes_max: 10, queue_frames_max: 3, queue_bytes_max: 20 })
    }

    fn frame(length: usize) -> Bytes {
        Bytes::from(vec![1; length])
    }

    #[test]
    fn a_lane_is_bounded_in_frames_bytes_and_frame_size() {
        let by_frames = lane();
        assert_eq!(by_frames.push(frame(0)), Err(SendError::Size));
        assert_eq!(by_frames.push(frame(11)), Err(SendError::Size));
        for _ in 0..3 {
            assert_eq!(by_frames.push(frame(1)), Ok(()));
        }
        assert_eq!(by_frames.push(frame(1)), Err(SendError::Full));
        let by_bytes = lane();
        assert_eq!(by_bytes.push(frame(10)), Ok(()));
        assert_eq!(by_bytes.push(frame(10)), Ok(()));
        assert_eq!(by_bytes.push(frame(1)), Err(SendError::Full));
    }

    #[test]
    fn frames_that_are_being_written_still_count() {
        let lane = lane();
        lane.push(frame(10)).unwrap();
        lane.push(frame(10)).unwrap();
        let batch = lane.take_now().unwrap();
        assert_eq!(batch.frames.len(), 2);
        assert_eq!(lane.push(frame(1)), Err(SendError::Full));
        drop(batch);
        assert_eq!(lane.push(frame(1)), Ok(()));
    }

    #[test]
    fn a_full_queue_cuts_the_peer_once_but_not_for_transactions() {
        let (cuts, mut wishes) = mpsc::unbounded_channel();
        let limit = ClassLimit { frame_bytes_max: 1, queue_frames_max: 1, queue_bytes_max: 1 };
        let limits =
            ClassLimits { consensus: limit, bodies: limit, transactions: limit, sync: limit };
        let peer = Peer::new(PeerId::random(), 1, &limits, cuts);
        for class in [Class::Transactions, Class::Sync, Class::Bodies] {
            assert_eq!(peer.send(class, frame(1)), Ok(()));
            assert_eq!(peer.send(class, frame(1)), Err(SendError::Full));
            assert_eq!(wishes.try_recv().is_ok(), class == Class::Sync);
        }
    }
}
