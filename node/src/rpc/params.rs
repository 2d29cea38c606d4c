//! The arguments of a route: their names, order and kinds, and how they are read from JSON (`jsonrpc` calls) and from a URI.
//!
//! Sources: CometBFT `rpc/jsonrpc/server/http_json_handler.go`, `http_uri_handler.go` and `libs/json/decoder.go`.

use super::go_json::{self, Found};
use super::json::evidence_given;
use bytes::Bytes;
use prost::Message as _;
use serde_json::Value as Json;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;

/// The kind of an argument, after CometBFT's Go types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `int64` or a pointer to one.
    Int64,
    /// A pointer to `int`.
    Int,
    /// `uint`.
    Uint,
    /// `bool`.
    Bool,
    /// `string`.
    Text,
    /// `[]byte`: base64 in JSON, or a list of numbers.
    Bytes,
    /// `types.Tx`: the same.
    Tx,
    /// `HexBytes`: hexadecimal in JSON.
    HexBytes,
    /// `[]string`.
    Texts,
    /// `types.Evidence`: an object with a type; its protobuf bytes are the value.
    Evidence,
}

impl Kind {
    /// The Go type in error texts.
    fn go(self) -> &'static str {
        match self {
            Kind::Int64 => "int64",
            Kind::Int => "int",
            Kind::Uint => "uint",
            Kind::Bool => "bool",
            Kind::Text => "string",
            Kind::Bytes | Kind::HexBytes => "[]uint8",
            Kind::Tx => "types.Tx",
            Kind::Texts => "[]string",
            Kind::Evidence => "types.Evidence",
        }
    }

    fn is_integer(self) -> bool {
        matches!(self, Kind::Int64 | Kind::Int | Kind::Uint)
    }
}

/// A named argument.
pub(crate) type Param = (&'static str, Kind);

/// The value of an argument.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) enum Value {
    /// Not given, empty or null: the default of its kind.
    #[default]
    Absent,
    /// Any integer.
    Int(i128),
    /// A truth value.
    Bool(bool),
    /// A string.
    Text(String),
    /// Bytes.
    Bytes(Bytes),
    /// Strings.
    Texts(Vec<String>),
}

/// The values of a call, in the order of the route's parameters.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Args(Vec<Value>);

impl Args {
    fn at(&self, index: usize) -> &Value {
        self.0.get(index).unwrap_or(&Value::Absent)
    }

