//! Seeded bugs: plants one known flaw after the other into a copy of the source and looks which check finds it.
//!
//! A flaw is a patch in `testnet/seeded-bugs/`. The checks are the directed tests, the networks of real replicas under random faults,
//! the exhaustive check and the simulator. What finds nothing in the unpatched source and everything in the patched one is worth its
//! name.

mod checks;
mod copy;
mod patch;
mod table;
#[cfg(test)]
mod tests;
mod watch;

use crate::table::say;
use anyhow::bail;
use checks::{Check, Outcome, Settings};
use clap::Args;
use copy::Copy;
use patch::Patch;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Where the patches are.
const FOLDER: &str = "testnet/seeded-bugs";

const NOTES: &str = "\
The first run compiles the dependencies, RocksDB among them, which takes long. To spare that, copy the folder
that the source is compiled to (cp -a) and name the copy with --target; never the folder itself.
Exit code 1 where a patch survives, no longer applies, does not compile, or the unpatched source fails a check.";

/// Arguments of `seeded-bugs`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct SeededArgs {
    /// Take only patches whose name contains one of these.
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    only: Vec<String>,
    /// What looks for the flaws, in this order.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Check::ALL)]
    checks: Vec<Check>,
    /// Seeds of the simulator for each patch.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The longest that a check of a patch may run, without its compilation.
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = crate::cli::seconds)]
    budget: Duration,
    /// Go on with the other checks where one has found the flaw.
    #[arg(long)]
    all: bool,
    /// Put what was found into this page; the lines of other patches, and the cells of other checks, stay.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Leave out patches that have a result of every check in the page already.
    #[arg(long, requires = "write")]
    resume: bool,
    /// Where to compile to (default: a folder beside the temporary copy, which is kept).
    #[arg(long, value_name = "FOLDER")]
    target: Option<PathBuf>,
    /// The root of the source.
    #[arg(long, default_value = ".")]
    source: PathBuf,
}

/// A patch and what came of it.
struct Row {
    patch: Patch,
    outcomes: Vec<(Check, Outcome)>,
    took: Duration,
}

impl Row {
    fn is_found(&self) -> bool {
        let found = self.outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Found(_)));
        found && !self.outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Broken(_)))
    }

    fn line(&self) -> String {
        let found: Vec<String> =
            self.outcomes.iter().map(|(check, outcome)| format!("{check} {outcome}")).collect();
        let verdict = if self.is_found() { "found" } else { "SURVIVES" };
        let (name, took) = (&self.patch.name, self.took.as_secs_f64());
        format!("{verdict:<8} {name}: {} ({took:.0} s)", found.join("; "))
    }
}

/// Plants every flaw and prints what found it.
pub(crate) fn run(args: &SeededArgs) -> anyhow::Result<ExitCode> {
    let all = patch::load(&args.source.join(FOLDER))?;
    let named = |name: &str| args.only.iter().any(|part| name.contains(part.as_str()));
    let wanted = |patch: &&Patch| args.only.is_empty() || named(&patch.name);
    let mut patches: Vec<Patch> = all.iter().filter(wanted).cloned().collect();
    if patches.is_empty() {
        bail!("no patch in {FOLDER} has a name with {}", args.only.join(" or "));
    }
    for patch in &patches {
        patch.check(&args.source)?;
    }
    if let (true, Some(path)) = (args.resume, &args.write) {
        let old = read(path);
        patches.retain(|patch| !table::has(&old, patch, &args.checks));
    }
    let copy = Copy::new(&args.source, args.target.as_deref())?;
    let settings = Settings { copy: &copy, seeds: args.seeds, budget: args.budget };
    let node = patches.iter().any(|patch| !patch.concerns_consensus_alone());
    sound(&settings, &args.checks, node)?;
    let mut rows = Vec::new();
    for (number, patch) in (1..).zip(patches.iter()) {
        let row = try_one(&settings, args, patch)?;
        say(&format!("{number}/{} {}", patches.len(), row.line()));
        rows.push(row);
        if let Some(path) = &args.write {
            std::fs::write(path, table::write(&read(path), &all, &rows))?;
        }
    }
    let survivors = rows.iter().filter(|row| !row.is_found()).count();
    say(&format!("{} of {} seeded bugs found", rows.len() - survivors, rows.len()));
    Ok(if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The page as it is; empty where there is none.
fn read(page: &Path) -> String {
    std::fs::read_to_string(page).unwrap_or_default()
}

/// The unpatched source passes every check, or nothing that follows means anything.
fn sound(settings: &Settings<'_>, checks: &[Check], node: bool) -> anyhow::Result<()> {
    let tests = if node { vec![None, Some(String::new())] } else { vec![None] };
    for check in checks {
        for tests in &tests {
            let started = Instant::now();
            match checks::run(*check, tests.as_deref(), settings)? {
                Outcome::Passed(what) => {
                    let took = started.elapsed().as_secs_f64();
                    say(&format!("unpatched: {check} {what} ({took:.0} s)"));
                }
                other => bail!("the unpatched source fails: {check} {other}"),
            }
            if *check != Check::Tests {
                break;
            }
        }
    }
    Ok(())
}

fn try_one(settings: &Settings<'_>, args: &SeededArgs, patch: &Patch) -> anyhow::Result<Row> {
    let started = Instant::now();
    let mut outcomes = Vec::new();
    settings.copy.plant(patch)?;
    for check in &args.checks {
        let outcome = checks::run(*check, patch.tests.as_deref(), settings)?;
        let ends = match &outcome {
            Outcome::Found(_) => !args.all,
            Outcome::Broken(_) => true,
            Outcome::Passed(_) => false,
        };
        outcomes.push((*check, outcome));
        if ends {
            break;
        }
    }
    settings.copy.remove(patch)?;
    Ok(Row { patch: patch.clone(), outcomes, took: started.elapsed() })
}
