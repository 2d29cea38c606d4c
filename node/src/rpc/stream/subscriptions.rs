//! The subscriptions of a connection: `subscribe`, `unsubscribe`, `unsubscribe_all` (CometBFT `rpc/core/events.go`).

use super::super::json;
use super::super::json::events::{EventReply, data};
use super::super::jsonrpc::{self, Id, Request, RpcError};
use super::super::params::{self, Args, Kind, Param};
use super::super::server::Api;
use super::replay::Replay;
use super::{Out, refusal};
use crate::events::bus::{Client, Most};
use crate::events::query::{QUERY_BYTES_MAX, Query};
use crate::events::{End, Event, Subscription};
use bytes::Bytes;
use serde_json::value::RawValue;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// How often an event that waits looks whether its subscription has ended.
const LOOK_FOR_END: Duration = Duration::from_millis(500);
/// How long an event may wait for a place among what is written (CometBFT `rpc/core/events.go`).
const SLOW: Duration = Duration::from_secs(10);
/// The most bytes of events of a connection that wait to be written; one that is larger waits alone.
const OUT_BYTES_MAX: usize = 1 << 20;
/// The unit of that room.
const UNIT_BYTES: usize = 1 << 10;
const QUERY: &[Param] = &[("query", Kind::Text)];
const QUERY_FROM: &[Param] = &[("query", Kind::Text), ("height", Kind::Int64)];

/// Numbers of clients.
static CLIENTS: AtomicU64 = AtomicU64::new(1);

/// The subscriptions of one connection; they end with it.
pub(super) struct Subscriptions {
    api: Api,
    client: Client,
    out: Out,
    /// The room of events that wait to be written.
    room: Arc<Semaphore>,
    /// Cancelled where the connection must end.
    close: CancellationToken,
    /// Subscribed to, and not begun until its reply is queued.
    pending: Option<Pump>,
}

/// Takes events from the bus to the connection.
struct Pump {
    api: Api,
    subscription: Subscription,
    id: String,
    query: String,
    parsed: Query,
    from: Option<u64>,
    out: Out,
    room: Arc<Semaphore>,
    close: CancellationToken,
}

