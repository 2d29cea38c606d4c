//! What the engine knows of each peer: the validator that it proved to be, the height that it told, and who it is connected to, so
//! that a message is relayed only to peers that are not directly connected to its author.

use crate::network::PeerId;
use lru::LruCache;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use tendermint::block::Height;
use tercet_consensus::key::Address;

/// How many recent frames are remembered, so that none is relayed twice.
const SEEN_MAX: NonZeroUsize = NonZeroUsize::new(8_192).expect("not zero");

/// One peer.
#[derive(Debug, Default)]
pub struct Peer {
    /// The validator that it proved to be.
    pub validator: Option<Address>,
    /// The height of its last STATUS.
    pub height: Option<Height>,
    /// The validators that it is directly connected to, by its last STATUS.
    pub direct: BTreeSet<Address>,
    /// Whether its STATUS has arrived.
    pub heard: bool,
}

/// All peers.
#[derive(Debug)]
pub struct Peers {
    by_id: BTreeMap<PeerId, Peer>,
    /// The peer that last was each validator; it stays when the connection closes, to name who died.
    of_validator: BTreeMap<Address, PeerId>,
    seen: LruCache<u64, ()>,
    hash: RandomState,
}

impl Default for Peers {
    fn default() -> Peers {
        Peers {
            by_id: BTreeMap::new(),
            of_validator: BTreeMap::new(),
            seen: LruCache::new(SEEN_MAX),
            hash: RandomState::new(),
        }
    }
}

impl Peers {
    /// A peer's hello is done.
    pub fn up(&mut self, peer: PeerId, validator: Option<Address>) {
        self.by_id.insert(peer, Peer { validator, ..Peer::default() });
        if let Some(address) = validator {
            self.of_validator.insert(address, peer);
        }
    }

    /// A peer is gone.
    pub fn down(&mut self, peer: &PeerId) {
        self.by_id.remove(peer);
    }

    /// The validator that `peer` is or was.
    #[must_use]
    pub fn validator_of(&self, peer: &PeerId) -> Option<Address> {
        self.of_validator.iter().find(|(_, other)| *other == peer).map(|(address, _)| *address)
    }

    /// The connected peer that is this validator.
    #[must_use]
    pub fn peer_of(&self, validator: &Address) -> Option<PeerId> {
        self.of_validator.get(validator).copied().filter(|peer| self.by_id.contains_key(peer))
    }

    /// A peer to write to.
    pub fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Peer> {
        self.by_id.get_mut(peer)
    }

    /// All connected peers.
    pub fn all(&self) -> impl Iterator<Item = (&PeerId, &Peer)> {
        self.by_id.iter()
    }

    /// The validators that are directly connected.
    pub fn direct(&self) -> impl Iterator<Item = Address> + '_ {
        self.by_id.values().filter_map(|peer| peer.validator)
    }

    /// To whom the transactions of each peer are passed on: the peers that are not known to be connected to it. A network in which every
    /// validator is connected to every other passes nothing on.
    #[must_use]
    pub fn relay_map(&self) -> BTreeMap<PeerId, Vec<PeerId>> {
        let knows = |a: &Peer, b: &Peer| b.validator.is_some_and(|b| a.direct.contains(&b));
        let lacking = |from: &PeerId, a: &Peer| -> Vec<PeerId> {
            let others = self.by_id.iter().filter(|(id, b)| {
                *id != from && (a.heard || b.heard) && !knows(a, b) && !knows(b, a)
            });
            others.map(|(id, _)| *id).collect()
        };
        self.by_id.iter().map(|(from, a)| (*from, lacking(from, a))).collect()
    }

    /// Who needs `frame`, signed by `author` and received from `from`: peers that are neither the author nor connected to it. Each frame
    /// is relayed once.
    pub fn relay_to(&mut self, frame: &[u8], from: &PeerId, author: &Address) -> Vec<PeerId> {
        let needs = |peer: &Peer| {
            peer.heard && peer.validator != Some(*author) && !peer.direct.contains(author)
        };
        let targets: Vec<PeerId> =
            self.by_id.iter().filter(|(id, peer)| *id != from && needs(peer)).map(|(id, _)| *id).collect();
        if targets.is_empty() || self.seen.put(self.hash.hash_one(frame), ()).is_some() {
            return Vec::new();
        }
        targets
    }
}
