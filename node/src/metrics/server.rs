//! The port that Prometheus asks.

use super::Metrics;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// The format of the answer.
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
/// How long a connection may last: Prometheus asks again with a new one.
const CONNECTION_MAX: Duration = Duration::from_secs(60);
/// How long the head of a request may take.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// How long to wait after an error of the machine (no file descriptors, no memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The least that hyper takes for a head.
const HEAD_BYTES: usize = 8192;
/// The most connections that are ever configured.
const CONNECTIONS_MAX: usize = 1 << 16;

/// The port cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("instrumentation.prometheus_listen_addr: cannot listen on {address}")]
pub struct BindError {
    /// The address.
    address: String,
    /// Why.
    #[source]
    source: io::Error,
}

/// The server, bound and not yet serving.
pub struct MetricsServer {
    listener: TcpListener,
    metrics: Arc<Mutex<Metrics>>,
    free: Arc<Semaphore>,
}

impl MetricsServer {
    /// Listens on `address`, `host:port`, for at most so many connections at a time; 0 is no limit. Runs inside a tokio runtime.
    ///
    /// # Errors
    /// Where the address is wrong or taken.
    pub async fn bind(
        address: &str,
        connections: usize,
        metrics: Metrics,
    ) -> Result<MetricsServer, BindError> {
        let failed = |source| BindError { address: address.to_owned(), source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let slots = if connections == 0 { CONNECTIONS_MAX } else { connections };
        let free = Arc::new(Semaphore::new(slots.min(CONNECTIONS_MAX)));
        Ok(MetricsServer { listener, metrics: Arc::new(Mutex::new(metrics)), free })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Serves until `stop` is cancelled. Further connections wait.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let Ok(slot) = Arc::clone(&self.free).acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (metrics, stop) = (Arc::clone(&self.metrics), stop.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            // One that lasts too long is cut.
                            _ = tokio::time::timeout(CONNECTION_MAX, serve(stream, metrics)) => {}
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the port of the metrics cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn serve(stream: TcpStream, metrics: Arc<Mutex<Metrics>>) {
    let service = hyper::service::service_fn(move |request| {
        let metrics = Arc::clone(&metrics);
        async move { Ok::<_, Infallible>(answer(&request, metrics).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection for metrics ended");
    }
}

async fn answer(
    request: &Request<Incoming>,
    metrics: Arc<Mutex<Metrics>>,
) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return text(StatusCode::NOT_FOUND, "the metrics are at /metrics\n".to_owned());
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET is what there is\n".to_owned());
    }
    let read = tokio::task::spawn_blocking(move || {
        metrics.lock().unwrap_or_else(PoisonError::into_inner).text()
    });
    match read.await {
        Ok(Ok(figures)) => {
            let mut reply = text(StatusCode::OK, figures);
            reply.headers_mut().insert(CONTENT_TYPE, OPEN_METRICS);
            reply
        }
        Ok(Err(error)) => text(StatusCode::INTERNAL_SERVER_ERROR, error),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    reply
}
