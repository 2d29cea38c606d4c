//! Verification: one negative test a rule. The numbers are those of the checklist for J in docs/protocol.md §6.

use crate::block::{Block, BlockId, SealedBlock};
use crate::commit::{Commit, median_time};
use crate::message::{
    Decided, Extension, Justification, Phase, PrePrepare, ViewChangeMessage, Vote,
};
use crate::testing::messages::{Signers, block_id, view};
use crate::verify::{Direct, Reject};
use std::sync::Arc;
use std::time::Duration;
use tendermint::block::Height;

/// Four validators with equal powers; a quorum is three.
fn signers() -> Signers {
    Signers::new(&[1; 4], 5)
}

fn free(s: &Signers) -> Justification {
    let view_changes = (0..3).map(|index| s.view_change(index, 2, None)).collect();
    Justification { view_changes, certificate: None }
}

/// Bound to block 7, prepared in view 1; another claims block 8 in view 0.
fn bound(s: &Signers) -> Justification {
    let view_changes = vec![
        s.view_change(0, 2, Some((1, block_id(7)))),
        s.view_change(1, 2, Some((0, block_id(8)))),
        s.view_change(2, 2, None),
    ];
    let certificate = Some(s.certificate(1, block_id(7), &[0, 1, 3]));
    Justification { view_changes, certificate }
}

fn check(s: &Signers, message: PrePrepare) -> Result<(), Reject> {
    s.context().pre_prepare(message, &Direct).map(drop)
}

fn check_j(s: &Signers, block: u8, j: Justification) -> Result<(), Reject> {
    check(s, s.pre_prepare(2, block_id(block), Some(j)))
}

#[test]
fn right_justifications_are_accepted() {
    let s = signers();
    assert_eq!(check(&s, s.pre_prepare(0, block_id(1), None)), Ok(()));
    assert_eq!(check_j(&s, 1, free(&s)), Ok(()));
    assert_eq!(check_j(&s, 7, bound(&s)), Ok(()));
}

#[test]
fn j1_only_the_primary_of_the_view_may_propose() {
    let s = signers();
    let mut message = s.pre_prepare(2, block_id(1), Some(free(&s)));
    let primary = s.schedule.primary(s.height, view(2));
    let bytes =
        crate::sign_bytes::proposal(crate::testing::messages::CHAIN_ID, &message.proposal.message);
    for other in (0..4).filter(|index| *index != primary) {
        message.proposal.signature = s.sign(other, &bytes);
        assert_eq!(check(&s, message.clone()), Err(Reject::NotPrimary));
    }
}

#[test]
fn j3_a_view_change_of_another_height_does_not_count() {
    let s = signers();
    let mut j = free(&s);
    let mut wrong = j.view_changes[0].message.clone();
    wrong.height = Height::from(6u32);
    j.view_changes[0] = s.sign_view_change(wrong);
    assert!(matches!(check_j(&s, 1, j), Err(Reject::Justification(_))));
}

#[test]
fn j3_a_view_change_for_another_view_does_not_count() {
    let s = signers();
    for other in [1, 3] {
        let mut j = free(&s);
        j.view_changes[0] = s.view_change(0, other, None);
        assert!(matches!(check_j(&s, 1, j), Err(Reject::Justification(_))));
    }
}

#[test]
fn j3_a_stranger_does_not_count() {
    let s = signers();
    let mut j = free(&s);
    j.view_changes[0].message.index = 9;
    assert_eq!(check_j(&s, 1, j), Err(Reject::UnknownValidator));
    let mut j = free(&s);
    j.view_changes[0].message.validator = s.validators.at(3).unwrap().address;
    assert_eq!(check_j(&s, 1, j), Err(Reject::UnknownValidator));
}

#[test]
fn j3_a_forged_view_change_does_not_count() {
    let s = signers();
    let mut j = free(&s);
    j.view_changes[0].signature.0[7] ^= 1;
    assert_eq!(check_j(&s, 1, j), Err(Reject::Signature));
}

#[test]
fn j3_a_signer_counts_once() {
    let s = signers();
    let mut j = free(&s);
    j.view_changes[1] = j.view_changes[0].clone();
    assert!(matches!(check_j(&s, 1, j), Err(Reject::Justification(_))));
    let mut j = bound(&s);
    j.view_changes[1] = s.view_change(0, 2, None);
    assert!(matches!(check_j(&s, 7, j), Err(Reject::Justification(_))), "two of one signer");
}

