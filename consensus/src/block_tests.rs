//! Blocks: the encoding is canonical and complete, and no bytes cost more than they weigh.

use crate::block::{
    Block, EVIDENCE_BYTES_MAX, EVIDENCE_MAX, HEIGHT_MAX, SealedBlock, TRANSACTIONS_MAX,
    evidence_hash, tx_hashes,
};
use crate::commit::{Commit, CommitSig};
use crate::message::Phase;
use crate::testing::cluster::header;
use crate::testing::messages::{Signers, block_id, view};
use crate::validators::VALIDATORS_MAX;
use crate::verify::Reject;
use bytes::Bytes;
use proptest::prelude::*;
use tendermint::block::Height;
use tendermint_proto::v0_38::types as pb;

const MAX: usize = 64 << 20;

fn commit(present: &[u32]) -> Commit {
    let s = Signers::new(&[4, 3, 2, 1], 4);
    let entry = |index| {
        let vote = s.vote(Phase::Commit, index, 1, block_id(4));
        let (address, time) = (vote.message.validator, vote.message.time);
        let entry = CommitSig { address, time, signature: vote.signature, extension: None };
        present.contains(&index).then_some(entry)
    };
    let signatures = (0..4).map(entry).collect();
    Commit { height: Height::from(4u32), view: view(1), block_id: block_id(4), signatures }
}

fn sealed(txs: Vec<Bytes>, last_commit: Option<Commit>) -> SealedBlock {
    let s = Signers::new(&[4, 3, 2, 1], 5);
    let time = tendermint::Time::from_unix_timestamp(1_700_000_000, 5).unwrap();
    let proposer = s.validators.at(0).unwrap().address;
    let height = last_commit.as_ref().map_or(Height::from(1u32), |c| c.height.increment());
    let header = header(height, time, proposer, &s.validators, last_commit.as_ref());
    let evidence = pb::EvidenceList::default();
    SealedBlock::seal(Block { header, txs, evidence, last_commit })
}

proptest! {
    #[test]
    fn a_sealed_block_decodes_to_itself(
        txs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        present in prop::collection::vec(0u32..4, 0..4),
        first in any::<bool>(),
    ) {
        let txs: Vec<Bytes> = txs.into_iter().map(Bytes::from).collect();
        let block = sealed(txs.clone(), (!first).then(|| commit(&present)));
        prop_assert_eq!(block.txs(), &txs[..]);
        prop_assert_eq!(block.tx_hashes(), &tx_hashes(&txs)[..]);
        let decoded = SealedBlock::decode(block.bytes().clone(), MAX).unwrap();
        prop_assert_eq!(&decoded, &block);
        prop_assert_eq!(decoded.id(), block.id());
    }

    /// S13: no bytes cause a panic; what decodes is canonical.
    #[test]
    fn no_bytes_cause_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let bytes = Bytes::from(bytes);
        if let Ok(block) = SealedBlock::decode(bytes.clone(), MAX) {
            prop_assert_eq!(block.bytes(), &bytes);
        }
    }

    /// J9: "parts hash to the part-set header and the header to its hash": no byte of a block can be changed and keep its id.
    #[test]
    fn a_changed_byte_changes_the_id_or_is_refused(at in any::<prop::sample::Index>(), by in 1u8..) {
        let block = sealed(vec![Bytes::from_static(b"a=b")], Some(commit(&[0, 1, 2])));
        let mut bytes = block.bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = bytes[at].wrapping_add(by);
        if let Ok(other) = SealedBlock::decode(Bytes::from(bytes), MAX) {
            prop_assert_ne!(other.id(), block.id());
        }
    }

    /// J9, where the header stays as it is: the bytes of the transactions, and those of the last commit, are covered by its hashes.
    #[test]
    fn a_header_covers_its_whole_block(by in 1u8..) {
        let last = commit(&[0, 1, 2]);
        let block = sealed(vec![Bytes::from_static(b"a=b")], Some(last.clone()));
        let signature = last.signatures[0].as_ref().unwrap().signature.0;
        for part in [&b"a=b"[..], &signature[..]] {
            let mut bytes = block.bytes().to_vec();
            let at = bytes.windows(part.len()).position(|window| window == part).unwrap();
            bytes[at] = bytes[at].wrapping_add(by);
            let refused = SealedBlock::decode(Bytes::from(bytes), MAX).map(drop);
            prop_assert!(matches!(refused, Err(Reject::Malformed(_))));
        }
    }

    #[test]
    fn a_truncated_block_is_refused(cut in any::<prop::sample::Index>()) {
        let block = sealed(vec![Bytes::from_static(b"a=b")], Some(commit(&[0, 1, 2])));
        let bytes = block.bytes().slice(..cut.index(block.bytes().len()));
        prop_assert!(SealedBlock::decode(bytes, MAX).is_err());
    }
}

#[test]
fn another_encoding_of_the_same_block_is_refused() {
    let block = sealed(vec![Bytes::from_static(b"a=b")], Some(commit(&[0, 1, 2])));
    let mut unknown_field = block.bytes().to_vec();
    unknown_field.extend([0x7a, 0x00]);
    assert!(SealedBlock::decode(Bytes::from(unknown_field), MAX).is_err());
    let mut twice = block.bytes().to_vec();
    twice.extend([0x12, 0x00]);
    assert!(SealedBlock::decode(Bytes::from(twice), MAX).is_err(), "an empty second data field");
}

