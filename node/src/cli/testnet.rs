//! `tercet testnet`: the homes of a network, as CometBFT's `testnet` makes them.

use super::{home_files, say};
use anyhow::{Context as _, bail, ensure};
use clap::Args;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use tendermint::Time;
use tercet_config::{CHAIN_ID_BYTES_MAX, Genesis, GenesisValidator, Home, Loaded};

/// The voting power of each validator, as in CometBFT.
const POWER: u64 = 1;
/// The most nodes: a slip of the finger makes no million folders.
const NODES_MAX: usize = 1_000;

/// Flags of `testnet`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Testnet {
    /// How many validators.
    #[arg(long = "v", value_name = "COUNT", default_value_t = 4)]
    validators: usize,
    /// How many nodes that do not vote.
    #[arg(long = "n", value_name = "COUNT", default_value_t = 0)]
    others: usize,
    /// The folder to make the homes in.
    #[arg(long = "o", short = 'o', value_name = "FOLDER", default_value = "./mytestnet")]
    output: PathBuf,
    /// A config.toml to begin with, instead of the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The name of the chain [default: chain- and six characters].
    #[arg(long = "chain-id", alias = "chain_id", value_name = "NAME")]
    chain_id: Option<String>,
    /// What folders are called, before their number.
    #[arg(
        long = "node-dir-prefix",
        alias = "node_dir_prefix",
        value_name = "NAME",
        default_value = "node"
    )]
    dir_prefix: String,
    /// The height of the first block; 0 is 1.
    #[arg(long = "initial-height", alias = "initial_height", default_value_t = 0)]
    initial_height: u64,
    /// Whether all nodes get all others as persistent peers.
    #[arg(long = "populate-persistent-peers", alias = "populate_persistent_peers", value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true",
        action = clap::ArgAction::Set)]
    populate: bool,
    #[command(flatten)]
    places: Places,
    /// The port of all nodes.
    #[arg(long = "p2p-port", alias = "p2p_port", default_value_t = 26656)]
    p2p_port: u16,
    /// Names for people from a dice.
    #[arg(long = "random-monikers", alias = "random_monikers")]
    random_monikers: bool,
}

/// Where the nodes will be.
#[derive(Debug, Default, Args)]
struct Places {
    /// What hosts are called, before their number: node0, node1.
    #[arg(
        long = "hostname-prefix",
        alias = "hostname_prefix",
        value_name = "NAME",
        default_value = "node"
    )]
    prefix: String,
    /// What hosts are called, after their number: .example.com.
    #[arg(
        long = "hostname-suffix",
        alias = "hostname_suffix",
        value_name = "NAME",
        default_value = ""
    )]
    suffix: String,
    /// The address of the first host; each further has the next.
    #[arg(long = "starting-ip-address", alias = "starting_ip_address", value_name = "IPV4")]
    first: Option<Ipv4Addr>,
    /// The host of each node, one flag a node.
    #[arg(long = "hostname", value_name = "HOST")]
    hosts: Vec<String>,
}

const EXAMPLES: &str = "\
  tercet testnet --v 4 --starting-ip-address 10.0.0.1
  tercet testnet --v 3 --n 1 --hostname a.example --hostname b.example --hostname c.example --hostname d.example
Copy one folder to each machine, delete it here, and run `tercet start --home <folder>` there.
To try a network on this machine, `make testnet` is shorter.";

impl Places {
    fn host(&self, index: usize) -> anyhow::Result<String> {
        if let Some(host) = self.hosts.get(index) {
            return Ok(host.clone());
        }
        let Some(first) = self.first else {
            return Ok(format!("{}{index}{}", self.prefix, self.suffix));
        };
        let next = u32::try_from(index).ok().and_then(|index| first.to_bits().checked_add(index));
        let next =
            next.context("--starting-ip-address: there are not enough addresses after it")?;
        Ok(Ipv4Addr::from_bits(next).to_string())
    }
}

/// A home that is made.
struct Made {
    home: Home,
    moniker: String,
    /// `id@host:port`.
    peer: String,
    validator: Option<GenesisValidator>,
}

