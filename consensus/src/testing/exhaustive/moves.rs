//! The moves of a correct replica: what may happen to it next, and what must be there for it.
//!
//! A message is delivered at the moment it makes a difference, together with those that it needs for that (see the module's page on
//! why nothing is lost by this).

use super::bounds::{BLOCKS_MAX, CORRECT, LIAR};
use super::local::{Names, view_change_offer, vote_offer};
use super::machine::{Machine, Outcome};
use super::world::{Piece, World};
use crate::message::Phase;
use crate::replica::TimerKind;

/// How many validators a replica hears from.
pub(super) const OTHERS: usize = 3;

/// What may happen to a replica. Others are named by their place in [`others`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Move {
    /// A fresh PRE-PREPARE with its block.
    Fresh { view: u8, block: u8 },
    /// A NEW-VIEW, with its block or before it.
    NewView { view: u8, block: u8, bound: bool, whole: bool },
    /// A Commit(h−1) of some round.
    Prior { round: u8 },
    /// Votes of these others (a bit each), and the block.
    Votes { phase: Phase, view: u8, block: u8, from: u8 },
    /// The decision.
    Decided { view: u8, block: u8 },
    /// The VIEW-CHANGEs of the others, each for its view (0 for none); then the new-view timer fires, if it runs.
    ViewChanges { views: [u8; OTHERS], fire: bool },
    /// The propose or commit timer fires.
    Timeout(TimerKind),
    /// The signer answers.
    Sign { request: usize },
    /// A crash and a restart.
    Crash,
}

/// What must be there for a move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Guard {
    /// What each other must have signed, as in `Signed::offers`.
    pub(super) from: [u64; OTHERS],
    /// What can be made of what all have signed, as in `Shared`.
    pub(super) shared: u128,
}

impl Guard {
    pub(super) fn implies(&self, other: &Guard) -> bool {
        let within = |a: &u64, b: &u64| b & !a == 0;
        self.from.iter().zip(&other.from).all(|(a, b)| within(a, b))
            && other.shared & !self.shared == 0
    }
}

/// Bits of [`Guard::shared`].
pub(super) fn prior_bit(round: u8) -> u128 {
    1 << round
}

pub(super) fn new_view_bit(view: u8, block: u8, bound: bool) -> u128 {
    1 << (8 + (usize::from(view) * 2 + usize::from(bound)) * BLOCKS_MAX + usize::from(block))
}

