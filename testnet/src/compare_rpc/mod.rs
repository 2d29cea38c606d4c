//! `compare-rpc`: thousands of requests to CometBFT and to Tercet, with the same key-value store and the same transactions in it; status,
//! headers and reply must be the same once what depends on keys, times and ports is masked.

mod explained;
mod mask;
mod requests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::compare_app::find;
use crate::layout::{App, Layout};
use crate::load::http::{Connection, HttpError, post};
use crate::rpc::{COMMIT_TIMEOUT, Rpc, host_port};
use crate::state::Net;
use crate::table::say;
use crate::up::{self, Up};
use mask::{Known, difference, fill, masked};
use requests::{Form, Request};

const NOTES: &str = "\
Needs CometBFT's node, which Go 1.22 or later builds:
  go install github.com/cometbft/cometbft/cmd/cometbft@v0.38.25
It is looked for in PATH and in the folder where `go install` puts it. Differences that docs/rpc.md explains are counted alone. Exit
code 1 where anything else differs.";

/// Arguments of `compare-rpc`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct CompareRpcArgs {
    /// CometBFT's node.
    #[arg(long, value_name = "FILE")]
    cometbft: Option<PathBuf>,
    /// First port of the networks; the second begins 50 above.
    #[arg(long, default_value_t = 31_600)]
    base_port: u16,
    /// Requests with several random parameters, besides each value for each parameter alone.
    #[arg(long, default_value_t = 3_000)]
    random: usize,
    /// Seed of those.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Show what is explained, too.
    #[arg(long)]
    all: bool,
    /// The node program (default: `tercet` beside this one).
    #[arg(long)]
    pub(crate) node_binary: Option<PathBuf>,
}

/// What the chains hold, a block each.
const TRANSACTIONS: [&str; 3] = ["a=1", "b=2", "key=value"];
/// Patience with an answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a chain must not grow to be at rest, and how long that may take.
const REST: Duration = Duration::from_secs(2);
const REST_MAX: Duration = Duration::from_secs(30);

/// One of the two.
struct Side {
    address: String,
    known: Known,
    connection: Option<Connection>,
}

/// A reply as it is compared.
#[derive(Debug)]
struct Reply {
    head: Value,
    body: Value,
}

