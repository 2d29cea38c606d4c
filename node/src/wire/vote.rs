//! PREPARE and COMMIT.

use super::primitive::{
    RawBlockId, address, address_bytes, block_id, height, index, signature, signature_bytes, time,
    view,
};
use bytes::Bytes;
use tendermint_proto::google::protobuf::Timestamp;
use tercet_consensus::message::{Extension, Phase, Signed, SignedVote, Vote};
use tercet_consensus::sign_bytes::timestamp;
use tercet_consensus::verify::{EXTENSION_BYTES_MAX, Reject};

const PHASE_PREPARE: u32 = 1;
const PHASE_COMMIT: u32 = 2;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RawVote {
    #[prost(uint32, tag = "1")]
    phase: u32,
    #[prost(uint64, tag = "2")]
    height: u64,
    #[prost(uint32, tag = "3")]
    view: u32,
    #[prost(message, optional, tag = "4")]
    block_id: Option<RawBlockId>,
    #[prost(message, optional, tag = "5")]
    time: Option<Timestamp>,
    #[prost(bytes = "bytes", tag = "6")]
    validator: Bytes,
    #[prost(uint32, tag = "7")]
    index: u32,
    #[prost(bytes = "bytes", tag = "8")]
    signature: Bytes,
    #[prost(message, optional, tag = "9")]
    extension: Option<RawExtension>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RawExtension {
    #[prost(bytes = "bytes", tag = "1")]
    data: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    signature: Bytes,
}

impl From<&SignedVote> for RawVote {
    fn from(signed: &SignedVote) -> RawVote {
        let vote = &signed.message;
        RawVote {
            phase: match vote.phase {
                Phase::Prepare => PHASE_PREPARE,
                Phase::Commit => PHASE_COMMIT,
            },
            height: vote.height.value(),
            view: vote.view.number(),
            block_id: Some((&vote.block_id).into()),
            time: Some(timestamp(vote.time)),
            validator: address_bytes(&vote.validator),
            index: vote.index,
            signature: signature_bytes(&signed.signature),
            extension: vote.extension.as_ref().map(RawExtension::from),
        }
    }
}

impl TryFrom<RawVote> for SignedVote {
    type Error = Reject;

    fn try_from(raw: RawVote) -> Result<SignedVote, Reject> {
        let message = Vote {
            phase: match raw.phase {
                PHASE_PREPARE => Phase::Prepare,
                PHASE_COMMIT => Phase::Commit,
                _ => return Err(Reject::Malformed("phase")),
            },
            height: height(raw.height)?,
            view: view(raw.view)?,
            block_id: block_id(raw.block_id)?,
            time: time(raw.time)?,
            validator: address(&raw.validator)?,
            index: index(raw.index)?,
            extension: raw.extension.map(Extension::try_from).transpose()?,
        };
        Ok(Signed { message, signature: signature(&raw.signature)? })
    }
}

impl From<&Extension> for RawExtension {
    fn from(extension: &Extension) -> RawExtension {
        RawExtension {
            data: extension.data.clone(),
            signature: signature_bytes(&extension.signature),
        }
    }
}

impl TryFrom<RawExtension> for Extension {
    type Error = Reject;

    fn try_from(raw: RawExtension) -> Result<Extension, Reject> {
        if raw.data.len() > EXTENSION_BYTES_MAX {
            return Err(Reject::TooLarge);
        }
        let signature = signature(&raw.signature)?;
        Ok(Extension { data: Bytes::copy_from_slice(&raw.data), signature })
    }
}

/// The vote, which has to be there.
pub(super) fn vote(raw: Option<RawVote>) -> Result<SignedVote, Reject> {
    raw.ok_or(Reject::Malformed("no vote"))?.try_into()
}
