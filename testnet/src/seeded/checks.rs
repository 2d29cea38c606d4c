//! What looks for a flaw: how it is compiled, run and read.

use super::copy::Copy;
use super::watch::{End, watch};
use clap::ValueEnum;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The bounds of the exhaustive check, small enough for each patch (some ten seconds): every state of two heights, the second with
/// weights, with crashes, in the views 0..2; from some of them the network heals.
const EXHAUSTIVE: [&str; 5] =
    ["powers=1,1,1,1/2,1,1,1", "views=2", "blocks=0,0/0,1", "crashes=1", "live=10000"];
/// The longest that a compilation may take.
const COMPILATION_MAX: Duration = Duration::from_secs(3_600);
const NODE_UNOPTIMISED: &str = "profile.release.package.tercet-node.opt-level=0";
/// The tests of whole networks of replicas under random faults, in the consensus crate.
const NETWORKS: &str = "testing::network_tests";

/// What looks for flaws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Check {
    /// The directed tests of the consensus crate, or those that the patch names.
    Tests,
    /// Networks of replicas under random faults, in the consensus crate.
    Networks,
    /// Every state of a small network.
    Exhaustive,
    /// The simulator.
    Simulator,
}

impl Check {
    pub(crate) const ALL: [Check; 4] =
        [Check::Tests, Check::Networks, Check::Exhaustive, Check::Simulator];
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Check::Tests => "tests",
            Check::Networks => "networks",
            Check::Exhaustive => "exhaustive check",
            Check::Simulator => "simulator",
        };
        f.write_str(name)
    }
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It failed, so it found the flaw: how.
    Found(String),
    /// It passed: how far it got.
    Passed(String),
    /// The source does not compile.
    Broken(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Found(how) => write!(f, "fail: {how}"),
            Outcome::Passed(how) => write!(f, "pass: {how}"),
            Outcome::Broken(error) => write!(f, "DOES NOT COMPILE: {error}"),
        }
    }
}

/// With what checks are run.
pub(crate) struct Settings<'a> {
    pub(crate) copy: &'a Copy,
    pub(crate) seeds: u64,
    pub(crate) budget: Duration,
}

/// Compiles and runs `check` on the copy as it is. `tests` filters the tests of the whole workspace; none: those of the consensus
/// crate.
///
/// # Errors
/// Where nothing can be started.
pub(crate) fn run(
    check: Check,
    tests: Option<&str>,
    settings: &Settings<'_>,
) -> anyhow::Result<Outcome> {
    let folder = settings.copy.folder();
    let log = folder.join("check.log");
    let mut cargo = command(settings, PathBuf::from("cargo"));
    cargo.args(compilation(check, tests));
    let compiled = watch(cargo, &log, COMPILATION_MAX, |_| false)?;
    if compiled.end != End::Code(Some(0)) {
        let mut errors = compiled.output.lines().filter(|line| line.starts_with("error"));
        return Ok(Outcome::Broken(errors.next().unwrap_or("no error was printed").to_owned()));
    }
    let mut program = command(settings, program(check, settings));
    program.args(arguments(check, tests, settings.seeds));
    let ran = watch(program, &log, settings.budget, |line| sign(check, line).is_some())?;
    Ok(read(check, &ran.end, &ran.output))
}

fn command(settings: &Settings<'_>, program: PathBuf) -> Command {
    let mut command = Command::new(program);
    command.current_dir(settings.copy.folder()).env("CARGO_TARGET_DIR", settings.copy.target());
    command
}

