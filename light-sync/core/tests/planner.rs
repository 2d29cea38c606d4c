//! The planner among simulated providers: honest ones, and those that lie in the ways of light client attacks.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;
use tercet_light_core::header::Height;
use tercet_light_core::planner::{Condition, Config, Event, Fault, ProviderId, Status};
use tercet_light_core::testing::chain::{Chain, Spec};
use tercet_light_core::testing::world::{Manner, Simulated, World};
use tercet_light_core::time::Time;

const LONG: Duration = Duration::from_secs(120);

fn chain(last: Height) -> Chain {
    Chain::new(Spec { last, rotate_every: 50, rotate_count: 1, ..Spec::default() })
}

/// A moment after the last block.
fn after(chain: &Chain) -> Time {
    chain.header(chain.spec.last).time().after(Duration::from_secs(1))
}

fn config(chain: &Chain, root: Height) -> Config {
    Config { run_headers: 50, ..Config::new(World::root(chain, root)) }
}

fn honest(chain: &Chain, count: usize) -> Vec<Simulated> {
    vec![Simulated::new(chain.clone()); count]
}

fn world(chain: &Chain, providers: Vec<Simulated>) -> World {
    World::new(config(chain, 1), after(chain), providers)
}

fn is_synced(_: &World, status: &Status) -> bool {
    status.condition == Condition::Synced
}

/// Everything from `low` to the end is there, and it is the chain.
fn assert_whole(world: &World, chain: &Chain, low: Height) {
    for height in low..=chain.spec.last {
        assert_eq!(world.headers.get(&height), Some(&chain.hash(height)), "height {height}");
    }
    assert_eq!(world.headers.len() as u64, chain.spec.last - low + 1);
}

fn anchors(world: &World) -> usize {
    world.count(|event| matches!(event, Event::Anchor(..)))
}

fn refused(world: &World, provider: u32) -> Option<Fault> {
    let status = world.planner.status();
    status.refused.into_iter().find(|(id, _)| id.0 == provider).map(|(_, fault)| fault)
}

#[test]
fn honest_providers_give_the_whole_chain_with_few_anchors() {
    let chain = chain(1_000);
    let mut world = world(&chain, honest(&chain, 3));
    assert!(world.run(LONG, is_synced), "{:?}", world.planner.status());
    assert_whole(&world, &chain, 1);
    assert!(anchors(&world) < 40, "{} anchors", anchors(&world));
    let status = world.planner.status();
    assert_eq!(status.trusted.unwrap().hash, chain.hash(1_000));
    assert_eq!(status.refused, []);
}
