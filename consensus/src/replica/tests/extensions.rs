//! Vote extensions: which COMMITs count, and on which commit a block is built.

use super::*;
use crate::message::SignedVote;
use crate::replica::Unused;

/// A bench at height 5 where heights 4 and 5 have extensions; `prior` is Commit(4).
fn extended_bench(me: ValidatorIndex, prior: Commit) -> Bench {
    let mut b = Bench::new(me);
    let start = HeightStart {
        prior: Some(prior),
        extensions: true,
        prior_extensions: true,
        ..start_of(&b.s, 0, &[0])
    };
    b.replica = Replica::new(b.replica.settings.clone(), start);
    b
}

fn extension(s: &Signers, from: ValidatorIndex, data: &'static [u8]) -> Extension {
    Extension { data: Bytes::from_static(data), signature: s.sign(from, data) }
}

/// COMMIT(5, 0, block) with an extension.
fn commit_of(b: &Bench, from: ValidatorIndex, id: BlockId) -> SignedVote {
    let mut vote = b.s.vote(Phase::Commit, from, 0, id);
    vote.message.extension = Some(extension(&b.s, from, b"ext"));
    vote
}

/// Commit(4) of `round`, signed by `present`, with extensions.
fn extended4(s: &Signers, round: u32, present: &[ValidatorIndex]) -> Commit {
    let mut commit = commit4(s, round, present);
    for (index, entry) in (0..).zip(&mut commit.signatures) {
        if let Some(entry) = entry {
            entry.extension = Some(extension(s, index, b"ext"));
        }
    }
    commit
}

fn all_extended(me: ValidatorIndex) -> Bench {
    let s = Signers::new(&[1; 4], 5);
    extended_bench(me, extended4(&s, 0, &[0, 1, 2, 3]))
}

fn asked(actions: &[Action]) -> Vec<ValidatorIndex> {
    let index = |action: &Action| match action {
        Action::VerifyExtension(vote) => Some(vote.message.index),
        _ => None,
    };
    actions.iter().filter_map(index).collect()
}

fn feed(b: &mut Bench, vote: &SignedVote) -> Vec<Action> {
    b.feed(Input::Vote(Verified::new(vote.clone())))
}

fn answer(b: &mut Bench, vote: &SignedVote, accepted: bool) -> Vec<Action> {
    b.feed(Input::ExtensionVerified { vote: Verified::new(vote.clone()), accepted })
}

fn decides(actions: &[Action]) -> bool {
    has(actions, |action| matches!(action, Action::Decide(_)))
}

/// "COMMIT(h,v,b,ts) […] with the vote extension where enabled": it counts once the application has accepted the extension, and the
/// commit keeps it.
#[test]
fn a_commit_with_an_extension_counts_once_the_application_accepts_it() {
    let mut b = all_extended(0);
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    let commits: Vec<_> = b.others().into_iter().map(|n| commit_of(&b, n, block.id())).collect();
    for vote in &commits {
        assert_eq!(asked(&feed(&mut b, vote)), [vote.message.index]);
    }
    assert!(!b.replica.is_decided());
    assert!(!decides(&answer(&mut b, &commits[0], true)));
    assert!(!decides(&answer(&mut b, &commits[1], true)));
    let out = answer(&mut b, &commits[2], true);
    let Some(Action::Decide(decided)) = out.iter().find(|a| matches!(a, Action::Decide(_))) else {
        panic!("three of four decide");
    };
    assert!(decided.commit.is_extended());
    assert_eq!(decided.commit.present().count(), 3);
}

/// One that the application rejects is as if it had never come, and is not asked about again.
#[test]
fn a_commit_whose_extension_is_rejected_never_counts() {
    let mut b = all_extended(0);
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    let commits: Vec<_> = b.others().into_iter().map(|n| commit_of(&b, n, block.id())).collect();
    for vote in &commits {
        feed(&mut b, vote);
        assert!(!decides(&answer(&mut b, vote, vote != &commits[1])));
    }
    let again = Input::Vote(Verified::new(commits[1].clone()));
    assert_eq!(b.replica.unused(&again), Some(Unused::Duplicate));
    assert!(asked(&b.feed(again)).is_empty());
    assert!(!b.replica.is_decided());
}

