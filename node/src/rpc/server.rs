//! The listener, its connections and their limits.

use super::cors::Cors;
use super::deadline::Deadline;
use super::http::Handler;
use super::json;
use super::json::chain::GenesisDoc;
use super::quotes::Quotes;
use super::rate::Rate;
use super::replies::{REPLIES_BYTES_MAX, UNIT_BYTES};
use super::sources::Sources;
use super::tls::Tls;
use bytes::Bytes;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// How long the accept loop waits after an error of the machine (no file descriptors, no memory) before it tries again.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long open connections may finish their request when the node stops.
const STOP_PAUSE: Duration = Duration::from_secs(2);
/// The most calls that read the store at a time; further ones wait, so that a crowd of clients cannot keep the disk and the
/// processors from consensus.
const READS_MAX: usize = 4;
/// The most searches of the index at a time; further ones wait.
const SEARCHES_MAX: usize = 2;
/// The most calls at a time that ask the pool or the application for what may be large; further ones wait.
const ASKS_MAX: usize = 16;
/// The least that hyper takes as the limit of its read buffer.
const HEADER_BYTES_MIN: usize = 8192;
/// The most header lines of a request.
const HEADER_LINES_MAX: usize = 128;
/// The most connections that are ever configured; a semaphore cannot count further than this.
const CONNECTIONS_MAX: usize = 1 << 20;

/// The limits of the server: CometBFT's `[rpc]` keys with its defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most open connections; further ones wait to be accepted. 0 is no limit.
    pub max_open_connections: usize,
    /// The most clients that subscribe at a time, and as many that wait in `broadcast_tx_commit`.
    pub max_subscription_clients: usize,
    /// The most subscriptions of a client.
    pub max_subscriptions_per_client: usize,
    /// Events of a subscription that wait to be read.
    pub subscription_buffer_size: usize,
    /// Replies and events of a WebSocket that wait to be written.
    pub websocket_write_buffer_size: usize,
    /// Whether a WebSocket ends whose client does not read.
    pub close_on_slow_client: bool,
    /// Whether there are the routes that change what the node does.
    pub has_unsafe: bool,
    /// The largest body.
    pub max_body_bytes: usize,
    /// The largest head of a request.
    pub max_header_bytes: usize,
    /// The most requests in a batch; 0 is no limit.
    pub max_request_batch_size: usize,
    /// How long `broadcast_tx_commit` waits for the block.
    pub timeout_broadcast_tx_commit: Duration,
    /// How long a request may take to arrive, and an idle connection stays open.
    pub read_timeout: Duration,
    /// How long a reply may take to be computed and to leave.
    pub write_timeout: Duration,
    /// Cross-origin requests.
    pub cors: Cors,
    /// Only the routes that read stored blocks and states: those of CometBFT's `inspect`, for data without a node.
    pub stored_only: bool,
    /// Whether there is a page for people at `/ui`.
    pub ui: bool,
    /// Requests a second of one address; 0 is no limit.
    pub requests_per_second: u64,
    /// Requests of one address at once; 0: as many as in a second.
    pub requests_burst: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_open_connections: 900,
            max_subscription_clients: 100,
            max_subscriptions_per_client: 5,
            subscription_buffer_size: 200,
            websocket_write_buffer_size: 200,
            close_on_slow_client: false,
            has_unsafe: false,
            max_body_bytes: 1_000_000,
            max_header_bytes: 1 << 20,
            max_request_batch_size: 10,
            timeout_broadcast_tx_commit: Duration::from_secs(10),
            read_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            cors: Cors::default(),
            ui: true,
            stored_only: false,
            requests_per_second: 0,
            requests_burst: 0,
        }
    }
}

