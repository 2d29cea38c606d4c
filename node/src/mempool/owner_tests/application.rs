//! An application that is slow, hangs or is gone, and in which order it is asked.

use super::*;
use crate::mempool::Control;
use crate::mempool::check::{CHECK_BEGIN, CHECK_MAX};
use crossbeam_channel::bounded;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tercet_abci::{Role, remote, socket};

/// What comes of it; fails where it does not end.
fn ends<R: Send + 'static>(what: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, result) = bounded(1);
    std::thread::spawn(move || done.send(what()));
    result.recv_timeout(PATIENCE).expect("it does not end")
}

impl Bench {
    /// What a block would hold.
    fn reap(&self) -> Vec<Bytes> {
        let mempool = self.mempool.clone();
        ends(move || mempool.reap(u64::MAX, -1))
    }

    fn hold(&self) {
        let mempool = self.mempool.clone();
        ends(move || mempool.hold());
    }

    /// The same, without a wait; the owner knows of it.
    fn begin_to_hold(&self) -> Receiver<()> {
        let (reply, answer) = bounded(1);
        self.mempool.control.send(Control::Hold { reply }).unwrap();
        self.reap();
        answer
    }

    /// A client has sent a transaction that the application is being asked about, and does not answer.
    fn submit_one_that_hangs(&self, tx: &'static str) {
        let before = self.app.entered.load(Ordering::SeqCst);
        self.mempool.submit(Bytes::from_static(tx.as_bytes())).unwrap();
        wait_until(|| self.app.entered.load(Ordering::SeqCst) > before);
    }

    /// What the application was asked, in order, and whether it was a recheck.
    fn order(&self) -> Vec<(String, bool)> {
        let asked = self.app.asked.lock().unwrap();
        let text = |tx: &Bytes| String::from_utf8(tx.to_vec()).unwrap();
        asked.iter().map(|(tx, again)| (text(tx), *again)).collect()
    }
}

fn order(wanted: &[(&str, bool)]) -> Vec<(String, bool)> {
    wanted.iter().map(|(tx, again)| ((*tx).to_owned(), *again)).collect()
}

#[test]
fn the_primary_does_not_wait_for_a_check_that_hangs() {
    let bench = Bench::new(settings());
    for tx in ["a=1", "a=2"] {
        bench.check(tx).unwrap();
    }
    let held = bench.app.held.lock().unwrap();
    bench.submit_one_that_hangs("a=3");
    assert_eq!(bench.reap(), ["a=1", "a=2"]);
    bench.commit(2, &["a=1"], 0);
    assert_eq!(bench.reap(), ["a=2"], "what a block took is gone, whatever the application does");
    drop(held);
}

#[test]
fn the_primary_does_not_wait_for_an_application_that_does_not_come_back() {
    let app = App::default();
    let (way, role) = Way::to(&app);
    let (asks, revivals) = unbounded();
    let revive = move || {
        let (done, back) = bounded(1);
        asks.send(done).unwrap();
        back
    };
    let bench = Bench::with(settings(), app, role, Box::new(revive));
    assert_eq!(bench.check("before"), Ok(ACCEPTED));
    way.close();
    assert!(bench.check("meanwhile").is_err());
    let done: Sender<()> = revivals.recv_timeout(PATIENCE).unwrap();
    done.send(()).unwrap();
    for _ in 0..100 {
        assert_eq!(bench.reap(), ["before"]);
    }
    bench.hold();
    let check = bench.mempool.check_tx(Bytes::from_static(b"later"));
    assert!(matches!(ends(|| block_on(check)), Err(PoolError::Unavailable(_))));
}

/// A peer's frame of many that the application refuses is asked about in parts, and what the engine asks comes between any two.
#[test]
fn a_large_frame_holds_up_no_commit() {
    let bench = Bench::new(settings());
    let txs: Vec<String> = (0..10_000).map(|n| format!("bad{n}")).collect();
    let txs: Vec<&str> = txs.iter().map(String::as_str).collect();
    let held = bench.app.held.lock().unwrap();
    bench.receive(bench.peers[0], vec![frame(&txs)]);
    wait_until(|| bench.app.entered.load(Ordering::SeqCst) == 1);
    let answer = bench.begin_to_hold();
    drop(held);
    answer.recv_timeout(PATIENCE).unwrap();
    assert!(bench.app.asked().0 <= CHECK_BEGIN);
    bench.commit(2, &[], 0);
    wait_until(|| bench.app.asked() == (10_000, 0));
}

