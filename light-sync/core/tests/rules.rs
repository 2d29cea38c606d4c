//! The rules that light clients have broken before, one test each.
#![allow(missing_docs, clippy::unwrap_used)]

use bytes::Bytes;
use prost::Message as _;
use std::sync::Arc;
use std::time::Duration;
use tendermint_proto::v0_38::types as pb;
use tercet_consensus::validators::{Validators, ValidatorsError};
use tercet_light_core::block::{TrustedBlock, UntrustedBlock};
use tercet_light_core::chain::{LinkedRun, RunError, RunRequest};
use tercet_light_core::commit::{Commit, CommitError, SIGNATURES_MAX};
use tercet_light_core::header::{HEADER_BYTES_MAX, Header};
use tercet_light_core::options::{Options, TrustLevel};
use tercet_light_core::testing::chain::{Chain, Spec, Twist, set_of, sign};
use tercet_light_core::testing::world::changed;
use tercet_light_core::time::Time;
use tercet_light_core::verify::{Invalid, Refusal, Signatures, Tally, verify_commits};

const OPTIONS: Options = Options {
    trust_level: TrustLevel::ONE_THIRD,
    trusting_period: Duration::from_secs(3_600),
    clock_drift: Duration::from_secs(10),
};

fn chain(validators: u32) -> Chain {
    Chain::new(Spec { last: 40, validators, ..Spec::default() })
}

fn trusted(chain: &mut Chain, height: u64) -> TrustedBlock {
    let block = chain.block(height);
    let hash = block.header.hash();
    TrustedBlock::restore(block, hash).unwrap()
}

fn now(chain: &Chain) -> Time {
    chain.header(chain.spec.last).time().after(Duration::from_secs(1))
}

/// The outcome of verifying `block` from height 1.
fn outcome(chain: &mut Chain, block: UntrustedBlock) -> Result<(), Refusal> {
    let now = now(chain);
    let root = trusted(chain, 1);
    root.extend(block.bind()?, &OPTIONS, now).map(drop)
}

fn invalid(invalid: Invalid) -> Result<(), Refusal> {
    Err(Refusal::Invalid(invalid))
}

/// ISA-2025-003 (T-34): the address is no part of the hash of a set, so a set with a foreign address has the right hash.
#[test]
fn an_address_is_that_of_its_key_or_there_is_no_set() {
    let set = set_of(&[(1, 10), (2, 10), (3, 10)]);
    let mut infos = set.to_tendermint();
    infos[1].address = infos[0].address;
    let tendermint = tendermint::validator::Set::without_proposer(infos.clone());
    assert_eq!(tendermint.hash(), set.hash());
    assert!(matches!(Validators::from_tendermint(&infos), Err(ValidatorsError::Address(_))));
}

/// ISA-2025-003 (T-34): one vote that stands twice counts once, wherever it stands.
#[test]
fn a_validator_that_signed_twice_is_not_counted_twice() {
    let mut chain = chain(4);
    let mut block = chain.block(20);
    block.commit.entries[1] = block.commit.entries[0];
    block.commit.entries[2] = block.commit.entries[0];
    assert_eq!(outcome(&mut chain, block), invalid(Invalid::SignedTwice));
}

/// CVE-2022-23507 (T-35): the same validators on another chain.
#[test]
fn a_block_of_another_chain_with_the_same_validators_is_refused() {
    let mut here = chain(4);
    let mut there = Chain::new(Spec { chain_id: "another".to_owned(), ..here.spec.clone() });
    let block = there.block(20);
    assert_eq!(outcome(&mut here, block), invalid(Invalid::ChainId));
    // And a signature for that chain is none for this one.
    let mut block = here.block(20);
    block.commit.entries = there.commit(20).entries;
    assert_eq!(outcome(&mut here, block), invalid(Invalid::Signature));
}