/// Why the RPC cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address has no scheme.
    #[error("{key} {laddr:?} needs a scheme: tcp://host:port or unix://path")]
    Scheme {
        /// The key of the configuration.
        key: &'static str,
        /// The address.
        laddr: String,
    },
    /// The system refuses; most often the port is in use.
    #[error("{key}: the rpc cannot listen on {laddr}")]
    Listen {
        /// The key of the configuration.
        key: &'static str,
        /// The address.
        laddr: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The genesis document cannot be written as JSON.
    #[error("the genesis document cannot be written as JSON")]
    Genesis(#[source] serde_json::Error),
}

/// What all requests share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api(Arc<Shared>);

/// See [`Api`].
pub(crate) struct Shared {
    pub(crate) sources: Sources,
    pub(crate) limits: Limits,
    pub(crate) genesis_json: Bytes,
    /// Who may read the store now.
    pub(crate) reads: Arc<Semaphore>,
    /// Who may search the index.
    pub(crate) searches: Arc<Semaphore>,
    /// Who may ask pool and application for what may be large.
    pub(crate) asks: Arc<Semaphore>,
    /// The room of large replies, see [`super::replies`].
    pub(crate) replies: Arc<Semaphore>,
    /// How many requests an address may send, where that is bounded.
    pub(crate) rate: Option<Rate>,
}

impl std::ops::Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Api {
    /// Renders the genesis document once.
    pub(crate) fn new(sources: Sources, limits: Limits) -> Result<Api, serde_json::Error> {
        let mut genesis_json = Vec::new();
        let reads = Arc::new(Semaphore::new(READS_MAX));
        let searches = Arc::new(Semaphore::new(SEARCHES_MAX));
        let asks = Arc::new(Semaphore::new(ASKS_MAX));
        let replies = Arc::new(Semaphore::new(REPLIES_BYTES_MAX / UNIT_BYTES));
        let rate = Rate::new(limits.requests_per_second, limits.requests_burst);
        json::append(&mut genesis_json, &GenesisDoc::from(&*sources.genesis))?;
        Ok(Api(Arc::new(Shared {
            sources,
            limits,
            genesis_json: genesis_json.into(),
            reads,
            searches,
            asks,
            replies,
            rate,
        })))
    }

    /// Waits for the pool or the application, but not longer than a reply may take.
    ///
    /// # Errors
    /// Where the time is up.
    pub(crate) async fn bounded<T>(&self, call: impl Future<Output = T>) -> Result<T, String> {
        let limit = self.limits.write_timeout;
        let waited = tokio::time::timeout(limit, call).await;
        waited.map_err(|_| format!("the application did not answer within {limit:?}"))
    }
}

/// Where clients come in.
pub(super) enum Listener {
    /// On a port.
    Tcp(TcpListener),
    /// On a socket in the file system.
    Unix(UnixListener),
}

impl Listener {
    /// Listens on `laddr`, which is the value of `key`.
    pub(super) async fn bind(key: &'static str, laddr: &str) -> Result<Listener, BindError> {
        let failed = |source| BindError::Listen { key, laddr: laddr.to_owned(), source };
        match laddr.split_once("://") {
            Some(("tcp", address)) => {
                TcpListener::bind(address).await.map(Listener::Tcp).map_err(failed)
            }
            Some(("unix", path)) => {
                remove_stale(Path::new(path)).map_err(failed)?;
                UnixListener::bind(path).map(Listener::Unix).map_err(failed)
            }
            _ => Err(BindError::Scheme { key, laddr: laddr.to_owned() }),
        }
    }

    /// Where it listens; none for a Unix socket.
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix(_) => None,
        }
    }
}

/// How many connections a configured number is; 0 is no limit.
pub(super) fn slots(configured: usize) -> usize {
    match configured {
        0 => CONNECTIONS_MAX,
        limit => limit.min(CONNECTIONS_MAX),
    }
}

/// The RPC server, bound and not yet serving.
pub struct Server {
    listener: Listener,
    api: Api,
    tls: Option<Tls>,
}

impl Server {
    /// Listens on `laddr`, `tcp://host:port` or `unix://path`. Runs inside a tokio runtime.
    ///
    /// # Errors
    /// Where the address is wrong or taken.
    pub async fn bind(laddr: &str, sources: Sources, limits: Limits) -> Result<Server, BindError> {
        let listener = Listener::bind("rpc.laddr", laddr).await?;
        let api = Api::new(sources, limits).map_err(BindError::Genesis)?;
        Ok(Server { listener, api, tls: None })
    }

