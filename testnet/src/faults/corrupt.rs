//! Data that is torn, flipped, deleted or of an older moment.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use rand::Rng;
use serde_json::{Value, json};

use super::lab::Lab;
use super::machine::{SOON, copy, files, log_file};
use super::{Row, Seen};
use crate::rpc::Rpc;

const ALL: [usize; 4] = [0, 1, 2, 3];
/// RocksDB's log: blocks of so many bytes, of records with so long a header.
const BLOCK_BYTES: usize = 32_768;
const HEADER_BYTES: usize = 7;
/// Seeded places in the last record at which the journal is cut, besides its first and last bytes.
const CUTS: usize = 16;
/// A node that does not say its height for so long answers with errors.
const SILENT: Duration = Duration::from_secs(8);
/// Seeded bits before the last record that are flipped.
const FLIPS: usize = 12;
const JOURNAL: &[&str] = &["remove data/journal"];
const CHAIN: &[&str] = &["tercet reset"];
const STALE: &str = "older than the key's use";

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "T-89",
        fault: "The journal's last record is torn",
        how: "kill -9, cut at the first ten and the last bytes of the last record and 16 seeded places in it, start; every offset: journal_tests::a_torn_tail_is_dropped",
        must: "starts, catches up, signs no second vote; S",
        run: |lab| Box::pin(torn(lab)),
    },
    Row {
        id: "T-90",
        fault: "A bit of the journal is flipped before its last record",
        how: "12 seeded bits, one at a time; then the remedy of the line",
        must: "refuses with a remedy, never skips; with the remedy it signs once the chain has passed the reservation; S",
        run: |lab| Box::pin(flipped(lab)),
    },
    Row {
        id: "T-91",
        fault: "Tables of the chain are damaged or deleted",
        how: "each .sst with a seeded byte changed, then one deleted; all heights asked over RPC; then `tercet reset`",
        must: "refuses, ends, or answers as the others or with an error; after the reset at the tip; S",
        run: |lab| Box::pin(tables(lab)),
    },
    Row {
        id: "T-92a",
        fault: "CURRENT or MANIFEST of a database is gone",
        how: "each of journal, chain and application, one at a time; then put back",
        must: "refuses with a remedy; starts again with the file; S",
        run: |lab| Box::pin(no_current(lab)),
    },
    Row {
        id: "T-92b",
        fault: "The whole data folder is that of an older moment",
        how: "copied, 200 heights later put back",
        must: "catches up, signs no second vote, signs again; S",
        run: |lab| Box::pin(older_copy(lab)),
    },
    Row {
        id: "T-93",
        fault: "The signing state is deleted, empty, zero, garbage or older; journal and watermark both gone",
        how: "each edit on a stopped node",
        must: "refuses, or signs nothing until the chain has passed what may have been signed; then signs; S",
        run: |lab| Box::pin(signing_state(lab)),
    },
];

/// A network, and what node 3 has after kill -9, aside in `base`.
async fn killed(lab: &mut Lab) -> anyhow::Result<()> {
    lab.up(lab.layout(4)).await?;
    lab.load(100, &[0, 1])?;
    lab.grow(&ALL, 30, SOON).await?;
    lab.signal(3, Signal::SIGKILL).await?;
    copy(&lab.data(3)?, &lab.dir().join("base"))?;
    lab.end_load().await?;
    Ok(())
}

/// Puts `base` back as node 3's data.
fn restore(lab: &Lab) -> anyhow::Result<()> {
    copy(&lab.dir().join("base"), &lab.data(3)?)
}

/// Where the last record of RocksDB's log begins.
fn last_record(log: &[u8]) -> usize {
    let (mut at, mut last) = (0, 0);
    while let Some(&[.., low, high, kind]) = log.get(at..at + HEADER_BYTES) {
        let left = BLOCK_BYTES - at % BLOCK_BYTES;
        if left < HEADER_BYTES {
            at += left;
            continue;
        }
        // Full or first: here a record begins.
        if kind == 1 || kind == 2 {
            last = at;
        }
        at += HEADER_BYTES + usize::from(u16::from_le_bytes([low, high]));
    }
    last
}

async fn torn(lab: &mut Lab) -> Seen {
    killed(lab).await?;
    let log = log_file(&lab.dir().join("base/journal"))?;
    let bytes = fs::read(&log)?;
    let (last, end) = (last_record(&bytes), bytes.len());
    ensure!(last + 12 < end, "the last record has {} bytes", end - last);
    let mut cuts: Vec<usize> = (last..last + 10).chain([end - 1]).collect();
    cuts.extend((0..CUTS).map(|_| lab.random.random_range(last..end)));
    for cut in &cuts {
        restore(lab)?;
        let file =
            fs::File::options().write(true).open(log_file(&lab.data(3)?.join("journal"))?)?;
        file.set_len(u64::try_from(*cut)?)?;
        lab.back(3).await.with_context(|| format!("cut at {cut} of {end}"))?;
        lab.signal(3, Signal::SIGKILL).await?;
    }
    lab.back(3).await?;
    // The last copy may have been told of what a run before it signed.
    signs_later(lab).await?;
    let audit = lab.sound(&ALL).await?;
    Ok(format!("{} cuts of a record of {} bytes; {audit}", cuts.len(), end - last))
}

