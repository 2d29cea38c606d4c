//! What tests of this crate and of others need: a generated chain, and providers that are simulated.

pub mod chain;
pub mod content;
pub mod world;
