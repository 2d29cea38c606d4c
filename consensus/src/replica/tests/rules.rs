//! Pre-prepares, PREPARE, COMMIT and the decision.

use super::*;

/// "Start view of h = round of the best known Commit(h-1) […] A valid Commit(h-1) of a higher round, e.g. inside a received block,
/// raises my view. My view never falls at a height."
#[test]
fn a_commit_of_a_higher_round_raises_the_view_and_a_lower_one_does_not_lower_it() {
    let mut b = Bench::started(0, 2);
    assert_eq!(b.replica.view(), view(2));
    let commit = commit4(&b.s, 3, &[0, 1, 2]);
    b.feed(Input::Prior(Verified::new(commit)));
    assert_eq!((b.replica.view(), b.replica.start_view()), (view(3), view(3)));
    b.feed(Input::Prior(Verified::new(commit4(&b.s, 1, &[0, 1, 2]))));
    assert_eq!(b.replica.view(), view(3));
    let higher = b.block(5, 5, "x");
    b.feed(Input::Block(higher));
    assert_eq!(b.replica.view(), view(5));
}

/// "My view never falls at a height": a better Commit(h−1) below my view raises the start view alone.
#[test]
fn a_better_commit_below_my_view_raises_the_start_view_alone() {
    let mut b = backup();
    let j = b.free(3);
    b.propose(3, &b.block(0, 3, "x"), Some(j));
    b.feed(Input::Prior(Verified::new(commit4(&b.s, 1, &[0, 1, 2]))));
    assert_eq!((b.replica.view(), b.replica.start_view()), (view(3), view(1)));
    // A new primary whose quorum has asked for more meanwhile could not enter its view again.
    let me = Bench::new(0).primary(3);
    let mut b = Bench::new(me);
    let others = b.others();
    b.view_change(others[0], 3);
    b.view_change(others[1], 3);
    b.view_change(others[0], 4);
    b.feed(Input::Prior(Verified::new(commit4(&b.s, 1, &[0, 1, 2]))));
    assert_eq!((b.replica.view(), b.replica.start_view()), (view(3), view(1)));
}

/// "fresh: block.last_commit.round == v, pol_round = -1, and the receiver has prepared = none." "PREPARE(h,v,b): […] pre-prepare
/// justified, whole block here, header valid, application accepted."
#[test]
fn a_fresh_pre_prepare_is_prepared_once_block_and_application_agree() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    let message = Verified::new(b.s.pre_prepare(0, block.id(), None));
    assert!(!validates(&b.feed(Input::PrePrepare(message))), "not before the block is here");
    assert!(validates(&b.feed(Input::Block(block.clone()))));
    let out = b.accept(&block);
    assert_eq!(votes(&out), [(Phase::Prepare, 0, block.id())]);
    assert!(has(&out, |a| matches!(a, Action::Persist(Record::Prepare { block: Some(_), .. }))));
    assert!(b.accept(&block).is_empty(), "my first at (h,v) is my only one");
}

/// "fresh: block.last_commit.round == v": a block on a lower commit is no fresh one. And the proposer in the header is the primary.
#[test]
fn a_fresh_block_on_another_round_or_of_another_proposer_is_ignored() {
    let mut b = backup();
    b.feed(Input::Prior(Verified::new(commit4(&b.s, 1, &[0, 1, 2]))));
    let old = b.block(0, 1, "x");
    assert!(!validates(&b.propose(1, &old, None)), "last commit of round 0 in view 1");
    let mut b = backup();
    let wrong = b.block(0, 1, "x");
    assert!(!validates(&b.propose(0, &wrong, None)), "header names another proposer");
}

