//! The bodies class: blocks, each in a frame of its own.

use super::bounds::{self, Rule};
use super::{FORMAT_VERSION, check_version, primitive};
use bytes::Bytes;
use prost::Message as _;
use tendermint::block::Height;
use tendermint_proto::v0_38::types as pb;
use tercet_consensus::block::{EVIDENCE_BYTES_MAX, SealedBlock};
use tercet_consensus::commit::Commit;
use tercet_consensus::validators::VALIDATORS_MAX;
use tercet_consensus::verify::Reject;

/// A block that arrived, not looked into yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// The height that it is said to be of, so that one of no interest is dropped unread.
    pub height: Height,
    /// Its bytes.
    pub bytes: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawBody {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint64, tag = "2")]
    height: u64,
    #[prost(bytes = "bytes", tag = "3")]
    block: Bytes,
}

impl Body {
    /// The frame of a block.
    #[must_use]
    pub fn encode(block: &SealedBlock) -> Bytes {
        let raw = RawBody {
            version: FORMAT_VERSION,
            height: block.header().height.value(),
            block: block.bytes().clone(),
        };
        Bytes::from(raw.encode_to_vec())
    }

    /// What a frame says it holds, without a copy.
    ///
    /// # Errors
    /// Where the frame is malformed or of an unknown version.
    pub fn decode(frame: Bytes) -> Result<Body, Reject> {
        let raw = RawBody::decode(frame).map_err(|_| Reject::Malformed("body frame"))?;
        check_version(raw.version)?;
        Ok(Body { height: primitive::height(raw.height)?, bytes: raw.block })
    }

    /// The block, of at most `bytes_max` bytes. It keeps the frame alive.
    ///
    /// # Errors
    /// As [`SealedBlock::decode`], and where the block is of another height than the frame says.
    pub fn block(self, bytes_max: usize) -> Result<SealedBlock, Reject> {
        let block = decode_block(self.bytes, bytes_max)?;
        if block.header().height != self.height {
            return Err(Reject::Height);
        }
        Ok(block)
    }
}

const SIGNED_HEADER: &[Rule] = &[Rule::one(1, &[]), Rule::one(2, SIGNATURES)];
const SIGNATURES: &[Rule] = &[Rule::many(4, VALIDATORS_MAX, &[])];
const VALIDATOR_SET: &[Rule] = &[Rule::many(1, VALIDATORS_MAX, &[])];
const LIGHT_BLOCK: &[Rule] = &[Rule::one(1, SIGNED_HEADER), Rule::one(2, VALIDATOR_SET)];
const ATTACK: &[Rule] = &[Rule::one(1, LIGHT_BLOCK), Rule::many(3, VALIDATORS_MAX, &[])];
const EVIDENCE: &[Rule] = &[Rule::one(1, &[]), Rule::one(2, ATTACK)];
const EVIDENCE_LIST: &[Rule] = &[Rule::many(1, bounds::ELEMENTS_MAX, EVIDENCE)];
/// Tendermint's `Block`. Transactions are counted by [`SealedBlock::decode`].
const BLOCK: &[Rule] =
    &[Rule::one(1, &[]), Rule::one(2, &[]), Rule::one(3, EVIDENCE_LIST), Rule::one(4, SIGNATURES)];

/// The block in these bytes, of at most `bytes_max`: the way in for every block of the network or the disk.
///
/// # Errors
/// As [`SealedBlock::decode`], and where it holds more signatures, validators and pieces of evidence than a block can need.
pub fn decode_block(bytes: Bytes, bytes_max: usize) -> Result<SealedBlock, Reject> {
    if bytes.len() > bytes_max {
        return Err(Reject::TooLarge);
    }
    bounds::check(&bytes, BLOCK)?;
    SealedBlock::decode(bytes, bytes_max)
}

/// The piece of evidence in these bytes, whose encoding has to be the one that they would get here: what is covered by a hash must come
/// back as it was.
///
/// # Errors
/// Where it is too large, malformed or encoded otherwise.
pub fn decode_evidence(bytes: &[u8]) -> Result<pb::Evidence, Reject> {
    if bytes.len() > EVIDENCE_BYTES_MAX {
        return Err(Reject::TooLarge);
    }
    bounds::check(bytes, EVIDENCE)?;
    let evidence = pb::Evidence::decode(bytes).map_err(|_| Reject::Malformed("evidence"))?;
    match evidence.encode_to_vec() == bytes {
        true => Ok(evidence),
        false => Err(Reject::Malformed("the evidence's encoding is not canonical")),
    }
}

/// The last commit of the block in these bytes, none at the initial height; nothing else of the block is decoded.
///
/// # Errors
/// Where it is malformed.
pub fn decode_last_commit(block: &[u8]) -> Result<Option<Commit>, Reject> {
    #[derive(Clone, PartialEq, prost::Message)]
    struct RawBlock {
        #[prost(message, optional, tag = "4")]
        last_commit: Option<tendermint_proto::v0_38::types::Commit>,
    }
    let malformed = Reject::Malformed("last commit");
    bounds::check(block, BLOCK)?;
    let raw = RawBlock::decode(block).map_err(|_| malformed)?;
    let raw = raw.last_commit.ok_or(malformed)?;
    if raw.height == 0 {
        return Ok(None);
    }
    let commit = tendermint::block::Commit::try_from(raw).map_err(|_| malformed)?;
    Commit::from_tendermint(&commit).map(Some)
}
