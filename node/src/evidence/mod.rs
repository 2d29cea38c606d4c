//! Evidence of misbehaviour, from what is seen to what the application hears.
//!
//! Sources: docs/protocol.md "Evidence"; CometBFT 0.38 `types/evidence.go`, `evidence/verify.go`, `evidence/pool.go`.
//!
//! - [`piece`]: one piece of evidence with the right form, and the key under which its offence is punished once.
//! - `duplicate`, `attack`: the two kinds, and how each is verified against the chain.
//! - [`facts`]: what of the chain evidence is verified against.
//! - [`block`]: what a block may hold, what it marks, and what the application is told.
//! - [`pool`]: what is pending, pure.
//! - [`owner`]: the thread that owns the pool.
//!
//! An offence is punished once: of two votes one for each validator, height, view and type, whatever the times in them, and of an attack
//! one for each header. That it was is derived from blocks alone: the mark is written in one batch with the state after the block
//! ([`crate::store::Chain::apply`]), so every node that has executed the block has it, and no other.

mod attack;
#[cfg(test)]
mod attack_samples;
pub mod block;
mod duplicate;
pub mod facts;
pub mod owner;
pub mod piece;
pub mod pool;
#[cfg(test)]
mod tests;

pub use block::{check_block, marks, misbehavior};
pub use facts::{Facts, Tip};
pub use owner::{Evidence, Pending};
pub use piece::{Key, Piece, What};

use crate::store::StoreError;
use tendermint::Time;
use tendermint::block::Height;
use tercet_consensus::key::Address;

/// Why evidence is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It is not of the form that evidence has.
    #[error("{0}")]
    Form(&'static str),
    /// Its height is not decided here.
    #[error("don't have header #{0}: it is not decided here")]
    Early(Height),
    /// The block of its height is not stored here.
    #[error("don't have header #{0}")]
    Missing(Height),
    /// It is older than the parameters allow, in blocks and in time.
    #[error("evidence from height {height} (created at: {time}) is too old")]
    Old {
        /// The height of the offence.
        height: Height,
        /// The time of that block.
        time: Time,
    },
    /// Its offence stands in an earlier block.
    #[error("evidence was already committed")]
    Committed,
    /// Its offence stands twice in the block.
    #[error("duplicate evidence")]
    Twice,
    /// The block holds more bytes of evidence than the parameters allow.
    #[error("{0} bytes of evidence are more than evidence.max_bytes, which is {1}")]
    TooMuch(usize, usize),
    /// Its time is not that of the block of its height.
    #[error(
        "evidence has a different time to the block it is associated with ({found} != {right})"
    )]
    Time {
        /// What it says.
        found: Time,
        /// What the chain says.
        right: Time,
    },
    /// Whom it accuses was no validator.
    #[error("address {validator} was not a validator at height {height}")]
    Stranger {
        /// The address.
        validator: Address,
        /// The height.
        height: Height,
    },
    /// A voting power in it is not that of the chain.
    #[error("{what} from evidence and our validator set does not match ({found} != {right})")]
    Power {
        /// Which.
        what: &'static str,
        /// What it says.
        found: i64,
        /// What the chain says.
        right: u64,
    },
    /// A signature in it does not verify.
    #[error("verifying {0}: invalid signature")]
    Signature(&'static str),
    /// What it says of an attack does not hold against this chain.
    #[error("{0}")]
    Attack(&'static str),
}

impl Invalid {
    /// Whether no correct node passes such a piece on, wherever it stands in the chain. What is too old, too early or about a block that
    /// is gone may be right elsewhere, and which validators an attack accuses may depend on how far the chain is.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        matches!(
            self,
            Invalid::Form(_)
                | Invalid::Time { .. }
                | Invalid::Stranger { .. }
                | Invalid::Power { .. }
                | Invalid::Signature(_)
        )
    }
}

/// Why evidence could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// It is not valid.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The chain could not be read.
    #[error("the chain database failed: {0}")]
    Store(#[from] StoreError),
}
