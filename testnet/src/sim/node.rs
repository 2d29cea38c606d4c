//! One node: the real engine with simulated surroundings.

use super::ahead::Ahead;
use super::application::App;
use super::disk::SharedDisk;
use super::keys::{CHAIN_ID, Late, SimSigner, key};
use super::network::{Out, SharedOutbox};
use super::plan::{NodePlan, Plan};
use super::pool::SimPool;
use super::rng::Rng;
use super::sync::SharedSync;
use super::{MS, Nanos};
use arc_swap::ArcSwap;
use crossbeam_channel::Receiver;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tendermint::block::Height;
use tercet_consensus::block::SealedBlock;
use tercet_consensus::message::SignedVote;
use tercet_consensus::replica::{HeightStart, Replica, Settings};
use tercet_node::audit::Audit;
use tercet_node::engine::heights::{Published, Sets};
use tercet_node::engine::journaled::{self, Journaled, Reservation, compare};
use tercet_node::engine::outside::{Blocks, Now};
use tercet_node::engine::pace::{Pace, PaceSettings};
use tercet_node::engine::run::{Engine, Parts, Snapshot};
use tercet_node::engine::work::WorkSettings;
use tercet_node::engine::{EngineError, Event};
use tercet_node::execution::{Job, State};
use tercet_node::mempool::RelayMap;
use tercet_node::store::StoreError;

/// The bounds of T, as a node has them where nothing else is configured.
pub(crate) const PACE: PaceSettings = PaceSettings {
    initial: Duration::from_secs(1),
    floor: Duration::from_millis(300),
    ceiling: Duration::from_secs(3),
    grace: Duration::from_millis(20),
};
const DISCONNECT_GRACE: Duration = Duration::from_millis(20);
const PROOF_BLOCK_DELAY: Duration = Duration::from_millis(100);

/// What waits for a sync.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Messages.
    pub(crate) outs: Vec<Out>,
    /// Decided blocks for the application.
    pub(crate) jobs: Vec<Job>,
}

/// Pairs of votes that an engine shows as offences.
pub(crate) type Accused = Arc<Mutex<Vec<(SignedVote, SignedVote)>>>;

/// A node.
pub(crate) struct Node {
    /// What it is like.
    pub(crate) plan: NodePlan,
    /// The engine; none while the process is down.
    pub(crate) engine: Option<Box<Engine>>,
    /// The heights that its messages are verified for.
    pub(crate) heights: Published,
    /// What it shows to others of the process.
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    /// Counts its lives, so that what was under way before a crash is lost.
    pub(crate) epoch: u32,
    /// Its disk.
    pub(crate) disk: SharedDisk,
    /// What its engine says.
    pub(crate) outbox: SharedOutbox,
    /// What its engine asks of the application.
    pub(crate) jobs: Receiver<Job>,
    /// Its catch-up.
    pub(crate) sync: SharedSync,
    /// Its pool.
    pub(crate) pool: Arc<SimPool>,
    /// Its application and chain.
    pub(crate) app: App,
    /// How often its signer fails, in a thousand.
    pub(crate) signer_faults: Arc<Mutex<(u64, Rng)>>,
    /// What its signer answers late.
    pub(crate) late: Late,
    /// Two votes of one validator that its engine has seen.
    pub(crate) accused: Accused,
    /// Events for the next turn.
    pub(crate) inbox: Vec<Event>,
    /// Until when it waits for its disk.
    pub(crate) busy_until: Nanos,
    /// Until when it does nothing.
    pub(crate) frozen_until: Nanos,
    /// What waits for its syncs, in order.
    pub(crate) batches: VecDeque<Batch>,
    /// How long each job takes at the moment, where the application is slow.
    pub(crate) slow_app: Option<Nanos>,
    /// Records that it has made durable.
    pub(crate) records: u64,
    /// It does not come back.
    pub(crate) dead: bool,
    /// Whether a look at its catch-up is planned.
    pub(crate) sync_turn: bool,
}

/// A chain database that the engine looks up decided blocks in: the world answers for it, from the application's chain.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedBlocks(Arc<Mutex<Vec<Arc<SealedBlock>>>>);

impl Blocks for SharedBlocks {
    fn block(&self, height: Height) -> Result<Option<Arc<SealedBlock>>, StoreError> {
        let blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(height.value().saturating_sub(1)).unwrap_or(usize::MAX);
        Ok(blocks.get(index).cloned())
    }
}

impl SharedBlocks {
    /// A block was executed.
    pub(crate) fn push(&self, block: Arc<SealedBlock>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(block);
    }
}

