//! The application's query role on a thread of its own, so that a slow query holds up nobody but those who ask.

use crate::rpc::COMPATIBLE_VERSION;
use crate::rpc::sources::{self, BoxFuture};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tendermint_proto::v0_38::abci::{
    CheckTxType, RequestCheckTx, RequestInfo, RequestQuery, ResponseCheckTx, ResponseInfo,
    ResponseQuery,
};
use tercet_abci::{AppError, Application};
use tokio::sync::oneshot;

/// The most calls that wait for the application.
const CALLS_MAX: usize = 1024;
/// CometBFT's protocol versions and that of ABCI, as its `abci_info` tells them.
const BLOCK_PROTOCOL: u64 = 11;
const P2P_PROTOCOL: u64 = 8;
const ABCI_VERSION: &str = "2.0.0";

/// The least time between two lines about calls that the application failed.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Where an answer goes.
type Reply<T> = oneshot::Sender<Result<T, String>>;
/// Ends the process.
type Failed = Arc<dyn Fn(String) + Send + Sync>;

enum Call {
    Query(RequestQuery, Reply<ResponseQuery>),
    Info(Reply<ResponseInfo>),
    CheckTx(Bytes, Reply<ResponseCheckTx>),
}

/// A handle on the thread, which ends with the last of them. Calls are carried out in order.
#[derive(Clone)]
pub struct App(Sender<Call>);

impl App {
    /// Starts the thread. A call that fails is refused, and nobody but who asked is harmed by it, as queries change nothing: the next
    /// one goes over a fresh connection. `failed` is told once where nobody waits for the application any more; then it is asked
    /// nothing more.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(
        app: Box<dyn Application>,
        failed: Failed,
    ) -> std::io::Result<(App, JoinHandle<()>)> {
        let (sender, calls) = bounded(CALLS_MAX);
        let thread = std::thread::Builder::new().name("query".into());
        Ok((App(sender), thread.spawn(move || run(app, &calls, &failed))?))
    }

    fn ask<T: Send + 'static>(
        &self,
        call: impl FnOnce(Reply<T>) -> Call,
    ) -> BoxFuture<Result<T, String>> {
        let (reply, answer) = oneshot::channel();
        let asked = self.0.try_send(call(reply)).map_err(|error| match error {
            TrySendError::Full(_) => format!("{CALLS_MAX} calls wait for the application already"),
            TrySendError::Disconnected(_) => stopping(),
        });
        Box::pin(async move {
            asked?;
            answer.await.unwrap_or_else(|_| Err(stopping()))
        })
    }
}

fn stopping() -> String {
    "the node is stopping".to_owned()
}

impl sources::App for App {
    fn query(&self, request: RequestQuery) -> BoxFuture<Result<ResponseQuery, String>> {
        self.ask(|reply| Call::Query(request, reply))
    }

    fn info(&self) -> BoxFuture<Result<ResponseInfo, String>> {
        self.ask(Call::Info)
    }

    fn check_tx(&self, tx: Bytes) -> BoxFuture<Result<ResponseCheckTx, String>> {
        self.ask(|reply| Call::CheckTx(tx, reply))
    }
}

fn run(mut app: Box<dyn Application>, calls: &Receiver<Call>, failed: &Failed) {
    let mut failures = Failures::default();
    for call in calls {
        let app = app.as_mut();
        let done = match call {
            Call::Query(request, reply) => answer(reply, app, |app| app.query(request.clone())),
            Call::Info(reply) => answer(reply, app, |app| app.info(request_info())),
            Call::CheckTx(tx, reply) => answer(reply, app, |app| {
                app.check_tx(RequestCheckTx { tx: tx.clone(), r#type: CheckTxType::New.into() })
            }),
        };
        match done {
            Ok(()) => failures.away = false,
            Err(error) if is_of_the_call(&error) => failures.tell(&error, Instant::now()),
            Err(error) => {
                failed(error.to_string());
                refuse(calls, &error);
                return;
            }
        }
    }
}

/// Whether a failure is that of one call, so that the next may go well.
fn is_of_the_call(error: &AppError) -> bool {
    match error {
        AppError::Lost { .. }
        | AppError::Panicked { .. }
        | AppError::Exception { .. }
        | AppError::Answer { .. } => true,
        AppError::Gone { .. }
        | AppError::Silent { .. }
        | AppError::Disorder(_)
        | AppError::Stopped => false,
    }
}

/// What the log has been told of calls that failed: clients may ask often.
#[derive(Default)]
struct Failures {
    /// The application is away.
    away: bool,
    /// When a call that it failed was told, and how many were not told since.
    last: Option<Instant>,
    untold: u64,
}

impl Failures {
    fn tell(&mut self, error: &AppError, now: Instant) {
        if error.is_lost() {
            // Once until it answers again.
            if !std::mem::replace(&mut self.away, true) {
                tracing::warn!("{error}; queries are refused until it is back");
            }
        } else if self.last.is_some_and(|last| now.duration_since(last) < TELL_EVERY) {
            self.untold += 1;
        } else {
            let others = std::mem::take(&mut self.untold);
            self.last = Some(now);
            tracing::warn!(others, "{error}; who asked was refused, and the node goes on");
        }
    }
}

/// Answers all further calls with the failure. (A call may already be queued, and one left in the queue would wait for ever.)
fn refuse(calls: &Receiver<Call>, error: &AppError) {
    for call in calls {
        // Who asked may have left in the meantime.
        let _ = match call {
            Call::Query(_, reply) => reply.send(Err(error.to_string())).is_ok(),
            Call::Info(reply) => reply.send(Err(error.to_string())).is_ok(),
            Call::CheckTx(_, reply) => reply.send(Err(error.to_string())).is_ok(),
        };
    }
}

/// Makes a call and hands its answer over, unless nobody waits for it any more.
fn answer<T>(
    reply: Reply<T>,
    app: &mut dyn Application,
    call: impl Fn(&mut dyn Application) -> Result<T, AppError>,
) -> Result<(), AppError> {
    if reply.is_closed() {
        return Ok(());
    }
    let mut attempt = || app.try_reconnect().and_then(|()| call(app));
    // That a connection broke while nothing was asked shows at the next call; what is asked here changes nothing, so it is asked again.
    let first = attempt();
    let broke = first.as_ref().err().filter(|error| error.is_lost()).cloned();
    let answer = if broke.is_some() { attempt() } else { first };
    // What it broke in says more than that it is not there yet.
    let lost = |error: &AppError| broke.clone().filter(|_| error.is_lost());
    let failure = answer.as_ref().err().map(|error| lost(error).unwrap_or_else(|| error.clone()));
    // Who asked may have left in the meantime.
    let _ = reply.send(answer.map_err(|error| error.to_string()));
    failure.map_or(Ok(()), Err)
}

fn request_info() -> RequestInfo {
    RequestInfo {
        version: COMPATIBLE_VERSION.to_owned(),
        block_version: BLOCK_PROTOCOL,
        p2p_version: P2P_PROTOCOL,
        abci_version: ABCI_VERSION.to_owned(),
    }
}

#[cfg(test)]
#[path = "app_tests.rs"]
mod tests;
