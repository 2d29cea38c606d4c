//! Validators, schedule and rules, always by height, for whoever verifies messages.

use crate::execution::State;
use crate::execution::block::block_bytes_max;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::Arc;
use tendermint::block::Height;
use tendermint::consensus::Params;
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
    /// Whether COMMITs carry vote extensions; none while that is open, because an earlier height is not executed.
    pub extensions: Option<bool>,
}

impl HeightInfo {
    /// What the next height is verified against where its validators are the same and nothing else is known.
    #[must_use]
    pub fn following(&self) -> HeightInfo {
        HeightInfo {
            height: self.height.increment(),
            validators: self.validators.clone(),
            schedule: self.schedule.clone(),
            block_bytes_max: self.block_bytes_max,
            extensions: self.extensions.filter(|on| *on),
        }
    }
}

/// What the parameters say of one height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The largest block in bytes.
    pub block_bytes_max: usize,
    /// As [`HeightInfo::extensions`].
    pub extensions: Option<bool>,
}

impl Rules {
    /// Those of `height`, as far as `state` tells.
    fn after(state: &State, height: Height) -> Rules {
        let extensions = extensions_at(&state.params, state.next_height(), height);
        Rules { block_bytes_max: block_bytes_max(&state.params), extensions }
    }
}

/// Whether COMMITs of `height` carry vote extensions where `params` are those of `next`, the first height that is not executed. None
/// where a block before `height` may still change it: a height to begin with can be set or moved until it is reached, and never
/// after (CometBFT `types/params.go`, `ValidateUpdate`).
#[must_use]
pub fn extensions_at(params: &Params, next: Height, height: Height) -> Option<bool> {
    let begin = params.abci.vote_extensions_enable_height;
    let on = begin.is_some_and(|begin| begin <= height);
    (height <= next || begin.is_some_and(|begin| begin <= next)).then_some(on)
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
            extensions: info.extensions,
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

    /// Learns the sets of the two heights after `state`.
    pub fn learn(&mut self, state: &State) {
        let next = state.next_height();
        self.add(next, &state.validators, Rules::after(state, next));
        let later = next.increment();
        self.add(later, &state.next_validators, Rules::after(state, later));
    }

    /// Learns the sets around `state`, with which a node starts, and publishes them.
    pub fn start(&mut self, state: &State) {
        if let (Some(last), Some(validators)) = (state.last_height, &state.last_validators) {
            self.add(last, validators, Rules::after(state, last));
        }
        self.learn(state);
        self.publish(state.next_height());
    }

    /// Takes V(height) as that of the height before, until the state says more: a decided header says so.
    pub fn assume(&mut self, before: &HeightInfo) {
        let next = before.height.increment();
        self.known.entry(next).or_insert_with(|| Arc::new(before.following()));
    }

    /// Adds V(height). A set like that of the height before shares its schedule.
    pub fn add(&mut self, height: Height, validators: &Arc<Validators>, rules: Rules) {
        let Rules { block_bytes_max, extensions } = rules;
        let same_rules = |info: &Arc<HeightInfo>| {
            (info.block_bytes_max, info.extensions) == (block_bytes_max, extensions)
        };
        if self.known.get(&height).is_some_and(same_rules) {
            return;
        }
        let same =
            self.known.values().next_back().filter(|i| i.validators.hash() == validators.hash());
        let (validators, schedule) = match same {
            Some(info) => (info.validators.clone(), info.schedule.clone()),
            None => (validators.clone(), Arc::new(Schedule::new(validators, self.term))),
        };
        let info = HeightInfo { height, validators, schedule, block_bytes_max, extensions };
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A chain of no extensions, of some that will begin, and of some that have begun; block 9 is executed.
    #[test]
    fn whether_a_height_has_vote_extensions_is_known_once_no_block_can_change_it() {
        let at = |begin: u32, height: u32| {
            let mut params = crate::execution::tests::params();
            params.abci.vote_extensions_enable_height = (begin > 0).then(|| Height::from(begin));
            extensions_at(&params, Height::from(10u32), Height::from(height))
        };
        assert_eq!([at(0, 9), at(0, 10), at(0, 11)], [Some(false), Some(false), None]);
        assert_eq!([at(11, 10), at(11, 11), at(12, 11)], [Some(false), None, None]);
        assert_eq!([at(10, 9), at(10, 10), at(10, 11)], [Some(false), Some(true), Some(true)]);
        assert_eq!([at(3, 2), at(3, 9), at(3, 40)], [Some(false), Some(true), Some(true)]);
    }
}
