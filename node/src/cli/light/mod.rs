//! `tercet light`: a light client that keeps every header, verified from one trusted height.

mod propose;
mod store;
mod tell;

use super::context::Global;
use super::say;
use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tercet_config::parse_duration;
use tercet_light_core::hash::Hash;
use tercet_light_core::options::{TrustLevel, TrustRoot};
use tercet_light_core::planner::{Config, Fork, Mode, Role};
use tercet_light_sync::api::{Api, Server};
use tercet_light_sync::driver::{End, Source, Submission, Syncer};
use tercet_light_sync::provider::{Endpoint, RUN_HEADERS, RpcProvider};
use tercet_light_sync::store::{Store, StoreError, read_root};
use tokio::task::JoinSet;

/// Flags of `light`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_precedence_over_arg = true,
    after_help = "\
  tercet light --chain-id my-chain --trust-height 1 --trust-hash 1A2B… \\
      --provider http://a:26657 --witness http://b:26657,http://c:26657
  tercet light --provider http://a:26657 --witness http://b:26657,http://c:26657    goes on with what is kept
  tercet light --laddr tcp://127.0.0.1:8888 --provider … --witness …    answers queries there, every answer verified
  tercet light status
  tercet light root --provider http://a:26657,http://b:26657,http://c:26657"
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
    /// Check all that is kept by its hashes; what is damaged is taken out, and the next sync fetches it again.
    VerifyDb {
        #[command(flatten)]
        folder: Folder,
        /// Only say what is damaged.
        #[arg(long)]
        check_only: bool,
    },
    /// Say which of two chains is true, after a fork was found.
    Resolve {
        #[command(flatten)]
        folder: Folder,
        /// A height above the fork.
        #[arg(long, alias = "height", value_name = "HEIGHT")]
        trust_height: u64,
        /// The hash of its header on the true chain, from somebody you trust.
        #[arg(long, alias = "hash", value_name = "HASH", value_parser = hash)]
        trust_hash: Hash,
    },
    /// Ask several nodes for a header to begin with. Who controls them all, or the way to them, decides what you will trust.
    Root {
        /// A node's RPC; name several that have nothing to do with each other.
        #[arg(
            long,
            short = 'p',
            alias = "witness",
            value_name = "URL",
            value_delimiter = ',',
            required = true
        )]
        provider: Vec<Endpoint>,
        /// The height [default: a recent one that all have].
        #[arg(long, value_name = "HEIGHT")]
        height: Option<u64>,
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
    /// Keep so many headers below the latest; anchors are kept for ever [default: all].
    #[arg(long, value_name = "COUNT", conflicts_with = "fill_from")]
    keep_headers: Option<u64>,
    /// Answer queries here, as a node does, every answer verified: tcp://host:port.
    #[arg(long, value_name = "ADDRESS")]
    laddr: Option<String>,
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
            Some(Command::Status { folder }) => store::status(&folder.path(global)?),
            Some(Command::VerifyDb { folder, check_only }) => {
                store::verify(&folder.path(global)?, !check_only)
            }
            Some(Command::Resolve { folder, trust_height, trust_hash }) => {
                store::resolve(&folder.path(global)?, *trust_height, *trust_hash)
            }
            Some(Command::Root { provider, height }) => propose::root(provider, *height),
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
        let root = config.root.clone();
        let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
        let syncer = Syncer::new(config, store, self.sources())?.keep_headers(self.keep_headers);
        runtime.block_on(async {
            let progress = syncer.progress();
            let _api = self.serve(&syncer, &root).await?;
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let sync = syncer.run(async move { drop(stopped.await) });
            let watch = tell::watch_progress(progress, root.height);
            tokio::pin!(sync);
            let end = tokio::select! {
                end = &mut sync => end?,
                end = watch => { end?; drop(stop); sync.await? }
            };
            match end {
                End::Stopped => Ok(()),
                End::Forked(fork, submissions) => {
                    told(&submissions)?;
                    Err(forked(&fork))
                }
            }
        })
    }

    /// Serves queries until what is given back is dropped.
    async fn serve(&self, syncer: &Syncer, root: &TrustRoot) -> anyhow::Result<Option<Serving>> {
        let Some(laddr) = &self.laddr else { return Ok(None) };
        let endpoints = self.provider.iter().chain(&self.witness);
        let providers = endpoints.map(|endpoint| RpcProvider::new(endpoint.clone())).collect();
        let api = Api::new(root.clone(), syncer.reader(), syncer.progress(), providers);
        let server = Server::bind(laddr, api).await?;
        if let Some(address) = server.local_addr() {
            say(&format!("answers queries at http://{address}"))?;
        }
        let mut serving = JoinSet::new();
        serving.spawn(server.serve());
        Ok(Some(serving))
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

type Serving = JoinSet<std::convert::Infallible>;

/// Who took the evidence. Who is on the false side takes none against it, so that is no error.
fn told(submissions: &[Submission]) -> anyhow::Result<()> {
    for Submission { to, evidence, outcome } in submissions {
        let number = evidence + 1;
        match outcome {
            Ok(()) => say(&format!("{to} took evidence {number}")),
            Err(why) => {
                let why = why.lines().next().unwrap_or_default();
                say(&format!("{to} did not take evidence {number}: {why}"))
            }
        }?;
    }
    Ok(())
}

fn forked(fork: &Fork) -> anyhow::Error {
    let height = fork.ours.last().map_or(0, |block| block.height());
    anyhow!(
        "two chains verify at height {height} ({:?} attack, both share height {}): nothing above it is trusted; both traces and {} pieces of evidence are kept; find out which chain is true, then say so with tercet light resolve",
        fork.attack,
        fork.common.height(),
        fork.evidence.len()
    )
}
