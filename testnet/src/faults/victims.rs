//! A node and an application that are killed at named points on the way of a block, by hidden commands. The node is put together with
//! [`Probe`], which the node program never does; the application looks whether each block comes once on top of what it has committed.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{
    RequestCheckTx, RequestFinalizeBlock, RequestInfo, RequestInitChain, RequestPrepareProposal,
    RequestProcessProposal, RequestQuery, ResponseCheckTx, ResponseCommit, ResponseFinalizeBlock,
    ResponseInfo, ResponseInitChain, ResponsePrepareProposal, ResponseProcessProposal,
    ResponseQuery,
};
use tercet_abci::grammar::Grammar;
use tercet_abci::kvstore::{Durability, KvStore};
use tercet_abci::remote::{Address, Stop};
use tercet_abci::socket::Server;
use tercet_config::{Home, Loaded};
use tercet_node::node::{Node, Settings};
use tercet_node::probe::{Point, Probe};

use crate::table::say;

/// Blocks that the application retains, so that there is always something to prune.
const RETAINED: i64 = 5;

/// Whom a point kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Who {
    /// The node.
    Node,
    /// The application.
    App,
    /// Both.
    Both,
}

impl Who {
    pub(super) const ALL: [Who; 3] = [Who::Node, Who::App, Who::Both];

    pub(super) fn name(self) -> &'static str {
        match self {
            Who::Node => "node",
            Who::App => "app",
            Who::Both => "both",
        }
    }
}

/// The name of a point, or that of no point: never.
pub(super) fn point(name: &str) -> Option<Point> {
    Point::ALL.into_iter().find(|point| point.name() == name)
}

/// Arguments of the hidden command `crash-node`.
#[derive(Clone, Debug, Args)]
pub(crate) struct NodeArgs {
    /// Its home.
    #[arg(long)]
    pub(super) home: PathBuf,
    /// The point that kills; another word never does.
    #[arg(long)]
    pub(super) at: String,
    /// At each how manieth time.
    #[arg(long, default_value_t = 1)]
    pub(super) every: u64,
    /// Whom it kills.
    #[arg(long)]
    pub(super) who: Who,
    /// The file with the application's process id.
    #[arg(long)]
    pub(super) app_pid: PathBuf,
    /// A line for each kill.
    #[arg(long)]
    pub(super) kills: PathBuf,
}

/// Runs a node that is killed, or kills its application, until it ends.
pub(crate) fn node(args: &NodeArgs) -> anyhow::Result<ExitCode> {
    // The node has runtimes of its own, which cannot start inside another.
    std::thread::scope(|scope| {
        let node = scope.spawn(|| run(args));
        node.join().unwrap_or_else(|_| anyhow::bail!("the node panicked"))
    })
}

