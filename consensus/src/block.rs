//! Blocks: Tendermint's format, bytes end to end. The body is a protobuf type of our own, because Tendermint's copies every
//! transaction.

use crate::commit::{Commit, commit_hash};
use crate::merkle;
use crate::validators::VALIDATORS_MAX;
use crate::verify::Reject;
use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest, Sha256};
use tendermint::Hash;
use tendermint::block::Header;
use tendermint_proto::v0_38::types as pb;

/// Names a block: the hash of its header, and how many parts its bytes make with their root.
pub type BlockId = tendermint::block::Id;

/// The size of a part (CometBFT `types/params.go`, `BlockPartSizeBytes`).
pub const PART_BYTES: usize = 65_536;

/// The most transactions that a block may hold; bounds what a decoder allocates for tiny transactions.
pub const TRANSACTIONS_MAX: usize = 1 << 20;

/// The most pieces of evidence in a block, and the most bytes that they may take (CometBFT `types/params.go`,
/// `DefaultEvidenceParams`): decoded, tiny ones take a hundred times their size.
pub const EVIDENCE_MAX: usize = 4_096;
/// See [`EVIDENCE_MAX`].
pub const EVIDENCE_BYTES_MAX: usize = 1_048_576;

/// The largest block that any chain may have (CometBFT `types/params.go`, `MaxBlockSizeBytes`), with room for its commit.
pub const BLOCK_BYTES_MAX: usize = 104_857_600;

/// A block, decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// The header.
    pub header: Header,
    /// The transactions.
    pub txs: Vec<Bytes>,
    /// The evidence, as Tendermint's message.
    pub evidence: pb::EvidenceList,
    /// Commit(h−1); at the initial height an empty one of height 0.
    pub last_commit: Option<Commit>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawBlock {
    #[prost(message, optional, tag = "1")]
    header: Option<pb::Header>,
    #[prost(message, optional, tag = "2")]
    data: Option<RawData>,
    #[prost(message, optional, tag = "3")]
    evidence: Option<pb::EvidenceList>,
    #[prost(message, optional, tag = "4")]
    last_commit: Option<pb::Commit>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawData {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    txs: Vec<Bytes>,
}

/// A block with its canonical bytes and its id, which always belong together.
#[derive(Clone, PartialEq)]
pub struct SealedBlock {
    block: Block,
    bytes: Bytes,
    id: BlockId,
    tx_hashes: Vec<[u8; 32]>,
}

impl std::fmt::Debug for SealedBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (height, hash) = (self.block.header.height, self.id.hash);
        write!(f, "SealedBlock({height}, {hash}, {} txs)", self.block.txs.len())
    }
}

impl Eq for SealedBlock {}

impl SealedBlock {
    /// Fills in the hashes of the header that follow from the rest of the block (data, evidence, last commit), and seals it.
    #[must_use]
    pub fn seal(mut block: Block) -> SealedBlock {
        block.last_commit = block.last_commit.map(Commit::without_extensions);
        let tx_hashes = tx_hashes(&block.txs);
        block.header.data_hash = Some(merkle::root(&tx_hashes));
        block.header.evidence_hash = Some(evidence_hash(&block.evidence));
        block.header.last_commit_hash = Some(last_commit_hash(block.last_commit.as_ref()));
        let bytes = Bytes::from(raw(&block).encode_to_vec());
        SealedBlock::new(block, bytes, tx_hashes)
    }

    /// Decodes a block of at most `bytes_max` bytes and checks that its encoding is the canonical one and that its header covers the
    /// rest. Transactions share `bytes`.
    ///
    /// # Errors
    /// Where it is too large, malformed, not canonical or the hashes do not match.
    pub fn decode(bytes: Bytes, bytes_max: usize) -> Result<SealedBlock, Reject> {
        if bytes.len() > bytes_max.min(BLOCK_BYTES_MAX) {
            return Err(Reject::TooLarge);
        }
        check_counts(&bytes)?;
        let raw = RawBlock::decode(bytes.clone()).map_err(|_| Reject::Malformed("block"))?;
        let block = cook(raw)?;
        if self::raw(&block).encode_to_vec() != bytes {
            return Err(Reject::Malformed("the block's encoding is not canonical"));
        }
        let tx_hashes = tx_hashes(&block.txs);
        let header = &block.header;
        let matches = header.data_hash == Some(merkle::root(&tx_hashes))
            && header.evidence_hash == Some(evidence_hash(&block.evidence))
            && header.last_commit_hash == Some(last_commit_hash(block.last_commit.as_ref()));
        if !matches {
            return Err(Reject::Malformed("the header does not cover the block"));
        }
        Ok(SealedBlock::new(block, bytes, tx_hashes))
    }

    fn new(block: Block, bytes: Bytes, tx_hashes: Vec<[u8; 32]>) -> SealedBlock {
        let parts: Vec<&[u8]> = bytes.chunks(PART_BYTES).collect();
        let total = u32::try_from(parts.len()).expect("a block is below BLOCK_BYTES_MAX");
        let part_set_header = tendermint::block::parts::Header::new(total, merkle::root(&parts))
            .expect("a block has at least one part");
        let id = BlockId { hash: block.header.hash(), part_set_header };
        SealedBlock { block, bytes, id, tx_hashes }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> BlockId {
        self.id
    }

    /// Its canonical bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.block.header
    }

    /// Its transactions.
    #[must_use]
    pub fn txs(&self) -> &[Bytes] {
        &self.block.txs
    }

    /// SHA-256 of each transaction, in order.
    #[must_use]
    pub fn tx_hashes(&self) -> &[[u8; 32]] {
        &self.tx_hashes
    }

