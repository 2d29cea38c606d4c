//! Against a server of another hand (`tendermint-abci`), and against one that does what a test tells it.

use super::*;
use crate::Role;
use crate::kvstore::{Durability, KvStore};
use crate::remote::{Address, MESSAGE_BYTES_MAX, Settings, Stop, closed, connect};
use bytes::{Bytes, BytesMut};
use prost::Message as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tendermint_proto::v0_38::abci::{Response, ResponseException, ResponseFlush};

fn quick() -> Settings {
    Settings { call_warn: Duration::from_secs(10), ..Settings::default() }
}

fn check(tx: &[u8]) -> RequestCheckTx {
    RequestCheckTx { tx: Bytes::copy_from_slice(tx), r#type: 0 }
}

/// The four connections in CometBFT's order, each to a server that runs `serve` on it.
fn serve(connections: usize, serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for number in 0..connections {
            let (stream, _) = listener.accept().expect("a connection");
            let serve = serve.clone();
            thread::spawn(move || serve(number, stream));
        }
    });
    Address::Tcp(address)
}

/// Reads one request.
fn read(stream: &mut TcpStream, inbox: &mut BytesMut) -> Option<Call> {
    loop {
        let mut rest = &inbox[..];
        if let Ok(length) = prost::encoding::decode_varint(&mut rest)
            && rest.len() as u64 >= length
        {
            let prefix = inbox.len() - rest.len();
            let _ = inbox.split_to(prefix);
            let frame = inbox.split_to(usize::try_from(length).expect("small"));
            return Request::decode(&frame[..]).expect("a request").value;
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(bytes) => inbox.extend_from_slice(&chunk[..bytes]),
        }
    }
}

fn write(stream: &mut TcpStream, answer: Answer) {
    let frame = Response { value: Some(answer) }.encode_length_delimited_to_vec();
    // The client may be gone by then.
    let _ = stream.write_all(&frame);
}

fn flush() -> Answer {
    Answer::Flush(ResponseFlush {})
}

#[test]
fn an_application_behind_another_server_answers_every_call_as_in_this_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = KvStore::open(folder.path(), Durability::Buffered).expect("a kvstore");
    let server =
        tendermint_abci::ServerBuilder::default().bind("127.0.0.1:0", app).expect("a port");
    let address = server.local_addr().parse().expect("an address");
    thread::spawn(move || drop(server.listen()));
    let mut roles = connect(&address, &quick(), &Stop::default()).expect("connected");
    let info = roles.query.info(RequestInfo::default()).expect("an answer");
    assert_eq!(info.last_block_height, 0);
    roles.consensus.init_chain(RequestInitChain::default()).expect("an answer");
    let checked = roles.mempool.check_txs(vec![check(b"a=b"), check(b"wrong"), check(b"c=d")]);
    let codes: Vec<u32> = checked.expect("answers").iter().map(|answer| answer.code).collect();
    assert_eq!((codes[0], codes[2]), (0, 0));
    assert_ne!(codes[1], 0);
    let block = RequestFinalizeBlock {
        height: 1,
        txs: vec![Bytes::from_static(b"a=b")],
        ..RequestFinalizeBlock::default()
    };
    let results = roles.consensus.finalize_block(block).expect("an answer");
    assert_eq!(results.tx_results.len(), 1);
    roles.consensus.commit().expect("an answer");
    let query = RequestQuery { data: Bytes::from_static(b"a"), ..RequestQuery::default() };
    assert_eq!(&roles.query.query(query).expect("an answer").value[..], b"b");
    roles.snapshot.list_snapshots().expect("an answer");
}

