//! What the application changes: the state after a block. Source: CometBFT `state/execution.go` `updateState`,
//! `types/validator_set.go`, `types/params.go` `ValidateUpdate`.

use super::{Applied, ExecutionError, State};
use crate::evidence;
use prost::Message as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use tendermint::block::Height;
use tendermint::consensus::Params;
use tendermint::{Hash, public_key};
use tendermint_proto::v0_38::abci::{
    ExecTxResult, ResponseFinalizeBlock, ResponseInitChain, ValidatorUpdate,
};
use tendermint_proto::v0_38::crypto::public_key::Sum;
use tendermint_proto::v0_38::types::ConsensusParams;
use tercet_consensus::block::{BLOCK_BYTES_MAX, SealedBlock};
use tercet_consensus::key::{Address, PublicKey};
use tercet_consensus::merkle;
use tercet_consensus::power::TOTAL_POWER_MAX;
use tercet_consensus::validators::Validators;

/// The state after `block`, which the application answered with `results`. Updates of FinalizeBlock(H) take effect at H+2, parameters
/// at H+1. The floor of evidence, which takes the chain to know, is that before.
///
/// # Errors
/// Where the answer breaks a rule; then nothing changes.
pub fn after_block(
    state: &State,
    block: &SealedBlock,
    results: ResponseFinalizeBlock,
) -> Result<Applied, ExecutionError> {
    let height = block.header().height;
    let wrong = |what: String| ExecutionError::Answer { height, what };
    check_count(block, &results)?;
    let params = match &results.consensus_param_updates {
        None => state.params.clone(),
        Some(updates) => {
            let enable_after = state.next_height().value();
            update_params(&state.params, updates, enable_after).map_err(&wrong)?
        }
    };
    let next_validators = if results.validator_updates.is_empty() {
        state.next_validators.clone()
    } else {
        // By the parameters before the block, as CometBFT checks them.
        let updates = &results.validator_updates;
        let set = update_validators(&state.next_validators, updates, &state.params);
        Arc::new(set.map_err(&wrong)?)
    };
    let app_version = match &results.consensus_param_updates {
        Some(_) => app_version(&params),
        None => state.app_version,
    };
    let state = State {
        chain_id: state.chain_id.clone(),
        initial_height: state.initial_height,
        last_height: Some(height),
        last_block_id: Some(block.id()),
        last_block_time: block.header().time,
        last_validators: Some(state.validators.clone()),
        validators: state.next_validators.clone(),
        next_validators,
        params,
        app_hash: results.app_hash.to_vec(),
        last_results_hash: Some(results_hash(&results.tx_results)),
        app_version,
        evidence_floor: state.evidence_floor,
    };
    let offences = evidence::marks(&block.block().evidence);
    let offences = offences.iter().map(evidence::Key::to_bytes).collect();
    Ok(Applied { height, results, state, offences })
}

/// The version of the application that headers say after an update of any parameter: that of the parameters, also where the update does not
/// name it (CometBFT `state/execution.go`, `updateState`; `consensus/replay.go`). What `Info` said counts until the first update.
fn app_version(params: &Params) -> u64 {
    params.version.as_ref().map_or(0, |version| version.app)
}

/// Every transaction has a result (CometBFT `state/execution.go`, `applyBlock`).
///
/// # Errors
/// Where it is not so: the node halts before `Commit`, and nothing changes.
pub(super) fn check_count(
    block: &SealedBlock,
    results: &ResponseFinalizeBlock,
) -> Result<(), ExecutionError> {
    let (answers, txs) = (results.tx_results.len(), block.txs().len());
    if answers == txs {
        return Ok(());
    }
    let what = format!("{answers} results for {txs} transactions");
    Err(ExecutionError::Answer { height: block.header().height, what })
}

