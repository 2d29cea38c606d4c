//! The validators as the kvstore knows them, and the changes of one block.
//!
//! CometBFT stops when a block removes a validator that there is not, removes the last one, changes one twice or makes their
//! powers too large. A client's transaction must not stop a chain, so here the first, second and fourth are refused and the
//! changes of one validator become one. The set is the one that the node will have two heights later.

use bytes::Bytes;
use std::collections::BTreeMap;
use tendermint_proto::v0_38::abci::ValidatorUpdate;
use tendermint_proto::v0_38::crypto::{self, public_key::Sum};

/// The most power that one validator, and all together, may have (CometBFT `types/validator_set.go`).
pub(super) const POWER_MAX: u64 = (i64::MAX / 8).unsigned_abs();
/// The most validators (CometBFT `types/vote_set.go`, `MaxVotesCount`).
const VALIDATORS_MAX: usize = 10_000;

/// A public key of one of the two kinds that validators have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PublicKey {
    /// ed25519.
    Ed25519([u8; 32]),
    /// secp256k1: a compressed point.
    Secp256k1([u8; 33]),
}

impl PublicKey {
    /// The ed25519 key in these 32 bytes; none where they are no point of the curve, as no signature could be verified with it.
    pub(super) fn ed25519(bytes: &[u8]) -> Option<PublicKey> {
        let bytes: [u8; 32] = bytes.try_into().ok()?;
        ed25519_zebra::VerificationKey::try_from(bytes).ok().map(|_| PublicKey::Ed25519(bytes))
    }

    /// The same of secp256k1, in 33 bytes.
    pub(super) fn secp256k1(bytes: &[u8]) -> Option<PublicKey> {
        let bytes: [u8; 33] = bytes.try_into().ok()?;
        // There are other forms of 33 bytes, of which there would be two of one key.
        let compressed = matches!(bytes, [2 | 3, ..]);
        let key = tendermint::PublicKey::from_raw_secp256k1(&bytes).filter(|_| compressed);
        key.map(|_| PublicKey::Secp256k1(bytes))
    }

    /// The key of an update.
    pub(super) fn of(update: &ValidatorUpdate) -> Option<PublicKey> {
        match update.pub_key.as_ref()?.sum.as_ref()? {
            Sum::Ed25519(bytes) => PublicKey::ed25519(bytes),
            Sum::Secp256k1(bytes) => PublicKey::secp256k1(bytes),
        }
    }

    /// The raw bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            PublicKey::Ed25519(bytes) => bytes,
            PublicKey::Secp256k1(bytes) => bytes,
        }
    }

    fn is_of_kind(self, other: PublicKey) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }

    /// The first 20 bytes of SHA-256 of an ed25519 key, RIPEMD-160 of SHA-256 of a secp256k1 one.
    ///
    /// # Panics
    /// Never: the key was decoded.
    fn address(self) -> Address {
        let key = match &self {
            PublicKey::Ed25519(bytes) => tendermint::PublicKey::from_raw_ed25519(bytes),
            PublicKey::Secp256k1(bytes) => tendermint::PublicKey::from_raw_secp256k1(bytes),
        };
        let id = tendermint::account::Id::from(key.expect("the key was decoded"));
        let mut address = [0; 20];
        address.copy_from_slice(id.as_bytes());
        Address(address)
    }
}

/// What a validator is named by.
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
        let bytes = self.key.as_bytes().to_vec();
        let key = match self.key {
            PublicKey::Ed25519(_) => Sum::Ed25519(bytes),
            PublicKey::Secp256k1(_) => Sum::Secp256k1(bytes),
        };
        let power = i64::try_from(self.power).expect("a power is at most POWER_MAX");
        ValidatorUpdate { pub_key: Some(crypto::PublicKey { sum: Some(key) }), power }
    }
}

/// Why a change is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("there is no such validator")]
    Absent,
    #[error("no validator has a key of this kind, so the chain may not permit it")]
    Kind,
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

    /// Whether the chain permits keys of this kind, as far as its validators show: an update of another kind would stop it. Where there
    /// are none, nothing is known.
    fn permit(&self, key: PublicKey) -> bool {
        self.0.is_empty() || self.iter().any(|validator| validator.key.is_of_kind(key))
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
            (0, _) if !self.before.permit(validator.key) => return Err(Refused::Kind),
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
        PublicKey::ed25519(ed25519_zebra::VerificationKey::from(&secret).as_ref()).unwrap()
    }

    /// The secp256k1 keys whose secrets are 1 and 2: the generator of the curve and its double.
    pub(in super::super) fn secp256k1() -> [PublicKey; 2] {
        [
            "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
            "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5",
        ]
        .map(|key| PublicKey::secp256k1(&hex::decode(key).unwrap()).unwrap())
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
    fn a_kind_of_key_that_no_validator_has_is_refused() {
        let [one, two] = testing::secp256k1();
        let secp256k1 = |key, power| Validator { key, power };
        let set = Validators::from_iter([validator(1, 10)]);
        assert_eq!(set.changes().set(secp256k1(one, 5)), Err(Refused::Kind));
        let set = Validators::from_iter([validator(1, 10), secp256k1(one, 5)]);
        let mut changes = set.changes();
        for change in [secp256k1(two, 5), validator(2, 5), secp256k1(one, 0)] {
            assert_eq!(changes.set(change), Ok(()));
        }
        let set = Validators::from_iter([secp256k1(one, 5)]);
        assert_eq!(set.changes().set(validator(1, 5)), Err(Refused::Kind));
        assert_eq!(set.changes().set(secp256k1(two, 5)), Ok(()));
    }

    /// The address of the generator is known to everyone as that of Bitcoin's secret 1.
    #[test]
    fn the_address_of_a_secp256k1_key_is_that_of_cometbft() {
        let [one, _] = testing::secp256k1();
        assert_eq!(hex::encode(one.address().0), "751e76e8199196d454941c45d1b3a323f1433bd6");
        let update = Validator { key: one, power: 12 }.update();
        assert_eq!(Validator::of(&update), Some(Validator { key: one, power: 12 }));
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
