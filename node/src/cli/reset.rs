//! `tercet reset`: removes the chain's data. Keys stay; so does the signing watermark, without which a validator could sign
//! twice.

use super::context::Global;
use super::say;
use anyhow::{Context as _, bail};
use clap::Args;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::path::{Path, PathBuf};
use tercet_config::SignState;

/// The file in the folder of a database that a running node has locked. See [`crate::store`].
const LOCKED: &str = "FORMAT";

/// Flags of `reset`.
#[derive(Debug, Args)]
#[command(after_help = "\
  tercet reset             fetch the chain again from peers
  tercet reset --unsafe    begin anew: only for a chain that has ended everywhere, because the
                           validator forgets what it has signed
CometBFT's names: reset-state for the first, unsafe-reset-all for the second.")]
pub(super) struct Reset {
    /// Remove the signing watermark too.
    #[arg(long = "unsafe")]
    forget: bool,
    /// CometBFT's flag; there is no address book.
    #[arg(long = "keep-addr-book", alias = "keep_addr_book", hide = true)]
    keep_addr_book: bool,
}

/// Flags of `unsafe-reset-all`.
#[derive(Debug, Args)]
#[command(
    after_help = "The same as `tercet reset --unsafe`: the validator forgets what it has signed.
To fetch the chain again, use `tercet reset`, which keeps that."
)]
pub(super) struct ResetAll {
    /// CometBFT's flag; there is no address book.
    #[arg(long = "keep-addr-book", alias = "keep_addr_book", hide = true)]
    keep_addr_book: bool,
}

impl ResetAll {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        Reset { forget: true, keep_addr_book: self.keep_addr_book }.run(global)
    }
}

impl Reset {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        let context = global.load(&[])?;
        let config = &context.loaded.config;
        let home = &context.home;
        // A wrong --home must not look like a success.
        anyhow::ensure!(home.path().is_dir(), "there is no home at {}", home.path().display());
        let data = real(&home.data_dir(config));
        let watermark = real(&home.sign_state_file(config));
        let kept = [
            home.config_file(),
            home.genesis_file(config),
            home.node_key_file(config),
            home.validator_key_file(config),
        ];
        if let Some(file) = kept.iter().find(|file| real(file).starts_with(&data)) {
            bail!(
                "db_dir {} holds {} too, which must stay: remove its databases by hand",
                data.display(),
                file.display()
            );
        }
        // What is held until the data is gone, so that no node starts on what is left.
        let _locks = locks(&data)?;
        if !self.forget {
            keep(&data, &watermark)?;
        }
        for entry in entries(&data)? {
            if watermark.starts_with(&entry) {
                continue;
            }
            remove(&entry).with_context(|| format!("cannot remove {}", entry.display()))?;
            say(&format!("removed {}", entry.display()))?;
        }
        if self.forget {
            SignState::default().save(&watermark)?;
            return say("the signing watermark is 0: never start this key on the old chain again");
        }
        say(&format!("kept keys and the signing watermark {}", watermark.display()))
    }
}

/// Refuses where data of a signer has no watermark: removing it would forget what was signed.
fn keep(data: &Path, watermark: &Path) -> anyhow::Result<()> {
    let found = SignState::load(watermark)?;
    anyhow::ensure!(
        found.is_some() || !data.join("journal").exists(),
        "{} is missing, and without it the journal is all that knows what was signed: start the node once, which writes it, or reset with --unsafe",
        watermark.display()
    );
    Ok(())
}

/// The path without links, where it exists: names are compared.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let read = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.with_context(|| format!("cannot read {}", folder.display()))?,
    };
    let mut entries = Vec::new();
    for entry in read {
        entries.push(entry.with_context(|| format!("cannot read {}", folder.display()))?.path());
    }
    entries.sort();
    Ok(entries)
}

fn remove(path: &Path) -> std::io::Result<()> {
    if path.symlink_metadata()?.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    }
}

/// Locks all databases; a node that runs holds at least one of them.
fn locks(data: &Path) -> anyhow::Result<Vec<Flock<File>>> {
    let mut locks = Vec::new();
    for folder in entries(data)? {
        let path = folder.join(LOCKED);
        let Ok(file) = File::open(&path) else { continue };
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => locks.push(lock),
            Err((_, Errno::EWOULDBLOCK)) => {
                bail!("a node runs on {}: stop it first", data.display())
            }
            Err((_, errno)) => {
                return Err(errno).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
    }
    Ok(locks)
}
