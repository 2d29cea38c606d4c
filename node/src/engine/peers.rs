//! What the engine knows of each peer: the validator that it proved to be, the height that it told, and who it is connected to, so
//! that a message is relayed only to peers that are not directly connected to its author.

use super::answers::{Answers, STRANGER, VALIDATOR};
use crate::network::PeerId;
use lru::LruCache;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};
use tendermint::block::Height;
use tercet_consensus::block::BlockId;
use tercet_consensus::key::Address;
use tercet_consensus::replica::Lacking;
use tercet_consensus::status::{Bitmap, Status};

/// How many recent frames are remembered, so that none is relayed twice.
const SEEN_MAX: NonZeroUsize = NonZeroUsize::new(8_192).expect("not zero");

/// Frames up to this size are told apart from their copies.
const COPY_BYTES_MAX: usize = 4_096;
/// Of so many frames.
const COPIED_MAX: usize = 8_192;

/// How many blocks are passed on while a height lasts though nothing names them.
const UNNAMED_RELAYED_MAX: usize = 4;

/// How many STATUS are kept of peers that are not known to be connected.
const EARLY_MAX: NonZeroUsize = NonZeroUsize::new(16).expect("not zero");

/// How many bodies that were sent are remembered.
const BODIES_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("not zero");

/// No peer is sent the same body again within this: it is under way, and a copy would only delay it.
const BODY_AGAIN: Duration = Duration::from_secs(1);

/// No peer's STATUS of one height is looked into and answered again within this.
const ANSWER_AGAIN: Duration = Duration::from_millis(20);

/// Whom messages are passed on to is found out again no sooner than this after the last time: what peers say of it costs as much as they are
/// many, twice over.
const RELAYS_AGAIN: Duration = Duration::from_millis(20);

/// The most validators that are remembered when they are not connected. Anyone can prove to have a key.
const GONE_MAX: usize = 256;

/// One peer.
#[derive(Debug, Default)]
pub struct Peer {
    /// The validator that it proved to be.
    pub validator: Option<Address>,
    /// The height of its last STATUS.
    pub height: Option<Height>,
    /// The validators that it is directly connected to, by its last STATUS.
    pub direct: BTreeSet<Address>,
    /// The same as it was told, and at which height.
    told: Option<(Height, Bitmap)>,
    /// Whether its STATUS has arrived.
    pub heard: bool,
    /// The blocks that it has, by its last STATUS.
    blocks: Vec<BlockId>,
    /// When its STATUS was looked into last, and for which heights: of this node, and of the peer.
    looked: Option<((u64, u64), Instant)>,
    answers: Answers,
}

impl Peer {
    /// Whether it proved to be a validator that is a `member`.
    fn is(&self, member: impl Fn(&Address) -> bool) -> bool {
        self.validator.is_some_and(|validator| member(&validator))
    }
}

/// All peers.
#[derive(Debug)]
pub struct Peers {
    by_id: BTreeMap<PeerId, Peer>,
    /// The peer that last was each validator; it stays when the connection closes, to name who died.
    of_validator: BTreeMap<Address, PeerId>,
    /// Who needs what an author signed, for those that were asked about: until somebody comes, goes or tells something else.
    lacking: BTreeMap<Address, Vec<PeerId>>,
    seen: LruCache<u64, ()>,
    /// The frames that came at this height.
    came: HashSet<u64>,
    hash: RandomState,
    /// STATUS that overtook the news that its sender is connected; it would come again, but late.
    early: LruCache<PeerId, Status>,
    /// When a peer was sent a body.
    bodies: LruCache<(PeerId, BlockId), Instant>,
    /// The blocks of this height that were asked for: when last, and whom.
    asked: BTreeMap<BlockId, (Instant, Vec<PeerId>)>,
    /// How many blocks that nothing names were passed on at this height.
    unnamed_relayed: usize,
    /// Whether somebody came, went or told something else since the relays were found out.
    relays_stale: bool,
    /// When that was last.
    relays_at: Option<Instant>,
}

impl Default for Peers {
    fn default() -> Peers {
        Peers {
            by_id: BTreeMap::new(),
            of_validator: BTreeMap::new(),
            lacking: BTreeMap::new(),
            seen: LruCache::new(SEEN_MAX),
            came: HashSet::new(),
            hash: RandomState::new(),
            early: LruCache::new(EARLY_MAX),
            bodies: LruCache::new(BODIES_MAX),
            asked: BTreeMap::new(),
            unnamed_relayed: 0,
            relays_stale: false,
            relays_at: None,
        }
    }
}

