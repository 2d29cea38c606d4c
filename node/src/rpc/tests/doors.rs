//! How clients come in: over TLS, over gRPC, and not too often.

use super::fake::*;
use super::socket::Socket;
use crate::rpc::{GrpcServer, Limits, Tls};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tendermint_proto::v0_38::rpc::grpc::{
    RequestBroadcastTx, RequestPing, ResponseBroadcastTx, ResponsePing,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::sync::CancellationToken;
use tonic::codec::ProstCodec;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;

struct Pair {
    folder: tempfile::TempDir,
    certificate: rcgen::Certificate,
}

impl Pair {
    fn new() -> Pair {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), made.key_pair.serialize_pem()).unwrap();
        Pair { folder, certificate: made.cert }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tls(&self) -> Tls {
        Tls::read(&self.path("cert.pem"), &self.path("key.pem")).unwrap()
    }

    /// Who trusts the certificate.
    fn client(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }
}

async fn over_tls(pair: &Pair, limits: Limits) -> (SocketAddr, CancellationToken) {
    let server = bound(limits).await.over(Some(pair.tls()));
    let (address, stop) = (server.local_addr().unwrap(), CancellationToken::new());
    tokio::spawn(server.run(stop.clone()));
    (address, stop)
}

#[tokio::test]
async fn a_client_that_trusts_the_certificate_is_answered_over_tls() {
    let pair = Pair::new();
    let (address, stop) = over_tls(&pair, Limits::default()).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let name = "localhost".to_owned().try_into().unwrap();
    let mut stream = pair.client().connect(name, stream).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").await.unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.ok();
    let reply = String::from_utf8(reply).unwrap();
    assert!(reply.ends_with(r#"{"jsonrpc":"2.0","id":-1,"result":{}}"#), "{reply}");
    // Plain HTTP gets no reply.
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET /health HTTP/1.0\r\n\r\n").await.unwrap();
    let mut reply = Vec::new();
    plain.read_to_end(&mut reply).await.ok();
    assert!(!reply.starts_with(b"HTTP"), "{reply:?}");
    stop.cancel();
}

#[tokio::test]
async fn a_client_that_does_not_finish_the_handshake_is_cut_off() {
    let pair = Pair::new();
    let limits = Limits { read_timeout: Duration::from_millis(20), ..Limits::default() };
    let (address, _stop) = over_tls(&pair, limits).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut byte = [0];
    let end = tokio::time::timeout(Duration::from_secs(20), silent.read(&mut byte)).await;
    assert_eq!(end.expect("it is cut off").unwrap(), 0);
}

#[test]
fn files_that_are_no_certificate_and_key_are_named() {
    let (pair, other) = (Pair::new(), Pair::new());
    let error = |cert: PathBuf, key: PathBuf| Tls::read(&cert, &key).err().unwrap().to_string();
    let (cert, key) = (pair.path("cert.pem"), pair.path("key.pem"));
    let missing = error(pair.path("none.pem"), key.clone());
    assert!(missing.starts_with("rpc.tls_cert_file: "), "{missing}");
    assert!(error(key.clone(), key.clone()).starts_with("rpc.tls_cert_file: "));
    assert!(error(cert.clone(), cert.clone()).starts_with("rpc.tls_key_file: "));
    let pair = error(cert, other.path("key.pem"));
    assert!(pair.contains("do not go together"), "{pair}");
}

fn few() -> Limits {
    // A minute passes before there is room for another.
    Limits { requests_per_second: 1, requests_burst: 60, ..Limits::default() }
}

#[tokio::test]
async fn an_address_that_asks_too_often_is_told_when_to_come_again() {
    let running = start(Limits { requests_burst: 3, ..few() }).await;
    let mut client = Client::new(&running).await;
    for _ in 0..3 {
        assert_eq!(client.get("/health").await.status, 200);
    }
    let refused = client.get("/health").await;
    assert_eq!(refused.status, 429);
    assert!(refused.head.contains("retry-after: 1\r\n"), "{}", refused.head);
    let body: Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!(body["error"]["code"], -32000);
    let words = "too many requests from this address: try again in 1 s";
    assert_eq!(body["error"]["data"], words);
    // Another connection is no other address, and whoever watches the node is answered.
    let mut other = Client::new(&running).await;
    assert_eq!(other.post(r#"{"id":1,"method":"health"}"#).await.status, 429);
    assert_eq!(other.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn each_call_of_a_batch_counts_and_each_of_a_websocket() {
    let running = start(Limits { requests_burst: 4, ..few() }).await;
    let mut client = Client::new(&running).await;
    let batch = r#"[{"id":1,"method":"health"},{"id":2,"method":"health"}]"#;
    assert_eq!(client.post(batch).await.status, 200);
    let mut socket = Socket::open(running.address).await;
    assert_eq!(socket.call("health", json!({})).await["result"], json!({}));
    let refused = client.post(batch).await;
    assert_eq!(refused.status, 429, "one is left, and the batch has two");
    let refused = socket.call("health", json!({})).await;
    assert_eq!(refused["error"]["code"], -32000);
    let refused = socket.call("broadcast_tx_sync", json!({"tx": "YQ=="})).await;
    assert_eq!(refused["error"]["code"], -32000);
}

#[tokio::test]
async fn there_is_no_limit_where_the_configuration_says_nothing() {
    let running = start(Limits::default()).await;
    let mut client = Client::new(&running).await;
    for _ in 0..500 {
        assert_eq!(client.get("/health").await.status, 200);
    }
}

struct Grpc {
    client: tonic::client::Grpc<tonic::transport::Channel>,
    address: SocketAddr,
    stop: CancellationToken,
}

impl Grpc {
    async fn start(limits: Limits, connections: usize) -> Grpc {
        let rpc = bound(limits).await;
        let server = GrpcServer::bind("tcp://127.0.0.1:0", connections, &rpc).await.unwrap();
        let (address, stop) = (server.local_addr().unwrap(), CancellationToken::new());
        tokio::spawn(server.run(stop.clone()));
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let client = tonic::client::Grpc::new(channel.connect().await.unwrap());
        Grpc { client, address, stop }
    }

    async fn call<Q, R>(&mut self, method: &'static str, request: Q) -> Result<R, tonic::Status>
    where
        Q: prost::Message + Default + 'static,
        R: prost::Message + Default + 'static,
    {
        self.client.ready().await.unwrap();
        let (path, codec) = (PathAndQuery::from_static(method), ProstCodec::<Q, R>::default());
        let reply = self.client.unary(tonic::Request::new(request), path, codec).await;
        reply.map(tonic::Response::into_inner)
    }

    async fn send(&mut self, tx: &[u8]) -> Result<ResponseBroadcastTx, tonic::Status> {
        let request = RequestBroadcastTx { tx: tx.to_vec() };
        self.call("/tendermint.rpc.grpc.BroadcastAPI/BroadcastTx", request).await
    }
}

const PING: &str = "/tendermint.rpc.grpc.BroadcastAPI/Ping";

#[tokio::test]
async fn grpc_answers_pings_and_commits_transactions() {
    let mut grpc = Grpc::start(Limits::default(), 0).await;
    assert!(grpc.call::<_, ResponsePing>(PING, RequestPing {}).await.is_ok());
    let committed = grpc.send(b"c=d").await.unwrap();
    assert_eq!(committed.check_tx.unwrap().code, 0);
    assert_eq!(committed.tx_result.unwrap().code, 0);
    let refused = grpc.send(b"bad").await.unwrap();
    let check = refused.check_tx.unwrap();
    assert_eq!((check.code, check.log.as_str()), (2, "a<b"));
    let error = grpc.send(b"seen").await.unwrap_err();
    assert_eq!(error.message(), "error on broadcastTxCommit: tx already exists in cache");
    let large = grpc.send(&vec![7; 2_000_000]).await.unwrap_err();
    assert_eq!(large.code(), tonic::Code::OutOfRange, "{large}");
    grpc.stop.cancel();
}

#[tokio::test]
async fn grpc_keeps_to_the_limits_of_the_rpc() {
    let mut grpc = Grpc::start(Limits { requests_burst: 1, ..few() }, 1).await;
    assert!(grpc.send(b"c=d").await.is_ok());
    let refused = grpc.send(b"c=e").await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    // One connection too many waits until another ends.
    let second = Endpoint::from_shared(format!("http://{}", grpc.address)).unwrap();
    let second = tonic::client::Grpc::new(second.connect().await.unwrap());
    let (address, stop) = (grpc.address, grpc.stop.clone());
    let waiting = tokio::spawn(async move {
        let mut second = Grpc { client: second, address, stop };
        second.call::<_, ResponsePing>(PING, RequestPing {}).await
    });
    assert!(grpc.call::<_, ResponsePing>(PING, RequestPing {}).await.is_ok());
    assert!(!waiting.is_finished());
    drop(grpc);
    assert!(waiting.await.unwrap().is_ok());
}

/// The clock goes on only while everything waits.
#[tokio::test(start_paused = true)]
async fn who_says_nothing_over_grpc_is_cut_off_and_who_answers_pings_stays() {
    let mut grpc = Grpc::start(Limits::default(), 0).await;
    assert!(grpc.call::<_, ResponsePing>(PING, RequestPing {}).await.is_ok());
    let begun = tokio::time::Instant::now();
    let mut silent = TcpStream::connect(grpc.address).await.unwrap();
    let mut told = Vec::new();
    // The server's settings, and the end.
    silent.read_to_end(&mut told).await.ok();
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(grpc.call::<_, ResponsePing>(PING, RequestPing {}).await.is_ok());
}
