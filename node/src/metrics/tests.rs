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
    let mut metrics = Metrics::new("cometbft", sources.clone());
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

#[test]
fn the_namespace_is_that_of_the_configuration() {
    let text = Metrics::new("chain", fake::sources()).text().expect("readable");
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
    let metrics = Metrics::new("cometbft", fake::sources());
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
    let metrics = Metrics::new("cometbft", fake::sources());
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
    let metrics = Metrics::new("cometbft", fake::sources());
    let error = MetricsServer::bind(&address, 3, metrics).await.err().expect("taken").to_string();
    assert!(
        error.contains("instrumentation.prometheus_listen_addr") && error.contains(&address),
        "{error}"
    );
}
