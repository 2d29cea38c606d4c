//! JSON in CometBFT's shapes.

use prost::Message as _;
use serde_json::{Value, json};
use tendermint_proto::v0_38::types as pb;
use tercet_consensus::validators::Validator;
use tercet_light_core::header::Header;

pub(crate) fn show<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

pub(crate) fn header(header: &Header) -> Value {
    let mut shown =
        pb::Header::decode(header.bytes().clone()).map_or(Value::Null, |header| show(&header));
    if header.last_block().is_none()
        && let Some(id) = shown.get_mut("last_block_id")
    {
        *id = no_block_id();
    }
    shown
}

/// The id of no block, as Go writes it.
pub(crate) fn no_block_id() -> Value {
    json!({ "hash": "", "parts": { "total": 0, "hash": "" } })
}

pub(crate) fn upper(bytes: &[u8]) -> String {
    hex::encode_upper(bytes)
}

pub(crate) fn validator(of: &Validator) -> Value {
    json!({
        "address": upper(of.address.as_bytes()),
        "pub_key": show(&of.key.to_proto()),
        "voting_power": of.power.to_string(),
        "proposer_priority": "0",
    })
}
