//! The chain's states, and what stands by height around them: validator sets, parameters, results.

use super::StoreError;
use super::chain::{Chain, Family, key};
use super::state::{
    Applied, Lookups, RawState, State, decode_params, decode_validators, encode_params,
    encode_validators,
};
use crate::wire;
use prost::Message as _;
use rocksdb::WriteBatch;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tendermint::block::Height;
use tendermint::consensus::Params;
use tendermint_proto::v0_38::abci::ResponseFinalizeBlock;
use tercet_consensus::commit::Commit;
use tercet_consensus::validators::Validators;

/// Key of the state.
const STATE_KEY: &[u8] = b"state";
/// Key of the hash of the genesis.
const GENESIS_KEY: &[u8] = b"genesis";

impl Chain {
    /// The state after the last applied block, none before [`Chain::init`].
    ///
    /// # Errors
    /// Where it is damaged or the disk fails.
    pub fn state(&self) -> Result<Option<State>, StoreError> {
        let Some((raw, last, initial)) = self.raw_state()? else { return Ok(None) };
        let height = last.map_or(initial, Height::increment);
        let lost = |what| self.0.folder.damaged("state".into(), what);
        let validators =
            |height| self.validators(height)?.ok_or_else(|| lost("its validators are not there"));
        let lookups = Lookups {
            last_validators: last.map(validators).transpose()?,
            validators: validators(height)?,
            next_validators: validators(height.increment())?,
            params: self.params(height)?.ok_or_else(|| lost("its parameters are not there"))?,
        };
        raw.complete(lookups).map(Some).ok_or_else(|| lost("malformed"))
    }

