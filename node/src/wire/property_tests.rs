//! Round trips of arbitrary messages, and no panic on any bytes.

use super::samples::{block, height, records, signature, view};
use super::*;
use bytes::Bytes;
use proptest::prelude::*;
use std::sync::LazyLock;
use tendermint::block::parts::Header as PartSetHeader;
use tendermint::{Hash, Time};
use tercet_consensus::block::BlockId;
use tercet_consensus::block::HEIGHT_MAX;
use tercet_consensus::commit::{Commit, CommitSig};
use tercet_consensus::key::Address;
use tercet_consensus::message::{
    Certificate, Extension, Justification, Message, Phase, PrePrepare, PreparedClaim, Proposal,
    Signed, SignedVote, ViewChange, ViewChangeMessage, Vote,
};
use tercet_consensus::status::{Bitmap, Status};
use tercet_consensus::validators::VALIDATORS_MAX;
use tercet_consensus::view::View;

const CASES: u32 = 10_000;

fn heights() -> impl Strategy<Value = tendermint::block::Height> {
    (0..=HEIGHT_MAX).prop_map(height)
}

fn views() -> impl Strategy<Value = View> {
    (0..=View::MAX.number()).prop_map(view)
}

fn ids() -> impl Strategy<Value = BlockId> {
    any::<([u8; 32], u32, [u8; 32])>().prop_map(|(hash, total, parts)| BlockId {
        hash: Hash::Sha256(hash),
        part_set_header: PartSetHeader::new(total.max(1), Hash::Sha256(parts)).unwrap(),
    })
}

fn times() -> impl Strategy<Value = Time> {
    (-60_000_000_000i64..250_000_000_000, 0u32..1_000_000_000)
        .prop_map(|(seconds, nanos)| Time::from_unix_timestamp(seconds, nanos).unwrap())
}

fn addresses() -> impl Strategy<Value = Address> {
    any::<[u8; 20]>().prop_map(Address::new)
}

fn indices() -> impl Strategy<Value = u32> {
    0..u32::try_from(VALIDATORS_MAX).unwrap()
}

fn extensions() -> impl Strategy<Value = Option<Extension>> {
    let extension = (prop::collection::vec(any::<u8>(), 0..40), any::<u8>())
        .prop_map(|(data, n)| Extension { data: data.into(), signature: signature(n) });
    prop::option::of(extension)
}

prop_compose! {
    fn votes()(
        prepare in any::<bool>(), height in heights(), view in views(), block_id in ids(),
        time in times(), validator in addresses(), index in indices(), extension in extensions(),
        n in any::<u8>(),
    ) -> SignedVote {
        let phase = if prepare { Phase::Prepare } else { Phase::Commit };
        let message = Vote { phase, height, view, block_id, time, validator, index, extension };
        Signed { message, signature: signature(n) }
    }
}

prop_compose! {
    fn certificates()(
        height in heights(), view in views(), block_id in ids(),
        mut votes in prop::collection::vec(votes(), 0..5),
    ) -> Certificate {
        for Signed { message: vote, .. } in &mut votes {
            (vote.height, vote.view, vote.block_id) = (height, view, block_id);
            (vote.phase, vote.extension) = (Phase::Prepare, None);
        }
        Certificate { height, view, block_id, votes }
    }
}

prop_compose! {
    fn view_changes()(
        height in heights(), view in views(), claim in prop::option::of((views(), ids())),
        validator in addresses(), index in indices(), n in any::<u8>(),
    ) -> Signed<ViewChange> {
        let prepared = claim.map(|(view, block_id)| PreparedClaim { view, block_id });
        let message = ViewChange { height, view, prepared, validator, index };
        Signed { message, signature: signature(n) }
    }
}

prop_compose! {
    fn pre_prepares()(
        height in heights(), view in views(), prepared_view in prop::option::of(views()),
        block_id in ids(), time in times(), n in any::<u8>(),
        justification in prop::option::of((
            prop::collection::vec(view_changes(), 0..4), prop::option::of(certificates()),
        )),
    ) -> PrePrepare {
        let message = Proposal { height, view, prepared_view, block_id, time };
        let justification = justification
            .map(|(view_changes, certificate)| Justification { view_changes, certificate });
        PrePrepare { proposal: Signed { message, signature: signature(n) }, justification }
    }
}

