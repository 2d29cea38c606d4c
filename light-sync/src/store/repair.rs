//! Checking all that is kept, and repair: what is good is copied into a new database, and what is not is missing in it, so that the
//! syncer fetches it again. The damaged one stays beside it, because a file that has rotted cannot be written over.

use super::record::{ConfirmedRecord, SegmentRecord};
use super::{
    ANCHOR, COMMIT, CONFIRMED, FORMAT, HEADER, HEIGHT, KEY_BEGINNING, KEY_FORK, KEY_FORMAT,
    KEY_PRUNED, KEY_RESOLVED, KEY_ROOT, META, Reader, SEGMENT, Store, StoreError, VALIDATORS,
};
use crate::store::open::{create, height_of};
use prost::Message as _;
use rocksdb::{IteratorMode, WriteBatch};
use std::path::{Path, PathBuf};
use tercet_light_core::block::TrustedBlock;
use tercet_light_core::hash::Hash;
use tercet_light_core::header::{Header, Height};

/// How many headers are copied in one batch.
const COPY_HEADERS: usize = 1_000;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// How many headers are good.
    pub headers: u64,
    /// How many anchors are good.
    pub anchors: u64,
    /// What is damaged: what it is and of which height, at most [`DAMAGES_MAX`].
    pub damages: Vec<(&'static str, Height)>,
    /// How many headers have to be fetched again.
    pub lost: u64,
    /// Where the damaged database is now; none where nothing was damaged.
    pub moved: Option<PathBuf>,
}

/// The most damages that are told one by one.
pub const DAMAGES_MAX: usize = 100;

impl Checked {
    fn damage(&mut self, what: &'static str, height: Height) {
        if self.damages.len() < DAMAGES_MAX {
            self.damages.push((what, height));
        }
    }
}

/// Where what is good goes; none where it is only checked.
struct Copy<'a> {
    into: Option<&'a Reader>,
    batch: WriteBatch,
    waiting: usize,
}

impl Copy<'_> {
    fn put(&mut self, family: &str, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let Some(into) = self.into else { return Ok(()) };
        self.batch.put_cf(into.family(family), key, value);
        self.waiting += 1;
        if self.waiting >= COPY_HEADERS { self.write() } else { Ok(()) }
    }

    fn put_header(&mut self, header: &Header, hash: Hash) -> Result<(), StoreError> {
        let key = header.height().to_be_bytes();
        self.put(HEADER, &key, header.bytes())?;
        self.put(HEIGHT, hash.as_bytes(), &key)
    }

    fn write(&mut self) -> Result<(), StoreError> {
        let Some(into) = self.into else { return Ok(()) };
        self.waiting = 0;
        into.db.write(std::mem::take(&mut self.batch)).map_err(|source| into.failed(source))
    }
}

impl Store {
    /// Checks every anchor and every header in `folder` by their hashes; nothing is verified by signatures again. Where something is
    /// damaged and `repair` says so, the folder holds afterwards what is good alone, and what was there before is beside it.
    ///
    /// # Errors
    /// Where the database cannot be opened, or its root or all of its anchors are lost, or the new one cannot be written.
    pub fn verify(folder: &Path, repair: bool) -> Result<Checked, StoreError> {
        let store = Store::open_for_repair(folder)?;
        let checked = store.check(None)?;
        if checked.damages.is_empty() || !repair {
            return Ok(checked);
        }
        let (new, old) = (beside(folder, "repaired"), beside(folder, "damaged"));
        let failed = |what: &Path, source| StoreError::Folder { folder: what.to_owned(), source };
        if new.exists() {
            std::fs::remove_dir_all(&new).map_err(|source| failed(&new, source))?;
        }
        let into = create(&new)?;
        let checked = store.check(Some(&into))?;
        into.db.flush_wal(true).map_err(|source| into.failed(source))?;
        drop((into, store));
        std::fs::rename(folder, &old).map_err(|source| failed(&old, source))?;
        std::fs::rename(&new, folder).map_err(|source| failed(folder, source))?;
        Ok(Checked { moved: Some(old), ..checked })
    }

    fn check(&self, into: Option<&Reader>) -> Result<Checked, StoreError> {
        let mut checked = Checked::default();
        let mut copy = Copy { into, batch: WriteBatch::default(), waiting: 0 };
        let pruned = self.pruned()?;
        self.copy_meta(&mut copy)?;
        let mut lower: Option<TrustedBlock> = None;
        for height in self.listed_anchors(&mut checked) {
            let Ok(anchor) = self.anchor(height) else {
                checked.damage("anchor", height);
                continue;
            };
            checked.anchors += 1;
            self.copy_anchor(&mut copy, &anchor)?;
            self.check_segment((lower.as_ref(), &anchor), pruned, &mut copy, &mut checked)?;
            lower = Some(anchor);
        }
        if lower.is_none() {
            return Err(self.damaged("every anchor", 0));
        }
        copy.write()?;
        Ok(checked)
    }

    /// Heights of anchors, as far as the index can be read; what it hides is missing afterwards.
    fn listed_anchors(&self, checked: &mut Checked) -> Vec<Height> {
        let mut heights = vec![];
        for entry in self.db.iterator_cf(self.family(ANCHOR), IteratorMode::Start) {
            match entry.ok().and_then(|(key, _)| height_of(&key)) {
                Some(height) => heights.push(height),
                None => checked.damage("list of anchors", heights.last().copied().unwrap_or(0)),
            }
        }
        heights
    }