#[test]
fn j3_the_prepared_view_lies_below_the_view_asked_for() {
    let s = signers();
    let mut j = bound(&s);
    j.view_changes[0] = s.view_change(0, 2, Some((2, block_id(7))));
    j.certificate = Some(s.certificate(2, block_id(7), &[0, 1, 3]));
    assert!(matches!(check_j(&s, 7, j), Err(Reject::Justification(_))));
}

#[test]
fn j4_less_than_a_quorum_is_refused() {
    let s = signers();
    let mut j = free(&s);
    j.view_changes.pop();
    assert_eq!(check_j(&s, 1, j), Err(Reject::NoQuorum));
    let weighted = Signers::new(&[10, 1, 1, 1], 5);
    let mut j = free(&weighted);
    j.view_changes.remove(0);
    j.view_changes.push(weighted.view_change(3, 2, None));
    assert_eq!(check_j(&weighted, 1, j), Err(Reject::NoQuorum), "three of four, but not by power");
}

#[test]
fn j5_a_lower_certificate_is_refused() {
    let s = signers();
    let mut j = bound(&s);
    j.certificate = Some(s.certificate(0, block_id(8), &[0, 1, 3]));
    assert!(matches!(check_j(&s, 8, j), Err(Reject::Justification(_))));
}

#[test]
fn j5_two_blocks_at_the_highest_prepared_view_are_refused() {
    let s = signers();
    let mut j = bound(&s);
    j.view_changes[1] = s.view_change(1, 2, Some((1, block_id(8))));
    assert!(matches!(check_j(&s, 7, j), Err(Reject::Justification(_))));
}

#[test]
fn j6_a_certificate_needs_prepares_for_its_block_from_a_quorum_of_distinct_signers() {
    let s = signers();
    let with = |edit: &dyn Fn(&mut crate::message::Certificate)| {
        let mut j = bound(&s);
        edit(j.certificate.as_mut().unwrap());
        check_j(&s, 7, j)
    };
    assert_eq!(with(&|c| drop(c.votes.pop())), Err(Reject::NoQuorum));
    assert!(with(&|c| c.votes[1] = c.votes[0].clone()).is_err());
    assert!(with(&|c| c.votes.swap(0, 1)).is_err());
    assert!(with(&|c| c.votes[0] = s.vote(Phase::Commit, 0, 1, block_id(7))).is_err());
    assert!(with(&|c| c.votes[0] = s.vote(Phase::Prepare, 0, 0, block_id(7))).is_err());
    assert!(with(&|c| c.votes[0] = s.vote(Phase::Prepare, 0, 1, block_id(8))).is_err());
    assert_eq!(with(&|c| c.votes[0].signature.0[0] ^= 1), Err(Reject::Signature));
    assert!(with(&|c| c.height = Height::from(4u32)).is_err());
    assert!(with(&|c| c.view = view(0)).is_err());
}

#[test]
fn j7_only_the_bound_block_may_be_proposed_with_its_view() {
    let s = signers();
    assert!(matches!(check_j(&s, 8, bound(&s)), Err(Reject::Justification(_))));
    let mut proposal = s.pre_prepare(2, block_id(7), Some(bound(&s))).proposal.message;
    for wrong in [None, Some(view(0))] {
        proposal.prepared_view = wrong;
        let message = s.sign_proposal(proposal.clone(), Some(bound(&s)));
        assert!(matches!(check(&s, message), Err(Reject::Justification(_))));
    }
}

#[test]
fn j8_free_only_where_no_one_has_prepared() {
    let s = signers();
    let mut j = bound(&s);
    j.certificate = None;
    assert!(matches!(check_j(&s, 1, j), Err(Reject::Justification(_))));
    let mut j = free(&s);
    j.view_changes[1] = s.view_change(1, 2, Some((1, block_id(7))));
    assert!(matches!(check_j(&s, 1, j), Err(Reject::Justification(_))), "one is enough");
    let mut j = free(&s);
    j.certificate = Some(s.certificate(1, block_id(7), &[0, 1, 3]));
    assert!(matches!(check_j(&s, 7, j), Err(Reject::Justification(_))));
    let mut proposal = s.pre_prepare(2, block_id(7), None).proposal.message;
    proposal.prepared_view = Some(view(1));
    assert!(matches!(check(&s, s.sign_proposal(proposal, None)), Err(Reject::Justification(_))));
}

