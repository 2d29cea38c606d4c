//! What clients send, decoded as the server does, for tests with hostile bytes.

use super::jsonrpc::{Id, Request};
use super::routes::ROUTES;
use super::{params, uri};
use serde_json::value::RawValue;

/// The body of a POST: one request or a batch, its arguments read as those of every route.
pub fn body(bytes: &[u8]) {
    if let Ok(Some(request)) = serde_json::from_slice::<Option<Request<'_>>>(bytes) {
        self::request(&request);
    }
    let batch = serde_json::from_slice::<Vec<&RawValue>>(bytes).unwrap_or_default();
    for raw in batch.into_iter().take(10) {
        if let Ok(Some(request)) = serde_json::from_str::<Option<Request<'_>>>(raw.get()) {
            self::request(&request);
        }
    }
}

fn request(request: &Request<'_>) {
    let _ = request.id.map(Id::parse);
    for route in ROUTES {
        let _ = params::from_json(route.params, request.params);
    }
}

/// The query of a URI, its arguments read as those of every route.
pub fn query(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let given = uri::parse(text);
    for route in ROUTES {
        let _ = params::from_uri(route.params, &given);
    }
}
