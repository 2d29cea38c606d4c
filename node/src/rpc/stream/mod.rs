//! `/websocket`: all routes and subscriptions to events over one connection (CometBFT `rpc/jsonrpc/server/ws_handler.go`).
//!
//! One task reads requests and carries them out in order; one writes replies and events; one for each subscription takes its events
//! from the bus. Between them are bounded queues. A client that does not read fills them, and its subscriptions end; one that lets a
//! write wait for longer than the write timeout is cut off.
//!
//! Beyond CometBFT, `broadcast_tx_sync` requests that follow each other wait for the application together, and `subscribe` takes a
//! `height` to begin from.

mod replay;
mod subscriptions;

use super::http::{Handler, PLAIN, REPLY_BYTES, Reply, parse, text_reply};
use super::jsonrpc::{self, Id, Request, RpcError};
use super::replies::Room;
use super::server::Held;
use axum::extract::FromRequestParts as _;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, SplitSink};
use futures::{SinkExt as _, StreamExt as _};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use std::time::Duration;
use subscriptions::Subscriptions;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, sleep_until};

/// Where it is.
pub(crate) const PATH: &str = "/websocket";
/// How long nothing may come from a client, not even a pong (CometBFT `defaultWSReadWait`).
const READ_WAIT: Duration = Duration::from_secs(30);
/// How often it is pinged (CometBFT `defaultWSPingPeriod`).
const PING_PERIOD: Duration = Duration::from_secs(27);
/// The most requests of one connection that wait for the application at a time.
const CALLS_MAX: usize = 16;

/// What a connection writes.
pub(crate) type Out = mpsc::Sender<Bytes>;

/// Makes a WebSocket of a connection.
pub(crate) async fn upgrade(
    handler: &Handler,
    request: hyper::Request<Incoming>,
    held: Held,
) -> Reply {
    let (mut parts, _) = request.into_parts();
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            let text = format!("{}\n", rejection.body_text());
            return text_reply(StatusCode::BAD_REQUEST, PLAIN, text);
        }
    };
    let bytes_max = handler.api().limits.max_body_bytes;
    let upgrade = upgrade
        .max_message_size(bytes_max)
        .max_frame_size(bytes_max)
        .write_buffer_size(0)
        .max_write_buffer_size(usize::MAX);
    let handler = handler.clone();
    let accepted = upgrade.on_upgrade(move |socket| serve(socket, handler, held));
    let (parts, _) = accepted.into_parts();
    Response::from_parts(parts, Full::new(Bytes::new()))
}

/// A connection until it ends.
async fn serve(socket: WebSocket, handler: Handler, held: Held) {
    let (sink, mut requests) = socket.split();
    let (out, queue) = mpsc::channel(handler.api().limits.websocket_write_buffer_size.max(1));
    let writer = tokio::spawn(write(sink, queue));
    let mut connection = Connection {
        subscriptions: Subscriptions::new(handler.api(), out.clone()),
        handler,
        out,
        calls: FuturesOrdered::new(),
    };
    let mut silent_at = Instant::now() + READ_WAIT;
    let closing = loop {
        tokio::select! {
            () = held.stop.cancelled() => break true,
            () = connection.out.closed() => break false,
            () = connection.subscriptions.closed() => break false,
            Some(reply) = connection.calls.next(), if !connection.calls.is_empty() => {
                if !send(&connection.out, reply).await { break false }
            }
            message = requests.next(), if connection.calls.len() < CALLS_MAX => {
                silent_at = Instant::now() + READ_WAIT;
                let Some(Ok(message)) = message else { break false };
                if !connection.take(message).await { break false }
            }
            () = sleep_until(silent_at) => break false,
        }
    };
    drop(connection);
    match closing {
        // What is queued, and the reasons of the subscriptions, still leave.
        true => drop(tokio::time::timeout(STOP_WAIT, writer).await),
        false => writer.abort(),
    }
    drop(held);
}

/// How long a node that stops waits until a connection has written what it has.
const STOP_WAIT: Duration = Duration::from_secs(1);