#[test]
fn j10_as_many_view_changes_as_validators_are_taken() {
    let s = signers();
    let mut j = free(&s);
    j.view_changes.push(s.view_change(3, 2, None));
    assert_eq!(check_j(&s, 7, j), Ok(()));
}

#[test]
fn a_commit_has_extensions_where_any_entry_has_one() {
    let s = signers();
    let mut commit = commit(&s, &[0, 1, 2]);
    assert!(!commit.has_extensions() && !commit.is_extended());
    let signature = commit.signatures[0].as_ref().unwrap().signature;
    let extension = Extension { data: Default::default(), signature };
    commit.signatures[1].as_mut().unwrap().extension = Some(extension);
    assert!(commit.has_extensions() && !commit.is_extended());
}

#[test]
fn j10_more_view_changes_than_validators_are_refused_before_any_signature() {
    let s = signers();
    let mut j = free(&s);
    j.view_changes = vec![j.view_changes[0].clone(); 5];
    assert_eq!(check_j(&s, 1, j), Err(Reject::TooLarge));
}

#[test]
fn a_view_change_without_a_valid_certificate_for_its_claim_is_dropped() {
    let s = signers();
    let signed = s.view_change(0, 2, Some((1, block_id(7))));
    let good = s.certificate(1, block_id(7), &[0, 1, 3]);
    let check = |certificate| {
        let message = ViewChangeMessage { signed: signed.clone(), certificate };
        s.context().view_change(message, &Direct).map(drop)
    };
    assert_eq!(check(Some(good.clone())), Ok(()));
    assert!(check(None).is_err());
    assert!(check(Some(s.certificate(0, block_id(7), &[0, 1, 3]))).is_err());
    assert!(check(Some(s.certificate(1, block_id(8), &[0, 1, 3]))).is_err());
    assert_eq!(check(Some(s.certificate(1, block_id(7), &[0, 1]))), Err(Reject::NoQuorum));
    let message = ViewChangeMessage { signed: s.view_change(0, 2, None), certificate: Some(good) };
    assert!(s.context().view_change(message, &Direct).is_err());
}

#[test]
fn a_vote_of_another_chain_height_or_validator_is_refused() {
    let s = signers();
    let vote = s.vote(Phase::Commit, 1, 0, block_id(1));
    let check = |vote| s.context().vote(vote, &Direct).map(drop);
    assert_eq!(check(vote.clone()), Ok(()));
    let other_chain = crate::verify::Context { chain_id: "other-chain", ..s.context() };
    assert_eq!(other_chain.vote(vote.clone(), &Direct).map(drop), Err(Reject::Signature));
    let mut wrong = vote.clone();
    wrong.message.height = Height::try_from((1u64 << 63) - 1).unwrap();
    assert_eq!(check(wrong), Err(Reject::Height));
    for index in [2, 4, u32::MAX] {
        let mut wrong = vote.clone();
        wrong.message.index = index;
        assert_eq!(check(wrong), Err(Reject::UnknownValidator));
    }
    let (right, nil) = (vote.message.block_id, BlockId::default());
    let half = BlockId { hash: right.hash, ..nil };
    let other_half = BlockId { hash: nil.hash, ..right };
    for block_id in [nil, half, other_half] {
        let wrong = s.sign_vote(Vote { block_id, ..vote.message.clone() });
        assert!(matches!(check(wrong), Err(Reject::Malformed(_))), "nothing is voted nil");
    }
}

/// "COMMIT […] with the vote extension where enabled", which has a signature of its own.
#[test]
fn a_commit_carries_its_signed_extension_where_enabled_and_only_there() {
    let s = signers();
    let enabled = crate::verify::Context { extensions: Some(true), ..s.context() };
    let check = |vote| enabled.vote(vote, &Direct).map(drop);
    let mut vote = s.vote(Phase::Commit, 1, 0, block_id(1));
    assert!(matches!(check(vote.clone()), Err(Reject::Malformed(_))), "none");
    let data = bytes::Bytes::from_static(b"x");
    let bytes = crate::sign_bytes::extension(s.context().chain_id, &vote.message, &data);
    vote.message.extension = Some(Extension { data, signature: s.sign(1, &bytes) });
    assert_eq!(check(vote.clone()), Ok(()));
    let not_enabled = s.context().vote(vote.clone(), &Direct).map(drop);
    assert!(matches!(not_enabled, Err(Reject::Malformed(_))));
    if let Some(extension) = &mut vote.message.extension {
        extension.data = bytes::Bytes::from_static(b"y");
    }
    assert_eq!(check(vote), Err(Reject::Signature));
}

