//! CometBFT's gRPC `BroadcastAPI` (`rpc/grpc/api.go`): `Ping`, and `BroadcastTx`, which is `broadcast_tx_commit`. Each connection is
//! served by hyper, so that it has limits of its own.

use super::deadline::{Deadline, Idle};
use super::routes::commit;
use super::server::{ACCEPT_PAUSE, Api, BindError, Listener, Server, slots};
use super::sources::HashedTx;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tendermint_proto::v0_38::abci::{ExecTxResult, ResponseCheckTx};
use tendermint_proto::v0_38::rpc::grpc::broadcast_api_server::{BroadcastApi, BroadcastApiServer};
use tendermint_proto::v0_38::rpc::grpc::{
    RequestBroadcastTx, RequestPing, ResponseBroadcastTx, ResponsePing,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::codegen::Service as _;
use tonic::{Request, Response, Status};

/// Calls of one connection that are under way at once.
const STREAMS_MAX: u32 = 64;
/// The largest head of a call.
const HEAD_BYTES_MAX: u32 = 16 << 10;
/// How often a connection on which nothing comes is pinged, and how long it may take to answer.
const PING_EVERY: Duration = Duration::from_secs(27);
const PING_WAIT: Duration = Duration::from_secs(10);

/// The server, bound and not yet serving.
pub struct GrpcServer {
    listener: Listener,
    api: Api,
    slots: usize,
}

impl GrpcServer {
    /// Listens on `laddr`, `tcp://host:port` or `unix://path`, for at most so many connections at a time, 0 for any number, and answers
    /// from what `rpc` does. Runs inside a tokio runtime.
    ///
    /// # Errors
    /// Where the address is wrong or taken.
    pub async fn bind(
        laddr: &str,
        connections: usize,
        rpc: &Server,
    ) -> Result<GrpcServer, BindError> {
        let listener = Listener::bind("rpc.grpc_laddr", laddr).await?;
        Ok(GrpcServer { listener, api: rpc.api(), slots: slots(connections) })
    }

    /// Where it listens; none for a Unix socket.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is cancelled. Further connections wait.
    pub async fn run(self, stop: CancellationToken) {
        let free = Arc::new(Semaphore::new(self.slots));
        loop {
            let Ok(slot) = Arc::clone(&free).acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.accept((slot, stop.clone())) => accepted,
            };
            if let Err(error) = accepted {
                tracing::warn!(%error, "the gRPC of the rpc cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    async fn accept(&self, held: (OwnedSemaphorePermit, CancellationToken)) -> std::io::Result<()> {
        let service = |from| Service { api: self.api.clone(), from };
        match &self.listener {
            Listener::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                // Where the option cannot be set, the connection is gone already.
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, service(Some(from.ip())), held));
            }
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                tokio::spawn(serve(stream, service(None), held));
            }
        }
        Ok(())
    }
}

async fn serve<S>(
    stream: S,
    service: Service,
    (slot, stop): (OwnedSemaphorePermit, CancellationToken),
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &service.api.limits;
    let (bytes_max, write_timeout) = (limits.max_body_bytes, limits.write_timeout);
    let service = BroadcastApiServer::new(service).max_decoding_message_size(bytes_max);
    let service = hyper::service::service_fn(move |request| service.clone().call(request));
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WAIT);
    // Pings are answered, so that nothing comes from nobody but the dead, and from who never begins.
    let stream = Idle::new(Deadline::new(stream, write_timeout), PING_EVERY + 2 * PING_WAIT);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a gRPC connection ended");
    }
    drop(slot);
}

struct Service {
    api: Api,
    from: Option<IpAddr>,
}

#[tonic::async_trait]
impl BroadcastApi for Service {
    async fn ping(&self, _: Request<RequestPing>) -> Result<Response<ResponsePing>, Status> {
        Ok(Response::new(ResponsePing {}))
    }

    async fn broadcast_tx(
        &self,
        request: Request<RequestBroadcastTx>,
    ) -> Result<Response<ResponseBroadcastTx>, Status> {
        if let Some((rate, from)) = self.api.rate.as_ref().zip(self.from)
            && rate.take(from, 1, Instant::now()).is_err()
        {
            return Err(Status::resource_exhausted("too many requests from this address"));
        }
        let tx = HashedTx::new(request.into_inner().tx.into());
        let (check, result, _) = commit(&self.api, tx).await.map_err(Status::unknown)?;
        // CometBFT passes on no more of them.
        let ResponseCheckTx { code, data, log, .. } = check;
        let check_tx = Some(ResponseCheckTx { code, data, log, ..ResponseCheckTx::default() });
        let ExecTxResult { code, data, log, .. } = result;
        let tx_result = Some(ExecTxResult { code, data, log, ..ExecTxResult::default() });
        Ok(Response::new(ResponseBroadcastTx { check_tx, tx_result }))
    }
}
