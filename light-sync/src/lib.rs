//! The header-first light syncer: the pure core ([`tercet_light_core`]) with what it lacks, which is a clock, providers and a disk.
//!
//! | Module | What it is |
//! |---|---|
//! | [`api`] | the query API: the JSON-RPC of a node, every answer verified |
//! | [`provider`] | who is asked: the JSON-RPC of CometBFT nodes |
//! | [`driver`] | carries out the planner's requests, tells it the time, keeps what it verified |
//! | [`root`] | a root for those who have none, by asking several providers |
//! | [`store`] | RocksDB: headers, anchors, sets, and how far they reach |
//!
//! The core decides everything: what is asked of whom, what is believed, when something is trusted. Nothing here verifies anything.

pub mod api;
pub mod clock;
pub mod driver;
pub mod provider;
pub mod root;
mod shapes;
pub mod store;
