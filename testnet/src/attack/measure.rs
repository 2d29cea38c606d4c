//! What an attack costs its victim, seen from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::load::report::quantile;
use crate::load::{self, Load, Method, Until};
use crate::process::{cpu_time, memory_bytes, running};
use crate::rpc::{Meta, Rpc};
use crate::state::{Net, Node};

/// How often the victim is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// A load that ends when it is stopped.
const ENDLESS: Duration = Duration::from_secs(24 * 3_600);
/// Patience with an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Headers that one call of `blockchain` returns at most.
const HEADERS: u64 = 20;

/// The node that is attacked, and one that is not.
pub(super) struct Victim {
    node: Node,
    pid: u32,
    endpoints: Vec<String>,
    other: String,
    /// The node ids of the other validators that run.
    validators: BTreeSet<String>,
    load_rate: u64,
}

/// What was seen in a while.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Phase {
    /// How long it was.
    pub(crate) seconds: f64,
    /// The heights that another validator decided a second.
    pub(crate) heights_per_s: f64,
    /// The 95th percentile of the time between those blocks, by the times in their headers.
    pub(crate) interval_p95_ms: f64,
    /// The most memory of the victim.
    pub(crate) rss_peak_bytes: u64,
    /// The most file descriptors of the victim.
    pub(crate) files_max: u64,
    /// The victim's processor time as a share of one processor.
    pub(crate) cpu_share: f64,
    /// From the hand-in of an honest transaction until it is committed.
    pub(crate) latency_p50_ms: f64,
    /// See `latency_p50_ms`.
    pub(crate) latency_p99_ms: f64,
    /// Whether the other validators were connected to the victim whenever it was asked.
    pub(crate) validators_stayed: bool,
    /// What the victim threw away, by reason and class.
    pub(crate) discarded: BTreeMap<String, u64>,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} heights/s, {:.1} ms between blocks (p95), latency {:.0}/{:.0} ms (p50/p99), {} MiB, {} files, {:.0} % of a processor",
            self.heights_per_s,
            self.interval_p95_ms,
            self.latency_p50_ms,
            self.latency_p99_ms,
            self.rss_peak_bytes >> 20,
            self.files_max,
            self.cpu_share * 100.0
        )
    }
}

impl Victim {
    /// The node with this index; `absent` is down.
    pub(super) fn new(
        net: &Net,
        index: usize,
        absent: Option<usize>,
        load_rate: u64,
    ) -> anyhow::Result<Victim> {
        let node = net.node(index)?.clone();
        let pid = running(&node);
        let pid = pid.ok_or_else(|| anyhow::anyhow!("{} is not running", node.name()))?;
        let present = |other: &&Node| Some(other.index) != absent;
        let validators = net.validators().filter(present).filter(|other| other.index != index);
        let validators: Vec<&Node> = validators.collect();
        let other = validators.first().copied().unwrap_or(&node).rpc.clone();
        let ids = validators.iter().filter_map(|v| Some(v.p2p.split_once('@')?.0.to_owned()));
        let endpoints = net.nodes.iter().filter(present).map(|node| node.rpc.clone()).collect();
        Ok(Victim { pid, endpoints, other, validators: ids.collect(), node, load_rate })
    }

    /// Looks at the victim until `meanwhile` is over, at most for `most`, while honest transactions are committed.
    pub(super) async fn phase<T>(
        &self,
        most: Duration,
        meanwhile: impl Future<Output = T>,
    ) -> anyhow::Result<(Phase, Option<T>)> {
        let stop = Arc::new(AtomicBool::new(false));
        let load = Load {
            endpoints: self.endpoints.clone(),
            rate: self.load_rate,
            size_bytes: 100,
            connections: 4,
            until: Until::Time(ENDLESS),
            warmup: Duration::ZERO,
            method: Method::Commit,
            poll: Duration::from_millis(20),
            prefix: "h".to_owned(),
        };
        let loading = tokio::spawn(load::run(load, stop.clone()));
        let looking = tokio::spawn(self.look().await?.run(stop.clone()));
        let done = tokio::time::timeout(most, meanwhile).await.ok();
        stop.store(true, Ordering::Relaxed);
        let mut phase = looking.await??;
        if let Some(latency) = loading.await??.latency {
            (phase.latency_p50_ms, phase.latency_p99_ms) = (latency.p50_ms, latency.p99_ms);
        }
        Ok((phase, done))
    }

    async fn look(&self) -> anyhow::Result<Look> {
        let mut victim = Rpc::new(&self.node.rpc).patient(PATIENCE);
        let mut other = Rpc::new(&self.other).patient(PATIENCE);
        let discarded = discarded(&mut victim).await?;
        let height = other.status().await?.sync_info.latest_block_height;
        let cpu = cpu_time(self.pid).unwrap_or_default();
        let (pid, validators) = (self.pid, self.validators.clone());
        Ok(Look { victim, other, pid, validators, start: Instant::now(), discarded, height, cpu })
    }
}