fn run(args: &NodeArgs) -> anyhow::Result<ExitCode> {
    tracing_subscriber::fmt().with_ansi(false).init();
    let home = Home::new(&args.home);
    let loaded = Loaded::from_home(&home)?;
    let mut settings = Settings::of(&home, &loaded.config)?;
    let (killer, reached) = (args.clone(), AtomicU64::new(0));
    let deadly = point(&args.at);
    settings.probe = Probe::new(move |point| {
        if Some(point) == deadly
            && (reached.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(killer.every)
        {
            killer.strike();
        }
    });
    let (named, calls) = (settings.app.clone(), settings.app_calls.clone());
    let stop = Stop::default();
    let open = || Ok(Grammar::default().watch(tercet_abci::open(&named, &calls, &stop)?));
    let mut node = Node::start(settings, &stop, open)?;
    let end = node.wait();
    say(&format!("ERROR {end}"));
    node.stop();
    Ok(ExitCode::from(end.code()))
}

impl NodeArgs {
    /// Kills whom it is told to. The line comes first: afterwards nobody may be there to write it.
    fn strike(&self) {
        if self.who != Who::Node {
            let pid = std::fs::read_to_string(&self.app_pid).ok();
            let Some(pid) = pid.and_then(|pid| pid.trim().parse().ok()) else { return };
            // It may be dead already, and not back yet: then nobody is killed.
            if kill(Pid::from_raw(pid), Signal::SIGKILL).is_err() && self.who == Who::App {
                return;
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(&self.kills);
        if let Err(error) = file.and_then(|mut file| writeln!(file, "{}", self.at)) {
            say(&format!("ERROR the kill cannot be written: {error}"));
        }
        if self.who != Who::App {
            // Cannot fail: it is this process.
            let _ = kill(getpid(), Signal::SIGKILL);
            loop {
                std::thread::park();
            }
        }
    }
}

/// Arguments of the hidden command `checked-app`.
#[derive(Clone, Debug, Args)]
pub(crate) struct AppArgs {
    /// Where it listens.
    #[arg(long)]
    pub(super) address: Address,
    /// Its data, synced at each Commit.
    #[arg(long)]
    pub(super) data: PathBuf,
    /// A line for each block that does not follow what is committed.
    #[arg(long)]
    pub(super) violations: PathBuf,
}

/// Serves the key-value store until it is killed.
pub(crate) fn app(args: &AppArgs) -> anyhow::Result<ExitCode> {
    tracing_subscriber::fmt().with_ansi(false).init();
    let right = KvStore::open(&args.data, Durability::Synced)?;
    if let Address::Unix(path) = &args.address {
        // One that was killed leaves its socket.
        let _ = std::fs::remove_file(path);
    }
    let server = Server::bind(&args.address)?;
    server.serve(&Checked { right, violations: args.violations.clone() })?;
    Ok(ExitCode::SUCCESS)
}

/// The key-value store that looks, at each block, whether it is the one after the last that is durable here. So a block that was
/// committed is never executed again, and none is left out.
#[derive(Clone)]
struct Checked {
    right: KvStore,
    violations: PathBuf,
}

impl Checked {
    fn committed(&self) -> i64 {
        self.right.info(RequestInfo::default()).last_block_height
    }
}

fn violation(file: &Path, what: &str) {
    let opened = OpenOptions::new().create(true).append(true).open(file);
    if let Err(error) = opened.and_then(|mut file| writeln!(file, "{what}")) {
        say(&format!("ERROR {what}; it cannot be written: {error}"));
    }
}

impl Application for Checked {
    fn info(&self, request: RequestInfo) -> ResponseInfo {
        self.right.info(request)
    }

    fn init_chain(&self, request: RequestInitChain) -> ResponseInitChain {
        let at = self.committed();
        if at != 0 {
            violation(&self.violations, &format!("InitChain, and {at} is committed"));
        }
        self.right.init_chain(request)
    }

    fn query(&self, request: RequestQuery) -> ResponseQuery {
        self.right.query(request)
    }

    fn check_tx(&self, request: RequestCheckTx) -> ResponseCheckTx {
        self.right.check_tx(request)
    }

    fn prepare_proposal(&self, request: RequestPrepareProposal) -> ResponsePrepareProposal {
        self.right.prepare_proposal(request)
    }

    fn process_proposal(&self, request: RequestProcessProposal) -> ResponseProcessProposal {
        self.right.process_proposal(request)
    }

    fn finalize_block(&self, request: RequestFinalizeBlock) -> ResponseFinalizeBlock {
        let at = self.committed();
        if request.height != at + 1 {
            let what = format!("FinalizeBlock of {}, and {at} is committed", request.height);
            violation(&self.violations, &what);
        }
        self.right.finalize_block(request)
    }

    fn commit(&self) -> ResponseCommit {
        let before = self.committed();
        self.right.commit();
        let at = self.committed();
        if at != before + 1 {
            violation(&self.violations, &format!("Commit of {at} after {before}"));
        }
        ResponseCommit { retain_height: (at - RETAINED).max(0) }
    }
}
