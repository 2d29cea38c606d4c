//! Applications in another process, by CometBFT's socket protocol: four connections, one for each role, opened in CometBFT's order.
//!
//! Requests of a connection are answered in order, and leave before the answers to those before them have come; after each batch goes a
//! Flush, without which CometBFT's server keeps its answers to itself.
//!
//! Source: CometBFT 0.38 `abci/client/socket_client.go`.

mod connection;
mod frames;
mod server;

#[cfg(test)]
mod tests;

pub use server::Server;

use crate::application::{AppError, Application};
use crate::remote::{BATCH_CALLS, Remote, Watch};
use connection::{Connection, Fault};
use std::collections::VecDeque;
use tendermint_proto::v0_38::abci::request::Value as Call;
use tendermint_proto::v0_38::abci::response::Value as Answer;
use tendermint_proto::v0_38::abci::{
    Request, RequestApplySnapshotChunk, RequestCheckTx, RequestCommit, RequestEcho,
    RequestExtendVote, RequestFinalizeBlock, RequestFlush, RequestInfo, RequestInitChain,
    RequestListSnapshots, RequestLoadSnapshotChunk, RequestOfferSnapshot, RequestPrepareProposal,
    RequestProcessProposal, RequestQuery, RequestVerifyVoteExtension, ResponseApplySnapshotChunk,
    ResponseCheckTx, ResponseCommit, ResponseEcho, ResponseExtendVote, ResponseFinalizeBlock,
    ResponseInfo, ResponseInitChain, ResponseListSnapshots, ResponseLoadSnapshotChunk,
    ResponseOfferSnapshot, ResponsePrepareProposal, ResponseProcessProposal, ResponseQuery,
    ResponseVerifyVoteExtension,
};

/// The most bytes of a batch, where it is more than one call.
const BATCH_BYTES: usize = 256 * 1024;

/// One role's connection.
pub(crate) struct Socket {
    remote: Remote,
    connection: Option<Connection>,
}

impl Socket {
    /// One that is not connected yet.
    pub(crate) fn closed(remote: Remote) -> Socket {
        Socket { remote, connection: None }
    }

    /// One call.
    fn call(&mut self, method: &'static str, call: Call) -> Result<Answer, AppError> {
        let mut answers = self.calls(method, [call].into())?;
        answers.pop().ok_or_else(|| self.remote.wrong(method, "nothing"))
    }

    /// Calls of one kind, one behind the other.
    fn calls(
        &mut self,
        method: &'static str,
        mut calls: VecDeque<Call>,
    ) -> Result<Vec<Answer>, AppError> {
        let mut answers = Vec::with_capacity(calls.len());
        while !calls.is_empty() {
            let connection = self.connection.take();
            let mut connection =
                connection.ok_or_else(|| self.remote.lost(method, "it is not connected"))?;
            // Only a connection on which nothing is under way is used again.
            self.exchange(&mut connection, method, &mut calls, &mut answers)?;
            self.connection = Some(connection);
        }
        Ok(answers)
    }

    /// Sends a batch of calls, and reads their answers.
    fn exchange(
        &self,
        connection: &mut Connection,
        method: &'static str,
        calls: &mut VecDeque<Call>,
        answers: &mut Vec<Answer>,
    ) -> Result<(), AppError> {
        let mut watch = self.remote.watch(method, calls.front().map_or(0, height));
        let mut queued = 0;
        while queued < BATCH_CALLS
            && connection.queued() < BATCH_BYTES
            && let Some(call) = calls.pop_front()
        {
            connection.queue(&Request { value: Some(call) });
            queued += 1;
        }
        connection.queue(&Request { value: Some(Call::Flush(RequestFlush {})) });
        let fault = |fault, watch: &Watch<'_>| self.fault(fault, watch);
        connection.send(&mut watch).map_err(|error| fault(error, &watch))?;
        for _ in 0..queued {
            let response = connection.receive(&mut watch).map_err(|error| fault(error, &watch))?;
            match response.value {
                Some(Answer::Exception(exception)) => {
                    return Err(self.remote.exception(method, exception.error));
                }
                Some(answer) => answers.push(answer),
                None => return Err(self.remote.wrong(method, "an empty response")),
            }
        }
        let flushed = connection.receive(&mut watch).map_err(|error| fault(error, &watch))?;
        match flushed.value {
            Some(Answer::Flush(_)) => Ok(()),
            _ => Err(self.remote.wrong(method, "more than one response")),
        }
    }

