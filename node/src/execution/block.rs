//! What a header must say, from the state alone, and how a block is checked against it. Source: CometBFT `state/validation.go`,
//! `state/state.go`.

use super::{Refusal, State};
use prost::Message as _;
use sha2::{Digest, Sha256};
use std::time::Duration;
use tendermint::block::header::Version;
use tendermint::block::{Header, Height};
use tendermint::consensus::Params;
use tendermint::{AppHash, Hash, Time, chain};
use tendermint_proto::v0_38::types::HashedParams;
use tercet_consensus::block::{BLOCK_BYTES_MAX, SealedBlock};
use tercet_consensus::commit::{Commit, median_time};
use tercet_consensus::key::Address;

/// A block later than the clock by more than this is refused before PREPARE (PROTOCOL §5, CometBFT `block_time_tolerance`).
pub const CLOCK_DRIFT_MAX: Duration = Duration::from_secs(60);

/// The version of the block format (CometBFT `version/version.go`, `BlockProtocol`).
const BLOCK_PROTOCOL: u64 = 11;

/// Bytes of a block beside header, transactions, evidence and commit (CometBFT `types/block.go`, `MaxOverheadForBlock`).
const OVERHEAD_BYTES: usize = 11;
/// The largest header (CometBFT `types/block.go`, `MaxHeaderBytes`).
const HEADER_BYTES: usize = 626;
/// A commit without and for each signature (CometBFT `types/block.go`, `MaxCommitBytes`).
const COMMIT_BYTES: usize = 94;
const COMMIT_SIG_BYTES: usize = 111;

/// The header of the block that follows `state`; what follows from the body is filled in by [`SealedBlock::seal`]. None where
/// `last_commit` is not for the last block.
#[must_use]
pub fn header(state: &State, last_commit: Option<&Commit>, proposer: Address) -> Option<Header> {
    Some(Header {
        version: Version { block: BLOCK_PROTOCOL, app: state.app_version },
        chain_id: chain::Id::try_from(state.chain_id.clone()).ok()?,
        height: state.next_height(),
        time: time(state, last_commit)?,
        last_block_id: state.last_block_id,
        last_commit_hash: None,
        data_hash: None,
        validators_hash: state.validators.hash(),
        next_validators_hash: state.next_validators.hash(),
        consensus_hash: params_hash(&state.params),
        app_hash: AppHash::try_from(state.app_hash.clone()).ok()?,
        last_results_hash: state.last_results_hash,
        evidence_hash: None,
        proposer_address: proposer,
    })
}

/// *Block time*: the weighted median of the last commit; the genesis time at the initial height.
fn time(state: &State, last_commit: Option<&Commit>) -> Option<Time> {
    match (last_commit, &state.last_validators) {
        (Some(commit), Some(validators)) => median_time(commit, validators),
        (None, None) => Some(state.last_block_time),
        _ => None,
    }
}

