//! A network for one row: laid out in a temporary folder, loaded, broken, audited, removed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;

use crate::audit::{self, Audit};
use crate::chaos::{self, Chaos, Outcome};
use crate::layout::{Layout, lay_out};
use crate::load::report::Report;
use crate::load::{self, Load, LoadError, Method, Until};
use crate::process::{self, ended, running};
use crate::proxy::{Proxy, Rules};
use crate::rpc::{PbftState, Rpc};
use crate::state::{Net, Node, note};
use crate::table::say;
use crate::up::{self, Up};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Patience with one answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// A load that ends only when it is stopped.
const ENDLESS: Duration = Duration::from_secs(24 * 3_600);
/// Jumps of the light client in the audit.
const JUMPS: usize = 16;
/// Lines of a log that are shown.
const LAST_LINES: usize = 5;

/// A load under way: how to stop it, and what it will report.
type Loading = (Arc<AtomicBool>, JoinHandle<Result<Report, LoadError>>);

/// What a row works with.
pub(super) struct Lab {
    dir: PathBuf,
    binary: PathBuf,
    base_port: u16,
    /// Random choices of the row.
    pub(super) random: StdRng,
    load: Option<Loading>,
    children: Vec<Child>,
    /// Other processes of the row.
    others: Vec<u32>,
    proxy: Option<Proxy>,
}

