//! The JSON-RPC of CometBFT 0.38 nodes: `status`, `blockchain`, `commit` and `validators`, in batches where the node takes them.

use super::http::{Endpoint, Http};
use super::json::{self, BlockMetas, Signed, Status, ValidatorsPage};
use super::{Provider, Reply, Submitted, evidence_params};
use bytes::Bytes;
use prost::Message as _;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tercet_consensus::validators::{VALIDATORS_MAX, Validators};
use tercet_light_core::block::UntrustedBlock;
use tercet_light_core::chain::{LinkedRun, RunRequest};
use tercet_light_core::commit::Commit;
use tercet_light_core::evidence::AttackEvidence;
use tercet_light_core::hash::Hash;
use tercet_light_core::header::{Header, Height};
use tercet_light_core::planner::{Answer, Failure, Fault, What};

/// The most headers of one `blockchain` (CometBFT `rpc/core/blocks.go`, `BlockchainInfo`).
const METAS_MAX: u64 = 20;
/// The most calls of one batch, what CometBFT and Tercet take as they come.
const BATCH_MAX: usize = 10;
/// How many headers are best asked for at once: one batch.
pub const RUN_HEADERS: u64 = METAS_MAX * BATCH_MAX as u64;
/// The most validators of one page (CometBFT `rpc/core/env.go`, `maxPerPage`).
const PAGE_MAX: usize = 100;
/// The most bytes of one validator as protobuf.
const VALIDATOR_BYTES_MAX: usize = 100;
/// How many times longer JSON is than protobuf, at most: hexadecimal, names of fields, and a block's id beside its header.
const JSON_FACTOR: usize = 4;
/// What an envelope may have beside its result.
const ENVELOPE_BYTES_MAX: usize = 64 << 10;
/// The most validator sets that are kept, by their hash.
const SETS_MAX: usize = 8;

/// A node that is asked over JSON-RPC.
#[derive(Clone, Debug)]
pub struct RpcProvider {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: Http,
    /// Whether the node takes batches, as far as is known.
    batches: AtomicBool,
    /// Sets by their hash, which says all about them, so that most blocks need no set.
    sets: Mutex<VecDeque<(Hash, Arc<Validators>)>>,
}

impl RpcProvider {
    /// A provider at this endpoint; nothing is connected before something is asked.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> RpcProvider {
        let (batches, sets) = (AtomicBool::new(true), Mutex::default());
        RpcProvider { inner: Arc::new(Inner { http: Http::new(endpoint), batches, sets }) }
    }
}

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// No answer, or none that is JSON-RPC.
    Failed(Failure),
    /// The node answered with an error.
    Node {
        /// Its message.
        message: String,
        /// What more it says.
        data: String,
    },
}

impl RpcProvider {
    /// The result of any call, as it came; its JSON has at most `bytes_max` bytes.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn result(
        &self,
        method: &str,
        params: &Value,
        bytes_max: usize,
    ) -> Result<Box<RawValue>, CallError> {
        let body = call(0, method, params).to_string();
        let reply = self.inner.http.post(body.into(), bytes_max).await;
        json::raw(&reply.map_err(CallError::Failed)?)
    }

    /// Its address.
    #[must_use]
    pub fn shown_name(&self) -> &str {
        self.inner.http.name()
    }
}

impl Provider for RpcProvider {
    fn name(&self) -> &str {
        self.inner.http.name()
    }

    fn ask(&self, what: &What, bytes_max: usize) -> Reply {
        let (inner, what) = (Arc::clone(&self.inner), what.clone());
        let bytes_max = bytes_max.saturating_mul(JSON_FACTOR).saturating_add(ENVELOPE_BYTES_MAX);
        Box::pin(async move { inner.answer(what, bytes_max).await })
    }

