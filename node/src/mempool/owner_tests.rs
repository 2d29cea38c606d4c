//! The owner's thread with an application and peers that the test plays.

mod application;

use super::caller::Caller;
use super::owner::{Owner, RESEND_MAX, Seams};
use super::pool::Limits;
use super::{Committed, INTAKE_BYTES_MAX, Life, Mempool, Outbox, RelayMap, Revive, Settings};
use crate::audit::Audit;
use crate::engine::Event;
use crate::engine::run::Primary;
use crate::network::{Class, Inbound, PeerId};
use crate::rpc::sources::PoolError;
use crate::wire;
use crate::wire::samples::{self, height};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, never, unbounded};
use futures::executor::block_on;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tendermint_proto::v0_38::abci::{RequestCheckTx, ResponseCheckTx};
use tercet_consensus::block::SealedBlock;

const PATIENCE: Duration = Duration::from_secs(20);
const ACCEPTED: u32 = 0;
const REFUSED: u32 = 7;

/// Refuses what begins with `bad`, and what it is told to; keeps a list of what it was asked.
#[derive(Clone, Default)]
struct App {
    asked: Arc<Mutex<Vec<(Bytes, bool)>>>,
    refused: Arc<Mutex<BTreeSet<Bytes>>>,
    held: Arc<Mutex<()>>,
    /// How often it was called; it may not have answered yet.
    entered: Arc<AtomicUsize>,
    panics: Arc<AtomicBool>,
}

impl App {
    /// How often it was asked about new transactions and about old ones.
    fn asked(&self) -> (usize, usize) {
        let asked = self.asked.lock().unwrap();
        let again = asked.iter().filter(|(_, again)| *again).count();
        (asked.len() - again, again)
    }
}

impl tendermint_abci::Application for App {
    fn check_tx(&self, request: RequestCheckTx) -> ResponseCheckTx {
        assert!(!self.panics.load(Ordering::SeqCst), "as the test wants it");
        self.entered.fetch_add(1, Ordering::SeqCst);
        drop(self.held.lock().unwrap());
        self.asked.lock().unwrap().push((request.tx.clone(), request.r#type == 1));
        let refused = self.refused.lock().unwrap().contains(&request.tx);
        let refused = refused || request.tx.starts_with(b"bad");
        let code = if refused { REFUSED } else { ACCEPTED };
        let gas_wanted = request.tx.len().try_into().unwrap();
        ResponseCheckTx { code, gas_wanted, ..ResponseCheckTx::default() }
    }
}

struct Peers {
    connected: Vec<PeerId>,
    sent: Sender<(PeerId, Bytes)>,
}

impl Outbox for Peers {
    fn peers(&self) -> Vec<PeerId> {
        self.connected.clone()
    }

    fn send(&self, peer: PeerId, frame: Bytes) {
        self.sent.send((peer, frame)).unwrap();
    }
}

struct Bench {
    mempool: Mempool,
    app: App,
    peers: Vec<PeerId>,
    sent: Receiver<(PeerId, Bytes)>,
    events: Receiver<Event>,
    failures: Receiver<String>,
    relay: RelayMap,
    audit: Audit,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.mempool.stop();
    }
}

fn settings() -> Settings {
    let limits =
        Limits { count_max: 5_000, bytes_max: 1 << 30, tx_bytes_max: 1 << 20, cache_max: 10_000 };
    Settings {
        limits,
        recheck: true,
        broadcast: true,
        keep_invalid: false,
        batch_max: 5_000,
        nop: false,
        life: Life::default(),
    }
}

impl Bench {
    fn new(settings: Settings) -> Bench {
        let app = App::default();
        let role = tercet_abci::in_process(app.clone()).mempool;
        Bench::with(settings, app, role, Box::new(never))
    }

    /// With an application that is reached in this way.
    fn with(
        settings: Settings,
        app: App,
        role: Box<dyn tercet_abci::Application>,
        revive: Revive,
    ) -> Bench {
        let (bench, owner) = Bench::idle(settings, app, role, revive);
        std::thread::spawn(move || owner.run());
        bench
    }

