//! A header that the chain does not have, with signatures that would make a light client believe it: `LightClientAttackEvidence`.
//!
//! | Attack | The header | Guilty |
//! |---|---|---|
//! | lunatic | could not follow from the chain | who signed it and was a validator at the common height |
//! | equivocation | could, and was committed in the round of the chain's own | who signed both |
//! | amnesia | could, in another round | nobody that can be told |
//!
//! Who is guilty, the power and the time are recomputed from the chain; evidence that says anything else is refused. Signatures come
//! last: what is wrong otherwise costs none.

use super::duplicate::same_power;
use super::facts::{Facts, Tip};
use super::piece::{Key, What, address, height, time};
use super::{EvidenceError, Invalid};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use tendermint::block::{CommitSig, Header, Height};
use tendermint::{Hash, Time};
use tendermint_proto::v0_38::crypto::public_key::Sum;
use tendermint_proto::v0_38::types as pb;
use tercet_consensus::block::BlockId;
use tercet_consensus::key::{Address, PublicKey, Signature};
use tercet_consensus::merkle;
use tercet_consensus::message::{Phase, Vote};
use tercet_consensus::power::TOTAL_POWER_MAX;
use tercet_consensus::sign_bytes;
use tercet_consensus::validators::{VALIDATORS_MAX, Validators};
use tercet_consensus::verify::SignatureCheck;
use tercet_consensus::view::View;

const FORM: Invalid = Invalid::Form("a light block that lacks a part");

/// A validator of the conflicting block. An Ed25519 key is decoded only where a signature is checked.
#[derive(Clone, Debug, PartialEq)]
struct Member {
    address: Address,
    key: Sum,
    power: u64,
}

/// A signature for the conflicting block.
#[derive(Clone, Debug, PartialEq)]
struct Sig {
    time: Time,
    signature: Signature,
}

/// An attack, as the evidence tells it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Attack {
    header: Header,
    hash: [u8; 32],
    view: View,
    block_id: BlockId,
    /// Entry i is that of member i; none where it did not sign for the block.
    signatures: Vec<Option<Sig>>,
    members: Vec<Member>,
    pub(super) common_height: Height,
    accused: Vec<(Address, u64)>,
    total_power: i64,
    pub(super) time: Time,
}

impl Attack {
    /// CometBFT `LightClientAttackEvidence.ValidateBasic`, and the encoding that its own encoder gives.
    pub(super) fn new(raw: &pb::LightClientAttackEvidence) -> Result<Attack, Invalid> {
        let block = raw.conflicting_block.as_ref().ok_or(FORM)?;
        let (signed, set) = (block.signed_header.as_ref(), block.validator_set.as_ref());
        let (signed, set) = signed.zip(set).ok_or(FORM)?;
        let (raw_header, raw_commit) = (signed.header.as_ref(), signed.commit.as_ref());
        let (raw_header, raw_commit) = raw_header.zip(raw_commit).ok_or(FORM)?;
        if raw_commit.signatures.len() != set.validators.len()
            || set.validators.len() > VALIDATORS_MAX
            || raw.byzantine_validators.len() > set.validators.len()
        {
            return Err(Invalid::Form("Invalid commit -- wrong set size"));
        }
        if !is_whole(raw_header, raw_commit) {
            return Err(FORM);
        }
        let members = members(set)?;
        let header = header(raw_header)?;
        if header.validators_hash != hash(&members) {
            return Err(Invalid::Form("the header's validators are others than the block's"));
        }
        let Hash::Sha256(hash) = header.hash() else { return Err(FORM) };
        let commit = tendermint::block::Commit::try_from(raw_commit.clone());
        let commit = commit.map_err(|_| Invalid::Form("invalid commit"))?;
        if commit.height != header.height || commit.block_id.hash != Hash::Sha256(hash) {
            return Err(Invalid::Form("the commit is for another block"));
        }
        let common_height = height(raw.common_height)?;
        if common_height > header.height {
            return Err(Invalid::Form("common height is ahead of the conflicting block height"));
        }
        let accused = raw.byzantine_validators.iter().map(accused).collect::<Result<_, _>>()?;
        Ok(Attack {
            hash,
            view: View::new(commit.round.value()).ok_or(FORM)?,
            block_id: commit.block_id,
            signatures: signatures(&commit, &members)?,
            members,
            header,
            common_height,
            accused,
            total_power: raw.total_voting_power,
            time: time(raw.timestamp.as_ref())?,
        })
    }

