//! STATUS and its answer. Source: docs/protocol.md §9: every signed message of the height that I hold and the STATUS lacks, the proposal,
//! the highest VIEW-CHANGE of each sender, and what put me into my view. So every lost message comes back.

use super::Replica;
use super::lacking::Lacking;
use super::votes::Votes;
use crate::block::BlockId;
use crate::message::{Message, Vote};
use crate::status::{Bitmap, STATUS_BLOCKS_MAX, STATUS_VIEWS_MAX, Status};
use crate::validators::ValidatorIndex;
use crate::view::View;
use std::collections::BTreeMap;

impl Replica {
    /// What I have of my height. `direct`: the validators that I am connected to, myself included.
    #[must_use]
    pub fn status(&self, direct: impl IntoIterator<Item = ValidatorIndex>) -> Status {
        let pre_prepares = self.at.candidates.of(self.at.view);
        // One that is not justified (as a NEW-VIEW that somebody stripped of its J) is no reason not to resend the right one.
        let pre_prepares = pre_prepares.filter(|m| self.at.is_justified(m) != Some(false));
        Status {
            height: self.height(),
            start_view: self.at.start_view(),
            view: self.at.view,
            pre_prepares: pre_prepares.map(|m| m.block_id()).collect(),
            prepares: self.votes_by_view(&self.at.prepares),
            commits: self.votes_by_view(&self.at.commits),
            view_changes: self
                .at
                .view_changes
                .all()
                .map(|(index, message)| (*index, message.signed.message.view))
                .collect(),
            blocks: self.at.blocks.ids().take(STATUS_BLOCKS_MAX).collect(),
            direct: direct.into_iter().collect(),
            lacks_extensions: self.at.lacks_extensions(),
        }
    }

    /// Whose votes are here, by view: my view's first, so that no liar's votes of later views push them out, then the latest.
    fn votes_by_view(&self, votes: &Votes) -> Vec<(View, Bitmap)> {
        let mut by_view: Vec<_> = votes.by_view().rev().collect();
        by_view.sort_by_key(|(view, _)| *view != self.at.view);
        let listed = by_view.into_iter().take(STATUS_VIEWS_MAX);
        listed
            .map(|(view, votes)| (view, votes.iter().map(|v| v.message.index).collect()))
            .collect()
    }

