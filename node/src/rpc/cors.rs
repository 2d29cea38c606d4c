//! Cross-origin requests: what CometBFT's `cors_allowed_*` keys say.

use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

/// The rules. Without origins, no header is ever added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Origins that may call: exact, with one `*` in them, or `*` for all.
    pub origins: Vec<String>,
    /// Methods that they may use.
    pub methods: Vec<String>,
    /// Headers that they may send.
    pub headers: Vec<String>,
}

impl Default for Cors {
    fn default() -> Cors {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let headers = ["Origin", "Accept", "Content-Type", "X-Requested-With", "X-Server-Time"];
        Cors { origins: vec![], methods: list(&["HEAD", "GET", "POST"]), headers: list(&headers) }
    }
}

impl Cors {
    /// The reply to the question of a browser whether it may send a request; none where `request` is something else.
    pub(crate) fn preflight<B, D>(&self, request: &Request<B>) -> Option<Response<Full<D>>>
    where
        D: hyper::body::Buf + Default,
    {
        let asked = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        if self.origins.is_empty() || request.method() != Method::OPTIONS {
            return None;
        }
        let mut response = Response::new(Full::new(D::default()));
        *response.status_mut() = StatusCode::NO_CONTENT;
        let is_allowed = self.methods.iter().any(|method| method.as_bytes() == asked.as_bytes());
        if is_allowed && self.allow(request.headers(), response.headers_mut()) {
            let headers = response.headers_mut();
            insert(headers, header::ACCESS_CONTROL_ALLOW_METHODS, &self.methods.join(", "));
            insert(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, &self.headers.join(", "));
        }
        Some(response)
    }

    /// Says in `reply` whether the origin of the request may read it; whether it may.
    pub(crate) fn allow(&self, request: &HeaderMap, reply: &mut HeaderMap) -> bool {
        if self.origins.is_empty() {
            return false;
        }
        reply.insert(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = request.get(header::ORIGIN) else { return false };
        let Ok(text) = origin.to_str() else { return false };
        let every = self.origins.iter().any(|allowed| allowed == "*");
        if !every && !self.origins.iter().any(|allowed| matches(allowed, text)) {
            return false;
        }
        let value = if every { HeaderValue::from_static("*") } else { origin.clone() };
        reply.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
        true
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn matches(allowed: &str, origin: &str) -> bool {
    match allowed.split_once('*') {
        None => allowed.eq_ignore_ascii_case(origin),
        Some((before, after)) => {
            origin.len() >= before.len() + after.len()
                && origin.starts_with(before)
                && origin.ends_with(after)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_match_exactly_or_around_one_star() {
        assert!(matches("https://a.example", "https://A.example"));
        assert!(!matches("https://a.example", "https://b.example"));
        assert!(matches("https://*.example", "https://b.example"));
        assert!(!matches("https://*.example", "https://.exampl"));
        assert!(!matches("https://*.example", "https://b.example.evil"));
    }
}
