//! `tercet-testnet`: local Tercet networks made of real processes. Starts them, loads them, breaks
//! them, and audits what they decided. It talks to nodes only as anyone could: by processes and
//! JSON-RPC.

mod application;
mod attack;
mod audit;
mod chaos;
mod cli;
mod compare_app;
mod compare_rpc;
mod faults;
mod fuzz;
mod layout;
mod load;
mod process;
mod proxy;
mod rpc;
mod seeded;
mod sim;
mod state;
mod table;
mod tracer;
mod up;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use nix::sys::signal::Signal;

use cli::{AttackArgs, AuditArgs, ChaosArgs, Cli, Command, LoadArgs, UpArgs};
use state::{Net, note};
use table::say;

/// How long `load` sends where nothing else is said.
const LOAD_DURATION: Duration = Duration::from_secs(10);
/// The longest warm-up that is taken by itself.
const WARMUP: Duration = Duration::from_secs(2);

/// The simulator allocates a lot.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            // Nobody is left to tell where the output is gone.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let threads = match &command {
        Command::Load(args) => args.threads,
        _ => 1,
    };
    let mut runtime = if threads > 1 {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = runtime.worker_threads(threads.max(1)).enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(dispatch(command))
}

async fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(args) => up(args).await,
        Command::Kill { index, signal, place } => kill(&place.dir, index, &signal).await,
        Command::Pause(one) => pause(&one.place.dir, one.index),
        Command::Resume(one) => resume(&one.place.dir, one.index),
        Command::Restart(one) => restart(&one.place.dir, one.index),
        Command::Stop(place) => {
            up::stop_network(&place.dir).await?;
            say("all stopped");
            Ok(ExitCode::SUCCESS)
        }
        Command::Status(place) => {
            for line in table::once(&Net::load(&place.dir)?).await {
                say(&line);
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Load(args) => load(args).await,
        Command::Audit(args) => audit(args).await,
        Command::Chaos(args) => chaos(args).await,
        Command::Attack(args) => attack(args).await,
        Command::Fuzz(args) => fuzz::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Exhaust { bounds } => Ok(tercet_consensus::testing::exhaustive::main(&bounds)),
        Command::SeededBugs(args) => seeded::run(&args),
        Command::Faults(mut args) => {
            let binary = node_binary(args.node_binary.take())?;
            faults::run(args, binary).await
        }
        Command::CrashPoints(mut args) => {
            let binary = node_binary(args.node_binary.take())?;
            faults::crash::run(args, binary).await
        }
        Command::CrashNode(args) => faults::victims::node(&args),
        Command::CheckedApp(args) => faults::victims::app(&args),
        Command::AppFaults(mut args) => {
            let binary = node_binary(args.node_binary.take())?;
            faults::applications::run(args, binary).await
        }
        Command::CompareApp(mut args) => {
            let binary = node_binary(args.node_binary.take())?;
            compare_app::run(args, binary).await
        }
        Command::CompareRpc(mut args) => {
            let binary = node_binary(args.node_binary.take())?;
            compare_rpc::run(args, binary).await
        }
        Command::KeepApp { home, command } => {
            application::keep(&home, &command).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::WrongApp { home } => faults::wrong_app::run(&home),
        Command::Sim(args) => sim::cli::sim(&args),
    }
}

async fn up(args: UpArgs) -> anyhow::Result<ExitCode> {
    if args.detach && !args.reset && Net::load(&args.place.dir).is_ok_and(|net| net.proxied) {
        bail!("the nodes need the proxy of `up`: start this network without --detach");
    }
    let binary = node_binary(args.node_binary)?;
    let layout = layout::Layout {
        dir: args.place.dir,
        validators: args.validators,
        powers: args.powers,
        full_nodes: args.full_nodes,
        base_port: args.base_port,
        transport: args.transport,
        app: args.app,
        app_command: args.app_command,
        settings: args.settings,
        genesis_settings: args.genesis_settings,
        sentry: args.sentry,
        proxied: args.proxied,
        cometbft: args.cometbft,
    };
    let up = up::Up {
        layout,
        binary,
        reset: args.reset,
        detach: args.detach,
        demo_txs: args.demo_txs,
        duration: args.duration,
    };
    up::run(&up).await?;
    Ok(ExitCode::SUCCESS)
}

/// The node program: as named, else `tercet` beside this one.
fn node_binary(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let path = match named {
        Some(path) => path,
        None => std::env::current_exe().context("own path")?.with_file_name("tercet"),
    };
    path.canonicalize().with_context(|| {
        format!("no node program at {}: build it, or name it with --node-binary", path.display())
    })
}

async fn kill(dir: &Path, index: usize, name: &str) -> anyhow::Result<ExitCode> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    let signal = Signal::from_str(&full)
        .map_err(|_| anyhow::anyhow!("{name:?} is not a signal: write KILL, TERM, INT, ..."))?;
    let net = Net::load(dir)?;
    let node = net.node(index)?;
    if signal == Signal::SIGKILL {
        chaos::kill(dir, node).await?;
    } else {
        note(dir, index, node.pid, Some(&full))?;
        process::signal(node, signal)?;
    }
    say(&format!("{} got {full}", node.name()));
    Ok(ExitCode::SUCCESS)
}

