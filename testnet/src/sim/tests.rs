//! The simulator's own tests, and a few hundred seeds of it.

use super::byzantine::Strategy;
use super::cli::THREAD;
use super::coverage::Coverage;
use super::plan::{Fault, Plan, Timed, When};
use super::run::{Outcome, run};
use super::scenario::{Scenario, write};
use super::trace::Trace;
use super::{MS, shrink};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// On a thread whose panics are part of the outcome.
fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(THREAD.into()).spawn_scoped(scope, work);
        thread.expect("a thread").join().expect("no panic outside a run")
    })
}

fn outcome(plan: Plan) -> Outcome {
    on_thread(|| run(plan, Trace::default()))
}

#[test]
fn a_seed_gives_the_same_trace_byte_for_byte() {
    for seed in [1, 19, 23] {
        let first = on_thread(|| run(Plan::of(seed), Trace::kept()));
        let second = on_thread(|| run(Plan::of(seed), Trace::kept()));
        assert!(first.trace.len() > 10_000, "seed {seed}");
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!(first.coverage, second.coverage, "seed {seed}");
    }
}

#[test]
fn every_invariant_holds_over_some_hundred_seeds() {
    let mut coverage = Coverage::default();
    for seed in 0..400 {
        let outcome = outcome(Plan::of(seed));
        assert_eq!(outcome.failure, None, "tercet-testnet sim --seed {seed} --trace");
        coverage.add(&outcome.coverage);
    }
    // What is rare comes in larger batches only.
    let missing = coverage.missing();
    assert!(missing.len() <= 16, "never met: {missing:?}");
    for rule in ["new view, free", "new view, bound", "decided by catch-up"] {
        assert!(coverage.has("rule", rule), "never met: {rule}");
    }
}

#[test]
fn every_scenario_is_as_expected() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = std::fs::read_dir(folder).expect("testnet/scenarios");
    let files: BTreeSet<PathBuf> = files.map(|file| file.expect("readable").path()).collect();
    assert!(files.len() >= 20, "{} scenarios", files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).expect("readable");
        let scenario =
            Scenario::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let missed = scenario.judge(&outcome(scenario.plan.clone()));
        assert!(missed.is_empty(), "{}: {missed:?}", file.display());
    }
}

#[test]
fn a_plan_is_the_same_after_it_was_written_and_read() {
    for seed in 0..300 {
        let plan = Plan::of(seed);
        let read = Scenario::parse(&write(&plan)).expect("what was written can be read");
        assert_eq!(read, Scenario { plan, expect: Vec::new() }, "seed {seed}");
    }
}

#[test]
fn a_line_that_is_not_understood_is_named() {
    let refused = Scenario::parse("powers 1 1 1 1\nheights 20 6\nat noon crash 1\n");
    assert_eq!(refused, Err("line 3 is not understood: at noon crash 1".into()));
    assert!(Scenario::parse("seed 4\n").is_err());
}

/// Four validators of which two lie: more than the protocol bears, so an invariant must break.
fn beyond_the_bound(seed: u64) -> Plan {
    let text = "powers 1 1 1 1\nterm 1\nheights 60 40\nheal 20 30s\n";
    let mut plan = Scenario::parse(text).expect("a scenario").plan;
    plan.seed = seed;
    for node in plan.nodes.iter_mut().take(2) {
        node.byzantine = vec![
            Strategy::EquivocatePrePrepare,
            Strategy::EquivocatePrepare,
            Strategy::EquivocateCommit,
            Strategy::SignsAnything,
        ];
    }
    plan
}

#[test]
fn a_fork_does_not_go_unnoticed() {
    let failures = (0..5).filter_map(|seed| outcome(beyond_the_bound(seed)).failure);
    let safety = failures.filter(|failure| failure.starts_with('S')).count();
    assert!(safety >= 4, "{safety} of 5 runs were found to break safety");
}

#[test]
fn what_does_not_matter_for_a_failure_is_shrunk_away() {
    let mut plan = beyond_the_bound(1);
    for height in 1..6 {
        let fault = Fault::Freeze { seat: 3, lasts: 20 * MS };
        plan.faults.push(Timed { when: When::Height(height), fault });
    }
    plan.net.doubled = 50;
    let (small, failure, runs) =
        on_thread(|| shrink::shrink(plan.clone())).expect("it fails to begin with");
    assert!(runs > 1 && small.faults.len() < plan.faults.len(), "{small:?}");
    let again = outcome(small).failure.expect("the smaller plan fails");
    assert_eq!(shrink::kind(&again), shrink::kind(&failure));
}

/// L1: a network that decides nothing in time is found.
#[test]
fn a_network_without_a_quorum_is_reported_as_stuck() {
    let text = "powers 1 1 1 1\nheal 6 9s\nat height 1 dead 1\nat height 1 dead 2\n";
    let plan = Scenario::parse(text).expect("a scenario").plan;
    let failure = outcome(plan).failure.expect("two of four are no quorum");
    assert!(failure.starts_with("L1"), "{failure}");
}
