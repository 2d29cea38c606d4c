//! `tercet init`: a home, as CometBFT's `init` makes it.

use super::context::Global;
use super::home_files::KeyKind;
use super::{home_files, say};
use anyhow::Context as _;
use clap::Args;
use tendermint::Time;
use tendermint::public_key::Algorithm;
use tercet_config::{CHAIN_ID_BYTES_MAX, Genesis, GenesisValidator};

/// The voting power of the one validator, as in CometBFT.
const POWER: u64 = 10;

/// Flags of `init`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Init {
    /// The name of the chain [default: test-chain- and six characters].
    #[arg(long = "chain-id", alias = "chain_id", value_name = "NAME")]
    chain_id: Option<String>,
    /// A name of the node for people [default: the machine's].
    #[arg(long, value_name = "NAME")]
    moniker: Option<String>,
    /// The height of the first block.
    #[arg(long = "initial-height", alias = "initial_height", default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..))]
    initial_height: u64,
    /// The kind of a new validator key.
    #[arg(long = "key-type", short = 'k', alias = "key_type", value_enum, default_value_t)]
    key_type: KeyKind,
    /// CometBFT's older word for what to make; a home is the same for both.
    #[arg(hide = true, value_parser = ["validator", "full"])]
    mode: Option<String>,
}

const EXAMPLES: &str = "\
Files that exist are kept, so it is safe to run again.
  tercet init                                   a chain of one in ~/.tercet
  tercet init --home /srv/tercet --moniker bob
To join a chain, run init, then replace config/genesis.json by that of the chain and put a
peer into persistent_peers in config/config.toml.";

impl Init {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        let mut context = global.load(&[])?;
        if !context.home.config_file().exists() {
            let moniker = self.moniker.clone().unwrap_or_else(home_files::host_name);
            context.loaded.set("moniker", &moniker)?;
        }
        let config = &context.loaded.config;
        let made = home_files::make(&context.home, config, self.key_type.into())?;
        for line in &made.report {
            say(line)?;
        }
        let path = context.home.genesis_file(config);
        if path.exists() {
            Genesis::read(&path)?;
            say(&format!("kept {}", path.display()))?;
        } else {
            let public_key = made.validator.public();
            let validator = GenesisValidator { public_key, power: POWER, name: String::new() };
            self.genesis(validator)?.create(&path)?;
            say(&format!("made {}", path.display()))?;
        }
        say(&format!("node {}, validator {}", made.node.id(), made.validator.address_hex()))?;
        say(&format!("next: tercet start --home {}", context.home.path().display()))
    }

    fn genesis(&self, validator: GenesisValidator) -> anyhow::Result<Genesis> {
        let fresh = || format!("test-chain-{}", home_files::suffix());
        let chain_id = self.chain_id.clone().unwrap_or_else(fresh);
        anyhow::ensure!(
            (1..=CHAIN_ID_BYTES_MAX).contains(&chain_id.len()),
            "--chain-id must have 1 to {CHAIN_ID_BYTES_MAX} bytes, and has {}",
            chain_id.len()
        );
        let key = validator.public_key;
        let mut genesis = Genesis::new(&chain_id, Time::now(), vec![validator]);
        if matches!(key, tendermint::PublicKey::Secp256k1(_)) {
            genesis.params.validator.pub_key_types = vec![Algorithm::Secp256k1];
        }
        genesis.initial_height = self.initial_height.try_into().context("--initial-height")?;
        Ok(genesis)
    }
}
