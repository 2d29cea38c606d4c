//! From one store to another, and everything that can go wrong on the way.

use super::super::{Durability, KvStore};
use super::*;
use prost::Message as _;
use tempfile::TempDir;
use tendermint_abci::Application as _;
use tendermint_proto::v0_38::abci::response_apply_snapshot_chunk::Result as Applied;
use tendermint_proto::v0_38::abci::response_offer_snapshot::Result as Offered;
use tendermint_proto::v0_38::abci::{
    RequestApplySnapshotChunk, RequestFinalizeBlock, RequestInfo, RequestInitChain,
    RequestLoadSnapshotChunk, RequestOfferSnapshot, RequestQuery, ResponseApplySnapshotChunk,
    ValidatorUpdate,
};
use tendermint_proto::v0_38::crypto::{PublicKey, public_key::Sum};

/// Three chunks: two whole ones and a bit.
const VALUE_BYTES: usize = 2 * CHUNK_BYTES / 3;

fn open(folder: &TempDir) -> KvStore {
    KvStore::open(&folder.path().join("kvstore.db"), Durability::Synced).unwrap()
}

fn update(seed: u8, power: i64) -> ValidatorUpdate {
    let key = super::super::validators::testing::key(seed);
    let sum = Some(Sum::Ed25519(key.as_bytes().to_vec()));
    ValidatorUpdate { pub_key: Some(PublicKey { sum }), power }
}

fn begin(app: &KvStore) {
    let validators = vec![update(1, 10), update(2, 5)];
    app.init_chain(RequestInitChain { validators, ..RequestInitChain::default() });
}

fn block(app: &KvStore, height: i64, txs: Vec<Bytes>) {
    app.finalize_block(RequestFinalizeBlock { height, txs, ..RequestFinalizeBlock::default() });
    app.commit();
    app.0.snapshots.written();
}

/// A transaction with a long value.
fn long(key: &str) -> Bytes {
    let value = key.repeat(VALUE_BYTES / key.len());
    Bytes::from(format!("{key}={value}"))
}

/// A store with a snapshot of height 2, and one block more.
fn source(folder: &TempDir) -> KvStore {
    let app = open(folder).snapshots_every(2);
    begin(&app);
    block(&app, 1, vec![long("a"), long("b"), Bytes::from("c=1")]);
    block(&app, 2, vec![long("d"), Bytes::from("c=2")]);
    block(&app, 3, vec![Bytes::from("c=3")]);
    app
}

fn the_one(app: &KvStore) -> Snapshot {
    let mut snapshots = app.list_snapshots().snapshots;
    assert_eq!(snapshots.len(), 1);
    snapshots.remove(0)
}

fn hash(app: &KvStore) -> Bytes {
    app.info(RequestInfo::default()).last_block_app_hash
}

/// The application's hash after five transactions.
fn hash_at_2() -> Bytes {
    super::super::state::State { size: 5, height: 2 }.hash()
}

fn load(app: &KvStore, snapshot: &Snapshot, chunk: u32) -> Bytes {
    let (height, format) = (snapshot.height, snapshot.format);
    app.load_snapshot_chunk(RequestLoadSnapshotChunk { height, format, chunk }).chunk
}

fn chunks(app: &KvStore, snapshot: &Snapshot) -> Vec<Bytes> {
    (0..snapshot.chunks).map(|index| load(app, snapshot, index)).collect()
}

fn offer(app: &KvStore, snapshot: &Snapshot, app_hash: Bytes) -> Offered {
    let snapshot = Some(snapshot.clone());
    app.offer_snapshot(RequestOfferSnapshot { snapshot, app_hash }).result()
}

fn send(app: &KvStore, index: usize, chunk: &Bytes) -> ResponseApplySnapshotChunk {
    let (index, chunk) = (u32::try_from(index).unwrap(), chunk.clone());
    let sender = format!("peer{index}");
    app.apply_snapshot_chunk(RequestApplySnapshotChunk { index, chunk, sender })
}

/// Sends all, of which the last must be answered so.
fn send_all(app: &KvStore, chunks: &[Bytes], end: Applied) {
    for (index, chunk) in chunks.iter().enumerate() {
        let expected = if index + 1 == chunks.len() { end } else { Applied::Accept };
        assert_eq!(send(app, index, chunk).result(), expected, "chunk {index}");
    }
}

fn value(app: &KvStore, path: &str, data: &[u8]) -> Bytes {
    let (path, data) = (path.to_owned(), Bytes::copy_from_slice(data));
    app.query(RequestQuery { path, data, ..RequestQuery::default() }).value
}