    fn fault(&self, fault: Fault, watch: &Watch<'_>) -> AppError {
        match fault {
            Fault::GaveUp(_) => self.remote.gave_up(watch),
            Fault::Closed | Fault::Io(_) => self.remote.lost(watch.method, fault.to_string()),
            Fault::Malformed(_) | Fault::Frame(_) => {
                self.remote.wrong(watch.method, fault.to_string())
            }
        }
    }
}

/// The height that a call is about; 0 where it is about none.
fn height(call: &Call) -> i64 {
    match call {
        Call::PrepareProposal(request) => request.height,
        Call::ProcessProposal(request) => request.height,
        Call::ExtendVote(request) => request.height,
        Call::VerifyVoteExtension(request) => request.height,
        Call::FinalizeBlock(request) => request.height,
        Call::InitChain(request) => request.initial_height,
        _ => 0,
    }
}

macro_rules! method {
    ($name:ident, $text:literal, $variant:ident, $request:ty, $response:ty) => {
        fn $name(&mut self, request: $request) -> Result<$response, AppError> {
            match self.call($text, Call::$variant(request))? {
                Answer::$variant(answer) => Ok(answer),
                _ => Err(self.remote.wrong($text, "the response to another call")),
            }
        }
    };
}

impl Application for Socket {
    method!(echo, "Echo", Echo, RequestEcho, ResponseEcho);
    method!(info, "Info", Info, RequestInfo, ResponseInfo);
    method!(init_chain, "InitChain", InitChain, RequestInitChain, ResponseInitChain);
    method!(query, "Query", Query, RequestQuery, ResponseQuery);
    method!(check_tx, "CheckTx", CheckTx, RequestCheckTx, ResponseCheckTx);
    method!(
        prepare_proposal,
        "PrepareProposal",
        PrepareProposal,
        RequestPrepareProposal,
        ResponsePrepareProposal
    );
    method!(
        process_proposal,
        "ProcessProposal",
        ProcessProposal,
        RequestProcessProposal,
        ResponseProcessProposal
    );
    method!(extend_vote, "ExtendVote", ExtendVote, RequestExtendVote, ResponseExtendVote);
    method!(
        verify_vote_extension,
        "VerifyVoteExtension",
        VerifyVoteExtension,
        RequestVerifyVoteExtension,
        ResponseVerifyVoteExtension
    );
    method!(
        finalize_block,
        "FinalizeBlock",
        FinalizeBlock,
        RequestFinalizeBlock,
        ResponseFinalizeBlock
    );
    method!(
        offer_snapshot,
        "OfferSnapshot",
        OfferSnapshot,
        RequestOfferSnapshot,
        ResponseOfferSnapshot
    );
    method!(
        load_snapshot_chunk,
        "LoadSnapshotChunk",
        LoadSnapshotChunk,
        RequestLoadSnapshotChunk,
        ResponseLoadSnapshotChunk
    );
    method!(
        apply_snapshot_chunk,
        "ApplySnapshotChunk",
        ApplySnapshotChunk,
        RequestApplySnapshotChunk,
        ResponseApplySnapshotChunk
    );

    fn commit(&mut self) -> Result<ResponseCommit, AppError> {
        match self.call("Commit", Call::Commit(RequestCommit {}))? {
            Answer::Commit(answer) => Ok(answer),
            _ => Err(self.remote.wrong("Commit", "the response to another call")),
        }
    }

    fn list_snapshots(&mut self) -> Result<ResponseListSnapshots, AppError> {
        match self.call("ListSnapshots", Call::ListSnapshots(RequestListSnapshots {}))? {
            Answer::ListSnapshots(answer) => Ok(answer),
            _ => Err(self.remote.wrong("ListSnapshots", "the response to another call")),
        }
    }

    fn check_txs(
        &mut self,
        requests: Vec<RequestCheckTx>,
    ) -> Result<Vec<ResponseCheckTx>, AppError> {
        let answers = self.calls("CheckTx", requests.into_iter().map(Call::CheckTx).collect())?;
        let checked = answers.into_iter().map(|answer| match answer {
            Answer::CheckTx(answer) => Ok(answer),
            _ => Err(self.remote.wrong("CheckTx", "the response to another call")),
        });
        checked.collect()
    }

    fn reconnect(&mut self) -> Result<(), AppError> {
        match self.connection {
            Some(_) => Ok(()),
            None => {
                let opened = self.remote.open(|remote| Connection::open(&remote.address))?;
                self.connection = Some(opened);
                Ok(())
            }
        }
    }

    fn try_reconnect(&mut self) -> Result<(), AppError> {
        if self.connection.is_none() {
            let opened = Connection::open(&self.remote.address);
            self.connection = Some(opened.map_err(|error| self.remote.lost("connect", error))?);
        }
        Ok(())
    }
}
