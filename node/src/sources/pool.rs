//! The mempool.

use crate::mempool::Mempool;
use crate::rpc::sources::{BoxFuture, HashedTx, Pool, PoolCounts, PoolError, PoolStats};
use bytes::Bytes;
use tendermint_proto::v0_38::abci::ResponseCheckTx;

impl Pool for Mempool {
    fn check_tx(&self, tx: HashedTx) -> BoxFuture<Result<ResponseCheckTx, PoolError>> {
        Mempool::check_tx(self, tx)
    }

    fn submit(&self, tx: HashedTx) -> Result<(), PoolError> {
        Mempool::submit(self, tx)
    }

    fn stats(&self) -> PoolStats {
        Mempool::stats(self)
    }

    fn counts(&self) -> PoolCounts {
        Mempool::counts(self)
    }

    fn flush(&self) -> BoxFuture<Result<(), String>> {
        Mempool::flush(self)
    }

    fn first(&self, limit: usize) -> BoxFuture<Vec<Bytes>> {
        Mempool::first(self, limit)
    }
}
