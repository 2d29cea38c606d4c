//! The bytes that signatures cover: exactly Tendermint's canonical encodings for Proposal, prevote, precommit and vote extension,
//! and a domain of our own for VIEW-CHANGE and the hello. Source: docs/protocol.md "Messages"; CometBFT `types/canonical.go`.
//!
//! A length-delimited Canonical message never starts with a zero byte, so the own domains, which do, cannot collide with them.

use crate::block::BlockId;
use crate::message::{PreparedClaim, Proposal, ViewChange, Vote};
use prost::Message as _;
use tendermint_proto::google::protobuf::Timestamp;
use tendermint_proto::v0_38::types as pb;

/// First bytes of what a VIEW-CHANGE signature covers.
pub const VIEW_CHANGE_DOMAIN: &[u8] = b"\0tercet/view-change/1";
/// First bytes of what a hello signature covers.
pub const HELLO_DOMAIN: &[u8] = b"\0tercet/hello/1";

/// What a proposal's signature covers: the length-delimited `CanonicalProposal`.
#[must_use]
pub fn proposal(chain_id: &str, proposal: &Proposal) -> Vec<u8> {
    pb::CanonicalProposal {
        r#type: pb::SignedMsgType::Proposal.into(),
        height: signed(proposal.height.value()),
        round: i64::from(proposal.view.number()),
        pol_round: proposal.prepared_view.map_or(-1, |view| i64::from(view.number())),
        block_id: canonical_block_id(&proposal.block_id),
        timestamp: Some(timestamp(proposal.time)),
        chain_id: chain_id.to_owned(),
    }
    .encode_length_delimited_to_vec()
}

/// What a PREPARE or COMMIT signature covers: the length-delimited `CanonicalVote` (prevote or precommit).
#[must_use]
pub fn vote(chain_id: &str, vote: &Vote) -> Vec<u8> {
    pb::CanonicalVote {
        r#type: vote.phase.signed_msg_type().into(),
        height: signed(vote.height.value()),
        round: i64::from(vote.view.number()),
        block_id: canonical_block_id(&vote.block_id),
        timestamp: Some(timestamp(vote.time)),
        chain_id: chain_id.to_owned(),
    }
    .encode_length_delimited_to_vec()
}

/// What a vote extension's signature covers: the length-delimited `CanonicalVoteExtension`.
#[must_use]
pub fn extension(chain_id: &str, vote: &Vote, extension: &[u8]) -> Vec<u8> {
    pb::CanonicalVoteExtension {
        extension: extension.to_vec(),
        height: signed(vote.height.value()),
        round: i64::from(vote.view.number()),
        chain_id: chain_id.to_owned(),
    }
    .encode_length_delimited_to_vec()
}

/// What a VIEW-CHANGE signature covers: the domain, then chain id, height, view and prepared claim, each with its length. The
/// certificate is not covered: it proves itself.
#[must_use]
pub fn view_change(chain_id: &str, message: &ViewChange) -> Vec<u8> {
    let mut bytes = VIEW_CHANGE_DOMAIN.to_vec();
    put(&mut bytes, chain_id.as_bytes());
    put(&mut bytes, &message.height.value().to_be_bytes());
    put(&mut bytes, &message.view.number().to_be_bytes());
    match &message.prepared {
        None => put(&mut bytes, &[]),
        Some(PreparedClaim { view, block_id }) => {
            put(&mut bytes, &view.number().to_be_bytes());
            put(&mut bytes, block_id.hash.as_bytes());
            put(&mut bytes, &block_id.part_set_header.total.to_be_bytes());
            put(&mut bytes, block_id.part_set_header.hash.as_bytes());
        }
    }
    bytes
}

/// What the signature in a hello covers: the domain, then chain id and the transport's peer id, each with its length.
#[must_use]
pub fn hello(chain_id: &str, peer_id: &[u8]) -> Vec<u8> {
    let mut bytes = HELLO_DOMAIN.to_vec();
    put(&mut bytes, chain_id.as_bytes());
    put(&mut bytes, peer_id);
    bytes
}

/// `bytes` behind their length as a varint.
fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    prost::encode_length_delimiter(bytes.len(), out).expect("a vector grows");
    out.extend_from_slice(bytes);
}

/// None for the empty id, as CometBFT has it (`types/canonical.go`, `CanonicalizeBlockID`); nothing that is sent has one.
fn canonical_block_id(id: &BlockId) -> Option<pb::CanonicalBlockId> {
    (*id != BlockId::default()).then(|| pb::CanonicalBlockId {
        hash: id.hash.as_bytes().to_vec(),
        part_set_header: Some(pb::CanonicalPartSetHeader {
            total: id.part_set_header.total,
            hash: id.part_set_header.hash.as_bytes().to_vec(),
        }),
    })
}

/// A time as protobuf writes it.
#[must_use]
pub fn timestamp(time: tendermint::Time) -> Timestamp {
    Timestamp::from(time)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).expect("a height is below 2^63")
}
