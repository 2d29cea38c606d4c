//! What tells two states of one correct replica apart.

use super::bounds::{BLOCKS_MAX, VIEWS_MAX};
use super::world::Place;
use crate::message::Phase;

/// What a replica has signed at one height: per view the set of blocks (bit b), and for VIEW-CHANGE the set of claims (see [`claim`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Signed {
    pub(super) prepares: [u8; VIEWS_MAX],
    pub(super) commits: [u8; VIEWS_MAX],
    pub(super) view_changes: [u32; VIEWS_MAX + 1],
}

/// The bit of a claim in `view_changes`: 0 for none, one bit for every view and block.
pub(super) fn claim(prepared: Option<(u8, u8)>) -> usize {
    prepared.map_or(0, |(view, block)| 1 + usize::from(view) * BLOCKS_MAX + usize::from(block))
}

/// The claim of a bit.
pub(super) fn claim_of(bit: usize) -> Option<(u8, u8)> {
    let bit = u8::try_from(bit.checked_sub(1)?).ok()?;
    let blocks = BLOCKS_MAX as u8;
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
        let voted =
            |view: &u8| self.prepares[usize::from(*view)] | self.commits[usize::from(*view)];
        (0..VIEWS_MAX as u8).rev().find(|view| voted(view) != 0)
    }

    /// The highest view of a VIEW-CHANGE.
    pub(super) fn highest_view_change(&self) -> Option<u8> {
        (0..=VIEWS_MAX as u8).rev().find(|view| self.view_changes[usize::from(*view)] != 0)
    }

    /// What others may use of it, one bit each: PREPARE and COMMIT by view and block, VIEW-CHANGE by view.
    pub(super) fn offers(&self) -> u64 {
        let mut bits = 0;
        for view in 0..VIEWS_MAX {
            bits |= u64::from(self.prepares[view]) << (view * BLOCKS_MAX);
            bits |= u64::from(self.commits[view]) << ((VIEWS_MAX + view) * BLOCKS_MAX);
        }
        for (view, claims) in self.view_changes.iter().enumerate() {
            bits |= u64::from(*claims != 0) << (2 * VIEWS_MAX * BLOCKS_MAX + view);
        }
        bits
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
        }
    }
}

/// The bit of [`Signed::offers`] for a vote.
pub(super) fn vote_offer(phase: Phase, view: u8, block: u8) -> u64 {
    let row = usize::from(view) + if phase == Phase::Commit { VIEWS_MAX } else { 0 };
    1 << (row * BLOCKS_MAX + usize::from(block))
}

/// The bit of [`Signed::offers`] for a VIEW-CHANGE.
pub(super) fn view_change_offer(view: u8) -> u64 {
    1 << (2 * VIEWS_MAX * BLOCKS_MAX + usize::from(view))
}

/// A renaming of the blocks of one height.
pub(super) type Names = [u8; BLOCKS_MAX];

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
    /// Pre-prepared blocks of its view that may still be accepted.
    pub(super) waiting: u8,
    /// Signatures that it waits for: PREPARE, COMMIT, VIEW-CHANGE.
    pub(super) unsigned: u8,
    pub(super) signed: Signed,
}

impl Local {
    /// The same with the blocks of its height renamed.
    pub(super) fn renamed(&self, names: &Names) -> Local {
        let prepared = claim_of(usize::from(self.prepared));
        let prepared = prepared.map(|(view, block)| (view, names[usize::from(block)]));
        Local {
            prepared: u8::try_from(claim(prepared)).expect("few claims"),
            waiting: rename(self.waiting, names),
            signed: self.signed.renamed(names),
            ..*self
        }
    }
}