prop_compose! {
    fn commits()(
        height in heights(), view in views(), block_id in ids(),
        entries in prop::collection::vec(
            prop::option::of((addresses(), times(), any::<u8>(), extensions())), 0..6,
        ),
    ) -> Commit {
        let entry = |(address, time, n, extension)| {
            CommitSig { address, time, signature: signature(n), extension }
        };
        let signatures = entries.into_iter().map(|e| e.map(entry)).collect();
        Commit { height, view, block_id, signatures }
    }
}

fn voters() -> impl Strategy<Value = Vec<(View, Bitmap)>> {
    let bits = prop::collection::vec(any::<u8>(), 0..9).prop_map(Bitmap::from_bytes);
    prop::collection::vec((views(), bits), 0..4)
}

prop_compose! {
    fn statuses()(
        height in heights(), (start_view, view) in (views(), views()),
        pre_prepares in prop::collection::vec(ids(), 0..3),
        (prepares, commits) in (voters(), voters()),
        view_changes in prop::collection::vec((indices(), views()), 0..4),
        blocks in prop::collection::vec(ids(), 0..3),
        direct in prop::collection::vec(any::<u8>(), 0..9).prop_map(Bitmap::from_bytes),
        lacks_extensions in any::<bool>(),
    ) -> Status {
        Status {
            height, start_view, view, pre_prepares, prepares, commits, view_changes, blocks, direct,
            lacks_extensions,
        }
    }
}

fn consensus() -> impl Strategy<Value = Consensus> {
    let view_change = (view_changes(), prop::option::of(certificates()))
        .prop_map(|(signed, certificate)| ViewChangeMessage { signed, certificate });
    prop_oneof![
        pre_prepares().prop_map(|m| Consensus::Message(Message::PrePrepare(m))),
        votes().prop_map(|m| Consensus::Message(Message::Vote(m))),
        view_change.prop_map(|m| Consensus::Message(Message::ViewChange(m))),
        commits().prop_map(|m| Consensus::Message(Message::Prior(m))),
        statuses().prop_map(Consensus::Status),
        (heights(), ids())
            .prop_map(|(height, block_id)| Consensus::FetchBlock(FetchBlock { height, block_id })),
    ]
}

fn bytes_of(message: &Consensus) -> Bytes {
    match message.encode() {
        Frame::Consensus(bytes) | Frame::Body(bytes) => bytes,
    }
}

/// Every valid frame and record there is.
static FRAMES: LazyLock<Vec<Bytes>> = LazyLock::new(|| {
    let consensus = samples::consensus().into_iter().map(|(_, message)| bytes_of(&message));
    let sync = samples::sync().into_iter().map(|(_, message)| message.encode());
    let records = records().into_iter().map(|(_, record)| Bytes::from(encode_record(&record)));
    let last = samples::commit(4, samples::block_id(), false);
    let others = [
        Body::encode(&block(5, 3, Some(last))),
        encode_transactions(vec!["a=1".into(), "b=2".into()]),
        encode_commit(&samples::commit(5, samples::block_id(), true)),
        block(5, 3, None).bytes().clone(),
    ];
    consensus.chain(sync).chain(records).chain(others).collect()
});

/// Gives the bytes to every decoder, and what comes out back to its encoder.
fn decode_everything(bytes: &Bytes) {
    if let Ok(message) = Consensus::decode(bytes.clone()) {
        assert_eq!(Consensus::decode(bytes_of(&message)), Ok(message));
    }
    let limits = ResponseLimits { items_max: 10, bytes_max: 1 << 20 };
    if let Ok(message) = Sync::decode(bytes.clone(), |_| Some(limits)) {
        assert_eq!(Sync::decode(message.encode(), |_| Some(limits)).as_ref(), Ok(&message));
        if let Sync::Response(response) = message {
            for item in response.items {
                let _ = item.decode(ItemLimits { block_bytes_max: 1 << 20, validators: 10 });
            }
        }
    }
    if let Ok(record) = decode_record(bytes.clone()) {
        assert_eq!(decode_record(encode_record(&record).into()), Ok(record));
    }
    if let Ok(body) = Body::decode(bytes.clone()) {
        let _ = body.block(1 << 20);
    }
    let _ = decode_block(bytes.clone(), 1 << 20);
    let _ = decode_last_commit(bytes);
    let _ = decode_commit(bytes);
    let _ = decode_transactions(bytes.clone());
}

