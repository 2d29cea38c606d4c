//! The validators as the kvstore knows them, and the changes of one block.
//!
//! CometBFT stops when a block removes a validator that there is not, removes the last one, changes one twice or makes their
//! powers too large. A client's transaction must not stop a chain, so here the first, second and fourth are refused and the
//! changes of one validator become one. The set is the one that the node will have two heights later.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use tendermint_proto::v0_38::abci::ValidatorUpdate;
use tendermint_proto::v0_38::crypto::{self, public_key::Sum};

/// The most power that one validator, and all together, may have (CometBFT `types/validator_set.go`).
pub(super) const POWER_MAX: u64 = (i64::MAX / 8).unsigned_abs();
/// The most validators (CometBFT `types/vote_set.go`, `MaxVotesCount`).
const VALIDATORS_MAX: usize = 10_000;

/// An ed25519 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key in these 32 bytes; none where they are no point of the curve, as no signature could be verified with it.
    pub(super) fn parse(bytes: &[u8]) -> Option<PublicKey> {
        let bytes: [u8; 32] = bytes.try_into().ok()?;
        ed25519_zebra::VerificationKey::try_from(bytes).ok().map(|_| PublicKey(bytes))
    }

    /// The key of an update.
    pub(super) fn of(update: &ValidatorUpdate) -> Option<PublicKey> {
        match update.pub_key.as_ref()?.sum.as_ref()? {
            Sum::Ed25519(bytes) => PublicKey::parse(bytes),
            Sum::Secp256k1(_) => None,
        }
    }

    /// The raw bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn address(self) -> Address {
        let digest: [u8; 32] = Sha256::digest(self.0).into();
        let mut address = [0; 20];
        address.copy_from_slice(digest.split_at(20).0);
        Address(address)
    }
}

/// The first 20 bytes of SHA-256 of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Address([u8; 20]);

/// A validator and its power. As a change, power 0 removes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validator {
    pub(super) key: PublicKey,
    pub(super) power: u64,
}

impl Validator {
    /// The validator in an update.
    pub(super) fn of(update: &ValidatorUpdate) -> Option<Validator> {
        let power = u64::try_from(update.power).ok()?;
        Some(Validator { key: PublicKey::of(update)?, power })
    }

    /// What the node is told.
    ///
    /// # Panics
    /// Never: a power is at most [`POWER_MAX`].
    pub(super) fn update(&self) -> ValidatorUpdate {
        let key = Sum::Ed25519(self.key.as_bytes().to_vec());
        let power = i64::try_from(self.power).expect("a power is at most POWER_MAX");
        ValidatorUpdate { pub_key: Some(crypto::PublicKey { sum: Some(key) }), power }
    }
}

/// Why a change is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("there is no such validator")]
    Absent,
    #[error("it is the last validator")]
    Last,
    #[error("there are {VALIDATORS_MAX} validators, and no more are possible")]
    TooMany,
    #[error("the powers would be more than {POWER_MAX} in total")]
    TooMuchPower,
}

/// The set after the last committed block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Validators(BTreeMap<Address, Validator>);

impl FromIterator<Validator> for Validators {
    fn from_iter<I: IntoIterator<Item = Validator>>(list: I) -> Validators {
        let mut validators = Validators::default();
        list.into_iter().for_each(|validator| validators.apply(validator));
        validators
    }
}

impl Validators {
    /// The set of these, where they make one that blocks could have led to.
    pub(super) fn whole(list: Vec<Validator>) -> Option<Validators> {
        let total: u128 = list.iter().map(|validator| u128::from(validator.power)).sum();
        let powers = list.iter().all(|validator| validator.power > 0);
        let bounded = list.len() <= VALIDATORS_MAX && total <= u128::from(POWER_MAX);
        (powers && bounded).then(|| list.into_iter().collect())
    }

