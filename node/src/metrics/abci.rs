//! How long the application takes for each call (CometBFT `proxy/metrics.go`).

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use std::time::Instant;
use tendermint_proto::v0_38::abci as pb;
use tercet_abci::{AppError, Application, Roles};

/// CometBFT's buckets, in seconds.
const BUCKETS: [f64; 10] = [0.0001, 0.0004, 0.002, 0.009, 0.02, 0.1, 0.65, 2.0, 6.0, 25.0];

/// Which call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Call {
    method: &'static str,
    r#type: &'static str,
}

/// The times of all calls. A handle: clones share them.
#[derive(Clone, Debug)]
pub struct Timings(pub(super) Family<Call, Histogram, fn() -> Histogram>);

impl Default for Timings {
    fn default() -> Timings {
        Timings(Family::new_with_constructor(|| Histogram::new(BUCKETS)))
    }
}

impl Timings {
    /// The same application, each call of which is timed.
    #[must_use]
    pub fn watch(&self, roles: Roles) -> Roles {
        let timed = |app| Box::new(Timed { app, timings: self.clone() }) as Box<dyn Application>;
        let Roles { query, snapshot, mempool, consensus } = roles;
        Roles {
            query: timed(query),
            snapshot: timed(snapshot),
            mempool: timed(mempool),
            consensus: timed(consensus),
        }
    }

    fn observe(&self, method: &'static str, since: Instant) {
        let call = Call { method, r#type: "sync" };
        self.0.get_or_create(&call).observe(since.elapsed().as_secs_f64());
    }
}

struct Timed {
    app: Box<dyn Application>,
    timings: Timings,
}

impl Timed {
    fn time<T>(
        &mut self,
        method: &'static str,
        call: impl FnOnce(&mut dyn Application) -> Result<T, AppError>,
    ) -> Result<T, AppError> {
        let begun = Instant::now();
        let answer = call(self.app.as_mut());
        self.timings.observe(method, begun);
        answer
    }
}

macro_rules! timed {
    ($($method:ident($request:ty) -> $response:ty;)*) => {
        $(fn $method(&mut self, request: $request) -> Result<$response, AppError> {
            self.time(stringify!($method), |app| app.$method(request))
        })*
    };
}

impl Application for Timed {
    timed! {
        echo(pb::RequestEcho) -> pb::ResponseEcho;
        info(pb::RequestInfo) -> pb::ResponseInfo;
        init_chain(pb::RequestInitChain) -> pb::ResponseInitChain;
        query(pb::RequestQuery) -> pb::ResponseQuery;
        check_tx(pb::RequestCheckTx) -> pb::ResponseCheckTx;
        prepare_proposal(pb::RequestPrepareProposal) -> pb::ResponsePrepareProposal;
        process_proposal(pb::RequestProcessProposal) -> pb::ResponseProcessProposal;
        extend_vote(pb::RequestExtendVote) -> pb::ResponseExtendVote;
        verify_vote_extension(pb::RequestVerifyVoteExtension) -> pb::ResponseVerifyVoteExtension;
        finalize_block(pb::RequestFinalizeBlock) -> pb::ResponseFinalizeBlock;
        offer_snapshot(pb::RequestOfferSnapshot) -> pb::ResponseOfferSnapshot;
        load_snapshot_chunk(pb::RequestLoadSnapshotChunk) -> pb::ResponseLoadSnapshotChunk;
        apply_snapshot_chunk(pb::RequestApplySnapshotChunk) -> pb::ResponseApplySnapshotChunk;
    }

    /// Those that are asked together count once.
    fn check_txs(
        &mut self,
        requests: Vec<pb::RequestCheckTx>,
    ) -> Result<Vec<pb::ResponseCheckTx>, AppError> {
        self.time("check_tx", |app| app.check_txs(requests))
    }

    fn commit(&mut self) -> Result<pb::ResponseCommit, AppError> {
        self.time("commit", |app| app.commit())
    }

    fn list_snapshots(&mut self) -> Result<pb::ResponseListSnapshots, AppError> {
        self.time("list_snapshots", |app| app.list_snapshots())
    }

    fn is_optimistic(&self) -> bool {
        self.app.is_optimistic()
    }

    fn speculate(&mut self, request: pb::RequestFinalizeBlock) -> Result<(), AppError> {
        self.app.speculate(request)
    }

    fn reconnect(&mut self) -> Result<(), AppError> {
        self.app.reconnect()
    }

    fn try_reconnect(&mut self) -> Result<(), AppError> {
        self.app.try_reconnect()
    }
}
