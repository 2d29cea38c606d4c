//! Test support: validators with keys.

use crate::key::{PublicKey, Signature};
use crate::validators::Validators;
use ed25519_dalek::{Signer as _, SigningKey};

/// The signing key number `n`.
#[must_use]
pub fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

/// The public half of [`key`].
///
/// # Panics
/// Never: it is a key.
#[must_use]
pub fn public(n: u8) -> PublicKey {
    PublicKey::ed25519(key(n).verifying_key().as_bytes()).expect("a key")
}

/// A set of validators with these powers; validator number i (in this order) has [`key`] i.
///
/// # Panics
/// Where the powers make no set.
#[must_use]
pub fn validators(powers: &[u64]) -> Validators {
    Validators::new((0u8..).zip(powers).map(|(n, power)| (public(n), *power))).expect("a set")
}

/// `n`'s signature over `message`.
#[must_use]
pub fn sign(n: u8, message: &[u8]) -> Signature {
    Signature(key(n).sign(message).to_bytes())
}

pub mod checker;
pub mod cluster;
pub mod exhaustive;
mod liar;
pub mod messages;
#[cfg(test)]
mod network_tests;
mod outputs;
mod sets;
