//! What tells two states of one correct replica apart.

use super::bounds::{BLOCKS_MAX, VIEWS_MAX, small};
use super::world::Place;
use crate::message::Phase;

/// What a replica has signed at one height: per view the set of blocks (bit b), and for VIEW-CHANGE the set of claims (see [`claim`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Signed {
    pub(super) prepares: [u8; VIEWS_MAX],
    pub(super) commits: [u8; VIEWS_MAX],
    pub(super) view_changes: [u32; VIEWS_MAX + 1],
    /// PRE-PREPAREs, by whether they are fresh, free or bound.
    pub(super) proposals: [[u8; VIEWS_MAX]; KINDS],
}

/// How a proposal is justified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// By the start view.
    Fresh,
    /// By a quorum that has prepared nothing.
    Free,
    /// By a certificate of this view.
    Bound { at: u8 },
}

/// How many kinds there are.
pub(super) const KINDS: usize = 2 + VIEWS_MAX - 1;

impl Kind {
    /// Its number.
    pub(super) fn index(self) -> usize {
        match self {
            Kind::Fresh => 0,
            Kind::Free => 1,
            Kind::Bound { at } => 2 + usize::from(at),
        }
    }
}

/// The bit of a claim in `view_changes`: 0 for none, one bit for every view and block.
pub(super) fn claim(prepared: Option<(u8, u8)>) -> usize {
    prepared.map_or(0, |(view, block)| 1 + usize::from(view) * BLOCKS_MAX + usize::from(block))
}

/// The claim of a bit.
pub(super) fn claim_of(bit: usize) -> Option<(u8, u8)> {
    let bit = u8::try_from(bit.checked_sub(1)?).ok()?;
    let blocks = small(BLOCKS_MAX);
    Some((bit / blocks, bit % blocks))
}

impl Signed {
    pub(super) fn votes(&self, phase: Phase) -> &[u8; VIEWS_MAX] {
        match phase {
            Phase::Prepare => &self.prepares,
            Phase::Commit => &self.commits,
        }
    }

    pub(super) fn votes_mut(&mut self, phase: Phase) -> &mut [u8; VIEWS_MAX] {
        match phase {
            Phase::Prepare => &mut self.prepares,
            Phase::Commit => &mut self.commits,
        }
    }

    /// The highest view of a PREPARE or COMMIT.
    pub(super) fn highest_vote(&self) -> Option<u8> {
        let voted = |view: &u8| {
            let view = usize::from(*view);
            let proposed = self.proposals.iter().fold(0, |all, kind| all | kind[view]);
            self.prepares[view] | self.commits[view] | proposed
        };
        (0..small(VIEWS_MAX)).rev().find(|view| voted(view) != 0)
    }

    /// The highest view of a VIEW-CHANGE.
    pub(super) fn highest_view_change(&self) -> Option<u8> {
        (0..=small(VIEWS_MAX)).rev().find(|view| self.view_changes[usize::from(*view)] != 0)
    }

    /// What others may use of it.
    pub(super) fn offers(&self) -> Offers {
        let mut offers = Offers::default();
        for view in 0..VIEWS_MAX {
            offers.votes |= u64::from(self.prepares[view]) << (view * BLOCKS_MAX);
            offers.votes |= u64::from(self.commits[view]) << ((VIEWS_MAX + view) * BLOCKS_MAX);
            for (kind, proposals) in self.proposals.iter().enumerate() {
                let row = kind * VIEWS_MAX + view;
                offers.proposals |= u128::from(proposals[view]) << (row * BLOCKS_MAX);
            }
        }
        for (view, claims) in self.view_changes.iter().enumerate() {
            offers.votes |= u64::from(*claims != 0) << (2 * VIEWS_MAX * BLOCKS_MAX + view);
            if view > 0 && view < VIEWS_MAX {
                offers.claims |= u128::from(*claims) << ((view - 1) * CLAIMS_MAX);
            }
        }
        offers
    }

    /// The same with the blocks renamed: block b becomes `names[b]`.
    pub(super) fn renamed(&self, names: &Names) -> Signed {
        let blocks = |set: u8| rename(set, names);
        let claims = |set: u32| {
            let bits = (0..32).filter(|bit| set >> bit & 1 == 1);
            bits.fold(0, |all, bit| {
                let renamed = claim_of(bit).map(|(view, block)| (view, names[usize::from(block)]));
                all | 1 << claim(renamed)
            })
        };
        Signed {
            prepares: self.prepares.map(blocks),
            commits: self.commits.map(blocks),
            view_changes: self.view_changes.map(claims),
            proposals: self.proposals.map(|kind| kind.map(blocks)),
        }
    }
}

/// The most claims of one VIEW-CHANGE.
const CLAIMS_MAX: usize = 1 + (VIEWS_MAX - 1) * BLOCKS_MAX;