    /// The same, with an owner that does nothing by itself.
    fn idle(
        settings: Settings,
        app: App,
        role: Box<dyn tercet_abci::Application>,
        revive: Revive,
    ) -> (Bench, Owner) {
        let (sent, outbox) = unbounded();
        let (events, event_queue) = unbounded();
        let (failed, failures) = unbounded();
        let peers: Vec<PeerId> = (0..3).map(|_| PeerId::random()).collect();
        let relay = RelayMap::default();
        let seams = Seams {
            settings: settings.clone(),
            outbox: Box::new(Peers { connected: peers.clone(), sent }),
            relay: relay.clone(),
            events,
            height: height(1),
            revive,
            failed: Box::new(move |reason| failed.send(reason).unwrap()),
        };
        let audit = Audit::default();
        let (mempool, queues) = Mempool::door(&settings, audit.clone());
        let (caller, _calling) = Caller::start(role).unwrap();
        let owner = Owner::new(seams, (queues, caller), mempool.counters.clone());
        let (sent, events) = (outbox, event_queue);
        (Bench { mempool, app, peers, sent, events, failures, relay, audit }, owner)
    }

    fn check(&self, tx: &str) -> Result<u32, PoolError> {
        block_on(self.mempool.check_tx(Bytes::copy_from_slice(tx.as_bytes()))).map(|a| a.code)
    }

    /// What is in the pool.
    fn txs(&self) -> Vec<Bytes> {
        block_on(self.mempool.first(usize::MAX))
    }

    fn commit(&self, at: u64, txs: &[&str], code: u32) {
        let mut block = samples::block(at, 0, None).block().clone();
        block.txs = txs.iter().map(|tx| Bytes::copy_from_slice(tx.as_bytes())).collect();
        self.mempool.committed(Committed {
            codes: vec![code; txs.len()],
            block: Arc::new(SealedBlock::seal(block)),
            block_bytes_max: 1 << 20,
            mine: false,
        });
    }

    /// The transactions of the next frame, and who gets it.
    fn next(&self) -> (PeerId, Vec<Bytes>) {
        let (peer, frame) = self.sent.recv_timeout(PATIENCE).unwrap();
        (peer, wire::decode_transactions(frame).unwrap().txs)
    }

    /// Lets these frames come from a peer, and returns when all have been handed over.
    fn receive(&self, peer: PeerId, frames: Vec<Bytes>) {
        let (sender, inbox) = tokio::sync::mpsc::channel(64);
        for bytes in frames {
            sender
                .try_send(Inbound {
                    peer,
                    class: Class::Transactions,
                    bytes,
                    room: None,
                    share: None,
                })
                .unwrap();
        }
        drop(sender);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.mempool.clone().run(inbox, |_, _| {}));
    }
}

fn wait_until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < PATIENCE, "it did not happen");
        std::thread::yield_now();
    }
}

fn frame(txs: &[&str]) -> Bytes {
    let txs = txs.iter().map(|tx| Bytes::copy_from_slice(tx.as_bytes()));
    wire::encode_transactions(txs.collect())
}

#[test]
fn a_client_waits_for_the_answer_of_the_application() {
    let bench = Bench::new(settings());
    assert_eq!(bench.check("a=1").unwrap(), ACCEPTED);
    assert!(matches!(bench.check("a=1"), Err(PoolError::Seen)));
    assert_eq!(bench.check("bad").unwrap(), REFUSED);
    assert_eq!(bench.check("bad").unwrap(), REFUSED, "one that was refused may come again");
    assert_eq!(bench.txs(), ["a=1"]);
    assert_eq!(bench.app.asked(), (3, 0));
}

#[test]
fn what_the_application_refused_is_remembered_where_the_configuration_says_so() {
    let bench = Bench::new(Settings { keep_invalid: true, ..settings() });
    assert_eq!(bench.check("bad").unwrap(), REFUSED);
    assert!(matches!(bench.check("bad"), Err(PoolError::Seen)));
}

#[test]
fn the_engine_is_woken_by_the_first_transaction() {
    let bench = Bench::new(settings());
    assert!(!bench.mempool.has_work());
    for tx in ["a=1", "a=2", "a=3"] {
        bench.check(tx).unwrap();
    }
    assert!(matches!(bench.events.recv_timeout(PATIENCE), Ok(Event::Pool)));
    wait_until(|| bench.mempool.stats().count == 3);
    assert!(bench.mempool.has_work());
    assert!(bench.events.try_recv().is_err(), "woken once");
    bench.commit(2, &["a=1", "a=2", "a=3"], 0);
    wait_until(|| !bench.mempool.has_work());
    bench.check("a=4").unwrap();
    assert!(matches!(bench.events.recv_timeout(PATIENCE), Ok(Event::Pool)));
}

