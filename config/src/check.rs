//! What no key of the configuration can check alone. Source: CometBFT `config.go` `ValidateBasic`.

use crate::config::{Config, ConsensusConfig, RpcConfig};
use crate::value::Setting;
use std::time::Duration;

/// No timeout of consensus may be longer: a chain that waits longer for a dead primary stands still.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// The smallest buffer of a WebSocket in events (CometBFT `config/config.go`, `minSubscriptionBufferSize`).
const BUFFER_MIN: usize = 100;
/// The largest.
const BUFFER_MAX: usize = 100_000;

pub(crate) fn check(config: &Config) -> Result<(), String> {
    if !config.priv_validator_laddr.is_empty() {
        return Err("priv_validator_laddr: remote signers are not supported yet; remove it and use priv_validator_key_file".into());
    }
    at_least_one("mempool.size", config.mempool.size)?;
    at_least_one("mempool.max_tx_bytes", config.mempool.max_tx_bytes)?;
    at_least_one("consensus.max_batch_size", config.consensus.max_batch_size)?;
    at_least_one("rpc.max_body_bytes", config.rpc.max_body_bytes)?;
    at_least_one("rpc.max_header_bytes", config.rpc.max_header_bytes)?;
    buffers(&config.rpc)?;
    tls(&config.rpc)?;
    let (one, all) = (config.mempool.max_tx_bytes, config.mempool.max_txs_bytes);
    if u64::try_from(one).unwrap_or(u64::MAX) > all {
        return Err(format!("mempool.max_tx_bytes ({one}) is above mempool.max_txs_bytes ({all})"));
    }
    for (key, value) in [
        ("rpc.timeout_broadcast_tx_commit", config.rpc.timeout_broadcast_tx_commit),
        ("p2p.handshake_timeout", config.p2p.handshake_timeout),
        ("p2p.dial_timeout", config.p2p.dial_timeout),
    ] {
        above_zero(key, value)?;
    }
    if config.p2p.laddr.host_port().is_none() {
        return Err("p2p.laddr: peers need a port; write \"tcp://host:port\"".into());
    }
    timeouts(&config.consensus)
}

/// CometBFT's bounds of the buffers of WebSockets, and one above.
fn buffers(rpc: &RpcConfig) -> Result<(), String> {
    let (events, writes) = (rpc.subscription_buffer_size, rpc.websocket_write_buffer_size);
    if !(BUFFER_MIN..=BUFFER_MAX).contains(&events) {
        return Err(format!(
            "rpc.experimental_subscription_buffer_size must be from {BUFFER_MIN} to {BUFFER_MAX}"
        ));
    }
    if !(events..=BUFFER_MAX).contains(&writes) {
        return Err(format!(
            "rpc.experimental_websocket_write_buffer_size must be from {events}, which is rpc.experimental_subscription_buffer_size, to \
             {BUFFER_MAX}"
        ));
    }
    Ok(())
}

/// CometBFT speaks plain HTTP where one of the two is missing, which nobody means.
fn tls(rpc: &RpcConfig) -> Result<(), String> {
    let given = |path: &std::path::Path| !path.as_os_str().is_empty();
    match (given(&rpc.tls_cert_file), given(&rpc.tls_key_file)) {
        (true, false) => Err("rpc.tls_cert_file needs rpc.tls_key_file too".into()),
        (false, true) => Err("rpc.tls_key_file needs rpc.tls_cert_file too".into()),
        _ => Ok(()),
    }
}

fn at_least_one(key: &str, value: usize) -> Result<(), String> {
    if value == 0 { Err(format!("{key} must be 1 or more")) } else { Ok(()) }
}

fn above_zero(key: &str, value: Duration) -> Result<(), String> {
    if value.is_zero() { Err(format!("{key} must be above 0")) } else { Ok(()) }
}

fn timeouts(consensus: &ConsensusConfig) -> Result<(), String> {
    let initial = ("consensus.view_change_timeout", consensus.view_change_timeout);
    let floor = ("consensus.view_change_timeout_floor", consensus.view_change_timeout_floor);
    let ceiling = ("consensus.view_change_timeout_ceiling", consensus.view_change_timeout_ceiling);
    above_zero(floor.0, floor.1)?;
    for (low, high) in [(floor, initial), (initial, ceiling)] {
        if low.1 > high.1 {
            let (low_value, high_value) = (low.1.write(), high.1.write());
            return Err(format!("{} ({low_value}) is above {} ({high_value})", low.0, high.0));
        }
    }
    for (key, value) in [
        ceiling,
        ("consensus.commit_grace", consensus.commit_grace),
        ("consensus.disconnect_grace", consensus.disconnect_grace),
        ("consensus.proof_block_delay", consensus.proof_block_delay),
    ] {
        if value > TIMEOUT_MAX {
            return Err(format!("{key} ({}) is above 10 minutes", value.write()));
        }
    }
    if consensus.commit_grace >= floor.1 {
        return Err(format!(
            "consensus.commit_grace ({}) must be below {} ({})",
            consensus.commit_grace.write(),
            floor.0,
            floor.1.write()
        ));
    }
    Ok(())
}
