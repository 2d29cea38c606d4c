//! Validators, consensus parameters, genesis.

use super::{Base64Text, Hex, Rfc3339, Text};
use crate::rpc::sources::Genesis;
use serde::Serialize;
use serde_json::value::RawValue;
use tendermint::consensus::Params;
use tendermint_proto::v0_38::crypto::{PublicKey, public_key};
use tercet_consensus::validators::Validator;

/// A public key in its typed envelope.
#[derive(Serialize)]
#[serde(tag = "type", content = "value")]
pub(crate) enum PubKey {
    #[serde(rename = "tendermint/PubKeyEd25519")]
    Ed25519(Base64Text<Vec<u8>>),
    #[serde(rename = "tendermint/PubKeySecp256k1")]
    Secp256k1(Base64Text<Vec<u8>>),
}

impl PubKey {
    /// The key in this message; none where it is empty.
    pub(crate) fn new(key: PublicKey) -> Option<PubKey> {
        match key.sum? {
            public_key::Sum::Ed25519(bytes) => Some(PubKey::Ed25519(Base64Text(bytes))),
            public_key::Sum::Secp256k1(bytes) => Some(PubKey::Secp256k1(Base64Text(bytes))),
        }
    }
}

impl From<&tercet_consensus::key::PublicKey> for PubKey {
    fn from(key: &tercet_consensus::key::PublicKey) -> PubKey {
        let bytes = Base64Text(key.to_bytes().to_vec());
        match key {
            tercet_consensus::key::PublicKey::Ed25519(_) => PubKey::Ed25519(bytes),
            tercet_consensus::key::PublicKey::Secp256k1(_) => PubKey::Secp256k1(bytes),
        }
    }
}

/// Reply of `validators`.
#[derive(Serialize)]
pub(crate) struct ValidatorsReply {
    pub(crate) block_height: Text<u64>,
    pub(crate) validators: Vec<ValidatorEntry>,
    pub(crate) count: Text<usize>,
    pub(crate) total: Text<usize>,
}

/// A member of a validator set. The schedule of primaries needs no priorities: they stand as 0.
#[derive(Serialize)]
pub(crate) struct ValidatorEntry {
    address: Hex<Vec<u8>>,
    pub_key: PubKey,
    voting_power: Text<u64>,
    proposer_priority: Text<i64>,
}

impl From<&Validator> for ValidatorEntry {
    fn from(validator: &Validator) -> ValidatorEntry {
        ValidatorEntry {
            address: Hex(validator.address.as_bytes().to_vec()),
            pub_key: (&validator.key).into(),
            voting_power: Text(validator.power),
            proposer_priority: Text(0),
        }
    }
}

/// Reply of `consensus_params`.
#[derive(Serialize)]
pub(crate) struct ParamsReply {
    pub(crate) block_height: Text<u64>,
    pub(crate) consensus_params: ConsensusParams,
}

/// Consensus parameters, all fields present.
#[derive(Serialize)]
pub(crate) struct ConsensusParams {
    block: BlockParams,
    evidence: EvidenceParams,
    validator: ValidatorParams,
    version: VersionParams,
    abci: AbciParams,
}

#[derive(Serialize)]
struct BlockParams {
    max_bytes: Text<i64>,
    max_gas: Text<i64>,
}

#[derive(Serialize)]
struct EvidenceParams {
    max_age_num_blocks: Text<u64>,
    max_age_duration: Text<u128>,
    max_bytes: Text<i64>,
}

#[derive(Serialize)]
struct ValidatorParams {
    pub_key_types: Vec<tendermint::public_key::Algorithm>,
}

#[derive(Serialize)]
struct VersionParams {
    app: Text<u64>,
}

#[derive(Serialize)]
struct AbciParams {
    vote_extensions_enable_height: Text<u64>,
}

impl From<&Params> for ConsensusParams {
    fn from(params: &Params) -> ConsensusParams {
        let extensions = params.abci.vote_extensions_enable_height;
        ConsensusParams {
            block: BlockParams {
                // No limit is -1 in CometBFT and wraps in tendermint's unsigned field.
                max_bytes: Text(params.block.max_bytes.cast_signed()),
                max_gas: Text(params.block.max_gas),
            },
            evidence: EvidenceParams {
                max_age_num_blocks: Text(params.evidence.max_age_num_blocks),
                max_age_duration: Text(params.evidence.max_age_duration.0.as_nanos()),
                max_bytes: Text(params.evidence.max_bytes),
            },
            validator: ValidatorParams { pub_key_types: params.validator.pub_key_types.clone() },
            version: VersionParams {
                app: Text(params.version.as_ref().map_or(0, |version| version.app)),
            },
            abci: AbciParams {
                vote_extensions_enable_height: Text(extensions.map_or(0, |height| height.value())),
            },
        }
    }
}

/// The genesis document; `tercet` holds what CometBFT's has not.
#[derive(Serialize)]
pub(crate) struct GenesisDoc<'a> {
    genesis_time: Rfc3339,
    chain_id: &'a str,
    initial_height: Text<u64>,
    consensus_params: ConsensusParams,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    validators: Vec<GenesisValidator<'a>>,
    app_hash: Hex<&'a [u8]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_state: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tercet: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct GenesisValidator<'a> {
    address: Hex<Vec<u8>>,
    pub_key: PubKey,
    power: Text<u64>,
    name: &'a str,
}

impl<'a> From<&'a Genesis> for GenesisDoc<'a> {
    fn from(genesis: &'a Genesis) -> GenesisDoc<'a> {
        let validator = |member: &'a (tercet_consensus::key::PublicKey, u64, String)| {
            let (key, power, name) = member;
            let address = Hex(key.address().as_bytes().to_vec());
            GenesisValidator { address, pub_key: key.into(), power: Text(*power), name }
        };
        GenesisDoc {
            genesis_time: genesis.time.into(),
            chain_id: &genesis.chain_id,
            initial_height: Text(genesis.initial_height.value()),
            consensus_params: (&genesis.params).into(),
            validators: genesis.validators.iter().map(validator).collect(),
            app_hash: Hex(&genesis.app_hash),
            app_state: genesis.app_state.as_deref(),
            tercet: genesis.tercet.as_deref(),
        }
    }
}

/// Reply of `genesis_chunked`.
#[derive(Serialize)]
pub(crate) struct ChunkReply<'a> {
    pub(crate) chunk: Text<usize>,
    pub(crate) total: Text<usize>,
    pub(crate) data: Base64Text<&'a [u8]>,
}
