//! The Tercet daemon: all I/O around the pure consensus core.
//!
//! Floors from top to ground; a floor imports only floors below it: `cli` · `node` · `sources` · `engine network mempool sync rpc` ·
//! `execution` · `events` · `evidence` · `wire` · `store` · `audit clock lines probe`. Parts of one floor meet through handles that `node` gives
//! them.

// So that tests inside of the crate can share the support of those outside.
#[cfg(test)]
extern crate self as tercet_node;

pub mod audit;
pub mod cli;
pub mod clock;
pub mod engine;
pub mod events;
pub mod evidence;
pub mod execution;
#[cfg(any(test, feature = "testing"))]
pub mod hostile_bytes;
mod lines;
pub mod mempool;
pub mod metrics;
pub mod network;
pub mod node;
pub mod probe;
pub mod rpc;
pub mod sources;
pub mod store;
pub mod sync;
pub mod wire;
