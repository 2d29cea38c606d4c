//! Timers and the wait for late COMMITs.

use super::*;

/// "propose […] runs only while there is something to order: an eligible transaction […] or PREPARE, COMMIT or VIEW-CHANGE of it from
/// blocking power (one liar cannot rotate an idle chain)."
#[test]
fn an_idle_replica_runs_no_timer() {
    let mut b = backup();
    let others = b.others();
    b.vote(Phase::Prepare, others[0], 0, block_id(1));
    assert_eq!(b.armed(TimerKind::Propose), None);
    b.vote(Phase::Prepare, others[1], 0, block_id(1));
    assert_eq!(b.armed(TimerKind::Propose).map(|(_, after)| after), Some(T));
    let mut b = backup();
    b.feed(Input::Work(true));
    assert!(b.armed(TimerKind::Propose).is_some());
}

/// "The new-view timer for my promise p starts when senders, myself included, whose highest VIEW-CHANGE is >= p hold a quorum."
#[test]
fn the_new_view_timer_counts_later_views_too() {
    let mut b = backup();
    b.feed(Input::Work(true));
    b.fire(TimerKind::Propose);
    let others = b.others();
    b.view_change(others[0], 1);
    assert_eq!(b.armed(TimerKind::NewView), None);
    b.view_change(others[1], 5);
    assert_eq!(
        b.armed(TimerKind::NewView).map(|(t, after)| (t.view, after)),
        Some((view(1), 2 * T))
    );
}

/// "each lasts T·2^(k − start view) […] capped at 30 s"; "if any of (height, view, kind, generation) is stale it is dropped."
#[test]
fn timers_back_off_to_a_cap_and_stale_ones_are_dropped() {
    let mut b = backup();
    b.feed(Input::Work(true));
    let (stale, _) = b.armed(TimerKind::Propose).unwrap();
    b.fire(TimerKind::Propose);
    assert!(b.feed(Input::Timer(stale)).is_empty());
    let others = b.others();
    for from in &others[..2] {
        b.view_change(*from, 20);
    }
    assert_eq!(
        b.armed(TimerKind::NewView).map(|(_, after)| after),
        Some(super::super::BACKOFF_MAX)
    );
    let wrong = Timer { generation: u64::MAX, ..b.armed(TimerKind::NewView).unwrap().0 };
    assert!(view_changes(&b.feed(Input::Timer(wrong))).is_empty());
}

/// "disconnected primary: […] the running propose or commit timer expires after disconnect_grace, at most once a height."
#[test]
fn a_dead_primary_hurries_one_timer_a_height() {
    let mut b = backup();
    b.feed(Input::Work(true));
    let validator = b.replica.primary();
    let out = b.feed(Input::Down { validator, down: true });
    assert!(has(&out, |a| matches!(a, Action::Arm { after, .. } if *after == GRACE)));
    let out = b.feed(Input::Down { validator, down: true });
    assert!(out.is_empty(), "once a height");
    assert_eq!(view_changes(&b.fire(TimerKind::Propose)), [1]);
    let validator = b.replica.at.primary_address(view(1));
    b.feed(Input::Down { validator, down: true });
    let j = b.free(1);
    b.propose(1, &b.block(0, 1, "x"), Some(j));
    assert_eq!(b.replica.view(), view(1));
    assert_eq!(b.armed(TimerKind::Propose).map(|(_, after)| after), Some(2 * T), "once a height");
}

/// Work that goes and comes back starts the timer anew; what was short before is short again, or a dead primary would cost a whole T.
#[test]
fn a_timer_that_starts_anew_is_hurried_too() {
    let mut b = backup();
    let validator = b.replica.primary();
    b.feed(Input::Down { validator, down: true });
    b.feed(Input::Work(true));
    assert_eq!(b.armed(TimerKind::Propose).map(|(_, after)| after), Some(GRACE));
    b.feed(Input::Work(false));
    b.feed(Input::Work(true));
    assert_eq!(b.armed(TimerKind::Propose).map(|(_, after)| after), Some(GRACE));
}

/// "before pre-preparing h+1 the primary waits, at most commit_grace after deciding, for every validator whose COMMIT for either of the
/// last two heights has arrived […] So one dead validator delays no one."
#[test]
fn the_primary_waits_for_late_commits_but_not_for_the_dead() {
    let (primary, other) = primary_and_other();
    let run = |committers: &[ValidatorIndex], present: &[ValidatorIndex]| {
        let mut b = Bench::new(primary);
        b.replica.committers =
            committers.iter().map(|index| b.s.validators.at(*index).unwrap().address).collect();
        b.replica.at.start.prior = Some(commit4(&b.s, 0, present));
        let out = b.feed(Input::Work(true));
        (b, has(&out, |a| matches!(a, Action::Propose { .. })))
    };
    let without_other: Vec<_> = (0..4).filter(|index| *index != other).collect();
    assert!(run(&without_other, &without_other).1, "absent for two heights: not waited for");
    let (mut b, proposed) = run(&[0, 1, 2, 3], &without_other);
    assert!(!proposed, "it committed the height before: waited for");
    let below = Signers::new(&[1; 4], 4);
    let late = Verified::new(below.vote(Phase::Commit, other, 0, block_id(4)));
    let out = b.feed(Input::Vote(late));
    let full = out.iter().any(|action| match action {
        Action::Propose { last_commit: Some(commit), .. } => commit.present().count() == 4,
        _ => false,
    });
    assert!(full, "the late COMMIT is in the block's last commit");
    let (mut b, _) = run(&[0, 1, 2, 3], &without_other);
    assert!(has(&b.fire(TimerKind::Grace), |a| matches!(a, Action::Propose { .. })));
}

