//! View changes and new views.

use super::*;

/// "on proof of primary equivocation": two proposals of the primary for one view.
#[test]
fn a_primary_that_signs_two_blocks_is_left() {
    let mut b = backup();
    let (one, two) = (b.block(0, 0, "x"), b.block(0, 0, "y"));
    b.propose(0, &one, None);
    assert_eq!(view_changes(&b.propose(0, &two, None)), [1]);
}

/// A refused block is as good as none: its primary is left at once.
#[test]
fn a_refused_block_leads_to_a_view_change() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    let out = b.feed(Input::Validated { block_id: block.id(), accepted: false });
    assert_eq!(view_changes(&out), [1]);
    assert!(votes(&out).is_empty());
}

/// ADR 009: where the blocks of all primaries are refused, as when applications disagree, views do not chase each other: the timers and
/// their back-off decide.
#[test]
fn refusals_of_more_primaries_than_there_are_wait_for_the_timer() {
    let mut b = backup();
    let texts = ["a", "b", "c", "d", "e", "f"];
    for (v, text) in (0..6).zip(texts) {
        let block = b.block(0, v, text);
        let j = (v > 0).then(|| b.free(v));
        b.propose(v, &block, j);
        if b.replica.at.verdicts.contains_key(&block.id()) {
            let out = b.feed(Input::Validated { block_id: block.id(), accepted: false });
            let at_once = if v < 4 { vec![v + 1] } else { vec![] };
            assert_eq!(view_changes(&out), at_once, "view {v}");
        }
        assert_eq!(b.replica.view(), view(v));
    }
    assert_eq!(view_changes(&b.fire(TimerKind::Propose)), [6]);
}

/// "not asked again for a bound b that it accepted": one that it refused it is asked about again, because a refusal by the clock or
/// for want of something is not for ever, and the others may need this replica to decide what they are bound to.
#[test]
fn a_refused_block_that_is_bound_in_a_later_view_is_asked_about_again() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.feed(Input::Validated { block_id: block.id(), accepted: false });
    let j = b.bound(1, 0, block.id());
    assert!(validates(&b.propose(1, &block, Some(j))));
    assert_eq!(b.replica.view(), view(1));
    assert!(!votes(&b.accept(&block)).is_empty());
}

/// A view that a Commit(h-1) raises a replica to is entered as any other: its primary is told of, and what was refused before may be bound
/// there. The NEW-VIEW, which comes later, enters nothing any more.
#[test]
fn a_view_that_a_commit_raises_to_is_entered_like_any_other() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.feed(Input::Validated { block_id: block.id(), accepted: false });
    let raised = b.feed(Input::Prior(Verified::new(commit4(&b.s, 1, &[0, 1, 2]))));
    let primary = b.s.validators.at(b.primary(1)).expect("four").address;
    let entered = Action::Note(Note::Entered { view: view(1), primary });
    assert_eq!(raised.iter().filter(|action| **action == entered).count(), 1);
    let j = b.bound(1, 0, block.id());
    let out = b.propose(1, &block, Some(j));
    assert_eq!((validates(&out), view_changes(&out)), (true, vec![]));
    assert!(!votes(&b.accept(&block)).is_empty());
    // One that leaves the view where it is enters nothing.
    let same = b.feed(Input::Prior(Verified::new(commit4(&b.s, 1, &[1, 2, 3]))));
    assert!(!has(&same, |action| matches!(action, Action::Note(Note::Entered { .. }))));
}

/// "J is not covered by the proposal's signature: an unjustified PRE-PREPARE leaves no trace in protocol state."
#[test]
fn a_new_view_stripped_of_its_justification_spoils_nothing() {
    let mut b = backup();
    let block = b.block(0, 1, "x");
    let j = b.free(1);
    assert!(!validates(&b.propose(1, &block, None)));
    assert_eq!(b.replica.view(), view(0));
    assert!(validates(&b.propose(1, &block, Some(j))));
    assert!(view_changes(&b.out).is_empty(), "the primary is not blamed");
}

