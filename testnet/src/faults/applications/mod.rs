//! Applications that misbehave: a Go program on CometBFT's server, wrong in one method in one way, under four real validators.

mod cell;
mod page;
mod program;
mod run;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::Args;

use super::lab::Lab;
use crate::layout::Layout;
use crate::table::say;
use cell::{Cell, METHODS, Of, cells};
use page::Section;

/// Transactions a second.
const RATE: u64 = 50;

const NOTES: &str = "\
Builds the application with Go 1.22 or later (CometBFT's modules are fetched at first), in a temporary folder. Each method
has a network of its own. A cell is red, and the exit code 1, where the chain does not go on with one faulty application, a
block changes, a node panics, says nothing of the call and its height, fills its log, or does not come back.

  app-faults --only Commit                 all faults of a method
  app-faults --only FinalizeBlock,panic    one
  app-faults --write docs/application-faults.md";

/// Arguments of `app-faults`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct AppFaultsArgs {
    /// A method, and faults of it if not all.
    #[arg(long, value_name = "METHOD[,FAULT]", value_delimiter = ',')]
    only: Vec<String>,
    /// List the cells and end.
    #[arg(long)]
    list: bool,
    /// Put the results into this page; methods that did not run keep theirs.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// The built application, in place of a build.
    #[arg(long, value_name = "FILE")]
    app: Option<PathBuf>,
    /// First port of the networks.
    #[arg(long, default_value_t = 31_000)]
    base_port: u16,
    /// The node program (default: `tercet` beside this one).
    #[arg(long)]
    pub(crate) node_binary: Option<PathBuf>,
    /// Leave the folder of a network where it is, and say where.
    #[arg(long)]
    keep: bool,
}

/// Runs the methods one after the other.
pub(crate) async fn run(args: AppFaultsArgs, binary: PathBuf) -> anyhow::Result<ExitCode> {
    let work = std::env::temp_dir().join(format!("tercet-app-faults-{}", std::process::id()));
    let result = in_folder(&args, &binary, &work).await;
    if work.exists() {
        std::fs::remove_dir_all(&work)
            .with_context(|| format!("cannot remove {}", work.display()))?;
    }
    result
}

async fn in_folder(args: &AppFaultsArgs, binary: &Path, work: &Path) -> anyhow::Result<ExitCode> {
    let program = match &args.app {
        Some(app) => app.canonicalize().with_context(|| format!("no {}", app.display()))?,
        None => program::build(work)?,
    };
    let list = program::list(&program)?;
    let faults = |method: &str| list.iter().find(|(name, _)| name == method);
    let wanted = METHODS.iter().filter_map(|(method, extended)| {
        let (_, faults) = faults(method)?;
        let cells: Vec<Cell> = cells(method, faults);
        let cells: Vec<Cell> = cells.into_iter().filter(|c| c.is_wanted(&args.only)).collect();
        (!cells.is_empty()).then_some((*method, *extended, cells))
    });
    let wanted: Vec<_> = wanted.collect();
    if wanted.is_empty() {
        bail!("there is no cell {}: --list shows them", args.only.join(","));
    }
    if args.list {
        wanted.iter().flat_map(|(_, _, cells)| cells).for_each(|cell| say(&cell.to_string()));
        return Ok(ExitCode::SUCCESS);
    }
    let (mut red, mut count) = (0, 0);
    for (method, extended, cells) in wanted {
        let mut lab = Lab::new(binary.to_owned(), args.base_port, 1)?;
        let layout = layout(&lab, &program, extended);
        let section = one_method(&mut lab, layout, method, &cells).await;
        let bad = section.as_ref().map_or(1, |section| {
            section.cells.iter().filter(|(_, ended)| ended.is_err()).count()
                + usize::from(section.after.starts_with("**red**"))
        });
        lab.end(args.keep || bad > 0).await?;
        let section = section?;
        (red, count) = (red + bad, count + cells.len());
        if let Some(path) = &args.write {
            let old = std::fs::read_to_string(path).unwrap_or_default();
            let page = page::write(&old, &METHODS.map(|(method, _)| method), &[section]);
            std::fs::write(path, page)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    say(&format!("{count} cells, {red} red"));
    Ok(if red == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Four validators with the application, short turns, and blocks that are not too many to be read at the end.
fn layout(lab: &Lab, program: &Path, extended: bool) -> Layout {
    let mut genesis = vec!["tercet.primary_term=2", "tercet.min_block_interval=50ms"];
    if extended {
        genesis.push("consensus_params.abci.vote_extensions_enable_height=\"1\"");
    }
    Layout {
        app_command: Some(run::command(program)),
        settings: vec!["abci_call_warn=1s".to_owned()],
        genesis_settings: genesis.into_iter().map(str::to_owned).collect(),
        ..lab.layout(4)
    }
}

/// All cells of a method on one network: those with one faulty application under a load whose transactions must all be committed,
/// then those with four.
async fn one_method(
    lab: &mut Lab,
    layout: Layout,
    method: &str,
    cells: &[Cell],
) -> anyhow::Result<Section> {
    lab.up(layout).await?;
    lab.load(RATE, &[0, 1, 2])?;
    let (mut results, mut load) = (Vec::new(), None);
    let mut broken = false;
    for cell in cells {
        if cell.of == Of::All && load.is_none() {
            load = Some(lab.end_load().await?);
            lab.load(RATE, &[0, 1, 2, 3])?;
        }
        let start = Instant::now();
        let ended = match broken {
            true => Err("not run: the network is not well after the cell before".to_owned()),
            false => run::run(lab, cell).await.map_err(|error| format!("{error:#}")),
        };
        let secs = start.elapsed().as_secs();
        match &ended {
            Ok(shown) => {
                say(&format!("{cell}: {}; {}; {} ({secs} s)", shown.did, shown.chain, shown.back))
            }
            Err(why) => say(&format!("{cell}: RED: {why} ({secs} s)")),
        }
        broken = broken || ended.is_err() && run::heal(lab, cell).await.is_err();
        results.push((cell.clone(), ended));
    }
    let load = match load {
        Some(load) => load,
        None => lab.end_load().await?,
    };
    let after = match broken {
        true => Err(anyhow::anyhow!("not looked at")),
        false => lab.sound(&[0, 1, 2, 3]).await,
    };
    let after = after.and_then(|audit| {
        let (accepted, committed) = (load.accepted, load.committed);
        ensure!(accepted == committed, "{accepted} transactions accepted, {committed} committed");
        Ok(format!("{accepted} transactions accepted while one was faulty, all in blocks; audit clean: {audit}."))
    });
    let after = after.unwrap_or_else(|error| format!("**red**: {error:#}"));
    say(&format!("{method}: {after}"));
    Ok(Section { method: method.to_owned(), cells: results, after })
}
