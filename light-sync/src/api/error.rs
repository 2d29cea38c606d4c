//! Why a call is not answered.

use crate::store::StoreError;
use serde_json::{Value, json};

/// See the [module](self). Every text is one line.
#[derive(Debug)]
pub(super) enum ApiError {
    /// The request is no JSON-RPC.
    Parse(String),
    /// The request breaks a limit.
    Request(String),
    /// There is no such route.
    NoMethod,
    /// The arguments are wrong.
    Params(String),
    /// There is no proven answer.
    Refused(String),
    /// The node that was asked says that it cannot.
    Node {
        /// Its words.
        message: String,
        /// More of them.
        data: String,
    },
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        ApiError::Refused(error.to_string())
    }
}

impl ApiError {
    /// As JSON-RPC has it, with CometBFT's codes.
    pub(super) fn to_json(&self) -> Value {
        let (code, message, data) = match self {
            ApiError::Parse(data) => (-32700, "Parse error. Invalid JSON", data.as_str()),
            ApiError::Request(data) => (-32600, "Invalid Request", data.as_str()),
            ApiError::NoMethod => (-32601, "Method not found", ""),
            ApiError::Params(data) => (-32602, "Invalid params", data.as_str()),
            ApiError::Refused(data) => (-32603, "Internal error", data.as_str()),
            ApiError::Node { message, data } => (-32603, message.as_str(), data.as_str()),
        };
        json!({ "code": code, "message": message, "data": data })
    }

    /// In one line.
    pub(super) fn line(&self) -> String {
        match self {
            ApiError::NoMethod => "no such method".to_owned(),
            ApiError::Parse(text)
            | ApiError::Request(text)
            | ApiError::Params(text)
            | ApiError::Refused(text) => text.clone(),
            ApiError::Node { message, data } => format!("{message}: {data}"),
        }
    }
}
