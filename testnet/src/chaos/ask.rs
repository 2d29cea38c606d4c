//! What chaos asks nodes.

use std::time::Duration;

use super::ChaosError;
use crate::rpc::{Rpc, RpcError};
use crate::state::{Net, Node};

/// Patience with one answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The height of a node; none where it does not answer.
pub(super) async fn height_of(node: &Node) -> Option<u64> {
    let mut rpc = Rpc::new(&node.rpc).patient(PATIENCE);
    Some(rpc.status().await.ok()?.sync_info.latest_block_height)
}

/// The highest block that any of the nodes has.
pub(super) async fn tip(nodes: &[Node]) -> u64 {
    let heights = futures::future::join_all(nodes.iter().map(height_of)).await;
    heights.into_iter().flatten().max().unwrap_or(0)
}

/// Which block a node has at `height`.
pub(super) async fn block_id(node: &Node, height: u64) -> Result<String, RpcError> {
    let mut rpc = Rpc::new(&node.rpc).patient(PATIENCE);
    Ok(rpc.commit(Some(height)).await?.block_id.hash)
}

/// Who is primary now, and the height that is being decided.
pub(super) async fn primary(net: &Net) -> Result<(Node, u64), ChaosError> {
    let asked = net.validators().next().ok_or(ChaosError::TooFew)?;
    let state = match Rpc::new(&asked.rpc).patient(PATIENCE).pbft_state().await {
        Err(error) if error.is_unknown_method() => return Err(ChaosError::NoPrimary),
        other => other?,
    };
    let is_primary = |node: &&Node| node.validator.is_some() && node.validator == state.primary;
    let primary = net.validators().find(is_primary).ok_or(ChaosError::NoPrimary)?;
    Ok((primary.clone(), state.height))
}