#[test]
fn a_full_pool_rejects_at_the_door() {
    let limits = Limits { count_max: 2, ..settings().limits };
    let bench = Bench::new(Settings { limits, ..settings() });
    bench.check("a=1").unwrap();
    bench.check("a=2").unwrap();
    wait_until(|| bench.mempool.stats().count == 2);
    let refused = bench.check("a=3").unwrap_err().to_string();
    let words = "mempool is full: number of txs 2 (max: 2), total txs bytes 6 (max: 1073741824)";
    assert_eq!(refused, words);
    assert_eq!(bench.app.asked(), (2, 0));
    let large = bench.mempool.submit(Bytes::from(vec![0; (1 << 20) + 1])).unwrap_err();
    assert_eq!(large.to_string(), "Tx too large. Max size is 1048576, but got 1048577");
}

#[test]
fn what_waits_for_the_owner_is_bounded_in_bytes() {
    let bench = Bench::new(settings());
    let held = bench.app.held.lock().unwrap();
    let size = 1 << 20;
    let offer = |n: u8| bench.mempool.submit(Bytes::from(vec![n; size]));
    let taken = (0..=u8::MAX).take_while(|n| offer(*n).is_ok()).count();
    assert!(taken * size <= INTAKE_BYTES_MAX + size, "{taken}");
    assert!(matches!(offer(255), Err(PoolError::Full { .. })));
    drop(held);
    wait_until(|| bench.mempool.stats().count == taken);
    offer(255).unwrap();
    wait_until(|| bench.mempool.stats().count == taken + 1);
}

#[test]
fn more_than_the_queue_holds_from_a_peer_waits() {
    let limits = Limits { tx_bytes_max: 1 << 21, ..settings().limits };
    let bench = Bench::new(Settings { limits, ..settings() });
    let txs: Vec<String> = (0..40).map(|n| format!("{n:02}{}", "x".repeat(1 << 20))).collect();
    bench.receive(bench.peers[0], txs.iter().map(|tx| frame(&[tx])).collect());
    wait_until(|| bench.mempool.stats().count == 40);
}

#[test]
fn a_clients_transactions_go_to_the_primary_first_and_then_to_all_others() {
    let bench = Bench::new(settings());
    bench.mempool.primary(Primary::Peer(bench.peers[1]));
    bench.check("a=1").unwrap();
    let sent: Vec<_> = (0..3).map(|_| bench.next()).collect();
    assert_eq!(sent[0].0, bench.peers[1]);
    let all: BTreeSet<PeerId> = sent.iter().map(|(peer, _)| *peer).collect();
    assert_eq!(all, bench.peers.iter().copied().collect());
    assert!(sent.iter().all(|(_, txs)| *txs == ["a=1"]));
}

#[test]
fn nothing_is_sent_where_the_configuration_says_so() {
    let bench = Bench::new(Settings { broadcast: false, ..settings() });
    bench.check("a=1").unwrap();
    bench.commit(2, &[], 0);
    bench.mempool.primary(Primary::Peer(bench.peers[1]));
    assert_eq!(bench.txs(), ["a=1"]);
    assert!(bench.sent.is_empty());
}

#[test]
fn a_peers_transactions_go_to_those_that_it_is_not_connected_to() {
    let bench = Bench::new(settings());
    let (from, far) = (bench.peers[0], bench.peers[2]);
    bench.relay.store(Arc::new([(from, vec![far])].into()));
    bench.receive(from, vec![frame(&["a=1", "bad", "a=2"])]);
    assert_eq!(bench.next(), (far, vec!["a=1".into(), "a=2".into()]));
    assert_eq!(bench.txs(), ["a=1", "a=2"]);
    assert!(bench.sent.is_empty());
}

#[test]
fn a_duplicate_from_a_peer_is_not_checked_again_and_is_no_fault() {
    let bench = Bench::new(settings());
    bench.check("a=1").unwrap();
    bench.receive(bench.peers[0], vec![frame(&["a=1"]), frame(&["a=1", "a=2"])]);
    wait_until(|| bench.mempool.stats().count == 2);
    assert_eq!(bench.app.asked(), (2, 0));
    assert!(bench.audit.counts().is_empty());
}

#[test]
fn a_malformed_frame_is_counted_and_the_next_is_read() {
    let bench = Bench::new(settings());
    let peer = bench.peers[0];
    bench.receive(peer, vec![Bytes::from_static(b"\x12\xff"), frame(&["a=1"])]);
    wait_until(|| bench.mempool.stats().count == 1);
    let malformed = ("malformed", Some(peer), Some(Class::Transactions));
    assert_eq!(bench.audit.counts().get(&malformed), Some(&1));
}

