//! Applications in another process, by CometBFT's socket protocol: four connections, one for each role, opened in CometBFT's order.
//!
//! Requests of a connection are answered in order, and leave before the answers to those before them have come; after each batch goes a
//! Flush, without which CometBFT's server keeps its answers to itself. No call has a time-out, as a block may take long to execute; one that takes
//! long is told, with its name, height and time.
//!
//! Source: CometBFT 0.38 `abci/client/socket_client.go`, `proxy/multi_app_conn.go`.

mod address;
mod connection;
mod frames;
mod server;
mod watch;

#[cfg(test)]
mod tests;

pub use address::{Address, NoAddress};
pub use frames::MESSAGE_BYTES_MAX;
pub use server::Server;

use crate::application::{AppError, Application, Role, Roles};
use connection::{Connection, Fault};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
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

/// The longest wait between two attempts to connect.
const BACK_OFF_MAX: Duration = Duration::from_secs(3);
const BACK_OFF_MIN: Duration = Duration::from_millis(50);
/// How often a wait between two attempts looks whether the node stops.
const NAP: Duration = Duration::from_millis(50);
/// The most calls that leave before their answers are waited for.
const BATCH_CALLS: usize = 256;
/// The most bytes of them, where there is more than one.
const BATCH_BYTES: usize = 256 * 1024;

/// How applications in another process are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// After how long a call that is not answered is told in the log; then after twice as long, and so on.
    pub call_warn: Duration,
    /// After how long the node gives up; none: never.
    pub call_max: Option<Duration>,
    /// A connection that breaks ends the node, as it ends CometBFT, instead of being opened again.
    pub exit_on_disconnect: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { call_warn: Duration::from_secs(10), call_max: None, exit_on_disconnect: false }
    }
}

