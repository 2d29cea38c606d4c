//! Two votes of one validator, of one type, for one height and view: `DuplicateVoteEvidence`.

use super::facts::{Facts, Tip};
use super::piece::{Key, What, address, height, time};
use super::{EvidenceError, Invalid};
use prost::Message as _;
use tendermint::Time;
use tendermint::block::Height;
use tendermint_proto::v0_38::types as pb;
use tercet_consensus::block::BlockId;
use tercet_consensus::key::{Address, Signature};
use tercet_consensus::message::SignedVote;
use tercet_consensus::validators::Validators;
use tercet_consensus::verify::SignatureCheck;

/// The largest signature that CometBFT takes (`types/signable.go`, `MaxSignatureSize`).
const SIGNATURE_BYTES_MAX: usize = 64;

/// One of the votes. Nothing is ever voted nil here, but whoever signs nil and a block has signed twice.
#[derive(Clone, Debug, PartialEq)]
struct One {
    kind: pb::SignedMsgType,
    height: Height,
    round: u32,
    block_id: Option<BlockId>,
    time: Time,
    validator: Address,
    signature: Signature,
}

/// Both votes, and what the evidence says of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Votes {
    a: One,
    b: One,
    total_power: i64,
    power: i64,
    pub(super) time: Time,
}

impl Votes {
    pub(super) fn new(raw: &pb::DuplicateVoteEvidence) -> Result<Votes, Invalid> {
        let (Some(a), Some(b)) = (&raw.vote_a, &raw.vote_b) else {
            return Err(Invalid::Form("one or both of the votes are empty"));
        };
        if block_key(a.block_id.as_ref()) >= block_key(b.block_id.as_ref()) {
            return Err(Invalid::Form("duplicate votes in invalid order"));
        }
        let (a, b) = (One::new(a)?, One::new(b)?);
        if (a.height, a.round, a.kind) != (b.height, b.round, b.kind) {
            return Err(Invalid::Form("h/r/s does not match"));
        }
        if a.validator != b.validator {
            return Err(Invalid::Form("validator addresses do not match"));
        }
        let (total_power, power) = (raw.total_voting_power, raw.validator_power);
        Ok(Votes { a, b, total_power, power, time: time(raw.timestamp.as_ref())? })
    }

    pub(super) fn height(&self) -> Height {
        self.a.height
    }

    pub(super) fn key(&self) -> Key {
        let One { round, kind, validator, .. } = &self.a;
        let kind = if *kind == pb::SignedMsgType::Prevote { 1 } else { 2 };
        let what = What::Votes { view: *round, kind, validator: *validator };
        Key { height: self.a.height.value(), what }
    }

    /// CometBFT `VerifyDuplicateVote`.
    pub(super) fn verify(
        &self,
        tip: &Tip<'_>,
        facts: &dyn Facts,
        check: &dyn SignatureCheck,
    ) -> Result<(), EvidenceError> {
        let height = self.a.height;
        let validators = facts.validators(height)?.ok_or(Invalid::Missing(height))?;
        let index = validators.index_of(&self.a.validator);
        let Some(validator) = index.and_then(|index| validators.at(index)) else {
            return Err(Invalid::Stranger { validator: self.a.validator, height }.into());
        };
        same_power("validator power", self.power, validator.power)?;
        same_power("total voting power", self.total_power, validators.total_power())?;
        for (vote, name) in [(&self.a, "VoteA"), (&self.b, "VoteB")] {
            let bytes = vote.sign_bytes(tip.chain_id);
            if !check.check(&validator.key, &bytes, &vote.signature) {
                return Err(Invalid::Signature(name).into());
            }
        }
        Ok(())
    }
}

/// Powers in evidence are those of the chain.
pub(super) fn same_power(what: &'static str, found: i64, right: u64) -> Result<(), Invalid> {
    match u64::try_from(found) {
        Ok(found) if found == right => Ok(()),
        _ => Err(Invalid::Power { what, found, right }),
    }
}

impl One {
    /// CometBFT `Vote.ValidateBasic`.
    fn new(raw: &pb::Vote) -> Result<One, Invalid> {
        let kind = match pb::SignedMsgType::try_from(raw.r#type) {
            Ok(kind @ (pb::SignedMsgType::Prevote | pb::SignedMsgType::Precommit)) => kind,
            _ => return Err(Invalid::Form("invalid Type")),
        };
        let round = u32::try_from(raw.round).map_err(|_| Invalid::Form("negative Round"))?;
        if raw.validator_index < 0 {
            return Err(Invalid::Form("negative ValidatorIndex"));
        }
        let signature = Signature::from_slice(&raw.signature)
            .ok_or(Invalid::Form("a signature that is not of 64 bytes"))?;
        let block_id = block_id(raw.block_id.as_ref())?;
        let extends = kind == pb::SignedMsgType::Precommit && block_id.is_some();
        let (data, signed) = (raw.extension.len(), raw.extension_signature.len());
        if !extends && (data > 0 || signed > 0) {
            return Err(Invalid::Form("unexpected vote extension"));
        }
        if signed > SIGNATURE_BYTES_MAX || (signed == 0 && data > 0) {
            return Err(Invalid::Form("a vote extension without a signature"));
        }
        Ok(One {
            kind,
            height: height(raw.height)?,
            round,
            block_id,
            time: time(raw.timestamp.as_ref())?,
            validator: address(&raw.validator_address)?,
            signature,
        })
    }

