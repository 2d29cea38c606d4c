//! One role of an application that is watched.

use super::{Call, Disorder, Grammar};
use crate::application::{AppError, Application, Role};
use tendermint_proto::v0_38::abci::response_offer_snapshot;
use tendermint_proto::v0_38::abci::{
    RequestApplySnapshotChunk, RequestCheckTx, RequestEcho, RequestExtendVote,
    RequestFinalizeBlock, RequestInfo, RequestInitChain, RequestLoadSnapshotChunk,
    RequestOfferSnapshot, RequestPrepareProposal, RequestProcessProposal, RequestQuery,
    RequestVerifyVoteExtension, ResponseApplySnapshotChunk, ResponseCheckTx, ResponseCommit,
    ResponseEcho, ResponseExtendVote, ResponseFinalizeBlock, ResponseInfo, ResponseInitChain,
    ResponseListSnapshots, ResponseLoadSnapshotChunk, ResponseOfferSnapshot,
    ResponsePrepareProposal, ResponseProcessProposal, ResponseQuery, ResponseVerifyVoteExtension,
};

pub(super) struct Checked {
    app: Box<dyn Application>,
    role: Role,
    grammar: Grammar,
}

impl Checked {
    pub(super) fn new(app: Box<dyn Application>, role: Role, grammar: Grammar) -> Checked {
        Checked { app, role, grammar }
    }

    /// Makes a call in its place, over its connection. A call that was not answered leaves nothing to go on from: the application must be
    /// asked where it is.
    fn ordered<R>(
        &mut self,
        of: Role,
        call: Call,
        make: impl FnOnce(&mut dyn Application) -> Result<R, AppError>,
    ) -> Result<R, AppError> {
        let (method, role) = (call.method(), self.role);
        self.grammar.change(|checker| {
            if role != of {
                return Err(Disorder::Role { method, role });
            }
            checker.call(call)
        })?;
        let answer = make(self.app.as_mut());
        self.answered(answer)
    }

    fn answered<R>(&self, answer: Result<R, AppError>) -> Result<R, AppError> {
        if self.role == Role::Consensus && answer.as_ref().is_err_and(AppError::is_lost) {
            self.grammar.watched().checker.begin();
        }
        answer
    }
}

impl Application for Checked {
    fn echo(&mut self, request: RequestEcho) -> Result<ResponseEcho, AppError> {
        self.app.echo(request)
    }

    fn info(&mut self, request: RequestInfo) -> Result<ResponseInfo, AppError> {
        let answer = self.app.info(request);
        if let Ok(info) = &answer {
            self.grammar.watched().checker.told(info.last_block_height);
        }
        self.answered(answer)
    }

    fn init_chain(&mut self, request: RequestInitChain) -> Result<ResponseInitChain, AppError> {
        let call = Call::InitChain { initial_height: request.initial_height };
        self.ordered(Role::Consensus, call, |app| app.init_chain(request))
    }

    fn query(&mut self, request: RequestQuery) -> Result<ResponseQuery, AppError> {
        self.app.query(request)
    }

    fn check_tx(&mut self, request: RequestCheckTx) -> Result<ResponseCheckTx, AppError> {
        self.app.check_tx(request)
    }

    fn check_txs(
        &mut self,
        requests: Vec<RequestCheckTx>,
    ) -> Result<Vec<ResponseCheckTx>, AppError> {
        self.app.check_txs(requests)
    }

    fn prepare_proposal(
        &mut self,
        request: RequestPrepareProposal,
    ) -> Result<ResponsePrepareProposal, AppError> {
        let call = Call::PrepareProposal(request.height);
        self.ordered(Role::Consensus, call, |app| app.prepare_proposal(request))
    }

    fn process_proposal(
        &mut self,
        request: RequestProcessProposal,
    ) -> Result<ResponseProcessProposal, AppError> {
        let call = Call::ProcessProposal(request.height);
        self.ordered(Role::Consensus, call, |app| app.process_proposal(request))
    }

    fn extend_vote(&mut self, request: RequestExtendVote) -> Result<ResponseExtendVote, AppError> {
        let call = Call::ExtendVote(request.height);
        self.ordered(Role::Consensus, call, |app| app.extend_vote(request))
    }

    fn verify_vote_extension(
        &mut self,
        request: RequestVerifyVoteExtension,
    ) -> Result<ResponseVerifyVoteExtension, AppError> {
        let call = Call::VerifyVoteExtension(request.height);
        self.ordered(Role::Consensus, call, |app| app.verify_vote_extension(request))
    }

    fn finalize_block(
        &mut self,
        request: RequestFinalizeBlock,
    ) -> Result<ResponseFinalizeBlock, AppError> {
        let call = Call::FinalizeBlock { height: request.height, hash: request.hash.clone() };
        self.ordered(Role::Consensus, call, |app| app.finalize_block(request))
    }

    fn is_optimistic(&self) -> bool {
        self.app.is_optimistic()
    }

    /// No call of ABCI, so it has no place in the order.
    fn speculate(&mut self, request: RequestFinalizeBlock) -> Result<(), AppError> {
        self.app.speculate(request)
    }

    fn commit(&mut self) -> Result<ResponseCommit, AppError> {
        self.ordered(Role::Consensus, Call::Commit, |app| app.commit())
    }

    fn list_snapshots(&mut self) -> Result<ResponseListSnapshots, AppError> {
        self.app.list_snapshots()
    }

    fn offer_snapshot(
        &mut self,
        request: RequestOfferSnapshot,
    ) -> Result<ResponseOfferSnapshot, AppError> {
        let call = Call::OfferSnapshot;
        let answer = self.ordered(Role::Snapshot, call, |app| app.offer_snapshot(request))?;
        let accepted = answer.result() == response_offer_snapshot::Result::Accept;
        self.grammar.watched().checker.offered(accepted);
        Ok(answer)
    }

    fn load_snapshot_chunk(
        &mut self,
        request: RequestLoadSnapshotChunk,
    ) -> Result<ResponseLoadSnapshotChunk, AppError> {
        self.app.load_snapshot_chunk(request)
    }

    fn apply_snapshot_chunk(
        &mut self,
        request: RequestApplySnapshotChunk,
    ) -> Result<ResponseApplySnapshotChunk, AppError> {
        let call = Call::ApplySnapshotChunk;
        self.ordered(Role::Snapshot, call, |app| app.apply_snapshot_chunk(request))
    }

    fn reconnect(&mut self) -> Result<(), AppError> {
        self.app.reconnect()
    }

    fn try_reconnect(&mut self) -> Result<(), AppError> {
        self.app.try_reconnect()
    }
}
