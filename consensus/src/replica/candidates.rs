//! The PRE-PREPAREs of a height that may still be accepted. They are verified, but whether one is justified depends on the
//! receiver's view, lock and blocks; until it is accepted it leaves no other trace.

use super::Unused;
use crate::block::BlockId;
use crate::message::{PrePrepare, Verified};
use crate::view::View;

/// The most candidates that are kept for one view: enough to hold the proof that the primary signed two blocks, each with and
/// without a justification.
const IN_VIEW_MAX: usize = 4;
/// The most candidates of one later view that carry no justification: enough for the same proof.
const IN_LATER_VIEW_MAX: usize = 2;
/// The most candidates of later views that carry no justification. Each is signed by the primary of its view.
const LATER_MAX: usize = 16;

/// The candidates, in the order of arrival.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidates(Vec<Verified<PrePrepare>>);

impl Candidates {
    /// Keeps `message` where it is of `view` or a later one, new and within the bounds.
    ///
    /// A NEW-VIEW of a later view is entered at once, so one is enough, the highest. What carries no justification can be made in any
    /// number by faulty primaries, and takes no room from a NEW-VIEW.
    pub(super) fn add(&mut self, message: Verified<PrePrepare>, view: View) {
        self.0.retain(|old| old.view() >= view);
        let new = message.view();
        if self.unused(&message, view).is_some() {
            return;
        }
        let room = match (new == view, message.justification.is_some()) {
            (true, _) => self.of(view).count() < IN_VIEW_MAX,
            (false, true) => self.make_room_for_new_view(view, new),
            (false, false) => self.make_room_for_later(view, new),
        };
        if room {
            self.0.push(message);
        }
    }

    /// Why `message` would not be kept, where it is not for want of room.
    pub(super) fn unused(&self, message: &PrePrepare, view: View) -> Option<Unused> {
        let same = |old: &Verified<PrePrepare>| {
            old.view() == message.view()
                && old.block_id() == message.block_id()
                && old.justification.is_some() == message.justification.is_some()
        };
        if message.view() < view {
            Some(Unused::Stale)
        } else {
            self.0.iter().any(same).then_some(Unused::Duplicate)
        }
    }

    fn make_room_for_new_view(&mut self, view: View, new: View) -> bool {
        let later = |old: &Verified<PrePrepare>| old.view() > view && old.justification.is_some();
        let higher = !self.0.iter().any(|old| later(old) && old.view() >= new);
        if higher {
            self.0.retain(|old| !later(old));
        }
        higher
    }

    /// The farthest view goes first: the near ones are entered first.
    fn make_room_for_later(&mut self, view: View, new: View) -> bool {
        let later = |old: &&Verified<PrePrepare>| old.view() > view && old.justification.is_none();
        let views: Vec<View> = self.0.iter().filter(later).map(|old| old.view()).collect();
        if views.iter().filter(|old| **old == new).count() >= IN_LATER_VIEW_MAX {
            return false;
        }
        let Some(farthest) = views.iter().max().copied().filter(|_| views.len() >= LATER_MAX)
        else {
            return true;
        };
        if new < farthest {
            self.0.retain(|old| old.view() != farthest || old.justification.is_some());
        }
        new < farthest
    }

    /// Those of one view.
    pub(super) fn of(&self, view: View) -> impl Iterator<Item = &Verified<PrePrepare>> {
        self.0.iter().filter(move |message| message.view() == view)
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Verified<PrePrepare>> {
        self.0.iter()
    }

    /// Whether a candidate of `view`, or a NEW-VIEW, proposes the block: one of a later view that nothing justifies is no reason to
    /// keep anything.
    pub(super) fn want(&self, id: &BlockId, view: View) -> bool {
        let wants = |m: &Verified<PrePrepare>| m.view() == view || m.justification.is_some();
        self.0.iter().any(|message| wants(message) && message.block_id() == *id)
    }

    /// Whether the primary of `view` signed two blocks: whatever justifies them, a correct one signs one.
    pub(super) fn equivocates(&self, view: View) -> bool {
        let mut first: Option<BlockId> = None;
        self.of(view).any(|message| *first.get_or_insert(message.block_id()) != message.block_id())
    }
}
