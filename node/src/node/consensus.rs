//! The engine, put together.

use super::ends::with_causes;
use super::probed::Probed;
use super::{End, Settings};
use crate::audit::Audit;
use crate::engine::EngineError;
use crate::engine::heights::Sets;
use crate::engine::journaled::{Journaled, Parts as JournaledParts};
use crate::engine::outside::{Now, WatermarkFile};
use crate::engine::pace::Pace;
use crate::engine::run::{Engine, Parts, Pool, Primary, Snapshot};
use crate::engine::signer::{LocalSigner, Signer as _};
use crate::events::Tell;
use crate::evidence::Evidence;
use crate::execution::{Job, State};
use crate::mempool::{Mempool, RelayMap};
use crate::network::Network;
use crate::store::{Chain, Journal};
use crate::sync::SyncHandle;
use anyhow::Context as _;
use arc_swap::ArcSwap;
use crossbeam_channel::Sender;
use std::sync::Arc;
use tendermint::block::Height;
use tercet_consensus::replica::{HeightStart, Replica, Settings as ReplicaSettings};

/// What the engine starts from.
pub(super) struct Start<'a> {
    pub(super) settings: &'a Settings,
    pub(super) journal: Journal,
    pub(super) chain: Chain,
    pub(super) sets: Sets,
    pub(super) state: &'a State,
    pub(super) signer: LocalSigner,
    pub(super) network: Network,
    pub(super) jobs: Sender<Job>,
    pub(super) mempool: Mempool,
    pub(super) sync: SyncHandle,
    pub(super) audit: Audit,
    pub(super) evidence: Evidence,
    pub(super) stale_until: Option<Height>,
    pub(super) relay: RelayMap,
    pub(super) tell: Tell,
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
}

/// The engine at the height after the state.
pub(super) fn engine(start: Start<'_>) -> anyhow::Result<Engine> {
    let Start { settings, state, sets, chain, .. } = start;
    let height = state.next_height();
    let info = sets.at(height).context("the validators of the next height are known")?;
    let prior = match state.last_height {
        Some(last) => Some(chain.seen_commit(last)?.with_context(|| {
            format!("the commit of block {last} is not stored: restore the chain, or reset it to fetch it from peers")
        })?),
        None => None,
    };
    let before = state.last_height.and_then(|last| sets.at(last));
    let had_extensions = before.is_some_and(|before| before.extensions == Some(true));
    let height_start = HeightStart {
        height,
        validators: info.validators.clone(),
        schedule: info.schedule.clone(),
        prior,
        extensions: info.extensions == Some(true),
        prior_extensions: had_extensions,
    };
    let me = start.signer.address();
    let pace = Pace::new(settings.pace);
    let replica_settings = ReplicaSettings {
        me: Some(me),
        commit_grace: settings.pace.grace,
        disconnect_grace: settings.disconnect_grace,
        timeout: pace.timeout(),
    };
    let core = Journaled::new(JournaledParts {
        replica: Replica::new(replica_settings, height_start),
        journal: Box::new(Probed { journal: start.journal, probe: settings.probe.clone() }),
        signer: Some(Box::new(start.signer)),
        chain_id: settings.chain.id().to_owned(),
        watermark: Box::new(WatermarkFile(settings.sign_state.clone())),
    });
    let parts = Parts {
        core,
        sets,
        chain: Box::new(chain),
        network: Box::new(start.network),
        jobs: start.jobs,
        pool: Arc::new(start.mempool),
        sync: Box::new(start.sync),
        audit: start.audit,
        evidence: Box::new(move |votes| start.evidence.votes(votes)),
        pace,
        work: settings.work.clone(),
        stale_until: start.stale_until,
        relay: start.relay,
        tell: start.tell,
        snapshot: start.snapshot,
    };
    Ok(Engine::new(parts, Some(me), state.last_height, Now::read()))
}

/// Why the engine ended, for the process.
pub(super) fn end(error: EngineError) -> End {
    let mut text = with_causes(&error);
    if let EngineError::Journal(cause) | EngineError::Chain(cause) = &error
        && let Some(remedy) = cause.remedy()
    {
        text = format!("{text}: {remedy}");
    }
    match error {
        EngineError::Journal(_) | EngineError::Chain(_) | EngineError::Reservation(_) => {
            End::Disk(text)
        }
        EngineError::Execution(_) => End::Application(text),
        EngineError::Alarm(_) | EngineError::PartEnded(_) => End::Internal(text),
    }
}

impl Pool for Mempool {
    fn has_work(&self) -> bool {
        Mempool::has_work(self)
    }

    fn waiting(&self) -> usize {
        Mempool::waiting(self)
    }

    fn primary(&self, primary: Primary) {
        Mempool::primary(self, primary);
    }

    fn suspects(&self) -> bool {
        Mempool::suspects(self)
    }
}
