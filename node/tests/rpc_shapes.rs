//! The replies that were captured from CometBFT, and ours to the same requests on a live node with the same key-value store: key for key,
//! null for null. Without `TERCET_VECTORS` there is nothing to compare with, and a line says so.
#![allow(missing_docs)]

#[path = "support/kvstore_net.rs"]
mod kvstore_net;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/socket.rs"]
mod socket;

use kvstore_net::{Net, run};
use serde_json::{Value, json};
use socket::Socket;
use std::collections::BTreeSet;
use std::path::PathBuf;
use tendermint_rpc::{Client as _, HttpClient};

/// What ours have that CometBFT 0.38's captured ones have not, and the other way round, with the reason.
const DIFFERENCES: &[(&str, &str)] = &[
    // Ours, beside CometBFT's fields; clients ignore what they do not know.
    ("status.json", "+result.tercet_version"),
    // What the genesis has beyond CometBFT's format.
    ("genesis.json", "+result.genesis.tercet"),
    // The capture is of a version whose application gave its hash at `Commit`.
    ("block_results_at_height_10.json", "result.app_hash: null/string"),
];

fn vectors() -> Option<PathBuf> {
    let folder = std::env::var_os("TERCET_VECTORS");
    if folder.is_none() {
        println!("nothing is compared: TERCET_VECTORS is not set");
    }
    folder.map(|folder| PathBuf::from(folder).join("rpc"))
}

fn read(folder: &str, name: &str) -> Option<Value> {
    let text = std::fs::read_to_string(vectors()?.join(folder).join(name)).ok()?;
    Some(serde_json::from_str(&text).expect("JSON"))
}

/// The ways in which `ours` is of another shape: `+path` for what is more, `-path` for what is missing, `path: a/b` for another kind.
/// Of lists the first elements are compared.
fn differences(path: &str, theirs: &Value, ours: &Value, found: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for (name, value) in theirs {
                match ours.get(name) {
                    Some(own) => differences(&format!("{path}.{name}"), value, own, found),
                    None => found.push(format!("-{path}.{name}")),
                }
            }
            let more = ours.keys().filter(|name| !theirs.contains_key(*name));
            found.extend(more.map(|name| format!("+{path}.{name}")));
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            if let (Some(theirs), Some(ours)) = (theirs.first(), ours.first()) {
                differences(&format!("{path}[]"), theirs, ours, found);
            }
        }
        _ if kind(theirs) == kind(ours) => {}
        _ => found.push(format!("{path}: {}/{}", kind(theirs), kind(ours))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

fn compare(name: &str, ours: &Value) {
    let Some(mut theirs) = read("incoming", name) else { return };
    let mut ours = ours.clone();
    for reply in [&mut theirs, &mut ours] {
        reply["id"] = Value::Null;
    }
    if name.starts_with("subscribe_") && theirs["result"]["data"].is_object() {
        // Which keys an application's events have is the application's.
        theirs["result"]["events"] = ours["result"]["events"].clone();
    }
    let mut found = Vec::new();
    differences("", &theirs, &ours, &mut found);
    let found = found.into_iter().map(|path| path.replacen('.', "", 1));
    let found = found.map(|path| format!("{name}: {path}"));
    FOUND.lock().expect("nobody panics under it").extend(found);
}

/// What is found, over all replies.
static FOUND: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

/// The request of a captured reply, for this chain.
fn request(name: &str) -> Option<Value> {
    let mut request = read("outgoing", name)?;
    if request["params"].is_null() {
        request["params"] = json!({});
    }
    Some(request)
}

#[test]
fn replies_have_the_shape_of_comets() {
    let Some(folder) = vectors() else { return };
    let net = Net::start(1);
    run(async {
        let client = net.client(0).await;
        let address = net.nodes[0].rpc_address().expect("a port");
        let mut socket = Socket::open(address).await;
        let mut left: BTreeSet<String> = std::fs::read_dir(folder.join("incoming"))
            .expect("the vectors")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        until_height(&client, 11).await;
        for kind in ["txs", "newblock"] {
            let name = format!("subscribe_{kind}.json");
            events(&client, kind, address).await;
            left.retain(|other| {
                *other != name && !other.starts_with(&format!("subscribe_{kind}_"))
            });
        }
        // Evidence: held by a test beside the shapes.
        left.remove("block_search_evidence.json");
        // Transactions first: `tx_search` finds them.
        let (first, last): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|name| name.starts_with("broadcast"));
        for name in first.into_iter().chain(last) {
            let mut request = request(&name).unwrap_or_else(|| panic!("{name} has no request"));
            if name == "block_by_hash.json" {
                let block = client.block(10u32).await.expect("the block");
                request["params"] = json!({"hash": base64(block.block_id.hash.as_bytes())});
            }
            if name == "block_results_at_height_10.json" {
                // One without transactions, as the one that was captured.
                request["params"] = json!({"height": empty_block(&client).await.to_string()});
            }
            socket.send(request.to_string()).await;
            let ours = socket.next().await;
            compare(&name, &ours);
        }
    });
    let found = FOUND.lock().expect("nobody panics under it");
    let (known, others): (Vec<&String>, Vec<&String>) = found.iter().partition(|path| {
        DIFFERENCES.iter().any(|(file, known)| **path == format!("{file}: {known}"))
    });
    assert!(others.is_empty(), "{others:#?}");
    assert_eq!(known.len(), DIFFERENCES.len(), "only {known:#?} are there still");
}

/// The height of a block without transactions: one comes once all are executed, and proves the application hash.
async fn empty_block(client: &HttpClient) -> u64 {
    loop {
        let block = client.latest_block().await.expect("a block").block;
        if block.data.is_empty() {
            return block.header.height.value();
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

async fn until_height(client: &HttpClient, height: u64) {
    for at in 0.. {
        let reply = client.broadcast_tx_commit(format!("height{at}=v")).await.expect("an answer");
        if reply.height.value() >= height {
            return;
        }
    }
}

/// Subscriptions: each kind of event against all captures of it, while the captured transactions are sent.
async fn events(client: &HttpClient, kind: &str, address: std::net::SocketAddr) {
    let mut socket = Socket::open(address).await;
    let name = format!("subscribe_{kind}.json");
    let call = request(&name).expect("a request");
    socket.send(call.to_string()).await;
    // The capture has the result alone.
    assert_eq!(socket.next().await["result"], json!({}));
    if kind == "txs" {
        for number in 0..6 {
            // One after the other, so that each is the first of its block.
            let name = format!("subscribe_txs_broadcast_tx_{number}.json");
            let send = request(&name).expect("a request");
            compare(&name, &ask(address, &send).await);
            compare(&format!("subscribe_txs_{}.json", number.min(4)), &socket.next().await);
        }
        return;
    }
    for number in 0..5 {
        client.broadcast_tx_sync(format!("more{number}=v")).await.expect("an answer");
        let mut event = socket.next().await;
        // Blocks without transactions, as those that were captured.
        let block = &mut event["result"]["data"]["value"];
        block["block"]["data"]["txs"] = json!([]);
        block["result_finalize_block"].as_object_mut().expect("results").remove("tx_results");
        compare(&format!("subscribe_newblock_{number}.json"), &event);
    }
}

async fn ask(address: std::net::SocketAddr, request: &Value) -> Value {
    let mut socket = Socket::open(address).await;
    socket.send(request.to_string()).await;
    socket.next().await
}
