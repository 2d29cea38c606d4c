//! What of a reply must be the same, and how it is told where it is not.

use std::collections::BTreeMap;

use serde_json::Value;

/// Values that depend on keys, times, ports and the chain, by the names that they have in replies; whether they are there, and of what
/// kind, is compared.
const MASKED: &[&str] = &[
    "address",
    "addr",
    "app_state",
    "block_id_flag",
    "block_size",
    "bytes",
    "chain_id",
    "channels",
    "consensus_hash",
    "data_hash",
    "evidence_hash",
    "genesis_time",
    "hash",
    "id",
    "last_commit_hash",
    "last_results_hash",
    "latest_app_hash",
    "latest_block_hash",
    "earliest_app_hash",
    "earliest_block_hash",
    "listen_addr",
    "moniker",
    "network",
    "next_validators_hash",
    "power",
    "proposer_address",
    "proposer_priority",
    "pub_key",
    "rpc_address",
    "signature",
    "time",
    "timestamp",
    "latest_block_time",
    "earliest_block_time",
    "validator_address",
    "validators_hash",
    "version",
    "voting_power",
];

/// What a node knows of its own chain: text that stands for a name.
pub(super) type Known = BTreeMap<&'static str, String>;

/// The text with names put in.
pub(super) fn fill(template: &str, known: &Known) -> String {
    let mut text = template.to_owned();
    for (name, value) in known {
        text = text.replace(&format!("${name}$"), value);
    }
    text
}

/// A reply without what must differ.
pub(super) fn masked(reply: &Value, known: &Known) -> Value {
    match reply {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, field)| {
                // The identifier of a call is what was sent.
                let by_kind = MASKED.contains(&name.as_str()) && !fields.contains_key("jsonrpc");
                let field = match by_kind {
                    true => kind(field),
                    false => masked(field, known),
                };
                (name.clone(), field)
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(|item| masked(item, known)).collect(),
        Value::String(text) => unnamed(text, known).into(),
        other => other.clone(),
    }
}

/// Of what kind a value is that is not compared.
fn kind(value: &Value) -> Value {
    match value {
        Value::String(text) if text.is_empty() => "".into(),
        Value::String(_) => "(text)".into(),
        Value::Number(_) => "(number)".into(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, field)| (name.clone(), kind(field)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(kind).collect(),
        Value::Null | Value::Bool(_) => value.clone(),
    }
}

/// A text in which the numbers and hashes of a chain have their names again.
fn unnamed(text: &str, known: &Known) -> String {
    let mut out = String::new();
    let mut word = String::new();
    for character in text.chars().chain(['\0']) {
        if character.is_ascii_alphanumeric() {
            word.push(character);
            continue;
        }
        let name = known.iter().find(|(_, value)| value.eq_ignore_ascii_case(&word));
        match name {
            Some((name, _)) => out.push_str(&format!("${name}$")),
            None => out.push_str(&word),
        }
        word.clear();
        out.push(character);
    }
    out.pop();
    out
}

/// Where two replies differ first, and how; none where they are the same.
pub(super) fn difference(one: &Value, other: &Value) -> Option<(String, String, String)> {
    differ(one, other, "")
}

fn differ(one: &Value, other: &Value, path: &str) -> Option<(String, String, String)> {
    match (one, other) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let names = ours.keys().chain(theirs.keys().filter(|name| !ours.contains_key(*name)));
            names.into_iter().find_map(|name| {
                let path = format!("{path}.{name}");
                match (ours.get(name), theirs.get(name)) {
                    (Some(ours), Some(theirs)) => differ(ours, theirs, &path),
                    (ours, theirs) => Some((path, short(ours), short(theirs))),
                }
            })
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => ours
            .iter()
            .zip(theirs)
            .find_map(|(one, other)| differ(one, other, &format!("{path}[]"))),
        _ if one == other => None,
        _ => Some((path.to_owned(), short(Some(one)), short(Some(other)))),
    }
}

fn short(value: Option<&Value>) -> String {
    let text = value.map_or_else(|| "(nothing)".to_owned(), Value::to_string);
    match text.char_indices().nth(160) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn known() -> Known {
        BTreeMap::from([("tx0", "17".to_owned()), ("tx0.hash", "AB12".to_owned())])
    }

    #[test]
    fn names_stand_for_what_a_node_knows_and_back() {
        assert_eq!(
            fill("/block?height=$tx0$&h=0x$tx0.hash$", &known()),
            "/block?height=17&h=0xAB12"
        );
        assert_eq!(
            unnamed("height 17 of 170, (ab12)", &known()),
            "height $tx0$ of 170, ($tx0.hash$)"
        );
    }

    #[test]
    fn what_differs_by_nature_is_compared_by_kind_and_everything_else_by_value() {
        let known = known();
        let one =
            json!({"jsonrpc": "2.0", "id": 1, "result": {"hash": "AA", "height": "17", "n": 1}});
        let mut other = one.clone();
        other["result"]["hash"] = json!("BB");
        assert_eq!(difference(&masked(&one, &known), &masked(&other, &known)), None);
        for (name, value) in
            [("hash", json!(null)), ("n", json!(2)), ("height", json!("18")), ("more", json!(1))]
        {
            let mut wrong = other.clone();
            wrong["result"][name] = value;
            let found = difference(&masked(&one, &known), &masked(&wrong, &known));
            assert_eq!(found.map(|(path, _, _)| path), Some(format!(".result.{name}")));
        }
        let mut wrong = other;
        wrong["id"] = json!(2);
        assert!(difference(&masked(&one, &known), &masked(&wrong, &known)).is_some());
    }
}
