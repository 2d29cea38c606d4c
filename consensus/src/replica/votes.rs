//! The PREPAREs or the COMMITs of one height, counted by power as they arrive.

use super::{ByValidator, Unused};
use crate::block::BlockId;
use crate::message::{SignedVote, Verified};
use crate::validators::{ValidatorIndex, Validators};
use crate::view::View;
use std::collections::{BTreeMap, BTreeSet};

/// The most views for which one validator's votes of one phase are kept; beyond it the validator's lowest view goes, but never one in
/// which a quorum of COMMITs was seen.
pub const VOTE_VIEWS_MAX: usize = 8;

/// What came of adding a vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// It is new and counts.
    New,
    /// It was here already.
    Duplicate,
    /// The validator has voted in enough later views.
    Old,
    /// The validator voted for another block in that view: this is the first vote, which alone counts.
    Conflict(Box<SignedVote>),
}

#[derive(Clone, Debug, Default)]
struct InView {
    votes: ByValidator<Verified<SignedVote>>,
    power: BTreeMap<BlockId, u64>,
}

/// The votes of one phase.
#[derive(Clone, Debug, Default)]
pub(super) struct Votes {
    views: BTreeMap<View, InView>,
    of_sender: ByValidator<BTreeSet<View>>,
    /// A quorum was seen in this view: it stays one.
    held: Option<View>,
}

impl Votes {
    /// The votes of `view` are a quorum that what follows rests on: no later vote takes the place of one of them.
    pub(super) fn hold(&mut self, view: View) {
        self.held = Some(view);
    }

    /// The lowest view of a validator that gives way to a higher one.
    fn lowest(&self, index: ValidatorIndex) -> Option<View> {
        let views = self.of_sender.get(&index)?;
        views.iter().copied().find(|view| self.held != Some(*view))
    }

    pub(super) fn add(&mut self, vote: Verified<SignedVote>, validators: &Validators) -> Added {
        let (view, index, block_id) =
            (vote.message.view, vote.message.index, vote.message.block_id);
        if let Some(first) = self.of(view, index) {
            return match first.message.block_id == block_id {
                true => Added::Duplicate,
                false => Added::Conflict(Box::new(first.clone())),
            };
        }
        if self.of_sender.get(&index).is_some_and(|views| views.len() >= VOTE_VIEWS_MAX) {
            match self.lowest(index) {
                Some(lowest) if lowest < view => self.remove(lowest, index, validators),
                _ => return Added::Old,
            }
        }
        self.of_sender.entry(index).or_default().insert(view);
        let in_view = self.views.entry(view).or_default();
        in_view.votes.insert(index, vote);
        *in_view.power.entry(block_id).or_default() += validators.power_at(index);
        Added::New
    }

    /// Why a vote would not be added, or be evidence.
    pub(super) fn unused(
        &self,
        view: View,
        index: ValidatorIndex,
        block_id: BlockId,
    ) -> Option<Unused> {
        if let Some(first) = self.of(view, index) {
            return (first.message.block_id == block_id).then_some(Unused::Duplicate);
        }
        let views = self.of_sender.get(&index)?;
        let old = views.len() >= VOTE_VIEWS_MAX && self.lowest(index) >= Some(view);
        old.then_some(Unused::Stale)
    }

    /// Forgets a vote, and all traces of its block where it was the last for it.
    fn remove(&mut self, view: View, index: ValidatorIndex, validators: &Validators) {
        if let Some(views) = self.of_sender.get_mut(&index) {
            views.remove(&view);
        }
        let Some(in_view) = self.views.get_mut(&view) else { return };
        if let Some(vote) = in_view.votes.remove(&index)
            && let Some(power) = in_view.power.get_mut(&vote.message.block_id)
        {
            *power = power.saturating_sub(validators.power_at(index));
        }
        in_view.power.retain(|_, power| *power > 0);
        if in_view.votes.is_empty() {
            self.views.remove(&view);
        }
    }

    /// How many votes there are in `view`.
    pub(super) fn count(&self, view: View) -> usize {
        self.views.get(&view).map_or(0, |in_view| in_view.votes.len())
    }

    /// The vote of a validator in `view`.
    pub(super) fn of(&self, view: View, index: ValidatorIndex) -> Option<&SignedVote> {
        self.views.get(&view)?.votes.get(&index).map(|vote| &**vote)
    }

    /// The block that a quorum voted for in `view`.
    pub(super) fn quorum(&self, view: View, validators: &Validators) -> Option<BlockId> {
        let in_view = self.views.get(&view)?;
        in_view.power.iter().find(|(_, power)| validators.is_quorum(**power)).map(|(id, _)| *id)
    }

    /// The votes for `block_id` in `view`, in ascending order of index.
    pub(super) fn for_block(
        &self,
        view: View,
        block_id: BlockId,
    ) -> impl Iterator<Item = &SignedVote> {
        self.views
            .get(&view)
            .into_iter()
            .flat_map(|in_view| in_view.votes.values())
            .map(|vote| &**vote)
            .filter(move |vote| vote.message.block_id == block_id)
    }

    /// All votes by view, ascending.
    pub(super) fn by_view(&self) -> impl DoubleEndedIterator<Item = (View, Vec<&SignedVote>)> {
        self.views
            .iter()
            .map(|(view, in_view)| (*view, in_view.votes.values().map(|v| &**v).collect()))
    }

    /// How many there are.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn kept(&self) -> usize {
        self.views.values().map(|in_view| in_view.votes.len()).sum()
    }

    /// For how many blocks votes are counted in `view`.
    #[cfg(test)]
    pub(super) fn tallies(&self, view: View) -> usize {
        self.views.get(&view).map_or(0, |in_view| in_view.power.len())
    }
}
