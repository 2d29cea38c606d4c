//! Validators, schedule and rules, always by height, for whoever verifies messages.

use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::Arc;
use tendermint::block::Height;
use tercet_consensus::schedule::Schedule;
use tercet_consensus::validators::Validators;
use tercet_consensus::verify::Context;

/// How many heights below the current one stay known: messages of the height before may be late.
const KEPT_BELOW: u64 = 2;

/// What one height is verified against.
#[derive(Debug)]
pub struct HeightInfo {
    /// The height.
    pub height: Height,
    /// V(height).
    pub validators: Arc<Validators>,
    /// Its schedule.
    pub schedule: Arc<Schedule>,
    /// The largest block in bytes.
    pub block_bytes_max: usize,
}

/// The heights that messages can be verified for right now.
#[derive(Debug)]
pub struct Heights {
    /// The chain.
    pub chain_id: Arc<str>,
    /// The height that the replica is at.
    pub current: Height,
    known: BTreeMap<Height, Arc<HeightInfo>>,
}

impl Heights {
    /// No height yet.
    #[must_use]
    pub fn new(chain_id: &str, current: Height) -> Heights {
        Heights { chain_id: chain_id.into(), current, known: BTreeMap::new() }
    }

    /// What `height` is verified against, where it is known.
    #[must_use]
    pub fn at(&self, height: Height) -> Option<&Arc<HeightInfo>> {
        self.known.get(&height)
    }

    /// The verification context of `info`.
    #[must_use]
    pub fn context<'a>(&'a self, info: &'a HeightInfo) -> Context<'a> {
        Context {
            chain_id: &self.chain_id,
            height: info.height,
            validators: &info.validators,
            schedule: &info.schedule,
            extensions: false,
        }
    }
}

/// The published [`Heights`]: written by the engine, read by everyone.
pub type Published = Arc<ArcSwap<Heights>>;

/// The engine's side: learns validator sets from execution and publishes.
#[derive(Debug)]
pub struct Sets {
    term: u64,
    chain_id: Arc<str>,
    known: BTreeMap<Height, Arc<HeightInfo>>,
    published: Published,
}

impl Sets {
    /// Sets of a chain with this `primary_term`.
    #[must_use]
    pub fn new(chain_id: &str, term: u64, current: Height) -> Sets {
        let heights = Heights::new(chain_id, current);
        let chain_id = heights.chain_id.clone();
        let published = Arc::new(ArcSwap::from_pointee(heights));
        Sets { term, chain_id, known: BTreeMap::new(), published }
    }

    /// The published view.
    #[must_use]
    pub fn published(&self) -> Published {
        self.published.clone()
    }

    /// Learns V(height). A set like that of the height before shares its schedule.
    pub fn learn(&mut self, height: Height, validators: &Arc<Validators>, block_bytes_max: usize) {
        let known = self.known.get(&height);
        if known.is_some_and(|info| info.block_bytes_max == block_bytes_max) {
            return;
        }
        let same =
            self.known.values().next_back().filter(|i| i.validators.hash() == validators.hash());
        let (validators, schedule) = match same {
            Some(info) => (info.validators.clone(), info.schedule.clone()),
            None => (validators.clone(), Arc::new(Schedule::new(validators, self.term))),
        };
        let info = HeightInfo { height, validators, schedule, block_bytes_max };
        self.known.insert(height, Arc::new(info));
    }

    /// What `height` is verified against.
    #[must_use]
    pub fn at(&self, height: Height) -> Option<&Arc<HeightInfo>> {
        self.known.get(&height)
    }

    /// Publishes what is known around `current` and forgets what lies below.
    pub fn publish(&mut self, current: Height) {
        self.known.retain(|height, _| height.value() + KEPT_BELOW >= current.value());
        let (chain_id, known) = (self.chain_id.clone(), self.known.clone());
        self.published.store(Arc::new(Heights { chain_id, current, known }));
    }
}