    /// Sets or removes one.
    pub(super) fn apply(&mut self, validator: Validator) {
        let address = validator.key.address();
        if validator.power == 0 {
            self.0.remove(&address);
        } else {
            self.0.insert(address, validator);
        }
    }

    /// Begins the changes of a block.
    pub(super) fn changes(&self) -> Changes<'_> {
        let total = self.0.values().map(|validator| u128::from(validator.power)).sum();
        Changes {
            before: self,
            count: self.0.len(),
            total,
            now: BTreeMap::new(),
            order: Vec::new(),
        }
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Validator> {
        self.0.values()
    }
}

/// The changes of one block to a set.
#[derive(Debug)]
pub(super) struct Changes<'a> {
    before: &'a Validators,
    count: usize,
    total: u128,
    now: BTreeMap<Address, Validator>,
    order: Vec<Address>,
}

impl Changes<'_> {
    /// Sets the power of a validator; 0 removes it.
    pub(super) fn set(&mut self, validator: Validator) -> Result<(), Refused> {
        let address = validator.key.address();
        let old = self.find(&address).map_or(0, |old| old.power);
        let total = self.total - u128::from(old) + u128::from(validator.power);
        let count = match (old, validator.power) {
            (0, 0) => return Err(Refused::Absent),
            (_, 0) if self.count == 1 => return Err(Refused::Last),
            (0, _) if self.count >= VALIDATORS_MAX => return Err(Refused::TooMany),
            (_, power) if power > old && total > u128::from(POWER_MAX) => {
                return Err(Refused::TooMuchPower);
            }
            (0, _) => self.count + 1,
            (_, 0) => self.count - 1,
            _ => self.count,
        };
        (self.count, self.total) = (count, total);
        if self.now.insert(address, validator).is_none() {
            self.order.push(address);
        }
        Ok(())
    }

    /// Punishes a validator that signed two votes of one phase: its power then, less one. An address that is no validator's
    /// (any more) has nothing to lose.
    pub(super) fn punish(&mut self, address: &Bytes, power: i64) -> Result<(), Refused> {
        let address = <[u8; 20]>::try_from(address.as_ref()).map_err(|_| Refused::Absent)?;
        let key = self.find(&Address(address)).ok_or(Refused::Absent)?.key;
        self.set(Validator { key, power: u64::try_from(power).unwrap_or(0).saturating_sub(1) })
    }

    /// What changed, once a validator, in the order of first changes.
    pub(super) fn finish(self) -> Vec<Validator> {
        let changed = self.order.iter().filter_map(|address| {
            let removed_again =
                |now: &&Validator| now.power > 0 || self.before.0.contains_key(address);
            self.now.get(address).filter(removed_again)
        });
        changed.copied().collect()
    }

    /// A validator as it is by now.
    fn find(&self, address: &Address) -> Option<&Validator> {
        let found = self.now.get(address).or_else(|| self.before.0.get(address));
        found.filter(|validator| validator.power > 0)
    }
}

/// Keys for tests.
#[cfg(test)]
pub(super) mod testing {
    use super::PublicKey;