    /// The integer at `index`, where given.
    pub(crate) fn int(&self, index: usize) -> Option<i64> {
        match self.at(index) {
            Value::Int(number) => i64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The truth value at `index`.
    pub(crate) fn is_true(&self, index: usize) -> bool {
        matches!(self.at(index), Value::Bool(true))
    }

    /// The string at `index`.
    pub(crate) fn text(&self, index: usize) -> &str {
        match self.at(index) {
            Value::Text(text) => text,
            _ => "",
        }
    }

    /// The strings at `index`.
    pub(crate) fn texts(&self, index: usize) -> &[String] {
        match self.at(index) {
            Value::Texts(texts) => texts,
            _ => &[],
        }
    }

    /// The bytes at `index`.
    pub(crate) fn bytes(&self, index: usize) -> Bytes {
        match self.at(index) {
            Value::Bytes(bytes) => bytes.clone(),
            _ => Bytes::new(),
        }
    }
}

/// Reads the `params` of a JSON-RPC call: an object (missing names take their defaults, unknown ones are ignored), an array of
/// exactly the right length, or nothing.
///
/// # Errors
/// In CometBFT's words, to stand behind `error converting json params to arguments: `.
pub(crate) fn from_json(params: &[Param], raw: Option<&RawValue>) -> Result<Args, String> {
    let Some(raw) = raw else { return Ok(Args::default()) };
    if let Ok(map) = serde_json::from_str::<HashMap<Cow<'_, str>, &RawValue>>(raw.get()) {
        let value = |(name, kind): &Param| match map.get(*name) {
            Some(raw) => json_value(*kind, raw.get()),
            None => Ok(Value::Absent),
        };
        return params.iter().map(value).collect::<Result<Vec<_>, _>>().map(Args);
    }
    let list = serde_json::from_str::<Vec<&RawValue>>(raw.get())
        .map_err(|error| format!("unknown type for JSON params: {error}. Expected map or array"))?;
    if list.len() != params.len() {
        let names: Vec<&str> = params.iter().map(|(name, _)| *name).collect();
        return Err(format!(
            "expected {} parameters ([{}]), got {} ({})",
            params.len(),
            names.join(" "),
            list.len(),
            shortened(raw.get())
        ));
    }
    let value = |((_, kind), raw): (&Param, &&RawValue)| json_value(*kind, raw.get());
    params.iter().zip(&list).map(value).collect::<Result<Vec<_>, _>>().map(Args)
}

/// Reads the arguments from the parameters of a URI or form. An empty parameter counts as not given.
///
/// # Errors
/// In CometBFT's words, to stand behind `error converting http params to arguments: `.
pub(crate) fn from_uri(
    params: &[Param],
    given: &HashMap<Cow<'_, str>, Cow<'_, str>>,
) -> Result<Args, String> {
    let value = |(name, kind): &Param| match given.get(*name) {
        Some(text) if !text.is_empty() => uri_value(*kind, text),
        _ => Ok(Value::Absent),
    };
    params.iter().map(value).collect::<Result<Vec<_>, _>>().map(Args)
}

fn uri_value(kind: Kind, text: &str) -> Result<Value, String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && kind.is_integer() {
        return integer(kind, text);
    }
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return hex_argument(kind, digits);
    }
    let is_quoted = text.starts_with('"') && text.ends_with('"');
    if is_quoted && matches!(kind, Kind::Bytes | Kind::Tx | Kind::HexBytes) {
        // The raw characters between the quotes, not their base64 or hexadecimal meaning.
        let inner: String = serde_json::from_str(text).map_err(|error| error.to_string())?;
        return Ok(Value::Bytes(Bytes::from(inner)));
    }
    json_value(kind, text)
}

fn hex_argument(kind: Kind, digits: &str) -> Result<Value, String> {
    if !matches!(kind, Kind::Text | Kind::Bytes | Kind::Tx | Kind::HexBytes) {
        // Go names the kind of the type here.
        let kind = if kind == Kind::Evidence { "interface" } else { kind.go() };
        return Err(format!("got a hex string arg, but expected '{kind}'"));
    }
    let bytes = decode_hex(digits)?;
    if kind == Kind::Text {
        return String::from_utf8(bytes)
            .map(Value::Text)
            .map_err(|_| "a hex string arg is no UTF-8".to_owned());
    }
    Ok(Value::Bytes(Bytes::from(bytes)))
}