/// Signed messages, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Offers {
    /// PREPARE and COMMIT by view and block, VIEW-CHANGE by view whatever it claims.
    votes: u64,
    /// PRE-PREPARE by kind, view and block.
    proposals: u128,
    /// VIEW-CHANGE by view and claim.
    claims: u128,
}

impl Offers {
    pub(super) fn vote(phase: Phase, view: u8, block: u8) -> Offers {
        let row = usize::from(view) + if phase == Phase::Commit { VIEWS_MAX } else { 0 };
        Offers { votes: 1 << (row * BLOCKS_MAX + usize::from(block)), ..Offers::default() }
    }

    /// A VIEW-CHANGE, whatever it claims.
    pub(super) fn view_change(view: u8) -> Offers {
        let votes = 1 << (2 * VIEWS_MAX * BLOCKS_MAX + usize::from(view));
        Offers { votes, ..Offers::default() }
    }

    /// A VIEW-CHANGE with exactly this claim.
    pub(super) fn claim(view: u8, claim: u8) -> Offers {
        let row = usize::from(view.saturating_sub(1));
        let claims = 1 << (row * CLAIMS_MAX + usize::from(claim));
        Offers { claims, ..Offers::default() }
    }

    pub(super) fn proposal(kind: Kind, view: u8, block: u8) -> Offers {
        let row = kind.index() * VIEWS_MAX + usize::from(view);
        let proposals = 1 << (row * BLOCKS_MAX + usize::from(block));
        Offers { proposals, ..Offers::default() }
    }

    pub(super) fn and(&self, other: &Offers) -> Offers {
        Offers {
            votes: self.votes | other.votes,
            proposals: self.proposals | other.proposals,
            claims: self.claims | other.claims,
        }
    }

    /// Whether all of `other` is in it.
    pub(super) fn covers(&self, other: &Offers) -> bool {
        other.votes & !self.votes == 0
            && other.proposals & !self.proposals == 0
            && other.claims & !self.claims == 0
    }
}

/// A renaming of the blocks of one height.
pub(super) type Names = [u8; BLOCKS_MAX];

pub(super) fn rename_claim(bit: u8, names: &Names) -> u8 {
    let renamed = claim_of(usize::from(bit)).map(|(view, block)| (view, names[usize::from(block)]));
    small_claim(renamed)
}

/// [`claim`] in a byte.
pub(super) fn small_claim(prepared: Option<(u8, u8)>) -> u8 {
    small(claim(prepared))
}

fn rename(set: u8, names: &Names) -> u8 {
    names.iter().enumerate().fold(0, |all, (block, name)| all | (set >> block & 1) << name)
}

/// The state of one correct replica, as far as it makes a difference to what it will ever do. Two replicas that agree in it behave
/// alike; `--congruence` checks that on every pair that the search meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Local {
    /// The first seat of its power.
    pub(super) seat: u8,
    /// Its height; beyond the last one it has decided everything.
    pub(super) place: Place,
    /// The round in which it decided the height before: where a restart begins.
    pub(super) start: u8,
    pub(super) view: u8,
    pub(super) promise: u8,
    /// Whether its promise was carried over.
    pub(super) carried: bool,
    /// The highest view that it knows blocking power to ask for; kept where there is a next height to carry it to.
    pub(super) asked_for: u8,
    /// What it has prepared, as a claim.
    pub(super) prepared: u8,
    pub(super) accepted: bool,
    /// The PRE-PREPAREs of its view that may still be accepted, by kind and block.
    pub(super) waiting: [u8; KINDS],
    /// The blocks that it has, where they travel apart.
    pub(super) bodies: u8,
    /// The view and block, as a claim, of a COMMIT quorum whose block is missing.
    pub(super) stuck: u8,
    /// Signatures that it waits for: PREPARE, COMMIT, VIEW-CHANGE, PRE-PREPARE.
    pub(super) unsigned: u8,
    /// The block of the PREPARE among them.
    pub(super) preparing: u8,
    pub(super) signed: Signed,
}

impl Local {
    /// Nothing known and nothing done.
    pub(super) fn empty(seat: u8, place: Place) -> Local {
        Local {
            seat,
            place,
            start: 0,
            view: 0,
            promise: 0,
            carried: false,
            asked_for: 0,
            prepared: 0,
            accepted: false,
            waiting: [0; KINDS],
            bodies: 0,
            stuck: 0,
            unsigned: 0,
            preparing: 0,
            signed: Signed::default(),
        }
    }

    /// The same with the blocks of its height renamed.
    pub(super) fn renamed(&self, names: &Names) -> Local {
        Local {
            prepared: rename_claim(self.prepared, names),
            waiting: self.waiting.map(|blocks| rename(blocks, names)),
            bodies: rename(self.bodies, names),
            stuck: rename_claim(self.stuck, names),
            preparing: rename(self.preparing, names),
            signed: self.signed.renamed(names),
            ..*self
        }
    }
}
