//! The command line of the search: `key=value`, as in `views=3 crashes=1`.

use super::bounds::{BlockKind, Bounds, Forgets};
use super::search::{Lived, Report, search};
use std::process::ExitCode;

/// What can be said, and what it is by default.
pub const HELP: &str = "\
All states of a small network of real replicas, one of them faulty.
  powers=1,1,1,1   the last is the faulty one's; heights apart by '/'
  primaries=3,3,3  the primary of each view, by seat
  views=2          views 0..views at every height
  blocks=0,0       the blocks of a height, each by the round of its last commit and its proposer's seat (3 unless said), as 0@1;
                   heights apart by '/', as 0,0/0,1
  prior=           rounds of Commit(h-1) known from outside at the first height; none: the initial height
  beyond=0         1: VIEW-CHANGE may be sent for the first view out of bounds
  crashes=0        1: correct replicas crash and restart at any time
  late=0           1: signatures come late or never
  bodies=0         1: blocks come apart from the messages that name them
  signed=0         1: count what may have been signed at the first height
  live=0           of so many states one is lived through with whole replicas, and healed from
  congruence=0     1: compare all ways to a state of a replica
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
    if bounds.congruence {
        let found = &report.congruence;
        let (ways, steps, lost) = (found.ways, found.in_steps, found.lost);
        println!("{ways} ways compared; {steps} effects take more moves, {lost} are lost");
        found.example.iter().for_each(|example| println!("{example}"));
    }
    if bounds.count_signed {
        println!("{} combinations of signed messages", report.signed);
    }
    if bounds.live_one_in > 0 {
        let Lived { states, unreal, views, .. } = report.lived;
        println!(
            "{states} states lived through, {unreal} not reached; healed within {views} views"
        );
    }
    if report.lived.unreal_steps > 0 {
        println!(
            "{} steps would break an invariant, but whole replicas do not",
            report.lived.unreal_steps
        );
    }
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
    let yes = match value {
        "1" => Some(true),
        "0" => Some(false),
        _ => None,
    };
    match key {
        "powers" => {
            let powers = value.split('/').map(|powers| list(powers)?.try_into().ok());
            bounds.powers = powers.collect::<Option<_>>()?;
        }
        "primaries" => bounds.primaries = list(value)?,
        "bodies" => bounds.bodies = yes?,
        "signed" => bounds.count_signed = yes?,
        "live" => bounds.live_one_in = value.parse().ok()?,
        "congruence" => bounds.congruence = yes?,
        "views" => bounds.views = value.parse().ok()?,
        "blocks" => bounds.blocks = value.split('/').map(kinds).collect::<Option<_>>()?,
        "prior" => bounds.prior = list(value)?,
        "beyond" => bounds.ask_beyond = yes?,
        "crashes" => bounds.crashes = yes?,
        "late" => bounds.late = yes?,
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

fn kinds(value: &str) -> Option<Vec<BlockKind>> {
    let kind = |item: &str| {
        let (round, proposer) = item.split_once('@').unwrap_or((item, "3"));
        Some(BlockKind { round: round.parse().ok()?, proposer: proposer.parse().ok()? })
    };
    value.split(',').map(kind).collect()
}

fn list<T: std::str::FromStr>(value: &str) -> Option<Vec<T>> {
    value.split(',').filter(|item| !item.is_empty()).map(|item| item.parse().ok()).collect()
}