    /// What its signature covers (CometBFT `types/canonical.go`, `CanonicalizeVote`).
    fn sign_bytes(&self, chain_id: &str) -> Vec<u8> {
        let block_id = self.block_id.map(|id| pb::CanonicalBlockId {
            hash: id.hash.as_bytes().to_vec(),
            part_set_header: Some(pb::CanonicalPartSetHeader {
                total: id.part_set_header.total,
                hash: id.part_set_header.hash.as_bytes().to_vec(),
            }),
        });
        pb::CanonicalVote {
            r#type: self.kind.into(),
            height: i64::try_from(self.height.value()).unwrap_or(i64::MAX),
            round: i64::from(self.round),
            block_id,
            timestamp: Some(self.time.into()),
            chain_id: chain_id.to_owned(),
        }
        .encode_length_delimited_to_vec()
    }
}

/// A block id, none for nil; an incomplete one is refused.
fn block_id(raw: Option<&pb::BlockId>) -> Result<Option<BlockId>, Invalid> {
    const FORM: Invalid = Invalid::Form("blockID must be either empty or complete");
    let raw = raw.ok_or(FORM)?;
    let parts = raw.part_set_header.as_ref().ok_or(FORM)?;
    if raw.hash.is_empty() && parts.total == 0 && parts.hash.is_empty() {
        return Ok(None);
    }
    if raw.hash.len() != 32 || parts.total == 0 || parts.hash.len() != 32 {
        return Err(FORM);
    }
    BlockId::try_from(raw.clone()).map(Some).map_err(|_| FORM)
}

/// What the votes are ordered by (CometBFT `types/block.go`, `BlockID.Key`).
fn block_key(raw: Option<&pb::BlockId>) -> Vec<u8> {
    let Some(raw) = raw else { return Vec::new() };
    let parts = raw.part_set_header.as_ref().map(pb::PartSetHeader::encode_to_vec);
    [raw.hash.clone(), parts.unwrap_or_default()].concat()
}

/// CometBFT `NewDuplicateVoteEvidence`, without extensions.
pub(super) fn make(
    first: &SignedVote,
    second: &SignedVote,
    time: Time,
    validators: &Validators,
) -> Option<pb::DuplicateVoteEvidence> {
    let index = validators.index_of(&first.message.validator)?;
    let mut votes = [raw(first)?, raw(second)?];
    votes.sort_by_cached_key(|vote| block_key(vote.block_id.as_ref()));
    let [a, b] = votes;
    let mut evidence = pb::DuplicateVoteEvidence {
        vote_a: Some(a),
        vote_b: Some(b),
        total_voting_power: i64::try_from(validators.total_power()).ok()?,
        validator_power: i64::try_from(validators.power_at(index)).ok()?,
        timestamp: Some(time.into()),
    };
    strip(&mut evidence, validators);
    Some(evidence)
}

/// What no signature covers: extensions go, and the index is that of the set.
pub(super) fn strip(evidence: &mut pb::DuplicateVoteEvidence, validators: &Validators) {
    for vote in [&mut evidence.vote_a, &mut evidence.vote_b].into_iter().flatten() {
        vote.extension = Vec::new();
        vote.extension_signature = Vec::new();
        let validator = address(&vote.validator_address).ok();
        let index = validator.and_then(|validator| validators.index_of(&validator));
        vote.validator_index =
            index.and_then(|index| i32::try_from(index).ok()).unwrap_or(vote.validator_index);
    }
}

fn raw(vote: &SignedVote) -> Option<pb::Vote> {
    let message = &vote.message;
    Some(pb::Vote {
        r#type: message.phase.signed_msg_type().into(),
        height: i64::try_from(message.height.value()).ok()?,
        round: i32::try_from(message.view.number()).ok()?,
        block_id: Some(message.block_id.into()),
        timestamp: Some(message.time.into()),
        validator_address: message.validator.as_bytes().to_vec(),
        validator_index: i32::try_from(message.index).ok()?,
        signature: vote.signature.0.to_vec(),
        extension: Vec::new(),
        extension_signature: Vec::new(),
    })
}
