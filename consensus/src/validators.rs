//! The validator set of one height.

use crate::key::{Address, PublicKey, UnsupportedKey};
use crate::power;
use std::collections::BTreeMap;
use tendermint::Hash;

/// The position of a validator in the canonical order of its set.
pub type ValidatorIndex = u32;

/// The most validators a set may have (CometBFT `types/vote_set.go`, `MaxVotesCount`).
pub const VALIDATORS_MAX: usize = 10_000;

/// One validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validator {
    /// Its address, derived from `key`.
    pub address: Address,
    /// Its public key.
    pub key: PublicKey,
    /// Its voting power, above zero.
    pub power: u64,
}

/// The validators of one height in canonical order (power descending, then address), never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validators {
    list: Vec<Validator>,
    by_address: BTreeMap<Address, ValidatorIndex>,
    total: u64,
    hash: Hash,
}

impl Validators {
    /// The set of these keys and powers.
    ///
    /// # Errors
    /// Where the set is empty or too large, a power is zero, a key stands twice or the total power exceeds its limit.
    pub fn new(
        members: impl IntoIterator<Item = (PublicKey, u64)>,
    ) -> Result<Validators, ValidatorsError> {
        let mut list: Vec<Validator> = members
            .into_iter()
            .map(|(key, power)| Validator { address: key.address(), key, power })
            .collect();
        if list.is_empty() {
            return Err(ValidatorsError::Empty);
        }
        if list.len() > VALIDATORS_MAX {
            return Err(ValidatorsError::TooMany(list.len()));
        }
        list.sort_by(|a, b| b.power.cmp(&a.power).then(a.address.cmp(&b.address)));
        let mut total = 0u64;
        let mut by_address = BTreeMap::new();
        for (index, validator) in (0u32..).zip(&list) {
            if validator.power == 0 {
                return Err(ValidatorsError::NoPower(validator.address));
            }
            total = total
                .checked_add(validator.power)
                .filter(|total| *total <= power::TOTAL_POWER_MAX)
                .ok_or(ValidatorsError::TotalPower)?;
            if by_address.insert(validator.address, index).is_some() {
                return Err(ValidatorsError::Twice(validator.address));
            }
        }
        let hash = hash(&list)?;
        Ok(Validators { list, by_address, total, hash })
    }

    /// The set that these Tendermint validators form; their stated addresses must be the derived ones.
    ///
    /// # Errors
    /// As [`Validators::new`], and where a key is of an unsupported kind or an address is not that of its key.
    pub fn from_tendermint(
        infos: &[tendermint::validator::Info],
    ) -> Result<Validators, ValidatorsError> {
        let mut members = Vec::with_capacity(infos.len());
        for info in infos {
            let key = PublicKey::try_from(&info.pub_key)?;
            if key.address() != info.address {
                return Err(ValidatorsError::Address(info.address));
            }
            members.push((key, info.power.value()));
        }
        Validators::new(members)
    }

    /// The set as Tendermint's validators, in canonical order.
    ///
    /// # Panics
    /// Never: every power fits.
    #[must_use]
    pub fn to_tendermint(&self) -> Vec<tendermint::validator::Info> {
        let info = |validator: &Validator| {
            let power = validator.power.try_into().expect("a power is at most MaxInt64 / 8");
            tendermint::validator::Info::new(validator.key.to_tendermint(), power)
        };
        self.list.iter().map(info).collect()
    }

    /// All validators in canonical order.
    #[must_use]
    pub fn list(&self) -> &[Validator] {
        &self.list
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// The validator at `index`, none where there is none.
    #[must_use]
    pub fn at(&self, index: ValidatorIndex) -> Option<&Validator> {
        self.list.get(usize::try_from(index).ok()?)
    }

    /// The index of the validator with this address.
    #[must_use]
    pub fn index_of(&self, address: &Address) -> Option<ValidatorIndex> {
        self.by_address.get(address).copied()
    }

    /// The power at `index`; zero where there is no validator.
    #[must_use]
    pub fn power_at(&self, index: ValidatorIndex) -> u64 {
        self.at(index).map_or(0, |validator| validator.power)
    }

    /// The sum of all powers.
    #[must_use]
    pub fn total_power(&self) -> u64 {
        self.total
    }

    /// The summed power of distinct indices. Callers pass each index once (keys of a map, or a checked list).
    #[must_use]
    pub fn power_of(&self, indices: impl IntoIterator<Item = ValidatorIndex>) -> u64 {
        indices.into_iter().map(|index| self.power_at(index)).fold(0, u64::saturating_add)
    }

    /// Whether `power` is more than two thirds of the total.
    #[must_use]
    pub fn is_quorum(&self, power: u64) -> bool {
        power >= power::quorum(self.total)
    }

    /// Whether `power` is more than one third of the total.
    #[must_use]
    pub fn is_blocking(&self, power: u64) -> bool {
        power >= power::blocking(self.total)
    }

    /// `validators_hash` of a header: the Merkle root over `SimpleValidator` encodings (CometBFT `types/validator_set.go`).
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.hash
    }
}

fn hash(list: &[Validator]) -> Result<Hash, ValidatorsError> {
    let leaves = list
        .iter()
        .map(|validator| {
            let power = validator.power.try_into().map_err(|_| ValidatorsError::TotalPower)?;
            let info = tendermint::validator::Info::new(validator.key.to_tendermint(), power);
            Ok(info.hash_bytes())
        })
        .collect::<Result<Vec<_>, ValidatorsError>>()?;
    Ok(crate::merkle::root(&leaves))
}

/// Why no validator set can be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidatorsError {
    /// There is no validator.
    #[error("the validator set is empty")]
    Empty,
    /// There are more than [`VALIDATORS_MAX`].
    #[error("{0} validators are more than {VALIDATORS_MAX}")]
    TooMany(usize),
    /// A validator has no power.
    #[error("validator {0} has no voting power")]
    NoPower(Address),
    /// A validator stands twice.
    #[error("validator {0} stands twice in the set")]
    Twice(Address),
    /// The stated address is not that of the key.
    #[error("address {0} is not that of its public key")]
    Address(Address),
    /// The total power is above [`power::TOTAL_POWER_MAX`].
    #[error("the total voting power exceeds {}", power::TOTAL_POWER_MAX)]
    TotalPower,
    /// A key is of a kind that is not supported.
    #[error(transparent)]
    Key(#[from] UnsupportedKey),
}
