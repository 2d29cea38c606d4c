//! Small bounds, exhausted; and faults that are not allowed, found.

use super::{BlockKind, Bounds, Forgets, Report, search};

fn run(bounds: &Bounds) -> Report {
    search(bounds, &mut |_| {}).unwrap()
}

/// Every state was seen and no invariant broke.
fn exhausted(bounds: &Bounds) -> Report {
    let report = run(bounds);
    assert_eq!(report.violation, None);
    assert!(report.exhausted);
    report
}

fn of(rounds: &[u8]) -> Vec<BlockKind> {
    rounds.iter().map(|round| BlockKind::of(*round)).collect()
}

/// The number of states is told in docs/exhaustive-check.md: a change of the protocol changes it.
#[test]
fn one_height_with_two_views_holds() {
    let report = exhausted(&Bounds::default());
    assert_eq!(report.states, 12_900);
}

#[test]
fn it_holds_where_replicas_crash_and_views_start_apart() {
    let bounds =
        Bounds { prior: vec![0, 1], blocks: vec![of(&[0, 1])], crashes: true, ..Bounds::default() };
    assert!(exhausted(&bounds).states > 10_000);
}

/// As many combinations of signed messages as an abstract model of the protocol finds that was written apart from the code.
#[test]
fn it_agrees_with_the_abstract_model() {
    for (rounds, combinations) in [([0, 0], 3253), ([0, 1], 2560)] {
        let (prior, blocks) = (vec![0, 1], vec![of(&rounds)]);
        let bounds = Bounds { prior, blocks, count_signed: true, ..Bounds::default() };
        assert_eq!(exhausted(&bounds).signed, combinations);
    }
}

#[test]
fn it_holds_where_blocks_are_missing() {
    let bounds = Bounds { bodies: true, ..Bounds::default() };
    assert!(exhausted(&bounds).states > 50_000);
}

#[test]
fn it_holds_by_power() {
    let bounds = Bounds { powers: vec![[2, 1, 1, 1]], ..Bounds::default() };
    assert!(exhausted(&bounds).states > 10_000);
}

#[test]
fn it_holds_under_correct_primaries() {
    let blocks = [0, 1].map(|proposer| BlockKind { round: 0, proposer });
    let bounds =
        Bounds { primaries: vec![0, 1], blocks: vec![blocks.to_vec()], ..Bounds::default() };
    assert!(exhausted(&bounds).states > 5_000);
}

/// The rows of the table stand for every way to them.
#[test]
fn replicas_in_one_state_behave_alike() {
    let bounds = Bounds { congruence: true, crashes: true, ..Bounds::default() };
    let found = exhausted(&bounds).congruence;
    assert_eq!((found.lost, found.example), (0, None));
    assert!(found.ways > 1_000);
}

/// L1 from a sample of all states.
#[test]
fn a_silent_liar_stops_nothing() {
    let bounds = Bounds { live_one_in: 100, crashes: true, ..Bounds::default() };
    let lived = exhausted(&bounds).lived;
    assert!(lived.states > 50, "{lived:?}");
}

/// Two heights: carry-over, early VIEW-CHANGEs, start views that differ.
#[test]
fn two_heights_hold() {
    let blocks = vec![of(&[0]), of(&[0, 1])];
    let bounds = Bounds { blocks, ..Bounds::default() };
    assert!(exhausted(&bounds).states > 10_000);
}

/// A validator set that changes, and one that loses a member.
#[test]
fn it_holds_over_a_change_of_the_set() {
    for powers in [[2, 1, 1, 1], [1, 1, 1, 0]] {
        let powers = vec![[1, 1, 1, 1], powers];
        let blocks = vec![of(&[0]), of(&[0])];
        assert!(exhausted(&Bounds { powers, blocks, ..Bounds::default() }).states > 10_000);
    }
}

/// Nothing may be found where nothing is searched: each of these faults must be.
#[test]
fn a_restart_that_forgets_is_found() {
    for forgets in [Forgets::Promise, Forgets::Prepares, Forgets::Commits] {
        let bounds = Bounds { forgets, crashes: true, ..Bounds::default() };
        assert!(run(&bounds).violation.is_some(), "{forgets:?}");
    }
}

#[test]
fn faulty_power_of_more_than_a_third_forks() {
    let bounds = Bounds { powers: vec![[1, 1, 1, 4]], ..Bounds::default() };
    let (what, way) = run(&bounds).violation.unwrap();
    assert!(what.starts_with("S1") || what.starts_with("S2") || what.contains("alarm"), "{what}");
    assert!(!way.is_empty());
}

#[test]
fn what_cannot_be_searched_is_refused() {
    let blocks = vec![of(&[0]); 4];
    assert!(search(&Bounds { blocks, ..Bounds::default() }, &mut |_| {}).is_err());
    assert!(search(&Bounds { views: 5, ..Bounds::default() }, &mut |_| {}).is_err());
}