    pub(super) fn key(&self) -> Key {
        Key { height: self.header.height.value(), what: What::Attack { header: self.hash } }
    }

    /// CometBFT `LightClientAttackEvidence.Hash`: over all but the last byte of the header's hash, and the common height.
    pub(super) fn comet_hash(&self) -> [u8; 32] {
        let mut bytes = self.hash;
        if let Some(last) = bytes.last_mut() {
            *last = 0;
        }
        let mut bytes = bytes.to_vec();
        let height = self.common_height.value();
        // Go's signed varint.
        prost::encoding::encode_varint(height.saturating_mul(2), &mut bytes);
        Sha256::digest(bytes).into()
    }

    /// CometBFT `VerifyLightClientAttack`.
    pub(super) fn verify(
        &self,
        tip: &Tip<'_>,
        facts: &dyn Facts,
        check: &dyn SignatureCheck,
    ) -> Result<(), EvidenceError> {
        if self.header.chain_id.as_str() != tip.chain_id {
            return Err(Invalid::Form("a header of another chain").into());
        }
        let common = facts.validators(self.common_height)?;
        let common = common.ok_or(Invalid::Missing(self.common_height))?;
        same_power("total voting power", self.total_power, common.total_power())?;
        let trusted = self.trusted(tip, facts)?;
        if trusted.hash() == Hash::Sha256(self.hash) {
            let what = "trusted header hash matches the evidence's conflicting header hash";
            return Err(Invalid::Form(what).into());
        }
        if self.guilty(&trusted, &common, tip, facts)? != self.accused {
            return Err(
                Invalid::Attack("evidence contained unexpected byzantine validators").into()
            );
        }
        if self.common_height != self.header.height {
            self.check_common(&common)?;
        }
        self.check_quorum()?;
        Ok(self.check_signatures(tip.chain_id, check)?)
    }

    /// The chain's header in place of the conflicting one; the last where the chain is not there yet: then the attack breaks the rule that
    /// time ascends.
    fn trusted(&self, tip: &Tip<'_>, facts: &dyn Facts) -> Result<Header, EvidenceError> {
        let at = self.header.height;
        if tip.has(at) {
            return Ok(facts.header(at)?.ok_or(Invalid::Missing(at))?);
        }
        if self.header.time > tip.time {
            return Err(Invalid::Early(at).into());
        }
        let last = Height::try_from(tip.height).map_err(|_| Invalid::Early(at))?;
        Ok(facts.header(last)?.ok_or(Invalid::Missing(last))?)
    }

    /// CometBFT `ConflictingHeaderIsInvalid`: what follows from the chain is not what the header says.
    fn is_lunatic(&self, trusted: &Header) -> bool {
        let (mine, theirs) = (&self.header, trusted);
        mine.validators_hash != theirs.validators_hash
            || mine.next_validators_hash != theirs.next_validators_hash
            || mine.consensus_hash != theirs.consensus_hash
            || mine.app_hash != theirs.app_hash
            || results(mine) != results(theirs)
    }

