//! What rows do to a machine: small disks, system calls that fail, copies of folders, starts with other arguments.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::NotHere;
use super::lab::Lab;
use crate::rpc::Rpc;
use crate::tracer::Tracer;

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Patience with one answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a start, an end or a return may take.
pub(super) const SOON: Duration = Duration::from_secs(30);
/// What no log may hold.
const NEVER: [&str; 3] = ["panicked at", "signed two votes", "signed two proposals"];

/// Runs a program of the system: what it prints.
pub(super) fn run(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|_| NotHere::Needs(program.to_owned()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", args.join(" "), errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Copies a folder, in place of what is there.
pub(super) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            false => drop(fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}

/// The files of a folder whose name contains `part`, by name.
pub(super) fn files(folder: &Path, part: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().contains(part)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The log that RocksDB writes to in a folder.
pub(super) fn log_file(folder: &Path) -> anyhow::Result<PathBuf> {
    files(folder, ".log")?.pop().with_context(|| format!("no log in {}", folder.display()))
}

/// A file system of its own, taken away when this is dropped.
pub(super) struct Disk {
    at: PathBuf,
}

impl Disk {
    /// One in memory, of `size` as `mount` writes it, with what was in the folder.
    pub(super) fn small(at: &Path, size: &str) -> anyhow::Result<Disk> {
        Self::mount(at, &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
    }

    /// An ext4 in the file `image`, with what was in the folder. An error makes it read-only.
    pub(super) fn ext4(at: &Path, image: &Path, bytes: u64) -> anyhow::Result<Disk> {
        File::create(image)?.set_len(bytes)?;
        let image = image.to_string_lossy();
        run("mkfs.ext4", &["-q", "-F", &image])?;
        Self::mount(at, &["-o", "loop,errors=remount-ro", &image])
    }

    fn mount(at: &Path, what: &[&str]) -> anyhow::Result<Disk> {
        let aside = at.with_extension("aside");
        match at.exists() {
            true => fs::rename(at, &aside)?,
            false => fs::create_dir_all(&aside)?,
        }
        fs::create_dir_all(at)?;
        let place = at.to_string_lossy().into_owned();
        if run("mount", &[what, &[place.as_str()]].concat()).is_err() {
            bail!(NotHere::Needs("root, to mount file systems".to_owned()));
        }
        let disk = Disk { at: at.to_owned() };
        for entry in fs::read_dir(&aside)? {
            let entry = entry?;
            let target = at.join(entry.file_name());
            match entry.file_type()?.is_dir() {
                true => copy(&entry.path(), &target)?,
                false => drop(fs::copy(entry.path(), target)?),
            }
        }
        fs::remove_dir_all(&aside)?;
        // What is copied without a sync is lost where the file system breaks.
        run("sync", &["-f", &place])?;
        Ok(disk)
    }

    /// Another size.
    pub(super) fn resize(&self, size: &str) -> anyhow::Result<()> {
        run("mount", &["-o", &format!("remount,size={size}"), &self.at.to_string_lossy()])?;
        Ok(())
    }

    /// Lets the file system find an error, which makes it read-only.
    pub(super) fn break_ext4(&self) -> anyhow::Result<()> {
        let device = self.device()?;
        let name = device.rsplit('/').next().unwrap_or_default();
        let trigger = format!("/sys/fs/ext4/{name}/trigger_fs_error");
        fs::write(&trigger, "a test").map_err(|_| NotHere::Needs(trigger))?;
        Ok(())
    }

    /// Checks and mounts it again.
    pub(super) fn repair_ext4(&self, image: &Path) -> anyhow::Result<()> {
        let (at, image) = (self.at.to_string_lossy(), image.to_string_lossy());
        run("umount", &[&at])?;
        // Exit code 1: errors were corrected.
        Command::new("e2fsck").args(["-fy", &image]).stdout(Stdio::null()).status()?;
        run("mount", &["-o", "loop", &image, &at])?;
        Ok(())
    }

    fn device(&self) -> anyhow::Result<String> {
        Ok(run("findmnt", &["-no", "SOURCE", &self.at.to_string_lossy()])?.trim().to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("umount", &["-l", &self.at.to_string_lossy()]);
    }
}

/// Attaches a tracer to a node's process.
pub(super) async fn trace(pid: u32, arguments: &[&str]) -> anyhow::Result<Tracer> {
    Ok(Tracer::attach(pid, arguments)
        .await
        .map_err(|_| NotHere::Needs("strace, and the right to trace".to_owned()))?)
}

impl Lab {
    /// The folder with a node's data.
    pub(super) fn data(&self, index: usize) -> anyhow::Result<PathBuf> {
        Ok(self.node(index)?.home.join("data"))
    }

    /// The process of a node.
    pub(super) fn pid(&self, index: usize) -> anyhow::Result<u32> {
        self.node(index)?.pid.with_context(|| format!("node{index} has no process"))
    }

    /// All that a node has logged.
    pub(super) fn log(&self, index: usize) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.node(index)?.log())?).into_owned())
    }

    /// Starts a node that is down with more arguments, as the program `under` with its arguments does it.
    pub(super) fn start_as(
        &mut self,
        index: usize,
        under: &[&str],
        more: &[&str],
    ) -> anyhow::Result<()> {
        let (net, node) = (self.net()?, self.node(index)?);
        let binary = net.binary.to_string_lossy().into_owned();
        let home = node.home.to_string_lossy().into_owned();
        let words = [under, &[&binary, "start", "--home", &home], more].concat();
        let log = File::options().create(true).append(true).open(node.log())?;
        let mut command = Command::new(words.first().context("a program")?);
        command.args(words.iter().skip(1)).stdin(Stdio::null());
        let child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        self.adopt(index, child)
    }

    /// What a node says of its engine, all of it.
    pub(super) async fn pbft(&self, index: usize) -> anyhow::Result<Value> {
        let mut rpc = Rpc::new(&self.node(index)?.rpc).patient(PATIENCE);
        Ok(rpc.call("pbft_state", json!({})).await?)
    }

    /// Waits until `done` says so of what a node says of its engine.
    pub(super) async fn until(
        &self,
        index: usize,
        what: &str,
        done: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Duration> {
        let start = Instant::now();
        loop {
            let state = self.pbft(index).await.unwrap_or_default();
            if done(&state) {
                return Ok(start.elapsed());
            }
            ensure!(start.elapsed() < SOON, "node{index}: not {what} within 30 s: {state}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until a node says that it holds back for a reason with these words.
    pub(super) async fn holds_back(&self, index: usize, words: &str) -> anyhow::Result<()> {
        let holds = |state: &Value| state["hold"].as_str().is_some_and(|hold| hold.contains(words));
        self.until(index, words, holds).await.map(drop)
    }

    /// Waits until a commit holds a signature of the validator of node `index`, as node `of` shows it.
    pub(super) async fn is_in_commits(&self, index: usize, of: usize) -> anyhow::Result<()> {
        let address = self.node(index)?.validator.context("a validator")?;
        let mut rpc = Rpc::new(&self.node(of)?.rpc).patient(PATIENCE);
        let start = Instant::now();
        loop {
            let commit = rpc.commit(None).await?;
            if commit.signatures.iter().any(|entry| entry.validator_address == address) {
                return Ok(());
            }
            ensure!(start.elapsed() < SOON, "node{index} signs nothing within 30 s");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Sends a transaction of so many bytes.
    pub(super) async fn send(&self, index: usize, name: &str, bytes: usize) -> anyhow::Result<()> {
        let mut rpc = Rpc::new(&self.node(index)?.rpc).patient(PATIENCE);
        let tx = STANDARD.encode(format!("{name}={}", "x".repeat(bytes)));
        let _: Value = rpc.call("broadcast_tx_sync", json!({"tx": tx})).await?;
        Ok(())
    }

    /// Sends large transactions to node 0 until node `index` has ended.
    pub(super) async fn fill_until_end(&self, index: usize) -> anyhow::Result<u64> {
        let (start, height) = (Instant::now(), self.tip(&[0]).await);
        let mut sent = 0;
        while self.runs(index)? {
            ensure!(
                start.elapsed() < 3 * SOON,
                "node{index} still runs after {sent} large transactions"
            );
            self.send(0, &format!("fill{height}-{sent}"), 300_000).await?;
            sent += 1;
            tokio::time::sleep(LOOK).await;
        }
        Ok(sent)
    }

    /// Waits until a node has ended, and returns the line that says why, which must hold one of `words` and be the only one.
    pub(super) async fn ended_with(&self, index: usize, words: &[&str]) -> anyhow::Result<String> {
        self.gone(index, SOON).await?;
        let log = self.log(index)?;
        // One that ran may say how it stops after it said why; one that did not start says nothing more.
        let run = log.rsplit("local_peer_id=").next().unwrap_or_default();
        let last = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let why = last.strip_prefix("error: ").or_else(|| Some(run.rsplit_once("ERROR ")?.1));
        let Some(why) = why else {
            bail!("node{index} ended without a reason:\n{}", self.last_lines(index)?);
        };
        ensure!(
            words.iter().any(|word| why.contains(word)),
            "node{index} ended with another reason: {why}"
        );
        Ok(self.short(why.lines().next().unwrap_or_default()))
    }

    /// A line without the folder of this run.
    pub(super) fn short(&self, line: &str) -> String {
        line.replace(&format!("{}/", self.dir().display()), "")
    }

    /// Starts a node, which must end by itself at once with a line that holds one of `words`.
    pub(super) async fn refused(&mut self, index: usize, words: &[&str]) -> anyhow::Result<String> {
        self.restart(index)?;
        self.ended_with(index, words).await
    }

    /// Starts a node and waits until it has caught up with node 0.
    pub(super) async fn back(&mut self, index: usize) -> anyhow::Result<Duration> {
        self.restart(index)?;
        self.reach(&[index], self.tip(&[0]).await.max(1), SOON).await
    }

    /// S: the audit of the nodes, and no log that tells of a panic or of two signatures.
    pub(super) async fn sound(&self, of: &[usize]) -> anyhow::Result<String> {
        for node in self.net()?.nodes {
            let log = self.log(node.index)?;
            if let Some(line) = log.lines().find(|line| NEVER.iter().any(|n| line.contains(n))) {
                bail!("node{}: {line}", node.index);
            }
        }
        self.audit(of).await
    }
}
