//! The command line: what can be asked for, and how it is explained.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::attack;
use crate::chaos::Kind;
use crate::compare_app::CompareArgs;
use crate::compare_rpc::CompareRpcArgs;
use crate::faults::FaultsArgs;
use crate::faults::applications::AppFaultsArgs;
use crate::faults::crash::CrashArgs;
use crate::faults::victims::{AppArgs, NodeArgs};
use crate::fuzz::FuzzArgs;
use crate::layout::{App, Transport};
use crate::load::Method;
use crate::seeded::SeededArgs;
use crate::sim::cli::SimArgs;

/// Local Tercet networks: start, load, break, audit.
#[derive(Debug, Parser)]
#[command(name = "tercet-testnet", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
A first walk, in two terminals:
  tercet-testnet up --validators 4 --demo-txs 4    four validators, until Ctrl-C
  tercet-testnet status                            height, view, primary, memory of each node
  tercet-testnet kill 2                            kill -9 of one: the chain goes on
  tercet-testnet restart 2                         it catches up and votes again
  tercet-testnet load --rate 100 --method commit   latency from send to commit
  tercet-testnet load                              throughput, as fast as answers come
  tercet-testnet audit                             one chain, every signature good?
  tercet-testnet chaos --kind kill-primary --times 20
Every command finds the network by --dir (default .testnet), where each node has a home
(node0, node1, ...) with its configuration, data and log.txt.";

/// Where the network is.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// Folder of the network.
    #[arg(long, default_value = ".testnet", env = "TERCET_TESTNET_DIR")]
    pub(crate) dir: PathBuf,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Lay out and start a network, show it, stop it on Ctrl-C.
    Up(UpArgs),
    /// Send a signal to a node (SIGKILL unless told otherwise).
    Kill {
        /// Index of the node.
        index: usize,
        /// Signal by name, such as KILL, TERM or INT.
        #[arg(long, default_value = "KILL")]
        signal: String,
        /// Where the network is.
        #[command(flatten)]
        place: Place,
    },
    /// Freeze a node (SIGSTOP): its connections stay open, but it does nothing.
    Pause(One),
    /// Let a frozen node go on (SIGCONT).
    Resume(One),
    /// Start a node again that is down.
    Restart(One),
    /// Stop all nodes: SIGTERM, and SIGKILL after 10 s.
    Stop(Place),
    /// Show every node once.
    Status(Place),
    /// Send transactions and measure (also against CometBFT, with --endpoints).
    Load(LoadArgs),
    /// Read every node and check that the chain is one and every signature in it good.
    Audit(AuditArgs),
    /// Kill and pause nodes or break links under load, and check that all goes on.
    Chaos(ChaosArgs),
    /// Break networks of their own in every way of the fault table, and check what must hold.
    Faults(FaultsArgs),
    /// Let an application of a real network misbehave in every method in every way, and check what must hold (needs Go).
    AppFaults(AppFaultsArgs),
    /// Order the same transactions by CometBFT and by Tercet, with the key-value stores of both, and compare (needs CometBFT).
    CompareApp(CompareArgs),
    /// Ask CometBFT and Tercet the same thousands of things by RPC, and compare the replies (needs CometBFT).
    CompareRpc(CompareRpcArgs),
    /// Attack a node of a running network as a hostile peer, and measure what it costs the node.
    Attack(AttackArgs),
    /// Feed hostile bytes to every decoder of the node.
    Fuzz(FuzzArgs),
    /// Kill a validator, its application or both at every point on the way of a block, many times.
    CrashPoints(CrashArgs),
    /// Run a node that a point kills: for `crash-points`.
    #[command(hide = true)]
    CrashNode(NodeArgs),
    /// Run the application of such a node.
    #[command(hide = true)]
    CheckedApp(AppArgs),
    /// Run a node whose application computes a wrong hash at a transaction of the key `diverge`: for `faults`.
    #[command(hide = true)]
    WrongApp {
        /// Its home.
        home: PathBuf,
    },
    /// Keep the application of a home running: for `up --app-command`.
    #[command(hide = true)]
    KeepApp {
        /// The node's home.
        home: PathBuf,
        /// The command.
        command: String,
    },
    /// Search all states of a small network of real replicas, one of them faulty.
    #[command(after_help = tercet_consensus::testing::exhaustive::HELP)]
    Exhaust {
        /// What bounds the search, as key=value.
        bounds: Vec<String>,
    },
    /// Plant known flaws into a copy of the source, one by one, and look what finds them.
    SeededBugs(SeededArgs),
    /// Run whole networks in one thread under virtual time, with everything that can go wrong.
    Sim(SimArgs),
}