    fn submit(&self, evidence: &AttackEvidence) -> Submitted {
        let (provider, params) = (self.clone(), evidence_params(evidence));
        Box::pin(async move {
            let answer = provider.result("broadcast_evidence", &params, ENVELOPE_BYTES_MAX).await;
            match answer {
                Ok(_) => Ok(()),
                Err(CallError::Node { message, data }) => Err(format!("{message}: {data}")),
                Err(CallError::Failed(_)) => Err("it did not answer".to_owned()),
            }
        })
    }
}

fn malformed() -> Failure {
    Failure::Malformed(Fault::Malformed)
}

impl Inner {
    async fn answer(&self, what: What, bytes_max: usize) -> Result<Answer, Failure> {
        Ok(match what {
            What::Status => {
                let body = call(0, "status", &json!({})).to_string();
                let (reply, date) = self.http.post_dated(body.into(), bytes_max).await?;
                Answer::Status(json::single::<Status>(&reply)?.claim(date)?)
            }
            What::Block(height) => Answer::Block(Box::new(self.block(height, bytes_max).await?)),
            What::Header(height) => Answer::Header(self.header(height, bytes_max).await?),
            What::Run(request) => Answer::Run(self.run(request, bytes_max).await?),
            What::Commits { low, high } => {
                Answer::Commits(self.commits(low, high, bytes_max).await?)
            }
            What::Validators(height) => Answer::Validators(self.validators(height).await?),
        })
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        params: Value,
        bytes_max: usize,
    ) -> Result<T, Failure> {
        let body = call(0, method, &params).to_string();
        json::single(&self.http.post(body.into(), bytes_max).await?)
    }

    /// The reply's body to several calls of a method; to the first alone where the node takes no batches. And to how many it is.
    async fn calls(
        &self,
        method: &str,
        params: &[Value],
        bytes_max: usize,
    ) -> Result<(Bytes, usize), Failure> {
        if params.len() > 1 && self.batches.load(Ordering::Relaxed) {
            let calls: Vec<Value> =
                (0..).zip(params).map(|(number, params)| call(number, method, params)).collect();
            let body = Value::from(calls).to_string();
            let reply = self.http.post(body.into(), bytes_max).await?;
            if !json::refuses_batch(&reply) {
                return Ok((reply, params.len()));
            }
            self.batches.store(false, Ordering::Relaxed);
        }
        let first = params.first().ok_or_else(malformed)?;
        let body = call(0, method, first).to_string();
        Ok((self.http.post(body.into(), bytes_max).await?, 1))
    }

    async fn block(
        &self,
        height: Option<Height>,
        bytes_max: usize,
    ) -> Result<UntrustedBlock, Failure> {
        let params = height.map_or(json!({}), at);
        let signed: Signed = self.call("commit", params, bytes_max).await?;
        let (header, commit) = signed.parts()?;
        let height = header.height();
        let validators = self.set(header.validators_hash(), height).await?;
        let next = self.set(header.next_validators_hash(), height + 1).await?;
        Ok(UntrustedBlock { header, commit, validators, next_validators: Some(next) })
    }

    /// The set with this hash, which the height should have. Where it has another one, the core will say so.
    async fn set(&self, hash: Hash, height: Height) -> Result<Arc<Validators>, Failure> {
        let known = |sets: &VecDeque<(Hash, Arc<Validators>)>| {
            sets.iter().find(|(of, _)| *of == hash).map(|(_, set)| Arc::clone(set))
        };
        if let Some(set) = self.sets.lock().ok().and_then(|sets| known(&sets)) {
            return Ok(set);
        }
        let set = self.validators(height).await?;
        if let (Ok(mut sets), Some(hash)) = (self.sets.lock(), Hash::from_tendermint(set.hash())) {
            sets.retain(|(of, _)| *of != hash);
            sets.truncate(SETS_MAX - 1);
            sets.push_front((hash, Arc::clone(&set)));
        }
        Ok(set)
    }

