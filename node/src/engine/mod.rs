//! The engine: one plain OS thread that owns the replica and its journal.
//!
//! - [`journaled`]: replica and journal together, the only way to step: what must be durable is, before anything leaves.
//! - [`run`]: the thread, one match over events and one over actions.
//! - [`outside`]: what it talks to.
//! - `talk`: what it says to peers: STATUS and its answers, bodies, relayed messages.
//! - `ingest`: decided blocks of peers, many at a time.
//! - [`hold`]: why nothing is signed.
//! - `clock_watch`: whether the clock agrees with the others.
//! - `notes`: what the log should know.
//! - `parts`: what it is made of.
//! - [`snapshot`]: its state, for those who only look.
//! - [`pace`]: T of the protocol, and when an empty block is due.
//! - [`signer`]: whoever holds the validator key.
//! - [`heights`]: validators, schedule and rules by height, for whoever verifies.
//! - [`work`]: when a block is due.
//! - `unused`: what leaves nothing behind is counted.
//! - [`verifier`]: frames to verified inputs, off the engine's thread.
//! - `turns`, `fresh`: whose frame is verified next, and how many of one author.
//! - [`peers`]: what is known of each peer, and who needs a relayed message.

mod actions;
mod answers;
mod clock_watch;
mod fresh;
pub mod heights;
pub mod hold;
mod ingest;
pub mod journaled;
mod notes;
pub mod outside;
pub mod pace;
mod parts;
pub mod peers;
pub mod run;
pub mod signer;
pub mod snapshot;
mod talk;
mod tell;
#[cfg(test)]
mod tests;
pub mod timers;
mod turns;
mod unused;
pub mod verifier;
pub mod work;

use crate::execution::Done;
use crate::network::{Class, PeerId};
use bytes::Bytes;
use std::sync::Arc;
use tendermint::block::Height;
use tercet_consensus::block::BlockId;
use tercet_consensus::key::Address;
use tercet_consensus::message::{Decided, Verified};
use tercet_consensus::replica::Input;
use tercet_consensus::status::Status;
use tokio::sync::OwnedSemaphorePermit;

/// The most events that wait for the engine. A full queue makes the network's readers wait, which makes the peers wait.
pub const EVENTS_MAX: usize = 16_384;

/// What a message takes of the room for those that wait, and of its peer's share of it; given back when this is dropped.
#[derive(Debug)]
pub struct Room {
    _bytes: OwnedSemaphorePermit,
    _share: Option<OwnedSemaphorePermit>,
}

/// What the engine is told.
#[derive(Debug)]
pub enum Event {
    /// A verified message, with its frame where it came from a peer, to be relayed.
    Input {
        /// The input.
        input: Box<Input>,
        /// Where it came from.
        origin: Option<Origin>,
    },
    /// Decided blocks of consecutive heights, for a replica that is behind.
    Decided(Vec<Verified<Decided>>),
    /// A peer's STATUS.
    Status {
        /// The peer.
        peer: PeerId,
        /// What it has.
        status: Arc<Status>,
        /// What it takes of the room for messages that wait.
        room: Option<Room>,
    },
    /// A peer asks for a block by id.
    FetchBlock {
        /// The peer.
        peer: PeerId,
        /// The height of the block.
        height: Height,
        /// The block.
        block_id: BlockId,
        /// What it takes of the room for messages that wait.
        room: Option<Room>,
    },
    /// The application answered.
    Executed(Box<Done>),
    /// A peer's hello is done.
    PeerUp {
        /// The peer.
        peer: PeerId,
        /// The validator that it proved to be.
        validator: Option<Address>,
    },
    /// A peer is gone.
    PeerDown {
        /// The peer.
        peer: PeerId,
    },
    /// Re-dialling a peer right after its connection closed was refused: its process died.
    PeerRefused {
        /// The peer.
        peer: PeerId,
    },
    /// The pool has transactions to order, or none is left.
    Pool,
    /// Another node proved in its hello to hold this node's validator key.
    KeyElsewhere {
        /// The other node.
        peer: PeerId,
    },
    /// Stop in order.
    Stop,
}

/// Where a message came from.
#[derive(Debug)]
pub struct Origin {
    /// The peer that sent it.
    pub peer: PeerId,
    /// The validator that signed it.
    pub author: Option<Address>,
    /// The class it came in.
    pub class: Class,
    /// The frame, for relaying as it is.
    pub frame: Bytes,
    /// What it takes of the room for messages that wait, given back when this is dropped.
    pub room: Option<Room>,
}

/// Why the engine ended.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The journal failed: what is on disk is unknown, so nothing more may be signed.
    #[error("the journal failed, so nothing more may be signed: {0}")]
    Journal(#[source] crate::store::StoreError),
    /// The signing reservation could not be made durable.
    #[error("the signing reservation could not be written: {0}")]
    Reservation(String),
    /// The application or the chain database failed.
    #[error("{0}")]
    Execution(String),
    /// The chain database failed.
    #[error("the chain database failed: {0}")]
    Chain(#[source] crate::store::StoreError),
    /// More than a third of the validators are faulty.
    #[error("consensus is broken, more than a third of the voting power must be faulty: {0}")]
    Alarm(String),
    /// A part of the node that the engine needs has ended.
    #[error("{0} has ended")]
    PartEnded(&'static str),
}
