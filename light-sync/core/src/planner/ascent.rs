//! From a trusted block up to a target: skipping verification, of which the blocks come one at a time from outside.

use super::request::ProviderId;
use crate::block::{BoundBlock, TrustedBlock};
use crate::header::Height;
use crate::options::Options;
use crate::time::Time;
use crate::verify::{Invalid, Refusal};

/// The most blocks that wait for one below them to be verified. Where there would be more, the highest is dropped and fetched
/// again.
pub const WAITING_BLOCKS_MAX: usize = 16;

/// Blocks that could not be verified yet, the highest first.
#[derive(Debug, Default)]
pub(super) struct Ascent {
    waiting: Vec<(BoundBlock, ProviderId)>,
    need: Option<Height>,
}

/// What came of looking at the lowest of them.
#[derive(Debug)]
pub(super) enum Step {
    /// There is none.
    Idle,
    /// Another block is needed first, see [`Ascent::need`].
    Need,
    /// It is verified.
    Extended(Box<TrustedBlock>, ProviderId),
    /// It cannot be of the chain.
    Refuse(ProviderId, Invalid),
    /// It is from the future, by the local clock.
    Future(ProviderId),
    /// What is trusted is too old to go on from.
    Expired,
}

impl Ascent {
    /// The height that is needed, where one is.
    pub(super) fn need(&self) -> Option<Height> {
        self.need
    }

    /// Whether nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Who sent what waits.
    pub(super) fn senders(&self) -> impl Iterator<Item = ProviderId> {
        self.waiting.iter().map(|(_, from)| *from)
    }

    pub(super) fn clear(&mut self) {
        *self = Ascent::default();
    }

    /// Takes a block that was asked for.
    pub(super) fn offer(&mut self, block: BoundBlock, from: ProviderId) {
        self.need = None;
        if self.waiting.len() >= WAITING_BLOCKS_MAX {
            self.waiting.remove(0);
        }
        self.waiting.push((block, from));
    }

    /// Tries to verify the lowest block from `trusted`.
    pub(super) fn step(&mut self, trusted: &TrustedBlock, options: &Options, now: Time) -> Step {
        while self.waiting.last().is_some_and(|(block, _)| block.height() <= trusted.height()) {
            self.waiting.pop();
        }
        let Some((block, from)) = self.waiting.last() else { return Step::Idle };
        let from = *from;
        match trusted.extend(block.clone(), options, now) {
            Ok(block) => {
                self.waiting.pop();
                Step::Extended(Box::new(block), from)
            }
            Err(Refusal::NotEnoughTrust(_)) => {
                self.need = Some(pivot(trusted.height(), block.height()));
                Step::Need
            }
            Err(Refusal::Invalid(Invalid::Expired)) => Step::Expired,
            Err(Refusal::Invalid(invalid)) => {
                self.waiting.pop();
                if invalid == Invalid::Future {
                    Step::Future(from)
                } else {
                    Step::Refuse(from, invalid)
                }
            }
        }
    }
}

/// Nine sixteenths of the way (CometBFT `light/client.go`, `verifySkippingNumerator`), strictly between. Callers ask where there is
/// a height between, as an adjacent block has enough trust or is invalid.
fn pivot(low: Height, high: Height) -> Height {
    let way = high - low;
    low + (way / 16 * 9 + way % 16 * 9 / 16).clamp(1, way.saturating_sub(1).max(1))
}