    /// The messages that a peer with this STATUS lacks, in the order in which they are of use; nothing where it is at another height.
    #[must_use]
    pub fn lacking(&self, status: &Status) -> Vec<Lacking<'_>> {
        let mut out = Vec::new();
        if status.height != self.height() {
            return out;
        }
        if status.start_view < self.at.start_view()
            && let Some(prior) = self.at.prior_to_send()
        {
            out.push(Lacking::Prior(prior));
        } else if status.lacks_extensions
            && let Some(extended) = &self.at.extended
        {
            // Of an earlier round it serves a NEW-VIEW.
            out.push(Lacking::Prior(extended));
        }
        if status.view < self.at.view
            && let Some(message) = &self.at.new_view
        {
            out.push(Lacking::PrePrepare(message));
        }
        if status.view <= self.at.view {
            self.lacking_pre_prepares(status, &mut out);
        }
        lacking_votes(&self.at.prepares, &status.prepares, &mut out);
        lacking_votes(&self.at.commits, &status.commits, &mut out);
        self.lacking_view_changes(status, &mut out);
        out
    }

    /// The same, as messages.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn answer(&self, status: &Status) -> Vec<Message> {
        self.lacking(status).iter().map(Lacking::message).collect()
    }

    /// A list of more senders than there are validators comes from no correct replica: it gets none.
    fn lacking_view_changes<'a>(&'a self, status: &Status, out: &mut Vec<Lacking<'a>>) {
        if status.view_changes.len() > self.at.start.validators.count() {
            return;
        }
        let theirs: BTreeMap<ValidatorIndex, View> = status.view_changes.iter().copied().collect();
        let lacks = |index, view| theirs.get(index).is_none_or(|theirs| *theirs < view);
        let all = self.at.view_changes.all();
        let lacking = all.filter(|(index, m)| lacks(index, m.signed.message.view));
        out.extend(lacking.map(|(_, message)| Lacking::ViewChange(message)));
    }

    /// Whether this very vote is counted here; blocks hold COMMITs without their extensions, so these are not compared.
    #[must_use]
    pub fn has_vote(&self, vote: &Vote) -> bool {
        let bare = |vote: &Vote| Vote { extension: None, ..vote.clone() };
        let votes = self.at.votes(vote.phase);
        votes.for_block(vote.view, vote.block_id).any(|known| bare(&known.message) == bare(vote))
    }

    /// The block with this id, for a peer that asks for it.
    #[must_use]
    pub fn block(&self, id: &BlockId) -> Option<Message> {
        self.at.blocks.get(id).cloned().map(Message::Block)
    }

    /// The blocks that this replica needs and lacks: pre-prepared in its view, decided, or bound for it as the new primary.
    #[must_use]
    pub fn missing(&self) -> Vec<BlockId> {
        let mut wanted: Vec<BlockId> =
            self.at.candidates.of(self.at.view).map(|message| message.block_id()).collect();
        wanted.extend(self.at.commit_quorum.map(|(_, id)| id));
        if self.at.am_primary(self.at.top()) {
            wanted.extend(self.at.view_changes.claims().map(|claim| claim.block_id));
        }
        wanted.extend(self.at.prepares.quorum(self.at.view, &self.at.start.validators));
        wanted.retain(|id| self.at.blocks.get(id).is_none());
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// View and block of a COMMIT quorum that is here.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn commit_quorum(&self) -> Option<(View, BlockId)> {
        self.at.commit_quorum
    }

    /// What this replica keeps of messages.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn kept(&self) -> Kept {
        Kept {
            votes: self.at.prepares.kept() + self.at.commits.kept(),
            pre_prepares: self.at.candidates.all().count(),
            blocks: self.at.blocks.ids().count(),
            view_changes: self.at.view_changes.kept(),
            early: self.future.kept(),
        }
    }

    /// One line about its state.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn summary(&self) -> String {
        let (height, view, promise) = (self.height(), self.view(), self.promise());
        let (prepared, signs) = (self.prepared().map(|(view, _)| view), self.signs());
        let timers = &self.at.timers;
        format!(
            "{height}/{view} promise {promise:?} prepared {prepared:?} signs {signs} {timers:?}"
        )
    }

    /// What put me into my view: the NEW-VIEW, or Commit(h−1) of my start view.
    pub(super) fn explanation(&self) -> Option<Message> {
        match &self.at.new_view {
            Some(message) => Some(Message::PrePrepare((**message).clone())),
            None => self.at.prior_to_send().cloned().map(Message::Prior),
        }
    }

    fn lacking_pre_prepares<'a>(&'a self, status: &Status, out: &mut Vec<Lacking<'a>>) {
        for message in self.at.candidates.of(self.at.view) {
            let id = message.block_id();
            let has = status.view == self.at.view && status.pre_prepares.contains(&id);
            if !has && !out.contains(&Lacking::PrePrepare(message)) {
                out.push(Lacking::PrePrepare(message));
            }
            if !status.blocks.contains(&id)
                && let Some(block) = self.at.blocks.get(&id)
            {
                out.push(Lacking::Block(block));
            }
        }
    }
}

fn lacking_votes<'a>(mine: &'a Votes, theirs: &[(View, Bitmap)], out: &mut Vec<Lacking<'a>>) {
    for (view, votes) in mine.by_view() {
        let has = theirs.iter().find(|(other, _)| *other == view).map(|(_, bitmap)| bitmap);
        let lacks = |index| has.is_none_or(|bitmap| !bitmap.has(index));
        let missing = votes.into_iter().filter(|vote| lacks(vote.message.index));
        out.extend(missing.map(Lacking::Vote));
    }
}

/// How many messages and blocks a replica keeps, so that tests can see that their number is bounded.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// PREPAREs and COMMITs.
    pub votes: usize,
    /// PRE-PREPAREs.
    pub pre_prepares: usize,
    /// Blocks.
    pub blocks: usize,
    /// VIEW-CHANGEs.
    pub view_changes: usize,
    /// Messages and blocks of the next height.
    pub early: usize,
}
