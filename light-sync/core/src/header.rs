//! Headers: kept as their protobuf bytes, parsed once into what verification needs, hashed from the bytes.

use crate::commit::BlockId;
use crate::hash::Hash;
use crate::merkle;
use crate::time::Time;
use crate::wire::{Fields, Malformed, Value};
use bytes::Bytes;
use prost::Message as _;
use std::ops::Range;
use tendermint_proto::v0_38::types as pb;

/// The height of a block: at least 1, below 2^63.
pub type Height = u64;

/// The most bytes of a header: CometBFT's 626 (`types/block.go`, `MaxHeaderBytes`) count an application hash of 32 bytes, which an
/// application may make longer.
pub const HEADER_BYTES_MAX: usize = 2_048;

/// The most bytes of a chain id (CometBFT `types/genesis.go`, `MaxChainIDLen`).
pub const CHAIN_ID_BYTES_MAX: usize = 50;

const FIELDS: usize = 14;

/// Fields of a header by their index in its Merkle tree, which is their number less one.
mod field {
    pub(super) const VERSION: usize = 0;
    pub(super) const CHAIN_ID: usize = 1;
    pub(super) const HEIGHT: usize = 2;
    pub(super) const TIME: usize = 3;
    pub(super) const LAST_BLOCK_ID: usize = 4;
    pub(super) const LAST_COMMIT_HASH: usize = 5;
    pub(super) const DATA_HASH: usize = 6;
    pub(super) const VALIDATORS_HASH: usize = 7;
    pub(super) const NEXT_VALIDATORS_HASH: usize = 8;
    pub(super) const CONSENSUS_HASH: usize = 9;
    pub(super) const APP_HASH: usize = 10;
    pub(super) const LAST_RESULTS_HASH: usize = 11;
    pub(super) const EVIDENCE_HASH: usize = 12;
    pub(super) const PROPOSER: usize = 13;
}

/// A header. That it exists says that its bytes are the one canonical form of a well-formed header, not that anybody signed it.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    raw: Bytes,
    /// Where the value of each field is in `raw`; empty where it is not there.
    fields: [(u16, u16); FIELDS],
    height: Height,
    time: Time,
    last_block: Option<Hash>,
    validators_hash: Hash,
    next_validators_hash: Hash,
}

/// What is found while the fields are read.
#[derive(Default)]
struct Parsed {
    fields: [(u16, u16); FIELDS],
    seen: u16,
    height: Height,
    time: Option<Time>,
    last_block: Option<Hash>,
}

impl Header {
    /// Reads the canonical protobuf form of a header (CometBFT's `tendermint.types.Header`).
    ///
    /// # Errors
    /// Where it is longer than [`HEADER_BYTES_MAX`], not canonical, or a field has a value that no header has.
    pub fn decode(raw: Bytes) -> Result<Header, Malformed> {
        if raw.len() > HEADER_BYTES_MAX {
            return Err(Malformed);
        }
        let mut parsed = Parsed::default();
        let mut fields = Fields::new(&raw, 0..raw.len());
        while let Some((number, value)) = fields.next()? {
            parsed.take(&raw, number, &value)?;
        }
        parsed.finish(raw)
    }

    /// The header in Tendermint's type.
    ///
    /// # Errors
    /// Where it is no well-formed header, as of height 0.
    pub fn from_tendermint(header: &tendermint::block::Header) -> Result<Header, Malformed> {
        Header::decode(pb::Header::from(header.clone()).encode_to_vec().into())
    }

    /// The same in Tendermint's type.
    ///
    /// # Errors
    /// Where that type refuses it, as a chain id with characters that it does not know.
    pub fn to_tendermint(&self) -> Result<tendermint::block::Header, Malformed> {
        self.to_proto()?.try_into().map_err(|_| Malformed)
    }

    pub(crate) fn to_proto(&self) -> Result<pb::Header, Malformed> {
        pb::Header::decode(self.raw.clone()).map_err(|_| Malformed)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.raw
    }

    /// Its height, at least 1.
    #[must_use]
    pub fn height(&self) -> Height {
        self.height
    }

    /// Its time.
    #[must_use]
    pub fn time(&self) -> Time {
        self.time
    }

    /// The hash of the block before; none in the first block.
    #[must_use]
    pub fn last_block(&self) -> Option<Hash> {
        self.last_block
    }

