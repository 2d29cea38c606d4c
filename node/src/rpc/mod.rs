//! The RPC: CometBFT's JSON-RPC over HTTP, so that its clients, relayers and explorers work unchanged, with `/healthz` and `/readyz`.
//!
//! Nothing here waits for the engine or takes an application lock: `status`, `net_info` and `pbft_state` read snapshots, the chain
//! routes read the store on blocking threads, and whatever goes to the application or the pool has a time limit. One path is made
//! for speed: `broadcast_tx_sync` over a kept-alive connection.
//!
//! `/websocket` carries the same routes and subscriptions to events, which come from [`crate::events`].
//!
//! Differences from CometBFT, all harmless to clients: a missing `params` means defaults (CometBFT answers HTTP 500); replies that
//! can still change (a commit of the highest block, an unknown hash, `abci_info`) are never marked cacheable; a slow application is
//! given up after the write timeout; `proposer_priority` is always 0.

mod cors;
mod deadline;
mod go_json;
mod grpc;
mod health;
mod http;
mod json;
mod jsonrpc;
mod params;
mod quotes;
mod rate;
mod replies;
mod routes;
mod server;
pub mod sources;
mod stream;
#[cfg(test)]
pub(crate) mod tests;
mod tls;
mod ui;
mod uri;
mod waiters;

#[cfg(any(test, feature = "testing"))]
pub mod hostile;

pub use cors::Cors;
pub use grpc::GrpcServer;
pub use json::node::COMPATIBLE_VERSION;
pub use server::{BindError, Limits, Server};
pub use tls::{Tls, TlsError};
pub use waiters::{Committed, Waiters};

/// Evidence in CometBFT's JSON, read.
#[cfg(test)]
pub(crate) fn read_evidence(
    json: &str,
) -> Result<Option<tendermint_proto::v0_38::types::Evidence>, String> {
    json::evidence_given::read(json)
}

/// Evidence as the RPC shows it.
#[cfg(test)]
pub(crate) fn show_evidence(evidence: tendermint_proto::v0_38::types::Evidence) -> String {
    let mut out = Vec::new();
    let shown = json::evidence::Evidence::new(evidence).expect("evidence of a kind");
    json::append(&mut out, &shown).expect("it serializes");
    String::from_utf8(out).expect("JSON is text")
}
