//! The routes: one table with names and arguments, one function a route.

mod abci;
mod chain;
mod consensus;
mod control;
mod evidence;
mod node;
pub(crate) mod proof;
mod search;
mod txs;

use super::jsonrpc::RpcError;
use super::params::{Args, Kind, Param};
use super::replies::Room;
use super::server::Api;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
pub(crate) use txs::{broadcast_sync, commit};

/// How long a search waits for others.
const SEARCH_WAIT: Duration = Duration::from_millis(300);

/// A route.
pub(crate) struct Route {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its arguments, in order.
    pub(crate) params: &'static [Param],
    /// What it does.
    pub(crate) method: Method,
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Health,
    Status,
    NetInfo,
    Genesis,
    GenesisChunked,
    Blockchain,
    Block,
    BlockByHash,
    BlockResults,
    Commit,
    Header,
    HeaderByHash,
    Validators,
    ConsensusParams,
    Tx,
    TxSearch,
    BlockSearch,
    AbciInfo,
    AbciQuery,
    CheckTx,
    BroadcastTxAsync,
    BroadcastTxSync,
    BroadcastTxCommit,
    BroadcastEvidence,
    NumUnconfirmedTxs,
    UnconfirmedTxs,
    PbftState,
    ConsensusState,
    DumpConsensusState,
    DialSeeds,
    DialPeers,
    FlushMempool,
}

/// Routes that exist only on the event stream.
pub(crate) const STREAM_ONLY: [&str; 3] = ["subscribe", "unsubscribe", "unsubscribe_all"];

const HEIGHT: &[Param] = &[("height", Kind::Int64)];
const TX: &[Param] = &[("tx", Kind::Tx)];
const EVIDENCE: &[Param] = &[("evidence", Kind::Evidence)];
const PAGED: &[Param] = &[("height", Kind::Int64), ("page", Kind::Int), ("per_page", Kind::Int)];
const RANGE: &[Param] = &[("minHeight", Kind::Int64), ("maxHeight", Kind::Int64)];
const QUERY: &[Param] = &[
    ("path", Kind::Text),
    ("data", Kind::HexBytes),
    ("height", Kind::Int64),
    ("prove", Kind::Bool),
];

const TX_BY_HASH: &[Param] = &[("hash", Kind::Bytes), ("prove", Kind::Bool)];
const TX_SEARCH: &[Param] = &[
    ("query", Kind::Text),
    ("prove", Kind::Bool),
    ("page", Kind::Int),
    ("per_page", Kind::Int),
    ("order_by", Kind::Text),
];
const PEERS: &[Param] = &[
    ("peers", Kind::Texts),
    ("persistent", Kind::Bool),
    ("unconditional", Kind::Bool),
    ("private", Kind::Bool),
];
const BLOCK_SEARCH: &[Param] = &[
    ("query", Kind::Text),
    ("page", Kind::Int),
    ("per_page", Kind::Int),
    ("order_by", Kind::Text),
];

/// Every route (CometBFT `rpc/core/routes.go`; `pbft_state` is ours).
pub(crate) const ROUTES: &[Route] = &[
    route("broadcast_tx_sync", TX, Method::BroadcastTxSync),
    route("broadcast_tx_async", TX, Method::BroadcastTxAsync),
    route("broadcast_tx_commit", TX, Method::BroadcastTxCommit),
    route("broadcast_evidence", EVIDENCE, Method::BroadcastEvidence),
    route("health", &[], Method::Health),
    route("status", &[], Method::Status),
    route("net_info", &[], Method::NetInfo),
    route("genesis", &[], Method::Genesis),
    route("genesis_chunked", &[("chunk", Kind::Uint)], Method::GenesisChunked),
    route("blockchain", RANGE, Method::Blockchain),
    route("block", HEIGHT, Method::Block),
    route("block_by_hash", &[("hash", Kind::Bytes)], Method::BlockByHash),
    route("block_results", HEIGHT, Method::BlockResults),
    route("commit", HEIGHT, Method::Commit),
    route("header", HEIGHT, Method::Header),
    route("header_by_hash", &[("hash", Kind::HexBytes)], Method::HeaderByHash),
    route("validators", PAGED, Method::Validators),
    route("consensus_params", HEIGHT, Method::ConsensusParams),
    route("tx", TX_BY_HASH, Method::Tx),
    route("tx_search", TX_SEARCH, Method::TxSearch),
    route("block_search", BLOCK_SEARCH, Method::BlockSearch),
    route("abci_info", &[], Method::AbciInfo),
    route("abci_query", QUERY, Method::AbciQuery),
    route("check_tx", TX, Method::CheckTx),
    route("num_unconfirmed_txs", &[], Method::NumUnconfirmedTxs),
    route("unconfirmed_txs", &[("limit", Kind::Int)], Method::UnconfirmedTxs),
    route("pbft_state", &[], Method::PbftState),
    route("consensus_state", &[], Method::ConsensusState),
    route("dump_consensus_state", &[], Method::DumpConsensusState),
    route("dial_seeds", &[("seeds", Kind::Texts)], Method::DialSeeds),
    route("dial_peers", PEERS, Method::DialPeers),
    route("unsafe_flush_mempool", &[], Method::FlushMempool),
];

