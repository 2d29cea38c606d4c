//! The query API: the JSON-RPC of a node, of which every answer is verified before it is given, so that clients point at it in
//! place of a node.
//!
//! | Route | Verified by |
//! |---|---|
//! | `header`, `header_by_hash`, `blockchain`, `status` | the store: headers that are linked to a confirmed anchor |
//! | `block`, `block_by_hash` | transactions, evidence and last commit by the header's hashes; the last commit's signatures too |
//! | `commit` | the hash in the next header, or for the latest block its signatures; all of them are checked |
//! | `validators` | the header's hash |
//! | `tx` | the proof that it stands in its block; its result as below |
//! | `block_results` | `last_results_hash` of the next header: code, data and gas, and nothing else is given |
//! | `consensus_params` | `consensus_hash`: the limits of blocks, and nothing else is given |
//! | `abci_query` | the proof, for keys that are built here, against the application hash of the next header |
//! | `broadcast_tx_commit` | as `tx`, once the block after it is trusted |
//!
//! `broadcast_tx_sync`, `broadcast_tx_async`, `check_tx` and `broadcast_evidence` are passed on: what a node says of a transaction
//! that is in no block yet is its word. `health` says that this process answers. Everything else is refused, and can be asked for
//! under `/unsafe`, where answers are passed on as they come.

mod call;
mod error;
mod local;
mod metrics;
mod proven;
mod server;
mod shapes;
mod submit;
mod upstream;

pub use self::server::{BindError, CONNECTIONS_MAX, HEAD_BYTES_MAX, REQUEST_BYTES_MAX, Server};
pub use self::upstream::{ANSWER_BYTES_MAX, ASKS_MAX};

use self::call::Params;
use self::error::ApiError;
use self::upstream::{Held, Upstream};
use crate::driver::Progress;
use crate::provider::RpcProvider;
use crate::store::Reader;
use serde_json::Value;
use std::time::Duration;
use tercet_light_core::header::{Header, Height};
use tercet_light_core::options::TrustRoot;
use tercet_light_core::planner::Condition;
use tokio::sync::watch;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long `broadcast_tx_commit` may take, with the block after it.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// What the API answers from.
pub struct Api {
    root: TrustRoot,
    reader: Reader,
    progress: watch::Receiver<Progress>,
    upstream: Upstream,
}

/// Routes and the names of their arguments, in the order in which an array has them.
const ROUTES: [(&str, &[&str]); 19] = [
    ("abci_query", &["path", "data", "height", "prove"]),
    ("block", &["height"]),
    ("block_by_hash", &["hash"]),
    ("block_results", &["height"]),
    ("blockchain", &["minHeight", "maxHeight"]),
    ("broadcast_evidence", &["evidence"]),
    ("broadcast_tx_async", &["tx"]),
    ("broadcast_tx_commit", &["tx"]),
    ("broadcast_tx_sync", &["tx"]),
    ("check_tx", &["tx"]),
    ("commit", &["height"]),
    ("consensus_params", &["height"]),
    ("header", &["height"]),
    ("header_by_hash", &["hash"]),
    ("health", &[]),
    ("status", &[]),
    ("tx", &["hash", "prove"]),
    ("validators", &["height", "page", "per_page"]),
    ("light_status", &[]),
];

/// Routes that no header covers; only under `/unsafe`.
const UNPROVEN: [&str; 12] = [
    "abci_info",
    "block_search",
    "consensus_state",
    "dump_consensus_state",
    "genesis",
    "genesis_chunked",
    "net_info",
    "num_unconfirmed_txs",
    "pbft_state",
    "tx_search",
    "unconfirmed_txs",
    "events",
];

/// An answer; what it holds of the room for large ones is given back once it is written.
struct Answer {
    value: Value,
    held: Option<Held>,
}

impl From<Value> for Answer {
    fn from(value: Value) -> Answer {
        Answer { value, held: None }
    }
}

impl Api {
    /// An API of what `reader` reads and `progress` says is trusted, that asks `providers` for the rest.
    #[must_use]
    pub fn new(
        root: TrustRoot,
        reader: Reader,
        progress: watch::Receiver<Progress>,
        providers: Vec<RpcProvider>,
    ) -> Api {
        Api { root, reader, progress, upstream: Upstream::new(providers) }
    }

