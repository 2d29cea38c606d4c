//! What arrives for the next height before this one is decided: a few messages a validator, so that memory is bounded.

use super::Input;
use super::blocks::{Blocks, Worth};
use super::candidates::Candidates;
use crate::message::{Phase, SignedVote, Verified, ViewChangeMessage};
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
