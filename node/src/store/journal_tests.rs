//! The journal across restarts, power losses and damage.

use super::journal::{Journal, key};
use super::{StoreError, options};
use crate::engine::outside::Records;
use crate::wire::samples::{self, height};
use rocksdb::statistics::Ticker;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tendermint::block::Height;
use tercet_consensus::commit::Commit;
use tercet_consensus::message::Phase;
use tercet_consensus::record::Record;

/// A record of height `at` with a block of `txs` transactions.
fn decided(at: u64, txs: u8) -> Record {
    let block = samples::block(at, txs, None);
    Record::Decided { commit: samples::commit(at, block.id(), false), block: Some(block) }
}

/// A small record of height `at`, told apart by `view`.
fn small(at: u64, view: u32) -> Record {
    let commit = samples::commit(at, samples::block_id(), false);
    Record::Decided { commit: Commit { view: samples::view(view), ..commit }, block: None }
}

/// A record of height `at` that fills more than one block of the log.
fn large(at: u64) -> Record {
    let mut block = samples::block(at, 0, None).block().clone();
    block.txs = vec![(0..100_000u32).flat_map(u32::to_le_bytes).collect()];
    let block = std::sync::Arc::new(tercet_consensus::block::SealedBlock::seal(block));
    Record::Decided { commit: samples::commit(at, block.id(), false), block: Some(block) }
}

/// What is on disk now, as after the end of the process.
fn crash(dir: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

/// The log that is written to.
fn log(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let logs: BTreeSet<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|kind| kind == "log")).collect();
    logs.last().unwrap().clone()
}

fn length(path: &Path) -> u64 {
    path.metadata().unwrap().len()
}

/// A journal with some records, each in a batch of its own, and how long the log is after each.
fn written(records: &[Record]) -> (TempDir, Vec<u64>) {
    let dir = TempDir::new().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    let path = log(dir.path());
    let mut ends = Vec::new();
    for record in records {
        journal.append(std::slice::from_ref(record), true).unwrap();
        ends.push(length(&path));
    }
    let copy = crash(dir.path());
    drop(journal);
    (copy, ends)
}

#[test]
fn records_come_back_in_order_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    let records: Vec<Record> = samples::records().into_iter().map(|(_, record)| record).collect();
    journal.append(&records[..4], true).unwrap();
    journal.append(&records[4..5], false).unwrap();
    drop(journal);
    let mut journal = Journal::open(dir.path()).unwrap();
    journal.append(&records[5..], true).unwrap();
    assert_eq!(journal.replay(height(1)).unwrap(), records);
    assert_eq!(journal.replay(height(6)).unwrap(), vec![]);
    drop(journal);
    assert_eq!(Journal::open(dir.path()).unwrap().replay(height(5)).unwrap(), records);
}

#[test]
fn heights_are_apart() {
    let dir = TempDir::new().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    assert_eq!(journal.last_height().unwrap(), None);
    journal.reserve(height(64)).unwrap();
    assert_eq!(journal.last_height().unwrap(), None);
    journal.append(&[small(5_001, 1), small(5_002, 1), small(5_001, 2)], true).unwrap();
    assert_eq!(journal.last_height().unwrap(), Some(height(5_002)));
    assert_eq!(journal.records(height(5_001)).unwrap(), [small(5_001, 1), small(5_001, 2)]);
    assert_eq!(journal.records(height(5_002)).unwrap(), [small(5_002, 1)]);
    assert_eq!(journal.records(height(5_003)).unwrap(), []);
    assert_eq!(journal.replay(height(0)).unwrap().len(), 3);
}

#[test]
fn pruned_records_stay_away_and_the_rest_stays() {
    let dir = TempDir::new().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    journal.reserve(height(640)).unwrap();
    for at in 1..=300 {
        journal.append(&[decided(at, 2), small(at, 7)], at % 50 == 0).unwrap();
        if at > 64 {
            journal.prune_below(height(at - 64)).unwrap();
        }
    }
    journal.prune_below(height(10)).unwrap();
    let kept: Vec<Record> = (236..=300).flat_map(|at| [decided(at, 2), small(at, 7)]).collect();
    assert_eq!(journal.replay(height(1)).unwrap(), kept);
    drop(journal);
    let mut journal = Journal::open(dir.path()).unwrap();
    assert_eq!(journal.replay(height(1)).unwrap(), kept);
    assert_eq!(journal.reserved(), Some(height(640)));
    journal.prune_below(height(301)).unwrap();
    assert_eq!(journal.replay(height(1)).unwrap(), vec![]);
    assert_eq!(journal.last_height().unwrap(), None);
}

#[test]
fn what_is_pruned_leaves_the_disk() {
    let dir = TempDir::new().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    for at in 1..=400 {
        journal.append(&[large(at)], false).unwrap();
        if at > 8 {
            journal.prune_below(height(at - 8)).unwrap();
        }
    }
    journal.database().compact_range(None::<&[u8]>, None::<&[u8]>);
    let bytes: u64 =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| length(&entry.unwrap().path())).sum();
    assert!(bytes < 60_000_000, "{bytes} bytes of 160 MB are left");
    assert_eq!(journal.replay(height(1)).unwrap().len(), 9);
}