/// "Carry-over: if I decide h in w after sending VIEW-CHANGE(h,>w) by a timer or by joining and having seen VIEW-CHANGE(h,>w) from
/// blocking power, myself included, I send VIEW-CHANGE(h+1,w+1) on entering h+1."
#[test]
fn a_view_change_that_blocking_power_wanted_is_carried_over_once() {
    for (seen, carried) in [(true, vec![1]), (false, vec![])] {
        let mut b = backup();
        let block = b.block(0, 0, "x");
        b.propose(0, &block, None);
        b.fire(TimerKind::Propose);
        let others = b.others();
        if seen {
            b.view_change(others[0], 1);
        }
        for from in others {
            b.vote(Phase::Commit, from, 0, block.id());
        }
        let mut next = start_of(&b.s, 0, &[]);
        next.height = Height::from(6u32);
        assert_eq!(view_changes(&b.feed(Input::Advance(next))), carried, "seen: {seen}");
    }
}

/// "Entering v': the new primary with a quorum of VIEW-CHANGE(h,v'). It sends NEW-VIEW at once, with an empty block if need be."
#[test]
fn the_new_primary_proposes_freely_on_a_quorum() {
    let me = Bench::new(0).primary(1);
    let mut b = Bench::new(me);
    let mut out = Vec::new();
    for from in b.others() {
        out.extend(b.view_change(from, 1));
    }
    assert!(has(&out, |a| matches!(a, Action::Propose { view, .. } if view.number() == 1)));
    let block = b.block(0, 1, "x");
    let out = b.feed(Input::Built { view: view(1), block: block.clone() });
    let new_view = out.iter().find_map(|action| match action {
        Action::Broadcast(Message::PrePrepare(message)) => Some(message.clone()),
        _ => None,
    });
    let j = new_view.expect("a NEW-VIEW").justification.expect("its J");
    assert!(j.certificate.is_none() && j.view_changes.len() >= 3);
    assert!(validates(&out));
}

/// "may use any quorum whose bound block it has": bound to the highest prepared view, byte for byte.
#[test]
fn the_new_primary_is_bound_by_the_highest_certificate() {
    let me = Bench::new(0).primary(1);
    let mut b = Bench::new(me);
    let block = b.block(0, 0, "x");
    b.feed(Input::Block(block.clone()));
    let others = b.others();
    let signed = b.s.view_change(others[0], 1, Some((0, block.id())));
    let certificate = Some(b.s.certificate(0, block.id(), &[0, 1, 2]));
    b.feed(Input::ViewChange(Verified::new(ViewChangeMessage { signed, certificate })));
    let out = b.view_change(others[1], 1);
    let sent = out.iter().find_map(|action| match action {
        Action::Broadcast(Message::PrePrepare(message)) => Some(message.clone()),
        _ => None,
    });
    let sent = sent.expect("a NEW-VIEW at once");
    assert_eq!((sent.block_id(), sent.proposal.message.prepared_view), (block.id(), Some(view(0))));
    assert!(!has(&b.out, |a| matches!(a, Action::Propose { .. })));
}

/// "A primary that already signed fresh (h,v') sends no NEW-VIEW for v'."
#[test]
fn a_primary_that_proposed_fresh_sends_no_new_view() {
    let (primary, _) = primary_and_other();
    let mut b = Bench::new(primary);
    b.feed(Input::Work(true));
    let block = b.block(0, 0, "x");
    let out = b.feed(Input::Built { view: view(0), block });
    assert!(has(&out, |a| matches!(a, Action::Broadcast(Message::PrePrepare(_)))));
    let sent = b.out.len();
    for from in b.others() {
        b.view_change(from, 0);
    }
    assert!(!has(&b.out[sent..], |a| matches!(a, Action::Broadcast(Message::PrePrepare(_)))));
}

/// "A timer sends VIEW-CHANGE for max(view, promise) + 1. promise = v', persist, broadcast."
#[test]
fn a_timer_promises_the_next_view_durably() {
    let mut b = backup();
    b.feed(Input::Work(true));
    let out = b.fire(TimerKind::Propose);
    assert_eq!(view_changes(&out), [1]);
    assert!(has(&out, |a| matches!(
        a,
        Action::Persist(Record::ViewChange { cause: Cause::Timer, .. })
    )));
    let others = b.others();
    b.view_change(others[0], 1);
    b.view_change(others[1], 1);
    assert_eq!(view_changes(&b.fire(TimerKind::NewView)), [2]);
}

