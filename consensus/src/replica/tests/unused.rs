//! What leaves nothing behind is told apart, so that it can be counted.

use super::super::Unused;
use super::*;

fn vote(b: &Bench, phase: Phase, from: ValidatorIndex, v: u32, id: BlockId) -> Input {
    Input::Vote(Verified::new(b.s.vote(phase, from, v, id)))
}

/// The same message at a height so far from the bench's.
fn vote_at(height: u32, phase: Phase, from: ValidatorIndex, v: u32, id: BlockId) -> Input {
    let signers = Signers::new(&[1; 4], height);
    Input::Vote(Verified::new(signers.vote(phase, from, v, id)))
}

fn view_change_at(height: u32, from: ValidatorIndex, v: u32) -> Input {
    let signed = Signers::new(&[1; 4], height).view_change(from, v, None);
    Input::ViewChange(Verified::new(ViewChangeMessage { signed, certificate: None }))
}

/// Feeds what is new, which is then a duplicate.
fn used_once(b: &mut Bench, input: Input) {
    assert_eq!(b.replica.unused(&input), None, "{input:?}");
    b.feed(input.clone());
    assert_eq!(b.replica.unused(&input), Some(Unused::Duplicate), "{input:?}");
}

#[test]
fn what_is_here_already_is_a_duplicate() {
    for height in [5, 6] {
        let mut b = backup();
        let from = b.others()[0];
        used_once(&mut b, vote_at(height, Phase::Prepare, from, 0, block_id(1)));
        used_once(&mut b, vote_at(height, Phase::Commit, from, 0, block_id(1)));
        used_once(&mut b, view_change_at(height, from, 3));
        assert_eq!(b.replica.unused(&view_change_at(height, from, 2)), Some(Unused::Stale));
    }
    let mut b = backup();
    let block = b.block(0, 0, "x");
    used_once(&mut b, Input::Block(block.clone()));
    let message = Verified::new(b.s.pre_prepare(0, block.id(), None));
    used_once(&mut b, Input::PrePrepare(message));
}

#[test]
fn what_comes_too_late_or_too_early_is_told_apart() {
    let mut b = backup();
    let from = b.others()[0];
    for (height, reason) in [(3, Unused::Stale), (7, Unused::Future), (1_000_000, Unused::Future)] {
        let early = [
            vote_at(height, Phase::Commit, from, 0, block_id(1)),
            view_change_at(height, from, 1),
            Input::PrePrepare(Verified::new(Signers::new(&[1; 4], height).pre_prepare(
                0,
                block_id(1),
                None,
            ))),
        ];
        for input in early {
            assert_eq!(b.replica.unused(&input), Some(reason), "{input:?}");
            let before = b.replica.clone();
            b.feed(input);
            assert_eq!(b.replica.kept(), before.kept());
        }
    }
    // A later view is entered, and the primary of an earlier one is not heard.
    let id = b.block(0, 1, "x").id();
    let j = b.free(1);
    b.feed(Input::PrePrepare(Verified::new(b.s.pre_prepare(1, id, Some(j)))));
    let old = Input::PrePrepare(Verified::new(b.s.pre_prepare(0, id, None)));
    assert_eq!(b.replica.unused(&old), Some(Unused::Stale));
}

#[test]
fn a_late_commit_of_the_height_before_is_used_once() {
    let s = Signers::new(&[1; 4], 5);
    let mut b = backup();
    b.replica = Replica::new(
        Settings { me: None, commit_grace: GRACE, disconnect_grace: GRACE, timeout: T },
        start_of(&s, 0, &[0, 1, 2]),
    );
    used_once(&mut b, vote_at(4, Phase::Commit, 3, 0, block_id(4)));
    let other = vote_at(4, Phase::Commit, 3, 1, block_id(4));
    assert_eq!(b.replica.unused(&other), Some(Unused::Stale));
}

#[test]
fn evidence_is_no_duplicate_and_what_is_no_message_never_unused() {
    let mut b = backup();
    let from = b.others()[0];
    b.vote(Phase::Prepare, from, 0, block_id(1));
    assert_eq!(b.replica.unused(&vote(&b, Phase::Prepare, from, 0, block_id(2))), None);
    assert_eq!(b.replica.unused(&Input::Work(true)), None);
}
