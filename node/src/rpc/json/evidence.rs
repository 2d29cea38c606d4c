//! Evidence of misbehaviour, in the typed envelopes of CometBFT's JSON.

use super::block::{BlockId, Commit, Header, SignedHeader};
use super::{Base64, Hex, Rfc3339, Text};
use crate::rpc::json::chain::PubKey;
use serde::Serialize;
use tendermint_proto::v0_38::types as pb;

/// One piece of evidence.
#[derive(Serialize)]
#[serde(tag = "type", content = "value")]
pub(crate) enum Evidence {
    #[serde(rename = "tendermint/DuplicateVoteEvidence")]
    DuplicateVote(Box<DuplicateVote>),
    #[serde(rename = "tendermint/LightClientAttackEvidence")]
    LightClientAttack(Box<LightClientAttack>),
}

#[derive(Serialize)]
pub(crate) struct DuplicateVote {
    vote_a: Option<Vote>,
    vote_b: Option<Vote>,
    #[serde(rename = "TotalVotingPower")]
    total_voting_power: Text<i64>,
    #[serde(rename = "ValidatorPower")]
    validator_power: Text<i64>,
    #[serde(rename = "Timestamp")]
    timestamp: Rfc3339,
}

#[derive(Serialize)]
struct Vote {
    r#type: i32,
    height: Text<i64>,
    round: i32,
    block_id: BlockId,
    timestamp: Rfc3339,
    validator_address: Hex<Vec<u8>>,
    validator_index: i32,
    signature: Base64<Vec<u8>>,
    extension: Base64<Vec<u8>>,
    extension_signature: Base64<Vec<u8>>,
}

/// Go writes the fields of evidence that have no name of their own in JSON as they are called.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct LightClientAttack {
    conflicting_block: Option<LightBlock>,
    common_height: Text<i64>,
    byzantine_validators: Vec<Validator>,
    total_voting_power: Text<i64>,
    timestamp: Rfc3339,
}

#[derive(Serialize)]
struct LightBlock {
    signed_header: Option<SignedHeader>,
    validator_set: Option<ValidatorSet>,
}

#[derive(Serialize)]
struct ValidatorSet {
    validators: Vec<Validator>,
    proposer: Option<Validator>,
}

/// A validator as it stands in evidence; priorities are kept as they came, the evidence hash covers them.
#[derive(Serialize)]
struct Validator {
    address: Hex<Vec<u8>>,
    pub_key: Option<PubKey>,
    voting_power: Text<i64>,
    proposer_priority: Text<i64>,
}

impl Evidence {
    /// The evidence in this message; none where the message is empty.
    pub(crate) fn new(evidence: pb::Evidence) -> Option<Evidence> {
        match evidence.sum? {
            pb::evidence::Sum::DuplicateVoteEvidence(inner) => {
                Some(Evidence::DuplicateVote(Box::new(DuplicateVote {
                    vote_a: inner.vote_a.map(Vote::from),
                    vote_b: inner.vote_b.map(Vote::from),
                    total_voting_power: Text(inner.total_voting_power),
                    validator_power: Text(inner.validator_power),
                    timestamp: Rfc3339(inner.timestamp),
                })))
            }
            pb::evidence::Sum::LightClientAttackEvidence(inner) => {
                let members = inner.byzantine_validators;
                Some(Evidence::LightClientAttack(Box::new(LightClientAttack {
                    conflicting_block: inner.conflicting_block.map(LightBlock::from),
                    common_height: Text(inner.common_height),
                    byzantine_validators: members.into_iter().map(Validator::from).collect(),
                    total_voting_power: Text(inner.total_voting_power),
                    timestamp: Rfc3339(inner.timestamp),
                })))
            }
        }
    }
}

impl From<pb::Vote> for Vote {
    fn from(vote: pb::Vote) -> Vote {
        Vote {
            r#type: vote.r#type,
            height: Text(vote.height),
            round: vote.round,
            block_id: vote.block_id.into(),
            timestamp: Rfc3339(vote.timestamp),
            validator_address: Hex(vote.validator_address),
            validator_index: vote.validator_index,
            signature: Base64(vote.signature),
            extension: Base64(vote.extension),
            extension_signature: Base64(vote.extension_signature),
        }
    }
}

impl From<pb::LightBlock> for LightBlock {
    fn from(block: pb::LightBlock) -> LightBlock {
        LightBlock {
            signed_header: block.signed_header.map(|signed| SignedHeader {
                header: signed.header.map(Header::from),
                commit: signed.commit.map(Commit::from),
            }),
            validator_set: block.validator_set.map(|set| ValidatorSet {
                validators: set.validators.into_iter().map(Validator::from).collect(),
                proposer: set.proposer.map(Validator::from),
            }),
        }
    }
}

impl From<pb::Validator> for Validator {
    fn from(validator: pb::Validator) -> Validator {
        Validator {
            address: Hex(validator.address),
            pub_key: validator.pub_key.and_then(PubKey::new),
            voting_power: Text(validator.voting_power),
            proposer_priority: Text(validator.proposer_priority),
        }
    }
}