/// ibc-rs #583 (T-36): the next validators by which later blocks are verified are those that the trusted header names.
#[test]
fn a_trusted_block_has_the_next_validators_that_its_header_names() {
    let mut chain = chain(4);
    let mut block = chain.block(1);
    let hash = block.header.hash();
    block.next_validators = Some(Arc::new(set_of(&[(9, 10)])));
    let restored = TrustedBlock::restore(block, hash).map(drop);
    assert_eq!(restored, Err(Invalid::NextValidatorsHash));
    let mut rotating = Chain::new(Spec { rotate_count: 1, ..chain.spec.clone() });
    let mut block = rotating.block(1);
    block.next_validators = None;
    let restored = TrustedBlock::restore(block, rotating.hash(1)).map(drop);
    assert_eq!(restored, Err(Invalid::NextValidatorsHash));
}

/// ibc-rs #585 (T-36).
#[test]
fn a_block_at_or_below_the_trusted_height_is_refused() {
    let mut chain = chain(4);
    let root = trusted(&mut chain, 20);
    for height in [5, 20] {
        let block = chain.block(height).bind().unwrap();
        let refusal = root.extend(block, &OPTIONS, now(&chain)).map(drop);
        assert_eq!(refusal, invalid(Invalid::TimeOrder));
    }
    // With a later time, too.
    let mut later = chain.fork(5, Twist::Later(60));
    let block = later.block(5).bind().unwrap();
    let refusal = root.extend(block, &OPTIONS, now(&chain).after(Duration::from_secs(60)));
    assert_eq!(refusal.map(drop), invalid(Invalid::HeightOrder));
}

/// cardano-ibc #591 (T-37): signatures over a block id that is not that of the header.
#[test]
fn a_commit_for_another_header_binds_nothing() {
    let mut chain = chain(4);
    let mut block = chain.block(20);
    block.header = changed(&block.header);
    assert_eq!(outcome(&mut chain, block), invalid(Invalid::CommitHash));
    let mut block = chain.block(20);
    block.commit = chain.commit(21);
    assert_eq!(outcome(&mut chain, block), invalid(Invalid::CommitHash));
}

/// GHSA-f3w5-v9xx-rp8p (T-38): to the nanosecond.
#[test]
fn a_block_from_the_future_is_refused() {
    let mut chain = chain(4);
    let root = trusted(&mut chain, 1);
    let block = chain.block(30).bind().unwrap();
    let time = block.header().time();
    let at = Time::from_unix(time.unix_seconds() - 10, time.nanos()).unwrap();
    let early = root.extend(block.clone(), &OPTIONS, at).map(drop);
    assert_eq!(early, invalid(Invalid::Future));
    assert!(root.extend(block, &OPTIONS, at.after(Duration::from_nanos(1))).is_ok());
}

/// T-75: at the very end of the period it has ended.
#[test]
fn trust_ends_with_the_trusting_period() {
    let mut chain = chain(4);
    let root = trusted(&mut chain, 1);
    let block = chain.block(30).bind().unwrap();
    let end = root.header().time().after(OPTIONS.trusting_period);
    let before = Time::from_unix(end.unix_seconds() - 1, end.nanos()).unwrap();
    let before = before.after(Duration::from_nanos(999_999_999));
    assert!(root.extend(block.clone(), &OPTIONS, before).is_ok());
    assert_eq!(root.extend(block, &OPTIONS, end).map(drop), invalid(Invalid::Expired));
}

/// The block of `height`, signed by the first so many of its validators. All have the same power.
fn signed_by(chain: &mut Chain, height: u64, signers: usize) -> UntrustedBlock {
    let mut block = chain.block(height);
    block.commit.entries.iter_mut().skip(signers).for_each(|entry| *entry = None);
    block
}

