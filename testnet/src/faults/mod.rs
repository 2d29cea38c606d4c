//! The fault table: every row breaks a network of real processes in one way and checks what must hold then.
//!
//! A row gets a [`Lab`], starts the network that it needs, breaks it, and says what it saw. It fails where something is not as it must
//! be. The page with all rows and their results is `docs/faults.md`, written by `--write`.

pub(crate) mod applications;
mod cells;
mod clock;
mod config;
mod corrupt;
pub(crate) mod crash;
mod disk;
mod keys;
mod kills;
mod lab;
mod liars;
mod limits;
mod links;
mod machine;
mod measure;
mod netfilter;
mod page;
mod partitions;
mod sets;
#[cfg(test)]
mod tests;
pub(crate) mod victims;
pub(crate) mod wrong_app;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use crate::table::say;
use lab::Lab;

/// Every row, in the order of the table.
const ROWS: &[&[Row]] = &[
    kills::ROWS,
    crash::ROWS,
    partitions::ROWS,
    links::ROWS,
    liars::ROWS,
    sets::ROWS,
    disk::ROWS,
    cells::ROWS,
    corrupt::ROWS,
    keys::ROWS,
    clock::ROWS,
    config::ROWS,
    limits::ROWS,
];

/// What a row saw, in words with figures.
type Seen = anyhow::Result<String>;

/// What a row does: see [`Row::run`].
type Run = for<'a> fn(&'a mut Lab) -> Pin<Box<dyn Future<Output = Seen> + 'a>>;

/// One fault.
struct Row {
    /// Its name in the table, such as `T-84`, with a letter where a row has several cases.
    id: &'static str,
    /// What goes wrong.
    fault: &'static str,
    /// How it is made to go wrong.
    how: &'static str,
    /// What must hold.
    must: &'static str,
    /// Does it: what was seen, or what was not as it must be.
    run: Run,
}

const NOTES: &str = "\
Each row lays out a network of its own in a temporary folder, and removes it when it passed. Rows that need
root, strace, loop devices or network namespaces are skipped where these are missing, and say so.
Exit code 1 where a row fails.";

/// Arguments of `faults`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct FaultsArgs {
    /// Take only rows whose name begins with one of these, such as T-84,T-10.
    #[arg(long, value_name = "ROWS", value_delimiter = ',')]
    only: Vec<String>,
    /// List the rows and end.
    #[arg(long)]
    list: bool,
    /// Put the results into this page; rows that did not run keep theirs.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// First port of the networks.
    #[arg(long, default_value_t = 31_000)]
    base_port: u16,
    /// Seed of every choice.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The node program (default: `tercet` beside this one).
    #[arg(long)]
    pub(crate) node_binary: Option<PathBuf>,
    /// Leave the folder of a network where it is, and say where.
    #[arg(long)]
    keep: bool,
}

/// How a row ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// All held: what was seen.
    Green(String),
    /// Something did not: what.
    Red(String),
    /// This machine lacks something: what.
    Skipped(String),
}

/// A row cannot run here.
#[derive(Debug, thiserror::Error)]
enum NotHere {
    /// Something is missing.
    #[error("needs {0}")]
    Needs(String),
    /// It is shown elsewhere, or cannot be.
    #[error("{0}")]
    Elsewhere(&'static str),
}

/// Runs the rows one after the other.
pub(crate) async fn run(args: FaultsArgs, binary: PathBuf) -> anyhow::Result<ExitCode> {
    let wanted = |row: &Row| {
        args.only.is_empty() || args.only.iter().any(|o| row.id.starts_with(o.as_str()))
    };
    let rows: Vec<&Row> = ROWS.iter().copied().flatten().filter(|row| wanted(row)).collect();
    if rows.is_empty() {
        bail!("no row begins with {}: --list shows them", args.only.join(" or "));
    }
    if args.list {
        for row in rows {
            say(&format!("{:<8} {}", row.id, row.fault));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut results = Vec::new();
    for row in rows {
        let start = Instant::now();
        let verdict = one(row, &args, binary.clone()).await?;
        say(&line(row, &verdict, start.elapsed()));
        results.push((row, verdict, start.elapsed()));
        if let Some(path) = &args.write {
            let old = std::fs::read_to_string(path).unwrap_or_default();
            let page = page::write(&old, ROWS.iter().copied().flatten(), &results);
            std::fs::write(path, page)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    let red = results.iter().filter(|(_, verdict, _)| matches!(verdict, Verdict::Red(_))).count();
    say(&format!("{} rows, {red} red", results.len()));
    Ok(if red == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn one(row: &Row, args: &FaultsArgs, binary: PathBuf) -> anyhow::Result<Verdict> {
    let mut lab = Lab::new(binary, args.base_port, args.seed)?;
    say(&format!("{:<8} {} ...", row.id, row.fault));
    let result = (row.run)(&mut lab).await;
    let keep = args.keep || result.as_ref().is_err_and(|error| !error.is::<NotHere>());
    let ended = lab.end(keep).await;
    Ok(match result.and_then(|seen| ended.map(|()| seen)) {
        Ok(seen) => Verdict::Green(seen),
        Err(error) => match error.downcast::<NotHere>() {
            Ok(why) => Verdict::Skipped(why.to_string()),
            Err(error) => Verdict::Red(format!("{error:#}")),
        },
    })
}

fn line(row: &Row, verdict: &Verdict, took: Duration) -> String {
    let (word, text) = match verdict {
        Verdict::Green(seen) => ("green", seen),
        Verdict::Red(why) => ("RED", why),
        Verdict::Skipped(why) => ("skipped", why),
    };
    format!("{:<8} {word}: {text} ({} s)", row.id, took.as_secs())
}
