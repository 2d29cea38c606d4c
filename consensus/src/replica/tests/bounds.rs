//! What a faulty validator or a stranger can make a replica keep.

use super::super::Unused;
use super::super::candidates::Candidates;
use super::super::future::Future;
use super::super::votes::Votes;
use super::*;

/// S12: whatever one validator sends, what is kept of it is bounded.
#[test]
fn a_flood_of_votes_and_view_changes_keeps_memory_bounded() {
    let mut b = backup();
    let from = b.others()[0];
    for v in 0..200 {
        b.vote(Phase::Prepare, from, v, block_id(1));
        b.vote(Phase::Commit, from, v, block_id(1));
        b.view_change(from, v);
    }
    let status = b.replica.status([]);
    assert!(status.prepares.len() <= super::super::VOTE_VIEWS_MAX);
    assert!(status.commits.len() <= super::super::VOTE_VIEWS_MAX);
    assert_eq!(status.view_changes.len(), 1);
}

/// "PREPARE and COMMIT equivocation (same height, view, type, different block) is standard DuplicateVoteEvidence."
#[test]
fn two_votes_of_one_validator_are_evidence_and_count_once() {
    let mut b = backup();
    let others = b.others();
    b.vote(Phase::Commit, others[0], 0, block_id(1));
    let out = b.vote(Phase::Commit, others[0], 0, block_id(2));
    assert!(has(&out, |a| matches!(a, Action::Evidence(_))));
    for phase in [Phase::Prepare, Phase::Commit] {
        let mut b = backup();
        let block = b.block(0, 0, "x");
        b.propose(0, &block, None);
        b.vote(phase, others[0], 0, block_id(2));
        for from in &others {
            assert!(votes(&b.vote(phase, *from, 0, block.id())).is_empty(), "two of four");
        }
        assert!(!b.replica.is_decided());
    }
}

/// S12: votes for ever new blocks in a view that is no longer kept leave nothing behind.
#[test]
fn votes_for_ever_new_blocks_in_an_old_view_leave_nothing() {
    let mut b = backup();
    let others = b.others();
    b.vote(Phase::Prepare, others[1], 1, block_id(1));
    for v in 2..20 {
        b.vote(Phase::Prepare, others[0], v, block_id(1));
    }
    for n in 0..100 {
        b.vote(Phase::Prepare, others[0], 1, block_id(n));
    }
    assert_eq!(b.replica.at.prepares.tallies(view(1)), 1);
}

/// Blocks carry no signature, so anyone can make some: they crowd out none that comes after them.
#[test]
fn blocks_that_nobody_asked_for_crowd_out_no_other() {
    let mut b = backup();
    for n in 0..10 {
        let junk = b.block(0, 0, text(n));
        b.feed(Input::Block(junk));
    }
    let block = b.block(0, 0, "x");
    b.feed(Input::Block(block.clone()));
    let message = Verified::new(b.s.pre_prepare(0, block.id(), None));
    assert!(validates(&b.feed(Input::PrePrepare(message))));
    assert!(b.replica.status([]).blocks.len() <= 5, "S12");
}

/// The same for the next height's.
#[test]
fn junk_for_the_next_height_hides_neither_its_pre_prepare_nor_its_block() {
    let mut b = backup();
    let block5 = b.block(0, 0, "x");
    let entry = |index| {
        let vote = b.s.vote(Phase::Commit, index, 0, block5.id());
        let (address, time) = (vote.message.validator, vote.message.time);
        Some(CommitSig { address, time, signature: vote.signature, extension: None })
    };
    let signatures = (0..4).map(entry).collect();
    let commit5 = Commit { height: b.s.height, view: view(0), block_id: block5.id(), signatures };
    let s6 = Signers::new(&[1; 4], 6);
    let primary = s6.schedule.primary(s6.height, view(0));
    for v in 1..20 {
        for n in 1..5 {
            b.feed(Input::PrePrepare(Verified::new(s6.pre_prepare(v, block_id(n), None))));
        }
    }
    for n in 0..10 {
        b.feed(Input::Block(block(&s6, &commit5, primary, text(n))));
    }
    let block6 = block(&s6, &commit5, primary, "y");
    b.feed(Input::PrePrepare(Verified::new(s6.pre_prepare(0, block6.id(), None))));
    b.feed(Input::Block(block6.clone()));
    b.propose(0, &block5, None);
    for from in b.others() {
        b.vote(Phase::Commit, from, 0, block5.id());
    }
    let mut next = start_of(&b.s, 0, &[]);
    next.height = Height::from(6u32);
    let out = b.feed(Input::Advance(next));
    assert!(
        has(&out, |a| matches!(a, Action::Validate(block) if block.id() == block6.id())),
        "{out:?}"
    );
}

/// Blocks of later views that nothing justifies yet are not worth keeping.
#[test]
fn a_faulty_primary_of_later_views_makes_nobody_keep_its_blocks() {
    let mut b = backup();
    for v in 1..12 {
        let block = b.block(0, v, text(v as usize));
        b.propose(v, &block, None);
    }
    assert!(b.replica.status([]).blocks.len() <= 5);
}

