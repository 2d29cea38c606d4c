//! A test for each rule, and orders that are allowed.

use super::{Call, Checker, Disorder, Grammar};
use crate::application::{AppError, Role, Roles};
use crate::in_process;
use bytes::Bytes;
use proptest::prelude::*;
use tendermint_proto::v0_38::abci::{
    RequestApplySnapshotChunk, RequestCheckTx, RequestFinalizeBlock, RequestInfo, RequestInitChain,
    RequestOfferSnapshot, RequestQuery, ResponseInfo, ResponseOfferSnapshot,
};

/// What a test says happens.
#[derive(Clone, Debug)]
enum Step {
    Begin,
    Told(i64),
    Offered(bool),
    Call(Call),
}

use Step::{Begin, Offered, Told};

fn init(initial_height: i64) -> Step {
    Step::Call(Call::InitChain { initial_height })
}

fn finalize(height: i64) -> Step {
    Step::Call(Call::FinalizeBlock { height, hash: Bytes::from(height.to_string()) })
}

const COMMIT: Step = Step::Call(Call::Commit);
const OFFER: Step = Step::Call(Call::OfferSnapshot);
const APPLY: Step = Step::Call(Call::ApplySnapshotChunk);

fn prepare(height: i64) -> Step {
    Step::Call(Call::PrepareProposal(height))
}

fn process(height: i64) -> Step {
    Step::Call(Call::ProcessProposal(height))
}

fn extend(height: i64) -> Step {
    Step::Call(Call::ExtendVote(height))
}

fn verify(height: i64) -> Step {
    Step::Call(Call::VerifyVoteExtension(height))
}

/// The first disorder of these steps, and at which it is.
fn disorder(steps: &[Step]) -> Option<(usize, Disorder)> {
    let mut checker = Checker::default();
    for (at, step) in steps.iter().enumerate() {
        match step.clone() {
            Begin => checker.begin(),
            Told(height) => checker.told(height),
            Offered(accepted) => checker.offered(accepted),
            Step::Call(call) => {
                if let Err(disorder) = checker.call(call) {
                    return Some((at, disorder));
                }
            }
        }
    }
    None
}

/// The last of these steps is the first that is not in order.
fn last(steps: &[Step]) -> Disorder {
    let (at, disorder) = disorder(steps).unwrap_or_else(|| panic!("all in order: {steps:?}"));
    assert_eq!(at + 1, steps.len(), "{disorder}");
    disorder
}

fn call(step: Step) -> Call {
    match step {
        Step::Call(call) => call,
        other => panic!("{other:?} is no call"),
    }
}

/// Orders as text, one a line: `init1`, `told0` (`Info` answered), `lost` (a restart, or a connection that broke), `offer+` (and accepted),
/// `offer-`, `apply`, `commit`, and a letter with a height for the rest.
const ALLOWED: &str = "
    a clean start, height 1 in its first round and height 2 without any, as in a replay:
      init1 p1 q1 x1 v1 f1 commit f2 commit
    with the question that every start has, and clients that ask meanwhile:
      told0 init0 told0 q1 told0 f1 told0 commit told1 q2
    rounds that lead to nothing:
      init5 p5 v5 q5 q5 p5 x5 f5 commit
    recovery before a block was executed, after it, and after it was committed:
      init1 f1 commit q2 lost told1 q2 f2 commit
      init1 f1 lost told0 init1 f1 commit
      init1 f1 commit lost told1 f2 lost told1 f2 commit
    an application without a disk is told everything again:
      init1 f1 commit lost told0 init1 f1 commit f2
    state sync with attempts that fail, and as CometBFT begins it:
      init1 offer- offer+ apply offer+ apply apply told7 f8
      offer+ apply told7 q8 f8 commit
";

