//! The other end: an application of this process for nodes of others.
//!
//! Source: CometBFT 0.38 `abci/server/grpc_server.go`.

use crate::remote::{Address, Listener, MESSAGE_BYTES_MAX};
use std::io;
use std::sync::{Mutex, PoisonError};
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::abci_server::{Abci, AbciServer};
use tendermint_proto::v0_38::abci::{
    RequestApplySnapshotChunk, RequestCheckTx, RequestCommit, RequestEcho, RequestExtendVote,
    RequestFinalizeBlock, RequestFlush, RequestInfo, RequestInitChain, RequestListSnapshots,
    RequestLoadSnapshotChunk, RequestOfferSnapshot, RequestPrepareProposal, RequestProcessProposal,
    RequestQuery, RequestVerifyVoteExtension, ResponseApplySnapshotChunk, ResponseCheckTx,
    ResponseCommit, ResponseEcho, ResponseExtendVote, ResponseFinalizeBlock, ResponseFlush,
    ResponseInfo, ResponseInitChain, ResponseListSnapshots, ResponseLoadSnapshotChunk,
    ResponseOfferSnapshot, ResponsePrepareProposal, ResponseProcessProposal, ResponseQuery,
    ResponseVerifyVoteExtension,
};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::{Request, Response, Status};

/// Calls of a connection that are under way at once.
const CALLS_MAX: u32 = 64;

/// An application that listens.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    address: Address,
}

impl Server {
    /// Listens at `address`.
    ///
    /// # Errors
    /// Where the address is taken or not of this machine.
    pub fn bind(address: &Address) -> io::Result<Server> {
        let listener = address.listen()?;
        let address = listener.address(address)?;
        Ok(Server { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Serves every connection, with a clone of `app` for each call.
    ///
    /// # Errors
    /// Where no more connections can be accepted.
    pub fn serve<A: Application>(self, app: &A) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let service = AbciServer::new(Service(Mutex::new(app.clone())))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        runtime.block_on(async {
            let server = tonic::transport::Server::builder()
                .max_concurrent_streams(CALLS_MAX)
                .add_service(service);
            self.listener.set_nonblocking()?;
            match self.listener {
                Listener::Tcp(listener) => {
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    let streams = TcpListenerStream::new(listener)
                        .map(|stream| stream.and_then(|s| s.set_nodelay(true).map(|()| s)));
                    server.serve_with_incoming(streams).await
                }
                Listener::Unix(listener) => {
                    let listener = tokio::net::UnixListener::from_std(listener)?;
                    server.serve_with_incoming(UnixListenerStream::new(listener)).await
                }
            }
            .map_err(io::Error::other)
        })
    }
}

/// An application as a service. (Applications need not be `Sync`.)
struct Service<A>(Mutex<A>);

impl<A: Application> Service<A> {
    /// Calls the application on a thread of its own. What panics answers with an error, as the node must hear of it; it does not bring
    /// down the others.
    async fn run<Q, R>(
        &self,
        request: Request<Q>,
        call: impl FnOnce(&A, Q) -> R + Send + 'static,
    ) -> Result<Response<R>, Status>
    where
        Q: Send + 'static,
        R: Send + 'static,
    {
        let app = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let called = tokio::task::spawn_blocking(move || call(&app, request.into_inner())).await;
        called.map(Response::new).map_err(|_| Status::unknown("the application panicked"))
    }
}

macro_rules! methods {
    ($($name:ident($request:ty) -> $response:ty = $call:expr;)*) => {
        #[tonic::async_trait]
        impl<A: Application> Abci for Service<A> {
            $(async fn $name(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                self.run(request, $call).await
            })*
        }
    };
}

#[rustfmt::skip]
methods! {
    echo(RequestEcho) -> ResponseEcho = A::echo;
    flush(RequestFlush) -> ResponseFlush = |app, _| app.flush();
    info(RequestInfo) -> ResponseInfo = A::info;
    check_tx(RequestCheckTx) -> ResponseCheckTx = A::check_tx;
    query(RequestQuery) -> ResponseQuery = A::query;
    commit(RequestCommit) -> ResponseCommit = |app, _| app.commit();
    init_chain(RequestInitChain) -> ResponseInitChain = A::init_chain;
    list_snapshots(RequestListSnapshots) -> ResponseListSnapshots = |app, _| app.list_snapshots();
    offer_snapshot(RequestOfferSnapshot) -> ResponseOfferSnapshot = A::offer_snapshot;
    load_snapshot_chunk(RequestLoadSnapshotChunk) -> ResponseLoadSnapshotChunk = A::load_snapshot_chunk;
    apply_snapshot_chunk(RequestApplySnapshotChunk) -> ResponseApplySnapshotChunk = A::apply_snapshot_chunk;
    prepare_proposal(RequestPrepareProposal) -> ResponsePrepareProposal = A::prepare_proposal;
    process_proposal(RequestProcessProposal) -> ResponseProcessProposal = A::process_proposal;
    extend_vote(RequestExtendVote) -> ResponseExtendVote = A::extend_vote;
    verify_vote_extension(RequestVerifyVoteExtension) -> ResponseVerifyVoteExtension = A::verify_vote_extension;
    finalize_block(RequestFinalizeBlock) -> ResponseFinalizeBlock = A::finalize_block;
}