/// What cargo is told to compile. Where the node is needed, always the whole workspace: one set of features, so that RocksDB is
/// compiled once.
fn compilation(check: Check, tests: Option<&str>) -> Vec<&'static str> {
    let what: &[&str] = match (check, tests) {
        // The node unoptimised: it compiles in a third of the time.
        (Check::Tests, Some(_)) => {
            &["test", "--workspace", "--lib", "--no-run", "--config", NODE_UNOPTIMISED]
        }
        (Check::Tests, None) | (Check::Networks, _) => {
            &["test", "--package=tercet-consensus", "--lib", "--no-run"]
        }
        (Check::Exhaustive, _) => {
            &["build", "--package=tercet-consensus", "--features=testing", "--example=exhaust"]
        }
        (Check::Simulator, _) => &["build", "--workspace", "--bin=tercet-testnet"],
    };
    // The directed tests are compiled in a second and run in three; optimised, they take longer in total.
    let profile = match (check, tests) {
        (Check::Tests, None) => "--profile=dev",
        _ => "--profile=release",
    };
    [what, &[profile, "--locked"]].concat()
}

fn program(check: Check, settings: &Settings<'_>) -> PathBuf {
    let release = settings.copy.target().join("release");
    match check {
        Check::Tests | Check::Networks => PathBuf::from("cargo"),
        Check::Exhaustive => release.join("examples/exhaust"),
        Check::Simulator => release.join("tercet-testnet"),
    }
}

fn arguments(check: Check, tests: Option<&str>, seeds: u64) -> Vec<String> {
    let strings = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    let mut arguments = strings(&match check {
        Check::Tests | Check::Networks => {
            let mut arguments = compilation(check, tests);
            arguments.retain(|argument| *argument != "--no-run");
            [&arguments[..], &["--no-fail-fast", "--"]].concat()
        }
        Check::Exhaustive => EXHAUSTIVE.to_vec(),
        Check::Simulator => vec!["sim", "--seeds"],
    });
    match check {
        Check::Tests => match tests {
            Some(filters) => arguments.extend(filters.split_whitespace().map(str::to_owned)),
            None => arguments.extend(strings(&["--skip", "testing::"])),
        },
        Check::Networks => arguments.push(NETWORKS.to_owned()),
        Check::Exhaustive => {}
        Check::Simulator => arguments.push(format!("0..{seeds}")),
    }
    arguments
}

/// What `line` says of a flaw that was found; then nothing more need be run.
fn sign(check: Check, line: &str) -> Option<String> {
    match check {
        Check::Tests | Check::Networks => {
            let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
            Some(name.rsplit("::").next().unwrap_or(name).to_owned())
        }
        Check::Exhaustive => line.strip_prefix("BROKEN ").map(str::to_owned),
        Check::Simulator => {
            let (seed, failure) = line.strip_prefix("--seed ")?.split_once(" FAILS after ")?;
            let invariant = failure.split_once(": ").map_or(failure, |(_, what)| what);
            Some(format!("seed {seed}: {invariant}"))
        }
    }
}

/// The verdict on what was printed.
pub(crate) fn read(check: Check, end: &End, output: &str) -> Outcome {
    let last = |part: &str| output.lines().rev().find(|line| line.contains(part));
    if let Some(found) = output.lines().find_map(|line| sign(check, line)) {
        let states = last(" states (").and_then(states).filter(|_| check == Check::Exhaustive);
        return Outcome::Found(match states {
            Some(states) => format!("{found} after {states} states"),
            None => found,
        });
    }
    let tests = matches!(check, Check::Tests | Check::Networks);
    match end {
        End::Code(Some(0)) => Outcome::Passed(match check {
            Check::Tests | Check::Networks => "all".to_owned(),
            Check::Exhaustive => last(" states (")
                .and_then(states)
                .map_or_else(String::new, |n| format!("{n} states")),
            Check::Simulator => last(" seeds in ").unwrap_or_default().to_owned(),
        }),
        End::Code(code) => {
            let why = code.map_or("by a signal".to_owned(), |code| format!("with code {code}"));
            Outcome::Found(format!("it ends {why}"))
        }
        End::Late if tests => Outcome::Found("it does not end".to_owned()),
        End::Late => Outcome::Passed("as far as the budget goes".to_owned()),
    }
}

/// How many states a line of the exhaustive check tells of.
fn states(line: &str) -> Option<&str> {
    line.split_once(" states (")?.0.rsplit(' ').next()
}
