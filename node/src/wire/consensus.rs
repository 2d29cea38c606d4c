//! The consensus class: what replicas say about the height that they are at, and STATUS.

use super::body::Body;
use super::bounds::{self, Rule};
use super::commit::{COMMIT, RawCommit};
use super::pre_prepare::{PRE_PREPARE, RawPrePrepare};
use super::primitive::{RawBlockId, block_id, height};
use super::status::{RawStatus, STATUS};
use super::view_change::{RawViewChangeMessage, VIEW_CHANGE_MESSAGE};
use super::vote::RawVote;
use super::{FORMAT_VERSION, check_version};
use bytes::Bytes;
use prost::Message as _;
use tendermint::block::Height;
use tercet_consensus::block::BlockId;
use tercet_consensus::message::Message;
use tercet_consensus::status::Status;
use tercet_consensus::verify::Reject;

/// What travels in the consensus class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consensus {
    /// A message of the protocol. [`Message::Block`] goes in the bodies class; [`Consensus::decode`] never returns it.
    Message(Message),
    /// What the sender has of its height.
    Status(Status),
    /// Asks for a block.
    FetchBlock(FetchBlock),
}

/// Asks for a block of the height that both are at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchBlock {
    /// The height.
    pub height: Height,
    /// The block.
    pub block_id: BlockId,
}

/// The bytes of a message with the class in which they travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// For the consensus class.
    Consensus(Bytes),
    /// For the bodies class.
    Body(Bytes),
}

const CONSENSUS: &[Rule] = &[
    Rule::one(2, PRE_PREPARE),
    Rule::one(3, &[]),
    Rule::one(4, VIEW_CHANGE_MESSAGE),
    Rule::one(5, COMMIT),
    Rule::one(6, STATUS),
    Rule::one(7, &[]),
];

#[derive(Clone, PartialEq, prost::Message)]
struct RawConsensus {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(oneof = "RawPayload", tags = "2, 3, 4, 5, 6, 7")]
    payload: Option<RawPayload>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum RawPayload {
    #[prost(message, tag = "2")]
    PrePrepare(RawPrePrepare),
    #[prost(message, tag = "3")]
    Vote(RawVote),
    #[prost(message, tag = "4")]
    ViewChange(RawViewChangeMessage),
    #[prost(message, tag = "5")]
    Prior(RawCommit),
    #[prost(message, tag = "6")]
    Status(RawStatus),
    #[prost(message, tag = "7")]
    FetchBlock(RawFetchBlock),
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawFetchBlock {
    #[prost(uint64, tag = "1")]
    height: u64,
    #[prost(message, optional, tag = "2")]
    block_id: Option<RawBlockId>,
}

impl Consensus {
    /// The frame.
    #[must_use]
    pub fn encode(&self) -> Frame {
        let payload = match self {
            Consensus::Message(Message::Block(block)) => return Frame::Body(Body::encode(block)),
            Consensus::Message(Message::PrePrepare(message)) => {
                RawPayload::PrePrepare(message.into())
            }
            Consensus::Message(Message::Vote(vote)) => RawPayload::Vote(vote.into()),
            Consensus::Message(Message::ViewChange(message)) => {
                RawPayload::ViewChange(message.into())
            }
            Consensus::Message(Message::Prior(commit)) => RawPayload::Prior(commit.into()),
            Consensus::Status(status) => RawPayload::Status(status.into()),
            Consensus::FetchBlock(fetch) => RawPayload::FetchBlock(RawFetchBlock {
                height: fetch.height.value(),
                block_id: Some((&fetch.block_id).into()),
            }),
        };
        let raw = RawConsensus { version: FORMAT_VERSION, payload: Some(payload) };
        Frame::Consensus(Bytes::from(raw.encode_to_vec()))
    }

    /// What a frame of the consensus class holds.
    ///
    /// # Errors
    /// Where the frame is malformed, of an unknown version, or holds more of anything than a message may.
    pub fn decode(frame: Bytes) -> Result<Consensus, Reject> {
        bounds::check(&frame, CONSENSUS)?;
        let raw = RawConsensus::decode(frame).map_err(|_| Reject::Malformed("consensus frame"))?;
        check_version(raw.version)?;
        let message = match raw.payload.ok_or(Reject::Malformed("an empty consensus frame"))? {
            RawPayload::PrePrepare(raw) => Message::PrePrepare(raw.try_into()?),
            RawPayload::Vote(raw) => Message::Vote(raw.try_into()?),
            RawPayload::ViewChange(raw) => Message::ViewChange(raw.try_into()?),
            RawPayload::Prior(raw) => Message::Prior(raw.try_into()?),
            RawPayload::Status(raw) => return Ok(Consensus::Status(raw.try_into()?)),
            RawPayload::FetchBlock(raw) => {
                let (height, block_id) = (height(raw.height)?, block_id(raw.block_id)?);
                return Ok(Consensus::FetchBlock(FetchBlock { height, block_id }));
            }
        };
        Ok(Consensus::Message(message))
    }
}
