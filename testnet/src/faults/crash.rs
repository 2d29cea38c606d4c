//! Kills at named points between any two steps of a block, from its decision to the pruning of old ones, of the node, of its application
//! in another process and of both at once; and at random moments. The application sees each block once on what it has committed.

use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::Rng;
use serde_json::{Value, json};
use tercet_node::probe::Point;

use super::lab::Lab;
use super::victims::Who;
use super::{Row, Seen};
use crate::rpc::{Rpc, RpcError};
use crate::table::say;

/// The word for kills that the runner does, at random moments.
const RANDOM: &str = "random";
/// The latest moment of a random kill after a start.
const RANDOM_MAX: Duration = Duration::from_millis(700);
/// How often processes are looked after.
const LOOK: Duration = Duration::from_millis(4);
/// The longest time between two kills.
const KILL_MAX: Duration = Duration::from_secs(60);
/// Heights that the chain must grow by afterwards.
const AFTERWARDS: u64 = 5;
const SOON: Duration = Duration::from_secs(30);
/// Patience with one answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Kills of each kind in the row of the table.
const ROW_KILLS: u64 = 2;

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "T-34",
        fault: "Kills between any two of decide, journal, store, FinalizeBlock, results, sync, Commit and prune",
        how: "a validator of four under load, its application in another process; node, application or both killed at each point and at random \
          moments, twice each; `tercet-testnet crash-points` with more",
        must: "the application sees each block once on what it has committed; at the tip; S",
        run: |lab| Box::pin(row(lab)),
    },
    Row {
        id: "T-94",
        fault: "A crash while blocks are pruned and asked for",
        how: "a validator whose application lets blocks go (retain_height) killed 20 times after a batch was removed, and asked meanwhile for the \
          lowest block that it says it has and for those beside it",
        must: "each answer is the block that the others have or says that it is gone; base and answers agree; S",
        run: |lab| Box::pin(pruned(lab)),
    },
];

/// Arguments of `crash-points`.
#[derive(Debug, Args)]
pub(crate) struct CrashArgs {
    /// Kills of each kind.
    #[arg(long, default_value_t = 200)]
    kills: u64,
    /// Validators; the last of them is killed. One alone is fastest.
    #[arg(long, default_value_t = 4)]
    validators: usize,
    /// Points, such as decided,synced; "random": at random moments [default: all].
    #[arg(long, value_delimiter = ',')]
    points: Vec<String>,
    /// Whom to kill [default: each].
    #[arg(long, value_delimiter = ',')]
    who: Vec<Who>,
    /// First port of the network.
    #[arg(long, default_value_t = 31_500)]
    base_port: u16,
    /// Seed of every choice.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The node program (default: `tercet` beside this one).
    #[arg(long)]
    pub(crate) node_binary: Option<PathBuf>,
}

/// Every point by name, and random moments.
fn points() -> Vec<String> {
    Point::ALL.iter().map(|point| point.name()).chain([RANDOM]).map(str::to_owned).collect()
}

/// Kills as often as asked for, and says how it went.
pub(crate) async fn run(args: CrashArgs, binary: PathBuf) -> anyhow::Result<ExitCode> {
    let all = points();
    let wanted = if args.points.is_empty() { all.clone() } else { args.points };
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        bail!("{unknown:?} is no point: {}", all.join(", "));
    }
    let who = if args.who.is_empty() { Who::ALL.to_vec() } else { args.who };
    let mut lab = Lab::new(binary, args.base_port, args.seed)?;
    let result = strike_all(&mut lab, args.validators, (&wanted, &who, args.kills)).await;
    lab.end(result.is_err()).await?;
    say(&result?);
    Ok(ExitCode::SUCCESS)
}

async fn row(lab: &mut Lab) -> Seen {
    strike_all(lab, 4, (&points(), &Who::ALL, ROW_KILLS)).await
}

/// What a node said of blocks around its lowest.
#[derive(Default)]
struct Asked {
    right: u64,
    gone: u64,
}

async fn pruned(lab: &mut Lab) -> Seen {
    const KILLS: u64 = 20;
    let mut victim = Victim::up(lab, 4).await?;
    victim.lab.load(50, &[0, 1])?;
    let stop = Arc::new(AtomicBool::new(false));
    let nodes = (victim.lab.node(victim.index)?.rpc, victim.lab.node(0)?.rpc);
    let asking = tokio::spawn(ask(nodes, Arc::clone(&stop)));
    let killed = victim.kill(Point::Pruned.name(), Who::Node, KILLS).await;
    stop.store(true, Ordering::Relaxed);
    let asked = asking.await?;
    killed?;
    let asked = asked?;
    ensure!(asked.right > 0 && asked.gone > 0, "{} right, {} gone", asked.right, asked.gone);
    victim.end().await?;
    lab.end_load().await?;
    let audit = lab.audit(&[0, 1, 2]).await?;
    let Asked { right, gone } = asked;
    Ok(format!(
        "{KILLS} kills; {right} answers as the others have them, {gone} that it is gone; {audit}"
    ))
}

