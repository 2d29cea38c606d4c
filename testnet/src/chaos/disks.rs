//! Chaos of disks: slow ones, and ones that fail or are full for the journal.

use std::path::Path;
use std::time::Duration;

use rand::Rng;

use super::{BACK_WITHIN, ChaosError, Kind, Run, millis, tip};
use crate::process::ended;
use crate::state::{Net, Node, note};
use crate::tracer::Tracer;

/// How long a sync takes on a slow disk, in milliseconds.
const SLOW_MS: std::ops::Range<u64> = 20..500;

impl Run {
    /// Breaks the disk of a random validator, and waits until it is back.
    pub(super) async fn break_disk(&mut self) -> Result<String, ChaosError> {
        let net = Net::load(&self.chaos.dir)?;
        let validators: Vec<Node> = net.validators().cloned().collect();
        let victim = self.random.random_range(0..validators.len());
        let node = validators.get(victim).ok_or(ChaosError::TooFew)?.clone();
        let others: Vec<Node> =
            net.nodes.iter().filter(|other| other.index != node.index).cloned().collect();
        let height = tip(&others).await;
        let what = match self.chaos.kind {
            Kind::SlowDisk => self.slow_disk(&node).await?,
            Kind::FullDisk => self.fail_journal(&node, "write,pwrite64", "ENOSPC").await?,
            _ => self.fail_journal(&node, "fdatasync", "EIO").await?,
        };
        let back = self.wait_back(&node, &others, height).await?;
        Ok(format!("{} at height {height}: {what}; back after {}", node.name(), millis(back)))
    }

    async fn slow_disk(&mut self, node: &Node) -> Result<String, ChaosError> {
        let delay = Duration::from_millis(self.random.random_range(SLOW_MS));
        let inject = format!("inject=fdatasync:delay_enter={}", delay.as_micros());
        let arguments = ["-e", "trace=fdatasync", "-e", inject.as_str()];
        let tracer = Tracer::attach(node.pid.unwrap_or_default(), &arguments).await?;
        tokio::time::sleep(self.chaos.struck_for).await;
        drop(tracer);
        Ok(format!("{} for each sync", millis(delay)))
    }

    /// Lets the next of `calls` on the journal fail; the node must end, and is started again.
    async fn fail_journal(
        &mut self,
        node: &Node,
        calls: &str,
        error: &str,
    ) -> Result<String, ChaosError> {
        note(&self.chaos.dir, node.index, node.pid, Some("its disk fails"))?;
        let log = newest_log(&node.home.join("data/journal"));
        let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:error={error}"));
        let arguments = ["-P", log.as_str(), "-e", trace.as_str(), "-e", inject.as_str()];
        let tracer = Tracer::attach(node.pid.unwrap_or_default(), &arguments).await?;
        if !ended(node, BACK_WITHIN).await {
            self.fail(format!("{} goes on though {calls} says {error}", node.name()));
        }
        drop(tracer);
        self.restart(node.index)?;
        Ok(format!("{calls} of the journal says {error}"))
    }
}

/// The log that RocksDB writes to.
fn newest_log(folder: &Path) -> String {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let logs = files.map(|file| file.path().to_string_lossy().into_owned());
    logs.filter(|path| path.ends_with(".log")).max().unwrap_or_default()
}