#[cfg(test)]
impl Route {
    /// Whether it is there by configuration alone.
    pub(crate) fn is_unsafe(&self) -> bool {
        self.method.is_unsafe()
    }
}

const fn route(name: &'static str, params: &'static [Param], method: Method) -> Route {
    Route { name, params, method }
}

/// The route with this name.
pub(crate) fn find(name: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.name == name)
}

/// The route with this name, where this server has it.
pub(crate) fn served(api: &Api, name: &str) -> Option<&'static Route> {
    find(name).filter(|route| is_served(api, route))
}

/// Whether this server has the route.
pub(crate) fn is_served(api: &Api, route: &Route) -> bool {
    let limits = &api.limits;
    (!limits.stored_only || route.method.is_stored())
        && (limits.has_unsafe || !route.method.is_unsafe())
}

impl Method {
    /// Whether it changes what the node does, beyond what any client may.
    fn is_unsafe(self) -> bool {
        matches!(self, Method::DialSeeds | Method::DialPeers | Method::FlushMempool)
    }

    /// Whether it reads stored blocks and states alone (CometBFT `inspect/rpc/rpc.go`, `Routes`).
    fn is_stored(self) -> bool {
        match self {
            Method::Blockchain
            | Method::Block
            | Method::BlockByHash
            | Method::BlockResults
            | Method::Commit
            | Method::Header
            | Method::HeaderByHash
            | Method::Validators
            | Method::ConsensusParams
            | Method::Tx
            | Method::TxSearch
            | Method::BlockSearch => true,
            Method::Health
            | Method::Status
            | Method::NetInfo
            | Method::Genesis
            | Method::GenesisChunked
            | Method::AbciInfo
            | Method::AbciQuery
            | Method::CheckTx
            | Method::BroadcastTxAsync
            | Method::BroadcastTxSync
            | Method::BroadcastTxCommit
            | Method::BroadcastEvidence
            | Method::NumUnconfirmedTxs
            | Method::UnconfirmedTxs
            | Method::PbftState
            | Method::ConsensusState
            | Method::DumpConsensusState
            | Method::DialSeeds
            | Method::DialPeers
            | Method::FlushMempool => false,
        }
    }
}

/// What a route answers.
pub(crate) struct Answer {
    /// The result, as JSON.
    pub(crate) json: Vec<u8>,
    /// Whether it never changes, so that caches may keep it.
    pub(crate) cacheable: bool,
    /// What it holds until it has left.
    pub(crate) room: Room,
}

impl Answer {
    fn new<T: serde::Serialize>(value: &T) -> Result<Answer, String> {
        let mut json = Vec::with_capacity(ANSWER_BYTES);
        super::json::append(&mut json, value)
            .map_err(|error| format!("error marshaling response: {error}"))?;
        Ok(Answer { json, cacheable: false, room: Room::default() })
    }

    fn cacheable(mut self, cacheable: bool) -> Answer {
        self.cacheable = cacheable;
        self
    }
}

/// What is reserved for an answer at first.
const ANSWER_BYTES: usize = 1024;

/// Carries out a call.
///
/// # Errors
/// Where the route cannot answer, with the text that belongs into `data`.
pub(crate) async fn call(api: &Api, method: Method, args: Args) -> Result<Answer, RpcError> {
    let answer = match method {
        Method::Health => {
            Ok(Answer { json: b"{}".to_vec(), cacheable: false, room: Room::default() })
        }
        Method::AbciInfo => abci::info(api).await,
        Method::CheckTx => txs::check(api, args.bytes(0)).await,
        Method::BroadcastTxAsync => txs::broadcast_async(api, args.bytes(0)),
        Method::BroadcastTxSync => {
            let mut json = Vec::with_capacity(ANSWER_BYTES);
            let sent = broadcast_sync(api, args.bytes(0), &mut json).await;
            sent.map(|()| Answer { json, cacheable: false, room: Room::default() })
        }
        Method::BroadcastTxCommit => txs::broadcast_commit(api, args.bytes(0)).await,
        Method::BroadcastEvidence => evidence::broadcast(api, args.bytes(0)).await,
        Method::NumUnconfirmedTxs => txs::count_unconfirmed(api),
        Method::DialSeeds => control::dial_seeds(api, &args),
        Method::DialPeers => control::dial_peers(api, &args),
        Method::FlushMempool => control::flush_mempool(api).await,
        Method::Genesis | Method::GenesisChunked | Method::AbciQuery | Method::UnconfirmedTxs => {
            asking(api, method, args).await
        }
        searching @ (Method::TxSearch | Method::BlockSearch) => {
            search_soon(api, (searching, args)).await
        }
        stored => blocking(api, &api.reads, (stored, args)).await,
    };
    answer.map_err(RpcError::internal)
}

