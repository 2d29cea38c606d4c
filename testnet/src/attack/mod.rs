//! Attacks: a program that speaks the real handshake with one node of a running network, and then misbehaves. What the node spends on it
//! is measured from outside, before, during and after: memory, processor, file descriptors, heights a second, the latency of honest
//! transactions, and what it threw away by reason.

mod connections;
mod equivocation;
mod flood;
mod measure;
mod peer;
mod queries;
mod replay;
mod statuses;
mod streams;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;

use crate::chaos;
use crate::state::Net;
use measure::{Phase, Victim};
use peer::Attacker;

/// Honest transactions a second, unless told otherwise.
pub(crate) const LOAD_RATE: u64 = 20;
/// How long the quiet before and after an attack is measured.
const QUIET: Duration = Duration::from_secs(6);
/// The least share of the heights before an attack that are decided while it lasts.
const HEIGHTS_SHARE_MIN: f64 = 0.5;
/// The most that the victim's memory may grow.
const GROWTH_BYTES_MAX: u64 = 192 << 20;
/// The most file descriptors beyond those before the attack.
const FILES_MAX: u64 = 400;
/// A connection that breaks a rule, or of which nothing comes, ends within this.
const CUT_WITHIN: Duration = Duration::from_secs(60);
/// The most processor time that 10,000 messages a second of no use take, as a share of one processor.
const USELESS_CPU_MAX: f64 = 0.05;
/// The most that the 99th percentile of honest latency may grow by, and below which no growth counts: on a busy machine it is chance.
const LATENCY_FACTOR_MAX: f64 = 2.0;
const LATENCY_FLOOR_MS: f64 = 100.0;
/// The most that queries may lengthen the 95th percentile of the time between blocks by, and below which no growth counts.
const INTERVAL_FACTOR_MAX: f64 = 1.2;
const INTERVAL_FLOOR_MS: f64 = 20.0;

/// What is done. Each name in brackets is the row of the table of attacks, `docs/attacks.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Ten thousand connections, slow handshakes, many identities of one address; a validator restarts meanwhile (T-26, T-48).
    Connections,
    /// Malformed and excessive yamux frames (T-43).
    Yamux,
    /// Asks for blocks and reads nothing (T-44).
    ZeroWindow,
    /// Damaged messages of every class (T-110).
    Protobuf,
    /// Length prefixes that lie (T-111).
    Lengths,
    /// Votes of nobody and for heights that are long over, 10,000 a second (T-112).
    UnknownVotes,
    /// STATUS that lack everything and FETCH-BLOCK, of 32 strangers, as many as can be sent (T-112b).
    StatusFlood,
    /// Votes that a validator has signed for another chain, 10,000 a second (T-112).
    ForeignVotes,
    /// Votes and view changes of a validator for heights and views up to the last; the validator itself is down (T-113).
    FutureFlood,
    /// Votes in the names of validators with signatures that do not verify, as many as can be sent (T-114).
    BadSignatures,
    /// All that was heard, said again and again (T-115).
    Replay,
    /// Streams on which nothing comes, or never the rest (T-117).
    SilentStreams,
    /// Five thousand queries of the application a second (T-144).
    Queries,
    /// Everything that a validator signs, twice; the validator itself is down (T-120b, T-126b).
    Equivocation,
}

/// An attack on a node of a running network.
#[derive(Clone, Debug)]
pub(crate) struct Attack {
    /// The network's folder.
    pub(crate) dir: PathBuf,
    /// What is done.
    pub(crate) kind: Kind,
    /// The index of the node that it is done to.
    pub(crate) victim: usize,
    /// For how long.
    pub(crate) duration: Duration,
    /// From how many addresses, in turn.
    pub(crate) addresses: u16,
    /// Honest transactions a second, meanwhile.
    pub(crate) load_rate: u64,
}

/// What an attacker did, and what came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Blows {
    /// Connections made.
    pub(crate) connections: u64,
    /// Messages sent.
    pub(crate) messages: u64,
    /// Bytes sent.
    pub(crate) bytes: u64,
    /// Connections that the victim ended, and how long the slowest of them took, in seconds.
    pub(crate) cut: u64,
    /// See `cut`.
    pub(crate) slowest_cut_s: f64,
    /// Connections that should have been ended and were not.
    pub(crate) not_cut: u64,
    /// What this kind measures besides.
    pub(crate) more: BTreeMap<String, f64>,
    /// What failed besides.
    pub(crate) failures: Vec<String>,
}

