//! The PRE-PREPAREs of a height that may still be accepted. They are verified, but whether one is justified depends on the
//! receiver's view, lock and blocks; until it is accepted it leaves no other trace.

use crate::block::BlockId;
use crate::message::{PrePrepare, Verified};
use crate::view::View;

/// The most candidates that are kept for one view: enough to hold the proof that the primary signed two blocks, each with and
/// without a justification.
const IN_VIEW_MAX: usize = 4;
/// The most candidates of later views. Each is signed by the primary of its view.
const LATER_MAX: usize = 16;

/// The candidates, in the order of arrival.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidates(Vec<Verified<PrePrepare>>);

impl Candidates {
    /// Keeps `message` where it is of `view` or a later one, new and within the bounds.
    pub(super) fn add(&mut self, message: Verified<PrePrepare>, view: View) {
        self.0.retain(|old| old.view() >= view);
        let new = message.view();
        let same = |old: &&Verified<PrePrepare>| {
            old.view() == new
                && old.block_id() == message.block_id()
                && old.justification.is_some() == message.justification.is_some()
        };
        if new < view || self.0.iter().any(|old| same(&old)) {
            return;
        }
        if self.0.iter().filter(|old| old.view() == new).count() >= IN_VIEW_MAX {
            return;
        }
        if self.0.iter().filter(|old| old.view() > view).count() >= LATER_MAX {
            // The farthest view goes first: the near ones are entered first.
            let Some(farthest) = self.0.iter().map(|old| old.view()).max() else { return };
            if farthest <= new {
                return;
            }
            self.0.retain(|old| old.view() != farthest);
        }
        self.0.push(message);
    }

    /// Those of one view.
    pub(super) fn of(&self, view: View) -> impl Iterator<Item = &Verified<PrePrepare>> {
        self.0.iter().filter(move |message| message.view() == view)
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Verified<PrePrepare>> {
        self.0.iter()
    }

    /// Whether the primary of `view` signed two blocks: whatever justifies them, a correct one signs one.
    pub(super) fn equivocates(&self, view: View) -> bool {
        let mut first: Option<BlockId> = None;
        self.of(view).any(|message| *first.get_or_insert(message.block_id()) != message.block_id())
    }
}
