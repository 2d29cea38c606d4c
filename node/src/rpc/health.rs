//! `/healthz` and `/readyz`, for whoever restarts nodes and balances load.

use super::server::Api;
use std::time::Duration;

/// How long the database may take to answer.
const DATABASE_LIMIT: Duration = Duration::from_secs(2);

/// Whether the process works and its database answers: one line, or the reason why not.
pub(crate) async fn alive(api: &Api) -> Result<String, String> {
    if let Some(fault) = &api.sources.snapshot.load().fault {
        return Err(fault.clone());
    }
    let blocks = api.sources.blocks.clone();
    let read = tokio::task::spawn_blocking(move || match blocks.height() {
        Some(height) => blocks.meta(height).map(|_| height.value()),
        None => Ok(0),
    });
    match tokio::time::timeout(DATABASE_LIMIT, read).await {
        Ok(Ok(Ok(height))) => Ok(format!("ok, at height {height}")),
        Ok(Ok(Err(error))) => Err(format!("the database cannot be read: {error}")),
        Ok(Err(_)) => Err("the database could not be asked".to_owned()),
        Err(_) => Err(format!("the database did not answer within {DATABASE_LIMIT:?}")),
    }
}

/// Whether it takes part: alive, caught up and with peers, unless it is the only validator.
pub(crate) async fn ready(api: &Api) -> Result<String, String> {
    let line = alive(api).await?;
    let snapshot = api.sources.snapshot.load();
    if snapshot.catching_up {
        let height = snapshot.latest.as_ref().map_or(0, |tip| tip.height.value());
        return Err(format!("catching up, at height {height}"));
    }
    let is_alone = snapshot.power > 0 && snapshot.power == snapshot.pbft.total_power;
    let peers = api.sources.net.peer_count();
    if peers == 0 && !is_alone {
        return Err("no peers".to_owned());
    }
    Ok(format!("{line}, {peers} peers"))
}
