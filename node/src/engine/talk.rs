//! What the engine says to peers: STATUS and its answers, bodies, relayed messages.

use super::Origin;
use super::run::{Engine, Primary};
use crate::network::PeerId;
use crate::wire::{Consensus, FetchBlock};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tendermint::block::Height;
use tercet_consensus::block::{BlockId, SealedBlock};
use tercet_consensus::key::Address;
use tercet_consensus::message::Message;
use tercet_consensus::replica::{Input, Lacking};
use tercet_consensus::status::Status;

/// The shortest time between two STATUS rounds.
const STATUS_MIN: Duration = Duration::from_millis(75);
/// The time between two STATUS rounds while nothing goes on.
const STATUS_IDLE: Duration = Duration::from_millis(500);
/// The time between two STATUS rounds of a replica that was behind a moment ago.
const STATUS_FOLLOWING: Duration = Duration::from_millis(40);
/// Of so many heights below the replica's single blocks are served.
const RECENT_MAX: usize = 2;

impl Engine {
    /// Nobody signs a block, so anyone can make some: of those that nothing names yet only a few of a height are passed on. A body that
    /// overtakes its PRE-PREPARE is among them, or is asked for.
    pub(super) fn relay(&mut self, input: &Input, origin: &Origin) {
        let Some(author) = &origin.author else { return };
        if let Input::Block(block) = input
            && !self.parts.core.replica().missing().contains(&block.id())
            && !self.peers.may_relay_unnamed()
        {
            return;
        }
        for peer in self.peers.relay_to(&origin.frame, &origin.peer, author) {
            self.parts.network.forward(peer, origin.class, &origin.frame);
        }
    }

    pub(super) fn take_status(&mut self, peer: PeerId, status: &Status) {
        let (height, now) = (self.height(), self.now.instant);
        let due = self.peers.may_answer(&peer, (height, status.height), now);
        let info = self.parts.sets.at(status.height);
        let direct = info.filter(|_| due && !self.peers.told(&peer, status)).map(|info| {
            let list = (0u32..).zip(info.validators.list());
            list.filter(|(index, _)| status.direct.has(*index)).map(|(_, v)| v.address).collect()
        });
        self.peers.status(&peer, status, direct);
        if let Some(validator) = self.peers.validator(&peer) {
            self.hold.hear(validator, status, self.parts.core.replica());
        }
        if !due {
            return;
        }
        self.parts.sync.peer_is_at(peer, status.height);
        if status.height < height {
            self.parts.sync.tell_tip(peer);
        } else {
            self.answer(peer, status, now);
        }
    }

    fn answer(&mut self, peer: PeerId, status: &Status, now: Instant) {
        let replica = self.parts.core.replica();
        let member = |validator: &Address| replica.validators().index_of(validator).is_some();
        let lacking = replica.lacking(status);
        for message in self.peers.answer(&peer, lacking, member, (replica.height(), now)) {
            if let Lacking::Block(block) = message {
                let id = block.id();
                // A peer that knows what is proposed asks for the body, if it is not under way already.
                if status.pre_prepares.contains(&id) || !self.peers.may_send_body(peer, id, now) {
                    continue;
                }
            }
            self.parts.network.send(peer, Consensus::Message(message.message()));
        }
    }

    /// Finds out anew to whom messages are passed on, where something is new about it.
    pub(super) fn map_relays(&mut self) {
        if let Some(relays) = self.peers.relays(self.now.instant) {
            self.parts.relay.store(Arc::new(relays));
        }
    }

    /// Serves a block by its id: of this height, or decided a moment ago. What lies farther back is served in ranges, by another thread.
    pub(super) fn serve_block(&mut self, peer: PeerId, height: Height, id: &BlockId) {
        let message = self.parts.core.replica().block(id);
        let message = message.or_else(|| self.decided_block(height, id));
        if let Some(message) = message
            && self.peers.may_send_body(peer, *id, self.now.instant)
        {
            self.parts.network.send(peer, Consensus::Message(message));
        }
    }

    fn decided_block(&self, height: Height, id: &BlockId) -> Option<Message> {
        let block = self.recent.iter().find(|block| block.header().height == height);
        block.filter(|block| block.id() == *id).cloned().map(Message::Block)
    }

    /// Keeps a decided block to be served: whoever asks must not make the engine read a disk.
    pub(super) fn keep_decided(&mut self, block: Arc<SealedBlock>) {
        self.recent.push_back(block);
        if self.recent.len() > RECENT_MAX {
            self.recent.pop_front();
        }
    }

    /// The same for those that were decided before the start.
    pub(super) fn load_decided(&mut self) {
        let height = self.height().value();
        for height in height.saturating_sub(RECENT_MAX as u64).max(1)..height {
            let Ok(height) = Height::try_from(height) else { continue };
            match self.parts.chain.block(height) {
                Ok(block) => block.into_iter().for_each(|block| self.keep_decided(block)),
                Err(error) => tracing::warn!(%height, %error, "a block cannot be served"),
            }
        }
    }

    /// Asks for the blocks that are missing, each of one peer at a time, of two at once where it is `urgent`.
    pub(super) fn fetch_missing(&mut self, urgent: bool) {
        let (height, now) = (self.height(), self.now.instant);
        let (times, every) = match urgent {
            true => (2, Duration::ZERO),
            false => (1, self.parts.pace.timeout() / 2),
        };
        let replica = self.parts.core.replica();
        let member = |validator: &Address| replica.validators().index_of(validator).is_some();
        for block_id in replica.missing() {
            for _ in 0..times {
                let Some(peer) = self.peers.ask_for(block_id, member, now, every) else { break };
                let fetch = Consensus::FetchBlock(FetchBlock { height, block_id });
                self.parts.network.send(peer, fetch);
            }
        }
    }

    /// A quarter of T; longer while nothing goes on at this height, so that an idle network costs little.
    pub(super) fn status_interval(&self) -> Duration {
        if self.ahead.is_following(self.now.instant) {
            STATUS_FOLLOWING
        } else if self.active {
            (self.parts.pace.timeout() / 4).max(STATUS_MIN)
        } else {
            STATUS_IDLE
        }
    }

    pub(super) fn send_status(&self, to: Option<PeerId>) {
        let replica = self.parts.core.replica();
        let direct = self.peers.direct().chain(self.me);
        let direct: BTreeSet<_> =
            direct.filter_map(|address| replica.validators().index_of(&address)).collect();
        let status = Consensus::Status(replica.status(direct));
        match to {
            Some(peer) => self.parts.network.send(peer, status),
            None => self.parts.network.broadcast(status),
        }
    }

    /// Tells the pool who is primary.
    pub(super) fn point_pool(&self) {
        let primary = self.parts.core.replica().primary();
        let place = match self.peers.peer_of(&primary) {
            _ if self.me == Some(primary) => Primary::Here,
            Some(peer) => Primary::Peer(peer),
            None => Primary::Elsewhere,
        };
        self.parts.pool.primary(place);
    }
}