/// "Every block that I PREPAREd at h is kept until h is decided": as many as the bound allows; beyond it the replica goes on.
#[test]
fn many_failed_views_do_not_stop_the_next() {
    let mut b = backup();
    for v in 1..=70 {
        let block = b.block(0, v, text(v as usize));
        let j = b.free(v);
        b.propose(v, &block, Some(j));
        assert_eq!(votes(&b.accept(&block)), [(Phase::Prepare, v, block.id())], "view {v}");
    }
}

fn text(n: usize) -> &'static str {
    Box::leak(format!("junk {n}").into_boxed_str())
}

/// No vote makes the replica look at all the others: a hundred validators' votes are counted as they come. The bound is loose, because
/// test machines are slow; looking at all votes at each would still break it.
#[test]
fn a_hundred_validators_cost_little() {
    let s = Signers::new(&[1; 100], 5);
    let mut b = backup();
    let prior = b.replica.at.start.prior.clone().unwrap();
    let start = HeightStart {
        height: s.height,
        validators: Arc::new(s.validators.clone()),
        schedule: Arc::new(s.schedule.clone()),
        prior: Some(prior),
        extensions: false,
        prior_extensions: false,
    };
    let settings =
        Settings { me: Some(s.validators.at(7).unwrap().address), ..b.replica.settings.clone() };
    b.replica = Replica::new(settings, start);
    let mut raw = b.block(0, 0, "x").block().clone();
    let primary = s.schedule.primary(s.height, view(0));
    raw.header.proposer_address = s.validators.at(primary).unwrap().address;
    let block = Arc::new(SealedBlock::seal(raw));
    let vote = |phase, index| Input::Vote(Verified::new(s.vote(phase, index, 0, block.id())));
    let phases = [Phase::Prepare, Phase::Commit];
    let votes: Vec<Input> = phases
        .into_iter()
        .flat_map(|phase| (0..100).map(move |i| (phase, i)))
        .map(|(p, i)| vote(p, i))
        .collect();
    b.replica.step(Input::PrePrepare(Verified::new(s.pre_prepare(0, block.id(), None))));
    b.replica.step(Input::Block(block.clone()));
    let begin = std::time::Instant::now();
    let decided =
        votes.into_iter().flat_map(|v| b.replica.step(v)).any(|a| matches!(a, Action::Decide(_)));
    let took = begin.elapsed();
    println!("{took:?} for 200 votes");
    assert!(decided && took < Duration::from_millis(200), "{took:?}");
}

/// A vote that gives way to later ones of its sender counts no more: else a COMMIT could leave with a certificate that lacks a quorum.
#[test]
fn a_vote_that_gave_way_counts_no_more() {
    let b = backup();
    let mut votes = Votes::default();
    let mut add = |from, v| {
        votes.add(Verified::new(b.s.vote(Phase::Prepare, from, v, block_id(1))), &b.s.validators);
        votes.quorum(view(0), &b.s.validators).is_some()
    };
    assert!(!add(0, 0));
    assert!(!add(1, 0));
    for v in 1..=8 {
        assert!(!add(1, v));
    }
    assert!(!add(2, 0), "of three validators one has gone on");
    assert!(add(3, 0));
}

/// Why a vote would not be kept: it is here, or its sender has voted in enough later views.
#[test]
fn a_vote_below_enough_later_ones_is_stale() {
    let b = backup();
    let mut votes = Votes::default();
    let unused = |votes: &Votes, v| votes.unused(view(v), 1, block_id(1));
    for v in 10..18 {
        assert_eq!(unused(&votes, 9), None, "there is room");
        votes.add(Verified::new(b.s.vote(Phase::Prepare, 1, v, block_id(1))), &b.s.validators);
    }
    assert_eq!(unused(&votes, 9), Some(Unused::Stale));
    assert_eq!(unused(&votes, 10), Some(Unused::Duplicate));
    assert_eq!(votes.unused(view(10), 1, block_id(2)), None, "that is evidence");
    assert_eq!(unused(&votes, 18), None);
    assert_eq!(votes.unused(view(9), 2, block_id(1)), None, "another validator");
}

/// PRE-PREPAREs of later views that nothing justifies: two a view, sixteen in all, and the near ones drive out the farthest. Those of
/// the own view and a NEW-VIEW neither take room from them nor lose theirs.
#[test]
fn near_proposals_drive_out_far_ones() {
    let b = backup();
    let mut candidates = Candidates::default();
    let proposal = |v, n, j| Verified::new(b.s.pre_prepare(v, block_id(n), j));
    let of = |candidates: &Candidates, v| candidates.of(view(v)).count();
    candidates.add(proposal(3, 9, Some(b.free(3))), view(3));
    for n in 0..4 {
        candidates.add(proposal(3, n, None), view(3));
    }
    candidates.add(proposal(39, 0, Some(b.free(39))), view(3));
    candidates.add(proposal(40, 0, Some(b.free(40))), view(3));
    candidates.add(proposal(39, 1, Some(b.free(39))), view(3));
    for v in 21..=29 {
        for n in 0..3 {
            candidates.add(proposal(v, n, None), view(3));
        }
    }
    assert_eq!([3, 21, 28, 29, 39, 40].map(|v| of(&candidates, v)), [4, 2, 2, 0, 0, 1]);
    assert!(candidates.of(view(3)).any(|message| message.justification.is_some()));
    candidates.add(proposal(28, 5, None), view(3));
    candidates.add(proposal(20, 0, None), view(3));
    assert_eq!([3, 20, 21, 27, 28, 40].map(|v| of(&candidates, v)), [4, 1, 2, 2, 0, 1]);
}