impl Peers {
    /// A peer's hello is done.
    pub fn up(&mut self, peer: PeerId, validator: Option<Address>) {
        self.news();
        self.by_id.insert(peer, Peer { validator, ..Peer::default() });
        if let Some(address) = validator {
            self.of_validator.insert(address, peer);
        }
        if self.of_validator.len() > self.by_id.len() + GONE_MAX {
            let by_id = &self.by_id;
            self.of_validator.retain(|_, peer| by_id.contains_key(peer));
        }
    }

    /// A peer is gone; what was under way to it is lost.
    pub fn down(&mut self, peer: &PeerId) {
        self.news();
        self.by_id.remove(peer);
        let sent: Vec<_> =
            self.bodies.iter().map(|(key, _)| *key).filter(|(to, _)| to == peer).collect();
        for key in sent {
            self.bodies.pop(&key);
        }
    }

    /// Whether the last STATUS of `peer` said the same about whom it is connected to.
    #[must_use]
    pub fn told(&self, peer: &PeerId, status: &Status) -> bool {
        let told = self.by_id.get(peer).and_then(|known| known.told.as_ref());
        told.is_some_and(|(height, direct)| (height, direct) == (&status.height, &status.direct))
    }

    /// Notes what a STATUS says. `direct`: whom its sender is connected to, where that is to be taken anew.
    pub fn status(&mut self, peer: &PeerId, status: &Status, direct: Option<BTreeSet<Address>>) {
        let Some(known) = self.by_id.get_mut(peer) else {
            self.early.put(*peer, status.clone());
            return;
        };
        known.height = Some(status.height);
        known.blocks.clone_from(&status.blocks);
        let first = !std::mem::replace(&mut known.heard, true);
        if direct.is_some() {
            known.told = Some((status.height, status.direct.clone()));
        }
        let direct = direct.filter(|direct| known.direct != *direct);
        let new = direct.is_some();
        if let Some(direct) = direct {
            known.direct = direct;
        }
        if first || new {
            self.news();
        }
    }

    /// Somebody came, went or told something else.
    fn news(&mut self) {
        self.lacking.clear();
        self.relays_stale = true;
    }

    /// The STATUS that came before its sender was known to be connected.
    pub fn early(&mut self, peer: &PeerId) -> Option<Status> {
        self.early.pop(peer)
    }

    /// Whether a STATUS for `theirs` is to be looked into and answered now, by a node at `mine`; notes that it is. One of a new height is, but
    /// of all heights far from mine together only the first: there are very many.
    pub fn may_answer(
        &mut self,
        peer: &PeerId,
        (mine, theirs): (Height, Height),
        now: Instant,
    ) -> bool {
        let Some(known) = self.by_id.get_mut(peer) else { return false };
        let mine = mine.value();
        let heights = (mine, theirs.value().clamp(mine.saturating_sub(1), mine.saturating_add(1)));
        let (before, at) = known.looked.unzip();
        let new = before.is_none_or(|before| heights > before);
        let due = new || at.is_none_or(|at| now.saturating_duration_since(at) >= ANSWER_AGAIN);
        if due {
            known.looked = Some((before.map_or(heights, |before| heights.max(before)), now));
        }
        due
    }

