//! Restart, and what STATUS brings back.

use super::*;
use crate::status::Bitmap;

/// "On restart, view = max(start view, highest view of any own signed PRE-PREPARE, PREPARE or COMMIT of h); the promise is restored
/// apart […] Locks stay." "A restart resends the SAME signed messages, never signs again."
#[test]
fn a_restart_restores_view_promise_and_lock_and_resends_the_same_bytes() {
    let mut b = backup();
    let block = b.block(0, 1, "x");
    let j = b.free(1);
    b.propose(1, &block, Some(j));
    b.accept(&block);
    for from in b.others() {
        b.vote(Phase::Prepare, from, 1, block.id());
    }
    b.fire(TimerKind::Commit);
    let records = b.out.iter().filter_map(|action| match action {
        Action::Persist(record) => Some(record.clone()),
        _ => None,
    });
    let mut restarted = Bench::new(b.me);
    for record in records.collect::<Vec<_>>() {
        assert_eq!(restarted.feed(Input::Restored(record)), [], "nothing is signed again");
    }
    assert_eq!(restarted.replica.view(), view(1));
    assert_eq!(restarted.replica.promise(), Some(view(2)));
    assert_eq!(restarted.replica.prepared(), Some((view(1), block.id())));
    let lacking = Bench::new(b.me).replica.status([]);
    let resent = restarted.replica.answer(&lacking);
    let mine: Vec<&Message> = b
        .out
        .iter()
        .filter_map(|action| match action {
            Action::Broadcast(message @ (Message::Vote(_) | Message::ViewChange(_))) => {
                Some(message)
            }
            _ => None,
        })
        .collect();
    assert_eq!(mine.len(), 3);
    assert!(mine.iter().all(|message| resent.contains(message)));
    restarted.feed(Input::Work(true));
    assert!(
        restarted
            .propose(1, &b.block(0, 1, "y"), Some(b.free(1)))
            .iter()
            .all(|action| { !matches!(action, Action::Broadcast(Message::Vote(_))) })
    );
}

/// "VIEW-CHANGE | promise, cause (timer, join, carried)": what was carried before a restart is not carried on after it. What a fault of the
/// primary caused is (ADR 009).
#[test]
fn a_restart_knows_that_a_view_change_was_carried() {
    let counts = [Cause::Timer, Cause::Join, Cause::Primary].map(|cause| (cause, vec![1]));
    for (cause, carried) in counts.into_iter().chain([(Cause::Carried, vec![])]) {
        let mut b = backup();
        let signed = b.s.view_change(b.me, 1, None);
        let message = ViewChangeMessage { signed, certificate: None };
        b.feed(Input::Restored(Record::ViewChange { message, cause }));
        let others = b.others();
        b.view_change(others[0], 1);
        let block = b.block(0, 0, "x");
        b.propose(0, &block, None);
        for from in others {
            b.vote(Phase::Commit, from, 0, block.id());
        }
        let mut next = start_of(&b.s, 0, &[]);
        next.height = Height::from(6u32);
        assert_eq!(view_changes(&b.feed(Input::Advance(next))), carried, "{cause:?}");
    }
}

/// "STATUS […] peers resend every signed message of h that they hold and the STATUS lacks […] To a peer with a lower start view or view
/// I send what put me here."
#[test]
fn a_status_brings_back_everything_that_was_lost() {
    let mut b = backup();
    let block = b.block(0, 1, "x");
    let j = b.free(1);
    b.propose(1, &block, Some(j));
    b.accept(&block);
    let others = b.others();
    b.vote(Phase::Commit, others[0], 0, block_id(9));
    b.view_change(others[1], 3);
    let fresh = backup().replica.status([]);
    let answer = b.replica.answer(&fresh);
    assert!(
        answer.iter().any(|m| matches!(m, Message::PrePrepare(p) if p.justification.is_some()))
    );
    assert!(answer.iter().any(|m| matches!(m, Message::Block(_))));
    assert_eq!(answer.iter().filter(|m| matches!(m, Message::Vote(_))).count(), 2);
    assert!(answer.iter().any(|m| matches!(m, Message::ViewChange(_))));
    assert_eq!(b.replica.answer(&b.replica.status([])), [], "who has all gets nothing");
    let mut raised = Bench::started(b.me, 2);
    raised.feed(Input::Work(true));
    let answer = raised.replica.answer(&fresh);
    assert!(answer.iter().any(|m| matches!(m, Message::Prior(commit) if commit.view == view(2))));
}

