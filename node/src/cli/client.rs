//! One call of a node's RPC.

use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tercet_config::{Listen, parse_duration};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The longest reply that is read.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// Which node to ask.
#[derive(Clone, Debug, Args)]
pub(super) struct Node {
    /// Where the node's RPC listens; https://HOST:PORT where it speaks TLS.
    #[arg(long, short = 'n', default_value = "tcp://localhost:26657", value_name = "ADDRESS")]
    pub(super) node: String,
    /// Over TLS, the certificate (PEM) to trust: that of the node or of its issuer.
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// How long to wait for the answer.
    #[arg(long, default_value = "20s", value_name = "DURATION", value_parser = duration)]
    pub(super) timeout: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

impl Node {
    /// The result of a method.
    pub(super) fn call(&self, method: &str, params: &Value) -> anyhow::Result<Value> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start the runtime")?;
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let (address, tls) = (address(&self.node)?, self.tls()?);
        let reply = runtime.block_on(async {
            tokio::time::timeout(self.timeout, exchange(&address, tls, body.to_string())).await
        });
        let seconds = self.timeout.as_secs_f64();
        let reply = reply.map_err(|_| {
            anyhow!("no answer from {} in {seconds} s; --timeout waits longer", self.node)
        })?;
        let reply = reply.with_context(|| {
            format!("cannot ask the node at {} (does it run? --node says where)", self.node)
        })?;
        result(&self.node, &reply)
    }
}

impl Node {
    /// How to speak TLS, where the address says so.
    fn tls(&self) -> anyhow::Result<Option<TlsConnector>> {
        if !self.node.starts_with("https://") {
            return Ok(None);
        }
        let node = &self.node;
        let path = self.ca.as_ref().with_context(|| {
            format!("--node {node}: --ca says which certificate to trust, such as rpc.tls_cert_file of the node")
        })?;
        let read = || format!("--ca: {} holds no certificate that can be read", path.display());
        let mut roots = RootCertStore::empty();
        for one in CertificateDer::pem_file_iter(path).with_context(read)? {
            roots.add(one.with_context(read)?).with_context(read)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Some(TlsConnector::from(Arc::new(config))))
    }
}

fn address(text: &str) -> anyhow::Result<Listen> {
    let schemes = ["http://", "https://"];
    let bare = schemes.iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    bare.trim_end_matches('/').parse::<Listen>().context("--node")
}

/// Sends one request over a connection of its own.
async fn exchange(
    address: &Listen,
    tls: Option<TlsConnector>,
    body: String,
) -> anyhow::Result<Vec<u8>> {
    let tcp = match address {
        Listen::Unix(path) => {
            return post(UnixStream::connect(path).await?, "localhost", body).await;
        }
        tcp => tcp,
    };
    let place = tcp.host_port().unwrap_or_default().replace("0.0.0.0:", "127.0.0.1:");
    let stream = TcpStream::connect(&place).await?;
    let Some(tls) = tls else { return post(stream, &place, body).await };
    let host = place.rsplit_once(':').map_or(place.as_str(), |(host, _)| host);
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
    post(tls.connect(name, stream).await?, &place, body).await
}

async fn post<S>(stream: S, host: &str, body: String) -> anyhow::Result<Vec<u8>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::post("/")
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let reply = sender.send_request(request).await?;
    let body = Limited::new(reply.into_body(), REPLY_BYTES_MAX).collect().await;
    driver.abort();
    Ok(body.map_err(|error| anyhow!("{error}"))?.to_bytes().to_vec())
}

/// What stands under `result`.
fn result(node: &str, reply: &[u8]) -> anyhow::Result<Value> {
    let reply: Value =
        serde_json::from_slice(reply).with_context(|| format!("{node} is no node's RPC"))?;
    if let Some(error) = reply.get("error") {
        let part = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        let (message, data) = (part("message"), part("data"));
        let text = if data.is_empty() { message } else { data };
        bail!("the node refuses: {text}");
    }
    let result = reply.get("result").cloned();
    result.with_context(|| format!("{node} is no node's RPC: no result"))
}

/// What users type as a transaction or a key: text, or hexadecimal after `0x`.
pub(super) fn bytes(text: &str) -> anyhow::Result<Vec<u8>> {
    match text.strip_prefix("0x") {
        Some(digits) => hex::decode(digits).with_context(|| format!("{text:?} is not hexadecimal")),
        None => Ok(text.as_bytes().to_vec()),
    }
}

/// Base64 of a reply as text, or as `0x…` where it is none.
pub(super) fn readable(base64: &str) -> String {
    let Ok(bytes) = STANDARD.decode(base64) else { return base64.to_owned() };
    match String::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text,
        Ok(text) => format!("0x{}", hex::encode(text)),
        Err(error) => format!("0x{}", hex::encode(error.as_bytes())),
    }
}

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
