//! What arrives for the next height before this one is decided: a few messages a validator, so that memory is bounded.

use super::Input;
use crate::block::{BlockId, SealedBlock};
use crate::message::{Phase, PrePrepare, SignedVote, Verified, ViewChangeMessage};
use crate::validators::ValidatorIndex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tendermint::block::Height;

/// The most PRE-PREPAREs of the next height that are kept.
const PRE_PREPARES_MAX: usize = 4;
/// The most blocks of the next height that are kept.
const BLOCKS_MAX: usize = 2;

/// Early messages of one height.
#[derive(Clone, Debug, Default)]
pub(super) struct Future {
    height: Option<Height>,
    pre_prepares: Vec<Verified<PrePrepare>>,
    blocks: BTreeMap<BlockId, Arc<SealedBlock>>,
    votes: BTreeMap<(ValidatorIndex, Phase), Verified<SignedVote>>,
    view_changes: BTreeMap<ValidatorIndex, Verified<ViewChangeMessage>>,
}

impl Future {
    /// Keeps `input`, which is of `height`; messages kept for another height are dropped.
    pub(super) fn keep(&mut self, height: Height, input: Input) {
        if self.height != Some(height) {
            *self = Future { height: Some(height), ..Future::default() };
        }
        match input {
            Input::PrePrepare(message) => {
                if self.pre_prepares.len() < PRE_PREPARES_MAX && !self.pre_prepares.contains(&message) {
                    self.pre_prepares.push(message);
                }
            }
            Input::Block(block) => {
                if self.blocks.len() < BLOCKS_MAX {
                    self.blocks.insert(block.id(), block);
                }
            }
            Input::Vote(vote) => {
                let key = (vote.message.index, vote.message.phase);
                let newer = self.votes.get(&key).is_none_or(|old| old.message.view < vote.message.view);
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

    /// Everything kept for `height`; the rest is dropped.
    pub(super) fn take(&mut self, height: Height) -> Vec<Input> {
        let all = std::mem::take(self);
        if all.height != Some(height) {
            return Vec::new();
        }
        let mut inputs: Vec<Input> = all.blocks.into_values().map(Input::Block).collect();
        inputs.extend(all.pre_prepares.into_iter().map(Input::PrePrepare));
        inputs.extend(all.votes.into_values().map(Input::Vote));
        inputs.extend(all.view_changes.into_values().map(Input::ViewChange));
        inputs
    }
}
