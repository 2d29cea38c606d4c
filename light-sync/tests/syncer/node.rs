//! A node's RPC for a generated chain.

use crate::content;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tendermint_proto::v0_38::types as pb;
use tercet_light_core::header::Height;
use tercet_light_core::testing::chain::{Chain, Spec};
use tercet_light_core::testing::world::changed;
use tercet_light_core::time::Time;
use tercet_light_sync::clock;
use tercet_light_sync::provider::RpcProvider;
use tokio::net::TcpListener;

/// How a node behaves.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    Honest,
    /// Of this height it serves another header.
    Lies(Height),
    /// It accepts questions and never answers.
    Silent,
    /// Its answers never end.
    Endless,
    Garbage,
    /// It says that it is of this chain.
    NamesChain(String),
    /// 429, with `Retry-After`.
    Busy(u64),
    /// It sends everybody there.
    Redirects(String),
    /// It answers a batch with an error.
    NoBatches,
    /// It has nothing below this height.
    Pruned(Height),
    /// Its answers are compressed, though nobody asked for it.
    Zipped,
    /// Its clock says this (HTTP's Date).
    Dates(&'static str),
    /// In the result of this method, what stands there is another value.
    Forges(&'static str, &'static str, Value),
}

struct State {
    chain: Mutex<Chain>,
    manner: Manner,
    /// Heights of each `blockchain`.
    runs: Mutex<Vec<(Height, Height)>>,
    posts: AtomicUsize,
    /// Evidence that it was given.
    evidence: Mutex<Vec<Value>>,
    /// How many runs of several headers are served still.
    runs_left: AtomicUsize,
}

/// A node that serves until it is dropped.
pub(crate) struct Node {
    pub(crate) url: String,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A chain whose last block is some minutes old.
pub(crate) fn chain(last: Height) -> Chain {
    Chain::new(spec(last))
}

/// One whose blocks can be asked for too.
pub(crate) fn chain_with_contents(last: Height) -> Chain {
    Chain::new(Spec { commits: true, contents: true, ..spec(last) })
}

fn spec(last: Height) -> Spec {
    let ago = 3_600.max(last.cast_signed() * 2);
    let start = Time::from_unix(clock::now().unix_seconds() - ago, 5).unwrap();
    Spec { last, start, rotate_every: 50, rotate_count: 1, ..Spec::default() }
}

type Body = BoxBody<Bytes, Infallible>;

impl Node {
    pub(crate) async fn new(chain: &Chain, manner: Manner) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            chain: Mutex::new(chain.clone()),
            manner,
            runs: Mutex::default(),
            posts: AtomicUsize::new(0),
            evidence: Mutex::default(),
            runs_left: AtomicUsize::new(usize::MAX),
        });
        let served = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&served);
                let service = service_fn(move |request| serve(Arc::clone(&state), request));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Node { url, state, task }
    }

    pub(crate) fn provider(&self) -> RpcProvider {
        RpcProvider::new(self.url.parse().unwrap())
    }

    /// Heights of each `blockchain` so far.
    pub(crate) fn runs(&self) -> Vec<(Height, Height)> {
        self.state.runs.lock().unwrap().clone()
    }

    pub(crate) fn posts(&self) -> usize {
        self.state.posts.load(Ordering::SeqCst)
    }

    pub(crate) fn evidence(&self) -> Vec<Value> {
        self.state.evidence.lock().unwrap().clone()
    }

    /// How many runs it still serves.
    pub(crate) fn runs_left(&self) -> usize {
        self.state.runs_left.load(Ordering::SeqCst)
    }

    /// Serves so many runs of headers and no more.
    pub(crate) fn limit_runs(&self, count: usize) {
        self.state.runs_left.store(count, Ordering::SeqCst);
    }

    pub(crate) fn grow(&self, last: Height) {
        self.state.chain.lock().unwrap().grow(last);
    }
}

fn whole(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).boxed()
}

async fn serve(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let response = |status: u16, body: Body| Response::builder().status(status).body(body).unwrap();
    state.posts.fetch_add(1, Ordering::SeqCst);
    let body = request.into_body().collect().await.unwrap().to_bytes();
    Ok(match &state.manner {
        Manner::Silent => {
            std::future::pending::<()>().await;
            response(200, whole(""))
        }
        Manner::Zipped => {
            // The beginning of what gzip makes of a long text.
            let mut zipped = response(200, whole(&b"\x1f\x8b\x08\0\0\0\0\0\0\x03"[..]));
            zipped.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
            zipped
        }
        Manner::Garbage => response(200, whole("<html>it works</html>")),
        Manner::Endless => response(200, endless()),
        Manner::Busy(seconds) => {
            let mut busy = response(429, whole("later"));
            busy.headers_mut().insert("retry-after", seconds.to_string().parse().unwrap());
            busy
        }
        Manner::Redirects(to) => {
            let mut moved = response(307, whole(""));
            moved.headers_mut().insert("location", to.parse().unwrap());
            moved
        }
        _ => match replies(&state, &serde_json::from_slice(&body).unwrap()) {
            Some(reply) => {
                let mut response = response(200, whole(reply.to_string()));
                if let Manner::Dates(date) = &state.manner {
                    response.headers_mut().insert("date", date.parse().unwrap());
                }
                response
            }
            None => response(503, whole("no more")),
        },
    })
}

