//! What the node says of itself.

use super::super::json::chain::ChunkReply;
use super::super::json::node::{NetInfoReply, PbftReply, StatusReply};
use super::super::json::{Base64Text, Text};
use super::super::params::Args;
use super::super::replies::Room;
use super::super::server::Api;
use super::Answer;

/// The size of a piece of the genesis document, and the most that `genesis` answers (CometBFT `rpc/core/env.go`).
pub(crate) const GENESIS_CHUNK_BYTES: usize = 16 << 20;

pub(super) fn status(api: &Api) -> Result<Answer, String> {
    let snapshot = api.sources.status.snapshot()?;
    Answer::new(&StatusReply::from(&*snapshot))
}

pub(super) fn net_info(api: &Api) -> Result<Answer, String> {
    let snapshot = api.sources.status.snapshot()?;
    let peers = api.sources.net.peers();
    Answer::new(&NetInfoReply::new(api.sources.net.listening(), &snapshot, &peers))
}

pub(super) fn pbft_state(api: &Api) -> Result<Answer, String> {
    let snapshot = api.sources.status.snapshot()?;
    Answer::new(&PbftReply::new(&snapshot.pbft, api.sources.status.discarded()))
}

pub(super) fn genesis(api: &Api) -> Result<Answer, String> {
    if api.genesis_json.len() > GENESIS_CHUNK_BYTES {
        return Err("genesis response is large, please use the genesis_chunked API instead".into());
    }
    let json = [b"{\"genesis\":", &api.genesis_json[..], b"}"].concat();
    Ok(Answer { json, cacheable: true, room: Room::default() })
}

pub(super) fn genesis_chunked(api: &Api, args: &Args) -> Result<Answer, String> {
    let mut chunks = api.genesis_json.chunks(GENESIS_CHUNK_BYTES);
    let total = chunks.len();
    let asked = args.int(0).unwrap_or(0);
    let invalid = || format!("there are {} chunks, {asked} is invalid", total.saturating_sub(1));
    let number = usize::try_from(asked).map_err(|_| invalid())?;
    let data = chunks.nth(number).ok_or_else(invalid)?;
    let reply = ChunkReply { chunk: Text(number), total: Text(total), data: Base64Text(data) };
    Ok(Answer::new(&reply)?.cacheable(true))
}
