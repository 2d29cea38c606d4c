//! Verification: the only way from what arrived to [`Verified`]. Order of checks: sizes, identity, then signatures.

use crate::commit::Commit;
use crate::key::{PublicKey, Signature};
use crate::message::{
    Certificate, Decided, Extension, Phase, PrePrepare, Signed, SignedVote, Verified, ViewChange,
    ViewChangeMessage, Vote,
};
use crate::schedule::Schedule;
use crate::sign_bytes;
use crate::validators::Validators;
use tendermint::block::Height;

/// The most bytes of a vote extension (CometBFT `types/vote.go`, `MaxVoteExtensionSize`).
pub const EXTENSION_BYTES_MAX: usize = 1024 * 1024;
/// The most bytes of all vote extensions of a commit together, so that an extended commit fits into a frame.
pub const EXTENSIONS_BYTES_MAX: usize = 3 * 512 * 1024;

/// The most bytes of one vote extension where there are so many validators.
#[must_use]
pub fn extension_bytes_max(validators: usize) -> usize {
    EXTENSION_BYTES_MAX.min(EXTENSIONS_BYTES_MAX / validators.max(1))
}

/// How a signature is checked: directly, or with a cache of those that were checked before.
pub trait SignatureCheck {
    /// Whether `signature` over `message` is the key's. Must agree with [`PublicKey::verify`].
    fn check(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool;
}

impl<T: SignatureCheck + ?Sized> SignatureCheck for &T {
    fn check(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        T::check(self, key, message, signature)
    }
}

/// Checks every signature anew.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

impl SignatureCheck for Direct {
    fn check(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        key.verify(message, signature)
    }
}

/// What a message is verified against: always looked up by its height.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The chain.
    pub chain_id: &'a str,
    /// The height.
    pub height: Height,
    /// V(height).
    pub validators: &'a Validators,
    /// The primary schedule of V(height).
    pub schedule: &'a Schedule,
    /// Whether COMMITs of this height carry vote extensions; none while that is open, because the height before is not executed. What
    /// is verified meanwhile may have them or not.
    pub extensions: Option<bool>,
}

/// Why a message is discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reject {
    /// It cannot be decoded, or its parts contradict each other.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// It is larger than allowed.
    #[error("too large")]
    TooLarge,
    /// It is of another height.
    #[error("wrong height")]
    Height,
    /// Its height is over, which is no fault.
    #[error("of a height that is over")]
    Past,
    /// The sender is no validator of the height, or index and address do not belong together.
    #[error("unknown validator")]
    UnknownValidator,
    /// The sender may not send this, as a proposal of one who is not primary.
    #[error("not the primary of its view")]
    NotPrimary,
    /// A signature does not verify.
    #[error("bad signature")]
    Signature,
    /// Too little power signed.
    #[error("no quorum")]
    NoQuorum,
    /// The justification of a NEW-VIEW breaks a rule.
    #[error("unjustified: {0}")]
    Justification(&'static str),
}

