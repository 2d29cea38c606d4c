//! Checks RocksDB's logs before RocksDB reads them.
//!
//! RocksDB's recovery takes a damaged length in the last 32 KiB of a log for a torn tail and silently drops every durable record
//! behind it, and a damaged type for a recycled log's end. For a journal that would mean to forget a promise. So: a log may end in an
//! incomplete record, and nothing valid may follow where it stops making sense. An incomplete record is also one whose last pages are
//! zeros: after a loss of power a file system may have the length of the file and not yet its pages. RocksDB takes that for damage, so
//! it is cut off here.
//!
//! Format (RocksDB `db/log_format.h`): blocks of 32 KiB; records of checksum (4 bytes, masked CRC-32C of type and payload), length
//! (2), type (1) and payload, none of which crosses a block; fewer than 7 bytes at the end of a block are filling.

use super::StoreError;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

const BLOCK_BYTES: usize = 32_768;
const HEADER_BYTES: usize = 7;
/// What reaches the disk as a whole.
const PAGE_BYTES: usize = 4_096;
/// Full, first, middle and last: the types that are written in the configuration of the journal.
const TYPES: std::ops::RangeInclusive<u8> = 1..=4;

/// Checks every log in `folder`.
pub(super) fn check(folder: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::File { path: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            check_file(path)?;
        }
    }
    Ok(())
}

fn check_file(path: PathBuf) -> Result<(), StoreError> {
    let found = match File::open(&path) {
        Ok(file) => end(file),
        Err(error) => Err(error),
    };
    let done = match found {
        Ok(End::Whole) => Ok(()),
        Ok(End::Torn(offset)) => cut(&path, offset),
        Ok(End::Damaged(offset)) => return Err(StoreError::Log { file: path, offset }),
        Err(source) => Err(source),
    };
    done.map_err(|source| StoreError::File { path, source })
}

/// Removes a torn tail that RocksDB would take for damage.
fn cut(path: &Path, offset: u64) -> std::io::Result<()> {
    tracing::warn!(file = %path.display(), offset, "a torn write at the end of the log is dropped");
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(offset)?;
    file.sync_all()
}

/// How a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With a whole record, or with one that lacks its end, which RocksDB drops.
    Whole,
    /// With zeros from this offset on, or with a record there whose last pages are zeros: the machine lost power before it was synced.
    Torn(u64),
    /// It makes no sense from this offset on.
    Damaged(u64),
}

fn end(mut log: impl Read) -> std::io::Result<End> {
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    let mut offset = 0u64;
    let mut torn = None;
    let mut ended = false;
    loop {
        block.clear();
        read_block(&mut log, &mut block)?;
        let good = if ended { 0 } else { valid_prefix(&block) };
        let rest = block.get(good..).unwrap_or_default();
        let at = offset.saturating_add(u64::try_from(good).unwrap_or(u64::MAX));
        let zeros = rest.iter().all(|byte| *byte == 0);
        if ended {
            // Behind a tail only zeros may follow, of space that was reserved.
            if !zeros {
                return Ok(End::Damaged(torn.unwrap_or(at)));
            }
        } else if (zeros && rest.len() >= HEADER_BYTES) || is_unwritten(rest, good) {
            torn = Some(at);
            ended = true;
        } else if !is_tail(rest, block.len()) {
            return Ok(End::Damaged(at));
        }
        if block.len() < BLOCK_BYTES {
            return Ok(torn.map_or(End::Whole, End::Torn));
        }
        offset = offset.saturating_add(u64::try_from(block.len()).unwrap_or(u64::MAX));
    }
}

/// Whether `rest`, which starts at `good` in its block, is a record whose last pages are zeros, with nothing valid in the others.
fn is_unwritten(rest: &[u8], good: usize) -> bool {
    let Some((&[.., low, high, kind], payload)) = rest.split_first_chunk::<HEADER_BYTES>() else {
        return false;
    };
    let length = usize::from(u16::from_le_bytes([low, high]));
    let written = payload.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let page = (good + HEADER_BYTES + written).next_multiple_of(PAGE_BYTES);
    let end = (good + HEADER_BYTES + length).min(good + rest.len());
    TYPES.contains(&kind)
        && page < end
        && !holds_a_record(payload.get(..written).unwrap_or_default())
}

fn read_block(log: &mut impl Read, block: &mut Vec<u8>) -> std::io::Result<()> {
    let limit = u64::try_from(BLOCK_BYTES).unwrap_or(u64::MAX);
    match log.take(limit).read_to_end(block) {
        Err(error) if error.kind() == ErrorKind::Interrupted => read_block(log, block),
        other => other.map(|_| ()),
    }
}

/// How many bytes of `block` are whole records.
fn valid_prefix(block: &[u8]) -> usize {
    let mut good = 0;
    while let Some(length) = block.get(good..).and_then(record_bytes) {
        good += length;
    }
    good
}

/// The length of the whole, valid record at the start of `bytes`.
fn record_bytes(bytes: &[u8]) -> Option<usize> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let &[a, b, c, d, low, high, kind] = header else { return None };
    let payload = rest.get(..usize::from(u16::from_le_bytes([low, high])))?;
    let valid =
        TYPES.contains(&kind) && checksum(kind, payload) == u32::from_le_bytes([a, b, c, d]);
    valid.then_some(HEADER_BYTES + payload.len())
}

/// Whether `rest`, where a block of `block_bytes` stops making sense, is filling, or a record that lacks its end, with nothing valid
/// behind it.
fn is_tail(rest: &[u8], block_bytes: usize) -> bool {
    if rest.len() < HEADER_BYTES {
        return true;
    }
    let Some((&[a, b, c, d, low, high, kind], payload)) = rest.split_first_chunk() else {
        return false;
    };
    let length = usize::from(u16::from_le_bytes([low, high]));
    let incomplete = block_bytes < BLOCK_BYTES && TYPES.contains(&kind) && payload.len() < length;
    let whole_with_a_wrong_length = checksum(kind, payload) == u32::from_le_bytes([a, b, c, d]);
    incomplete && !whole_with_a_wrong_length && !holds_a_record(payload)
}

/// Whether a valid record begins anywhere in `bytes`, which are part of one block.
fn holds_a_record(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| bytes.get(at..).and_then(record_bytes).is_some())
}

/// RocksDB's masked CRC-32C of a type and a payload.
fn checksum(kind: u8, payload: &[u8]) -> u32 {
    let crc = payload.iter().fold(step(!0, kind), |crc, byte| step(crc, *byte));
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn step(crc: u32, byte: u8) -> u32 {
    let [low, ..] = crc.to_le_bytes();
    let entry = TABLE.get(usize::from(low ^ byte)).copied().unwrap_or_default();
    entry ^ (crc >> 8)
}

/// CRC-32C (Castagnoli), reflected.
const TABLE: [u32; 256] = table();

#[expect(clippy::cast_possible_truncation, reason = "an index below 256")]
const fn table() -> [u32; 256] {
    let mut table = [0u32; 256];
    let mut index = 0;
    while index < table.len() {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0x82f6_3b78 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}