fn height(app: &KvStore) -> i64 {
    app.info(RequestInfo::default()).last_block_height
}

/// A snapshot of these entries, with everything right but what they say.
fn forged(entries: &[(&[u8], &[u8])], height: u64) -> (Snapshot, Vec<Bytes>) {
    let folder = TempDir::new().unwrap();
    let mut out = Chunked::new(File::create(folder.path().join("forged")).unwrap());
    for part in entries.iter().flat_map(|(key, value)| [key, value]) {
        let mut length = Vec::new();
        prost::encoding::encode_varint(part.len() as u64, &mut length);
        out.put(&length).unwrap();
        out.put(part).unwrap();
    }
    let (_, hashes) = out.finish().unwrap();
    let bytes = fs::read(folder.path().join("forged")).unwrap();
    let mut chunks: Vec<Bytes> = bytes.chunks(CHUNK_BYTES).map(Bytes::copy_from_slice).collect();
    if chunks.is_empty() {
        chunks.push(Bytes::new());
    }
    (described(hashes, height), chunks)
}

fn described(hashes: Vec<u8>, height: u64) -> Snapshot {
    Snapshot {
        height,
        format: FORMAT,
        chunks: u32::try_from(hashes.len() / HASH_BYTES).unwrap(),
        hash: Bytes::copy_from_slice(&Sha256::digest(&hashes)),
        metadata: hashes.into(),
    }
}

#[test]
fn a_store_is_restored_as_it_was_at_the_height_of_the_snapshot_and_goes_on() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let app = source(&from);
    let snapshot = the_one(&app);
    assert_eq!((snapshot.height, snapshot.format, snapshot.chunks), (2, 1, 3));
    let chunks = chunks(&app, &snapshot);
    // CometBFT begins so; InitChain may come before.
    let restored = open(&to);
    init_other(&restored);
    assert_eq!(offer(&restored, &snapshot, hash_at_2()), Offered::Accept);
    send_all(&restored, &chunks, Applied::Accept);
    let check = |restored: &KvStore| {
        assert_eq!((height(restored), hash(restored)), (2, hash_at_2()));
        assert_eq!(value(restored, "", b"c"), "2");
        assert_eq!(value(restored, "", b"d"), value(&app, "", b"d"));
        let key = super::super::validators::testing::key(2);
        let expected = update(2, 5).encode_length_delimited_to_vec();
        assert_eq!(value(restored, "/val", key.as_bytes()), expected);
        let gone = super::super::validators::testing::key(9);
        assert!(value(restored, "/val", gone.as_bytes()).is_empty());
    };
    check(&restored);
    drop(restored);
    let restored = open(&to).snapshots_every(1);
    check(&restored);
    block(&restored, 3, vec![Bytes::from("c=3")]);
    assert_eq!((height(&restored), hash(&restored)), (3, hash(&app)));
    // With the same blocks the snapshot is the same, byte for byte.
    block(&app, 4, vec![]);
    block(&restored, 4, vec![]);
    let of = |app: &KvStore| app.list_snapshots().snapshots.pop().unwrap();
    assert_eq!(of(&restored), of(&app));
    assert_eq!(of(&app).height, 4);
}

/// What a chain of another genesis would have written.
fn init_other(app: &KvStore) {
    let validators = vec![update(9, 1)];
    app.init_chain(RequestInitChain { validators, ..RequestInitChain::default() });
}

#[test]
fn chunks_may_come_in_any_order_and_again() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let app = source(&from);
    let (snapshot, restored) = (the_one(&app), open(&to));
    let chunks = chunks(&app, &snapshot);
    assert_eq!(offer(&restored, &snapshot, hash_at_2()), Offered::Accept);
    for index in [2, 0, 2, 0] {
        assert_eq!(send(&restored, index, &chunks[index]).result(), Applied::Accept);
        assert_eq!(height(&restored), 0);
    }
    assert_eq!(send(&restored, 1, &chunks[1]).result(), Applied::Accept);
    assert_eq!(height(&restored), 2);
}

#[test]
fn a_damaged_chunk_is_asked_for_again_and_its_sender_is_rejected() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let app = source(&from);
    let (snapshot, restored) = (the_one(&app), open(&to));
    let chunks = chunks(&app, &snapshot);
    assert_eq!(offer(&restored, &snapshot, hash_at_2()), Offered::Accept);
    let mut damaged = chunks[1].to_vec();
    damaged[7] ^= 1;
    for wrong in [damaged.into(), Bytes::new(), chunks[0].clone()] {
        let answer = send(&restored, 1, &wrong);
        assert_eq!(answer.result(), Applied::Retry);
        assert_eq!(answer.refetch_chunks, [1]);
        assert_eq!(answer.reject_senders, ["peer1"]);
    }
    send_all(&restored, &chunks, Applied::Accept);
    assert_eq!(height(&restored), 2);
}

