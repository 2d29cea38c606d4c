//! What the log should know about what the replica saw.

use super::run::Engine;
use crate::audit::Discarded;
use tendermint::block::Height;
use tercet_consensus::commit::{Commit, median_time};
use tercet_consensus::key::Address;
use tercet_consensus::message::{Phase, SignedVote};
use tercet_consensus::replica::Note;
use tercet_consensus::view::View;

/// The most offences that are remembered as told.
const EQUIVOCATIONS_MAX: usize = 4_096;

/// Two votes: height, view, phase, whose.
pub(super) type Offence = (Height, View, Phase, Address);

impl Engine {
    pub(super) fn evidence(&mut self, votes: (SignedVote, SignedVote)) {
        let vote = &votes.0.message;
        self.parts.audit.discard(Discarded::equivocation(vote.validator));
        let offence = (vote.height, vote.view, vote.phase, vote.validator);
        // Anyone can send the second vote again and again.
        if self.equivocations.len() < EQUIVOCATIONS_MAX && self.equivocations.insert(offence) {
            tracing::error!(validator = %vote.validator, height = %vote.height,
                "a validator signed two votes for one height and view");
            (self.parts.evidence)(votes);
        }
    }

    /// Compares the clock with the others' in the commit of a block that was just decided.
    pub(super) fn note_time(&mut self, commit: &Commit) {
        let Some(info) = self.parts.sets.at(commit.height) else { return };
        let fresh = !self.hold.ingesting && !self.hold.restoring && !self.parts.sync.is_behind();
        if let Some(median) = median_time(commit, &info.validators) {
            self.clock.see(median, fresh, self.now);
        }
    }

    pub(super) fn note(&mut self, note: Note) {
        let height = self.height();
        match note {
            Note::ViewChange { view, cause } => {
                self.view_changes += 1;
                self.tell_timeout(cause);
                tracing::info!(%height, %view, ?cause, "view change");
            }
            Note::Entered { view, primary } => {
                tracing::info!(%height, %view, %primary, "new view");
                self.point_pool();
            }
            Note::Equivocation(view) => {
                tracing::error!(%height, %view, "the primary signed two proposals for one view");
            }
            // Why was told when the verdict came.
            Note::Refused(block_id) => {
                tracing::debug!(%height, block = %block_id.hash, "refused: a view change");
            }
        }
    }
}
