//! Where the node stands: the engine's snapshot, the chain's state and the blocks at both ends of the store in one.

use crate::audit::{Audit, Counter};
use crate::engine::run::Snapshot as EngineSnapshot;
use crate::network::{Class, NodeId};
use crate::rpc::sources::{
    self, DiscardedSeen, NodeInfo, PbftState, RoundSeen, Snapshot, Tip, ValidatorSeen,
};
use crate::store::{Chain, State, StoreError};
use arc_swap::{ArcSwap, ArcSwapOption};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tendermint::block::Height;
use tercet_consensus::key::{Address, PublicKey};
use tercet_consensus::power;
use tercet_consensus::validators::Validators;
use tercet_consensus::view::View;

/// The most counters of discarded messages that are shown, the largest first.
const DISCARDED_MAX: usize = 100;

/// Why the node works no more, where that is so. A handle: clones share it.
#[derive(Clone, Debug, Default)]
pub struct Fault(Arc<ArcSwapOption<String>>);

impl Fault {
    /// Says what is wrong; `/healthz` answers 503 with it from now on.
    pub fn set(&self, reason: String) {
        self.0.store(Some(Arc::new(reason)));
    }
}

/// What [`Status`] is made of.
#[derive(Clone, Debug)]
pub struct StatusParts {
    /// What never changes.
    pub node: Arc<NodeInfo>,
    /// This node's consensus key.
    pub key: PublicKey,
    /// The chain.
    pub chain: Chain,
    /// What the engine publishes.
    pub engine: Arc<ArcSwap<EngineSnapshot>>,
    /// Why the node works no more.
    pub fault: Fault,
    /// What was thrown away.
    pub audit: Audit,
}

/// Puts the snapshot together whenever somebody asks, so that nothing has to be published a block.
#[derive(Clone, Debug)]
pub struct Status(StatusParts);

impl Status {
    /// The status of the node made of these parts.
    #[must_use]
    pub fn new(parts: StatusParts) -> Status {
        Status(parts)
    }

    fn read(&self) -> Result<Snapshot, StoreError> {
        let StatusParts { node, key, chain, engine, fault, audit: _ } = &self.0;
        let engine = engine.load();
        let state = chain.state()?;
        let power = |set: &Validators| {
            let index = set.index_of(&key.address());
            index.map_or(0, |index| set.power_at(index))
        };
        Ok(Snapshot {
            node: Arc::clone(node),
            app_version: state.as_ref().map_or(0, |state| state.app_version),
            catching_up: engine.behind,
            earliest: chain.base().map(|base| tip_at(chain, base)).transpose()?.flatten(),
            latest: state.as_ref().map(|state| latest(chain, state)).transpose()?.flatten(),
            key: *key,
            power: state.as_ref().map_or(0, |state| power(&state.validators)),
            pbft: pbft(chain, &engine, state.as_ref(), key.address())?,
            fault: fault.0.load().as_deref().cloned(),
        })
    }
}

impl sources::Status for Status {
    fn snapshot(&self) -> Result<Arc<Snapshot>, String> {
        self.read().map(Arc::new).map_err(|error| error.to_string())
    }

    fn discarded(&self) -> Vec<DiscardedSeen> {
        let counts = self.0.audit.shown();
        let mut largest: Vec<(&Counter, &u64)> = counts.iter().collect();
        largest.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        // A node id is made of a key that has to be decoded: for those that are shown alone, as there may be thousands.
        let shown = largest.into_iter().take(DISCARDED_MAX);
        let seen = shown.map(|((reason, peer, class), count)| DiscardedSeen {
            reason,
            class: class.map(Class::name),
            peer: peer.and_then(|peer| NodeId::of_peer(&peer)).map(|node| node.to_string()),
            count: *count,
        });
        seen.collect()
    }
}

fn tip_at(chain: &Chain, height: Height) -> Result<Option<Tip>, StoreError> {
    let meta = chain.meta(height)?;
    Ok(meta.map(|meta| Tip {
        hash: meta.block_id.hash,
        app_hash: meta.header.app_hash.as_bytes().to_vec(),
        height,
        time: meta.header.time,
    }))
}

/// The last applied block. A node that began behind it has no header of it, and then no application hash to show.
fn latest(chain: &Chain, state: &State) -> Result<Option<Tip>, StoreError> {
    let (Some(height), Some(id)) = (state.last_height, &state.last_block_id) else {
        return Ok(None);
    };
    let bare = || Tip { hash: id.hash, app_hash: vec![], height, time: state.last_block_time };
    Ok(Some(tip_at(chain, height)?.unwrap_or_else(bare)))
}

fn pbft(
    chain: &Chain,
    engine: &EngineSnapshot,
    state: Option<&State>,
    me: Address,
) -> Result<PbftState, StoreError> {
    let applied = state.map_or(Height::from(1u32), State::next_height);
    // The engine says height 0 before its start.
    let height = Height::try_from(engine.height).ok().filter(|height| height.value() > 0);
    let height = height.unwrap_or(applied);
    let set = chain.validators(height)?;
    let total_power = set.as_ref().map_or(0, |set| set.total_power());
    let connected: HashSet<Address> = engine.connected.iter().copied().collect();
    let seen = |member: &tercet_consensus::validators::Validator| ValidatorSeen {
        address: member.address,
        power: member.power,
        connected: member.address == me || connected.contains(&member.address),
    };
    let view = |number| View::new(number).unwrap_or(View::MAX);
    Ok(PbftState {
        height,
        view: view(engine.view),
        primary: engine.primary,
        promise: engine.promise.map(view),
        start_view: view(engine.start_view),
        prepared: engine.prepared.map(|(number, hash)| (view(number), hash)),
        hold: engine.hold,
        clock_off_secs: engine.clock_off_secs,
        view_changes: engine.view_changes,
        total_power,
        f: total_power.saturating_sub(1) / 3,
        quorum: power::quorum(total_power),
        timeout: Duration::from_millis(engine.timeout_ms),
        round: RoundSeen {
            step: engine.step,
            since: engine.since,
            accepted: engine.accepted,
            votes: engine.votes.clone(),
        },
        validators: set.iter().flat_map(|set| set.list()).map(seen).collect(),
    })
}
