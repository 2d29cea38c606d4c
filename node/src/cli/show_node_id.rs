//! `tercet show-node-id`.

use super::context::Global;
use super::say;
use clap::Args;
use tercet_config::NodeKey;

/// Flags of `show-node-id`.
#[derive(Debug, Args)]
#[command(after_help = "\
Others put it into persistent_peers:
  persistent_peers = \"<id>@<host>:26656\"")]
pub(super) struct ShowNodeId {}

impl ShowNodeId {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        let context = global.load(&[])?;
        let key = NodeKey::read(&context.home.node_key_file(&context.loaded.config))?;
        say(&key.id())
    }
}
