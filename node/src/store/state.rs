//! The state between two blocks, and how it, validator sets and parameters are encoded.

use prost::Message as _;
use std::sync::Arc;
use tendermint::block::Height;
use tendermint::consensus::Params;
use tendermint::{Hash, Time};
use tendermint_proto::google::protobuf::Timestamp;
use tendermint_proto::v0_38::{abci, types as pb};
use tercet_consensus::block::BlockId;
use tercet_consensus::key::PublicKey;
use tercet_consensus::validators::Validators;

/// The state after a block (or after `InitChain`): what the next block is built and checked against.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The chain.
    pub chain_id: String,
    /// The chain's first height.
    pub initial_height: Height,
    /// The height of the last block, none before the first.
    pub last_height: Option<Height>,
    /// The last block, none before the first.
    pub last_block_id: Option<BlockId>,
    /// The time of the last block; before the first, that of the genesis.
    pub last_block_time: Time,
    /// V(last), none before the first block.
    pub last_validators: Option<Arc<Validators>>,
    /// V(last + 1).
    pub validators: Arc<Validators>,
    /// V(last + 2).
    pub next_validators: Arc<Validators>,
    /// The parameters of the next block.
    pub params: Params,
    /// The application's hash after the last block.
    pub app_hash: Vec<u8>,
    /// The hash over the results of the last block.
    pub last_results_hash: Option<Hash>,
    /// The application's version of its protocol.
    pub app_version: u64,
    /// The lowest height of which evidence may stand in the next block: it never falls, whatever becomes of the parameters, so that no node needs what
    /// others have let go.
    pub evidence_floor: u64,
}

impl State {
    /// The height of the next block.
    #[must_use]
    pub fn next_height(&self) -> Height {
        self.last_height.map_or(self.initial_height, Height::increment)
    }
}

/// A block that the application has executed.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// Its height.
    pub height: Height,
    /// What the application answered.
    pub results: abci::ResponseFinalizeBlock,
    /// The state after it.
    pub state: State,
    /// The keys of the offences that the block tells of.
    pub offences: Vec<Vec<u8>>,
}

/// What of a state is stored under its own key; validators and parameters stand by height.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RawState {
    #[prost(string, tag = "1")]
    pub(super) chain_id: String,
    #[prost(uint64, tag = "2")]
    initial_height: u64,
    #[prost(uint64, optional, tag = "3")]
    last_height: Option<u64>,
    #[prost(message, optional, tag = "4")]
    last_block_id: Option<pb::BlockId>,
    #[prost(message, optional, tag = "5")]
    last_block_time: Option<Timestamp>,
    #[prost(bytes = "vec", tag = "6")]
    app_hash: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "7")]
    last_results_hash: Option<Vec<u8>>,
    #[prost(uint64, tag = "8")]
    app_version: u64,
    /// 0 where an older version wrote it: the next block says.
    #[prost(uint64, tag = "9")]
    evidence_floor: u64,
}

/// The sets and parameters around the next block.
pub(super) struct Lookups {
    pub(super) last_validators: Option<Arc<Validators>>,
    pub(super) validators: Arc<Validators>,
    pub(super) next_validators: Arc<Validators>,
    pub(super) params: Params,
}

impl From<&State> for RawState {
    fn from(state: &State) -> RawState {
        RawState {
            chain_id: state.chain_id.clone(),
            initial_height: state.initial_height.value(),
            last_height: state.last_height.map(|height| height.value()),
            last_block_id: state.last_block_id.map(pb::BlockId::from),
            last_block_time: Some(state.last_block_time.into()),
            app_hash: state.app_hash.clone(),
            last_results_hash: state.last_results_hash.map(|hash| hash.as_bytes().to_vec()),
            app_version: state.app_version,
            evidence_floor: state.evidence_floor,
        }
    }
}

impl RawState {
    /// The last height and the initial one.
    pub(super) fn heights(&self) -> Option<(Option<Height>, Height)> {
        let last = self.last_height.map(Height::try_from).transpose().ok()?;
        Some((last, Height::try_from(self.initial_height).ok()?))
    }

    /// The state with what stands by height; none where it is malformed.
    pub(super) fn complete(self, lookups: Lookups) -> Option<State> {
        let (last_height, initial_height) = self.heights()?;
        let results = self.last_results_hash.map(Hash::try_from).transpose().ok()?;
        Some(State {
            chain_id: self.chain_id,
            initial_height,
            last_height,
            last_block_id: self.last_block_id.map(BlockId::try_from).transpose().ok()?,
            last_block_time: Time::try_from(self.last_block_time?).ok()?,
            last_validators: lookups.last_validators,
            validators: lookups.validators,
            next_validators: lookups.next_validators,
            params: lookups.params,
            app_hash: self.app_hash,
            last_results_hash: results,
            app_version: self.app_version,
            evidence_floor: self.evidence_floor,
        })
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawValidators {
    #[prost(message, repeated, tag = "1")]
    list: Vec<pb::SimpleValidator>,
}

/// The bytes of a validator set.
pub(super) fn encode_validators(validators: &Validators) -> Vec<u8> {
    let infos = validators.to_tendermint().into_iter();
    let raw = |info: tendermint::validator::Info| pb::SimpleValidator {
        pub_key: Some(info.pub_key.into()),
        voting_power: info.power.into(),
    };
    RawValidators { list: infos.map(raw).collect() }.encode_to_vec()
}

/// The validator set in these bytes; none where they are malformed.
pub(super) fn decode_validators(bytes: &[u8]) -> Option<Validators> {
    let member = |raw: pb::SimpleValidator| {
        let key = tendermint::PublicKey::try_from(raw.pub_key?).ok()?;
        Some((PublicKey::try_from(&key).ok()?, u64::try_from(raw.voting_power).ok()?))
    };
    let raw = RawValidators::decode(bytes).ok()?;
    let members: Option<Vec<_>> = raw.list.into_iter().map(member).collect();
    Validators::new(members?).ok()
}

/// The bytes of parameters.
pub(super) fn encode_params(params: &Params) -> Vec<u8> {
    pb::ConsensusParams::from(params.clone()).encode_to_vec()
}

/// The parameters in these bytes; none where they are malformed.
pub(super) fn decode_params(bytes: &[u8]) -> Option<Params> {
    let mut raw = pb::ConsensusParams::decode(bytes).ok()?;
    // −1 stands for the largest of all; the conversion knows no negative sizes.
    let block = raw.block.as_mut()?;
    let unlimited = block.max_bytes == -1;
    block.max_bytes = if unlimited { 1 } else { block.max_bytes };
    let mut params = Params::try_from(raw).ok()?;
    if unlimited {
        params.block.max_bytes = u64::MAX;
    }
    Some(params)
}
