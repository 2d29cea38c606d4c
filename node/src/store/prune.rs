//! Pruning of the chain, as CometBFT prunes (its `store/store.go` `PruneBlocks`, `state/store.go` `PruneStates`): below the height that the
//! application retains go blocks, results, hashes and parameters; headers, commits and validator sets stay as long as evidence of
//! their height may come.
//!
//! Each batch is one atomic write. What a crash leaves undone is done by the next run: it begins at what is lowest on the disk.

use super::chain::{Chain, Family, key, parse_key};
use super::{State, StoreError};
use crate::wire;
use rocksdb::WriteBatch;
use std::sync::atomic::Ordering;
use tendermint::block::{Header, Height};

/// Heights that one batch removes.
const PRUNE_BATCH: u64 = 1_000;
/// Removed space is given back to the file system each time the lowest block passes a multiple of this.
const COMPACT_HEIGHTS: u64 = 1_000;
/// Key of the height that the application retains.
const RETAIN_KEY: &[u8] = b"retain";

/// What one call of [`Chain::prune_batch`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// Blocks that went.
    pub blocks: u64,
    /// Whether there is more to do.
    pub more: bool,
}

impl Chain {
    /// Removes what the application no longer retains below `below`, but never the highest block or the last applied one, and says how
    /// many blocks went. It may take long: call it in the background, or [`Chain::prune_batch`] batch by batch.
    ///
    /// # Errors
    /// Where a stored value is damaged or the disk fails.
    pub fn prune(&self, below: Height) -> Result<u64, StoreError> {
        let mut blocks = 0;
        loop {
            let pruned = self.prune_batch(below)?;
            blocks += pruned.blocks;
            if !pruned.more {
                return Ok(blocks);
            }
        }
    }

    /// One batch of [`Chain::prune`].
    ///
    /// # Errors
    /// Where a stored value is damaged or the disk fails.
    pub fn prune_batch(&self, below: Height) -> Result<Pruned, StoreError> {
        let none = Pruned { blocks: 0, more: false };
        let Some((from, to)) = self.next_batch(below) else { return Ok(none) };
        if from < to {
            self.prune_blocks(from, to)?;
            if from / COMPACT_HEIGHTS != to / COMPACT_HEIGHTS {
                self.compact(to);
            }
            return Ok(Pruned { blocks: to - from, more: true });
        }
        Ok(Pruned { blocks: 0, more: self.prune_proofs(from)? })
    }

    /// The heights that [`Chain::prune_batch`] removes next: from the first to before the second. None where there is no block.
    #[must_use]
    pub fn next_batch(&self, below: Height) -> Option<(u64, u64)> {
        let (from, height) = (self.base()?.value(), self.height()?.value());
        let applied = self.0.next.load(Ordering::Acquire).saturating_sub(1);
        let end = below.value().min(height).min(applied);
        Some((from, from.saturating_add(PRUNE_BATCH).min(end)))
    }

    /// The height that the application said it retains, none where it never did.
    ///
    /// # Errors
    /// Where it is damaged or the disk fails.
    pub fn retain(&self) -> Result<Option<Height>, StoreError> {
        let Some(bytes) = self.get(Family::State, RETAIN_KEY)? else { return Ok(None) };
        let damaged = || self.0.folder.damaged("retain".into(), "not a height");
        parse_key(&bytes).map(Some).ok_or_else(damaged)
    }

