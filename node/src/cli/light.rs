//! `tercet light`: a light client that keeps every header, verified from one trusted height.

use super::context::Global;
use super::say;
use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tercet_config::parse_duration;
use tercet_light_core::hash::Hash;
use tercet_light_core::options::{TrustLevel, TrustRoot};
use tercet_light_core::planner::{Condition, Config, Fork, Mode, Role};
use tercet_light_sync::driver::{End, Progress, Source, Syncer};
use tercet_light_sync::provider::{Endpoint, RUN_HEADERS, RpcProvider};
use tercet_light_sync::store::{Store, StoreError, Summary, read_root, summary};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How often progress is told while headers are missing.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);
/// The same where everything is there.
const SYNCED_EVERY: Duration = Duration::from_secs(30);

/// Flags of `light`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_precedence_over_arg = true,
    after_help = "\
  tercet light --chain-id my-chain --trust-height 1 --trust-hash 1A2B… \\
      --provider http://a:26657 --witness http://b:26657,http://c:26657
  tercet light --provider http://a:26657 --witness http://b:26657,http://c:26657    goes on with what is kept
  tercet light status"
)]
pub(super) struct Light {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    sync: Sync,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print what is kept and trusted, as JSON; a running syncer is not disturbed.
    Status {
        #[command(flatten)]
        folder: Folder,
    },
}

#[derive(Debug, Args)]
struct Folder {
    /// Where headers are kept [default: light in the home folder].
    #[arg(long, short = 'd', value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Sync {
    #[command(flatten)]
    folder: Folder,
    /// The chain; may be left out where it is kept already.
    #[arg(long, value_name = "ID")]
    chain_id: Option<String>,
    /// The same, as `cometbft light` has it.
    #[arg(value_name = "CHAIN_ID", conflicts_with = "chain_id")]
    chain: Option<String>,
    /// A height that you trust.
    #[arg(long, alias = "height", value_name = "HEIGHT", requires = "trust_hash")]
    trust_height: Option<u64>,
    /// The hash of its header, from somebody you trust.
    #[arg(long, alias = "hash", value_name = "HASH", requires = "trust_height", value_parser = hash)]
    trust_hash: Option<Hash>,
    /// A node's RPC that headers are fetched from; several may be named.
    #[arg(long, short = 'p', alias = "primary", value_name = "URL", value_delimiter = ',')]
    provider: Vec<Endpoint>,
    /// A node's RPC that is only compared with; several may be named.
    #[arg(long, short = 'w', alias = "witnesses", value_name = "URL", value_delimiter = ',')]
    witness: Vec<Endpoint>,
    /// With how many others a block must agree before it is trusted.
    #[arg(long, default_value_t = 2, value_name = "COUNT")]
    min_witnesses: usize,
    /// How long trust lasts; must be shorter than the chain's unbonding period.
    #[arg(long, default_value = "168h", value_name = "DURATION", value_parser = duration)]
    trusting_period: Duration,
    /// The part of the trusted power that must have signed: 1/3 to 1.
    #[arg(long, default_value = "1/3", value_name = "PART", value_parser = trust_level)]
    trust_level: TrustLevel,
    /// Fetch headers below the trusted height too, down to this one.
    #[arg(long, value_name = "HEIGHT")]
    fill_from: Option<u64>,
    /// Check the signatures of every height, not hashes alone.
    #[arg(long, alias = "sequential")]
    full: bool,
}