#[test]
fn what_is_kept_does_not_hold_the_buffer_that_it_came_in() {
    let bench = Bench::new(settings());
    let frame = frame(&["a=1"]);
    bench.receive(bench.peers[0], vec![frame.clone()]);
    wait_until(|| bench.mempool.stats().count == 1);
    assert!(frame.is_unique());
    let request = Bytes::from(vec![b'x'; 1_000]);
    block_on(bench.mempool.check_tx(request.slice(0..10))).unwrap();
    assert!(request.is_unique());
}

#[test]
fn large_transactions_go_out_in_frames_of_their_own() {
    let bench = Bench::new(settings());
    let txs: Vec<String> = (0..9).map(|n| format!("{n}{}", "x".repeat(100_000))).collect();
    let held = bench.app.held.lock().unwrap();
    for tx in &txs {
        bench.mempool.submit(Bytes::copy_from_slice(tx.as_bytes())).unwrap();
    }
    drop(held);
    let mut received = 0;
    while received < 3 * txs.len() {
        let (_, frame) = bench.sent.recv_timeout(PATIENCE).unwrap();
        assert!(frame.len() < 130_000, "{}", frame.len());
        received += wire::decode_transactions(frame).unwrap().txs.len();
    }
}

#[test]
fn a_new_primary_gets_what_has_waited() {
    let bench = Bench::new(settings());
    bench.mempool.primary(Primary::Peer(bench.peers[0]));
    for tx in ["a=1", "a=2"] {
        bench.check(tx).unwrap();
    }
    wait_until(|| bench.sent.len() >= 3 && bench.txs().len() == 2);
    bench.commit(2, &["a=1"], 0);
    bench.check("a=3").unwrap();
    bench.mempool.primary(Primary::Peer(bench.peers[2]));
    let to_the_new = |wanted: &[&str]| {
        let wanted: Vec<Bytes> =
            wanted.iter().map(|tx| Bytes::copy_from_slice(tx.as_bytes())).collect();
        while bench.next() != (bench.peers[2], wanted.clone()) {}
    };
    to_the_new(&["a=2"]);
    to_the_new(&["a=2", "a=3"]);
    to_the_new(&["a=2", "a=3"]);
}

#[test]
fn what_waits_goes_to_all_peers_where_the_primary_is_not_one_of_them() {
    let bench = Bench::new(settings());
    bench.mempool.primary(Primary::Here);
    bench.check("a=1").unwrap();
    (0..3).for_each(|_| drop(bench.next()));
    bench.mempool.primary(Primary::Elsewhere);
    let again: BTreeSet<PeerId> = (0..3).map(|_| bench.next().0).collect();
    assert_eq!(again, bench.peers.iter().copied().collect());
}

#[test]
fn a_new_primary_gets_no_more_than_so_many_of_the_oldest_at_once() {
    let bench = Bench::new(settings());
    bench.mempool.primary(Primary::Here);
    let txs: Vec<String> = (0..RESEND_MAX + 100).map(|n| format!("a{n:04}=1")).collect();
    for tx in &txs {
        bench.check(tx).unwrap();
    }
    // All have gone to the peers once, and have waited for a block.
    let mut gone = 0;
    while gone < 3 * txs.len() {
        gone += bench.next().1.len();
    }
    bench.commit(2, &[], 0);
    bench.mempool.primary(Primary::Peer(bench.peers[0]));
    bench.mempool.primary(Primary::Peer(bench.peers[1]));
    let mut first = Vec::new();
    loop {
        let (to, more) = bench.next();
        if to == bench.peers[1] {
            break;
        }
        first.extend(more);
    }
    assert!(first.iter().zip(&txs).all(|(got, tx)| got == tx.as_bytes()), "the oldest first");
    assert_eq!(first.len(), RESEND_MAX);
}

#[test]
fn what_is_being_removed_after_a_block_is_no_work() {
    let bench = Bench::new(settings());
    bench.check("a=1").unwrap();
    wait_until(|| bench.mempool.has_work());
    let held = bench.app.held.lock().unwrap();
    // The owner waits for the application, so the block waits for the owner.
    bench.mempool.submit(Bytes::from_static(b"a=2")).unwrap();
    bench.commit(2, &["a=1"], 0);
    assert!(!bench.mempool.has_work());
    drop(held);
    wait_until(|| bench.mempool.has_work());
    assert_eq!(bench.txs(), ["a=2"]);
}

