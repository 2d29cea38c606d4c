//! Commands of CometBFT that have another name here: each says which.

use clap::Args;

/// Whatever stood behind the command.
#[derive(Debug, Args)]
pub(super) struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<String>,
}

pub(super) fn unsafe_reset_all() -> anyhow::Result<()> {
    anyhow::bail!(
        "use `tercet reset`, which keeps the signing watermark, or `tercet reset --unsafe`, which does not"
    )
}

pub(super) fn unsafe_reset_priv_validator() -> anyhow::Result<()> {
    anyhow::bail!(
        "use `tercet reset --unsafe`: the watermark goes together with the data that it belongs to"
    )
}

pub(super) fn gen_validator() -> anyhow::Result<()> {
    anyhow::bail!("use `tercet keys generate validator`, which writes the key into the home")
}

pub(super) fn gen_node_key() -> anyhow::Result<()> {
    anyhow::bail!("use `tercet keys generate node`, which writes the key into the home")
}