/// Asks both and compares.
pub(crate) async fn run(args: CompareRpcArgs, tercet: PathBuf) -> anyhow::Result<ExitCode> {
    let cometbft = find("cometbft", "cmd/cometbft@v0.38.25", args.cometbft.as_deref())?;
    let dir = std::env::temp_dir().join(format!("tercet-compare-rpc-{}", std::process::id()));
    let dirs = [dir.join("cometbft"), dir.join("tercet")];
    let result = async {
        start(&dirs[0], &cometbft, args.base_port, true).await?;
        start(&dirs[1], &tercet, args.base_port + 50, false).await?;
        compare(&args, [Side::new(&dirs[0]).await?, Side::new(&dirs[1]).await?]).await
    };
    let result = result.await;
    for dir in dirs.iter().filter(|dir| Net::exists(dir)) {
        up::stop_network(dir).await?;
    }
    if dir.exists() {
        std::fs::remove_dir_all(&dir)
            .with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    result
}

/// Starts a validator and commits the transactions.
async fn start(dir: &Path, node: &Path, base_port: u16, cometbft: bool) -> anyhow::Result<()> {
    let layout = Layout {
        powers: vec![100],
        app: App::Kvstore,
        settings: vec!["consensus.create_empty_blocks=false".to_owned()],
        cometbft,
        ..Layout::plain(dir, 1, base_port)
    };
    let binary = node.to_owned();
    let up = Up { layout, binary, reset: true, detach: true, demo_txs: 0, duration: None };
    up::run(&up).await?;
    let mut rpc = Rpc::new(&Net::load(dir)?.node(0)?.rpc).patient(COMMIT_TIMEOUT);
    for tx in TRANSACTIONS {
        let params = json!({"tx": STANDARD.encode(tx)});
        let done: Value = rpc.call("broadcast_tx_commit", params).await?;
        ensure!(done["tx_result"]["code"] == 0, "{tx}: {done}");
        at_rest(&mut rpc).await?;
    }
    Ok(())
}

/// Waits until a chain does not grow any more: its height.
async fn at_rest(rpc: &mut Rpc) -> anyhow::Result<u64> {
    let start = Instant::now();
    let (mut height, mut since) = (0, start);
    while start.elapsed() < REST_MAX {
        let now = rpc.status().await?.sync_info.latest_block_height;
        if now != height {
            (height, since) = (now, Instant::now());
        } else if since.elapsed() >= REST {
            return Ok(height);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("the chain goes on without transactions")
}

impl Side {
    async fn new(dir: &Path) -> anyhow::Result<Side> {
        let address = host_port(&Net::load(dir)?.node(0)?.rpc)?;
        let mut rpc = Rpc::new(&address);
        let latest = at_rest(&mut rpc).await?;
        let mut known = Known::new();
        known.insert("latest", latest.to_string());
        known.insert("above", (latest + 1).to_string());
        for (tx, names) in TRANSACTIONS.iter().zip([
            ["tx0", "tx0.hash", "tx0.hash64", "tx0.block", "tx0.block64"],
            ["tx1", "tx1.hash", "tx1.hash64", "tx1.block", "tx1.block64"],
        ]) {
            let hash = Sha256::digest(tx);
            let found: Value = rpc.call("tx", json!({"hash": STANDARD.encode(hash)})).await?;
            let height = found["height"].as_str().context("a height")?.to_owned();
            let block: Value = rpc.call("block", json!({"height": height})).await?;
            let block = block["block_id"]["hash"].as_str().context("a hash")?.to_owned();
            let block64 = STANDARD.encode(hex::decode(&block)?);
            let values = [height, hex::encode_upper(hash), STANDARD.encode(hash), block, block64];
            known.extend(names.into_iter().zip(values));
        }
        Ok(Side { address, known, connection: None })
    }

    /// Asks, once more on a fresh connection where the kept one was closed meanwhile.
    async fn ask(&mut self, request: &Request) -> anyhow::Result<Reply> {
        let bytes = self.bytes(&request.form);
        if let Some(kept) = self.connection.take()
            && let Ok(reply) = self.exchange(kept, &bytes).await?
        {
            return Ok(reply);
        }
        let fresh = Connection::open(&self.address).await?;
        Ok(self.exchange(fresh, &bytes).await?.unwrap_or_else(|error| Reply {
            head: json!({"failed": error.to_string()}),
            body: Value::Null,
        }))
    }

    /// Asks on a connection, which is kept where it stays open. The inner error is that of the connection.
    ///
    /// # Errors
    /// Where no answer comes in time.
    async fn exchange(
        &mut self,
        mut connection: Connection,
        bytes: &[u8],
    ) -> anyhow::Result<Result<Reply, HttpError>> {
        let asked = tokio::time::timeout(PATIENCE, connection.exchange(bytes)).await;
        let (status, _) = match asked.context("no answer in time")? {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(error)),
        };
        let header = |name| connection.header(name).to_owned();
        let head = json!({"status": status, "content-type": header("content-type"),
            "cache-control": header("cache-control"), "allow": header("allow")});
        let body = serde_json::from_slice(connection.body());
        let text = || Value::from(String::from_utf8_lossy(connection.body()).into_owned());
        let reply = Reply { head, body: masked(&body.unwrap_or_else(|_| text()), &self.known) };
        self.connection = (!connection.closes()).then_some(connection);
        Ok(Ok(reply))
    }

    fn bytes(&self, form: &Form) -> Vec<u8> {
        let address = &self.address;
        match form {
            Form::Post(body) => post(address, fill(body, &self.known).as_bytes()),
            Form::Get(path) => {
                let known =
                    self.known.iter().map(|(name, value)| (*name, value.replace('+', "%2B")));
                let path = fill(path, &known.collect());
                format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes()
            }
            Form::Other(method, path, body) => format!(
                "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes(),
        }
    }
}

/// A difference, with how often it was met and the first request that led to it.
struct Met {
    count: usize,
    example: String,
    reason: Option<&'static str>,
}

async fn compare(args: &CompareRpcArgs, mut sides: [Side; 2]) -> anyhow::Result<ExitCode> {
    let requests = requests::all(args.seed, args.random);
    let mut met = BTreeMap::<(&str, String, String, String), Met>::new();
    for request in &requests {
        let [one, other] = &mut sides;
        let (one, other) = tokio::try_join!(one.ask(request), other.ask(request))
            .with_context(|| request.to_string())?;
        let found =
            difference(&one.head, &other.head).or_else(|| difference(&one.body, &other.body));
        if let Some((path, right, ours)) = found {
            let reason = explained::reason(request, (&path, &right, &ours));
            let key = (request.route, path, right, ours);
            let example = request.to_string();
            met.entry(key).or_insert(Met { count: 0, example, reason }).count += 1;
        }
    }
    let count =
        |of: fn(&Met) -> bool| met.values().filter(|met| of(met)).map(|met| met.count).sum();
    let (explained, unexplained): (usize, usize) =
        (count(|met| met.reason.is_some()), count(|met| met.reason.is_none()));
    for ((route, path, right, ours), Met { count, example, reason }) in &met {
        match reason {
            Some(reason) if args.all => say(&format!("{count} explained ({reason}): {example}")),
            Some(_) => {}
            None => say(&format!(
                "DIFFERS {count} {route}{path}: CometBFT {right}, Tercet {ours}: {example}"
            )),
        }
    }
    say(&format!(
        "{} requests: {} answered alike, {explained} differ as explained, {unexplained} differ",
        requests.len(),
        requests.len() - explained - unexplained
    ));
    Ok(if unexplained == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
