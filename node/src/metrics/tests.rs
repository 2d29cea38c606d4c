use super::*;
use crate::rpc::tests::fake;
use std::collections::BTreeMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Series and what they say.
fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let split = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    lines.map(split).collect()
}

fn value(text: &str, name: &str) -> f64 {
    let all = series(text);
    let found: Vec<_> =
        all.iter().filter(|(series, _)| series.starts_with(&format!("{name}{{"))).collect();
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    *found[0].1
}

#[test]
fn blocks_count_once_and_what_is_so_now_is_told_each_time() {
    let sources = fake::sources();
    let top = sources.blocks.height().expect("a chain").value();
    let txs: usize = (1..=top)
        .filter_map(|height| sources.blocks.meta(fake::height(height)).expect("stored"))
        .map(|meta| meta.num_txs)
        .sum();
    let mut metrics = Metrics::new("cometbft", sources.clone(), &Timings::default());
    // As if it had begun with the chain.
    metrics.walk = Walk::from(None);
    let text = metrics.text().expect("readable");
    assert_eq!(value(&text, "cometbft_consensus_latest_block_height"), top as f64);
    assert_eq!(value(&text, "cometbft_consensus_total_txs"), txs as f64);
    assert!(txs > 0, "the chain has transactions");
    let snapshot = sources.status.snapshot().expect("readable");
    assert_eq!(value(&text, "tercet_view"), f64::from(snapshot.pbft.view.number()));
    assert_eq!(value(&text, "cometbft_mempool_size"), sources.pool.stats().count as f64);
    assert_eq!(value(&text, "cometbft_p2p_peers"), sources.net.peer_count() as f64);
    assert!(text.contains("chain_id=\"fake-chain\""), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    let again = metrics.text().expect("readable");
    assert_eq!(value(&again, "cometbft_consensus_total_txs"), txs as f64, "no block counts twice");
}

/// A series with labels, and its value.
type Expected<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

/// A series without its label of the chain, as it is written.
fn of(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let has = |series: &str| {
        let label = |(key, value): &(&str, &str)| series.contains(&format!("{key}=\"{value}\""));
        series.split('{').next() == Some(name) && labels.iter().all(label)
    };
    series(text).into_iter().find(|(series, _)| has(series)).map(|(_, value)| value)
}

/// The chain of the fakes: heights 2 to 25, a second apart; the fourth of four validators, of power 10 each, signs nothing.
#[test]
fn every_figure_says_what_the_chain_and_the_replica_are() {
    let sources = fake::sources();
    let mut metrics = Metrics::new("cometbft", sources.clone(), &Timings::default());
    metrics.walk = Walk::from(None);
    let text = metrics.text().expect("readable");
    let sizes: usize = (2..=25)
        .filter_map(|at| sources.blocks.meta(fake::height(at)).expect("stored"))
        .map(|meta| meta.size_bytes)
        .sum();
    let last = sources.blocks.meta(fake::height(25)).expect("stored").expect("there");
    let me = sources.status.snapshot().expect("readable").key.address().to_string();
    let (me, peer) = (me.as_str(), "cf4a66aa29e5123abfdfbdf485da6788bb8e46d1");
    let expected: &[Expected<'_>] = &[
        ("cometbft_consensus_height", &[], 26.0),
        ("cometbft_consensus_rounds", &[], 0.0),
        ("cometbft_consensus_num_txs", &[], 0.0),
        ("cometbft_consensus_block_size_bytes", &[], last.size_bytes as f64),
        ("cometbft_consensus_chain_size_bytes_total", &[], sizes as f64),
        ("cometbft_consensus_block_interval_seconds_count", &[], 23.0),
        ("cometbft_consensus_block_interval_seconds_sum", &[], 23.0),
        ("cometbft_consensus_validators", &[], 4.0),
        ("cometbft_consensus_validators_power", &[], 40.0),
        ("cometbft_consensus_missing_validators", &[], 1.0),
        ("cometbft_consensus_missing_validators_power", &[], 10.0),
        ("cometbft_consensus_validator_power", &[("validator_address", me)], 10.0),
        ("cometbft_consensus_validator_last_signed_height", &[("validator_address", me)], 24.0),
        ("cometbft_blocksync_syncing", &[], 0.0),
        ("cometbft_mempool_size", &[], 2.0),
        ("cometbft_mempool_size_bytes", &[], 6.0),
        ("cometbft_mempool_failed_txs_total", &[], 1.0),
        ("cometbft_mempool_rejected_txs_total", &[], 2.0),
        ("cometbft_mempool_evicted_txs_total", &[], 3.0),
        ("cometbft_mempool_recheck_times_total", &[], 4.0),
        ("cometbft_mempool_tx_size_bytes_count", &[], 6.0),
        ("cometbft_mempool_tx_size_bytes_sum", &[], 2_000.0),
        ("cometbft_mempool_tx_size_bytes_bucket", &[("le", "243.0")], 5.0),
        ("cometbft_mempool_tx_size_bytes_bucket", &[("le", "+Inf")], 6.0),
        ("cometbft_p2p_peers", &[], 1.0),
        ("cometbft_p2p_peer_receive_bytes_total", &[("peer_id", peer)], 200.0),
        ("cometbft_p2p_peer_send_bytes_total", &[("peer_id", peer)], 100.0),
        ("tercet_view", &[], 0.0),
        ("tercet_start_view", &[], 0.0),
        ("tercet_view_changing", &[], 0.0),
        ("tercet_view_changes_total", &[], 0.0),
        ("tercet_primary", &[], 1.0),
        ("tercet_view_change_timeout_seconds", &[], 0.3),
        ("tercet_quorum_power", &[], 27.0),
        ("tercet_faulty_power_max", &[], 13.0),
        ("tercet_connected_validators", &[], 4.0),
        ("tercet_connected_validators_power", &[], 40.0),
        ("tercet_clock_off_seconds", &[], -3_600.0),
        ("tercet_fault", &[], 0.0),
        ("tercet_blocks_left_out_total", &[], 0.0),
        ("tercet_build", &[("version", env!("CARGO_PKG_VERSION")), ("moniker", "a<b")], 1.0),
    ];
    let wrong = expected.iter().filter_map(|(name, labels, right)| {
        let found = of(&text, name, labels);
        (found != Some(*right)).then_some((name, found, right))
    });
    assert_eq!(wrong.collect::<Vec<_>>(), []);
    for absent in ["tercet_held", "cometbft_consensus_validator_missed_blocks"] {
        assert_eq!(of(&text, absent, &[]), None, "{absent}");
    }
}

#[test]
fn figures_follow_the_replica_and_the_peers() {
    use tercet_consensus::view::View;
    let (sources, status) = fake::sources_to_change();
    let mut metrics = Metrics::new("cometbft", sources, &Timings::default());
    metrics.walk = Walk::from(None);
    let held = |text: &str| of(text, "tercet_held", &[("reason", "stale")]);
    let mut snapshot = (**status.load()).clone();
    let absent = snapshot.pbft.validators[3].address;
    snapshot.pbft.hold = Some("stale");
    snapshot.pbft.view_changes = 3;
    snapshot.pbft.promise = Some(View::ZERO.next());
    snapshot.pbft.primary = Some(snapshot.pbft.validators[1].address);
    snapshot.pbft.validators[3].connected = false;
    snapshot.fault = Some("gone".to_owned());
    snapshot.catching_up = true;
    // This node is the validator that signs nothing, and has no power any more.
    (snapshot.key, snapshot.power) = (fake::validators().list()[3].key, 0);
    status.store(std::sync::Arc::new(snapshot.clone()));
    let text = metrics.text().expect("readable");
    assert_eq!(held(&text), Some(1.0), "{text}");
    let missed = [("validator_address", &absent.to_string()[..])];
    let expected = [
        ("tercet_view_changes_total", &[][..], Some(3.0)),
        ("tercet_view_changing", &[], Some(1.0)),
        ("tercet_primary", &[], Some(0.0)),
        ("tercet_fault", &[], Some(1.0)),
        ("tercet_connected_validators", &[], Some(3.0)),
        ("tercet_connected_validators_power", &[], Some(30.0)),
        ("cometbft_blocksync_syncing", &[], Some(1.0)),
        ("cometbft_consensus_validator_power", &[], None),
        // Blocks 2 to 25 hold the commits of heights 1 to 24.
        ("cometbft_consensus_validator_missed_blocks", &missed[..], Some(24.0)),
    ];
    let wrong = expected.iter().filter(|(name, labels, right)| of(&text, name, labels) != *right);
    assert_eq!(wrong.map(|(name, ..)| *name).collect::<Vec<_>>(), Vec::<&str>::new());
    snapshot.pbft.hold = None;
    snapshot.pbft.view_changes = 5;
    snapshot.pbft.promise = Some(View::ZERO);
    status.store(std::sync::Arc::new(snapshot));
    let text = metrics.text().expect("readable");
    assert_eq!(held(&text), None, "it signs again");
    assert_eq!(of(&text, "tercet_view_changes_total", &[]), Some(5.0), "counted once");
    assert_eq!(of(&text, "tercet_view_changing", &[]), Some(0.0), "it is there");
    assert_eq!(of(&text, "cometbft_consensus_validator_missed_blocks", &missed), Some(24.0));
}

#[test]
fn each_call_of_the_application_is_timed() {
    let timings = Timings::default();
    let app = tercet_abci::in_process(Nothing);
    let mut roles = timings.watch(app);
    let tx = || tendermint_proto::v0_38::abci::RequestCheckTx::default();
    roles.mempool.check_tx(tx()).expect("it answers");
    roles.mempool.check_txs(vec![tx(), tx()]).expect("it answers");
    roles.consensus.commit().expect("it answers");
    let text = Metrics::new("cometbft", fake::sources(), &timings).text().expect("readable");
    let name = "cometbft_abci_connection_method_timing_seconds_count";
    for (method, count) in [("check_tx", 2.0), ("commit", 1.0)] {
        let labels = [("method", method), ("type", "sync"), ("chain_id", "fake-chain")];
        assert_eq!(of(&text, name, &labels), Some(count), "{method}\n{text}");
    }
    assert_eq!(of(&text, name, &[("method", "info")]), None);
}

/// An application that says yes to everything.
#[derive(Clone)]
struct Nothing;

impl tendermint_abci::Application for Nothing {}

#[test]
fn the_namespace_is_that_of_the_configuration() {
    let text =
        Metrics::new("chain", fake::sources(), &Timings::default()).text().expect("readable");
    assert!(text.contains("\nchain_consensus_height{"), "{text}");
    assert!(text.contains("\ntercet_view{"), "{text}");
    assert!(!text.contains("cometbft_"), "{text}");
}

async fn ask(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("text");
    reply
}

#[tokio::test]
async fn prometheus_gets_them_over_http_and_others_are_told_where_they_are() {
    let metrics = Metrics::new("cometbft", fake::sources(), &Timings::default());
    let server = MetricsServer::bind("127.0.0.1:0", 1, metrics).await.expect("a free port");
    let address = server.local_addr().expect("bound");
    let stop = CancellationToken::new();
    let running = tokio::spawn(server.run(stop.clone()));
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let reply = ask(address, &get("/metrics")).await;
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert!(reply.contains("application/openmetrics-text"), "{reply}");
    assert!(reply.contains("cometbft_consensus_height"), "{reply}");
    assert!(ask(address, &get("/")).await.starts_with("HTTP/1.1 404"));
    let post =
        "POST /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert!(ask(address, post).await.starts_with("HTTP/1.1 405"));
    stop.cancel();
    running.await.expect("it ends");
}

#[tokio::test]
async fn a_connection_too_many_waits_until_one_ends() {
    let metrics = Metrics::new("cometbft", fake::sources(), &Timings::default());
    let server = MetricsServer::bind("127.0.0.1:0", 1, metrics).await.expect("a free port");
    let address = server.local_addr().expect("bound");
    tokio::spawn(server.run(CancellationToken::new()));
    let first = TcpStream::connect(address).await.expect("it listens");
    let get = "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let second = tokio::spawn(async move { ask(address, get).await });
    // The kernel takes the connection; nobody answers before the first is gone.
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    drop(first);
    assert!(second.await.expect("it ends").starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_with_its_key() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let metrics = Metrics::new("cometbft", fake::sources(), &Timings::default());
    let error = MetricsServer::bind(&address, 3, metrics).await.err().expect("taken").to_string();
    assert!(
        error.contains("instrumentation.prometheus_listen_addr") && error.contains(&address),
        "{error}"
    );
}
