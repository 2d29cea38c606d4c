//! Stored values, decoded as the store does, for tests with hostile bytes: a disk is not trusted. What comes out goes back to the bytes
//! that it would be stored as, and is the same.

use super::chain::decode_meta;
use super::state::{RawState, decode_params, decode_validators, encode_params, encode_validators};
use prost::Message as _;
use tercet_consensus::testing::validators;

/// A validator set.
///
/// # Panics
/// Where a set does not come back.
pub fn validator_set(bytes: &[u8]) {
    if let Some(set) = decode_validators(bytes) {
        let again = decode_validators(&encode_validators(&set)).expect("it is one");
        assert_eq!(again.hash(), set.hash());
    }
}

/// Parameters.
///
/// # Panics
/// Where they do not come back.
pub fn parameters(bytes: &[u8]) {
    if let Some(params) = decode_params(bytes) {
        assert_eq!(decode_params(&encode_params(&params)), Some(params));
    }
}

/// A state, and the metadata of a block.
///
/// # Panics
/// Where a state does not come back.
pub fn state(bytes: &[u8]) {
    drop(decode_meta(bytes));
    let Ok(raw) = RawState::decode(bytes) else { return };
    if raw.heights().is_some() {
        assert_eq!(RawState::decode(raw.encode_to_vec().as_slice()), Ok(raw));
    }
}

/// Valid values of each kind: sets, parameters, states.
#[must_use]
pub fn samples(state: &super::State) -> [Vec<u8>; 3] {
    let set = encode_validators(&validators(&[4, 3, 2, 1]));
    [set, encode_params(&state.params), RawState::from(state).encode_to_vec()]
}