/// An event with the room that it takes until it has left.
struct Held(Vec<u8>, #[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Subscriptions {
    pub(super) fn new(api: &Api, out: Out) -> Subscriptions {
        let client = CLIENTS.fetch_add(1, Ordering::Relaxed);
        let close = CancellationToken::new();
        let room = Arc::new(Semaphore::new(OUT_BYTES_MAX / UNIT_BYTES));
        Subscriptions { api: api.clone(), client, out, room, close, pending: None }
    }

    /// Waits until the connection must end because its client does not read.
    pub(super) async fn closed(&self) {
        self.close.cancelled().await;
    }

    /// The reply, where the request is about subscriptions.
    pub(super) async fn call(
        &mut self,
        request: &Request<'_>,
        id: Id<'_>,
    ) -> Option<Result<Vec<u8>, RpcError>> {
        let done = match request.method.as_ref() {
            "subscribe" => self.subscribe(request, id),
            "unsubscribe" => self.unsubscribe(request),
            "unsubscribe_all" => params::from_json(&[], request.params)
                .map_err(|error| RpcError::json_params(&error))
                .and_then(|_| self.api.sources.bus.unsubscribe_all(self.client).map_err(internal)),
            _ => return None,
        };
        Some(done.map(|()| {
            let mut reply = Vec::new();
            jsonrpc::begin(&mut reply, id);
            reply.extend_from_slice(b"{}");
            jsonrpc::end(&mut reply);
            reply
        }))
    }

    /// Begins what was subscribed to: its reply is queued.
    pub(super) fn begin(&mut self) {
        if let Some(pump) = self.pending.take() {
            tokio::spawn(pump.run());
        }
    }

    fn subscribe(&mut self, request: &Request<'_>, id: Id<'_>) -> Result<(), RpcError> {
        let args = subscribe_args(request)?;
        let (limits, bus) = (&self.api.limits, &self.api.sources.bus);
        let most = Most {
            clients: limits.max_subscription_clients,
            per_client: limits.max_subscriptions_per_client,
            events: limits.subscription_buffer_size,
        };
        // Before the query is looked at, as in CometBFT.
        bus.admits(self.client, most).map_err(internal)?;
        let query = args.text(0).to_owned();
        let parsed = parsed(&query)?;
        let from = self.from(args.int(1))?;
        let subscription = bus.subscribe(self.client, parsed.clone(), most).map_err(internal)?;
        if from.is_some() {
            subscription.pause();
        }
        let mut text = Vec::new();
        id.append(&mut text);
        self.pending = Some(Pump {
            api: self.api.clone(),
            subscription,
            id: String::from_utf8(text).unwrap_or_default(),
            query,
            parsed,
            from,
            out: self.out.clone(),
            room: Arc::clone(&self.room),
            close: self.close.clone(),
        });
        Ok(())
    }

    /// The height to begin from, where one is asked for: from the lowest stored to the one after the highest.
    fn from(&self, asked: Option<i64>) -> Result<Option<u64>, RpcError> {
        let Some(asked) = asked.filter(|asked| *asked != 0) else { return Ok(None) };
        let blocks = &self.api.sources.blocks;
        let value = |height: Option<tendermint::block::Height>| height.map_or(0, |h| h.value());
        let (base, head) = (value(blocks.base()), value(blocks.height()));
        let error = match u64::try_from(asked) {
            Err(_) => format!("height must be greater than 0, but got {asked}"),
            Ok(from) if from > head.saturating_add(1) => format!(
                "height {from} must be less than or equal to the current blockchain height {head}"
            ),
            Ok(from) if from < base => {
                format!("height {from} is not available, lowest height is {base}")
            }
            Ok(from) => return Ok(Some(from)),
        };
        Err(RpcError::internal(error))
    }

    fn unsubscribe(&self, request: &Request<'_>) -> Result<(), RpcError> {
        let args = params::from_json(QUERY, request.params);
        let args = args.map_err(|error| RpcError::json_params(&error))?;
        let query = Query::parse(args.text(0)).map_err(unparsed)?;
        self.api.sources.bus.unsubscribe(self.client, &query).map_err(internal)
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        // Fails where there are none.
        let _ = self.api.sources.bus.unsubscribe_all(self.client);
    }
}

fn subscribe_args(request: &Request<'_>) -> Result<Args, RpcError> {
    let is_short = |raw: &RawValue| {
        serde_json::from_str::<Vec<&RawValue>>(raw.get()).is_ok_and(|list| list.len() != 2)
    };
    // CometBFT's clients may send a list of the query alone.
    let names = if request.params.is_some_and(is_short) { QUERY } else { QUERY_FROM };
    params::from_json(names, request.params).map_err(|error| RpcError::json_params(&error))
}

fn parsed(query: &str) -> Result<Query, RpcError> {
    if query.len() > QUERY_BYTES_MAX {
        return Err(RpcError::internal("maximum query length exceeded"));
    }
    Query::parse(query).map_err(unparsed)
}

fn unparsed(error: impl std::fmt::Display) -> RpcError {
    RpcError::internal(format!("failed to parse query: {error}"))
}

fn internal(error: impl std::fmt::Display) -> RpcError {
    RpcError::internal(error.to_string())
}

/// The client does not read, or is gone.
struct Stuck;

