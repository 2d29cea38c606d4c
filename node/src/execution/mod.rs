//! Drives the application: builds and checks blocks, executes the decided ones, and brings application and chain to one height at a
//! start.
//!
//! - [`executor`]: the thread that owns the application's consensus role; one job after the other.
//! - `extensions`: vote extensions, this node's and those of others.
//! - [`block`]: what a header must say, from the state alone.
//! - `requests`: a block as ABCI requests.
//! - [`updates`]: what the application changes: validators and parameters.
//! - [`handshake`]: `Info`, `InitChain` and the replay of what the application lacks.
//! - [`replay`]: all blocks once more, compared.
//!
//! What the application answers to a block is durable before `Commit`, so that an application that is one block ahead of the chain after
//! a crash is not asked to execute it twice.

pub mod block;
pub mod executor;
mod extensions;
pub mod handshake;
pub mod replay;
mod requests;
pub mod updates;
mod verdicts;

#[cfg(test)]
pub(crate) mod tests;

pub use crate::store::{Applied, State};
pub use executor::{Executor, Hooks};
pub use requests::finalize as finalize_request;

use crate::store::StoreError;
use bytes::Bytes;
use std::sync::Arc;
use tendermint::block::Height;
use tercet_abci::AppError;
use tercet_consensus::block::{BlockId, SealedBlock};
use tercet_consensus::commit::Commit;
use tercet_consensus::message::{SignedVote, Verified, Vote};
use tercet_consensus::view::View;

/// What the executor is asked to do.
#[derive(Debug)]
pub enum Job {
    /// Build a fresh or free block for this view.
    Propose {
        /// The height.
        height: Height,
        /// The view.
        view: View,
        /// Commit(h−1), none at the initial height.
        last_commit: Option<Commit>,
    },
    /// Check a proposed block: its header, then the application.
    Validate(Arc<SealedBlock>),
    /// Have the application extend a COMMIT of this node for `block`.
    Extend {
        /// The COMMIT, not signed yet.
        vote: Vote,
        /// The block that it is for.
        block: Arc<SealedBlock>,
    },
    /// Ask the application about the vote extension of another's COMMIT.
    VerifyExtension(Verified<SignedVote>),
    /// Answer once the application is there and where the chain is: another role has lost its connection to it.
    Revive(crossbeam_channel::Sender<()>),
    /// Execute a decided block; it and its commit are durable.
    Apply {
        /// The block.
        block: Arc<SealedBlock>,
        /// What decided it.
        commit: Commit,
    },
}

impl Job {
    /// The height that it is about.
    #[must_use]
    pub fn height(&self) -> Option<Height> {
        match self {
            Job::Propose { height, .. } => Some(*height),
            Job::Validate(block) | Job::Apply { block, .. } | Job::Extend { block, .. } => {
                Some(block.header().height)
            }
            Job::VerifyExtension(vote) => Some(vote.message.height),
            Job::Revive(_) => None,
        }
    }
}

/// What came of a [`Job`].
#[derive(Debug)]
pub enum Done {
    /// A block was built.
    Proposed {
        /// The height.
        height: Height,
        /// The view it was asked for.
        view: View,
        /// The block.
        block: Arc<SealedBlock>,
    },
    /// A block was checked.
    Validated {
        /// The block.
        block_id: BlockId,
        /// Whether it is valid, or why not.
        result: Result<(), Refusal>,
    },
    /// The application extended a COMMIT.
    Extended {
        /// The COMMIT, not signed yet.
        vote: Vote,
        /// The extension.
        data: Bytes,
    },
    /// The application looked at the vote extension of a COMMIT.
    ExtensionVerified {
        /// The COMMIT.
        vote: Verified<SignedVote>,
        /// Whether it counts.
        accepted: bool,
    },
    /// A block was executed.
    Applied(Outcome),
    /// The application or the chain database failed: the node must end.
    Failed(ExecutionError),
}

