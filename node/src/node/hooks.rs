//! How the executor reaches the rest of the node.

use super::pruner::Pruner;
use crate::engine::Event;
use crate::events::Follow;
use crate::evidence::Evidence;
use crate::execution::{Done, Hooks, block};
use crate::mempool::{Committed, Mempool};
use crate::rpc::Waiters;
use crossbeam_channel::Sender;
use std::sync::Arc;
use tercet_consensus::key::Address;

/// Whom the executor talks to.
pub(super) struct Around<'a> {
    pub(super) events: &'a Sender<Event>,
    pub(super) me: Address,
    pub(super) mempool: &'a Mempool,
    pub(super) waiters: &'a Waiters,
    pub(super) evidence: &'a Evidence,
    pub(super) follow: Follow,
}

pub(super) fn hooks(around: Around<'_>, pruner: Pruner) -> Hooks {
    let (events, me) = (around.events.clone(), around.me);
    let (reaping, committing) = (around.mempool.clone(), around.mempool.clone());
    let (holding, releasing) = (around.mempool.clone(), around.mempool.clone());
    let (pending, moving) = (around.evidence.clone(), around.evidence.clone());
    let (waiters, follow) = (around.waiters.clone(), around.follow);
    Hooks {
        reap: Box::new(move |bytes, gas| {
            reaping.reap(u64::try_from(bytes).unwrap_or(u64::MAX), gas)
        }),
        hold: Box::new(move || holding.hold()),
        release: Box::new(move || releasing.release()),
        // Fails only while the node is stopping.
        done: Box::new(move |done: Done| drop(events.send(Event::Executed(Box::new(done))))),
        committed: Box::new(move |block, applied| {
            waiters.publish(block, &applied.results);
            follow.executed(block, applied);
            moving.moved();
            committing.gas_max(applied.state.params.block.max_gas);
            committing.committed(Committed {
                block: Arc::clone(block),
                codes: applied.results.tx_results.iter().map(|result| result.code).collect(),
                block_bytes_max: block::block_bytes_max(&applied.state.params),
                mine: block.header().proposer_address == me,
            });
        }),
        evidence: Box::new(move || pending.pending()),
        retain: Box::new(move |height| pruner.retain(height)),
    }
}
