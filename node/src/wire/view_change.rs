//! VIEW-CHANGE.

use super::bounds::Rule;
use super::certificate::{CERTIFICATE, RawCertificate};
use super::primitive::{
    RawBlockId, address, address_bytes, block_id, height, index, signature, signature_bytes, view,
};
use bytes::Bytes;
use tercet_consensus::message::{
    Certificate, PreparedClaim, Signed, ViewChange, ViewChangeMessage,
};
use tercet_consensus::verify::Reject;

pub(super) const VIEW_CHANGE_MESSAGE: &[Rule] = &[Rule::one(1, &[]), Rule::one(2, CERTIFICATE)];

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RawViewChangeMessage {
    #[prost(message, optional, tag = "1")]
    signed: Option<RawViewChange>,
    #[prost(message, optional, tag = "2")]
    certificate: Option<RawCertificate>,
}

/// The signed part with its signature.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RawViewChange {
    #[prost(uint64, tag = "1")]
    height: u64,
    #[prost(uint32, tag = "2")]
    view: u32,
    #[prost(message, optional, tag = "3")]
    prepared: Option<RawClaim>,
    #[prost(bytes = "bytes", tag = "4")]
    validator: Bytes,
    #[prost(uint32, tag = "5")]
    index: u32,
    #[prost(bytes = "bytes", tag = "6")]
    signature: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawClaim {
    #[prost(uint32, tag = "1")]
    view: u32,
    #[prost(message, optional, tag = "2")]
    block_id: Option<RawBlockId>,
}

impl From<&ViewChangeMessage> for RawViewChangeMessage {
    fn from(message: &ViewChangeMessage) -> RawViewChangeMessage {
        RawViewChangeMessage {
            signed: Some((&message.signed).into()),
            certificate: message.certificate.as_ref().map(RawCertificate::from),
        }
    }
}

impl TryFrom<RawViewChangeMessage> for ViewChangeMessage {
    type Error = Reject;

    fn try_from(raw: RawViewChangeMessage) -> Result<ViewChangeMessage, Reject> {
        let signed = raw.signed.ok_or(Reject::Malformed("no view change"))?;
        Ok(ViewChangeMessage {
            signed: signed.try_into()?,
            certificate: raw.certificate.map(Certificate::try_from).transpose()?,
        })
    }
}

impl From<&Signed<ViewChange>> for RawViewChange {
    fn from(signed: &Signed<ViewChange>) -> RawViewChange {
        let message = &signed.message;
        let claim = |claim: &PreparedClaim| RawClaim {
            view: claim.view.number(),
            block_id: Some((&claim.block_id).into()),
        };
        RawViewChange {
            height: message.height.value(),
            view: message.view.number(),
            prepared: message.prepared.as_ref().map(claim),
            validator: address_bytes(&message.validator),
            index: message.index,
            signature: signature_bytes(&signed.signature),
        }
    }
}

impl TryFrom<RawViewChange> for Signed<ViewChange> {
    type Error = Reject;

    fn try_from(raw: RawViewChange) -> Result<Signed<ViewChange>, Reject> {
        let claim = |raw: RawClaim| {
            Ok(PreparedClaim { view: view(raw.view)?, block_id: block_id(raw.block_id)? })
        };
        let message = ViewChange {
            height: height(raw.height)?,
            view: view(raw.view)?,
            prepared: raw.prepared.map(claim).transpose()?,
            validator: address(&raw.validator)?,
            index: index(raw.index)?,
        };
        Ok(Signed { message, signature: signature(&raw.signature)? })
    }
}