/// "the receiver has prepared = none": a prepared replica ignores fresh pre-prepares.
#[test]
fn a_locked_replica_ignores_a_fresh_block() {
    let mut b = backup();
    let first = b.block(0, 0, "x");
    b.propose(0, &first, None);
    b.accept(&first);
    for from in b.others() {
        b.vote(Phase::Prepare, from, 0, first.id());
    }
    assert_eq!(b.replica.prepared(), Some((view(0), first.id())));
    b.feed(Input::Prior(Verified::new(commit4(&b.s, 1, &[0, 1, 2]))));
    let second = b.block(1, 1, "y");
    assert!(!validates(&b.propose(1, &second, None)));
}

/// "new view, free: J is a quorum of VIEW-CHANGE(h,v), all with prepared = none; any valid block by primary(h,v)."
#[test]
fn a_free_new_view_enters_its_view_and_is_prepared() {
    let mut b = backup();
    let block = b.block(0, 1, "x");
    let j = b.free(1);
    assert!(validates(&b.propose(1, &block, Some(j))));
    assert_eq!(b.replica.view(), view(1));
    assert_eq!(votes(&b.accept(&block)), [(Phase::Prepare, 1, block.id())]);
}

/// "new view, bound: […] the block is b, byte for byte (original header, proposer address, time, last commit)." "Free and bound both
/// override a local lock."
#[test]
fn a_bound_new_view_keeps_its_block_and_overrides_a_lock() {
    let mut b = backup();
    let mine = b.block(0, 0, "x");
    b.propose(0, &mine, None);
    b.accept(&mine);
    for from in b.others() {
        b.vote(Phase::Prepare, from, 0, mine.id());
    }
    let theirs = b.block(0, 1, "y");
    let j = b.bound(3, 2, theirs.id());
    assert!(
        validates(&b.propose(3, &theirs, Some(j))),
        "proposed by view 1's primary, bound in view 3"
    );
    assert_eq!(votes(&b.accept(&theirs)), [(Phase::Prepare, 3, theirs.id())]);
}

/// "In every case block.last_commit.round <= v."
#[test]
fn no_block_builds_on_a_later_round_than_its_view() {
    let mut b = backup();
    let later = b.block(2, 1, "x");
    let j = b.free(1);
    let message = Verified::new(b.s.pre_prepare(1, later.id(), Some(j)));
    b.feed(Input::PrePrepare(message));
    assert!(!validates(&b.feed(Input::Block(later))));
}

/// "PREPARE(h,v,b): my height is h, view v, v >= promise."
#[test]
fn nothing_is_prepared_below_the_promise() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.feed(Input::Work(true));
    b.fire(TimerKind::Propose);
    assert_eq!(b.replica.promise(), Some(view(1)));
    assert!(votes(&b.accept(&block)).is_empty());
}

/// "Prepared: quorum of PREPAREs for (h,v,b) from distinct validators, and the block, while v is my view and v >= promise → prepared →
/// persist → COMMIT."
#[test]
fn a_quorum_of_prepares_commits_once_with_its_certificate_durable() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.accept(&block);
    let others = b.others();
    assert!(votes(&b.vote(Phase::Prepare, others[0], 0, block.id())).is_empty(), "two of four");
    assert!(votes(&b.vote(Phase::Prepare, others[0], 0, block.id())).is_empty(), "counted once");
    let out = b.vote(Phase::Prepare, others[1], 0, block.id());
    assert_eq!(votes(&out), [(Phase::Commit, 0, block.id())]);
    let persisted = out.iter().position(|a| matches!(a, Action::Persist(Record::Commit { .. })));
    let sent = out.iter().position(|a| matches!(a, Action::Broadcast(Message::Vote(_))));
    assert!(persisted.unwrap() < sent.unwrap());
    assert!(votes(&b.vote(Phase::Prepare, others[2], 0, block.id())).is_empty());
}

