//! The moves of a correct replica: what may happen to it next, and what must be there for it.
//!
//! A message is delivered at the moment it makes a difference, together with those that it needs for that; `docs/exhaustive-check.md`
//! says why nothing is lost by this.

use super::bounds::{BLOCKS_MAX, Bounds, CORRECT, LIAR, VIEWS_MAX};
use super::local::{KINDS, Kind, Names, Offers, claim, claim_of, rename_claim, small_claim};
use super::machine::{Machine, Outcome};
use super::world::{Piece, World};
use crate::message::Phase;
use crate::replica::TimerKind;

/// How many validators a replica hears from.
pub(super) const OTHERS: usize = 3;

/// The VIEW-CHANGE of one other, by view (0 for none) and claim.
pub(super) type Ask = (u8, u8);

/// What may happen to a replica. Others are named by their place in [`others`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Move {
    /// A PRE-PREPARE or NEW-VIEW, with its block or before it.
    PrePrepare { kind: Kind, view: u8, block: u8, whole: bool },
    /// A block alone.
    Body { block: u8 },
    /// A Commit(h−1) of some round.
    Prior { round: u8 },
    /// Votes of these others (a bit each), and the block.
    Votes { phase: Phase, view: u8, block: u8, from: u8 },
    /// The decision.
    Decided { view: u8, block: u8 },
    /// VIEW-CHANGEs of the others; then the new-view timer fires, if it runs.
    ViewChanges { asks: [Ask; OTHERS], fire: bool },
    /// A timer fires.
    Timeout(TimerKind),
    /// The signer answers.
    Sign { request: usize },
    /// A crash and a restart.
    Crash,
}

/// What must be there for a move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Guard {
    /// What each other must have signed.
    pub(super) from: [Offers; OTHERS],
    /// What must be possible to make of what all have signed: see the functions below.
    pub(super) shared: u128,
}

impl Guard {
    /// All that either asks for.
    pub(super) fn and(&self, other: &Guard) -> Guard {
        let from = std::array::from_fn(|place| self.from[place].and(&other.from[place]));
        Guard { from, shared: self.shared | other.shared }
    }

    /// Whether it asks for all that `other` asks for.
    pub(super) fn implies(&self, other: &Guard) -> bool {
        self.from.iter().zip(&other.from).all(|(a, b)| a.covers(b))
            && other.shared & !self.shared == 0
    }
}

// ---- Bits of `Guard::shared` ----

/// Commit(h−1) of this round exists.
pub(super) fn prior_bit(round: u8) -> u128 {
    1 << round
}

/// The faulty primary of this view can send a NEW-VIEW for this block.
pub(super) fn new_view_bit(view: u8, block: u8, kind: Kind) -> u128 {
    let row = usize::from(view) * (KINDS - 1) + kind.index().saturating_sub(1);
    1 << (8 + row * BLOCKS_MAX + usize::from(block))
}

/// A commit of this view exists.
pub(super) fn decided_bit(view: u8, block: u8) -> u128 {
    1 << (72 + usize::from(view) * BLOCKS_MAX + usize::from(block))
}

/// A prepare certificate of this view exists.
pub(super) fn certificate_bit(view: u8, block: u8) -> u128 {
    1 << (88 + usize::from(view) * BLOCKS_MAX + usize::from(block))
}

/// All of these fit, and so do all votes and VIEW-CHANGEs in 64 bits.
const _: () = assert!(VIEWS_MAX * BLOCKS_MAX == 16 && KINDS == 5);

/// The seats that a seat hears from: the other correct ones in order, then the faulty one.
pub(super) fn others(seat: usize) -> [usize; OTHERS] {
    let mut others = [LIAR; OTHERS];
    let correct = (0..CORRECT).filter(|other| *other != seat);
    for (place, other) in others.iter_mut().zip(correct) {
        *place = other;
    }
    others
}