    /// Remembers the height that the application retains, so that a run that a crash cuts short is taken up again; not synced.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn set_retain(&self, below: Height) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(Family::State), RETAIN_KEY, key(below));
        self.write(batch)
    }

    /// Blocks, results and hashes of the heights from `from` to before `to`, and parameters that no block from `to` on needs.
    fn prune_blocks(&self, from: u64, to: u64) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for at in from..to {
            let at = height(at);
            if let Some(meta) = self.meta(at)? {
                batch.delete_cf(self.family(Family::Hash), meta.block_id.hash.as_bytes());
            }
            self.keep_last_commit(&mut batch, at)?;
            for family in [Family::Block, Family::Results] {
                batch.delete_cf(self.family(family), key(at));
            }
        }
        self.delete_before(&mut batch, Family::Params, height(to))?;
        // First, so that nobody is told of a block that is gone.
        self.0.base.store(to, Ordering::Release);
        self.write(batch)
    }

    /// The commit in the block at `height`, which goes, takes the place of the one that decided the height before here: every node has
    /// the same, and evidence is verified against it.
    fn keep_last_commit(&self, batch: &mut WriteBatch, height: Height) -> Result<(), StoreError> {
        let before = Height::try_from(height.value().saturating_sub(1)).ok();
        let Some(before) = before.filter(|before| before.value() > 0) else { return Ok(()) };
        if self.meta(before)?.is_some()
            && let Some(commit) = self.canonical_commit(before)?
        {
            batch.put_cf(self.family(Family::Commit), key(before), wire::encode_commit(&commit));
        }
        Ok(())
    }

    /// One batch of headers, commits and validator sets below `base` that no evidence needs; whether there is more.
    fn prune_proofs(&self, base: u64) -> Result<bool, StoreError> {
        let Some(from) = self.first(Family::Meta)? else { return Ok(false) };
        let point = self.evidence_point(from, base)?;
        let to = from.saturating_add(PRUNE_BATCH).min(point);
        if from >= to {
            return Ok(false);
        }
        let mut batch = WriteBatch::default();
        for at in from..to {
            for family in [Family::Meta, Family::Commit] {
                batch.delete_cf(self.family(family), key(height(at)));
            }
        }
        // The block at `base` is executed with the votes of the validators before it.
        self.delete_before(&mut batch, Family::Validators, height(to.min(base - 1)))?;
        self.write(batch)?;
        Ok(to < point)
    }

    /// The lowest height from `from` on, at most `base`, of which evidence is not too old (CometBFT `evidence/verify.go`,
    /// `IsEvidenceExpired`). Height and time both grow, so it is searched by halves.
    fn evidence_point(&self, from: u64, base: u64) -> Result<u64, StoreError> {
        match self.state()? {
            Some(state) => self.young(&state, from, base),
            None => Ok(from),
        }
    }

    /// The lowest height of which evidence may stand in the block after `state`: the highest that any state so far had, so that it never
    /// falls. Every node computes the same, whatever it has let go, where the state had a floor from its first block on. (`CometBFT` has no such bound: where an application raises the age there,
    /// whether old evidence is valid depends on what a node has pruned.)
    ///
    /// # Errors
    /// Where a header is damaged or the disk fails.
    pub fn evidence_floor(&self, state: &State) -> Result<u64, StoreError> {
        let last = state.last_height.map_or(0, |height| height.value());
        let from = state.evidence_floor.max(state.initial_height.value());
        // It grows by a block or a few at a time.
        let mut reach = 1;
        loop {
            let upto = from.saturating_add(reach).min(last);
            let found = self.young(state, from, upto)?;
            if found < upto || upto >= last {
                return Ok(found.max(from));
            }
            reach *= 2;
        }
    }

    /// The lowest height from `from` on, at most `upto`, of which evidence is not too old after `state`.
    pub(super) fn young(&self, state: &State, from: u64, upto: u64) -> Result<u64, StoreError> {
        let Some(last) = state.last_height else { return Ok(from) };
        let params = &state.params.evidence;
        let is_expired = |header: &Header| {
            let blocks = last.value().saturating_sub(header.height.value());
            let age = state.last_block_time.duration_since(header.time).unwrap_or_default();
            blocks > params.max_age_num_blocks && age > params.max_age_duration.0
        };
        let (mut low, mut high) = (from, upto);
        while low < high {
            let middle = low + (high - low) / 2;
            // A header that is not there is of a height that is pruned already.
            let expired = self.meta(height(middle))?.is_none_or(|meta| is_expired(&meta.header));
            (low, high) = if expired { (middle + 1, high) } else { (low, middle) };
        }
        Ok(low)
    }

    /// Removes the entries before the one that holds at `at`.
    fn delete_before(
        &self,
        batch: &mut WriteBatch,
        family: Family,
        at: Height,
    ) -> Result<(), StoreError> {
        let Some((holds, _)) = self.before(family, at)? else { return Ok(()) };
        if self.first(family)?.is_some_and(|first| first < holds.value()) {
            batch.delete_range_cf(self.family(family), [0; 8], key(holds));
        }
        Ok(())
    }

    /// Gives the space of what was removed below `to` back.
    fn compact(&self, to: u64) {
        for family in [Family::Block, Family::Results, Family::Meta, Family::Commit] {
            let family = self.family(family);
            self.0.db.compact_range_cf(family, None::<[u8; 8]>, Some(to.to_be_bytes()));
        }
    }
}

fn height(at: u64) -> Height {
    Height::try_from(at).expect("a stored height is below 2^63")
}
