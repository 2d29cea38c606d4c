//! PRE-PREPARE and NEW-VIEW.

use super::bounds::Rule;
use super::certificate::{CERTIFICATE, RawCertificate};
use super::primitive::{RawBlockId, block_id, height, signature, signature_bytes, time, view};
use super::view_change::RawViewChange;
use bytes::Bytes;
use tendermint_proto::google::protobuf::Timestamp;
use tercet_consensus::message::{Certificate, Justification, PrePrepare, Proposal, Signed};
use tercet_consensus::sign_bytes::timestamp;
use tercet_consensus::validators::VALIDATORS_MAX;
use tercet_consensus::verify::Reject;

const JUSTIFICATION: &[Rule] = &[Rule::many(1, VALIDATORS_MAX, &[]), Rule::one(2, CERTIFICATE)];
pub(super) const PRE_PREPARE: &[Rule] = &[Rule::one(1, &[]), Rule::one(2, JUSTIFICATION)];

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RawPrePrepare {
    #[prost(message, optional, tag = "1")]
    proposal: Option<RawProposal>,
    #[prost(message, optional, tag = "2")]
    justification: Option<RawJustification>,
}

/// The signed part with its signature.
#[derive(Clone, PartialEq, prost::Message)]
struct RawProposal {
    #[prost(uint64, tag = "1")]
    height: u64,
    #[prost(uint32, tag = "2")]
    view: u32,
    #[prost(uint32, optional, tag = "3")]
    prepared_view: Option<u32>,
    #[prost(message, optional, tag = "4")]
    block_id: Option<RawBlockId>,
    #[prost(message, optional, tag = "5")]
    time: Option<Timestamp>,
    #[prost(bytes = "bytes", tag = "6")]
    signature: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawJustification {
    #[prost(message, repeated, tag = "1")]
    view_changes: Vec<RawViewChange>,
    #[prost(message, optional, tag = "2")]
    certificate: Option<RawCertificate>,
}

impl From<&PrePrepare> for RawPrePrepare {
    fn from(message: &PrePrepare) -> RawPrePrepare {
        let justification = |justification: &Justification| RawJustification {
            view_changes: justification.view_changes.iter().map(RawViewChange::from).collect(),
            certificate: justification.certificate.as_ref().map(RawCertificate::from),
        };
        RawPrePrepare {
            proposal: Some((&message.proposal).into()),
            justification: message.justification.as_ref().map(justification),
        }
    }
}

impl TryFrom<RawPrePrepare> for PrePrepare {
    type Error = Reject;

    fn try_from(raw: RawPrePrepare) -> Result<PrePrepare, Reject> {
        let proposal = raw.proposal.ok_or(Reject::Malformed("no proposal"))?;
        Ok(PrePrepare {
            proposal: proposal.try_into()?,
            justification: raw.justification.map(Justification::try_from).transpose()?,
        })
    }
}

impl TryFrom<RawJustification> for Justification {
    type Error = Reject;

    fn try_from(raw: RawJustification) -> Result<Justification, Reject> {
        let view_changes = raw.view_changes.into_iter().map(Signed::try_from);
        Ok(Justification {
            view_changes: view_changes.collect::<Result<_, _>>()?,
            certificate: raw.certificate.map(Certificate::try_from).transpose()?,
        })
    }
}

impl From<&Signed<Proposal>> for RawProposal {
    fn from(signed: &Signed<Proposal>) -> RawProposal {
        let proposal = &signed.message;
        RawProposal {
            height: proposal.height.value(),
            view: proposal.view.number(),
            prepared_view: proposal.prepared_view.map(|view| view.number()),
            block_id: Some((&proposal.block_id).into()),
            time: Some(timestamp(proposal.time)),
            signature: signature_bytes(&signed.signature),
        }
    }
}

impl TryFrom<RawProposal> for Signed<Proposal> {
    type Error = Reject;

    fn try_from(raw: RawProposal) -> Result<Signed<Proposal>, Reject> {
        let message = Proposal {
            height: height(raw.height)?,
            view: view(raw.view)?,
            prepared_view: raw.prepared_view.map(view).transpose()?,
            block_id: block_id(raw.block_id)?,
            time: time(raw.time)?,
        };
        Ok(Signed { message, signature: signature(&raw.signature)? })
    }
}