proptest! {
    #[test]
    fn a_consensus_message_comes_back(message in consensus()) {
        prop_assert_eq!(Consensus::decode(bytes_of(&message)), Ok(message));
    }

    #[test]
    fn a_commit_comes_back(commit in commits()) {
        prop_assert_eq!(decode_commit(&encode_commit(&commit)), Ok(commit));
    }

    #[test]
    fn transactions_come_back(txs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20)) {
        let txs: Vec<Bytes> = txs.into_iter().map(Bytes::from).collect();
        prop_assert_eq!(decode_transactions(encode_transactions(txs.clone())).map(|t| t.txs), Ok(txs));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        decode_everything(&bytes.into());
    }

    #[test]
    fn damaged_frames_never_panic(
        which in any::<prop::sample::Index>(), flips in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = which.get(&FRAMES).to_vec();
        for (at, mask) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        decode_everything(&bytes.into());
    }
}

#[test]
fn another_version_is_refused() {
    for bytes in FRAMES.iter() {
        // Every frame begins with the field of its version; a bare block or commit has none.
        if bytes.starts_with(&[0x08, 1]) {
            let mut bytes = bytes.to_vec();
            bytes[1] = 2;
            let bytes = Bytes::from(bytes);
            assert!(Consensus::decode(bytes.clone()).is_err());
            assert!(Sync::decode(bytes.clone(), |_| None).is_err());
            assert!(decode_record(bytes.clone()).is_err());
            assert!(Body::decode(bytes.clone()).is_err());
            assert!(decode_transactions(bytes).is_err());
        }
    }
    assert!(Consensus::decode(Bytes::new()).is_err());
}

#[test]
fn too_many_pieces_of_evidence_are_refused_before_they_are_decoded() {
    let most = encode_pieces(vec![Bytes::new(); PIECES_MAX]);
    assert_eq!(decode_transactions(most).map(|found| found.evidence.len()), Ok(PIECES_MAX));
    let more = encode_pieces(vec![Bytes::new(); PIECES_MAX + 1]);
    assert_eq!(decode_transactions(more), Err(Reject::TooLarge));
}

/// A hash covers the bytes: one encoding, and not too many elements.
#[test]
fn evidence_in_another_encoding_or_too_large_is_refused() {
    let samples = include_str!("../evidence/samples/cometbft.txt").lines();
    let protos = samples.filter_map(|line| line.split_once(" proto "));
    for bytes in protos.map(|(_, proto)| hex::decode(proto).unwrap()) {
        assert!(decode_evidence(&bytes).is_ok());
        // An unknown field at the end, which a decoder would drop.
        let unknown = [&bytes[..], &[0x7a, 0]].concat();
        assert!(matches!(decode_evidence(&unknown), Err(Reject::Malformed(_))));
        assert!(decode_evidence(&bytes[..bytes.len() - 1]).is_err());
    }
    assert_eq!(decode_evidence(&vec![0; 1_048_577]), Err(Reject::TooLarge));
    // A light block of ten thousand and one empty validators.
    let validators = [0x0a, 0].repeat(10_001);
    let field = |tag: u8, inside: Vec<u8>| {
        let mut bytes = vec![tag];
        prost::encode_length_delimiter(inside.len(), &mut bytes).unwrap();
        [bytes, inside].concat()
    };
    let attack = field(0x12, field(0x0a, field(0x12, validators)));
    assert_eq!(decode_evidence(&attack), Err(Reject::TooLarge));
}

#[test]
fn too_many_transactions_are_refused_before_they_are_decoded() {
    let most = encode_transactions(vec![Bytes::new(); TXS_MAX]);
    assert_eq!(decode_transactions(most).map(|found| found.txs.len()), Ok(TXS_MAX));
    let more = encode_transactions(vec![Bytes::new(); TXS_MAX + 1]);
    assert_eq!(decode_transactions(more), Err(Reject::TooLarge));
}

#[test]
fn transactions_share_the_frame() {
    let frame = encode_transactions(vec![Bytes::from(vec![7; 1000])]);
    let txs = decode_transactions(frame.clone()).unwrap().txs;
    assert!(frame.as_ptr_range().contains(&txs[0].as_ptr()));
    let block = block(5, 2, None);
    let frame = Body::encode(&block);
    let body = Body::decode(frame.clone()).unwrap();
    assert!(frame.as_ptr_range().contains(&body.block(1 << 20).unwrap().txs()[0].as_ptr()));
}

