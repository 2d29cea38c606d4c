//! Evidence through blocks: proposed, judged, told to the application once, and marked with the state.

use super::*;
use crate::evidence::{Facts as _, Invalid, Key};
use tendermint_proto::v0_38::types as pb;
use tercet_consensus::message::{Signed, SignedVote};
use tercet_consensus::testing::messages::block_id;

/// The only validator votes twice at `height`, the second time so many seconds later.
fn piece(rig: &Rig, height: u32, later: u64) -> Piece {
    let height = Height::from(height);
    let time = rig.chain.meta(height).expect("a disk").expect("decided").header.time;
    let vote = |n, later| -> SignedVote {
        let message = Vote {
            phase: Phase::Commit,
            height,
            view: View::ZERO,
            block_id: block_id(n),
            time: (time + std::time::Duration::from_secs(later)).expect("a time"),
            validator: public(0).address(),
            index: 0,
            extension: None,
        };
        let signature = sign(0, &sign_bytes::vote(CHAIN_ID, &message));
        Signed { message, signature }
    };
    let validators = rig.chain.validators(height).expect("a disk").expect("known");
    Piece::of_votes(&(vote(1, 0), vote(2, later)), time, &validators).expect("an offence")
}

/// A rig with blocks up to `height`, and the commit of the last.
fn grown(height: u32) -> (Rig, Commit) {
    let mut rig = Rig::new();
    let mut last = None;
    for at in 1..=height {
        last = Some(rig.advance(at, &["a"], last).1);
    }
    (rig, last.expect("a block"))
}

fn told(rig: &Rig) -> Vec<(&'static str, Vec<Misbehavior>)> {
    rig.app.with(|inner| std::mem::take(&mut inner.misbehavior))
}

fn pend(rig: &Rig, pieces: &[&Piece]) {
    let pieces = pieces.iter().map(|piece| Arc::new((*piece).clone())).collect();
    *rig.pending.lock().expect("pending") = pieces;
}

#[test]
fn evidence_is_proposed_judged_and_told_in_each_call_and_marked_once() {
    let (mut rig, last) = grown(3);
    let piece = piece(&rig, 2, 5);
    pend(&rig, &[&piece]);
    let block = rig.propose(4, &["b"], Some(last));
    assert_eq!(block.block().evidence.evidence, [piece.raw().clone()]);
    assert_eq!(rig.judge((*block).clone()), Ok(()));
    let mark = |rig: &Rig| rig.chain.committed(&piece.key()).expect("a disk");
    assert_eq!(mark(&rig), None, "a proposal marks nothing");
    rig.apply(&block).expect("applied");
    assert_eq!(mark(&rig), Some(Height::from(4u32)));
    let expected = Misbehavior {
        r#type: 1,
        validator: Some(tendermint_proto::v0_38::abci::Validator {
            address: Bytes::copy_from_slice(public(0).address().as_bytes()),
            power: 10,
        }),
        height: 2,
        time: Some(piece.time().into()),
        total_voting_power: 10,
    };
    let calls = ["prepare", "process", "finalize"].map(|call| (call, vec![expected.clone()]));
    assert_eq!(told(&rig), calls);
    // It is pending still: the owner has not heard yet. It is not proposed again, nor the same with another time.
    let last = commit(&block);
    let other = self::piece(&rig, 2, 6);
    pend(&rig, &[&piece, &other]);
    let next = rig.propose(5, &["c"], Some(last));
    assert!(next.block().evidence.evidence.is_empty());
    let mut again = next.block().clone();
    again.evidence.evidence.push(other.raw().clone());
    assert_eq!(rig.judge(SealedBlock::seal(again)), Err(Refusal::Evidence(Invalid::Committed)));
    assert_eq!(rig.judge((*next).clone()), Ok(()));
    assert!(told(&rig).is_empty());
}

/// The mark is in the batch with the state: after a crash wherever it hits both are there or neither.
#[test]
fn marks_are_those_of_the_executed_blocks_after_a_crash_at_any_write() {
    let (mut rig, last) = grown(3);
    let piece = piece(&rig, 2, 5);
    pend(&rig, &[&piece]);
    let block = rig.propose(4, &["b"], Some(last));
    // The block is stored, and the process dies before it is executed.
    rig.chain.save_block(&block, &commit(&block)).expect("a disk");
    let app = rig.app.clone();
    let mark = |chain: &Chain| chain.committed(&piece.key()).expect("a disk");
    assert_eq!(mark(&rig.chain), None);
    // The next start executes it.
    let rig = rig.restart(app).expect("it goes on");
    assert_eq!(mark(&rig.chain), Some(Height::from(4u32)));
    let state = rig.chain.state().expect("a disk").expect("a state");
    assert_eq!(state.last_height, Some(Height::from(4u32)));
    let told = rig.app.with(|inner| inner.misbehavior.clone());
    let finalized = told.iter().filter(|(call, _)| *call == "finalize");
    assert_eq!(finalized.count(), 1, "the application hears of it once");
    // An application that lost all is told again of what it lost, and nothing is marked twice.
    let rig = rig.restart(App::default()).expect("it is replayed");
    let told = rig.app.with(|inner| inner.misbehavior.clone());
    assert_eq!(told.len(), 1);
    assert_eq!(mark(&rig.chain), Some(Height::from(4u32)));
}