#[test]
fn what_was_committed_leaves_and_is_known() {
    let bench = Bench::new(settings());
    for tx in ["a=1", "a=2", "a=3"] {
        bench.check(tx).unwrap();
    }
    bench.commit(2, &["a=1", "a=9"], 0);
    bench.commit(3, &["a=2"], REFUSED);
    wait_until(|| bench.mempool.stats().count == 1);
    assert!(matches!(bench.check("a=1"), Err(PoolError::Seen)));
    assert!(matches!(bench.check("a=9"), Err(PoolError::Seen)), "though it came in a block only");
    assert_eq!(bench.check("a=2").unwrap(), ACCEPTED, "it failed, so it may come again");
    assert_eq!(bench.txs(), ["a=3", "a=2"]);
}

#[test]
fn what_has_become_invalid_leaves_at_the_recheck() {
    let bench = Bench::new(settings());
    for n in 0..100 {
        bench.check(&format!("a={n}")).unwrap();
    }
    bench.app.refused.lock().unwrap().insert("a=50".into());
    bench.commit(2, &["a=1"], 0);
    wait_until(|| bench.mempool.stats().count == 98);
    assert!(!bench.txs().contains(&"a=50".into()));
    wait_until(|| bench.app.asked() == (100, 99));
    bench.app.refused.lock().unwrap().clear();
    assert_eq!(bench.check("a=50").unwrap(), ACCEPTED);
}

#[test]
fn a_recheck_ends_under_constant_load() {
    let bench = Bench::new(settings());
    for n in 0..500 {
        bench.check(&format!("a={n}")).unwrap();
    }
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                drop(bench.mempool.submit(Bytes::from_static(b"bad")));
            }
        });
        bench.commit(2, &["a=1"], 0);
        wait_until(|| bench.app.asked().1 == 499);
        bench.commit(3, &["a=2"], 0);
        wait_until(|| bench.app.asked().1 == 499 + 498);
        ended.store(true, Ordering::SeqCst);
    });
}

#[test]
fn nothing_is_rechecked_where_the_configuration_says_so() {
    let bench = Bench::new(Settings { recheck: false, ..settings() });
    bench.check("a=1").unwrap();
    bench.commit(2, &[], 0);
    bench.check("a=2").unwrap();
    assert_eq!(bench.app.asked(), (2, 0));
}

#[test]
fn a_transaction_leaves_after_so_many_blocks_and_is_not_taken_again() {
    let bench = Bench::new(Settings {
        life: Life { blocks: 2, time: Duration::ZERO },
        recheck: false,
        ..settings()
    });
    bench.check("old").unwrap();
    bench.commit(2, &[], 0);
    assert_eq!(bench.txs(), ["old"]);
    bench.check("young").unwrap();
    bench.commit(3, &[], 0);
    assert_eq!(bench.txs(), ["old", "young"], "two blocks are not more than two");
    bench.commit(4, &[], 0);
    assert_eq!(bench.txs(), ["young"]);
    assert_eq!(bench.mempool.counts().evicted, 1);
    assert!(matches!(bench.check("old"), Err(PoolError::Seen)), "no peer brings it back");
}

/// Also where no block comes.
#[test]
fn a_transaction_leaves_after_so_much_time() {
    let time = Duration::from_millis(1);
    let bench = Bench::new(Settings { life: Life { blocks: 0, time }, ..settings() });
    bench.check("a=1").unwrap();
    wait_until(|| bench.mempool.counts().evicted == 1);
    assert!(bench.txs().is_empty());
    let bench = Bench::new(settings());
    bench.check("a=1").unwrap();
    bench.commit(1_000, &[], 0);
    assert_eq!(bench.txs(), ["a=1"], "nothing is too old where the configuration does not say so");
}

#[test]
fn a_mempool_of_type_nop_takes_nothing_of_anyone() {
    let bench = Bench::new(Settings { nop: true, ..settings() });
    assert_eq!(bench.check("a=1").unwrap_err().to_string(), "not allowed with `nop` mempool");
    assert!(bench.mempool.submit(Bytes::from_static(b"a=1")).is_err());
    bench.receive(bench.peers[0], vec![frame(&["b=1", "b=2"])]);
    assert!(bench.txs().is_empty() && bench.mempool.reap(1_000, -1).is_empty());
    assert_eq!(bench.app.asked(), (0, 0));
}