impl Blows {
    /// A connection was ended, or not, after this long.
    fn ended(&mut self, after: Option<Duration>) {
        match after {
            Some(after) => {
                self.cut += 1;
                self.slowest_cut_s = self.slowest_cut_s.max(after.as_secs_f64());
            }
            None => self.not_cut += 1,
        }
    }
}

/// What an attack showed.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    kind: Kind,
    victim: usize,
    seconds: f64,
    blows: Blows,
    before: Phase,
    during: Phase,
    after: Phase,
    /// What was not as it must be, one line each.
    pub(crate) failures: Vec<String>,
}

/// Attacks, and measures.
///
/// # Errors
/// Where the network cannot be used.
pub(crate) async fn run(attack: &Attack) -> anyhow::Result<Outcome> {
    let net = Net::load(&attack.dir)?;
    let attacker = Attacker::new(&net, attack.victim, attack.addresses)?;
    let replaced = attacker.replaced(attack.kind);
    if let Some(index) = replaced {
        chaos::kill(&attack.dir, net.node(index)?).await?;
    }
    let victim = Victim::new(&net, attack.victim, replaced, attack.load_rate)?;
    let before = victim.phase(QUIET, std::future::pending::<()>()).await?.0;
    let (blows, told) = tokio::sync::oneshot::channel();
    let (kind, duration) = (attack.kind, attack.duration);
    // A thread of its own, so that the attacker and the measuring do not wait for each other.
    let thread = std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let Ok(runtime) = runtime.worker_threads(1).enable_all().build() else { return };
        drop(blows.send(runtime.block_on(strike(kind, attacker, duration))));
        runtime.shutdown_background();
    });
    let restarts = restart_one(attack, &net);
    let both = async { tokio::join!(told, restarts) };
    let most = duration + CUT_WITHIN + QUIET;
    let (during, done) = victim.phase(most, both).await?;
    let (blows, restarted) = done.context("the attack did not end")?;
    let mut blows = blows.context("the attacker ended")??;
    blows.failures.extend(restarted?);
    drop(thread.join());
    let after = victim.phase(QUIET, std::future::pending::<()>()).await?.0;
    if let Some(index) = replaced {
        chaos::restart(&attack.dir, index)?;
    }
    let seconds = during.seconds;
    let (victim, failures) = (attack.victim, Vec::new());
    let mut outcome = Outcome { kind, victim, seconds, blows, before, during, after, failures };
    outcome.judge();
    Ok(outcome)
}

async fn strike(kind: Kind, attacker: Attacker, duration: Duration) -> anyhow::Result<Blows> {
    let until = Instant::now() + duration;
    match kind {
        Kind::Connections => connections::flood(&attacker, until).await,
        Kind::Yamux => streams::yamux(&attacker).await,
        Kind::ZeroWindow => streams::zero_window(&attacker).await,
        Kind::Protobuf => flood::protobuf(&attacker, until).await,
        Kind::Lengths => streams::lengths(&attacker).await,
        Kind::UnknownVotes => flood::unknown_votes(&attacker, until).await,
        Kind::StatusFlood => statuses::flood(&attacker, until).await,
        Kind::ForeignVotes => flood::foreign_votes(&attacker, until).await,
        Kind::FutureFlood => flood::future(&attacker, until).await,
        Kind::BadSignatures => flood::bad_signatures(&attacker, until).await,
        Kind::Replay => replay::replay(&attacker, duration).await,
        Kind::SilentStreams => streams::silent(&attacker).await,
        Kind::Queries => queries::flood(&attacker, until).await,
        Kind::Equivocation => equivocation::equivocate(&attacker, until).await,
    }
}

