//! Against this crate's server, and against HTTP/2 and TCP servers that do what a test tells them.

use super::*;
use crate::application::Roles;
use crate::remote::{Address, MESSAGE_BYTES_MAX, Protocol, Settings, Stop, closed, connect};
use crate::{Role, remote};
use bytes::Bytes;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tendermint_abci::Application as _;
use tendermint_proto::v0_38::abci::response_process_proposal::ProposalStatus;

/// Answers with what it was asked, or does what the transaction says.
#[derive(Clone, Default)]
struct App {
    held: Arc<Mutex<Option<Receiver<()>>>>,
}

impl tendermint_abci::Application for App {
    fn check_tx(&self, request: RequestCheckTx) -> ResponseCheckTx {
        match &request.tx[..] {
            b"panic" => panic!("as told"),
            b"large" => ResponseCheckTx {
                data: vec![7; MESSAGE_BYTES_MAX + 1].into(),
                ..ResponseCheckTx::default()
            },
            _ => ResponseCheckTx { data: request.tx, ..ResponseCheckTx::default() },
        }
    }

    fn finalize_block(&self, request: RequestFinalizeBlock) -> ResponseFinalizeBlock {
        let held = self.held.lock().expect("whole").take();
        if let Some(held) = held {
            // Until the test goes on.
            let _ = held.recv();
        }
        ResponseFinalizeBlock { app_hash: request.hash, ..ResponseFinalizeBlock::default() }
    }
}

fn settings() -> Settings {
    Settings { protocol: Protocol::Grpc, ..Settings::default() }
}

fn serve(app: &App) -> Address {
    let server = Server::bind(&"tcp://127.0.0.1:0".parse().expect("an address")).expect("a port");
    let (address, app) = (server.address().clone(), app.clone());
    thread::spawn(move || server.serve(&app));
    address
}

fn roles(app: &App) -> Roles {
    connect(&serve(app), &settings(), &Stop::default()).expect("connected")
}

