//! The durable records of the journal.

use super::bounds::{self, Rule};
use super::certificate::{CERTIFICATE, RawCertificate};
use super::commit::{COMMIT, RawCommit, commit};
use super::pre_prepare::{PRE_PREPARE, RawPrePrepare};
use super::view_change::{RawViewChangeMessage, VIEW_CHANGE_MESSAGE};
use super::vote::{RawVote, vote};
use super::{FORMAT_VERSION, check_version, decode_block};
use bytes::Bytes;
use prost::Message as _;
use std::sync::Arc;
use tercet_consensus::block::{BLOCK_BYTES_MAX, SealedBlock};
use tercet_consensus::message::PrePrepare;
use tercet_consensus::record::{Cause, Record};
use tercet_consensus::verify::Reject;

const RECORD: &[Rule] = &[
    Rule::one(2, PRE_PREPARE),
    Rule::one(3, &[Rule::one(1, PRE_PREPARE), Rule::one(3, &[])]),
    Rule::one(4, &[Rule::one(1, CERTIFICATE), Rule::one(3, &[])]),
    Rule::one(5, &[Rule::one(1, VIEW_CHANGE_MESSAGE)]),
    Rule::one(6, &[Rule::one(1, COMMIT)]),
];

#[derive(Clone, PartialEq, prost::Message)]
struct RawRecord {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(oneof = "RawPayload", tags = "2, 3, 4, 5, 6")]
    payload: Option<RawPayload>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum RawPayload {
    #[prost(message, tag = "2")]
    PrePrepare(RawPrePrepare),
    #[prost(message, tag = "3")]
    Prepare(RawPrepared),
    #[prost(message, tag = "4")]
    Commit(RawCommitted),
    #[prost(message, tag = "5")]
    ViewChange(RawPromise),
    #[prost(message, tag = "6")]
    Decided(RawDecided),
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawPrepared {
    #[prost(message, optional, tag = "1")]
    pre_prepare: Option<RawPrePrepare>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    block: Option<Bytes>,
    #[prost(message, optional, tag = "3")]
    vote: Option<RawVote>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawCommitted {
    #[prost(message, optional, tag = "1")]
    certificate: Option<RawCertificate>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    block: Option<Bytes>,
    #[prost(message, optional, tag = "3")]
    vote: Option<RawVote>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawPromise {
    #[prost(message, optional, tag = "1")]
    message: Option<RawViewChangeMessage>,
    #[prost(uint32, tag = "2")]
    cause: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawDecided {
    #[prost(message, optional, tag = "1")]
    commit: Option<RawCommit>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    block: Option<Bytes>,
}

const CAUSES: [(Cause, u32); 4] =
    [(Cause::Timer, 1), (Cause::Join, 2), (Cause::Carried, 3), (Cause::Primary, 4)];

fn cause_number(cause: Cause) -> u32 {
    CAUSES.iter().find(|(known, _)| *known == cause).map_or(0, |(_, number)| *number)
}

fn cause(number: u32) -> Result<Cause, Reject> {
    let found = CAUSES.iter().find(|(_, known)| *known == number);
    found.map(|(cause, _)| *cause).ok_or(Reject::Malformed("cause"))
}

/// The bytes of a record.
#[must_use]
pub fn encode_record(record: &Record) -> Vec<u8> {
    let bytes =
        |block: &Option<Arc<SealedBlock>>| block.as_ref().map(|block| block.bytes().clone());
    let payload = match record {
        Record::PrePrepare { message } => RawPayload::PrePrepare(message.into()),
        Record::Prepare { pre_prepare, block, vote } => RawPayload::Prepare(RawPrepared {
            pre_prepare: Some(pre_prepare.into()),
            block: bytes(block),
            vote: Some(vote.into()),
        }),
        Record::Commit { certificate, block, vote } => RawPayload::Commit(RawCommitted {
            certificate: Some(certificate.into()),
            block: bytes(block),
            vote: Some(vote.into()),
        }),
        Record::ViewChange { message, cause } => RawPayload::ViewChange(RawPromise {
            message: Some(message.into()),
            cause: cause_number(*cause),
        }),
        Record::Decided { commit, block } => {
            RawPayload::Decided(RawDecided { commit: Some(commit.into()), block: bytes(block) })
        }
    };
    RawRecord { version: FORMAT_VERSION, payload: Some(payload) }.encode_to_vec()
}

/// The record in these bytes; its block shares them.
///
/// # Errors
/// Where they are malformed or of an unknown version.
pub fn decode_record(bytes: Bytes) -> Result<Record, Reject> {
    bounds::check(&bytes, RECORD)?;
    let raw = RawRecord::decode(bytes).map_err(|_| Reject::Malformed("record"))?;
    check_version(raw.version)?;
    Ok(match raw.payload.ok_or(Reject::Malformed("an empty record"))? {
        RawPayload::PrePrepare(raw) => Record::PrePrepare { message: raw.try_into()? },
        RawPayload::Prepare(raw) => Record::Prepare {
            pre_prepare: pre_prepare(raw.pre_prepare)?,
            block: block(raw.block)?,
            vote: vote(raw.vote)?,
        },
        RawPayload::Commit(raw) => Record::Commit {
            certificate: raw.certificate.ok_or(Reject::Malformed("no certificate"))?.try_into()?,
            block: block(raw.block)?,
            vote: vote(raw.vote)?,
        },
        RawPayload::ViewChange(raw) => Record::ViewChange {
            message: raw.message.ok_or(Reject::Malformed("no view change"))?.try_into()?,
            cause: cause(raw.cause)?,
        },
        RawPayload::Decided(raw) => {
            Record::Decided { commit: commit(raw.commit)?, block: block(raw.block)? }
        }
    })
}

fn pre_prepare(raw: Option<RawPrePrepare>) -> Result<PrePrepare, Reject> {
    raw.ok_or(Reject::Malformed("no pre-prepare"))?.try_into()
}

fn block(bytes: Option<Bytes>) -> Result<Option<Arc<SealedBlock>>, Reject> {
    let decode = |bytes| decode_block(bytes, BLOCK_BYTES_MAX).map(Arc::new);
    bytes.map(decode).transpose()
}
