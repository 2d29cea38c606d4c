//! What the node asks of an application: ABCI 2.0 as an object-safe trait.

use crate::grammar::{DISORDER, Disorder};
use std::fmt;
use tendermint_proto::v0_38::abci::{
    RequestApplySnapshotChunk, RequestCheckTx, RequestEcho, RequestExtendVote,
    RequestFinalizeBlock, RequestInfo, RequestInitChain, RequestLoadSnapshotChunk,
    RequestOfferSnapshot, RequestPrepareProposal, RequestProcessProposal, RequestQuery,
    RequestVerifyVoteExtension, ResponseApplySnapshotChunk, ResponseCheckTx, ResponseCommit,
    ResponseEcho, ResponseExtendVote, ResponseFinalizeBlock, ResponseInfo, ResponseInitChain,
    ResponseListSnapshots, ResponseLoadSnapshotChunk, ResponseOfferSnapshot,
    ResponsePrepareProposal, ResponseProcessProposal, ResponseQuery, ResponseVerifyVoteExtension,
};

/// An application, as one role of the node sees it. Calls of one role come in order; calls of different roles may come at once.
///
/// # Errors
/// Every call fails with [`AppError`] where the application did not answer; its state is unknown then, so the node must not go on
/// as if the call had not been made.
pub trait Application: Send {
    /// Says it back.
    fn echo(&mut self, request: RequestEcho) -> Result<ResponseEcho, AppError> {
        Ok(ResponseEcho { message: request.message })
    }
    /// Where the application is: asked at every start.
    fn info(&mut self, request: RequestInfo) -> Result<ResponseInfo, AppError>;
    /// Once a chain, before its first block.
    fn init_chain(&mut self, request: RequestInitChain) -> Result<ResponseInitChain, AppError>;
    /// Reads its state.
    fn query(&mut self, request: RequestQuery) -> Result<ResponseQuery, AppError>;
    /// Whether a transaction may enter the pool.
    fn check_tx(&mut self, request: RequestCheckTx) -> Result<ResponseCheckTx, AppError>;
    /// The same for many, in order; where the application is in another process, without a wait between two.
    fn check_txs(
        &mut self,
        requests: Vec<RequestCheckTx>,
    ) -> Result<Vec<ResponseCheckTx>, AppError> {
        requests.into_iter().map(|request| self.check_tx(request)).collect()
    }
    /// The primary asks for the transactions of its block.
    fn prepare_proposal(
        &mut self,
        request: RequestPrepareProposal,
    ) -> Result<ResponsePrepareProposal, AppError>;
    /// A replica asks whether a proposed block is acceptable.
    fn process_proposal(
        &mut self,
        request: RequestProcessProposal,
    ) -> Result<ResponseProcessProposal, AppError>;
    /// Asks for the extension of a COMMIT.
    fn extend_vote(&mut self, request: RequestExtendVote) -> Result<ResponseExtendVote, AppError>;
    /// Checks the extension of another validator's COMMIT.
    fn verify_vote_extension(
        &mut self,
        request: RequestVerifyVoteExtension,
    ) -> Result<ResponseVerifyVoteExtension, AppError>;
    /// Executes a decided block.
    fn finalize_block(
        &mut self,
        request: RequestFinalizeBlock,
    ) -> Result<ResponseFinalizeBlock, AppError>;
    /// Whether it executes blocks before they are decided: see [`Application::speculate`].
    fn is_optimistic(&self) -> bool {
        false
    }
    /// Executes a block that may be decided, and keeps what came of it for [`Application::finalize_block`] of the very same request. Nobody sees
    /// anything of it before that; where another block is decided it is thrown away first. It is no call of ABCI.
    fn speculate(&mut self, _request: RequestFinalizeBlock) -> Result<(), AppError> {
        Ok(())
    }
    /// Makes the executed block durable.
    fn commit(&mut self) -> Result<ResponseCommit, AppError>;
    /// The snapshots that it has.
    fn list_snapshots(&mut self) -> Result<ResponseListSnapshots, AppError>;
    /// Offers a snapshot found on a peer.
    fn offer_snapshot(
        &mut self,
        request: RequestOfferSnapshot,
    ) -> Result<ResponseOfferSnapshot, AppError>;
    /// Reads a chunk of a snapshot.
    fn load_snapshot_chunk(
        &mut self,
        request: RequestLoadSnapshotChunk,
    ) -> Result<ResponseLoadSnapshotChunk, AppError>;
    /// Takes a chunk of a snapshot.
    fn apply_snapshot_chunk(
        &mut self,
        request: RequestApplySnapshotChunk,
    ) -> Result<ResponseApplySnapshotChunk, AppError>;

