//! `tercet replay`: stored blocks once more on an application, compared with what the chain has.

use super::context::{Context, Global};
use super::say;
use crate::execution::replay::{Replayed, Span};
use crate::node::{Settings, offline};
use anyhow::Context as _;
use clap::Args;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tendermint::block::Height;
use tercet_abci::Named;
use tercet_abci::remote::Stop;

/// How often a replay says on a terminal how far it is, in blocks.
const PROGRESS_BLOCKS: u64 = 100;

/// Flags of `replay`.
#[derive(Debug, Args)]
#[command(
    long_about = "\
Execute the stored blocks of a stopped node again on an application, and say the first of which
something else comes than the chain has: another application hash, results hash, result of a
transaction, validators or parameters. The node's data is only read. The application changes: give it
an empty one, or a copy that is right before the first block.",
    after_help = "\
  tercet replay                                       on an empty kvstore in a temporary folder
  tercet replay --proxy_app tcp://127.0.0.1:26658     on an application in another process
  tercet replay --from 100 --to 200 --app_data ./copy
Exit code 0 where all is the same, 1 where something differs."
)]
pub(super) struct Replay {
    /// The first block; the application must be right before it [default: the one after its height].
    #[arg(long, value_name = "HEIGHT")]
    from: Option<Height>,
    /// The last block [default: the last that was executed].
    #[arg(long, value_name = "HEIGHT")]
    to: Option<Height>,
    /// The application: kvstore, persistent_kvstore, noop, tcp://HOST:PORT or unix://PATH [default: that of config.toml].
    #[arg(long = "proxy_app", alias = "proxy-app", value_name = "APP")]
    proxy_app: Option<String>,
    /// Where an application inside the node has its data, kvstore.db [default: a temporary folder, empty at first].
    #[arg(long = "app_data", alias = "app-data", value_name = "FOLDER")]
    app_data: Option<PathBuf>,
}

impl Replay {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<ExitCode> {
        let flag = self.proxy_app.iter().map(|app| ("proxy_app".to_owned(), app.clone()));
        let Context { home, loaded } = global.load(&flag.collect::<Vec<_>>())?;
        let settings = Settings::of(&home, &loaded.config)?;
        let temporary = tempfile::tempdir().context("cannot make a temporary folder")?;
        let data = self.app_data.as_deref().unwrap_or(temporary.path());
        anyhow::ensure!(
            data != settings.data,
            "--app_data is the node's own data: a replay would change it; copy {} elsewhere",
            settings.data.join("kvstore.db").display()
        );
        std::fs::create_dir_all(data).with_context(|| format!("cannot use {}", data.display()))?;
        let named = Named {
            data_dir: data.to_owned(),
            snapshot_interval: 0,
            block_delay: Duration::ZERO,
            ..settings.app.clone()
        };
        let mut app = tercet_abci::open(&named, &settings.app_calls, &Stop::default())?.consensus;
        let span = Span { from: self.from, to: self.to };
        let mut progress = Progress::new();
        let replayed =
            offline::replay(&settings, app.as_mut(), span, &mut |height| progress.at(height));
        progress.end();
        report(&replayed?)
    }
}

/// Says what came of it.
fn report(replayed: &Replayed) -> anyhow::Result<ExitCode> {
    if let Some((first, count)) = replayed.uncovered {
        say(&format!(
            "{count} blocks, {first} the first, have other logs or events, which no hash covers"
        ))?;
    }
    if let Some(difference) = &replayed.difference {
        say(&format!("first difference: {difference}"))?;
        return Ok(ExitCode::FAILURE);
    }
    let shown = |height: Option<Height>| height.map_or(0, |height| height.value());
    let (from, to) = (shown(replayed.from), shown(replayed.to));
    say(&format!("blocks {from} to {to}: every hash and result is the same"))?;
    Ok(ExitCode::SUCCESS)
}

/// How far it is, on a terminal.
struct Progress {
    shown: bool,
    terminal: bool,
}

impl Progress {
    fn new() -> Progress {
        Progress { shown: false, terminal: std::io::stderr().is_terminal() }
    }

    fn at(&mut self, height: Height) {
        if self.terminal && height.value().is_multiple_of(PROGRESS_BLOCKS) {
            // Nobody is left to tell where the terminal is gone.
            let _ = write!(std::io::stderr(), "\rblock {height}");
            self.shown = true;
        }
    }

    fn end(&self) {
        if self.shown {
            // As above.
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