/// Changes a byte of a file.
fn flip(path: &Path, at: usize, mask: u8) -> anyhow::Result<()> {
    let mut bytes = fs::read(path)?;
    *bytes.get_mut(at).context("inside of the file")? ^= mask;
    Ok(fs::write(path, bytes)?)
}

async fn flipped(lab: &mut Lab) -> Seen {
    killed(lab).await?;
    let last = last_record(&fs::read(log_file(&lab.dir().join("base/journal"))?)?);
    let mut why = String::new();
    for _ in 0..FLIPS {
        restore(lab)?;
        let log = log_file(&lab.data(3)?.join("journal"))?;
        let (at, bit) = (lab.random.random_range(0..last), lab.random.random_range(0..8u8));
        flip(&log, at, 1 << bit)?;
        why = lab.refused(3, JOURNAL).await.with_context(|| format!("bit {bit} of byte {at}"))?;
    }
    fs::remove_dir_all(lab.data(3)?.join("journal"))?;
    lab.back(3).await?;
    lab.holds_back(3, STALE).await?;
    let passed = signs_later(lab).await?;
    let audit = lab.sound(&ALL).await?;
    Ok(format!(
        "{FLIPS} times `{why}`; without the journal it holds, and signs again at height {passed}; {audit}"
    ))
}

/// Lets the chain pass the reservation, and waits until node 3 signs again: the height then.
async fn signs_later(lab: &mut Lab) -> anyhow::Result<u64> {
    lab.load(100, &[0, 1])?;
    lab.until(3, "signing", |state| state["hold"].is_null()).await?;
    lab.end_load().await?;
    lab.is_in_commits(3, 0).await?;
    Ok(lab.tip(&[0]).await)
}