    /// The same, spoken to over TLS.
    #[must_use]
    pub fn over(self, tls: Option<Tls>) -> Server {
        Server { tls, ..self }
    }

    /// What it answers from, for another listener.
    pub(crate) fn api(&self) -> Api {
        self.api.clone()
    }

    /// Where it listens; none for a Unix socket.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is cancelled; then requests under way get a short time to finish. Never ends by itself: an error of the
    /// machine is logged and waited out.
    pub async fn run(self, stop: CancellationToken) {
        let slots = slots(self.api.limits.max_open_connections);
        let free = Arc::new(Semaphore::new(slots));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.accept(&free, &stop) => accepted,
            };
            if let Err(error) = accepted {
                tracing::warn!(%error, "the rpc cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        let all = u32::try_from(slots).unwrap_or(u32::MAX);
        // Whoever has not finished by then is cut off when the runtime ends.
        let _ = tokio::time::timeout(STOP_PAUSE, free.acquire_many(all)).await;
    }

    /// Waits for a free slot and a connection, and starts to serve it.
    async fn accept(&self, free: &Arc<Semaphore>, stop: &CancellationToken) -> io::Result<()> {
        let slot = Arc::clone(free).acquire_owned().await.map_err(io::Error::other)?;
        let slot = Arc::new(slot);
        let connection = |from: Option<IpAddr>| {
            let handler = Handler::new(self.api.clone(), from);
            Connection { handler, stop: stop.clone(), slot }
        };
        let tls = self.tls.clone();
        let accepted = match &self.listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, from)| {
                // Where the option cannot be set, the connection is gone already.
                let _ = stream.set_nodelay(true);
                tokio::spawn(connection(Some(from.ip())).begin(stream, tls));
            }),
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(connection(None).begin(stream, tls));
            }),
        };
        match accepted {
            Err(error) if is_of_the_connection(&error) => Ok(()),
            other => other,
        }
    }
}

/// Removes the file of a socket on which nobody listens any more: a node that was killed leaves it behind.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        _ => Ok(()),
    }
}

/// Whether an error of `accept` concerns only the connection that was to be accepted.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// A connection about to be served.
struct Connection {
    handler: Handler,
    stop: CancellationToken,
    /// Held by a WebSocket too, for as long as it is open.
    slot: Arc<OwnedSemaphorePermit>,
}

/// What a connection holds that goes over to its WebSocket. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// Cancelled when the node stops.
    pub(crate) stop: CancellationToken,
    /// The connection's place among those that may be open.
    _slot: Arc<OwnedSemaphorePermit>,
}

impl Connection {
    /// Serves it, over TLS where that is wanted; the handshake may take as long as a request.
    async fn begin<S>(self, stream: S, tls: Option<Tls>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(Tls(tls)) = tls else { return self.serve(stream).await };
        let limit = self.handler.api().limits.read_timeout;
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(limit, tls.accept(stream)) => shaken,
            () = self.stop.cancelled() => return,
        };
        match shaken {
            Ok(Ok(stream)) => self.serve(stream).await,
            Ok(Err(error)) => tracing::debug!(%error, "an rpc connection spoke no TLS"),
            Err(_) => tracing::debug!("an rpc connection took too long for TLS"),
        }
    }

    async fn serve<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Connection { handler, stop, slot } = self;
        let limits = &handler.api().limits;
        let io = TokioIo::new(Quotes::new(Deadline::new(stream, limits.write_timeout)));
        // No `pipeline_flush`: with it, hyper keeps all replies in memory as long as further requests are there.
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(limits.read_timeout)
            .max_buf_size(limits.max_header_bytes.max(HEADER_BYTES_MIN))
            .max_headers(HEADER_LINES_MAX);
        let held = Held { stop: stop.clone(), _slot: Arc::clone(&slot) };
        let service = hyper::service::service_fn(move |request| {
            let (handler, held) = (handler.clone(), held.clone());
            async move { Ok::<_, std::convert::Infallible>(handler.answer(request, held).await) }
        });
        let connection = builder.serve_connection(io, service).with_upgrades();
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "an rpc connection ended");
        }
        drop(slot);
    }
}