impl Move {
    /// Every move of a seat at a height. Those that bring no block come first, so that a state which can be reached without a block
    /// is first reached without it.
    pub(super) fn all(world: &World, seat: usize, height: u8) -> Vec<Move> {
        let bounds = &world.bounds;
        let mut all = Vec::new();
        if height > 0 || !bounds.prior.is_empty() {
            all.extend((0..bounds.views).map(|round| Move::Prior { round }));
        }
        let kinds = [TimerKind::Propose, TimerKind::Commit, TimerKind::NewView, TimerKind::Grace];
        all.extend(kinds.map(Move::Timeout));
        for asks in all_asks(world, seat, height) {
            all.extend([false, true].map(|fire| Move::ViewChanges { asks, fire }));
        }
        if bounds.crashes {
            all.push(Move::Crash);
        }
        if bounds.late {
            all.extend((0..4).map(|request| Move::Sign { request }));
        }
        let blocks = 0u8..u8::try_from(world.count(height)).expect("few blocks");
        if bounds.bodies {
            all.extend(blocks.clone().map(|block| Move::Body { block }));
        }
        for view in 0..bounds.views {
            for block in blocks.clone() {
                all.extend(pre_prepares(bounds, view, block));
            }
        }
        for (view, block) in (0..bounds.views).flat_map(|v| blocks.clone().map(move |b| (v, b))) {
            for from in (1..1 << OTHERS).filter(|from| are_validators(world, seat, height, *from)) {
                for phase in [Phase::Prepare, Phase::Commit] {
                    all.push(Move::Votes { phase, view, block, from });
                }
            }
            all.push(Move::Decided { view, block });
        }
        all
    }

    /// What must be there; none where it can never be.
    pub(super) fn guard(&self, world: &World, seat: usize, height: u8) -> Option<Guard> {
        let mut guard = Guard::default();
        // No block without its last commit.
        let at_initial = height == 0 && world.bounds.prior.is_empty();
        let exists = |block| if at_initial { 0 } else { prior_bit(world.round(height, block)) };
        match *self {
            Move::PrePrepare { kind, view, block, .. } => {
                guard.shared = exists(block);
                let primary = world.bounds.primary(view);
                if primary == seat {
                    return None;
                }
                let place = others(seat).iter().position(|other| *other == primary)?;
                guard.from[place] = Offers::proposal(kind, view, block);
                if primary == LIAR && kind != Kind::Fresh {
                    guard.shared |= new_view_bit(view, block, kind);
                }
            }
            Move::Body { block } => guard.shared = exists(block),
            Move::Prior { round } => guard.shared = prior_bit(round),
            Move::Votes { phase, view, block, from } => {
                guard.shared = exists(block);
                let needs = guard.from.iter_mut().enumerate();
                for (_, need) in needs.filter(|(place, _)| from >> place & 1 == 1) {
                    *need = Offers::vote(phase, view, block);
                }
            }
            Move::Decided { view, block } => guard.shared = decided_bit(view, block),
            Move::ViewChanges { asks, .. } => {
                let exact = world.bounds.leads(seat);
                for (place, (view, claim)) in asks.into_iter().enumerate() {
                    if view > 0 && exact && view < world.bounds.views {
                        guard.from[place] = Offers::claim(view, claim);
                    } else if view > 0 {
                        guard.from[place] = Offers::view_change(view);
                    }
                    if let Some((at, block)) = claim_of(usize::from(claim)) {
                        guard.shared |= certificate_bit(at, block) | exists(block);
                    }
                }
            }
            Move::Timeout(_) | Move::Sign { .. } | Move::Crash => {}
        }
        // The faulty one signs whatever is asked of it.
        guard.from[OTHERS - 1] = Offers::default();
        Some(guard)
    }

    /// Makes the move.
    pub(super) fn make(&self, world: &World, machine: &Machine) -> Outcome {
        match *self {
            Move::Timeout(kind) => machine.fire(world, kind),
            Move::Sign { request } => machine.sign(world, request),
            Move::Crash => machine.restart(world),
            Move::ViewChanges { fire: true, .. } => {
                let before = machine.deliver(world, &self.pieces(world, machine));
                let mut after = before.machine.fire(world, TimerKind::NewView);
                after.broken = before.broken.or(after.broken);
                after.beyond |= before.beyond;
                after.decided = before.decided.or(after.decided);
                after
            }
            _ => machine.deliver(world, &self.pieces(world, machine)),
        }
    }

