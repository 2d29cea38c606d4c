//! The load generator: kvstore transactions over kept-alive HTTP, against any node that speaks
//! CometBFT's JSON-RPC.
//!
//! Every connection has one request under way at a time. With a rate, request number `i` is due at
//! `i / rate`, whichever connection is free takes it, and sends that come late are reported. In
//! parallel one endpoint is watched for the blocks (`follow`), from which everything about
//! committed transactions is told.

mod follow;
pub(crate) mod http;
pub(crate) mod report;
mod tx;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::process::cpu_time;
use crate::rpc::{RpcError, host_port};
use follow::Follower;
use http::{Connection, HttpError};
use report::Report;
use tx::{COUNT_MAX, Request, Transactions, Verdict, verdict};

/// Most connections in total.
const CONNECTIONS_MAX: usize = 10_000;
/// How long one broadcast may take.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause of a connection after a rejected transaction, so that a full pool is not asked in a loop.
const REJECTED_PAUSE: Duration = Duration::from_millis(10);
/// Pause of a connection after it broke.
const BROKEN_PAUSE: Duration = Duration::from_millis(100);
/// Different reasons of rejection that are told apart.
const REASONS_MAX: usize = 50;
/// A send that is this late against the schedule is reported.
const LATE: Duration = Duration::from_millis(10);

/// How a transaction is handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Method {
    /// Answered after CheckTx.
    Sync,
    /// Answered at once.
    Async,
    /// Answered when the transaction is in a block.
    Commit,
}

impl Method {
    /// The name of the route.
    pub(crate) fn route(self) -> &'static str {
        match self {
            Self::Sync => "broadcast_tx_sync",
            Self::Async => "broadcast_tx_async",
            Self::Commit => "broadcast_tx_commit",
        }
    }
}

/// What to load, and how.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// RPC addresses.
    pub(crate) endpoints: Vec<String>,
    /// Transactions a second in total; 0: as fast as answers come.
    pub(crate) rate: u64,
    /// Bytes of a transaction.
    pub(crate) size_bytes: usize,
    /// Connections per endpoint.
    pub(crate) connections: usize,
    /// When to stop sending.
    pub(crate) until: Until,
    /// Transactions sent in this first part are not measured.
    pub(crate) warmup: Duration,
    /// How they are handed in.
    pub(crate) method: Method,
    /// How often the watched endpoint is asked for its height.
    pub(crate) poll: Duration,
    /// What every key begins with.
    pub(crate) prefix: String,
}

/// When sending ends, besides being stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// After a time.
    Time(Duration),
    /// After a number of transactions.
    Count(u64),
}

/// Why a load could not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// A setting makes no sense.
    #[error("{0}")]
    Setting(String),
    /// The endpoint whose blocks are watched does not answer.
    #[error("the chain cannot be followed")]
    Follow(#[from] RpcError),
    /// A task of the loader ended by a defect.
    #[error("the loader failed")]
    Task(#[from] tokio::task::JoinError),
}

/// What one transaction that was accepted cost, in units of 10 µs since the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// Number of the transaction.
    pub(crate) number: u32,
    /// When it was sent.
    pub(crate) at: u32,
    /// When its answer came.
    pub(crate) answered: u32,
}

/// What a connection did; added up over all of them.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Accepted transactions.
    pub(crate) sent: Vec<Sent>,
    /// Not accepted, by reason.
    pub(crate) rejected: BTreeMap<String, u64>,
    /// Sends that were more than `LATE` behind the schedule.
    pub(crate) late: u64,
    /// Processor time of the loader while it sent.
    pub(crate) cpu: Duration,
}

impl Tally {
    fn reject(&mut self, reason: String) {
        let known = self.rejected.len() < REASONS_MAX || self.rejected.contains_key(&reason);
        let reason = if known { reason } else { "other reasons".to_owned() };
        *self.rejected.entry(reason).or_default() += 1;
    }

    fn add(&mut self, other: Self) {
        self.sent.extend(other.sent);
        self.late += other.late;
        for (reason, count) in other.rejected {
            *self.rejected.entry(reason).or_default() += count;
        }
    }
}

/// `instant` in units of 10 µs since `start`.
pub(crate) fn ticks(start: Instant, instant: Instant) -> u32 {
    let micros = instant.saturating_duration_since(start).as_micros();
    u32::try_from(micros / 10).unwrap_or(u32::MAX)
}

/// What all connections share.
struct Plan {
    load: Load,
    transactions: Transactions,
    start: Instant,
    next: AtomicU64,
    stop: Arc<AtomicBool>,
}

