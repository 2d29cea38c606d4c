//! Clocks that are wrong, drift and jump. The node's hidden flags shift its wall clock; its timers run by the monotonic one.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::lab::Lab;
use super::machine::SOON;
use super::{Row, Seen};
use crate::rpc::Rpc;

const HOUR_MS: i64 = 3_600_000;
/// How far the time of a block may be from the right one, with blocks every second.
const BLOCK_TIME_OFF_MAX: time::Duration = time::Duration::seconds(5);

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "T-150a",
        fault: "The clock of one of four is wrong",
        how: "by −1 d, −1 h, +1 h, +1 d one after the other (--clock-offset-ms)",
        must: "L; S; block times within 5 s of the right time; the node flags its clock and warns once",
        run: |lab| Box::pin(one_wrong(lab)),
    },
    Row {
        id: "T-150b",
        fault: "The clocks of f nodes are wrong",
        how: "two of seven, +1 h and −1 d; then both +1 h; then both −1 h",
        must: "as T-150a",
        run: |lab| Box::pin(f_wrong(lab)),
    },
    Row {
        id: "T-151",
        fault: "The clock jumps and drifts while the node runs",
        how: "10 s back; 1 h forward; twice as fast; 1 h forward and back 3 s later; one node, one after the other",
        must: "L; S; no view change; block times within 5 s; the jump of 1 h is flagged",
        run: |lab| Box::pin(jumps(lab)),
    },
];

/// Starts a node, that is up, with other flags.
async fn again(lab: &mut Lab, index: usize, flags: &[&str]) -> anyhow::Result<()> {
    lab.stop(index, SOON).await?;
    lab.start_as(index, &[], flags)?;
    lab.reach(&[index], lab.tip(&[0]).await, SOON).await?;
    Ok(())
}

/// Fails where the time of the last block of node 0 is not near the right time; how far it is off, in milliseconds.
async fn block_time(lab: &Lab) -> anyhow::Result<i128> {
    let mut rpc = Rpc::new(&lab.node(0)?.rpc);
    let block: Value = rpc.call("block", json!({})).await?;
    let text = block["block"]["header"]["time"].as_str().context("a time")?;
    let off = OffsetDateTime::now_utc() - OffsetDateTime::parse(text, &Rfc3339)?;
    ensure!(off.abs() < BLOCK_TIME_OFF_MAX, "the last block says {text}: off by {off}");
    Ok(off.whole_milliseconds())
}

/// Waits for the flag of a clock that is off by so many seconds.
async fn flagged(lab: &Lab, index: usize, secs: i64) -> anyhow::Result<()> {
    let near = |state: &Value| {
        let off = state["clock_suspect"].as_str().and_then(|text| text.parse::<i64>().ok());
        off.is_some_and(|off| (off - secs).abs() < 30)
    };
    lab.until(index, "flagged", near).await.map(drop)
}

/// The one warning of a node.
fn warning(lab: &Lab, index: usize) -> anyhow::Result<String> {
    let log = lab.log(index)?;
    let last = log.rsplit("local_peer_id=").next().unwrap_or_default();
    let mut lines = last.lines().filter(|line| line.contains("this machine's clock is"));
    let line = lines.next().context("no warning")?;
    ensure!(lines.next().is_none(), "it warns more than once");
    Ok(line.split_once("WARN ").map_or(line, |(_, text)| text).to_owned())
}

async fn one_wrong(lab: &mut Lab) -> Seen {
    lab.up(lab.layout(4)).await?;
    let mut seen = Vec::new();
    let mut line = String::new();
    for offset in [-24 * HOUR_MS, -HOUR_MS, HOUR_MS, 24 * HOUR_MS] {
        let flag = format!("--clock-offset-ms={offset}");
        again(lab, 3, &[&flag]).await?;
        flagged(lab, 3, offset / 1_000).await?;
        let took = lab.grow(&[0, 1, 2, 3], 5, SOON).await?;
        let off = block_time(lab).await?;
        line = warning(lab, 3)?;
        let hours = offset / HOUR_MS;
        seen.push(format!(
            "{hours:+} h: five heights in {} ms, last block {off} ms old",
            took.as_millis()
        ));
    }
    let audit = lab.sound(&[0, 1, 2, 3]).await?;
    Ok(format!("{}; `{line}`; {audit}", seen.join("; ")))
}

async fn f_wrong(lab: &mut Lab) -> Seen {
    lab.up(lab.layout(7)).await?;
    let all: Vec<usize> = (0..7).collect();
    let mut seen = Vec::new();
    for offsets in [[HOUR_MS, -24 * HOUR_MS], [HOUR_MS, HOUR_MS], [-HOUR_MS, -HOUR_MS]] {
        for (index, offset) in [5, 6].into_iter().zip(offsets) {
            again(lab, index, &[&format!("--clock-offset-ms={offset}")]).await?;
        }
        for (index, offset) in [5, 6].into_iter().zip(offsets) {
            flagged(lab, index, offset / 1_000).await?;
        }
        let took = lab.grow(&all, 5, SOON).await?;
        let off = block_time(lab).await?;
        let hours = offsets.map(|offset| offset / HOUR_MS);
        seen.push(format!(
            "{hours:?} h: five heights in {} ms, last block {off} ms old",
            took.as_millis()
        ));
    }
    let audit = lab.sound(&all).await?;
    Ok(format!("{}; {audit}", seen.join("; ")))
}

async fn jumps(lab: &mut Lab) -> Seen {
    lab.up(lab.layout(4)).await?;
    let mut seen = Vec::new();
    let cases = [
        ("10 s back", "--clock-jump=4000:-10000"),
        ("1 h forward", "--clock-jump=4000:3600000"),
        ("twice as fast", "--clock-drift-ppm=1000000"),
        ("1 h forward, back 3 s later", "--clock-jump=3000:3600000,6000:-3600000"),
    ];
    for (name, flag) in cases {
        again(lab, 3, &[flag]).await?;
        let before = changes(lab).await?;
        let first = lab.tip(&[0]).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let heights = lab.tip(&[0]).await - first;
        ensure!((7..=14).contains(&heights), "{name}: {heights} heights in 10 s");
        ensure!(changes(lab).await? == before, "{name}: a view change");
        let off = block_time(lab).await?;
        if name == "1 h forward" {
            flagged(lab, 3, HOUR_MS / 1_000).await?;
            warning(lab, 3)?;
        }
        seen.push(format!("{name}: {heights} heights in 10 s, last block {off} ms old"));
    }
    lab.reach(&[3], lab.tip(&[0]).await, SOON).await?;
    let audit = lab.sound(&[0, 1, 2, 3]).await?;
    Ok(format!("{}; {audit}", seen.join("; ")))
}

/// View changes that node 0 has seen.
async fn changes(lab: &Lab) -> anyhow::Result<String> {
    Ok(lab.pbft(0).await?["view_changes"].to_string())
}