impl Node {
    /// A node with an empty disk, not running yet.
    pub(crate) fn new(plan: &Plan, node: NodePlan, genesis: &Arc<State>, rng: Rng) -> Node {
        let disk = SharedDisk::default();
        let me = key(node.key).address;
        Node {
            engine: None,
            heights: Sets::new(CHAIN_ID, plan.term, Height::from(1u32)).published(),
            snapshot: Arc::default(),
            epoch: 0,
            outbox: SharedOutbox::new(disk.clone()),
            disk,
            jobs: crossbeam_channel::unbounded().1,
            sync: SharedSync::default(),
            pool: Arc::default(),
            app: App::new(Arc::clone(genesis), me, Ahead::of(node.key)),
            signer_faults: Arc::new(Mutex::new((0, rng))),
            late: Late::default(),
            accused: Accused::default(),
            inbox: Vec::new(),
            busy_until: 0,
            frozen_until: 0,
            batches: VecDeque::new(),
            slow_app: None,
            records: 0,
            dead: false,
            sync_turn: false,
            plan: node,
        }
    }

    /// Whether its process runs.
    pub(crate) fn is_up(&self) -> bool {
        self.engine.is_some()
    }

    /// Starts the process from what is on its disk, as a node does.
    ///
    /// # Errors
    /// Why it cannot start.
    pub(crate) fn open(&mut self, plan: &Plan, now: Now) -> Result<(), EngineError> {
        self.app.begin();
        let state = self.app.state().clone();
        let mut sets = Sets::new(CHAIN_ID, plan.term, state.next_height());
        sets.start(&state);
        self.heights = sets.published();
        self.sync = SharedSync::default();
        self.snapshot = Arc::default();
        let (jobs, queue) = crossbeam_channel::unbounded();
        self.jobs = queue;
        let stale_until = self.watermark();
        let pace = Pace::new(PACE);
        let accused = Arc::clone(&self.accused);
        let parts = Parts {
            core: self.core(plan, &sets, &state, pace.timeout()),
            sets,
            chain: Box::new(self.blocks()),
            network: Box::new(self.outbox.clone()),
            jobs,
            pool: Arc::clone(&self.pool) as _,
            sync: Box::new(self.sync.clone()),
            audit: Audit::default(),
            evidence: Box::new(move |votes| {
                accused.lock().unwrap_or_else(PoisonError::into_inner).push(votes);
            }),
            pace,
            work: work(plan),
            stale_until,
            relay: RelayMap::default(),
            tell: Default::default(),
            snapshot: Arc::clone(&self.snapshot),
        };
        // A Byzantine node does not stop when it is shown what it signed.
        let me = self.plan.byzantine.is_empty().then(|| key(self.plan.key).address);
        let mut engine = Engine::new(parts, me, state.last_height, now);
        self.disk.lock().begin_turn();
        engine.start(now)?;
        self.engine = Some(Box::new(engine));
        Ok(())
    }

    fn blocks(&self) -> SharedBlocks {
        let blocks = self.app.chain.iter().map(|stored| Arc::clone(&stored.block)).collect();
        let shared = SharedBlocks(Arc::new(Mutex::new(blocks)));
        self.app.shares(shared.clone());
        shared
    }

    fn core(&self, plan: &Plan, sets: &Sets, state: &State, timeout: Duration) -> Journaled {
        let height = state.next_height();
        let info = sets.at(height).expect("the validators of the next height are known");
        let before = state.last_height.and_then(|last| sets.at(last));
        let start = HeightStart {
            height,
            validators: Arc::clone(&info.validators),
            schedule: Arc::clone(&info.schedule),
            prior: self.app.chain.last().map(|stored| stored.commit.clone()),
            extensions: info.extensions == Some(true),
            prior_extensions: before.is_some_and(|before| before.extensions == Some(true)),
        };
        let settings = Settings {
            me: Some(key(self.plan.key).address),
            commit_grace: PACE.grace,
            disconnect_grace: DISCONNECT_GRACE,
            timeout,
        };
        let (faults, late) = (Arc::clone(&self.signer_faults), Arc::clone(&self.late));
        let signer = SimSigner::new(self.plan.key, plan.real_signatures, faults, late);
        Journaled::new(journaled::Parts {
            replica: Replica::new(settings, start),
            journal: Box::new(self.disk.clone()),
            signer: Some(Box::new(signer)),
            chain_id: CHAIN_ID.into(),
            watermark: Box::new(self.disk.clone()),
        })
    }

    /// What the signing watermarks say at a start.
    fn watermark(&self) -> Option<Height> {
        let mut disk = self.disk.lock();
        let (journal, file) = disk.watermarks();
        let height = |value: Option<u64>| value.and_then(|value| Height::try_from(value).ok());
        match compare(height(journal), height(file)) {
            Reservation::Stale(until) => Some(until),
            Reservation::Sound => {
                disk.complete_file();
                None
            }
        }
    }
}

fn work(plan: &Plan) -> WorkSettings {
    WorkSettings {
        empty_block_interval: plan.empty_blocks.map(Duration::from_nanos),
        proof_block_delay: PROOF_BLOCK_DELAY,
        min_block_interval: Duration::from_nanos(MS),
        initial_height: Height::from(1u32),
        term: plan.term,
    }
}