/// Searches answer soon or not at all.
async fn search_soon(api: &Api, call: (Method, Args)) -> Result<Answer, String> {
    let place = Arc::clone(&api.searches).acquire_owned();
    let place = tokio::time::timeout(SEARCH_WAIT, place).await;
    let place = place.map_err(|_| "too many searches are under way, try again".to_owned())?;
    in_place(api, place.map_err(|error| error.to_string())?, call).await
}

/// Routes whose answers may be large and do not come from the store: few at a time, until there is room for the answer.
async fn asking(api: &Api, method: Method, args: Args) -> Result<Answer, String> {
    let place = api.bounded(Arc::clone(&api.asks).acquire_owned()).await?;
    let _place = place.map_err(|error| error.to_string())?;
    let mut answer = match method {
        Method::Genesis => node::genesis(api),
        Method::GenesisChunked => node::genesis_chunked(api, &args),
        Method::AbciQuery => abci::query(api, &args).await,
        _ => txs::unconfirmed(api, &args).await,
    }?;
    answer.room = Room::take(api, answer.json.len()).await?;
    Ok(answer)
}

/// Routes that read the store run on the blocking threads, so that the disk never delays a transaction.
async fn blocking(
    api: &Api,
    places: &Arc<Semaphore>,
    (method, args): (Method, Args),
) -> Result<Answer, String> {
    // A call that is given up keeps its place until its read is done; another until there is room for its answer.
    let place = api.bounded(Arc::clone(places).acquire_owned()).await?;
    in_place(api, place.map_err(|error| error.to_string())?, (method, args)).await
}

/// The same with a place.
async fn in_place(
    api: &Api,
    place: OwnedSemaphorePermit,
    (method, args): (Method, Args),
) -> Result<Answer, String> {
    let reading = api.clone();
    let read = move || match method {
        Method::Status => node::status(&reading),
        Method::NetInfo => node::net_info(&reading),
        Method::PbftState => node::pbft_state(&reading),
        Method::ConsensusState => consensus::consensus_state(&reading),
        Method::DumpConsensusState => consensus::dump(&reading),
        Method::Blockchain => chain::blockchain(&reading, &args),
        Method::Block => chain::block(&reading, &args),
        Method::BlockByHash => chain::block_by_hash(&reading, &args),
        Method::BlockResults => chain::block_results(&reading, &args),
        Method::Commit => chain::commit(&reading, &args),
        Method::Header => chain::header(&reading, &args),
        Method::HeaderByHash => chain::header_by_hash(&reading, &args),
        Method::Validators => chain::validators(&reading, &args),
        Method::ConsensusParams => chain::consensus_params(&reading, &args),
        Method::Tx => search::tx(&reading, &args),
        Method::TxSearch => search::tx_search(&reading, &args),
        Method::BlockSearch => search::block_search(&reading, &args),
        _ => Err("the route does not read the store".to_owned()),
    };
    let read = move || (read(), place);
    let Ok((answer, _place)) = tokio::task::spawn_blocking(read).await else {
        return Err("the call was cancelled".to_owned());
    };
    let mut answer = answer?;
    answer.room = Room::take(api, answer.json.len()).await?;
    Ok(answer)
}

/// The page that is asked for, counted from 1, where there are so many entries.
fn page(asked: Option<i64>, per_page: usize, total: usize) -> Result<usize, String> {
    let pages = total.div_ceil(per_page).max(1);
    let asked = asked.unwrap_or(1);
    let page = usize::try_from(asked).ok().filter(|page| (1..=pages).contains(page));
    page.ok_or_else(|| format!("page should be within [1, {pages}] range, given {asked}"))
}

/// CometBFT's page sizes: 30 unless asked for, at most 100.
fn per_page(asked: Option<i64>) -> usize {
    const DEFAULT: usize = 30;
    const MAX: usize = 100;
    match asked {
        Some(asked) if asked >= 1 => usize::try_from(asked).unwrap_or(MAX).min(MAX),
        _ => DEFAULT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_are_bounded() {
        let asked = [None, Some(-1), Some(0), Some(1), Some(100), Some(101), Some(i64::MAX)];
        assert_eq!(asked.map(per_page), [30, 30, 30, 1, 100, 100, 100]);
    }

    #[test]
    fn every_route_is_found_by_its_name_once() {
        for route in ROUTES {
            assert_eq!(find(route.name).unwrap().method, route.method);
        }
        assert!(find("dial_nobody").is_none());
    }
}
