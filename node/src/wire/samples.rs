//! One message of every kind, from deterministic keys.

use super::{Consensus, FetchBlock, SyncItem, SyncRequest, SyncResponse, SyncTip};
use bytes::Bytes;
use std::sync::Arc;
use tendermint::block::{Height, header::Version};
use tendermint::{Hash, Time};
use tercet_consensus::block::{Block, BlockId, SealedBlock};
use tercet_consensus::commit::{Commit, CommitSig};
#[cfg(test)]
use tercet_consensus::key::Signature;
use tercet_consensus::message::{
    Certificate, Extension, Justification, Message, Phase, PrePrepare, PreparedClaim, Proposal,
    Signed, SignedVote, ViewChange, ViewChangeMessage, Vote,
};
use tercet_consensus::record::{Cause, Record};
use tercet_consensus::sign_bytes;
use tercet_consensus::status::{Bitmap, Status};
use tercet_consensus::testing::{public, sign, validators};
use tercet_consensus::view::View;

/// The chain of the samples.
pub(crate) const CHAIN_ID: &str = "golden-chain";

pub(crate) fn height(value: u64) -> Height {
    Height::try_from(value).expect("a valid sample")
}

pub(crate) fn view(number: u32) -> View {
    View::new(number).expect("a valid sample")
}

pub(crate) fn time(seconds: i64) -> Time {
    Time::from_unix_timestamp(1_700_000_000 + seconds, 123_456_789).expect("a valid sample")
}

/// A block of height `at` with `txs` transactions, after `last_commit`.
pub(crate) fn block(at: u64, txs: u8, last_commit: Option<Commit>) -> Arc<SealedBlock> {
    let set = validators(&[4, 3, 2, 1]);
    let header = tendermint::block::Header {
        version: Version { block: 11, app: 1 },
        chain_id: CHAIN_ID.parse().expect("a valid sample"),
        height: height(at),
        time: time(0),
        last_block_id: last_commit.as_ref().map(|commit| commit.block_id),
        last_commit_hash: None,
        data_hash: None,
        validators_hash: set.hash(),
        next_validators_hash: set.hash(),
        consensus_hash: Hash::Sha256([7; 32]),
        app_hash: vec![1, 2, 3].try_into().expect("a valid sample"),
        last_results_hash: None,
        evidence_hash: None,
        proposer_address: public(0).address(),
    };
    let txs = (0..txs).map(|n| Bytes::from(vec![n; 3])).collect();
    let evidence = tendermint_proto::v0_38::types::EvidenceList::default();
    Arc::new(SealedBlock::seal(Block { header, txs, evidence, last_commit }))
}

pub(crate) fn block_id() -> BlockId {
    block(5, 2, None).id()
}

pub(crate) fn plain_vote(n: u8, phase: Phase) -> Vote {
    Vote {
        phase,
        height: height(5),
        view: view(3),
        block_id: block_id(),
        time: time(i64::from(n)),
        validator: public(n).address(),
        index: n.into(),
        extension: None,
    }
}

fn signed(n: u8, vote: Vote) -> SignedVote {
    Signed { signature: sign(n, &sign_bytes::vote(CHAIN_ID, &vote)), message: vote }
}

pub(crate) fn vote(n: u8, phase: Phase) -> SignedVote {
    signed(n, plain_vote(n, phase))
}

pub(crate) fn extended_vote(n: u8) -> SignedVote {
    let mut vote = plain_vote(n, Phase::Commit);
    let data = Bytes::from_static(b"extension");
    let signature = sign(n, &sign_bytes::extension(CHAIN_ID, &vote, &data));
    vote.extension = Some(Extension { data, signature });
    signed(n, vote)
}

pub(crate) fn certificate() -> Certificate {
    Certificate {
        height: height(5),
        view: view(3),
        block_id: block_id(),
        votes: (0..3).map(|n| vote(n, Phase::Prepare)).collect(),
    }
}

pub(crate) fn proposal() -> Proposal {
    Proposal {
        height: height(5),
        view: view(4),
        prepared_view: Some(view(3)),
        block_id: block_id(),
        time: time(0),
    }
}

pub(crate) fn view_change(n: u8) -> ViewChange {
    let prepared = (n == 0).then(|| PreparedClaim { view: view(3), block_id: block_id() });
    let validator = public(n).address();
    ViewChange { height: height(5), view: view(4), prepared, validator, index: n.into() }
}

fn signed_view_change(n: u8) -> Signed<ViewChange> {
    let message = view_change(n);
    Signed { signature: sign(n, &sign_bytes::view_change(CHAIN_ID, &message)), message }
}