/// Writes what is queued, and pings.
async fn write(mut sink: SplitSink<WebSocket, Message>, mut queue: mpsc::Receiver<Bytes>) {
    let mut pings = interval_at(Instant::now() + PING_PERIOD, PING_PERIOD);
    loop {
        let message = tokio::select! {
            text = queue.recv() => match text.map(Utf8Bytes::try_from) {
                Some(Ok(text)) => Message::Text(text),
                Some(Err(_)) => continue,
                None => break,
            },
            _ = pings.tick() => Message::Ping(Bytes::new()),
        };
        if sink.send(message).await.is_err() {
            return;
        }
    }
    let bye = CloseFrame { code: close_code::AWAY, reason: Utf8Bytes::from_static("") };
    let _ = sink.send(Message::Close(Some(bye))).await;
}

struct Connection {
    handler: Handler,
    subscriptions: Subscriptions,
    out: Out,
    /// `broadcast_tx_sync` under way, in order.
    calls: FuturesOrdered<BoxFuture<'static, Bytes>>,
}

impl Connection {
    /// Carries out what came; false where the connection ends.
    async fn take(&mut self, message: Message) -> bool {
        let body = match message {
            Message::Text(text) => Bytes::from(text),
            Message::Binary(bytes) => bytes,
            Message::Ping(_) | Message::Pong(_) => return true,
            Message::Close(_) => return false,
        };
        if let Err(error) = self.handler.spend(1) {
            let id = parse::<Request<'_>>(&body).ok().and_then(|request| request.id);
            let id = id.and_then(|id| Id::parse(id).ok());
            let reply = refusal(id, &error);
            return self.calls_done().await && send(&self.out, reply).await;
        }
        if parse::<Request<'_>>(&body).is_ok_and(|request| request.is_fast()) {
            let handler = self.handler.clone();
            self.calls.push_back(Box::pin(async move { fast(&handler, &body).await }));
            return true;
        }
        if !self.calls_done().await {
            return false;
        }
        let reply = self.answer(&body).await;
        let is_open = send(&self.out, reply).await;
        self.subscriptions.begin();
        is_open
    }

    /// Waits for what is under way; false where the connection is gone.
    async fn calls_done(&mut self) -> bool {
        while let Some(reply) = self.calls.next().await {
            if !send(&self.out, reply).await {
                return false;
            }
        }
        true
    }

    /// The reply to one request; nothing to a notification.
    async fn answer(&mut self, body: &[u8]) -> Bytes {
        let request = match first::<Option<Request<'_>>>(body) {
            Ok(Some(request)) => request,
            Ok(None) => return Bytes::new(),
            Err(error) => return refusal(None, &error),
        };
        let Some(id) = request.id else { return Bytes::new() };
        let id = match Id::parse(id) {
            Ok(id) => id,
            Err(error) => return refusal(None, &RpcError::parse(&error)),
        };
        let mut json = Vec::with_capacity(REPLY_BYTES);
        let done = match self.subscriptions.call(&request, id).await {
            Some(subscribed) => subscribed.map(|reply| {
                json = reply;
                Room::default()
            }),
            None => self.handler.call(&request, id, &mut json).await.map(|(_, room)| room),
        };
        match done {
            Ok(room) => room.hold(json),
            Err(error) => refusal(Some(id), &error.on_stream()),
        }
    }
}

async fn fast(handler: &Handler, body: &[u8]) -> Bytes {
    let Ok(request) = parse::<Request<'_>>(body) else { return Bytes::new() };
    let Some(id) = request.id else { return Bytes::new() };
    let id = match Id::parse(id) {
        Ok(id) => id,
        Err(error) => return refusal(None, &RpcError::parse(&error)),
    };
    let mut json = Vec::with_capacity(REPLY_BYTES);
    match handler.fast(&request, id, &mut json).await {
        Ok(()) => json.into(),
        Err(error) => refusal(Some(id), &error.on_stream()),
    }
}

/// Queues a reply; false where the connection is gone.
async fn send(out: &Out, reply: Bytes) -> bool {
    reply.is_empty() || out.send(reply).await.is_ok()
}

/// The first JSON value of a message: CometBFT does not look further.
fn first<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, RpcError> {
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<T>();
    match values.next() {
        Some(value) => value.map_err(|error| RpcError::parse(&error.to_string())),
        None => Err(RpcError::parse("EOF")),
    }
}

/// A reply with an error.
fn refusal(id: Option<Id<'_>>, error: &RpcError) -> Bytes {
    let mut out = Vec::with_capacity(REPLY_BYTES);
    jsonrpc::error(&mut out, id, error);
    out.into()
}