/// A phase under way.
struct Look {
    victim: Rpc,
    other: Rpc,
    pid: u32,
    validators: BTreeSet<String>,
    start: Instant,
    discarded: BTreeMap<String, u64>,
    height: u64,
    cpu: Duration,
}

impl Look {
    async fn run(mut self, stop: Arc<AtomicBool>) -> anyhow::Result<Phase> {
        let mut phase = Phase { validators_stayed: true, ..Phase::default() };
        while !stop.load(Ordering::Relaxed) {
            let memory = memory_bytes(self.pid);
            let memory = memory.ok_or_else(|| anyhow::anyhow!("the victim's process ended"))?;
            phase.rss_peak_bytes = phase.rss_peak_bytes.max(memory);
            let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid));
            let files = u64::try_from(files.map_or(0, Iterator::count)).unwrap_or(0);
            phase.files_max = phase.files_max.max(files);
            // An answer that does not come in time says nothing about the validators.
            if let Ok(peers) = peers(&mut self.victim).await {
                phase.validators_stayed &= self.validators.is_subset(&peers);
            }
            tokio::time::sleep(LOOK).await;
        }
        let seconds = self.start.elapsed().as_secs_f64();
        let height = self.other.status().await?.sync_info.latest_block_height;
        phase.seconds = seconds;
        phase.interval_p95_ms = self.interval_p95_ms(height).await?;
        phase.heights_per_s = height.saturating_sub(self.height) as f64 / seconds;
        let cpu = cpu_time(self.pid).unwrap_or_default().saturating_sub(self.cpu);
        phase.cpu_share = cpu.as_secs_f64() / seconds;
        for (reason, count) in discarded(&mut self.victim).await? {
            let before = self.discarded.get(&reason).copied().unwrap_or(0);
            if count > before {
                phase.discarded.insert(reason, count - before);
            }
        }
        Ok(phase)
    }
}

impl Look {
    /// Of the blocks from the beginning of the phase to `last`.
    async fn interval_p95_ms(&mut self, last: u64) -> anyhow::Result<f64> {
        let mut times = Vec::new();
        let mut at = self.height;
        while at <= last {
            let metas = self.other.blockchain(at, last.min(at + HEADERS - 1)).await?.block_metas;
            let header = |meta: &Meta| OffsetDateTime::parse(&meta.header.time, &Rfc3339);
            let page = metas.iter().rev().map(header).collect::<Result<Vec<_>, _>>()?;
            times.extend(page);
            at += HEADERS;
        }
        let mut intervals: Vec<f64> = times.windows(2).map(interval_ms).collect();
        intervals.sort_by(f64::total_cmp);
        Ok(quantile(&intervals, 95).unwrap_or(0.0))
    }
}

/// Between two neighbours.
fn interval_ms(times: &[OffsetDateTime]) -> f64 {
    match times {
        [one, next] => (*next - *one).as_seconds_f64() * 1e3,
        _ => 0.0,
    }
}

/// What the node has thrown away, by reason and class.
async fn discarded(rpc: &mut Rpc) -> anyhow::Result<BTreeMap<String, u64>> {
    let state: Value = rpc.call("pbft_state", json!({})).await?;
    let mut sums = BTreeMap::new();
    for entry in state["discarded"].as_array().into_iter().flatten() {
        let text = |key: &str| entry[key].as_str().unwrap_or("-").to_owned();
        let count = text("count").parse::<u64>().unwrap_or(0);
        *sums.entry(format!("{} ({})", text("reason"), text("class"))).or_default() += count;
    }
    Ok(sums)
}

/// The node ids that are connected.
async fn peers(rpc: &mut Rpc) -> anyhow::Result<BTreeSet<String>> {
    let info: Value = rpc.call("net_info", json!({})).await?;
    let peers = info["peers"].as_array().into_iter().flatten();
    Ok(peers.filter_map(|peer| Some(peer["node_info"]["id"].as_str()?.to_owned())).collect())
}

/// Whether the victim is connected to `other` again within this.
pub(super) async fn connected_within(
    net: &Net,
    victim: usize,
    other: &Node,
    within: Duration,
) -> bool {
    let (Ok(victim), Some((id, _))) = (net.node(victim), other.p2p.split_once('@')) else {
        return false;
    };
    let mut rpc = Rpc::new(&victim.rpc).patient(PATIENCE);
    let start = Instant::now();
    while start.elapsed() < within {
        if peers(&mut rpc).await.is_ok_and(|peers| peers.contains(id)) {
            return true;
        }
        tokio::time::sleep(LOOK).await;
    }
    false
}
