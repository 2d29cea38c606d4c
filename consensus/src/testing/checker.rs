//! The invariants of docs/protocol.md §11 that concern replicas: S1–S6, S9, S11. They stand outside the code that they check: they see what
//! replicas released, persisted and decided, never what they think.

use crate::block::{BlockId, SealedBlock};
use crate::commit::Commit;
use crate::message::{Message, Phase};
use crate::record::Record;
use crate::validators::ValidatorIndex;
use crate::verify::{Context, Direct};
use crate::view::View;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What one correct replica has released at one height.
#[derive(Debug, Default)]
struct Released {
    votes: BTreeMap<(View, Phase), BlockId>,
    proposals: BTreeMap<View, BlockId>,
    highest_vote: View,
    promise: Option<View>,
}

/// What was seen of all correct replicas.
#[derive(Debug, Default)]
pub struct Checker {
    released: BTreeMap<(ValidatorIndex, u64), Released>,
    /// Decided block and lowest view of a commit, by height.
    decided: BTreeMap<u64, (BlockId, View)>,
    /// Which replicas have decided which height.
    decided_by: BTreeMap<(ValidatorIndex, u64), View>,
    /// Prepared block by height and view.
    prepared: BTreeMap<(u64, View), BlockId>,
    /// COMMIT records on disk.
    committed: BTreeMap<(ValidatorIndex, u64, View), BlockId>,
}

impl Checker {
    /// A record became durable.
    ///
    /// # Panics
    /// Where S2, S3 or S6 breaks.
    pub fn persisted(&mut self, who: ValidatorIndex, record: &Record, context: &Context<'_>) {
        if let Record::Commit { certificate, vote, .. } = record {
            context
                .certificate(certificate, &Direct)
                .expect("S6: the certificate of a COMMIT verifies");
            let height = certificate.height.value();
            let (view, block_id) = (certificate.view, certificate.block_id);
            assert_eq!((vote.message.view, vote.message.block_id), (view, block_id), "S6");
            self.committed.insert((who, height, view), block_id);
            self.prepared(height, view, block_id);
        }
    }

    fn prepared(&mut self, height: u64, view: View, block_id: BlockId) {
        let first = *self.prepared.entry((height, view)).or_insert(block_id);
        assert_eq!(first, block_id, "S2: two blocks prepared at height {height}, view {view}");
        if let Some((decided, at)) = self.decided.get(&height)
            && view > *at
        {
            assert_eq!(
                *decided, block_id,
                "S3: another block prepared at {height} above its commit"
            );
        }
    }

    /// A message left a replica.
    ///
    /// # Panics
    /// Where S4, S5, S6 or S11 breaks.
    pub fn released(&mut self, who: ValidatorIndex, message: &Message) {
        match message {
            Message::Vote(vote) if vote.message.index == who => {
                let vote = &vote.message;
                let height = vote.height.value();
                let seen = self.released.entry((who, height)).or_default();
                let first = *seen.votes.entry((vote.view, vote.phase)).or_insert(vote.block_id);
                assert_eq!(
                    first, vote.block_id,
                    "S4/S11: {who} voted twice at {height}, {}",
                    vote.view
                );
                assert!(vote.view >= seen.highest_vote, "S5: the view of {who} fell at {height}");
                assert!(
                    seen.promise.is_none_or(|promise| vote.view >= promise),
                    "S5: below promise"
                );
                seen.highest_vote = vote.view;
                if vote.phase == Phase::Commit {
                    let durable = self.committed.get(&(who, height, vote.view));
                    assert_eq!(
                        durable,
                        Some(&vote.block_id),
                        "S6: COMMIT without a certificate on disk"
                    );
                }
                assert!(
                    !self.decided_by.contains_key(&(who, height)),
                    "S5: a vote for a decided height"
                );
            }
            Message::PrePrepare(message) => {
                let seen = self.released.entry((who, message.height().value())).or_default();
                let first = *seen.proposals.entry(message.view()).or_insert(message.block_id());
                assert_eq!(
                    first,
                    message.block_id(),
                    "S4: {who} proposed twice in {}",
                    message.view()
                );
            }
            Message::ViewChange(message) if message.signed.message.index == who => {
                let message = &message.signed.message;
                let seen = self.released.entry((who, message.height.value())).or_default();
                seen.promise = seen.promise.max(Some(message.view));
                assert!(
                    !self.decided_by.contains_key(&(who, message.height.value())),
                    "S5: VIEW-CHANGE for a decided height"
                );
            }
            _ => {}
        }
    }

    /// A replica decided.
    ///
    /// # Panics
    /// Where S1, S3 or S9 breaks.
    pub fn decided(&mut self, who: ValidatorIndex, block: &Arc<SealedBlock>, commit: &Commit) {
        let height = commit.height.value();
        assert_eq!(block.id(), commit.block_id);
        let entry = self.decided.entry(height).or_insert((commit.block_id, commit.view));
        assert_eq!(entry.0, commit.block_id, "S1: two blocks decided at height {height}");
        entry.1 = entry.1.min(commit.view);
        let lowest = entry.1;
        self.decided_by.insert((who, height), commit.view);
        if let Some(last) = block.last_commit() {
            assert!(last.view <= commit.view, "S9: the round fell at height {height}");
        }
        for ((at, view), prepared) in self.prepared.range((height, lowest)..=(height, View::MAX)) {
            if *view > lowest {
                assert_eq!(
                    *prepared, commit.block_id,
                    "S3: another block prepared at {at} above its commit"
                );
            }
        }
    }

    /// How many heights were decided by anyone.
    #[must_use]
    pub fn heights(&self) -> usize {
        self.decided.len()
    }
}