/// T-70: no power, exactly a third, more; exactly two thirds, more. Nine validators of the same power.
#[test]
fn the_thresholds_are_exact() {
    let spec = Spec { last: 40, validators: 9, power: 10, ..Spec::default() };
    let mut chain = Chain::new(spec);
    for signers in 1..=9 {
        let block = signed_by(&mut chain, 30, signers);
        let wanted = match signers {
            1..=3 => Err(Refusal::NotEnoughTrust(Tally { signed: signers as u64 * 10, total: 90 })),
            4..=6 => invalid(Invalid::NotEnoughSigned),
            _ => Ok(()),
        };
        assert_eq!(outcome(&mut chain, block), wanted, "{signers} signers");
        let block = signed_by(&mut chain, 2, signers);
        let wanted = if signers <= 6 { invalid(Invalid::NotEnoughSigned) } else { Ok(()) };
        assert_eq!(outcome(&mut chain, block), wanted, "{signers} signers, adjacent");
    }
    let block = signed_by(&mut chain, 30, 0);
    assert_eq!(outcome(&mut chain, block), invalid(Invalid::NobodySigned));
}

/// The next block has exactly the validators that were named, whoever signed it.
#[test]
fn the_next_block_is_signed_by_the_validators_that_were_named() {
    let mut chain = chain(4);
    let mut forged = chain.fork(2, Twist::Strangers);
    let block = forged.block(2);
    assert_eq!(outcome(&mut chain, block), invalid(Invalid::NextValidatorsHash));
    // Further up strangers have no trust at all.
    let block = forged.block(20);
    let none = Refusal::NotEnoughTrust(Tally { signed: 0, total: chain.set(2).total_power() });
    assert_eq!(outcome(&mut chain, block), Err(none));
}

/// CVE-2020-15091: a commit that is kept is checked whole, nil votes too, each in its validator's place.
#[test]
fn a_commit_that_is_kept_is_checked_whole() {
    let mut chain = chain(4);
    let verdict = |block: &UntrustedBlock, which| {
        verify_commits(&[block.clone().bind().unwrap()], which).remove(0)
    };
    let block = chain.block(20);
    assert_eq!(verdict(&block, Signatures::All), Ok(()));
    // The last signature is not needed for a quorum.
    let mut bad = block.clone();
    bad.commit.entries[3].as_mut().unwrap().signature.0[5] ^= 1;
    assert_eq!(verdict(&bad, Signatures::Quorum), Ok(()));
    assert_eq!(verdict(&bad, Signatures::All), Err(Invalid::Signature));
    let mut moved = block.clone();
    moved.commit.entries.swap(0, 1);
    assert_eq!(verdict(&moved, Signatures::Quorum), Ok(()));
    assert_eq!(verdict(&moved, Signatures::All), Err(Invalid::UnknownSigner));
    // A vote for nil has another signature than one for the block.
    // A quorum counts the same wherever the votes stand.
    for signers in [2, 3] {
        let mut few = block.clone();
        few.commit.entries.iter_mut().skip(signers).for_each(|entry| *entry = None);
        let mut moved = few.clone();
        moved.commit.entries.swap(0, 3);
        let wanted = if signers == 3 { Ok(()) } else { Err(Invalid::NotEnoughSigned) };
        assert_eq!(verdict(&few, Signatures::Quorum), wanted);
        assert_eq!(verdict(&moved, Signatures::Quorum), wanted);
    }
    let mut nil = block;
    nil.commit.entries[3].as_mut().unwrap().for_block = false;
    assert_eq!(verdict(&nil, Signatures::All), Err(Invalid::Signature));
}

#[test]
fn one_bad_commit_in_a_batch_is_found_and_the_others_are_good() {
    let mut chain = Chain::new(Spec { last: 40, mixed: true, validators: 6, ..Spec::default() });
    for bad in [vec![], vec![0], vec![38], vec![7, 8, 31], (0..39).collect()] {
        let blocks: Vec<_> = (1..40)
            .map(|height| {
                let mut block = chain.block(height);
                if bad.contains(&(usize::try_from(height).unwrap() - 1)) {
                    block.commit.entries[usize::try_from(height).unwrap() % 3]
                        .as_mut()
                        .unwrap()
                        .signature
                        .0[40] ^= 1;
                }
                block.bind().unwrap()
            })
            .collect();
        let verdicts = verify_commits(&blocks, Signatures::Quorum);
        for (index, verdict) in verdicts.iter().enumerate() {
            assert_eq!(verdict.is_err(), bad.contains(&index), "commit {index} of {bad:?}");
        }
    }
}

