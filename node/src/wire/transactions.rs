//! The transactions class: transactions, and evidence, which like them belongs to no height and may wait.

use super::bounds::{self, Rule};
use super::{FORMAT_VERSION, check_version};
use bytes::Bytes;
use prost::Message as _;
use tercet_consensus::verify::Reject;

/// The most transactions in one frame.
pub const TXS_MAX: usize = 10_000;

/// The most pieces of evidence in one frame.
pub const PIECES_MAX: usize = 64;

const TRANSACTIONS: &[Rule] = &[Rule::many(2, TXS_MAX, &[]), Rule::many(3, PIECES_MAX, &[])];

/// What a frame of the class holds, each element a part of the frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transactions {
    /// Transactions.
    pub txs: Vec<Bytes>,
    /// Pieces of evidence, not decoded.
    pub evidence: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawTransactions {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    txs: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    evidence: Vec<Bytes>,
}

/// The frame of these transactions, at most [`TXS_MAX`].
#[must_use]
pub fn encode_transactions(txs: Vec<Bytes>) -> Bytes {
    Bytes::from(
        RawTransactions { version: FORMAT_VERSION, txs, evidence: Vec::new() }.encode_to_vec(),
    )
}

/// The frame of these pieces of evidence, at most [`PIECES_MAX`].
#[must_use]
pub fn encode_pieces(evidence: Vec<Bytes>) -> Bytes {
    let raw = RawTransactions { version: FORMAT_VERSION, txs: Vec::new(), evidence };
    Bytes::from(raw.encode_to_vec())
}

/// The transactions and the evidence of a frame, without a copy: each keeps the whole frame alive, so what is kept for long is better copied.
///
/// # Errors
/// Where the frame is malformed, of an unknown version or holds more than [`TXS_MAX`] transactions or [`PIECES_MAX`] pieces.
pub fn decode_transactions(frame: Bytes) -> Result<Transactions, Reject> {
    bounds::check(&frame, TRANSACTIONS)?;
    let raw = RawTransactions::decode(frame).map_err(|_| Reject::Malformed("transactions"))?;
    check_version(raw.version)?;
    Ok(Transactions { txs: raw.txs, evidence: raw.evidence })
}