/// What node 3 did with damaged tables.
async fn with_damage(lab: &mut Lab, top: u64) -> anyhow::Result<&'static str> {
    lab.restart(3)?;
    let start = Instant::now();
    while lab.height(3).await.is_none() {
        if !lab.runs(3)? {
            lab.ended_with(3, CHAIN).await?;
            return Ok("refused");
        }
        if start.elapsed() > SILENT {
            lab.signal(3, Signal::SIGKILL).await?;
            return Ok("errors");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut errors = 0;
    for height in 1..=top {
        for method in ["block", "commit", "block_results", "validators"] {
            let params = json!({"height": height.to_string()});
            let ours: Result<Value, _> =
                Rpc::new(&lab.node(3)?.rpc).call(method, params.clone()).await;
            match ours {
                Ok(ours) => {
                    let right: Value = Rpc::new(&lab.node(0)?.rpc).call(method, params).await?;
                    ensure!(ours == right, "another {method} of height {height}: {ours}");
                }
                Err(_) => errors += 1,
            }
        }
    }
    if !lab.runs(3)? {
        lab.ended_with(3, CHAIN).await?;
        return Ok("ended");
    }
    lab.signal(3, Signal::SIGKILL).await?;
    Ok(if errors > 0 { "errors" } else { "unharmed" })
}

async fn tables(lab: &mut Lab) -> Seen {
    lab.up(lab.layout(4)).await?;
    lab.load(100, &[0, 1])?;
    lab.grow(&ALL, 20, SOON).await?;
    lab.end_load().await?;
    // A start writes the logs into tables.
    lab.stop(3, SOON).await?;
    lab.back(3).await?;
    lab.stop(3, SOON).await?;
    copy(&lab.data(3)?, &lab.dir().join("base"))?;
    let top = lab.tip(&[0]).await.min(20);
    let mut outcomes = std::collections::BTreeMap::<&str, usize>::new();
    let names = files(&lab.dir().join("base/chain"), ".sst")?;
    for name in &names {
        restore(lab)?;
        let path = lab.data(3)?.join("chain").join(name.file_name().context("a name")?);
        let length = usize::try_from(fs::metadata(&path)?.len())?;
        flip(&path, lab.random.random_range(0..length), 0xff)?;
        *outcomes.entry(with_damage(lab, top).await?).or_default() += 1;
    }
    restore(lab)?;
    let gone = lab.random.random_range(0..names.len());
    let gone = names.get(gone).and_then(|path| path.file_name()).context("a table")?;
    fs::remove_file(lab.data(3)?.join("chain").join(gone))?;
    let why = lab.refused(3, CHAIN).await?;
    let (binary, home) = (lab.net()?.binary, lab.node(3)?.home);
    let reset = Command::new(binary).arg("reset").arg("--home").arg(home).output()?;
    ensure!(reset.status.success(), "{}", String::from_utf8_lossy(&reset.stderr));
    let back = lab.back(3).await?;
    let passed = signs_later(lab).await?;
    let audit = lab.sound(&ALL).await?;
    Ok(format!(
        "{} tables with a changed byte: {outcomes:?}; one deleted: `{why}`; after the reset at the tip in {} ms, signs at height {passed}; {audit}",
        names.len(),
        back.as_millis()
    ))
}

async fn no_current(lab: &mut Lab) -> Seen {
    killed(lab).await?;
    let mut lines = Vec::new();
    for (folder, words) in
        [("journal", JOURNAL), ("chain", CHAIN), ("kvstore.db", &["remove the folder"])]
    {
        for part in ["CURRENT", "MANIFEST"] {
            restore(lab)?;
            for file in files(&lab.data(3)?.join(folder), part)? {
                fs::remove_file(file)?;
            }
            let why =
                lab.refused(3, words).await.with_context(|| format!("{folder} without {part}"))?;
            if part == "CURRENT" {
                lines.push(why);
            }
        }
    }
    restore(lab)?;
    lab.back(3).await?;
    lab.is_in_commits(3, 0).await?;
    let audit = lab.sound(&ALL).await?;
    Ok(format!("`{}`; {audit}", lines.join("`; `")))
}

async fn older_copy(lab: &mut Lab) -> Seen {
    killed(lab).await?;
    let old = lab.tip(&[0]).await;
    lab.back(3).await?;
    lab.load(100, &[0, 1])?;
    lab.reach(&ALL, old + 200, 3 * SOON).await?;
    lab.signal(3, Signal::SIGKILL).await?;
    restore(lab)?;
    let back = lab.back(3).await?;
    lab.end_load().await?;
    let passed = signs_later(lab).await?;
    let audit = lab.sound(&ALL).await?;
    let back = back.as_millis();
    Ok(format!("200 heights later at the tip in {back} ms, signs at height {passed}; {audit}"))
}

async fn signing_state(lab: &mut Lab) -> Seen {
    lab.up(lab.layout(4)).await?;
    lab.stop(3, SOON).await?;
    copy(&lab.data(3)?, &lab.dir().join("early"))?;
    lab.back(3).await?;
    lab.load(100, &[0, 1])?;
    // More than two steps of reservations.
    lab.grow(&ALL, 150, 2 * SOON).await?;
    lab.signal(3, Signal::SIGKILL).await?;
    copy(&lab.data(3)?, &lab.dir().join("base"))?;
    lab.end_load().await?;
    let file = lab.data(3)?.join("priv_validator_state.json");
    let mut seen = Vec::new();
    for (name, text) in
        [("empty", ""), ("zero bytes", "\0\0\0\0"), ("garbage", "{\"height\":\"x\"}")]
    {
        restore(lab)?;
        fs::write(&file, text)?;
        let why = lab.refused(3, &["remove it and keep data/journal"]).await.context(name)?;
        seen.push(format!("{name}: `{why}`"));
    }
    let old = lab.dir().join("early");
    let (early_file, early_journal) = (old.join("priv_validator_state.json"), old.join("journal"));
    for name in ["deleted", "height 0", "older watermark", "older journal", "journal deleted"] {
        restore(lab)?;
        let journal = lab.data(3)?.join("journal");
        match name {
            "deleted" => fs::remove_file(&file)?,
            "height 0" => fs::write(&file, "{\"height\":\"0\",\"round\":0,\"step\":0}")?,
            "older watermark" => drop(fs::copy(&early_file, &file)?),
            "older journal" => copy(&early_journal, &journal)?,
            _ => fs::remove_dir_all(&journal)?,
        }
        lab.back(3).await.context(name)?;
        lab.holds_back(3, STALE).await.context(name)?;
        lab.signal(3, Signal::SIGKILL).await?;
        seen.push(format!("{name}: holds"));
    }
    lab.back(3).await?;
    let passed = signs_later(lab).await?;
    lab.signal(3, Signal::SIGKILL).await?;
    // Nothing is left that knows: what the peers show of the key counts.
    fs::remove_dir_all(lab.data(3)?.join("journal"))?;
    fs::remove_file(&file)?;
    lab.back(3).await?;
    signs_later(lab).await?;
    let audit = lab.sound(&ALL).await?;
    Ok(format!(
        "{}; signs at height {passed}; both gone: signs after its peers told; {audit}",
        seen.join("; ")
    ))
}