/// A STATUS may list more senders than there are validators, up to what one message holds: no correct replica's does, and it gets none.
#[test]
fn a_status_that_lists_more_senders_than_there_are_gets_no_view_change() {
    let mut b = backup();
    let other = b.others()[0];
    b.view_change(other, 3);
    let lists = |view_changes| {
        let status = crate::status::Status { view_changes, ..b.replica.status([]) };
        let answer = b.replica.answer(&status);
        let view_changes = answer.iter().filter_map(|message| match message {
            Message::ViewChange(m) => Some(m.signed.message.view.number()),
            _ => None,
        });
        view_changes.collect::<Vec<_>>()
    };
    assert_eq!(lists(vec![]), [3]);
    assert_eq!(lists(vec![(other, view(3))]), [0; 0]);
    assert_eq!(lists((0..4).map(|index| (index, view(2))).collect()), [3]);
    assert_eq!(lists((0..5).map(|index| (index, view(1))).collect()), [0; 0]);
}

/// A lone validator has nobody who resends votes: after a restart between its COMMIT and the decision it decides by itself, in the same
/// view, and signs nothing while its records come back.
#[test]
fn a_lone_validator_decides_after_a_restart_between_its_commit_and_the_decision() {
    let s = Signers::new(&[1], 5);
    let settings = Bench::new(0).replica.settings.clone();
    let settings = Settings { me: Some(s.validators.at(0).unwrap().address), ..settings };
    let prior = {
        let below = Signers::new(&[1], 4);
        let vote = below.vote(Phase::Commit, 0, 0, block_id(4));
        let (address, time) = (vote.message.validator, vote.message.time);
        let entry = CommitSig { address, time, signature: vote.signature, extension: None };
        Commit {
            height: Height::from(4u32),
            view: view(0),
            block_id: block_id(4),
            signatures: vec![Some(entry)],
        }
    };
    let start = HeightStart {
        height: s.height,
        validators: Arc::new(s.validators.clone()),
        schedule: Arc::new(s.schedule.clone()),
        prior: Some(prior.clone()),
        extensions: false,
        prior_extensions: false,
    };
    let block = block(&s, &prior, 0, "x");
    let records = [
        Record::PrePrepare { message: s.pre_prepare(0, block.id(), None) },
        Record::Prepare {
            pre_prepare: s.pre_prepare(0, block.id(), None),
            block: Some(block.clone()),
            vote: s.vote(Phase::Prepare, 0, 0, block.id()),
        },
        Record::Commit {
            certificate: s.certificate(0, block.id(), &[0]),
            block: None,
            vote: s.vote(Phase::Commit, 0, 0, block.id()),
        },
    ];
    let mut replica = Replica::new(settings, start);
    for record in records {
        assert_eq!(replica.step(Input::Restored(record)), []);
    }
    let out = replica.step(Input::Work(true));
    assert!(has(&out, |a| matches!(a, Action::Decide(d) if d.block.id() == block.id())), "{out:?}");
    assert!(!has(&out, |a| matches!(a, Action::Sign(_))));
}

/// "A restart resends the SAME signed messages": a primary that died between its proposal and its PREPARE signs no other proposal.
#[test]
fn a_proposal_is_resent_after_a_restart_and_never_signed_again() {
    let (primary, _) = primary_and_other();
    let mut b = Bench::new(primary);
    let message = b.s.pre_prepare(0, b.block(0, 0, "x").id(), None);
    assert_eq!(b.feed(Input::Restored(Record::PrePrepare { message: message.clone() })), []);
    b.feed(Input::Work(true));
    let built = Input::Built { view: view(0), block: b.block(0, 0, "y") };
    b.feed(built);
    let again = |a: &Action| {
        matches!(a, Action::Propose { .. } | Action::Broadcast(Message::PrePrepare(_)))
    };
    assert!(!has(&b.out, again));
    let lacking = backup().replica.status([]);
    assert!(b.replica.answer(&lacking).contains(&Message::PrePrepare(message)));
}

/// A primary whose journal lost its proposal, and which meets it again, signs no other at that view.
#[test]
fn a_primary_that_meets_its_forgotten_proposal_signs_no_other() {
    let (primary, _) = primary_and_other();
    let mut b = Bench::new(primary);
    let first = b.block(0, 0, "x");
    b.propose(0, &first, None);
    b.feed(Input::Work(true));
    let out = b.feed(Input::Built { view: view(0), block: b.block(0, 0, "y") });
    assert!(!has(&out, |a| matches!(a, Action::Broadcast(Message::PrePrepare(_)))));
    assert!(!has(&b.out, |a| matches!(a, Action::Propose { .. })));
}