    fn copy_meta(&self, copy: &mut Copy<'_>) -> Result<(), StoreError> {
        // Without a root nothing says what is trusted.
        self.root()?;
        for key in [KEY_ROOT, KEY_BEGINNING, KEY_FORK, KEY_RESOLVED, KEY_PRUNED] {
            if let Some(value) = self.meta(key)? {
                copy.put(META, key, &value)?;
            }
        }
        copy.put(META, KEY_FORMAT, FORMAT.as_bytes())
    }

    fn copy_anchor(&self, copy: &mut Copy<'_>, anchor: &TrustedBlock) -> Result<(), StoreError> {
        let key = anchor.height().to_be_bytes();
        for hash in [anchor.header().validators_hash(), anchor.header().next_validators_hash()] {
            if let Ok(Some(set)) = self.db.get_cf(self.family(VALIDATORS), hash.as_bytes()) {
                copy.put(VALIDATORS, hash.as_bytes(), &set)?;
            }
        }
        if let Ok(Some(record)) = self.db.get_cf(self.family(ANCHOR), key) {
            copy.put(ANCHOR, &key, &record)?;
        }
        // Lost confirmations are asked for again.
        if let Ok(Some(record)) = self.db.get_cf(self.family(CONFIRMED), key)
            && ConfirmedRecord::decode(record.as_slice()).is_ok()
        {
            copy.put(CONFIRMED, &key, &record)?;
        }
        copy.put_header(anchor.header(), anchor.hash())
    }

    /// From an anchor down to the one below, as far as headers were kept and are good.
    fn check_segment(
        &self,
        (lower, upper): (Option<&TrustedBlock>, &TrustedBlock),
        pruned: Height,
        copy: &mut Copy<'_>,
        checked: &mut Checked,
    ) -> Result<(), StoreError> {
        checked.headers += 1;
        let height = upper.height();
        let floor = lower.map_or(1, |block| block.height() + 1);
        let kept_to = self.kept_to(height, lower.map(|block| block.height()));
        let (mut above, mut hash) = (upper.header().clone(), upper.hash());
        let mut lowest = (height, hash);
        for at in (kept_to.max(pruned).max(floor)..height).rev() {
            let Some((header, found)) = self.named_by(&above, at) else {
                checked.damage("header", at);
                checked.lost += at - kept_to.max(pruned).max(floor) + 1;
                break;
            };
            copy.put_header(&header, found)?;
            if let Ok(Some(commit)) = self.db.get_cf(self.family(COMMIT), at.to_be_bytes()) {
                copy.put(COMMIT, &at.to_be_bytes(), &commit)?;
            }
            checked.headers += 1;
            (above, hash) = (header, found);
            lowest = (at, hash);
        }
        // Of what was pruned, the header above the anchor is left.
        if let Some(lower) = lower
            && pruned > floor
            && lowest.0 == pruned.min(height)
        {
            match self.above_anchor(lower, height) {
                Some((header, hash)) => {
                    checked.headers += 1;
                    copy.put_header(&header, hash)?;
                    lowest = (floor, hash);
                }
                None if height > floor => checked.damage("header", floor),
                None => {}
            }
        }
        let missing = lower.is_none_or(|_| lowest.0 > floor);
        if !missing {
            return Ok(());
        }
        let record = SegmentRecord {
            lower: lower.map_or(0, |block| block.height()),
            watermark: lowest.0,
            hash: lowest.1.as_bytes().to_vec(),
        };
        copy.put(SEGMENT, &height.to_be_bytes(), &record.encode_to_vec())
    }

    /// How far down the headers below an anchor were kept: where no segment says it, all were.
    fn kept_to(&self, upper: Height, lower: Option<Height>) -> Height {
        let mut lowest = lower.map_or(upper, |lower| lower + 1);
        // An anchor between that is damaged ended a segment too.
        for (at, segment) in self.segments.range(lower.unwrap_or(0) + 1..=upper) {
            let is_own = *at == upper;
            lowest = if is_own || lower.is_none() { segment.watermark } else { lowest };
        }
        lowest.min(upper)
    }

    /// The header at this height, where it is the one that `above` names and is found by its hash.
    fn named_by(&self, above: &Header, at: Height) -> Option<(Header, Hash)> {
        let header = self.header(at).ok()??;
        let hash = header.hash();
        let named = above.last_block() == Some(hash);
        (named && self.height(hash).ok()? == Some(at)).then_some((header, hash))
    }

    fn above_anchor(&self, anchor: &TrustedBlock, upper: Height) -> Option<(Header, Hash)> {
        let at = anchor.height() + 1;
        let header = (at < upper).then(|| self.header(at).ok().flatten())??;
        let hash = header.hash();
        let fits = header.last_block() == Some(anchor.hash());
        (fits && self.height(hash).ok()? == Some(at)).then_some((header, hash))
    }
}

fn beside(folder: &Path, what: &str) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let free = |n: u32| folder.with_file_name(format!("{name}.{what}{n}"));
    let plain = folder.with_file_name(format!("{name}.{what}"));
    if what == "repaired" || !plain.exists() {
        return plain;
    }
    (2..).map(free).find(|path| !path.exists()).unwrap_or(plain)
}
