//! The finite world of a run: validators, blocks, and every message that anyone could send, as the real types, made once and passed
//! through the real verification. Signatures are not computed: that nobody forges one is the searcher's business, which delivers a
//! message only where its signer could have signed it.

use super::bounds::{BlockKind, Bounds, HEIGHTS_MAX, LIAR, SEATS, small};
use super::local::{Kind, claim_of};
use crate::block::{Block, BlockId, SealedBlock};
use crate::commit::{Commit, CommitSig};
use crate::key::{Address, PublicKey, Signature};
use crate::message::{
    Certificate, Decided, Justification, Phase, PrePrepare, PreparedClaim, Proposal, Signed,
    SignedVote, ViewChange, ViewChangeMessage, Vote,
};
use crate::replica::{HeightStart, Input, Settings};
use crate::schedule::Schedule;
use crate::testing::cluster::{CHAIN_ID, header};
use crate::testing::{messages, public};
use crate::validators::{ValidatorIndex, Validators};
use crate::verify::{Context, Reject, SignatureCheck};
use crate::view::View;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tendermint::Time;
use tendermint::block::Height;

/// A height by number from the first one of the run, and which block was decided before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// The height, from 0.
    pub(super) height: u8,
    /// The block decided at the height before.
    pub(super) on: u8,
}

/// One message that somebody could send at some place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Piece {
    /// A PRE-PREPARE or NEW-VIEW.
    PrePrepare { view: u8, block: u8, kind: Kind },
    /// A block.
    Body { block: u8 },
    /// A PREPARE or COMMIT of a seat.
    Vote { phase: Phase, seat: usize, view: u8, block: u8 },
    /// A VIEW-CHANGE of a seat, with what it claims to have prepared.
    ViewChange { seat: usize, view: u8, claim: u8 },
    /// Commit(h−1) of some round.
    Prior { round: u8 },
    /// The block decided at some view, with its commit.
    Decided { view: u8, block: u8 },
}

/// Takes every signature for good.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trusting;

impl SignatureCheck for Trusting {
    fn check(&self, _: &PublicKey, _: &[u8], _: &Signature) -> bool {
        true
    }
}

/// The world of a run.
pub(super) struct World {
    pub(super) bounds: Bounds,
    /// The validators of each height with their schedule.
    sets: Vec<(Arc<Validators>, Arc<Schedule>)>,
    /// The blocks of each place, by height and by the block before.
    blocks: Vec<Vec<Vec<Arc<SealedBlock>>>>,
    numbers: HashMap<BlockId, u8>,
    inputs: std::cell::RefCell<HashMap<(Place, Piece), Input>>,
}

pub(super) fn view(number: u8) -> View {
    messages::view(u32::from(number))
}

/// The number of a view that is within bounds.
pub(super) fn number(view: View) -> u8 {
    u8::try_from(view.number()).unwrap_or(u8::MAX)
}

/// The time of blocks, and of votes.
fn time(seconds: u32) -> Time {
    Time::from_unix_timestamp(1_700_000_000 + i64::from(seconds), 0).expect("a time")
}

impl World {
    pub(super) fn new(bounds: Bounds) -> World {
        let sets = (0..small(HEIGHTS_MAX + 2)).map(|height| set(&bounds, height)).collect();
        let (blocks, numbers, inputs) = Default::default();
        let mut world = World { bounds, sets, blocks, numbers, inputs };
        for height in 0u8..u8::try_from(world.bounds.heights()).expect("few heights") {
            let before = height.checked_sub(1).map_or(1, |below| world.count(below));
            let at = |on: u8| world.seal_all(Place { height, on });
            let blocks: Vec<_> = (0..u8::try_from(before).expect("few blocks")).map(at).collect();
            for (number, block) in blocks.iter().flat_map(|blocks| (0u8..).zip(blocks)) {
                world.numbers.insert(block.id(), number);
            }
            world.blocks.push(blocks);
        }
        world
    }

    /// How many blocks a height has.
    pub(super) fn count(&self, height: u8) -> usize {
        self.bounds.blocks.get(usize::from(height)).map_or(0, Vec::len)
    }

    /// The round of the last commit of a block.
    pub(super) fn round(&self, height: u8, block: u8) -> u8 {
        self.kind(height, block).round
    }

