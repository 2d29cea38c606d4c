//! One cell: four validators, a faulty application, and what came of it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use serde_json::{Value, json};

use super::super::lab::Lab;
use super::cell::{Cell, Of};
use crate::application::{Files, strike};
use crate::rpc::Rpc;

const ALL: [usize; 4] = [0, 1, 2, 3];
/// The node whose application is faulty where it is one.
const FAULTY: usize = 3;
/// How long a node may take to say what is wrong.
const SAID_WITHIN: Duration = Duration::from_secs(15);
/// How long the chain is watched while the fault is there.
const WATCHED: Duration = Duration::from_secs(2);
/// Within which the chain must go on.
const GOES_ON: Duration = Duration::from_secs(30);
/// Within which a node must be back once its application is well.
const BACK_WITHIN: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Patience with one answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most lines that one fault may fill a log with.
const LINES_MAX: usize = 60;
/// The longest line that the page shows, in characters.
const SHOWN_MAX: usize = 330;
/// How late an answer is that is late; the nodes say so after a second.
const LATE: &str = "2500ms";
/// The file that names the fault.
const CONTROL: &str = "fault";

/// What a cell showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// What the node said and did.
    pub(super) did: String,
    /// How the chain went on meanwhile.
    pub(super) chain: String,
    /// How the node came back.
    pub(super) back: String,
}

/// The command of an application whose fault stands in a file of its node's home.
pub(super) fn command(program: &std::path::Path) -> String {
    format!(
        "exec {} --address unix://{{socket}} --data {{home}}/app --control {{home}}/{CONTROL}",
        program.display()
    )
}

/// Runs one cell on a network that is well.
pub(super) async fn run(lab: &mut Lab, cell: &Cell) -> anyhow::Result<Shown> {
    let of: &[usize] = if cell.of == Of::All { &ALL } else { &[FAULTY] };
    let before = all_have(&heights(lab).await);
    let block = hash_at(lab, 0, before).await?;
    let mut marks = Vec::new();
    for index in ALL {
        marks.push(lab.log(index)?.len());
    }
    begin(lab, cell, of).await?;
    let mut did = Vec::new();
    for index in of {
        let mark = marks.get(*index).copied().unwrap_or(0);
        did.push(said(lab, cell, *index, mark).await?);
    }
    let chain = chain_meanwhile(lab, cell).await?;
    end(lab, cell, of).await?;
    let back = back(lab, cell, of).await?;
    for (index, mark) in ALL.into_iter().zip(&marks) {
        let log = lab.log(index)?;
        let log = log.get(*mark..).unwrap_or_default();
        ensure!(!log.contains("panicked at"), "node{index} panicked");
        let lines = log.lines().filter(|line| loud(line)).count();
        ensure!(lines <= LINES_MAX, "node{index} filled its log with {lines} lines");
        ensure!(
            hash_at(lab, index, before).await? == block,
            "node{index} has another block at {before}"
        );
    }
    Ok(Shown { did: did.swap_remove(0), chain, back })
}

/// Brings a network back after a cell that was not as it must be, so that the next begins well.
pub(super) async fn heal(lab: &mut Lab, cell: &Cell) -> anyhow::Result<()> {
    for index in ALL {
        // Where there is none the application is well, or will be.
        let _ = std::fs::remove_file(control(lab, index)?);
        let _ = strike(&lab.node(index)?);
    }
    back(lab, cell, &ALL).await.map(drop)
}

/// Whether a line of a log is one that people are to see.
fn loud(line: &str) -> bool {
    ["WARN ", "ERROR ", "error: "].iter().any(|word| line.contains(word))
}

/// Makes the applications of these nodes faulty.
async fn begin(lab: &mut Lab, cell: &Cell, of: &[usize]) -> anyhow::Result<()> {
    let starts = matches!(cell.method.as_str(), "Info" | "InitChain");
    for index in of {
        if starts {
            lab.stop(*index, BACK_WITHIN).await?;
        }
        if cell.method == "InitChain" {
            reset(lab, *index).await?;
        }
        if cell.method == "Query" {
            // One that was answered, so that the node says again what is not.
            query(lab, *index).await?;
        }
        let text = format!("{} {} {LATE}\n", cell.method, cell.fault);
        let file = control(lab, *index)?;
        // A file appears whole.
        std::fs::write(file.with_extension("new"), text)?;
        std::fs::rename(file.with_extension("new"), file)?;
        if starts {
            lab.restart(*index)?;
        }
    }
    Ok(())
}

