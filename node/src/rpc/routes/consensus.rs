//! Where consensus stands, in CometBFT's shape: the view as round, PREPARE as prevote, COMMIT as precommit. Read from the engine's last
//! snapshot and the chain; the engine is not asked.

use super::super::json::consensus::{ConsensusReply, DumpReply, Seen};
use super::super::server::Api;
use super::Answer;
use tendermint::block::Height;

/// What both routes show.
fn seen(api: &Api) -> Result<Seen, String> {
    let (status, blocks) = (api.sources.status.snapshot()?, &api.sources.blocks);
    let height = status.pbft.height;
    let before = Height::try_from(height.value().saturating_sub(1)).ok();
    let before = before.filter(|before| before.value() > 0);
    let validators = blocks.validators(height)?;
    let last_validators = before.map(|before| blocks.validators(before)).transpose()?.flatten();
    let last_commit = before.map(|before| blocks.seen_commit(before)).transpose()?.flatten();
    Ok(Seen { pbft: status.pbft.clone(), validators, last_validators, last_commit })
}

pub(super) fn consensus_state(api: &Api) -> Result<Answer, String> {
    Answer::new(&ConsensusReply::new(&seen(api)?))
}

pub(super) fn dump(api: &Api) -> Result<Answer, String> {
    let peers = api.sources.net.peers();
    Answer::new(&DumpReply::new(&seen(api)?, &peers))
}