    /// The id of the block before, with its parts; none in the first block.
    #[must_use]
    pub fn last_block_id(&self) -> Option<BlockId> {
        let id = pb::BlockId::decode(self.value(field::LAST_BLOCK_ID)).ok()?;
        BlockId::from_proto(&id)
    }

    /// The hash of the validators of this height.
    #[must_use]
    pub fn validators_hash(&self) -> Hash {
        self.validators_hash
    }

    /// The hash of the validators of the next height.
    #[must_use]
    pub fn next_validators_hash(&self) -> Hash {
        self.next_validators_hash
    }

    /// The chain, as bytes: only compared.
    #[must_use]
    pub fn chain_id(&self) -> &[u8] {
        self.value(field::CHAIN_ID)
    }

    /// Hash of the commit of the block before; empty in the first block of some chains.
    #[must_use]
    pub fn last_commit_hash(&self) -> Option<Hash> {
        Hash::from_slice(self.value(field::LAST_COMMIT_HASH))
    }

    /// Root of the transactions.
    #[must_use]
    pub fn data_hash(&self) -> Option<Hash> {
        Hash::from_slice(self.value(field::DATA_HASH))
    }

    /// Hash of the consensus parameters.
    #[must_use]
    pub fn consensus_hash(&self) -> Option<Hash> {
        Hash::from_slice(self.value(field::CONSENSUS_HASH))
    }

    /// State of the application after the block before, of any length.
    #[must_use]
    pub fn app_hash(&self) -> &[u8] {
        self.value(field::APP_HASH)
    }

    /// Root of the results of the block before.
    #[must_use]
    pub fn last_results_hash(&self) -> Option<Hash> {
        Hash::from_slice(self.value(field::LAST_RESULTS_HASH))
    }

    /// Root of the evidence.
    #[must_use]
    pub fn evidence_hash(&self) -> Option<Hash> {
        Hash::from_slice(self.value(field::EVIDENCE_HASH))
    }

    /// The address of who proposed the block.
    #[must_use]
    pub fn proposer(&self) -> &[u8] {
        self.value(field::PROPOSER)
    }

    fn value(&self, index: usize) -> &[u8] {
        let (start, end) = self.fields[index];
        self.raw.get(usize::from(start)..usize::from(end)).unwrap_or_default()
    }

    /// The hash of the header: the Merkle root of its fields (CometBFT `types/block.go`, `Header.Hash`).
    #[must_use]
    pub fn hash(&self) -> Hash {
        let mut leaves = [[0; 32]; FIELDS];
        for (index, to) in leaves.iter_mut().enumerate() {
            *to = self.leaf(index);
        }
        Hash::new(merkle::root(&leaves))
    }

    fn leaf(&self, index: usize) -> [u8; 32] {
        let value = self.value(index);
        match index {
            // Messages stand as they are.
            field::VERSION | field::TIME => merkle::leaf([value, &[]]),
            // Go writes the block id of no block with an empty part set header in it.
            field::LAST_BLOCK_ID if value.is_empty() => merkle::leaf([&[0x12, 0x00], &[]]),
            field::LAST_BLOCK_ID => merkle::leaf([value, &[]]),
            field::HEIGHT => merkle::leaf([&[0x08], value]),
            // Bytes and text stand in a wrapper, of which the empty one is empty.
            _ if value.is_empty() => merkle::leaf([&[], &[]]),
            _ => wrapped(value),
        }
    }
}

/// The leaf of bytes in their wrapper: field 1 and the length in front. A header has at most 2,048 bytes, so the length has two at
/// most.
fn wrapped(value: &[u8]) -> [u8; 32] {
    let [low, high, ..] = value.len().to_le_bytes();
    let short = [0x0a, low];
    let long = [0x0a, low | 0x80, high << 1 | low >> 7];
    merkle::leaf([if value.len() < 0x80 { &short } else { &long }, value])
}

impl Parsed {
    fn take(&mut self, raw: &[u8], number: u64, value: &Value) -> Result<(), Malformed> {
        let index = usize::try_from(number - 1).ok().filter(|i| *i < FIELDS).ok_or(Malformed)?;
        let range = match index {
            field::VERSION => checked_version(raw, value.message()?)?,
            field::TIME => self.take_time(raw, value.message()?)?,
            field::LAST_BLOCK_ID => self.take_last_block(raw, value.message()?)?,
            field::HEIGHT => self.take_height(raw, value.number()?)?,
            field::CHAIN_ID => bounded(value.bytes()?, CHAIN_ID_BYTES_MAX)?,
            field::PROPOSER => exact(value.bytes()?, 20)?,
            field::APP_HASH => value.bytes()?,
            _ => exact(value.bytes()?, 32)?,
        };
        self.seen |= 1 << index;
        self.fields[index] = (position(range.start)?, position(range.end)?);
        Ok(())
    }

