//! The thread that waits for the application, so that the owner of the pool never does.

use crossbeam_channel::{Receiver, Sender, bounded};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tendermint_proto::v0_38::abci::{RequestCheckTx, ResponseCheckTx};
use tercet_abci::{AppError, Application};

/// What the application is asked.
pub(super) enum Call {
    Check(Vec<RequestCheckTx>),
    /// Its connection broke.
    Reconnect,
}

/// What came of a [`Call`].
pub(super) struct Answer {
    pub(super) result: Result<Vec<ResponseCheckTx>, AppError>,
    pub(super) took: Duration,
}

/// The application's mempool role: one call at a time.
pub(super) struct Caller {
    pub(super) calls: Sender<Call>,
    pub(super) answers: Receiver<Answer>,
}

impl Caller {
    /// Starts the thread, which ends after the [`Caller`], once the application has answered.
    ///
    /// # Errors
    /// Where there can be none.
    pub(super) fn start(
        mut app: Box<dyn Application>,
    ) -> std::io::Result<(Caller, JoinHandle<()>)> {
        let (calls, queue) = bounded(1);
        let (sender, answers) = bounded(1);
        let name = std::thread::Builder::new().name("checktx".into());
        let thread = name.spawn(move || {
            for call in queue {
                let started = Instant::now();
                let result = match call {
                    Call::Check(requests) => app.check_txs(requests),
                    Call::Reconnect => app.reconnect().map(|()| Vec::new()),
                };
                if sender.send(Answer { result, took: started.elapsed() }).is_err() {
                    return;
                }
            }
        })?;
        Ok((Caller { calls, answers }, thread))
    }
}
