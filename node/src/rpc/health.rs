//! `/healthz` and `/readyz`, for whoever restarts nodes and balances load.

use super::server::Api;
use super::sources::Snapshot;
use std::sync::Arc;
use std::time::Duration;

/// How long the database may take to answer.
const DATABASE_LIMIT: Duration = Duration::from_secs(2);

/// Whether the process works and its database answers: one line, or the reason why not.
pub(crate) async fn alive(api: &Api) -> Result<String, String> {
    Ok(line(&*look(api).await?))
}

fn line(snapshot: &Snapshot) -> String {
    let height = snapshot.latest.as_ref().map_or(0, |tip| tip.height.value());
    format!("ok, at height {height}")
}

/// Where the node stands, read from the database.
async fn look(api: &Api) -> Result<Arc<Snapshot>, String> {
    let (blocks, status) = (api.sources.blocks.clone(), api.sources.status.clone());
    let read = tokio::task::spawn_blocking(move || {
        blocks.height().map(|height| blocks.meta(height)).transpose()?;
        status.snapshot()
    });
    match tokio::time::timeout(DATABASE_LIMIT, read).await {
        Ok(Ok(Ok(snapshot))) => match &snapshot.fault {
            Some(fault) => Err(fault.clone()),
            None => Ok(snapshot),
        },
        Ok(Ok(Err(error))) => Err(format!("the database cannot be read: {error}")),
        Ok(Err(_)) => Err("the database could not be asked".to_owned()),
        Err(_) => Err(format!("the database did not answer within {DATABASE_LIMIT:?}")),
    }
}

/// Whether it takes part: alive, caught up and with peers, unless it is the only validator.
pub(crate) async fn ready(api: &Api) -> Result<String, String> {
    let snapshot = look(api).await?;
    if snapshot.catching_up {
        let height = snapshot.latest.as_ref().map_or(0, |tip| tip.height.value());
        return Err(format!("catching up, at height {height}"));
    }
    let is_alone = snapshot.power > 0 && snapshot.power == snapshot.pbft.total_power;
    let peers = api.sources.net.peer_count();
    if peers == 0 && !is_alone {
        return Err("no peers".to_owned());
    }
    if let Some(hold) = snapshot.pbft.hold.filter(|_| snapshot.power > 0) {
        return Err(format!("signing nothing: {hold}"));
    }
    Ok(format!("{}, {peers} peers", line(&snapshot)))
}