/// ZIP-215: a signature with a point of small order, which other rules refuse, is good in a batch as it is alone.
#[test]
fn a_batch_has_the_verdict_of_zip_215() {
    // Key and R are the point of order 1, s is 0: the equation holds for every message (speccheck's first case is of this kind).
    let key = {
        let mut bytes = [0; 32];
        bytes[0] = 1;
        tercet_consensus::key::PublicKey::ed25519(&bytes).unwrap()
    };
    let mut small = [0; 64];
    small[0] = 1;
    let set = Arc::new(Validators::new([(key, 10)]).unwrap());
    let chain = chain(4);
    let mut raw = pb::Header::decode(chain.header(5).bytes().clone()).unwrap();
    raw.validators_hash = set.hash().as_bytes().to_vec();
    raw.next_validators_hash = raw.validators_hash.clone();
    let header = Header::decode(raw.encode_to_vec().into()).unwrap();
    let mut commit = sign(&header, 0, vec![1]);
    let entry = commit.entries[0].as_mut().unwrap();
    entry.address = key.address();
    entry.signature.0 = small;
    let block = UntrustedBlock { header, commit, validators: set, next_validators: None };
    let blocks = vec![block.bind().unwrap(); 10];
    assert_eq!(verify_commits(&blocks, Signatures::All), vec![Ok(()); 10]);
}

#[test]
fn a_commit_with_too_many_entries_is_refused_before_anything_is_checked() {
    let raw = pb::Commit {
        height: 1,
        round: 0,
        block_id: Some(pb::BlockId {
            hash: vec![1; 32],
            part_set_header: Some(pb::PartSetHeader { total: 1, hash: vec![1; 32] }),
        }),
        signatures: vec![
            pb::CommitSig { block_id_flag: 1, ..Default::default() };
            SIGNATURES_MAX + 1
        ],
    };
    assert_eq!(Commit::from_proto(&raw), Err(CommitError::TooLarge));
    let bytes = vec![0; tercet_light_core::commit::COMMIT_BYTES_MAX + 1];
    assert_eq!(Commit::decode(&bytes), Err(CommitError::TooLarge));
}

#[test]
fn a_header_has_one_encoding() {
    let chain = chain(4);
    let raw = chain.header(7).bytes().to_vec();
    let refused = |bytes: Vec<u8>| assert!(Header::decode(bytes.into()).is_err());
    assert_eq!(Header::decode(raw.clone().into()).unwrap().hash(), chain.hash(7));
    // A field that is unknown, one that stands twice, a longer varint, a default that is written out, nothing.
    refused([raw.as_slice(), &[0x7a, 0x01, 0x00]].concat());
    refused([raw.as_slice(), &raw[raw.len() - 22..]].concat());
    let at = raw.windows(2).position(|pair| pair == [0x18, 0x07]).unwrap();
    refused([&raw[..at], &[0x18, 0x87, 0x00], &raw[at + 2..]].concat());
    refused([&raw[..at], &[0x18, 0x00], &raw[at + 2..]].concat());
    refused([&raw[..at], &raw[at + 2..]].concat());
    refused(vec![]);
    refused(vec![0; HEADER_BYTES_MAX + 1]);
    for length in 0..raw.len() {
        refused(raw[..length].to_vec());
    }
}

#[test]
fn any_change_of_a_header_is_refused_or_changes_its_hash() {
    let chain = chain(4);
    let raw = chain.header(7).bytes().to_vec();
    for at in 0..raw.len() {
        for bit in 0..8 {
            let mut changed = raw.clone();
            changed[at] ^= 1 << bit;
            if let Ok(header) = Header::decode(changed.into()) {
                assert_ne!(header.hash(), chain.hash(7), "byte {at}, bit {bit}");
            }
        }
    }
}

