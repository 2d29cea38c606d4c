//! One piece of evidence: its bytes as they came, what they say, and the key of the offence.

use super::Invalid;
use super::attack::Attack;
use super::duplicate::Votes;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tendermint::Time;
use tendermint::block::Height;
use tendermint_proto::google::protobuf::Timestamp;
use tendermint_proto::v0_38::types as pb;
use tendermint_proto::v0_38::types::evidence::Sum;
use tercet_consensus::key::Address;
use tercet_consensus::message::SignedVote;
use tercet_consensus::validators::Validators;

/// What is punished once, ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The height that was signed for.
    pub height: u64,
    /// What was done there.
    pub what: What,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// Two votes of one type in one view.
    Votes {
        /// The view.
        view: u32,
        /// The type: 1 PREPARE, 2 COMMIT.
        kind: u8,
        /// Whose.
        validator: Address,
    },
    /// A header that the chain does not have, with the signatures of its validators.
    Attack {
        /// The header's hash.
        header: [u8; 32],
    },
}

impl Key {
    /// The key as it is stored: height first, big-endian.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.height.to_be_bytes().to_vec();
        match &self.what {
            What::Votes { view, kind, validator } => {
                bytes.push(*kind);
                bytes.extend_from_slice(&view.to_be_bytes());
                bytes.extend_from_slice(validator.as_bytes());
            }
            What::Attack { header } => {
                bytes.push(0);
                bytes.extend_from_slice(header);
            }
        }
        bytes
    }

    /// Who is accused, where the key says so.
    #[must_use]
    pub fn validator(&self) -> Option<Address> {
        match self.what {
            What::Votes { validator, .. } => Some(validator),
            What::Attack { .. } => None,
        }
    }
}

/// What a piece proves.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Proof {
    Votes(Box<Votes>),
    Attack(Box<Attack>),
}

/// A piece of evidence of the right form (CometBFT `ValidateBasic`). Whether it holds is asked of the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    raw: pb::Evidence,
    pub(super) proof: Proof,
    key: Key,
    bytes: usize,
}

impl Piece {
    /// The evidence in this message.
    ///
    /// # Errors
    /// Where its form is wrong.
    pub fn new(raw: pb::Evidence) -> Result<Piece, Invalid> {
        let (proof, key) = match &raw.sum {
            None => return Err(Invalid::Form("evidence of no known type")),
            Some(Sum::DuplicateVoteEvidence(inner)) => {
                let votes = Votes::new(inner)?;
                let key = votes.key();
                (Proof::Votes(Box::new(votes)), key)
            }
            Some(Sum::LightClientAttackEvidence(inner)) => {
                let attack = Attack::new(inner)?;
                let key = attack.key();
                (Proof::Attack(Box::new(attack)), key)
            }
        };
        let bytes = raw.encoded_len();
        Ok(Piece { raw, proof, key, bytes })
    }

    /// What two votes prove, in the one form that every correct validator gives it: the lower block id first, without extensions (no
    /// signature of the votes covers them). None where the validator is not in `validators`, those of the votes' height, or the votes are
    /// no offence. `time` is that of the block of their height.
    #[must_use]
    pub fn of_votes(
        (first, second): &(SignedVote, SignedVote),
        time: Time,
        validators: &Validators,
    ) -> Option<Piece> {
        let raw = super::duplicate::make(first, second, time, validators)?;
        let sum = Some(Sum::DuplicateVoteEvidence(raw));
        Piece::new(pb::Evidence { sum }).ok()
    }

    /// The same piece in the form that [`Piece::of_votes`] gives it: what no signature covers is not kept as others wrote it.
    #[must_use]
    pub fn canonical(self, validators: &Validators) -> Piece {
        let Some(Sum::DuplicateVoteEvidence(mut inner)) = self.raw.sum.clone() else { return self };
        super::duplicate::strip(&mut inner, validators);
        let raw = pb::Evidence { sum: Some(Sum::DuplicateVoteEvidence(inner)) };
        Piece::new(raw).unwrap_or(self)
    }

    /// The message, as it stands in blocks.
    #[must_use]
    pub fn raw(&self) -> &pb::Evidence {
        &self.raw
    }

    /// What it is about.
    #[must_use]
    pub fn key(&self) -> Key {
        self.key
    }

    /// The size of its message.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it is about an attack on light clients.
    #[must_use]
    pub fn is_attack(&self) -> bool {
        matches!(self.key.what, What::Attack { .. })
    }

    /// The height of the offence, from which its age is counted: that of the votes, or the last that a light client and the chain had in
    /// common.
    #[must_use]
    pub fn height(&self) -> Height {
        match &self.proof {
            Proof::Votes(votes) => votes.height(),
            Proof::Attack(attack) => attack.common_height,
        }
    }

    /// The time that it says the block of its height has.
    #[must_use]
    pub fn time(&self) -> Time {
        match &self.proof {
            Proof::Votes(votes) => votes.time,
            Proof::Attack(attack) => attack.time,
        }
    }

    /// CometBFT's hash of it, which clients are answered with (`types/evidence.go`, `Hash`): for an attack it covers header and common
    /// height alone.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        match (&self.proof, &self.raw.sum) {
            (Proof::Attack(attack), _) => attack.comet_hash(),
            (Proof::Votes(_), Some(Sum::DuplicateVoteEvidence(inner))) => {
                Sha256::digest(inner.encode_to_vec()).into()
            }
            _ => [0; 32],
        }
    }
}

#[cfg(test)]
impl Piece {
    /// Makes it about something else and of another size, for tests of bounds.
    pub(super) fn pretend(&mut self, what: What, bytes: usize) {
        self.key.what = what;
        self.bytes = bytes;
    }
}

/// A time that has to be there.
pub(super) fn time(raw: Option<&Timestamp>) -> Result<Time, Invalid> {
    let raw = raw.ok_or(Invalid::Form("evidence without a time"))?;
    let raw = Timestamp { seconds: raw.seconds, nanos: raw.nanos };
    Time::try_from(raw).map_err(|_| Invalid::Form("evidence with a time that is none"))
}

/// A height, from 1 to the highest that is taken.
pub(super) fn height(raw: i64) -> Result<Height, Invalid> {
    u64::try_from(raw)
        .ok()
        .filter(|height| (1..=tercet_consensus::block::HEIGHT_MAX).contains(height))
        .and_then(|height| Height::try_from(height).ok())
        .ok_or(Invalid::Form("negative or zero Height"))
}

/// An address.
pub(super) fn address(raw: &[u8]) -> Result<Address, Invalid> {
    let bytes = raw.try_into().map_err(|_| Invalid::Form("an address that is not of 20 bytes"))?;
    Ok(Address::new(bytes))
}
