//! T-74: damage is found and fetched again; headers below a window go.

use crate::node::{Node, chain};
use crate::sync::{assert_whole, config, honest, is_at_tip, sync};
use rocksdb::{DB, Options};
use std::path::Path;
use tercet_light_core::header::Height;
use tercet_light_core::testing::chain::Chain;
use tercet_light_core::testing::world::{World, changed};
use tercet_light_sync::store::{Store, StoreError, summary};

async fn synced(folder: &Path, chain: &Chain) -> Vec<Node> {
    let nodes = vec![honest(chain).await, honest(chain).await, honest(chain).await];
    let all: Vec<&Node> = nodes.iter().collect();
    sync(folder, &config(chain, 1), &all, is_at_tip(chain)).await;
    nodes
}

/// Writes into the database behind the store's back.
fn spoil(folder: &Path, write: impl FnOnce(&DB)) {
    let families = DB::list_cf(&Options::default(), folder).unwrap();
    write(&DB::open_cf(&Options::default(), folder, families).unwrap());
}

fn anchors(folder: &Path) -> Vec<Height> {
    let mut heights = vec![];
    spoil(folder, |db| {
        let family = db.cf_handle("anchor").unwrap();
        let keys = db.iterator_cf(family, rocksdb::IteratorMode::Start);
        heights = keys
            .map(|entry| Height::from_be_bytes((*entry.unwrap().0).try_into().unwrap()))
            .collect();
    });
    heights
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_good_is_found_good() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), chain(500));
    let folder = folder.path().join("light");
    synced(&folder, &chain).await;
    let checked = Store::verify(&folder, true).unwrap();
    assert_eq!((checked.headers, checked.lost, checked.moved), (500, 0, None));
    assert_eq!(checked.damages, []);
    assert_eq!(checked.anchors, anchors(&folder).len() as u64);
    assert_whole(&folder, &chain, 1);
    let store = Store::open(&folder, &World::root(&chain, 1)).unwrap();
    let locked = Store::verify(&folder, true).unwrap_err();
    assert!(matches!(locked, StoreError::Locked(_)), "{locked}");
    drop(store);
}

type Damage<'a> = (&'a str, Box<dyn Fn(&DB, Height) + 'a>);

