//! Evidence of clients.

use crate::evidence::{Evidence, Piece};
use crate::rpc::sources::{self, BoxFuture};
use tendermint_proto::v0_38::types as pb;

impl sources::Evidence for Evidence {
    fn add(&self, evidence: pb::Evidence) -> BoxFuture<Result<[u8; 32], String>> {
        let piece = match Piece::new(evidence) {
            Ok(piece) => piece,
            Err(invalid) => {
                let error = format!("evidence.ValidateBasic failed: {invalid}");
                return Box::pin(std::future::ready(Err(error)));
            }
        };
        let hash = piece.hash();
        let answer = Evidence::add(self, piece);
        Box::pin(async move {
            match answer.await {
                Ok(Ok(())) => Ok(hash),
                Ok(Err(error)) => Err(format!("failed to add evidence: {error}")),
                Err(_) => Err("the node is stopping".to_owned()),
            }
        })
    }
}
