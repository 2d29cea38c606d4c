//! Evidence as clients give it: CometBFT's JSON, read. What is missing or null is Go's zero value; what is unknown is ignored. The names
//! that tendermint-rs writes are read too.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use tendermint_proto::google::protobuf::Timestamp;
use tendermint_proto::v0_38::crypto::{PublicKey, public_key::Sum};
use tendermint_proto::v0_38::types as pb;
use tendermint_proto::v0_38::version::Consensus;
use tercet_consensus::validators::VALIDATORS_MAX;

/// The evidence in this JSON; none for null.
///
/// # Errors
/// Where it is no evidence, in words.
pub(crate) fn read(json: &str) -> Result<Option<pb::Evidence>, String> {
    let given: Option<Evidence<'_>> = parse(json)?;
    let Some(Evidence { r#type, value }) = given else { return Ok(None) };
    let sum = match r#type.as_str() {
        "tendermint/DuplicateVoteEvidence" => {
            let inner: DuplicateVote = parse(value.get())?;
            pb::evidence::Sum::DuplicateVoteEvidence(inner.into())
        }
        "tendermint/LightClientAttackEvidence" => {
            let inner: LightClientAttack = parse(value.get())?;
            pb::evidence::Sum::LightClientAttackEvidence(inner.into())
        }
        other => return Err(format!("unknown type {other:?}")),
    };
    Ok(Some(pb::Evidence { sum: Some(sum) }))
}

fn parse<'de, T: Deserialize<'de>>(json: &'de str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

/// The value is read once its type is known, and nothing of it is kept before.
#[derive(Deserialize)]
struct Evidence<'a> {
    r#type: String,
    #[serde(borrow)]
    value: &'a RawValue,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DuplicateVote {
    vote_a: Option<Vote>,
    vote_b: Option<Vote>,
    #[serde(
        rename = "TotalVotingPower",
        alias = "total_voting_power",
        deserialize_with = "number"
    )]
    total_voting_power: i64,
    #[serde(rename = "ValidatorPower", alias = "validator_power", deserialize_with = "number")]
    validator_power: i64,
    #[serde(rename = "Timestamp", alias = "timestamp", deserialize_with = "time")]
    timestamp: Option<Timestamp>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Vote {
    r#type: i32,
    #[serde(deserialize_with = "number")]
    height: i64,
    round: i32,
    block_id: BlockId,
    #[serde(deserialize_with = "time")]
    timestamp: Option<Timestamp>,
    #[serde(deserialize_with = "hexadecimal")]
    validator_address: Vec<u8>,
    validator_index: i32,
    #[serde(deserialize_with = "base64")]
    signature: Vec<u8>,
    #[serde(deserialize_with = "base64")]
    extension: Vec<u8>,
    #[serde(deserialize_with = "base64")]
    extension_signature: Vec<u8>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BlockId {
    #[serde(deserialize_with = "hexadecimal")]
    hash: Vec<u8>,
    parts: Parts,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Parts {
    total: u32,
    #[serde(deserialize_with = "hexadecimal")]
    hash: Vec<u8>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct LightClientAttack {
    #[serde(alias = "conflicting_block")]
    conflicting_block: Option<LightBlock>,
    #[serde(alias = "common_height", deserialize_with = "number")]
    common_height: i64,
    #[serde(alias = "byzantine_validators", deserialize_with = "members")]
    byzantine_validators: Vec<Validator>,
    #[serde(alias = "total_voting_power", deserialize_with = "number")]
    total_voting_power: i64,
    #[serde(alias = "timestamp", deserialize_with = "time")]
    timestamp: Option<Timestamp>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LightBlock {
    signed_header: Option<SignedHeader>,
    validator_set: Option<ValidatorSet>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SignedHeader {
    header: Option<Header>,
    commit: Option<Commit>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Version {
    #[serde(deserialize_with = "number")]
    block: u64,
    #[serde(deserialize_with = "number")]
    app: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Header {
    version: Version,
    chain_id: String,
    #[serde(deserialize_with = "number")]
    height: i64,
    #[serde(deserialize_with = "time")]
    time: Option<Timestamp>,
    last_block_id: BlockId,
    #[serde(deserialize_with = "hexadecimal")]
    last_commit_hash: Vec<u8>,
    #[serde(deserialize_with = "hexadecimal")]
    data_hash: Vec<u8>,
    #[serde(deserialize_with = "hexadecimal")]
    validators_hash: Vec<u8>,
    #[serde(deserialize_with = "hexadecimal")]
    next_validators_hash: Vec<u8>,
    #[serde(deserialize_with = "hexadecimal")]
    consensus_hash: Vec<u8>,
    #[serde(deserialize_with = "hexadecimal")]
    app_hash: Vec<u8>,
    #[serde(deserialize_with = "hexadecimal")]
    last_results_hash: Vec<u8>,
    #[serde(deserialize_with = "hexadecimal")]
    evidence_hash: Vec<u8>,
    #[serde(deserialize_with = "hexadecimal")]
    proposer_address: Vec<u8>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Commit {
    #[serde(deserialize_with = "number")]
    height: i64,
    round: i32,
    block_id: BlockId,
    #[serde(deserialize_with = "members")]
    signatures: Vec<CommitSig>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CommitSig {
    block_id_flag: i32,
    #[serde(deserialize_with = "hexadecimal")]
    validator_address: Vec<u8>,
    #[serde(deserialize_with = "time")]
    timestamp: Option<Timestamp>,
    #[serde(deserialize_with = "base64")]
    signature: Vec<u8>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ValidatorSet {
    #[serde(deserialize_with = "members")]
    validators: Vec<Validator>,
    proposer: Option<Validator>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Validator {
    #[serde(deserialize_with = "hexadecimal")]
    address: Vec<u8>,
    pub_key: Option<PubKey>,
    #[serde(deserialize_with = "number")]
    voting_power: i64,
    #[serde(deserialize_with = "number")]
    proposer_priority: i64,
}

#[derive(Deserialize)]
struct PubKey {
    r#type: String,
    #[serde(deserialize_with = "base64")]
    value: Vec<u8>,
}

/// A list with an element for each validator, or null: no more than there may be, whatever is given.
fn members<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    struct Members<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }
        fn visit_unit<E>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(element) = elements.next_element()? {
                if list.len() >= VALIDATORS_MAX {
                    return Err(A::Error::custom("too many validators"));
                }
                list.push(element);
            }
            Ok(list)
        }
    }
    from.deserialize_any(Members(PhantomData))
}

/// A 64-bit integer: a string, as Go writes it.
fn number<'de, D: Deserializer<'de>, T: FromStr + Default>(from: D) -> Result<T, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else { return Ok(T::default()) };
    text.parse().map_err(|_| D::Error::custom(format_args!("{text:?} is no 64-bit integer")))
}

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
    let time = tendermint::Time::parse_from_rfc3339(&text).map_err(D::Error::custom)?;
    Ok(Some(time.into()))
}

fn hexadecimal<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = Option::<String>::deserialize(from)?.unwrap_or_default();
    hex::decode(text).map_err(D::Error::custom)
}

fn base64<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = Option::<String>::deserialize(from)?.unwrap_or_default();
    STANDARD.decode(text).map_err(D::Error::custom)
}

/// Go's zero time where none is given.
fn or_zero(time: Option<Timestamp>) -> Option<Timestamp> {
    const YEAR_1: i64 = -62_135_596_800;
    Some(time.unwrap_or(Timestamp { seconds: YEAR_1, nanos: 0 }))
}

impl From<BlockId> for pb::BlockId {
    fn from(id: BlockId) -> pb::BlockId {
        let part_set_header = pb::PartSetHeader { total: id.parts.total, hash: id.parts.hash };
        pb::BlockId { hash: id.hash, part_set_header: Some(part_set_header) }
    }
}

impl From<Vote> for pb::Vote {
    fn from(vote: Vote) -> pb::Vote {
        pb::Vote {
            r#type: vote.r#type,
            height: vote.height,
            round: vote.round,
            block_id: Some(vote.block_id.into()),
            timestamp: or_zero(vote.timestamp),
            validator_address: vote.validator_address,
            validator_index: vote.validator_index,
            signature: vote.signature,
            extension: vote.extension,
            extension_signature: vote.extension_signature,
        }
    }
}

impl From<DuplicateVote> for pb::DuplicateVoteEvidence {
    fn from(given: DuplicateVote) -> pb::DuplicateVoteEvidence {
        pb::DuplicateVoteEvidence {
            vote_a: given.vote_a.map(Into::into),
            vote_b: given.vote_b.map(Into::into),
            total_voting_power: given.total_voting_power,
            validator_power: given.validator_power,
            timestamp: or_zero(given.timestamp),
        }
    }
}

impl From<LightClientAttack> for pb::LightClientAttackEvidence {
    fn from(given: LightClientAttack) -> pb::LightClientAttackEvidence {
        pb::LightClientAttackEvidence {
            conflicting_block: given.conflicting_block.map(|block| pb::LightBlock {
                signed_header: block.signed_header.map(|signed| pb::SignedHeader {
                    header: signed.header.map(Into::into),
                    commit: signed.commit.map(Into::into),
                }),
                validator_set: block.validator_set.map(|set| pb::ValidatorSet {
                    validators: list(set.validators),
                    proposer: set.proposer.map(Into::into),
                    total_voting_power: 0,
                }),
            }),
            common_height: given.common_height,
            byzantine_validators: list(given.byzantine_validators),
            total_voting_power: given.total_voting_power,
            timestamp: or_zero(given.timestamp),
        }
    }
}

fn list<T, U: From<T>>(given: Vec<T>) -> Vec<U> {
    given.into_iter().map(U::from).collect()
}

impl From<Header> for pb::Header {
    fn from(header: Header) -> pb::Header {
        pb::Header {
            version: Some(Consensus { block: header.version.block, app: header.version.app }),
            chain_id: header.chain_id,
            height: header.height,
            time: or_zero(header.time),
            last_block_id: Some(header.last_block_id.into()),
            last_commit_hash: header.last_commit_hash,
            data_hash: header.data_hash,
            validators_hash: header.validators_hash,
            next_validators_hash: header.next_validators_hash,
            consensus_hash: header.consensus_hash,
            app_hash: header.app_hash,
            last_results_hash: header.last_results_hash,
            evidence_hash: header.evidence_hash,
            proposer_address: header.proposer_address,
        }
    }
}

impl From<Commit> for pb::Commit {
    fn from(commit: Commit) -> pb::Commit {
        pb::Commit {
            height: commit.height,
            round: commit.round,
            block_id: Some(commit.block_id.into()),
            signatures: list(commit.signatures),
        }
    }
}

impl From<CommitSig> for pb::CommitSig {
    fn from(entry: CommitSig) -> pb::CommitSig {
        pb::CommitSig {
            block_id_flag: entry.block_id_flag,
            validator_address: entry.validator_address,
            timestamp: or_zero(entry.timestamp),
            signature: entry.signature,
        }
    }
}

impl From<Validator> for pb::Validator {
    fn from(validator: Validator) -> pb::Validator {
        pb::Validator {
            address: validator.address,
            pub_key: validator.pub_key.map(PublicKey::from),
            voting_power: validator.voting_power,
            proposer_priority: validator.proposer_priority,
        }
    }
}

impl From<PubKey> for PublicKey {
    fn from(key: PubKey) -> PublicKey {
        let sum = match key.r#type.as_str() {
            "tendermint/PubKeyEd25519" => Some(Sum::Ed25519(key.value)),
            "tendermint/PubKeySecp256k1" => Some(Sum::Secp256k1(key.value)),
            _ => None,
        };
        PublicKey { sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_more_than_there_may_be_validators_are_refused() {
        let with = |count| {
            let list = vec!["{}"; count].join(",");
            let commit = format!(r#"{{"commit":{{"signatures":[{list}]}}}}"#);
            let value = format!(r#"{{"ConflictingBlock":{{"signed_header":{commit}}}}}"#);
            read(&format!(r#"{{"value":{value},"type":"tendermint/LightClientAttackEvidence"}}"#))
        };
        assert!(with(VALIDATORS_MAX).is_ok());
        assert!(with(VALIDATORS_MAX + 1).unwrap_err().starts_with("too many validators"));
    }
}
