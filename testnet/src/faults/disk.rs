//! Disks that are full, broken, slow or read-only.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use rand::Rng;

use super::lab::Lab;
use super::machine::{Disk, SOON, files, log_file, trace};
use super::{Row, Seen};

const ALL: [usize; 4] = [0, 1, 2, 3];
const OTHERS: [usize; 3] = [0, 1, 2];
/// What the system says of a full disk, and of a broken and a read-only one.
const FULL: &[&str] = &["No space left on device"];
const BROKEN: &[&str] = &["Input/output error"];
const READ_ONLY: &[&str] = &["Read-only file system"];
/// Numbers of files that RocksDB may give next.
const NEXT_FILES: u32 = 120;

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "T-84",
        fault: "The disk with the data is full",
        how: "data/ of one of four on a small tmpfs, large transactions until the node ends; then more space",
        must: "it ends with one line that says so; the others go on; it starts clean; S",
        run: |lab| Box::pin(full(lab, "data", "48m")),
    },
    Row {
        id: "T-85a",
        fault: "The disk with the journal alone is full",
        how: "as T-84, data/journal",
        must: "as T-84",
        run: |lab| Box::pin(full(lab, "data/journal", "14m")),
    },
    Row {
        id: "T-85b",
        fault: "The disk with the chain database alone is full",
        how: "as T-84, data/chain",
        must: "as T-84",
        run: |lab| Box::pin(full(lab, "data/chain", "24m")),
    },
    Row {
        id: "T-85c",
        fault: "The disk with the log alone is full",
        how: "the log of one of four on a tmpfs without space, a peer restarted, 100 tx/s",
        must: "consensus goes on; with space again the log goes on; S",
        run: |lab| Box::pin(full_log(lab)),
    },
    Row {
        id: "T-86",
        fault: "A sync fails",
        how: "strace makes the next fdatasync of the journal, then of the chain, return EIO",
        must: "the process ends at once with one line; restart goes on; S",
        run: |lab| Box::pin(failing_sync(lab)),
    },
    Row {
        id: "T-87",
        fault: "A slow disk",
        how: "strace delays each fdatasync of one node by 200 ms, then 2 s; 100 tx/s, 15 s each",
        must: "the others go on; it lags without an end; afterwards at the tip within 30 s; S",
        run: |lab| Box::pin(slow(lab)),
    },
    Row {
        id: "T-88",
        fault: "The disk becomes read-only",
        how: "data/ on an ext4 that finds an error (errors=remount-ro); e2fsck, mount, restart",
        must: "as T-84",
        run: |lab| Box::pin(read_only(lab)),
    },
    Row {
        id: "T-95",
        fault: "RocksDB cannot write a table",
        how: "strace makes every write to new .sst and .blob files of the chain, then of the journal, return EIO",
        must: "the node ends with one line, no stall; restart goes on; S",
        run: |lab| Box::pin(failing_tables(lab)),
    },
];

async fn full(lab: &mut Lab, folder: &str, size: &str) -> Seen {
    lab.up(lab.layout(4)).await?;
    lab.stop(3, SOON).await?;
    let disk = Disk::small(&lab.node(3)?.home.join(folder), size)?;
    lab.back(3).await?;
    let sent = lab.fill_until_end(3).await?;
    let why = lab.ended_with(3, FULL).await?;
    lab.grow(&OTHERS, 3, SOON).await?;
    let again = lab.refused(3, FULL).await;
    if lab.runs(3)? {
        // With what its start has freed it may run on for a while.
        lab.stop(3, SOON).await?;
    } else {
        again?;
    }
    disk.resize("1g")?;
    let back = lab.back(3).await?;
    lab.is_in_commits(3, 0).await?;
    let audit = lab.sound(&ALL).await?;
    let (mb, back) = (sent * 3 / 10, back.as_millis());
    Ok(format!("{size} full after {mb} MB: `{why}`; with space at the tip in {back} ms; {audit}"))
}

async fn full_log(lab: &mut Lab) -> Seen {
    lab.up(lab.layout(4)).await?;
    lab.stop(3, SOON).await?;
    let home = lab.node(3)?.home;
    let _disk = Disk::small(&home.join("log"), "64k")?;
    fs::remove_file(home.join("log.txt"))?;
    std::os::unix::fs::symlink(home.join("log/log.txt"), home.join("log.txt"))?;
    lab.load(100, &[0, 3])?;
    lab.back(3).await?;
    let ballast = home.join("log/ballast");
    ensure!(fs::write(&ballast, vec![0; 1 << 20]).is_err(), "the disk is not full");
    let length = restart_beside(lab, &home).await?;
    let took = lab.grow(&ALL, 100, 2 * SOON).await?;
    fs::remove_file(&ballast)?;
    let grown = restart_beside(lab, &home).await?;
    ensure!(grown > length, "the log stays at {length} bytes");
    lab.end_load().await?;
    let audit = lab.sound(&ALL).await?;
    let took = took.as_millis();
    Ok(format!(
        "full at {length} bytes; 100 heights in {took} ms; {grown} bytes once there is space; {audit}"
    ))
}

/// Restarts node 2, which node 3 would log: the length of the log of node 3 then.
async fn restart_beside(lab: &mut Lab, home: &Path) -> anyhow::Result<u64> {
    lab.stop(2, SOON).await?;
    lab.back(2).await?;
    lab.grow(&ALL, 5, SOON).await?;
    Ok(fs::metadata(home.join("log/log.txt"))?.len())
}

