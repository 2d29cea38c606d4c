//! Verification of light blocks, with the verdicts of `tendermint-light-client-verifier` 0.40 (`verifier.rs`,
//! `operations/voting_power.rs`), in the order of its checks.
//!
//! Which signatures it looks at follows from the powers alone: validators in the order of their set, by power, until the threshold
//! is reached, the trusted set first and of the untrusted set those that are not checked yet. So they are collected first and
//! verified in one batch. Where all are good the verdict is that of the powers; where one is not, the block is invalid.
//!
//! What is stricter here cannot occur on a chain whose nodes are correct: sets with a validator that stands twice or has no power,
//! or with more than 10,000 validators, and headers of height 0, do not exist as types.

use crate::block::{BoundBlock, TrustedBlock};
use crate::commit::{Commit, Entry};
use crate::options::{Options, TrustLevel};
use crate::sign_bytes::SignBytes;
use crate::signatures::Batch;
use crate::time::Time;
use std::collections::BTreeMap;
use tercet_consensus::key::{Address, PublicKey};
use tercet_consensus::validators::{Validator, Validators};

/// How much power signed, of how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// What signed, at least where the threshold was reached before all were looked at.
    pub signed: u64,
    /// The power of the whole set.
    pub total: u64,
}

/// What is wrong with a light block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The validators are not those that the header names.
    #[error("the validators are not those of the header")]
    ValidatorsHash,
    /// The next validators are not those that the header names, or are missing, or the header before named others.
    #[error("the next validators are not those of the header")]
    NextValidatorsHash,
    /// The commit is for another header.
    #[error("the commit is for another header")]
    CommitHash,
    /// The commit is of another height.
    #[error("the commit is of another height")]
    CommitHeight,
    /// The commit has no signature at all.
    #[error("nobody signed")]
    NobodySigned,
    /// The commit has not one entry a validator.
    #[error("the commit has not one entry a validator")]
    CommitLength,
    /// Somebody signed who is no validator.
    #[error("somebody signed who is no validator")]
    UnknownSigner,
    /// Two entries are of one validator.
    #[error("a validator signed twice")]
    SignedTwice,
    /// What is trusted is older than the trusting period.
    #[error("what is trusted is older than the trusting period")]
    Expired,
    /// The header is not later than what is trusted.
    #[error("the header is not later than what is trusted")]
    TimeOrder,
    /// The header is of another chain.
    #[error("the header is of another chain")]
    ChainId,
    /// The header is not above what is trusted.
    #[error("the header is not above what is trusted")]
    HeightOrder,
    /// The header is from the future.
    #[error("the header is from the future")]
    Future,
    /// A signature is not good.
    #[error("a signature is not good")]
    Signature,
    /// Two thirds of its own validators have not signed.
    #[error("not more than two thirds of the validators signed")]
    NotEnoughSigned,
}

/// The outcome of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The block may be trusted.
    Success,
    /// Too little of the trusted power signed: a block between has to be verified first.
    NotEnoughTrust(Tally),
    /// The block is not one of the chain, or cannot be judged at this time.
    Invalid(Invalid),
}

/// Why a block did not become a trusted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// See [`Verdict::NotEnoughTrust`].
    #[error("{} of {} trusted power signed", .0.signed, .0.total)]
    NotEnoughTrust(Tally),
    /// See [`Verdict::Invalid`].
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl TrustedBlock {
    /// Verifies `block` from this one.
    ///
    /// # Errors
    /// The verdict, where it is not success, and where the block lacks the next validators that later ones are verified by.
    pub fn extend(
        &self,
        block: BoundBlock,
        options: &Options,
        now: Time,
    ) -> Result<TrustedBlock, Refusal> {
        match verify(self, &block, options, now) {
            Verdict::Success => Ok(TrustedBlock::new(block)?),
            Verdict::NotEnoughTrust(tally) => Err(Refusal::NotEnoughTrust(tally)),
            Verdict::Invalid(invalid) => Err(Refusal::Invalid(invalid)),
        }
    }
}

