//! What the operator says about a fork: which of two chains that verify is the true one.

use super::record::ForkRecord;
use super::{
    ANCHOR, COMMIT, CONFIRMED, HEADER, HEIGHT, KEY_FORK, KEY_RESOLVED, META, SEGMENT, Store,
    StoreError,
};
use crate::store::open::height_of;
use prost::Message as _;
use rocksdb::{Direction, IteratorMode, WriteBatch};
use std::path::Path;
use tercet_light_core::hash::Hash;
use tercet_light_core::header::{Header, Height};

/// What became of a fork.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// The chain that is kept is the true one; nothing was removed.
    Ours,
    /// The other one is, or not all that was kept hangs together with that block; what is kept ends at this height now, that of the root;
    /// 0 where the root itself was pruned.
    Theirs(Height),
}

impl Store {
    /// Takes the word of the operator that the block with this height and hash is on the true chain, so that the store in `folder`
    /// can be used again. Both traces and the evidence stay in it.
    ///
    /// # Errors
    /// Where there is no fork, or the block is on neither chain, or the database fails.
    pub fn resolve(folder: &Path, height: Height, hash: Hash) -> Result<Resolved, StoreError> {
        let store = Store::open_for_repair(folder)?;
        let folder = folder.to_owned();
        let Some(bytes) = store.meta(KEY_FORK)? else { return Err(StoreError::NoFork(folder)) };
        let fork = ForkRecord::decode(bytes.as_slice());
        let fork = fork.map_err(|_| store.damaged("fork", height))?;
        let is_there = |header: &Header| header.height() == height && header.hash() == hash;
        let theirs = fork.theirs.iter().any(|block| {
            Header::decode(block.header.clone().into()).is_ok_and(|header| is_there(&header))
        });
        let ours = store.header(height)?.is_some_and(|header| is_there(&header));
        if height <= fork.common || !(ours || theirs) {
            return Err(StoreError::OnNeither { folder, common: fork.common, height: fork.height });
        }
        let mut batch = WriteBatch::default();
        batch.delete_cf(store.family(META), KEY_FORK);
        batch.put_cf(store.family(META), KEY_RESOLVED, bytes);
        // A store that was led astray may hold headers of both, below the height where it was noticed too. The statement says something
        // of those alone that are linked to the block; of the others, only the root is known to be true.
        let root = store.root()?.height;
        let resolved = match ours && store.hangs_together(root, height)? {
            true => Resolved::Ours,
            false => Resolved::Theirs(store.cut(&mut batch, root)?),
        };
        store.db.write(batch).map_err(|source| store.failed(source))?;
        Ok(resolved)
    }

    /// Whether every header from `low` to `high` is there and names the one before.
    fn hangs_together(&self, low: Height, high: Height) -> Result<bool, StoreError> {
        let mut above: Option<Header> = None;
        for height in (low..=high).rev() {
            let Some(header) = self.header(height)? else { return Ok(false) };
            if above.is_some_and(|above| above.last_block() != Some(header.hash())) {
                return Ok(false);
            }
            above = Some(header);
        }
        Ok(true)
    }

    /// Removes everything above the highest anchor that is not above `most`, and gives back its height.
    fn cut(&self, batch: &mut WriteBatch, most: Height) -> Result<Height, StoreError> {
        let from = most.to_be_bytes();
        let from = IteratorMode::From(&from, Direction::Reverse);
        let anchor = self.db.iterator_cf(self.family(ANCHOR), from).next().transpose();
        let anchor = anchor.map_err(|source| self.failed(source))?;
        let height = anchor.and_then(|(key, _)| height_of(&key)).unwrap_or(0);
        let above = (height + 1).to_be_bytes();
        let from = IteratorMode::From(&above, Direction::Forward);
        for entry in self.db.iterator_cf(self.family(HEADER), from) {
            let (_, raw) = entry.map_err(|source| self.failed(source))?;
            if let Ok(header) = Header::decode(raw.into_vec().into()) {
                batch.delete_cf(self.family(HEIGHT), header.hash().as_bytes());
            }
        }
        for family in [HEADER, ANCHOR, CONFIRMED, COMMIT, SEGMENT] {
            batch.delete_range_cf(self.family(family), above, [0xff; 8]);
        }
        Ok(height)
    }
}
