//! The sync class: ranges of decided blocks for a node that is behind.

use super::bounds::{self, Rule};
use super::commit::{decode_commit, encode_commit};
use super::{FORMAT_VERSION, check_version, decode_block, primitive};
use bytes::Bytes;
use prost::Message as _;
use std::sync::Arc;
use tendermint::block::Height;
use tercet_consensus::block::SealedBlock;
use tercet_consensus::commit::Commit;
use tercet_consensus::message::Decided;
use tercet_consensus::verify::Reject;

/// The most blocks in one response.
pub const SYNC_ITEMS_MAX: usize = 1_000;

/// A response to a request that was not made.
pub const UNASKED: Reject = Reject::Malformed("not asked for");

/// What travels in the sync class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Asks for a range.
    Request(SyncRequest),
    /// Answers it.
    Response(SyncResponse),
    /// What the sender has.
    Tip(SyncTip),
}

/// Asks for decided blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncRequest {
    /// Names the request in its response.
    pub id: u64,
    /// The first height.
    pub from: Height,
    /// How many heights at most.
    pub count: u32,
    /// How many bytes of blocks and commits at most.
    pub bytes_max: u32,
}

/// Answers a [`SyncRequest`] with blocks of consecutive heights from the first asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncResponse {
    /// The request's.
    pub id: u64,
    /// The blocks with their commits, not looked into yet; empty where the sender lacks the first.
    pub items: Vec<SyncItem>,
    /// The sender's highest block.
    pub last: Height,
}

/// A decided block and its commit, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncItem {
    /// The block's bytes.
    pub block: Bytes,
    /// Its commit, see [`encode_commit`].
    pub commit: Bytes,
}

/// What the sender has; both are zero while it has no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncTip {
    /// Its highest block.
    pub height: Height,
    /// Its lowest block.
    pub base: Height,
}

/// What a response may hold; follows from its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseLimits {
    /// How many blocks.
    pub items_max: usize,
    /// How many bytes, over all blocks and commits. One block may be larger than what was asked for.
    pub bytes_max: usize,
}

/// What an item may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemLimits {
    /// The most bytes of the block.
    pub block_bytes_max: usize,
    /// How many validators its height has.
    pub validators: usize,
}

impl SyncRequest {
    /// What its response may hold, where no block is above `block_bytes_max`.
    #[must_use]
    pub fn limits(&self, block_bytes_max: usize) -> ResponseLimits {
        let count = usize::try_from(self.count).unwrap_or(SYNC_ITEMS_MAX);
        let bytes_max = usize::try_from(self.bytes_max).unwrap_or(usize::MAX);
        ResponseLimits {
            items_max: count.min(SYNC_ITEMS_MAX),
            bytes_max: bytes_max.saturating_add(block_bytes_max),
        }
    }
}

impl SyncItem {
    /// A block with its commit.
    #[must_use]
    pub fn new(block: &SealedBlock, commit: &Commit) -> SyncItem {
        SyncItem { block: block.bytes().clone(), commit: encode_commit(commit) }
    }

    /// The block and its commit.
    ///
    /// # Errors
    /// Where one of them is malformed or breaks the limits.
    pub fn decode(self, limits: ItemLimits) -> Result<Decided, Reject> {
        let commit = decode_commit(&self.commit)?;
        if commit.signatures.len() > limits.validators {
            return Err(Reject::TooLarge);
        }
        let block = decode_block(self.block, limits.block_bytes_max)?;
        Ok(Decided { block: Arc::new(block), commit })
    }
}

const RESPONSE: &[Rule] = &[Rule::many(2, SYNC_ITEMS_MAX, &[])];
const SYNC: &[Rule] = &[Rule::one(2, &[]), Rule::one(3, RESPONSE), Rule::one(4, &[])];

#[derive(Clone, PartialEq, prost::Message)]
struct RawSync {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(oneof = "RawPayload", tags = "2, 3, 4")]
    payload: Option<RawPayload>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum RawPayload {
    #[prost(message, tag = "2")]
    Request(RawRequest),
    #[prost(message, tag = "3")]
    Response(RawResponse),
    #[prost(message, tag = "4")]
    Tip(RawTip),
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawRequest {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    from: u64,
    #[prost(uint32, tag = "3")]
    count: u32,
    #[prost(uint32, tag = "4")]
    bytes_max: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawResponse {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "2")]
    items: Vec<RawItem>,
    #[prost(uint64, tag = "3")]
    last: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawItem {
    #[prost(bytes = "bytes", tag = "1")]
    block: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    commit: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawTip {
    #[prost(uint64, tag = "1")]
    height: u64,
    #[prost(uint64, tag = "2")]
    base: u64,
}

impl Sync {
    /// The frame.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let payload = match self {
            Sync::Request(request) => RawPayload::Request(RawRequest {
                id: request.id,
                from: request.from.value(),
                count: request.count,
                bytes_max: request.bytes_max,
            }),
            Sync::Response(response) => {
                let items = response.items.iter().cloned();
                RawPayload::Response(RawResponse {
                    id: response.id,
                    items: items
                        .map(|SyncItem { block, commit }| RawItem { block, commit })
                        .collect(),
                    last: response.last.value(),
                })
            }
            Sync::Tip(tip) => {
                RawPayload::Tip(RawTip { height: tip.height.value(), base: tip.base.value() })
            }
        };
        let raw = RawSync { version: FORMAT_VERSION, payload: Some(payload) };
        Bytes::from(raw.encode_to_vec())
    }

    /// What a frame of the sync class holds; blocks share its bytes. `limits` knows what the response to a request may hold, and none
    /// for a request that was not made.
    ///
    /// # Errors
    /// Where the frame is malformed, of an unknown version, a response that was not asked for, or above its limits.
    pub fn decode(
        frame: Bytes,
        limits: impl FnOnce(u64) -> Option<ResponseLimits>,
    ) -> Result<Sync, Reject> {
        bounds::check(&frame, SYNC)?;
        let raw = RawSync::decode(frame).map_err(|_| Reject::Malformed("sync frame"))?;
        check_version(raw.version)?;
        match raw.payload.ok_or(Reject::Malformed("an empty sync frame"))? {
            RawPayload::Request(raw) => Ok(Sync::Request(SyncRequest {
                id: raw.id,
                from: primitive::height(raw.from)?,
                count: raw.count,
                bytes_max: raw.bytes_max,
            })),
            RawPayload::Response(raw) => {
                let limits = limits(raw.id).ok_or(UNASKED)?;
                Ok(Sync::Response(response(raw, limits)?))
            }
            RawPayload::Tip(raw) => Ok(Sync::Tip(SyncTip {
                height: primitive::height(raw.height)?,
                base: primitive::height(raw.base)?,
            })),
        }
    }
}

fn response(raw: RawResponse, limits: ResponseLimits) -> Result<SyncResponse, Reject> {
    let bytes: usize = raw.items.iter().map(|item| item.block.len() + item.commit.len()).sum();
    if raw.items.len() > limits.items_max || bytes > limits.bytes_max {
        return Err(Reject::TooLarge);
    }
    let items = raw.items.into_iter().map(|RawItem { block, commit }| SyncItem { block, commit });
    Ok(SyncResponse { id: raw.id, items: items.collect(), last: primitive::height(raw.last)? })
}