    /// The key whose secret is this byte, 32 times.
    pub(in super::super) fn key(seed: u8) -> PublicKey {
        let secret = ed25519_zebra::SigningKey::from([seed; 32]);
        PublicKey::parse(ed25519_zebra::VerificationKey::from(&secret).as_ref()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::key;
    use super::*;
    use proptest::prelude::*;

    fn validator(seed: u8, power: u64) -> Validator {
        Validator { key: key(seed), power }
    }

    fn address(seed: u8) -> Bytes {
        Bytes::copy_from_slice(&key(seed).address().0)
    }

    #[test]
    fn changes_come_in_order_and_once_a_validator() {
        let set = Validators::from_iter([validator(1, 10), validator(2, 10)]);
        let mut changes = set.changes();
        for change in [validator(3, 5), validator(1, 7), validator(3, 6), validator(2, 0)] {
            assert_eq!(changes.set(change), Ok(()));
        }
        assert_eq!(changes.finish(), [validator(3, 6), validator(1, 7), validator(2, 0)]);
    }

    #[test]
    fn one_that_comes_and_goes_in_a_block_is_no_change() {
        let set = Validators::from_iter([validator(1, 10)]);
        let mut changes = set.changes();
        assert_eq!(changes.set(validator(2, 5)), Ok(()));
        assert_eq!(changes.set(validator(2, 0)), Ok(()));
        assert_eq!(changes.finish(), []);
    }

    #[test]
    fn the_last_one_and_an_absent_one_cannot_be_removed() {
        let set = Validators::from_iter([validator(1, 10), validator(2, 10)]);
        let mut changes = set.changes();
        assert_eq!(changes.set(validator(3, 0)), Err(Refused::Absent));
        assert_eq!(changes.set(validator(1, 0)), Ok(()));
        assert_eq!(changes.set(validator(1, 0)), Err(Refused::Absent));
        assert_eq!(changes.set(validator(2, 0)), Err(Refused::Last));
        assert_eq!(changes.finish(), [validator(1, 0)]);
    }

    #[test]
    fn the_powers_are_bounded_in_total() {
        let set = Validators::from_iter([validator(1, POWER_MAX - 10)]);
        let mut changes = set.changes();
        assert_eq!(changes.set(validator(2, 11)), Err(Refused::TooMuchPower));
        assert_eq!(changes.set(validator(2, 10)), Ok(()));
        assert_eq!(changes.set(validator(1, POWER_MAX)), Err(Refused::TooMuchPower));
        assert_eq!(changes.set(validator(1, 1)), Ok(()));
        assert_eq!(changes.set(validator(2, POWER_MAX - 1)), Ok(()));
    }

    #[test]
    fn a_validator_that_double_signed_loses_one_of_the_power_it_had() {
        let set = Validators::from_iter([validator(1, 10), validator(2, 1)]);
        let mut changes = set.changes();
        assert_eq!(changes.punish(&address(1), 8), Ok(()));
        assert_eq!(changes.punish(&address(2), 1), Ok(()));
        assert_eq!(changes.punish(&address(2), 9), Err(Refused::Absent));
        assert_eq!(changes.punish(&address(3), 9), Err(Refused::Absent));
        assert_eq!(changes.punish(&address(1), 1), Err(Refused::Last));
        assert_eq!(changes.finish(), [validator(1, 7), validator(2, 0)]);
    }

    #[test]
    fn an_update_and_back() {
        let one = validator(1, 12);
        assert_eq!(Validator::of(&one.update()), Some(one));
        assert_eq!(Validator::of(&ValidatorUpdate { pub_key: None, power: 1 }), None);
    }

    proptest! {
        #[test]
        fn what_is_not_refused_makes_a_valid_set(
            steps in proptest::collection::vec((1_u8..6, prop_oneof![0..3_u64, Just(POWER_MAX), Just(POWER_MAX - 2)]), 0..20)
        ) {
            let keys: Vec<_> = (0..6).map(|seed| key(seed + 1)).collect();
            let mut set = Validators::from_iter([validator(1, 2)]);
            let mut changes = set.changes();
            let mut naive = set.clone();
            for (seed, power) in steps {
                let step = Validator { key: keys[usize::from(seed) - 1], power };
                if changes.set(step).is_ok() {
                    naive.apply(step);
                }
            }
            let changed = changes.finish();
            let before = set.clone();
            for change in changed {
                prop_assert!(change.power > 0 || before.0.contains_key(&change.key.address()));
                set.apply(change);
            }
            prop_assert_eq!(&set, &naive);
            prop_assert!(!set.0.is_empty());
            prop_assert!(set.iter().map(|v| u128::from(v.power)).sum::<u128>() <= u128::from(POWER_MAX));
        }
    }
}