#[test]
fn the_reservation_never_falls() {
    let dir = TempDir::new().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    assert_eq!(journal.reserved(), None);
    journal.reserve(height(64)).unwrap();
    journal.reserve(height(5)).unwrap();
    assert_eq!(journal.reserved(), Some(height(64)));
    let copy = crash(dir.path());
    let mut journal = Journal::open(copy.path()).unwrap();
    assert_eq!(journal.reserved(), Some(height(64)));
    journal.reserve(height(128)).unwrap();
    drop(journal);
    assert_eq!(Journal::open(copy.path()).unwrap().reserved(), Some(height(128)));
}

#[test]
fn an_append_is_one_sync() {
    let dir = TempDir::new().unwrap();
    let mut options = options::journal();
    options.enable_statistics();
    let mut journal = Journal::open_with(dir.path(), &options).unwrap();
    let syncs = || options.get_ticker_count(Ticker::WalFileSynced);
    let before = syncs();
    journal.append(&[small(1, 1), small(1, 2), decided(1, 2)], true).unwrap();
    assert_eq!(syncs(), before + 1);
    journal.append(&[small(1, 3)], false).unwrap();
    assert_eq!(syncs(), before + 1);
    journal.append(&[], false).unwrap();
    journal.prune_below(height(1)).unwrap();
    assert_eq!(syncs(), before + 1);
    journal.reserve(height(64)).unwrap();
    assert_eq!(syncs(), before + 2);
    // What the engine appends is always synced.
    Records::append(&mut journal, &[small(1, 4)]).unwrap();
    assert_eq!(syncs(), before + 3);
}

#[test]
fn what_was_synced_survives_a_crash_at_any_time() {
    let dir = TempDir::new().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    let mut records = Vec::new();
    for at in 1..=30 {
        for record in [large(at), small(at, 1), small(at, 2)] {
            journal.append(std::slice::from_ref(&record), true).unwrap();
            records.push(record);
        }
        if at % 6 == 0 {
            let copy = crash(dir.path());
            assert_eq!(Journal::open(copy.path()).unwrap().replay(height(1)).unwrap(), records);
        }
    }
}

#[test]
fn a_torn_tail_is_dropped() {
    let records = [small(1, 1), small(1, 2), large(2), small(2, 1), large(3)];
    let (dir, ends) = written(&records);
    let length = length(&log(dir.path()));
    let last = ends[3]..length;
    let cuts = (0..ends[1])
        .step_by(97)
        .chain(ends[1]..ends[1] + 12)
        .chain(last.step_by(50_021))
        .chain(length - 9..=length);
    for cut in cuts {
        let copy = crash(dir.path());
        OpenOptions::new().write(true).open(log(copy.path())).unwrap().set_len(cut).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let mut journal = Journal::open(copy.path()).unwrap_or_else(|e| panic!("cut {cut}: {e}"));
        assert_eq!(journal.replay(height(1)).unwrap(), records[..whole], "cut at {cut}");
        journal.append(&[small(9, 9)], true).unwrap();
        drop(journal);
        let again = Journal::open(copy.path()).unwrap().replay(height(1)).unwrap();
        assert_eq!((again.len(), again.last()), (whole + 1, Some(&small(9, 9))));
    }
}

#[test]
fn a_tail_whose_pages_never_reached_the_disk_is_dropped() {
    let records = [small(1, 1), large(2), small(2, 1), large(3)];
    let (dir, ends) = written(&records);
    let pages = (ends[2] / 4_096 + 1)..(ends[3] / 4_096);
    for page in pages.step_by(17) {
        let copy = crash(dir.path());
        let file = OpenOptions::new().write(true).open(log(copy.path())).unwrap();
        file.set_len(page * 4_096).unwrap();
        file.set_len(ends[3]).unwrap();
        let journal = Journal::open(copy.path()).unwrap_or_else(|e| panic!("page {page}: {e}"));
        assert_eq!(journal.replay(height(1)).unwrap(), records[..3], "page {page}");
        drop(journal);
        assert_eq!(Journal::open(copy.path()).unwrap().replay(height(1)).unwrap(), records[..3]);
    }
}

#[test]
fn damage_before_the_end_refuses_to_start() {
    let records = [small(1, 1), small(1, 2), large(2), small(2, 1), small(2, 2)];
    let (dir, ends) = written(&records);
    let last = ends[3];
    let damaged = (0..ends[1]).step_by(31).chain((ends[1]..last).step_by(20_011));
    for at in damaged {
        let copy = crash(dir.path());
        let file = OpenOptions::new().read(true).write(true).open(log(copy.path())).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
        let opened = Journal::open(copy.path());
        assert!(matches!(opened, Err(StoreError::Log { .. })), "byte {at}: {opened:?}");
    }
}

