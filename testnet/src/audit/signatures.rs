//! Every signature of the commits of one height: each one good, and none that contradicts another.

use std::collections::{BTreeMap, BTreeSet};

use tendermint::account;
use tendermint::block::signed_header::SignedHeader;
use tendermint::block::{Commit, CommitSig, Id};
use tendermint::crypto::default::signature::Verifier;
use tendermint::validator;
use tendermint::vote::{SignedVote, Type, ValidatorIndex, Vote};

use super::Findings;

/// What validators signed at one height, by validator and view; nothing stands for nil.
#[derive(Debug, Default)]
pub(crate) struct Signatures {
    signed: BTreeMap<(account::Id, u32), Option<Id>>,
    /// Signatures with what they sign: each is verified once.
    seen: BTreeSet<(Vec<u8>, Vec<u8>)>,
}

impl Signatures {
    /// Takes the signatures of one commit, and returns how many were new and good.
    pub(crate) fn note(
        &mut self,
        signed: &SignedHeader,
        set: &validator::Set,
        name: &str,
        findings: &mut Findings,
    ) -> u64 {
        let height = signed.header.height;
        let mut good = 0;
        for (index, signature) in signed.commit.signatures.iter().enumerate() {
            let Some(vote) = vote(&signed.commit, index, signature) else { continue };
            let address = vote.validator_address;
            let block = vote.block_id;
            let Some(vote) = SignedVote::from_vote(vote, signed.header.chain_id.clone()) else {
                findings.add(format!("height {height}: {name}: {address} without a signature"));
                continue;
            };
            let message = vote.sign_bytes();
            let bytes = vote.signature().as_bytes().to_vec();
            if !self.seen.insert((bytes, message.clone())) {
                continue;
            }
            let info = set.validator(address);
            let valid = info.is_some_and(|info| {
                info.verify_signature::<Verifier>(&message, vote.signature()).is_ok()
            });
            if !valid {
                findings.add(format!("height {height}: {name}: bad signature of {address}"));
                continue;
            }
            good += 1;
            let slot = (address, signed.commit.round.value());
            let earlier = self.signed.entry(slot).or_insert(block);
            if *earlier != block {
                findings.add(format!(
                    "height {height}: {address} signed twice in view {}: {} and {} (at {name})",
                    slot.1,
                    show(*earlier),
                    show(block)
                ));
            }
        }
        good
    }
}

fn show(block: Option<Id>) -> String {
    block.map_or_else(|| "nil".to_owned(), |id| id.hash.to_string())
}

/// The vote that a signature of a commit stands for.
fn vote(commit: &Commit, index: usize, signature: &CommitSig) -> Option<Vote> {
    let (validator_address, timestamp, signature, block_id) = match signature {
        CommitSig::BlockIdFlagAbsent => return None,
        CommitSig::BlockIdFlagCommit { validator_address, timestamp, signature } => {
            (*validator_address, *timestamp, signature.clone(), Some(commit.block_id))
        }
        CommitSig::BlockIdFlagNil { validator_address, timestamp, signature } => {
            (*validator_address, *timestamp, signature.clone(), None)
        }
    };
    Some(Vote {
        vote_type: Type::Precommit,
        height: commit.height,
        round: commit.round,
        block_id,
        timestamp: Some(timestamp),
        validator_address,
        validator_index: ValidatorIndex::try_from(index).ok()?,
        signature,
        extension: Vec::new(),
        extension_signature: None,
    })
}