impl Lab {
    pub(super) fn new(binary: PathBuf, base_port: u16, seed: u64) -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("tercet-faults-{}", std::process::id()));
        if dir.exists() {
            std::fs::remove_dir_all(&dir)
                .with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        let random = StdRng::seed_from_u64(seed);
        let (children, others) = (Vec::new(), Vec::new());
        Ok(Self { dir, binary, base_port, random, load: None, children, others, proxy: None })
    }

    /// The network's folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The program of this name that lies beside the node's.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.binary.with_file_name(name)
    }

    /// A plain network of `validators`, to be changed before [`Lab::up`].
    pub(super) fn layout(&self, validators: usize) -> Layout {
        Layout::plain(&self.dir, validators, self.base_port)
    }

    /// Starts a network; all its nodes commit when this returns.
    pub(super) async fn up(&mut self, layout: Layout) -> anyhow::Result<()> {
        let binary = self.binary.clone();
        let up = Up { layout, binary, reset: true, detach: true, demo_txs: 0, duration: None };
        up::run(&up).await?;
        Ok(())
    }

    /// The network as it is now.
    pub(super) fn net(&self) -> anyhow::Result<Net> {
        Ok(Net::load(&self.dir)?)
    }

    /// Node number `index` as it is now.
    pub(super) fn node(&self, index: usize) -> anyhow::Result<Node> {
        Ok(self.net()?.node(index)?.clone())
    }

    /// Sends `rate` transactions a second to the nodes in `to` until the row ends.
    pub(super) fn load(&mut self, rate: u64, to: &[usize]) -> anyhow::Result<()> {
        let net = self.net()?;
        let endpoints = to.iter().filter_map(|index| Some(net.nodes.get(*index)?.rpc.clone()));
        let load = Load {
            endpoints: endpoints.collect(),
            rate,
            size_bytes: 250,
            connections: 4,
            until: Until::Time(ENDLESS),
            warmup: Duration::ZERO,
            method: Method::Sync,
            poll: Duration::from_millis(20),
            prefix: "faults".to_owned(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        self.load = Some((stop.clone(), tokio::spawn(load::run(load, stop))));
        Ok(())
    }

    /// Ends the load: what it saw. It fails where an accepted transaction was not committed.
    pub(super) async fn end_load(&mut self) -> anyhow::Result<Report> {
        let (stop, task) = self.load.take().context("there is no load")?;
        stop.store(true, Ordering::Relaxed);
        Ok(task.await??)
    }

    /// Height of a node; none where it does not answer.
    pub(super) async fn height(&self, index: usize) -> Option<u64> {
        let mut rpc = Rpc::new(&self.node(index).ok()?.rpc).patient(PATIENCE);
        Some(rpc.status().await.ok()?.sync_info.latest_block_height)
    }

    /// What a node says of its engine.
    pub(super) async fn state(&self, index: usize) -> anyhow::Result<PbftState> {
        Ok(Rpc::new(&self.node(index)?.rpc).patient(PATIENCE).pbft_state().await?)
    }

    /// The highest block of the nodes in `of`.
    pub(super) async fn tip(&self, of: &[usize]) -> u64 {
        let heights = futures::future::join_all(of.iter().map(|index| self.height(*index))).await;
        heights.into_iter().flatten().max().unwrap_or(0)
    }

    /// Waits until every node in `of` has `blocks` more than the tip of now: how long it took.
    pub(super) async fn grow(
        &self,
        of: &[usize],
        blocks: u64,
        within: Duration,
    ) -> anyhow::Result<Duration> {
        let goal = self.tip(of).await + blocks;
        self.reach(of, goal, within).await
    }

    /// Waits until every node in `of` is at `height`: how long it took.
    pub(super) async fn reach(
        &self,
        of: &[usize],
        height: u64,
        within: Duration,
    ) -> anyhow::Result<Duration> {
        let start = Instant::now();
        for index in of {
            while self.height(*index).await.unwrap_or(0) < height {
                if start.elapsed() > within {
                    let at = self.height(*index).await;
                    let at = at.map_or("does not answer".to_owned(), |at| format!("is at {at}"));
                    bail!("node{index} {at}, not at {height} within {} s", within.as_secs());
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(start.elapsed())
    }

    /// Sends a signal to a node. SIGKILL is waited for; SIGSTOP and the end are noted in the network's description.
    pub(super) async fn signal(&self, index: usize, signal: Signal) -> anyhow::Result<()> {
        let node = self.node(index)?;
        match signal {
            Signal::SIGKILL => chaos::kill(&self.dir, &node).await?,
            Signal::SIGCONT => {
                process::signal(&node, signal)?;
                note(&self.dir, index, node.pid, None)?;
            }
            _ => {
                note(&self.dir, index, node.pid, Some(signal.as_str()))?;
                process::signal(&node, signal)?;
            }
        }
        Ok(())
    }

    /// Stops a node by SIGTERM: how long it took.
    pub(super) async fn stop(&self, index: usize, within: Duration) -> anyhow::Result<Duration> {
        let start = Instant::now();
        self.signal(index, Signal::SIGTERM).await?;
        self.gone(index, within).await?;
        Ok(start.elapsed())
    }

    /// Waits until a node has ended by itself.
    pub(super) async fn gone(&self, index: usize, within: Duration) -> anyhow::Result<()> {
        let node = self.node(index)?;
        if !ended(&node, within).await {
            bail!("{} still runs after {} s", node.name(), within.as_secs());
        }
        Ok(())
    }

    /// Starts a node that is down.
    pub(super) fn restart(&mut self, index: usize) -> anyhow::Result<()> {
        for child in &mut self.children {
            let _ = child.try_wait();
        }
        self.children.push(chaos::restart(&self.dir, index)?);
        Ok(())
    }

    /// Whether the node's process is there.
    pub(super) fn runs(&self, index: usize) -> anyhow::Result<bool> {
        Ok(running(&self.node(index)?).is_some())
    }

    /// The end of a node's log.
    pub(super) fn last_lines(&self, index: usize) -> anyhow::Result<String> {
        Ok(process::tail(&self.node(index)?.log(), LAST_LINES).join("\n"))
    }

    /// Fails where the audit of the nodes in `of` finds anything; what it looked at.
    pub(super) async fn audit(&self, of: &[usize]) -> anyhow::Result<String> {
        let net = self.net()?;
        let nodes = of.iter().filter_map(|index| net.nodes.get(*index));
        let nodes = nodes.map(|node| (node.name(), node.rpc.clone())).collect();
        let logs = net.logs().into_iter().enumerate().filter(|(index, _)| of.contains(index));
        let logs = logs.map(|(_, log)| log).collect();
        let audit = Audit { nodes, logs, jumps: JUMPS, seed: 1, progress: false };
        let findings = audit::run(&audit).await?;
        if !findings.clean() {
            bail!("the audit has findings: {}", findings.lines.join("; "));
        }
        Ok(findings.summary)
    }

    /// Starts a network of `validators` whose links are then [`Lab::links`].
    pub(super) async fn up_proxied(&mut self, validators: usize) -> anyhow::Result<()> {
        let ports = (0..validators).map(|index| u16::try_from(10 * index).ok());
        let ports = ports.map(|offset| self.base_port.checked_add(offset?));
        let ports: Option<Vec<u16>> = ports.collect();
        self.proxy = Some(Proxy::start(&ports.context("too few ports")?)?);
        let layout = Layout { proxied: true, ..self.layout(validators) };
        self.up(layout).await
    }

    /// Changes the links: what is not named here passes.
    pub(super) fn links(&self, change: impl FnOnce(&mut Rules)) -> anyhow::Result<()> {
        let mut rules = Rules::default();
        change(&mut rules);
        self.proxy.as_ref().context("the nodes are connected directly")?.set(rules);
        Ok(())
    }

    /// Starts a network of which each home was changed by `edit`, which gets `config.toml` as it would be.
    pub(super) async fn up_edited(
        &mut self,
        layout: Layout,
        edit: impl Fn(usize, String) -> String,
    ) -> anyhow::Result<()> {
        self.lay_out_edited(&layout, edit)?;
        self.up_as_laid_out(layout).await
    }

    /// Lays out a network of which each home was changed by `edit`.
    pub(super) fn lay_out_edited(
        &self,
        layout: &Layout,
        edit: impl Fn(usize, String) -> String,
    ) -> anyhow::Result<()> {
        let nodes = lay_out(layout)?;
        for node in &nodes {
            let path = node.home.join("config/config.toml");
            let text = std::fs::read_to_string(&path)?;
            std::fs::write(&path, edit(node.index, text))?;
        }
        let (binary, app_command) = (self.binary.clone(), layout.app_command.clone());
        Ok(Net { binary, proxied: false, app_command, nodes }.store(&self.dir)?)
    }

    /// Starts a network that is laid out.
    pub(super) async fn up_as_laid_out(&self, layout: Layout) -> anyhow::Result<()> {
        let binary = self.binary.clone();
        let up = Up { layout, binary, reset: false, detach: true, demo_txs: 0, duration: None };
        up::run(&up).await?;
        Ok(())
    }

    /// Runs chaos on the network: what it saw, where it found no fault.
    pub(super) async fn chaos(
        &mut self,
        kind: chaos::Kind,
        times: u32,
        struck_for: Duration,
    ) -> anyhow::Result<Outcome> {
        let dir = self.dir.clone();
        let chaos =
            Chaos { dir, kind, times, seed: self.random.random(), load_rate: 200, struck_for };
        let follow = async {
            match &self.proxy {
                Some(proxy) => proxy.follow(&self.dir).await,
                None => std::future::pending().await,
            }
        };
        let outcome = tokio::select! {
            outcome = chaos::run(chaos) => outcome?,
            () = follow => bail!("the proxy ended"),
        };
        if !outcome.failures.is_empty() {
            bail!("{}", outcome.failures.join("; "));
        }
        Ok(outcome)
    }

    /// A process that is killed when the row ends.
    pub(super) fn end_with(&mut self, pid: u32) {
        self.others.push(pid);
    }

    /// Starts `command` in place of a node that is down.
    pub(super) fn replace(&mut self, index: usize, mut command: Command) -> anyhow::Result<()> {
        self.children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        let log = File::options().append(true).open(self.node(index)?.log())?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        note(&self.dir, index, Some(child.id()), None)?;
        self.children.push(child);
        Ok(())
    }

    /// Stops what runs, and removes the folder unless it is kept.
    pub(super) async fn end(mut self, keep: bool) -> anyhow::Result<()> {
        if let Some((stop, task)) = self.load.take() {
            stop.store(true, Ordering::Relaxed);
            task.abort();
        }
        if Net::exists(&self.dir) {
            up::stop_network(&self.dir).await?;
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
        self.end_others()?;
        match keep {
            true if self.dir.exists() => say(&format!("         kept: {}", self.dir.display())),
            _ if self.dir.exists() => std::fs::remove_dir_all(&self.dir)
                .with_context(|| format!("cannot remove {}", self.dir.display()))?,
            _ => {}
        }
        Ok(())
    }

    /// Kills the other processes of the row that are still there, as their arguments tell.
    fn end_others(&self) -> anyhow::Result<()> {
        let dir = self.dir.to_string_lossy().into_owned();
        for pid in &self.others {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&arguments).contains(&dir) {
                let pid = nix::unistd::Pid::from_raw(i32::try_from(*pid)?);
                // It may end by itself meanwhile.
                let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
            }
        }
        Ok(())
    }

    /// Takes over a process that was started as node `index`.
    pub(super) fn adopt(&mut self, index: usize, child: Child) -> anyhow::Result<()> {
        note(&self.dir, index, Some(child.id()), None)?;
        self.children.push(child);
        Ok(())
    }
}
