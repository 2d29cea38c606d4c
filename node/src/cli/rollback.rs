//! `tercet rollback`: the state one height back.

use super::context::Global;
use super::say;
use crate::node::{Settings, offline};
use clap::Args;

/// Flags of `rollback`.
#[derive(Debug, Args)]
#[command(
    long_about = "\
Put the state of a stopped node back to before its last block, so that the next start executes that
block again: after a bug of the application led to a wrong hash. The application goes back too, by its
own means; where it does not, the answer that is stored is taken, and nothing is executed.",
    after_help = "\
  tercet rollback            then put the application back, and start: the last block is executed again
  tercet rollback --hard     the last block goes too, and comes from peers again; may be repeated

--hard is refused on a validator that has signed the block: it is decided, and another vote at its
height would be a double sign."
)]
pub(super) struct Rollback {
    /// Remove the last block as well.
    #[arg(long)]
    hard: bool,
}

impl Rollback {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        let context = global.load(&[])?;
        let settings = Settings::of(&context.home, &context.loaded.config)?;
        let state = offline::rollback(&settings, self.hard)?;
        // CometBFT's words.
        let what = if self.hard { "both state and block" } else { "state" };
        let height = state.last_height.map_or(0, |height| height.value());
        let hash = hex::encode_upper(&state.app_hash);
        say(&format!("Rolled back {what} to height {height} and hash {hash}"))
    }
}
