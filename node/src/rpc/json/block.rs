//! Blocks, headers and commits.

use super::evidence::Evidence;
use super::{Base64, Base64Text, Hex, Rfc3339, Text, is_zero};
use crate::rpc::sources::Meta;
use bytes::Bytes;
use serde::Serialize;
use tendermint_proto::v0_38::types as pb;
use tercet_consensus::block::SealedBlock;

/// Names a block.
#[derive(Serialize, Default)]
pub(crate) struct BlockId {
    hash: Hex<Vec<u8>>,
    parts: Parts,
}

#[derive(Serialize, Default)]
struct Parts {
    total: u32,
    hash: Hex<Vec<u8>>,
}

impl From<Option<pb::BlockId>> for BlockId {
    fn from(id: Option<pb::BlockId>) -> BlockId {
        let id = id.unwrap_or_default();
        let parts = id.part_set_header.unwrap_or_default();
        BlockId { hash: Hex(id.hash), parts: Parts { total: parts.total, hash: Hex(parts.hash) } }
    }
}

impl From<tercet_consensus::block::BlockId> for BlockId {
    fn from(id: tercet_consensus::block::BlockId) -> BlockId {
        Some(pb::BlockId::from(id)).into()
    }
}

/// A header.
#[derive(Serialize)]
pub(crate) struct Header {
    version: Version,
    chain_id: String,
    height: Text<i64>,
    time: Rfc3339,
    last_block_id: BlockId,
    last_commit_hash: Hex<Vec<u8>>,
    data_hash: Hex<Vec<u8>>,
    validators_hash: Hex<Vec<u8>>,
    next_validators_hash: Hex<Vec<u8>>,
    consensus_hash: Hex<Vec<u8>>,
    app_hash: Hex<Vec<u8>>,
    last_results_hash: Hex<Vec<u8>>,
    evidence_hash: Hex<Vec<u8>>,
    proposer_address: Hex<Vec<u8>>,
}

#[derive(Serialize)]
struct Version {
    #[serde(skip_serializing_if = "is_zero")]
    block: Text<u64>,
    #[serde(skip_serializing_if = "is_zero")]
    app: Text<u64>,
}

impl From<pb::Header> for Header {
    fn from(header: pb::Header) -> Header {
        let version = header.version.unwrap_or_default();
        Header {
            version: Version { block: Text(version.block), app: Text(version.app) },
            chain_id: header.chain_id,
            height: Text(header.height),
            time: Rfc3339(header.time),
            last_block_id: header.last_block_id.into(),
            last_commit_hash: Hex(header.last_commit_hash),
            data_hash: Hex(header.data_hash),
            validators_hash: Hex(header.validators_hash),
            next_validators_hash: Hex(header.next_validators_hash),
            consensus_hash: Hex(header.consensus_hash),
            app_hash: Hex(header.app_hash),
            last_results_hash: Hex(header.last_results_hash),
            evidence_hash: Hex(header.evidence_hash),
            proposer_address: Hex(header.proposer_address),
        }
    }
}

impl From<tendermint::block::Header> for Header {
    fn from(header: tendermint::block::Header) -> Header {
        pb::Header::from(header).into()
    }
}

/// A commit; the empty one of height 0 is its default.
#[derive(Serialize, Default)]
pub(crate) struct Commit {
    height: Text<i64>,
    round: i32,
    block_id: BlockId,
    signatures: Vec<CommitSig>,
}

#[derive(Serialize)]
struct CommitSig {
    block_id_flag: i32,
    validator_address: Hex<Vec<u8>>,
    timestamp: Rfc3339,
    signature: Base64<Vec<u8>>,
}

/// `block_id_flag` of a validator that did not sign.
const ABSENT: i32 = 1;

impl From<pb::CommitSig> for CommitSig {
    fn from(sig: pb::CommitSig) -> CommitSig {
        CommitSig {
            block_id_flag: sig.block_id_flag,
            validator_address: Hex(sig.validator_address),
            timestamp: Rfc3339(sig.timestamp.filter(|_| sig.block_id_flag != ABSENT)),
            signature: Base64(sig.signature),
        }
    }
}

impl From<pb::Commit> for Commit {
    fn from(commit: pb::Commit) -> Commit {
        Commit {
            height: Text(commit.height),
            round: commit.round,
            block_id: commit.block_id.into(),
            signatures: commit.signatures.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<&tercet_consensus::commit::Commit> for Commit {
    fn from(commit: &tercet_consensus::commit::Commit) -> Commit {
        pb::Commit::from(commit.to_tendermint()).into()
    }
}

/// A header with the commit that decided it.
#[derive(Serialize)]
pub(crate) struct SignedHeader {
    pub(crate) header: Option<Header>,
    pub(crate) commit: Option<Commit>,
}

/// A block.
#[derive(Serialize)]
pub(crate) struct Block {
    header: Header,
    data: Data,
    evidence: EvidenceData,
    last_commit: Commit,
}

#[derive(Serialize)]
struct Data {
    txs: Vec<Base64Text<Bytes>>,
}

#[derive(Serialize)]
struct EvidenceData {
    evidence: Vec<Evidence>,
}

impl From<&SealedBlock> for Block {
    fn from(sealed: &SealedBlock) -> Block {
        let evidence = &sealed.block().evidence.evidence;
        Block {
            header: sealed.header().clone().into(),
            data: Data { txs: sealed.txs().iter().cloned().map(Base64Text).collect() },
            evidence: EvidenceData {
                evidence: evidence.iter().cloned().filter_map(Evidence::new).collect(),
            },
            last_commit: sealed.last_commit().map(Commit::from).unwrap_or_default(),
        }
    }
}

/// Reply of `block` and `block_by_hash`.
#[derive(Serialize)]
pub(crate) struct BlockReply {
    pub(crate) block_id: BlockId,
    pub(crate) block: Option<Block>,
}

impl From<Option<&SealedBlock>> for BlockReply {
    fn from(sealed: Option<&SealedBlock>) -> BlockReply {
        BlockReply {
            block_id: sealed.map(|sealed| sealed.id().into()).unwrap_or_default(),
            block: sealed.map(Block::from),
        }
    }
}

/// Reply of `header` and `header_by_hash`.
#[derive(Serialize)]
pub(crate) struct HeaderReply {
    pub(crate) header: Option<Header>,
}

/// Reply of `commit`.
#[derive(Serialize)]
pub(crate) struct CommitReply {
    pub(crate) signed_header: SignedHeader,
    pub(crate) canonical: bool,
}

/// Reply of `blockchain`.
#[derive(Serialize)]
pub(crate) struct BlockchainReply {
    pub(crate) last_height: Text<u64>,
    pub(crate) block_metas: Vec<BlockMeta>,
}

/// What `blockchain` says of one block.
#[derive(Serialize)]
pub(crate) struct BlockMeta {
    block_id: BlockId,
    block_size: Text<usize>,
    header: Header,
    num_txs: Text<usize>,
}

impl From<Meta> for BlockMeta {
    fn from(meta: Meta) -> BlockMeta {
        BlockMeta {
            block_id: meta.block_id.into(),
            block_size: Text(meta.size_bytes),
            header: meta.header.into(),
            num_txs: Text(meta.num_txs),
        }
    }
}
