//! The stored chain.

use crate::rpc::sources::{Blocks, Found, Meta};
use crate::store::{Chain, StoreError};
use std::sync::Arc;
use tendermint::Hash;
use tendermint::block::Height;
use tendermint::consensus::Params;
use tendermint_proto::v0_38::abci::ResponseFinalizeBlock;
use tercet_consensus::block::SealedBlock;
use tercet_consensus::commit::Commit;
use tercet_consensus::validators::Validators;

fn told<T>(found: Result<Option<T>, StoreError>) -> Found<T> {
    found.map_err(|error| error.to_string())
}

impl Blocks for Chain {
    fn base(&self) -> Option<Height> {
        Chain::base(self)
    }

    fn height(&self) -> Option<Height> {
        Chain::height(self)
    }

    fn block(&self, height: Height) -> Found<Arc<SealedBlock>> {
        told(Chain::block(self, height))
    }

    fn meta(&self, height: Height) -> Found<Meta> {
        let meta = told(Chain::meta(self, height))?;
        Ok(meta.map(|meta| Meta {
            block_id: meta.block_id,
            header: meta.header,
            size_bytes: meta.size_bytes,
            num_txs: meta.num_txs,
        }))
    }

    fn height_of(&self, hash: &Hash) -> Found<Height> {
        told(Chain::height_of(self, hash))
    }

    fn seen_commit(&self, height: Height) -> Found<Commit> {
        told(Chain::seen_commit(self, height))
    }

    fn canonical_commit(&self, height: Height) -> Found<Commit> {
        told(Chain::canonical_commit(self, height))
    }

    fn results(&self, height: Height) -> Found<ResponseFinalizeBlock> {
        told(Chain::results(self, height))
    }

    fn validators(&self, height: Height) -> Found<Arc<Validators>> {
        told(Chain::validators(self, height))
    }

    fn params(&self, height: Height) -> Found<Params> {
        told(Chain::params(self, height))
    }
}
