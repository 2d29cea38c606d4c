//! What happens in a run, and in which order.

use super::Nanos;
use super::network::Sent;
use super::plan::{Kind, Seat};
use std::rc::Rc;
use tercet_consensus::message::SignedMessage;

/// Something that happens.
#[derive(Debug)]
pub(crate) enum What {
    /// A message arrives, at the node in the life that it was sent to.
    Deliver { from: Seat, to: Seat, epoch: u32, sent: Rc<Sent> },
    /// A sync is over.
    Flush { seat: Seat, epoch: u32 },
    /// A job of the application is done.
    Job { seat: Seat, epoch: u32 },
    /// A process dies, for a moment.
    Crash(Seat),
    /// A process starts again.
    Restart(Seat),
    /// A connection is there.
    Connect { a: Seat, b: Seat, epochs: (u32, u32) },
    /// A node notices that a peer is gone.
    Noticed { at: Seat, of: Seat, refused: bool, life: u32 },
    /// A fault of the plan begins.
    Fault(usize),
    /// Links stop letting anything through, or do so again.
    Cut { index: usize, on: bool },
    /// Messages are lost, or no more.
    Loss { percent: u64, on: bool },
    /// Messages of a kind are lost, or no more.
    Mute { mute: (Kind, u64), on: bool },
    /// An application is as fast as before.
    FastApp(Seat),
    /// Signers answer again.
    SignersWell,
    /// A signer answers late.
    Late { seat: Seat, epoch: u32, message: Box<SignedMessage> },
    /// Somebody sends a transaction.
    Client,
    /// Pools tell what waits.
    Gossip,
    /// Catch-up looks at its timeouts.
    SyncTurn { seat: Seat, epoch: u32 },
    /// The network heals, if it has not yet.
    Heal,
}

/// It, and when: at a time, and in the order in which it was planned.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: (Nanos, u64),
    pub(super) what: What,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.key == other.key
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}
