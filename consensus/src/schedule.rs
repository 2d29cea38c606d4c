//! Who is primary: a schedule from committed data and the view alone. Source: docs/protocol.md "Who is primary"; the stable primary is
//! PBFT's, the weighted turns and the planned rotation are ours (ADR 003).

use crate::validators::{ValidatorIndex, Validators};
use crate::view::View;
use tendermint::block::Height;

/// The turns of one validator set: `slot(t)` for every turn `t`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Cumulative powers in units of their greatest common divisor.
    ends: Vec<u64>,
    /// M, the number of turns in a rotation.
    turns: u64,
    /// s, the stride: coprime with `turns`, nearest to `turns`/φ.
    stride: u64,
    /// Heights between two planned rotations (genesis parameter `primary_term`), at least 1.
    term: u64,
    /// Turns set by hand, over and over; empty for a schedule of validators.
    #[cfg(any(test, feature = "testing"))]
    by_hand: Vec<ValidatorIndex>,
}

impl Schedule {
    /// A schedule for tests: turn t is that of entry t of `turns`, over and over. The height plays no part.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn by_hand(validators: &Validators, turns: Vec<ValidatorIndex>) -> Schedule {
        Schedule { by_hand: turns, ..Schedule::new(validators, u64::MAX) }
    }

    /// The schedule of `validators` where the primary changes every `term` heights (0 counts as 1).
    #[must_use]
    pub fn new(validators: &Validators, term: u64) -> Schedule {
        let powers = validators.list().iter().map(|validator| validator.power);
        let unit = powers.clone().fold(0, gcd).max(1);
        let mut turns = 0;
        let ends = powers
            .map(|power| {
                turns += power / unit;
                turns
            })
            .collect();
        Schedule {
            ends,
            turns,
            stride: stride(turns),
            term: term.max(1),
            #[cfg(any(test, feature = "testing"))]
            by_hand: Vec::new(),
        }
    }

    /// `primary(h, v)`: the slot of turn `v + ⌊h / term⌋`.
    #[must_use]
    pub fn primary(&self, height: Height, view: View) -> ValidatorIndex {
        self.slot(u64::from(view.number()) + height.value() / self.term)
    }

    /// Turns in one full rotation: over any so many consecutive turns validator i is primary exactly power_i / gcd times.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// The validator whose cumulative power interval holds position `(t mod M)·s mod M`.
    fn slot(&self, turn: u64) -> ValidatorIndex {
        #[cfg(any(test, feature = "testing"))]
        if let Some(turn) = turn.checked_rem(self.by_hand.len() as u64)
            && let Some(index) = usize::try_from(turn).ok().and_then(|turn| self.by_hand.get(turn))
        {
            return *index;
        }
        let modulus = u128::from(self.turns);
        let position = u128::from(turn) % modulus * u128::from(self.stride) % modulus;
        let index = self.ends.partition_point(|end| u128::from(*end) <= position);
        ValidatorIndex::try_from(index).expect("a set has at most VALIDATORS_MAX members")
    }
}

