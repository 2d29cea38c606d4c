//! The port of the metrics.

use super::Settings;
use crate::metrics::{Metrics, MetricsServer, Timings};
use crate::rpc::sources::Sources;
use std::net::SocketAddr;
use tercet_abci::Roles;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// The application, each call of which is timed; where nobody looks, none is.
pub(super) fn timed(settings: &Settings, app: Roles) -> (Roles, Timings) {
    let timings = Timings::default();
    let app = if settings.metrics.is_some() { timings.watch(app) } else { app };
    (app, timings)
}

/// Listens, where metrics are wanted.
pub(super) fn bind(
    settings: &Settings,
    (sources, timings): (&Sources, &Timings),
    runtime: &Runtime,
) -> anyhow::Result<Option<MetricsServer>> {
    let Some(wanted) = &settings.metrics else { return Ok(None) };
    let metrics = Metrics::new(&wanted.namespace, sources.clone(), timings);
    let bound = MetricsServer::bind(&wanted.address, wanted.connections_max, metrics);
    Ok(Some(runtime.block_on(bound)?))
}

/// Serves until `stop`; where.
pub(super) fn serve(
    server: MetricsServer,
    stop: &CancellationToken,
    runtime: &Runtime,
) -> Option<SocketAddr> {
    let address = server.local_addr();
    if let Some(address) = address {
        tracing::info!(address = format!("http://{address}/metrics"), "metrics");
    }
    runtime.spawn(server.run(stop.clone()));
    address
}
