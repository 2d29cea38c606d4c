//! What a view change costs: virtual time from the fault of a primary to the next decided block.
//!
//! The chain runs for a term without a fault, so that T is what the network asks for. The fault is that of the primaries of the next term:
//! of its first view, or of its first three.

use super::byzantine::Strategy;
use super::keys::key;
use super::plan::{Fault, Kind, Plan, Seat, Timed, When};
use super::scenario::Scenario;
use super::trace::Trace;
use super::world::World;
use super::{MS, Nanos, SECOND};
use crate::table::say;
use tendermint::block::Height;
use tercet_consensus::schedule::Schedule;
use tercet_consensus::validators::Validators;
use tercet_consensus::view::View;

/// Heights of a term; the fault is at the first of the next one.
const TERM: u64 = 128;
/// Runs a line.
const SEEDS: u64 = 10;
/// After so long an empty block is due.
const EMPTY: Nanos = 200 * MS;
/// How long a run takes at most.
const LIMIT: Nanos = 600 * SECOND;

/// What is wrong with a primary.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Nothing,
    Killed,
    Silent,
    Slow,
    Equivocates,
}

impl Wrong {
    const ALL: [(Wrong, &str); 5] = [
        (Wrong::Nothing, "correct"),
        (Wrong::Killed, "its process dies, connections are refused"),
        (Wrong::Silent, "silent, its connections stay open"),
        (Wrong::Slow, "proposes 30 ms before its timeout"),
        (Wrong::Equivocates, "signs two proposals"),
    ];
}

/// Prints the table.
pub(crate) fn figures() {
    say(
        "virtual time from the last block before the fault to the next one, in ms: median (longest) of 10 seeds",
    );
    say(&format!(
        "{:>10} {:>7} {:>6}  {:<42} {:>16} {:>16}",
        "validators", "delay", "T", "primary", "first", "third in a row"
    ));
    for validators in [4, 10] {
        for delay in [MS, 50 * MS] {
            for (wrong, name) in Wrong::ALL {
                let (first, timeout) = measured(validators, delay, (wrong, 1), None);
                // Of four validators one may be faulty: there the NEW-VIEWs of two correct primaries are lost after it.
                let lost = EMPTY + 5 * timeout * MS;
                let third = match (validators, wrong) {
                    (_, Wrong::Nothing) => None,
                    (4, Wrong::Killed | Wrong::Silent) => {
                        Some(measured(validators, delay, (wrong, 1), Some(lost)))
                    }
                    (4, _) => None,
                    _ => Some(measured(validators, delay, (wrong, 3), None)),
                };
                say(&format!(
                    "{validators:>10} {:>4} ms {timeout:>6}  {name:<42} {:>16} {:>16}",
                    delay / MS,
                    shown(first),
                    third.map_or("-".into(), |third| shown(third.0)),
                ));
            }
        }
    }
}

fn shown(mut took: Vec<Nanos>) -> String {
    took.sort_unstable();
    let longest = took.last().copied().unwrap_or(0);
    let median = took.get(took.len() / 2).copied().unwrap_or(0);
    if took.is_empty() { "never".into() } else { format!("{} ({})", median / MS, longest / MS) }
}

/// How long it took in each run, and T at the fault in ms.
fn measured(
    validators: usize,
    delay: Nanos,
    wrong: (Wrong, usize),
    lost: Option<Nanos>,
) -> (Vec<Nanos>, u64) {
    let mut timeout = 0;
    let runs = (0..SEEDS).filter_map(|seed| {
        let mut plan = plan(seed, validators, delay, wrong);
        plan.faults.extend(lost.map(|lasts| Timed {
            when: When::Height(TERM - 1),
            fault: Fault::Mute { kind: Kind::NewView, percent: 100, lasts },
        }));
        let mut world = World::new(plan, Trace::default());
        world.run_to(TERM - 1, LIMIT);
        timeout = timeout.max(world.timeout_ms());
        world.run_to(TERM, LIMIT);
        let met = !matches!(wrong.0, Wrong::Equivocates)
            || world.coverage.has("byzantine", Strategy::EquivocatePrePrepare.name());
        let at = |height| world.decided_at.get(&height).copied();
        Some(at(TERM)? - at(TERM - 1)?).filter(|_| met)
    });
    (runs.collect(), timeout)
}

fn plan(seed: u64, validators: usize, delay: Nanos, (wrong, count): (Wrong, usize)) -> Plan {
    let powers = vec!["1"; validators].join(" ");
    let mut plan = Scenario::parse(&format!(
        "powers {powers}\nempty-blocks {}ms\nheal 1000 3600s\n",
        EMPTY / MS
    ))
    .expect("a scenario")
    .plan;
    plan.seed = seed;
    plan.term = TERM;
    // From the delay to a tenth more.
    plan.net.delay = (delay, delay + delay / 10);
    for (turn, seat) in primaries(validators).into_iter().take(count).enumerate() {
        let node = plan.nodes.get_mut(seat).expect("a seat");
        let last = turn + 1 == count;
        match wrong {
            Wrong::Nothing => {}
            Wrong::Killed | Wrong::Silent => {
                let fault = match wrong {
                    Wrong::Killed => Fault::Dead { seat, seen: true },
                    _ => Fault::Freeze { seat, lasts: LIMIT },
                };
                plan.faults.push(Timed { when: When::Height(TERM - 1), fault });
            }
            // Those before it are just too slow.
            Wrong::Slow => {
                node.byzantine = vec![if last { Strategy::SlowEnough } else { Strategy::Slow }];
            }
            Wrong::Equivocates => node.byzantine = vec![Strategy::EquivocatePrePrepare],
        }
    }
    plan
}

/// The primaries of the first views at the first height of the second term.
fn primaries(validators: usize) -> Vec<Seat> {
    let set = Validators::new((0..validators).map(|n| (key(n).public, 1))).expect("a set");
    let schedule = Schedule::new(&set, TERM);
    let height = Height::try_from(TERM).expect("a height");
    let seat = |view| {
        let primary = set.at(schedule.primary(height, View::new(view)?))?.address;
        (0..validators).find(|n| key(*n).address == primary)
    };
    (0..3).filter_map(seat).collect()
}