/// "or when blocking power of senders have highest VIEW-CHANGE >= u > max(view, promise) (take the largest such u)."
#[test]
fn blocking_power_is_joined_at_the_largest_view_and_less_is_not() {
    let mut b = backup();
    let others = b.others();
    assert!(view_changes(&b.view_change(others[0], 7)).is_empty(), "one liar moves nobody");
    assert_eq!(view_changes(&b.view_change(others[1], 4)), [4]);
    assert!(view_changes(&b.view_change(others[2], 4)).is_empty(), "already promised");
    assert_eq!(view_changes(&b.view_change(others[2], 9)), [7]);
}

/// "Keep only the highest per sender": an older VIEW-CHANGE that is replayed takes nothing back.
#[test]
fn an_older_view_change_replaces_no_newer_one() {
    let mut b = backup();
    let others = b.others();
    b.view_change(others[0], 7);
    b.view_change(others[0], 2);
    assert_eq!(b.replica.status([]).view_changes, [(others[0], view(7))]);
    assert_eq!(view_changes(&b.view_change(others[1], 9)), [7]);
}

/// Pre-prepares of later views that nothing justifies, which faulty primaries can sign at will, hide no NEW-VIEW.
#[test]
fn junk_for_later_views_hides_no_new_view() {
    let mut b = backup();
    for v in 1..20 {
        for n in 1..5 {
            let message = b.s.pre_prepare(v, block_id(n), None);
            b.feed(Input::PrePrepare(Verified::new(message)));
        }
    }
    let block = b.block(0, 40, "x");
    let j = b.free(40);
    assert!(validates(&b.propose(40, &block, Some(j))));
    assert_eq!(b.replica.view(), view(40));
}

/// "To a peer […] that sends VIEW-CHANGE(h,u) with u <= my view, I send what put me here": the commit, where that came last.
#[test]
fn what_is_sent_to_explain_a_view_is_what_led_there() {
    let mut b = backup();
    let block = b.block(0, 1, "x");
    let j = b.free(1);
    b.propose(1, &block, Some(j));
    let others = b.others();
    let explained = |out: &[Action]| {
        out.iter().find_map(|action| match action {
            Action::Send(_, message) => Some(message.clone()),
            _ => None,
        })
    };
    let first = explained(&b.view_change(others[0], 1));
    assert!(matches!(first, Some(Message::PrePrepare(m)) if m.view() == view(1)));
    b.feed(Input::Prior(Verified::new(commit4(&b.s, 3, &[0, 1, 2]))));
    let second = explained(&b.view_change(others[0], 2));
    assert!(matches!(second, Some(Message::Prior(commit)) if commit.view == view(3)));
    assert_eq!(
        explained(&b.view_change(others[0], 2)),
        None,
        "one that was replayed is not answered again"
    );
}

/// "fires once per transaction": a suspicion that comes while a block is under way would be lost, so it counts at the next height, once.
#[test]
fn a_suspicion_while_a_block_is_under_way_counts_at_the_next_height() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.accept(&block);
    let height = b.s.height;
    assert!(view_changes(&b.feed(Input::Suspect { height, view: view(0) })).is_empty());
    for from in b.others() {
        b.vote(Phase::Commit, from, 0, block.id());
    }
    let mut next = start_of(&b.s, 0, &[]);
    next.height = Height::from(6u32);
    assert_eq!(view_changes(&b.feed(Input::Advance(next))), [1]);
}

/// *age*: with nothing accepted in this view the suspicion counts at once, whatever was accepted in an earlier one.
#[test]
fn a_suspicion_counts_at_once_where_no_block_is_under_way() {
    let mut b = backup();
    let height = b.s.height;
    assert_eq!(view_changes(&b.feed(Input::Suspect { height, view: view(0) })), [1]);
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.accept(&block);
    b.feed(Input::Prior(Verified::new(commit4(&b.s, 1, &[0, 1, 2]))));
    assert!(
        view_changes(&b.feed(Input::Suspect { height, view: view(0) })).is_empty(),
        "view 0 is over"
    );
    assert_eq!(view_changes(&b.feed(Input::Suspect { height, view: view(1) })), [2]);
}

