//! Figures for Prometheus, at `/metrics` of a port of their own.
//!
//! They are read when somebody asks: from the snapshots that the RPC reads, and from the headers and commits stored since the last
//! time. So they cost nothing where nobody asks, and consensus nothing in any case. Names are CometBFT's where they mean the same;
//! what is PBFT's has the prefix `tercet`. Source: CometBFT 0.38 `consensus/metrics.go`, `mempool/metrics.go`, `p2p/metrics.go`.

mod abci;
mod blocks;
mod figures;
mod pool;
mod process;
mod server;

#[cfg(test)]
mod tests;

pub use abci::Timings;
pub use server::{BindError, MetricsServer};

use crate::rpc::sources::Sources;
use blocks::Walk;
use figures::Figures;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// The figures of a node.
pub struct Metrics {
    registry: Registry,
    figures: Figures,
    walk: Walk,
    sources: Sources,
}

impl Metrics {
    /// Those of the node that `sources` tell of, named with `namespace` where they are CometBFT's, and the times of the application's
    /// calls. Blocks count from now on.
    #[must_use]
    pub fn new(namespace: &str, sources: Sources, timings: &Timings) -> Metrics {
        let mut registry = Registry::default();
        let figures = Figures::new(&mut registry, namespace, (&sources, timings));
        let walk = Walk::from(sources.blocks.height());
        Metrics { registry, figures, walk, sources }
    }

    /// All of them in the text format of OpenMetrics. May block on the disk.
    ///
    /// # Errors
    /// Where the store cannot be read; in words.
    pub fn text(&mut self) -> Result<String, String> {
        let snapshot = self.sources.status.snapshot()?;
        self.figures.now(&snapshot, &self.sources);
        self.walk.go_on(&self.sources, &self.figures.blocks, &snapshot.key.address())?;
        process::read(&self.figures.process);
        let mut text = String::new();
        encode(&mut text, &self.registry).map_err(|error| error.to_string())?;
        Ok(text)
    }
}
