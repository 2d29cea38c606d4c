//! The state before the first block, by the genesis.
