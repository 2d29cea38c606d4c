//! A block as ABCI requests.

use super::State;
use crate::evidence::misbehavior;
use bytes::Bytes;
use tendermint::account;
use tendermint::block::Header;
use tendermint_proto::v0_38::abci::{
    CommitInfo, ExtendedCommitInfo, ExtendedVoteInfo, RequestExtendVote, RequestFinalizeBlock,
    RequestPrepareProposal, RequestProcessProposal, RequestVerifyVoteExtension, Validator,
    VoteInfo,
};
use tendermint_proto::v0_38::types::{BlockIdFlag, EvidenceList};
use tercet_consensus::block::SealedBlock;
use tercet_consensus::commit::Commit;
use tercet_consensus::message::Vote;
use tercet_consensus::validators::Validators;

/// `FinalizeBlock` of a block that was proposed after `state`.
#[must_use]
pub fn finalize(block: &SealedBlock, state: &State) -> RequestFinalizeBlock {
    let header = block.header();
    RequestFinalizeBlock {
        txs: block.txs().to_vec(),
        decided_last_commit: Some(commit_info(block.last_commit(), state)),
        misbehavior: misbehavior(&block.block().evidence),
        hash: hash(block),
        height: height(header),
        time: Some(header.time.into()),
        next_validators_hash: next_validators_hash(header),
        proposer_address: address(header.proposer_address),
    }
}

/// `ProcessProposal` of a block that was proposed after `state`.
pub(super) fn process(block: &SealedBlock, state: &State) -> RequestProcessProposal {
    let header = block.header();
    RequestProcessProposal {
        txs: block.txs().to_vec(),
        proposed_last_commit: Some(commit_info(block.last_commit(), state)),
        misbehavior: misbehavior(&block.block().evidence),
        hash: hash(block),
        height: height(header),
        time: Some(header.time.into()),
        next_validators_hash: next_validators_hash(header),
        proposer_address: address(header.proposer_address),
    }
}

/// `ExtendVote` of this node's COMMIT for a block that was proposed after `state`.
pub(super) fn extend(block: &SealedBlock, state: &State) -> RequestExtendVote {
    let header = block.header();
    RequestExtendVote {
        hash: hash(block),
        height: height(header),
        time: Some(header.time.into()),
        txs: block.txs().to_vec(),
        proposed_last_commit: Some(commit_info(block.last_commit(), state)),
        misbehavior: misbehavior(&block.block().evidence),
        next_validators_hash: next_validators_hash(header),
        proposer_address: address(header.proposer_address),
    }
}

/// `VerifyVoteExtension` of a COMMIT.
pub(super) fn verify_extension(vote: &Vote, extension: &Bytes) -> RequestVerifyVoteExtension {
    RequestVerifyVoteExtension {
        hash: Bytes::copy_from_slice(vote.block_id.hash.as_bytes()),
        validator_address: address(vote.validator),
        height: i64::try_from(vote.height.value()).unwrap_or(i64::MAX),
        vote_extension: extension.clone(),
    }
}

/// What the primary asks for its block.
pub(super) struct Prepare<'a> {
    /// The header as far as it is known.
    pub(super) header: &'a Header,
    /// Commit(h−1), extended.
    pub(super) last_commit: Option<&'a Commit>,
    /// Transactions from the pool.
    pub(super) txs: Vec<Bytes>,
    /// The most bytes of transactions.
    pub(super) bytes_max: usize,
    /// The evidence that the block is to hold.
    pub(super) evidence: &'a EvidenceList,
}

/// `PrepareProposal`.
pub(super) fn prepare(prepare: Prepare<'_>, state: &State) -> RequestPrepareProposal {
    let Prepare { header, last_commit, txs, bytes_max, evidence } = prepare;
    RequestPrepareProposal {
        max_tx_bytes: i64::try_from(bytes_max).unwrap_or(i64::MAX),
        txs,
        local_last_commit: Some(extended_commit_info(last_commit, state)),
        misbehavior: misbehavior(evidence),
        height: height(header),
        time: Some(header.time.into()),
        next_validators_hash: next_validators_hash(header),
        proposer_address: address(header.proposer_address),
    }
}

fn commit_info(commit: Option<&Commit>, state: &State) -> CommitInfo {
    let Some((commit, validators)) = commit.zip(state.last_validators.as_deref()) else {
        return CommitInfo::default();
    };
    let votes = signed(commit, validators).map(|(validator, entry)| VoteInfo {
        validator: Some(validator),
        block_id_flag: flag(entry.is_some()),
    });
    CommitInfo { round: round(commit), votes: votes.collect() }
}

fn extended_commit_info(commit: Option<&Commit>, state: &State) -> ExtendedCommitInfo {
    let Some((commit, validators)) = commit.zip(state.last_validators.as_deref()) else {
        return ExtendedCommitInfo::default();
    };
    let begin = state.params.abci.vote_extensions_enable_height;
    let extended = begin.is_some_and(|begin| begin <= commit.height);
    let votes = signed(commit, validators).map(|(validator, entry)| {
        let extension = entry.as_ref().filter(|_| extended).and_then(|e| e.extension.clone());
        let (data, signature) = extension
            .map(|extension| (extension.data, Bytes::copy_from_slice(&extension.signature.0)))
            .unwrap_or_default();
        ExtendedVoteInfo {
            validator: Some(validator),
            vote_extension: data,
            extension_signature: signature,
            block_id_flag: flag(entry.is_some()),
        }
    });
    ExtendedCommitInfo { round: round(commit), votes: votes.collect() }
}

type Entry = Option<tercet_consensus::commit::CommitSig>;

fn signed<'a>(
    commit: &'a Commit,
    validators: &'a Validators,
) -> impl Iterator<Item = (Validator, &'a Entry)> {
    validators.list().iter().zip(&commit.signatures).map(|(validator, entry)| {
        let power = i64::try_from(validator.power).unwrap_or(i64::MAX);
        (Validator { address: address(validator.address), power }, entry)
    })
}

fn flag(signed: bool) -> i32 {
    (if signed { BlockIdFlag::Commit } else { BlockIdFlag::Absent }).into()
}

fn round(commit: &Commit) -> i32 {
    i32::try_from(commit.view.number()).unwrap_or(i32::MAX)
}

fn height(header: &Header) -> i64 {
    i64::try_from(header.height.value()).unwrap_or(i64::MAX)
}

fn hash(block: &SealedBlock) -> Bytes {
    Bytes::copy_from_slice(block.id().hash.as_bytes())
}

fn next_validators_hash(header: &Header) -> Bytes {
    Bytes::copy_from_slice(header.next_validators_hash.as_bytes())
}

fn address(address: account::Id) -> Bytes {
    Bytes::copy_from_slice(address.as_bytes())
}
