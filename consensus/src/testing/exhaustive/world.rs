//! The finite world of a run: validators, blocks, and every message that anyone could send, as the real types, made once and passed
//! through the real verification. Signatures are not computed: that nobody forges one is the searcher's business, which delivers a
//! message only where its signer could have signed it.

use super::bounds::{Bounds, CORRECT, LIAR, SEATS};
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
    /// A fresh PRE-PREPARE.
    Fresh { view: u8, block: u8 },
    /// A NEW-VIEW that binds its block, or is free to choose one.
    NewView { view: u8, block: u8, bound: bool },
    /// A block.
    Body { block: u8 },
    /// A PREPARE or COMMIT of a seat.
    Vote { phase: Phase, seat: usize, view: u8, block: u8 },
    /// A VIEW-CHANGE of a seat.
    ViewChange { seat: usize, view: u8 },
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
    pub(super) validators: Arc<Validators>,
    pub(super) schedule: Arc<Schedule>,
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

fn time(second: u32) -> Time {
    Time::from_unix_timestamp(1_700_000_000 + i64::from(second), 0).expect("a time")
}

impl World {
    pub(super) fn new(bounds: Bounds) -> World {
        let members = (0u8..).zip(bounds.powers).map(|(seat, power)| (public(seat), power));
        let validators = Arc::new(Validators::new(members).expect("a set"));
        let index = |seat: usize| index_of(&validators, seat);
        // The liar is primary of all views that are searched; then everyone in turn.
        let mut turns = vec![index(LIAR); usize::from(bounds.views)];
        turns.extend((0..60).map(|turn| index(turn % SEATS)));
        let schedule = Arc::new(Schedule::by_hand(&validators, turns));
        let (blocks, numbers, inputs) = Default::default();
        let mut world = World { bounds, validators, schedule, blocks, numbers, inputs };
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
        self.bounds.blocks[usize::from(height)][usize::from(block)]
    }

    /// The first of the blocks that differ from this one in nothing that matters.
    pub(super) fn like(&self, height: u8, block: u8) -> u8 {
        let round = self.round(height, block);
        (0..block).find(|other| self.round(height, *other) == round).unwrap_or(block)
    }

    pub(super) fn index(&self, seat: usize) -> ValidatorIndex {
        index_of(&self.validators, seat)
    }

    fn address(&self, seat: usize) -> Address {
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
        Some(self.commit(height, view(round), block_id, [true; SEATS]))
    }

    pub(super) fn commit(
        &self,
        height: Height,
        view: View,
        block_id: BlockId,
        seats: [bool; SEATS],
    ) -> Commit {
        let mut signatures = vec![None; SEATS];
        for seat in (0..SEATS).filter(|seat| seats[*seat]) {
            let (address, time) = (self.address(seat), time(height.value() as u32));
            let signature = signature(seat);
            signatures[self.index(seat) as usize] =
                Some(CommitSig { address, time, signature, extension: None });
        }
        Commit { height, view, block_id, signatures }
    }

    fn seal_all(&self, place: Place) -> Vec<Arc<SealedBlock>> {
        let count = u8::try_from(self.count(place.height)).expect("few blocks");
        (0..count).map(|block| Arc::new(self.seal(place, block, LIAR))).collect()
    }

    fn seal(&self, place: Place, block: u8, proposer: usize) -> SealedBlock {
        let height = self.height(place.height);
        let last_commit = self.prior(place, self.round(place.height, block));
        let (set, proposer) = (&self.validators, self.address(proposer));
        let header = header(height, time(0), proposer, set, last_commit.as_ref());
        let txs = vec![Bytes::copy_from_slice(&[block])];
        SealedBlock::seal(Block { header, txs, evidence: Default::default(), last_commit })
    }

    pub(super) fn block(&self, place: Place, block: u8) -> &Arc<SealedBlock> {
        &self.blocks[usize::from(place.height)][usize::from(place.on)][usize::from(block)]
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
        HeightStart {
            height: self.height(place.height),
            validators: Arc::clone(&self.validators),
            schedule: Arc::clone(&self.schedule),
            prior: round.and_then(|round| self.prior(place, round)),
            extensions: false,
        }
    }