/// Tells everybody who waits for an application that the node stops.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Ends every wait within a tenth of a second.
    pub fn tell(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was told.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Connects the four roles of the application at `address`, in CometBFT's order, and waits for it as long as it takes.
///
/// # Errors
/// [`AppError::Stopped`] where `stop` was told meanwhile.
pub fn connect(address: &Address, settings: &Settings, stop: &Stop) -> Result<Roles, AppError> {
    let role = |role| {
        let mut app = closed(role, address, settings, stop);
        app.reconnect().map(|()| app)
    };
    Ok(Roles {
        query: role(Role::Query)?,
        snapshot: role(Role::Snapshot)?,
        mempool: role(Role::Mempool)?,
        consensus: role(Role::Consensus)?,
    })
}

/// One role alone, which is not connected before [`Application::reconnect`].
#[must_use]
pub fn closed(
    role: Role,
    address: &Address,
    settings: &Settings,
    stop: &Stop,
) -> Box<dyn Application> {
    Box::new(Socket {
        address: address.clone(),
        settings: settings.clone(),
        stop: stop.clone(),
        role,
        connection: None,
    })
}

/// One role's connection.
struct Socket {
    address: Address,
    settings: Settings,
    stop: Stop,
    role: Role,
    connection: Option<Connection>,
}

impl Socket {
    /// Connects, however often it takes.
    fn open(&mut self) -> Result<(), AppError> {
        let (mut back_off, mut told) = (BACK_OFF_MIN, false);
        loop {
            match Connection::open(&self.address) {
                Ok(connection) => {
                    if told {
                        tracing::info!(address = %self.address, role = %self.role, "connected to the application");
                    }
                    self.connection = Some(connection);
                    return Ok(());
                }
                Err(error) if !std::mem::replace(&mut told, true) => {
                    tracing::warn!(
                        address = %self.address, role = %self.role, %error,
                        "the application cannot be reached: trying on; start it, or set proxy_app to where it listens"
                    );
                }
                Err(_) => {}
            }
            let until = Instant::now() + back_off;
            while Instant::now() < until {
                if self.stop.is_told() {
                    return Err(AppError::Stopped);
                }
                std::thread::sleep(NAP.min(back_off));
            }
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    }

    /// One call.
    fn call(&mut self, method: &'static str, call: Call) -> Result<Answer, AppError> {
        let mut answers = self.calls(method, [call].into())?;
        answers.pop().ok_or_else(|| self.wrong(method, "nothing"))
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
                connection.ok_or_else(|| self.lost(method, "it is not connected"))?;
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
        let height = calls.front().map_or(0, height);
        let mut watch = watch::Watch {
            settings: &self.settings,
            stop: &self.stop,
            role: self.role,
            method,
            height,
            since: Instant::now(),
            warn_after: self.settings.call_warn,
        };
        let mut queued = 0;
        while queued < BATCH_CALLS
            && connection.queued() < BATCH_BYTES
            && let Some(call) = calls.pop_front()
        {
            connection.queue(&Request { value: Some(call) });
            queued += 1;
        }
        connection.queue(&Request { value: Some(Call::Flush(RequestFlush {})) });
        let fault = |fault, watch: &watch::Watch<'_>| self.fault(fault, watch);
        connection.send(&mut watch).map_err(|error| fault(error, &watch))?;
        for _ in 0..queued {
            let response = connection.receive(&mut watch).map_err(|error| fault(error, &watch))?;
            match response.value {
                Some(Answer::Exception(exception)) => {
                    return Err(AppError::Exception {
                        method,
                        role: self.role,
                        message: exception.error,
                    });
                }
                Some(answer) => answers.push(answer),
                None => return Err(self.wrong(method, "an empty response")),
            }
        }
        let flushed = connection.receive(&mut watch).map_err(|error| fault(error, &watch))?;
        match flushed.value {
            Some(Answer::Flush(_)) => Ok(()),
            _ => Err(self.wrong(method, "more than one response")),
        }
    }

    fn fault(&self, fault: Fault, watch: &watch::Watch<'_>) -> AppError {
        let (method, role) = (watch.method, self.role);
        match fault {
            Fault::GaveUp if self.stop.is_told() => AppError::Stopped,
            Fault::GaveUp => AppError::Silent {
                method,
                role,
                height: watch.height,
                seconds: watch.since.elapsed().as_secs(),
            },
            Fault::Closed | Fault::Io(_) => self.lost(method, &fault.to_string()),
            Fault::Malformed(_) | Fault::Frame(_) => self.wrong(method, &fault.to_string()),
        }
    }

    fn lost(&self, method: &'static str, why: &str) -> AppError {
        let (role, address, why) = (self.role, self.address.to_string(), why.to_owned());
        match self.settings.exit_on_disconnect {
            true => AppError::Gone { method, role, address, why },
            false => AppError::Lost { method, role, address, why },
        }
    }

    fn wrong(&self, method: &'static str, what: &str) -> AppError {
        AppError::Answer { method, role: self.role, what: what.to_owned() }
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
                _ => Err(self.wrong($text, "the response to another call")),
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
            _ => Err(self.wrong("Commit", "the response to another call")),
        }
    }

    fn list_snapshots(&mut self) -> Result<ResponseListSnapshots, AppError> {
        match self.call("ListSnapshots", Call::ListSnapshots(RequestListSnapshots {}))? {
            Answer::ListSnapshots(answer) => Ok(answer),
            _ => Err(self.wrong("ListSnapshots", "the response to another call")),
        }
    }

    fn check_txs(
        &mut self,
        requests: Vec<RequestCheckTx>,
    ) -> Result<Vec<ResponseCheckTx>, AppError> {
        let answers = self.calls("CheckTx", requests.into_iter().map(Call::CheckTx).collect())?;
        let checked = answers.into_iter().map(|answer| match answer {
            Answer::CheckTx(answer) => Ok(answer),
            _ => Err(self.wrong("CheckTx", "the response to another call")),
        });
        checked.collect()
    }

    fn reconnect(&mut self) -> Result<(), AppError> {
        match self.connection {
            Some(_) => Ok(()),
            None => self.open(),
        }
    }

    fn try_reconnect(&mut self) -> Result<(), AppError> {
        if self.connection.is_none() {
            let opened = Connection::open(&self.address);
            self.connection =
                Some(opened.map_err(|error| self.lost("connect", &error.to_string()))?);
        }
        Ok(())
    }
}