/// Asks the first node for its lowest block and those beside it, and compares with the second, until it is told to stop.
async fn ask(nodes: (String, String), stop: Arc<AtomicBool>) -> anyhow::Result<Asked> {
    let (mut asked, mut of) = (Asked::default(), Rpc::new(&nodes.0).patient(PATIENCE));
    let mut others = Rpc::new(&nodes.1).patient(PATIENCE);
    while !stop.load(Ordering::Relaxed) {
        let status: Result<Value, RpcError> = of.call("status", json!({})).await;
        let earliest = status.ok().and_then(|status| {
            status["sync_info"]["earliest_block_height"].as_str()?.parse::<u64>().ok()
        });
        let Some(earliest) = earliest.filter(|earliest| *earliest > 1) else {
            // It is down, or has pruned nothing yet.
            tokio::time::sleep(LOOK).await;
            continue;
        };
        for height in earliest - 1..=earliest + 1 {
            let params = json!({"height": height.to_string()});
            let found: Result<Value, RpcError> = of.call("block", params.clone()).await;
            match found {
                Ok(block) => {
                    ensure!(
                        height >= earliest,
                        "block {height} is there, and {earliest} the lowest"
                    );
                    let right: Value = others.call("block", params).await?;
                    ensure!(block == right, "another block {height}: {block}");
                    asked.right += 1;
                }
                Err(error) => asked.gone += u64::from(error.to_string().contains("not available")),
            }
        }
    }
    Ok(asked)
}

/// Kills at each of `points` each of `who` so often, and audits.
async fn strike_all(
    lab: &mut Lab,
    validators: usize,
    (points, who, kills): (&[String], &[Who], u64),
) -> Seen {
    let mut victim = Victim::up(lab, validators).await?;
    let others: Vec<usize> = (0..victim.index).collect();
    if !others.is_empty() {
        victim.lab.load(50, &others)?;
    }
    for who in who {
        for at in points {
            let start = Instant::now();
            victim.kill(at, *who, kills).await.with_context(|| format!("{at}, {}", who.name()))?;
            let (secs, name) = (start.elapsed().as_secs(), who.name());
            say(&format!("{at:<10} {name:<5} {kills} kills in {secs} s"));
        }
    }
    victim.end().await?;
    if !others.is_empty() {
        lab.end_load().await?;
    }
    let all: Vec<usize> = (0..validators).collect();
    lab.grow(&all, AFTERWARDS, SOON).await?;
    let mut audit = lab.audit(&all).await?;
    if !others.is_empty() {
        // The one that is killed has pruned its old blocks; the others have all.
        audit = lab.audit(&others).await?;
    }
    let kinds = u64::try_from(points.len() * who.len())?;
    let total = kinds * kills;
    Ok(format!(
        "{total} kills of {kinds} kinds, each block executed once on what was committed; {audit}"
    ))
}

/// The validator that is killed, with its application.
struct Victim<'a> {
    lab: &'a mut Lab,
    index: usize,
    app: Child,
    address: String,
}

impl<'a> Victim<'a> {
    /// Starts a network whose last validator has its application in another process.
    async fn up(lab: &'a mut Lab, validators: usize) -> anyhow::Result<Victim<'a>> {
        let index = validators.checked_sub(1).context("at least one validator")?;
        let mut layout = lab.layout(validators);
        layout.settings = vec!["consensus.create_empty_blocks_interval=20ms".to_owned()];
        let address = format!("unix://{}", lab.dir().join("app.sock").display());
        let proxy_app = format!("proxy_app = \"{address}\"");
        let edit = move |node: usize, text: String| {
            if node == index { replaced(&text, "proxy_app", &proxy_app) } else { text }
        };
        lab.lay_out_edited(&layout, edit)?;
        let app = start_app(lab, &address)?;
        lab.up_as_laid_out(layout).await?;
        Ok(Victim { lab, index, app, address })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.lab.dir().join(name)
    }

    /// How many kills there were.
    fn kills(&self) -> u64 {
        let text = std::fs::read_to_string(self.file("kills")).unwrap_or_default();
        u64::try_from(text.lines().count()).unwrap_or(u64::MAX)
    }

    /// Fails where a block came that does not follow what the application has committed.
    fn check(&self) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(self.file("violations")).unwrap_or_default();
        match text.lines().next() {
            Some(line) => bail!("the application says: {line}"),
            None => Ok(()),
        }
    }

