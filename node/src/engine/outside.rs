//! What the engine talks to, as traits: the node puts its network, its disk and its catch-up behind them, the simulator its own.

use super::EngineError;
use crate::clock;
use crate::network::{Class, Network, PeerId};
use crate::store::{Chain, Journal, StoreError};
use crate::sync::SyncHandle;
use crate::wire::{Consensus, Frame};
use bytes::Bytes;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tendermint::Time;
use tendermint::block::Height;
use tercet_config::SignState;
use tercet_consensus::block::SealedBlock;
use tercet_consensus::record::Record;

/// The clocks, read once a turn.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For timers.
    pub instant: Instant,
    /// For the times of COMMITs.
    pub time: Time,
}

impl Now {
    /// Reads the clocks of this machine.
    #[must_use]
    pub fn read() -> Now {
        Now { instant: Instant::now(), time: clock::now() }
    }
}

/// Where messages go. Whether they arrive is not the engine's business: what a peer lacks comes back by STATUS.
pub trait Outbox: Send {
    /// Sends to one peer.
    fn send(&self, peer: PeerId, message: Consensus);
    /// Sends to every peer.
    fn broadcast(&self, message: Consensus);
    /// Sends a frame on as it came.
    fn forward(&self, peer: PeerId, class: Class, frame: &Bytes);
}

/// The decided blocks.
pub trait Blocks: Send {
    /// The block of `height`, where it is here.
    ///
    /// # Errors
    /// Where the disk fails.
    fn block(&self, height: Height) -> Result<Option<Arc<SealedBlock>>, StoreError>;
}

/// Whoever fetches decided blocks where peers are ahead.
pub trait CatchUp: Send {
    /// A peer says that it is at `height`, so it has decided the one before.
    fn peer_is_at(&self, peer: PeerId, height: Height);
    /// A peer is behind: tell it what can be had here.
    fn tell_tip(&self, peer: PeerId);
    /// The replica has moved to another height, or the validators of another height are known.
    fn moved(&self);
    /// Until when decided blocks of peers count as coming in.
    fn ingesting_until(&self) -> Option<Instant>;
    /// Whether a peer says that it has a block which was not handed over yet.
    fn has_more(&self) -> bool;
    /// Whether peers have decided more than the height that the replica is at.
    fn is_behind(&self) -> bool;
}

/// The journal: append, sync, replay. What is appended or reserved is durable on return.
pub trait Records: Send {
    /// Appends records, durable on return.
    ///
    /// # Errors
    /// Where the disk fails; what is on it is then unknown.
    fn append(&mut self, records: &[Record]) -> Result<(), StoreError>;
    /// The records of `height`, in the order in which they were appended.
    ///
    /// # Errors
    /// Where a record is damaged or the disk fails.
    fn records(&self, height: Height) -> Result<Vec<Record>, StoreError>;
    /// The highest height that has records.
    ///
    /// # Errors
    /// Where the disk fails.
    fn last_height(&self) -> Result<Option<Height>, StoreError>;
    /// Forgets the records of heights below `height`; not synced.
    ///
    /// # Errors
    /// Where the disk fails.
    fn prune_below(&mut self, height: Height) -> Result<(), StoreError>;
    /// The signing watermark: nothing of a height above it was ever signed.
    fn reserved(&self) -> Option<Height>;
    /// Raises the signing watermark, durable on return; never lowers it.
    ///
    /// # Errors
    /// Where the disk fails.
    fn reserve(&mut self, upto: Height) -> Result<(), StoreError>;
}

/// The second copy of the signing watermark, `priv_validator_state.json`.
pub trait Watermark: Send {
    /// Where it stands; none where it was never written.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn load(&self) -> Result<Option<u64>, EngineError>;
    /// Writes it, durable on return.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn save(&mut self, height: u64) -> Result<(), EngineError>;
}

impl Outbox for Network {
    fn send(&self, peer: PeerId, message: Consensus) {
        let (class, frame) = encode(&message);
        send_frame(self, peer, class, frame);
    }

    fn broadcast(&self, message: Consensus) {
        let (class, frame) = encode(&message);
        Network::broadcast(self, class, frame);
    }

    fn forward(&self, peer: PeerId, class: Class, frame: &Bytes) {
        send_frame(self, peer, class, frame.clone());
    }
}

/// A peer whose queue is full is dropped by the network; what it misses comes back by STATUS.
fn send_frame(network: &Network, peer: PeerId, class: Class, frame: Bytes) {
    if let Err(error) = Network::send(network, peer, class, frame) {
        tracing::debug!(%peer, %class, %error, "not sent");
    }
}

fn encode(message: &Consensus) -> (Class, Bytes) {
    match message.encode() {
        Frame::Consensus(frame) => (Class::Consensus, frame),
        Frame::Body(frame) => (Class::Bodies, frame),
    }
}

impl Blocks for Chain {
    fn block(&self, height: Height) -> Result<Option<Arc<SealedBlock>>, StoreError> {
        Chain::block(self, height)
    }
}

impl CatchUp for SyncHandle {
    fn peer_is_at(&self, peer: PeerId, height: Height) {
        SyncHandle::peer_is_at(self, peer, height);
    }

    fn tell_tip(&self, peer: PeerId) {
        SyncHandle::tell_tip(self, peer);
    }

    fn moved(&self) {
        SyncHandle::moved(self);
    }

    fn ingesting_until(&self) -> Option<Instant> {
        SyncHandle::ingesting_until(self)
    }

    fn has_more(&self) -> bool {
        SyncHandle::has_more(self)
    }

    fn is_behind(&self) -> bool {
        SyncHandle::is_behind(self)
    }
}

impl Records for Journal {
    fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        Journal::append(self, records, true)
    }

    fn records(&self, height: Height) -> Result<Vec<Record>, StoreError> {
        Journal::records(self, height)
    }

    fn last_height(&self) -> Result<Option<Height>, StoreError> {
        Journal::last_height(self)
    }

    fn prune_below(&mut self, height: Height) -> Result<(), StoreError> {
        Journal::prune_below(self, height)
    }

    fn reserved(&self) -> Option<Height> {
        Journal::reserved(self)
    }

    fn reserve(&mut self, upto: Height) -> Result<(), StoreError> {
        Journal::reserve(self, upto)
    }
}

/// The file itself.
#[derive(Clone, Debug)]
pub struct WatermarkFile(pub PathBuf);

impl Watermark for WatermarkFile {
    fn load(&self) -> Result<Option<u64>, EngineError> {
        let state = SignState::load(&self.0).map_err(unwritten)?;
        Ok(state.map(|state| state.height))
    }

    fn save(&mut self, height: u64) -> Result<(), EngineError> {
        SignState { height }.save(&self.0).map_err(unwritten)
    }
}

fn unwritten(error: tercet_config::SignStateError) -> EngineError {
    EngineError::Reservation(error.to_string())
}