/// "Consistent after a crash between any two writes": what is left is the first so many batches.
#[test]
fn the_mark_is_there_exactly_with_the_state_after_its_block_wherever_a_crash_hits() {
    let (mut rig, last) = grown(3);
    let piece = piece(&rig, 2, 5);
    pend(&rig, &[&piece]);
    let block = rig.propose(4, &["b"], Some(last));
    rig.apply(&block).expect("applied");
    rig.advance(5, &[], Some(commit(&block)));
    let batches = rig.chain.batches();
    assert!(batches.len() > 8, "{}", batches.len());
    let mut marked = 0;
    for left in 0..=batches.len() {
        let folder = tempfile::tempdir().expect("a folder");
        let chain = Chain::open(folder.path()).expect("a chain");
        chain.write_batches(&batches[..left]);
        let height = chain.state().expect("a disk").and_then(|state| state.last_height);
        let mark = chain.committed(&piece.key()).expect("a disk");
        let executed = height.is_some_and(|height| height.value() >= 4);
        assert_eq!(mark.is_some(), executed, "after {left} writes, at {height:?}");
        marked += usize::from(executed);
    }
    assert!((1..batches.len()).contains(&marked));
}

#[test]
fn evidence_that_does_not_hold_is_refused_before_the_application_is_asked() {
    let (mut rig, last) = grown(3);
    let good = rig.propose(4, &["b"], Some(last)).block().clone();
    let with = |raws: Vec<pb::Evidence>| {
        let mut block = good.clone();
        block.evidence.evidence = raws;
        SealedBlock::seal(block)
    };
    let (one, two) = (piece(&rig, 2, 5), piece(&rig, 2, 6));
    let mut wrong = one.raw().clone();
    if let Some(pb::evidence::Sum::DuplicateVoteEvidence(inner)) = &mut wrong.sum {
        inner.validator_power = 11;
    }
    let refusal = |rig: &mut Rig, raws| match rig.judge(with(raws)) {
        Err(Refusal::Evidence(invalid)) => invalid,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refusal(&mut rig, vec![wrong]), Invalid::Power { .. }));
    let twice = vec![one.raw().clone(), two.raw().clone()];
    assert_eq!(refusal(&mut rig, twice), Invalid::Twice);
    let many = (1..=3).map(|height| piece(&rig, height, 5).raw().clone()).collect::<Vec<_>>();
    assert!(matches!(refusal(&mut rig, many), Invalid::TooMuch(..)));
    assert!(told(&rig).is_empty());
    assert_eq!(rig.judge(with(vec![one.raw().clone()])), Ok(()));
}

/// What evidence is judged by may be gone: a node that is rolled back below a pruned height executes what was decided.
#[test]
fn a_decided_block_is_executed_whatever_became_of_what_its_evidence_was_judged_by() {
    let (mut rig, last) = grown(3);
    let piece = piece(&rig, 1, 5);
    pend(&rig, &[&piece]);
    let block = rig.propose(4, &["b"], Some(last));
    assert_eq!(block.block().evidence.evidence.len(), 1);
    let evidence = &mut rig.executor.state.params.evidence;
    evidence.max_age_num_blocks = 1;
    evidence.max_age_duration = tendermint::evidence::Duration(std::time::Duration::from_secs(1));
    let refusal = rig.judge((*block).clone());
    assert!(matches!(refusal, Err(Refusal::Evidence(Invalid::Old { .. }))), "{refusal:?}");
    let state = rig.apply(&block).expect("executed");
    assert_eq!(state.last_block_id, Some(block.id()));
    assert_eq!(rig.chain.committed(&piece.key()).expect("a disk"), Some(Height::from(4u32)));
}

