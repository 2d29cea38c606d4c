//! HTTP requests in, replies out: JSON-RPC at `/`, routes by URI, health.

use super::jsonrpc::{self, Id, Request, RpcError};
use super::params::{self, Args};
use super::replies::Room;
use super::routes::{self, Answer, Method, ROUTES, STREAM_ONLY};
use super::server::{Api, Held};
use super::{health, stream, ui, uri};
use bytes::{Bytes, BytesMut};
use futures::future::join_all;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::net::IpAddr;
use std::time::{Instant, SystemTime};

pub(crate) type Reply = Response<Full<Bytes>>;

/// Where CometBFT tells its clock, in seconds.
const X_SERVER_TIME: HeaderName = HeaderName::from_static("x-server-time");
/// Asked by those who watch the node, without a limit.
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];
/// What is reserved for a reply at first; a broadcast transaction's fits.
pub(crate) const REPLY_BYTES: usize = 256;

/// Answers requests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handler {
    api: Api,
    /// The address of the client; none on a Unix socket.
    from: Option<IpAddr>,
}

/// The body of a reply.
#[derive(Debug, Default)]
pub(crate) struct Out {
    /// Empty for a notification.
    pub(crate) json: Vec<u8>,
    /// Whether caches may keep it.
    pub(crate) cacheable: bool,
    /// What it holds until it has left.
    pub(crate) room: Room,
}

/// Why a body could not be read.
enum BodyError {
    TooLarge,
    Broken(String),
}

impl Handler {
    /// A handler over `api` for a client at this address.
    pub(crate) fn new(api: Api, from: Option<IpAddr>) -> Handler {
        Handler { api, from }
    }

    /// Counts so many requests of the client.
    ///
    /// # Errors
    /// Where there are too many.
    pub(crate) fn spend(&self, count: usize) -> Result<(), RpcError> {
        let Some((rate, from)) = self.api.rate.as_ref().zip(self.from) else { return Ok(()) };
        rate.take(from, count, Instant::now()).map_err(RpcError::too_many)
    }

    /// What it answers from.
    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    /// The reply to a request.
    pub(crate) async fn answer(&self, request: hyper::Request<Incoming>, held: Held) -> Reply {
        let cors = &self.api.limits.cors;
        if request.uri().path() == stream::PATH && !self.api.limits.stored_only {
            return stream::upgrade(self, request, held).await;
        }
        if cors.origins.is_empty() {
            return self.dispatch(request).await;
        }
        if let Some(reply) = cors.preflight(&request) {
            return reply;
        }
        let headers = request.headers().clone();
        let mut reply = self.dispatch(request).await;
        cors.allow(&headers, reply.headers_mut());
        reply
    }

    /// Whether there is a page for people: it needs events.
    fn has_page(&self) -> bool {
        self.api.limits.ui && !self.api.limits.stored_only
    }

    /// The page at `/`: every route with its arguments. Links are relative, so nothing that the client sent stands in it.
    fn list(&self) -> Reply {
        let mut page = String::from("<html><body><br>Available endpoints:<br>");
        if self.has_page() {
            page.push_str("<a href=\"/ui\">/ui</a> (a page that shows this node)<br>");
        }
        let mut names: Vec<_> =
            ROUTES.iter().filter(|route| routes::is_served(&self.api, route)).collect();
        names.sort_by_key(|route| (!route.params.is_empty(), route.name));
        let mut heading = Some("<br>Endpoints that require arguments:<br>");
        for route in names {
            if !route.params.is_empty() {
                page.push_str(heading.take().unwrap_or_default());
            }
            let arguments: Vec<String> =
                route.params.iter().map(|(name, _)| format!("{name}=_")).collect();
            let mark = if arguments.is_empty() { "" } else { "?" };
            let link = format!("/{}{mark}{}", route.name, arguments.join("&amp;"));
            page.push_str(&format!("<a href=\"{link}\">{link}</a><br>"));
        }
        page.push_str("</body></html>");
        text_reply(StatusCode::OK, "text/html", page)
    }

