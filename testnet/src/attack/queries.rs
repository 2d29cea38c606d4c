//! T-144: queries of the application, as many as an explorer's users ask on a busy day, all of them of one node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Blows;
use super::peer::Attacker;
use crate::load::http::{Connection, post};
use crate::load::report::Quantiles;
use crate::load::ticks;
use crate::rpc::{COMMIT_TIMEOUT, Rpc, host_port};

/// Queries a second.
pub(super) const RATE: u64 = 5_000;
/// The least share of them that are answered.
const ANSWERED_SHARE_MIN: f64 = 0.9;
/// Connections, each with one query under way.
const CONNECTIONS: usize = 32;
/// Bytes of the value that each query reads.
const VALUE_BYTES: usize = 10_000;
/// The key that it is under.
const KEY: &str = "heavy";
/// Patience with an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the connections share.
struct Plan {
    address: String,
    request: Vec<u8>,
    start: Instant,
    until: Instant,
    next: AtomicU64,
}

pub(super) async fn flood(attacker: &Attacker, until: Instant) -> anyhow::Result<Blows> {
    store(&attacker.rpc).await?;
    let address = host_port(&attacker.rpc)?;
    let query = json!({"jsonrpc": "2.0", "id": 1, "method": "abci_query",
        "params": {"data": hex::encode(KEY)}});
    let request = post(&address, query.to_string().as_bytes());
    let next = AtomicU64::new(0);
    let plan = Arc::new(Plan { address, request, start: Instant::now(), until, next });
    let asking = (0..CONNECTIONS).map(|_| tokio::spawn(ask(plan.clone())));
    let mut blows = Blows::default();
    let mut took = Vec::new();
    for asked in futures::future::join_all(asking).await {
        let (answers, failure) = asked?;
        took.extend(answers);
        blows.failures.extend(failure.map(|error| format!("a query failed: {error:#}")));
    }
    let seconds = plan.start.elapsed().as_secs_f64();
    let (answered, due) = (took.len() as f64, RATE as f64 * seconds);
    blows.connections = CONNECTIONS as u64;
    blows.messages = took.len() as u64;
    blows.bytes = blows.messages * plan.request.len() as u64;
    if answered < due * ANSWERED_SHARE_MIN {
        blows.failures.push(format!("{answered} of {due:.0} queries were answered"));
    }
    let mut more = |name: &str, figure: f64| blows.more.insert(name.to_owned(), figure);
    more("queries answered a second", answered / seconds);
    if let Some(took) = Quantiles::of_ticks(took) {
        more("answer of a query, p50 in ms", took.p50_ms);
        more("answer of a query, p99 in ms", took.p99_ms);
    }
    Ok(blows)
}

/// Puts the value there.
async fn store(rpc: &str) -> anyhow::Result<()> {
    let tx = STANDARD.encode(format!("{KEY}={}", "v".repeat(VALUE_BYTES)));
    let mut rpc = Rpc::new(rpc).patient(COMMIT_TIMEOUT);
    let done: Value = rpc.call("broadcast_tx_commit", json!({"tx": tx})).await?;
    ensure!(done["tx_result"]["code"] == 0, "the application does not take key=value: {done}");
    Ok(())
}

/// One connection: how long its answers took, and what ended it early.
async fn ask(plan: Arc<Plan>) -> (Vec<u32>, Option<anyhow::Error>) {
    let mut took = Vec::new();
    let failure = ask_until(&plan, &mut took).await.err();
    (took, failure)
}

async fn ask_until(plan: &Plan, took: &mut Vec<u32>) -> anyhow::Result<()> {
    let mut connection = Connection::open(&plan.address).await?;
    loop {
        let number = plan.next.fetch_add(1, Ordering::Relaxed);
        let due = plan.start + Duration::from_nanos(number * (1_000_000_000 / RATE));
        if due >= plan.until {
            return Ok(());
        }
        tokio::time::sleep_until(due.into()).await;
        let asked = Instant::now();
        let exchange = tokio::time::timeout(PATIENCE, connection.exchange(&plan.request)).await;
        let (status, body) = exchange.context("no answer in time")??;
        ensure!(status == 200 && body.len() > VALUE_BYTES, "status {status}, {} bytes", body.len());
        took.push(ticks(asked, Instant::now()));
    }
}
