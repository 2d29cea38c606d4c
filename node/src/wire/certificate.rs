//! The prepare certificate. What all its PREPAREs share stands once, so one that mixes heights, views or blocks cannot be written.

use super::bounds::Rule;
use super::primitive::{
    RawBlockId, address, address_bytes, block_id, height, index, signature, signature_bytes, time,
    view,
};
use bytes::Bytes;
use tendermint_proto::google::protobuf::Timestamp;
use tercet_consensus::message::{Certificate, Phase, Signed, SignedVote, Vote};
use tercet_consensus::sign_bytes::timestamp;
use tercet_consensus::validators::VALIDATORS_MAX;
use tercet_consensus::verify::Reject;

pub(super) const CERTIFICATE: &[Rule] = &[Rule::many(4, VALIDATORS_MAX, &[])];

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RawCertificate {
    #[prost(uint64, tag = "1")]
    height: u64,
    #[prost(uint32, tag = "2")]
    view: u32,
    #[prost(message, optional, tag = "3")]
    block_id: Option<RawBlockId>,
    #[prost(message, repeated, tag = "4")]
    votes: Vec<RawPrepare>,
}

/// What differs between the PREPAREs of a certificate.
#[derive(Clone, PartialEq, prost::Message)]
struct RawPrepare {
    #[prost(uint32, tag = "1")]
    index: u32,
    #[prost(bytes = "bytes", tag = "2")]
    validator: Bytes,
    #[prost(message, optional, tag = "3")]
    time: Option<Timestamp>,
    #[prost(bytes = "bytes", tag = "4")]
    signature: Bytes,
}

impl From<&Certificate> for RawCertificate {
    fn from(certificate: &Certificate) -> RawCertificate {
        let prepare = |signed: &SignedVote| RawPrepare {
            index: signed.message.index,
            validator: address_bytes(&signed.message.validator),
            time: Some(timestamp(signed.message.time)),
            signature: signature_bytes(&signed.signature),
        };
        RawCertificate {
            height: certificate.height.value(),
            view: certificate.view.number(),
            block_id: Some((&certificate.block_id).into()),
            votes: certificate.votes.iter().map(prepare).collect(),
        }
    }
}

impl TryFrom<RawCertificate> for Certificate {
    type Error = Reject;

    fn try_from(raw: RawCertificate) -> Result<Certificate, Reject> {
        let mut certificate = Certificate {
            height: height(raw.height)?,
            view: view(raw.view)?,
            block_id: block_id(raw.block_id)?,
            votes: Vec::with_capacity(raw.votes.len()),
        };
        for prepare in raw.votes {
            let message = Vote {
                phase: Phase::Prepare,
                height: certificate.height,
                view: certificate.view,
                block_id: certificate.block_id,
                time: time(prepare.time)?,
                validator: address(&prepare.validator)?,
                index: index(prepare.index)?,
                extension: None,
            };
            let signature = signature(&prepare.signature)?;
            certificate.votes.push(Signed { message, signature });
        }
        Ok(certificate)
    }
}
