//! What the user decides: the root of trust and how far trust goes.

use crate::hash::Hash;
use crate::header::{CHAIN_ID_BYTES_MAX, Height};
use std::time::Duration;

/// The part of the trusted power that must have signed for a header to be trusted that does not follow directly: 1/3 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustLevel {
    numerator: u64,
    denominator: u64,
}

impl TrustLevel {
    /// A third, the default.
    pub const ONE_THIRD: TrustLevel = TrustLevel { numerator: 1, denominator: 3 };
    /// Two thirds.
    pub const TWO_THIRDS: TrustLevel = TrustLevel { numerator: 2, denominator: 3 };

    /// A trust level.
    ///
    /// # Errors
    /// Outside of 1/3 to 1.
    pub fn new(numerator: u64, denominator: u64) -> Result<TrustLevel, OptionsError> {
        let (n, d) = (u128::from(numerator), u128::from(denominator));
        if d == 0 || n > d || 3 * n < d {
            return Err(OptionsError::TrustLevel);
        }
        Ok(TrustLevel { numerator, denominator })
    }

    /// Whether `signed` of `total` is more than this part.
    #[must_use]
    pub fn is_met(&self, signed: u64, total: u64) -> bool {
        let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
        product(signed, self.denominator) > product(total, self.numerator)
    }
}

/// How far trust goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// See [`TrustLevel`].
    pub trust_level: TrustLevel,
    /// How long after its time a header is a ground for trust; must be shorter than the time for which validators stay bonded.
    pub trusting_period: Duration,
    /// How far the time of a header may be ahead of the local clock.
    pub clock_drift: Duration,
}

/// Where trust begins: a height of a chain with the hash of its header, from a source that the user trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustRoot {
    /// The chain.
    pub chain_id: String,
    /// The height, at least 1.
    pub height: Height,
    /// The hash of the header at that height.
    pub hash: Hash,
    /// The hash of the chain's genesis, where it is known: providers that name another are refused.
    pub genesis_hash: Option<Hash>,
}

impl TrustRoot {
    /// Checks what can be checked without anybody else.
    ///
    /// # Errors
    /// Where the chain id or the height cannot be.
    pub fn check(&self) -> Result<(), OptionsError> {
        if self.height == 0 || i64::try_from(self.height).is_err() {
            return Err(OptionsError::Height);
        }
        if self.chain_id.is_empty() || self.chain_id.len() > CHAIN_ID_BYTES_MAX {
            return Err(OptionsError::ChainId);
        }
        Ok(())
    }
}

/// Why options cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// The trust level is not between 1/3 and 1.
    #[error("the trust level must be between 1/3 and 1")]
    TrustLevel,
    /// The height is 0 or too large.
    #[error("the trusted height must be at least 1")]
    Height,
    /// The chain id is empty or too long.
    #[error("the chain id must have 1 to {CHAIN_ID_BYTES_MAX} characters")]
    ChainId,
    /// The trusting period is zero.
    #[error("the trusting period must be longer than zero")]
    TrustingPeriod,
}