/// A second COMMIT of one view is not asked about: for another block it is evidence, with another extension it is nothing.
#[test]
fn the_application_is_asked_once_a_validator_and_view() {
    let mut b = all_extended(0);
    let (id, other) = (block_id(5), block_id(6));
    let first = commit_of(&b, 1, id);
    assert_eq!(asked(&feed(&mut b, &first)), [1]);
    let mut changed = first.clone();
    changed.message.extension = Some(extension(&b.s, 1, b"other"));
    assert!(feed(&mut b, &changed).is_empty());
    let second = commit_of(&b, 1, other);
    let out = feed(&mut b, &second);
    assert_eq!(out, [Action::Evidence(Box::new((first, second)))]);
}

/// Where it was open whether the height has extensions when a COMMIT was verified, the replica knows.
#[test]
fn a_commit_counts_only_with_an_extension_where_there_are_some_and_without_where_there_are_none() {
    let mut b = all_extended(0);
    let id = block_id(5);
    let bare = b.s.vote(Phase::Commit, 1, 0, id);
    assert!(feed(&mut b, &bare).is_empty());
    assert!(!b.replica.has_vote(&bare.message));
    let mut plain = Bench::new(0);
    let full = commit_of(&plain, 1, id);
    assert!(feed(&mut plain, &full).is_empty());
    assert!(!plain.replica.has_vote(&full.message));
}

/// "all received ones verified (late ones as well)": a late COMMIT joins the commit that the next block is built on once the
/// application has accepted its extension.
#[test]
fn a_late_commit_joins_the_last_commit_once_its_extension_is_accepted() {
    let s = Signers::new(&[1; 4], 5);
    let primary = Bench::new(0).primary(0);
    let others: Vec<_> = (0..4).filter(|n| *n != primary).collect();
    let (late, present) = (others[0], [primary, others[1], others[2]]);
    let mut b = extended_bench(primary, extended4(&s, 0, &present));
    let below = Signers::new(&[1; 4], 4);
    let mut vote = below.vote(Phase::Commit, late, 0, block_id(4));
    vote.message.extension = Some(extension(&s, late, b"ext"));
    assert_eq!(asked(&feed(&mut b, &vote)), [late]);
    assert!(feed(&mut b, &vote).is_empty(), "asked once");
    answer(&mut b, &vote, true);
    let out = b.feed(Input::Work(true));
    let asked = out.iter().find(|a| matches!(a, Action::Propose { .. }));
    let Some(Action::Propose { last_commit: Some(commit), .. }) = asked else {
        panic!("a block is asked for: {out:?}");
    };
    assert_eq!((commit.present().count(), commit.is_extended()), (4, true));
}

/// "a primary raised to a view by a plain Commit fetches [the ExtendedCommit] before it pre-prepares fresh": STATUS says that it lacks
/// one, and a peer's answer brings it.
#[test]
fn a_primary_raised_by_a_plain_commit_waits_for_the_extended_one() {
    let s = Signers::new(&[1; 4], 5);
    let primary = Bench::new(0).primary(1);
    let mut b = extended_bench(primary, extended4(&s, 0, &[0, 1, 2]));
    b.feed(Input::Prior(Verified::new(commit4(&s, 1, &[1, 2, 3]))));
    let proposes = |out: &[Action]| has(out, |a| matches!(a, Action::Propose { .. }));
    assert!(!proposes(&b.feed(Input::Work(true))), "the extended commit is of another round");
    let status = b.replica.status([]);
    assert_eq!((status.start_view, status.lacks_extensions), (view(1), true));
    let peer = extended_bench((primary + 1) % 4, extended4(&s, 1, &[0, 2, 3]));
    let answer = peer.replica.answer(&status);
    let [Message::Prior(commit)] = &answer[..] else { panic!("the extended commit: {answer:?}") };
    let out = b.feed(Input::Prior(Verified::new(commit.clone())));
    let Some(Action::Propose { last_commit: Some(last), .. }) = out.last() else {
        panic!("a block is asked for: {out:?}");
    };
    assert_eq!((last.view, last.is_extended()), (view(1), true));
    assert!(!b.replica.status([]).lacks_extensions);
}

/// A NEW-VIEW may build on an extended commit of an earlier round: `block.last_commit.round <= v`.
#[test]
fn a_new_view_builds_on_the_extended_commit_of_an_earlier_round() {
    let s = Signers::new(&[1; 4], 5);
    let primary = Bench::new(0).primary(2);
    let mut b = extended_bench(primary, extended4(&s, 0, &[0, 1, 2]));
    b.feed(Input::Prior(Verified::new(commit4(&s, 1, &[1, 2, 3]))));
    let mut out = Vec::new();
    for from in b.others() {
        out.extend(b.view_change(from, 2));
    }
    let Some(Action::Propose { last_commit: Some(last), view: at, .. }) =
        out.iter().find(|a| matches!(a, Action::Propose { .. }))
    else {
        panic!("a block is asked for: {out:?}");
    };
    assert_eq!((last.view, *at, last.is_extended()), (view(0), view(2), true));
}