/// "the new primary with a quorum of VIEW-CHANGE(h,v')": a sender that asks for more while the block is being built takes no quorum away.
#[test]
fn a_quorum_that_was_seen_stays_a_quorum() {
    let me = Bench::new(0).primary(1);
    let mut b = Bench::new(me);
    let others = b.others();
    b.view_change(others[0], 1);
    b.view_change(others[1], 1);
    assert_eq!(b.replica.view(), view(1), "my own is the third");
    b.view_change(others[0], 2);
    let block = b.block(0, 1, "x");
    let out = b.feed(Input::Built { view: view(1), block });
    let sent = out.iter().find_map(|action| match action {
        Action::Broadcast(Message::PrePrepare(message)) => Some(message.clone()),
        _ => None,
    });
    let message = sent.expect("a NEW-VIEW");
    assert_eq!(b.s.context().pre_prepare(message, &crate::verify::Direct).map(drop), Ok(()));
}

/// "Two valid certificates for different blocks at one (h,view) mean more than f faults: alarm and halt."
#[test]
fn two_certificates_for_one_view_raise_the_alarm_and_stop_signing() {
    let alarmed = |out: &[Action]| has(out, |a| matches!(a, Action::Alarm(_)));
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.accept(&block);
    let others = b.others();
    let signed = b.s.view_change(others[0], 1, Some((0, block_id(9))));
    let certificate = Some(b.s.certificate(0, block_id(9), &[0, 1, 2]));
    let message = ViewChangeMessage { signed, certificate };
    assert!(!alarmed(&b.feed(Input::ViewChange(Verified::new(message)))));
    b.vote(Phase::Prepare, others[0], 0, block.id());
    let out = b.vote(Phase::Prepare, others[1], 0, block.id());
    assert!(alarmed(&out));
    assert!(votes(&out).is_empty(), "halted: {out:?}");
    assert!(view_changes(&b.view_change(others[1], 1)).is_empty(), "halted");
}

/// A claim alone, as it stands in J, proves nothing and raises no alarm.
#[test]
fn a_claim_without_a_certificate_raises_no_alarm() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    let mut j = b.bound(3, 2, block.id());
    j.view_changes[1] = b.s.view_change(1, 3, Some((1, block_id(8))));
    j.view_changes[2] = b.s.view_change(2, 3, Some((1, block_id(9))));
    assert!(validates(&b.propose(3, &block, Some(j))));
    assert!(!has(&b.out, |a| matches!(a, Action::Alarm(_))));
}

/// S1: two decided blocks at one height are an alarm, not a matter of which came first.
#[test]
fn another_decided_block_of_the_height_raises_the_alarm() {
    let mut b = backup();
    let (one, two) = (b.block(0, 0, "x"), b.block(0, 0, "y"));
    let decided = |b: &Bench, block: &Arc<SealedBlock>| {
        let entry = |index| {
            let vote = b.s.vote(Phase::Commit, index, 0, block.id());
            let (address, time) = (vote.message.validator, vote.message.time);
            Some(CommitSig { address, time, signature: vote.signature, extension: None })
        };
        let signatures = (0..4).map(entry).collect();
        let commit = Commit { height: b.s.height, view: view(0), block_id: block.id(), signatures };
        Input::Decided(Verified::new(Decided { block: block.clone(), commit }))
    };
    let (first, second) = (decided(&b, &one), decided(&b, &two));
    assert!(has(&b.feed(first.clone()), |a| matches!(a, Action::Decide(_))));
    assert!(b.feed(first).is_empty());
    assert!(has(&b.feed(second), |a| matches!(a, Action::Alarm(_))));
}

/// *Start view*: a better Commit(h−1) that is known when the height starts counts at once.
#[test]
fn the_best_known_commit_sets_the_start_view() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    for from in b.others() {
        b.vote(Phase::Commit, from, 0, block.id());
    }
    let entry = |index| {
        let vote = b.s.vote(Phase::Commit, index, 2, block.id());
        let (address, time) = (vote.message.validator, vote.message.time);
        Some(CommitSig { address, time, signature: vote.signature, extension: None })
    };
    let signatures = (0..4).map(entry).collect();
    let better = Commit { height: b.s.height, view: view(2), block_id: block.id(), signatures };
    let mut next = start_of(&b.s, 0, &[]);
    (next.height, next.prior) = (Height::from(6u32), Some(better));
    b.feed(Input::Advance(next));
    assert_eq!(b.replica.start_view(), view(2));
}