fn hash(text: &str) -> Result<Hash, String> {
    let bytes = hex::decode(text).ok();
    let hash = bytes.and_then(|bytes| Hash::from_slice(&bytes));
    hash.ok_or_else(|| "a hash has 64 hexadecimal digits".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

fn trust_level(text: &str) -> Result<TrustLevel, String> {
    let parts = text.split_once('/').and_then(|(n, d)| Some((n.parse().ok()?, d.parse().ok()?)));
    let (numerator, denominator) = parts.ok_or("a part as 1/3")?;
    TrustLevel::new(numerator, denominator).map_err(|error| error.to_string())
}

impl Light {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        match &self.command {
            Some(Command::Status { folder }) => status(&folder.path(global)?),
            None => self.sync.run(global),
        }
    }
}

impl Folder {
    fn path(&self, global: &Global) -> anyhow::Result<PathBuf> {
        match &self.dir {
            Some(dir) => Ok(dir.clone()),
            None => Ok(global.home()?.path().join("light")),
        }
    }
}

impl Sync {
    fn run(&self, global: &Global) -> anyhow::Result<()> {
        let folder = self.folder.path(global)?;
        self.check_endpoints()?;
        let root = self.root(&folder)?;
        let store = Store::open(&folder, &root)?;
        let config = self.config(root);
        let height = config.root.height;
        let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
        let syncer = Syncer::new(config, store, self.sources())?;
        runtime.block_on(async {
            let progress = syncer.progress();
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let sync = syncer.run(async move { drop(stopped.await) });
            let watch = watch_progress(progress, height);
            tokio::pin!(sync);
            let end = tokio::select! {
                end = &mut sync => end?,
                end = watch => { end?; drop(stop); sync.await? }
            };
            match end {
                End::Stopped => Ok(()),
                End::Forked(fork) => Err(forked(&fork)),
            }
        })
    }

    fn check_endpoints(&self) -> anyhow::Result<()> {
        if self.provider.is_empty() {
            bail!("nobody to fetch from: name a node's RPC with --provider");
        }
        let all = self.provider.len() + self.witness.len();
        if all <= self.min_witnesses {
            bail!(
                "{all} endpoints cannot confirm a block by {} others: name more with --witness, or lower --min-witnesses",
                self.min_witnesses
            );
        }
        Ok(())
    }

    /// The root by the flags, or that of the store.
    fn root(&self, folder: &std::path::Path) -> anyhow::Result<TrustRoot> {
        let chain_id = self.chain_id.clone().or_else(|| self.chain.clone());
        match (self.trust_height, self.trust_hash) {
            (Some(height), Some(hash)) => {
                let chain_id = chain_id.ok_or_else(|| anyhow!("--chain-id is missing"))?;
                let root = TrustRoot { chain_id, height, hash, genesis_hash: None };
                root.check()?;
                Ok(root)
            }
            _ => {
                let root = read_root(folder)?;
                match chain_id {
                    Some(wanted) if wanted != root.chain_id => {
                        let (folder, found) = (folder.to_owned(), root.chain_id);
                        Err(StoreError::OtherChain { folder, found, wanted }.into())
                    }
                    _ => Ok(root),
                }
            }
        }
    }

    fn config(&self, root: TrustRoot) -> Config {
        let mut config = Config::new(root);
        config.options.trust_level = self.trust_level;
        config.options.trusting_period = self.trusting_period;
        config.witnesses = self.min_witnesses;
        config.fill_from = self.fill_from;
        config.run_headers = RUN_HEADERS;
        if self.full {
            config.mode = Mode::Full;
        }
        config
    }

    fn sources(&self) -> Vec<Source> {
        let source = |endpoint: &Endpoint, role| Source {
            provider: Arc::new(RpcProvider::new(endpoint.clone())),
            role,
        };
        let providers = self.provider.iter().map(|endpoint| source(endpoint, Role::Provider));
        let witnesses = self.witness.iter().map(|endpoint| source(endpoint, Role::Witness));
        providers.chain(witnesses).collect()
    }
}

fn forked(fork: &Fork) -> anyhow::Error {
    let height = fork.ours.last().map_or(0, |block| block.height());
    anyhow!(
        "two chains verify at height {height} ({:?} attack, both share height {}): nothing above it is trusted; both traces and {} pieces of evidence are kept; find out which chain is true, then sync from a root on it into another --dir",
        fork.attack,
        fork.common.height(),
        fork.evidence.len()
    )
}

/// Tells how far it is until somebody stops it, or it cannot go on.
async fn watch_progress(mut progress: watch::Receiver<Progress>, root: u64) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    let mut told = Told::new(&progress.borrow());
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            changed = progress.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let now = progress.borrow_and_update().clone();
                told.changes(&now)?;
                check(&now, root)?;
            }
            _ = ticks.tick() => told.tick(&progress.borrow().clone())?,
        }
    }
}

/// Whether it can go on by itself.
fn check(progress: &Progress, root: u64) -> anyhow::Result<()> {
    match progress.status.condition {
        Condition::RootRefuted => bail!(
            "every provider has another header at height {root}: --trust-hash is wrong, or the providers are of another chain"
        ),
        Condition::Expired => bail!(
            "what is trusted is older than the trusting period: choose a newer --trust-height and --trust-hash, and another --dir"
        ),
        // A fork ends it in a better way.
        Condition::Frozen => Ok(()),
        _ if progress.providers > 0 => Ok(()),
        _ => {
            let why = progress.refused.last();
            let why = why.map_or(String::new(), |(name, fault)| format!(" ({name}: {fault})"));
            bail!(
                "nobody is left to fetch from{why}: is the root right, and the chain? Name other nodes with --provider"
            )
        }
    }
}