/// The integer coprime with `m` that is nearest to m/φ, φ = (1+√5)/2. With x = m/φ = (√(5m²) − m)/2, irrational, there are no ties,
/// and `x − low < high − x` is `5m² < (low + high + m)²`, which is compared without rounding.
fn stride(m: u64) -> u64 {
    if m < 3 {
        return 1;
    }
    let square = 5 * u128::from(m) * u128::from(m);
    let floor = u64::try_from((square.isqrt() - u128::from(m)) / 2).expect("m/φ is below m");
    let coprime = |s: &u64| gcd(*s, m) == 1;
    let low = (1..=floor).rev().find(coprime);
    let high = (floor + 1..m).find(coprime);
    match (low, high) {
        (Some(low), Some(high)) => {
            let sum = u128::from(low) + u128::from(high) + u128::from(m);
            if square < sum * sum { low } else { high }
        }
        (low, high) => low.or(high).unwrap_or(1),
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::validators;
    use proptest::prelude::*;

    fn height(value: u64) -> Height {
        Height::try_from(value).unwrap()
    }

    proptest! {
        #[test]
        fn every_rotation_gives_each_validator_its_exact_share(
            powers in prop::collection::vec(1u64..40, 1..8), start in 0u64..100_000,
        ) {
            let set = validators(&powers);
            let schedule = Schedule::new(&set, 64);
            let unit = powers.iter().copied().fold(0, gcd);
            let mut turns = vec![0u64; powers.len()];
            for turn in start..start + schedule.turns() {
                turns[schedule.slot(turn) as usize] += 1;
            }
            for (index, validator) in set.list().iter().enumerate() {
                prop_assert_eq!(turns[index], validator.power / unit);
            }
        }

        #[test]
        fn no_one_has_two_turns_in_a_row_while_shares_are_small(powers in prop::collection::vec(1u64..10, 4..9)) {
            let set = validators(&powers);
            let schedule = Schedule::new(&set, 1);
            let unit = powers.iter().copied().fold(0, gcd);
            let bound = schedule.stride.min(schedule.turns - schedule.stride);
            prop_assume!(powers.iter().all(|power| power / unit <= bound));
            for turn in 0..schedule.turns() {
                prop_assert_ne!(schedule.slot(turn), schedule.slot(turn + 1));
            }
        }

        #[test]
        fn stride_is_coprime_and_nearest(m in 3u64..5_000) {
            let s = stride(m);
            prop_assert_eq!(gcd(s, m), 1);
            let ideal = m as f64 / 1.618_033_988_749_895;
            for other in (1..m).filter(|other| gcd(*other, m) == 1) {
                prop_assert!((s as f64 - ideal).abs() <= (other as f64 - ideal).abs() + 1e-6);
            }
        }
    }

    proptest! {
        /// Near M/φ a float cannot tell which is nearer: exact comparison with every other candidate, for any M.
        #[test]
        fn the_stride_is_nearest_in_exact_integers(m in 3u64..=crate::power::TOTAL_POWER_MAX) {
            let s = stride(m);
            prop_assert!(s >= 1 && s < m && gcd(s, m) == 1);
            // x = m/φ; other is nearer than s where it lies between s and the mirror image of s at x.
            let square = 5 * u128::from(m) * u128::from(m);
            let above = |twice: u128| square < (twice + u128::from(m)).pow(2);
            let s_above = above(2 * u128::from(s));
            for step in 1..200 {
                let other = if s_above { s.checked_sub(step) } else { s.checked_add(step) };
                let Some(other) = other.filter(|other| (1..m).contains(other)) else { break };
                let nearer = above(u128::from(s) + u128::from(other)) == s_above;
                if !nearer {
                    break;
                }
                prop_assert!(gcd(other, m) != 1, "{other} is nearer to {m}/φ than {s}");
            }
        }
    }

    #[test]
    fn the_largest_total_power_does_not_overflow() {
        let set = validators(&[crate::power::TOTAL_POWER_MAX - 1, 1]);
        let schedule = Schedule::new(&set, 1);
        assert_eq!(schedule.primary(height(u64::from(u32::MAX)), View::MAX), 0);
    }

    #[test]
    fn the_primary_is_stable_within_a_term_and_rotates_after_it() {
        let schedule = Schedule::new(&validators(&[1, 1, 1, 1]), 64);
        let at = |h, v| schedule.primary(height(h), View::new(v).unwrap());
        assert!((1..64).all(|h| at(h, 0) == at(1, 0)));
        assert_ne!(at(64, 0), at(63, 0));
        assert_ne!(at(1, 1), at(1, 0));
        let rotation: std::collections::BTreeSet<_> = (0..4).map(|v| at(1, v)).collect();
        assert_eq!(rotation.len(), 4);
    }
}
