//! Evidence in blocks: what one may hold, what it marks, and what the application is told.

use super::facts::{Facts, Tip};
use super::piece::{Piece, Proof};
use super::{EvidenceError, Invalid, Key};
use bytes::Bytes;
use prost::Message as _;
use std::collections::BTreeSet;
use std::sync::Arc;
use tendermint_proto::v0_38::abci::{Misbehavior, MisbehaviorType, Validator};
use tendermint_proto::v0_38::types as pb;
use tendermint_proto::v0_38::types::evidence::Sum;
use tercet_consensus::block::{EVIDENCE_BYTES_MAX, EVIDENCE_MAX};
use tercet_consensus::verify::SignatureCheck;

/// The most bytes of evidence in the next block, with their prefixes: what the parameters allow, and no block may exceed.
#[must_use]
pub fn bytes_max(tip: &Tip<'_>) -> usize {
    usize::try_from(tip.params.max_bytes).unwrap_or(0).min(EVIDENCE_BYTES_MAX)
}

/// Whether the evidence of a block after `tip` is valid: its size, each piece against the chain, and no offence twice, neither in it nor
/// in an earlier block. That the header covers it is checked where the block is decoded. (CometBFT `CheckEvidence`, and stricter: the
/// offence counts, not the bytes.)
///
/// # Errors
/// The first thing that is wrong, or where the chain cannot be read.
pub fn check_block(
    list: &pb::EvidenceList,
    tip: &Tip<'_>,
    facts: &dyn Facts,
    check: &dyn SignatureCheck,
) -> Result<(), EvidenceError> {
    let (size, most) = (list.encoded_len(), bytes_max(tip));
    if size > most {
        return Err(Invalid::TooMuch(size, most).into());
    }
    let mut offences = BTreeSet::new();
    for raw in &list.evidence {
        let piece = Piece::new(raw.clone())?;
        if !offences.insert(piece.key()) {
            return Err(Invalid::Twice.into());
        }
        check_piece(&piece, tip, facts, check)?;
    }
    Ok(())
}

/// Whether a block after `tip` may hold this piece.
///
/// # Errors
/// The first thing that is wrong, or where the chain cannot be read.
pub fn check_piece(
    piece: &Piece,
    tip: &Tip<'_>,
    facts: &dyn Facts,
    check: &dyn SignatureCheck,
) -> Result<(), EvidenceError> {
    // A mark of a later block is that of the block in question, where it is executed once more.
    if facts.committed(&piece.key())?.is_some_and(|height| tip.has(height)) {
        return Err(Invalid::Committed.into());
    }
    let height = piece.height();
    if !tip.has(height) {
        return Err(Invalid::Early(height).into());
    }
    // Before anything is looked up: whoever prunes may not have it any more.
    if height.value() < tip.floor {
        return Err(Invalid::Old { height, time: piece.time() }.into());
    }
    let right = facts.header(height)?.ok_or(Invalid::Missing(height))?.time;
    if piece.time() != right {
        return Err(Invalid::Time { found: piece.time(), right }.into());
    }
    tip.check_age(height, right)?;
    match &piece.proof {
        Proof::Votes(votes) => votes.verify(tip, facts, check),
        Proof::Attack(attack) => attack.verify(tip, facts, check),
    }
}

/// The pieces that go into a block of at most `bytes_max` bytes of evidence, oldest first; `may` says which may.
pub fn select<E>(
    pending: &[Arc<Piece>],
    bytes_max: usize,
    mut may: impl FnMut(&Piece) -> Result<bool, E>,
) -> Result<pb::EvidenceList, E> {
    let mut list = pb::EvidenceList::default();
    let mut size = 0usize;
    for piece in pending {
        let bytes = piece.size_bytes();
        let next = size + 1 + prost::length_delimiter_len(bytes) + bytes;
        if next <= bytes_max && list.evidence.len() < EVIDENCE_MAX && may(piece)? {
            size = next;
            list.evidence.push(piece.raw().clone());
        }
    }
    Ok(list)
}

/// The offences in a block that was checked: each is marked once the block is executed.
#[must_use]
pub fn marks(list: &pb::EvidenceList) -> Vec<Key> {
    let pieces = list.evidence.iter().filter_map(|raw| Piece::new(raw.clone()).ok());
    pieces.map(|piece| piece.key()).collect()
}

/// What the application is told of the evidence in a block that was checked (CometBFT `types/evidence.go`, `ToABCI`).
#[must_use]
pub fn misbehavior(list: &pb::EvidenceList) -> Vec<Misbehavior> {
    list.evidence.iter().flat_map(told).collect()
}

fn told(evidence: &pb::Evidence) -> Vec<Misbehavior> {
    match &evidence.sum {
        None => Vec::new(),
        Some(Sum::DuplicateVoteEvidence(inner)) => {
            let Some(vote) = &inner.vote_a else { return Vec::new() };
            let address = Bytes::copy_from_slice(&vote.validator_address);
            vec![Misbehavior {
                r#type: MisbehaviorType::DuplicateVote.into(),
                validator: Some(Validator { address, power: inner.validator_power }),
                height: vote.height,
                time: inner.timestamp,
                total_voting_power: inner.total_voting_power,
            }]
        }
        Some(Sum::LightClientAttackEvidence(inner)) => {
            let of = |validator: &pb::Validator| Misbehavior {
                r#type: MisbehaviorType::LightClientAttack.into(),
                validator: Some(Validator {
                    address: Bytes::copy_from_slice(&validator.address),
                    power: validator.voting_power,
                }),
                height: inner.common_height,
                time: inner.timestamp,
                total_voting_power: inner.total_voting_power,
            };
            inner.byzantine_validators.iter().map(of).collect()
        }
    }
}
