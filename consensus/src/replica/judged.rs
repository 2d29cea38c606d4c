//! What the application says of the vote extensions in Commit(h−1), on which a block is built. The COMMITs that this replica counted it has
//! accepted one by one; what came in DECIDED, or in a commit of a higher round, is proven by signatures alone, and its signers may be
//! liars: the application is asked before a block is built on it. Source: docs/protocol.md §5 `vote-extensions`.

use super::height::{At, Verdict};
use super::{Action, ByValidator, Replica};
use crate::commit::Commit;
use crate::message::{Signed, SignedVote, Verified, Vote};
use crate::validators::{ValidatorIndex, Validators};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What is known of the entries of Commit(h−1); of those without a verdict nothing is.
#[derive(Clone, Debug, Default)]
pub(super) struct Judged {
    /// V(h−1); none where h−1 was not decided here but is what a start goes on from, and then nothing is asked.
    validators: Option<Arc<Validators>>,
    verdicts: ByValidator<Verdict>,
}

impl Judged {
    /// Of another commit nothing is known yet.
    pub(super) fn forget(&mut self) {
        self.verdicts.clear();
    }

    pub(super) fn answered(&mut self, index: ValidatorIndex, accepted: bool) {
        self.verdicts.insert(index, Verdict::answer(accepted));
    }

    fn is_asking(&self) -> bool {
        self.verdicts.values().any(|verdict| *verdict == Verdict::Asked)
    }

    /// `commit` without the entries that are rejected, where a quorum remains; otherwise as it is, because without a quorum there is no
    /// commit, and the application may be one that cannot look at a height that is over.
    pub(super) fn good_part(&self, commit: &Commit) -> Commit {
        let mut good = commit.clone();
        for (index, entry) in (0..).zip(&mut good.signatures) {
            if self.verdicts.get(&index) == Some(&Verdict::Refused) {
                *entry = None;
            }
        }
        let quorum = |set: &Arc<Validators>| set.is_quorum(set.power_of(good.present()));
        if self.validators.as_ref().is_some_and(quorum) { good } else { commit.clone() }
    }
}

impl Replica {
    /// Asks the application about what it has not seen of the commit that a block is to be built on. Whether an answer is outstanding.
    pub(super) fn awaits_judgement(&mut self, out: &mut Vec<Action>) -> bool {
        for vote in self.at.unjudged() {
            self.at.judged.verdicts.insert(vote.message.index, Verdict::Asked);
            out.push(Action::VerifyExtension(Verified::new(vote)));
        }
        self.at.judged.is_asking()
    }
}

impl At {
    /// What the next height knows of its Commit(h−1), which is this one's decision.
    pub(super) fn judged_decision(&self) -> Judged {
        let present = self.decision.iter().flat_map(Commit::present);
        let accepted = present.filter(|index| !self.unseen.contains(index));
        Judged {
            validators: Some(self.start.validators.clone()),
            verdicts: accepted.map(|index| (index, Verdict::Accepted)).collect(),
        }
    }

    /// The entries of a commit of this height which this replica has not counted itself.
    pub(super) fn unseen_of(&self, commit: &Commit) -> BTreeSet<ValidatorIndex> {
        let seen = |index| self.commits.of(commit.view, index).map(|vote| &vote.message);
        let is_seen = |index: &ValidatorIndex| {
            commit.vote(*index).is_some_and(|(vote, _)| seen(*index) == Some(&vote))
        };
        commit.present().filter(|index| !is_seen(index)).collect()
    }

    /// The application has accepted a COMMIT of this height, which is decided.
    pub(super) fn seen_late(&mut self, vote: &Vote) {
        let entry = self.decision.as_ref().and_then(|commit| commit.vote(vote.index));
        if entry.is_some_and(|(entry, _)| entry == *vote) {
            self.unseen.remove(&vote.index);
        }
    }

    /// The application's answer about a COMMIT of the height before: it may be one that is in the commit already.
    pub(super) fn judge_late(&mut self, vote: &SignedVote, accepted: bool) {
        if accepted {
            self.add_late_commit(vote);
        }
        let index = vote.message.index;
        let entry = self.extended.as_ref().and_then(|commit| commit.vote(index));
        if entry.is_some_and(|(entry, _)| entry == vote.message) {
            self.judged.answered(index, accepted);
        }
    }

    /// What a commit of the height before of this very round adds to the one that is here: each a late COMMIT.
    pub(super) fn additions(&self, commit: &Commit) -> Vec<SignedVote> {
        let Some(known) = self.late_commit().filter(|_| self.start.prior_extensions) else {
            return Vec::new();
        };
        let same = (known.height, known.view) == (commit.height, commit.view);
        let votes = commit.present().filter(|_| same).filter_map(|index| commit.vote(index));
        let votes = votes.filter(|(vote, _)| vote.extension.is_some());
        votes.map(|(message, signature)| Signed { message, signature }).collect()
    }

    /// The commit that a late COMMIT joins.
    pub(super) fn late_commit(&self) -> Option<&Commit> {
        let prior = self.start.prior.as_ref()?;
        Some(self.extended.as_ref().filter(|extended| extended.view == prior.view).unwrap_or(prior))
    }

    /// The entries of the commit that a block is built on of which the application has not been asked.
    fn unjudged(&self) -> Vec<SignedVote> {
        let known = self.judged.validators.is_some();
        let commits = self.extended.iter().filter(|_| known);
        let votes = commits.flat_map(|commit| {
            commit.present().filter_map(|index| {
                let (message, signature) = commit.vote(index)?;
                Some(Signed { message, signature })
            })
        });
        votes.filter(|vote| !self.judged.verdicts.contains_key(&vote.message.index)).collect()
    }
}