#[test]
fn what_comes_and_goes_is_counted_as_cometbft_counts_it() {
    let limits = Limits { count_max: 2, ..settings().limits };
    let bench = Bench::new(Settings { limits, ..settings() });
    bench.check("bad").unwrap();
    bench.mempool.gas_max(100);
    bench.check(&"g".repeat(101)).unwrap_err();
    bench.check("a=1").unwrap();
    bench.check(&"b".repeat(30)).unwrap();
    wait_until(|| bench.mempool.stats().count == 2);
    bench.check("c=1").unwrap_err();
    bench.app.refused.lock().unwrap().insert("a=1".into());
    bench.commit(2, &[], 0);
    wait_until(|| bench.mempool.counts().rechecked == 2);
    wait_until(|| bench.mempool.stats().count == 1);
    let counts = bench.mempool.counts();
    assert_eq!((counts.failed, counts.rejected, counts.evicted), (2, 1, 1));
    assert_eq!((counts.sizes, counts.size_sum), ([0, 1, 0, 0, 1, 0, 0, 0], 33));
}

#[test]
fn a_transaction_that_no_block_can_hold_is_refused() {
    let bench = Bench::new(settings());
    bench.mempool.gas_max(10);
    assert_eq!(bench.check("a=12345678").unwrap(), ACCEPTED);
    let refused = bench.check("a=123456789").unwrap_err();
    assert_eq!(refused.to_string(), "gas wanted 11 is greater than max gas 10");
    bench.mempool.gas_max(-1);
    assert_eq!(bench.check("a=123456789").unwrap(), ACCEPTED);
    assert_eq!(bench.mempool.reap(u64::MAX, 10), ["a=12345678"]);
}

#[test]
fn a_thousand_that_are_committed_under_another_hash_cost_one_suspicion() {
    let bench = Bench::new(Settings { recheck: false, ..settings() });
    for n in 0..1_000 {
        bench.check(&format!("a:{n}")).unwrap();
    }
    let (mut suspicions, mut at) = (0, 1);
    let start = Instant::now();
    while suspicions == 0 {
        at += 1;
        bench.commit(at, &["a=1"], 0);
        let _ = bench.txs();
        suspicions += u32::from(bench.mempool.suspects());
        assert!(start.elapsed() < PATIENCE);
    }
    for n in 0..1_000 {
        at += 1;
        bench.commit(at, &["a=1"], 0);
        if n % 64 == 0 {
            bench.mempool.primary(Primary::Peer(bench.peers[n / 64 % 3]));
        }
    }
    assert_eq!(bench.txs().len(), 1_000);
    wait_until(|| !bench.mempool.has_work());
    assert!(!bench.mempool.suspects());
}

#[test]
fn a_suspicion_is_of_the_primary_that_left_it_out() {
    let bench = Bench::new(Settings { recheck: false, ..settings() });
    bench.mempool.primary(Primary::Peer(bench.peers[0]));
    bench.check("a=1").unwrap();
    wait_until(|| bench.mempool.has_work());
    let mut at = 1;
    let suspected = || bench.mempool.counters.suspects.load(Ordering::SeqCst);
    let start = Instant::now();
    while !suspected() {
        at += 1;
        bench.commit(at, &[], 0);
        let _ = bench.txs();
        assert!(start.elapsed() < PATIENCE);
    }
    bench.mempool.primary(Primary::Peer(bench.peers[1]));
    let _ = bench.txs();
    assert!(!bench.mempool.suspects(), "the new primary is not blamed");
}

#[test]
fn an_application_that_fails_ends_the_node() {
    let bench = Bench::new(settings());
    bench.check("a=1").unwrap();
    bench.app.panics.store(true, Ordering::SeqCst);
    assert!(matches!(bench.check("a=2"), Err(PoolError::Unavailable(_))));
    assert!(!bench.failures.recv_timeout(PATIENCE).unwrap().is_empty());
    wait_until(|| matches!(bench.check("a=3"), Err(PoolError::Unavailable(_))));
    assert!(bench.mempool.reap(u64::MAX, -1).is_empty());
}

/// An application that takes its time makes the owner answer nobody meanwhile.
#[test]
fn questions_of_clients_that_wait_for_the_owner_are_bounded() {
    let (mempool, queues) = Mempool::door(&settings(), Audit::default());
    let asked: Vec<_> = (0..1_000).map(|_| mempool.first(1)).collect();
    assert_eq!(queues.control.len(), crate::mempool::ASKED_MAX);
    assert_eq!(block_on(asked.into_iter().next_back().unwrap()), Vec::<Bytes>::new());
}
