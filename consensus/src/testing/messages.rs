//! Signed messages of test validators, to be right or wrong in one place.

use super::{key, validators};
use crate::block::BlockId;
use crate::key::Signature;
use crate::message::{
    Certificate, Justification, Phase, PrePrepare, PreparedClaim, Proposal, Signed, SignedVote,
    ViewChange, Vote,
};
use crate::schedule::Schedule;
use crate::sign_bytes;
use crate::validators::{ValidatorIndex, Validators};
use crate::verify::Context;
use crate::view::View;
use ed25519_dalek::Signer as _;
use tendermint::Time;
use tendermint::block::Height;

/// The chain of test messages.
pub const CHAIN_ID: &str = "test-chain";

/// Validators with their keys, at one height.
pub struct Signers {
    /// The set.
    pub validators: Validators,
    /// Its schedule, with a term of 64.
    pub schedule: Schedule,
    /// The height of all messages.
    pub height: Height,
    keys: Vec<u8>,
}

impl Signers {
    /// Test validators with these powers at this height.
    ///
    /// # Panics
    /// Where the powers make no set.
    #[must_use]
    pub fn new(powers: &[u64], height: u32) -> Signers {
        let validators = validators(powers);
        let number = |address| (0u8..).find(|n| super::public(*n).address() == address);
        let keys =
            validators.list().iter().map(|v| number(v.address).expect("a test key")).collect();
        let schedule = Schedule::new(&validators, 64);
        Signers { validators, schedule, height: Height::from(height), keys }
    }

    /// What these messages are verified against.
    #[must_use]
    pub fn context(&self) -> Context<'_> {
        Context {
            chain_id: CHAIN_ID,
            height: self.height,
            validators: &self.validators,
            schedule: &self.schedule,
            extensions: Some(false),
        }
    }

    /// The signature of validator `index` over `bytes`.
    ///
    /// # Panics
    /// Where there is no such validator.
    #[must_use]
    pub fn sign(&self, index: ValidatorIndex, bytes: &[u8]) -> Signature {
        let number = self.keys.get(index as usize).expect("a test validator");
        Signature(key(*number).sign(bytes).to_bytes())
    }

    /// A vote.
    ///
    /// # Panics
    /// Where there is no such validator.
    #[must_use]
    pub fn vote(
        &self,
        phase: Phase,
        index: ValidatorIndex,
        view: u32,
        block_id: BlockId,
    ) -> SignedVote {
        let validator = self.validators.at(index).expect("a test validator").address;
        let message = Vote {
            phase,
            height: self.height,
            view: self::view(view),
            block_id,
            time: Time::from_unix_timestamp(1_700_000_001, 0).expect("a time"),
            validator,
            index,
            extension: None,
        };
        self.sign_vote(message)
    }

    /// Signs a vote as its validator.
    #[must_use]
    pub fn sign_vote(&self, message: Vote) -> SignedVote {
        let signature = self.sign(message.index, &sign_bytes::vote(CHAIN_ID, &message));
        Signed { message, signature }
    }

    /// A certificate of these validators' PREPAREs.
    #[must_use]
    pub fn certificate(
        &self,
        view: u32,
        block_id: BlockId,
        signers: &[ValidatorIndex],
    ) -> Certificate {
        let vote = |index: &ValidatorIndex| self.vote(Phase::Prepare, *index, view, block_id);
        let votes = signers.iter().map(vote).collect();
        Certificate { height: self.height, view: self::view(view), block_id, votes }
    }

    /// The signed part of a VIEW-CHANGE.
    ///
    /// # Panics
    /// Where there is no such validator.
    #[must_use]
    pub fn view_change(
        &self,
        index: ValidatorIndex,
        view: u32,
        prepared: Option<(u32, BlockId)>,
    ) -> Signed<ViewChange> {
        let validator = self.validators.at(index).expect("a test validator").address;
        let prepared =
            prepared.map(|(view, block_id)| PreparedClaim { view: self::view(view), block_id });
        let (height, view) = (self.height, self::view(view));
        self.sign_view_change(ViewChange { height, view, prepared, validator, index })
    }

    /// Signs a VIEW-CHANGE as its validator.
    #[must_use]
    pub fn sign_view_change(&self, message: ViewChange) -> Signed<ViewChange> {
        let signature = self.sign(message.index, &sign_bytes::view_change(CHAIN_ID, &message));
        Signed { message, signature }
    }

    /// A PRE-PREPARE, signed by the primary of its view.
    #[must_use]
    pub fn pre_prepare(
        &self,
        view: u32,
        block_id: BlockId,
        j: Option<Justification>,
    ) -> PrePrepare {
        let certificate = j.as_ref().and_then(|j| j.certificate.as_ref());
        let proposal = Proposal {
            height: self.height,
            view: self::view(view),
            prepared_view: certificate.map(|certificate| certificate.view),
            block_id,
            time: Time::from_unix_timestamp(1_700_000_000, 0).expect("a time"),
        };
        self.sign_proposal(proposal, j)
    }

    /// Signs a proposal as the primary of its view.
    #[must_use]
    pub fn sign_proposal(
        &self,
        message: Proposal,
        justification: Option<Justification>,
    ) -> PrePrepare {
        let primary = self.schedule.primary(self.height, message.view);
        let signature = self.sign(primary, &sign_bytes::proposal(CHAIN_ID, &message));
        PrePrepare { proposal: Signed { message, signature }, justification }
    }
}

/// View number `n`.
///
/// # Panics
/// From 2³¹ on.
#[must_use]
pub fn view(n: u32) -> View {
    View::new(n).expect("a view")
}

/// An id that stands for some block.
///
/// # Panics
/// Never.
#[must_use]
pub fn block_id(n: u8) -> BlockId {
    let hash = tendermint::Hash::Sha256([n; 32]);
    let part_set_header = tendermint::block::parts::Header::new(1, hash).expect("one part");
    BlockId { hash, part_set_header }
}
