//! `tercet-testnet sim`.

use super::coverage::Coverage;
use super::plan::Plan;
use super::run::{Outcome, run};
use super::scenario::Scenario;
use super::shrink::shrink;
use super::trace::Trace;
use super::{MS, Nanos};
use crate::table::say;
use anyhow::{Context as _, bail};
use clap::Args;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The name of the threads that run seeds.
pub(crate) const THREAD: &str = "seeds";
/// A batch so large must meet everything.
const COMPLETE: u64 = 5_000;
/// How often progress is shown.
const PROGRESS: Duration = Duration::from_secs(5);

/// What to simulate.
#[derive(Debug, Args)]
pub(crate) struct SimArgs {
    /// A range of seeds, such as 0..1000.
    #[arg(long, value_parser = range, conflicts_with = "seed")]
    seeds: Option<Range<u64>>,
    /// One seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Threads for a range of seeds; each seed runs in one.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Print the run of one seed as a chart.
    #[arg(long)]
    trace: bool,
    /// Look for a shorter run that fails in the same way, and print it as a scenario.
    #[arg(long)]
    shrink: bool,
    /// Measure what a view change costs, in virtual time.
    #[arg(long, conflicts_with_all = ["seed", "seeds", "scenario"])]
    figures: bool,
    /// A file with a scenario.
    #[arg(long, conflicts_with_all = ["seed", "seeds"])]
    scenario: Option<PathBuf>,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let bounds = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let (first, end) = bounds.ok_or("write two numbers, such as 0..1000")?;
    if first < end { Ok(first..end) } else { Err("the range is empty".into()) }
}

/// Runs what was asked for.
pub(crate) fn sim(args: &SimArgs) -> anyhow::Result<ExitCode> {
    if args.figures {
        on_thread(super::figures::figures)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(seeds) = &args.seeds {
        return batch(seeds.clone(), args.jobs);
    }
    let (name, scenario) = match (&args.scenario, args.seed) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path);
            let text = text.with_context(|| format!("cannot read {}", path.display()))?;
            let scenario = Scenario::parse(&text);
            let scenario = scenario.map_err(|error| anyhow::anyhow!("{}: {error}", path.display()));
            (format!("--scenario {}", path.display()), scenario?)
        }
        (None, Some(seed)) => {
            (format!("--seed {seed}"), Scenario { plan: Plan::of(seed), expect: Vec::new() })
        }
        (None, None) => bail!("name --seeds A..B, --seed N or --scenario FILE"),
    };
    if args.shrink { shrunk(scenario.plan) } else { one(&name, &scenario, args.trace) }
}

/// Runs something on a thread whose panics are kept.
pub(crate) fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(THREAD.into()).spawn_scoped(scope, work)?;
        thread.join().map_err(|_| anyhow::anyhow!("the simulator itself failed"))
    })
}

fn one(name: &str, scenario: &Scenario, traced: bool) -> anyhow::Result<ExitCode> {
    let trace = if traced { Trace::kept() } else { Trace::default() };
    if traced {
        say(&super::scenario::write(&scenario.plan));
    }
    let plan = scenario.plan.clone();
    let outcome = on_thread(|| run(plan, trace))?;
    if traced {
        say(outcome.trace.trim_end());
    }
    let missed = scenario.judge(&outcome);
    if missed.is_empty() {
        say(&format!(
            "{name}: {} heights, {} events, {:.3} s of virtual time, all as expected",
            outcome.heights,
            outcome.events,
            seconds(outcome.took)
        ));
        return Ok(ExitCode::SUCCESS);
    }
    missed.iter().for_each(|missed| report(name, missed, &outcome));
    Ok(ExitCode::FAILURE)
}

/// Runs a scenario as it stands, and its plan with so many further seeds where it is not expected to fail. Returns the number of runs, and of
/// heights decided.
///
/// # Errors
/// What is not as expected, with the seed.
pub(crate) fn check(text: &str, seeds: u64) -> anyhow::Result<(u64, u64)> {
    let scenario = Scenario::parse(text).map_err(anyhow::Error::msg)?;
    // How often a network beyond the bound fails says nothing.
    let seeds = if scenario.fails() { 0 } else { seeds };
    let mut heights = 0;
    for further in 0..=seeds {
        let mut plan = scenario.plan.clone();
        plan.seed += further * 1_000;
        let seed = plan.seed;
        let outcome = on_thread(|| run(plan, Trace::default()))?;
        heights += outcome.heights;
        let wrong = match further {
            0 => scenario.judge(&outcome),
            _ => outcome.failure.into_iter().collect(),
        };
        anyhow::ensure!(wrong.is_empty(), "seed {seed}: {}", wrong.join("; "));
    }
    Ok((seeds + 1, heights))
}

