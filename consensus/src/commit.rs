//! Commit(h): the quorum of COMMITs that decided a height, in the form of Tendermint's extended commit (a commit with room for vote
//! extensions), its hash, its full verification and the block time that follows from it.

use crate::block::{BlockId, HEIGHT_MAX};
use crate::key::{Address, Signature};
use crate::message::{Extension, Phase, Vote};
use crate::validators::{ValidatorIndex, Validators};
use crate::verify::{Context, Reject, SignatureCheck};
use crate::view::View;
use prost::Message as _;
use tendermint::Time;
use tendermint::block::Height;
use tendermint_proto::v0_38::types as pb;

/// Commit(h). Entry i is validator i's of V(h), none where its COMMIT is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The decided height.
    pub height: Height,
    /// The view in which it was decided, `round` in Tendermint's format.
    pub view: View,
    /// The decided block.
    pub block_id: BlockId,
    /// One entry a validator, in canonical order.
    pub signatures: Vec<Option<CommitSig>>,
}

/// A validator's COMMIT inside a [`Commit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitSig {
    /// The validator.
    pub address: Address,
    /// The time that it signed.
    pub time: Time,
    /// Its signature.
    pub signature: Signature,
    /// Its vote extension, where extensions are enabled.
    pub extension: Option<Extension>,
}

impl Commit {
    /// The vote that entry `index` stands for.
    #[must_use]
    pub fn vote(&self, index: ValidatorIndex) -> Option<(Vote, Signature)> {
        let entry = self.signatures.get(usize::try_from(index).ok()?)?.as_ref()?;
        let vote = Vote {
            phase: Phase::Commit,
            height: self.height,
            view: self.view,
            block_id: self.block_id,
            time: entry.time,
            validator: entry.address,
            index,
            extension: entry.extension.clone(),
        };
        Some((vote, entry.signature))
    }

    /// The indices of the validators that are not absent.
    pub fn present(&self) -> impl Iterator<Item = ValidatorIndex> + '_ {
        (0u32..).zip(&self.signatures).filter(|(_, entry)| entry.is_some()).map(|(index, _)| index)
    }

    /// Whether every entry has a vote extension.
    #[must_use]
    pub fn is_extended(&self) -> bool {
        self.signatures.iter().flatten().all(|entry| entry.extension.is_some())
    }

    /// Whether any entry has a vote extension.
    #[must_use]
    pub fn has_extensions(&self) -> bool {
        self.signatures.iter().flatten().any(|entry| entry.extension.is_some())
    }

    /// As blocks hold it.
    #[must_use]
    pub fn without_extensions(mut self) -> Commit {
        self.signatures.iter_mut().flatten().for_each(|entry| entry.extension = None);
        self
    }

    /// Checks everything about this commit against the validators of its height: size, one entry a validator in its place with its
    /// address, **every** signature, those of vote extensions included, and power above two thirds.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(&self, context: &Context<'_>, check: &impl SignatureCheck) -> Result<(), Reject> {
        if self.height != context.height {
            return Err(Reject::Height);
        }
        if self.signatures.len() != context.validators.count() {
            return Err(Reject::Malformed("a commit needs one entry a validator"));
        }
        let mut power = 0;
        for index in self.present() {
            let (vote, signature) = self.vote(index).ok_or(Reject::Malformed("commit entry"))?;
            context.verify_commit_entry(&vote, &signature, check)?;
            power += context.validators.power_at(index);
        }
        if !context.validators.is_quorum(power) {
            return Err(Reject::NoQuorum);
        }
        Ok(())
    }

    /// Without vote extensions, in Tendermint's type.
    #[must_use]
    pub fn to_tendermint(&self) -> tendermint::block::Commit {
        use tendermint::block::CommitSig as Sig;
        let entry = |entry: &Option<CommitSig>| match entry {
            None => Sig::BlockIdFlagAbsent,
            Some(entry) => Sig::BlockIdFlagCommit {
                validator_address: entry.address,
                timestamp: entry.time,
                signature: tendermint::Signature::new(entry.signature.0).ok().flatten(),
            },
        };
        tendermint::block::Commit {
            height: self.height,
            round: self.view.round(),
            block_id: self.block_id,
            signatures: self.signatures.iter().map(entry).collect(),
        }
    }

    /// From Tendermint's type. A vote for nil stands as absent is refused: this chain has none.
    ///
    /// # Errors
    /// Where an entry is for nil or has no signature, or the height is above [`HEIGHT_MAX`].
    pub fn from_tendermint(commit: &tendermint::block::Commit) -> Result<Commit, Reject> {
        use tendermint::block::CommitSig as Sig;
        if commit.height.value() > HEIGHT_MAX {
            return Err(Reject::Malformed("commit height"));
        }
        let entry = |sig: &Sig| match sig {
            Sig::BlockIdFlagAbsent => Ok(None),
            Sig::BlockIdFlagNil { .. } => Err(Reject::Malformed("nothing is voted nil")),
            Sig::BlockIdFlagCommit { validator_address, timestamp, signature } => {
                let signature = signature
                    .as_ref()
                    .and_then(|signature| Signature::from_slice(signature.as_bytes()))
                    .ok_or(Reject::Malformed("a commit entry without a signature"))?;
                let (address, time) = (*validator_address, *timestamp);
                Ok(Some(CommitSig { address, time, signature, extension: None }))
            }
        };
        Ok(Commit {
            height: commit.height,
            view: commit.round.into(),
            block_id: commit.block_id,
            signatures: commit.signatures.iter().map(entry).collect::<Result<_, _>>()?,
        })
    }
}

/// `last_commit_hash`: the Merkle root over the protobuf encodings of the entries (CometBFT `types/block.go`, `Commit.Hash`).
#[must_use]
pub fn commit_hash(commit: &tendermint::block::Commit) -> tendermint::Hash {
    let leaves: Vec<Vec<u8>> = commit
        .signatures
        .iter()
        .map(|signature| pb::CommitSig::from(signature.clone()).encode_to_vec())
        .collect();
    crate::merkle::root(&leaves)
}

/// Tendermint BFT time: the median of the times in `commit`, weighted by power, over the entries flagged commit, each matched to the
/// validator at the same index **and** address (CSA-2026-001). None where an entry does not match or nobody signed.
///
/// It is the lowest time such that more than half of the power that signed has it or an earlier one. Faulty validators have less than
/// half of what signed, so it lies between the times of two correct ones: later than the block (PROTOCOL §5), and no later than now.
/// `CometBFT`'s `WeightedMedian` (`types/time/time.go`) takes half rounded down: of three votes of power 1 the lowest time, which one
/// faulty validator of four can choose, and before the block's no block follows: docs/adr/012-median-of-more-than-half.md.
#[must_use]
pub fn median_time(commit: &Commit, validators: &Validators) -> Option<Time> {
    if commit.signatures.len() != validators.count() {
        return None;
    }
    let mut times = Vec::with_capacity(commit.signatures.len());
    let mut total = 0u64;
    for (validator, entry) in validators.list().iter().zip(&commit.signatures) {
        let Some(entry) = entry else { continue };
        if entry.address != validator.address {
            return None;
        }
        total += validator.power;
        times.push((entry.time, validator.power));
    }
    times.sort_unstable();
    let mut rest = total / 2;
    for (time, power) in times {
        if rest < power {
            return Some(time);
        }
        rest -= power;
    }
    None
}