#[test]
fn a_certificate_of_too_many_votes_is_refused() {
    let mut certificate = samples::certificate();
    certificate.votes = vec![certificate.votes[0].clone(); VALIDATORS_MAX + 1];
    let signed = samples::view_change_message().signed;
    let message = ViewChangeMessage { signed, certificate: Some(certificate) };
    let bytes = bytes_of(&Consensus::Message(Message::ViewChange(message)));
    assert_eq!(Consensus::decode(bytes), Err(Reject::TooLarge));
}

#[test]
fn a_commit_of_too_many_entries_is_refused() {
    let mut commit = samples::commit(5, samples::block_id(), false);
    commit.signatures = vec![None; VALIDATORS_MAX + 1];
    assert_eq!(decode_commit(&encode_commit(&commit)), Err(Reject::TooLarge));
}

#[test]
fn a_body_of_another_height_is_refused() {
    let body = Body { height: height(6), bytes: block(5, 2, None).bytes().clone() };
    assert_eq!(body.block(1 << 20), Err(Reject::Height));
    let body = Body { height: height(5), bytes: block(5, 2, None).bytes().clone() };
    assert_eq!(body.block(10), Err(Reject::TooLarge));
}

#[test]
fn a_response_that_was_not_asked_for_or_is_above_its_limits_is_refused() {
    let (_, response) = samples::sync().remove(1);
    let decode = |limits| Sync::decode(response.encode(), |_| limits);
    assert_eq!(decode(None), Err(Reject::Malformed("not asked for")));
    let one = ResponseLimits { items_max: 1, bytes_max: 1 << 20 };
    assert_eq!(decode(Some(one)), Err(Reject::TooLarge));
    let small = ResponseLimits { items_max: 2, bytes_max: 100 };
    assert_eq!(decode(Some(small)), Err(Reject::TooLarge));
}

#[test]
fn a_vote_of_height_2_to_the_63_is_refused() {
    let mut bytes = Vec::new();
    prost::encoding::uint64::encode(2, &(1u64 << 63), &mut bytes);
    let mut vote = vec![0x08, 1, 0x1a];
    vote.push(u8::try_from(bytes.len()).unwrap() + 2);
    vote.extend([0x08, 1]);
    vote.extend(bytes);
    assert_eq!(Consensus::decode(vote.into()), Err(Reject::Malformed("height")));
}

#[test]
fn the_last_commit_of_a_block_is_read_alone() {
    let last = samples::commit(4, samples::block_id(), false);
    let with = block(5, 3, Some(last.clone()));
    assert_eq!(decode_last_commit(with.bytes()), Ok(Some(last)));
    assert_eq!(decode_last_commit(block(5, 3, None).bytes()), Ok(None));
}

#[test]
fn a_frame_that_is_cut_anywhere_is_refused() {
    for frame in FRAMES.iter() {
        for cut in 0..frame.len() {
            let cut = frame.slice(..cut);
            decode_everything(&cut);
            let whole = |decoded: Option<Consensus>| {
                decoded.is_some_and(|message| bytes_of(&message) == *frame)
            };
            assert!(!whole(Consensus::decode(cut).ok()));
        }
    }
}

/// A length of 4 GiB less one, of the field `tag`, inside the message of each field of `path`.
fn announced(path: &[u8], tag: u8) -> Bytes {
    let mut bytes = vec![tag << 3 | 2, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3];
    for outer in path.iter().rev() {
        let length = u8::try_from(bytes.len()).unwrap();
        bytes.splice(0..0, [outer << 3 | 2, length]);
    }
    bytes.splice(0..0, [0x08, 1]);
    bytes.into()
}

#[test]
fn a_length_that_is_not_there_is_refused_before_it_is_believed() {
    for tag in 1..16 {
        for outer in 1..16 {
            for path in [&[][..], &[outer], &[outer, 1], &[outer, 2], &[outer, 2, 2]] {
                let bytes = announced(path, tag);
                assert!(Consensus::decode(bytes.clone()).is_err());
                assert!(Sync::decode(bytes.clone(), |_| None).is_err());
                assert!(decode_record(bytes.clone()).is_err());
                assert!(decode_block(bytes.clone(), 1 << 20).is_err());
                decode_everything(&bytes);
            }
        }
    }
}