/// Also where all are known and none reaches the application.
#[test]
fn a_large_frame_holds_up_nobody() {
    let app = App::default();
    let role = tercet_abci::in_process(app.clone()).mempool;
    let (bench, mut owner) = Bench::idle(settings(), app, role, Box::new(never));
    bench.receive(bench.peers[0], vec![frame(&["a=1"; 10_000])]);
    assert!(owner.ask());
    assert!(owner.frame.is_some(), "the engine's questions come before the rest");
}

#[test]
fn what_waits_is_rechecked_after_a_block_before_anything_new_is_checked() {
    let bench = Bench::new(settings());
    let pool: Vec<String> = (0..2 * CHECK_MAX).map(|n| format!("a={n}")).collect();
    for tx in &pool {
        bench.check(tx).unwrap();
    }
    bench.hold();
    let before = bench.order();
    let new = bench.mempool.check_tx(Bytes::from_static(b"new"));
    for _ in 0..100 {
        bench.reap();
    }
    assert_eq!(bench.order(), before, "nothing is checked during Commit");
    bench.commit(2, &["a=0"], 0);
    assert_eq!(ends(|| block_on(new)).unwrap().code, ACCEPTED);
    let mut wanted: Vec<(&str, bool)> = pool.iter().skip(1).map(|tx| (&**tx, true)).collect();
    wanted.push(("new", false));
    assert_eq!(bench.order()[before.len()..], order(&wanted));
}

/// What an account sends after what waits is valid only on top of that.
#[test]
fn a_recheck_that_another_block_interrupts_begins_anew() {
    let bench = Bench::new(settings());
    for tx in ["a=1", "a=2"] {
        bench.check(tx).unwrap();
    }
    let held = bench.app.held.lock().unwrap();
    bench.commit(2, &[], 0);
    wait_until(|| bench.app.entered.load(Ordering::SeqCst) == 3);
    let new = bench.mempool.check_tx(Bytes::from_static(b"new"));
    let answer = bench.begin_to_hold();
    drop(held);
    answer.recv_timeout(PATIENCE).unwrap();
    bench.commit(3, &[], 0);
    assert_eq!(ends(|| block_on(new)).unwrap().code, ACCEPTED);
    let (both, last) = ([("a=1", true), ("a=2", true)], [("new", false)]);
    assert_eq!(bench.order()[2..], order(&[&both[..], &both[..], &last[..]].concat()));
}

#[test]
fn new_transactions_go_on_at_once_where_nothing_is_rechecked_or_committed() {
    let bench = Bench::new(Settings { recheck: false, ..settings() });
    bench.check("a=1").unwrap();
    for (end, tx) in [(true, "a=2"), (false, "a=3")] {
        bench.hold();
        let new = bench.mempool.check_tx(Bytes::from_static(tx.as_bytes()));
        match end {
            true => bench.commit(2, &[], 0),
            false => bench.mempool.release(),
        }
        assert_eq!(ends(|| block_on(new)).unwrap().code, ACCEPTED);
    }
    assert_eq!(bench.app.asked(), (3, 0));
}

/// What hangs is waited for once, and what a block took meanwhile is never proposed again.
#[test]
fn a_check_that_hangs_holds_up_one_commit_and_not_for_ever() {
    let bench = Bench::new(settings());
    let held = bench.app.held.lock().unwrap();
    let taken = bench.mempool.check_tx(Bytes::from_static(b"a=1"));
    wait_until(|| bench.app.entered.load(Ordering::SeqCst) == 1);
    bench.hold();
    bench.commit(2, &["a=1"], 0);
    assert!(bench.begin_to_hold().try_recv().is_ok(), "it was waited for already");
    bench.commit(3, &[], 0);
    drop(held);
    assert_eq!(ends(|| block_on(taken)).unwrap().code, ACCEPTED);
    assert!(bench.reap().is_empty());
    assert!(matches!(bench.check("a=1"), Err(PoolError::Seen)));
}

/// One that was refused while a block took it is still known, as a block may execute what CheckTx refuses.
#[test]
fn a_late_refusal_does_not_forget_what_a_block_took() {
    let bench = Bench::new(settings());
    let held = bench.app.held.lock().unwrap();
    let taken = bench.mempool.check_tx(Bytes::from_static(b"bad"));
    wait_until(|| bench.app.entered.load(Ordering::SeqCst) == 1);
    bench.commit(2, &["bad"], 0);
    bench.reap();
    drop(held);
    assert_eq!(ends(|| block_on(taken)).unwrap().code, REFUSED);
    assert!(matches!(bench.check("bad"), Err(PoolError::Seen)));
}