/// "Otherwise no COMMIT: without this guard […] the protocol forks": neither below the promise nor in another view.
#[test]
fn no_commit_below_the_promise_or_outside_my_view() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.accept(&block);
    b.fire(TimerKind::Commit);
    for from in b.others() {
        assert!(
            votes(&b.vote(Phase::Prepare, from, 0, block.id())).is_empty(),
            "below the promise"
        );
    }
    let mut b = backup();
    b.feed(Input::Prior(Verified::new(commit4(&b.s, 1, &[0, 1, 2]))));
    let block = b.block(0, 0, "x");
    b.feed(Input::Block(block.clone()));
    for from in b.others() {
        assert!(votes(&b.vote(Phase::Prepare, from, 0, block.id())).is_empty(), "view 0 is over");
    }
    assert_eq!(b.replica.prepared(), None);
}

/// "Decide: quorum of COMMITs for (h,v,b), of ANY view, also during a view change → decide b."
#[test]
fn a_commit_quorum_of_any_view_decides_even_during_a_view_change() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.fire(TimerKind::Propose);
    let mut out = Vec::new();
    for from in b.others() {
        out.extend(b.vote(Phase::Commit, from, 0, block.id()));
    }
    let decided = out.iter().find_map(|action| match action {
        Action::Decide(decided) => Some(decided.commit.clone()),
        _ => None,
    });
    assert_eq!(decided.map(|c| (c.view, c.block_id)), Some((view(0), block.id())));
    assert!(has(&out, |a| matches!(a, Action::Persist(Record::Decided { .. }))));
    let mut b = backup();
    let j = b.free(2);
    b.propose(2, &b.block(0, 2, "y"), Some(j));
    b.feed(Input::Block(block.clone()));
    for from in b.others() {
        b.vote(Phase::Commit, from, 1, block.id());
    }
    assert_eq!((b.replica.view(), b.replica.is_decided()), (view(2), true), "of an earlier view");
}

/// "quorum of COMMITs for (h,v,b)": those of different views are never added up.
#[test]
fn votes_of_several_views_make_no_quorum() {
    for phase in [Phase::Prepare, Phase::Commit] {
        let mut b = backup();
        let block = b.block(0, 0, "x");
        b.propose(0, &block, None);
        for (v, from) in [3, 1, 0].into_iter().zip(b.others()) {
            assert!(votes(&b.vote(phase, from, v, block.id())).is_empty());
        }
        assert_eq!((b.replica.prepared(), b.replica.is_decided()), (None, false), "{phase:?}");
    }
}

/// "A COMMIT quorum without the block stops all signing at h; the body is fetched by BlockID."
#[test]
fn a_commit_quorum_without_the_block_stops_signing_and_fetches() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    let mut out = Vec::new();
    for from in b.others() {
        out.extend(b.vote(Phase::Commit, from, 0, block.id()));
    }
    assert!(out.contains(&Action::FetchBlock(block.id())));
    assert_eq!(b.replica.missing(), [block.id()]);
    for from in b.others() {
        assert!(view_changes(&b.view_change(from, 1)).is_empty());
    }
    assert!(has(&b.feed(Input::Block(block)), |a| matches!(a, Action::Decide(_))));
}

/// A COMMIT quorum that was seen stays one until its block is here, whatever one of its signers signs meanwhile: what is decided is proven
/// by what is stored and served of it.
#[test]
fn a_commit_quorum_does_not_fall_apart_while_its_block_is_missing() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    for from in b.others() {
        b.vote(Phase::Commit, from, 0, block.id());
    }
    let liar = *b.others().last().unwrap();
    for v in 1..=2 * super::super::VOTE_VIEWS_MAX as u32 {
        b.vote(Phase::Commit, liar, v, block_id(1));
    }
    let out = b.feed(Input::Block(block));
    let decided = out.iter().find_map(|action| match action {
        Action::Decide(decided) => Some(decided),
        _ => None,
    });
    let commit = &decided.expect("decided").commit;
    assert_eq!(commit.present().count(), b.others().len());
    commit.verify(&b.s.context(), &crate::verify::Direct).expect("a quorum");
}