/// Whether `block` may be trusted because `trusted` is (`verify_update_header`).
#[must_use]
pub fn verify(trusted: &TrustedBlock, block: &BoundBlock, options: &Options, now: Time) -> Verdict {
    let form = check_against(trusted, block, options, now)
        .and_then(|()| check_not_future(block, options, now));
    match form {
        Ok(()) => check_signatures(trusted, block, options.trust_level),
        Err(invalid) => Verdict::Invalid(invalid),
    }
}

/// Whether trust in a header of this time has ended; at the very end it has (CometBFT `light/verifier.go`, `HeaderExpired`).
#[must_use]
pub fn is_expired(time: Time, options: &Options, now: Time) -> bool {
    time.after(options.trusting_period) <= now
}

fn check_against(
    trusted: &TrustedBlock,
    block: &BoundBlock,
    options: &Options,
    now: Time,
) -> Result<(), Invalid> {
    let (old, new) = (trusted.header(), block.header());
    if is_expired(old.time(), options, now) {
        return Err(Invalid::Expired);
    }
    if new.time() <= old.time() {
        return Err(Invalid::TimeOrder);
    }
    if new.chain_id() != old.chain_id() {
        return Err(Invalid::ChainId);
    }
    if is_adjacent(trusted, block) {
        return if new.validators_hash() == old.next_validators_hash() {
            Ok(())
        } else {
            Err(Invalid::NextValidatorsHash)
        };
    }
    if new.height() > old.height() { Ok(()) } else { Err(Invalid::HeightOrder) }
}

fn check_not_future(block: &BoundBlock, options: &Options, now: Time) -> Result<(), Invalid> {
    let latest = now.after(options.clock_drift);
    if block.header().time() < latest { Ok(()) } else { Err(Invalid::Future) }
}

fn is_adjacent(trusted: &TrustedBlock, block: &BoundBlock) -> bool {
    block.height() == trusted.height() + 1
}

fn check_signatures(trusted: &TrustedBlock, block: &BoundBlock, level: TrustLevel) -> Verdict {
    let mut votes = match Votes::new(block.commit()) {
        Ok(votes) => votes,
        Err(invalid) => return Verdict::Invalid(invalid),
    };
    let trusting =
        (!is_adjacent(trusted, block)).then(|| votes.select(trusted.next_validators(), level));
    let committing = votes.select(block.validators(), TrustLevel::TWO_THIRDS);
    let mut batch = Batch::default();
    votes.queue(block.header().chain_id(), &mut batch);
    if batch.verify() != [true] {
        return Verdict::Invalid(Invalid::Signature);
    }
    match trusting {
        Some(tally) if !level.is_met(tally.signed, tally.total) => Verdict::NotEnoughTrust(tally),
        _ if !TrustLevel::TWO_THIRDS.is_met(committing.signed, committing.total) => {
            Verdict::Invalid(Invalid::NotEnoughSigned)
        }
        _ => Verdict::Success,
    }
}

/// The votes of a commit for its block, and which of them have to be checked.
struct Votes<'a> {
    commit: &'a Commit,
    by_address: BTreeMap<Address, &'a Entry>,
    selected: BTreeMap<Address, PublicKey>,
    order: Vec<Address>,
}

impl<'a> Votes<'a> {
    /// # Errors
    /// Where two votes for the block are of one validator: each counts once.
    fn new(commit: &'a Commit) -> Result<Votes<'a>, Invalid> {
        let mut by_address = BTreeMap::new();
        for entry in commit.entries.iter().flatten().filter(|entry| entry.for_block) {
            if by_address.insert(entry.address, entry).is_some() {
                return Err(Invalid::SignedTwice);
            }
        }
        Ok(Votes { commit, by_address, selected: BTreeMap::new(), order: Vec::new() })
    }

    /// Selects the votes of `validators`, by power, until `level` is reached. A set has every validator once, so each counts once.
    fn select(&mut self, validators: &Validators, level: TrustLevel) -> Tally {
        let mut tally = Tally { signed: 0, total: validators.total_power() };
        for validator in validators.list() {
            if !self.by_address.contains_key(&validator.address) {
                continue;
            }
            if self.selected.insert(validator.address, validator.key).is_none() {
                self.order.push(validator.address);
            }
            tally.signed += validator.power;
            if level.is_met(tally.signed, tally.total) {
                break;
            }
        }
        tally
    }

    fn queue(&self, chain_id: &[u8], batch: &mut Batch) {
        let mut bytes = SignBytes::new(chain_id, self.commit);
        batch.begin();
        for address in &self.order {
            if let (Some(entry), Some(key)) =
                (self.by_address.get(address), self.selected.get(address))
            {
                batch.add(key, bytes.at(entry.time), &entry.signature);
            }
        }
    }
}

/// Which signatures of a commit are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signatures {
    /// As many as more than two thirds of the power need: for a verdict.
    Quorum,
    /// All of them, those for nil too, each in the place of its validator: for a commit that is kept or passed on.
    All,
}

