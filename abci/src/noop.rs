//! The application that accepts everything and keeps nothing (CometBFT's `types.BaseApplication`).

use tendermint_proto::v0_38::abci::{ExecTxResult, RequestFinalizeBlock, ResponseFinalizeBlock};

/// Answers each call as CometBFT's `proxy_app = "noop"`: transactions have code 0, the hash is empty, and as it is at height 0
/// at every start, the node replays its whole chain to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noop;

impl tendermint_abci::Application for Noop {
    fn finalize_block(&self, request: RequestFinalizeBlock) -> ResponseFinalizeBlock {
        ResponseFinalizeBlock {
            tx_results: vec![ExecTxResult::default(); request.txs.len()],
            ..ResponseFinalizeBlock::default()
        }
    }
}
