//! Vote extensions: the application extends this node's COMMITs and looks at those of others. Source: CometBFT `state/execution.go`,
//! `ExtendVote`, `VerifyVoteExtension`.

use super::executor::Executor;
use super::{Done, ExecutionError, requests};
use crate::lines::Lines;
use bytes::Bytes;
use std::fmt::Display;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tendermint_proto::v0_38::abci::response_verify_vote_extension::VerifyStatus;
use tercet_abci::AppError;
use tercet_consensus::block::SealedBlock;
use tercet_consensus::message::{SignedVote, Verified, Vote};
use tercet_consensus::verify::extension_bytes_max;

/// The most lines about refused extensions within one [`REFUSED_WINDOW`], one at most about a validator.
const REFUSED_LINES_MAX: usize = 10;
/// How often the application may be lost over one extension of another before that does not count: once it may have been for something else.
const LOSSES_MAX: u32 = 2;
/// The window of the rate limit.
const REFUSED_WINDOW: Duration = Duration::from_secs(10);

pub(super) fn lines<K: Eq + Hash>() -> Lines<K> {
    Lines::new(REFUSED_WINDOW, REFUSED_LINES_MAX)
}

impl Executor {
    /// Has this node's COMMIT extended, once a view. A job of a height that is over is dropped. An extension that the application
    /// itself rejects (CometBFT #5204) or that is too large would be of no use to anyone: then there is no COMMIT.
    pub(super) fn extend(
        &mut self,
        vote: &Vote,
        block: &Arc<SealedBlock>,
    ) -> Result<(), ExecutionError> {
        if self.state.next_height() != vote.height {
            return Ok(());
        }
        let known = self.extended.as_ref().filter(|(extended, _)| extended == vote);
        let data = match known {
            Some((_, data)) => data.clone(),
            None => {
                let request = requests::extend(block, &self.state);
                self.app.extend_vote(request)?.vote_extension
            }
        };
        if known.is_none() && !self.is_own_extension_good(vote, &data)? {
            return Ok(());
        }
        self.extended = Some((vote.clone(), data.clone()));
        (self.hooks.done)(Done::Extended { vote: vote.clone(), data });
        Ok(())
    }

    fn is_own_extension_good(&mut self, vote: &Vote, data: &Bytes) -> Result<bool, ExecutionError> {
        let (height, bytes) = (vote.height, data.len());
        let bytes_max = extension_bytes_max(self.state.validators.count());
        if bytes > bytes_max {
            if let Some(suppressed) = self.own_refused.line((), Instant::now()) {
                tracing::error!(
                    %height, bytes, bytes_max, suppressed,
                    "the application answered ExtendVote with too many bytes: this node does not commit in this view"
                );
            }
            return Ok(false);
        }
        let good = self.is_extension_good(vote, data)?;
        if !good && let Some(suppressed) = self.own_refused.line((), Instant::now()) {
            tracing::error!(
                %height, suppressed,
                "the application rejects its own vote extension: this node does not commit in this view; the application contradicts itself"
            );
        }
        Ok(good)
    }

    /// Whether to say that this COMMIT's extension is refused, and how many such lines were left out before: they come at every height.
    fn tell_refused(&mut self, vote: &Vote) -> Option<u64> {
        self.refused_extensions.line(vote.validator, Instant::now())
    }

    /// Asks about the extension of another's COMMIT. CometBFT never asks about a height that is over, and there are applications that cannot
    /// answer it: whatever they do then is no reason to stop, nor to go on asking.
    pub(super) fn verify_extension(
        &mut self,
        vote: &Verified<SignedVote>,
    ) -> Result<(), ExecutionError> {
        let Some(extension) = &vote.message.extension else { return Ok(()) };
        let late = self.is_late(&vote.message);
        if late && self.fails_late {
            self.verified(vote, false);
            return Ok(());
        }
        let accepted = match self.is_extension_good(&vote.message, &extension.data) {
            Err(ExecutionError::App(
                error @ (AppError::Exception { .. } | AppError::Answer { .. }),
            )) if late => {
                self.ask_no_more_late(&error);
                self.verified(vote, false);
                return Ok(());
            }
            result => result?,
        };
        let Vote { height, view, validator, .. } = vote.message;
        if !accepted && let Some(suppressed) = self.tell_refused(&vote.message) {
            tracing::warn!(
                %height, %view, %validator, suppressed,
                "the application rejects the vote extension of a COMMIT, which does not count"
            );
        }
        self.verified(vote, accepted);
        Ok(())
    }

    /// Whether an extension over which the application was lost so often is not asked about again: or one validator's could keep every node
    /// asking for ever.
    pub(super) fn gives_up(
        &mut self,
        vote: &Verified<SignedVote>,
        losses: u32,
        error: &ExecutionError,
    ) -> bool {
        let late = self.is_late(&vote.message);
        if !late && losses < LOSSES_MAX {
            return false;
        }
        if late {
            self.ask_no_more_late(error);
        } else {
            let Vote { height, view, validator, .. } = vote.message;
            tracing::error!(
                %height, %view, %validator, losses,
                "the application broke off each time that it was asked about the vote extension of this validator's COMMIT, which does not \
                 count; mend the application"
            );
        }
        self.verified(vote, false);
        true
    }

    fn ask_no_more_late(&mut self, error: &dyn Display) {
        self.fails_late = true;
        tracing::warn!(
            "{error}: the application cannot look at a vote extension of a height that is over, and is asked about none any more until the \
             next start; COMMITs that come late are missing in the last commit of the next block"
        );
    }

    fn is_late(&self, vote: &Vote) -> bool {
        vote.height < self.state.next_height()
    }

    fn verified(&self, vote: &Verified<SignedVote>, accepted: bool) {
        (self.hooks.done)(Done::ExtensionVerified { vote: vote.clone(), accepted });
    }

    fn is_extension_good(&mut self, vote: &Vote, data: &Bytes) -> Result<bool, ExecutionError> {
        let answer = self.app.verify_vote_extension(requests::verify_extension(vote, data))?;
        if let Some(line) = no_status(vote, answer.status)
            && let Some(suppressed) = self.tell_refused(vote)
        {
            tracing::error!(suppressed, "{line}");
        }
        Ok(answer.status == i32::from(VerifyStatus::Accept))
    }
}

/// A line where the application said neither ACCEPT nor REJECT. CometBFT panics there (`state/execution.go`, `VerifyVoteExtension`); here the
/// extension does not count, and the node goes on: the message of another must not stop it.
pub(super) fn no_status(vote: &Vote, status: i32) -> Option<String> {
    let known = VerifyStatus::try_from(status).is_ok_and(|status| status != VerifyStatus::Unknown);
    (!known).then(|| {
        let Vote { height, validator, .. } = vote;
        format!(
            "the application answered VerifyVoteExtension of {validator} at height {height} with the status {status}, which is none, and that \
             counts as REJECT (CometBFT would stop); mend the application"
        )
    })
}
