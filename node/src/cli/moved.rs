//! Commands of CometBFT that have another name here: each says which.

use clap::Args;

/// Whatever stood behind the command.
#[derive(Debug, Args)]
pub(super) struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<String>,
}

pub(super) fn unsafe_reset_priv_validator() -> anyhow::Result<()> {
    anyhow::bail!(
        "use `tercet reset --unsafe`: the watermark goes together with the data that it belongs to"
    )
}

pub(super) fn replay_console() -> anyhow::Result<()> {
    anyhow::bail!(
        "there is no WAL to step through: every start replays the journal, `tercet replay` executes stored blocks again, and `tercet \
         inspect` shows them"
    )
}

pub(super) fn gen_validator() -> anyhow::Result<()> {
    anyhow::bail!("use `tercet keys generate validator`, which writes the key into the home")
}

pub(super) fn gen_node_key() -> anyhow::Result<()> {
    anyhow::bail!("use `tercet keys generate node`, which writes the key into the home")
}
