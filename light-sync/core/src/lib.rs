//! The header-first light client of Tendermint chains, pure: no clock, thread, socket, file or randomness, in it or below it.
//!
//! # From one trusted height to a verified chain
//!
//! 1. **Root.** The user trusts one height and hash ([`options::TrustRoot`]). The block that has this hash is the first anchor.
//! 2. **Anchors.** Blocks far apart are verified by skipping ([`verify`]): the validators that the last anchor names for the next
//!    height must have signed with more than the trust level of their power, and more than two thirds of the new set. Where too few
//!    did, a block between is verified first.
//! 3. **Hash fill.** Every header between two anchors is accepted because the header above names its hash ([`chain`]), from the
//!    upper anchor down to the lower one, which it must meet exactly. Below the root there is no lower anchor, and nothing else
//!    differs.
//! 4. **Witnesses.** Every anchor is compared with at least k other providers. With fewer it is unconfirmed. One that differs has
//!    to show a chain of its own from the last block that it shares; where that verifies too there is a fork, everything freezes,
//!    and [`evidence`] is built.
//!
//! # What is a type
//!
//! | Rule | Where |
//! |---|---|
//! | an address is that of its key | [`tercet_consensus::validators::Validators`] has no other |
//! | one vote counts once | a set has each validator once, and two entries of one validator are refused |
//! | the commit is for this header, the sets are those of this header | [`block::BoundBlock`] |
//! | the next validators are those that the trusted header names | [`block::TrustedBlock`] |
//! | a header is verified before it is used | [`block::TrustedBlock`], [`chain::TrustedRun`] |
//! | one header has one encoding | [`header::Header`] |
//! | only what was asked for is taken, within its size | [`planner::Request`] |
//! | a proof is for the key that was asked for | [`proofs::KeyPath`] |

pub mod block;
pub mod chain;
pub mod commit;
pub mod content;
pub mod evidence;
pub mod hash;
pub mod header;
mod merkle;
pub mod options;
pub mod planner;
pub mod proofs;
mod sign_bytes;
mod signatures;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub mod tree;
pub mod verify;
pub mod wire;