/// One node of a network.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// Index of the node.
    pub(crate) index: usize,
    /// Where the network is.
    #[command(flatten)]
    pub(crate) place: Place,
}

const UP_NOTES: &str = "\
With --app-command each node drives an application in another process: it is started before the node, started again
when it dies (after 100 ms, then after twice as long, up to 3 s), and stopped after it. Its output is in app.log.txt
beside the node's log.txt.

  up --app-command 'abci-cli kvstore --address unix://{socket} --persist {home}/app'
  up --app-command 'tercet-abci kvstore --address unix://{socket} --persist {home}/app'
  chaos --kind kill-app        kill -9 of such an application at random times
docs/applications.md says what a node does with an application that is slow, wrong or gone.";

/// Arguments of `up`.
#[derive(Debug, Args)]
#[command(after_help = UP_NOTES)]
pub(crate) struct UpArgs {
    /// How many validators.
    #[arg(long, default_value_t = 4)]
    pub(crate) validators: usize,
    /// Their powers, one for each (default: 10 each).
    #[arg(long, value_delimiter = ',')]
    pub(crate) powers: Vec<u64>,
    /// Full nodes besides.
    #[arg(long, default_value_t = 0)]
    pub(crate) full_nodes: usize,
    /// Where the network is.
    #[command(flatten)]
    pub(crate) place: Place,
    /// First port: node I has p2p on P + 10 I and RPC on the next.
    #[arg(long, default_value_t = 26_656)]
    pub(crate) base_port: u16,
    /// How nodes are connected.
    #[arg(long, value_enum, default_value_t = Transport::Tcp)]
    pub(crate) transport: Transport,
    /// The application in every node.
    #[arg(long, value_enum, default_value_t = App::Kvstore)]
    pub(crate) app: App,
    /// Run the application of every node as a process of its own, by this shell command: {socket} in it is the path of the Unix
    /// socket that it must listen at, or {tcp} the host and port; {home} is the node's home.
    #[arg(long, value_name = "COMMAND", conflicts_with = "app")]
    pub(crate) app_command: Option<String>,
    /// A setting of config.toml in every node, such as consensus.create_empty_blocks=false.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// A value in genesis.json, such as tercet.min_block_interval=\"100ms\".
    #[arg(long = "genesis-set", value_name = "KEY=VALUE")]
    pub(crate) genesis_settings: Vec<String>,
    /// The node program (default: `tercet` beside this one).
    #[arg(long)]
    pub(crate) node_binary: Option<PathBuf>,
    /// Validators 0 and 1 are connected to nothing but the first full node.
    #[arg(long)]
    pub(crate) sentry: bool,
    /// Nodes reach each other through a proxy in this process, so that `chaos` can break links
    /// (not with QUIC).
    #[arg(long, conflicts_with_all = ["detach", "cometbft"])]
    pub(crate) proxied: bool,
    /// The node program is CometBFT's (name it with --node-binary), to compare with.
    #[arg(long)]
    pub(crate) cometbft: bool,
    /// Transactions to commit and show once the chain runs.
    #[arg(long, default_value_t = 0)]
    pub(crate) demo_txs: u32,
    /// Remove an older network in the folder and begin a new chain.
    #[arg(long)]
    pub(crate) reset: bool,
    /// Return once the chain runs; `stop` stops the nodes.
    #[arg(long)]
    pub(crate) detach: bool,
    /// Stop by itself after this many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) duration: Option<Duration>,
}

const LOAD_NOTES: &str = "\
Sustained is the figure to compare: transactions committed a second between the first and the last
loaded block after the warm-up. Latency with --method commit is from the send to the answer, which
comes when the block is committed; otherwise from the send until the first endpoint tells of the
block. Late sends mean that answers are too slow for --rate, or --connections too few.

  load --rate 50 --method commit --duration 30     latency
  load --duration 30                               throughput
More, and how to compare with CometBFT: docs/testing.md.";

