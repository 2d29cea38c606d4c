//! A small JSON-RPC client for a node, and the few reply shapes that this tool reads.
//!
//! It keeps one connection open and speaks to CometBFT and Tercet alike.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::load::http::{Connection, HttpError, post};

/// How long an ordinary call may take.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a call may take that waits for a block.
pub(crate) const COMMIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RpcError {
    /// No exchange with the node.
    #[error("node at {0}")]
    Http(String, #[source] HttpError),
    /// The node answered with an error of its own.
    #[error("{method} at {endpoint}: {text}")]
    Refused {
        /// Who answered.
        endpoint: String,
        /// What was asked.
        method: String,
        /// JSON-RPC error code.
        code: i64,
        /// Message and data.
        text: String,
    },
    /// The answer is not what the method promises.
    #[error("{0}: unexpected answer")]
    Shape(String, #[source] serde_json::Error),
    /// The address is not one.
    #[error("{0:?} is not a node's RPC address: write host:port or http://host:port")]
    Address(String),
}

impl RpcError {
    /// Whether the node does not know the method.
    pub(crate) fn is_unknown_method(&self) -> bool {
        matches!(self, Self::Refused { code: -32601, .. })
    }
}

/// `host:port` of an address written in any of the usual ways.
pub(crate) fn host_port(address: &str) -> Result<String, RpcError> {
    let bare = ["http://", "tcp://"].iter().find_map(|scheme| address.strip_prefix(scheme));
    let bare = bare.unwrap_or(address).trim_end_matches('/').replace("0.0.0.0:", "127.0.0.1:");
    match bare.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(bare),
        _ => Err(RpcError::Address(address.to_owned())),
    }
}

#[derive(Deserialize)]
struct Envelope<T> {
    result: Option<T>,
    error: Option<ErrorBody>,
}

#[derive(Deserialize)]
struct ErrorBody {
    code: i64,
    message: String,
    #[serde(default)]
    data: Option<Value>,
}

/// A client of one node.
#[derive(Debug)]
pub(crate) struct Rpc {
    endpoint: String,
    connection: Option<Connection>,
    timeout: Duration,
}

impl Rpc {
    /// A client for `host:port`; it connects at the first call.
    pub(crate) fn new(endpoint: &str) -> Self {
        Self { endpoint: endpoint.to_owned(), connection: None, timeout: CALL_TIMEOUT }
    }

    /// The same client with another patience.
    pub(crate) fn patient(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Calls `method` and reads its result.
    pub(crate) async fn call<T: DeserializeOwned>(
        &mut self,
        method: &str,
        params: Value,
    ) -> Result<T, RpcError> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let request = post(&self.endpoint, body.to_string().as_bytes());
        let bytes = match self.exchange(&request).await {
            Ok(bytes) => bytes,
            Err(error) => return Err(RpcError::Http(self.endpoint.clone(), error)),
        };
        let shape = |error| RpcError::Shape(format!("{method} at {}", self.endpoint), error);
        let envelope: Envelope<T> = serde_json::from_slice(&bytes).map_err(shape)?;
        match envelope {
            Envelope { error: Some(error), .. } => Err(RpcError::Refused {
                endpoint: self.endpoint.clone(),
                method: method.to_owned(),
                code: error.code,
                text: error.text(),
            }),
            Envelope { result: Some(result), .. } => Ok(result),
            Envelope { .. } => Err(shape(serde::de::Error::custom("neither result nor error"))),
        }
    }

    /// One exchange; once more on a fresh connection where the kept one had been closed meanwhile.
    async fn exchange(&mut self, request: &[u8]) -> Result<Vec<u8>, HttpError> {
        if let Some(connection) = self.connection.take() {
            match self.exchange_on(connection, request).await {
                Err((HttpError::Closed | HttpError::Broken(_), true)) => {}
                other => return other.map_err(|(error, _)| error),
            }
        }
        let connection = Connection::open(&self.endpoint).await?;
        self.exchange_on(connection, request).await.map_err(|(error, _)| error)
    }

    async fn exchange_on(
        &mut self,
        mut connection: Connection,
        request: &[u8],
    ) -> Result<Vec<u8>, (HttpError, bool)> {
        let exchange = async { connection.exchange(request).await.map(|(_, body)| body.to_vec()) };
        match tokio::time::timeout(self.timeout, exchange).await {
            Err(_) => Err((HttpError::Timeout, false)),
            Ok(Err(error)) => Err((error, connection.untouched())),
            Ok(Ok(body)) => {
                self.connection = (!connection.closes()).then_some(connection);
                Ok(body)
            }
        }
    }

    /// `status`, the part that is used here.
    pub(crate) async fn status(&mut self) -> Result<Status, RpcError> {
        self.call("status", json!({})).await
    }

    /// `blockchain`: headers from `min` to `max`, 20 at most, newest first.
    pub(crate) async fn blockchain(&mut self, min: u64, max: u64) -> Result<Chain, RpcError> {
        let params = json!({"minHeight": min.to_string(), "maxHeight": max.to_string()});
        self.call("blockchain", params).await
    }

    /// `commit` of `height`, or of the highest block.
    pub(crate) async fn commit(&mut self, height: Option<u64>) -> Result<Commit, RpcError> {
        let params = height.map_or(json!({}), |height| json!({"height": height.to_string()}));
        let reply: CommitReply = self.call("commit", params).await?;
        Ok(reply.signed_header.commit)
    }

    /// The view and the primary of the height that is being decided: `pbft_state`, or round and
    /// proposer of `consensus_state` where the node is CometBFT and does not know that route.
    pub(crate) async fn pbft_state(&mut self) -> Result<PbftState, RpcError> {
        match self.call("pbft_state", json!({})).await {
            Err(error) if error.is_unknown_method() => {
                let reply: ConsensusState = self.call("consensus_state", json!({})).await?;
                Ok(reply.round_state.into())
            }
            other => other,
        }
    }

    /// `net_info`: how many peers are connected.
    pub(crate) async fn peers(&mut self) -> Result<u64, RpcError> {
        let reply: NetInfo = self.call("net_info", json!({})).await?;
        Ok(reply.n_peers)
    }
}

impl ErrorBody {
    fn text(&self) -> String {
        match &self.data {
            Some(Value::String(data)) if !data.is_empty() => data.clone(),
            _ => self.message.clone(),
        }
    }
}

/// Reads a number that is written as a string.
pub(crate) fn quoted<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// Reply of `status`.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    /// How far the node's chain goes.
    pub(crate) sync_info: SyncInfo,
}