/// §8: "A restart resends the SAME signed messages": the own COMMIT with its extension, of which nobody is asked again.
#[test]
fn a_restart_resends_the_commit_with_its_extension() {
    let mut b = all_extended(0);
    let block = b.block(0, 0, "x");
    let vote = commit_of(&b, b.me, block.id());
    let certificate = b.s.certificate(0, block.id(), &[0, 1, 2]);
    let record = Record::Commit { certificate, block: Some(block), vote: vote.clone() };
    assert!(b.feed(Input::Restored(record)).is_empty());
    let lacking = crate::status::Status { commits: vec![], ..b.replica.status([]) };
    assert!(b.replica.answer(&lacking).contains(&Message::Vote(vote)));
}

/// What decides has the extensions, or nobody could build the next block: one validator that strips them would stop the chain.
#[test]
fn a_decision_without_its_extensions_is_ignored() {
    let mut b = all_extended(0);
    let block = b.block(0, 0, "x");
    let mut full = decided(&b.s, &block, 0, &[0, 1, 2]);
    let bare = full.clone();
    for (index, entry) in (0..).zip(&mut full.commit.signatures) {
        if let Some(entry) = entry {
            entry.extension = Some(extension(&b.s, index, b"ext"));
        }
    }
    let mut partly = full.clone();
    if let Some(entry) = &mut partly.commit.signatures[1] {
        entry.extension = None;
    }
    for wrong in [bare, partly] {
        assert!(b.feed(Input::Decided(Verified::new(wrong))).is_empty());
    }
    assert!(!b.replica.is_decided());
    assert!(decides(&b.feed(Input::Decided(Verified::new(full)))));
}

/// A validator that signs COMMITs of ever higher views does not fill the application's queue.
#[test]
fn one_question_a_validator_is_under_way() {
    let mut b = all_extended(0);
    let commit = |b: &Bench, view: u32| {
        let mut vote = b.s.vote(Phase::Commit, 1, view, block_id(5));
        vote.message.extension = Some(extension(&b.s, 1, b"ext"));
        vote
    };
    let votes: Vec<SignedVote> = (0..50).map(|view| commit(&b, view)).collect();
    let asked_now: Vec<_> = votes.iter().flat_map(|vote| asked(&feed(&mut b, vote))).collect();
    assert_eq!(asked_now, [1], "the first");
    let out = answer(&mut b, &votes[0], true);
    assert!(out.contains(&Action::VerifyExtension(Verified::new(votes[49].clone()))));
    assert_eq!(asked(&out), [1], "then that of the highest view alone");
    assert!(asked(&answer(&mut b, &votes[49], true)).is_empty());
    assert_eq!(asked(&feed(&mut b, &votes[20])), [1], "what was dropped may come again");
}

/// Of an earlier round it serves a NEW-VIEW: a replica that has one gives it to one that has none.
#[test]
fn an_extended_commit_of_an_earlier_round_is_given_too() {
    let s = Signers::new(&[1; 4], 5);
    let raised = |prior: Commit| {
        let mut b = extended_bench(0, prior);
        b.feed(Input::Prior(Verified::new(commit4(&s, 1, &[1, 2, 3]))));
        b
    };
    let has = raised(extended4(&s, 0, &[0, 1, 2]));
    let lacks = raised(commit4(&s, 0, &[0, 1, 2]));
    let answer = has.replica.answer(&lacks.replica.status([]));
    assert!(answer.contains(&Message::Prior(extended4(&s, 0, &[0, 1, 2]))));
}

/// Where the height before has none, extensions that came with its commit while that was open are not kept, nor given to others.
#[test]
fn extensions_of_a_height_without_them_are_not_kept() {
    let s = Signers::new(&[1; 4], 5);
    let mut b = Bench::new(0);
    let start = HeightStart { prior: Some(extended4(&s, 0, &[0, 1, 2])), ..start_of(&s, 0, &[]) };
    b.replica = Replica::new(b.replica.settings.clone(), start);
    b.feed(Input::Prior(Verified::new(extended4(&s, 1, &[0, 1, 2, 3]))));
    let lower = crate::status::Status { start_view: view(0), ..b.replica.status([]) };
    let answer = b.replica.answer(&lower);
    assert_eq!(answer, [Message::Prior(commit4(&s, 1, &[0, 1, 2, 3]))]);
}