fn report(name: &str, failure: &str, outcome: &Outcome) {
    say(&format!("{name} FAILS after {:.3} s: {failure}", seconds(outcome.took)));
    say(&format!("  replay it: tercet-testnet sim {name} --trace"));
}

fn shrunk(plan: Plan) -> anyhow::Result<ExitCode> {
    let Some((plan, failure, runs)) = on_thread(|| shrink(plan))? else {
        bail!("it does not fail");
    };
    say(&format!("# {runs} runs; it fails with: {}", failure.lines().next().unwrap_or_default()));
    say(super::scenario::write(&plan).trim_end());
    let kind = super::shrink::kind(&failure);
    say(&format!("expect failure {kind}"));
    Ok(ExitCode::SUCCESS)
}

fn seconds(time: Nanos) -> f64 {
    Duration::from_nanos(time).as_secs_f64()
}

/// What a batch has found so far.
#[derive(Default)]
struct Found {
    coverage: Coverage,
    failures: Vec<(u64, String)>,
    events: u64,
    slowest: Option<(Nanos, u64)>,
}

fn batch(seeds: Range<u64>, jobs: usize) -> anyhow::Result<ExitCode> {
    let (next, done, stop) =
        (AtomicU64::new(seeds.start), AtomicU64::new(0), AtomicBool::new(false));
    let found = Mutex::new(Found::default());
    let started = Instant::now();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let mut threads = Vec::new();
        for _ in 0..jobs.max(1) {
            let work = || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let outcome = run(Plan::of(seed), Trace::default());
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    found.take(seed, &outcome);
                    if found.failures.len() >= 20 {
                        stop.store(true, Ordering::Relaxed);
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            };
            let builder = std::thread::Builder::new().name(THREAD.into());
            threads.push(builder.spawn_scoped(scope, work).context("cannot start a thread")?);
        }
        let mut shown = Instant::now();
        while threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::sleep(Duration::from_millis(20));
            if shown.elapsed() >= PROGRESS {
                shown = Instant::now();
                progress(done.load(Ordering::Relaxed), started.elapsed());
            }
        }
        Ok(())
    })?;
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let done = done.into_inner();
    found.coverage.table().iter().for_each(|line| say(line));
    progress(done, started.elapsed());
    Ok(found.verdict(done))
}

fn progress(done: u64, elapsed: Duration) {
    let rate = f64::from(u32::try_from(done).unwrap_or(u32::MAX)) / elapsed.as_secs_f64();
    say(&format!("{done} seeds in {:.1} s, {rate:.1} a second", elapsed.as_secs_f64()));
}

impl Found {
    fn take(&mut self, seed: u64, outcome: &Outcome) {
        self.coverage.add(&outcome.coverage);
        self.events += outcome.events;
        self.slowest = self.slowest.max(outcome.first_took.map(|took| (took, seed)));
        if let Some(failure) = &outcome.failure {
            report(&format!("--seed {seed}"), failure, outcome);
            self.failures.push((seed, failure.clone()));
        }
    }

    fn verdict(&self, done: u64) -> ExitCode {
        if let Some((took, seed)) = self.slowest {
            say(&format!(
                "longest from the healing to a height everywhere: {:.3} s (seed {seed}); {} events",
                seconds(took.max(MS)),
                self.events
            ));
        }
        let missing = self.coverage.missing();
        for (group, name) in &missing {
            say(&format!("never met: {group} {name}"));
        }
        let incomplete = done >= COMPLETE && !missing.is_empty();
        match (self.failures.is_empty(), incomplete) {
            (true, false) => {
                say("every invariant holds");
                ExitCode::SUCCESS
            }
            (failed, _) => {
                let seeds: Vec<String> =
                    self.failures.iter().map(|(seed, _)| seed.to_string()).collect();
                if !failed {
                    say(&format!("failing seeds: {}", seeds.join(", ")));
                }
                ExitCode::FAILURE
            }
        }
    }
}
