//! Calls: JSON-RPC bodies and URIs, and their arguments.

use super::ROUTES;
use super::error::ApiError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use tercet_light_core::hash::Hash;
use tercet_light_core::header::Height;

/// The most calls of one batch, CometBFT's `max_request_batch_size`.
pub(super) const BATCH_MAX: usize = 10;

/// One call.
#[derive(Debug)]
pub(super) struct Call {
    /// As the client wrote it; none in a notification, which is not carried out.
    pub(super) id: Option<Value>,
    pub(super) method: String,
    pub(super) params: Params,
}

/// Arguments by name.
#[derive(Debug, Default)]
pub(super) struct Params {
    values: Map<String, Value>,
    /// Whether they came in a URI, where bytes are written otherwise.
    uri: bool,
}

/// What a body holds.
#[derive(Debug)]
pub(super) enum Body {
    One(Result<Call, ApiError>),
    Batch(Vec<Result<Call, ApiError>>),
}

/// Reads a body.
///
/// # Errors
/// Where it is no JSON, or a batch of more than [`BATCH_MAX`] or no calls.
pub(super) fn parse(body: &[u8]) -> Result<Body, ApiError> {
    let parsed: Value =
        serde_json::from_slice(body).map_err(|error| ApiError::Parse(error.to_string()))?;
    match parsed {
        Value::Array(calls) if calls.is_empty() || calls.len() > BATCH_MAX => {
            Err(ApiError::Request(format!("a batch has 1 to {BATCH_MAX} calls")))
        }
        Value::Array(calls) => Ok(Body::Batch(calls.into_iter().map(Call::new).collect())),
        call => Ok(Body::One(Call::new(call))),
    }
}

impl Call {
    fn new(call: Value) -> Result<Call, ApiError> {
        let Value::Object(mut call) = call else {
            return Err(ApiError::Request("a call is an object".to_owned()));
        };
        let id = call.remove("id").filter(|id| !id.is_null());
        if !id.as_ref().is_none_or(|id| id.is_string() || id.is_number()) {
            return Err(ApiError::Request("an id is a string or a number".to_owned()));
        }
        let Some(Value::String(method)) = call.remove("method") else {
            return Err(ApiError::Request("a call has a method".to_owned()));
        };
        let params = Params::from_json(&method, call.remove("params"))?;
        Ok(Call { id, method, params })
    }
}

impl Params {
    fn from_json(method: &str, params: Option<Value>) -> Result<Params, ApiError> {
        let values = match params {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(values)) => values,
            Some(Value::Array(values)) => {
                let names = ROUTES.iter().find(|(name, _)| *name == method);
                let names = names.map_or(&[][..], |(_, names)| names);
                if values.len() > names.len() {
                    return Err(ApiError::Params(format!(
                        "{method} has {} arguments",
                        names.len()
                    )));
                }
                names.iter().map(|name| (*name).to_owned()).zip(values).collect()
            }
            Some(_) => return Err(ApiError::Params("params are an object or an array".to_owned())),
        };
        Ok(Params { values, uri: false })
    }

    /// The arguments of a query string; the first of a name counts.
    pub(super) fn from_uri(query: &str) -> Params {
        let mut values = Map::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if let (Some(name), Some(value)) = (unescape(name), unescape(value)) {
                values.entry(name).or_insert(Value::String(value));
            }
        }
        Params { values, uri: true }
    }

    /// As they are to be passed on in JSON-RPC. Only JSON can be: in a URI, types are not known.
    pub(super) fn to_json(&self) -> Result<Value, ApiError> {
        if self.uri && !self.values.is_empty() {
            return Err(ApiError::Params("arguments are passed on from JSON-RPC only".to_owned()));
        }
        Ok(Value::Object(self.values.clone()))
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name).filter(|value| !value.is_null())
    }

    /// Text; in a URI in quotes or not.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| wrong(name, "text"))?;
        Ok(Some(if self.uri { unquoted(text).to_owned() } else { text.to_owned() }))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = match value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) if text.is_empty() => return Ok(None),
            Value::String(text) => unquoted(text).parse().ok(),
            _ => None,
        };
        number.map(Some).ok_or_else(|| wrong(name, "a number that is not negative"))
    }

    /// A height; none where it is missing or 0, which stands for the latest.
    pub(super) fn height(&self, name: &str) -> Result<Option<Height>, ApiError> {
        let height = self.number(name)?.filter(|height| *height > 0);
        match height {
            Some(height) if i64::try_from(height).is_err() => Err(wrong(name, "a height")),
            height => Ok(height),
        }
    }

    /// A page from 1 on.
    pub(super) fn page(&self, name: &str, default: usize) -> Result<usize, ApiError> {
        let page = self.number(name)?.filter(|page| *page > 0);
        let page = page.map_or(Ok(default), usize::try_from);
        page.map_err(|_| wrong(name, "a page"))
    }

    /// Bytes: base64 in JSON; in a URI text in quotes, or hexadecimal after 0x.
    pub(super) fn bytes(&self, name: &str) -> Result<Vec<u8>, ApiError> {
        let text = self.required(name)?;
        if !self.uri {
            return STANDARD.decode(text).map_err(|_| wrong(name, "base64"));
        }
        match text.strip_prefix("0x") {
            Some(digits) => hex::decode(digits).map_err(|_| wrong(name, "hexadecimal")),
            None => Ok(unquoted(text).as_bytes().to_vec()),
        }
    }

    /// Bytes that are written in hexadecimal; in a URI after 0x, or text in quotes.
    pub(super) fn hex(&self, name: &str) -> Result<Vec<u8>, ApiError> {
        let text = self.required(name)?;
        match (self.uri, text.strip_prefix("0x")) {
            (true, None) => Ok(unquoted(text).as_bytes().to_vec()),
            (_, digits) => {
                hex::decode(digits.unwrap_or(text)).map_err(|_| wrong(name, "hexadecimal"))
            }
        }
    }

    /// A hash that is written in hexadecimal, or in base64.
    pub(super) fn hash(&self, name: &str) -> Result<Hash, ApiError> {
        let text = unquoted(self.required(name)?);
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let bytes = hex::decode(digits).ok().or_else(|| STANDARD.decode(text).ok());
        let hash = bytes.and_then(|bytes| Hash::from_slice(&bytes));
        hash.ok_or_else(|| wrong(name, "a hash of 32 bytes"))
    }

    fn required(&self, name: &str) -> Result<&str, ApiError> {
        self.get(name).and_then(Value::as_str).ok_or_else(|| wrong(name, "there"))
    }
}

fn wrong(name: &str, what: &str) -> ApiError {
    ApiError::Params(format!("{name} is not {what}"))
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

/// Decodes `%XX` and `+`; none where an escape is malformed or the result is no UTF-8.
fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