    pub(super) fn context(&self, height: Height) -> Context<'_> {
        Context {
            chain_id: CHAIN_ID,
            height,
            validators: &self.validators,
            schedule: &self.schedule,
            extensions: false,
        }
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
            Piece::Fresh { view: v, block } => context
                .pre_prepare(self.pre_prepare(place, v, id(block), None), &Trusting)
                .map(Input::PrePrepare),
            Piece::NewView { view: v, block, bound } => {
                let j = self.some_justification(place, v, bound.then(|| (v - 1, id(block))));
                context
                    .pre_prepare(self.pre_prepare(place, v, id(block), Some(j)), &Trusting)
                    .map(Input::PrePrepare)
            }
            Piece::Body { block } => Ok(Input::Block(Arc::clone(self.block(place, block)))),
            Piece::Vote { phase, seat, view: v, block } => {
                let vote = self.vote(place, phase, seat, view(v), id(block));
                context.vote(vote, &Trusting).map(Input::Vote)
            }
            Piece::ViewChange { seat, view: v } => {
                let signed = self.view_change(place, seat, v, None);
                let message = ViewChangeMessage { signed, certificate: None };
                context.view_change(message, &Trusting).map(Input::ViewChange)
            }
            Piece::Prior { round } => {
                let commit = self.prior(place, round).expect("not the initial height");
                self.context(commit.height).commit(commit, &Trusting).map(Input::Prior)
            }
            Piece::Decided { view: v, block } => {
                let commit = self.commit(context.height, view(v), id(block), [true; SEATS]);
                let decided = Decided { block: Arc::clone(self.block(place, block)), commit };
                context.decided(decided, &Trusting).map(Input::Decided)
            }
        };
        made.unwrap_or_else(|reject| panic!("{piece:?} at {place:?}: {reject}"))
    }

    pub(super) fn vote(
        &self,
        place: Place,
        phase: Phase,
        seat: usize,
        view: View,
        block_id: BlockId,
    ) -> SignedVote {
        let (validator, index) = (self.address(seat), self.index(seat));
        let height = self.height(place.height);
        let time = time(height.value() as u32);
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
            .map(|seat| self.vote(place, Phase::Prepare, seat, view(v), block_id))
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
        let (validator, index) = (self.address(seat), self.index(seat));
        let (height, view) = (self.height(place.height), view(v));
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
        PrePrepare { proposal: Signed { message, signature: signature(LIAR) }, justification }
    }

    /// A J that verifies; which one makes no difference to whoever gets it.
    fn some_justification(
        &self,
        place: Place,
        v: u8,
        bound: Option<(u8, BlockId)>,
    ) -> Justification {
        let mut view_changes: Vec<_> =
            (0..CORRECT).map(|seat| self.view_change(place, seat, v, None)).collect();
        view_changes.push(self.view_change(place, LIAR, v, bound));
        let certificate = bound.map(|(at, id)| self.certificate(place, at, id, [true; SEATS]));
        Justification { view_changes, certificate }
    }

    /// Whether PREPAREs of these seats make a certificate, by the real verification.
    pub(super) fn certifies(&self, seats: [bool; SEATS]) -> Result<(), Reject> {
        let place = Place { height: 0, on: 0 };
        let certificate = self.certificate(place, 0, self.block(place, 0).id(), seats);
        self.context(certificate.height).certificate(&certificate, &Trusting)
    }

    /// Whether COMMITs of these seats make a commit, by the real verification.
    pub(super) fn commits(&self, seats: [bool; SEATS]) -> Result<(), Reject> {
        let place = Place { height: 0, on: 0 };
        let (height, id) = (self.height(0), self.block(place, 0).id());
        self.commit(height, view(0), id, seats).verify(&self.context(height), &Trusting)
    }
}

/// Stands for the signature of a seat.
pub(super) fn signature(seat: usize) -> Signature {
    Signature([u8::try_from(seat).unwrap_or(u8::MAX) + 1; 64])
}

fn index_of(validators: &Validators, seat: usize) -> ValidatorIndex {
    let address = public(u8::try_from(seat).expect("few seats")).address();
    validators.index_of(&address).expect("a validator")
}