/// "at most `commit_grace` after deciding": a primary that was idle for longer does not wait again when work comes.
#[test]
fn the_wait_for_late_commits_begins_with_the_height_and_not_with_the_work() {
    let (primary, other) = primary_and_other();
    let mut b = Bench::new(primary);
    b.replica.committers = (0..4).map(|index| b.s.validators.at(index).unwrap().address).collect();
    let present: Vec<_> = (0..4).filter(|index| *index != other).collect();
    b.replica.at.start.prior = Some(commit4(&b.s, 0, &present));
    b.feed(Input::Work(false));
    assert_eq!(b.armed(TimerKind::Grace).map(|(_, after)| after), Some(GRACE));
    b.fire(TimerKind::Grace);
    assert!(has(&b.feed(Input::Work(true)), |a| matches!(a, Action::Propose { .. })));
}

/// "or a justified PRE-PREPARE of this height": a NEW-VIEW whose block never comes is left by the propose timer, though nobody has work.
#[test]
fn a_new_view_without_its_block_keeps_the_propose_timer_running() {
    let mut b = backup();
    let j = b.free(1);
    let message = Verified::new(b.s.pre_prepare(1, block_id(7), Some(j)));
    b.feed(Input::PrePrepare(message));
    assert_eq!(b.armed(TimerKind::Propose).map(|(timer, _)| timer.view), Some(view(1)));
}

/// "propose ends at an accepted pre-prepare"; "the commit timer runs from accepting a pre-prepare"; both "only while promise <= view".
#[test]
fn the_propose_timer_gives_way_to_the_commit_timer() {
    let mut b = backup();
    b.feed(Input::Work(true));
    let (propose, _) = b.armed(TimerKind::Propose).unwrap();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    assert_eq!(b.armed(TimerKind::Commit), None, "not before it is accepted");
    b.accept(&block);
    assert_eq!(b.armed(TimerKind::Commit).map(|(_, after)| after), Some(T));
    assert!(view_changes(&b.feed(Input::Timer(propose))).is_empty(), "propose has ended");
    let (commit, _) = b.armed(TimerKind::Commit).unwrap();
    // Not a view of its own, which it would enter.
    let v = (2..4).find(|v| b.primary(*v) != b.me).unwrap();
    for from in &b.others()[..2] {
        b.view_change(*from, v);
    }
    assert_eq!((b.replica.promise(), b.replica.view()), (Some(view(v)), view(0)));
    assert!(view_changes(&b.feed(Input::Timer(commit))).is_empty(), "promised, so it has ended");
    let mut b = backup();
    b.feed(Input::Work(true));
    let (propose, _) = b.armed(TimerKind::Propose).unwrap();
    for from in &b.others()[..2] {
        b.view_change(*from, v);
    }
    assert_eq!((b.replica.promise(), b.replica.view()), (Some(view(v)), view(0)));
    assert!(view_changes(&b.feed(Input::Timer(propose))).is_empty(), "this one as well");
}

/// "T·2^(k − start view)": the exponent counts from the start view, not from zero.
#[test]
fn the_backoff_counts_from_the_start_view() {
    let mut b = Bench::started(backup().me, 6);
    b.feed(Input::Work(true));
    assert_eq!(b.armed(TimerKind::Propose).map(|(_, after)| after), Some(T));
    let j = b.free(8);
    b.propose(8, &b.block(6, 8, "x"), Some(j));
    assert_eq!(
        b.armed(TimerKind::Propose).map(|(t, after)| (t.view, after)),
        Some((view(8), 4 * T))
    );
    b.feed(Input::Timeout(2 * T));
    let j = b.free(9);
    b.propose(9, &b.block(6, 9, "x"), Some(j));
    assert_eq!(
        b.armed(TimerKind::Propose).map(|(_, after)| after),
        Some(16 * T),
        "T is a value from outside"
    );
}

/// "[…] from blocking power (one liar cannot rotate an idle chain)": power is that of senders, however often one of them sends.
#[test]
fn one_validator_that_sends_often_is_not_blocking_power() {
    let mut b = backup();
    let liar = b.others()[0];
    for v in 0..3 {
        b.vote(Phase::Prepare, liar, v, block_id(1));
        b.vote(Phase::Commit, liar, v, block_id(1));
        b.view_change(liar, v + 1);
    }
    assert_eq!(b.armed(TimerKind::Propose), None);
}

/// "[…] every validator whose COMMIT for **either** of the last two heights has arrived": one that missed the last height alone is
/// waited for, one that missed both is not.
#[test]
fn a_commit_of_one_of_the_last_two_heights_is_waited_for() {
    let (primary, other) = primary_and_other();
    let mut b = Bench::new(primary);
    let present: Vec<_> = (0..4).filter(|index| *index != other).collect();
    for (height, waits) in [(6, true), (7, false)] {
        let last = b.replica.at.start.prior.clone().expect("a height above the first");
        let s = Signers::new(&[1; 4], height - 1);
        let decided = decided(&s, &block(&s, &last, primary, "x"), 0, &present);
        b.feed(Input::Decided(Verified::new(decided.clone())));
        let mut next = start_of(&s, 0, &[]);
        (next.height, next.prior) = (Height::from(height), Some(decided.commit));
        b.feed(Input::Advance(next));
        let out = b.feed(Input::Work(true));
        let proposed = has(&out, |a| matches!(a, Action::Propose { .. }));
        assert_eq!(proposed, !waits, "at height {height}");
    }
}