fn damages(chain: &Chain) -> Vec<Damage<'_>> {
    let other = changed(chain.header(123));
    let key = |height: Height| height.to_be_bytes();
    vec![
        (
            "a byte",
            Box::new(move |db, _| {
                let family = db.cf_handle("header").unwrap();
                let mut raw = db.get_cf(family, key(123)).unwrap().unwrap();
                raw[20] ^= 1;
                db.put_cf(family, key(123), raw).unwrap();
            }),
        ),
        (
            "another header",
            Box::new(move |db, _| {
                db.put_cf(db.cf_handle("header").unwrap(), key(123), other.bytes()).unwrap();
            }),
        ),
        (
            "a header gone",
            Box::new(move |db, _| {
                db.delete_cf(db.cf_handle("header").unwrap(), key(123)).unwrap();
            }),
        ),
        (
            "a hash gone",
            Box::new(move |db, _| {
                db.delete_cf(db.cf_handle("height").unwrap(), chain.hash(123).as_bytes()).unwrap();
            }),
        ),
        (
            "an anchor",
            Box::new(move |db, anchor| {
                db.put_cf(db.cf_handle("anchor").unwrap(), key(anchor), b"rotten").unwrap();
            }),
        ),
        (
            "the header of an anchor",
            Box::new(move |db, anchor| {
                db.delete_cf(db.cf_handle("header").unwrap(), key(anchor)).unwrap();
            }),
        ),
        (
            "the latest anchor",
            Box::new(move |db, _| {
                db.put_cf(db.cf_handle("anchor").unwrap(), key(500), b"rotten").unwrap();
            }),
        ),
        (
            "every set",
            Box::new(move |db, _| {
                let family = db.cf_handle("validators").unwrap();
                let keys: Vec<_> = db
                    .iterator_cf(family, rocksdb::IteratorMode::Start)
                    .map(|entry| entry.unwrap().0)
                    .collect();
                keys[1..].iter().for_each(|key| db.put_cf(family, key, b"rotten").unwrap());
            }),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_and_what_is_lost_fetched_again() {
    let parent = tempfile::tempdir().unwrap();
    let chain = chain(500);
    for (name, damage) in damages(&chain) {
        let folder = parent.path().join(name);
        let nodes = synced(&folder, &chain).await;
        let between = anchors(&folder)[1];
        spoil(&folder, |db| damage(db, between));
        let found = Store::verify(&folder, false);
        if name == "every set" && found.is_err() {
            // Not one anchor is left: nothing can be built on that.
            continue;
        }
        let found = found.unwrap();
        assert!(!found.damages.is_empty() && found.moved.is_none(), "{name}: {found:?}");
        let repaired = Store::verify(&folder, true).unwrap();
        assert_eq!(repaired.damages, found.damages, "{name}");
        assert!(repaired.moved.as_ref().unwrap().exists(), "{name}");
        let again = Store::verify(&folder, false).unwrap();
        assert_eq!(again.damages, [], "{name}");
        let all: Vec<&Node> = nodes.iter().collect();
        let progress = sync(&folder, &config(&chain, 1), &all, is_at_tip(&chain)).await;
        assert!(progress.headers < 500, "{name}: {} fetched again", progress.headers);
        assert_whole(&folder, &chain, 1);
        assert_eq!(summary(&folder).unwrap().missing, 0);
    }
}

/// A table of the database that has rotted on the disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotten_file_is_found_and_what_was_in_it_fetched_again() {
    let parent = tempfile::tempdir().unwrap();
    let (folder, chain) = (parent.path().join("light"), chain(500));
    let nodes = synced(&folder, &chain).await;
    spoil(&folder, |db| db.flush_cf(db.cf_handle("header").unwrap()).unwrap());
    let largest = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .max_by_key(|path| std::fs::metadata(path).unwrap().len())
        .unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle..middle + 16].iter_mut().for_each(|byte| *byte ^= 0x55);
    std::fs::write(&largest, bytes).unwrap();
    let repaired = Store::verify(&folder, true).unwrap();
    assert!(!repaired.damages.is_empty(), "{repaired:?}");
    let all: Vec<&Node> = nodes.iter().collect();
    sync(&folder, &config(&chain, 1), &all, is_at_tip(&chain)).await;
    assert_whole(&folder, &chain, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_below_the_window_go_and_the_sync_goes_on() {
    let parent = tempfile::tempdir().unwrap();
    let (folder, mut chain) = (parent.path().join("light"), chain(800));
    let nodes = synced(&folder, &chain).await;
    let root = World::root(&chain, 1);
    let mut store = Store::open(&folder, &root).unwrap();
    assert_eq!(store.prune(800).unwrap(), 0);
    let gone = store.prune(100).unwrap();
    assert!(gone > 600, "{gone} of 700");
    assert_eq!(store.prune(100).unwrap(), 0, "once");
    drop(store);
    let kept = anchors(&folder);
    let store = Store::open(&folder, &root).unwrap();
    for height in 1..=800 {
        let header = store.header(height).unwrap();
        let is_kept = height >= 700 || kept.contains(&height) || kept.contains(&(height - 1));
        assert_eq!(header.is_some(), is_kept, "height {height}");
        let known = store.height(chain.hash(height)).unwrap();
        assert_eq!(known, is_kept.then_some(height));
    }
    drop(store);
    let checked = Store::verify(&folder, false).unwrap();
    assert_eq!(checked.damages, [], "what was pruned is not damaged");
    chain.grow(830);
    nodes.iter().for_each(|node| node.grow(830));
    let all: Vec<&Node> = nodes.iter().collect();
    let progress = sync(&folder, &config(&chain, 1), &all, is_at_tip(&chain)).await;
    assert_eq!(progress.headers, 30, "what was pruned is not fetched again");
    // Damage in what is left of what was pruned.
    let anchor = kept[kept.len() / 2];
    spoil(&folder, |db| {
        db.put_cf(db.cf_handle("header").unwrap(), (anchor + 1).to_be_bytes(), b"rotten").unwrap();
    });
    let repaired = Store::verify(&folder, true).unwrap();
    assert!(!repaired.damages.is_empty(), "{repaired:?}");
    sync(&folder, &config(&chain, 1), &all, is_at_tip(&chain)).await;
}