#[test]
fn headers_have_the_hash_of_the_tendermint_crate() {
    let chain = Chain::new(Spec { last: 60, rotate_count: 1, commits: true, ..Spec::default() });
    for height in 1..=60 {
        let header = chain.header(height);
        assert_eq!(header.hash().to_tendermint(), header.to_tendermint().unwrap().hash());
        let again = Header::from_tendermint(&header.to_tendermint().unwrap()).unwrap();
        assert_eq!(again.bytes(), header.bytes());
    }
    // Fields that are empty, an application hash that is long, the first block as CometBFT writes it.
    let raw = pb::Header::decode(chain.header(1).bytes().clone()).unwrap();
    for app_hash in [vec![], vec![1; 8], vec![2; 127], vec![3; 128], vec![4; 1_000]] {
        let mut raw = raw.clone();
        raw.app_hash = app_hash;
        raw.evidence_hash = vec![];
        raw.data_hash = vec![];
        let header = Header::decode(raw.encode_to_vec().into()).unwrap();
        assert_eq!(header.hash().to_tendermint(), header.to_tendermint().unwrap().hash());
        raw.last_block_id =
            Some(pb::BlockId { hash: vec![], part_set_header: Some(pb::PartSetHeader::default()) });
        let comet = Header::decode(raw.encode_to_vec().into()).unwrap();
        assert_eq!((comet.hash(), comet.last_block()), (header.hash(), None));
    }
}

#[test]
fn runs_are_linked_by_hash_height_chain_time_and_validators() {
    let chain = Chain::new(Spec { last: 40, rotate_count: 1, ..Spec::default() });
    let chain_id = chain.spec.chain_id.clone();
    let request = RunRequest { chain_id, low: 5, high: 20 };
    let raw = |heights: std::ops::RangeInclusive<u64>| -> Vec<Bytes> {
        heights.map(|height| chain.header(height).bytes().clone()).collect()
    };
    let link = |answer| LinkedRun::link(&request, answer).map(|run| (run.low(), run.high()));
    assert_eq!(link(raw(5..=20)), Ok((5, 20)));
    // Fewer from the top down are an answer; from the bottom up, more, or none are not.
    assert_eq!(link(raw(11..=20)), Ok((11, 20)));
    assert_eq!(link(raw(5..=19)), Err(RunError::Other(6)));
    assert_eq!(link(raw(4..=20)), Err(RunError::Length));
    assert_eq!(link(vec![]), Err(RunError::Length));
    let mut answer = raw(5..=20);
    answer[7] = changed(chain.header(12)).bytes().clone();
    assert_eq!(link(answer), Err(RunError::Unlinked(13)));
    let mut answer = raw(5..=20);
    answer.swap(3, 4);
    assert_eq!(link(answer), Err(RunError::Other(8)));
    let mut answer = raw(5..=20);
    answer[0] = Bytes::from_static(b"garbage");
    assert_eq!(link(answer), Err(RunError::Malformed(5)));
    let other = RunRequest { chain_id: "another".to_owned(), ..request.clone() };
    assert!(matches!(LinkedRun::link(&other, raw(5..=20)), Err(RunError::Other(5))));
}

#[test]
fn trust_levels_are_between_a_third_and_one_and_their_arithmetic_does_not_overflow() {
    assert!(TrustLevel::new(1, 3).is_ok());
    assert!(TrustLevel::new(1, 1).is_ok());
    for (numerator, denominator) in [(0, 1), (1, 4), (4, 3), (1, 0), (0, 0)] {
        assert!(TrustLevel::new(numerator, denominator).is_err(), "{numerator}/{denominator}");
    }
    let level = TrustLevel::new(u64::MAX / 2, u64::MAX).unwrap();
    assert!(!level.is_met(u64::MAX / 2 - 1, u64::MAX));
    assert!(level.is_met(u64::MAX, u64::MAX));
    assert!(!TrustLevel::TWO_THIRDS.is_met(6, 9));
    assert!(TrustLevel::TWO_THIRDS.is_met(7, 9));
}