/// "so nobody can spoil a correct primary's NEW-VIEW by a bad J": who holds the stripped one says in its STATUS that it lacks the whole.
#[test]
fn a_stripped_new_view_is_no_reason_not_to_resend_the_whole_one() {
    let mut b = backup();
    b.feed(Input::Prior(Verified::new(commit4(&b.s, 2, &[0, 1, 2]))));
    let block = b.block(0, 2, "x");
    b.propose(2, &block, None);
    assert_eq!(b.replica.status([]).pre_prepares, []);
    let j = b.free(2);
    assert!(validates(&b.propose(2, &block, Some(j))));
    assert_eq!(b.replica.status([]).pre_prepares, [block.id()]);
}

/// A STATUS names the votes of the own view even where a liar has voted in many later ones.
#[test]
fn a_status_lists_the_votes_of_the_own_view_first() {
    let mut b = backup();
    let others = b.others();
    let block = b.block(0, 0, "x");
    b.vote(Phase::Prepare, others[0], 0, block.id());
    for v in 0..super::super::VOTE_VIEWS_MAX as u32 {
        b.vote(Phase::Prepare, others[1], 1_000 + v, block_id(1));
        b.vote(Phase::Prepare, others[2], 2_000 + v, block_id(1));
    }
    let listed = b.replica.status([]).prepares;
    assert!(listed.iter().any(|(v, bitmap)| *v == view(0) && bitmap.has(others[0])), "{listed:?}");
}

/// A replica whose journal lost its promise, and which meets its own VIEW-CHANGE again, keeps it: below it nothing is signed.
#[test]
fn a_forgotten_promise_that_comes_back_binds() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    let me = b.me;
    b.view_change(me, 2);
    assert_eq!(b.replica.promise(), Some(view(2)));
    assert!(votes(&b.accept(&block)).is_empty());
}

/// "view = max(start view, highest view of any own signed PRE-PREPARE, PREPARE **or COMMIT** of h)", also where nothing was PREPAREd.
#[test]
fn a_restart_restores_the_view_of_a_commit_without_a_prepare() {
    let mut b = backup();
    let block = b.block(0, 1, "x");
    let j = b.free(1);
    b.propose(1, &block, Some(j));
    for from in b.others() {
        b.vote(Phase::Prepare, from, 1, block.id());
    }
    let records = b.out.iter().filter_map(|action| match action {
        Action::Persist(record) => Some(record.clone()),
        _ => None,
    });
    let records: Vec<Record> = records.collect();
    assert!(matches!(records[..], [Record::Commit { .. }]), "{records:?}");
    let mut restarted = Bench::new(b.me);
    for record in records {
        restarted.feed(Input::Restored(record));
    }
    assert_eq!(restarted.replica.view(), view(1));
}

/// A bitmap ends with the last vote that its sender has; what lies behind is lacking, and is sent.
#[test]
fn what_lies_behind_the_end_of_a_bitmap_is_lacking() {
    let has: Bitmap = [0, 3].into_iter().collect();
    let has = Bitmap::from_bytes(has.as_bytes().to_vec());
    assert_eq!(
        [0, 1, 3, 7, 8, 9, 1_000].map(|index| has.has(index)),
        [true, false, true, false, false, false, false]
    );
}

/// "the promise is restored apart": it is the highest view that was asked for, in whatever order the records lie.
#[test]
fn a_restart_restores_the_highest_promise() {
    for order in [[1, 2], [2, 1]] {
        let mut b = backup();
        for v in order {
            let signed = b.s.view_change(b.me, v, None);
            let message = ViewChangeMessage { signed, certificate: None };
            b.feed(Input::Restored(Record::ViewChange { message, cause: Cause::Timer }));
        }
        assert_eq!(b.replica.promise(), Some(view(2)), "{order:?}");
    }
}

/// What tells a foreign signature of this key from an echo: what the vote says, not merely its place.
#[test]
fn another_vote_in_the_place_of_the_own_is_not_known() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.accept(&block);
    let vote = |id| b.s.vote(Phase::Prepare, b.me, 0, id).message;
    let mine = b.out.iter().find_map(|action| match action {
        Action::Broadcast(Message::Vote(vote)) => Some(vote.message.clone()),
        _ => None,
    });
    assert!(b.replica.has_vote(&mine.expect("a PREPARE")));
    assert!(!b.replica.has_vote(&vote(block_id(9))));
}