    async fn dispatch(&self, request: hyper::Request<Incoming>) -> Reply {
        let path = request.uri().path();
        if !HEALTH.contains(&path)
            && let Err(error) = self.spend(1)
        {
            return refused(&error);
        }
        match path {
            "/" | "" | "//" => self.post(request.into_body()).await,
            "/healthz" => health_reply(health::alive(&self.api).await),
            "/readyz" => health_reply(health::ready(&self.api).await),
            _ if self.has_page() && path.starts_with(ui::PATH) => {
                ui::file(path).unwrap_or_else(not_found)
            }
            _ => self.by_uri(request).await,
        }
    }

    async fn post(&self, body: Incoming) -> Reply {
        let body = match self.read(body).await {
            Ok(body) => body,
            Err(error) => return body_error(&error),
        };
        if body.is_empty() {
            return self.list();
        }
        match self.body(&body).await {
            Ok(out) => json_reply(StatusCode::OK, out.room.hold(out.json), out.cacheable),
            Err(error) if error.retry_secs().is_some() => refused(&error),
            Err(error) => {
                let mut out = Vec::with_capacity(REPLY_BYTES);
                jsonrpc::error(&mut out, None, &error);
                json_reply(StatusCode::INTERNAL_SERVER_ERROR, out.into(), false)
            }
        }
    }

    /// The body of a request, within its limits of size and time.
    async fn read(&self, body: Incoming) -> Result<Bytes, BodyError> {
        let bytes_max = self.api.limits.max_body_bytes;
        if usize::try_from(body.size_hint().lower()).map_or(true, |lower| lower > bytes_max) {
            return Err(BodyError::TooLarge);
        }
        match tokio::time::timeout(self.api.limits.read_timeout, collect(body, bytes_max)).await {
            Ok(body) => body,
            Err(_) => Err(BodyError::Broken("i/o timeout".to_owned())),
        }
    }

