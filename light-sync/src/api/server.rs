//! The listener, its connections and their limits.

use super::call::{self, Body, Call, Params};
use super::error::ApiError;
use super::upstream::Held;
use super::{Answer, Api, ROUTES};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// The most open connections; further ones wait to be accepted.
pub const CONNECTIONS_MAX: usize = 128;
/// The most bytes of a request's body, as a node's.
pub const REQUEST_BYTES_MAX: usize = 1_000_000;
/// The most bytes of a request's head.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long a request may take to arrive.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection lasts, so that nobody who does not read holds an answer for longer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);
/// How long the accept loop waits after an error of the machine before it tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the API cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address has another form.
    #[error("--laddr {0:?} is not of the form tcp://host:port")]
    Address(String),
    /// The system refuses; most often the port is in use.
    #[error("cannot listen on {laddr}: choose another --laddr")]
    Listen {
        /// The address.
        laddr: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// The API's server, bound and not yet serving.
pub struct Server {
    listener: TcpListener,
    api: Arc<Api>,
}

impl Server {
    /// Listens on `laddr`, `tcp://host:port`.
    ///
    /// # Errors
    /// Where the address is wrong or taken.
    pub async fn bind(laddr: &str, api: Api) -> Result<Server, BindError> {
        let wrong = || BindError::Address(laddr.to_owned());
        let address = laddr.strip_prefix("tcp://").unwrap_or(laddr);
        let is_address =
            address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if !is_address {
            return Err(wrong());
        }
        let failed = |source| BindError::Listen { laddr: laddr.to_owned(), source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        Ok(Server { listener, api: Arc::new(api) })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Serves until it is dropped.
    pub async fn serve(self) -> Infallible {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let place = Arc::clone(&places).acquire_owned().await;
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let api = Arc::clone(&self.api);
            connections.spawn(async move {
                let _place = place;
                drop(tokio::time::timeout(CONNECTION_TIMEOUT, connection(api, stream)).await);
            });
        }
    }
}

fn connection(api: Arc<Api>, stream: TcpStream) -> impl Future<Output = Result<(), hyper::Error>> {
    // A failure costs latency only.
    drop(stream.set_nodelay(true));
    let service = service_fn(move |request| {
        let api = Arc::clone(&api);
        async move { Ok::<_, Infallible>(respond(&api, request).await) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
}

/// A body that holds its room until it is written.
struct Reply {
    bytes: Full<Bytes>,
    _held: Vec<Held>,
}

impl HttpBody for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.bytes).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.bytes.size_hint()
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>, kind: &'static str) -> Response<Reply> {
    let mut response = Response::new(Reply { bytes: Full::new(text.into()), _held: vec![] });
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

fn line(status: StatusCode, text: impl Into<String>) -> Response<Reply> {
    plain(status, text.into() + "\n", "text/plain; charset=utf-8")
}

async fn respond(api: &Api, request: Request<Incoming>) -> Response<Reply> {
    let path = request.uri().path().trim_matches('/').to_owned();
    let (path, proven) = match path.strip_prefix("unsafe") {
        Some(rest) => (rest.trim_matches('/').to_owned(), false),
        None => (path, true),
    };
    match (request.method(), path.as_str()) {
        (&Method::POST, "") => post(api, request, proven).await,
        (&Method::GET, "") => line(StatusCode::OK, listing()),
        (&Method::GET, "healthz") => line(StatusCode::OK, "ok"),
        (&Method::GET, "readyz") => match api.unready() {
            None => line(StatusCode::OK, "ok"),
            Some(why) => line(StatusCode::SERVICE_UNAVAILABLE, why),
        },
        (&Method::GET, "metrics") => {
            plain(StatusCode::OK, api.metrics(), "text/plain; version=0.0.4")
        }
        (&Method::GET, "websocket") => {
            line(StatusCode::NOT_FOUND, "there are no subscriptions here: events are not proven")
        }
        (&Method::GET, method) => {
            let params = Params::from_uri(request.uri().query().unwrap_or_default());
            let call = Call { id: Some(json!(-1)), method: method.to_owned(), params };
            let (reply, held, failed) = one(api, Ok(call), proven).await;
            json_reply(&reply, held.into_iter().collect(), failed)
        }
        _ => line(StatusCode::METHOD_NOT_ALLOWED, "GET or POST"),
    }
}

/// The routes, a line each.
fn listing() -> String {
    let route = |(name, arguments): &(&str, &[&str])| {
        let arguments: Vec<String> =
            arguments.iter().map(|argument| format!("{argument}=_")).collect();
        let mark = if arguments.is_empty() { "" } else { "?" };
        format!("/{name}{mark}{}\n", arguments.join("&"))
    };
    ROUTES.iter().map(route).chain(["/healthz\n/readyz\n/metrics\n/unsafe".to_owned()]).collect()
}

async fn post(api: &Api, request: Request<Incoming>, proven: bool) -> Response<Reply> {
    let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect();
    let body = match tokio::time::timeout(REQUEST_TIMEOUT, body).await {
        Err(_) => return line(StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time"),
        Ok(Err(_)) => {
            let most = format!("a request has at most {REQUEST_BYTES_MAX} bytes");
            return line(StatusCode::PAYLOAD_TOO_LARGE, most);
        }
        Ok(Ok(body)) => body.to_bytes(),
    };
    match call::parse(&body) {
        Err(error) => json_reply(&failure(None, &error), vec![], true),
        Ok(Body::One(call)) => {
            let (reply, held, failed) = one(api, call, proven).await;
            json_reply(&reply, held.into_iter().collect(), failed)
        }
        Ok(Body::Batch(calls)) => {
            // One after the other, each without the room of the one before: so a batch never waits for itself.
            let mut replies = vec![];
            let mut room = super::ANSWER_BYTES_MAX;
            for call in calls {
                let (reply, held, _) = one(api, call, proven).await;
                drop(held);
                let text = reply.to_string();
                let Some(left) = room.checked_sub(text.len()) else {
                    let error =
                        ApiError::Request("the answers are too long for one batch".to_owned());
                    replies.push(failure(reply.get("id").cloned(), &error));
                    continue;
                };
                room = left;
                replies.push(reply);
            }
            json_reply(&Value::from(replies), vec![], false)
        }
    }
}

/// The reply to one call, what it holds, and whether it failed. Calls without an id are not carried out.
async fn one(api: &Api, call: Result<Call, ApiError>, proven: bool) -> (Value, Option<Held>, bool) {
    let call = match call {
        Ok(call) => call,
        Err(error) => return (failure(None, &error), None, true),
    };
    if call.id.is_none() {
        let error = ApiError::Request("notifications are not carried out".to_owned());
        return (failure(None, &error), None, true);
    }
    let answer = match proven {
        true => api.answer(&call.method, &call.params).await,
        false => api.unproven(&call).await,
    };
    match answer {
        Ok(Answer { value, held }) => {
            (json!({ "jsonrpc": "2.0", "id": call.id, "result": value }), held, false)
        }
        Err(error) => (failure(call.id, &error), None, true),
    }
}

fn failure(id: Option<Value>, error: &ApiError) -> Value {
    json!({ "jsonrpc": "2.0", "id": id.unwrap_or(json!(-1)), "error": error.to_json() })
}

fn json_reply(value: &Value, held: Vec<Held>, failed: bool) -> Response<Reply> {
    let status = if failed { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
    let mut response = plain(status, value.to_string(), "application/json");
    response.body_mut()._held = held;
    response
}
