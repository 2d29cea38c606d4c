//! Catch-up: decided blocks in ranges from several peers, each verified in full before the replica takes it, all the time, not only at
//! start. It goes through the same event loop as everything else.
//!
//! - [`plan`]: which heights to ask of whom, pure.
//! - [`task`]: the tokio task that asks, serves and verifies.

pub mod plan;
mod task;

use crate::network::PeerId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tendermint::block::Height;
use tokio::sync::mpsc;

pub use task::{Parts, start};

/// How long after the last block taken a replica counts as ingesting.
const INGESTING: Duration = Duration::from_millis(200);
/// The most notices that wait for the task; more are dropped, because the next STATUS says the same.
const NOTICES_MAX: usize = 1_024;

/// What the engine tells.
#[derive(Clone, Copy, Debug)]
enum Notice {
    /// A peer has decided this height.
    Decided(PeerId, Height),
    /// A peer is behind: tell it what can be had here.
    TellTip(PeerId),
    /// The replica has moved on.
    Moved,
}

/// The engine's handle.
#[derive(Clone, Debug)]
pub struct SyncHandle {
    notices: mpsc::Sender<Notice>,
    behind: Arc<AtomicBool>,
    /// When the last block was taken, in milliseconds after `start`, and at least 1; 0 for never.
    last_taken_ms: Arc<AtomicU64>,
    start: Instant,
}

impl SyncHandle {
    /// A peer says that it is at `height`, so it has decided the one before.
    pub fn peer_is_at(&self, peer: PeerId, height: Height) {
        if let Ok(decided) = Height::try_from(height.value().saturating_sub(1)) {
            self.notice(Notice::Decided(peer, decided));
        }
    }

    /// A peer is behind.
    pub fn tell_tip(&self, peer: PeerId) {
        self.notice(Notice::TellTip(peer));
    }

    /// The replica has moved to another height.
    pub fn height_is(&self, _height: Height) {
        self.notice(Notice::Moved);
    }

    /// Whether decided blocks of peers were taken a moment ago: a replica signs nothing while it ingests them. Only blocks that verified
    /// count, so no claim of a peer can keep a replica from voting.
    #[must_use]
    pub fn is_ingesting(&self, now: Instant) -> bool {
        let last = self.last_taken_ms.load(Ordering::Relaxed);
        let since = now.saturating_duration_since(self.start).as_millis();
        last > 0 && since.saturating_sub(u128::from(last)) < INGESTING.as_millis()
    }

    /// Whether peers have decided more than the height that the replica is at.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    fn notice(&self, notice: Notice) {
        // Full: the task looks at the published height at each turn anyway, and STATUS repeats the rest.
        let _ = self.notices.try_send(notice);
    }
}