/// Arguments of `load`.
#[derive(Debug, Args)]
#[command(after_help = LOAD_NOTES)]
pub(crate) struct LoadArgs {
    /// Where the network is.
    #[command(flatten)]
    pub(crate) place: Place,
    /// RPC addresses instead of a network's folder; blocks are watched at the first.
    #[arg(long, value_delimiter = ',')]
    pub(crate) endpoints: Vec<String>,
    /// Transactions a second in total; 0: as fast as answers come.
    #[arg(long, default_value_t = 0)]
    pub(crate) rate: u64,
    /// Bytes of a transaction.
    #[arg(long, default_value_t = 250)]
    pub(crate) size: usize,
    /// Connections per endpoint, each with one request under way.
    #[arg(long, default_value_t = 16)]
    pub(crate) connections: usize,
    /// Seconds to send (default 10, unless --count is given).
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with = "count")]
    pub(crate) duration: Option<Duration>,
    /// Transactions to send.
    #[arg(long)]
    pub(crate) count: Option<u64>,
    /// Seconds at the start that are not measured (default 2, at most a fifth of the duration).
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) warmup: Option<Duration>,
    /// How transactions are handed in.
    #[arg(long, value_enum, default_value_t = Method::Sync)]
    pub(crate) method: Method,
    /// Milliseconds between two looks at the chain.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) poll_ms: u64,
    /// What every key begins with.
    #[arg(long, default_value = "t")]
    pub(crate) prefix: String,
    /// Threads of the loader.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Print the figures as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

const AUDIT_NOTES: &str = "\
Looked for at every height and every node: one block, one application hash, each header on the one
before; every commit accepted by tendermint-light-client-verifier, step by step, in random jumps and
over each change of the validator set; every signature good; nobody signed two things in one view; no
evidence. Exit code 1 where anything is found. All nodes must be running.";

/// Arguments of `audit`.
#[derive(Debug, Args)]
#[command(after_help = AUDIT_NOTES)]
pub(crate) struct AuditArgs {
    /// Where the network is.
    #[command(flatten)]
    pub(crate) place: Place,
    /// RPC addresses instead of a network's folder.
    #[arg(long, value_delimiter = ',')]
    pub(crate) endpoints: Vec<String>,
    /// Jumps of the light client to try.
    #[arg(long, default_value_t = 64)]
    pub(crate) jumps: usize,
    /// Seed of their choice (default: a random one).
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

const CHAOS_NOTES: &str = "\
What must hold, else the exit code is 1: a killed node is at the tip within 10 s of its start, the
median of the largest gaps with a killed primary is under 1.5 s, every node has five new blocks within 30 s
after its links are whole again, and the audit at the end is clean.
Gaps between blocks are seen from outside: another validator is asked for its height every 2 ms.
After an interruption, `status` shows who is down or paused; `restart` and `resume` bring them back.";

/// Arguments of `chaos`.
#[derive(Debug, Args)]
#[command(after_help = CHAOS_NOTES)]
pub(crate) struct ChaosArgs {
    /// Where the network is; it must be running.
    #[command(flatten)]
    pub(crate) place: Place,
    /// What is done.
    #[arg(long, value_enum)]
    pub(crate) kind: Kind,
    /// How often.
    #[arg(long, default_value_t = 10)]
    pub(crate) times: u32,
    /// Seed of every choice (default: a random one).
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Transactions a second meanwhile; 0: none.
    #[arg(long, default_value_t = 200)]
    pub(crate) load_rate: u64,
    /// Seconds that a killed or frozen primary stays away while the blocks are watched, or links
    /// stay broken.
    #[arg(long, default_value = "5", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) struck_for: Duration,
}

const ATTACK_NOTES: &str = "\
Exit code 1 where the node does not withstand: fewer than half of the heights, memory or file
descriptors that grow, connections that are not ended, validators that are disconnected, and what a
kind asks besides. docs/attacks.md says what each kind does and what was seen.";

/// Arguments of `attack`.
#[derive(Debug, Args)]
#[command(after_help = ATTACK_NOTES)]
pub(crate) struct AttackArgs {
    /// Where the network is; it must be running.
    #[command(flatten)]
    pub(crate) place: Place,
    /// What is done.
    #[arg(long, value_enum)]
    pub(crate) kind: attack::Kind,
    /// Index of the node that it is done to.
    #[arg(long, default_value_t = 0)]
    pub(crate) target: usize,
    /// For how long.
    #[arg(long, default_value = "15", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// From how many addresses: what was sent away from one comes back from the next.
    #[arg(long, default_value_t = 1)]
    pub(crate) addresses: u16,
    /// Honest transactions a second, meanwhile.
    #[arg(long, default_value_t = attack::LOAD_RATE)]
    pub(crate) load_rate: u64,
    /// Print the figures as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A time written in seconds, with a fraction if need be.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches('s').parse::<f64>().ok();
    number
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "write seconds, such as 30 or 0.5".to_owned())
}
