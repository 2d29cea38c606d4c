//! Asynchronous signing: late, lost, doubled and wrong signatures, and the hold.

use super::*;

/// "every guard of the rule is checked again when it returns, and a signature whose guard no longer holds is discarded."
#[test]
fn a_late_signature_is_discarded() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    let asked = b.replica.step(Input::Validated { block_id: block.id(), accepted: true });
    let request = asked.iter().find_map(|action| match action {
        Action::Sign(request) => Some(request.clone()),
        _ => None,
    });
    b.out.extend(asked);
    b.fire(TimerKind::Commit);
    let signed = b.sign(request.expect("a PREPARE is asked for"));
    assert!(votes(&b.feed(Input::Signed(signed))).is_empty());
}

/// "a node signs nothing new until it has STATUS […] or one timeout has passed": while held it signs nothing, afterwards it goes on.
#[test]
fn a_held_replica_signs_nothing_and_goes_on_afterwards() {
    let mut b = backup();
    b.feed(Input::Hold(true));
    let block = b.block(0, 0, "x");
    assert!(!validates(&b.propose(0, &block, None)));
    assert!(validates(&b.feed(Input::Hold(false))));
    assert_eq!(votes(&b.accept(&block)).len(), 1);
}

/// A signer that loses the request for a VIEW-CHANGE must not leave its replica promised and silent for ever: no other timer runs
/// then, because nobody counts an unsent VIEW-CHANGE.
#[test]
fn a_view_change_whose_signature_was_lost_is_asked_for_again() {
    let mut b = backup();
    b.feed(Input::Work(true));
    b.signer_gone = true;
    let sent = b.out.len();
    b.fire(TimerKind::Propose);
    assert!(matches!(b.unsigned[..], [SignRequest::ViewChange(_)]));
    let timer = b.out[sent..].iter().rev().find_map(|action| match action {
        Action::Arm { timer, .. } => Some(*timer),
        _ => None,
    });
    b.feed(Input::Timer(timer.expect("something runs")));
    assert_eq!(b.unsigned.len(), 2);
    assert_eq!(b.unsigned[0], b.unsigned[1], "the same again, not the next view");
    b.signer_gone = false;
    let signed = b.sign(b.unsigned[1].clone());
    assert_eq!(view_changes(&b.feed(Input::Signed(signed.clone()))), [1]);
    assert!(view_changes(&b.feed(Input::Signed(signed))).is_empty(), "it leaves once");
}

/// A hold drops what the signer brings meanwhile; when it ends, the signature is asked for again.
#[test]
fn a_signature_dropped_while_held_is_asked_for_again_afterwards() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.signer_gone = true;
    b.accept(&block);
    b.feed(Input::Hold(true));
    let signed = b.sign(b.unsigned[0].clone());
    assert!(votes(&b.feed(Input::Signed(signed))).is_empty());
    b.signer_gone = false;
    assert_eq!(votes(&b.feed(Input::Hold(false))), [(Phase::Prepare, 0, block.id())]);
    b.signer_gone = true;
    for from in b.others() {
        b.vote(Phase::Prepare, from, 0, block.id());
    }
    b.feed(Input::Hold(true));
    b.signer_gone = false;
    assert_eq!(votes(&b.feed(Input::Hold(false))), [(Phase::Commit, 0, block.id())]);
    b.feed(Input::Hold(true));
    assert!(votes(&b.feed(Input::Hold(false))).is_empty(), "what has left is not signed again");
}

/// The same for a primary's proposal.
#[test]
fn a_proposal_dropped_while_held_is_asked_for_again_afterwards() {
    let (primary, _) = primary_and_other();
    let mut b = Bench::new(primary);
    b.feed(Input::Work(true));
    b.signer_gone = true;
    let block = b.block(0, 0, "x");
    b.feed(Input::Built { view: view(0), block });
    assert!(matches!(b.unsigned[..], [SignRequest::Proposal(_)]));
    b.feed(Input::Hold(true));
    b.signer_gone = false;
    let out = b.feed(Input::Hold(false));
    assert!(has(&out, |a| matches!(a, Action::Broadcast(Message::PrePrepare(_)))));
}

/// S4: "At most one pre-prepare, prepare, commit per (h,v) ever released": a signer that answers twice, with another clock, is heard
/// once.
#[test]
fn only_the_first_of_two_signatures_for_one_vote_leaves() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.accept(&block);
    b.signer_gone = true;
    for from in b.others() {
        b.vote(Phase::Prepare, from, 0, block.id());
    }
    let Some(SignRequest::Vote { vote, .. }) = b.unsigned.first().cloned() else {
        panic!("a COMMIT")
    };
    let mut later = vote.clone();
    later.time = later.time.checked_add(T).unwrap();
    let (first, second) = (b.s.sign_vote(vote), b.s.sign_vote(later));
    assert_eq!(votes(&b.feed(Input::Signed(SignedMessage::Vote(first)))).len(), 1);
    let out = b.feed(Input::Signed(SignedMessage::Vote(second)));
    assert!(!has(&out, |a| matches!(a, Action::Broadcast(_) | Action::Persist(_))), "{out:?}");
}

