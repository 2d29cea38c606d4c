//! `docs/rpc.md`: made of the table of routes and of what is said here. `TERCET_UPDATE_PAGES=1` writes it.

use crate::events::Kind;
use crate::rpc::params::Kind as ParamKind;
use crate::rpc::routes::{ROUTES, Route};

const HEAD: &str = "# The RPC

What clients, wallets, explorers and relayers of CometBFT 0.38 call, with the same names, parameters, JSON, errors and headers; and what differs,
with the reason. This page follows from the table of routes; a test (`the_page_of_routes_says_what_there_is`) fails where it does not, and
`TERCET_UPDATE_PAGES=1 cargo test --release -p tercet-node --lib the_page_of_routes` writes it again.

Three ways lead to each route: JSON-RPC 2.0 by POST to `/` (one request, or a batch), a GET of `/ROUTE?parameter=value`, and JSON-RPC over
a WebSocket at `/websocket`. `tx` and `hash` are base64 in JSON; in a URI they are `0x…` or the characters between quotes.

## Everywhere

| What differs from CometBFT 0.38.25 | Why |
|---|---|
| `params` left out means the defaults (CometBFT answers HTTP 500) | it panics there |
| replies that can still change are never marked cacheable: a commit of the highest block, an unknown hash, `abci_info`, `tx` | a cache would keep what is wrong later |
| a reply that the application does not give in time is an error | a slow application holds up nobody |
| large replies of all clients together are bounded, and wait for each other | a crowd that reads slowly cannot use up the memory |
| `proposer_priority` is 0 | primaries follow from views, not from priorities |
| `rpc.requests_per_second` refuses with 429, `Retry-After` and a JSON-RPC error (-32000); CometBFT has no such limit | one client starves no other |
| of `rpc.tls_cert_file` and `rpc.tls_key_file` one alone is an error (CometBFT speaks plain HTTP then) | nobody means that |
| `experimental_close_on_slow_client` closes the connection of a client that does not read (in CometBFT its subscription ends) | the key says so |
| `status` has `tercet_version` beside CometBFT's fields | to tell nodes apart |

";

const STREAM: &str = "## Subscriptions

Over the WebSocket alone. `subscribe` with a `query` answers `{}`; each event then comes as a result under the same id, with `query`, `data` and
`events`. Queries are CometBFT's: `tag OP argument` with `AND` between; `=`, `<`, `<=`, `>`, `>=` with numbers, `DATE`, `TIME`
(`=` with `'text'` too), `CONTAINS 'text'`, `EXISTS`.

| Route | Parameters | What differs, and why |
|---|---|---|
| `subscribe` | `query`, `height` | `height`: events of blocks from it on come first, made again from the stores, so that a client that was away loses nothing; after `max_subscription_clients` and the rest of CometBFT's limits |
| `unsubscribe` | `query` | – |
| `unsubscribe_all` | | – |

A subscription whose client does not read ends, and the client is told, as in CometBFT: `-32000`, `subscription was canceled (reason: internal subscription
event buffer is out of capacity)`. No event before that is left out (CometBFT leaves some out), and a block with
more events than the buffer holds ends no subscription whose client keeps up (it does in CometBFT). Subscribed to with `height`, it goes on where it stopped. A
client finds a transaction with `tx` once it has heard of it. Numbers with fractions are compared exactly, and not rounded to 125 bits.

";

const GRPC: &str = "## gRPC

CometBFT 0.38's `tendermint.rpc.grpc.BroadcastAPI`, where `rpc.grpc_laddr` says: `Ping`, and `BroadcastTx`, which is `broadcast_tx_commit` and answers with `code`,
`data` and `log` of CheckTx and of the result. Limits are those of the RPC.

";

const EVENTS: &str = "Events of blocks are CometBFT's. Those of consensus say where the view is:

| Event | When |
|---|---|
";

/// When an event comes.
fn when(kind: Kind) -> &'static str {
    match kind {
        Kind::NewBlock | Kind::NewBlockHeader | Kind::NewBlockEvents => "a block was executed",
        Kind::NewEvidence => "evidence stands in an executed block",
        Kind::Tx => "a transaction was executed",
        Kind::ValidatorSetUpdates => "the application changed validators",
        Kind::CompleteProposal => "a PRE-PREPARE is accepted",
        Kind::Polka | Kind::ValidBlock => "a block is prepared",
        Kind::Lock => "a block is prepared, the first of the height or another than before",
        Kind::Relock => "the same block is prepared in a later view",
        Kind::Unlock => "another block is prepared than before",
        Kind::NewRound => "a view begins, with its primary as proposer",
        Kind::NewRoundStep => {
            "a view is in a further step: Propose, Prevote (PREPARE), Precommit (COMMIT), Commit (decided)"
        }
        Kind::TimeoutPropose => "a view change because no PRE-PREPARE came in time",
        Kind::TimeoutWait => "a view change because time was up after a PRE-PREPARE",
        Kind::Vote => "a PREPARE (type 1) or COMMIT (type 2) was sent or received",
    }
}