/// A second vote that comes once the height is decided proves as much as one that comes before.
#[test]
fn a_second_vote_after_the_decision_is_evidence_too() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    let others = b.others();
    for from in &others {
        b.vote(Phase::Commit, *from, 0, block.id());
    }
    assert!(b.replica.is_decided());
    let evidence = |out: &[Action]| has(out, |a| matches!(a, Action::Evidence(_)));
    assert!(!evidence(&b.vote(Phase::Commit, others[0], 0, block.id())), "the same again");
    assert!(!evidence(&b.vote(Phase::Commit, others[0], 1, block_id(2))), "another view");
    assert!(evidence(&b.vote(Phase::Commit, others[0], 0, block_id(2))));
}

/// "Late COMMITs of the height before count too": one against what its sender is in Commit(h−1) with.
#[test]
fn a_late_commit_against_the_one_that_decided_is_evidence() {
    let mut b = backup();
    let prior = b.replica.at.start.prior.clone().expect("not the first height");
    let s = Signers::new(&[1; 4], 4);
    let from = prior.present().next().expect("a quorum");
    let mut late = |v, id, phase| {
        let vote = s.vote(phase, from, v, id);
        b.feed(Input::Vote(Verified::new(vote)))
    };
    let other = block_id(99);
    let round = prior.view.number();
    assert!(late(round, prior.block_id, Phase::Commit).is_empty());
    assert!(late(round + 1, other, Phase::Commit).is_empty(), "in another view it is no offence");
    assert!(late(round, other, Phase::Prepare).is_empty(), "a PREPARE is no COMMIT");
    let out = late(round, other, Phase::Commit);
    let [Action::Evidence(votes)] = &out[..] else { panic!("{out:?}") };
    let (first, second) = &**votes;
    assert_eq!((first.message.block_id, second.message.block_id), (prior.block_id, other));
    assert_eq!(first.message.validator, second.message.validator);
}

/// Who signed for me one block and for the others another is found out by the commit of the others.
#[test]
fn a_commit_of_others_against_what_its_signer_sent_me_is_evidence() {
    let mut b = backup();
    let (liar, block) = (b.others()[0], b.block(0, 0, "x"));
    b.vote(Phase::Commit, liar, 0, block_id(99));
    let decided = decided(&b.s, &block, 0, &[0, 1, 2, 3]);
    let out = b.feed(Input::Decided(Verified::new(decided)));
    let accused = out.iter().filter_map(|action| match action {
        Action::Evidence(votes) => Some((votes.0.message.index, votes.1.message.block_id)),
        _ => None,
    });
    assert_eq!(accused.collect::<Vec<_>>(), [(liar, block.id())]);
    assert!(b.replica.is_decided());
}

/// What is kept of a validator for the next height is its first VIEW-CHANGE for its highest view: a second one for that view cannot take
/// its place.
#[test]
fn the_first_early_view_change_of_a_view_stays() {
    let s = Signers::new(&[1; 4], 6);
    let mut future = Future::default();
    let message = |v, claim| {
        let signed = s.view_change(0, v, claim);
        Input::ViewChange(Verified::new(ViewChangeMessage { signed, certificate: None }))
    };
    for input in [message(1, None), message(2, None), message(2, Some((0, block_id(7))))] {
        future.keep(s.height, view(0), input);
    }
    let kept = future.take(s.height);
    let [Input::ViewChange(kept)] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!((kept.signed.message.view, kept.signed.message.prepared), (view(2), None));
}

/// A block that a VIEW-CHANGE claims may be bound by the next NEW-VIEW: others that nothing names do not crowd it out.
#[test]
fn a_block_that_a_view_change_claims_is_kept() {
    let mut b = backup();
    let claimed = b.block(0, 0, "claimed");
    let signed = b.s.view_change(b.others()[0], 1, Some((0, claimed.id())));
    let certificate = Some(b.s.certificate(0, claimed.id(), &[0, 1, 2]));
    let message = ViewChangeMessage { signed, certificate };
    b.feed(Input::ViewChange(Verified::new(message)));
    b.feed(Input::Block(claimed.clone()));
    for n in 0..50 {
        let junk = b.block(0, 0, text(n));
        b.feed(Input::Block(junk));
    }
    assert!(b.replica.block(&claimed.id()).is_some());
}
