//! Too little memory, too few files, too little processor.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{bail, ensure};

use super::lab::Lab;
use super::machine::SOON;
use super::{NotHere, Row, Seen};
use crate::attack::{self, Attack};
use crate::layout::Layout;
use crate::process::memory_bytes;

const ALL: [usize; 4] = [0, 1, 2, 3];
const OTHERS: [usize; 3] = [0, 1, 2];

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "T-191a",
        fault: "A limit on memory",
        how: "one of four in a cgroup with 4 MiB more than it uses, then with 48 MiB more, large transactions for 15 s each",
        must: "it goes on or is killed; the others go on; without the limit at the tip; S",
        run: |lab| Box::pin(memory(lab)),
    },
    Row {
        id: "T-191b",
        fault: "At most 256 files",
        how: "one of four under prlimit --nofile=256, 400 connections to its RPC, 100 tx/s",
        must: "consensus goes on; RPC answers once they are gone; S",
        run: |lab| Box::pin(open_files(lab)),
    },
    Row {
        id: "T-191c",
        fault: "A tenth of a processor",
        how: "one of four in a cgroup with cpu.cfs_quota 10 %, 100 tx/s, 20 s",
        must: "the others go on; it lags; without the limit at the tip within 30 s; S",
        run: |lab| Box::pin(processor(lab)),
    },
    Row {
        id: "T-144",
        fault: "5,000 queries of the application a second",
        how: "values of 10 kB, of one of four whose applications are processes of their own, 100 tx/s",
        must: "answered; the time between blocks (p95) grows by at most 20 %, below 20 ms not counted; S",
        run: |lab| Box::pin(queries(lab)),
    },
];

/// A control group with one process, removed when this is dropped.
struct Group(PathBuf);

impl Group {
    /// One of `controller` with these settings; the process `pid` goes in.
    fn new(controller: &str, settings: &[(&str, String)], pid: u32) -> anyhow::Result<Group> {
        let path = PathBuf::from(format!("/sys/fs/cgroup/{controller}/tercet-faults-{pid}"));
        if fs::create_dir(&path).is_err() {
            bail!(NotHere::Needs(format!(
                "the right to make control groups of version 1 ({controller})"
            )));
        }
        let group = Group(path);
        for (file, value) in settings {
            fs::write(group.0.join(file), value)?;
        }
        fs::write(group.0.join("cgroup.procs"), pid.to_string())?;
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let processes = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        if let Some(above) = self.0.parent() {
            for process in processes.lines() {
                let _ = fs::write(above.join("cgroup.procs"), process);
            }
        }
        let _ = fs::remove_dir(&self.0);
    }
}

async fn memory(lab: &mut Lab) -> Seen {
    lab.up(lab.layout(4)).await?;
    let mut seen = Vec::new();
    for more in [4, 48] {
        seen.push(squeezed(lab, more).await?);
    }
    let audit = lab.sound(&ALL).await?;
    Ok(format!("{}; {audit}", seen.join("; ")))
}

/// One node with so many MiB more than it uses, until it is killed or 15 s are over; then without.
async fn squeezed(lab: &mut Lab, more_mib: u64) -> Seen {
    let pid = lab.pid(3)?;
    let used = memory_bytes(pid).unwrap_or(0);
    let group = Group::new("memory", &[], pid)?;
    // What it has already is not counted in the new group.
    fs::write(group.0.join("memory.limit_in_bytes"), (more_mib << 20).to_string())?;
    let first = lab.tip(&OTHERS).await;
    let start = std::time::Instant::now();
    let mut sent = 0u64;
    while start.elapsed() < Duration::from_secs(15) && lab.runs(3)? {
        lab.send(0, &format!("memory{more_mib}_{sent}"), 300_000).await?;
        sent += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (killed, ran) = (!lab.runs(3)?, start.elapsed().as_secs());
    lab.grow(&OTHERS, 3, SOON).await?;
    let heights = lab.tip(&OTHERS).await - first;
    drop(group);
    if killed {
        lab.back(3).await?;
    }
    lab.reach(&[3], lab.tip(&[0]).await, SOON).await?;
    lab.is_in_commits(3, 0).await?;
    let end =
        if killed { format!("killed by the system after {ran} s") } else { "it ran on".to_owned() };
    let used = used >> 20;
    Ok(format!(
        "{used} MiB and {more_mib} more: {end}, {heights} heights and {sent} transactions of 300 kB meanwhile"
    ))
}

async fn queries(lab: &mut Lab) -> Seen {
    let program = lab.beside("tercet-abci");
    let command = format!("exec {} kvstore --address unix://{{socket}}", program.display());
    lab.up(Layout { app_command: Some(command), ..lab.layout(4) }).await?;
    let outcome = attack::run(&Attack {
        dir: lab.dir().to_path_buf(),
        kind: attack::Kind::Queries,
        victim: 0,
        duration: SOON,
        addresses: 1,
        load_rate: 100,
    })
    .await?;
    ensure!(outcome.failures.is_empty(), outcome.failures.join("; "));
    Ok(format!("{}; {}", outcome.measured(), lab.sound(&ALL).await?))
}

async fn open_files(lab: &mut Lab) -> Seen {
    lab.up(lab.layout(4)).await?;
    lab.stop(3, SOON).await?;
    if super::machine::run("prlimit", &["--version"]).is_err() {
        bail!(NotHere::Needs("prlimit".to_owned()));
    }
    lab.start_as(3, &["prlimit", "--nofile=256:256"], &[])?;
    lab.reach(&[3], lab.tip(&[0]).await, SOON).await?;
    lab.load(100, &OTHERS)?;
    let address = lab.node(3)?.rpc.parse()?;
    let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
    let held: Vec<TcpStream> = (0..400).filter_map(connect).collect();
    let open = fs::read_dir(format!("/proc/{}/fd", lab.pid(3)?))?.count();
    let first = lab.tip(&OTHERS).await;
    let took = lab.grow(&OTHERS, 50, SOON).await?;
    ensure!(lab.runs(3)?, "it ended: {}", lab.last_lines(3)?);
    let connections = held.len();
    drop(held);
    lab.reach(&[3], first + 50, SOON).await?;
    lab.end_load().await?;
    lab.is_in_commits(3, 0).await?;
    let audit = lab.sound(&ALL).await?;
    Ok(format!(
        "{connections} connections, {open} files open; 50 heights in {} ms; {audit}",
        took.as_millis()
    ))
}

async fn processor(lab: &mut Lab) -> Seen {
    lab.up(lab.layout(4)).await?;
    lab.load(100, &OTHERS)?;
    let quota =
        [("cpu.cfs_period_us", "100000".to_owned()), ("cpu.cfs_quota_us", "10000".to_owned())];
    let group = Group::new("cpu", &quota, lab.pid(3)?)?;
    let first = lab.tip(&OTHERS).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let last = lab.tip(&OTHERS).await;
    let behind = last.saturating_sub(lab.height(3).await.unwrap_or(0));
    ensure!(last > first + 20, "only {} heights in 20 s", last - first);
    ensure!(lab.runs(3)?, "it ended: {}", lab.last_lines(3)?);
    drop(group);
    let back = lab.reach(&[3], last, SOON).await?;
    lab.end_load().await?;
    lab.is_in_commits(3, 0).await?;
    let audit = lab.sound(&ALL).await?;
    Ok(format!(
        "{} heights in 20 s, {behind} behind, at the tip {} ms after; {audit}",
        last - first,
        back.as_millis()
    ))
}
