//! What must be durable before a message leaves. Source: docs/protocol.md §8.

use crate::block::SealedBlock;
use crate::commit::Commit;
use crate::message::{Certificate, PrePrepare, SignedVote, ViewChangeMessage};
use std::sync::Arc;
use tendermint::block::Height;

/// Why a VIEW-CHANGE was sent; decides whether it counts for carry-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A timer fired.
    Timer,
    /// Blocking power asks for a later view.
    Join,
    /// Carried over from the height before.
    Carried,
    /// The primary signed two proposals, or one that the application refuses.
    Primary,
}

/// One durable record. Replaying all records of a height in order restores the replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Before PRE-PREPARE or NEW-VIEW: the signed message. The block follows with [`Record::Prepare`].
    PrePrepare {
        /// The own message.
        message: PrePrepare,
    },
    /// Before PREPARE: the PRE-PREPARE with its J, the block and the signed vote.
    Prepare {
        /// What was accepted.
        pre_prepare: PrePrepare,
        /// The whole block; none where a record of the height holds it already.
        block: Option<Arc<SealedBlock>>,
        /// The own PREPARE.
        vote: SignedVote,
    },
    /// Before COMMIT: the prepare certificate and the signed vote with its time and extension.
    Commit {
        /// The certificate.
        certificate: Certificate,
        /// The whole block; none where a record of the height holds it already.
        block: Option<Arc<SealedBlock>>,
        /// The own COMMIT.
        vote: SignedVote,
    },
    /// Before VIEW-CHANGE: the promise with its cause and the exact message.
    ViewChange {
        /// The own message.
        message: ViewChangeMessage,
        /// Why it was sent.
        cause: Cause,
    },
    /// Before ABCI Commit(h): block h and Commit(h).
    Decided {
        /// The commit.
        commit: Commit,
        /// The whole block; none where a record of the height holds it already.
        block: Option<Arc<SealedBlock>>,
    },
}

impl Record {
    /// The height that the record is of.
    #[must_use]
    pub fn height(&self) -> Height {
        match self {
            Record::PrePrepare { message } => message.height(),
            Record::Prepare { vote, .. } | Record::Commit { vote, .. } => vote.message.height,
            Record::ViewChange { message, .. } => message.signed.message.height,
            Record::Decided { commit, .. } => commit.height,
        }
    }

    /// The block that the record holds.
    #[must_use]
    pub fn block(&self) -> Option<&Arc<SealedBlock>> {
        match self {
            Record::Prepare { block, .. }
            | Record::Commit { block, .. }
            | Record::Decided { block, .. } => block.as_ref(),
            Record::PrePrepare { .. } | Record::ViewChange { .. } => None,
        }
    }
}
