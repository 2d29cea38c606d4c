//! An observer of one node: asks for its height every 2 ms and notes when it grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinHandle};

use crate::rpc::Rpc;

/// How often the node is asked.
const POLL: Duration = Duration::from_millis(2);
/// Patience with one answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// When the chain grew at the observed node.
#[derive(Debug, Default)]
pub(crate) struct Growth(Vec<Instant>);

impl Growth {
    /// The times between growths from `from` to `to`: those that overlap it, the last one open.
    pub(crate) fn gaps(&self, from: Instant, to: Instant) -> Vec<Duration> {
        let before = self.0.iter().rev().find(|at| **at <= from).copied().unwrap_or(from);
        let inside = self.0.iter().copied().filter(|at| *at > from && *at < to);
        let points: Vec<Instant> = [before].into_iter().chain(inside).chain([to]).collect();
        points
            .windows(2)
            .map(|two| match two {
                [a, b] => b.duration_since(*a),
                _ => Duration::ZERO,
            })
            .collect()
    }
}

/// An observer at work.
pub(crate) struct Observer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Growth>,
}

impl Observer {
    /// Starts to observe the node at `endpoint`.
    pub(crate) fn start(endpoint: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let rpc = Rpc::new(endpoint).patient(PATIENCE);
        let task = tokio::spawn(observe(rpc, stop.clone()));
        Self { stop, task }
    }

    /// Ends, with what was seen.
    pub(crate) async fn stop(self) -> Result<Growth, JoinError> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await
    }

    /// Ends at once, where nobody wants to know.
    pub(crate) fn abandon(self) {
        self.task.abort();
    }
}

async fn observe(mut rpc: Rpc, stop: Arc<AtomicBool>) -> Growth {
    let mut growth = Growth::default();
    let mut height = 0;
    while !stop.load(Ordering::Relaxed) {
        if let Ok(status) = rpc.status().await {
            let latest = status.sync_info.latest_block_height;
            if latest > height {
                height = latest;
                growth.0.push(Instant::now());
            }
        }
        tokio::time::sleep(POLL).await;
    }
    growth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_include_the_one_struck_and_the_one_still_open() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let growth = Growth(vec![at(0), at(10), at(90), at(100)]);
        let ms: Vec<u128> = growth.gaps(at(20), at(150)).iter().map(Duration::as_millis).collect();
        assert_eq!(ms, [80, 10, 50]);
        assert_eq!(Growth::default().gaps(at(0), at(5)), [Duration::from_millis(5)]);
    }
}
