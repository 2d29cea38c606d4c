//! HTTP: one pool of connections an endpoint, bounded answers, no redirects, no compression.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{Request, Response, StatusCode, Uri, body::Incoming, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rand::Rng as _;
use std::time::{Duration, UNIX_EPOCH};
use tercet_light_core::planner::{Failure, Fault};
use tercet_light_core::time::Time;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The most unused connections that are kept to an endpoint.
const IDLE_CONNECTIONS_MAX: usize = 8;
/// How often a question is sent where no answer came at all.
const ATTEMPTS_MAX: u32 = 3;
/// How long to wait before the second attempt; twice as long before the third, both with as much at random.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// How long a provider is left alone that answers 429 without saying how long.
const BUSY_FOR: Duration = Duration::from_secs(1);

/// Where a node's RPC listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    uri: Uri,
    name: String,
}

/// Why a text names no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// TLS is asked for.
    #[error(
        "{0}: TLS is not supported; ask a node of your own, or through a proxy on this machine"
    )]
    Tls(String),
    /// It is no address.
    #[error("{0}: not an address like http://host:26657")]
    Malformed(String),
}

impl std::str::FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        let malformed = || EndpointError::Malformed(text.to_owned());
        let rest = match text.split_once("://") {
            Some(("http" | "tcp", rest)) => rest,
            Some(("https", _)) => return Err(EndpointError::Tls(text.to_owned())),
            Some(_) => return Err(malformed()),
            None => text,
        };
        let uri: Uri = format!("http://{rest}").parse().map_err(|_| malformed())?;
        // Names and passwords in addresses end up in logs.
        let host = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        if host.is_none_or(|authority| authority.host().is_empty()) {
            return Err(malformed());
        }
        Ok(Endpoint { uri, name: text.to_owned() })
    }
}

/// A client of one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    endpoint: Endpoint,
}

impl Http {
    pub(super) fn new(endpoint: Endpoint) -> Http {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        Http { client, endpoint }
    }

    pub(super) fn name(&self) -> &str {
        &self.endpoint.name
    }

    /// Sends a JSON body and gives back the answer's, of at most `bytes_max` bytes.
    pub(super) async fn post(&self, body: Bytes, bytes_max: usize) -> Result<Bytes, Failure> {
        self.post_dated(body, bytes_max).await.map(|(body, _)| body)
    }

    /// The same, with what the node's clock said (`Date`).
    pub(super) async fn post_dated(
        &self,
        body: Bytes,
        bytes_max: usize,
    ) -> Result<(Bytes, Option<Time>), Failure> {
        let response = self.send(body).await?;
        let date = date(&response);
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Failure::Busy(retry_after(&response).unwrap_or(BUSY_FOR)));
        }
        if let (StatusCode::SERVICE_UNAVAILABLE, Some(wait)) = (status, retry_after(&response)) {
            return Err(Failure::Busy(wait));
        }
        // CometBFT answers some errors of methods with 500 and the error as JSON. A redirect is no answer.
        if !status.is_success() && status != StatusCode::INTERNAL_SERVER_ERROR {
            return Err(Failure::Unavailable);
        }
        let body = Limited::new(response.into_body(), bytes_max).collect().await;
        body.map(|body| (body.to_bytes(), date)).map_err(|error| {
            if error.downcast_ref::<LengthLimitError>().is_some() {
                Failure::Malformed(Fault::Malformed)
            } else {
                Failure::Unavailable
            }
        })
    }

    async fn send(&self, body: Bytes) -> Result<Response<Incoming>, Failure> {
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                tokio::time::sleep(back_off(attempt)).await;
            }
            let request = Request::post(self.endpoint.uri.clone())
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(body.clone()))
                .map_err(|_| Failure::Unavailable)?;
            if let Ok(response) = self.client.request(request).await {
                return Ok(response);
            }
        }
        Err(Failure::Unavailable)
    }
}

/// With as much at random again, so that clients that lost a node together do not come back together.
fn back_off(attempt: u32) -> Duration {
    let least = RETRY_AFTER * attempt;
    least + least.mul_f64(rand::rng().random::<f64>())
}

/// How many seconds a response asks to be left alone; a date is taken as none.
fn retry_after(response: &Response<Incoming>) -> Option<Duration> {
    let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// When the node says that it answered, to the second.
fn date(response: &Response<Incoming>) -> Option<Time> {
    let text = response.headers().get(header::DATE)?.to_str().ok()?;
    let since = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Time::from_unix(i64::try_from(since.as_secs()).ok()?, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_plain_http_without_passwords() {
        for good in ["http://127.0.0.1:26657", "tcp://node:26657", "node:26657", "http://n/rpc"] {
            assert_eq!(good.parse::<Endpoint>().unwrap().name, good);
        }
        let tls = "https://node".parse::<Endpoint>();
        assert_eq!(tls, Err(EndpointError::Tls("https://node".to_owned())));
        for bad in ["", "ftp://node", "http://", "http://me:secret@node", "no de"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }
}
