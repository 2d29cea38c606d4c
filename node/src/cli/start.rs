//! `tercet start`: runs the node.

use super::context::{Context, Global};
use super::flags::ConfigFlags;
use super::logging;
use crate::clock::Skew;
use crate::node::{self, Settings};
use anyhow::Context as _;
use clap::Args;
use sha2::{Digest as _, Sha256};
use std::process::ExitCode;

/// Flags of `start`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Start {
    /// The SHA-256 that the genesis file must have, in hexadecimal.
    #[arg(long = "genesis_hash", alias = "genesis-hash", value_name = "HEX")]
    genesis_hash: Option<String>,
    #[command(flatten)]
    clock: Skew,
    #[command(flatten)]
    pub(super) flags: ConfigFlags,
}

const EXAMPLES: &str = "\
A flag goes before a variable, and that before the file:
  tercet start --home ~/.tercet
  tercet start --p2p.persistent_peers \"<id>@10.0.0.1:26656\" --consensus.create_empty_blocks=false
  TERCET_RPC_LADDR=tcp://0.0.0.0:26657 tercet start
  tercet start --log_level \"p2p:debug,*:info\" --log_format json
Ctrl-C or SIGTERM stops it. Exit codes: 0 stopped, 69 the application failed, 70 a bug, 74 the
disk failed, 1 it could not start.";

impl Start {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<ExitCode> {
        self.clock.apply();
        let context = global.load(&self.flags.0)?;
        context.loaded.check()?;
        self.check_genesis(&context)?;
        let Context { home, loaded } = &context;
        logging::start(&loaded.config, home.audit_log(&loaded.config).as_deref())?;
        if self.clock.is_wrong() {
            tracing::warn!("the clock of this node is made wrong by its flags: for tests only");
        }
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let end = node::run(Settings::of(home, &loaded.config)?)?;
        Ok(ExitCode::from(end.code()))
    }

    /// CometBFT's check against a genesis that was swapped: the hash of the file itself.
    fn check_genesis(&self, context: &Context) -> anyhow::Result<()> {
        let Some(expected) = &self.genesis_hash else { return Ok(()) };
        let path = context.home.genesis_file(&context.loaded.config);
        let text =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let found = hex::encode(Sha256::digest(text));
        anyhow::ensure!(
            found.eq_ignore_ascii_case(expected.trim_start_matches("0x")),
            "{} has the SHA-256 {found}, and --genesis_hash is {expected}: get the file of the chain again",
            path.display()
        );
        Ok(())
    }
}
