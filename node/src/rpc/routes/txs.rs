//! Transactions: into the pool and, with `broadcast_tx_commit`, on into a block.

use super::super::json::abci::{CommitReply, TxResult};
use super::super::json::node::UnconfirmedReply;
use super::super::json::{Base64Text, Hex, Text, append_hex, append_text};
use super::super::params::Args;
use super::super::replies::Room;
use super::super::server::Api;
use super::super::sources::HashedTx;
use super::super::waiters::Waiter;
use super::{Answer, per_page};
use bytes::Bytes;
use std::io::Write as _;
use tendermint_proto::v0_38::abci::{ExecTxResult, ResponseCheckTx};

pub(super) async fn check(api: &Api, tx: Bytes) -> Result<Answer, String> {
    let check = api.bounded(api.sources.app.check_tx(tx)).await??;
    Answer::new(&TxResult::from(check))
}

/// `broadcast_tx_sync`, the path of most transactions: appends the result to `out`.
///
/// # Errors
/// Where the pool refuses.
pub(crate) async fn broadcast_sync(api: &Api, tx: Bytes, out: &mut Vec<u8>) -> Result<(), String> {
    let tx = HashedTx::new(tx);
    let hash = *tx.hash();
    let check = api.bounded(api.sources.pool.check_tx(tx)).await?;
    append_broadcast(out, &check.map_err(|error| error.to_string())?, &hash);
    Ok(())
}

pub(super) fn broadcast_async(api: &Api, tx: Bytes) -> Result<Answer, String> {
    let tx = HashedTx::new(tx);
    let hash = *tx.hash();
    api.sources.pool.submit(tx).map_err(|error| error.to_string())?;
    let mut json = Vec::new();
    append_broadcast(&mut json, &ResponseCheckTx::default(), &hash);
    Ok(Answer { json, cacheable: false, room: Room::default() })
}

fn append_broadcast(out: &mut Vec<u8>, check: &ResponseCheckTx, hash: &[u8; 32]) {
    write!(out, "{{\"code\":{},\"data\":", check.code).expect("writing to memory succeeds");
    append_hex(out, &check.data);
    out.extend_from_slice(b",\"log\":");
    append_text(out, &check.log);
    out.extend_from_slice(b",\"codespace\":");
    append_text(out, &check.codespace);
    out.extend_from_slice(b",\"hash\":");
    append_hex(out, hash);
    out.push(b'}');
}

pub(super) async fn broadcast_commit(api: &Api, tx: Bytes) -> Result<Answer, String> {
    let tx = HashedTx::new(tx);
    let hash = *tx.hash();
    let (check, result, height) = commit(api, tx).await?;
    let (check_tx, tx_result, hash) = (check.into(), result.into(), Hex(hash));
    Answer::new(&CommitReply { check_tx, tx_result, hash, height: Text(height) })
}

/// What the application said of a transaction, and what came of it in the block at a height; nothing where it was refused.
///
/// # Errors
/// Where the pool refuses, or no block has it in time.
pub(crate) async fn commit(
    api: &Api,
    tx: HashedTx,
) -> Result<(ResponseCheckTx, ExecTxResult, u64), String> {
    let hash = *tx.hash();
    let count_max = api.limits.max_subscription_clients;
    // Before the pool has it, so that no block can overtake the registration.
    let waiter = api
        .sources
        .waiters
        .wait(hash, count_max)
        .ok_or_else(|| format!("max_subscription_clients {count_max} reached"))?;
    let check = api.bounded(api.sources.pool.check_tx(tx)).await?;
    let check = check.map_err(|error| format!("error on broadcastTxCommit: {error}"))?;
    let (result, height) = match check.code {
        0 => committed(api, waiter, &hash).await?,
        _ => (ExecTxResult::default(), 0),
    };
    Ok((check, result, height))
}

async fn committed(
    api: &Api,
    mut waiter: Waiter,
    hash: &[u8; 32],
) -> Result<(ExecTxResult, u64), String> {
    let limit = api.limits.timeout_broadcast_tx_commit;
    match tokio::time::timeout(limit, waiter.committed()).await {
        Ok(Some(committed)) => Ok((committed.result, committed.height.value())),
        Ok(None) => Err("the node stops".to_owned()),
        Err(_) => {
            let stands = match api.sources.pool.holds(hash) {
                Some(true) => ": it is still in the mempool",
                Some(false) => {
                    ": it is in the mempool no more; the application may have changed or dropped it"
                }
                None => "",
            };
            Err(format!("timed out waiting for tx to be included in a block{stands}"))
        }
    }
}

pub(super) fn count_unconfirmed(api: &Api) -> Result<Answer, String> {
    let stats = api.sources.pool.stats();
    Answer::new(&UnconfirmedReply {
        n_txs: Text(stats.count),
        total: Text(stats.count),
        total_bytes: Text(stats.total_bytes),
        txs: None,
    })
}

pub(super) async fn unconfirmed(api: &Api, args: &Args) -> Result<Answer, String> {
    let txs = api.bounded(api.sources.pool.first(per_page(args.int(0)))).await?;
    let stats = api.sources.pool.stats();
    Answer::new(&UnconfirmedReply {
        n_txs: Text(txs.len()),
        total: Text(stats.count),
        total_bytes: Text(stats.total_bytes),
        txs: Some(txs.into_iter().map(Base64Text).collect()),
    })
}