/// A height that cannot be counted on from ends whoever tries: neither the block's nor that of its last commit is taken.
#[test]
fn heights_at_the_end_of_the_numbers_are_refused() {
    let limit = Height::try_from(HEIGHT_MAX).unwrap();
    let last = Height::try_from(i64::MAX as u64).unwrap();
    for (block_height, commit_height, taken) in
        [(limit, limit, true), (limit.increment(), limit, false), (limit, limit.increment(), false)]
            .into_iter()
            .chain([(last, limit, false), (limit, last, false)])
    {
        let sealed = sealed(Vec::new(), Some(commit(&[0, 1, 2])));
        let mut block = sealed.block().clone();
        block.header.height = block_height;
        block.last_commit.as_mut().unwrap().height = commit_height;
        let bytes = SealedBlock::seal(block).bytes().clone();
        assert_eq!(
            SealedBlock::decode(bytes, MAX).is_ok(),
            taken,
            "{block_height} {commit_height}"
        );
    }
}

#[test]
fn a_block_above_the_limit_is_refused_before_it_is_decoded() {
    let block = sealed(vec![Bytes::from(vec![0; 1_000])], None);
    let size = block.bytes().len();
    assert!(SealedBlock::decode(block.bytes().clone(), size).is_ok());
    assert_eq!(
        SealedBlock::decode(block.bytes().clone(), size - 1).map(drop),
        Err(Reject::TooLarge)
    );
}

/// A field of the block that holds `count` empty messages or transactions, two bytes each.
fn many(field: u8, inner: u8, count: usize) -> Vec<u8> {
    let mut bytes = vec![field << 3 | 2];
    prost::encode_length_delimiter(2 * count, &mut bytes).unwrap();
    bytes.extend([inner << 3 | 2, 0].repeat(count));
    bytes
}

/// "Bound before allocate; bound with the same parser that decodes": a block of two-byte elements would take a hundred times its size.
#[test]
fn millions_of_empty_elements_are_refused_before_they_are_decoded() {
    let transactions = many(2, 1, TRANSACTIONS_MAX + 1);
    let evidence = many(3, 1, 200_000);
    let signatures = many(4, 4, 200_000);
    let hidden = [transactions.clone(), vec![0x12, 0]].concat();
    for bytes in [transactions, hidden, evidence, signatures] {
        assert_eq!(SealedBlock::decode(Bytes::from(bytes), MAX).map(drop), Err(Reject::TooLarge));
    }
}

#[test]
fn a_block_may_hold_as_much_as_each_limit_says_and_nothing_more() {
    let too_large = |bytes: Vec<u8>| {
        SealedBlock::decode(Bytes::from(bytes), MAX).map(drop) == Err(Reject::TooLarge)
    };
    // Height, round and block id stand beside the signatures.
    let limits = [(2, 1, TRANSACTIONS_MAX), (3, 1, EVIDENCE_MAX), (4, 4, VALIDATORS_MAX + 3)];
    for (field, inner, limit) in limits {
        assert!(!too_large(many(field, inner, limit)), "{limit} in field {field}");
        assert!(too_large(many(field, inner, limit + 1)), "{limit} and one more in field {field}");
    }
    // One piece of evidence, of which the field is so long.
    let evidence = |length: usize| {
        let mut piece = vec![1 << 3 | 2];
        prost::encode_length_delimiter(length - 4, &mut piece).unwrap();
        piece.resize(length, 0);
        let mut bytes = vec![3 << 3 | 2];
        prost::encode_length_delimiter(length, &mut bytes).unwrap();
        bytes.extend(piece);
        bytes
    };
    assert!(!too_large(evidence(EVIDENCE_BYTES_MAX)));
    assert!(too_large(evidence(EVIDENCE_BYTES_MAX + 1)));
}

/// Go's encoder writes the empty block id of a last commit that is not there.
#[test]
fn the_initial_block_has_an_empty_last_commit_with_an_empty_block_id() {
    let bytes = sealed(Vec::new(), None).bytes().clone();
    let last_commit = [4 << 3 | 2, 4, 3 << 3 | 2, 2, 2 << 3 | 2, 0];
    assert!(bytes.ends_with(&last_commit), "{bytes:02x?}");
}

/// CometBFT `types/evidence.go`: a leaf is the bare piece of evidence, without the message that says of which kind it is.
#[test]
fn the_evidence_hash_is_over_bare_evidence() {
    use prost::Message as _;
    let inner = pb::DuplicateVoteEvidence { total_voting_power: 7, ..Default::default() };
    let sum = Some(pb::evidence::Sum::DuplicateVoteEvidence(inner.clone()));
    let list = pb::EvidenceList { evidence: vec![pb::Evidence { sum }] };
    assert_eq!(evidence_hash(&list), crate::merkle::root(&[inner.encode_to_vec()]));
    assert_eq!(evidence_hash(&pb::EvidenceList::default()), crate::merkle::root(&[] as &[[u8; 0]]));
}

#[test]
fn evidence_that_the_header_does_not_cover_is_refused() {
    let bytes = sealed(Vec::new(), None).bytes().to_vec();
    // No evidence, then the last commit.
    let at = bytes.windows(3).rposition(|bytes| bytes == [0x1a, 0, 0x22]).unwrap();
    let other = [&bytes[..at], &[0x1a, 2, 0x0a, 0], &bytes[at + 2..]].concat();
    assert_eq!(
        SealedBlock::decode(Bytes::from(other), MAX).map(drop),
        Err(Reject::Malformed("the header does not cover the block"))
    );
}
