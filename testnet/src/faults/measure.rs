//! What rows measure.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::lab::Lab;
use crate::process::memory_bytes;
use crate::rpc::{COMMIT_TIMEOUT, Rpc, quoted};

/// Headers that one call of `blockchain` returns at most.
const PAGE: u64 = 20;
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Deserialize)]
struct Committed {
    check_tx: Code,
    tx_result: Code,
    #[serde(deserialize_with = "quoted")]
    height: u64,
}

#[derive(Deserialize)]
struct Code {
    code: u32,
}

/// What a process holds.
pub(super) struct Held {
    /// Open files and sockets.
    pub(super) files: usize,
    /// Bytes of memory.
    pub(super) memory_bytes: u64,
}

impl Lab {
    /// The primary of now, as the node `asked` has it.
    pub(super) async fn primary(&self, asked: usize) -> anyhow::Result<usize> {
        let state = self.state(asked).await?;
        let net = self.net()?;
        let primary = net.validators().find(|node| node.validator == state.primary);
        Ok(primary.context("the primary is unknown")?.index)
    }

    /// The timeout of a view, as the node `asked` has it.
    pub(super) async fn timeout(&self, asked: usize) -> anyhow::Result<Duration> {
        Ok(Duration::from_millis(self.state(asked).await?.timeout_ms))
    }

    /// Transactions a second in the blocks that a node gets during `span`.
    pub(super) async fn rate(&self, asked: usize, span: Duration) -> anyhow::Result<u64> {
        let from = self.tip(&[asked]).await + 1;
        tokio::time::sleep(span).await;
        let to = self.tip(&[asked]).await;
        let mut rpc = Rpc::new(&self.node(asked)?.rpc);
        let (mut at, mut txs) = (from, 0);
        while at <= to {
            let end = to.min(at + PAGE - 1);
            txs +=
                rpc.blockchain(at, end).await?.block_metas.iter().map(|b| b.num_txs).sum::<u64>();
            at = end + 1;
        }
        Ok(txs / span.as_secs().max(1))
    }

    /// Fails where any of these nodes gets a block during `span`, but for one that was nearly decided.
    pub(super) async fn still(&self, of: &[usize], span: Duration) -> anyhow::Result<()> {
        let quiet = self.tip(of).await + 1;
        tokio::time::sleep(span).await;
        let height = self.tip(of).await;
        ensure!(height <= quiet, "nodes {of:?} decided height {height} without a quorum");
        Ok(())
    }

    /// Waits until the commits that `asked` has bear a signature of `signer`: how long it took.
    pub(super) async fn signs(
        &self,
        asked: usize,
        signer: usize,
        within: Duration,
    ) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let address = self.node(signer)?.validator.context("no validator")?;
        let first = self.tip(&[asked]).await;
        let mut rpc = Rpc::new(&self.node(asked)?.rpc);
        while start.elapsed() < within {
            // The last commit may still be the one that this node saw.
            let height = self.tip(&[asked]).await.saturating_sub(1);
            if height > first {
                let commit = rpc.commit(Some(height)).await?;
                let mut signers = commit.signatures.iter();
                if signers.any(|signature| signature.validator_address == address) {
                    return Ok(start.elapsed());
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        bail!("node{signer} signs no commit within {} s", within.as_secs())
    }

    /// What a node's process holds.
    pub(super) fn held(&self, index: usize) -> anyhow::Result<Held> {
        let pid = self.node(index)?.pid.context("no process")?;
        let files = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        Ok(Held { files, memory_bytes: memory_bytes(pid).context("no process")? })
    }

    /// Sends a transaction and waits for its block: its code, that of CheckTx before that of the block, and the height.
    pub(super) async fn submit(&self, index: usize, tx: &str) -> anyhow::Result<(u32, u64)> {
        let mut rpc = Rpc::new(&self.node(index)?.rpc).patient(COMMIT_TIMEOUT);
        let params = json!({"tx": STANDARD.encode(tx)});
        let done: Committed = rpc.call("broadcast_tx_commit", params).await?;
        let code = if done.check_tx.code == 0 { done.tx_result.code } else { done.check_tx.code };
        Ok((code, done.height))
    }
}