/// Makes the applications well again.
async fn end(lab: &mut Lab, cell: &Cell, of: &[usize]) -> anyhow::Result<()> {
    for index in of {
        std::fs::remove_file(control(lab, *index)?)?;
    }
    for index in of.iter().filter(|_| cell.hangs()) {
        // One that has just died is started again as well.
        let _ = strike(&lab.node(*index)?);
    }
    for index in of.iter().filter(|_| cell.needs_a_start()) {
        lab.stop(*index, BACK_WITHIN).await?;
    }
    Ok(())
}

fn control(lab: &Lab, index: usize) -> anyhow::Result<PathBuf> {
    Ok(lab.node(index)?.home.join(CONTROL))
}

/// Removes the data of a stopped node and its application; keys and watermark stay.
async fn reset(lab: &Lab, index: usize) -> anyhow::Result<()> {
    let (net, node) = (lab.net()?, lab.node(index)?);
    let mut command = Command::new(&net.binary);
    command.arg("reset").arg("--home").arg(&node.home).stdin(Stdio::null());
    ensure!(command.output()?.status.success(), "`tercet reset` of {} failed", node.name());
    std::fs::remove_dir_all(node.home.join("app"))?;
    let _ = strike(&node);
    let start = Instant::now();
    while std::os::unix::net::UnixStream::connect(Files::of(&node.home).socket).is_err() {
        ensure!(start.elapsed() < BACK_WITHIN, "the application of {} is not back", node.name());
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Waits until the node has said what is wrong, or ended: what it said and did.
async fn said(lab: &Lab, cell: &Cell, index: usize, mark: usize) -> anyhow::Result<String> {
    let start = Instant::now();
    let mut line = None;
    while start.elapsed() < SAID_WITHIN {
        if cell.method == "Query" {
            query(lab, index).await?;
        }
        line = find(lab, cell, index, mark)?;
        if cell.said().is_none() && start.elapsed() > WATCHED || line.is_some() {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    if cell.said().is_some() && line.is_none() {
        let last = lab.last_lines(index)?;
        bail!("node{index} says nothing of {}; its log ends:\n{last}", cell.method);
    }
    // One that leaves says why before.
    let left = Instant::now();
    while lab.runs(index)? && left.elapsed() < Duration::from_secs(1) {
        tokio::time::sleep(LOOK).await;
    }
    let leaves = !lab.runs(index)?;
    if leaves {
        line = find(lab, cell, index, mark)?;
    }
    let line = line.map(|line| lab.short(&line));
    if let Some(line) = line.as_ref().filter(|_| cell.has_height()) {
        ensure!(line.contains("height"), "the line does not name the height: {line}");
    }
    let does = if leaves { "leaves" } else { "goes on" };
    Ok(line.map_or(format!("{does}, says nothing"), |line| format!("{does}: `{line}`")))
}

/// Asks the application, which only a client does; whatever it answers.
async fn query(lab: &Lab, index: usize) -> anyhow::Result<()> {
    let mut rpc = Rpc::new(&lab.node(index)?.rpc).patient(PATIENCE);
    let asked = json!({"path": "/key", "data": "616263", "prove": false});
    let _ = rpc.call::<Value>("abci_query", asked).await;
    Ok(())
}

/// The last line of a node's log since `mark` that says what is wrong, without its time.
fn find(lab: &Lab, cell: &Cell, index: usize, mark: usize) -> anyhow::Result<Option<String>> {
    let Some(words) = cell.said() else { return Ok(None) };
    let log = lab.log(index)?;
    let mut lines = log.get(mark..).unwrap_or_default().lines().rev();
    let is_it = |line: &&str| loud(line) && words.iter().any(|word| line.contains(word));
    Ok(lines.find(is_it).map(plain))
}

/// A line without its time and the name of its module.
fn plain(line: &str) -> String {
    let marks = ["ERROR ", "WARN ", "error: "];
    let from = marks.iter().filter_map(|mark| line.find(mark)).min().unwrap_or(0);
    line.get(from..).unwrap_or(line).chars().filter(|c| *c != '`').take(SHOWN_MAX).collect()
}

/// How the chain went on while the fault was there.
async fn chain_meanwhile(lab: &Lab, cell: &Cell) -> anyhow::Result<String> {
    if cell.of == Of::One {
        let took = lab.grow(&[0, 1, 2], 5, GOES_ON).await?;
        return Ok(format!("goes on: five blocks in {} ms", took.as_millis()));
    }
    let before = lab.tip(&ALL).await;
    tokio::time::sleep(WATCHED).await;
    let grown = lab.tip(&ALL).await.saturating_sub(before);
    Ok(match grown {
        0 | 1 => "stands".to_owned(),
        blocks => format!("goes on: {blocks} blocks in {} s", WATCHED.as_secs()),
    })
}

/// Brings the nodes back, as an operator would: what it took.
async fn back(lab: &mut Lab, cell: &Cell, of: &[usize]) -> anyhow::Result<String> {
    let start = Instant::now();
    let mut how = "by itself";
    for index in of {
        if !lab.runs(*index)? {
            how = "started again";
            // A mended application is a new process.
            let _ = strike(&lab.node(*index)?);
            lab.restart(*index)?;
        }
    }
    // Where all stand, they have nothing to catch up with: the chain must go on.
    let goal = lab.tip(&ALL).await + 3;
    let mut asked_again = false;
    loop {
        let heights = heights(lab).await;
        if heights.iter().all(|height| height.unwrap_or(0) >= goal) {
            break;
        }
        for index in of {
            if lab.runs(*index)? {
                continue;
            }
            ensure!(!asked_again, "node{index} ends again: {}", lab.last_lines(*index)?);
            ensure!(cell.of == Of::One, "node{index} does not start: {}", lab.last_lines(*index)?);
            asked_again = true;
            how = "after `tercet reset` and a reset of the application";
            reset(lab, *index).await?;
            lab.restart(*index)?;
        }
        ensure!(
            start.elapsed() < BACK_WITHIN,
            "not back at {goal} within {} s, but at {heights:?}: {}",
            BACK_WITHIN.as_secs(),
            lab.last_lines(of.first().copied().unwrap_or(0))?
        );
        tokio::time::sleep(LOOK).await;
    }
    Ok(format!("{how}, {} ms", start.elapsed().as_millis()))
}

async fn heights(lab: &Lab) -> Vec<Option<u64>> {
    futures::future::join_all(ALL.map(|index| lab.height(index))).await
}

/// A height whose block all nodes have, where they stand so high.
fn all_have(heights: &[Option<u64>]) -> u64 {
    heights.iter().flatten().copied().min().unwrap_or(0).max(1)
}

/// Which block a node has at a height.
async fn hash_at(lab: &Lab, index: usize, height: u64) -> anyhow::Result<String> {
    let mut rpc = Rpc::new(&lab.node(index)?.rpc).patient(PATIENCE);
    Ok(rpc.commit(Some(height)).await?.block_id.hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The highest block of one node was asked of another, which did not have it yet.
    #[test]
    fn the_block_that_is_compared_is_one_that_all_nodes_have() {
        assert_eq!(all_have(&[Some(1095), Some(1096), None, Some(1096)]), 1095);
        assert_eq!(all_have(&[None, None]), 1);
    }

    #[test]
    fn a_line_is_shown_without_its_time() {
        let line = "2026-01-02T03:04:05Z  WARN tercet::x: the application `died` height=5";
        assert!(loud(line));
        assert_eq!(plain(line), "WARN tercet::x: the application died height=5");
        assert_eq!(plain("error: no application"), "error: no application");
        assert!(!loud("2026-01-02T03:04:05Z  INFO tercet::x: all is well"));
    }
}
