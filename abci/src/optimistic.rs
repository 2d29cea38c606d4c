//! Optimistic execution: a block is executed while it is being voted on, and the work is thrown away where another one is decided.
//!
//! What a block leads to is a value of its own ([`OptimisticApplication::Work`]), apart from the application's state: nobody sees it before it is
//! adopted, so throwing it away is forgetting it. A [`Speculation`] holds at most one, with the request that it answers, and gives it out for the same request
//! alone, in every field: height, hash, transactions, time, last commit and misbehaviour.

use tendermint_proto::v0_38::abci::{RequestFinalizeBlock, ResponseFinalizeBlock};

/// An application that can execute a block before it is decided. Whoever implements it promises that `finalize_block(request)` is what `execute(&request)`
/// and then `adopt` of its work are.
pub trait OptimisticApplication: tendermint_abci::Application {
    /// What a block changes.
    type Work: Send;

    /// Executes a block after the last committed one. No other call may see anything of it, nor may a second `execute`: it may be of another block of the
    /// same height.
    fn execute(&self, request: &RequestFinalizeBlock) -> (ResponseFinalizeBlock, Self::Work);

    /// The block is decided: its work is for the next `commit`.
    fn adopt(&self, work: Self::Work);
}

/// The block that was executed before it is decided, if any.
#[derive(Debug)]
pub struct Speculation<W>(Option<Ahead<W>>);

#[derive(Debug)]
struct Ahead<W> {
    request: RequestFinalizeBlock,
    response: ResponseFinalizeBlock,
    work: W,
}

impl<W> Default for Speculation<W> {
    fn default() -> Speculation<W> {
        Speculation(None)
    }
}

impl<W> Speculation<W> {
    /// Executes a block that may be decided, in place of the one before. The same one again is not executed again.
    pub fn begin(
        &mut self,
        request: RequestFinalizeBlock,
        execute: impl FnOnce(&RequestFinalizeBlock) -> (ResponseFinalizeBlock, W),
    ) {
        if self.0.as_ref().is_some_and(|ahead| ahead.request == request) {
            return;
        }
        self.discard();
        let (response, work) = execute(&request);
        self.0 = Some(Ahead { request, response, work });
    }

    /// What came of exactly this block, where it is the one; anything else is thrown away.
    pub fn take(&mut self, request: &RequestFinalizeBlock) -> Option<(ResponseFinalizeBlock, W)> {
        let ahead = self.0.take().filter(|ahead| ahead.request == *request)?;
        Some((ahead.response, ahead.work))
    }

    /// Throws it away.
    pub fn discard(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use tendermint_proto::google::protobuf::Timestamp;
    use tendermint_proto::v0_38::abci::{CommitInfo, Misbehavior};

    fn request(tx: &'static str) -> RequestFinalizeBlock {
        let (txs, hash) = (vec![Bytes::from(tx)], Bytes::from(tx));
        RequestFinalizeBlock { txs, hash, height: 5, ..Default::default() }
    }

    fn answer(request: &RequestFinalizeBlock) -> (ResponseFinalizeBlock, Bytes) {
        let app_hash = request.hash.clone();
        (ResponseFinalizeBlock { app_hash: app_hash.clone(), ..Default::default() }, app_hash)
    }

    #[test]
    fn the_same_block_is_executed_once_and_given_out_once() {
        let (mut ahead, mut executed) = (Speculation::default(), 0);
        for _ in 0..3 {
            ahead.begin(request("a"), |request| {
                executed += 1;
                answer(request)
            });
        }
        assert_eq!(executed, 1);
        assert_eq!(ahead.take(&request("a")), Some(answer(&request("a"))));
        assert_eq!(ahead.take(&request("a")), None, "once");
    }

    #[test]
    fn the_block_of_a_later_view_takes_the_place_of_the_one_before() {
        let mut ahead = Speculation::default();
        ahead.begin(request("a"), answer);
        ahead.begin(request("b"), answer);
        assert_eq!(ahead.take(&request("b")), Some(answer(&request("b"))));
        ahead.begin(request("a"), answer);
        ahead.begin(request("b"), answer);
        assert_eq!(ahead.take(&request("a")), None);
    }

    #[test]
    fn a_request_that_differs_in_any_field_gets_nothing_and_ends_it() {
        let same = request("a");
        let others = [
            RequestFinalizeBlock { txs: vec![], ..same.clone() },
            RequestFinalizeBlock { txs: vec![Bytes::from("a"), Bytes::new()], ..same.clone() },
            RequestFinalizeBlock {
                decided_last_commit: Some(CommitInfo { round: 1, votes: vec![] }),
                ..same.clone()
            },
            RequestFinalizeBlock { misbehavior: vec![Misbehavior::default()], ..same.clone() },
            RequestFinalizeBlock { hash: Bytes::from("b"), ..same.clone() },
            RequestFinalizeBlock { height: 6, ..same.clone() },
            RequestFinalizeBlock { time: Some(Timestamp { seconds: 1, nanos: 0 }), ..same.clone() },
            RequestFinalizeBlock { next_validators_hash: Bytes::from("n"), ..same.clone() },
            RequestFinalizeBlock { proposer_address: Bytes::from("p"), ..same.clone() },
        ];
        for other in others {
            let mut ahead = Speculation::default();
            ahead.begin(same.clone(), answer);
            assert_eq!(ahead.take(&other), None, "{other:?}");
            assert_eq!(ahead.take(&same), None, "it is thrown away");
        }
    }

    #[test]
    fn what_is_discarded_is_executed_anew() {
        let mut ahead = Speculation::default();
        ahead.begin(request("a"), answer);
        ahead.discard();
        assert_eq!(ahead.take(&request("a")), None);
    }
}