/// Verifies that more than two thirds of its own validators signed each of these blocks, all signatures in one batch.
#[must_use]
pub fn verify_commits(blocks: &[BoundBlock], which: Signatures) -> Vec<Result<(), Invalid>> {
    let mut batch = Batch::default();
    let forms: Vec<Result<(), Invalid>> =
        blocks.iter().map(|block| queue_commit(block, which, &mut batch)).collect();
    let mut verdicts = batch.verify().into_iter();
    let signatures = |form: Result<(), Invalid>| {
        form?;
        if verdicts.next() == Some(true) { Ok(()) } else { Err(Invalid::Signature) }
    };
    forms.into_iter().map(signatures).collect()
}

/// Adds a group to `batch`, unless the commit fails without its signatures.
fn queue_commit(block: &BoundBlock, which: Signatures, batch: &mut Batch) -> Result<(), Invalid> {
    if which == Signatures::Quorum && is_in_place(block) {
        return queue_in_place(block, batch);
    }
    let mut votes = Votes::new(block.commit())?;
    let tally = votes.select(block.validators(), TrustLevel::TWO_THIRDS);
    if !TrustLevel::TWO_THIRDS.is_met(tally.signed, tally.total) {
        return Err(Invalid::NotEnoughSigned);
    }
    match which {
        Signatures::Quorum => votes.queue(block.header().chain_id(), batch),
        Signatures::All => queue_all(block, batch)?,
    }
    Ok(())
}

/// Whether every entry is in the place of its validator, so that nobody can stand twice.
fn is_in_place(block: &BoundBlock) -> bool {
    let in_place = |(validator, entry): (&Validator, &Option<Entry>)| {
        entry.is_none_or(|entry| entry.address == validator.address)
    };
    block.validators().list().iter().zip(&block.commit().entries).all(in_place)
}

/// The same as [`Votes::select`] and [`Votes::queue`] where every entry is in its place, without looking anybody up.
fn queue_in_place(block: &BoundBlock, batch: &mut Batch) -> Result<(), Invalid> {
    let (total, mut signed) = (block.validators().total_power(), 0);
    let pairs = block.validators().list().iter().zip(&block.commit().entries);
    let votes = pairs.filter_map(|(validator, entry)| Some((validator, entry.as_ref()?)));
    let mut chosen = Vec::with_capacity(block.validators().count());
    for (validator, entry) in votes.filter(|(_, entry)| entry.for_block) {
        chosen.push((&validator.key, entry));
        signed += validator.power;
        if TrustLevel::TWO_THIRDS.is_met(signed, total) {
            let mut bytes = SignBytes::new(block.header().chain_id(), block.commit());
            batch.begin();
            for (key, entry) in chosen {
                batch.add(key, bytes.at(entry.time), &entry.signature);
            }
            return Ok(());
        }
    }
    Err(Invalid::NotEnoughSigned)
}

fn queue_all(block: &BoundBlock, batch: &mut Batch) -> Result<(), Invalid> {
    if !is_in_place(block) {
        return Err(Invalid::UnknownSigner);
    }
    let commit = block.commit();
    let chain_id = block.header().chain_id();
    let (mut block_bytes, mut nil) =
        (SignBytes::new(chain_id, commit), SignBytes::nil(chain_id, commit));
    batch.begin();
    for (validator, entry) in block.validators().list().iter().zip(&commit.entries) {
        if let Some(entry) = entry {
            let bytes = if entry.for_block { &mut block_bytes } else { &mut nil };
            batch.add(&validator.key, bytes.at(entry.time), &entry.signature);
        }
    }
    Ok(())
}
