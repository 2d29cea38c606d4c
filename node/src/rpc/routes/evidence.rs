//! Evidence of misbehaviour, from clients.

use super::super::json::Base64;
use super::super::server::Api;
use super::Answer;
use bytes::Bytes;
use prost::Message as _;
use serde::Serialize;
use tendermint_proto::v0_38::types as pb;

/// The answer: CometBFT's hash of the evidence.
#[derive(Serialize)]
struct EvidenceReply {
    hash: Base64<[u8; 32]>,
}

/// `broadcast_evidence` (CometBFT `rpc/core/evidence.go`).
pub(super) async fn broadcast(api: &Api, evidence: Bytes) -> Result<Answer, String> {
    if evidence.is_empty() {
        return Err("no evidence was provided".to_owned());
    }
    let evidence = pb::Evidence::decode(evidence).map_err(|error| error.to_string())?;
    let hash = api.bounded(api.sources.evidence.add(evidence)).await??;
    Answer::new(&EvidenceReply { hash: Base64(hash) })
}