impl Plan {
    /// The next transaction's number, once it is due, and whether that is late; none at the end.
    async fn next(&self) -> Option<(u32, bool)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut late = false;
        if self.load.rate > 0 {
            let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.load.rate);
            let due = self.start + Duration::from_nanos(u64::try_from(nanos).ok()?);
            if let Until::Time(time) = self.load.until
                && due >= self.start + time
            {
                return None;
            }
            tokio::time::sleep_until(due.into()).await;
            late = due.elapsed() > LATE;
        }
        let over = match self.load.until {
            Until::Time(time) => self.start.elapsed() >= time,
            Until::Count(count) => number >= count,
        };
        if over || number >= COUNT_MAX || self.stop.load(Ordering::Relaxed) {
            return None;
        }
        Some((u32::try_from(number).ok()?, late))
    }
}

/// Runs the load to its end or until `stop` is set, waits for what is still to be committed, and
/// tells what was measured.
pub(crate) async fn run(load: Load, stop: Arc<AtomicBool>) -> Result<Report, LoadError> {
    let mut load = load;
    check(&load)?;
    load.endpoints =
        load.endpoints.iter().map(|address| host_port(address)).collect::<Result<_, _>>()?;
    let transactions = Transactions::new(&load.prefix, rand::random(), load.size_bytes)
        .map_err(LoadError::Setting)?;
    let watched = load.endpoints.first().cloned().unwrap_or_default();
    let follower = Follower::open(&watched, transactions.clone(), load.poll).await?;
    let start = Instant::now();
    let cpu_before = cpu_time(std::process::id());
    let plan = Arc::new(Plan { load, transactions, start, next: AtomicU64::new(0), stop });
    let done = Arc::new(follow::Goal::default());
    let following = tokio::spawn(follower.run(start, done.clone()));
    let mut workers = Vec::new();
    for endpoint in &plan.load.endpoints {
        for _ in 0..plan.load.connections {
            workers.push(tokio::spawn(work(plan.clone(), endpoint.clone())));
        }
    }
    let mut tally = Tally::default();
    for worker in workers {
        tally.add(worker.await?);
    }
    let sending = start.elapsed();
    let cpu = cpu_time(std::process::id()).zip(cpu_before);
    tally.cpu = cpu.map(|(after, before)| after.saturating_sub(before)).unwrap_or_default();
    done.set(u64::try_from(tally.sent.len()).unwrap_or(u64::MAX));
    let followed = following.await?;
    Ok(Report::new(&plan.load, sending, &tally, &followed))
}

fn check(load: &Load) -> Result<(), LoadError> {
    let wrong = |text: &str| Err(LoadError::Setting(text.to_owned()));
    let total = load.endpoints.len() * load.connections;
    if load.endpoints.is_empty() {
        return wrong("no endpoint: give --endpoints or --dir of a running network");
    }
    if total == 0 || total > CONNECTIONS_MAX {
        return wrong("--connections must be at least 1, and at most 10000 in total");
    }
    match load.until {
        Until::Time(time) if time <= load.warmup => {
            wrong("--duration must be longer than --warmup: nothing would be measured")
        }
        _ => Ok(()),
    }
}

/// One connection, from its first transaction to its last.
async fn work(plan: Arc<Plan>, endpoint: String) -> Tally {
    let method = plan.load.method;
    let mut request = Request::new(plan.transactions.clone(), &endpoint, method);
    let mut connection = None;
    let mut tally = Tally::default();
    while let Some((number, late)) = plan.next().await {
        tally.late += u64::from(late);
        let at = Instant::now();
        let outcome = hand_in(&mut connection, &endpoint, request.carry(number), method).await;
        match outcome {
            Ok(Verdict::Accepted) => tally.sent.push(Sent {
                number,
                at: ticks(plan.start, at),
                answered: ticks(plan.start, Instant::now()),
            }),
            Ok(Verdict::Rejected(reason)) => {
                tally.reject(reason);
                tokio::time::sleep(REJECTED_PAUSE).await;
            }
            Err(error) => {
                connection = None;
                tally.reject(format!("no answer: {error}"));
                tokio::time::sleep(BROKEN_PAUSE).await;
            }
        }
    }
    tally
}

async fn hand_in(
    connection: &mut Option<Connection>,
    endpoint: &str,
    request: &[u8],
    method: Method,
) -> Result<Verdict, HttpError> {
    let open = match connection {
        Some(open) if !open.closes() => open,
        _ => connection.insert(Connection::open(endpoint).await?),
    };
    let exchange = tokio::time::timeout(REPLY_TIMEOUT, open.exchange(request)).await;
    let (_, body) = exchange.map_err(|_| HttpError::Timeout)??;
    Ok(verdict(method, body))
}