    pub(super) fn kind(&self, height: u8, block: u8) -> BlockKind {
        self.bounds.blocks[usize::from(height)][usize::from(block)]
    }

    /// The first of the blocks that differ from this one in nothing that matters.
    pub(super) fn like(&self, height: u8, block: u8) -> u8 {
        let kind = self.kind(height, block);
        (0..block).find(|other| self.kind(height, *other) == kind).unwrap_or(block)
    }

    /// V(h) and its schedule.
    pub(super) fn set(&self, height: Height) -> &(Arc<Validators>, Arc<Schedule>) {
        let first = if self.bounds.prior.is_empty() { 1 } else { 2 };
        let at = usize::try_from(height.value().saturating_sub(first)).unwrap_or(usize::MAX);
        self.sets.get(at).or(self.sets.last()).expect("every height has a set")
    }

    fn index(&self, height: Height, seat: usize) -> ValidatorIndex {
        index_of(&self.set(height).0, seat).expect("a validator of the height")
    }

    /// Whether a seat is a validator at a height.
    pub(super) fn is_validator(&self, height: u8, seat: usize) -> bool {
        self.bounds.powers(height)[seat] > 0
    }

    pub(super) fn address(&self, seat: usize) -> Address {
        public(u8::try_from(seat).expect("few seats")).address()
    }

    /// The height by its number in the chain.
    pub(super) fn height(&self, height: u8) -> Height {
        let first = if self.bounds.prior.is_empty() { 1 } else { 2 };
        Height::from(u32::from(height) + first)
    }

    /// Below the first height of the run, where that is not the initial one.
    fn below(&self, place: Place) -> Option<(Height, BlockId)> {
        match place.height.checked_sub(1) {
            Some(height) => {
                // What was decided two heights before: the first block, as `Bounds::check` and `Move` have it.
                let block = self.block(Place { height, on: 0 }, place.on);
                Some((self.height(height), block.id()))
            }
            None if self.bounds.prior.is_empty() => None,
            None => Some((Height::from(1u32), messages::block_id(1))),
        }
    }

    /// Commit(h−1) of some round; none at the initial height.
    pub(super) fn prior(&self, place: Place, round: u8) -> Option<Commit> {
        let (height, block_id) = self.below(place)?;
        Some(self.commit(height, view(round), block_id, self.all(height)))
    }

    /// Every validator of a height.
    fn all(&self, height: Height) -> [bool; SEATS] {
        std::array::from_fn(|seat| index_of(&self.set(height).0, seat).is_some())
    }

    pub(super) fn commit(
        &self,
        height: Height,
        view: View,
        block_id: BlockId,
        seats: [bool; SEATS],
    ) -> Commit {
        let mut signatures = vec![None; self.set(height).0.count()];
        for seat in (0..SEATS).filter(|seat| seats[*seat]) {
            let (address, time) = (self.address(seat), time(1));
            let signature = signature(seat);
            signatures[self.index(height, seat) as usize] =
                Some(CommitSig { address, time, signature, extension: None });
        }
        Commit { height, view, block_id, signatures }
    }

    fn seal_all(&self, place: Place) -> Vec<Arc<SealedBlock>> {
        let count = u8::try_from(self.count(place.height)).expect("few blocks");
        let seal = |block| {
            let kind = self.kind(place.height, block);
            let last_commit = self.prior(place, kind.round);
            self.seal(self.height(place.height), last_commit, kind.proposer, &[block])
        };
        (0..count).map(|block| Arc::new(seal(block))).collect()
    }

    /// A block.
    pub(super) fn seal(
        &self,
        height: Height,
        last_commit: Option<Commit>,
        proposer: usize,
        tx: &[u8],
    ) -> SealedBlock {
        let (set, proposer) = (&self.set(height).0, self.address(proposer));
        let header = header(height, time(0), proposer, set, last_commit.as_ref());
        let txs = vec![Bytes::copy_from_slice(tx)];
        SealedBlock::seal(Block { header, txs, evidence: Default::default(), last_commit })
    }

    pub(super) fn block(&self, place: Place, block: u8) -> &Arc<SealedBlock> {
        &self.blocks[usize::from(place.height)][usize::from(place.on)][usize::from(block)]
    }

    /// All blocks of a place.
    pub(super) fn blocks(&self, place: Place) -> &[Arc<SealedBlock>] {
        &self.blocks[usize::from(place.height)][usize::from(place.on)]
    }