#[test]
fn a_snapshot_that_cannot_be_one_is_refused_at_once() {
    let folder = TempDir::new().unwrap();
    let app = open(&folder);
    let (good, _) = forged(&[(b"stateKey", b"{}")], 2);
    let changed = |change: fn(&mut Snapshot)| {
        let mut snapshot = good.clone();
        change(&mut snapshot);
        offer(&app, &snapshot, Bytes::new())
    };
    assert_eq!(changed(|_| {}), Offered::Accept);
    assert_eq!(changed(|snapshot| snapshot.format = 2), Offered::RejectFormat);
    assert_eq!(changed(|snapshot| snapshot.format = 0), Offered::RejectFormat);
    assert_eq!(changed(|snapshot| snapshot.chunks = 0), Offered::Reject);
    assert_eq!(changed(|snapshot| snapshot.chunks = u32::MAX), Offered::Reject);
    assert_eq!(changed(|snapshot| snapshot.height = 0), Offered::Reject);
    assert_eq!(changed(|snapshot| snapshot.height = u64::MAX), Offered::Reject);
    assert_eq!(changed(|snapshot| snapshot.hash = Bytes::from_static(&[7; 32])), Offered::Reject);
    assert_eq!(changed(|snapshot| snapshot.metadata = Bytes::new()), Offered::Reject);
    let too_many = described(vec![7; HASH_BYTES * (CHUNKS_MAX + 1)], 2);
    assert_eq!(offer(&app, &too_many, Bytes::new()), Offered::Reject);
    // What was refused last is not being restored.
    assert_eq!(send(&app, 0, &Bytes::new()).result(), Applied::Abort);
}

#[test]
fn a_store_with_blocks_restores_nothing() {
    let folder = TempDir::new().unwrap();
    let app = source(&folder);
    assert_eq!(offer(&app, &the_one(&app), hash_at_2()), Offered::Abort);
    assert_eq!(send(&app, 0, &Bytes::new()).result(), Applied::Abort);
    assert_eq!(value(&app, "", b"c"), "3");
}

#[test]
fn a_chunk_that_there_is_not_aborts() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let app = source(&from);
    let (snapshot, restored) = (the_one(&app), open(&to));
    assert_eq!(offer(&restored, &snapshot, hash_at_2()), Offered::Accept);
    assert_eq!(send(&restored, 3, &Bytes::new()).result(), Applied::Abort);
    assert_eq!(send(&restored, 0, &load(&app, &snapshot, 0)).result(), Applied::Abort);
}

