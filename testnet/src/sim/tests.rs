//! The simulator's own tests.

use super::plan::Plan;
use super::run::run;
use super::trace::Trace;

#[test]
fn a_seed_gives_the_same_trace_byte_for_byte() {
    for seed in [1, 19, 23] {
        let first = run(Plan::of(seed), Trace::kept());
        let second = run(Plan::of(seed), Trace::kept());
        assert!(first.trace.len() > 10_000, "seed {seed}");
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!(first.coverage, second.coverage, "seed {seed}");
    }
}