    async fn validators(&self, height: Height) -> Result<Arc<Validators>, Failure> {
        let bytes_max = PAGE_MAX * VALIDATOR_BYTES_MAX * JSON_FACTOR + ENVELOPE_BYTES_MAX;
        let mut infos = vec![];
        for page in 1.. {
            let params = json!({
                "height": height.to_string(), "page": page.to_string(),
                "per_page": PAGE_MAX.to_string(),
            });
            let reply: ValidatorsPage = self.call("validators", params, bytes_max).await?;
            let total = reply.total().filter(|total| *total <= VALIDATORS_MAX);
            let total = total.ok_or_else(malformed)?;
            if reply.height() != Some(height) || reply.validators.is_empty() {
                return Err(Failure::Malformed(Fault::NotAsked));
            }
            infos.extend(reply.validators);
            if infos.len() > total {
                return Err(malformed());
            }
            if infos.len() == total {
                break;
            }
        }
        Ok(UntrustedBlock::validators(&infos)?)
    }

    /// By `blockchain`, which nodes of all versions have.
    async fn header(&self, height: Height, bytes_max: usize) -> Result<Header, Failure> {
        let metas: BlockMetas = self.call("blockchain", between(height, height), bytes_max).await?;
        let raw = metas.headers().next().ok_or(Failure::NotYet)?;
        json::header(&raw)
    }

    async fn run(&self, request: RunRequest, bytes_max: usize) -> Result<LinkedRun, Failure> {
        let mut params = vec![];
        let mut high = request.high;
        while high >= request.low.max(1) && params.len() < BATCH_MAX {
            let low = request.low.max((high + 1).saturating_sub(METAS_MAX)).max(1);
            params.push(between(low, high));
            high = low - 1;
        }
        let (body, calls) = self.calls("blockchain", &params, bytes_max).await?;
        let link = move || link(&request, &body, calls);
        tokio::task::spawn_blocking(link).await.map_err(|_| Failure::Unavailable)?
    }

    async fn commits(
        &self,
        low: Height,
        high: Height,
        bytes_max: usize,
    ) -> Result<Vec<Commit>, Failure> {
        let params: Vec<Value> = (low..=high).take(BATCH_MAX).map(at).collect();
        let (body, calls) = self.calls("commit", &params, bytes_max).await?;
        let commit = |signed: Signed| signed.parts().map(|(_, commit)| commit);
        if calls == 1 {
            return Ok(vec![commit(json::single(&body)?)?]);
        }
        let replies = json::batch(&body, calls)?;
        replies.iter().map(|reply| commit(reply.result()?)).collect()
    }
}

/// The headers of a batch of `blockchain`, which come from the highest down, linked: as far down as there is no gap.
fn link(request: &RunRequest, body: &[u8], calls: usize) -> Result<LinkedRun, Failure> {
    let replies: Vec<BlockMetas> = if calls == 1 {
        vec![json::single(body)?]
    } else {
        let replies = json::batch(body, calls)?;
        // What the node does not have below is asked of somebody else.
        let first = replies.first().ok_or_else(malformed)?.result()?;
        let rest = replies.iter().skip(1).map_while(|reply| reply.result().ok());
        std::iter::once(first).chain(rest).collect()
    };
    let mut wanted = request.high;
    let mut headers: Vec<Bytes> = vec![];
    for raw in replies.into_iter().flat_map(BlockMetas::headers) {
        if wanted < request.low.max(1) || u64::try_from(raw.height) != Ok(wanted) {
            break;
        }
        headers.push(raw.encode_to_vec().into());
        wanted -= 1;
    }
    if headers.is_empty() {
        return Err(Failure::NotYet);
    }
    headers.reverse();
    Ok(LinkedRun::link(request, headers)?)
}

fn call(id: i64, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

fn at(height: Height) -> Value {
    json!({ "height": height.to_string() })
}

fn between(low: Height, high: Height) -> Value {
    json!({ "minHeight": low.to_string(), "maxHeight": high.to_string() })
}