/// While connections are flooded, a validator restarts: the victim and it must find each other again.
async fn restart_one(attack: &Attack, net: &Net) -> anyhow::Result<Vec<String>> {
    if attack.kind != Kind::Connections {
        return Ok(Vec::new());
    }
    tokio::time::sleep(attack.duration / 3).await;
    let other = net.validators().filter(|node| node.index != attack.victim).last();
    let Some(other) = other else { return Ok(Vec::new()) };
    chaos::kill(&attack.dir, other).await?;
    chaos::restart(&attack.dir, other.index)?;
    let back = measure::connected_within(net, attack.victim, other, Duration::from_secs(15)).await;
    Ok((!back).then(|| format!("{} found the victim no more", other.name())).into_iter().collect())
}

impl Outcome {
    fn judge(&mut self) {
        let mut failures = std::mem::take(&mut self.blows.failures);
        let (before, during, blows) = (&self.before, &self.during, &self.blows);
        if during.heights_per_s < before.heights_per_s * HEIGHTS_SHARE_MIN {
            failures.push("fewer than half of the heights were decided".to_owned());
        }
        if during.rss_peak_bytes > before.rss_peak_bytes + GROWTH_BYTES_MAX {
            failures.push(format!("memory grew by more than {} MiB", GROWTH_BYTES_MAX >> 20));
        }
        if during.files_max > before.files_max + FILES_MAX {
            failures.push(format!("more than {FILES_MAX} file descriptors were added"));
        }
        if !during.validators_stayed && self.kind != Kind::Connections {
            failures.push("a validator was disconnected from the victim".to_owned());
        }
        if blows.not_cut > 0 || blows.slowest_cut_s > CUT_WITHIN.as_secs_f64() {
            failures.push(format!("{} connections stay, or ended late", blows.not_cut));
        }
        let cost = during.cpu_share - before.cpu_share;
        if matches!(self.kind, Kind::UnknownVotes | Kind::ForeignVotes) && cost > USELESS_CPU_MAX {
            failures.push(format!("it takes {:.1} % of a processor", cost * 100.0));
        }
        if self.kind == Kind::BadSignatures
            && during.latency_p99_ms > LATENCY_FLOOR_MS
            && during.latency_p99_ms > LATENCY_FACTOR_MAX * before.latency_p99_ms
        {
            failures.push("the latency of honest transactions more than doubled".to_owned());
        }
        // Of a busy machine, the busier of the two quiet phases.
        let quiet = before.interval_p95_ms.max(self.after.interval_p95_ms);
        if self.kind == Kind::Queries
            && during.interval_p95_ms > INTERVAL_FLOOR_MS
            && during.interval_p95_ms > INTERVAL_FACTOR_MAX * quiet
        {
            failures.push("the time between blocks grew by more than a fifth".to_owned());
        }
        self.failures = failures;
    }

    /// What this kind measures, in one line.
    pub(crate) fn measured(&self) -> String {
        let more = self.blows.more.iter().map(|(name, figure)| format!("{name}: {figure:.0}"));
        more.collect::<Vec<_>>().join("; ")
    }

    /// The victim's processor time of a message, beside what it spends anyway.
    fn message_cpu(&self) -> Duration {
        let more = self.during.cpu_share - self.before.cpu_share;
        let messages = self.blows.messages.max(1);
        let seconds = (more.max(0.0) * self.seconds) / messages as f64;
        Duration::from_secs_f64(seconds)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = serde_json::to_value(self.kind).ok();
        let kind = kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or_default();
        let blows = &self.blows;
        writeln!(f, "{kind} on node{} for {:.0} s", self.victim, self.seconds)?;
        writeln!(
            f,
            "  sent: {} connections, {} messages, {} bytes; {} cut off, the slowest after {:.1} s",
            blows.connections, blows.messages, blows.bytes, blows.cut, blows.slowest_cut_s
        )?;
        for (name, figure) in &blows.more {
            writeln!(f, "  {name}: {figure:.1}")?;
        }
        for (name, phase) in
            [("before", &self.before), ("during", &self.during), ("after", &self.after)]
        {
            writeln!(f, "  {name}: {phase}")?;
        }
        if blows.messages > 0 {
            writeln!(f, "  processor time of a message: {:?}", self.message_cpu())?;
        }
        for (reason, count) in &self.during.discarded {
            writeln!(f, "  discarded {count}: {reason}")?;
        }
        for failure in &self.failures {
            writeln!(f, "  FAILED: {failure}")?;
        }
        write!(f, "  {}", if self.failures.is_empty() { "withstood" } else { "not withstood" })
    }
}
