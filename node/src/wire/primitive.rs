//! What every message is made of: heights, views, indices, addresses, signatures, times and block ids.

use bytes::Bytes;
use tendermint::block::Height;
use tendermint::block::parts::Header as PartSetHeader;
use tendermint::{Hash, Time};
use tendermint_proto::google::protobuf::Timestamp;
use tercet_consensus::block::{BlockId, HEIGHT_MAX};
use tercet_consensus::key::{Address, Signature};
use tercet_consensus::validators::{VALIDATORS_MAX, ValidatorIndex};
use tercet_consensus::verify::Reject;
use tercet_consensus::view::View;

/// A block id; never the empty one.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RawBlockId {
    #[prost(bytes = "bytes", tag = "1")]
    hash: Bytes,
    #[prost(uint32, tag = "2")]
    parts: u32,
    #[prost(bytes = "bytes", tag = "3")]
    parts_hash: Bytes,
}

impl From<&BlockId> for RawBlockId {
    fn from(id: &BlockId) -> RawBlockId {
        RawBlockId {
            hash: Bytes::copy_from_slice(id.hash.as_bytes()),
            parts: id.part_set_header.total,
            parts_hash: Bytes::copy_from_slice(id.part_set_header.hash.as_bytes()),
        }
    }
}

/// The block id, which has to be there: nothing is about nil.
pub(super) fn block_id(raw: Option<RawBlockId>) -> Result<BlockId, Reject> {
    let raw = raw.ok_or(Reject::Malformed("no block id"))?;
    let part_set_header = PartSetHeader::new(raw.parts, hash(&raw.parts_hash)?)
        .map_err(|_| Reject::Malformed("part set header"))?;
    Ok(BlockId { hash: hash(&raw.hash)?, part_set_header })
}

fn hash(bytes: &[u8]) -> Result<Hash, Reject> {
    bytes.try_into().map(Hash::Sha256).map_err(|_| Reject::Malformed("hash"))
}

/// A height, at most [`HEIGHT_MAX`].
pub(super) fn height(value: u64) -> Result<Height, Reject> {
    let height = Height::try_from(value).ok().filter(|height| height.value() <= HEIGHT_MAX);
    height.ok_or(Reject::Malformed("height"))
}

/// A view, below 2^31.
pub(super) fn view(number: u32) -> Result<View, Reject> {
    View::new(number).ok_or(Reject::Malformed("view"))
}

/// The index of a validator, below [`VALIDATORS_MAX`].
pub(super) fn index(value: u32) -> Result<ValidatorIndex, Reject> {
    match usize::try_from(value) {
        Ok(index) if index < VALIDATORS_MAX => Ok(value),
        _ => Err(Reject::Malformed("validator index")),
    }
}

/// An address.
pub(super) fn address(bytes: &[u8]) -> Result<Address, Reject> {
    bytes.try_into().map(Address::new).map_err(|_| Reject::Malformed("address"))
}

/// A signature.
pub(super) fn signature(bytes: &[u8]) -> Result<Signature, Reject> {
    Signature::from_slice(bytes).ok_or(Reject::Malformed("signature length"))
}

/// A time, which has to be there.
pub(super) fn time(raw: Option<Timestamp>) -> Result<Time, Reject> {
    let raw = raw.ok_or(Reject::Malformed("no time"))?;
    Time::try_from(raw).map_err(|_| Reject::Malformed("time"))
}

/// The bytes of an address.
pub(super) fn address_bytes(address: &Address) -> Bytes {
    Bytes::copy_from_slice(address.as_bytes())
}

/// The bytes of a signature.
pub(super) fn signature_bytes(signature: &Signature) -> Bytes {
    Bytes::copy_from_slice(&signature.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One more than a height is asked for everywhere, of the STATUS of a stranger too.
    #[test]
    fn a_height_that_cannot_be_counted_on_from_is_rejected() {
        assert_eq!(height(HEIGHT_MAX).map(|height| height.value()), Ok(HEIGHT_MAX));
        for value in [HEIGHT_MAX + 1, i64::MAX as u64, u64::MAX] {
            assert_eq!(height(value), Err(Reject::Malformed("height")));
        }
    }

    #[test]
    fn a_time_outside_of_the_calendar_or_with_wrong_nanoseconds_is_rejected() {
        let year_10000 = 253_402_300_800;
        let year_1 = -62_135_596_800;
        for (seconds, nanos) in [(year_1, 0), (0, 999_999_999), (year_10000 - 1, 999_999_999)] {
            assert!(time(Some(Timestamp { seconds, nanos })).is_ok(), "{seconds} {nanos}");
        }
        for (seconds, nanos) in [
            (0, -1),
            (0, 1_000_000_000),
            (0, i32::MIN),
            (0, i32::MAX),
            (year_10000, 0),
            (year_1 - 1, 0),
            (i64::MAX, 0),
            (i64::MIN, 0),
        ] {
            let read = time(Some(Timestamp { seconds, nanos }));
            assert!(matches!(read, Err(Reject::Malformed("time"))), "{seconds} {nanos}: {read:?}");
        }
        assert!(time(None).is_err());
    }
}
