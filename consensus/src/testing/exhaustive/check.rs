//! S1, S2 and S3 on a state of the network, from what correct replicas signed and with arithmetic of its own.

use super::bounds::{CORRECT, LIAR, SEATS};
use super::local::Signed;
use super::network::Network;
use crate::message::Phase;

/// Whether votes of these correct seats and of the faulty one make a quorum; no certificate counts that holds no correct vote.
pub(super) fn is_quorum(powers: &[u64; SEATS], correct: usize) -> bool {
    let total: u64 = powers.iter().sum();
    let votes: u64 = (0..CORRECT).filter(|seat| correct >> seat & 1 == 1).map(|s| powers[s]).sum();
    votes > 0 && 3 * (votes + powers[LIAR]) > 2 * total
}

/// The invariant that breaks at a height where correct replicas signed this.
pub(super) fn broken(
    powers: &[u64; SEATS],
    signed: &[Signed; CORRECT],
    views: u8,
    blocks: u8,
) -> Option<&'static str> {
    let formed =
        |phase, view, block| is_quorum(powers, Network::voters(signed, phase, view, block));
    let mut committed: Option<u8> = None;
    for view in 0..views {
        let mut prepared = None;
        for block in (0..blocks).filter(|block| formed(Phase::Prepare, view, *block)) {
            if prepared.replace(block).is_some() {
                return Some("S2: two blocks prepared in one view");
            }
            if committed.is_some_and(|committed| committed != block) {
                return Some("S3: another block prepared above a commit");
            }
        }
        for block in (0..blocks).filter(|block| formed(Phase::Commit, view, *block)) {
            if *committed.get_or_insert(block) != block {
                return Some("S1: two blocks committed at one height");
            }
        }
    }
    None
}