/// The first state, after `InitChain` answered.
///
/// # Errors
/// Where the answer breaks a rule.
pub fn after_init(mut state: State, answer: &ResponseInitChain) -> Result<State, ExecutionError> {
    if let Some(updates) = &answer.consensus_params {
        state.params = update_params(&state.params, updates, 0).map_err(ExecutionError::Init)?;
        state.app_version = app_version(&state.params);
    }
    if !answer.validators.is_empty() {
        // One without power is refused: there is nobody to be removed.
        let members = members(&answer.validators, &state.params).map_err(ExecutionError::Init)?;
        let validators = Validators::new(members.into_values())
            .map_err(|error| ExecutionError::Init(format!("bad validators: {error}")))?;
        state.validators = Arc::new(validators);
        state.next_validators = state.validators.clone();
    }
    if !answer.app_hash.is_empty() {
        state.app_hash = answer.app_hash.to_vec();
    }
    Ok(state)
}

/// `last_results_hash`: the root over what is deterministic in each result (CometBFT `types/results.go`).
#[must_use]
pub fn results_hash(results: &[ExecTxResult]) -> Hash {
    let leaves: Vec<Vec<u8>> = results
        .iter()
        .map(|result| {
            let deterministic = ExecTxResult {
                code: result.code,
                data: result.data.clone(),
                gas_wanted: result.gas_wanted,
                gas_used: result.gas_used,
                ..ExecTxResult::default()
            };
            deterministic.encode_to_vec()
        })
        .collect();
    merkle::root(&leaves)
}

type Members = BTreeMap<Address, (PublicKey, u64)>;

/// The updates by address. Refused are a key twice, a negative power, an unknown kind of key, and one that is not permitted where it is
/// not removed (CometBFT `validateValidatorUpdates`).
fn members(updates: &[ValidatorUpdate], params: &Params) -> Result<Members, String> {
    let mut members = Members::new();
    for update in updates {
        let raw = update.pub_key.as_ref().filter(|key| key.sum.is_some());
        let raw = raw.ok_or("a validator update without a key")?;
        let kind = match raw.sum {
            Some(Sum::Secp256k1(_)) => "secp256k1",
            _ => "ed25519",
        };
        let key = PublicKey::try_from(raw)
            .map_err(|_| format!("a validator update whose {kind} key is not a valid one"))?;
        let permitted = params.validator.pub_key_types.contains(&key.algorithm());
        if update.power > 0 && !permitted {
            return Err(format!(
                "a validator with a key of {kind}, which validator.pub_key_types does not permit"
            ));
        }
        let power = u64::try_from(update.power)
            .map_err(|_| format!("the negative voting power {}", update.power))?;
        if power > TOTAL_POWER_MAX {
            return Err(format!("the voting power {power}, above the limit {TOTAL_POWER_MAX}"));
        }
        let address = key.address();
        if members.insert(address, (key, power)).is_some() {
            return Err(format!("two updates of validator {address}"));
        }
    }
    Ok(members)
}

/// The set after the updates: power 0 removes.
fn update_validators(
    old: &Validators,
    updates: &[ValidatorUpdate],
    params: &Params,
) -> Result<Validators, String> {
    let updates = members(updates, params)?;
    let mut set: Members = old.list().iter().map(|v| (v.address, (v.key, v.power))).collect();
    for (address, (key, power)) in updates {
        if power > 0 {
            set.insert(address, (key, power));
        } else if set.remove(&address).is_none() {
            return Err(format!("the removal of {address}, which is no validator"));
        }
    }
    Validators::new(set.into_values()).map_err(|error| error.to_string())
}

