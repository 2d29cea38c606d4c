//! The command line of the search: `key=value`, as in `views=3 crashes=1`.

use super::bounds::{Bounds, Forgets};
use super::search::{Report, search};
use std::process::ExitCode;

/// What can be said, and what it is by default.
pub const HELP: &str = "\
All states of a small network of real replicas, one of them faulty.
  powers=1,1,1,1   the last is the faulty one's
  views=2          views 0..views at every height
  blocks=0,0       the blocks of a height, each by the round of its last commit; heights apart by '/', as 0,0/0,1
  prior=           rounds of Commit(h-1) known from outside at the first height; none: the initial height
  beyond=0         1: VIEW-CHANGE may be sent for the first view out of bounds
  crashes=0        1: correct replicas crash and restart at any time
  late=0           1: signatures come late or never
  forgets=nothing  promise, prepares, commits: what a restart forgets, to see that it is found
  states=          give up at so many states
Ends with status 1 where an invariant breaks, 2 where it gave up.";

/// Runs the search that `arguments` describe and prints how it goes.
#[must_use]
pub fn main(arguments: &[String]) -> ExitCode {
    let bounds = match parse(arguments) {
        Ok(bounds) => bounds,
        Err(what) => {
            eprintln!("error: {what}\n{HELP}");
            return ExitCode::from(64);
        }
    };
    println!("{}", arguments.join(" "));
    let report = match search(&bounds, &mut |report| eprintln!("{}", line(report))) {
        Ok(report) => report,
        Err(what) => {
            eprintln!("error: {what}");
            return ExitCode::from(64);
        }
    };
    println!("{}", line(&report));
    match &report.violation {
        Some((what, way)) => {
            println!("BROKEN {what}");
            way.iter().for_each(|step| println!("  {step}"));
            ExitCode::from(1)
        }
        None if report.exhausted => {
            println!("EXHAUSTED, no invariant broke");
            ExitCode::SUCCESS
        }
        None => {
            println!("GAVE UP, no invariant broke so far");
            ExitCode::from(2)
        }
    }
}

fn line(report: &Report) -> String {
    let seconds = report.took.as_secs_f64().max(0.001);
    format!(
        "depth {}: {} states ({:.0}/s), {} steps, frontier {}, {} MiB; {} states of one replica, {} steps of the real code; {:.1} s",
        report.depth,
        report.states,
        report.states as f64 / seconds,
        report.edges,
        report.frontier,
        report.bytes >> 20,
        report.locals,
        report.steps,
        seconds,
    )
}

fn parse(arguments: &[String]) -> Result<Bounds, String> {
    let mut bounds = Bounds::default();
    for argument in arguments {
        let (key, value) = argument.split_once('=').ok_or(format!("'{argument}' has no '='"))?;
        set(&mut bounds, key, value).ok_or(format!("'{argument}' makes no sense"))?;
    }
    Ok(bounds)
}

fn set(bounds: &mut Bounds, key: &str, value: &str) -> Option<()> {
    let yes = |value: &str| (value == "1", (value == "1" || value == "0").then_some(()));
    match key {
        "powers" => bounds.powers = list(value)?.try_into().ok()?,
        "views" => bounds.views = value.parse().ok()?,
        "blocks" => bounds.blocks = value.split('/').map(list).collect::<Option<_>>()?,
        "prior" => bounds.prior = list(value)?,
        "beyond" => bounds.ask_beyond = yes(value).1.map(|()| yes(value).0)?,
        "crashes" => bounds.crashes = yes(value).1.map(|()| yes(value).0)?,
        "late" => bounds.late = yes(value).1.map(|()| yes(value).0)?,
        "states" => bounds.states_max = value.parse().ok()?,
        "forgets" => {
            bounds.forgets = match value {
                "nothing" => Forgets::Nothing,
                "promise" => Forgets::Promise,
                "prepares" => Forgets::Prepares,
                "commits" => Forgets::Commits,
                _ => return None,
            }
        }
        _ => return None,
    }
    Some(())
}

fn list<T: std::str::FromStr>(value: &str) -> Option<Vec<T>> {
    value.split(',').filter(|item| !item.is_empty()).map(|item| item.parse().ok()).collect()
}
