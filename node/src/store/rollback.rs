//! The state one height back, for `tercet rollback`. Source: CometBFT `state/rollback.go`.

use super::chain::{Chain, Family, key};
use super::{State, StoreError};
use rocksdb::WriteBatch;
use tendermint::block::Height;

/// Why the state stays where it is.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    /// Nothing was executed here.
    #[error("data/chain holds no executed block: there is nothing to roll back")]
    Nothing,
    /// The last block is the chain's first.
    #[error(
        "block {0} is the first of the chain: `tercet reset` and an empty application begin anew"
    )]
    First(Height),
    /// What the state before consists of is pruned.
    #[error(
        "{what} of height {height} is not stored: restore a backup, or `tercet reset` fetches the chain from peers"
    )]
    Pruned {
        /// What is missing.
        what: &'static str,
        /// Of which height.
        height: Height,
    },
    /// State and blocks are of different moments.
    #[error(
        "the state is of height {state} and the highest block of height {top}: data/chain is not of one moment; `tercet reset` fetches the \
         chain from peers"
    )]
    Torn {
        /// The state.
        state: Height,
        /// The highest block.
        top: u64,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Chain {
    /// Puts the state back to before the last block, so that it is executed again, and says the state. With `hard` the block goes too.
    /// A block that was stored and never executed is all that is discarded. Durable on return.
    ///
    /// # Errors
    /// Where there is no state before, or the disk fails; then nothing has changed.
    pub fn rollback(&self, hard: bool) -> Result<State, RollbackError> {
        let state = self.state()?.ok_or(RollbackError::Nothing)?;
        let last = state.last_height.ok_or(RollbackError::Nothing)?;
        let top = self.height().map_or(0, |height| height.value());
        if top == last.value() + 1 {
            if hard {
                self.remove_top(last.increment())?;
            }
            return Ok(state);
        }
        if top != last.value() {
            return Err(RollbackError::Torn { state: last, top });
        }
        let mut before = self.state_before(&state, last)?;
        before.evidence_floor = self.floor_before(&state, &before)?;
        if hard {
            self.below_top(last)?;
        }
        let mut batch = WriteBatch::default();
        // What the block changed; executed again, it changes it again.
        let next = last.increment();
        batch.delete_cf(self.family(Family::Validators), key(next.increment()));
        batch.delete_cf(self.family(Family::Params), key(next));
        self.drop_marks(&mut batch, last)?;
        self.write_state(batch, &before)?;
        self.cache().clear();
        self.sync()?;
        if hard {
            self.remove_top(last)?;
        }
        Ok(before)
    }

    /// The state before the block at `last`.
    fn state_before(&self, state: &State, last: Height) -> Result<State, RollbackError> {
        let before = Height::try_from(last.value() - 1).ok();
        let before = before.filter(|before| *before >= state.initial_height);
        let before = before.ok_or(RollbackError::First(last))?;
        let missing = |what, height| RollbackError::Pruned { what, height };
        let block = self.meta(before)?.ok_or_else(|| missing("the header", before))?;
        let after = self.meta(last)?.ok_or_else(|| missing("the header", last))?;
        self.seen_commit(before)?.ok_or_else(|| missing("the commit", before))?;
        let set =
            |height| self.validators(height)?.ok_or_else(|| missing("the validator set", height));
        Ok(State {
            chain_id: state.chain_id.clone(),
            initial_height: state.initial_height,
            last_height: Some(before),
            last_block_id: Some(block.block_id),
            last_block_time: block.header.time,
            last_validators: Some(set(before)?),
            validators: set(last)?,
            next_validators: set(last.increment())?,
            params: self.params(last)?.ok_or_else(|| missing("the parameters", last))?,
            // Agreed upon in the block that is rolled back.
            app_hash: after.header.app_hash.as_bytes().to_vec(),
            last_results_hash: after.header.last_results_hash,
            app_version: after.header.version.app,
            evidence_floor: state.evidence_floor,
        })
    }

    /// The floor of the state before: what it was raised to by the last block alone falls again.
    fn floor_before(&self, state: &State, before: &State) -> Result<u64, StoreError> {
        let (initial, floor) = (state.initial_height.value(), state.evidence_floor);
        // Above what the parameters say, it is of an earlier block.
        if self.young(state, initial, floor.max(initial))? < floor {
            return Ok(floor);
        }
        self.young(before, initial, floor.max(initial))
    }

    /// Removes the highest block with its commit and what the application answered to it.
    fn remove_top(&self, top: Height) -> Result<(), RollbackError> {
        let before = self.below_top(top)?;
        let missing = RollbackError::Pruned { what: "the header", height: top };
        let meta = self.meta(top)?.ok_or(missing)?;
        let mut batch = WriteBatch::default();
        batch.delete_cf(self.family(Family::Hash), meta.block_id.hash.as_bytes());
        for family in [Family::Block, Family::Meta, Family::Commit, Family::Results] {
            batch.delete_cf(self.family(family), key(top));
        }
        self.write(batch)?;
        self.set_height(before);
        Ok(self.sync()?)
    }

    /// The height below the highest block, of which there must be a block.
    fn below_top(&self, top: Height) -> Result<Height, RollbackError> {
        let below = Height::try_from(top.value() - 1).map_err(|_| RollbackError::First(top))?;
        match self.base().is_some_and(|base| base <= below) {
            true => Ok(below),
            false => Err(RollbackError::Pruned { what: "the block", height: below }),
        }
    }
}
