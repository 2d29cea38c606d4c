//! The JSON-RPC 2.0 envelope with CometBFT's deviations: a batch with one reply is answered by an object, a notification is not
//! carried out, errors of handlers carry their text in `data`.

use super::json::append_text;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::io::Write as _;
use std::time::Duration;

/// A request, borrowed from the body.
#[derive(Deserialize, Debug)]
pub(crate) struct Request<'a> {
    /// None or null in a notification.
    #[serde(borrow, default)]
    pub(crate) id: Option<&'a RawValue>,
    /// The name of the route.
    #[serde(borrow, default)]
    pub(crate) method: Cow<'a, str>,
    /// An object, an array or nothing.
    #[serde(borrow, default)]
    pub(crate) params: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "jsonrpc")]
    _version: Cow<'a, str>,
}

impl Request<'_> {
    /// Whether it is the call that most transactions come by, which takes a shorter way.
    pub(crate) fn is_fast(&self) -> bool {
        self.method == "broadcast_tx_sync"
    }
}

/// The id of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Id<'a> {
    /// As the client wrote it: a string or an integer.
    Raw(&'a str),
    /// A number: −1 for calls by URI, or a fraction that was cut off.
    Number(i64),
}

impl<'a> Id<'a> {
    /// The id in `raw`: a string, or a number, whose fraction is cut off.
    ///
    /// # Errors
    /// Where it is something else, or a number that does not fit.
    pub(crate) fn parse(raw: &'a RawValue) -> Result<Id<'a>, String> {
        let text = raw.get();
        if text.starts_with('"') || text.parse::<i64>().is_ok() {
            return Ok(Id::Raw(text));
        }
        let number: f64 =
            text.parse().map_err(|_| "json-rpc ID is neither a string nor a number".to_owned())?;
        whole(number).map(Id::Number).ok_or_else(|| "json-rpc ID out of int64 range".to_owned())
    }

    /// Writes it as the client did.
    pub(crate) fn append(self, out: &mut Vec<u8>) {
        match self {
            Id::Raw(text) => out.extend_from_slice(text.as_bytes()),
            Id::Number(number) => {
                write!(out, "{number}").expect("writing to memory succeeds");
            }
        }
    }
}

/// The integer before the decimal point; none where it is out of range.
fn whole(number: f64) -> Option<i64> {
    // Through text, because a float has no checked conversion.
    format!("{:.0}", number.trunc()).parse().ok()
}

/// An error of JSON-RPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RpcError {
    code: i32,
    message: &'static str,
    data: String,
    /// After how many seconds it may be tried again, where that is known.
    retry_secs: Option<u64>,
}

impl RpcError {
    /// The body is no JSON-RPC request.
    pub(crate) fn parse(cause: &str) -> RpcError {
        let data = format!("error unmarshaling request: {cause}");
        RpcError::new(-32700, "Parse error. Invalid JSON", data)
    }

    /// The request breaks a limit.
    pub(crate) fn invalid_request(data: impl Into<String>) -> RpcError {
        RpcError::new(-32600, "Invalid Request", data.into())
    }

    /// There is no such route.
    pub(crate) fn method_not_found() -> RpcError {
        RpcError::new(-32601, "Method not found", String::new())
    }

    /// The arguments of a JSON-RPC call are wrong.
    pub(crate) fn json_params(cause: &str) -> RpcError {
        let data = format!("error converting json params to arguments: {cause}");
        RpcError::new(-32602, "Invalid params", data)
    }

    /// The arguments of a URI call are wrong.
    pub(crate) fn uri_params(cause: &str) -> RpcError {
        let data = format!("error converting http params to arguments: {cause}");
        RpcError::new(-32602, "Invalid params", data)
    }

    /// The same on a WebSocket, where CometBFT calls wrong arguments an internal error.
    pub(crate) fn on_stream(self) -> RpcError {
        match self.code {
            -32602 => RpcError::internal(self.data),
            _ => self,
        }
    }

    /// A subscription has ended.
    pub(crate) fn cancelled(reason: impl std::fmt::Display) -> RpcError {
        let data = format!("subscription was canceled (reason: {reason})");
        RpcError::new(-32000, "Server error", data)
    }

    /// The client has sent too much.
    pub(crate) fn too_many(wait: Duration) -> RpcError {
        let secs = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let data = format!("too many requests from this address: try again in {secs} s");
        RpcError { retry_secs: Some(secs), ..RpcError::new(-32000, "Server error", data) }
    }

    /// After how many seconds it may be tried again, where that is known.
    pub(crate) fn retry_secs(&self) -> Option<u64> {
        self.retry_secs
    }

    fn new(code: i32, message: &'static str, data: String) -> RpcError {
        RpcError { code, message, data, retry_secs: None }
    }

    /// The route could not answer.
    pub(crate) fn internal(data: impl Into<String>) -> RpcError {
        RpcError::new(-32603, "Internal error", data.into())
    }
}

/// Begins a reply with a result; the result follows, then [`end`].
pub(crate) fn begin(out: &mut Vec<u8>, id: Id<'_>) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    id.append(out);
    out.extend_from_slice(b",\"result\":");
}

/// Ends a reply.
pub(crate) fn end(out: &mut Vec<u8>) {
    out.push(b'}');
}

/// A whole reply with an error; without an id where none could be read.
pub(crate) fn error(out: &mut Vec<u8>, id: Option<Id<'_>>, error: &RpcError) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\"");
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        id.append(out);
    }
    write!(out, ",\"error\":{{\"code\":{},\"message\":\"{}\"", error.code, error.message)
        .expect("writing to memory succeeds");
    if !error.data.is_empty() {
        out.extend_from_slice(b",\"data\":");
        append_text(out, &error.data);
    }
    out.extend_from_slice(b"}}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Result<String, String> {
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        let mut out = Vec::new();
        Id::parse(raw)?.append(&mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn ids_are_echoed_and_fractions_cut_off() {
        for same in ["\"a\"", "\"\\u0061\"", "0", "-7", "9223372036854775807"] {
            assert_eq!(id(same).as_deref(), Ok(same));
        }
        assert_eq!(id("1.9").as_deref(), Ok("1"));
        assert_eq!(id("-1.9").as_deref(), Ok("-1"));
        assert_eq!(id("1e3").as_deref(), Ok("1000"));
        for wrong in ["true", "[]", "{}", "1e300", "9223372036854775808"] {
            assert!(id(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_error_leaves_out_what_it_has_not() {
        let mut out = Vec::new();
        error(&mut out, None, &RpcError::invalid_request("a<b"));
        error(&mut out, Some(Id::Number(-1)), &RpcError::method_not_found());
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request","#,
                r#""data":"a\u003cb"}}"#,
                r#"{"jsonrpc":"2.0","id":-1,"error":{"code":-32601,"message":"Method not found"}}"#,
            )
        );
    }

    #[test]
    fn a_request_without_id_or_params_is_read() {
        let request: Request<'_> = serde_json::from_str(r#"{"method":"health"}"#).unwrap();
        assert!(request.id.is_none() && request.params.is_none());
        let request: Request<'_> =
            serde_json::from_str(r#"{"id":null,"params":null,"more":1}"#).unwrap();
        assert!(request.id.is_none() && request.params.is_none() && request.method.is_empty());
    }
}