    /// CometBFT `GetByzantineValidators`: power descending, then address.
    fn guilty(
        &self,
        trusted: &Header,
        common: &Validators,
        tip: &Tip<'_>,
        facts: &dyn Facts,
    ) -> Result<Vec<(Address, u64)>, EvidenceError> {
        let height = self.header.height;
        let mut guilty: Vec<(Address, u64)> = if self.is_lunatic(trusted) {
            if self.common_height == height {
                let what = "the header could not follow from the common block and is of its height";
                return Err(Invalid::Attack(what).into());
            }
            let power = |signer: &Member| Some(common.power_at(common.index_of(&signer.address)?));
            self.signers().filter_map(|signer| Some((signer.address, power(signer)?))).collect()
        } else {
            // The commit in the block after it is the one that every node has.
            if height.value() >= tip.height {
                return Err(Invalid::Early(height).into());
            }
            let commit = facts.commit(height)?.ok_or(Invalid::Missing(height))?;
            if commit.view == self.view {
                let both = self.members.iter().zip(&self.signatures).zip(&commit.signatures);
                let both = both.filter(|((_, mine), theirs)| mine.is_some() && theirs.is_some());
                both.map(|((member, _), _)| (member.address, member.power)).collect()
            } else {
                Vec::new()
            }
        };
        guilty.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        let distinct: BTreeSet<Address> = guilty.iter().map(|(address, _)| *address).collect();
        match distinct.len() == guilty.len() {
            true => Ok(guilty),
            false => Err(Invalid::Form("a validator signed twice in one commit").into()),
        }
    }

    /// Members that signed for the block.
    fn signers(&self) -> impl Iterator<Item = &Member> {
        let both = self.members.iter().zip(&self.signatures);
        both.filter(|(_, signature)| signature.is_some()).map(|(member, _)| member)
    }

    /// CometBFT `VerifyCommitLightTrustingAllSignatures`, the powers: more than a third of the validators at the common height signed. A
    /// key that both sets have is checked once, with the others.
    fn check_common(&self, common: &Validators) -> Result<(), Invalid> {
        let indices = self.signers().filter_map(|signer| common.index_of(&signer.address));
        let signed = common.power_of(indices.collect::<BTreeSet<_>>());
        match u128::from(signed) * 3 > u128::from(common.total_power()) {
            true => Ok(()),
            false => Err(Invalid::Form("too little power of the common validators signed")),
        }
    }

    /// CometBFT `VerifyCommitLightAllSignatures`, the powers: more than two thirds of the conflicting block's validators signed.
    fn check_quorum(&self) -> Result<(), Invalid> {
        let sum = |powers: &mut dyn Iterator<Item = u64>| powers.map(u128::from).sum::<u128>();
        let total = sum(&mut self.members.iter().map(|member| member.power));
        let signed = sum(&mut self.signers().map(|member| member.power));
        match total <= u128::from(TOTAL_POWER_MAX) && signed * 3 > total * 2 {
            true => Ok(()),
            false => Err(Invalid::Form("too little power of the block's validators signed")),
        }
    }

    /// Every signature; the first that is wrong ends it.
    fn check_signatures(&self, chain_id: &str, check: &dyn SignatureCheck) -> Result<(), Invalid> {
        const WRONG: Invalid = Invalid::Signature("the conflicting commit");
        for ((index, member), entry) in (0u32..).zip(&self.members).zip(&self.signatures) {
            let Some(entry) = entry else { continue };
            let vote = Vote {
                phase: Phase::Commit,
                height: self.header.height,
                view: self.view,
                block_id: self.block_id,
                time: entry.time,
                validator: member.address,
                index,
                extension: None,
            };
            let (Sum::Ed25519(key) | Sum::Secp256k1(key)) = &member.key;
            let key = PublicKey::from_bytes(key).ok_or(WRONG)?;
            if !check.check(&key, &sign_bytes::vote(chain_id, &vote), &entry.signature) {
                return Err(WRONG);
            }
        }
        Ok(())
    }
}

/// Whether the parts are there that Go's encoder always writes.
fn is_whole(header: &pb::Header, commit: &pb::Commit) -> bool {
    let id = |id: &Option<pb::BlockId>| id.as_ref().is_some_and(|id| id.part_set_header.is_some());
    header.version.is_some()
        && header.time.is_some()
        && id(&header.last_block_id)
        && id(&commit.block_id)
        && commit.signatures.iter().all(|entry| entry.timestamp.is_some())
}

fn header(raw: &pb::Header) -> Result<Header, Invalid> {
    const WRONG: Invalid = Invalid::Form("invalid header");
    height(raw.height)?;
    Header::try_from(raw.clone()).map_err(|_| WRONG)
}

/// An empty hash of results and none are one.
fn results(header: &Header) -> &[u8] {
    header.last_results_hash.as_ref().map_or(&[], |hash| hash.as_bytes())
}

