//! Applications in another process, by gRPC: the service `tendermint.abci.ABCI`, one HTTP/2 connection for each role.
//!
//! Calls of a role are made one after the other, as CometBFT makes them: gRPC keeps no order between calls that are under way at once, and
//! an application may depend on that of `CheckTx`. Unlike CometBFT's client this one does not connect again by itself, as that would hide
//! that the application has begun anew.
//!
//! A server may have limits of its own: CometBFT's takes no message above 4 MiB, so blocks must be smaller for it.
//!
//! Source: CometBFT 0.38 `abci/client/grpc_client.go`.

mod connection;
mod server;

#[cfg(test)]
mod tests;

pub use server::Server;

use crate::application::{AppError, Application};
use crate::remote::{BATCH_CALLS, Remote, TICK, Watch};
use connection::{Connection, reason};
use prost::Message;
use std::error::Error as _;
use std::sync::mpsc::RecvTimeoutError;
use tendermint_proto::v0_38::abci::{
    RequestApplySnapshotChunk, RequestCheckTx, RequestCommit, RequestEcho, RequestExtendVote,
    RequestFinalizeBlock, RequestInfo, RequestInitChain, RequestListSnapshots,
    RequestLoadSnapshotChunk, RequestOfferSnapshot, RequestPrepareProposal, RequestProcessProposal,
    RequestQuery, RequestVerifyVoteExtension, ResponseApplySnapshotChunk, ResponseCheckTx,
    ResponseCommit, ResponseEcho, ResponseExtendVote, ResponseFinalizeBlock, ResponseInfo,
    ResponseInitChain, ResponseListSnapshots, ResponseLoadSnapshotChunk, ResponseOfferSnapshot,
    ResponsePrepareProposal, ResponseProcessProposal, ResponseQuery, ResponseVerifyVoteExtension,
};
use tonic::{Code, Status};

/// A method of the service.
#[derive(Clone, Copy)]
struct Method {
    name: &'static str,
    path: &'static str,
}

macro_rules! named {
    ($name:literal) => {
        Method { name: $name, path: concat!("/tendermint.abci.ABCI/", $name) }
    };
}

/// One role's connection.
pub(crate) struct Grpc {
    remote: Remote,
    connection: Option<Connection>,
}

impl Grpc {
    /// One that is not connected yet.
    pub(crate) fn closed(remote: Remote) -> Grpc {
        Grpc { remote, connection: None }
    }

    /// One call, about this height; 0 where it is about none.
    fn call<Q, A>(&mut self, method: Method, height: i64, request: Q) -> Result<A, AppError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut answers = self.calls(method, height, vec![request])?;
        answers.pop().ok_or_else(|| self.remote.wrong(method.name, "nothing"))
    }

    /// Calls of one kind, one after the other.
    fn calls<Q, A>(
        &mut self,
        method: Method,
        height: i64,
        requests: Vec<Q>,
    ) -> Result<Vec<A>, AppError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let connection = self.connection.take();
        let connection =
            connection.ok_or_else(|| self.remote.lost(method.name, "it is not connected"))?;
        let mut watch = self.remote.watch(method.name, height);
        let answers = connection.ask(method.path, requests);
        loop {
            match answers.recv_timeout(TICK) {
                Ok(Ok(answers)) => {
                    // Only a connection on which nothing is under way is used again.
                    self.connection = Some(connection);
                    return Ok(answers);
                }
                Ok(Err(status)) => return Err(self.failed(&watch, &status)),
                Err(RecvTimeoutError::Timeout) => {
                    watch.tick().map_err(|_| self.remote.gave_up(&watch))?;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.remote.lost(method.name, "the connection ended"));
                }
            }
        }
    }

    /// What a status says of a call: one with a cause is this end's word about the connection, one without is what the other end said.
    fn failed(&self, watch: &Watch<'_>, status: &Status) -> AppError {
        if status.source().is_some() {
            return self.remote.lost(watch.method, reason(status));
        }
        match status.code() {
            // Too large, or no message of this kind.
            Code::OutOfRange | Code::Internal => self.remote.wrong(watch.method, status.message()),
            code => self.remote.exception(watch.method, format!("{} ({code:?})", status.message())),
        }
    }
}

macro_rules! method {
    ($name:ident, $text:literal, $request:ty, $response:ty) => {
        method!($name, $text, $request, $response, |_| 0);
    };
    ($name:ident, $text:literal, $request:ty, $response:ty, $height:expr) => {
        fn $name(&mut self, request: $request) -> Result<$response, AppError> {
            let height: fn(&$request) -> i64 = $height;
            self.call(named!($text), height(&request), request)
        }
    };
}

#[rustfmt::skip]
impl Application for Grpc {
    method!(echo, "Echo", RequestEcho, ResponseEcho);
    method!(info, "Info", RequestInfo, ResponseInfo);
    method!(init_chain, "InitChain", RequestInitChain, ResponseInitChain, |r| r.initial_height);
    method!(query, "Query", RequestQuery, ResponseQuery);
    method!(check_tx, "CheckTx", RequestCheckTx, ResponseCheckTx);
    method!(prepare_proposal, "PrepareProposal", RequestPrepareProposal, ResponsePrepareProposal, |r| r.height);
    method!(process_proposal, "ProcessProposal", RequestProcessProposal, ResponseProcessProposal, |r| r.height);
    method!(extend_vote, "ExtendVote", RequestExtendVote, ResponseExtendVote, |r| r.height);
    method!(verify_vote_extension, "VerifyVoteExtension", RequestVerifyVoteExtension, ResponseVerifyVoteExtension, |r| r.height);
    method!(finalize_block, "FinalizeBlock", RequestFinalizeBlock, ResponseFinalizeBlock, |r| r.height);
    method!(offer_snapshot, "OfferSnapshot", RequestOfferSnapshot, ResponseOfferSnapshot);
    method!(load_snapshot_chunk, "LoadSnapshotChunk", RequestLoadSnapshotChunk, ResponseLoadSnapshotChunk);
    method!(apply_snapshot_chunk, "ApplySnapshotChunk", RequestApplySnapshotChunk, ResponseApplySnapshotChunk);

    fn commit(&mut self) -> Result<ResponseCommit, AppError> {
        self.call(named!("Commit"), 0, RequestCommit {})
    }

    fn list_snapshots(&mut self) -> Result<ResponseListSnapshots, AppError> {
        self.call(named!("ListSnapshots"), 0, RequestListSnapshots {})
    }

    fn check_txs(&mut self, requests: Vec<RequestCheckTx>) -> Result<Vec<ResponseCheckTx>, AppError> {
        let (mut answers, mut rest) = (Vec::with_capacity(requests.len()), requests);
        while !rest.is_empty() {
            let later = rest.split_off(rest.len().min(BATCH_CALLS));
            answers.extend(self.calls::<_, ResponseCheckTx>(named!("CheckTx"), 0, rest)?);
            rest = later;
        }
        Ok(answers)
    }

    fn reconnect(&mut self) -> Result<(), AppError> {
        if self.connection.is_none() {
            self.connection = Some(self.remote.open(|remote| Connection::open(&remote.address))?);
        }
        Ok(())
    }

    fn try_reconnect(&mut self) -> Result<(), AppError> {
        if self.connection.is_none() {
            let opened = Connection::open(&self.remote.address);
            self.connection = Some(opened.map_err(|error| self.remote.lost("connect", error))?);
        }
        Ok(())
    }
}
