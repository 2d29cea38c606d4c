//! Kills and frozen processes.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;

use super::lab::Lab;
use super::{Row, Seen};
use crate::chaos::Kind;

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "T-30",
        fault: "A random validator killed again and again",
        how: "kill -9 at 30 random moments under load, started again within a second (T-30b: at every write)",
        must: "at the tip within 10 s each time; S",
        run: |lab| Box::pin(chaos(lab, Kind::KillRandom, 30, Duration::ZERO)),
    },
    Row {
        id: "T-32",
        fault: "All validators killed at once",
        how: "kill -9 of all four, five times, started in random order",
        must: "the same blocks as before; S; beyond them within 10 s",
        run: |lab| Box::pin(chaos(lab, Kind::KillAll, 5, Duration::ZERO)),
    },
    Row {
        id: "T-33",
        fault: "One primary after the other killed",
        how: "kill -9 of the primary, started again after 2 s, ten times; gaps between blocks seen at another validator",
        must: "a block in every new view; p95 of the largest gaps at most 1.5 timeouts; S",
        run: |lab| Box::pin(struck(lab, Kind::KillPrimary, 10, 2)),
    },
    Row {
        id: "T-80a",
        fault: "The primary frozen for 10 s",
        how: "SIGSTOP, SIGCONT, twice",
        must: "largest gap at most 1.5 timeouts; it steps down and is back within 10 s; S",
        run: |lab| Box::pin(struck(lab, Kind::PausePrimary, 2, 10)),
    },
    Row {
        id: "T-80b",
        fault: "The primary frozen for longer than connections bear silence",
        how: "SIGSTOP, SIGCONT after 30 s (not 120 s)",
        must: "as T-80a",
        run: |lab| Box::pin(struck(lab, Kind::PausePrimary, 1, 30)),
    },
    Row {
        id: "T-81",
        fault: "Two of four validators frozen, then let go",
        how: "SIGSTOP to both for 10 s (not 60 s), SIGCONT",
        must: "no block meanwhile; S; L within 30 s",
        run: |lab| Box::pin(two_frozen(lab)),
    },
    Row {
        id: "T-82",
        fault: "All validators restarted, one after the other",
        how: "SIGTERM to each and start, 5 s apart, under 1,000 transactions a second to the others",
        must: "each stops within 5 s; at most one view change for each; every accepted transaction in a block; S",
        run: |lab| Box::pin(rolling(lab)),
    },
    Row {
        id: "T-83",
        fault: "A second process on the home of a running validator, and one on that of a killed one",
        how: "`tercet start` on the same home; then kill -9 and start",
        must: "the second is refused in one clear line, the first goes on; what a killed one left behind hinders nobody; S",
        run: |lab| Box::pin(second_process(lab)),
    },
];

/// A run of chaos on four validators.
async fn chaos(lab: &mut Lab, kind: Kind, times: u32, struck_for: Duration) -> Seen {
    lab.up(lab.layout(4)).await?;
    Ok(lab.chaos(kind, times, struck_for).await?.figures.join("; "))
}

/// The primary struck, with the gaps against the timeout.
async fn struck(lab: &mut Lab, kind: Kind, times: u32, secs: u64) -> Seen {
    lab.up(lab.layout(4)).await?;
    // The timeout follows the last 32 heights.
    lab.load(200, &[0])?;
    lab.grow(&[0, 1, 2, 3], 40, Duration::from_secs(30)).await?;
    lab.end_load().await?;
    let timeout = lab.timeout(0).await?;
    let mut outcome = lab.chaos(kind, times, Duration::from_secs(secs)).await?;
    outcome.gaps.sort_unstable();
    let worst = crate::load::report::quantile(&outcome.gaps, 95).context("no gap seen")?;
    ensure!(
        worst <= timeout * 3 / 2,
        "p95 of the gaps is {} ms, 1.5 timeouts are {} ms",
        worst.as_millis(),
        (timeout * 3 / 2).as_millis()
    );
    let (figures, timeout) = (outcome.figures.join("; "), timeout.as_millis());
    Ok(format!("p95 of the largest gaps {} ms, timeout {timeout} ms; {figures}", worst.as_millis()))
}

async fn two_frozen(lab: &mut Lab) -> Seen {
    lab.up(lab.layout(4)).await?;
    lab.load(200, &[0, 1])?;
    lab.grow(&[0, 1, 2, 3], 5, Duration::from_secs(10)).await?;
    for index in [2, 3] {
        lab.signal(index, Signal::SIGSTOP).await?;
    }
    lab.still(&[0, 1], Duration::from_secs(10)).await?;
    for index in [2, 3] {
        lab.signal(index, Signal::SIGCONT).await?;
    }
    let took = lab.grow(&[0, 1, 2, 3], 5, Duration::from_secs(30)).await?;
    let report = lab.end_load().await?;
    let audit = lab.audit(&[0, 1, 2, 3]).await?;
    let committed = report.committed;
    Ok(format!("five heights {} ms after; {committed} transactions; {audit}", took.as_millis()))
}

async fn rolling(lab: &mut Lab) -> Seen {
    let all = [0, 1, 2, 3];
    lab.up(lab.layout(4)).await?;
    let view = lab.state(0).await?.view;
    let (mut longest, mut accepted) = (Duration::ZERO, 0);
    for index in all {
        let others: Vec<usize> = all.into_iter().filter(|other| *other != index).collect();
        lab.load(1_000, &others)?;
        lab.grow(&all, 5, Duration::from_secs(20)).await?;
        longest = longest.max(lab.stop(index, Duration::from_secs(5)).await?);
        lab.restart(index)?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let report = lab.end_load().await?;
        let (taken, committed) = (report.accepted, report.committed);
        ensure!(taken == committed, "{taken} transactions accepted, {committed} in blocks");
        accepted += taken;
    }
    lab.grow(&all, 5, Duration::from_secs(30)).await?;
    let changes = lab.state(0).await?.view - view;
    ensure!(changes <= 4, "{changes} view changes in four restarts");
    let audit = lab.audit(&all).await?;
    let longest = longest.as_millis();
    Ok(format!(
        "{changes} view changes; longest stop {longest} ms; {accepted} transactions accepted, all in blocks; {audit}"
    ))
}

async fn second_process(lab: &mut Lab) -> Seen {
    let all = [0, 1, 2, 3];
    lab.up(lab.layout(4)).await?;
    let (net, node) = (lab.net()?, lab.node(1)?);
    let mut second = Command::new(&net.binary);
    let second = second.arg("start").arg("--home").arg(&node.home).stdin(Stdio::null());
    let output = second.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().lines().last().unwrap_or_default().to_owned();
    ensure!(!output.status.success(), "the second process ended without an error");
    ensure!(said.contains("another"), "the second process says {said:?}");
    ensure!(lab.runs(1)?, "the first process ended");
    lab.grow(&all, 5, Duration::from_secs(10)).await?;
    lab.signal(1, Signal::SIGKILL).await?;
    lab.restart(1)?;
    let took = lab.grow(&all, 5, Duration::from_secs(10)).await?;
    let audit = lab.audit(&all).await?;
    let said = said.replace(&lab.dir().display().to_string(), "DIR");
    Ok(format!("\"{said}\"; five heights {} ms after the kill; {audit}", took.as_millis()))
}
