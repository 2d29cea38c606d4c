//! Chaos: kills and pauses nodes of a running network under load, or breaks the links between them, watches that
//! the chain goes on and that every node comes back, and audits the chain at the end.

mod applications;
mod ask;
mod disks;
mod links;
mod observe;
mod struck;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::application::{self, AppError};
use crate::audit::{self, Audit, AuditError};
use crate::load::report::{Report, quantile};
use crate::load::{self, Load, LoadError, Method, Until};
use crate::process::{self, ProcessError, ended, running};
use crate::rpc::RpcError;
use crate::state::{Net, Node, StateError, note};
use crate::table::say;
use crate::tracer::TracerError;
use ask::{block_id, height_of, primary, tip};
use observe::Observer;
use struck::Struck;

/// A restarted node must be at the tip within this.
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// After this, a node that is not back ends the run.
const GIVE_UP: Duration = Duration::from_secs(120);
/// A killed primary must cost less than this in the median.
const PRIMARY_GAP_MEDIAN_MAX: Duration = Duration::from_millis(1_500);
/// How long blocks are watched before the primary is struck.
const WATCH_BEFORE: Duration = Duration::from_millis(300);
/// How often a returning node is asked.
const LOOK: Duration = Duration::from_millis(10);
/// A load that ends only when it is stopped.
const ENDLESS: Duration = Duration::from_secs(24 * 3_600);
/// Connections of the load per node.
const CONNECTIONS: usize = 4;
/// Lines of the log that are shown of a node that died.
const LAST_LINES: usize = 5;
/// Jumps of the light client in the final audit.
const JUMPS: usize = 32;

/// What is done to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// kill -9 of a random validator, restarted at once or a moment later.
    KillRandom,
    /// kill -9 of all nodes at once, all restarted.
    KillAll,
    /// kill -9 of the primary, restarted after --struck-for.
    KillPrimary,
    /// The primary frozen (SIGSTOP) for --struck-for; its connections stay open.
    PausePrimary,
    /// The disk of a random validator slow for --struck-for: each sync takes 20 to 500 ms longer (needs strace).
    SlowDisk,
    /// The disk of a random validator full for the journal: the node must end, and is started again (needs strace).
    FullDisk,
    /// A sync of a random validator's journal fails: the node must end, and is started again (needs strace).
    FailingDisk,
    /// kill -9 of the application of a random validator, which is started again (needs `up --app-command`).
    KillApp,
    /// kill -9 of a random validator and its application at once, both started again (needs `up --app-command`).
    KillNodeAndApp,
    /// Nodes in two groups at random, cut off from each other for --struck-for.
    Partition,
    /// Nothing arrives from a random node at some others.
    OneWay,
    /// All nodes cut off one after the other, and back in another order.
    Swizzle,
    /// Connections of a random node reset, and refused or not, every second.
    Flap,
    /// 256 kbit/s and 50 to 300 ms between a random node and the others.
    SlowLink,
}