/// Thousands of calls leave before the first answer is read, and the answers are those of their calls, also where the server does not read
/// before its answers are taken.
#[test]
fn calls_are_pipelined_with_one_flush_a_batch_and_answered_in_order() {
    let (flushes, counted) = mpsc::channel();
    let flushes = std::sync::Mutex::new(flushes);
    let address = serve(4, move |_, mut stream| {
        let mut inbox = BytesMut::new();
        let mut held = Vec::new();
        while let Some(call) = read(&mut stream, &mut inbox) {
            match call {
                // As CometBFT's server: nothing leaves before a Flush.
                Call::CheckTx(request) => held.push(request.tx),
                Call::Flush(_) => {
                    flushes.lock().expect("whole").send(held.len()).expect("the test listens");
                    for tx in held.drain(..) {
                        let answer = ResponseCheckTx { data: tx, ..ResponseCheckTx::default() };
                        write(&mut stream, Answer::CheckTx(answer));
                    }
                    write(&mut stream, flush());
                }
                other => panic!("{other:?}"),
            }
        }
    });
    let mut roles = connect(&address, &quick(), &Stop::default()).expect("connected");
    let txs: Vec<Vec<u8>> =
        (0..1000u32).map(|n| [vec![7; 2000], n.to_be_bytes().to_vec()].concat()).collect();
    let answers =
        roles.mempool.check_txs(txs.iter().map(|tx| check(tx)).collect()).expect("answers");
    assert!(answers.iter().map(|answer| &answer.data[..]).eq(txs.iter().map(|tx| &tx[..])));
    let batches: Vec<usize> = counted.try_iter().collect();
    assert_eq!(batches.iter().sum::<usize>(), 1000);
    assert!(batches.len() < 10, "{batches:?}");
}

#[test]
fn a_connection_that_breaks_is_lost_and_opened_again_on_request() {
    let address = serve(5, |number, mut stream| {
        let mut inbox = BytesMut::new();
        while let Some(call) = read(&mut stream, &mut inbox) {
            match call {
                // The fourth connection is that of consensus.
                Call::Info(_) if number == 3 => return,
                Call::Info(_) => write(&mut stream, Answer::Info(ResponseInfo::default())),
                _ => write(&mut stream, flush()),
            }
        }
    });
    let mut roles = connect(&address, &quick(), &Stop::default()).expect("connected");
    assert!(roles.query.info(RequestInfo::default()).is_ok());
    let lost = roles.consensus.info(RequestInfo::default()).expect_err("closed");
    assert!(lost.is_lost(), "{lost}");
    assert!(roles.consensus.info(RequestInfo::default()).expect_err("closed").is_lost());
    roles.consensus.reconnect().expect("again");
    assert!(roles.consensus.info(RequestInfo::default()).is_ok());
}

#[test]
fn where_the_configuration_says_so_a_connection_that_breaks_is_final() {
    let address = serve(4, |_, stream| drop(stream));
    let settings = Settings { exit_on_disconnect: true, ..quick() };
    let mut roles = connect(&address, &settings, &Stop::default()).expect("connected");
    let gone = roles.consensus.info(RequestInfo::default()).expect_err("closed");
    assert!(matches!(gone, AppError::Gone { .. }), "{gone}");
}

