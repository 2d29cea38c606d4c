//! What a store holds, read while another process may be writing it.

use super::open::{decode_root, failed, height_of, read_only};
use super::record::{AnchorRecord, ConfirmedRecord, ForkRecord, SegmentRecord};
use super::{
    ANCHOR, CONFIRMED, KEY_BEGINNING, KEY_FORK, KEY_ROOT, META, SEGMENT, StoreError, family,
};
use prost::Message as _;
use rocksdb::{DB, IteratorMode};
use std::path::Path;
use tercet_light_core::hash::Hash;
use tercet_light_core::header::Height;
use tercet_light_core::options::TrustRoot;

/// What a store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Where trust began.
    pub root: TrustRoot,
    /// The highest block that is verified: its height, its hash, and how.
    pub verified: Option<(Height, Hash, String)>,
    /// The highest block that others confirmed, and who.
    pub confirmed: Option<(Height, Vec<String>)>,
    /// The lowest height that is there.
    pub lowest: Option<Height>,
    /// The first height of the chain, where it was reached.
    pub beginning: Option<Height>,
    /// How many headers are missing between anchors.
    pub missing: u64,
    /// How many anchors there are.
    pub anchors: u64,
    /// The fork that was found.
    pub fork: Option<ForkNote>,
}

/// A fork in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForkNote {
    /// The kind of attack.
    pub attack: String,
    /// The last height that both chains share.
    pub common: Height,
    /// The height of the blocks in conflict.
    pub height: Height,
}

/// The root that the store in `folder` was begun from.
///
/// # Errors
/// Where there is no store, or none that can be read.
pub fn read_root(folder: &Path) -> Result<TrustRoot, StoreError> {
    root(folder, &read_only(folder)?)
}

fn root(folder: &Path, db: &DB) -> Result<TrustRoot, StoreError> {
    let bytes = meta(folder, db, KEY_ROOT)?.unwrap_or_default();
    let damaged = || StoreError::Damaged { folder: folder.to_owned(), what: "root", height: 0 };
    decode_root(&bytes).ok_or_else(damaged)
}

fn meta(folder: &Path, db: &DB, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    db.get_cf(family(db, META), key).map_err(|source| failed(folder, source))
}

type Entry = (Box<[u8]>, Box<[u8]>);

fn last(folder: &Path, db: &DB, name: &str) -> Result<Option<Entry>, StoreError> {
    let entry = db.iterator_cf(family(db, name), IteratorMode::End).next().transpose();
    entry.map_err(|source| failed(folder, source))
}

/// What the store in `folder` holds now.
///
/// # Errors
/// Where there is no store, or none that can be read.
pub fn summary(folder: &Path) -> Result<Summary, StoreError> {
    let db = &read_only(folder)?;
    let root = root(folder, db)?;
    let verified = last(folder, db, ANCHOR)?.and_then(|(key, value)| {
        let record = AnchorRecord::decode(&*value).ok()?;
        Some((height_of(&key)?, Hash::from_slice(&record.hash)?, record.how))
    });
    let confirmed = last(folder, db, CONFIRMED)?.and_then(|(key, value)| {
        Some((height_of(&key)?, ConfirmedRecord::decode(&*value).ok()?.by))
    });
    let (mut missing, mut lowest) = (0, None);
    for entry in db.iterator_cf(family(db, SEGMENT), IteratorMode::Start) {
        let (_, value) = entry.map_err(|source| failed(folder, source))?;
        let Ok(segment) = SegmentRecord::decode(&*value) else { continue };
        if segment.lower == 0 {
            lowest = Some(segment.watermark);
        } else {
            missing += segment.watermark.saturating_sub(segment.lower + 1);
        }
    }
    let anchors = db.iterator_cf(family(db, ANCHOR), IteratorMode::Start).count() as u64;
    let beginning = meta(folder, db, KEY_BEGINNING)?.and_then(|bytes| height_of(&bytes));
    let fork = meta(folder, db, KEY_FORK)?
        .and_then(|bytes| ForkRecord::decode(bytes.as_slice()).ok())
        .map(|fork| ForkNote { attack: fork.attack, common: fork.common, height: fork.height });
    Ok(Summary { root, verified, confirmed, lowest, beginning, missing, anchors, fork })
}
