//! `tercet inspect`: the RPC over the data of a node that does not run.

use super::context::Global;
use super::logging;
use crate::node::{Settings, offline};
use clap::Args;

/// Flags of `inspect`.
#[derive(Debug, Args)]
#[command(
    long_about = "\
Serve the stored blocks and states of a stopped node over RPC, to see why it does not start. Nothing on
the disk changes, and no node starts on it meanwhile.",
    after_help = "\
  tercet inspect
  curl localhost:26657/block_results?height=17

Routes: blockchain, block, block_by_hash, block_results, commit, header, header_by_hash, validators,
consensus_params. Ctrl-C ends it."
)]
pub(super) struct Inspect {
    /// Where to listen [default: that of config.toml].
    #[arg(long = "rpc.laddr", value_name = "ADDRESS")]
    laddr: Option<String>,
    /// The folder of the databases [default: that of config.toml].
    #[arg(long = "db_dir", alias = "db-dir", value_name = "FOLDER")]
    db_dir: Option<String>,
    /// CometBFT's flag; there is one kind of database.
    #[arg(long = "db_backend", alias = "db-backend", hide = true)]
    db_backend: Option<String>,
}

impl Inspect {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        let given = [("rpc.laddr", &self.laddr), ("db_dir", &self.db_dir)];
        let given = given.into_iter().filter_map(|(key, value)| Some((key, value.clone()?)));
        let flags: Vec<_> = given.map(|(key, value)| (key.to_owned(), value)).collect();
        let context = global.load(&flags)?;
        let config = &context.loaded.config;
        logging::start(config, None)?;
        let settings = Settings::of(&context.home, config)?;
        let data = settings.data.display().to_string();
        offline::inspect(settings, |_| {
            tracing::info!(data, "serving stored blocks and states until Ctrl-C");
        })
    }
}
