//! `tercet status`.

use super::client::Node;
use super::say;
use clap::Args;
use serde_json::json;

/// Flags of `status`.
#[derive(Debug, Args)]
#[command(after_help = "\
  tercet status
  tercet status --node tcp://10.0.0.2:26657 | jq .sync_info.latest_block_height")]
pub(super) struct Status {
    #[command(flatten)]
    node: Node,
}

impl Status {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let status = self.node.call("status", &json!({}))?;
        say(&serde_json::to_string_pretty(&status)?)
    }
}