/// What was told last.
struct Told {
    condition: Option<Condition>,
    /// Whether it was told that everything is there.
    synced: bool,
    refused: usize,
    headers: u64,
    at: Instant,
}

impl Told {
    fn new(progress: &Progress) -> Told {
        let headers = progress.headers;
        Told { condition: None, synced: false, refused: 0, headers, at: Instant::now() }
    }

    /// What changed other than numbers.
    fn changes(&mut self, progress: &Progress) -> anyhow::Result<()> {
        for (name, fault) in progress.refused.iter().skip(self.refused) {
            say(&format!("{name} is not asked any more: {fault}"))?;
        }
        self.refused = progress.refused.len();
        let condition = progress.status.condition;
        if self.condition != Some(condition) && self.is_worth_telling(condition) {
            self.rate(progress)?;
        }
        self.condition = Some(condition);
        self.synced |= condition == Condition::Synced;
        Ok(())
    }

    /// At the tip, blocks come unconfirmed and are confirmed a moment later.
    fn is_worth_telling(&self, condition: Condition) -> bool {
        use Condition::{Synced, Syncing, Unconfirmed};
        let follows = |condition| matches!(condition, Synced | Syncing | Unconfirmed);
        let first = condition == Synced && !self.synced;
        first || !(self.condition.is_some_and(follows) && follows(condition))
    }

    /// Time passes.
    fn tick(&mut self, progress: &Progress) -> anyhow::Result<()> {
        let follows = progress.status.condition == Condition::Synced;
        if follows && self.at.elapsed() < SYNCED_EVERY {
            return Ok(());
        }
        self.rate(progress)
    }

    fn rate(&mut self, progress: &Progress) -> anyhow::Result<()> {
        let seconds = self.at.elapsed().as_secs_f64().max(0.001);
        let more = progress.headers - self.headers;
        (self.at, self.headers) = (Instant::now(), progress.headers);
        say(&line(progress, more, seconds))
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]
fn line(progress: &Progress, headers: u64, seconds: f64) -> String {
    let status = &progress.status;
    let height = |point: Option<tercet_light_core::planner::Point>| {
        point.map_or("nothing".to_owned(), |point| point.height.to_string())
    };
    let rate = headers as f64 / seconds;
    let left = match status.missing {
        0 => "all headers are there".to_owned(),
        missing if rate < 1.0 => format!("{missing} headers missing"),
        missing => {
            format!("{missing} headers missing, {} s left", (missing as f64 / rate).ceil() as u64)
        }
    };
    format!(
        "{:?}: verified {}, trusted {}; {left}; {} headers/s, {} new anchors",
        status.condition,
        height(status.verified),
        height(status.trusted),
        rate.round() as u64,
        progress.anchors,
    )
}

fn status(folder: &std::path::Path) -> anyhow::Result<()> {
    let Summary { root, verified, confirmed, lowest, beginning, missing, anchors, fork } =
        summary(folder)?;
    let trusted = match (&fork, &confirmed) {
        (Some(fork), Some((height, _))) => Some(fork.common.min(*height)),
        (None, Some((height, _))) => Some(*height),
        (_, None) => None,
    };
    say(&serde_json::to_string_pretty(&json!({
        "chain_id": root.chain_id,
        "root": { "height": root.height.to_string(), "hash": root.hash.to_string() },
        "trusted_height": trusted.map(|height| height.to_string()),
        "confirmed_by": confirmed.map(|(_, by)| by),
        "verified": verified.map(|(height, hash, how)| json!({
            "height": height.to_string(), "hash": hash.to_string(), "how": how,
        })),
        "lowest_height": lowest.map(|height| height.to_string()),
        "first_height_of_chain": beginning.map(|height| height.to_string()),
        "missing_headers": missing.to_string(),
        "anchors": anchors.to_string(),
        "fork": fork.map(|fork| json!({
            "attack": fork.attack,
            "common_height": fork.common.to_string(),
            "height": fork.height.to_string(),
        })),
    }))?)
}
