//! What arrives for the next height before this one is decided: a few messages a validator, so that memory is bounded.

use super::blocks::{Blocks, Worth};
use super::candidates::Candidates;
use super::{Input, Unused};
use crate::block::BlockId;
use crate::message::{
    Phase, PrePrepare, SignedVote, Verified, ViewChange, ViewChangeMessage, Vote,
};
use crate::validators::ValidatorIndex;
use crate::view::View;
use std::collections::BTreeMap;
use tendermint::block::Height;

/// Early messages of one height.
#[derive(Clone, Debug, Default)]
pub(super) struct Future {
    height: Option<Height>,
    candidates: Candidates,
    blocks: Blocks,
    votes: BTreeMap<(ValidatorIndex, Phase), Verified<SignedVote>>,
    view_changes: BTreeMap<ValidatorIndex, Verified<ViewChangeMessage>>,
}

impl Future {
    /// Keeps `input`, which is of `height`; messages kept for another height are dropped. That height will most likely start in `start`.
    pub(super) fn keep(&mut self, height: Height, start: View, input: Input) {
        if self.height != Some(height) {
            *self = Future { height: Some(height), ..Future::default() };
        }
        match input {
            Input::PrePrepare(message) => self.candidates.add(message, start),
            Input::Block(block) => {
                let candidates = &self.candidates;
                self.blocks.add(block, |id| match candidates.want(id, start) {
                    true => Worth::Needed,
                    false => Worth::Unknown,
                });
            }
            Input::Vote(vote) => {
                let key = (vote.message.index, vote.message.phase);
                let newer =
                    self.votes.get(&key).is_none_or(|old| old.message.view < vote.message.view);
                if newer {
                    self.votes.insert(key, vote);
                }
            }
            Input::ViewChange(message) => {
                let view = message.signed.message.view;
                let index = message.signed.message.index;
                let old = self.view_changes.get(&index);
                if old.is_none_or(|old| old.signed.message.view < view) {
                    self.view_changes.insert(index, message);
                }
            }
            _ => {}
        }
    }

    /// The view of what is kept of a vote's sender and phase.
    pub(super) fn view_of_vote(&self, vote: &Vote) -> Option<View> {
        let old = self.of(vote.height)?.votes.get(&(vote.index, vote.phase))?;
        Some(old.message.view)
    }

    /// The view of what is kept of a VIEW-CHANGE's sender.
    pub(super) fn view_of_view_change(&self, message: &ViewChange) -> Option<View> {
        let old = self.of(message.height)?.view_changes.get(&message.index)?;
        Some(old.signed.message.view)
    }

    /// Why a PRE-PREPARE would not be kept, where it is not for want of room.
    pub(super) fn unused_pre_prepare(&self, message: &PrePrepare, start: View) -> Option<Unused> {
        self.of(message.height())?.candidates.unused(message, start)
    }

    /// Whether the block is kept.
    pub(super) fn has(&self, height: Height, id: &BlockId) -> bool {
        self.of(height).is_some_and(|kept| kept.blocks.get(id).is_some())
    }

    fn of(&self, height: Height) -> Option<&Future> {
        (self.height == Some(height)).then_some(self)
    }

    /// How many messages and blocks are kept.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn kept(&self) -> usize {
        let messages = self.votes.len() + self.view_changes.len();
        messages + self.candidates.all().count() + self.blocks.ids().count()
    }

    /// Everything kept for `height`; the rest is dropped.
    pub(super) fn take(&mut self, height: Height) -> Vec<Input> {
        let all = std::mem::take(self);
        if all.height != Some(height) {
            return Vec::new();
        }
        let mut inputs: Vec<Input> = all.candidates.all().cloned().map(Input::PrePrepare).collect();
        inputs.extend(all.blocks.into_blocks().map(Input::Block));
        inputs.extend(all.votes.into_values().map(Input::Vote));
        inputs.extend(all.view_changes.into_values().map(Input::ViewChange));
        inputs
    }
}
