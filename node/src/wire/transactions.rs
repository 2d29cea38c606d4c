//! The transactions class.

use super::bounds::{self, Rule};
use super::{FORMAT_VERSION, check_version};
use bytes::Bytes;
use prost::Message as _;
use tercet_consensus::verify::Reject;

/// The most transactions in one frame.
pub const TXS_MAX: usize = 10_000;

const TRANSACTIONS: &[Rule] = &[Rule::many(2, TXS_MAX, &[])];

#[derive(Clone, PartialEq, prost::Message)]
struct RawTransactions {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    txs: Vec<Bytes>,
}

/// The frame of these transactions, at most [`TXS_MAX`].
#[must_use]
pub fn encode_transactions(txs: Vec<Bytes>) -> Bytes {
    Bytes::from(RawTransactions { version: FORMAT_VERSION, txs }.encode_to_vec())
}

/// The transactions of a frame, without a copy: each keeps the whole frame alive, so what is kept for long is better copied.
///
/// # Errors
/// Where the frame is malformed, of an unknown version or holds more than [`TXS_MAX`] transactions.
pub fn decode_transactions(frame: Bytes) -> Result<Vec<Bytes>, Reject> {
    bounds::check(&frame, TRANSACTIONS)?;
    let raw = RawTransactions::decode(frame).map_err(|_| Reject::Malformed("transactions"))?;
    check_version(raw.version)?;
    Ok(raw.txs)
}