pub(crate) fn new_view() -> PrePrepare {
    let message = proposal();
    let signature = sign(1, &sign_bytes::proposal(CHAIN_ID, &message));
    PrePrepare {
        proposal: Signed { message, signature },
        justification: Some(Justification {
            view_changes: (0..3).map(signed_view_change).collect(),
            certificate: Some(certificate()),
        }),
    }
}

pub(crate) fn fresh() -> PrePrepare {
    let message = Proposal { prepared_view: None, ..proposal() };
    let signature = sign(1, &sign_bytes::proposal(CHAIN_ID, &message));
    PrePrepare { proposal: Signed { message, signature }, justification: None }
}

pub(crate) fn view_change_message() -> ViewChangeMessage {
    ViewChangeMessage { signed: signed_view_change(0), certificate: Some(certificate()) }
}

pub(crate) fn commit(at: u64, block_id: BlockId, extended: bool) -> Commit {
    let entry = |n: u8| {
        let extension = Extension { data: Bytes::from_static(b"e"), signature: sign(n, b"e") };
        CommitSig {
            address: public(n).address(),
            time: time(i64::from(n)),
            signature: sign(n, b"commit"),
            extension: extended.then_some(extension),
        }
    };
    let signatures = vec![Some(entry(0)), Some(entry(1)), Some(entry(2)), None];
    Commit { height: height(at), view: view(3), block_id, signatures }
}

pub(crate) fn status() -> Status {
    Status {
        height: height(5),
        start_view: view(2),
        view: view(3),
        pre_prepares: vec![block_id()],
        prepares: vec![(view(2), [1, 3].into_iter().collect()), (view(3), Bitmap::default())],
        commits: vec![(view(3), [0, 9].into_iter().collect())],
        view_changes: vec![(0, view(4)), (2, view(5))],
        blocks: vec![block_id()],
        direct: [0, 1, 2].into_iter().collect(),
        lacks_extensions: false,
    }
}

/// Every message of the consensus class with a name.
pub(crate) fn consensus() -> Vec<(&'static str, Consensus)> {
    let message = Consensus::Message;
    vec![
        ("pre-prepare", message(Message::PrePrepare(fresh()))),
        ("new-view", message(Message::PrePrepare(new_view()))),
        ("prepare", message(Message::Vote(vote(1, Phase::Prepare)))),
        ("commit", message(Message::Vote(vote(1, Phase::Commit)))),
        ("commit-extended", message(Message::Vote(extended_vote(1)))),
        ("view-change", message(Message::ViewChange(view_change_message()))),
        ("prior", message(Message::Prior(commit(5, block_id(), false)))),
        ("prior-extended", message(Message::Prior(commit(5, block_id(), true)))),
        ("status", Consensus::Status(status())),
        (
            "fetch-block",
            Consensus::FetchBlock(FetchBlock { height: height(5), block_id: block_id() }),
        ),
    ]
}

/// Every message of the sync class with a name.
pub(crate) fn sync() -> Vec<(&'static str, super::Sync)> {
    let request = SyncRequest { id: 7, from: height(5), count: 10, bytes_max: 1 << 20 };
    let block = block(5, 2, None);
    let item = SyncItem::new(&block, &commit(5, block.id(), true));
    let response = SyncResponse { id: 7, items: vec![item.clone(), item], last: height(9) };
    let tip = SyncTip { height: height(9), base: height(1) };
    vec![
        ("request", super::Sync::Request(request)),
        ("response", super::Sync::Response(response)),
        ("tip", super::Sync::Tip(tip)),
    ]
}

/// Every kind of record with a name.
pub(crate) fn records() -> Vec<(&'static str, Record)> {
    let whole = Some(block(5, 2, None));
    let prepare =
        |block| Record::Prepare { pre_prepare: new_view(), block, vote: vote(1, Phase::Prepare) };
    let promise = |cause| Record::ViewChange { message: view_change_message(), cause };
    vec![
        ("pre-prepare", Record::PrePrepare { message: new_view() }),
        ("prepare", prepare(whole.clone())),
        ("prepare-again", prepare(None)),
        (
            "commit",
            Record::Commit {
                certificate: certificate(),
                block: whole.clone(),
                vote: extended_vote(1),
            },
        ),
        ("view-change-timer", promise(Cause::Timer)),
        ("view-change-join", promise(Cause::Join)),
        ("view-change-carried", promise(Cause::Carried)),
        ("view-change-primary", promise(Cause::Primary)),
        ("decided", Record::Decided { commit: commit(5, block_id(), true), block: whole }),
        ("decided-again", Record::Decided { commit: commit(5, block_id(), false), block: None }),
    ]
}

/// Some signature.
#[cfg(test)]
pub(crate) fn signature(n: u8) -> Signature {
    Signature([n; 64])
}