    /// The block of this kind.
    pub(super) fn find(&self, place: Place, wanted: BlockKind) -> Option<Arc<SealedBlock>> {
        let kinds = self.bounds.blocks.get(usize::from(place.height))?;
        let at = kinds.iter().position(|kind| *kind == wanted)?;
        self.blocks(place).get(at).cloned()
    }

    /// The number of a block among those of its place.
    pub(super) fn number_of(&self, id: &BlockId) -> Option<u8> {
        self.numbers.get(id).copied()
    }

    pub(super) fn settings(&self, seat: usize) -> Settings {
        Settings {
            me: Some(self.address(seat)),
            commit_grace: Duration::ZERO,
            disconnect_grace: Duration::ZERO,
            timeout: Duration::from_secs(1),
        }
    }

    /// A height as a replica starts it that has decided the height before in `round`, or none.
    pub(super) fn start(&self, place: Place, round: Option<u8>) -> HeightStart {
        let prior = round.and_then(|round| self.prior(place, round));
        HeightStart { prior, ..self.start_of(self.height(place.height)) }
    }

    /// A height of which no Commit(h−1) is known.
    pub(super) fn start_of(&self, height: Height) -> HeightStart {
        let (validators, schedule) = self.set(height).clone();
        let (prior, extensions, prior_extensions) = (None, false, false);
        HeightStart { height, validators, schedule, prior, extensions, prior_extensions }
    }