fn check(tx: &[u8]) -> RequestCheckTx {
    RequestCheckTx { tx: Bytes::copy_from_slice(tx), r#type: 0 }
}

#[test]
fn every_call_is_answered_as_in_this_process() {
    let mut roles = roles(&App::default());
    let message = "hello".to_owned();
    assert_eq!(roles.query.echo(RequestEcho { message }).expect("an answer").message, "hello");
    let app = App::default();
    macro_rules! same {
        ($($role:ident.$name:ident($request:expr);)*) => {$(
            assert_eq!(roles.$role.$name($request).expect("an answer"), app.$name($request));
        )*};
    }
    same! {
        query.info(RequestInfo::default());
        query.query(RequestQuery::default());
        mempool.check_tx(check(b"a=b"));
        snapshot.offer_snapshot(RequestOfferSnapshot::default());
        snapshot.load_snapshot_chunk(RequestLoadSnapshotChunk::default());
        snapshot.apply_snapshot_chunk(RequestApplySnapshotChunk::default());
        consensus.init_chain(RequestInitChain::default());
        consensus.extend_vote(RequestExtendVote::default());
        consensus.verify_vote_extension(RequestVerifyVoteExtension::default());
        consensus.finalize_block(RequestFinalizeBlock { hash: Bytes::from("b"), height: 1, ..Default::default() });
    }
    assert_eq!(roles.snapshot.list_snapshots().expect("an answer"), app.list_snapshots());
    assert_eq!(roles.consensus.commit().expect("an answer"), app.commit());
    let txs = vec![Bytes::from("a=b")];
    let prepare =
        RequestPrepareProposal { txs: txs.clone(), max_tx_bytes: 9, ..Default::default() };
    assert_eq!(roles.consensus.prepare_proposal(prepare).expect("an answer").txs, txs);
    let process = RequestProcessProposal { txs, ..Default::default() };
    let status = roles.consensus.process_proposal(process).expect("an answer").status;
    assert_eq!(status, i32::from(ProposalStatus::Accept));
}

#[test]
fn transactions_are_checked_in_order() {
    let mut roles = roles(&App::default());
    let txs: Vec<Vec<u8>> = (0..600u32).map(|n| n.to_be_bytes().to_vec()).collect();
    let answers = roles.mempool.check_txs(txs.iter().map(|tx| check(tx)).collect());
    assert!(answers.expect("answers").iter().map(|a| &a.data[..]).eq(txs.iter().map(|t| &t[..])));
}

/// The message may be as large as by the socket, in both directions, and no larger.
#[test]
fn messages_are_bounded() {
    let mut roles = roles(&App::default());
    let tx = vec![7; 20 << 20];
    assert_eq!(roles.mempool.check_tx(check(&tx)).expect("an answer").data, tx);
    let error = roles.query.check_tx(check(b"large")).expect_err("too large");
    assert!(error.to_string().contains("length too large"), "{error}");
    let error = roles.mempool.check_tx(check(&vec![7; MESSAGE_BYTES_MAX])).expect_err("too large");
    assert!(error.to_string().contains("length too large"), "{error}");
    assert!(!error.is_lost());
}

#[test]
fn a_panic_is_an_exception_and_does_not_bring_down_the_others() {
    let mut roles = roles(&App::default());
    let error = roles.mempool.check_tx(check(b"panic")).expect_err("it panics");
    let expected = "the application answered CheckTx (mempool) with an exception: the application panicked (Unknown)";
    assert_eq!(error.to_string(), expected);
    assert!(roles.query.check_tx(check(b"a")).is_ok());
    // What the application did is unknown: the connection is not used again.
    assert!(roles.mempool.check_tx(check(b"a")).expect_err("not connected").is_lost());
}

/// A relay before a server, whose connections a test can cut.
#[derive(Clone, Default)]
struct Relay(Arc<Mutex<Vec<TcpStream>>>);

impl Relay {
    fn before(&self, server: &Address) -> Address {
        let Address::Tcp(server) = server.clone() else { panic!("a TCP server") };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = Address::Tcp(listener.local_addr().expect("bound").to_string());
        let open = self.0.clone();
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let far = TcpStream::connect(&server).expect("it listens");
                let clone = |stream: &TcpStream| stream.try_clone().expect("a handle");
                open.lock().expect("whole").extend([clone(&near), clone(&far)]);
                for (mut from, mut to) in [(clone(&near), clone(&far)), (far, near)] {
                    thread::spawn(move || std::io::copy(&mut from, &mut to));
                }
            }
        });
        address
    }

    fn cut(&self) {
        for stream in self.0.lock().expect("whole").drain(..) {
            // The other end may have closed it.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Also where the connection breaks between two calls, it is not made again in silence: there might be another application at its end,
/// which must be asked where it is first.
#[test]
fn a_connection_that_breaks_is_lost_and_opened_again_on_request_alone() {
    let (relay, app) = (Relay::default(), App::default());
    let address = relay.before(&serve(&app));
    let mut roles = connect(&address, &settings(), &Stop::default()).expect("connected");
    for in_the_middle in [false, true] {
        let (_go, held) = channel();
        *app.held.lock().expect("whole") = in_the_middle.then_some(held);
        let call = thread::spawn({
            let (relay, app) = (relay.clone(), app.clone());
            move || {
                // The call is with the application once that has taken what holds it.
                while in_the_middle && app.held.lock().expect("whole").is_some() {
                    thread::yield_now();
                }
                relay.cut();
            }
        });
        if !in_the_middle {
            call.join().expect("cut");
        }
        let lost = roles.consensus.finalize_block(RequestFinalizeBlock::default());
        assert!(lost.expect_err("cut").is_lost());
        assert!(roles.consensus.commit().expect_err("still").is_lost());
        roles.consensus.reconnect().expect("again");
        assert!(roles.consensus.commit().is_ok());
    }
    let settings = Settings { exit_on_disconnect: true, ..settings() };
    let mut role = closed(Role::Query, &address, &settings, &Stop::default());
    role.reconnect().expect("connected");
    relay.cut();
    let gone = role.info(RequestInfo::default()).expect_err("cut");
    assert!(matches!(gone, AppError::Gone { .. }), "{gone}");
}

#[test]
fn a_call_ends_with_the_time_that_it_has_and_when_the_node_stops() {
    let app = App::default();
    let (_go, held) = channel();
    *app.held.lock().expect("whole") = Some(held);
    let settings = Settings { call_max: Some(Duration::from_millis(150)), ..settings() };
    let mut roles = connect(&serve(&app), &settings, &Stop::default()).expect("connected");
    let block = RequestFinalizeBlock { height: 7, ..RequestFinalizeBlock::default() };
    let error = roles.consensus.finalize_block(block).expect_err("silent");
    assert!(error.to_string().contains("FinalizeBlock (consensus) of height 7"), "{error}");

    let (_go, held) = channel();
    *app.held.lock().expect("whole") = Some(held);
    let stop = Stop::default();
    let mut roles = connect(&serve(&app), &self::settings(), &stop).expect("connected");
    let waits = thread::spawn(move || roles.consensus.finalize_block(Default::default()));
    stop.tell();
    assert_eq!(waits.join().expect("no panic"), Err(AppError::Stopped));
}

/// A server of the socket protocol accepts connections too.
#[test]
fn a_server_that_speaks_no_grpc_is_told() {
    let server = crate::socket::Server::bind(&"tcp://127.0.0.1:0".parse().expect("an address"));
    let server = server.expect("a port");
    let address = server.address().clone();
    thread::spawn(move || server.serve(&App::default()));
    let mut role = remote::closed(Role::Query, &address, &settings(), &Stop::default());
    let error = role.try_reconnect().expect_err("no gRPC");
    assert!(error.to_string().contains("it does not answer by gRPC"), "{error}");
}

#[test]
fn a_unix_socket_is_as_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("app.sock");
    let address: Address = format!("unix://{}", path.display()).parse().expect("an address");
    let server = Server::bind(&address).expect("a socket");
    thread::spawn(move || server.serve(&App::default()));
    let mut roles = connect(&address, &settings(), &Stop::default()).expect("connected");
    assert!(roles.consensus.commit().is_ok());
}
