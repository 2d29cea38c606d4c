//! The hash of a genesis.
//!
//! SHA-256 over [`DOMAIN`] and then, in this order: time (seconds since 1970 as 8 bytes, nanoseconds as 4), chain id,
//! initial height, block.max_bytes, block.max_gas, evidence.max_age_num_blocks, evidence.max_age_duration (nanoseconds),
//! evidence.max_bytes, the number of key types and each as a string, version.app, vote_extensions_enable_height (0 for
//! none), the number of validators and of each its key, power and name, the application hash, 1 and the bytes of
//! `app_state` or 0 without one, primary_term, min_block_interval (nanoseconds). Numbers are 8 bytes, big-endian, −1 being
//! all ones; strings and byte strings follow their length. A change of this is a change of every chain's identity.

use super::Genesis;
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// What the hashed bytes begin with.
const DOMAIN: &[u8] = b"tercet/genesis/1";

struct Hasher(Sha256);

impl Hasher {
    fn number(&mut self, number: u64) {
        self.0.update(number.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn nanos(&mut self, duration: Duration) {
        // Durations are read from Go's 63 bits of nanoseconds.
        self.number(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }
}

pub(super) fn hash(genesis: &Genesis) -> [u8; 32] {
    let mut hasher = Hasher(Sha256::new());
    hasher.0.update(DOMAIN);
    hasher.number(genesis.time.unix_timestamp().cast_unsigned());
    let nanos = genesis.time.unix_timestamp_nanos().rem_euclid(1_000_000_000);
    hasher.0.update(u32::try_from(nanos).unwrap_or_default().to_be_bytes());
    hasher.bytes(genesis.chain_id.as_bytes());
    hasher.number(genesis.initial_height.value());
    params(&mut hasher, &genesis.params);
    hasher.number(genesis.validators.len() as u64);
    for validator in &genesis.validators {
        hasher.bytes(&validator.public_key.to_bytes());
        hasher.number(validator.power);
        hasher.bytes(validator.name.as_bytes());
    }
    hasher.bytes(&genesis.app_hash);
    match &genesis.app_state {
        None => hasher.number(0),
        Some(state) => {
            hasher.number(1);
            hasher.bytes(state.get().as_bytes());
        }
    }
    hasher.number(genesis.tercet.primary_term);
    hasher.nanos(genesis.tercet.min_block_interval);
    hasher.0.finalize().into()
}

fn params(hasher: &mut Hasher, params: &tendermint::consensus::Params) {
    hasher.number(params.block.max_bytes);
    hasher.number(params.block.max_gas.cast_unsigned());
    hasher.number(params.evidence.max_age_num_blocks);
    hasher.nanos(params.evidence.max_age_duration.0);
    hasher.number(params.evidence.max_bytes.cast_unsigned());
    hasher.number(params.validator.pub_key_types.len() as u64);
    for kind in &params.validator.pub_key_types {
        hasher.bytes(super::params::key_type(*kind).as_bytes());
    }
    hasher.number(params.version.as_ref().map_or(0, |version| version.app));
    hasher.number(params.abci.vote_extensions_enable_height.map_or(0, |height| height.value()));
}
