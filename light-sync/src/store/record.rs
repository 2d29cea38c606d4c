//! Values, as protobuf.

use super::{Store, StoreError, VALIDATORS};
use prost::Message;
use rocksdb::WriteBatch;
use std::sync::Arc;
use tendermint_proto::v0_38::types as pb;
use tercet_consensus::validators::Validators;
use tercet_light_core::block::{TrustedBlock, UntrustedBlock};
use tercet_light_core::evidence::AttackEvidence;
use tercet_light_core::hash::Hash;
use tercet_light_core::planner::Fork;

/// An anchor without its header, which stands where all headers do.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AnchorRecord {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) hash: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) commit: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) validators: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) next_validators: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(super) how: String,
    #[prost(string, tag = "6")]
    pub(super) source: String,
}

/// Who agreed with an anchor.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ConfirmedRecord {
    #[prost(string, repeated, tag = "1")]
    pub(super) by: Vec<String>,
}

/// How far a segment is filled.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SegmentRecord {
    /// The anchor below; 0 where there is none.
    #[prost(uint64, tag = "1")]
    pub(super) lower: u64,
    #[prost(uint64, tag = "2")]
    pub(super) watermark: u64,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) hash: Vec<u8>,
}

/// Where trust began.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RootRecord {
    #[prost(string, tag = "1")]
    pub(super) chain_id: String,
    #[prost(uint64, tag = "2")]
    pub(super) height: u64,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) hash: Vec<u8>,
}

/// One block of a trace.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TraceRecord {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) header: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) commit: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) validators: Vec<u8>,
}

/// A fork: both traces and the evidence.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ForkRecord {
    #[prost(string, tag = "1")]
    pub(super) attack: String,
    #[prost(uint64, tag = "2")]
    pub(super) common: u64,
    #[prost(uint64, tag = "3")]
    pub(super) height: u64,
    #[prost(message, repeated, tag = "4")]
    pub(super) ours: Vec<TraceRecord>,
    #[prost(message, repeated, tag = "5")]
    pub(super) theirs: Vec<TraceRecord>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub(super) evidence: Vec<Vec<u8>>,
}

fn set_hash(set: &Validators) -> Vec<u8> {
    Hash::from_tendermint(set.hash()).map_or(vec![], |hash| hash.as_bytes().to_vec())
}

impl AnchorRecord {
    pub(super) fn new(block: &TrustedBlock, how: &str, source: &str) -> AnchorRecord {
        AnchorRecord {
            hash: block.hash().as_bytes().to_vec(),
            commit: block.commit().encode(),
            validators: set_hash(block.validators()),
            next_validators: set_hash(block.next_validators()),
            how: how.to_owned(),
            source: source.to_owned(),
        }
    }
}

impl ForkRecord {
    pub(super) fn new(fork: &Fork) -> ForkRecord {
        let trace = |blocks: &[TrustedBlock]| blocks.iter().map(trace).collect();
        ForkRecord {
            attack: format!("{:?}", fork.attack),
            common: fork.common.height(),
            height: fork.ours.last().map_or(fork.common.height(), |block| block.height()),
            ours: trace(&fork.ours),
            theirs: trace(&fork.theirs),
            evidence: fork.evidence.iter().map(AttackEvidence::encode).collect(),
        }
    }
}

fn trace(block: &TrustedBlock) -> TraceRecord {
    TraceRecord {
        header: block.header().bytes().to_vec(),
        commit: block.commit().encode(),
        validators: encode_set(block.validators()),
    }
}

fn encode_set(set: &Validators) -> Vec<u8> {
    let validators = set.to_tendermint().into_iter().map(pb::Validator::from).collect();
    pb::ValidatorSet { validators, proposer: None, total_voting_power: 0 }.encode_to_vec()
}

/// A set as [`encode_set`] wrote it; none where it is damaged.
pub(super) fn decode_set(bytes: &[u8]) -> Option<Arc<Validators>> {
    let raw = pb::ValidatorSet::decode(bytes).ok()?;
    let infos = raw.validators.into_iter().map(tendermint::validator::Info::try_from);
    UntrustedBlock::validators(&infos.collect::<Result<Vec<_>, _>>().ok()?).ok()
}

impl Store {
    /// Keeps a set once.
    pub(super) fn put_set(
        &self,
        batch: &mut WriteBatch,
        set: &Validators,
    ) -> Result<(), StoreError> {
        let (family, key) = (self.family(VALIDATORS), set_hash(set));
        let known = self.db.get_pinned_cf(family, &key).map_err(|source| self.failed(source))?;
        if known.is_none() {
            batch.put_cf(family, key, encode_set(set));
        }
        Ok(())
    }
}
