//! The simulator: a whole network in one thread under virtual time, from one seed. Engine, replica, journal logic, recovery, verification,
//! header rules and catch-up plan are the node's own; network, disk, clock, signatures, pool and application are simulated.
//!
//! - [`plan`], [`maker`]: a seed becomes everything random about a run.
//! - [`world`], [`happening`], `turns`, `faults`: what happens.
//! - [`node`], [`disk`], [`network`], [`application`], [`pool`], [`sync`], [`keys`]: one node and its surroundings.
//! - [`byzantine`]: those who lie.
//! - [`adversary`]: a network that means ill.
//! - [`checkers`], [`liveness`], [`light`]: the invariants, outside the code that they check.
//! - [`coverage`], `met`, [`trace`]: what was met, and what happened.
//! - [`figures`]: what a view change costs.
//! - [`shrink`]: a failing plan with less in it.
//! - [`scenario`]: plans written by hand.

mod adversary;
mod ahead;
mod application;
mod byzantine;
mod checkers;
pub(crate) mod cli;
mod coverage;
mod disk;
mod faults;
mod figures;
mod happening;
mod keys;
mod light;
mod liveness;
mod maker;
mod met;
mod network;
mod node;
mod plan;
mod pool;
mod rng;
mod run;
mod scenario;
mod shrink;
mod sync;
#[cfg(test)]
mod tests;
mod trace;
mod turns;
mod world;

use std::sync::LazyLock;
use std::time::Instant;
use tendermint::Time;

/// Virtual time since the start of a run, in nanoseconds.
type Nanos = u64;
/// A millisecond.
const MS: Nanos = 1_000_000;
/// A second.
const SECOND: Nanos = 1_000 * MS;

/// What engines see as the start of a run. Only differences from it matter.
static BASE: LazyLock<Instant> = LazyLock::new(Instant::now);

/// When the chain begins, in seconds after 1970.
const GENESIS_SECONDS: i64 = 1_700_000_000;

/// The time of day at a moment, by a clock that is so many milliseconds wrong.
fn time_of(now: Nanos, wrong_ms: i64) -> Time {
    let now = i64::try_from(now).expect("a run lasts minutes") + wrong_ms * 1_000_000;
    let seconds = now.div_euclid(1_000_000_000);
    let nanos = u32::try_from(now.rem_euclid(1_000_000_000)).expect("below a second");
    Time::from_unix_timestamp(GENESIS_SECONDS + seconds, nanos).expect("a time")
}