fn steps(word: &str) -> Vec<Step> {
    let at = word.find(|c: char| c.is_ascii_digit() || "+-".contains(c)).unwrap_or(word.len());
    let (name, rest) = word.split_at(at);
    let height = rest.parse().unwrap_or(0);
    match name {
        "init" => vec![init(height)],
        "told" => vec![Told(height)],
        "lost" => vec![Begin],
        "offer" => vec![OFFER, Offered(rest == "+")],
        "apply" => vec![APPLY],
        "commit" => vec![COMMIT],
        "p" => vec![prepare(height)],
        "q" => vec![process(height)],
        "x" => vec![extend(height)],
        "v" => vec![verify(height)],
        "f" => vec![finalize(height)],
        _ => panic!("{word} is no step"),
    }
}

#[test]
fn the_orders_of_the_specification_are_allowed() {
    let orders = ALLOWED.lines().filter(|line| line.starts_with("      "));
    let mut seen = 0;
    for order in orders {
        let steps: Vec<Step> = order.split_whitespace().flat_map(steps).collect();
        assert_eq!(disorder(&steps), None, "{order}");
        seen += 1;
    }
    assert_eq!(seen, 9);
}

#[test]
fn a_start_begins_with_info_or_initchain() {
    for step in [prepare(1), process(1), extend(1), verify(1), finalize(1), COMMIT] {
        assert_eq!(last(std::slice::from_ref(&step)), Disorder::BeforeInfo(call(step.clone())));
        let again = [init(1), Begin, step.clone()];
        assert_eq!(last(&again), Disorder::BeforeInfo(call(step)));
    }
    let again = [init(1), finalize(1), COMMIT, Begin, init(1)];
    assert_eq!(last(&again), Disorder::BeforeInfo(call(init(1))));
}

#[test]
fn an_application_at_height_0_is_told_of_the_chain_first() {
    for step in [prepare(1), process(1), extend(1), verify(1), finalize(1), COMMIT] {
        assert_eq!(last(&[Told(0), step.clone()]), Disorder::BeforeInit(call(step)));
    }
}

#[test]
fn a_chain_begins_once() {
    assert_eq!(last(&[init(1), init(1)]), Disorder::InitAgain { next: 1 });
    assert_eq!(
        last(&[Told(0), init(1), finalize(1), COMMIT, init(1)]),
        Disorder::InitAgain { next: 2 }
    );
    assert_eq!(last(&[Told(3), init(1)]), Disorder::InitAgain { next: 4 });
}

#[test]
fn every_call_is_about_the_height_that_is_next() {
    let before = [init(1), finalize(1), COMMIT];
    for wrong in [1, 3] {
        let steps = [prepare(wrong), process(wrong), extend(wrong), finalize(wrong)];
        for step in steps {
            let expected = Disorder::Height { call: call(step.clone()), next: 2 };
            assert_eq!(last(&[before.as_slice(), &[step]].concat()), expected);
        }
    }
    let skipped = Disorder::Height { call: call(finalize(5)), next: 4 };
    assert_eq!(last(&[Told(3), finalize(5)]), skipped);
    let first = Disorder::Height { call: call(finalize(1)), next: 10 };
    assert_eq!(last(&[init(10), finalize(1)]), first);
}

#[test]
fn an_extension_may_be_verified_one_height_late_and_no_later() {
    let before = [init(1), finalize(1), COMMIT, finalize(2), COMMIT];
    assert_eq!(disorder(&[before.as_slice(), &[verify(2), verify(3)]].concat()), None);
    for wrong in [1, 4] {
        let expected = Disorder::Height { call: Call::VerifyVoteExtension(wrong), next: 3 };
        assert_eq!(last(&[before.as_slice(), &[verify(wrong)]].concat()), expected);
    }
    // There is no height before the first.
    let none = Disorder::Height { call: Call::VerifyVoteExtension(0), next: 1 };
    assert_eq!(last(&[init(1), verify(0)]), none);
}

#[test]
fn nothing_of_consensus_comes_between_finalizeblock_and_commit() {
    for step in [prepare(1), process(1), extend(1), verify(1), finalize(1), finalize(2), prepare(2)]
    {
        let expected = Disorder::Uncommitted { call: call(step.clone()), height: 1 };
        assert_eq!(last(&[init(1), finalize(1), step]), expected);
    }
    let expected = Disorder::Uncommitted { call: call(init(1)), height: 1 };
    assert_eq!(last(&[init(1), finalize(1), init(1)]), expected);
}