impl Pump {
    /// Tells of older blocks, where that was asked for, then of what happens, until the subscription or the connection ends.
    async fn run(self) {
        let told = match self.replayed().await {
            Ok(Ok(from)) => self.live(from).await,
            Ok(Err(reason)) => self.tell_end(&reason).await,
            Err(stuck) => Err(stuck),
        };
        if told.is_err() && self.api.limits.close_on_slow_client {
            let error = RpcError::cancelled("slow client");
            // A place may be free by now.
            let _ = self.out.try_send(refusal(Some(Id::Raw(&self.id)), &error));
            self.close.cancel();
        }
    }

    /// Older blocks; the height from which on the bus tells.
    async fn replayed(&self) -> Result<Result<u64, String>, Stuck> {
        let Some(from) = self.from else { return Ok(Ok(0)) };
        let mut replay = Replay::new(&self.api, &self.parsed, from);
        for is_live in [false, true] {
            if is_live {
                // Blocks from now on wait in the ring; those that were executed meanwhile are in the store.
                self.subscription.go_live();
            }
            loop {
                if self.subscription.is_ended() {
                    break;
                }
                match replay.next().await {
                    Ok(Some(event)) => self.send(&event).await?,
                    Ok(None) => break,
                    Err(reason) => return Ok(Err(reason)),
                }
            }
        }
        Ok(Ok(replay.height()))
    }

    async fn live(&self, from: u64) -> Result<(), Stuck> {
        loop {
            match self.subscription.next().await {
                Ok(event) if event.block_height().is_some_and(|at| at.value() < from) => {}
                Ok(event) => self.send(&event).await?,
                Err(End::Unsubscribed) => return Ok(()),
                Err(End::OutOfCapacity) if self.api.limits.close_on_slow_client => {
                    return Err(Stuck);
                }
                Err(end) => return self.tell_end(&end.to_string()).await,
            }
        }
    }

    async fn send(&self, event: &Event) -> Result<(), Stuck> {
        let data = data(event);
        // Before it is copied for this client.
        let units = data.len().div_ceil(UNIT_BYTES).clamp(1, OUT_BYTES_MAX / UNIT_BYTES);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        // One that was ended meanwhile keeps no event any longer, and its end is told next.
        let room = tokio::select! {
            () = self.ended() => return Ok(()),
            room = self.in_time(Arc::clone(&self.room).acquire_many_owned(units)) => room?,
        };
        let room = room.map_err(|_| Stuck)?;
        let data = std::str::from_utf8(&data).ok().and_then(|data| serde_json::from_str(data).ok());
        let Some(data) = data else { return Ok(()) };
        let reply = EventReply { query: &self.query, data, events: &event.keys };
        let mut out = Vec::new();
        jsonrpc::begin(&mut out, Id::Raw(&self.id));
        json::append(&mut out, &reply).expect("events always serialize");
        jsonrpc::end(&mut out);
        self.queue(Bytes::from_owner(Held(out, room))).await
    }

    /// Waits until the subscription has ended.
    async fn ended(&self) {
        while !self.subscription.is_ended() {
            tokio::time::sleep(LOOK_FOR_END).await;
        }
    }

    async fn tell_end(&self, reason: &str) -> Result<(), Stuck> {
        let error = RpcError::cancelled(reason);
        self.queue(refusal(Some(Id::Raw(&self.id)), &error)).await
    }

    /// Waits for a place among what is written. Whoever leaves none for long is slow: where that does not end the connection, the ring
    /// fills meanwhile, and that ends the subscription.
    async fn queue(&self, text: Bytes) -> Result<(), Stuck> {
        self.in_time(self.out.send(text)).await?.map_err(|_| Stuck)
    }

    /// Waits; where a slow client's connection is to end, for no longer than CometBFT does. Ends with the connection.
    async fn in_time<T>(&self, waited: impl Future<Output = T>) -> Result<T, Stuck> {
        let most = if self.api.limits.close_on_slow_client { SLOW } else { Duration::MAX };
        tokio::select! {
            () = self.out.closed() => Err(Stuck),
            waited = tokio::time::timeout(most, waited) => waited.map_err(|_| Stuck),
        }
    }
}