async fn failing_sync(lab: &mut Lab) -> Seen {
    lab.up(lab.layout(4)).await?;
    let mut lines = Vec::new();
    for folder in ["journal", "chain"] {
        let log = log_file(&lab.data(3)?.join(folder))?;
        let log = log.to_string_lossy();
        let inject =
            ["-P", &log, "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=1"];
        let tracer = trace(lab.pid(3)?, &inject).await?;
        lines.push(lab.ended_with(3, BROKEN).await?);
        drop(tracer);
        lab.grow(&OTHERS, 2, SOON).await?;
        lab.back(3).await?;
        lab.is_in_commits(3, 0).await?;
    }
    let audit = lab.sound(&ALL).await?;
    Ok(format!("`{}`; {audit}", lines.join("`; `")))
}

async fn slow(lab: &mut Lab) -> Seen {
    lab.up(lab.layout(4)).await?;
    lab.load(100, &OTHERS)?;
    let mut seen = Vec::new();
    for delay_ms in [200, 2_000] {
        let index = lab.random.random_range(0..4);
        let others: Vec<usize> = ALL.into_iter().filter(|other| *other != index).collect();
        let (first, changes) = (lab.tip(&others).await, view_changes(lab, &others).await?);
        let delay = format!("inject=fdatasync:delay_enter={}", delay_ms * 1_000);
        let tracer = trace(lab.pid(index)?, &["-e", "trace=fdatasync", "-e", &delay]).await?;
        tokio::time::sleep(Duration::from_secs(15)).await;
        let last = lab.tip(&others).await;
        let behind = last.saturating_sub(lab.height(index).await.unwrap_or(0));
        drop(tracer);
        ensure!(lab.runs(index)?, "node{index} ended: {}", lab.last_lines(index)?);
        ensure!(last > first + 10, "with node{index} slow only {} heights in 15 s", last - first);
        let back = lab.reach(&[index], last, SOON).await?;
        let changes = view_changes(lab, &others).await? - changes;
        seen.push(format!(
            "{delay_ms} ms: {} heights in 15 s, {changes} view changes, {behind} behind, at the tip {} ms after",
            last - first,
            back.as_millis()
        ));
    }
    let report = lab.end_load().await?;
    let audit = lab.sound(&ALL).await?;
    Ok(format!("{}; {} transactions; {audit}", seen.join("; "), report.committed))
}

/// The most view changes that one of the nodes counts.
async fn view_changes(lab: &Lab, of: &[usize]) -> anyhow::Result<u64> {
    let mut most = 0;
    for index in of {
        let state = lab.pbft(*index).await?;
        let text = state["view_changes"].as_str().unwrap_or_default();
        most = most.max(text.parse().unwrap_or(0));
    }
    Ok(most)
}

async fn read_only(lab: &mut Lab) -> Seen {
    lab.up(lab.layout(4)).await?;
    lab.stop(3, SOON).await?;
    let image = lab.dir().join("disk.img");
    let disk = Disk::ext4(&lab.data(3)?, &image, 256 << 20)?;
    lab.back(3).await?;
    lab.grow(&ALL, 2, SOON).await?;
    disk.break_ext4()?;
    // A file system that shut itself down says so in its own way.
    let words = [READ_ONLY, BROKEN].concat();
    let why = lab.ended_with(3, &words).await?;
    lab.grow(&OTHERS, 3, SOON).await?;
    let again = lab.refused(3, &words).await?;
    disk.repair_ext4(&image)?;
    let back = lab.back(3).await?;
    lab.is_in_commits(3, 0).await?;
    let audit = lab.sound(&ALL).await?;
    lab.stop(3, SOON).await?;
    let back = back.as_millis();
    Ok(format!("`{why}`; a restart: `{again}`; repaired, at the tip in {back} ms; {audit}"))
}

async fn failing_tables(lab: &mut Lab) -> Seen {
    lab.up(lab.layout(4)).await?;
    let mut seen = Vec::new();
    for folder in ["chain", "journal"] {
        let paths = next_files(&lab.data(3)?.join(folder))?;
        let mut inject: Vec<&str> = Vec::new();
        paths.iter().for_each(|path| inject.extend(["-P", path.as_str()]));
        inject.extend(["-e", "trace=write,pwrite64", "-e", "inject=write,pwrite64:error=EIO"]);
        let tracer = trace(lab.pid(3)?, &inject).await?;
        let sent = lab.fill_until_end(3).await?;
        drop(tracer);
        let why = lab.ended_with(3, BROKEN).await?;
        lab.grow(&OTHERS, 3, SOON).await?;
        lab.back(3).await?;
        lab.is_in_commits(3, 0).await?;
        seen.push(format!("after {} MB: `{why}`", sent * 3 / 10));
    }
    let audit = lab.sound(&ALL).await?;
    Ok(format!("{}; {audit}", seen.join("; ")))
}

/// The tables that RocksDB writes next in a folder, whatever numbers they get.
fn next_files(folder: &Path) -> anyhow::Result<Vec<String>> {
    let number = |path: &Path| path.file_stem()?.to_string_lossy().parse::<u32>().ok();
    let last = files(folder, ".")?.iter().filter_map(|path| number(path)).max().unwrap_or(0);
    let numbers = last + 1..=last + NEXT_FILES;
    let names = numbers.flat_map(|n| [format!("{n:06}.sst"), format!("{n:06}.blob")]);
    Ok(names.map(|name| folder.join(name).to_string_lossy().into_owned()).collect())
}
