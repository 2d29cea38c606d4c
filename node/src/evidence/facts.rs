//! What of the chain evidence is verified against. Every fact is one that all nodes with the same blocks have.

use super::{Invalid, Key};
use crate::store::{Chain, State, StoreError};
use std::sync::Arc;
use tendermint::Time;
use tendermint::block::{Header, Height};
use tendermint::evidence::Params;
use tercet_consensus::commit::Commit;
use tercet_consensus::validators::Validators;

/// Where the chain stands: the state that the block in question follows.
#[derive(Clone, Copy, Debug)]
pub struct Tip<'a> {
    /// The chain.
    pub chain_id: &'a str,
    /// The last executed height; 0 before the first.
    pub height: u64,
    /// The time of its block.
    pub time: Time,
    /// The parameters of evidence in the next block.
    pub params: &'a Params,
    /// The lowest height of which evidence may come.
    pub floor: u64,
}

impl<'a> Tip<'a> {
    /// The tip of a chain in `state`.
    #[must_use]
    pub fn of(state: &'a State) -> Tip<'a> {
        Tip {
            chain_id: &state.chain_id,
            height: state.last_height.map_or(0, |height| height.value()),
            time: state.last_block_time,
            params: &state.params.evidence,
            floor: state.evidence_floor,
        }
    }

    /// Whether `height` is executed.
    #[must_use]
    pub fn has(&self, height: Height) -> bool {
        height.value() <= self.height
    }

    /// Refuses what is too old: in blocks and in time (CometBFT `IsEvidenceExpired`).
    pub(super) fn check_age(&self, height: Height, time: Time) -> Result<(), Invalid> {
        let blocks = self.height.saturating_sub(height.value());
        // A time that lies ahead is no age.
        let age = self.time.duration_since(time).unwrap_or_default();
        let old = blocks > self.params.max_age_num_blocks && age > self.params.max_age_duration.0;
        if old { Err(Invalid::Old { height, time }) } else { Ok(()) }
    }
}

/// What is looked up in the chain, always of heights that [`Tip::has`].
pub trait Facts {
    /// The header at `height`.
    ///
    /// # Errors
    /// Where the store cannot be read; so everywhere below.
    fn header(&self, height: Height) -> Result<Option<Header>, StoreError>;
    /// The commit of `height` that stands in the block after it: the one that every node has.
    ///
    /// # Errors
    /// See [`Facts::header`].
    fn commit(&self, height: Height) -> Result<Option<Commit>, StoreError>;
    /// V(height).
    ///
    /// # Errors
    /// See [`Facts::header`].
    fn validators(&self, height: Height) -> Result<Option<Arc<Validators>>, StoreError>;
    /// The block in which the offence stands.
    ///
    /// # Errors
    /// See [`Facts::header`].
    fn committed(&self, key: &Key) -> Result<Option<Height>, StoreError>;
}

impl Facts for Chain {
    fn header(&self, height: Height) -> Result<Option<Header>, StoreError> {
        Ok(self.meta(height)?.map(|meta| meta.header))
    }

    fn commit(&self, height: Height) -> Result<Option<Commit>, StoreError> {
        if let Some(commit) = self.canonical_commit(height)? {
            return Ok(Some(commit));
        }
        // Where the block after it is pruned, its commit was kept in this place.
        let pruned = self.base().is_some_and(|base| height.value() + 1 < base.value());
        if pruned { self.seen_commit(height) } else { Ok(None) }
    }

    fn validators(&self, height: Height) -> Result<Option<Arc<Validators>>, StoreError> {
        Chain::validators(self, height)
    }

    fn committed(&self, key: &Key) -> Result<Option<Height>, StoreError> {
        self.evidence_mark(&key.to_bytes())
    }
}