/// Checks everything about a proposed block but its evidence, which is checked against the chain ([`crate::evidence::check_block`]), and
/// what the application thinks of it. That its proposer is the primary of its view, and
/// that its last commit verifies, is checked where the message is.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(block: &SealedBlock, state: &State, now: Time) -> Result<(), Refusal> {
    let found = block.header();
    let Some(right) = header(state, block.last_commit(), found.proposer_address) else {
        return Err(mismatch("last_commit", "unusable", "a commit of the block before"));
    };
    compare("version.block", &found.version.block, &right.version.block)?;
    compare("version.app", &found.version.app, &right.version.app)?;
    compare("chain_id", &found.chain_id, &right.chain_id)?;
    compare("height", &found.height, &right.height)?;
    compare_debug("last_block_id", &found.last_block_id, &right.last_block_id)?;
    if let Some(commit) = block.last_commit() {
        let last = state.last_block_id.zip(state.last_height);
        if last != Some((commit.block_id, commit.height)) {
            return Err(mismatch(
                "last_commit",
                "of another block",
                "a commit of the block before",
            ));
        }
    }
    compare("time", &found.time, &right.time)?;
    if state.last_height.is_some() && found.time <= state.last_block_time {
        return Err(mismatch("time", found.time, &format!("later than {}", state.last_block_time)));
    }
    compare("validators_hash", &found.validators_hash, &right.validators_hash)?;
    compare("next_validators_hash", &found.next_validators_hash, &right.next_validators_hash)?;
    compare("consensus_hash", &found.consensus_hash, &right.consensus_hash)?;
    compare_debug("app_hash", &found.app_hash, &right.app_hash)?;
    compare_debug("last_results_hash", &found.last_results_hash, &right.last_results_hash)?;
    if state.validators.index_of(&found.proposer_address).is_none() {
        return Err(mismatch("proposer_address", found.proposer_address, "one of a validator"));
    }
    let bytes_max = block_bytes_max(&state.params);
    if block.bytes().len() > bytes_max {
        return Err(Refusal::TooLarge(block.bytes().len(), bytes_max));
    }
    match found.time.duration_since(now) {
        Ok(ahead) if ahead > CLOCK_DRIFT_MAX => Err(Refusal::Future(found.time.to_string())),
        _ => Ok(()),
    }
}

fn compare<T: PartialEq + std::fmt::Display>(
    field: &'static str,
    found: &T,
    right: &T,
) -> Result<(), Refusal> {
    if found == right { Ok(()) } else { Err(mismatch(field, found, &right.to_string())) }
}

fn compare_debug<T: PartialEq + std::fmt::Debug>(
    field: &'static str,
    found: &T,
    right: &T,
) -> Result<(), Refusal> {
    compare(field, &Shown(found), &Shown(right))
}

/// Shows a value that has no text of its own.
struct Shown<'a, T>(&'a T);

impl<T: PartialEq> PartialEq for Shown<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T: std::fmt::Debug> std::fmt::Display for Shown<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

fn mismatch(field: &'static str, found: impl std::fmt::Display, expected: &str) -> Refusal {
    Refusal::Header { field, found: found.to_string(), expected: expected.to_owned() }
}

/// The largest block in bytes that these parameters allow; −1 stands for the largest of all.
#[must_use]
pub fn block_bytes_max(params: &Params) -> usize {
    let bytes = usize::try_from(params.block.max_bytes).unwrap_or(BLOCK_BYTES_MAX);
    bytes.min(BLOCK_BYTES_MAX)
}

/// The most bytes of transactions in a block after `state` with so many bytes of evidence (CometBFT `types/block.go`, `MaxDataBytes`).
#[must_use]
pub fn data_bytes_max(state: &State, evidence: usize) -> usize {
    let validators = state.last_validators.as_ref().map_or(0, |validators| validators.count());
    let commit = COMMIT_BYTES.saturating_add(COMMIT_SIG_BYTES.saturating_mul(validators));
    let rest =
        OVERHEAD_BYTES.saturating_add(HEADER_BYTES).saturating_add(commit).saturating_add(evidence);
    block_bytes_max(&state.params).saturating_sub(rest)
}

/// The bytes that transactions take in a block, with their length prefixes (CometBFT `types/tx.go`, `ComputeProtoSizeForTxs`).
#[must_use]
pub fn data_bytes(txs: &[bytes::Bytes]) -> usize {
    txs.iter().map(|tx| 1 + prost::length_delimiter_len(tx.len()) + tx.len()).sum()
}

/// `consensus_hash`: SHA-256 of the hashed part of the parameters (CometBFT `types/params.go`, `Hash`).
#[must_use]
pub fn params_hash(params: &Params) -> Hash {
    let hashed = HashedParams {
        block_max_bytes: i64::try_from(params.block.max_bytes).unwrap_or(-1),
        block_max_gas: params.block.max_gas,
    };
    Hash::Sha256(Sha256::digest(hashed.encode_to_vec()).into())
}

/// The height after `state`, checked against that of a block.
#[must_use]
pub fn follows(state: &State, height: Height) -> bool {
    state.next_height() == height
}