/// A block without a last commit counts as one on round 0 at the initial height alone.
#[test]
fn a_block_without_a_last_commit_is_fresh_at_the_initial_height_only() {
    let mut b = backup();
    let good = b.block(0, 0, "x");
    let mut bare = good.block().clone();
    bare.last_commit = None;
    let bare = Arc::new(SealedBlock::seal(bare));
    assert!(!validates(&b.propose(0, &bare, None)));
}

/// "only a higher view replaces" what is prepared, whatever the lock was.
#[test]
fn what_is_prepared_in_a_higher_view_replaces_the_lock() {
    let mut b = backup();
    let (mine, theirs) = (b.block(0, 0, "x"), b.block(0, 1, "y"));
    prepare(&mut b, 0, &mine, None);
    assert_eq!(b.replica.prepared(), Some((view(0), mine.id())));
    let j = b.free(1);
    prepare(&mut b, 1, &theirs, Some(j));
    assert_eq!(b.replica.prepared(), Some((view(1), theirs.id())));
}

/// "not asked again for a bound b that it accepted", and "every block that I PREPAREd at h is kept until h is decided and served by
/// BlockID".
#[test]
fn an_accepted_block_is_kept_and_not_validated_again() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.accept(&block);
    let j = b.bound(1, 0, block.id());
    let message = Verified::new(b.s.pre_prepare(1, block.id(), Some(j)));
    let out = b.feed(Input::PrePrepare(message));
    assert!(!validates(&out));
    assert_eq!(votes(&out), [(Phase::Prepare, 1, block.id())]);
    let j = b.free(2);
    let other = b.block(0, 2, "y");
    b.propose(2, &other, Some(j));
    assert_eq!(b.replica.block(&block.id()), Some(Message::Block(block)));
}

/// "h+1 starts in that view": the view in which h was decided, which may be below mine.
#[test]
fn the_next_height_starts_in_the_view_of_the_decision() {
    let mut b = backup();
    let first = b.block(0, 0, "x");
    b.propose(0, &first, None);
    let j = b.free(1);
    b.propose(1, &b.block(0, 1, "y"), Some(j));
    assert_eq!(b.replica.view(), view(1));
    for from in b.others() {
        b.vote(Phase::Commit, from, 0, first.id());
    }
    let mut next = start_of(&b.s, 0, &[]);
    next.height = Height::from(6u32);
    b.feed(Input::Advance(next));
    assert_eq!((b.replica.view(), b.replica.promise()), (view(0), None));
}

/// Whoever says that the next height begins may believe that a decision was taken which was not: no height is left that is not decided.
#[test]
fn a_height_that_is_not_decided_is_not_left() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    let mut next = start_of(&b.s, 0, &[]);
    next.height = Height::from(6u32);
    assert!(b.feed(Input::Advance(next.clone())).is_empty());
    assert_eq!(b.replica.height(), b.s.height);
    b.feed(Input::Decided(Verified::new(decided(&b.s, &block, 0, &b.others()))));
    b.feed(Input::Advance(next));
    assert_eq!(b.replica.height(), Height::from(6u32));
}

/// SmartBFT #484: sync and votes deliver the same height; it is decided once.
#[test]
fn a_height_is_decided_once() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    for from in b.others() {
        b.vote(Phase::Commit, from, 0, block.id());
    }
    let commit = b.out.iter().find_map(|action| match action {
        Action::Decide(decided) => Some(decided.clone()),
        _ => None,
    });
    let again = Input::Decided(Verified::new(commit.unwrap()));
    b.feed(again);
    let me = b.me;
    b.vote(Phase::Commit, me, 0, block.id());
    let decisions = b.out.iter().filter(|a| matches!(a, Action::Decide(_))).count();
    assert_eq!(decisions, 1);
}