    /// Stores what an application answered to a block and the state after it, with V(h+2) and the parameters of h+1 where they
    /// change, and the marks of its evidence: one batch, not synced. The last one may be stored again.
    ///
    /// # Errors
    /// Where it leaves a gap, is of a height before the last, or the disk fails.
    pub fn apply(&self, applied: &Applied) -> Result<(), StoreError> {
        let Applied { height, results, state, offences } = applied;
        let last = self.0.next.load(Ordering::Acquire).saturating_sub(1);
        let follows = height.value() == last || height.value() == last.saturating_add(1);
        if !follows || state.last_height != Some(*height) {
            let last = Height::try_from(last).unwrap_or(*height);
            return Err(StoreError::Gap { height: *height, last });
        }
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(Family::Results), key(*height), results.encode_to_vec());
        self.put_marks(&mut batch, *height, offences);
        let next_height = height.increment();
        self.put_validators(&mut batch, next_height.increment(), &state.next_validators)?;
        let params = encode_params(&state.params);
        if self.before(Family::Params, next_height)?.is_none_or(|(_, found)| found != params) {
            batch.put_cf(self.family(Family::Params), key(next_height), params);
        }
        self.write_state(batch, state)
    }

    /// Stores the state with which this node begins, after `InitChain` or after the block that it starts behind: V(last), V(last+1),
    /// V(last+2) and the parameters of last+1 with it. Synced.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn init(&self, state: &State) -> Result<(), StoreError> {
        let height = state.next_height();
        let mut batch = WriteBatch::default();
        let family = self.family(Family::Validators);
        if let (Some(last), Some(validators)) = (state.last_height, &state.last_validators) {
            batch.put_cf(family, key(last), encode_validators(validators));
        }
        batch.put_cf(family, key(height), encode_validators(&state.validators));
        let next_validators = encode_validators(&state.next_validators);
        batch.put_cf(family, key(height.increment()), next_validators);
        batch.put_cf(self.family(Family::Params), key(height), encode_params(&state.params));
        self.write_state(batch, state)?;
        self.cache().clear();
        self.sync()
    }

    /// Stores the state behind which this node begins, with the commit that decided its last block: what a node needs that has no
    /// earlier blocks. Synced.
    ///
    /// # Errors
    /// Where the commit is not of the state's last block, or the disk fails.
    pub fn begin(&self, state: &State, commit: &Commit) -> Result<(), StoreError> {
        if state.last_block_id != Some(commit.block_id) || state.last_height != Some(commit.height)
        {
            return Err(StoreError::Conflict { height: commit.height });
        }
        let mut batch = WriteBatch::default();
        let family = self.family(Family::Commit);
        batch.put_cf(family, key(commit.height), wire::encode_commit(commit));
        self.write(batch)?;
        self.init(state)
    }

    /// The hash of the genesis that this chain began with, none in a new store.
    ///
    /// # Errors
    /// Where it is damaged or the disk fails.
    pub fn genesis_hash(&self) -> Result<Option<[u8; 32]>, StoreError> {
        let Some(bytes) = self.get(Family::State, GENESIS_KEY)? else { return Ok(None) };
        let damaged = |_| self.0.folder.damaged("genesis".into(), "not a hash");
        <[u8; 32]>::try_from(&*bytes).map(Some).map_err(damaged)
    }

    /// Stores the hash of the genesis. Synced.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn set_genesis_hash(&self, hash: &[u8; 32]) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(Family::State), GENESIS_KEY, hash);
        self.write(batch)?;
        self.sync()
    }

    /// What the application answered to the block at `height`.
    ///
    /// # Errors
    /// Where it is damaged or the disk fails.
    pub fn results(&self, height: Height) -> Result<Option<ResponseFinalizeBlock>, StoreError> {
        let Some(bytes) = self.get(Family::Results, &key(height))? else { return Ok(None) };
        let results = ResponseFinalizeBlock::decode(&*bytes);
        results.map(Some).map_err(|_| self.damaged(Family::Results, height, "malformed"))
    }

    /// V(height), where it is known: up to two heights beyond the last applied block.
    ///
    /// # Errors
    /// Where it is damaged or the disk fails.
    pub fn validators(&self, height: Height) -> Result<Option<Arc<Validators>>, StoreError> {
        if height.value() > self.0.next.load(Ordering::Acquire).saturating_add(1) {
            return Ok(None);
        }
        let Some((stored, bytes)) = self.before(Family::Validators, height)? else {
            return Ok(None);
        };
        if let Some(validators) = self.cache().get(&stored.value()) {
            return Ok(Some(validators.clone()));
        }
        let validators = decode_validators(&bytes)
            .ok_or_else(|| self.damaged(Family::Validators, stored, "not a validator set"))?;
        let validators = Arc::new(validators);
        self.cache().put(stored.value(), validators.clone());
        Ok(Some(validators))
    }

    /// The parameters of `height`, where they are known: up to the height after the last applied block.
    ///
    /// # Errors
    /// Where they are damaged or the disk fails.
    pub fn params(&self, height: Height) -> Result<Option<Params>, StoreError> {
        if height.value() > self.0.next.load(Ordering::Acquire) {
            return Ok(None);
        }
        let Some((stored, bytes)) = self.before(Family::Params, height)? else { return Ok(None) };
        let params = decode_params(&bytes);
        params.map(Some).ok_or_else(|| self.damaged(Family::Params, stored, "not parameters"))
    }

    fn raw_state(&self) -> Result<Option<(RawState, Option<Height>, Height)>, StoreError> {
        let Some(bytes) = self.get(Family::State, STATE_KEY)? else { return Ok(None) };
        let raw = RawState::decode(&*bytes).ok();
        let state = raw.and_then(|raw| raw.heights().map(|(last, first)| (raw, last, first)));
        let damaged = || self.0.folder.damaged("state".into(), "malformed");
        state.map(Some).ok_or_else(damaged)
    }

    pub(super) fn write_state(
        &self,
        mut batch: WriteBatch,
        state: &State,
    ) -> Result<(), StoreError> {
        let raw = RawState::from(state).encode_to_vec();
        batch.put_cf(self.family(Family::State), STATE_KEY, raw);
        self.write(batch)?;
        let next = next(state.last_height, state.initial_height);
        self.0.next.store(next, Ordering::Release);
        Ok(())
    }

    fn put_validators(
        &self,
        batch: &mut WriteBatch,
        height: Height,
        validators: &Validators,
    ) -> Result<(), StoreError> {
        let bytes = encode_validators(validators);
        if self.before(Family::Validators, height)?.is_none_or(|(_, found)| found != bytes) {
            batch.put_cf(self.family(Family::Validators), key(height), bytes);
            self.cache().pop(&height.value());
        }
        Ok(())
    }

    /// Reads how far the chain is applied; for [`Chain::open`].
    pub(super) fn load_next(&self) -> Result<(), StoreError> {
        if let Some((_, last, initial)) = self.raw_state()? {
            self.0.next.store(next(last, initial), Ordering::Release);
        }
        Ok(())
    }
}

/// The height of the next block to be applied.
fn next(last: Option<Height>, initial: Height) -> u64 {
    last.map_or(initial.value(), |last| last.value().saturating_add(1))
}