    /// Commit(h−1), none at the initial height.
    #[must_use]
    pub fn last_commit(&self) -> Option<&Commit> {
        self.block.last_commit.as_ref()
    }

    /// The whole block.
    #[must_use]
    pub fn block(&self) -> &Block {
        &self.block
    }
}

/// SHA-256 of each transaction.
#[must_use]
pub fn tx_hashes(txs: &[Bytes]) -> Vec<[u8; 32]> {
    txs.iter().map(|tx| Sha256::digest(tx).into()).collect()
}

/// `last_commit_hash` of a block with this last commit; the root of nothing where there is none.
#[must_use]
pub fn last_commit_hash(commit: Option<&Commit>) -> Hash {
    match commit {
        Some(commit) => commit_hash(&commit.to_tendermint()),
        None => merkle::root(&[] as &[[u8; 0]]),
    }
}

/// `evidence_hash`: the root over the encodings of the pieces of evidence.
#[must_use]
pub fn evidence_hash(evidence: &pb::EvidenceList) -> Hash {
    let leaves: Vec<Vec<u8>> = evidence.evidence.iter().map(evidence_bytes).collect();
    merkle::root(&leaves)
}

/// One leaf of the evidence hash: the bare evidence message, without the `Evidence` wrapper (CometBFT `types/evidence.go`, `Bytes`).
fn evidence_bytes(evidence: &pb::Evidence) -> Vec<u8> {
    match &evidence.sum {
        Some(pb::evidence::Sum::DuplicateVoteEvidence(inner)) => inner.encode_to_vec(),
        Some(pb::evidence::Sum::LightClientAttackEvidence(inner)) => inner.encode_to_vec(),
        None => Vec::new(),
    }
}

/// Walks the block without allocating and refuses more elements than its decoder should make. Its fields ascend, each at most once, so
/// what is counted here is what is decoded.
fn check_counts(bytes: &Bytes) -> Result<(), Reject> {
    let mut rest = bytes.clone();
    let mut last = 0;
    while !rest.is_empty() {
        let (tag, mut field) = split_field(&mut rest)?;
        if tag <= last {
            return Err(Reject::Malformed("the block's fields do not ascend"));
        }
        last = tag;
        let elements_max = match tag {
            2 => TRANSACTIONS_MAX,
            3 if field.len() > EVIDENCE_BYTES_MAX => return Err(Reject::TooLarge),
            3 => EVIDENCE_MAX,
            // Height, round and block id stand beside the signatures.
            4 => VALIDATORS_MAX + 3,
            _ => continue,
        };
        let mut elements = 0usize;
        while !field.is_empty() {
            skip_field(&mut field)?;
            elements += 1;
            if elements > elements_max {
                return Err(Reject::TooLarge);
            }
        }
    }
    Ok(())
}

/// The next field of a message whose fields are all messages, with its number.
fn split_field(rest: &mut Bytes) -> Result<(u32, Bytes), Reject> {
    let malformed = |_| Reject::Malformed("block");
    let (tag, wire) = prost::encoding::decode_key(rest).map_err(malformed)?;
    let length = prost::encoding::decode_varint(rest).map_err(malformed)?;
    match usize::try_from(length) {
        Ok(length)
            if wire == prost::encoding::WireType::LengthDelimited && length <= rest.len() =>
        {
            Ok((tag, rest.split_to(length)))
        }
        _ => Err(Reject::Malformed("block")),
    }
}

fn skip_field(rest: &mut Bytes) -> Result<(), Reject> {
    let malformed = |_| Reject::Malformed("block");
    let (tag, wire) = prost::encoding::decode_key(rest).map_err(malformed)?;
    prost::encoding::skip_field(wire, tag, rest, prost::encoding::DecodeContext::default())
        .map_err(malformed)
}

fn raw(block: &Block) -> RawBlock {
    let mut header = pb::Header::from(block.header.clone());
    // Go's encoder writes the empty id of the initial block too.
    header.last_block_id.get_or_insert_with(|| pb::BlockId {
        hash: Vec::new(),
        part_set_header: Some(pb::PartSetHeader::default()),
    });
    let last_commit = match &block.last_commit {
        Some(commit) => pb::Commit::from(commit.to_tendermint()),
        None => pb::Commit {
            block_id: Some(pb::BlockId {
                hash: Vec::new(),
                part_set_header: Some(pb::PartSetHeader::default()),
            }),
            ..pb::Commit::default()
        },
    };
    RawBlock {
        header: Some(header),
        data: Some(RawData { txs: block.txs.clone() }),
        evidence: Some(block.evidence.clone()),
        last_commit: Some(last_commit),
    }
}

/// The highest height that is taken from others, 2^62: one can be counted on from it, which from the highest of all, 2^63−1, is an overflow.
pub const HEIGHT_MAX: u64 = 1 << 62;

fn cook(raw: RawBlock) -> Result<Block, Reject> {
    let header = raw.header.ok_or(Reject::Malformed("a block without a header"))?;
    let header = Header::try_from(header).map_err(|_| Reject::Malformed("header"))?;
    if header.height.value() > HEIGHT_MAX {
        return Err(Reject::Malformed("header"));
    }
    let last_commit = match raw.last_commit {
        None => return Err(Reject::Malformed("a block without a last commit")),
        Some(commit) if commit.height == 0 => None,
        Some(commit) => {
            let commit = tendermint::block::Commit::try_from(commit)
                .map_err(|_| Reject::Malformed("last commit"))?;
            Some(Commit::from_tendermint(&commit)?)
        }
    };
    Ok(Block {
        header,
        txs: raw.data.unwrap_or_default().txs,
        evidence: raw.evidence.unwrap_or_default(),
        last_commit,
    })
}