/// sawtooth-pbft: a VIEW-CHANGE says what its sender has prepared, with the certificate.
#[test]
fn a_view_change_carries_what_is_prepared() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.accept(&block);
    for from in b.others() {
        b.vote(Phase::Prepare, from, 0, block.id());
    }
    let out = b.fire(TimerKind::Commit);
    let sent = out.iter().find_map(|action| match action {
        Action::Broadcast(Message::ViewChange(message)) => Some(message.clone()),
        _ => None,
    });
    let message = sent.expect("a VIEW-CHANGE");
    let claim = message.signed.message.prepared.map(|claim| (claim.view, claim.block_id));
    assert_eq!(claim, Some((view(0), block.id())));
    assert_eq!(b.s.context().view_change(message, &crate::verify::Direct).map(drop), Ok(()));
}

/// "Never for a decided height."
#[test]
fn no_view_change_is_sent_for_a_decided_height() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.accept(&block);
    let (timer, _) = b.armed(TimerKind::Commit).unwrap();
    for from in b.others() {
        b.vote(Phase::Commit, from, 0, block.id());
    }
    assert!(view_changes(&b.feed(Input::Timer(timer))).is_empty(), "a stale timer");
    for from in b.others() {
        assert!(view_changes(&b.view_change(from, 3)).is_empty());
    }
}

/// "(a carried one does not count)": a view change that was carried over once is not carried over again, so "a replica that was slow
/// once rejoins at h+2 at the latest".
#[test]
fn a_carried_view_change_is_not_carried_on() {
    let mut b = backup();
    let block5 = b.block(0, 0, "x");
    b.propose(0, &block5, None);
    b.fire(TimerKind::Propose);
    let others = b.others();
    b.view_change(others[0], 1);
    for from in b.others() {
        b.vote(Phase::Commit, from, 0, block5.id());
    }
    let commit5 = b.out.iter().find_map(|action| match action {
        Action::Decide(decided) => Some(decided.commit.clone()),
        _ => None,
    });
    let (s5, commit5) = (std::mem::replace(&mut b.s, Signers::new(&[1; 4], 6)), commit5.unwrap());
    let mut next = start_of(&s5, 0, &[]);
    next.height = Height::from(6u32);
    assert_eq!(view_changes(&b.feed(Input::Advance(next))), [1]);
    b.view_change(others[0], 1);
    let block6 = block(&b.s, &commit5, b.primary(0), "y");
    b.propose(0, &block6, None);
    for from in b.others() {
        b.vote(Phase::Commit, from, 0, block6.id());
    }
    assert!(b.replica.is_decided());
    let mut next = start_of(&s5, 0, &[]);
    next.height = Height::from(7u32);
    assert!(view_changes(&b.feed(Input::Advance(next))).is_empty());
    assert_eq!((b.replica.view(), b.replica.promise()), (view(0), None));
}

/// Themis: of several certificates in the quorum the one of the highest view binds, wherever it stands.
#[test]
fn the_highest_of_several_certificates_binds() {
    for order in [[0, 1], [1, 0]] {
        let me = Bench::new(0).primary(4);
        let mut b = Bench::new(me);
        let (low, high) = (b.block(0, 0, "x"), b.block(0, 2, "y"));
        b.feed(Input::Block(low.clone()));
        b.feed(Input::Block(high.clone()));
        let others = b.others();
        let claims = [(0, low.id()), (2, high.id())];
        let mut out = Vec::new();
        for (from, which) in others.iter().zip(order) {
            let (v, id) = claims[which];
            let signed = b.s.view_change(*from, 4, Some((v, id)));
            let certificate = Some(b.s.certificate(v, id, &[0, 1, 2]));
            let message = ViewChangeMessage { signed, certificate };
            out.extend(b.feed(Input::ViewChange(Verified::new(message))));
        }
        out.extend(b.view_change(others[2], 4));
        let sent = out.iter().find_map(|action| match action {
            Action::Broadcast(Message::PrePrepare(message)) => Some(message.clone()),
            _ => None,
        });
        let message = sent.expect("a NEW-VIEW");
        assert_eq!(message.block_id(), high.id());
        assert_eq!(b.s.context().pre_prepare(message, &crate::verify::Direct).map(drop), Ok(()));
    }
}

