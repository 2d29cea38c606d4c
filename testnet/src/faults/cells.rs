//! The crash cell table: application, chain, journal and watermark of three moments in every combination.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{bail, ensure};
use nix::sys::signal::Signal;
use rand::Rng;

use super::lab::Lab;
use super::machine::{SOON, copy, log_file};
use super::{Row, Seen};

const ALL: [usize; 4] = [0, 1, 2, 3];
/// The parts of a home, which one moment after the other leaves on the disk.
const PARTS: [&str; 4] = ["kvstore.db", "chain", "journal", "priv_validator_state.json"];
/// Signing is reserved up to this height at first.
const FIRST_STEP: u64 = 64;
/// How far a node may be behind in a cell.
const CELL: Duration = Duration::from_secs(20);
/// Ends of the chain's log that are cut off.
const CUTS: usize = 16;

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "T-31a",
        fault: "Application, chain, journal and watermark of different moments",
        how: "one of four frozen at heights 63, 64, 65, where a signing reservation ends, and copied; started with all 81 combinations",
        must: "each goes on, signs nothing until the reservation has passed, or refuses with a remedy; S",
        run: |lab| Box::pin(cells(lab)),
    },
    Row {
        id: "T-31b",
        fault: "The chain's log lacks its end: the block without its state, or neither",
        how: "16 seeded cuts, of at most 2 bytes, 4 bytes and so on up to 64 KiB, each with the application of the same moment and one two blocks older",
        must: "as T-31a",
        run: |lab| Box::pin(cut_chain(lab)),
    },
];

/// How a node with parts of different moments went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Went {
    /// It caught up and may sign.
    On,
    /// It caught up and signs nothing until the chain has passed the reservation.
    Held,
    /// The same, because a peer shows what this key signed in the run before.
    Shown,
    /// It ended with a remedy.
    Refused,
}