    /// Answers one call.
    async fn answer(&self, method: &str, params: &Params) -> Result<Answer, ApiError> {
        let slow = method == "broadcast_tx_commit";
        let limit = if slow { COMMIT_TIMEOUT } else { ANSWER_TIMEOUT };
        let answer = tokio::time::timeout(limit, self.dispatch(method, params)).await;
        answer.unwrap_or_else(|_| {
            Err(ApiError::Refused(format!(
                "{method}: no proven answer within {limit:?}; try again"
            )))
        })
    }

    async fn dispatch(&self, method: &str, params: &Params) -> Result<Answer, ApiError> {
        match method {
            "health" => Ok(serde_json::json!({}).into()),
            "status" => self.status(),
            "light_status" => Ok(self.light_status().into()),
            "header" => self.header(params),
            "header_by_hash" => self.header_by_hash(params),
            "blockchain" => self.blockchain(params),
            "commit" => self.commit(params).await,
            "validators" => self.validators(params).await,
            "block" => self.block(params).await,
            "block_by_hash" => self.block_by_hash(params).await,
            "block_results" => self.block_results(params).await,
            "consensus_params" => self.consensus_params(params).await,
            "tx" => self.tx(params).await,
            "abci_query" => self.abci_query(params).await,
            "broadcast_tx_sync" | "broadcast_tx_async" | "check_tx" => {
                self.pass_tx(method, params).await
            }
            "broadcast_tx_commit" => self.broadcast_tx_commit(params).await,
            "broadcast_evidence" => self.broadcast_evidence(params).await,
            unproven if UNPROVEN.contains(&unproven) => Err(ApiError::Refused(format!(
                "{unproven}: no header covers this answer; ask under /unsafe to get it as a node gives it"
            ))),
            _ => Err(ApiError::NoMethod),
        }
    }

    /// The highest height that may be served as trusted.
    fn trusted(&self) -> Result<Height, ApiError> {
        let status = &self.progress.borrow().status;
        let unconfirmed = || {
            let why = match status.condition {
                Condition::SeekingRoot => "the trusted header was not found yet",
                Condition::RootRefuted => "every provider has another header at the trusted height",
                _ => "too few providers have confirmed a block",
            };
            ApiError::Refused(format!("nothing is trusted yet: {why}"))
        };
        status.trusted.map(|point| point.height).ok_or_else(unconfirmed)
    }

    /// The height asked for, or the latest one of which `above` more headers are trusted.
    fn height(&self, params: &Params, above: u64) -> Result<Height, ApiError> {
        let trusted = self.trusted()?;
        match params.height("height")? {
            None => Ok(trusted.saturating_sub(above).max(1)),
            Some(height) if height.saturating_add(above) <= trusted => Ok(height),
            Some(height) => Err(ApiError::Refused(format!(
                "height {height} is proven by the header of {}, and {trusted} is the latest that is trusted",
                height.saturating_add(above)
            ))),
        }
    }

    /// A header that is trusted.
    fn trusted_header(&self, height: Height) -> Result<Header, ApiError> {
        let trusted = self.trusted()?;
        if height == 0 || height > trusted {
            return Err(ApiError::Refused(format!(
                "height {height} is not trusted yet: the latest is {trusted}"
            )));
        }
        if let Some(header) = self.reader.header(height)? {
            return Ok(header);
        }
        let missing = self.progress.borrow().status.missing;
        let lowest = self.reader.lowest()?.unwrap_or(self.root.height);
        Err(ApiError::Refused(if height < lowest {
            format!(
                "height {height} is not kept: the lowest is {lowest}; fetch more with --fill-from"
            )
        } else if missing > 0 {
            format!("height {height} is not here yet: {missing} headers are missing")
        } else {
            format!("height {height} is not kept: it was pruned")
        }))
    }

    /// Waits until this height is trusted.
    async fn wait_trusted(&self, height: Height) -> Result<(), ApiError> {
        let mut progress = self.progress.clone();
        let reached = |now: &Progress| now.status.trusted.is_some_and(|top| top.height >= height);
        let waited = progress.wait_for(reached).await.map(|_| ());
        waited.map_err(|_| ApiError::Refused("the syncer has ended".to_owned()))
    }
}