    fn take_time(&mut self, raw: &[u8], range: Range<usize>) -> Result<Range<usize>, Malformed> {
        self.time = Some(timestamp(raw, range.clone())?);
        Ok(range)
    }

    fn take_height(&mut self, raw: &[u8], height: u64) -> Result<Range<usize>, Malformed> {
        if i64::try_from(height).is_err() {
            return Err(Malformed);
        }
        self.height = height;
        // The number stands where the field before ends, behind one byte of tag.
        let before = self.fields.iter().map(|(_, end)| usize::from(*end)).max().unwrap_or(0);
        let start = before + 1;
        let end = start + prost::encoding::encoded_len_varint(height);
        if end > raw.len() { Err(Malformed) } else { Ok(start..end) }
    }

    fn take_last_block(
        &mut self,
        raw: &[u8],
        range: Range<usize>,
    ) -> Result<Range<usize>, Malformed> {
        // CometBFT writes the id of no block, with an empty part set header in it; others leave it out.
        if raw.get(range.clone()) == Some(&[0x12, 0x00]) {
            return Ok(range.start..range.start);
        }
        let mut fields = Fields::new(raw, range.clone());
        let mut parts = None;
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => self.last_block = raw.get(value.bytes()?).and_then(Hash::from_slice),
                2 => parts = Some(value.message()?),
                _ => return Err(Malformed),
            }
        }
        checked_parts(raw, parts.ok_or(Malformed)?)?;
        if self.last_block.is_some() { Ok(range) } else { Err(Malformed) }
    }

    fn finish(self, raw: Bytes) -> Result<Header, Malformed> {
        const NEEDED: [usize; 7] = [
            field::VERSION,
            field::CHAIN_ID,
            field::HEIGHT,
            field::TIME,
            field::VALIDATORS_HASH,
            field::NEXT_VALIDATORS_HASH,
            field::PROPOSER,
        ];
        if NEEDED.iter().any(|index| self.seen & (1 << index) == 0) {
            return Err(Malformed);
        }
        let hash = |index: usize| {
            let (start, end) = self.fields[index];
            raw.get(usize::from(start)..usize::from(end)).and_then(Hash::from_slice)
        };
        let validators_hash = hash(field::VALIDATORS_HASH).ok_or(Malformed)?;
        let next_validators_hash = hash(field::NEXT_VALIDATORS_HASH).ok_or(Malformed)?;
        let time = self.time.ok_or(Malformed)?;
        let Parsed { fields, height, last_block, .. } = self;
        Ok(Header { raw, fields, height, time, last_block, validators_hash, next_validators_hash })
    }
}

fn position(at: usize) -> Result<u16, Malformed> {
    u16::try_from(at).map_err(|_| Malformed)
}

fn bounded(range: Range<usize>, most: usize) -> Result<Range<usize>, Malformed> {
    if range.len() <= most { Ok(range) } else { Err(Malformed) }
}

fn exact(range: Range<usize>, length: usize) -> Result<Range<usize>, Malformed> {
    if range.len() == length { Ok(range) } else { Err(Malformed) }
}

fn checked_version(raw: &[u8], range: Range<usize>) -> Result<Range<usize>, Malformed> {
    let mut fields = Fields::new(raw, range.clone());
    while let Some((number, value)) = fields.next()? {
        if number > 2 {
            return Err(Malformed);
        }
        value.number()?;
    }
    Ok(range)
}

fn checked_parts(raw: &[u8], range: Range<usize>) -> Result<(), Malformed> {
    let mut fields = Fields::new(raw, range);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => u32::try_from(value.number()?).map(|_| ()).map_err(|_| Malformed)?,
            2 => exact(value.bytes()?, 32).map(|_| ())?,
            _ => return Err(Malformed),
        }
    }
    Ok(())
}

fn timestamp(raw: &[u8], range: Range<usize>) -> Result<Time, Malformed> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut fields = Fields::new(raw, range);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => seconds = value.number()?.cast_signed(),
            2 => nanos = u32::try_from(value.number()?).map_err(|_| Malformed)?,
            _ => return Err(Malformed),
        }
    }
    Time::from_unix(seconds, nanos).ok_or(Malformed)
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Header({}, {:?})", self.height, self.hash())
    }
}