async fn cells(lab: &mut Lab) -> Seen {
    lab.up(lab.layout(4)).await?;
    // Fast to where the reservation ends, then a block a second.
    let mut sent = 0;
    while lab.tip(&[3]).await < FIRST_STEP - 7 {
        lab.send(0, &format!("step{sent}"), 1).await?;
        sent += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let first = FIRST_STEP - 1;
    ensure!(lab.tip(&[3]).await < first, "the transactions led beyond height {first}");
    let moments = take_moments(lab, first).await?;
    lab.signal(3, Signal::SIGKILL).await?;
    let mut counts = BTreeMap::<Went, usize>::new();
    let mut line = String::new();
    for cell in 0..81usize {
        let digits = [cell / 27 % 3, cell / 9 % 3, cell / 3 % 3, cell % 3];
        let data = lab.data(3)?;
        for (part, moment) in PARTS.iter().zip(digits) {
            let from = lab.dir().join(format!("moment{moment}")).join(part);
            match from.is_dir() {
                true => copy(&from, &data.join(part))?,
                false => drop(fs::copy(&from, data.join(part))?),
            }
        }
        let (went, why) = go(lab).await?;
        let expected = expected(digits, &moments);
        let name = digits.map(|digit| moments.get(digit).map_or(0, |m| m.height));
        ensure!(
            went == expected,
            "application, chain, journal, watermark of {name:?}: {went:?}, not {expected:?}: {why}"
        );
        *counts.entry(went).or_default() += 1;
        if went == Went::Refused {
            line = why;
        }
    }
    lab.back(3).await?;
    let audit = lab.sound(&ALL).await?;
    let count = |went| counts.get(&went).copied().unwrap_or(0);
    Ok(format!(
        "heights {:?}; {} go on, {} hold as a peer shows a later signature, {} hold (watermark of a later step than the journal), {} refuse (application after the chain): `{line}`; {audit}",
        moments.iter().map(|moment| moment.height).collect::<Vec<_>>(),
        count(Went::On),
        count(Went::Shown),
        count(Went::Held),
        count(Went::Refused),
    ))
}

/// What a copy of the data holds.
struct Moment {
    height: u64,
    reserved: u64,
}

/// Copies of node 3's data at three heights, the first of them `first`.
async fn take_moments(lab: &Lab, first: u64) -> anyhow::Result<Vec<Moment>> {
    let mut moments = Vec::new();
    for number in 0..3u64 {
        lab.reach(&[3], first + number, SOON).await?;
        // Two syncs of the next height may be under way: any of them is a crash.
        if number == 2 {
            wait_for_step(lab).await?;
        }
        let height = lab.height(3).await.unwrap_or(0);
        lab.signal(3, Signal::SIGSTOP).await?;
        let to = lab.dir().join(format!("moment{number}"));
        let copied = copy(&lab.data(3)?, &to);
        lab.signal(3, Signal::SIGCONT).await?;
        copied?;
        moments.push(Moment { height, reserved: watermark(&to)? });
    }
    ensure!(
        moments.windows(2).all(|pair| matches!(pair, [a, b] if a.height < b.height)),
        "the moments are not one after the other"
    );
    Ok(moments)
}

/// Waits until signing is reserved beyond the first step.
async fn wait_for_step(lab: &Lab) -> anyhow::Result<()> {
    while watermark(&lab.data(3)?)? <= FIRST_STEP {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn watermark(data: &Path) -> anyhow::Result<u64> {
    let text = fs::read(data.join("priv_validator_state.json"))?;
    let value: serde_json::Value = serde_json::from_slice(&text)?;
    Ok(value["height"].as_str().unwrap_or_default().parse()?)
}

/// What docs/operator.md says of the combination.
fn expected([app, chain, journal, file]: [usize; 4], moments: &[Moment]) -> Went {
    let reserved = |moment: usize| moments.get(moment).map_or(0, |moment| moment.reserved);
    if app > chain {
        Went::Refused
    } else if reserved(file) > reserved(journal) {
        Went::Held
    } else {
        Went::On
    }
}

/// Starts node 3 and kills it once it is clear how it goes on; the line where it refused.
async fn go(lab: &mut Lab) -> anyhow::Result<(Went, String)> {
    lab.restart(3)?;
    let goal = lab.tip(&[0]).await;
    let start = std::time::Instant::now();
    loop {
        if !lab.runs(3)? {
            let why = lab.ended_with(3, &["restore", "reset", "remove"]).await?;
            return Ok((Went::Refused, why));
        }
        let hold = lab.pbft(3).await.ok().map(|state| state["hold"].as_str().map(str::to_owned));
        let caught_up = lab.height(3).await.unwrap_or(0) >= goal;
        let went = match hold {
            Some(None) if caught_up => Some(Went::On),
            Some(Some(hold)) if caught_up && hold.contains("older") => Some(held(lab)?),
            _ => None,
        };
        if let Some(went) = went {
            lab.signal(3, Signal::SIGKILL).await?;
            return Ok((went, String::new()));
        }
        if start.elapsed() > CELL {
            bail!("node3 is neither at {goal} nor ended within 20 s: {}", lab.last_lines(3)?);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Why node 3 signs nothing.
fn held(lab: &Lab) -> anyhow::Result<Went> {
    let log = lab.log(3)?;
    let run = log.rsplit("local_peer_id=").next().unwrap_or_default();
    Ok(if run.contains("a peer shows a signature") { Went::Shown } else { Went::Held })
}

async fn cut_chain(lab: &mut Lab) -> Seen {
    lab.up(lab.layout(4)).await?;
    lab.load(50, &[0, 1])?;
    lab.grow(&ALL, 20, SOON).await?;
    lab.end_load().await?;
    for name in ["old", "new"] {
        lab.grow(&ALL, 2, SOON).await?;
        lab.signal(3, Signal::SIGSTOP).await?;
        let copied = copy(&lab.data(3)?, &lab.dir().join(name));
        lab.signal(3, Signal::SIGCONT).await?;
        copied?;
    }
    lab.signal(3, Signal::SIGKILL).await?;
    let mut counts = BTreeMap::<Went, usize>::new();
    let mut line = String::new();
    for (cut, older) in (0..CUTS).flat_map(|cut| [(cut, false), (cut, true)]) {
        let data = lab.data(3)?;
        copy(&lab.dir().join("new"), &data)?;
        if older {
            copy(&lab.dir().join("old/kvstore.db"), &data.join("kvstore.db"))?;
        }
        let log = log_file(&data.join("chain"))?;
        let length = fs::metadata(&log)?.len();
        let less = lab.random.random_range(1..=(2 << cut).min(length - 1));
        fs::OpenOptions::new().write(true).open(&log)?.set_len(length - less)?;
        let (went, why) = go(lab).await?;
        ensure!(went != Went::Held, "held though journal and watermark agree");
        *counts.entry(went).or_default() += 1;
        if went == Went::Refused {
            line = why;
        }
    }
    copy(&lab.dir().join("new"), &lab.data(3)?)?;
    lab.back(3).await?;
    let audit = lab.sound(&ALL).await?;
    let count = |went| counts.get(&went).copied().unwrap_or(0);
    let (on, refused) = (count(Went::On) + count(Went::Shown), count(Went::Refused));
    ensure!(on > 0 && refused > 0, "{on} go on, {refused} refuse: the cuts are not of every kind");
    Ok(format!("{on} go on, {refused} refuse (application after the chain): `{line}`; {audit}"))
}
