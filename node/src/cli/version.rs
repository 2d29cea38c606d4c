//! `tercet version`.

use super::say;
use crate::node::PROTOCOL_VERSIONS;
use crate::rpc::COMPATIBLE_VERSION;
use clap::Args;
use serde_json::json;

/// The versions that headers and CometBFT's peers carry.
const BLOCK_PROTOCOL: u64 = 11;

/// Flags of `version`.
#[derive(Debug, Args)]
pub(super) struct Version {
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// CometBFT's flag for more; all is said anyway.
    #[arg(long, short, hide = true)]
    verbose: bool,
}

impl Version {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let tercet = env!("CARGO_PKG_VERSION");
        let (least, most) = PROTOCOL_VERSIONS;
        if self.json {
            let versions = json!({
                "tercet": tercet,
                "cometbft": COMPATIBLE_VERSION,
                "protocol": { "min": least, "max": most },
                "block": BLOCK_PROTOCOL,
            });
            return say(&versions.to_string());
        }
        say(&format!("tercet             {tercet}"))?;
        say(&format!(
            "like CometBFT      {COMPATIBLE_VERSION} (RPC, files, application interface)"
        ))?;
        let protocol = if least == most { least.to_string() } else { format!("{least} to {most}") };
        say(&format!("protocol of peers  {protocol}"))?;
        say(&format!("block protocol     {BLOCK_PROTOCOL}"))
    }
}