pub(super) fn decided_bit(view: u8, block: u8) -> u128 {
    1 << (64 + usize::from(view) * BLOCKS_MAX + usize::from(block))
}

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
    /// Every move at a height.
    pub(super) fn all(world: &World, height: u8) -> Vec<Move> {
        let mut all = Vec::new();
        if height > 0 || !world.bounds.prior.is_empty() {
            // First, so that a view that rose is found without the block that may have raised it.
            all.extend((0..world.bounds.views).map(|round| Move::Prior { round }));
        }
        let blocks = 0u8..u8::try_from(world.count(height)).expect("few blocks");
        for view in 0..world.bounds.views {
            for block in blocks.clone() {
                all.push(Move::Fresh { view, block });
                for (bound, whole) in [(false, true), (true, true), (false, false), (true, false)] {
                    if view > 0 && (bound || world.round(height, block) <= view) {
                        all.push(Move::NewView { view, block, bound, whole });
                    }
                }
                for from in 1..1 << OTHERS {
                    all.push(Move::Votes { phase: Phase::Prepare, view, block, from });
                    all.push(Move::Votes { phase: Phase::Commit, view, block, from });
                }
                all.push(Move::Decided { view, block });
            }
        }
        let views = world.bounds.asks_max() + 1;
        for code in 1..usize::from(views).pow(3) {
            let digit = |place: u32| {
                let digit = code / usize::from(views).pow(place) % usize::from(views);
                u8::try_from(digit).unwrap_or(0)
            };
            for fire in [false, true] {
                all.push(Move::ViewChanges { views: [digit(0), digit(1), digit(2)], fire });
            }
        }
        all.extend([TimerKind::Propose, TimerKind::Commit, TimerKind::NewView].map(Move::Timeout));
        if world.bounds.late {
            all.extend((0..3).map(|request| Move::Sign { request }));
        }
        if world.bounds.crashes {
            all.push(Move::Crash);
        }
        all
    }

    /// What must be there.
    pub(super) fn guard(&self, world: &World, height: u8) -> Guard {
        let mut guard = Guard::default();
        // No block without its last commit.
        let at_initial = height == 0 && world.bounds.prior.is_empty();
        let exists = |block| if at_initial { 0 } else { prior_bit(world.round(height, block)) };
        match *self {
            Move::Fresh { block, .. } => guard.shared = exists(block),
            Move::NewView { view, block, bound, .. } => {
                guard.shared = new_view_bit(view, block, bound) | exists(block);
            }
            Move::Prior { round } => guard.shared = prior_bit(round),
            Move::Votes { phase, view, block, from } => {
                guard.shared = exists(block);
                for (place, need) in guard.from.iter_mut().enumerate() {
                    if from >> place & 1 == 1 {
                        *need = vote_offer(phase, view, block);
                    }
                }
            }
            Move::Decided { view, block } => guard.shared = decided_bit(view, block),
            Move::ViewChanges { views, .. } => {
                for (need, view) in guard.from.iter_mut().zip(views) {
                    if view > 0 {
                        *need = view_change_offer(view);
                    }
                }
            }
            Move::Timeout(_) | Move::Sign { .. } | Move::Crash => {}
        }
        // The faulty one signs whatever is asked of it.
        guard.from[OTHERS - 1] = 0;
        guard
    }

    /// Makes the move.
    pub(super) fn make(&self, world: &World, machine: &Machine) -> Outcome {
        match *self {
            Move::Timeout(kind) => machine.fire(world, kind),
            Move::Sign { request } => machine.sign(world, request),
            Move::Crash => machine.restart(world),
            Move::ViewChanges { fire: true, .. } => {
                let before = machine.deliver(world, &self.pieces(machine));
                let mut after = before.machine.fire(world, TimerKind::NewView);
                after.broken = before.broken.or(after.broken);
                after.beyond |= before.beyond;
                after.decided = before.decided.or(after.decided);
                after
            }
            _ => machine.deliver(world, &self.pieces(machine)),
        }
    }

    /// The messages that are delivered.
    fn pieces(&self, machine: &Machine) -> Vec<Piece> {
        let others = others(usize::from(machine.local.seat));
        match *self {
            Move::Fresh { view, block } => {
                vec![Piece::Fresh { view, block }, Piece::Body { block }]
            }
            Move::NewView { view, block, bound, whole } => {
                let message = Piece::NewView { view, block, bound };
                if whole { vec![message, Piece::Body { block }] } else { vec![message] }
            }
            Move::Prior { round } => vec![Piece::Prior { round }],
            Move::Votes { phase, view, block, from } => {
                let votes = (0..OTHERS).filter(|place| from >> place & 1 == 1);
                let votes =
                    votes.map(|place| Piece::Vote { phase, seat: others[place], view, block });
                [Piece::Body { block }].into_iter().chain(votes).collect()
            }
            Move::Decided { view, block } => vec![Piece::Decided { view, block }],
            Move::ViewChanges { views, .. } => {
                let asks = others.into_iter().zip(views).filter(|(_, view)| *view > 0);
                asks.map(|(seat, view)| Piece::ViewChange { seat, view }).collect()
            }
            Move::Timeout(_) | Move::Sign { .. } | Move::Crash => Vec::new(),
        }
    }

    /// The same with the blocks renamed.
    pub(super) fn renamed(&self, names: &Names) -> Move {
        let mut renamed = *self;
        match &mut renamed {
            Move::Fresh { block, .. }
            | Move::NewView { block, .. }
            | Move::Votes { block, .. }
            | Move::Decided { block, .. } => *block = names[usize::from(*block)],
            _ => {}
        }
        renamed
    }
}