fn pause(dir: &Path, index: usize) -> anyhow::Result<ExitCode> {
    let net = Net::load(dir)?;
    let node = net.node(index)?;
    process::signal(node, Signal::SIGSTOP)?;
    note(dir, index, node.pid, Some("paused"))?;
    say(&format!("{} paused: `resume {index}` lets it go on", node.name()));
    Ok(ExitCode::SUCCESS)
}

fn resume(dir: &Path, index: usize) -> anyhow::Result<ExitCode> {
    let net = Net::load(dir)?;
    let node = net.node(index)?;
    process::signal(node, Signal::SIGCONT)?;
    note(dir, index, node.pid, None)?;
    say(&format!("{} goes on", node.name()));
    Ok(ExitCode::SUCCESS)
}

fn restart(dir: &Path, index: usize) -> anyhow::Result<ExitCode> {
    let child = chaos::restart(dir, index)?;
    say(&format!("node{index} started, pid {}", child.id()));
    Ok(ExitCode::SUCCESS)
}

async fn load(args: LoadArgs) -> anyhow::Result<ExitCode> {
    let until = match (args.count, args.duration) {
        (Some(count), _) => load::Until::Count(count),
        (None, duration) => load::Until::Time(duration.unwrap_or(LOAD_DURATION)),
    };
    let warmup = args.warmup.unwrap_or(match until {
        load::Until::Time(duration) => (duration / 5).min(WARMUP),
        load::Until::Count(_) => Duration::ZERO,
    });
    let endpoints = match args.endpoints.is_empty() {
        true => Net::load(&args.place.dir)?.endpoints(),
        false => args.endpoints,
    };
    let load = load::Load {
        endpoints,
        rate: args.rate,
        size_bytes: args.size,
        connections: args.connections,
        until,
        warmup,
        method: args.method,
        poll: Duration::from_millis(args.poll_ms),
        prefix: args.prefix,
    };
    let stop = Arc::new(AtomicBool::new(false));
    let stopper = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopper.store(true, Ordering::Relaxed);
        }
    });
    let report = load::run(load, stop).await?;
    if args.json {
        say(&serde_json::to_string(&report)?);
    } else {
        say(report.to_string().trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

async fn audit(args: AuditArgs) -> anyhow::Result<ExitCode> {
    let (nodes, logs): (Vec<(String, String)>, _) = match args.endpoints.is_empty() {
        true => {
            let net = Net::load(&args.place.dir)?;
            let nodes = net.nodes.iter().map(|node| (node.name(), node.rpc.clone())).collect();
            (nodes, net.logs())
        }
        false => {
            let nodes = args.endpoints.iter().map(|address| (address.clone(), address.clone()));
            (nodes.collect(), Vec::new())
        }
    };
    let seed = args.seed.unwrap_or_else(rand::random);
    let audit = audit::Audit { nodes, logs, jumps: args.jumps, seed, progress: true };
    let findings = audit::run(&audit).await?;
    say(&format!("{findings} (seed {seed})"));
    Ok(if findings.clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn attack(args: AttackArgs) -> anyhow::Result<ExitCode> {
    let attack = attack::Attack {
        dir: args.place.dir,
        kind: args.kind,
        victim: args.target,
        duration: args.seconds,
        addresses: args.addresses,
        load_rate: args.load_rate,
    };
    let outcome = attack::run(&attack).await?;
    match args.json {
        true => say(&serde_json::to_string(&outcome)?),
        false => say(&outcome.to_string()),
    }
    let passed = outcome.failures.is_empty();
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn chaos(args: ChaosArgs) -> anyhow::Result<ExitCode> {
    if args.times == 0 {
        bail!("--times must be at least 1");
    }
    let chaos = chaos::Chaos {
        dir: args.place.dir,
        kind: args.kind,
        times: args.times,
        seed: args.seed.unwrap_or_else(rand::random),
        load_rate: args.load_rate,
        struck_for: args.struck_for,
    };
    let outcome = chaos::run(chaos).await?;
    say(&outcome.to_string());
    let passed = outcome.failures.is_empty();
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