/// "DECIDED […] proves itself": block and commit belong together.
#[test]
fn a_decided_block_is_that_of_its_commit() {
    let s = signers();
    let decided = |block: &Arc<SealedBlock>, of: BlockId| {
        let votes = [0, 1, 3].map(|index| s.vote(Phase::Commit, index, 3, of));
        let mut signatures = vec![None; 4];
        for vote in votes {
            let (validator, time) = (vote.message.validator, vote.message.time);
            let signature = vote.signature;
            signatures[vote.message.index as usize] = Some(crate::commit::CommitSig {
                address: validator,
                time,
                signature,
                extension: None,
            });
        }
        let commit = Commit { height: s.height, view: view(3), block_id: of, signatures };
        let decided = Decided { block: block.clone(), commit };
        s.context().decided(decided, &Direct).map(drop)
    };
    let proposer = s.validators.list()[0].address;
    let time = tendermint::Time::from_unix_timestamp(1_700_000_000, 0).unwrap();
    let header = crate::testing::cluster::header(s.height, time, proposer, &s.validators, None);
    let evidence = Default::default();
    let block = Block { header, txs: Vec::new(), evidence, last_commit: None };
    let block = Arc::new(SealedBlock::seal(block));
    assert_eq!(decided(&block, block.id()), Ok(()));
    assert!(matches!(decided(&block, block_id(7)), Err(Reject::Malformed(_))));
}

fn commit(s: &Signers, present: &[u32]) -> Commit {
    commit_of(s, block_id(1), present)
}

fn commit_of(s: &Signers, block_id: BlockId, present: &[u32]) -> Commit {
    let entry = |index: u32| {
        present.contains(&index).then(|| {
            let vote = s.vote(Phase::Commit, index, 3, block_id);
            crate::commit::CommitSig {
                address: vote.message.validator,
                time: vote.message.time,
                signature: vote.signature,
                extension: None,
            }
        })
    };
    let signatures = (0..s.validators.count() as u32).map(entry).collect();
    Commit { height: s.height, view: view(3), block_id, signatures }
}

#[test]
fn every_signature_of_a_commit_counts_and_each_in_its_place() {
    let s = signers();
    let check = |commit: Commit| commit.verify(&s.context(), &Direct);
    assert_eq!(check(commit(&s, &[0, 1, 2, 3])), Ok(()));
    assert_eq!(check(commit(&s, &[0, 1, 3])), Ok(()));
    assert_eq!(check(commit(&s, &[0, 1])), Err(Reject::NoQuorum));
    let mut garbage = commit(&s, &[0, 1, 2, 3]);
    garbage.signatures[3].as_mut().unwrap().signature.0[0] ^= 1;
    assert_eq!(check(garbage), Err(Reject::Signature), "garbage behind a quorum");
    let mut swapped = commit(&s, &[0, 1, 2, 3]);
    swapped.signatures.swap(0, 1);
    assert_eq!(check(swapped), Err(Reject::UnknownValidator));
    let mut short = commit(&s, &[0, 1, 2]);
    short.signatures.pop();
    assert!(check(short).is_err());
    let mut other = commit(&s, &[0, 1, 2]);
    other.view = view(2);
    assert_eq!(check(other), Err(Reject::Signature));
}

#[test]
fn block_time_is_the_weighted_median_over_entries_in_their_place() {
    let s = Signers::new(&[5, 3, 2, 1], 5);
    let mut commit = commit(&s, &[0, 1, 2, 3]);
    let base = commit.signatures[0].as_ref().unwrap().time;
    for (index, entry) in commit.signatures.iter_mut().enumerate() {
        let after = Duration::from_secs(10 * (index as u64 + 1));
        entry.as_mut().unwrap().time = base.checked_add(after).unwrap();
    }
    let at = |seconds| base.checked_add(Duration::from_secs(seconds));
    assert_eq!(median_time(&commit, &s.validators), at(20), "5 of 11 are not more than half");
    commit.signatures[0] = None;
    assert_eq!(median_time(&commit, &s.validators), at(30), "3 of 6 are not more than half");
    commit.signatures[3] = None;
    assert_eq!(median_time(&commit, &s.validators), at(20), "3 of 5 are");
    let mut wrong = commit.clone();
    wrong.signatures[1].as_mut().unwrap().address = s.validators.at(0).unwrap().address;
    assert_eq!(median_time(&wrong, &s.validators), None);
    commit.signatures.fill(None);
    assert_eq!(median_time(&commit, &s.validators), None);
}

