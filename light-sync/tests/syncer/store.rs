//! Which folders are taken.

use crate::node::chain;
use rocksdb::{DB, Options};
use tercet_light_core::testing::world::World;
use tercet_light_sync::store::{FORMAT, Store, StoreError, read_root, summary};

#[test]
fn a_store_of_another_chain_root_or_format_is_refused_with_one_line() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), chain(10));
    let root = World::root(&chain, 3);
    drop(Store::open(folder.path(), &root).unwrap());
    assert_eq!(read_root(folder.path()).unwrap(), root);
    let mut other = root.clone();
    other.chain_id = "another".to_owned();
    let refused = Store::open(folder.path(), &other).unwrap_err();
    assert!(matches!(refused, StoreError::OtherChain { .. }), "{refused}");
    let refused = Store::open(folder.path(), &World::root(&chain, 4)).unwrap_err();
    assert!(matches!(refused, StoreError::OtherRoot { height: 3, .. }), "{refused}");
    let families = DB::list_cf(&Options::default(), folder.path()).unwrap();
    let db = DB::open_cf(&Options::default(), folder.path(), families).unwrap();
    db.put_cf(db.cf_handle("meta").unwrap(), b"format", "tercet light 9").unwrap();
    drop(db);
    for refused in
        [Store::open(folder.path(), &root).unwrap_err(), summary(folder.path()).unwrap_err()]
    {
        let text = refused.to_string();
        assert!(text.contains("tercet light 9") && text.contains(FORMAT), "{text}");
        assert_eq!(text.lines().count(), 1);
    }
}

#[test]
fn a_store_is_open_once_and_read_meanwhile() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), chain(10));
    let root = World::root(&chain, 3);
    let missing = summary(folder.path()).unwrap_err();
    assert!(matches!(missing, StoreError::Missing(_)), "{missing}");
    let store = Store::open(folder.path(), &root).unwrap();
    let locked = Store::open(folder.path(), &root).unwrap_err();
    assert!(matches!(locked, StoreError::Locked(_)), "{locked}");
    assert_eq!(summary(folder.path()).unwrap().root, root);
    drop(store);
}

#[test]
fn a_database_of_somebody_else_is_refused() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), chain(10));
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    drop(DB::open_cf(&options, folder.path(), ["blocks"]).unwrap());
    let refused = Store::open(folder.path(), &World::root(&chain, 3)).unwrap_err();
    assert!(matches!(refused, StoreError::Format { .. }), "{refused}");
}
