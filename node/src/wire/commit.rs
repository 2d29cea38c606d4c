//! Commit(h), with room for vote extensions; on the wire and in the store alike.

use super::bounds::{self, Rule};
use super::primitive::{
    RawBlockId, address, address_bytes, block_id, height, signature, signature_bytes, time, view,
};
use super::vote::RawExtension;
use bytes::Bytes;
use prost::Message as _;
use tendermint_proto::google::protobuf::Timestamp;
use tercet_consensus::commit::{Commit, CommitSig};
use tercet_consensus::message::Extension;
use tercet_consensus::sign_bytes::timestamp;
use tercet_consensus::validators::VALIDATORS_MAX;
use tercet_consensus::verify::Reject;

pub(super) const COMMIT: &[Rule] = &[Rule::many(4, VALIDATORS_MAX, &[])];

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RawCommit {
    #[prost(uint64, tag = "1")]
    height: u64,
    #[prost(uint32, tag = "2")]
    view: u32,
    #[prost(message, optional, tag = "3")]
    block_id: Option<RawBlockId>,
    #[prost(message, repeated, tag = "4")]
    entries: Vec<RawEntry>,
}

/// A validator's COMMIT; without a signature it is absent.
#[derive(Clone, PartialEq, prost::Message)]
struct RawEntry {
    #[prost(bytes = "bytes", tag = "1")]
    validator: Bytes,
    #[prost(message, optional, tag = "2")]
    time: Option<Timestamp>,
    #[prost(bytes = "bytes", tag = "3")]
    signature: Bytes,
    #[prost(message, optional, tag = "4")]
    extension: Option<RawExtension>,
}

impl From<&Commit> for RawCommit {
    fn from(commit: &Commit) -> RawCommit {
        let entry = |entry: &Option<CommitSig>| match entry {
            None => RawEntry::default(),
            Some(entry) => RawEntry {
                validator: address_bytes(&entry.address),
                time: Some(timestamp(entry.time)),
                signature: signature_bytes(&entry.signature),
                extension: entry.extension.as_ref().map(RawExtension::from),
            },
        };
        RawCommit {
            height: commit.height.value(),
            view: commit.view.number(),
            block_id: Some((&commit.block_id).into()),
            entries: commit.signatures.iter().map(entry).collect(),
        }
    }
}

impl TryFrom<RawCommit> for Commit {
    type Error = Reject;

    fn try_from(raw: RawCommit) -> Result<Commit, Reject> {
        let entry = |raw: RawEntry| {
            if raw == RawEntry::default() {
                return Ok(None);
            }
            Ok(Some(CommitSig {
                address: address(&raw.validator)?,
                time: time(raw.time)?,
                signature: signature(&raw.signature)?,
                extension: raw.extension.map(Extension::try_from).transpose()?,
            }))
        };
        Ok(Commit {
            height: height(raw.height)?,
            view: view(raw.view)?,
            block_id: block_id(raw.block_id)?,
            signatures: raw.entries.into_iter().map(entry).collect::<Result<_, _>>()?,
        })
    }
}

/// The commit, which has to be there.
pub(super) fn commit(raw: Option<RawCommit>) -> Result<Commit, Reject> {
    raw.ok_or(Reject::Malformed("no commit"))?.try_into()
}

/// The bytes of a commit, as they stand in a [`super::SyncItem`] and in the store.
#[must_use]
pub fn encode_commit(commit: &Commit) -> Bytes {
    Bytes::from(RawCommit::from(commit).encode_to_vec())
}

/// The commit in these bytes.
///
/// # Errors
/// Where they are malformed or hold more than [`VALIDATORS_MAX`] entries.
pub fn decode_commit(bytes: &[u8]) -> Result<Commit, Reject> {
    bounds::check(bytes, COMMIT)?;
    RawCommit::decode(bytes).map_err(|_| Reject::Malformed("commit"))?.try_into()
}