    /// Starts the node so that `at` kills.
    fn start_node(&mut self, at: &str, who: Who) -> anyhow::Result<()> {
        let every = self.lab.random.random_range(1..=4u64).to_string();
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("crash-node").arg("--home").arg(self.lab.node(self.index)?.home);
        command.args(["--at", at, "--who", who.name(), "--every", &every]);
        command.arg("--app-pid").arg(self.file("app.pid")).arg("--kills").arg(self.file("kills"));
        self.lab.replace(self.index, command)
    }

    /// Has `at` kill so often, and starts again whoever died.
    async fn kill(&mut self, at: &str, who: Who, kills: u64) -> anyhow::Result<()> {
        if self.lab.runs(self.index)? {
            self.lab.signal(self.index, Signal::SIGKILL).await?;
        }
        let goal = self.kills() + kills;
        let mut last = (self.kills(), Instant::now());
        self.start_node(at, who)?;
        let mut next = self.random_moment();
        while self.kills() < goal {
            if at == RANDOM && Instant::now() >= next {
                self.strike(who).await?;
                next = self.random_moment();
            }
            self.look_after(at, who)?;
            if self.kills() > last.0 {
                last = (self.kills(), Instant::now());
            }
            if last.1.elapsed() > KILL_MAX {
                bail!("no kill within 60 s: {}", self.lab.last_lines(self.index)?);
            }
            tokio::time::sleep(LOOK).await;
        }
        self.check()
    }

    /// Starts again what died; a node that ended by itself is a failure.
    fn look_after(&mut self, at: &str, who: Who) -> anyhow::Result<()> {
        if self.app.try_wait()?.is_some() {
            self.app = start_app(self.lab, &self.address)?;
        }
        if !self.lab.runs(self.index)? {
            let lines = self.lab.last_lines(self.index)?;
            ensure!(who != Who::App && !lines.contains("ERROR"), "the node ended:\n{lines}");
            self.start_node(at, who)?;
        }
        Ok(())
    }

    fn random_moment(&mut self) -> Instant {
        let most = u64::try_from(RANDOM_MAX.as_millis()).unwrap_or(u64::MAX);
        Instant::now() + Duration::from_millis(self.lab.random.random_range(0..most))
    }

    /// Kills now.
    async fn strike(&mut self, who: Who) -> anyhow::Result<()> {
        if who != Who::Node {
            // It may have ended by itself, which the next look tells.
            let _ = kill(Pid::from_raw(i32::try_from(self.app.id())?), Signal::SIGKILL);
        }
        if who != Who::App && self.lab.runs(self.index)? {
            self.lab.signal(self.index, Signal::SIGKILL).await?;
        }
        let text = std::fs::read_to_string(self.file("kills")).unwrap_or_default();
        Ok(std::fs::write(self.file("kills"), format!("{text}{RANDOM}\n"))?)
    }

    /// Lets both run on, to be audited.
    async fn end(mut self) -> anyhow::Result<()> {
        if self.lab.runs(self.index)? {
            self.lab.signal(self.index, Signal::SIGKILL).await?;
        }
        if self.app.try_wait()?.is_some() {
            self.app = start_app(self.lab, &self.address)?;
        }
        self.lab.restart(self.index)?;
        let goal = self.lab.tip(&[self.index]).await + AFTERWARDS;
        self.lab.reach(&[self.index], goal, SOON).await?;
        self.check()
    }
}

/// Starts the application, and writes its process id where the node looks for it.
fn start_app(lab: &mut Lab, address: &str) -> anyhow::Result<Child> {
    let file = |name: &str| lab.dir().join(name);
    let log = std::fs::File::options().create(true).append(true).open(file("app.log"))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["checked-app", "--address", address]).arg("--data").arg(file("app"));
    command.arg("--violations").arg(file("violations")).stdin(Stdio::null());
    let child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
    std::fs::write(file("app.pid"), child.id().to_string())?;
    lab.end_with(child.id());
    Ok(child)
}

/// The text with the line that begins with `key` replaced.
fn replaced(text: &str, key: &str, line: &str) -> String {
    let of_key = |old: &str| old.starts_with(key) && old.contains('=');
    let lines = text.lines().map(|old| if of_key(old) { line } else { old });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::super::victims::point;
    use super::*;

    #[test]
    fn every_point_has_a_name_that_is_found_again() {
        for name in points().iter().filter(|name| *name != RANDOM) {
            assert_eq!(point(name).map(Point::name), Some(name.as_str()));
        }
        assert_eq!(point(RANDOM), None, "random moments are the runner's");
    }

    #[test]
    fn a_line_of_the_configuration_is_replaced() {
        assert_eq!(replaced("a = 1\nproxy_app = \"x\"\n", "proxy_app", "p"), "a = 1\np\n");
    }
}