    /// What of `lacking` a peer is to be sent now; notes that it is. `member`: whether a validator is one of this height.
    pub fn answer<'a>(
        &mut self,
        peer: &PeerId,
        lacking: Vec<Lacking<'a>>,
        member: impl Fn(&Address) -> bool,
        (height, now): (Height, Instant),
    ) -> Vec<Lacking<'a>> {
        let Some(known) = self.by_id.get_mut(peer) else { return Vec::new() };
        let share = if known.is(member) { VALIDATOR } else { STRANGER };
        known.answers.choose(lacking, height, share, now)
    }

    /// Whether a peer may be sent a body now; notes that it is.
    pub fn may_send_body(&mut self, peer: PeerId, id: BlockId, now: Instant) -> bool {
        let sent = self.bodies.get(&(peer, id));
        if sent.is_some_and(|at| now.saturating_duration_since(*at) < BODY_AGAIN) {
            return false;
        }
        self.bodies.put((peer, id), now);
        true
    }

    /// A body goes to every peer.
    pub fn sent_body(&mut self, id: BlockId, now: Instant) {
        for peer in self.by_id.keys() {
            self.bodies.put((*peer, id), now);
        }
    }

    /// Whom to ask for a block now, one at a time: the validators of the height, first those that say they have it. Anyone can say so: another
    /// peer that does has a turn after one that does not, and after all validators, but no two others while there is a validator.
    pub fn ask_for(
        &mut self,
        id: BlockId,
        member: impl Fn(&Address) -> bool,
        now: Instant,
        every: Duration,
    ) -> Option<PeerId> {
        let (at, asked) = self.asked.entry(id).or_insert((now, Vec::new()));
        if !asked.is_empty() && now.saturating_duration_since(*at) < every {
            return None;
        }
        *at = now;
        if self.by_id.keys().all(|peer| asked.contains(peer)) {
            asked.clear();
        }
        let of = |peer: &PeerId| self.by_id.get(peer).is_some_and(|known| known.is(&member));
        let has = |peer: &PeerId| self.by_id.get(peer).is_some_and(|p| p.blocks.contains(&id));
        let others = || self.by_id.keys().filter(|peer| !asked.contains(peer)).copied();
        let validator = others().filter(of).min_by_key(|peer| !has(peer));
        let stranger = others().filter(|peer| !of(peer)).min_by_key(|peer| !has(peer));
        let turn = validator.filter(|v| has(v) || !asked.last().is_some_and(of));
        let peer =
            turn.or(stranger.filter(|peer| validator.is_none() || has(peer))).or(validator)?;
        if validator.is_none() {
            // Their turn comes again, before another stranger's.
            asked.retain(|peer| !of(peer));
        }
        asked.push(peer);
        Some(peer)
    }

    /// Whether this frame came before at this height.
    pub fn is_copy(&mut self, frame: &[u8]) -> bool {
        if self.came.len() >= COPIED_MAX {
            self.came.clear();
        }
        frame.len() <= COPY_BYTES_MAX && !self.came.insert(self.hash.hash_one(frame))
    }

    /// The replica is at another height.
    pub fn new_height(&mut self) {
        self.asked.clear();
        self.came.clear();
        self.lacking.clear();
        self.unnamed_relayed = 0;
    }

    /// Whether one more block that nothing names may be passed on at this height; notes that it is.
    pub fn may_relay_unnamed(&mut self) -> bool {
        self.unnamed_relayed = self.unnamed_relayed.saturating_add(1);
        self.unnamed_relayed <= UNNAMED_RELAYED_MAX
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

    /// The validator that a connected peer proved to be.
    #[must_use]
    pub fn validator(&self, peer: &PeerId) -> Option<Address> {
        self.by_id.get(peer)?.validator
    }

    /// The validators that are directly connected.
    pub fn direct(&self) -> impl Iterator<Item = Address> + '_ {
        self.by_id.values().filter_map(|peer| peer.validator)
    }

    /// When [`Peers::relays`] has something new, if it has.
    #[must_use]
    pub fn relays_due(&self) -> Option<Instant> {
        self.relays_stale.then(|| self.relays_at.map(|at| at + RELAYS_AGAIN)).flatten()
    }

    /// The map of relays, where it may be another than last time and is due.
    pub fn relays(&mut self, now: Instant) -> Option<BTreeMap<PeerId, Vec<PeerId>>> {
        if !self.relays_stale || self.relays_due().is_some_and(|due| now < due) {
            return None;
        }
        (self.relays_stale, self.relays_at) = (false, Some(now));
        Some(self.relay_map())
    }

    /// To whom the transactions of each peer are passed on, where there is somebody: the peers that are not known to be connected to it. A
    /// network in which every validator is connected to every other passes nothing on.
    fn relay_map(&self) -> BTreeMap<PeerId, Vec<PeerId>> {
        let knows = |a: &Peer, b: &Peer| b.validator.is_some_and(|b| a.direct.contains(&b));
        let lacking = |from: &PeerId, a: &Peer| -> Vec<PeerId> {
            let others = self.by_id.iter().filter(|(id, b)| {
                *id != from && (a.heard || b.heard) && !knows(a, b) && !knows(b, a)
            });
            others.map(|(id, _)| *id).collect()
        };
        let all = self.by_id.iter().map(|(from, a)| (*from, lacking(from, a)));
        all.filter(|(_, lacking)| !lacking.is_empty()).collect()
    }

    /// Who needs `frame`, signed by `author` and received from `from`: peers that are neither the author nor connected to it. Each frame
    /// is relayed once.
    pub fn relay_to(&mut self, frame: &[u8], from: &PeerId, author: &Address) -> Vec<PeerId> {
        let needs = |peer: &Peer| {
            peer.heard && peer.validator != Some(*author) && !peer.direct.contains(author)
        };
        let by_id = &self.by_id;
        let lacking = self.lacking.entry(*author).or_insert_with(|| {
            by_id.iter().filter(|(_, peer)| needs(peer)).map(|(id, _)| *id).collect()
        });
        let targets: Vec<PeerId> = lacking.iter().filter(|id| *id != from).copied().collect();
        if targets.is_empty() || self.seen.put(self.hash.hash_one(frame), ()).is_some() {
            return Vec::new();
        }
        targets
    }
}

#[cfg(test)]
#[path = "peers_tests.rs"]
mod tests;
