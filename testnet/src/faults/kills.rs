//! Kills and frozen processes.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::lab::Lab;
use super::{Row, Seen};

pub(super) const ROWS: &[Row] = &[Row {
    id: "T-81",
    fault: "Two of four validators frozen, then let go",
    how: "SIGSTOP to both for 10 s, SIGCONT",
    must: "no block meanwhile; S; L within 30 s",
    run: |lab| Box::pin(two_frozen(lab)),
}];

async fn two_frozen(lab: &mut Lab) -> Seen {
    lab.up(lab.layout(4)).await?;
    lab.load(200, &[0, 1])?;
    lab.grow(&[0, 1, 2, 3], 5, Duration::from_secs(10)).await?;
    for index in [2, 3] {
        lab.signal(index, Signal::SIGSTOP).await?;
    }
    // A block that was nearly decided may still come.
    let quiet = lab.tip(&[0, 1]).await + 1;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let height = lab.tip(&[0, 1]).await;
    anyhow::ensure!(height <= quiet, "two of four validators decided height {height}");
    for index in [2, 3] {
        lab.signal(index, Signal::SIGCONT).await?;
    }
    let took = lab.grow(&[0, 1, 2, 3], 3, Duration::from_secs(30)).await?;
    let report = lab.end_load().await?;
    let audit = lab.audit(&[0, 1, 2, 3]).await?;
    let committed = report.committed;
    Ok(format!("three heights {} ms after; {committed} transactions; {audit}", took.as_millis()))
}
