//! One HTTP/2 connection, with a thread of its own that keeps it alive.

use crate::remote::{Address, CONNECT_MAX, MESSAGE_BYTES_MAX, Stream};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, sync_channel};
use std::task::{Context, Poll};
use tendermint_proto::v0_38::abci::{RequestEcho, ResponseEcho};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tonic::Status;
use tonic::body::BoxBody;
use tonic::codec::ProstCodec;
use tonic::codegen::http::{Request, Response, Uri, uri::PathAndQuery};

/// What HTTP/2 calls the other end. Nobody looks at it.
const AUTHORITY: &str = "http://application";

/// A connection to an application.
pub(super) struct Connection {
    sender: Sender,
    runtime: Background,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoConnection {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it does not answer by gRPC: {0}")]
    NoGrpc(String),
    #[error("it accepts the connection and does not answer")]
    Silent,
}

impl Connection {
    /// Connects, and has the application say something, as CometBFT does: a server of another protocol would accept a connection too.
    pub(super) fn open(address: &Address) -> Result<Connection, NoConnection> {
        let stream = address.connect()?;
        stream.set_nonblocking(true)?;
        let runtime = Background::start()?;
        let greeted = runtime.ask(Sender::greet(stream));
        let sender = greeted.recv_timeout(CONNECT_MAX).map_err(|_| NoConnection::Silent)??;
        Ok(Connection { sender, runtime })
    }

    /// Makes these calls one after the other; the first that fails ends it. Whoever no longer waits drops the connection, and with it
    /// what is under way.
    pub(super) fn ask<Q, A>(
        &self,
        path: &'static str,
        requests: Vec<Q>,
    ) -> Receiver<Result<Vec<A>, Status>>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut sender = self.sender.clone();
        self.runtime.ask(async move {
            let mut answers = Vec::with_capacity(requests.len());
            for request in requests {
                answers.push(sender.ask(path, request).await?);
            }
            Ok(answers)
        })
    }
}

/// What is behind a status: the first cause, where this end has one, and else what the other end said.
pub(super) fn reason(status: &Status) -> String {
    let Some(mut cause) = std::error::Error::source(status) else {
        return status.message().to_owned();
    };
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// A runtime with one thread, which may be dropped anywhere.
struct Background(Option<Runtime>);

impl Background {
    fn start() -> io::Result<Background> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("abci-grpc").enable_all().build()?;
        Ok(Background(Some(runtime)))
    }

    /// Runs it there.
    fn ask<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Receiver<T> {
        let (reply, answer) = sync_channel(1);
        if let Some(runtime) = &self.0 {
            runtime.spawn(async move {
                // Whoever asked may have given up.
                let _ = reply.send(work.await);
            });
        }
        answer
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The way into a connection.
#[derive(Clone)]
struct Sender(http2::SendRequest<BoxBody>);

impl Sender {
    async fn greet(stream: Stream) -> Result<Sender, NoConnection> {
        let opened = match stream {
            Stream::Tcp(stream) => Sender::over(tokio::net::TcpStream::from_std(stream)?).await,
            Stream::Unix(stream) => Sender::over(tokio::net::UnixStream::from_std(stream)?).await,
        };
        let mut sender = opened.map_err(|error| NoConnection::NoGrpc(error.to_string()))?;
        let hello = RequestEcho { message: "hello".to_owned() };
        let answer: Result<ResponseEcho, Status> =
            sender.ask("/tendermint.abci.ABCI/Echo", hello).await;
        answer.map_err(|status| NoConnection::NoGrpc(reason(&status)))?;
        Ok(sender)
    }

    async fn over<S>(stream: S) -> hyper::Result<Sender>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let builder = http2::Builder::new(TokioExecutor::new());
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // Whoever makes a call then hears of it.
            let _ = connection.await;
        });
        Ok(Sender(sender))
    }

    async fn ask<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let origin = Uri::from_static(AUTHORITY);
        let mut grpc = tonic::client::Grpc::with_origin(self.clone(), origin)
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let request = tonic::Request::new(request);
        let codec = ProstCodec::<Q, A>::default();
        let answer = grpc.unary(request, PathAndQuery::from_static(path), codec).await;
        answer.map(tonic::Response::into_inner)
    }
}

impl tonic::codegen::Service<Request<BoxBody>> for Sender {
    type Response = Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<BoxBody>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