/// Once its own height is decided, nobody builds on the commit of the height before: the application, which goes on, is not asked about it
/// (simulator, seed 541).
#[test]
fn a_late_commit_is_not_asked_about_once_the_next_height_is_decided() {
    let s = Signers::new(&[1; 4], 5);
    let mut b = extended_bench(0, extended4(&s, 0, &[0, 1, 2]));
    let block = b.block(0, 0, "x");
    let mut full = decided(&b.s, &block, 0, &[0, 1, 2]);
    for (index, entry) in (0..).zip(&mut full.commit.signatures) {
        if let Some(entry) = entry {
            entry.extension = Some(extension(&b.s, index, b"ext"));
        }
    }
    assert!(decides(&b.feed(Input::Decided(Verified::new(full)))));
    let mut vote = Signers::new(&[1; 4], 4).vote(Phase::Commit, 3, 0, block_id(4));
    vote.message.extension = Some(extension(&s, 3, b"ext"));
    let input = Input::Vote(Verified::new(vote));
    assert_eq!(b.replica.unused(&input), Some(Unused::Stale));
    assert!(asked(&b.feed(input)).is_empty());
}

/// Whose COMMITs are in the commit of the block that is asked for; none where no block is.
fn built_on(actions: &[Action]) -> Option<Vec<ValidatorIndex>> {
    actions.iter().find_map(|action| match action {
        Action::Propose { last_commit: Some(commit), .. } => {
            assert!(commit.is_extended());
            Some(commit.present().collect())
        }
        _ => None,
    })
}

/// The COMMIT of height 4 in view 0 as it stands in [`extended4`].
fn late_of(s: &Signers, index: ValidatorIndex) -> SignedVote {
    let (message, signature) = extended4(s, 0, &[index]).vote(index).expect("an entry");
    SignedVote { message, signature }
}

/// "A block is built on what the application has accepted": a commit of the same round that somebody sends adds nothing by itself, or one
/// validator could put an extension into every primary's block that every application rejects.
#[test]
fn what_another_commit_of_the_same_round_adds_is_a_late_commit() {
    let s = Signers::new(&[1; 4], 5);
    let primary = Bench::new(0).primary(0);
    let others: Vec<_> = (0..4).filter(|n| *n != primary).collect();
    let (added, present) = (others[0], [primary, others[1], others[2]]);
    for accepted in [false, true] {
        let mut b = extended_bench(primary, extended4(&s, 0, &present));
        let all = Input::Prior(Verified::new(extended4(&s, 0, &[0, 1, 2, 3])));
        assert_eq!(asked(&b.feed(all.clone())), [added]);
        assert!(asked(&b.feed(all)).is_empty(), "asked once");
        assert!(asked(&answer(&mut b, &late_of(&s, added), accepted)).is_empty());
        let built = built_on(&b.feed(Input::Work(true))).expect("a block is asked for");
        assert_eq!(built.contains(&added), accepted);
        assert_eq!(built.len(), if accepted { 4 } else { 3 });
    }
}

/// The primary of height 6 with Commit(5) of a DECIDED by `present`, after it had counted the COMMITs of `counted`.
fn after_decided(counted: &[ValidatorIndex], present: &[ValidatorIndex]) -> (Bench, Decided) {
    let me = Signers::new(&[1; 4], 6).schedule.primary(Height::from(6u32), view(0));
    let mut b = all_extended(me);
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    for index in counted {
        let vote = commit_of(&b, *index, block.id());
        feed(&mut b, &vote);
        answer(&mut b, &vote, true);
    }
    let mut decided = decided(&b.s, &block, 0, present);
    for (index, entry) in (0..).zip(&mut decided.commit.signatures) {
        if let Some(entry) = entry {
            entry.extension = Some(extension(&b.s, index, b"ext"));
        }
    }
    b.feed(Input::Decided(Verified::new(decided.clone())));
    (b, decided)
}

fn advance6(b: &mut Bench) -> Vec<Action> {
    let (height, prior) = (Height::from(6u32), None);
    let start = start_of(&b.s, 0, &[]);
    let next = HeightStart { height, prior, extensions: true, prior_extensions: true, ..start };
    b.feed(Input::Advance(next))
}