fn endless() -> Body {
    let start = Bytes::from_static(b"{\"result\":\"");
    let more = Bytes::from(vec![b'a'; 16 << 10]);
    let all = std::iter::once(start).chain(std::iter::repeat(more));
    StreamBody::new(futures::stream::iter(all.map(|part| Ok(Frame::data(part))))).boxed()
}

fn replies(state: &State, body: &Value) -> Option<Value> {
    let Some(calls) = body.as_array() else { return reply(state, body) };
    if matches!(state.manner, Manner::NoBatches) {
        return Some(json!({ "jsonrpc": "2.0", "id": -1, "error": { "code": -32600,
            "message": "Invalid Request", "data": "batch request exceeds maximum" } }));
    }
    calls.iter().map(|call| reply(state, call)).collect::<Option<Vec<_>>>().map(Value::from)
}

fn reply(state: &State, call: &Value) -> Option<Value> {
    let params = &call["params"];
    let number = |name: &str| params[name].as_str().map(|text| text.parse::<u64>().unwrap());
    let mut chain = state.chain.lock().unwrap();
    let last = chain.spec.last;
    let first = if let Manner::Pruned(first) = state.manner { first } else { chain.spec.first };
    let height = number("height").or(number("maxHeight")).unwrap_or(last);
    let most = if call["method"] == "validators" { last + 1 } else { last };
    let error = |data: String| {
        Some(json!({ "jsonrpc": "2.0", "id": call["id"], "error": {
            "code": -32603, "message": "Internal error", "data": data } }))
    };
    if call["method"] != "blockchain" && height > most {
        return error(format!(
            "height {height} must be less than or equal to the current blockchain height {last}"
        ));
    }
    if height < first {
        return error(format!("height {height} is not available, lowest height is {first}"));
    }
    let result = match call["method"].as_str().unwrap() {
        "status" => status(state, &chain, first),
        "commit" => json!({ "canonical": true, "signed_header": {
            "header": header(state, &chain, height), "commit": commit(&chain, height) } }),
        "validators" => validators(&mut chain, height, number("page").unwrap_or(1)),
        "blockchain" => {
            let low = number("minHeight").unwrap().max(first);
            let high = height.min(last);
            if low > high {
                return error(format!("min height {low} can't be greater than max height {high}"));
            }
            state.runs.lock().unwrap().push((low, high));
            let is_run = low < high;
            let left = |left: usize| left.checked_sub(usize::from(is_run));
            state.runs_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).ok()?;
            let metas = (low.max((high + 1).saturating_sub(20))..=high).rev();
            let metas: Vec<Value> =
                metas.map(|height| json!({ "header": header(state, &chain, height) })).collect();
            json!({ "last_height": last.to_string(), "block_metas": metas })
        }
        "broadcast_evidence" => {
            state.evidence.lock().unwrap().push(params["evidence"].clone());
            json!({ "hash": "00" })
        }
        method => match content::reply(&chain, method, params, height) {
            Ok(result) => result,
            Err(data) => return error(data),
        },
    };
    let mut result = result;
    if let Manner::Forges(method, pointer, value) = &state.manner
        && call["method"] == *method
    {
        *result.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value.clone();
    }
    Some(json!({ "jsonrpc": "2.0", "id": call["id"], "result": result }))
}

fn status(state: &State, chain: &Chain, first: Height) -> Value {
    let network = match &state.manner {
        Manner::NamesChain(name) => name.clone(),
        _ => chain.spec.chain_id.clone(),
    };
    let last = chain.spec.last;
    json!({ "node_info": { "network": network }, "sync_info": {
        "latest_block_height": last.to_string(),
        "latest_block_time": chain.header(last).time().to_tendermint(),
        "earliest_block_height": first.to_string() } })
}

fn header(state: &State, chain: &Chain, height: Height) -> Value {
    let header = chain.header(height);
    let header = match state.manner {
        Manner::Lies(at) if at == height => changed(header),
        _ => header.clone(),
    };
    serde_json::to_value(pb::Header::decode(header.bytes().clone()).unwrap()).unwrap()
}

pub(crate) fn commit(chain: &Chain, height: Height) -> Value {
    let commit = pb::Commit::decode(chain.commit(height).encode().as_slice()).unwrap();
    serde_json::to_value(commit).unwrap()
}

fn validators(chain: &mut Chain, height: Height, page: u64) -> Value {
    let infos = chain.set(height).to_tendermint();
    let page = usize::try_from(page).unwrap() - 1;
    let part: Vec<_> = infos.iter().skip(page * 100).take(100).collect();
    json!({ "block_height": height.to_string(), "validators": part,
        "count": part.len().to_string(), "total": infos.len().to_string() })
}

/// Longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(60);
