//! Applications inside this process.

use super::application::{AppError, Application, Role, Roles};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tendermint_proto::v0_38::abci::{
    RequestApplySnapshotChunk, RequestCheckTx, RequestExtendVote, RequestFinalizeBlock,
    RequestInfo, RequestInitChain, RequestLoadSnapshotChunk, RequestOfferSnapshot,
    RequestPrepareProposal, RequestProcessProposal, RequestQuery, RequestVerifyVoteExtension,
    ResponseApplySnapshotChunk, ResponseCheckTx, ResponseCommit, ResponseExtendVote,
    ResponseFinalizeBlock, ResponseInfo, ResponseInitChain, ResponseListSnapshots,
    ResponseLoadSnapshotChunk, ResponseOfferSnapshot, ResponsePrepareProposal,
    ResponseProcessProposal, ResponseQuery, ResponseVerifyVoteExtension,
};

/// The roles of an application of this process, one clone each. The clones share their state as the application sees fit.
#[must_use]
pub fn in_process<A: tendermint_abci::Application>(app: A) -> Roles {
    let role = |role| Box::new(InProcess { app: app.clone(), role });
    Roles {
        query: role(Role::Query),
        snapshot: role(Role::Snapshot),
        mempool: role(Role::Mempool),
        consensus: role(Role::Consensus),
    }
}

struct InProcess<A> {
    app: A,
    role: Role,
}

impl<A> InProcess<A> {
    /// Calls the application and turns a panic into an error. The application's state is unknown after one, which is why an
    /// [`AppError`] ends the process.
    fn call<R>(&self, method: &'static str, call: impl FnOnce(&A) -> R) -> Result<R, AppError> {
        catch_unwind(AssertUnwindSafe(|| call(&self.app))).map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let message = text.unwrap_or("no message").to_owned();
            AppError::Panicked { method, role: self.role, message }
        })
    }
}

impl<A: tendermint_abci::Application> Application for InProcess<A> {
    fn info(&mut self, request: RequestInfo) -> Result<ResponseInfo, AppError> {
        self.call("Info", |app| app.info(request))
    }

    fn init_chain(&mut self, request: RequestInitChain) -> Result<ResponseInitChain, AppError> {
        self.call("InitChain", |app| app.init_chain(request))
    }

    fn query(&mut self, request: RequestQuery) -> Result<ResponseQuery, AppError> {
        self.call("Query", |app| app.query(request))
    }

    fn check_tx(&mut self, request: RequestCheckTx) -> Result<ResponseCheckTx, AppError> {
        self.call("CheckTx", |app| app.check_tx(request))
    }

    fn prepare_proposal(
        &mut self,
        request: RequestPrepareProposal,
    ) -> Result<ResponsePrepareProposal, AppError> {
        self.call("PrepareProposal", |app| app.prepare_proposal(request))
    }

    fn process_proposal(
        &mut self,
        request: RequestProcessProposal,
    ) -> Result<ResponseProcessProposal, AppError> {
        self.call("ProcessProposal", |app| app.process_proposal(request))
    }

    fn extend_vote(&mut self, request: RequestExtendVote) -> Result<ResponseExtendVote, AppError> {
        self.call("ExtendVote", |app| app.extend_vote(request))
    }

    fn verify_vote_extension(
        &mut self,
        request: RequestVerifyVoteExtension,
    ) -> Result<ResponseVerifyVoteExtension, AppError> {
        self.call("VerifyVoteExtension", |app| app.verify_vote_extension(request))
    }

    fn finalize_block(
        &mut self,
        request: RequestFinalizeBlock,
    ) -> Result<ResponseFinalizeBlock, AppError> {
        self.call("FinalizeBlock", |app| app.finalize_block(request))
    }

    fn commit(&mut self) -> Result<ResponseCommit, AppError> {
        self.call("Commit", A::commit)
    }

    fn list_snapshots(&mut self) -> Result<ResponseListSnapshots, AppError> {
        self.call("ListSnapshots", A::list_snapshots)
    }

    fn offer_snapshot(
        &mut self,
        request: RequestOfferSnapshot,
    ) -> Result<ResponseOfferSnapshot, AppError> {
        self.call("OfferSnapshot", |app| app.offer_snapshot(request))
    }

    fn load_snapshot_chunk(
        &mut self,
        request: RequestLoadSnapshotChunk,
    ) -> Result<ResponseLoadSnapshotChunk, AppError> {
        self.call("LoadSnapshotChunk", |app| app.load_snapshot_chunk(request))
    }

    fn apply_snapshot_chunk(
        &mut self,
        request: RequestApplySnapshotChunk,
    ) -> Result<ResponseApplySnapshotChunk, AppError> {
        self.call("ApplySnapshotChunk", |app| app.apply_snapshot_chunk(request))
    }
}
