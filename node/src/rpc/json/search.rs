//! What the index finds.

use super::abci::TxResult;
use super::block::BlockReply;
use super::{Base64Text, Hex, Text};
use crate::rpc::routes::proof::TxProof;
use bytes::Bytes;
use serde::Serialize;

/// Reply of `tx`, and one of `tx_search`.
#[derive(Serialize)]
pub(crate) struct TxReply {
    pub(crate) hash: Hex<Vec<u8>>,
    pub(crate) height: Text<i64>,
    pub(crate) index: u32,
    pub(crate) tx_result: TxResult,
    pub(crate) tx: Base64Text<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) proof: Option<Proof>,
}

impl From<Bytes> for Base64Text<Bytes> {
    fn from(bytes: Bytes) -> Base64Text<Bytes> {
        Base64Text(bytes)
    }
}

/// That a transaction stands in its block.
#[derive(Serialize)]
pub(crate) struct Proof {
    root_hash: Hex<[u8; 32]>,
    data: Base64Text<Bytes>,
    proof: Merkle,
}

#[derive(Serialize)]
struct Merkle {
    total: Text<usize>,
    index: Text<usize>,
    leaf_hash: Base64Text<[u8; 32]>,
    aunts: Vec<Base64Text<[u8; 32]>>,
}

impl Proof {
    pub(crate) fn new(proof: TxProof, tx: Bytes) -> Proof {
        Proof {
            root_hash: Hex(proof.root),
            data: Base64Text(tx),
            proof: Merkle {
                total: Text(proof.total),
                index: Text(proof.index),
                leaf_hash: Base64Text(proof.leaf),
                aunts: proof.aunts.into_iter().map(Base64Text).collect(),
            },
        }
    }
}

/// Reply of `tx_search`.
#[derive(Serialize)]
pub(crate) struct TxSearchReply {
    pub(crate) txs: Vec<TxReply>,
    pub(crate) total_count: Text<usize>,
}

/// Reply of `block_search`.
#[derive(Serialize)]
pub(crate) struct BlockSearchReply {
    pub(crate) blocks: Vec<BlockReply>,
    pub(crate) total_count: Text<usize>,
}
