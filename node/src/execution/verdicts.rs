//! What the application said of the blocks of one height: an application must say the same of one block each time, and what it refuses
//! is not decided. Neither can fork the chain, as nothing is signed that it refused in that moment, and what a quorum decided counts;
//! but the operator has to know.

use std::collections::BTreeMap;
use tendermint::Hash;
use tendermint::block::Height;
use tercet_consensus::block::BlockId;

/// Blocks of a height that are remembered. A view has one, so more come only where views fail one after the other.
const VERDICTS_MAX: usize = 64;

/// The verdicts of one height.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    height: Option<Height>,
    accepted: BTreeMap<Hash, bool>,
}

impl Verdicts {
    /// Remembers what the application said of a block; a line where it contradicts itself.
    pub(super) fn judged(
        &mut self,
        height: Height,
        id: &BlockId,
        accepted: bool,
    ) -> Option<String> {
        if self.height != Some(height) {
            *self = Verdicts { height: Some(height), accepted: BTreeMap::new() };
        }
        if self.accepted.len() >= VERDICTS_MAX && !self.accepted.contains_key(&id.hash) {
            return None;
        }
        let before = self.accepted.insert(id.hash, accepted)?;
        (before != accepted).then(|| {
            format!(
                "the application answered ProcessProposal of block {} at height {height} with {}, and before with {}: it is not \
                 deterministic. The last answer counts for what is signed from now on, and what a quorum decides is executed",
                id.hash,
                word(accepted),
                word(before)
            )
        })
    }

    /// A line where the decided block is one that the application refused.
    pub(super) fn decided(&self, height: Height, id: &BlockId) -> Option<String> {
        let accepted = self.accepted.get(&id.hash).filter(|_| self.height == Some(height))?;
        (!accepted).then(|| {
            format!(
                "block {} of height {height} is decided and executed, though this node's application refused it: a quorum accepted it. \
                 The application is not deterministic, or of another version than that of the others",
                id.hash
            )
        })
    }
}

fn word(accepted: bool) -> &'static str {
    if accepted { "ACCEPT" } else { "REJECT" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tendermint::block::parts;

    fn id(n: u8) -> BlockId {
        let hash = Hash::Sha256([n; 32]);
        BlockId { hash, part_set_header: parts::Header::new(1, hash).expect("a header") }
    }

    #[test]
    fn the_same_answer_twice_is_no_contradiction_and_another_is_one_line() {
        let mut verdicts = Verdicts::default();
        let height = Height::from(5u32);
        assert_eq!(verdicts.judged(height, &id(1), true), None);
        assert_eq!(verdicts.judged(height, &id(2), false), None);
        assert_eq!(verdicts.judged(height, &id(1), true), None);
        let line = verdicts.judged(height, &id(1), false).expect("a contradiction");
        assert!(line.contains("height 5 with REJECT, and before with ACCEPT"), "{line}");
        assert_eq!(line.lines().count(), 1);
        // Of another height nothing is known.
        assert_eq!(verdicts.judged(Height::from(6u32), &id(2), true), None);
    }

    #[test]
    fn a_decided_block_that_was_refused_is_told() {
        let mut verdicts = Verdicts::default();
        let height = Height::from(5u32);
        verdicts.judged(height, &id(1), false);
        verdicts.judged(height, &id(2), true);
        assert!(verdicts.decided(height, &id(1)).expect("told").contains("refused it"));
        assert_eq!(verdicts.decided(height, &id(2)), None);
        assert_eq!(verdicts.decided(height, &id(3)), None);
        assert_eq!(verdicts.decided(Height::from(6u32), &id(1)), None);
    }

    #[test]
    fn the_verdicts_of_a_height_are_bounded() {
        let mut verdicts = Verdicts::default();
        for n in 0..=u8::MAX {
            verdicts.judged(Height::from(5u32), &id(n), true);
        }
        assert_eq!(verdicts.accepted.len(), VERDICTS_MAX);
    }
}
