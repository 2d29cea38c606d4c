//! `up`: a whole network, from empty folders to committed transactions, until it is stopped.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::application::{self, AppError};
use crate::layout::{Layout, LayoutError, lay_out};
use crate::process::{self, ProcessError, running, stop_all, tail};
use crate::proxy::Proxy;
use crate::rpc::{COMMIT_TIMEOUT, Rpc, RpcError};
use crate::state::{Net, Node, StateError};
use crate::table::{DRAW, Table, say};

/// How long the nodes may take to commit their first block.
const FIRST_BLOCK_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a starting node is asked.
const LOOK: Duration = Duration::from_millis(100);
/// Patience with one answer of a starting node.
const PATIENCE: Duration = Duration::from_secs(1);
/// Why a node is down after `stop`.
const STOPPED: &str = "stopped";
/// Lines of the log that are shown of a node that died.
const LAST_LINES: usize = 5;

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct Up {
    /// The homes.
    pub(crate) layout: Layout,
    /// The node program.
    pub(crate) binary: PathBuf,
    /// Whether an older network in the folder is removed first.
    pub(crate) reset: bool,
    /// Whether to leave the network running and return.
    pub(crate) detach: bool,
    /// Transactions to show.
    pub(crate) demo_txs: u32,
    /// When to stop by itself.
    pub(crate) duration: Option<Duration>,
}

/// Why a network did not come up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpError {
    /// The homes cannot be written.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The description of the network cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// An application cannot be handled.
    #[error(transparent)]
    App(#[from] AppError),
    /// A process cannot be handled.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A node does not answer as it should.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// Something of the system failed.
    #[error("{0}")]
    Io(String, #[source] io::Error),
    /// Nodes of this network are running already.
    #[error("the network in {0} is running: `tercet-testnet stop --dir {0}` stops it")]
    AlreadyRunning(String),
    /// The folder has another network.
    #[error("{0} has a network of {1} nodes: use --reset to begin anew, or another --dir")]
    OtherNetwork(String, usize),
    /// The network has its applications in the nodes.
    #[error(
        "the nodes in {0} have their application inside: use --reset to begin anew with --app-command, or another --dir"
    )]
    InTheNode(String),
    /// A port is taken.
    #[error("port {0} is in use: choose another with --base-port")]
    Port(String, #[source] io::Error),
    /// A node died before the first block.
    #[error("{0} ended before it committed a block; its log ends:\n{1}")]
    Died(String, String),
    /// There is no first block.
    #[error("no block within {secs} s at {names}: see the logs in {dir}")]
    NoBlock {
        /// Seconds waited.
        secs: u64,
        /// The nodes without one.
        names: String,
        /// The network's folder.
        dir: String,
    },
    /// A demo transaction was not committed.
    #[error("transaction refused: {0}")]
    Refused(String),
}

/// Lays out, starts, shows and stops a network.
pub(crate) async fn run(up: &Up) -> Result<(), UpError> {
    let dir = &up.layout.dir;
    let mut stop = Stop::listen()?;
    let mut net = prepare(up)?;
    ports_free(&net).await?;
    // Who leaves the network to itself has a proxy elsewhere.
    let proxy = (net.proxied && !up.detach).then(|| Proxy::of(&net)).transpose();
    let proxy = proxy.map_err(|e| UpError::Io("cannot start the proxy".to_owned(), e))?;
    let mut keepers = application::start_all(&mut net).await?;
    net.store(dir)?;
    let mut children = match start_all(&mut net) {
        Ok(children) => children,
        Err(error) => {
            application::stop_all(&net.nodes).await;
            return Err(error);
        }
    };
    net.store(dir)?;
    let result = tokio::select! {
        signal = stop.wait() => Ok(Some(signal)),
        result = live(up, &net, &mut children) => result.map(|()| None),
        () = follow(proxy.as_ref(), dir) => Ok(None),
    };
    match result {
        Ok(None) if up.detach => {
            say(&format!("running; `tercet-testnet stop --dir {}` stops it", dir.display()));
            return Ok(());
        }
        Ok(Some(name)) => say(&format!("{name}: stopping {} nodes", net.nodes.len())),
        Ok(None) => say(&format!("stopping {} nodes", net.nodes.len())),
        Err(_) => {}
    }
    stop_network(dir).await?;
    for child in children.iter_mut().chain(&mut keepers) {
        let _ = child.wait();
    }
    result.map(|_| say("all stopped"))
}

