//! PBFT with weighted voting power and Tendermint-format certificates: the protocol, pure.
#![cfg_attr(test, allow(clippy::cast_possible_truncation))]

pub mod block;
#[cfg(test)]
mod block_tests;
pub mod commit;
pub mod justification;
pub mod key;
pub mod merkle;
pub mod message;
pub mod power;
pub mod record;
pub mod replica;
#[cfg(test)]
mod rules_page_tests;
pub mod schedule;
pub mod sign_bytes;
pub mod status;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod validators;
#[cfg(test)]
mod vector_tests;
pub mod verify;
#[cfg(test)]
mod verify_tests;
pub mod view;
