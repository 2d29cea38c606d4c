//! What there is where only the data of a node is served: no pool, no application, no network.

use crate::rpc::sources::{
    App, BoxFuture, DialHow, Evidence, HashedTx, Net, PeerView, Pool, PoolError, PoolStats,
};
use bytes::Bytes;
use tendermint_proto::v0_38::abci::{RequestQuery, ResponseCheckTx, ResponseInfo, ResponseQuery};
use tendermint_proto::v0_38::types as pb;

const STOPPED: &str = "the node does not run: only its data is served";

/// Stands where a node's parts would be.
#[derive(Clone, Copy, Debug)]
pub struct Stopped;

fn refused<T: Send + 'static>() -> BoxFuture<Result<T, String>> {
    Box::pin(std::future::ready(Err(STOPPED.to_owned())))
}

impl App for Stopped {
    fn query(&self, _: RequestQuery) -> BoxFuture<Result<ResponseQuery, String>> {
        refused()
    }

    fn info(&self) -> BoxFuture<Result<ResponseInfo, String>> {
        refused()
    }

    fn check_tx(&self, _: Bytes) -> BoxFuture<Result<ResponseCheckTx, String>> {
        refused()
    }
}

impl Evidence for Stopped {
    fn add(&self, _: pb::Evidence) -> BoxFuture<Result<[u8; 32], String>> {
        refused()
    }
}

impl Pool for Stopped {
    fn check_tx(&self, _: HashedTx) -> BoxFuture<Result<ResponseCheckTx, PoolError>> {
        Box::pin(std::future::ready(Err(PoolError::Unavailable(STOPPED.to_owned()))))
    }

    fn submit(&self, _: HashedTx) -> Result<(), PoolError> {
        Err(PoolError::Unavailable(STOPPED.to_owned()))
    }

    fn flush(&self) -> BoxFuture<Result<(), String>> {
        refused()
    }

    fn stats(&self) -> PoolStats {
        PoolStats::default()
    }

    fn first(&self, _: usize) -> BoxFuture<Vec<Bytes>> {
        Box::pin(std::future::ready(Vec::new()))
    }
}

impl Net for Stopped {
    fn peers(&self) -> Vec<PeerView> {
        Vec::new()
    }

    fn listening(&self) -> bool {
        false
    }

    fn dial(&self, _: &[String], _: DialHow) -> Result<(), String> {
        Err(STOPPED.to_owned())
    }
}
