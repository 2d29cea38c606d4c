//! All states of a small network, one by one: four validators, of whom one is faulty, a few views, one to three heights. The replicas
//! are the real ones; what is searched, what is left out and why that loses nothing: `docs/exhaustive-check.md`.

mod bounds;
mod check;
mod command;
mod heal;
mod local;
mod machine;
mod moves;
mod network;
mod search;
mod seen;
mod table;
#[cfg(test)]
mod tests;
mod world;

pub use bounds::{BlockKind, Bounds, Forgets};
pub use command::{HELP, main};
pub use search::{Lived, Report, search};
pub use table::Congruence;