    pub(super) fn context(&self, height: Height) -> Context<'_> {
        let (validators, schedule) = self.set(height);
        Context { chain_id: CHAIN_ID, height, validators, schedule, extensions: Some(false) }
    }

    // ---- Messages ----

    /// The message as a replica gets it: verified.
    pub(super) fn input(&self, place: Place, piece: Piece) -> Input {
        let mut inputs = self.inputs.borrow_mut();
        inputs.entry((place, piece)).or_insert_with(|| self.make(place, piece)).clone()
    }

    fn make(&self, place: Place, piece: Piece) -> Input {
        let context = self.context(self.height(place.height));
        let id = |block: u8| self.block(place, block).id();
        let made = match piece {
            Piece::PrePrepare { view: v, block, kind } => {
                let j = match kind {
                    Kind::Fresh => None,
                    Kind::Free => Some(self.some_justification(place, v, None)),
                    Kind::Bound { at } => {
                        Some(self.some_justification(place, v, Some((at, id(block)))))
                    }
                };
                let message = self.pre_prepare(place, v, id(block), j);
                context.pre_prepare(message, &Trusting).map(Input::PrePrepare)
            }
            Piece::Body { block } => Ok(Input::Block(Arc::clone(self.block(place, block)))),
            Piece::Vote { phase, seat, view: v, block } => {
                let vote = self.vote(place, seat, phase, (view(v), id(block)));
                context.vote(vote, &Trusting).map(Input::Vote)
            }
            Piece::ViewChange { seat, view: v, claim } => {
                let claim = claim_of(usize::from(claim)).map(|(at, block)| (at, id(block)));
                let signed = self.view_change(place, seat, v, claim);
                let all = self.all(context.height);
                let certificate = claim.map(|(at, id)| self.certificate(place, at, id, all));
                let message = ViewChangeMessage { signed, certificate };
                context.view_change(message, &Trusting).map(Input::ViewChange)
            }
            Piece::Prior { round } => {
                let commit = self.prior(place, round).expect("not the initial height");
                self.context(commit.height).commit(commit, &Trusting).map(Input::Prior)
            }
            Piece::Decided { view: v, block } => {
                let all = self.all(context.height);
                let commit = self.commit(context.height, view(v), id(block), all);
                let decided = Decided { block: Arc::clone(self.block(place, block)), commit };
                context.decided(decided, &Trusting).map(Input::Decided)
            }
        };
        made.unwrap_or_else(|reject| panic!("{piece:?} at {place:?}: {reject}"))
    }

    pub(super) fn vote(
        &self,
        place: Place,
        seat: usize,
        phase: Phase,
        (view, block_id): (View, BlockId),
    ) -> SignedVote {
        let height = self.height(place.height);
        let (validator, index) = (self.address(seat), self.index(height, seat));
        let time = time(1);
        let extension = None;
        let message = Vote { phase, height, view, block_id, time, validator, index, extension };
        Signed { message, signature: signature(seat) }
    }

    /// A certificate of these seats' PREPAREs.
    pub(super) fn certificate(
        &self,
        place: Place,
        v: u8,
        block_id: BlockId,
        seats: [bool; SEATS],
    ) -> Certificate {
        let mut votes: Vec<SignedVote> = (0..SEATS)
            .filter(|seat| seats[*seat])
            .map(|seat| self.vote(place, seat, Phase::Prepare, (view(v), block_id)))
            .collect();
        votes.sort_by_key(|vote| vote.message.index);
        Certificate { height: self.height(place.height), view: view(v), block_id, votes }
    }

    pub(super) fn view_change(
        &self,
        place: Place,
        seat: usize,
        v: u8,
        prepared: Option<(u8, BlockId)>,
    ) -> Signed<ViewChange> {
        let prepared = prepared.map(|(v, block_id)| PreparedClaim { view: view(v), block_id });
        let (height, view) = (self.height(place.height), view(v));
        let (validator, index) = (self.address(seat), self.index(height, seat));
        let message = ViewChange { height, view, prepared, validator, index };
        Signed { message, signature: signature(seat) }
    }

    pub(super) fn pre_prepare(
        &self,
        place: Place,
        v: u8,
        block_id: BlockId,
        justification: Option<Justification>,
    ) -> PrePrepare {
        let certificate = justification.as_ref().and_then(|j| j.certificate.as_ref());
        let prepared_view = certificate.map(|certificate| certificate.view);
        let (height, view) = (self.height(place.height), view(v));
        let message = Proposal { height, view, prepared_view, block_id, time: time(0) };
        let signature = signature(self.bounds.primary(v));
        PrePrepare { proposal: Signed { message, signature }, justification }
    }

    /// A J that verifies; which one makes no difference to whoever gets it.
    fn some_justification(
        &self,
        place: Place,
        v: u8,
        bound: Option<(u8, BlockId)>,
    ) -> Justification {
        let all = self.all(self.height(place.height));
        let seats = (0..SEATS).filter(|seat| all[*seat]);
        let claims = |seat| bound.filter(|_| seat == LIAR || !all[LIAR]);
        let view_changes = seats.map(|seat| self.view_change(place, seat, v, claims(seat)));
        let view_changes = view_changes.collect();
        let certificate = bound.map(|(at, id)| self.certificate(place, at, id, all));
        Justification { view_changes, certificate }
    }

    /// Whether PREPAREs of these seats make a certificate, by the real verification.
    pub(super) fn certifies(&self, height: u8, seats: [bool; SEATS]) -> Result<(), Reject> {
        let place = Place { height, on: 0 };
        let certificate = self.certificate(place, 0, self.block(place, 0).id(), seats);
        self.context(certificate.height).certificate(&certificate, &Trusting)
    }

    /// Whether COMMITs of these seats make a commit, by the real verification.
    pub(super) fn commits(&self, height: u8, seats: [bool; SEATS]) -> Result<(), Reject> {
        let place = Place { height, on: 0 };
        let (height, id) = (self.height(height), self.block(place, 0).id());
        self.commit(height, view(0), id, seats).verify(&self.context(height), &Trusting)
    }
}

/// Stands for the signature of a seat.
pub(super) fn signature(seat: usize) -> Signature {
    Signature([u8::try_from(seat).unwrap_or(u8::MAX) + 1; 64])
}

fn index_of(validators: &Validators, seat: usize) -> Option<ValidatorIndex> {
    validators.index_of(&public(u8::try_from(seat).expect("few seats")).address())
}

/// V(h) and its schedule: the primaries of the views that are searched, then everyone in turn.
fn set(bounds: &Bounds, height: u8) -> (Arc<Validators>, Arc<Schedule>) {
    let members = (0u8..).zip(*bounds.powers(height)).filter(|(_, power)| *power > 0);
    let members = members.map(|(seat, power)| (public(seat), power));
    let validators = Arc::new(Validators::new(members).expect("a set"));
    let turns = (0..bounds.views).map(|view| bounds.primary(view));
    let turns = turns.chain((0..60).map(|turn| turn % SEATS));
    let turns = turns.filter_map(|seat| index_of(&validators, seat)).collect();
    let schedule = Arc::new(Schedule::by_hand(&validators, turns));
    (validators, schedule)
}
