//! CometBFT's JSON into the core's types, and its errors into the core's failures.

use super::rpc::CallError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tendermint_proto::v0_38::types as pb;
use tercet_light_core::commit::Commit;
use tercet_light_core::header::{Header, Height};
use tercet_light_core::planner::{Claim, Failure, Fault};
use tercet_light_core::time::Time;

use prost::Message as _;

/// One reply.
#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    id: Option<i64>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<RpcError>,
}

#[derive(Deserialize)]
struct RpcError {
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: String,
}

fn malformed() -> Failure {
    Failure::Malformed(Fault::Malformed)
}

/// The one reply to one call.
pub(super) fn single<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice::<Envelope<'_>>(body).map_err(|_| malformed())?.result()
}

/// The result of one call as it came.
pub(super) fn raw(body: &[u8]) -> Result<Box<RawValue>, CallError> {
    let reply: Envelope<'_> =
        serde_json::from_slice(body).map_err(|_| CallError::Failed(malformed()))?;
    match (reply.error, reply.result) {
        (Some(RpcError { message, data }), _) => Err(CallError::Node { message, data }),
        (None, Some(result)) => Ok(result.to_owned()),
        (None, None) => Err(CallError::Failed(malformed())),
    }
}

/// The replies to a batch of `count` calls that were numbered from 0, in this order.
pub(super) fn batch<'a>(body: &'a [u8], count: usize) -> Result<Vec<Envelope<'a>>, Failure> {
    let mut replies: Vec<Envelope<'a>> = serde_json::from_slice(body).map_err(|_| malformed())?;
    replies.sort_by_key(|reply| reply.id);
    let numbered = (0..).zip(&replies).all(|(number, reply)| reply.id == Some(number));
    if replies.len() == count && numbered { Ok(replies) } else { Err(malformed()) }
}

/// Whether the body is one error in place of a batch's replies: the node takes no batches, or none of this length.
pub(super) fn refuses_batch(body: &[u8]) -> bool {
    serde_json::from_slice::<Envelope<'_>>(body).is_ok_and(|reply| reply.error.is_some())
}

impl Envelope<'_> {
    pub(super) fn result<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        if let Some(error) = &self.error {
            return Err(error.failure());
        }
        let result = self.result.ok_or_else(malformed)?;
        serde_json::from_str(result.get()).map_err(|_| malformed())
    }
}

impl RpcError {
    /// CometBFT has one number for all errors of methods; only the text tells them apart (`rpc/core/env.go`, `getHeight`). A wrong
    /// guess costs a question to somebody else.
    fn failure(&self) -> Failure {
        let says = |text: &str| self.message.contains(text) || self.data.contains(text);
        if says("must be less than or equal to") || says("can't be greater than max height") {
            Failure::NotYet
        } else if says("lowest height is") || says("could not find") || says("no commit") {
            Failure::Gone
        } else {
            Failure::Unavailable
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Status {
    node_info: NodeInfo,
    sync_info: SyncInfo,
}

#[derive(Deserialize)]
struct NodeInfo {
    network: String,
}

#[derive(Deserialize)]
struct SyncInfo {
    latest_block_height: String,
    latest_block_time: tendermint::Time,
    #[serde(default)]
    earliest_block_height: String,
}

impl Status {
    /// What the node says about itself; `clock` is what its own clock said.
    pub(super) fn claim(self, clock: Option<Time>) -> Result<Claim, Failure> {
        let last = self.sync_info.latest_block_height.parse().map_err(|_| malformed())?;
        Ok(Claim {
            chain_id: self.node_info.network,
            genesis_hash: None,
            // Nodes of old versions do not say it; the first block of most chains is 1.
            first: self.sync_info.earliest_block_height.parse().unwrap_or(1).max(1),
            last,
            time: Time::from(self.sync_info.latest_block_time),
            clock,
        })
    }
}

#[derive(Deserialize)]
pub(super) struct BlockMetas {
    block_metas: Option<Vec<BlockMeta>>,
}

#[derive(Deserialize)]
struct BlockMeta {
    header: pb::Header,
}

impl BlockMetas {
    /// The headers as protobuf, from the highest down, as CometBFT sends them.
    pub(super) fn headers(self) -> impl Iterator<Item = pb::Header> {
        self.block_metas.unwrap_or_default().into_iter().map(|meta| meta.header)
    }
}

#[derive(Deserialize)]
pub(super) struct Signed {
    signed_header: SignedHeader,
}

#[derive(Deserialize)]
struct SignedHeader {
    header: pb::Header,
    commit: pb::Commit,
}

impl Signed {
    pub(super) fn parts(self) -> Result<(Header, Commit), Failure> {
        let commit = Commit::from_proto(&self.signed_header.commit)?;
        Ok((header(&self.signed_header.header)?, commit))
    }
}

/// A header in its canonical form.
pub(super) fn header(raw: &pb::Header) -> Result<Header, Failure> {
    Ok(Header::decode(raw.encode_to_vec().into())?)
}

#[derive(Deserialize)]
pub(super) struct ValidatorsPage {
    block_height: String,
    pub(super) validators: Vec<tendermint::validator::Info>,
    total: String,
}

impl ValidatorsPage {
    pub(super) fn height(&self) -> Option<Height> {
        self.block_height.parse().ok()
    }

    pub(super) fn total(&self) -> Option<usize> {
        self.total.parse().ok()
    }
}