/// All chunks are what the metadata says, and the whole is not what the chain says: nothing of it stays, and the next offer is heard.
#[test]
fn a_whole_that_is_wrong_is_refused_and_leaves_nothing() {
    type Entries<'a> = Vec<(&'a [u8], &'a [u8])>;
    let state: (&[u8], &[u8]) = (b"stateKey", br#"{"size":5,"height":2}"#);
    let pair: (&[u8], &[u8]) = (b"kvPairKey:a", b"1");
    let cases: Vec<(&str, Entries<'_>)> = vec![
        ("nothing", vec![]),
        ("no state", vec![pair]),
        ("a state that is none", vec![pair, (b"stateKey", b"{}")]),
        ("another height", vec![pair, (b"stateKey", br#"{"size":5,"height":3}"#)]),
        ("another hash", vec![pair, (b"stateKey", br#"{"size":6,"height":2}"#)]),
        ("keys that are not in order", vec![state, pair]),
        ("a key twice", vec![pair, pair, state]),
        ("a validator that is none", vec![pair, state, (b"val=x", b"nonsense")]),
        ("another kind", vec![pair, (b"restoring", b""), state]),
        (
            "more pairs than transactions",
            vec![
                (b"kvPairKey:1", b"1"),
                (b"kvPairKey:2", b"1"),
                (b"kvPairKey:3", b"1"),
                (b"kvPairKey:4", b"1"),
                (b"kvPairKey:5", b"1"),
                (b"kvPairKey:6", b"1"),
                state,
            ],
        ),
    ];
    let folder = TempDir::new().unwrap();
    let app = open(&folder);
    begin(&app);
    for (what, entries) in cases {
        let (snapshot, chunks) = forged(&entries, 2);
        assert_eq!(offer(&app, &snapshot, hash_at_2()), Offered::Accept, "{what}");
        let answer = send(&app, 0, &chunks[0]).result();
        assert_eq!(answer, Applied::RejectSnapshot, "{what}");
        assert_eq!(send(&app, 0, &chunks[0]).result(), Applied::Abort, "{what}");
        assert_eq!(height(&app), 0, "{what}");
        assert!(value(&app, "", b"a").is_empty(), "{what}");
    }
    let mut cut = forged(&[pair, state], 2).1[0].to_vec();
    cut.pop();
    let snapshot = described(Sha256::digest(&cut).to_vec(), 2);
    assert_eq!(offer(&app, &snapshot, hash_at_2()), Offered::Accept);
    assert_eq!(send(&app, 0, &cut.into()).result(), Applied::RejectSnapshot);
    let short = described(Sha256::digest(b"x").repeat(2), 2);
    assert_eq!(offer(&app, &short, hash_at_2()), Offered::Accept);
    assert_eq!(send(&app, 0, &Bytes::from("x")).result(), Applied::RejectSnapshot);
    let (good, chunks) = forged(&[pair, state], 2);
    assert_eq!(offer(&app, &good, hash_at_2()), Offered::Accept);
    send_all(&app, &chunks, Applied::Accept);
    assert_eq!((height(&app), value(&app, "", b"a")), (2, Bytes::from("1")));
}

#[test]
fn a_restart_in_the_middle_of_the_chunks_begins_anew() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let app = source(&from);
    let (snapshot, restored) = (the_one(&app), open(&to));
    let chunks = chunks(&app, &snapshot);
    assert_eq!(offer(&restored, &snapshot, hash_at_2()), Offered::Accept);
    assert_eq!(send(&restored, 0, &chunks[0]).result(), Applied::Accept);
    drop(restored);
    let restored = open(&to);
    assert_eq!(send(&restored, 1, &chunks[1]).result(), Applied::Abort);
    assert_eq!(offer(&restored, &snapshot, hash_at_2()), Offered::Accept);
    send_all(&restored, &chunks, Applied::Accept);
}

#[test]
fn a_crash_while_the_store_is_written_leaves_an_empty_one() {
    let folder = TempDir::new().unwrap();
    drop(source(&folder));
    let db = rocksdb::DB::open_default(folder.path().join("kvstore.db")).unwrap();
    db.put("restoring", []).unwrap();
    drop(db);
    let app = open(&folder);
    assert_eq!(height(&app), 0);
    assert!(value(&app, "", b"c").is_empty());
    drop(app);
    assert_eq!(height(&open(&folder)), 0);
}

#[test]
fn the_last_ten_are_kept_also_over_restarts_and_nothing_unfinished() {
    let folder = TempDir::new().unwrap();
    let app = open(&folder).snapshots_every(1);
    begin(&app);
    for height in 1..=12 {
        block(&app, height, vec![]);
    }
    let heights = |app: &KvStore| -> Vec<u64> {
        app.list_snapshots().snapshots.iter().map(|snapshot| snapshot.height).collect()
    };
    let last: Vec<u64> = (3..=12).collect();
    assert_eq!(heights(&app), last);
    drop(app);
    let at = |name: &str| folder.path().join("kvstore.db/snapshots").join(name);
    fs::write(at("13.data"), "a").unwrap();
    fs::write(at("14.hashes"), [7; 32]).unwrap();
    fs::write(at("15.unfinished"), "a").unwrap();
    fs::write(at("12.data"), "").unwrap();
    let app = open(&folder);
    assert_eq!(heights(&app), last[..9]);
    assert_eq!(fs::read_dir(at("")).unwrap().count(), 18);
    // None is made unless it is asked for.
    block(&app, 13, vec![]);
    assert_eq!(heights(&app), last[..9]);
}

#[test]
fn what_is_not_there_or_damaged_on_the_disk_is_not_served() {
    let folder = TempDir::new().unwrap();
    let app = source(&folder);
    let snapshot = the_one(&app);
    assert!(load(&app, &snapshot, 3).is_empty());
    assert!(load(&app, &Snapshot { height: 3, ..snapshot.clone() }, 0).is_empty());
    assert!(load(&app, &Snapshot { format: 2, ..snapshot.clone() }, 0).is_empty());
    let path = folder.path().join("kvstore.db/snapshots/2.data");
    let mut data = fs::read(&path).unwrap();
    data[CHUNK_BYTES] ^= 1;
    fs::write(&path, data).unwrap();
    assert!(!load(&app, &snapshot, 0).is_empty());
    assert!(load(&app, &snapshot, 1).is_empty());
    fs::remove_file(path).unwrap();
    assert!(load(&app, &snapshot, 0).is_empty());
}