/// PBFT-Java by ByzzFuzz: a pre-prepare whose block is of another height is never accepted.
#[test]
fn a_block_of_another_height_is_not_accepted_at_this_one() {
    let mut b = backup();
    let block5 = b.block(0, 0, "x");
    let mut wrong = block5.block().clone();
    wrong.header.height = Height::from(6u32);
    let wrong = Arc::new(SealedBlock::seal(wrong));
    assert!(!validates(&b.propose(0, &wrong, None)));
    assert_eq!(votes(&b.accept(&wrong)), []);
}

/// sawtooth-pbft: the primary's PREPARE counts, so three of four are enough though one backup is dead.
#[test]
fn the_primary_prepares_too() {
    let (primary, _) = primary_and_other();
    let mut b = Bench::new(primary);
    b.feed(Input::Work(true));
    let block = b.block(0, 0, "x");
    b.feed(Input::Built { view: view(0), block: block.clone() });
    assert_eq!(votes(&b.accept(&block)), [(Phase::Prepare, 0, block.id())]);
    let others = b.others();
    b.vote(Phase::Prepare, others[0], 0, block.id());
    let out = b.vote(Phase::Prepare, others[1], 0, block.id());
    assert_eq!(votes(&out), [(Phase::Commit, 0, block.id())]);
}

/// §8: "PRE-PREPARE / NEW-VIEW signature | (h,v,block id, signed message)", durable before it leaves.
#[test]
fn a_proposal_is_durable_before_it_leaves() {
    for v in [0, 1] {
        let me = Bench::new(0).primary(v);
        let mut b = Bench::new(me);
        b.feed(Input::Work(true));
        if v == 1 {
            for from in b.others() {
                b.view_change(from, 1);
            }
        }
        let block = b.block(0, v, "x");
        let out = b.feed(Input::Built { view: view(v), block });
        let persisted = out.iter().position(|a| match a {
            Action::Persist(Record::PrePrepare { message }) => message.view() == view(v),
            _ => false,
        });
        let sent = out.iter().position(|a| matches!(a, Action::Broadcast(Message::PrePrepare(_))));
        assert!(persisted.expect("a record") < sent.expect("a proposal"), "view {v}");
    }
}

/// *Block time*: "COMMIT timestamp = max(now, block time + 1 ms)": the signer is told the earliest.
#[test]
fn a_commit_is_later_than_its_block() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.accept(&block);
    b.signer_gone = true;
    for from in b.others() {
        b.vote(Phase::Prepare, from, 0, block.id());
    }
    let Some(SignRequest::Vote { vote, .. }) = b.unsigned.first() else { panic!("a COMMIT") };
    assert_eq!(Some(vote.time), block.header().time.checked_add(Duration::from_millis(1)));
}

/// §7: "a removed one signs nothing", and one that joins signs from its first height on.
#[test]
fn a_validator_signs_at_the_heights_of_its_membership_alone() {
    let mut b = backup();
    let me = b.replica.settings.me;
    let block5 = b.block(0, 0, "x");
    let without = crate::testing::validators(&[1; 4]);
    let members = without.list().iter().filter(|v| Some(v.address) != me).map(|v| (v.key, 1));
    let without = crate::validators::Validators::new(members).unwrap();
    let decide = |b: &mut Bench, block: &Arc<SealedBlock>| {
        b.propose(0, block, None);
        for from in b.others() {
            b.vote(Phase::Commit, from, 0, block.id());
        }
    };
    decide(&mut b, &block5);
    let mut next = start_of(&b.s, 0, &[]);
    next.height = Height::from(6u32);
    next.schedule = Arc::new(crate::schedule::Schedule::new(&without, 64));
    next.validators = Arc::new(without);
    b.signer_gone = true;
    b.out.clear();
    b.feed(Input::Advance(next));
    assert!(!b.replica.is_validator());
    b.feed(Input::Work(true));
    assert_eq!((b.unsigned.len(), b.armed(TimerKind::Propose)), (0, None));
    let (s, below) = (Signers::new(&[1; 4], 6), decided(&b.s, &block5, 0, &b.others()).commit);
    let block6 = block(&s, &below, b.primary(0), "y");
    b.feed(Input::Decided(Verified::new(decided(&s, &block6, 0, &b.others()))));
    let mut next = start_of(&b.s, 0, &[]);
    next.height = Height::from(7u32);
    b.feed(Input::Advance(next));
    b.feed(Input::Work(true));
    assert!(b.replica.is_validator() && b.armed(TimerKind::Propose).is_some());
}