/// What differs at a route, and why.
fn differs(name: &str) -> &'static str {
    match name {
        "health"
        | "genesis"
        | "genesis_chunked"
        | "header"
        | "header_by_hash"
        | "block"
        | "block_by_hash"
        | "block_results"
        | "commit"
        | "blockchain"
        | "abci_query"
        | "check_tx"
        | "broadcast_tx_async"
        | "broadcast_tx_sync"
        | "num_unconfirmed_txs"
        | "unconfirmed_txs"
        | "status"
        | "consensus_params"
        | "validators"
        | "broadcast_evidence"
        | "unsafe_flush_mempool"
        | "dial_seeds"
        | "abci_info" => "–",
        "net_info" => {
            "counters of single channels and rates over a moment are 0 or empty: libp2p has streams in place of channels"
        }
        "tx" => {
            "of a transaction that stands in several blocks the last, as in CometBFT, whatever became of it"
        }
        "tx_search" => {
            "a search that would take longer than 1.5 s is refused with what narrows it; a transaction that stands in two blocks is found \
            in both; ranges of `DATE` and `TIME` work; of several conditions on heights all count; a `/` in a value is a character like others"
        }
        "block_search" => "as `tx_search`; queries of more than 512 bytes are refused",
        "consensus_state" => {
            "the view as round, PREPARE as prevote, COMMIT as precommit; votes of the current view alone"
        }
        "dump_consensus_state" => {
            "as `consensus_state`; blocks and the proposal are null (`block` has them), peers stand as CometBFT shows one of which it knows \
            nothing: nodes do not follow each other's steps"
        }
        "broadcast_tx_commit" => {
            "what runs out of time says where the transaction stands; waiting is limited apart from subscriptions"
        }
        "dial_peers" => {
            "`persistent` peers are let in beyond the limits, as those of the configuration"
        }
        "pbft_state" => {
            "a route of Tercet's own: views, promises, certificates and the timeout as they are"
        }
        other => panic!("docs/rpc.md has nothing to say of {other}"),
    }
}

fn kind(kind: ParamKind) -> &'static str {
    match kind {
        ParamKind::Int64 | ParamKind::Int | ParamKind::Uint => "integer",
        ParamKind::Bool => "bool",
        ParamKind::Text => "text",
        ParamKind::Bytes | ParamKind::Tx => "bytes",
        ParamKind::HexBytes => "hex",
        ParamKind::Texts => "list of texts",
        ParamKind::Evidence => "evidence",
    }
}

fn row(route: &Route) -> String {
    let params = route.params.iter().map(|(name, of)| format!("`{name}` ({})", kind(*of)));
    let params = params.collect::<Vec<_>>().join(", ");
    format!("| `{}` | {params} | {} |\n", route.name, differs(route.name))
}

fn page() -> String {
    let mut routes: Vec<&Route> = ROUTES.iter().collect();
    routes.sort_by_key(|route| route.name);
    let (changing, others): (Vec<&Route>, Vec<&Route>) =
        routes.into_iter().partition(|route| route.is_unsafe());
    let table = "| Route | Parameters | What differs, and why |\n|---|---|---|\n";
    let mut page = format!("{HEAD}## Routes\n\n{table}");
    page.extend(others.into_iter().map(row));
    page.push_str("\nWhere `rpc.unsafe` is true:\n\n");
    page.push_str(table);
    page.extend(changing.into_iter().map(row));
    page.push('\n');
    page.push_str(GRPC);
    page.push_str(STREAM);
    page.push_str(EVENTS);
    page.extend(Kind::ALL.map(|kind| format!("| `{}` | {} |\n", kind.name(), when(kind))));
    page
}

#[test]
fn the_page_of_routes_says_what_there_is() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rpc.md");
    let page = page();
    if std::env::var_os("TERCET_UPDATE_PAGES").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(written == page, "docs/rpc.md is not of this table; TERCET_UPDATE_PAGES=1 writes it");
}

/// CometBFT `rpc/core/routes.go`.
#[test]
fn all_routes_of_cometbft_are_there() {
    for name in [
        "health",
        "status",
        "net_info",
        "blockchain",
        "genesis",
        "genesis_chunked",
        "block",
        "block_by_hash",
        "block_results",
        "commit",
        "header",
        "header_by_hash",
        "check_tx",
        "tx",
        "tx_search",
        "block_search",
        "validators",
        "dump_consensus_state",
        "consensus_state",
        "consensus_params",
        "unconfirmed_txs",
        "num_unconfirmed_txs",
        "broadcast_tx_commit",
        "broadcast_tx_sync",
        "broadcast_tx_async",
        "abci_query",
        "abci_info",
        "broadcast_evidence",
        "dial_seeds",
        "dial_peers",
        "unsafe_flush_mempool",
    ] {
        assert!(ROUTES.iter().any(|route| route.name == name), "{name}");
    }
    assert_eq!(crate::rpc::routes::STREAM_ONLY, ["subscribe", "unsubscribe", "unsubscribe_all"]);
}