impl Context<'_> {
    /// Checks index, address, view-independent form and signatures of one vote.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify_vote(
        &self,
        vote: &Vote,
        signature: &Signature,
        check: &impl SignatureCheck,
    ) -> Result<(), Reject> {
        let wanted = match vote.phase {
            Phase::Prepare => Some(false),
            Phase::Commit => self.extensions,
        };
        if wanted.is_some_and(|wanted| vote.extension.is_some() != wanted) {
            return Err(Reject::Malformed("vote extension"));
        }
        self.verify_signatures(vote, signature, check)
    }

    /// One entry of a commit. Its extension may be missing where the height has them: blocks hold commits without.
    pub(crate) fn verify_commit_entry(
        &self,
        vote: &Vote,
        signature: &Signature,
        check: &impl SignatureCheck,
    ) -> Result<(), Reject> {
        if vote.extension.is_some() && self.extensions == Some(false) {
            return Err(Reject::Malformed("vote extension"));
        }
        self.verify_signatures(vote, signature, check)
    }

    fn verify_signatures(
        &self,
        vote: &Vote,
        signature: &Signature,
        check: &impl SignatureCheck,
    ) -> Result<(), Reject> {
        if vote.height != self.height {
            return Err(Reject::Height);
        }
        let key = self.key_of(vote.index, &vote.validator)?;
        if vote.block_id.hash.is_empty() || vote.block_id.part_set_header.hash.is_empty() {
            return Err(Reject::Malformed("nothing is voted nil"));
        }
        if !check.check(key, &sign_bytes::vote(self.chain_id, vote), signature) {
            return Err(Reject::Signature);
        }
        match &vote.extension {
            None => Ok(()),
            Some(extension) => self.verify_extension(vote, extension, key, check),
        }
    }

    fn verify_extension(
        &self,
        vote: &Vote,
        extension: &Extension,
        key: &PublicKey,
        check: &impl SignatureCheck,
    ) -> Result<(), Reject> {
        if extension.data.len() > extension_bytes_max(self.validators.count()) {
            return Err(Reject::TooLarge);
        }
        let bytes = sign_bytes::extension(self.chain_id, vote, &extension.data);
        if check.check(key, &bytes, &extension.signature) { Ok(()) } else { Err(Reject::Signature) }
    }

    /// A PREPARE or COMMIT.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn vote(
        &self,
        vote: SignedVote,
        check: &impl SignatureCheck,
    ) -> Result<Verified<SignedVote>, Reject> {
        self.verify_vote(&vote.message, &vote.signature, check)?;
        Ok(Verified::new(vote))
    }

    /// A VIEW-CHANGE; one that names a prepared block without a valid certificate is refused.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn view_change(
        &self,
        message: ViewChangeMessage,
        check: &impl SignatureCheck,
    ) -> Result<Verified<ViewChangeMessage>, Reject> {
        self.verify_view_change(&message.signed, check)?;
        match (&message.signed.message.prepared, &message.certificate) {
            (None, None) => {}
            (Some(claim), Some(certificate)) => {
                if (claim.view, claim.block_id) != (certificate.view, certificate.block_id) {
                    return Err(Reject::Malformed("the certificate is not for the claim"));
                }
                self.certificate(certificate, check)?;
            }
            _ => return Err(Reject::Malformed("claim and certificate go together")),
        }
        Ok(Verified::new(message))
    }

    /// The signed part of a VIEW-CHANGE: height, sender, claim below the view asked for, signature.
    pub(crate) fn verify_view_change(
        &self,
        signed: &Signed<ViewChange>,
        check: &impl SignatureCheck,
    ) -> Result<(), Reject> {
        let message = &signed.message;
        if message.height != self.height {
            return Err(Reject::Height);
        }
        let key = self.key_of(message.index, &message.validator)?;
        if message.prepared.is_some_and(|claim| claim.view >= message.view) {
            return Err(Reject::Malformed("prepared in no earlier view"));
        }
        let bytes = sign_bytes::view_change(self.chain_id, message);
        if check.check(key, &bytes, &signed.signature) { Ok(()) } else { Err(Reject::Signature) }
    }

    /// A prepare certificate: PREPAREs for exactly its block and view, distinct signers in ascending order, a quorum.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn certificate(
        &self,
        certificate: &Certificate,
        check: &impl SignatureCheck,
    ) -> Result<(), Reject> {
        if certificate.height != self.height {
            return Err(Reject::Height);
        }
        if certificate.votes.len() > self.validators.count() {
            return Err(Reject::TooLarge);
        }
        let mut power = 0;
        let mut last = None;
        for Signed { message: vote, .. } in &certificate.votes {
            let fits = vote.phase == Phase::Prepare
                && (vote.view, vote.block_id) == (certificate.view, certificate.block_id);
            if !fits {
                return Err(Reject::Malformed("a certificate holds PREPAREs for its block alone"));
            }
            if last.is_some_and(|last| last >= vote.index) {
                return Err(Reject::Malformed("a certificate's signers are distinct and ascend"));
            }
            last = Some(vote.index);
            power += self.validators.power_at(vote.index);
        }
        if !self.validators.is_quorum(power) {
            return Err(Reject::NoQuorum);
        }
        for vote in &certificate.votes {
            self.verify_vote(&vote.message, &vote.signature, check)?;
        }
        Ok(())
    }

    /// A PRE-PREPARE or NEW-VIEW: signed by the primary of its view, with a justification that holds (see [`crate::justification`]).
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn pre_prepare(
        &self,
        message: PrePrepare,
        check: &impl SignatureCheck,
    ) -> Result<Verified<PrePrepare>, Reject> {
        let proposal = &message.proposal.message;
        if proposal.height != self.height {
            return Err(Reject::Height);
        }
        let primary = self.schedule.primary(self.height, proposal.view);
        let primary = self.validators.at(primary).ok_or(Reject::UnknownValidator)?;
        if proposal.block_id.hash.is_empty() || proposal.block_id.part_set_header.hash.is_empty() {
            return Err(Reject::Malformed("a proposal without a block"));
        }
        crate::justification::check_form(proposal, message.justification.as_ref(), self)?;
        let bytes = sign_bytes::proposal(self.chain_id, proposal);
        if !check.check(&primary.key, &bytes, &message.proposal.signature) {
            return Err(Reject::NotPrimary);
        }
        if let Some(justification) = &message.justification {
            crate::justification::check_signatures(justification, self, check)?;
        }
        Ok(Verified::new(message))
    }

    /// A commit of this height, every signature of it.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn commit(
        &self,
        commit: Commit,
        check: &impl SignatureCheck,
    ) -> Result<Verified<Commit>, Reject> {
        commit.verify(self, check)?;
        Ok(Verified::new(commit))
    }

    /// A decided block of this height with its commit.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn decided(
        &self,
        decided: Decided,
        check: &impl SignatureCheck,
    ) -> Result<Verified<Decided>, Reject> {
        if decided.block.id() != decided.commit.block_id {
            return Err(Reject::Malformed("the commit is for another block"));
        }
        decided.commit.verify(self, check)?;
        Ok(Verified::new(decided))
    }

    /// The key at `index`, where it is the validator with this address: one binding for every use.
    fn key_of(
        &self,
        index: crate::validators::ValidatorIndex,
        address: &crate::key::Address,
    ) -> Result<&PublicKey, Reject> {
        match self.validators.at(index) {
            Some(validator) if validator.address == *address => Ok(&validator.key),
            _ => Err(Reject::UnknownValidator),
        }
    }
}