#[test]
fn commit_follows_finalizeblock_once() {
    assert_eq!(last(&[init(1), COMMIT]), Disorder::NothingDecided { next: 1 });
    let twice = [init(1), finalize(1), COMMIT, COMMIT];
    assert_eq!(last(&twice), Disorder::NothingDecided { next: 2 });
}

#[test]
fn a_height_has_one_block() {
    let other = Step::Call(Call::FinalizeBlock { height: 1, hash: Bytes::from("other") });
    let steps = [init(1), finalize(1), Begin, Told(0), init(1), other];
    assert_eq!(last(&steps), Disorder::OtherBlock { height: 1 });
}

#[test]
fn snapshots_are_for_applications_that_have_executed_nothing() {
    assert_eq!(last(&[init(1), process(1), OFFER]), Disorder::LateSnapshot { next: 1 });
    assert_eq!(last(&[init(1), finalize(1), OFFER]), Disorder::LateSnapshot { next: 1 });
    assert_eq!(last(&[Told(3), OFFER]), Disorder::LateSnapshot { next: 4 });
}

#[test]
fn chunks_belong_to_a_snapshot_that_was_accepted() {
    for steps in
        [vec![APPLY], vec![init(1), OFFER, APPLY], vec![init(1), OFFER, Offered(false), APPLY]]
    {
        assert_eq!(last(&steps), Disorder::NoSnapshot);
    }
    let none_since = [init(1), OFFER, Offered(true), APPLY, OFFER, APPLY];
    assert_eq!(last(&none_since), Disorder::NoSnapshot);
}

#[test]
fn what_was_restored_is_confirmed_before_consensus_goes_on() {
    for restored in [vec![], vec![APPLY], vec![Told(7)], vec![APPLY, Told(0)]] {
        for step in [init(1), prepare(8), process(8), extend(8), verify(8), finalize(8), COMMIT] {
            let begun = [init(1), OFFER, Offered(true)];
            let steps = [begun.as_slice(), &restored, std::slice::from_ref(&step)].concat();
            assert_eq!(last(&steps), Disorder::Restoring(call(step)));
        }
    }
}

/// An application that answers what it is asked.
#[derive(Clone)]
struct App;

impl tendermint_abci::Application for App {
    fn info(&self, _: RequestInfo) -> ResponseInfo {
        ResponseInfo { last_block_height: 3, ..ResponseInfo::default() }
    }

    fn offer_snapshot(&self, _: RequestOfferSnapshot) -> ResponseOfferSnapshot {
        ResponseOfferSnapshot { result: 1 }
    }
}

fn block(height: i64) -> RequestFinalizeBlock {
    RequestFinalizeBlock { height, ..RequestFinalizeBlock::default() }
}

#[test]
fn a_call_in_disorder_fails_and_is_remembered() {
    let grammar = Grammar::default();
    let mut roles = grammar.watch(in_process(App));
    let before = Disorder::BeforeInfo(Call::FinalizeBlock { height: 4, hash: Bytes::new() });
    let error = roles.consensus.finalize_block(block(4)).expect_err("disorder");
    assert_eq!(error, AppError::Disorder(before.clone()));
    assert_eq!(
        error.to_string(),
        "the order of calls is not that of ABCI: FinalizeBlock of height 4 before the application was asked where it is (Info)"
    );
    roles.consensus.info(RequestInfo::default()).expect("an answer");
    roles.consensus.finalize_block(block(4)).expect("in order");
    roles.consensus.commit().expect("in order");
    let twice = Disorder::NothingDecided { next: 5 };
    assert_eq!(roles.consensus.commit(), Err(AppError::Disorder(twice.clone())));
    assert_eq!(grammar.disorders(), [before, twice]);
}