    /// The messages that are delivered.
    fn pieces(&self, world: &World, machine: &Machine) -> Vec<Piece> {
        let others = others(usize::from(machine.local.seat));
        let apart = world.bounds.bodies;
        let body = |block: u8| (!apart).then_some(Piece::Body { block });
        match *self {
            Move::PrePrepare { kind, view, block, whole } => {
                let message = Piece::PrePrepare { view, block, kind };
                [message].into_iter().chain(body(block).filter(|_| whole)).collect()
            }
            Move::Body { block } => vec![Piece::Body { block }],
            Move::Prior { round } => vec![Piece::Prior { round }],
            Move::Votes { phase, view, block, from } => {
                let votes = (0..OTHERS).filter(|place| from >> place & 1 == 1);
                let votes =
                    votes.map(|place| Piece::Vote { phase, seat: others[place], view, block });
                body(block).into_iter().chain(votes).collect()
            }
            Move::Decided { view, block } => vec![Piece::Decided { view, block }],
            Move::ViewChanges { asks, .. } => {
                let asks = others.into_iter().zip(asks).filter(|(_, (view, _))| *view > 0);
                let all = asks.flat_map(|(seat, (view, claim))| {
                    let block = claim_of(usize::from(claim)).and_then(|(_, block)| body(block));
                    block.into_iter().chain([Piece::ViewChange { seat, view, claim }])
                });
                all.collect()
            }
            Move::Timeout(_) | Move::Sign { .. } | Move::Crash => Vec::new(),
        }
    }

    /// The same with the blocks renamed.
    pub(super) fn renamed(&self, names: &Names) -> Move {
        let mut renamed = *self;
        match &mut renamed {
            Move::PrePrepare { block, .. }
            | Move::Body { block }
            | Move::Votes { block, .. }
            | Move::Decided { block, .. } => *block = names[usize::from(*block)],
            Move::ViewChanges { asks, .. } => {
                for (_, claim) in asks {
                    *claim = rename_claim(*claim, names);
                }
            }
            Move::Prior { .. } | Move::Timeout(_) | Move::Sign { .. } | Move::Crash => {}
        }
        renamed
    }
}

/// The pre-prepares of a view and block.
fn pre_prepares(bounds: &Bounds, view: u8, block: u8) -> Vec<Move> {
    let message = |kind, whole| Move::PrePrepare { kind, view, block, whole };
    let mut all = vec![message(Kind::Fresh, true)];
    if bounds.bodies {
        all = vec![message(Kind::Fresh, false)];
    }
    let bound = (0..view).map(|at| Kind::Bound { at });
    for kind in [Kind::Free].into_iter().chain(bound) {
        if view > 0 {
            all.push(message(kind, false));
            all.extend((!bounds.bodies).then(|| message(kind, true)));
        }
    }
    all
}

fn are_validators(world: &World, seat: usize, height: u8, from: u8) -> bool {
    let mut from = (0..OTHERS).filter(|place| from >> place & 1 == 1);
    from.all(|place| world.is_validator(height, others(seat)[place]))
}

/// Every choice of VIEW-CHANGEs of the others. What they claim matters to a primary only, who builds a J of them.
fn all_asks(world: &World, seat: usize, height: u8) -> Vec<[Ask; OTHERS]> {
    let blocks = u8::try_from(world.count(height)).expect("few blocks");
    let mut one: Vec<Ask> = vec![(0, 0)];
    for view in 1..=world.bounds.asks_max() {
        one.push((view, small_claim(None)));
        if world.bounds.leads(seat) && view < world.bounds.views {
            let claims = (0..view).flat_map(|at| (0..blocks).map(move |block| (at, block)));
            one.extend(claims.map(|claimed| (view, small_claim(Some(claimed)))));
        }
    }
    debug_assert_eq!(claim(None), 0);
    let of = |place: usize| -> &[Ask] {
        if world.is_validator(height, others(seat)[place]) { &one } else { &one[..1] }
    };
    let mut all = Vec::new();
    for c in of(2) {
        for b in of(1) {
            all.extend(of(0).iter().map(|a| [*a, *b, *c]));
        }
    }
    all.retain(|asks| asks.iter().any(|(view, _)| *view > 0));
    all.sort_by_key(|asks| asks.iter().filter(|(view, _)| *view > 0).count());
    all
}