fn prepare(b: &mut Bench, v: u32, block: &Arc<SealedBlock>, j: Option<Justification>) {
    b.propose(v, block, j);
    b.accept(block);
    for from in b.others() {
        b.vote(Phase::Prepare, from, v, block.id());
    }
}

/// "every block that I prepared is kept": a replica that COMMITs what it has not PREPAREd makes the block durable with the COMMIT.
#[test]
fn a_commit_without_a_prepare_is_durable_with_its_block() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    for from in b.others() {
        b.vote(Phase::Prepare, from, 0, block.id());
    }
    let kept = b.out.iter().find_map(|action| match action {
        Action::Persist(Record::Commit { block, .. }) => Some(block.clone()),
        _ => None,
    });
    assert_eq!(kept.expect("a COMMIT").map(|block| block.id()), Some(block.id()));
}

/// "h+1 starts in the view in which h was decided": early proposals are kept from that view on, and not from mine, which may be higher.
#[test]
fn an_early_proposal_below_my_view_is_kept() {
    let mut b = backup();
    let first = b.block(0, 0, "x");
    b.propose(0, &first, None);
    b.fire(TimerKind::Propose);
    assert_eq!(b.replica.promise(), Some(view(1)));
    let decided = decided(&b.s, &first, 0, &b.others());
    let s = Signers::new(&[1; 4], 6);
    let second = block(&s, &decided.commit, b.primary(0), "y");
    b.feed(Input::PrePrepare(Verified::new(s.pre_prepare(0, second.id(), None))));
    b.feed(Input::Block(second.clone()));
    let mut next = start_of(&b.s, 0, &[]);
    (next.height, next.prior) = (Height::from(6u32), Some(decided.commit.clone()));
    b.feed(Input::Decided(Verified::new(decided)));
    assert!(validates(&b.feed(Input::Advance(next))));
}

/// Of what a validator sent early for the next height, its latest view counts: with it a quorum decides.
#[test]
fn of_early_votes_those_of_the_highest_view_stay() {
    let mut b = backup();
    let first = b.block(0, 0, "x");
    let decided = decided(&b.s, &first, 0, &b.others());
    let s = Signers::new(&[1; 4], 6);
    for (v, id) in [(0, 7), (2, 9), (1, 8)] {
        for from in b.others() {
            let vote = s.vote(Phase::Commit, from, v, block_id(id));
            b.feed(Input::Vote(Verified::new(vote)));
        }
    }
    let mut next = start_of(&b.s, 0, &[]);
    (next.height, next.prior) = (Height::from(6u32), Some(decided.commit.clone()));
    b.feed(Input::Decided(Verified::new(decided)));
    let out = b.feed(Input::Advance(next));
    assert!(has(&out, |a| *a == Action::FetchBlock(block_id(9))), "{out:?}");
}

/// Commit(h) holds the COMMITs of one view: a late one of another view, though for the same block, does not belong there.
#[test]
fn a_late_commit_of_another_view_is_no_part_of_the_commit() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    let others = b.others();
    let decided = decided(&b.s, &block, 1, &[b.me, others[0], others[1]]);
    b.feed(Input::Decided(Verified::new(decided)));
    let late = |b: &Bench| {
        let commit = b.replica.at.decision.as_ref().expect("decided");
        commit.signatures[others[2] as usize].is_some()
    };
    b.vote(Phase::Commit, others[2], 0, block.id());
    assert!(!late(&b));
    b.vote(Phase::Commit, others[2], 1, block.id());
    assert!(late(&b));
}