/// CometBFT `ValidatorSet.ValidateBasic`. Addresses are those of the keys.
fn members(set: &pb::ValidatorSet) -> Result<Vec<Member>, Invalid> {
    let members = set.validators.iter().map(member).collect::<Result<Vec<_>, _>>()?;
    let proposer = member(set.proposer.as_ref().ok_or(FORM)?)?;
    // Go's encoder never writes the sum.
    if set.total_voting_power != 0 || !members.iter().any(|m| m.address == proposer.address) {
        return Err(Invalid::Form("invalid validator set"));
    }
    Ok(members)
}

fn member(raw: &pb::Validator) -> Result<Member, Invalid> {
    const WRONG: Invalid = Invalid::Form("invalid validator");
    let key = raw.pub_key.as_ref().and_then(|key| key.sum.clone());
    let key = key.ok_or(Invalid::Form("validator does not have a public key"))?;
    let address = address(&raw.address)?;
    let derived = match &key {
        Sum::Ed25519(key) if key.len() == 32 => {
            let digest: [u8; 32] = Sha256::digest(key).into();
            digest.starts_with(address.as_bytes())
        }
        Sum::Ed25519(_) => return Err(WRONG),
        Sum::Secp256k1(key) => PublicKey::secp256k1(key).ok_or(WRONG)?.address() == address,
    };
    if !derived {
        return Err(Invalid::Form("validator address is incorrectly derived from pubkey"));
    }
    let power = u64::try_from(raw.voting_power).map_err(|_| WRONG)?;
    Ok(Member { address, key, power })
}

fn accused(raw: &pb::Validator) -> Result<(Address, u64), Invalid> {
    member(raw).map(|member| (member.address, member.power))
}

/// The hash of the validators in the order in which they stand.
fn hash(members: &[Member]) -> Hash {
    let leaf = |member: &Member| {
        let sum = Some(member.key.clone());
        pb::SimpleValidator {
            pub_key: Some(tendermint_proto::v0_38::crypto::PublicKey { sum }),
            voting_power: i64::try_from(member.power).unwrap_or(i64::MAX),
        }
        .encode_to_vec()
    };
    merkle::root(&members.iter().map(leaf).collect::<Vec<_>>())
}

/// The entries for the block. An address that is not that of the member in its place would accuse another.
fn signatures(
    commit: &tendermint::block::Commit,
    members: &[Member],
) -> Result<Vec<Option<Sig>>, Invalid> {
    let entries = commit.signatures.iter().zip(members);
    let entry = |(entry, member): (&CommitSig, &Member)| {
        let CommitSig::BlockIdFlagCommit { validator_address, timestamp, signature } = entry else {
            return Ok(None);
        };
        if *validator_address != member.address {
            return Err(Invalid::Form("a signature under another validator's address"));
        }
        let signature = signature.as_ref().and_then(|s| Signature::from_slice(s.as_bytes()));
        let signature = signature.ok_or(Invalid::Form("a signature that is not of 64 bytes"))?;
        Ok(Some(Sig { time: *timestamp, signature }))
    };
    entries.map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validators_have_keys_of_either_kind_and_the_addresses_of_their_keys() {
        // The generator of the group is as good a key as any.
        let point = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
        let secp256k1 = hex::decode(point).expect("hexadecimal");
        let address = PublicKey::secp256k1(&secp256k1).expect("a point").address();
        let sum = Some(Sum::Secp256k1(secp256k1.clone()));
        let mut raw = pb::Validator {
            address: address.as_bytes().to_vec(),
            pub_key: Some(tendermint_proto::v0_38::crypto::PublicKey { sum }),
            voting_power: 10,
            proposer_priority: 0,
        };
        assert_eq!(member(&raw).map(|member| (member.address, member.power)), Ok((address, 10)));
        let sum = Some(Sum::Ed25519(secp256k1));
        raw.pub_key = Some(tendermint_proto::v0_38::crypto::PublicKey { sum });
        assert_eq!(member(&raw), Err(Invalid::Form("invalid validator")));
        raw.pub_key = None;
        assert!(member(&raw).is_err());
    }
}