/// `status.sync_info`.
#[derive(Debug, Deserialize)]
pub(crate) struct SyncInfo {
    /// Highest block that the node has; 0 before the first.
    #[serde(deserialize_with = "quoted")]
    pub(crate) latest_block_height: u64,
    /// Lowest block that the node has.
    #[serde(deserialize_with = "quoted")]
    pub(crate) earliest_block_height: u64,
}

/// Reply of `blockchain`.
#[derive(Debug, Deserialize)]
pub(crate) struct Chain {
    /// Headers, newest first.
    #[serde(default)]
    pub(crate) block_metas: Vec<Meta>,
}

/// One block of `blockchain`.
#[derive(Debug, Deserialize)]
pub(crate) struct Meta {
    /// Its header.
    pub(crate) header: MetaHeader,
    /// Number of transactions.
    #[serde(deserialize_with = "quoted")]
    pub(crate) num_txs: u64,
    /// Size in bytes.
    #[serde(deserialize_with = "quoted")]
    pub(crate) block_size: u64,
}

/// Header of a `Meta`.
#[derive(Debug, Deserialize)]
pub(crate) struct MetaHeader {
    /// Height.
    #[serde(deserialize_with = "quoted")]
    pub(crate) height: u64,
    /// Time, RFC 3339.
    pub(crate) time: String,
}

/// Reply of `commit`.
#[derive(Deserialize)]
struct CommitReply {
    signed_header: SignedHeader,
}

#[derive(Deserialize)]
struct SignedHeader {
    commit: Commit,
}

/// The commit of a block, the part that is used here.
#[derive(Debug, Deserialize)]
pub(crate) struct Commit {
    /// The block.
    pub(crate) block_id: BlockId,
    /// One a validator.
    pub(crate) signatures: Vec<CommitSig>,
}

/// The id of a block.
#[derive(Debug, Deserialize)]
pub(crate) struct BlockId {
    /// Its hash in upper-case hex.
    pub(crate) hash: String,
}

/// An entry of a commit.
#[derive(Debug, Deserialize)]
pub(crate) struct CommitSig {
    /// Address of the validator in upper-case hex, empty where it is absent.
    pub(crate) validator_address: String,
}

/// Reply of `pbft_state`.
#[derive(Debug, Deserialize)]
pub(crate) struct PbftState {
    /// The height that is being decided.
    #[serde(deserialize_with = "quoted")]
    pub(crate) height: u64,
    /// Its view.
    pub(crate) view: u64,
    /// Address of that view's primary in upper-case hex, where it is known.
    pub(crate) primary: Option<String>,
    /// The timeout of a view in milliseconds, where it is told.
    #[serde(default)]
    pub(crate) timeout_ms: u64,
}

/// Reply of CometBFT's `consensus_state`.
#[derive(Deserialize)]
struct ConsensusState {
    round_state: RoundState,
}

#[derive(Deserialize)]
struct RoundState {
    #[serde(rename = "height/round/step")]
    position: String,
    proposer: Proposer,
}

#[derive(Deserialize)]
struct Proposer {
    address: String,
}

impl From<RoundState> for PbftState {
    fn from(state: RoundState) -> Self {
        let mut numbers = state.position.split('/').map(|text| text.parse().unwrap_or(0));
        let (height, view) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        Self { height, view, primary: Some(state.proposer.address), timeout_ms: 0 }
    }
}

#[derive(Debug, Deserialize)]
struct NetInfo {
    #[serde(deserialize_with = "quoted")]
    n_peers: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood_however_they_are_written() {
        for written in ["127.0.0.1:26657", "http://127.0.0.1:26657/", "tcp://0.0.0.0:26657"] {
            assert_eq!(host_port(written).expect("address"), "127.0.0.1:26657");
        }
        for written in ["", "127.0.0.1", ":26657", "host:port", "https://example.org"] {
            assert!(host_port(written).is_err(), "{written}");
        }
    }

    #[test]
    fn the_proposer_of_cometbft_stands_for_the_primary() {
        let reply = json!({"round_state": {"height/round/step": "12/1/3", "start_time": "-",
            "proposer": {"address": "AB", "index": 0}}});
        let reply: ConsensusState = serde_json::from_value(reply).expect("read");
        let state = PbftState::from(reply.round_state);
        assert_eq!((state.height, state.view), (12, 1));
        assert_eq!(state.primary.as_deref(), Some("AB"));
    }
}