#[test]
fn one_that_was_checked_against_the_state_before_is_rechecked() {
    let bench = Bench::new(settings());
    bench.check("a=1").unwrap();
    let held = bench.app.held.lock().unwrap();
    bench.submit_one_that_hangs("late");
    bench.commit(2, &[], 0);
    bench.reap();
    drop(held);
    wait_until(|| bench.app.asked() == (2, 2));
    let wanted = [("a=1", false), ("late", false), ("a=1", true), ("late", true)];
    assert_eq!(bench.order(), order(&wanted));
}

#[test]
fn new_transactions_take_turns_where_blocks_come_faster_than_the_pool_is_rechecked() {
    let bench = Bench::new(settings());
    for n in 0..4_000 {
        bench.check(&format!("a={n}")).unwrap();
    }
    let ended = AtomicBool::new(false);
    let mut at = 2;
    bench.commit(at, &[], 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let new = bench.mempool.check_tx(Bytes::from_static(b"new"));
            let answer = catch_unwind(AssertUnwindSafe(|| ends(|| block_on(new))));
            ended.store(true, Ordering::SeqCst);
            assert_eq!(answer.unwrap().unwrap().code, ACCEPTED);
        });
        while !ended.load(Ordering::SeqCst) {
            at += 1;
            bench.commit(at, &[], 0);
            bench.reap();
        }
    });
}

/// A way to the application that a test can break: a relay on a Unix socket in front of a server.
struct Way {
    open: Arc<Mutex<Vec<UnixStream>>>,
    stop: remote::Stop,
    folder: tempfile::TempDir,
}

impl Way {
    fn to(app: &App) -> (Way, Box<dyn tercet_abci::Application>) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name| folder.path().join(name);
        let address = |name| format!("unix://{}", at(name).display()).parse().unwrap();
        let (server, app) = (socket::Server::bind(&address("inner")).unwrap(), app.clone());
        std::thread::spawn(move || server.serve(&app));
        let (listener, inner) = (UnixListener::bind(at("outer")).unwrap(), at("inner"));
        let open = Arc::<Mutex<Vec<UnixStream>>>::default();
        let keep = open.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let far = UnixStream::connect(&inner).unwrap();
                let clone = |stream: &UnixStream| stream.try_clone().unwrap();
                keep.lock().unwrap().extend([clone(&near), clone(&far)]);
                for (mut from, mut to) in [(clone(&near), clone(&far)), (far, near)] {
                    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                }
            }
        });
        let (settings, stop) = (remote::Settings::default(), remote::Stop::default());
        let mut role = remote::closed(Role::Mempool, &address("outer"), &settings, &stop);
        role.reconnect().unwrap();
        (Way { open, stop, folder }, role)
    }

    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Nobody gets there any more.
    fn close(&self) {
        std::fs::remove_file(self.folder.path().join("outer")).unwrap();
        self.cut();
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.stop.tell();
    }
}

/// An application that is lost is asked nothing until it is where the chain is; what it was being asked about is refused and forgotten, so
/// that it can be sent again; and then it is asked about all that wait here.
#[test]
fn a_lost_application_is_asked_nothing_before_it_is_where_the_chain_is() {
    let app = App::default();
    let (way, role) = Way::to(&app);
    let (asks, revivals) = unbounded();
    let revive = move || {
        let (done, back) = bounded(1);
        asks.send(done).unwrap();
        back
    };
    let bench = Bench::with(settings(), app, role, Box::new(revive));
    assert_eq!(bench.check("before"), Ok(ACCEPTED));
    way.cut();
    let refused = |tx| match bench.check(tx) {
        Err(PoolError::Unavailable(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(refused("meanwhile").contains("broke in CheckTx"));
    let done: Sender<()> = revivals.recv_timeout(PATIENCE).unwrap();
    assert!(refused("meanwhile").contains("send the transaction again"));
    assert!(refused("other").contains("send the transaction again"));
    // The engine is served.
    assert_eq!(bench.txs(), ["before"]);
    assert_eq!(bench.app.asked(), (1, 0), "nobody asks it");
    bench.app.refused.lock().unwrap().insert(Bytes::from("before"));
    done.send(()).unwrap();
    wait_until(|| bench.app.asked().1 == 1);
    wait_until(|| bench.txs().is_empty());
    assert_eq!(bench.check("meanwhile"), Ok(ACCEPTED));
    assert_eq!(bench.txs(), ["meanwhile"]);
    assert!(revivals.try_recv().is_err(), "once");
}