/// A run of chaos.
#[derive(Clone, Debug)]
pub(crate) struct Chaos {
    /// The network's folder.
    pub(crate) dir: PathBuf,
    /// What is done.
    pub(crate) kind: Kind,
    /// How often.
    pub(crate) times: u32,
    /// Seed of every choice.
    pub(crate) seed: u64,
    /// Transactions a second meanwhile; 0: none.
    pub(crate) load_rate: u64,
    /// How long a primary stays killed or frozen, or links broken.
    pub(crate) struck_for: Duration,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChaosError {
    /// The description of the network cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A process cannot be handled.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A node does not answer.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The load cannot be run.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The chain cannot be audited.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A task ended by a defect.
    #[error("a task failed")]
    Task(#[from] tokio::task::JoinError),
    /// A node is down before anything was done to it.
    #[error("{0} is not running: `tercet-testnet restart {1}` starts it")]
    Down(String, usize),
    /// Nobody tells who the primary is.
    #[error("the nodes do not tell which validator is primary: use --kind kill-random")]
    NoPrimary,
    /// Too few validators.
    #[error("this needs at least two validators")]
    TooFew,
    /// An application cannot be handled.
    #[error(transparent)]
    App(#[from] AppError),
    /// A node cannot be traced.
    #[error(transparent)]
    Tracer(#[from] TracerError),
    /// Links cannot be broken.
    #[error("the nodes are connected directly: start them with `up --proxied`")]
    NotProxied,
    /// A node ended after its restart.
    #[error("{0} ended by itself after its restart; its log ends:\n{1}")]
    Died(String, String),
    /// A node did not come back at all.
    #[error("{name} is not at the tip {secs} s after its restart: see {log}")]
    Lost {
        /// The node.
        name: String,
        /// Seconds waited.
        secs: u64,
        /// Its log.
        log: String,
    },
}

/// What a run showed.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What was not as it must be, one line each.
    pub(crate) failures: Vec<String>,
    /// Lines of figures.
    pub(crate) figures: Vec<String>,
    /// Largest gap between blocks of each round in which a primary was struck, in order.
    pub(crate) gaps: Vec<Duration>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.figures {
            writeln!(f, "{line}")?;
        }
        for line in &self.failures {
            writeln!(f, "FAILED {line}")?;
        }
        write!(f, "chaos {}", if self.failures.is_empty() { "passed" } else { "FAILED" })
    }
}

/// A run under way.
struct Run {
    chaos: Chaos,
    random: StdRng,
    outcome: Outcome,
    children: Vec<Child>,
    back: Vec<Duration>,
    struck: Vec<Struck>,
}

/// Runs all rounds under load, then audits the chain.
pub(crate) async fn run(chaos: Chaos) -> Result<Outcome, ChaosError> {
    say(&format!("seed {}", chaos.seed));
    let net = Net::load(&chaos.dir)?;
    if let Some(node) = net.nodes.iter().find(|node| running(node).is_none()) {
        return Err(ChaosError::Down(node.name(), node.index));
    }
    if net.validators().count() < 2 {
        return Err(ChaosError::TooFew);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let load =
        (chaos.load_rate > 0).then(|| tokio::spawn(load::run(load_of(&chaos, &net), stop.clone())));
    let mut run = Run {
        random: StdRng::seed_from_u64(chaos.seed),
        chaos,
        outcome: Outcome::default(),
        children: Vec::new(),
        back: Vec::new(),
        struck: Vec::new(),
    };
    let rounds = run.rounds().await;
    stop.store(true, Ordering::Relaxed);
    let report = match load {
        Some(load) => Some(load.await??),
        None => None,
    };
    rounds?;
    run.figures(report.as_ref());
    run.audit().await?;
    Ok(run.outcome)
}

fn load_of(chaos: &Chaos, net: &Net) -> Load {
    Load {
        endpoints: net.endpoints(),
        rate: chaos.load_rate,
        size_bytes: 250,
        connections: CONNECTIONS,
        until: Until::Time(ENDLESS),
        warmup: Duration::ZERO,
        method: Method::Sync,
        poll: Duration::from_millis(20),
        prefix: "chaos".to_owned(),
    }
}

fn millis(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

impl Run {
    async fn rounds(&mut self) -> Result<(), ChaosError> {
        for round in 1..=self.chaos.times {
            let pause = self.random.random_range(300..2_000);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let told = match self.chaos.kind {
                Kind::KillRandom => self.kill_random().await?,
                Kind::KillApp | Kind::KillNodeAndApp => self.kill_application().await?,
                Kind::KillAll => self.kill_all().await?,
                Kind::KillPrimary | Kind::PausePrimary => self.strike_primary().await?,
                Kind::SlowDisk | Kind::FullDisk | Kind::FailingDisk => self.break_disk().await?,
                _ => self.break_links().await?,
            };
            say(&format!("{round}/{} {told}", self.chaos.times));
            for child in &mut self.children {
                let _ = child.try_wait();
            }
        }
        Ok(())
    }

    async fn kill_random(&mut self) -> Result<String, ChaosError> {
        let net = Net::load(&self.chaos.dir)?;
        let validators: Vec<Node> = net.validators().cloned().collect();
        let victim = self.random.random_range(0..validators.len());
        let node = validators.get(victim).ok_or(ChaosError::TooFew)?.clone();
        let others = net.nodes.iter().filter(|other| other.index != node.index).cloned();
        let others: Vec<Node> = others.collect();
        let height = tip(&others).await;
        kill(&self.chaos.dir, &node).await?;
        let down = Duration::from_millis(self.random.random_range(0..1_000));
        tokio::time::sleep(down).await;
        self.restart(node.index)?;
        let back = self.wait_back(&node, &others, height).await?;
        Ok(format!(
            "{} killed at height {height}, down {}, back at the tip {} after {}",
            node.name(),
            millis(down),
            tip(&others).await,
            millis(back)
        ))
    }

    async fn kill_all(&mut self) -> Result<String, ChaosError> {
        let net = Net::load(&self.chaos.dir)?;
        let height = tip(&net.nodes).await;
        let mut before = None;
        for node in &net.nodes {
            before = before.or(block_id(node, height).await.ok());
        }
        for node in &net.nodes {
            note(&self.chaos.dir, node.index, node.pid, Some("killed"))?;
        }
        for node in &net.nodes {
            process::signal(node, Signal::SIGKILL)?;
        }
        for node in &net.nodes {
            ended(node, BACK_WITHIN).await;
        }
        let start = Instant::now();
        let mut order: Vec<usize> = net.nodes.iter().map(|node| node.index).collect();
        order.shuffle(&mut self.random);
        for index in order {
            self.restart(index)?;
        }
        for node in &net.nodes {
            while height_of(node).await <= Some(height) {
                give_up(&self.chaos.dir, start, node)?;
                tokio::time::sleep(LOOK).await;
            }
            let after = block_id(node, height).await.ok();
            if before.is_some() && after != before {
                let name = node.name();
                self.fail(format!("{name} has another block at height {height} than before"));
            }
        }
        let took = start.elapsed();
        self.returned("all", took);
        Ok(format!("all killed at height {height}, all beyond it {} after the start", millis(took)))
    }

    async fn strike_primary(&mut self) -> Result<String, ChaosError> {
        let net = Net::load(&self.chaos.dir)?;
        // Two are watched, because only one of them can be the one that is struck.
        let watch = |node: &Node| (node.index, Observer::start(&node.rpc));
        let observers: Vec<_> = net.validators().take(2).map(watch).collect();
        tokio::time::sleep(WATCH_BEFORE).await;
        let (primary, height) = primary(&net).await?;
        let struck = Instant::now();
        self.strike(&primary).await?;
        tokio::time::sleep(self.chaos.struck_for.saturating_sub(struck.elapsed())).await;
        let mut gaps = Vec::new();
        for (index, observer) in observers {
            match index == primary.index || !gaps.is_empty() {
                true => observer.abandon(),
                false => gaps = observer.stop().await?.gaps(struck, Instant::now()),
            }
        }
        self.revive(&primary)?;
        let others = net.nodes.iter().filter(|other| other.index != primary.index).cloned();
        let others: Vec<Node> = others.collect();
        let back = self.wait_back(&primary, &others, height).await?;
        let struck = Struck::new(&gaps);
        let told = format!(
            "{} {} as primary of height {height}: {struck}; back at the tip after {}",
            primary.name(),
            if self.chaos.kind == Kind::KillPrimary { "killed" } else { "frozen" },
            millis(back)
        );
        self.struck.push(struck);
        Ok(told)
    }

    /// Kills or freezes a node: the signal first, because it must find the primary.
    async fn strike(&self, node: &Node) -> Result<(), ChaosError> {
        let (signal, word) = match self.chaos.kind {
            Kind::PausePrimary => (Signal::SIGSTOP, "paused"),
            _ => (Signal::SIGKILL, "killed"),
        };
        process::signal(node, signal)?;
        note(&self.chaos.dir, node.index, node.pid, Some(word))?;
        if signal == Signal::SIGKILL {
            ended(node, BACK_WITHIN).await;
        }
        Ok(())
    }

    fn revive(&mut self, node: &Node) -> Result<(), ChaosError> {
        if self.chaos.kind != Kind::PausePrimary {
            return self.restart(node.index);
        }
        process::signal(node, Signal::SIGCONT)?;
        note(&self.chaos.dir, node.index, node.pid, None)?;
        Ok(())
    }

    fn restart(&mut self, index: usize) -> Result<(), ChaosError> {
        let child = restart(&self.chaos.dir, index)?;
        self.children.push(child);
        Ok(())
    }

    /// Waits until the node has what the others had a moment before, and a block beyond `height`.
    async fn wait_back(
        &mut self,
        node: &Node,
        others: &[Node],
        height: u64,
    ) -> Result<Duration, ChaosError> {
        let start = Instant::now();
        loop {
            let tip = tip(others).await.max(height + 1);
            if height_of(node).await >= Some(tip) {
                break;
            }
            give_up(&self.chaos.dir, start, node)?;
            tokio::time::sleep(LOOK).await;
        }
        let took = start.elapsed();
        self.returned(&node.name(), took);
        Ok(took)
    }

    fn returned(&mut self, name: &str, took: Duration) {
        if took > BACK_WITHIN {
            self.fail(format!(
                "{name} back after {}, allowed are {} s",
                millis(took),
                BACK_WITHIN.as_secs()
            ));
        }
        self.back.push(took);
    }

    fn fail(&mut self, line: String) {
        say(&format!("FAILED {line}"));
        self.outcome.failures.push(line);
    }

    fn figures(&mut self, report: Option<&Report>) {
        if let Some((median, max)) = median_max(&mut self.back) {
            let what = match self.chaos.kind {
                Kind::KillRandom
                | Kind::KillAll
                | Kind::KillPrimary
                | Kind::PausePrimary
                | Kind::KillApp
                | Kind::KillNodeAndApp => "back at the tip",
                _ => "new blocks everywhere after the links were whole",
            };
            let line = format!("{what}: median {}, max {}", millis(median), millis(max));
            self.outcome.figures.push(line);
        }
        self.outcome.figures.extend(struck::figures(&self.struck));
        self.outcome.gaps = self.struck.iter().map(|struck| struck.largest).collect();
        let median = struck::largest(&self.struck).map(|(median, _)| median);
        if self.chaos.kind == Kind::KillPrimary
            && let Some(median) = median.filter(|gap| *gap >= PRIMARY_GAP_MEDIAN_MAX)
        {
            let (median, allowed) = (millis(median), millis(PRIMARY_GAP_MEDIAN_MAX));
            self.fail(format!("median gap {median}, allowed are under {allowed}"));
        }
        if let Some(report) = report {
            let (accepted, committed) = (report.accepted, report.committed);
            let line = format!("load: {accepted} transactions accepted, {committed} committed");
            self.outcome.figures.push(line);
        }
    }

    async fn audit(&mut self) -> Result<(), ChaosError> {
        let net = Net::load(&self.chaos.dir)?;
        let nodes = net.nodes.iter().map(|node| (node.name(), node.rpc.clone())).collect();
        let logs = net.logs();
        let audit = Audit { nodes, logs, jumps: JUMPS, seed: self.chaos.seed, progress: true };
        let findings = audit::run(&audit).await?;
        self.outcome.figures.push(findings.to_string());
        if !findings.clean() {
            self.outcome.failures.push("the audit has findings".to_owned());
        }
        Ok(())
    }
}

fn median_max(durations: &mut [Duration]) -> Option<(Duration, Duration)> {
    durations.sort_unstable();
    quantile(durations, 50).zip(quantile(durations, 100))
}

/// Ends the wait for a node that takes too long, or whose process has ended.
fn give_up(dir: &Path, start: Instant, node: &Node) -> Result<(), ChaosError> {
    let node = Net::load(dir)?.node(node.index)?.clone();
    if running(&node).is_none() {
        let last = process::tail(&node.log(), LAST_LINES).join("\n");
        return Err(ChaosError::Died(node.name(), last));
    }
    if start.elapsed() < GIVE_UP {
        return Ok(());
    }
    let log = node.log().display().to_string();
    Err(ChaosError::Lost { name: node.name(), secs: GIVE_UP.as_secs(), log })
}

/// Kills a node and waits for its end.
pub(crate) async fn kill(dir: &Path, node: &Node) -> Result<(), ChaosError> {
    note(dir, node.index, node.pid, Some("killed"))?;
    process::signal(node, Signal::SIGKILL)?;
    ended(node, BACK_WITHIN).await;
    Ok(())
}

/// Starts a node that is down, and notes its process.
pub(crate) fn restart(dir: &Path, index: usize) -> Result<Child, ChaosError> {
    application::ensure(dir, index)?;
    let net = Net::load(dir)?;
    let child = process::start(&net.binary, net.node(index)?)?;
    note(dir, index, Some(child.id()), None)?;
    Ok(child)
}