/// One answer of each wrong kind: what is told, and that the connection is not used again.
#[test]
fn an_answer_that_is_none_is_told() {
    type Wrong = (&'static str, fn(&mut TcpStream));
    let cases: [Wrong; 6] = [
        ("answered Info (query) with an exception: no", |stream| {
            write(stream, Answer::Exception(ResponseException { error: "no".to_owned() }));
        }),
        ("the response to another call", |stream| {
            write(stream, Answer::Commit(ResponseCommit::default()));
            write(stream, flush());
        }),
        ("an empty response", |stream| {
            let _ = stream.write_all(&[0]);
        }),
        ("larger than 104857600", |stream| {
            let mut prefix = Vec::new();
            prost::encoding::encode_varint(MESSAGE_BYTES_MAX as u64 + 1, &mut prefix);
            let _ = stream.write_all(&prefix);
        }),
        ("no response of ABCI", |stream| {
            let _ = stream.write_all(&[2, 0xff, 0xff]);
        }),
        ("more than one response", |stream| {
            write(stream, Answer::Info(ResponseInfo::default()));
            write(stream, Answer::Info(ResponseInfo::default()));
        }),
    ];
    for (what, answer) in cases {
        let address = serve(4, move |_, mut stream| {
            let mut inbox = BytesMut::new();
            while let Some(call) = read(&mut stream, &mut inbox) {
                if matches!(call, Call::Info(_)) {
                    answer(&mut stream);
                }
            }
        });
        let mut roles = connect(&address, &quick(), &Stop::default()).expect("connected");
        let error = roles.query.info(RequestInfo::default()).expect_err(what);
        assert!(error.to_string().contains(what), "{error}");
        assert!(!error.is_lost());
        assert!(roles.query.info(RequestInfo::default()).is_err(), "{what}");
    }
}

#[test]
fn a_call_ends_with_the_time_that_it_has_and_when_the_node_stops() {
    let silent =
        || serve(4, |_, mut stream| while read(&mut stream, &mut BytesMut::new()).is_some() {});
    let settings = Settings { call_max: Some(Duration::from_millis(150)), ..quick() };
    let mut roles = connect(&silent(), &settings, &Stop::default()).expect("connected");
    let block = RequestFinalizeBlock { height: 7, ..RequestFinalizeBlock::default() };
    let error = roles.consensus.finalize_block(block).expect_err("silent");
    assert!(error.to_string().contains("FinalizeBlock (consensus) of height 7"), "{error}");

    let stop = Stop::default();
    let mut roles = connect(&silent(), &quick(), &stop).expect("connected");
    let waits = thread::spawn(move || roles.consensus.commit());
    stop.tell();
    assert_eq!(waits.join().expect("no panic"), Err(AppError::Stopped));
}

#[test]
fn connecting_waits_for_the_application_until_the_node_stops() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = Address::Tcp(listener.local_addr().expect("bound").to_string());
    drop(listener);
    let stop = Stop::default();
    let waits = thread::spawn({
        let stop = stop.clone();
        move || connect(&address, &quick(), &stop).map(|_| ())
    });
    stop.tell();
    assert_eq!(waits.join().expect("no panic"), Err(AppError::Stopped));
}

#[test]
fn a_unix_socket_is_as_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("app.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    thread::spawn(move || {
        let mut streams = Vec::new();
        for _ in 0..4 {
            streams.push(listener.accept().expect("a connection").0);
        }
        let answers = [Answer::Commit(ResponseCommit { retain_height: 9 }), flush()];
        for answer in answers {
            let frame = Response { value: Some(answer) }.encode_length_delimited_to_vec();
            streams[3].write_all(&frame).expect("it reads");
        }
        // Until the client has read them.
        let _ = streams[3].read_to_end(&mut Vec::new());
    });
    let address: Address = format!("unix://{}", path.display()).parse().expect("an address");
    let mut roles = connect(&address, &quick(), &Stop::default()).expect("connected");
    assert_eq!(roles.consensus.commit().expect("an answer").retain_height, 9);
}

/// CometBFT's server closes the connection where a method of the application panics, and listens on.
#[test]
fn an_application_that_closes_the_connection_in_each_call_is_not_asked_without_a_pause() {
    const CALLS: u32 = 4;
    let address = serve(5, |_, mut stream| {
        read(&mut stream, &mut BytesMut::new());
    });
    let mut app = closed(Role::Consensus, &address, &quick(), &Stop::default());
    app.reconnect().expect("connected");
    let start = Instant::now();
    for _ in 0..CALLS {
        let error = app.info(RequestInfo::default()).expect_err("closed");
        assert!(error.is_lost(), "{error}");
        app.reconnect().expect("connected again");
    }
    // 50, 100, 200 and 400 ms.
    assert!(start.elapsed() >= Duration::from_millis(750), "{:?}", start.elapsed());
}