/// "may use any quorum whose bound block it has; a missing bound block is fetched by BlockID".
#[test]
fn a_missing_bound_block_is_fetched_or_done_without() {
    let me = Bench::new(0).primary(1);
    let mut b = Bench::new(me);
    let block = b.block(0, 0, "x");
    let others = b.others();
    let claim = |b: &Bench| {
        let signed = b.s.view_change(others[0], 1, Some((0, block.id())));
        let certificate = Some(b.s.certificate(0, block.id(), &[0, 1, 2]));
        Input::ViewChange(Verified::new(ViewChangeMessage { signed, certificate }))
    };
    let input = claim(&b);
    b.feed(input);
    b.view_change(others[1], 1);
    assert_eq!(b.replica.view(), view(1), "entered with a quorum");
    assert_eq!(b.replica.missing(), [block.id()]);
    let proposed =
        |out: &[Action]| has(out, |a| matches!(a, Action::Broadcast(Message::PrePrepare(_))));
    let mut with_block = b.replica.clone();
    assert!(
        with_block.step(Input::Block(block.clone())).iter().any(|a| matches!(a, Action::Sign(_)))
    );
    let out = b.view_change(others[2], 1);
    assert!(
        has(&out, |a| matches!(a, Action::Propose { .. })),
        "three without a claim are a quorum"
    );
    let free = b.block(0, 1, "y");
    let out = b.feed(Input::Built { view: view(1), block: free });
    assert!(proposed(&out));
}

/// "After it has signed a NEW-VIEW, a re-chosen J must bind the same block": none other is ever signed.
#[test]
fn a_primary_signs_one_new_view_whatever_comes_later() {
    let me = Bench::new(0).primary(1);
    let mut b = Bench::new(me);
    let others = b.others();
    b.view_change(others[0], 1);
    b.view_change(others[1], 1);
    let free = b.block(0, 1, "y");
    b.feed(Input::Built { view: view(1), block: free.clone() });
    let bound = b.block(0, 0, "x");
    b.feed(Input::Block(bound.clone()));
    let signed = b.s.view_change(others[2], 1, Some((0, bound.id())));
    let certificate = Some(b.s.certificate(0, bound.id(), &[0, 1, 2]));
    b.feed(Input::ViewChange(Verified::new(ViewChangeMessage { signed, certificate })));
    let proposals: Vec<BlockId> = b
        .out
        .iter()
        .filter_map(|action| match action {
            Action::Broadcast(Message::PrePrepare(message)) => Some(message.block_id()),
            _ => None,
        })
        .collect();
    assert_eq!(proposals, [free.id()]);
}

/// J2: "v' >= my view and >= promise": a NEW-VIEW below either is not entered, and nothing is prepared in it.
#[test]
fn a_new_view_below_view_or_promise_is_not_entered() {
    let mut b = backup();
    for from in &b.others()[..2] {
        b.view_change(*from, 5);
    }
    assert_eq!((b.replica.promise(), b.replica.view()), (Some(view(5)), view(0)));
    let (below, at) = (b.block(0, 4, "x"), b.block(0, 5, "y"));
    let j = b.free(4);
    assert!(!validates(&b.propose(4, &below, Some(j.clone()))));
    assert_eq!(b.replica.view(), view(0), "below the promise");
    let j5 = b.free(5);
    assert!(validates(&b.propose(5, &at, Some(j5))));
    assert_eq!(b.replica.view(), view(5));
    assert!(!validates(&b.propose(4, &below, Some(j.clone()))), "below the view");
    assert_eq!(b.replica.view(), view(5));
    let mut b = backup();
    let j5 = b.free(5);
    b.propose(5, &at, Some(j5));
    assert_eq!((b.replica.promise(), b.replica.view()), (None, view(5)));
    assert!(!validates(&b.propose(4, &below, Some(j))), "below the view, with nothing promised");
    assert_eq!(b.replica.view(), view(5));
}

