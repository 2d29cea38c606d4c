//! What an executed transaction tells the indexer.

use super::tx::event_parts;
use tendermint_proto::v0_38::abci::{Event, EventAttribute};

/// The two events of a transaction: what CometBFT's kvstore emits, byte for byte, as its users' queries and tests expect. Bytes
/// that are no UTF-8 become U+FFFD, as they do in CometBFT's JSON.
pub(super) fn of(tx: &[u8]) -> Vec<Event> {
    let (key, value) = event_parts(tx);
    vec![event("Cosmoshi Netowoko", key), event("Cosmoshi", value)]
}

fn event(creator: &str, key: &[u8]) -> Event {
    let attributes = vec![
        attribute("creator", creator.to_owned(), true),
        attribute("key", String::from_utf8_lossy(key).into_owned(), true),
        attribute("index_key", "index is working".to_owned(), true),
        attribute("noindex_key", "index is working".to_owned(), false),
    ];
    Event { r#type: "app".to_owned(), attributes }
}

fn attribute(key: &str, value: String, index: bool) -> EventAttribute {
    EventAttribute { key: key.to_owned(), value, index }
}