#[test]
fn a_zeroed_page_before_the_end_refuses_to_start() {
    let records = [small(1, 1), large(2), small(2, 1), small(2, 2)];
    let (dir, _) = written(&records);
    for page in [1, 7, 8, 40] {
        let copy = crash(dir.path());
        let file = OpenOptions::new().write(true).open(log(copy.path())).unwrap();
        file.write_all_at(&[0; 4_096], page * 4_096).unwrap();
        let opened = Journal::open(copy.path());
        assert!(matches!(opened, Err(StoreError::Log { .. })), "page {page}: {opened:?}");
    }
}

#[test]
fn a_damaged_record_is_reported() {
    let dir = TempDir::new().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    journal.append(&[small(1, 1), small(2, 1)], true).unwrap();
    let damaged =
        |journal: &Journal| matches!(journal.replay(height(1)), Err(StoreError::Damaged { .. }));
    assert!(!damaged(&journal));
    let value = crate::wire::encode_record(&small(7, 1));
    for value in [&b"\x08\x01"[..], b"", &value] {
        journal.database().put(key(2, 0), value).unwrap();
        assert!(damaged(&journal), "{value:?}");
    }
    journal.database().delete(key(2, 0)).unwrap();
    journal.database().put(b"r123", b"").unwrap();
    assert!(damaged(&journal) || journal.last_height().is_err());
    journal.database().delete(b"r123").unwrap();
    journal.database().put(b"m/reserved", b"1234567").unwrap();
    drop(journal);
    let opened = Journal::open(dir.path());
    assert!(matches!(opened, Err(StoreError::Damaged { .. })), "{opened:?}");
}

#[test]
fn a_journal_is_opened_once() {
    let dir = TempDir::new().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let second = Journal::open(dir.path()).unwrap_err();
    assert!(matches!(second, StoreError::Locked { .. }));
    assert!(second.to_string().starts_with("another tercet runs on this home"), "{second}");
    drop(journal);
    Journal::open(dir.path()).unwrap();
}

#[test]
fn another_format_is_refused() {
    let dir = TempDir::new().unwrap();
    drop(Journal::open(dir.path()).unwrap());
    for format in ["tercet journal 2\n", "tercet chain 1\n", "\u{fffd}"] {
        std::fs::write(dir.path().join("FORMAT"), format).unwrap();
        let opened = Journal::open(dir.path());
        assert!(matches!(opened, Err(StoreError::Format { .. })), "{format:?}: {opened:?}");
    }
    std::fs::write(dir.path().join("FORMAT"), "").unwrap();
    let opened = Journal::open(dir.path());
    assert!(matches!(opened, Err(StoreError::Incomplete { .. })), "{opened:?}");
    std::fs::write(dir.path().join("FORMAT"), "tercet journal 1\n").unwrap();
    Journal::open(dir.path()).unwrap();
}

#[test]
fn every_kind_of_vote_is_kept_as_it_was_signed() {
    let dir = TempDir::new().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    let record = Record::Commit {
        certificate: samples::certificate(),
        block: None,
        vote: samples::vote(1, Phase::Commit),
    };
    journal.append(std::slice::from_ref(&record), true).unwrap();
    let copy = crash(dir.path());
    assert_eq!(Journal::open(copy.path()).unwrap().records(height(5)).unwrap(), [record]);
}

#[test]
fn a_journal_without_its_current_file_is_not_begun_anew() {
    let (dir, _) = written(&[small(1, 1), small(2, 1)]);
    let current = dir.path().join("CURRENT");
    let kept = std::fs::read(&current).unwrap();
    std::fs::remove_file(&current).unwrap();
    let opened = Journal::open(dir.path());
    assert!(matches!(opened, Err(StoreError::Incomplete { .. })), "{opened:?}");
    std::fs::write(&current, kept).unwrap();
    assert_eq!(Journal::open(dir.path()).unwrap().replay(height(1)).unwrap().len(), 2);
}

#[test]
fn a_gap_in_the_chain_has_a_remedy() {
    let (height, last) = (Height::from(7u32), Height::from(5u32));
    let remedy = StoreError::Gap { height, last }.remedy().unwrap();
    assert!(remedy.contains("start again") && remedy.contains("tercet reset"), "{remedy}");
}

#[test]
fn what_is_damaged_has_a_remedy() {
    let remedy = |error: Result<Journal, StoreError>| error.unwrap_err().remedy().unwrap();
    let (dir, _) = written(&[small(1, 1), small(2, 1), small(3, 1)]);
    let folder = dir.path().join("journal");
    std::fs::create_dir(&folder).unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap) {
        if entry.path().is_file() {
            std::fs::rename(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
    let file = log(&folder);
    let good = std::fs::read(&file).unwrap();
    let mut bad = good.clone();
    bad[20] ^= 1;
    std::fs::write(&file, bad).unwrap();
    assert!(remedy(Journal::open(&folder)).contains("remove data/journal"));
    std::fs::write(&file, good).unwrap();
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    for manifest in files.filter(|file| file.to_string_lossy().contains("MANIFEST")) {
        std::fs::remove_file(manifest).unwrap();
    }
    assert!(remedy(Journal::open(&folder)).contains("remove data/journal"));
}