fn json_value(kind: Kind, raw: &str) -> Result<Value, String> {
    if kind == Kind::Evidence {
        let evidence = evidence_given::read(raw)?;
        return Ok(
            evidence.map_or(Value::Absent, |found| Value::Bytes(found.encode_to_vec().into()))
        );
    }
    if kind == Kind::Texts {
        let texts = serde_json::from_str::<Option<Vec<String>>>(raw);
        let texts = texts.map_err(|error| syntax(raw, &error))?;
        return Ok(texts.map_or(Value::Absent, Value::Texts));
    }
    if matches!(kind, Kind::Bytes | Kind::Tx) && raw.trim_start().starts_with('[') {
        return byte_list(raw).map(Value::Bytes);
    }
    if kind.is_integer() && raw.trim_start().starts_with('"') {
        // Go looks at what stands between the quotes, escapes and all.
        let inner = raw.trim().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        return integer(kind, inner.unwrap_or_default());
    }
    // No other argument is a list or an object: refuse them before they cost memory.
    let nested = match raw.trim_start().bytes().next() {
        Some(b'[') => Some(Json::Array(vec![])),
        Some(b'{') => Some(Json::Object(serde_json::Map::new())),
        _ => None,
    };
    let json = match nested {
        Some(nested) => nested,
        None => serde_json::from_str(raw).map_err(|error| syntax(raw, &error))?,
    };
    match (kind, json) {
        (_, Json::Null) => Ok(Value::Absent),
        (Kind::Int64 | Kind::Int | Kind::Uint, _) => Err(format!(
            "invalid 64-bit integer encoding {:?}, expected string",
            shortened(raw.trim())
        )),
        (Kind::Bool, Json::Bool(value)) => Ok(Value::Bool(value)),
        (Kind::Text, Json::String(text)) => Ok(Value::Text(text)),
        (Kind::Bytes | Kind::Tx, Json::String(text)) => decode_base64(&text).map(Value::Bytes),
        (Kind::HexBytes, Json::String(text)) => {
            decode_hex(&text).map(|bytes| Value::Bytes(bytes.into()))
        }
        (kind, json) => Err(format!(
            "json: cannot unmarshal {} into Go value of type {}",
            name_of(&json),
            kind.go()
        )),
    }
}

/// Base64 as JSON carries transactions and hashes.
///
/// # Errors
/// In Go's words.
pub(crate) fn decode_base64(text: &str) -> Result<Bytes, String> {
    go_json::base64(text).map(Bytes::from)
}

fn decode_hex(digits: &str) -> Result<Vec<u8>, String> {
    hex::decode(digits).map_err(|error| match error {
        hex::FromHexError::InvalidHexCharacter { c, .. } => {
            format!("encoding/hex: invalid byte: {}", Codepoint(c))
        }
        _ => "encoding/hex: odd length hex string".to_owned(),
    })
}

/// A character as Go's `%#U` writes it.
struct Codepoint(char);

impl std::fmt::Display for Codepoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "U+{:04X} '{}'", u32::from(self.0), self.0)
    }
}

/// Bytes as a list of numbers, which Go takes too.
fn byte_list(raw: &str) -> Result<Bytes, String> {
    if let Ok(bytes) = serde_json::from_str::<Vec<u8>>(raw) {
        return Ok(bytes.into());
    }
    let items = serde_json::from_str::<Vec<&RawValue>>(raw).map_err(|error| error.to_string())?;
    let wrong = items.iter().find(|item| serde_json::from_str::<u8>(item.get()).is_err());
    let what = match go_json::scan(wrong.map_or("null", |item| item.get()))? {
        Found::Number(number) => format!("number {}", shortened(number)),
        Found::Other(kind) => kind.to_owned(),
    };
    Err(format!("json: cannot unmarshal {what} into Go value of type uint8"))
}

fn integer(kind: Kind, text: &str) -> Result<Value, String> {
    let wrong =
        |what: &str| format!("json: cannot unmarshal {what} into Go value of type {}", kind.go());
    let number = match go_json::scan(text)? {
        Found::Number(number) => number,
        Found::Other("null") => return Ok(Value::Absent),
        Found::Other(other) => return Err(wrong(other)),
    };
    let range = match kind {
        Kind::Uint => 0..=i128::from(u64::MAX),
        _ => i128::from(i64::MIN)..=i128::from(i64::MAX),
    };
    match number.parse::<i128>() {
        Ok(number) if range.contains(&number) => Ok(Value::Int(number)),
        _ => Err(wrong(&format!("number {}", shortened(number)))),
    }
}

fn name_of(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

/// In Go's words, where they are known; other errors keep the parser's.
fn syntax(raw: &str, error: &serde_json::Error) -> String {
    go_json::scan(raw).err().unwrap_or_else(|| error.to_string())
}

/// The most characters of a client's own text that an error repeats.
const REPEATED_CHARS_MAX: usize = 128;

fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(REPEATED_CHARS_MAX) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
    }
}

#[cfg(test)]
#[path = "params_tests.rs"]
mod tests;