/// "Everything but the view is new at each height", so nothing within one: entering a view forgets no lock.
#[test]
fn what_is_prepared_stays_until_something_else_is_prepared() {
    let mut b = backup();
    let (mine, theirs) = (b.block(0, 0, "x"), b.block(0, 1, "y"));
    b.propose(0, &mine, None);
    b.accept(&mine);
    for from in b.others() {
        b.vote(Phase::Prepare, from, 0, mine.id());
    }
    let j = b.free(1);
    b.propose(1, &theirs, Some(j));
    b.accept(&theirs);
    let out = b.fire(TimerKind::Commit);
    let claim = out.iter().find_map(|action| match action {
        Action::Broadcast(Message::ViewChange(message)) => message.signed.message.prepared,
        _ => None,
    });
    assert_eq!(claim.map(|claim| (claim.view, claim.block_id)), Some((view(0), mine.id())));
}

/// "fresh: […] prepared = none" holds for who proposes as well.
#[test]
fn a_locked_primary_proposes_nothing_fresh() {
    let me = Bench::new(0).primary(1);
    let mut b = Bench::new(me);
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.accept(&block);
    for from in b.others() {
        b.vote(Phase::Prepare, from, 0, block.id());
    }
    b.feed(Input::Work(true));
    b.feed(Input::Prior(Verified::new(commit4(&b.s, 1, &[0, 1, 2, 3]))));
    assert_eq!(
        (b.replica.view(), b.replica.primary()),
        (view(1), b.replica.at.address(me).unwrap())
    );
    assert!(!has(&b.out, |a| matches!(a, Action::Propose { .. })));
}

/// S1: two commits of one height are an alarm, whichever came first.
#[test]
fn two_commits_of_the_height_before_raise_the_alarm() {
    let mut b = backup();
    let mut other = commit4(&b.s, 1, &[0, 1, 2]);
    other.block_id = block_id(9);
    assert!(has(&b.feed(Input::Prior(Verified::new(other))), |a| matches!(a, Action::Alarm(_))));
    assert_eq!(b.replica.view(), view(0));
}

/// A Commit(h−1) of the round that I know adds the votes that mine lacks; one of a lower round adds nothing.
#[test]
fn another_commit_of_the_same_round_adds_its_votes() {
    let mut b = Bench::started(0, 1);
    b.replica.at.start.prior = Some(commit4(&b.s, 1, &[0, 1, 2]));
    let present = |b: &Bench| -> Vec<_> {
        b.replica.at.start.prior.as_ref().expect("a height above the first").present().collect()
    };
    b.feed(Input::Prior(Verified::new(commit4(&b.s, 0, &[1, 2, 3]))));
    assert_eq!(present(&b), [0, 1, 2]);
    b.feed(Input::Prior(Verified::new(commit4(&b.s, 1, &[1, 2, 3]))));
    assert_eq!(present(&b), [0, 1, 2, 3]);
}

/// What put me here is the NEW-VIEW, also where a Commit(h−1) of that very round comes later.
#[test]
fn a_commit_of_my_views_round_leaves_the_new_view_that_put_me_here() {
    let mut b = backup();
    let j = b.free(1);
    b.propose(1, &b.block(0, 1, "x"), Some(j));
    b.feed(Input::Prior(Verified::new(commit4(&b.s, 1, &[0, 1, 2]))));
    assert!(matches!(b.replica.explanation(), Some(Message::PrePrepare(_))));
    b.feed(Input::Prior(Verified::new(commit4(&b.s, 2, &[0, 1, 2]))));
    assert!(matches!(b.replica.explanation(), Some(Message::Prior(_))));
}

/// "A timer sends VIEW-CHANGE for max(view, promise) + 1": where a NEW-VIEW led beyond the promise, from the view on.
#[test]
fn a_timer_asks_for_the_view_after_mine_where_that_is_beyond_the_promise() {
    let mut b = backup();
    b.feed(Input::Work(true));
    assert_eq!(view_changes(&b.fire(TimerKind::Propose)), [1]);
    let j = b.free(3);
    b.propose(3, &b.block(0, 3, "x"), Some(j));
    assert_eq!((b.replica.view(), b.replica.promise()), (view(3), Some(view(1))));
    assert_eq!(view_changes(&b.fire(TimerKind::Propose)), [4]);
}