/// Scenario one-time-of-four of the simulator: one of four signed COMMIT with the time of the block, or an earlier one, and no block
/// could follow.
#[test]
fn faulty_validators_alone_do_not_set_the_block_time() {
    // All sizes at which a quorum is the least that it can be beside the most that may be faulty.
    for faulty in 1..=5usize {
        let s = Signers::new(&vec![1; 3 * faulty + 1], 5);
        let signed: Vec<u32> = (0..=2 * faulty as u32).collect();
        let right = commit(&s, &signed);
        let base = right.signatures[0].as_ref().unwrap().time;
        let correct = [base, base.checked_add(Duration::from_secs(faulty as u64)).unwrap()];
        for (far, early) in
            [(Duration::from_secs(3_600), true), (Duration::from_secs(3_600), false)]
        {
            let mut commit = right.clone();
            for (index, entry) in commit.signatures.iter_mut().take(2 * faulty + 1).enumerate() {
                let lie = if early { base.checked_sub(far) } else { base.checked_add(far) };
                let after = Duration::from_secs((index - faulty.min(index)) as u64);
                let time = if index < faulty { lie } else { base.checked_add(after) };
                entry.as_mut().unwrap().time = time.unwrap();
            }
            let median = median_time(&commit, &s.validators).unwrap();
            assert!(correct[0] <= median && median <= correct[1], "{faulty} faulty: {median}");
        }
    }
}

/// Power is that of the entry's place, not of its number among those that signed.
#[test]
fn a_commit_without_the_heaviest_validators_has_only_the_power_of_the_others() {
    let s = Signers::new(&[5, 1, 1, 1], 5);
    let check = |commit: Commit| commit.verify(&s.context(), &Direct);
    assert_eq!(check(commit(&s, &[1, 2, 3])), Err(Reject::NoQuorum));
    assert_eq!(check(commit(&s, &[0, 1])), Ok(()));
}

/// S7, the same bytes everywhere: the header covers the signatures of the last commit but not its round, the block's id covers all.
#[test]
fn a_decided_block_with_another_round_in_its_last_commit_is_another_block() {
    let s = signers();
    let below = Signers::new(&[1; 4], 4);
    let last = commit(&below, &[0, 1, 2]);
    let proposer = s.validators.list()[0].address;
    let time = median_time(&last, &s.validators).unwrap();
    let header =
        crate::testing::cluster::header(s.height, time, proposer, &s.validators, Some(&last));
    let right =
        Block { header, txs: Vec::new(), evidence: Default::default(), last_commit: Some(last) };
    let mut wrong = right.clone();
    wrong.last_commit.as_mut().unwrap().view = view(4);
    let (right, wrong) = (SealedBlock::seal(right), SealedBlock::seal(wrong));
    assert_eq!(right.id().hash, wrong.id().hash);
    let commit = commit_of(&s, right.id(), &[0, 1, 3]);
    let check = |block: SealedBlock| {
        let decided = Decided { block: Arc::new(block), commit: commit.clone() };
        s.context().decided(decided, &Direct).map(drop)
    };
    assert!(matches!(check(wrong), Err(Reject::Malformed(_))));
    assert_eq!(check(right), Ok(()));
}

#[test]
fn a_set_in_tendermints_type_has_all_validators_in_canonical_order() {
    let s = Signers::new(&[5, 3, 2, 1], 5);
    let infos = s.validators.to_tendermint();
    let ours = s.validators.list().iter().map(|v| (v.address, v.power));
    assert!(infos.iter().map(|info| (info.address, info.power())).eq(ours));
}

/// The bound on the signers of a certificate is the number of validators: all of them may have signed.
#[test]
fn a_certificate_of_all_validators_is_accepted() {
    let s = signers();
    let certificate = s.certificate(1, block_id(7), &[0, 1, 2, 3]);
    assert_eq!(s.context().certificate(&certificate, &Direct), Ok(()));
}