    /// A JSON-RPC body, one request or a batch: the body of the reply and whether caches may keep it.
    ///
    /// # Errors
    /// Where it is neither.
    pub(crate) async fn body(&self, body: &[u8]) -> Result<Out, RpcError> {
        match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'[') => self.batch(body).await,
            _ => self.single(body).await,
        }
    }

    /// One JSON-RPC request: the body of its reply (nothing for a notification) and whether caches may keep it.
    async fn single(&self, body: &[u8]) -> Result<Out, RpcError> {
        match parse::<Option<Request<'_>>>(body)? {
            Some(request) => self.member(&request).await,
            None => Ok(Out::default()),
        }
    }

    async fn batch(&self, body: &[u8]) -> Result<Out, RpcError> {
        let raws: Vec<&RawValue> = parse(body)?;
        let count_max = self.api.limits.max_request_batch_size;
        if count_max > 0 && raws.len() > count_max {
            let mut out = Out::default();
            let data =
                format!("batch request exceeds maximum ({count_max}) allowed number of requests");
            jsonrpc::error(&mut out.json, None, &RpcError::invalid_request(data));
            return Ok(out);
        }
        // The request itself is counted already.
        self.spend(raws.len().saturating_sub(1))?;
        let mut requests: Vec<Request<'_>> = Vec::with_capacity(raws.len());
        for raw in raws {
            // A null is an empty notification in Go.
            requests.extend(parse::<Option<Request<'_>>>(raw.get().as_bytes())?);
        }
        for request in &requests {
            request.id.map(Id::parse).transpose().map_err(|error| RpcError::parse(&error))?;
        }
        self.members(&requests).await
    }

    /// Carries out a batch in order. Neighbouring `broadcast_tx_sync` are offered in order and wait together.
    async fn members(&self, requests: &[Request<'_>]) -> Result<Out, RpcError> {
        let mut out = Out { json: vec![b'['], cacheable: true, room: Room::default() };
        let mut replies = 0;
        for run in requests.chunk_by(|before, after| before.is_fast() && after.is_fast()) {
            for member in join_all(run.iter().map(|request| self.member(request))).await {
                let reply = member?;
                if reply.json.is_empty() {
                    continue;
                }
                if replies > 0 {
                    out.json.push(b',');
                }
                out.json.extend_from_slice(&reply.json);
                out.cacheable &= reply.cacheable;
                out.room.join(reply.room);
                replies += 1;
            }
        }
        match replies {
            0 => return Ok(Out::default()),
            // CometBFT answers a batch with one reply by the reply itself.
            1 => drop(out.json.drain(..1)),
            _ => out.json.push(b']'),
        }
        Ok(out)
    }

    /// The reply to one request and whether caches may keep it; nothing for a notification, which CometBFT does not carry out.
    async fn member(&self, request: &Request<'_>) -> Result<Out, RpcError> {
        let Some(raw) = request.id else { return Ok(Out::default()) };
        let id = Id::parse(raw).map_err(|error| RpcError::parse(&error))?;
        let mut json = Vec::with_capacity(REPLY_BYTES);
        let done = if request.is_fast() && !self.api.limits.stored_only {
            self.fast(request, id, &mut json).await.map(|()| (false, Room::default()))
        } else {
            self.call(request, id, &mut json).await
        };
        let (cacheable, room) = done.unwrap_or_else(|error| {
            json.clear();
            jsonrpc::error(&mut json, Some(id), &error);
            (false, Room::default())
        });
        Ok(Out { json, cacheable, room })
    }

    /// `broadcast_tx_sync` without detours.
    ///
    /// # Errors
    /// What to answer instead.
    pub(crate) async fn fast(
        &self,
        request: &Request<'_>,
        id: Id<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), RpcError> {
        let tx = match request.params.and_then(only_tx) {
            Some(tx) => tx,
            None => json_args(request, routes::find("broadcast_tx_sync"))?.bytes(0),
        };
        jsonrpc::begin(out, id);
        routes::broadcast_sync(&self.api, tx, out).await.map_err(RpcError::internal)?;
        jsonrpc::end(out);
        Ok(())
    }

    /// Any other call: whether caches may keep the reply, and what it holds.
    ///
    /// # Errors
    /// What to answer instead.
    pub(crate) async fn call(
        &self,
        request: &Request<'_>,
        id: Id<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(bool, Room), RpcError> {
        let route = routes::served(&self.api, &request.method);
        let args = json_args(request, route)?;
        let method = route.map(|route| route.method).ok_or_else(RpcError::method_not_found)?;
        let answer = routes::call(&self.api, method, args).await?;
        jsonrpc::begin(out, id);
        out.extend_from_slice(&answer.json);
        jsonrpc::end(out);
        Ok((answer.cacheable, answer.room))
    }

    /// A route called by its path, with arguments in the query or, posted, in a form.
    async fn by_uri(&self, request: hyper::Request<Incoming>) -> Reply {
        let name = request.uri().path().trim_start_matches('/').to_owned();
        if STREAM_ONLY.contains(&name.as_str()) {
            return uri_error(StatusCode::NOT_FOUND, &RpcError::method_not_found());
        }
        let Some(route) = routes::served(&self.api, &name) else { return not_found() };
        let is_form = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
        let query = request.uri().query().unwrap_or_default().to_owned();
        let form = match self.read(request.into_body()).await {
            Ok(body) if is_form => String::from_utf8(body.to_vec()).unwrap_or_default(),
            Ok(_) => String::new(),
            Err(error) => return body_error(&error),
        };
        let mut given = uri::parse(&query);
        given.retain(|_, value| !value.is_empty());
        for (name, value) in uri::parse(&form) {
            given.entry(name).or_insert(value);
        }
        match self.uri_call(route.method, params::from_uri(route.params, &given)).await {
            Ok(answer) => {
                let mut out = Vec::with_capacity(answer.json.len() + REPLY_BYTES);
                jsonrpc::begin(&mut out, Id::Number(-1));
                out.extend_from_slice(&answer.json);
                jsonrpc::end(&mut out);
                json_reply(StatusCode::OK, answer.room.hold(out), answer.cacheable)
            }
            Err(error) => uri_error(StatusCode::INTERNAL_SERVER_ERROR, &error),
        }
    }

    async fn uri_call(
        &self,
        method: Method,
        args: Result<Args, String>,
    ) -> Result<Answer, RpcError> {
        let args = args.map_err(|error| RpcError::uri_params(&error))?;
        routes::call(&self.api, method, args).await
    }
}

async fn collect(mut body: Incoming, bytes_max: usize) -> Result<Bytes, BodyError> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyError::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + rest.len() + data.len() > bytes_max {
            return Err(BodyError::TooLarge);
        }
        // Small bodies come in one piece and are not copied.
        if first.is_empty() && rest.is_empty() {
            first = data;
            continue;
        }
        if rest.is_empty() {
            rest.extend_from_slice(&std::mem::take(&mut first));
        }
        rest.extend_from_slice(&data);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

pub(crate) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, RpcError> {
    serde_json::from_slice(body).map_err(|error| RpcError::parse(&error.to_string()))
}

/// The transaction in `{"tx": "<base64>"}`; none for anything else, which takes the general way.
fn only_tx(params: &RawValue) -> Option<Bytes> {
    #[derive(Deserialize)]
    struct Tx<'a> {
        #[serde(borrow)]
        tx: Cow<'a, str>,
    }
    let Tx { tx } = serde_json::from_str(params.get()).ok()?;
    params::decode_base64(&tx).ok()
}

fn json_args(request: &Request<'_>, route: Option<&routes::Route>) -> Result<Args, RpcError> {
    let route = route.ok_or_else(RpcError::method_not_found)?;
    params::from_json(route.params, request.params).map_err(|error| RpcError::json_params(&error))
}

fn json_reply(status: StatusCode, body: Bytes, cacheable: bool) -> Reply {
    let is_empty = body.is_empty();
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    if !is_empty {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers.insert(X_SERVER_TIME, HeaderValue::from(seconds()));
    if cacheable {
        let day = HeaderValue::from_static("public, max-age=86400");
        headers.insert(header::CACHE_CONTROL, day);
    }
    reply
}

fn seconds() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

fn uri_error(status: StatusCode, error: &RpcError) -> Reply {
    let mut out = Vec::with_capacity(REPLY_BYTES);
    jsonrpc::error(&mut out, Some(Id::Number(-1)), error);
    json_reply(status, out.into(), false)
}

/// Too many requests.
fn refused(error: &RpcError) -> Reply {
    let mut reply = uri_error(StatusCode::TOO_MANY_REQUESTS, error);
    let secs = error.retry_secs().unwrap_or(1);
    reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
    reply
}

fn body_error(error: &BodyError) -> Reply {
    let cause = match error {
        BodyError::TooLarge => "http: request body too large",
        BodyError::Broken(cause) => cause,
    };
    let error = RpcError::invalid_request(format!("error reading request body: {cause}"));
    let mut out = Vec::with_capacity(REPLY_BYTES);
    jsonrpc::error(&mut out, None, &error);
    let mut reply = json_reply(StatusCode::BAD_REQUEST, out.into(), false);
    // The rest of the body is not read, so nothing further can be understood on this connection.
    reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    reply
}

pub(crate) fn text_reply(status: StatusCode, kind: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(X_SERVER_TIME, HeaderValue::from(seconds()));
    reply
}

pub(crate) const PLAIN: &str = "text/plain; charset=utf-8";

fn not_found() -> Reply {
    text_reply(StatusCode::NOT_FOUND, PLAIN, "404 page not found\n".to_owned())
}

fn health_reply(health: Result<String, String>) -> Reply {
    let (status, line) = match health {
        Ok(line) => (StatusCode::OK, line),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
    };
    text_reply(status, PLAIN, format!("{}\n", line.replace(['\n', '\r'], " ")))
}
