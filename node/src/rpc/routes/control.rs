//! What changes the node: only where `rpc.unsafe` allows it (CometBFT `rpc/core/net.go`, `rpc/core/dev.go`).

use super::super::params::Args;
use super::super::replies::Room;
use super::super::server::Api;
use super::super::sources::DialHow;
use super::Answer;
use serde::Serialize;

/// Reply of `dial_seeds` and `dial_peers`.
#[derive(Serialize)]
struct Dialling {
    log: &'static str,
}

pub(super) fn dial_seeds(api: &Api, args: &Args) -> Result<Answer, String> {
    let seeds = args.texts(0);
    if seeds.is_empty() {
        return Err("no seeds provided".to_owned());
    }
    api.sources.net.dial(seeds, DialHow::default())?;
    Answer::new(&Dialling { log: "Dialing seeds in progress. See /net_info for details" })
}

pub(super) fn dial_peers(api: &Api, args: &Args) -> Result<Answer, String> {
    let peers = args.texts(0);
    if peers.is_empty() {
        return Err("no peers provided".to_owned());
    }
    let how = DialHow {
        persistent: args.is_true(1),
        unconditional: args.is_true(2),
        private: args.is_true(3),
    };
    api.sources.net.dial(peers, how)?;
    Answer::new(&Dialling { log: "Dialing peers in progress. See /net_info for details" })
}

pub(super) async fn flush_mempool(api: &Api) -> Result<Answer, String> {
    api.bounded(api.sources.pool.flush()).await??;
    Ok(Answer { json: b"{}".to_vec(), cacheable: false, room: Room::default() })
}
