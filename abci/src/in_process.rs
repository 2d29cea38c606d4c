//! Applications inside this process.

use super::application::{AppError, Application, Role, Roles};
use super::optimistic::{OptimisticApplication, Speculation};
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
    roles(app, None)
}

/// The same of an application that executes blocks before they are decided.
#[must_use]
pub fn optimistic<A: OptimisticApplication>(app: A) -> Roles {
    roles(app, Some(Box::new(Speculation::<A::Work>::default())))
}

fn roles<A: tendermint_abci::Application>(app: A, ahead: Option<Box<dyn Ahead<A>>>) -> Roles {
    let role = |role, ahead| Box::new(InProcess { app: app.clone(), role, ahead });
    Roles {
        query: role(Role::Query, None),
        snapshot: role(Role::Snapshot, None),
        mempool: role(Role::Mempool, None),
        consensus: role(Role::Consensus, ahead),
    }
}

struct InProcess<A> {
    app: A,
    role: Role,
    /// The block that was executed before it is decided; none where the application does not do that.
    ahead: Option<Box<dyn Ahead<A>>>,
}

/// A [`Speculation`] of an application whose work nobody here needs to know.
trait Ahead<A>: Send {
    fn begin(&mut self, app: &A, request: RequestFinalizeBlock);
    /// `FinalizeBlock` by the work that is there; none where it is of another block, and then it is gone.
    fn finish(&mut self, app: &A, request: &RequestFinalizeBlock) -> Option<ResponseFinalizeBlock>;
}

impl<A: OptimisticApplication> Ahead<A> for Speculation<A::Work> {
    fn begin(&mut self, app: &A, request: RequestFinalizeBlock) {
        Speculation::begin(self, request, |request| app.execute(request));
    }

    fn finish(&mut self, app: &A, request: &RequestFinalizeBlock) -> Option<ResponseFinalizeBlock> {
        let (response, work) = self.take(request)?;
        app.adopt(work);
        Some(response)
    }
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
        let mut ahead = self.ahead.take();
        let answer = self.call("FinalizeBlock", |app| {
            let known = ahead.as_mut().and_then(|ahead| ahead.finish(app, &request));
            known.unwrap_or_else(|| app.finalize_block(request))
        });
        self.ahead = ahead;
        answer
    }

    fn is_optimistic(&self) -> bool {
        self.ahead.is_some()
    }

    fn speculate(&mut self, request: RequestFinalizeBlock) -> Result<(), AppError> {
        let Some(mut ahead) = self.ahead.take() else { return Ok(()) };
        let begun = self.call("FinalizeBlock of a block that is not decided", |app| {
            ahead.begin(app, request);
        });
        self.ahead = Some(ahead);
        begun
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
