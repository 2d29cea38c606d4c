//! What stands in a block beside its header, and what came of it, checked against the hashes that headers name.
//!
//! A hash covers what it covers: of a commit its entries, not height, round or block; of consensus parameters the size and gas of
//! blocks; of results code, data and gas. What is beside these is not checked here, so callers must not pass it on as checked.

use crate::commit::Commit;
use crate::hash::Hash;
use crate::header::Header;
use crate::tree::{Inclusion, InclusionError};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tendermint_proto::v0_38::abci::ExecTxResult;
use tendermint_proto::v0_38::types as pb;
use tercet_consensus::merkle;

/// What does not fit a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// The transactions are others.
    #[error("the transactions are not those of the header")]
    Data,
    /// The commit of the block before is another.
    #[error("the last commit is not that of the header")]
    LastCommit,
    /// The evidence is another.
    #[error("the evidence is not that of the header")]
    Evidence,
    /// The results are others.
    #[error("the results are not those of the next header")]
    Results,
    /// The parameters are others.
    #[error("the parameters are not those of the header")]
    Params,
    /// The proof is none of a transaction in this block.
    #[error("{0}")]
    Inclusion(#[from] InclusionError),
}

/// The hash of a transaction.
#[must_use]
pub fn tx_hash(tx: &[u8]) -> Hash {
    Hash::new(Sha256::digest(tx).into())
}

fn is(found: tendermint::Hash, named: Option<Hash>) -> bool {
    named.is_some() && Hash::from_tendermint(found) == named
}

/// Checks the transactions of a block.
///
/// # Errors
/// Where they are others than those of `header`.
pub fn check_data(header: &Header, txs: &[impl AsRef<[u8]>]) -> Result<(), ContentError> {
    let hashes: Vec<[u8; 32]> = txs.iter().map(|tx| Sha256::digest(tx.as_ref()).into()).collect();
    // Some chains leave the hash of no transactions out.
    let none = txs.is_empty() && header.data_hash().is_none();
    let fits = none || is(merkle::root(&hashes), header.data_hash());
    if fits { Ok(()) } else { Err(ContentError::Data) }
}

/// Checks that a transaction stands in a block.
///
/// # Errors
/// Where the proof does not show it.
pub fn check_tx(header: &Header, tx: &[u8], proof: &Inclusion) -> Result<(), ContentError> {
    let root = header.data_hash().ok_or(ContentError::Data)?;
    Ok(proof.verify(root, tx_hash(tx).as_bytes())?)
}

/// Checks the entries of the commit for the block before; its height and block too, but not its round, which only signatures show.
/// The first block has none.
///
/// # Errors
/// Where it is another than that of `header`.
pub fn check_last_commit(header: &Header, commit: Option<&Commit>) -> Result<(), ContentError> {
    let fits = match (header.last_block(), commit) {
        (None, None) => true,
        (Some(hash), Some(commit)) => {
            commit.height + 1 == header.height()
                && commit.block_id.hash == hash
                && header.last_block_id() == Some(commit.block_id)
                && header.last_commit_hash() == Some(commit.hash())
        }
        _ => false,
    };
    if fits { Ok(()) } else { Err(ContentError::LastCommit) }
}

/// Checks the evidence of a block.
///
/// # Errors
/// Where it is another than that of `header`.
pub fn check_evidence(header: &Header, evidence: &pb::EvidenceList) -> Result<(), ContentError> {
    let none = evidence.evidence.is_empty() && header.evidence_hash().is_none();
    let found = tercet_consensus::block::evidence_hash(evidence);
    let fits = none || is(found, header.evidence_hash());
    if fits { Ok(()) } else { Err(ContentError::Evidence) }
}

/// What of a result is the same on every node.
#[must_use]
pub fn deterministic(result: &ExecTxResult) -> ExecTxResult {
    ExecTxResult {
        code: result.code,
        data: result.data.clone(),
        gas_wanted: result.gas_wanted,
        gas_used: result.gas_used,
        ..ExecTxResult::default()
    }
}

/// Checks the results of a block's transactions against `next`, the header of the height above (CometBFT `types/results.go`).
///
/// # Errors
/// Where they are others.
pub fn check_results(next: &Header, results: &[ExecTxResult]) -> Result<(), ContentError> {
    let leaves: Vec<Vec<u8>> =
        results.iter().map(|result| deterministic(result).encode_to_vec()).collect();
    let none = results.is_empty() && next.last_results_hash().is_none();
    let fits = none || is(merkle::root(&leaves), next.last_results_hash());
    if fits { Ok(()) } else { Err(ContentError::Results) }
}

/// Checks the limits of blocks against those of a header (CometBFT `types/params.go`, `ConsensusParams.Hash`).
///
/// # Errors
/// Where they are others.
pub fn check_params(header: &Header, max_bytes: i64, max_gas: i64) -> Result<(), ContentError> {
    let hashed = pb::HashedParams { block_max_bytes: max_bytes, block_max_gas: max_gas };
    let found = Hash::new(Sha256::digest(hashed.encode_to_vec()).into());
    if header.consensus_hash() == Some(found) { Ok(()) } else { Err(ContentError::Params) }
}