/// Does what the rules for links say, and never ends.
async fn follow(proxy: Option<&Proxy>, dir: &Path) {
    match proxy {
        Some(proxy) => proxy.follow(dir).await,
        None => std::future::pending().await,
    }
}

/// Stops every node of the network in `dir` that runs.
pub(crate) async fn stop_network(dir: &Path) -> Result<(), UpError> {
    let net = Net::load(dir)?;
    for name in stop_all(&net.nodes).await {
        say(&format!("warning: {name} did not end within 10 s of SIGTERM and was killed"));
    }
    application::stop_all(&net.nodes).await;
    Net::update(dir, |net| {
        for node in &mut net.nodes {
            node.pid = None;
            node.down = Some(STOPPED.to_owned());
            node.keeper = None;
        }
    })?;
    Ok(())
}

/// Ctrl-C and SIGTERM.
struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> Result<Self, UpError> {
        let listen = |kind| signal(kind).map_err(|e| UpError::Io("signals".to_owned(), e));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "interrupted",
            _ = self.terminate.recv() => "terminated",
        }
    }
}

/// The homes: new ones, or those of an earlier run, whose chain then goes on.
fn prepare(up: &Up) -> Result<Net, UpError> {
    let dir = &up.layout.dir;
    let shown = dir.display().to_string();
    if Net::exists(dir) {
        let net = Net::load(dir)?;
        if net.nodes.iter().any(|node| running(node).is_some()) {
            return Err(UpError::AlreadyRunning(shown));
        }
        if !up.reset {
            if net.nodes.len() != up.layout.nodes() {
                return Err(UpError::OtherNetwork(shown, net.nodes.len()));
            }
            say(&format!("the chain in {shown} goes on (--reset begins a new one)"));
            if up.layout.app_command.is_some() && net.app_command.is_none() {
                return Err(UpError::InTheNode(shown));
            }
            let app_command = up.layout.app_command.clone().or_else(|| net.app_command.clone());
            return Ok(Net { binary: up.binary.clone(), app_command, ..net });
        }
        for node in &net.nodes {
            let io = |e| UpError::Io(format!("cannot remove {}", node.home.display()), e);
            if node.home.exists() {
                std::fs::remove_dir_all(&node.home).map_err(io)?;
            }
        }
    }
    let nodes = lay_out(&up.layout)?;
    say(&format!("laid out {} nodes in {shown}", nodes.len()));
    let app_command = up.layout.app_command.clone();
    Ok(Net { binary: up.binary.clone(), proxied: up.layout.proxied, app_command, nodes })
}

async fn ports_free(net: &Net) -> Result<(), UpError> {
    for node in &net.nodes {
        let p2p = node.p2p.rsplit_once('@').map_or(node.p2p.as_str(), |(_, address)| address);
        for address in [node.rpc.as_str(), p2p] {
            let bound = TcpListener::bind(address).await;
            bound.map_err(|error| UpError::Port(address.to_owned(), error))?;
        }
    }
    Ok(())
}

fn start_all(net: &mut Net) -> Result<Vec<Child>, UpError> {
    let mut children: Vec<Child> = Vec::new();
    for node in &mut net.nodes {
        node.down = None;
        node.pid = None;
        match process::start(&net.binary, node) {
            Ok(child) => {
                node.pid = Some(child.id());
                children.push(child);
            }
            Err(error) => {
                for child in &mut children {
                    let _ = child.kill();
                    let _ = child.wait();
                }
                return Err(error.into());
            }
        }
    }
    Ok(children)
}

async fn live(up: &Up, net: &Net, children: &mut [Child]) -> Result<(), UpError> {
    let started = Instant::now();
    first_blocks(up, net, children).await?;
    say(&format!("all {} nodes commit blocks", net.nodes.len()));
    for number in 0..up.demo_txs {
        demo(net, number).await?;
    }
    addresses(up, net);
    if up.detach {
        return Ok(());
    }
    let mut table = Table::new(net);
    let mut known_down = vec![false; net.nodes.len()];
    while up.duration.is_none_or(|duration| started.elapsed() < duration) {
        // Other commands change the description: restarted processes, nodes down on purpose.
        let net = Net::load(&up.layout.dir)?;
        for child in children.iter_mut() {
            let _ = child.try_wait();
        }
        for (node, down) in net.nodes.iter().zip(&mut known_down) {
            let dead = running(node).is_none();
            if dead && !*down && node.down.is_none() {
                table.say(&died(node));
            }
            *down = dead;
        }
        if net.nodes.iter().all(|node| node.down.as_deref() == Some(STOPPED)) {
            return Ok(());
        }
        table.show(&net).await;
        tokio::time::sleep(DRAW).await;
    }
    Ok(())
}