/// Evidence goes first, up to `evidence.max_bytes`; transactions take what it leaves.
#[test]
fn evidence_takes_room_from_transactions() {
    let (mut rig, last) = grown(3);
    let pieces: Vec<Piece> = (1..=3).map(|height| piece(&rig, height, 5)).collect();
    pend(&rig, &pieces.iter().collect::<Vec<_>>());
    let block = rig.propose(4, &["b"], Some(last));
    let list = &block.block().evidence;
    // 1,000 bytes hold two of them.
    assert_eq!(list.evidence.len(), 2);
    assert_eq!(list.evidence, [pieces[0].raw().clone(), pieces[1].raw().clone()]);
    let state = rig.chain.state().expect("a disk").expect("a state");
    let size = prost::Message::encoded_len(list);
    assert_eq!(block::data_bytes_max(&state, size), block::data_bytes_max(&state, 0) - size);
}

/// What the parameters say of age holds against what is pending, too.
#[test]
fn what_is_too_old_is_not_proposed() {
    let (mut rig, last) = grown(3);
    let piece = piece(&rig, 1, 5);
    pend(&rig, &[&piece]);
    let mut young = rig.chain.state().expect("a disk").expect("a state");
    young.params.evidence.max_age_num_blocks = 1;
    young.params.evidence.max_age_duration =
        tendermint::evidence::Duration(std::time::Duration::from_secs(1));
    rig.executor.state = young;
    let block = rig.propose(4, &["b"], Some(last));
    assert!(block.block().evidence.evidence.is_empty());
    let mut old = block.block().clone();
    old.evidence.evidence.push(piece.raw().clone());
    let refusal = rig.judge(SealedBlock::seal(old));
    assert!(matches!(refusal, Err(Refusal::Evidence(Invalid::Old { .. }))), "{refusal:?}");
}

/// A node that lacks nothing of the chain marks the same offences, whether it voted or caught up.
#[test]
fn a_node_that_catches_up_marks_the_same_offences() {
    let (mut rig, last) = grown(3);
    let piece = piece(&rig, 2, 5);
    pend(&rig, &[&piece]);
    let block = rig.propose(4, &[], Some(last));
    rig.apply(&block).expect("applied");
    let mut other = Rig::new();
    for at in 1..=4u32 {
        let block = rig.chain.block(Height::from(at)).expect("a disk").expect("there");
        other.apply(&block).expect("it follows");
    }
    let key: Key = piece.key();
    assert_eq!(other.chain.committed(&key).expect("a disk"), Some(Height::from(4u32)));
}

/// An application that raises the age later brings nothing back: who prunes has let it go, and all must judge alike.
#[test]
fn evidence_that_was_too_old_once_stays_too_old_whatever_the_application_raises_the_age_to() {
    for prunes in [false, true] {
        judge_after_the_age_was_raised(prunes);
    }
}

fn judge_after_the_age_was_raised(prunes: bool) {
    use tendermint_proto::google::protobuf::Duration;
    let age = |max_age_num_blocks| {
        let max_age_duration = Some(Duration { seconds: 1, nanos: 0 });
        let params = tendermint_proto::v0_38::types::EvidenceParams {
            max_age_num_blocks,
            max_age_duration,
            max_bytes: 1_000,
        };
        ConsensusParams { evidence: Some(params), ..ConsensusParams::default() }
    };
    let mut rig = Rig::new();
    rig.app.with(|inner| inner.param_updates = Some(age(2)));
    let mut last = None;
    for at in 1..=6 {
        last = Some(rig.advance(at, &["a"], last).1);
    }
    let (old, young) = (piece(&rig, 3, 5), piece(&rig, 4, 5));
    if prunes {
        rig.chain.prune(Height::from(6u32)).expect("pruned");
    }
    assert_eq!(rig.chain.meta(Height::from(3u32)).expect("a disk").is_none(), prunes);
    rig.app.with(|inner| inner.param_updates = Some(age(1_000)));
    for at in 7..=9 {
        last = Some(rig.advance(at, &["a"], last).1);
    }
    let floor = rig.chain.state().expect("a disk").expect("a state").evidence_floor;
    assert_eq!(floor, 4, "that after block 6");
    pend(&rig, &[&old, &young]);
    let block = rig.propose(10, &["b"], last);
    assert_eq!(block.block().evidence.evidence, [young.raw().clone()]);
    let mut with_old = block.block().clone();
    with_old.evidence.evidence = vec![old.raw().clone()];
    let refusal = Err(Refusal::Evidence(Invalid::Old { height: old.height(), time: old.time() }));
    assert_eq!(rig.judge(SealedBlock::seal(with_old)), refusal, "{prunes}");
    assert_eq!(rig.judge((*block).clone()), Ok(()));
    // A block that is rolled back is judged by the floor that was before it.
    assert_eq!(rig.apply(&block).expect("executed").evidence_floor, floor);
    assert_eq!(rig.chain.rollback(false).expect("back").evidence_floor, floor);
}
