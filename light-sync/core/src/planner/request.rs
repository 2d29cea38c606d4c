//! What the planner asks for, and what may be answered.

use crate::block::UntrustedBlock;
use crate::chain::{LinkedRun, RunError, RunRequest};
use crate::commit::{COMMIT_BYTES_MAX, Commit, CommitError, SIGNATURES_MAX};
use crate::hash::Hash;
use crate::header::{HEADER_BYTES_MAX, Header, Height};
use crate::time::Time;
use crate::verify::Invalid;
use crate::wire::Malformed;
use std::sync::Arc;
use std::time::Duration;
use tercet_consensus::validators::{Validators, ValidatorsError};

/// The most bytes of an answer to [`What::Status`].
pub const STATUS_BYTES_MAX: usize = 64 * 1024;
/// The most bytes of an answer with headers or commits, as of a frame between nodes.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most bytes of one validator with its tag: address, key, power and priority.
const VALIDATOR_BYTES_MAX: usize = 100;

/// A provider, by the number that the driver gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderId(pub u32);

/// A request, by a number that is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) u64);

/// What to ask of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its number, which the answer has to name.
    pub id: RequestId,
    /// Whom to ask.
    pub provider: ProviderId,
    /// What to ask.
    pub what: What,
    /// The most bytes that the answer may have as protobuf. Another encoding has another limit, in proportion.
    pub bytes_max: usize,
    /// When nobody waits for it any more.
    pub deadline: Time,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Which chain, and from which height to which.
    Status,
    /// A light block with the validators of its height and of the next; the latest where no height is named.
    Block(Option<Height>),
    /// A header.
    Header(Height),
    /// Headers.
    Run(RunRequest),
    /// Commits of consecutive heights.
    Commits {
        /// The lowest height.
        low: Height,
        /// The highest height; an answer may hold fewer, but these from the lowest up.
        high: Height,
    },
    /// The validators of a height.
    Validators(Height),
}

impl What {
    /// The most bytes of an answer as protobuf.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        let set = SIGNATURES_MAX * VALIDATOR_BYTES_MAX;
        match self {
            What::Status => STATUS_BYTES_MAX,
            What::Block(_) => HEADER_BYTES_MAX + COMMIT_BYTES_MAX + 2 * set,
            What::Header(_) => HEADER_BYTES_MAX,
            What::Run(RunRequest { low, high, .. }) => {
                let headers = usize::try_from(high - low + 1).unwrap_or(usize::MAX);
                headers.saturating_mul(HEADER_BYTES_MAX + 4).min(ANSWER_BYTES_MAX)
            }
            What::Commits { .. } => ANSWER_BYTES_MAX,
            What::Validators(_) => set,
        }
    }

    /// Whether `answer` is of the kind that was asked for.
    pub(super) fn fits(&self, answer: &Answer) -> bool {
        matches!(
            (self, answer),
            (What::Status, Answer::Status(_))
                | (What::Block(_), Answer::Block(_))
                | (What::Header(_), Answer::Header(_))
                | (What::Run(_), Answer::Run(_))
                | (What::Commits { .. }, Answer::Commits(_))
                | (What::Validators(_), Answer::Validators(_))
        )
    }
}

/// What a provider says about itself. It is never believed: it only says whom to ask first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The chain.
    pub chain_id: String,
    /// The hash of the chain's genesis, where the provider says it.
    pub genesis_hash: Option<Hash>,
    /// The lowest height that it has.
    pub first: Height,
    /// The highest height that it has.
    pub last: Height,
    /// The time of the block at `last`.
    pub time: Time,
    /// What the provider's own clock says, where that is known.
    pub clock: Option<Time>,
}

/// What came back.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`What::Status`].
    Status(Claim),
    /// To [`What::Block`].
    Block(Box<UntrustedBlock>),
    /// To [`What::Header`].
    Header(Header),
    /// To [`What::Run`]: linked by [`LinkedRun::link`] with the request's own arguments.
    Run(LinkedRun),
    /// To [`What::Commits`], in ascending order.
    Commits(Vec<Commit>),
    /// To [`What::Validators`].
    Validators(Arc<Validators>),
}

/// Why nothing came back that could be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection, a time-out, an error of the server.
    Unavailable,
    /// It asks to be left alone for so long: HTTP's 429.
    Busy(Duration),
    /// It does not have this height yet.
    NotYet,
    /// It does not have this height any more, or says so.
    Gone,
    /// What came is nothing that a correct provider sends.
    Malformed(Fault),
}

/// Why a provider is refused: something that no correct provider sends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is a provider of another chain, or of one with another genesis.
    #[error("it serves another chain")]
    OtherChain,
    /// Its header at the trusted height is not the trusted one.
    #[error("its header at the trusted height {0} is another one")]
    OtherRoot(Height),
    /// Bytes that mean nothing.
    #[error("it sent malformed bytes")]
    Malformed,
    /// The answer is not one to the request.
    #[error("it sent something that was not asked for")]
    NotAsked,
    /// Headers that are not linked.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Headers that are linked but not those that were signed.
    #[error("its headers up to {0} are not those that the chain has signed")]
    NotTheChain(Height),
    /// A light block that does not verify.
    #[error("its block does not verify: {0}")]
    Block(#[from] Invalid),
    /// A commit that is not one.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Validators that are no set.
    #[error(transparent)]
    Validators(#[from] ValidatorsError),
    /// It holds another header to be the chain's and does not show why.
    #[error("it has another header at {0} and no proof for it")]
    Unproven(Height),
}

impl From<Malformed> for Fault {
    fn from(_: Malformed) -> Fault {
        Fault::Malformed
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        Failure::Malformed(error.into())
    }
}

impl From<Malformed> for Failure {
    fn from(error: Malformed) -> Failure {
        Failure::Malformed(error.into())
    }
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Failure {
        Failure::Malformed(error.into())
    }
}

impl From<ValidatorsError> for Failure {
    fn from(error: ValidatorsError) -> Failure {
        Failure::Malformed(error.into())
    }
}