/// The parameters after the updates; what is absent stays. `height` is that of the block, 0 for `InitChain`.
fn update_params(old: &Params, updates: &ConsensusParams, height: u64) -> Result<Params, String> {
    let mut params = old.clone();
    if let Some(block) = &updates.block {
        params.block.max_bytes = match block.max_bytes {
            -1 => u64::MAX,
            bytes => u64::try_from(bytes).map_err(|_| wrong_block_bytes(bytes))?,
        };
        params.block.max_gas = block.max_gas;
    }
    if let Some(evidence) = &updates.evidence {
        params.evidence = tendermint::evidence::Params::try_from(*evidence)
            .map_err(|error| format!("evidence parameters that are not valid: {error}"))?;
    }
    if let Some(validator) = &updates.validator {
        let known = |name: &String| match name.as_str() {
            "ed25519" => Ok(public_key::Algorithm::Ed25519),
            "secp256k1" => Ok(public_key::Algorithm::Secp256k1),
            other => Err(format!("the unknown validator.pub_key_types {other:?}")),
        };
        params.validator.pub_key_types =
            validator.pub_key_types.iter().map(known).collect::<Result<_, _>>()?;
    }
    if let Some(version) = &updates.version {
        params.version = Some(tendermint::consensus::params::VersionParams { app: version.app });
    }
    if let Some(abci) = &updates.abci {
        let begin = abci.vote_extensions_enable_height;
        params.abci.vote_extensions_enable_height =
            update_extensions(old.abci.vote_extensions_enable_height, begin, height)?;
    }
    check_params(&params)?;
    Ok(params)
}

/// The height from which on there are vote extensions, after an update in block `height`: above the block, and once it is reached, for
/// ever (CometBFT `types/params.go`, `ValidateUpdate`).
pub(super) fn update_extensions(
    old: Option<Height>,
    new: i64,
    height: u64,
) -> Result<Option<Height>, String> {
    let begin = u64::try_from(new)
        .map_err(|_| format!("the negative vote_extensions_enable_height {new}"))?;
    let known = old.map_or(0, |old| old.value());
    if begin == known {
        return Ok(old);
    }
    if begin == 0 {
        return Err(format!(
            "vote_extensions_enable_height 0, and it is {known}: vote extensions cannot be disabled once a height for them is set"
        ));
    }
    if begin <= height {
        return Err(format!(
            "vote_extensions_enable_height {begin}, which must be above the block, {height}"
        ));
    }
    if known != 0 && known <= height {
        return Err(format!(
            "vote_extensions_enable_height {begin}, and vote extensions have begun at {known} already"
        ));
    }
    Height::try_from(begin)
        .map(Some)
        .map_err(|error| format!("vote_extensions_enable_height {begin}: {error}"))
}

/// The bounds of the parameters (CometBFT `types/params.go`, `ValidateBasic`).
///
/// # Errors
/// The first that is out of bounds, in words.
pub fn check_params(params: &Params) -> Result<(), String> {
    let bytes = params.block.max_bytes;
    let limit = u64::try_from(BLOCK_BYTES_MAX).unwrap_or(u64::MAX);
    if bytes == 0 || (bytes > limit && bytes != u64::MAX) {
        return Err(wrong_block_bytes(bytes));
    }
    if params.block.max_gas < -1 {
        return Err(format!("block.max_gas {}, which must be −1 or more", params.block.max_gas));
    }
    if params.evidence.max_age_num_blocks == 0 {
        return Err("evidence.max_age_num_blocks 0, which must be above 0".into());
    }
    if params.evidence.max_age_duration.0.is_zero() {
        return Err("evidence.max_age_duration 0, which must be above 0".into());
    }
    // A block without a limit has the largest of all as its limit.
    let evidence_max = bytes.min(limit);
    let evidence = params.evidence.max_bytes;
    if u64::try_from(evidence).ok().is_none_or(|evidence| evidence > evidence_max) {
        return Err(format!(
            "evidence.max_bytes {evidence}, which must be from 0 to block.max_bytes, {evidence_max}"
        ));
    }
    if params.validator.pub_key_types.is_empty() {
        return Err("no validator.pub_key_types".into());
    }
    Ok(())
}

fn wrong_block_bytes(bytes: impl std::fmt::Display) -> String {
    format!("block.max_bytes {bytes}, which must be −1 or from 1 to {BLOCK_BYTES_MAX}")
}
