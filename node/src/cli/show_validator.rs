//! `tercet show-validator`.

use super::context::Global;
use super::say;
use clap::Args;
use tercet_config::ValidatorKey;

/// Flags of `show-validator`.
#[derive(Debug, Args)]
#[command(after_help = "\
For a new chain, each validator sends this line to whoever writes genesis.json, where it
becomes the pub_key of an entry in validators.")]
pub(super) struct ShowValidator {}

impl ShowValidator {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        let context = global.load(&[])?;
        let key = ValidatorKey::read(&context.home.validator_key_file(&context.loaded.config))?;
        say(&key.public_json())
    }
}