impl Testnet {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let base = self.check()?;
        let mut nodes = Vec::new();
        for index in 0..self.nodes() {
            nodes.push(self.node(index, &base)?);
        }
        let validators: Vec<_> = nodes.iter().filter_map(|node| node.validator.clone()).collect();
        let genesis = self.genesis(validators)?;
        for (index, node) in nodes.iter().enumerate() {
            let mut loaded = base.clone();
            loaded.set("moniker", &node.moniker)?;
            if self.populate {
                let others = nodes.iter().enumerate().filter(|(other, _)| *other != index);
                let peers: Vec<&str> = others.map(|(_, other)| other.peer.as_str()).collect();
                loaded.set("p2p.persistent_peers", &peers.join(","))?;
            }
            // The template was there for the keys' sake; now it is complete.
            write(&node.home.config_file(), &loaded.config.to_toml())?;
            genesis.create(&node.home.genesis_file(&loaded.config))?;
            say(&format!("{}  {}", node.home.path().display(), node.peer))?;
        }
        let output = self.output.display();
        say(&format!("made {} homes of the chain {} in {output}", nodes.len(), genesis.chain_id))
    }

    fn nodes(&self) -> usize {
        self.validators.saturating_add(self.others)
    }

    /// The configuration to begin with, where all that is asked for can be done.
    fn check(&self) -> anyhow::Result<Loaded> {
        ensure!(self.validators > 0, "--v must be 1 or more");
        ensure!(self.nodes() <= NODES_MAX, "--v and --n may make {NODES_MAX} nodes together");
        let hosts = self.places.hosts.len();
        ensure!(
            hosts == 0 || hosts == self.nodes(),
            "--hostname is given {hosts} times, and there are {} nodes",
            self.nodes()
        );
        if let Some(chain_id) = &self.chain_id {
            let bytes = chain_id.len();
            ensure!(
                (1..=CHAIN_ID_BYTES_MAX).contains(&bytes),
                "--chain-id must have 1 to {CHAIN_ID_BYTES_MAX} bytes, and has {bytes}"
            );
        }
        self.places.host(self.nodes() - 1)?;
        for index in 0..self.nodes() {
            let path = self.folder(index);
            if path.exists() {
                bail!(
                    "{} exists already, and keys are not overwritten: give another --o",
                    path.display()
                );
            }
        }
        let mut loaded = match &self.config {
            None => Loaded::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.with_context(|| format!("cannot read {}", path.display()))?;
                Loaded::from_text(&text, path)?
            }
        };
        loaded.set("p2p.allow_duplicate_ip", "true")?;
        Ok(loaded)
    }

    fn folder(&self, index: usize) -> PathBuf {
        self.output.join(format!("{}{index}", self.dir_prefix))
    }

    fn node(&self, index: usize, base: &Loaded) -> anyhow::Result<Made> {
        let home = Home::new(self.folder(index));
        let keys = home_files::make(&home, &base.config, Default::default())?;
        let host = self.places.host(index)?;
        let name = format!("{}{index}", self.dir_prefix);
        let moniker = match (self.random_monikers, self.places.first) {
            (true, _) => home_files::suffix(),
            (false, Some(_)) => name.clone(),
            (false, None) => host.clone(),
        };
        let public_key = keys.validator.public();
        let validator = GenesisValidator { public_key, power: POWER, name };
        Ok(Made {
            home,
            moniker,
            peer: format!("{}@{host}:{}", keys.node.id(), self.p2p_port),
            validator: (index < self.validators).then_some(validator),
        })
    }

    fn genesis(&self, validators: Vec<GenesisValidator>) -> anyhow::Result<Genesis> {
        let fresh = || format!("chain-{}", home_files::suffix());
        let chain_id = self.chain_id.clone().unwrap_or_else(fresh);
        let mut genesis = Genesis::new(&chain_id, Time::now(), validators);
        let height = self.initial_height.max(1);
        genesis.initial_height = height.try_into().context("--initial-height")?;
        Ok(genesis)
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