/// There is something to order, and no late COMMIT is waited for any more.
fn work(b: &mut Bench) -> Vec<Action> {
    let mut out = b.feed(Input::Work(true));
    if b.armed(TimerKind::Grace).is_some() {
        out.extend(b.fire(TimerKind::Grace));
    }
    out
}

fn begin6(b: &mut Bench) -> Vec<Action> {
    let mut out = advance6(b);
    out.extend(work(b));
    out
}

fn entry_of(decided: &Decided, index: ValidatorIndex) -> SignedVote {
    let (message, signature) = decided.commit.vote(index).expect("an entry");
    SignedVote { message, signature }
}

/// DECIDED proves itself by its signatures alone, so a liar can put its own extension into it: what this application has not accepted it is
/// asked about before a block is built on it, and what it rejects is left out.
#[test]
fn a_commit_that_came_with_its_decision_is_looked_at_before_a_block_is_built_on_it() {
    for accepted in [false, true] {
        let (mut b, decided) = after_decided(&[0, 1], &[0, 1, 2, 3]);
        let out = begin6(&mut b);
        assert_eq!((asked(&out), built_on(&out)), (vec![2, 3], None), "0 and 1 are known");
        assert_eq!(built_on(&answer(&mut b, &entry_of(&decided, 2), true)), None);
        let built = built_on(&answer(&mut b, &entry_of(&decided, 3), accepted));
        let expected = if accepted { vec![0, 1, 2, 3] } else { vec![0, 1, 2] };
        assert_eq!(built, Some(expected));
    }
}

/// The same where the decision comes from the journal: of what others sent before the restart nothing is known.
#[test]
fn a_commit_that_came_from_the_journal_is_looked_at_before_a_block_is_built_on_it() {
    let (before, decided) = after_decided(&[0, 1, 2], &[0, 1, 2]);
    let mut b = all_extended(before.me);
    let Decided { block, commit } = decided;
    b.feed(Input::Restored(Record::Decided { commit, block: Some(block) }));
    let out = begin6(&mut b);
    assert_eq!((asked(&out), built_on(&out)), (vec![0, 1, 2], None));
}

/// Without a quorum there is no commit. An application that cannot look at a height that is over rejects everything, and the chain goes on.
#[test]
fn where_what_is_accepted_is_no_quorum_a_block_is_built_on_all() {
    let (mut b, decided) = after_decided(&[0], &[0, 1, 2, 3]);
    assert_eq!(asked(&begin6(&mut b)), [1, 2, 3]);
    for index in [1, 2] {
        assert_eq!(built_on(&answer(&mut b, &entry_of(&decided, index), false)), None);
    }
    let built = built_on(&answer(&mut b, &entry_of(&decided, 3), true));
    assert_eq!(built, Some(vec![0, 1, 2, 3]));
}

/// What was counted, before the decision or after it, is not asked about again.
#[test]
fn what_the_application_has_accepted_it_is_not_asked_about_again() {
    let (mut b, decided) = after_decided(&[0, 1], &[0, 1, 2]);
    for index in [2, 3] {
        let vote = commit_of(&b, index, decided.block.id());
        assert_eq!(asked(&feed(&mut b, &vote)), [index]);
        answer(&mut b, &vote, true);
    }
    let out = begin6(&mut b);
    assert_eq!((asked(&out), built_on(&out)), (vec![], Some(vec![0, 1, 2, 3])));
}

/// A commit of a higher round is another commit, of which nothing is known.
#[test]
fn a_commit_of_a_higher_round_is_looked_at_as_a_whole() {
    let (mut b, decided) = after_decided(&[0, 1, 2], &[0, 1, 2]);
    advance6(&mut b);
    let primary = |v| b.s.schedule.primary(Height::from(6u32), view(v));
    let higher = (1..=4).find(|v| primary(*v) == b.me).expect("one of four turns");
    let mut commit = decided.commit.clone();
    commit.view = view(higher);
    for index in 0..3 {
        let mut vote = b.s.vote(Phase::Commit, index, higher, decided.block.id());
        vote.message.extension = Some(extension(&b.s, index, b"ext"));
        let entry = commit.signatures[index as usize].as_mut().expect("present");
        (entry.time, entry.signature) = (vote.message.time, vote.signature);
        entry.extension = vote.message.extension;
    }
    b.feed(Input::Prior(Verified::new(commit.clone())));
    let out = work(&mut b);
    assert_eq!((asked(&out), built_on(&out)), (vec![0, 1, 2], None));
}