#[test]
fn the_calls_of_each_role_come_over_its_connection() {
    let grammar = Grammar::default();
    let Roles { mut query, mut snapshot, mut mempool, mut consensus } =
        grammar.watch(in_process(App));
    consensus.info(RequestInfo::default()).expect("an answer");
    let error = |method, role| AppError::Disorder(Disorder::Role { method, role });
    assert_eq!(query.finalize_block(block(4)), Err(error("FinalizeBlock", Role::Query)));
    assert_eq!(mempool.commit(), Err(error("Commit", Role::Mempool)));
    let init = RequestInitChain::default();
    assert_eq!(snapshot.init_chain(init), Err(error("InitChain", Role::Snapshot)));
    let offer = RequestOfferSnapshot::default();
    assert_eq!(consensus.offer_snapshot(offer), Err(error("OfferSnapshot", Role::Consensus)));
    let chunk = RequestApplySnapshotChunk::default();
    let apply = error("ApplySnapshotChunk", Role::Query);
    assert_eq!(query.apply_snapshot_chunk(chunk), Err(apply));
    // Anywhere, at any time.
    for app in [&mut query, &mut snapshot, &mut mempool, &mut consensus] {
        app.info(RequestInfo::default()).expect("an answer");
        app.query(RequestQuery::default()).expect("an answer");
        app.check_tx(RequestCheckTx::default()).expect("an answer");
        app.list_snapshots().expect("an answer");
    }
    assert_eq!(grammar.disorders().len(), 5);
}

#[test]
fn a_node_that_starts_again_asks_again() {
    let grammar = Grammar::default();
    let mut roles = grammar.watch(in_process(App));
    roles.query.info(RequestInfo::default()).expect("an answer");
    roles.consensus.finalize_block(block(4)).expect("in order");
    let mut roles = grammar.watch(in_process(App));
    let before = Disorder::BeforeInfo(Call::Commit);
    assert_eq!(roles.consensus.commit(), Err(AppError::Disorder(before)));
}

#[test]
fn a_snapshot_goes_from_offer_to_info() {
    let grammar = Grammar::default();
    let mut roles = grammar.watch(in_process(App));
    let restoring = Call::FinalizeBlock { height: 4, hash: Bytes::new() };
    roles.snapshot.offer_snapshot(RequestOfferSnapshot::default()).expect("in order");
    roles.snapshot.apply_snapshot_chunk(Default::default()).expect("in order");
    let error = roles.consensus.finalize_block(block(4));
    assert_eq!(error, Err(AppError::Disorder(Disorder::Restoring(restoring))));
    roles.query.info(RequestInfo::default()).expect("an answer");
    roles.consensus.finalize_block(block(4)).expect("in order");
}

proptest! {
    /// Whatever else comes: what was allowed is heights that follow each other, each with one FinalizeBlock and one Commit, but for
    /// starts and what the application says it has lost.
    #[test]
    fn allowed_heights_follow_each_other(picks in proptest::collection::vec((0..7u8, 0..4i64), 0..40)) {
        let mut checker = Checker::default();
        let (mut committed, mut executed) = (None, None);
        for (kind, height) in picks {
            let allowed = |checker: &mut Checker, step| checker.call(call(step)).is_ok();
            match kind {
                0 => {
                    checker.begin();
                    (committed, executed) = (None, None);
                }
                1 => {
                    checker.told(height);
                    committed = committed.or((height > 0).then_some(height));
                }
                2 if allowed(&mut checker, init(height)) => committed = Some(height.max(1) - 1),
                3 if allowed(&mut checker, finalize(height)) => {
                    prop_assert_eq!(committed.map(|last: i64| last + 1), Some(height));
                    prop_assert_eq!(executed.replace(height), None);
                }
                4 if allowed(&mut checker, COMMIT) => {
                    prop_assert!(executed.is_some());
                    committed = executed.take();
                }
                5 if allowed(&mut checker, process(height)) => {
                    prop_assert_eq!(executed, None);
                    prop_assert_eq!(committed.map(|last| last + 1), Some(height));
                }
                _ => {}
            }
        }
    }
}
