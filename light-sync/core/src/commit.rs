//! Commits, as CometBFT chains have them: with votes for nil, and votes that are not looked at once enough have signed.

use crate::hash::Hash;
use crate::header::Height;
use crate::time::Time;
use prost::Message as _;
use tendermint_proto::v0_38::types as pb;
use tercet_consensus::key::{Address, Signature};
use tercet_consensus::validators::VALIDATORS_MAX;

/// The most entries of a commit, as many as a set has validators (CometBFT `types/vote_set.go`, `MaxVotesCount`).
pub const SIGNATURES_MAX: usize = VALIDATORS_MAX;

/// The most bytes of a commit: a head and 111 bytes an entry with its tag (CometBFT `types/block.go`, `MaxCommitBytes`).
pub const COMMIT_BYTES_MAX: usize = 94 + SIGNATURES_MAX * 111;

/// Which block is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockId {
    /// The hash of its header.
    pub hash: Hash,
    /// How many parts it has.
    pub parts: u32,
    /// The root of its parts.
    pub parts_hash: Option<Hash>,
}

impl BlockId {
    /// From the protobuf message; none where a hash is missing or of another length.
    pub(crate) fn from_proto(id: &pb::BlockId) -> Option<BlockId> {
        let parts = id.part_set_header.as_ref()?;
        let parts_hash = match parts.hash.as_slice() {
            [] => None,
            hash => Some(Hash::from_slice(hash)?),
        };
        Some(BlockId { hash: Hash::from_slice(&id.hash)?, parts: parts.total, parts_hash })
    }

    /// The protobuf message.
    #[must_use]
    pub fn to_proto(&self) -> pb::BlockId {
        pb::BlockId {
            hash: self.hash.as_bytes().to_vec(),
            part_set_header: Some(pb::PartSetHeader {
                total: self.parts,
                hash: self.parts_hash.map_or(vec![], |hash| hash.as_bytes().to_vec()),
            }),
        }
    }
}

/// A commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The height.
    pub height: Height,
    /// The round.
    pub round: u32,
    /// The block.
    pub block_id: BlockId,
    /// One entry a validator; none where it is absent.
    pub entries: Vec<Option<Entry>>,
}

/// What a validator signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whether it signed the block; otherwise it signed nil.
    pub for_block: bool,
    /// The validator.
    pub address: Address,
    /// When.
    pub time: Time,
    /// Its signature.
    pub signature: Signature,
}

/// Why bytes are no commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// They are more than [`COMMIT_BYTES_MAX`] or hold more entries than [`SIGNATURES_MAX`].
    #[error("too many entries")]
    TooLarge,
    /// They are not protobuf, or a field has a value that no commit has.
    #[error("malformed commit: {0}")]
    Malformed(&'static str),
}

impl Commit {
    /// Reads a commit from its protobuf form.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn decode(bytes: &[u8]) -> Result<Commit, CommitError> {
        if bytes.len() > COMMIT_BYTES_MAX {
            return Err(CommitError::TooLarge);
        }
        let commit = pb::Commit::decode(bytes).map_err(|_| CommitError::Malformed("protobuf"))?;
        Commit::from_proto(&commit)
    }

    /// From Tendermint's type.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn from_tendermint(commit: &tendermint::block::Commit) -> Result<Commit, CommitError> {
        Commit::from_proto(&commit.clone().into())
    }

    /// From the protobuf message.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn from_proto(commit: &pb::Commit) -> Result<Commit, CommitError> {
        use CommitError::Malformed;
        if commit.signatures.len() > SIGNATURES_MAX {
            return Err(CommitError::TooLarge);
        }
        let id = commit.block_id.as_ref().ok_or(Malformed("no block"))?;
        Ok(Commit {
            height: commit.height.try_into().map_err(|_| Malformed("height"))?,
            round: commit.round.try_into().map_err(|_| Malformed("round"))?,
            block_id: BlockId::from_proto(id).ok_or(Malformed("block"))?,
            entries: commit.signatures.iter().map(entry).collect::<Result<_, _>>()?,
        })
    }

    /// The protobuf message.
    #[must_use]
    pub fn to_proto(&self) -> pb::Commit {
        pb::Commit {
            height: self.height.cast_signed(),
            round: self.round.cast_signed(),
            block_id: Some(self.block_id.to_proto()),
            signatures: self.entries.iter().map(|entry| raw_entry(entry.as_ref())).collect(),
        }
    }

    /// Its protobuf form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.to_proto().encode_to_vec()
    }

    /// What the header of the next block has as the hash of this commit (CometBFT `types/block.go`, `Commit.Hash`).
    #[must_use]
    pub fn hash(&self) -> Hash {
        let leaves: Vec<Vec<u8>> =
            self.entries.iter().map(|entry| raw_entry(entry.as_ref()).encode_to_vec()).collect();
        Hash::new(tendermint::merkle::simple_hash_from_byte_vectors::<
            tendermint::crypto::default::Sha256,
        >(&leaves))
    }
}

fn entry(raw: &pb::CommitSig) -> Result<Option<Entry>, CommitError> {
    use CommitError::Malformed;
    let for_block = match pb::BlockIdFlag::try_from(raw.block_id_flag) {
        Ok(pb::BlockIdFlag::Absent) => return absent(raw),
        Ok(pb::BlockIdFlag::Commit) => true,
        Ok(pb::BlockIdFlag::Nil) => false,
        _ => return Err(Malformed("flag")),
    };
    let address = raw.validator_address.as_slice().try_into().ok().map(Address::new);
    let time = raw.timestamp.as_ref().and_then(Time::from_proto);
    Ok(Some(Entry {
        for_block,
        address: address.ok_or(Malformed("address"))?,
        time: time.ok_or(Malformed("time"))?,
        signature: Signature::from_slice(&raw.signature).ok_or(Malformed("signature"))?,
    }))
}

fn absent(raw: &pb::CommitSig) -> Result<Option<Entry>, CommitError> {
    let zero = raw.timestamp.as_ref().is_none_or(|time| Time::from_proto(time) == Some(Time::MIN));
    if zero && raw.signature.is_empty() {
        Ok(None)
    } else {
        Err(CommitError::Malformed("an absent entry with a signature"))
    }
}

fn raw_entry(entry: Option<&Entry>) -> pb::CommitSig {
    let Some(entry) = entry else {
        return pb::CommitSig {
            block_id_flag: pb::BlockIdFlag::Absent.into(),
            validator_address: vec![],
            timestamp: Some(Time::MIN.to_proto()),
            signature: vec![],
        };
    };
    let flag = if entry.for_block { pb::BlockIdFlag::Commit } else { pb::BlockIdFlag::Nil };
    pb::CommitSig {
        block_id_flag: flag.into(),
        validator_address: entry.address.as_bytes().to_vec(),
        timestamp: Some(entry.time.to_proto()),
        signature: entry.signature.0.to_vec(),
    }
}