/// An executed block.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Height, results, state.
    pub applied: Arc<Applied>,
    /// Whether the application's hash is another than before the block.
    pub app_hash_changed: bool,
}

/// Why a proposed block is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A field of the header is not what the state says.
    #[error("{field} is {found}, and {expected} is right")]
    Header {
        /// The field.
        field: &'static str,
        /// What the header says.
        found: String,
        /// What it should say.
        expected: String,
    },
    /// The block is later than this node's clock allows.
    #[error("its time {0} is more than {max} s ahead of this node's clock", max = block::CLOCK_DRIFT_MAX.as_secs())]
    Future(String),
    /// The block is larger than the parameters allow.
    #[error("{0} bytes are more than block.max_bytes, which is {1}")]
    TooLarge(usize, usize),
    /// The block carries evidence that is not valid.
    #[error("its evidence is not valid: {0}")]
    Evidence(#[from] crate::evidence::Invalid),
    /// `ProcessProposal` said REJECT.
    #[error("the application rejects it")]
    Application,
    /// `ProcessProposal` said what is neither ACCEPT nor REJECT.
    #[error(
        "the application answered ProcessProposal with the status {0}, which is none, and that counts as REJECT; mend the application"
    )]
    Status(i32),
}

impl ExecutionError {
    /// The same, told with the height of the block that the application was called for.
    pub(crate) fn at(self, height: Height) -> ExecutionError {
        match self {
            // It names its height itself.
            ExecutionError::App(AppError::Silent { height: 1.., .. }) => self,
            ExecutionError::App(error) => ExecutionError::Call { height, error },
            other => other,
        }
    }

    /// Whether the connection to the application broke, and it helps to open it again.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, ExecutionError::App(error) | ExecutionError::Call { error, .. } if error.is_lost())
    }
}

/// Why execution cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ExecutionError {
    /// The application did not answer.
    #[error(transparent)]
    App(#[from] AppError),
    /// The same, in a call for a block.
    #[error("{error}, at height {height}")]
    Call {
        /// Of the block.
        height: Height,
        /// What went wrong.
        error: AppError,
    },
    /// The application's answer breaks a rule of ABCI.
    #[error(
        "the application answered FinalizeBlock of height {height} with {what}; nothing of the block is committed: start the version of the \
         application that the others run, then this node again"
    )]
    Answer {
        /// The block.
        height: Height,
        /// What is wrong.
        what: String,
    },
    /// The application's answer to `InitChain` breaks a rule.
    #[error(
        "the application answered InitChain with {0}; mend it or the genesis document, reset its data, then start this node again"
    )]
    Init(String),
    /// The chain database failed.
    #[error("the chain database failed: {0}")]
    Store(#[from] StoreError),
    /// Application and chain do not belong together.
    #[error(transparent)]
    Handshake(#[from] handshake::Misfit),
    /// The application computed another hash than those who decided the next block.
    #[error(
        "the application's {field} {} is {ours}, and block {height} was decided with {theirs}: it is not deterministic, or not the \
         version that the others run; mend it, then reset its data and this home (`tercet reset`), and the chain is executed again",
        at.map_or("after InitChain".to_owned(), |at| format!("at height {at}"))
    )]
    Diverged {
        /// The field of the header: `app_hash`, `last_results_hash`, or what follows from its updates.
        field: &'static str,
        /// The block that it executed; none for InitChain.
        at: Option<Height>,
        /// The block after it.
        height: Height,
        /// What it computed.
        ours: String,
        /// What was decided.
        theirs: String,
    },
    /// A decided block does not follow the state: a bug or a broken disk, never a peer.
    #[error(
        "the decided block {height} does not follow the state at {state}: {what}; see to the disk, then `tercet reset` fetches the chain \
         from peers again"
    )]
    Sequence {
        /// The block.
        height: Height,
        /// The last executed height, 0 for none.
        state: u64,
        /// What does not fit.
        what: String,
    },
}