    /// After [`AppError::Lost`]: connects again, however long it takes. The application may be another one by now, or the same with less
    /// than it had: whoever depends on its state asks for it anew.
    fn reconnect(&mut self) -> Result<(), AppError> {
        Ok(())
    }

    /// The same, at once or not at all.
    fn try_reconnect(&mut self) -> Result<(), AppError> {
        Ok(())
    }
}

/// One application, once for each role, in CometBFT's order of connections.
pub struct Roles {
    /// Queries of clients.
    pub query: Box<dyn Application>,
    /// Snapshots.
    pub snapshot: Box<dyn Application>,
    /// `CheckTx`.
    pub mempool: Box<dyn Application>,
    /// Proposals and blocks.
    pub consensus: Box<dyn Application>,
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roles").finish_non_exhaustive()
    }
}

/// What a part of the node uses an application for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Queries of clients.
    Query,
    /// Snapshots.
    Snapshot,
    /// `CheckTx`.
    Mempool,
    /// Proposals and blocks.
    Consensus,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Query => "query",
            Role::Snapshot => "snapshot",
            Role::Mempool => "mempool",
            Role::Consensus => "consensus",
        })
    }
}

/// The application did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppError {
    /// It panicked.
    #[error("the application failed in {method} ({role}): {message}")]
    Panicked {
        /// The ABCI method.
        method: &'static str,
        /// On whose behalf.
        role: Role,
        /// What the panic said.
        message: String,
    },
    /// The connection broke before the answer had come: it may have done what it was asked to, or not.
    #[error("the connection to the application at {address} broke in {method} ({role}): {why}")]
    Lost {
        /// The ABCI method.
        method: &'static str,
        /// On whose behalf.
        role: Role,
        /// Where the application was.
        address: String,
        /// What was seen of it.
        why: String,
    },
    /// The same where that is to end the node.
    #[error(
        "the connection to the application at {address} broke in {method} ({role}): {why}; leaving, as abci_exit_on_disconnect says"
    )]
    Gone {
        /// The ABCI method.
        method: &'static str,
        /// On whose behalf.
        role: Role,
        /// Where the application was.
        address: String,
        /// What was seen of it.
        why: String,
    },
    /// It answered with an exception.
    #[error("the application answered {method} ({role}) with an exception: {message}")]
    Exception {
        /// The ABCI method.
        method: &'static str,
        /// On whose behalf.
        role: Role,
        /// What the exception said.
        message: String,
    },
    /// It answered with something that is no answer to the call.
    #[error("the application answered {method} ({role}) with something else: {what}")]
    Answer {
        /// The ABCI method.
        method: &'static str,
        /// On whose behalf.
        role: Role,
        /// What came.
        what: String,
    },
    /// It did not answer within the time that the configuration gives it.
    #[error(
        "the application has not answered {method} ({role}){} after {seconds} s, and abci_call_timeout gives it no longer",
        if *height > 0 { format!(" of height {height}") } else { String::new() }
    )]
    Silent {
        /// The ABCI method.
        method: &'static str,
        /// On whose behalf.
        role: Role,
        /// The height that the call was about; 0 where it was about none.
        height: i64,
        /// How long it had.
        seconds: u64,
    },
    /// The node made a call out of ABCI's order; only where somebody looks.
    #[error("{DISORDER}: {0}")]
    Disorder(#[from] Disorder),
    /// The node stops, and no longer waits.
    #[error("the node stops")]
    Stopped,
}

impl AppError {
    /// Whether [`Application::reconnect`] helps.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, AppError::Lost { .. })
    }
}
