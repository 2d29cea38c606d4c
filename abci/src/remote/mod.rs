//! Applications in another process: four connections, one for each role, opened in CometBFT's order, by the socket protocol
//! ([`crate::socket`]) or gRPC ([`crate::grpc`]). What both have in common is here.
//!
//! No call has a time-out, as a block may take long to execute; one that takes long is told, with its name, height and time. A connection
//! that breaks is never opened again in silence, as the application may have lost what it had: its role fails with [`AppError::Lost`] until
//! [`Application::reconnect`].
//!
//! Source: CometBFT 0.38 `proxy/multi_app_conn.go`, `proxy/client.go`.

mod address;
mod watch;

pub use address::{Address, NoAddress};

pub(crate) use address::{CONNECT_MAX, Listener, Stream};
pub(crate) use watch::{GaveUp, Watch};

use crate::application::{AppError, Application, Role, Roles};
use crate::grpc::Grpc;
use crate::pace::{BACK_OFF_MAX, BACK_OFF_MIN, Pace};
use crate::socket::Socket;
use std::cell::Cell;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The largest message in bytes (CometBFT `abci/client` and `abci/server`, `maxMsgSize`).
pub const MESSAGE_BYTES_MAX: usize = 104_857_600;

/// How often a wait between two attempts looks whether the node stops.
const NAP: Duration = Duration::from_millis(50);
/// How often a wait for an answer looks around.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// The most calls that are under way before their answers are waited for.
pub(crate) const BATCH_CALLS: usize = 256;

/// How the node and an application in another process speak, as CometBFT's key `abci` says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// CometBFT's socket protocol.
    #[default]
    Socket,
    /// gRPC, the service `tendermint.abci.ABCI`.
    Grpc,
}

/// A text that is no protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is neither \"socket\" nor \"grpc\"")]
pub struct NoProtocol(String);

impl FromStr for Protocol {
    type Err = NoProtocol;

    fn from_str(text: &str) -> Result<Protocol, NoProtocol> {
        match text {
            "socket" => Ok(Protocol::Socket),
            "grpc" => Ok(Protocol::Grpc),
            _ => Err(NoProtocol(text.to_owned())),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Socket => "socket",
            Protocol::Grpc => "grpc",
        })
    }
}

/// How applications in another process are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What they speak.
    pub protocol: Protocol,
    /// After how long a call that is not answered is told in the log; then after twice as long, and so on.
    pub call_warn: Duration,
    /// After how long the node gives up; none: never.
    pub call_max: Option<Duration>,
    /// A connection that breaks ends the node, as it ends CometBFT, instead of being opened again.
    pub exit_on_disconnect: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            protocol: Protocol::Socket,
            call_warn: Duration::from_secs(10),
            call_max: None,
            exit_on_disconnect: false,
        }
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
    let (address, stop) = (address.clone(), stop.clone());
    let remote = Remote::new(role, address, settings.clone(), stop);
    match settings.protocol {
        Protocol::Socket => Box::new(Socket::closed(remote)),
        Protocol::Grpc => Box::new(Grpc::closed(remote)),
    }
}

/// Where an application is, and how one role is to call it.
pub(crate) struct Remote {
    pub(crate) address: Address,
    settings: Settings,
    stop: Stop,
    role: Role,
    pace: Cell<Pace>,
    /// The height of the last FinalizeBlock, which Commit is about.
    finalized: Cell<i64>,
}

impl Remote {
    fn new(role: Role, address: Address, settings: Settings, stop: Stop) -> Remote {
        let (pace, finalized) = (Cell::default(), Cell::default());
        Remote { address, settings, stop, role, pace, finalized }
    }

    /// Connects, however often it takes.
    pub(crate) fn open<C, E: fmt::Display>(
        &self,
        connect: impl Fn(&Remote) -> Result<C, E>,
    ) -> Result<C, AppError> {
        let (address, role) = (&self.address, self.role);
        let mut pace = self.pace.get();
        self.nap(pace.wait(Instant::now()))?;
        let (mut back_off, mut told) = (BACK_OFF_MIN, false);
        loop {
            match connect(self) {
                Ok(connection) => {
                    if told {
                        tracing::info!(%address, %role, "connected to the application");
                    }
                    pace.opened(Instant::now());
                    self.pace.set(pace);
                    return Ok(connection);
                }
                Err(error) if !std::mem::replace(&mut told, true) => tracing::warn!(
                    %address, %role, %error,
                    "the application cannot be reached: trying on; start it, or set proxy_app to where it listens"
                ),
                Err(_) => {}
            }
            self.nap(back_off)?;
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    }

    fn nap(&self, long: Duration) -> Result<(), AppError> {
        let until = Instant::now() + long;
        while Instant::now() < until {
            if self.stop.is_told() {
                return Err(AppError::Stopped);
            }
            std::thread::sleep(NAP.min(long));
        }
        Ok(())
    }

    /// Watches a call that begins now.
    pub(crate) fn watch(&self, method: &'static str, height: i64) -> Watch<'_> {
        if method == "FinalizeBlock" {
            self.finalized.set(height);
        }
        let height = if method == "Commit" { self.finalized.get() } else { height };
        Watch {
            settings: &self.settings,
            stop: &self.stop,
            role: self.role,
            method,
            height,
            since: Instant::now(),
            warn_after: self.settings.call_warn,
        }
    }

    /// The call was not answered in its time, or the node stops.
    pub(crate) fn gave_up(&self, watch: &Watch<'_>) -> AppError {
        if self.stop.is_told() {
            return AppError::Stopped;
        }
        AppError::Silent {
            method: watch.method,
            role: self.role,
            height: watch.height,
            seconds: watch.since.elapsed().as_secs(),
        }
    }

    pub(crate) fn lost(&self, method: &'static str, why: impl fmt::Display) -> AppError {
        let (role, address, why) = (self.role, self.address.to_string(), why.to_string());
        match self.settings.exit_on_disconnect {
            true => AppError::Gone { method, role, address, why },
            false => AppError::Lost { method, role, address, why },
        }
    }

    pub(crate) fn wrong(&self, method: &'static str, what: impl Into<String>) -> AppError {
        AppError::Answer { method, role: self.role, what: what.into() }
    }

    pub(crate) fn exception(&self, method: &'static str, message: String) -> AppError {
        AppError::Exception { method, role: self.role, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a Commit that takes long, or too long, names its height, though the call does not.
    #[test]
    fn a_commit_is_about_the_height_that_was_finalized() {
        let (address, stop) = (Address::Tcp("127.0.0.1:1".to_owned()), Stop::default());
        let remote = Remote::new(Role::Consensus, address, Settings::default(), stop);
        assert_eq!(remote.watch("Commit", 0).height, 0);
        assert_eq!(remote.watch("FinalizeBlock", 7).height, 7);
        assert_eq!(remote.watch("PrepareProposal", 8).height, 8);
        assert_eq!(remote.watch("Commit", 0).height, 7);
    }

    #[test]
    fn protocols_are_spelt_as_cometbft_spells_them() {
        for protocol in [Protocol::Socket, Protocol::Grpc] {
            assert_eq!(protocol.to_string().parse(), Ok(protocol));
        }
        assert_eq!("http".parse::<Protocol>(), Err(NoProtocol("http".to_owned())));
    }
}
