//! Quorum arithmetic on voting power. Source: docs/protocol.md "Model and words"; Castro & Liskov 1999, section 4.
//!
//! Powers are added in `u64`; a validator set whose total exceeds [`TOTAL_POWER_MAX`] cannot be built, so no sum here overflows.

/// The largest total power of a validator set (`MaxInt64 / 8`, CometBFT `types/validator_set.go`).
pub const TOTAL_POWER_MAX: u64 = (i64::MAX / 8).unsigned_abs();

/// The smallest power that is more than two thirds of `total`: any two quorums share a correct validator.
#[must_use]
pub const fn quorum(total: u64) -> u64 {
    total / 3 * 2 + (total % 3) * 2 / 3 + 1
}

/// The smallest power that is more than one third of `total`: at least one of its holders is correct.
#[must_use]
pub const fn blocking(total: u64) -> u64 {
    total / 3 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_the_naive_definition(total in 1..=TOTAL_POWER_MAX, power in 0..=TOTAL_POWER_MAX) {
            prop_assert_eq!(power >= quorum(total), u128::from(power) * 3 > u128::from(total) * 2);
            prop_assert_eq!(power >= blocking(total), u128::from(power) * 3 > u128::from(total));
        }

        #[test]
        fn two_quorums_meet_in_more_than_a_third(total in 1..=TOTAL_POWER_MAX) {
            prop_assert!(2 * u128::from(quorum(total)) > u128::from(total) + u128::from(total) / 3);
        }
    }

    #[test]
    fn three_f_plus_one_equal_validators() {
        for f in 0..50 {
            assert_eq!(quorum(3 * f + 1), 2 * f + 1);
            assert_eq!(blocking(3 * f + 1), f + 1);
        }
    }
}