/// CometBFT #5204 and its kind: what the signer returns is what was asked for, but for the clock of a COMMIT, or it does not leave.
#[test]
fn a_signed_message_that_was_not_asked_for_never_leaves() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.accept(&block);
    b.signer_gone = true;
    for from in b.others() {
        b.vote(Phase::Prepare, from, 0, block.id());
    }
    let Some(SignRequest::Vote { vote, .. }) = b.unsigned.first().cloned() else {
        panic!("a COMMIT")
    };
    let (mut early, mut extended, mut foreign) = (vote.clone(), vote.clone(), vote.clone());
    early.time = early.time.checked_sub(T).unwrap();
    let signature = b.s.sign(b.me, b"x");
    extended.extension = Some(Extension { data: Bytes::from_static(b"x"), signature });
    foreign.index = (b.me + 1) % 4;
    for wrong in [early, extended, foreign] {
        let wrong = SignedMessage::Vote(b.s.sign_vote(wrong));
        assert!(votes(&b.feed(Input::Signed(wrong))).is_empty());
    }
    let right = SignedMessage::Vote(b.s.sign_vote(vote));
    assert_eq!(votes(&b.feed(Input::Signed(right))).len(), 1);
}

/// With vote extensions a COMMIT leaves only with its extension.
#[test]
fn a_commit_without_its_vote_extension_never_leaves() {
    let mut b = backup();
    let mut start = start_of(&b.s, 0, &[0, 1, 2, 3]);
    start.extensions = true;
    b.replica = Replica::new(b.replica.settings.clone(), start);
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.accept(&block);
    b.signer_gone = true;
    for from in b.others() {
        b.vote(Phase::Prepare, from, 0, block.id());
    }
    let Some(SignRequest::Vote { mut vote, extend: true }) = b.unsigned.first().cloned() else {
        panic!("a COMMIT to be extended")
    };
    let bare = SignedMessage::Vote(b.s.sign_vote(vote.clone()));
    assert!(votes(&b.feed(Input::Signed(bare))).is_empty());
    let signature = b.s.sign(b.me, b"x");
    vote.extension = Some(Extension { data: Bytes::from_static(b"x"), signature });
    let full = SignedMessage::Vote(b.s.sign_vote(vote));
    assert_eq!(votes(&b.feed(Input::Signed(full))).len(), 1);
}

/// "the primary signs at v only while v is its view and v >= promise": also when the signature under its proposal comes late.
#[test]
fn a_proposal_signed_after_the_promise_never_leaves() {
    let (primary, _) = primary_and_other();
    let mut b = Bench::new(primary);
    b.feed(Input::Work(true));
    b.signer_gone = true;
    let block = b.block(0, 0, "x");
    b.feed(Input::Built { view: view(0), block });
    let request = b.unsigned[0].clone();
    b.signer_gone = false;
    b.fire(TimerKind::Propose);
    let signed = b.sign(request);
    let out = b.feed(Input::Signed(signed));
    assert!(!has(&out, |a| matches!(a, Action::Broadcast(Message::PrePrepare(_)))));
}

/// "every guard of the rule is checked again when it returns": a COMMIT whose signature comes after the promise never leaves; the
/// VIEW-CHANGE has told others what counts.
#[test]
fn a_commit_signed_after_the_promise_never_leaves() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.accept(&block);
    b.signer_gone = true;
    for from in b.others() {
        b.vote(Phase::Prepare, from, 0, block.id());
    }
    let asked = b.unsigned.clone();
    assert!(matches!(&asked[..], [SignRequest::Vote { vote, .. }] if vote.phase == Phase::Commit));
    b.fire(TimerKind::Commit);
    assert_eq!(b.replica.promise(), Some(view(1)));
    let signed = b.sign(asked[0].clone());
    let out = b.feed(Input::Signed(signed));
    assert!(!has(&out, |a| matches!(a, Action::Broadcast(_) | Action::Persist(_))), "{out:?}");
}

/// A VIEW-CHANGE whose view has been entered meanwhile has nothing to ask for.
#[test]
fn a_view_change_signed_after_its_view_was_entered_never_leaves() {
    let mut b = backup();
    b.feed(Input::Work(true));
    b.signer_gone = true;
    b.fire(TimerKind::Propose);
    let request = b.unsigned[0].clone();
    let j = b.free(1);
    b.propose(1, &b.block(0, 1, "x"), Some(j));
    assert_eq!((b.replica.view(), b.replica.promise()), (view(1), Some(view(1))));
    let out = b.feed(Input::Signed(b.sign(request)));
    assert!(!has(&out, |a| matches!(a, Action::Broadcast(_) | Action::Persist(_))), "{out:?}");
}

/// Nothing is even asked to be signed that may not leave: below the promise, or while held.
#[test]
fn no_prepare_is_asked_for_below_the_promise_or_while_held() {
    for held in [false, true] {
        let mut b = backup();
        b.signer_gone = true;
        let block = b.block(0, 0, "x");
        b.propose(0, &block, None);
        match held {
            true => drop(b.feed(Input::Hold(true))),
            false => drop(b.fire(TimerKind::Propose)),
        }
        b.accept(&block);
        let asked = b.unsigned.iter().any(|request| matches!(request, SignRequest::Vote { .. }));
        assert!(!asked, "held: {held}");
    }
}