fn died(node: &Node) -> String {
    let last = tail(&node.log(), LAST_LINES).join("\n    ");
    format!(
        "{} ended by itself; `restart {}` starts it again:\n    {last}",
        node.name(),
        node.index
    )
}

/// Waits until every node has a block, and says how far they are.
async fn first_blocks(up: &Up, net: &Net, children: &mut [Child]) -> Result<(), UpError> {
    let start = Instant::now();
    let mut told = Instant::now();
    let mut waiting: Vec<&Node> = net.nodes.iter().collect();
    let secs = FIRST_BLOCK_TIMEOUT.as_secs();
    while !waiting.is_empty() {
        let mut still = Vec::new();
        for node in waiting {
            if height(node).await < Some(1) {
                still.push(node);
            }
        }
        waiting = still;
        for (child, node) in children.iter_mut().zip(&net.nodes) {
            if matches!(child.try_wait(), Ok(Some(_))) {
                let last = tail(&node.log(), LAST_LINES).join("\n");
                return Err(UpError::Died(node.name(), last));
            }
        }
        let names: Vec<String> = waiting.iter().map(|node| node.name()).collect();
        if start.elapsed() > FIRST_BLOCK_TIMEOUT {
            let dir = up.layout.dir.display().to_string();
            return Err(UpError::NoBlock { secs, names: names.join(", "), dir });
        }
        if told.elapsed() >= Duration::from_secs(1) && !names.is_empty() {
            told = Instant::now();
            say(&format!(
                "waiting for the first block of {} ({} s of at most {secs})",
                names.join(", "),
                start.elapsed().as_secs()
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn height(node: &Node) -> Option<u64> {
    let mut rpc = Rpc::new(&node.rpc).patient(PATIENCE);
    Some(rpc.status().await.ok()?.sync_info.latest_block_height)
}

#[derive(Deserialize)]
struct Committed {
    check_tx: Code,
    hash: String,
    #[serde(deserialize_with = "crate::rpc::quoted")]
    height: u64,
}

#[derive(Deserialize)]
struct Code {
    code: u32,
    #[serde(default)]
    log: String,
}

/// One transaction through one node, shown once it is in a block.
async fn demo(net: &Net, number: u32) -> Result<(), UpError> {
    let nodes = net.nodes.len().max(1);
    let index = usize::try_from(number).unwrap_or(0) % nodes;
    let node = net.node(index)?;
    let mut rpc = Rpc::new(&node.rpc).patient(COMMIT_TIMEOUT);
    let tx = format!("demo-{:08x}-{number}=hello", rand::random::<u32>());
    let start = Instant::now();
    let params = json!({"tx": STANDARD.encode(&tx)});
    let done: Committed = rpc.call("broadcast_tx_commit", params).await?;
    if done.check_tx.code != 0 {
        return Err(UpError::Refused(done.check_tx.log));
    }
    say(&format!(
        "committed {tx} through {} at height {} in {} ms, hash {}",
        node.name(),
        done.height,
        start.elapsed().as_millis(),
        done.hash
    ));
    Ok(())
}

fn addresses(up: &Up, net: &Net) {
    for node in &net.nodes {
        if net.app_command.is_some() {
            let log = application::Files::of(&node.home).log;
            say(&format!("{:<7} application log {}", node.name(), log.display()));
        }
        say(&format!(
            "{:<7} rpc http://{}  p2p {}  pid {}  log {}",
            node.name(),
            node.rpc,
            node.p2p,
            node.pid.unwrap_or_default(),
            node.log().display()
        ));
    }
    let dir = up.layout.dir.display();
    say(&format!("try: tercet-testnet kill 0 --dir {dir}; restart, load, audit likewise"));
    if !up.detach {
        say("Ctrl-C stops all nodes");
    }
}
