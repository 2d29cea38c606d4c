//! Catch-up: decided blocks in ranges from several peers, each verified in full before the replica takes it, all the time, not only at
//! start. It goes through the same event loop as everything else.
//!
//! - [`plan`]: which heights to ask of whom, pure.
//! - `ahead`: what has come and waits for its turn, decoded and its signatures checked meanwhile by several threads.
//! - `handed`: what the engine was given and has not executed yet.
//! - `task`: the tokio task that asks, serves and hands over.

mod ahead;
mod handed;
pub mod plan;
mod suspicion;
mod task;

use crate::network::PeerId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tendermint::block::Height;
use tokio::sync::mpsc;

pub use task::{Parts, start};

/// How long after the last block taken a replica counts as ingesting, where no peer says that there is more.
const INGESTING: Duration = Duration::from_millis(50);
/// The same, where a peer says so. A lie is as good as the truth here, but only with blocks that verify, and no longer than this.
const INGESTING_MORE: Duration = Duration::from_millis(500);
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

/// What the task tells the engine's thread without waking it.
#[derive(Debug, Default)]
struct Told {
    /// Two peers, or the only one, have decided more than the height that the replica is at.
    behind: AtomicBool,
    /// A peer says that it has a block that was not handed over yet.
    more: AtomicBool,
    /// When the last block was taken, in milliseconds after the start, and at least 1; 0 for never.
    last_taken_ms: AtomicU64,
}

/// The engine's handle.
#[derive(Clone, Debug)]
pub struct SyncHandle {
    notices: mpsc::Sender<Notice>,
    told: Arc<Told>,
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

    /// The replica has moved to another height, or the validators of another height are known.
    pub fn moved(&self) {
        self.notice(Notice::Moved);
    }

    /// Until when decided blocks of peers count as coming in: a replica signs nothing while it ingests them. Only blocks that verified
    /// count, so no claim of a peer can keep a replica from voting.
    #[must_use]
    pub fn ingesting_until(&self) -> Option<Instant> {
        let last = self.told.last_taken_ms.load(Ordering::Relaxed);
        let length = if self.has_more() { INGESTING_MORE } else { INGESTING };
        (last > 0).then(|| self.start + Duration::from_millis(last) + length)
    }

    /// Whether a peer says that it has a block which was not handed over yet.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.told.more.load(Ordering::Relaxed)
    }

    /// Whether peers have decided more than the height that the replica is at.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.told.behind.load(Ordering::Relaxed)
    }

    fn notice(&self, notice: Notice) {
        // Full: the task looks at the published height at each turn anyway, and STATUS repeats the rest.
        let _ = self.notices.try_send(notice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_that_nobody_takes_are_bounded() {
        let (notices, mut queue) = mpsc::channel(NOTICES_MAX);
        let handle = SyncHandle { notices, told: Arc::default(), start: Instant::now() };
        for _ in 0..NOTICES_MAX {
            handle.tell_tip(PeerId::random());
            handle.moved();
        }
        let kept = std::iter::from_fn(|| queue.try_recv().ok()).count();
        assert_eq!(kept, NOTICES_MAX);
        handle.moved();
        assert!(matches!(queue.try_recv(), Ok(Notice::Moved)), "there is room again");
    }
}
