//! The network: who is connected to whom, which links let nothing through, and what is under way.

use super::plan::{Kind, Seat};
use super::pool::Tx;
use bytes::Bytes;
use std::cell::OnceCell;
use std::sync::{Arc, Mutex, PoisonError};
use tercet_consensus::key::Address;
use tercet_consensus::message::{Decided, Message, Phase};
use tercet_consensus::replica::Input;
use tercet_consensus::status::Status;
use tercet_consensus::verify::Reject;
use tercet_node::engine::outside::Outbox;
use tercet_node::network::{Class, PeerId};
use tercet_node::sync::plan::Request;
use tercet_node::wire::Consensus;

/// What travels.
#[derive(Clone, Debug)]
pub(crate) enum Wire {
    /// What engines say to each other.
    Consensus(Consensus),
    /// Catch-up: which blocks are wanted.
    Ask(Request<PeerId>),
    /// Catch-up: blocks, and the last that is there.
    Blocks { id: u64, items: Vec<Decided>, last: u64 },
    /// Catch-up: what can be had.
    Tip { height: u64, base: u64 },
    /// Transactions.
    Txs(Vec<Tx>),
}

/// The outcome of verifying a message, for every receiver that knows its height: V(h) is the same everywhere (S7).
pub(crate) type Verdict = Result<(Input, Option<Address>), Reject>;

/// One message, sent once, delivered to many.
#[derive(Debug)]
pub(crate) struct Sent {
    /// What it is.
    pub(crate) wire: Wire,
    /// Stands for its bytes where it is relayed: its number.
    pub(crate) frame: Bytes,
    /// What verifying it said.
    pub(crate) verdict: OnceCell<Verdict>,
    /// The STATUS that it is, as engines take it.
    pub(crate) status: OnceCell<Arc<Status>>,
}

impl Sent {
    /// Its kind, where it has one.
    pub(crate) fn kind(&self) -> Option<Kind> {
        Some(match &self.wire {
            Wire::Consensus(Consensus::Status(_)) => Kind::Status,
            Wire::Consensus(Consensus::FetchBlock(_)) => Kind::Block,
            Wire::Consensus(Consensus::Message(message)) => match message {
                Message::PrePrepare(message) if message.justification.is_some() => Kind::NewView,
                Message::PrePrepare(_) => Kind::PrePrepare,
                Message::Vote(vote) if vote.message.phase == Phase::Prepare => Kind::Prepare,
                Message::Vote(_) => Kind::Commit,
                Message::ViewChange(_) => Kind::ViewChange,
                Message::Block(_) => Kind::Block,
                Message::Prior(_) => return None,
            },
            Wire::Ask(_) | Wire::Blocks { .. } | Wire::Tip { .. } => Kind::Sync,
            Wire::Txs(_) => return None,
        })
    }
}

/// What an engine said.
#[expect(clippy::large_enum_variant, reason = "it lives for one turn")]
#[derive(Debug)]
pub(crate) enum Said {
    /// Something of its own.
    Message(Consensus),
    /// Something that it passes on: the number of the message.
    Forward(Bytes),
}

/// Something that leaves a node.
#[derive(Debug)]
pub(crate) struct Out {
    /// To whom; none: to everyone.
    pub(crate) to: Option<PeerId>,
    /// What.
    pub(crate) said: Said,
    /// After how many syncs of this turn it leaves.
    pub(crate) after_syncs: usize,
}

/// Where an engine puts what it says.
#[derive(Clone, Debug)]
pub(crate) struct SharedOutbox {
    out: Arc<Mutex<Vec<Out>>>,
    disk: super::disk::SharedDisk,
}

impl SharedOutbox {
    /// An empty one; `disk` tells after which sync something is said.
    pub(crate) fn new(disk: super::disk::SharedDisk) -> SharedOutbox {
        SharedOutbox { out: Arc::default(), disk }
    }

    /// Everything that was said since the last time.
    pub(crate) fn take(&self) -> Vec<Out> {
        std::mem::take(&mut *self.out.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, to: Option<PeerId>, said: Said) {
        let after_syncs = self.disk.lock().syncs();
        let out = Out { to, said, after_syncs };
        self.out.lock().unwrap_or_else(PoisonError::into_inner).push(out);
    }
}

impl Outbox for SharedOutbox {
    fn send(&self, peer: PeerId, message: Consensus) {
        self.push(Some(peer), Said::Message(message));
    }

    fn broadcast(&self, message: Consensus) {
        self.push(None, Said::Message(message));
    }

    fn forward(&self, peer: PeerId, _: Class, frame: &Bytes) {
        self.push(Some(peer), Said::Forward(frame.clone()));
    }
}

/// One direction between two nodes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Link {
    /// Whether there may be a connection.
    pub(crate) allowed: bool,
    /// Whether there is one.
    pub(crate) up: bool,
    /// Whether the receiver counts the sender as connected.
    pub(crate) told: bool,
    /// Which connection it is: they are counted.
    pub(crate) life: u32,
    /// How many faults let nothing through.
    pub(crate) cuts: u32,
}

/// All links.
#[derive(Debug)]
pub(crate) struct Links {
    count: usize,
    links: Vec<Link>,
}

impl Links {
    /// Links between all of `count` nodes but those in `unlinked`.
    pub(crate) fn new(count: usize, unlinked: &[(Seat, Seat)]) -> Links {
        let mut links = Links { count, links: vec![Link::default(); count * count] };
        for from in 0..count {
            for to in 0..count {
                let pair = (from.min(to), from.max(to));
                links.at(from, to).allowed = from != to && !unlinked.contains(&pair);
            }
        }
        links
    }

    /// The link from one to another.
    pub(crate) fn at(&mut self, from: Seat, to: Seat) -> &mut Link {
        self.links.get_mut(from * self.count + to).expect("a link")
    }

    /// The same, to look at.
    pub(crate) fn see(&self, from: Seat, to: Seat) -> Link {
        self.links.get(from * self.count + to).copied().unwrap_or_default()
    }
}
