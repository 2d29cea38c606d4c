//! Evidence of an attack on light clients (CometBFT `types/evidence.go`, `LightClientAttackEvidence`; `light/detector.go`).

use crate::block::{BoundBlock, TrustedBlock};
use crate::header::{Header, Height};
use crate::time::Time;
use prost::Message as _;
use std::collections::BTreeSet;
use tendermint_proto::v0_38::types as pb;
use tercet_consensus::key::Address;
use tercet_consensus::validators::{Validator, Validators};

/// What kind of attack two verified blocks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// A header that cannot follow from the chain: other validators, parameters, application state or results.
    Lunatic,
    /// Two blocks signed in one round.
    Equivocation,
    /// Two blocks signed in different rounds: nobody can say yet who is at fault.
    Amnesia,
    /// A header above the chain, with a time that the chain has passed below it.
    ForwardLunatic,
    /// The hashes below an anchor do not lead to the anchor before.
    BrokenHistory,
}

/// Evidence that the validators named signed a block that conflicts with the chain.
#[derive(Clone, Debug)]
pub struct AttackEvidence {
    /// The kind.
    pub attack: Attack,
    /// The block that is held to be false.
    pub conflicting: BoundBlock,
    /// The last height at which both sides agree, or for attacks by the same validators the height of the conflict.
    pub common_height: Height,
    /// The validators who signed against the rules, by power.
    pub byzantine: Vec<Validator>,
    /// The total power at the common height.
    pub total_power: u64,
    /// The time of the block at the common height.
    pub time: Time,
}

impl AttackEvidence {
    /// Evidence against `conflicting`, from the point of view of those who hold `trusted` to be the chain.
    #[must_use]
    pub fn new(
        common: &TrustedBlock,
        conflicting: &BoundBlock,
        trusted: &BoundBlock,
    ) -> AttackEvidence {
        let attack = classify(conflicting, trusted);
        let lunatic = is_invented(conflicting.header(), trusted.header());
        let base: &BoundBlock = if lunatic { common } else { trusted };
        AttackEvidence {
            attack,
            conflicting: conflicting.clone(),
            common_height: base.height(),
            byzantine: byzantine(lunatic, common.validators(), conflicting, trusted),
            total_power: base.validators().total_power(),
            time: base.header().time(),
        }
    }

    /// The protobuf form of Tendermint's `Evidence`, as `broadcast_evidence` and blocks hold it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let evidence = pb::LightClientAttackEvidence {
            conflicting_block: Some(pb::LightBlock {
                signed_header: Some(pb::SignedHeader {
                    header: self.conflicting.header().to_proto().ok().map(as_go_writes),
                    commit: Some(self.conflicting.commit().to_proto()),
                }),
                validator_set: Some(set(self.conflicting.validators(), &self.conflicting)),
            }),
            common_height: self.common_height.cast_signed(),
            byzantine_validators: self.byzantine.iter().map(validator).collect(),
            total_voting_power: self.total_power.cast_signed(),
            timestamp: Some(self.time.to_proto()),
        };
        let sum = pb::evidence::Sum::LightClientAttackEvidence(evidence);
        pb::Evidence { sum: Some(sum) }.encode_to_vec()
    }
}

/// Go writes the id of no block too.
fn as_go_writes(mut header: pb::Header) -> pb::Header {
    let none = || pb::BlockId { hash: vec![], part_set_header: Some(pb::PartSetHeader::default()) };
    header.last_block_id.get_or_insert_with(none);
    header
}

fn classify(conflicting: &BoundBlock, trusted: &BoundBlock) -> Attack {
    if conflicting.height() != trusted.height() {
        Attack::ForwardLunatic
    } else if is_invented(conflicting.header(), trusted.header()) {
        Attack::Lunatic
    } else if conflicting.commit().round == trusted.commit().round {
        Attack::Equivocation
    } else {
        Attack::Amnesia
    }
}

/// Whether `conflicting` has what no correct execution of the chain gives (CometBFT's `ConflictingHeaderIsInvalid`).
fn is_invented(conflicting: &Header, trusted: &Header) -> bool {
    conflicting.validators_hash() != trusted.validators_hash()
        || conflicting.next_validators_hash() != trusted.next_validators_hash()
        || conflicting.consensus_hash() != trusted.consensus_hash()
        || conflicting.app_hash() != trusted.app_hash()
        || conflicting.last_results_hash() != trusted.last_results_hash()
}

/// CometBFT's `GetByzantineValidators`.
fn byzantine(
    lunatic: bool,
    common: &Validators,
    conflicting: &BoundBlock,
    trusted: &BoundBlock,
) -> Vec<Validator> {
    let against = signers(conflicting);
    let both = signers(trusted);
    let same_round = conflicting.commit().round == trusted.commit().round;
    let list = if lunatic { common.list() } else { conflicting.validators().list() };
    let at_fault = |address: &Address| {
        against.contains(address) && (lunatic || (same_round && both.contains(address)))
    };
    list.iter().filter(|validator| at_fault(&validator.address)).cloned().collect()
}

fn signers(block: &BoundBlock) -> BTreeSet<Address> {
    let entries = block.commit().entries.iter().flatten();
    entries.filter(|entry| entry.for_block).map(|entry| entry.address).collect()
}

fn validator(of: &Validator) -> pb::Validator {
    pb::Validator {
        address: of.address.as_bytes().to_vec(),
        pub_key: Some(of.key.to_proto()),
        voting_power: of.power.cast_signed(),
        proposer_priority: 0,
    }
}

/// CometBFT wants a proposer in every set that it decodes; which one means nothing here.
fn set(of: &Validators, block: &BoundBlock) -> pb::ValidatorSet {
    let proposer = block.header().proposer();
    let found = of.list().iter().find(|v| v.address.as_bytes() == proposer).or(of.list().first());
    pb::ValidatorSet {
        validators: of.list().iter().map(validator).collect(),
        proposer: found.map(validator),
        // Go's encoder never writes the sum.
        total_voting_power: 0,
    }
}
