//! Bad links: loss, delay, little bandwidth, connections that break, addresses that change.

use std::time::Duration;

use anyhow::ensure;
use nix::sys::signal::Signal;
use rand::Rng;

use super::lab::Lab;
use super::netfilter::Netfilter;
use super::{NotHere, Row, Seen, liars};
use crate::proxy::now_ms;
use crate::rpc::Rpc;

/// Blocks must come again within this after the network is whole.
const HEALED_WITHIN: Duration = Duration::from_secs(30);
/// How long throughput is measured.
const SPAN: Duration = Duration::from_secs(10);
/// Bytes a second of 256 kbit/s.
const SLOW: u32 = 32_000;
/// All nodes of four.
const ALL: [usize; 4] = [0, 1, 2, 3];
/// Files that a process may have open more than before.
const FILES_MORE: usize = 10;
/// Memory that it may have more.
const MEMORY_MORE: u64 = 64 * 1024 * 1024;

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "T-104a",
        fault: "1 % of all packets lost",
        how: "nftables on the peers' ports, 10 s under 500 transactions a second",
        must: "at least 250 transactions a second in blocks; S; L",
        run: |lab| Box::pin(loss(lab, 10, 250)),
    },
    Row {
        id: "T-104b",
        fault: "5 % of all packets lost",
        how: "as T-104a",
        must: "transactions in blocks; S; L",
        run: |lab| Box::pin(loss(lab, 50, 1)),
    },
    Row {
        id: "T-104c",
        fault: "20 % of all packets lost",
        how: "as T-104a",
        must: "transactions in blocks; S; L within 30 s of the healing",
        run: |lab| Box::pin(loss(lab, 200, 1)),
    },
    Row {
        id: "T-104d",
        fault: "50 to 300 ms on every link, changing all the time",
        how: "proxy, 20 s under 100 transactions a second",
        must: "transactions in blocks; S; L",
        run: |lab| Box::pin(jitter(lab)),
    },
    Row {
        id: "T-104e",
        fault: "Messages doubled and reordered",
        how: "simulator (TCP hides both from a process): 100 of 1,000 doubled, 100 late by up to ten times",
        must: "S; L",
        run: |_| Box::pin(async { liars::simulated(&["doubled-and-reordered"]) }),
    },
    Row {
        id: "T-105a",
        fault: "256 kbit/s for one replica",
        how: "proxy, 20 s under 200 transactions a second, on a validator that is not primary when it begins",
        must: "the others commit 80 % of the load at least; S; L within 30 s of the healing",
        run: |lab| Box::pin(slow(lab, false)),
    },
    Row {
        id: "T-105b",
        fault: "256 kbit/s for the primary",
        how: "as T-105a, on the primary",
        must: "transactions in blocks; S; L within 30 s of the healing",
        run: |lab| Box::pin(slow(lab, true)),
    },
    Row {
        id: "T-106",
        fault: "One node isolated for 60 s at full load",
        how: "proxy, under 1,000 transactions a second to the others (60 s, not 10 min)",
        must: "it has what it missed within 60 s, votes afterwards; S",
        run: |lab| Box::pin(isolated(lab)),
    },
    Row {
        id: "T-107",
        fault: "Connections that break every second for 60 s",
        how: "proxy: each second all connections of a random node reset and its dials refused (60 s, not 10 min), under 50 transactions a second",
        must: "blocks all the time; at most 10 files and 64 MiB more than before in each process; S; L",
        run: |lab| Box::pin(flaps(lab)),
    },
    Row {
        id: "T-108a",
        fault: "The address of a node changes",
        how: "one node stopped and started on another port; the others know the old one only",
        must: "connected to all others and signing within 30 s; S",
        run: |lab| Box::pin(moved(lab)),
    },
    Row {
        id: "T-108b",
        fault: "IPv6 only",
        how: "all nodes listen on [::1] and dial each other there; connections cut by a restart of one",
        must: "S; L; reconnected within 30 s",
        run: |lab| Box::pin(ipv6(lab)),
    },
    Row {
        id: "T-109a",
        fault: "Segments of 536 bytes at most (MTU 576)",
        how: "nftables: the maximum segment size in every SYN, before the nodes connect; 10 s under 500 transactions a second",
        must: "at least 250 transactions a second in blocks; S; L",
        run: |lab| Box::pin(small_segments(lab)),
    },
    Row {
        id: "T-109b",
        fault: "Packets above 1,280 bytes vanish (MTU black hole)",
        how: "nftables on the peers' ports, 15 s under 100 transactions a second",
        must: "S; L within 30 s of the healing",
        run: |lab| Box::pin(black_hole(lab)),
    },
];

async fn loss(lab: &mut Lab, permille: u32, least: u64) -> Seen {
    lab.up(lab.layout(4)).await?;
    lab.load(500, &ALL)?;
    lab.grow(&ALL, 20, HEALED_WITHIN).await?;
    let filter = Netfilter::start(lab, &format!("numgen random mod 1000 < {permille} drop"))?;
    let rate = lab.rate(0, SPAN).await?;
    drop(filter);
    ensure!(rate >= least, "{rate} transactions a second, not {least}");
    let took = lab.grow(&ALL, 5, HEALED_WITHIN).await?.as_millis();
    lab.end_load().await?;
    let audit = lab.audit(&ALL).await?;
    Ok(format!("{rate} transactions a second; five heights {took} ms after the healing; {audit}"))
}

async fn jitter(lab: &mut Lab) -> Seen {
    lab.up_proxied(4).await?;
    lab.load(100, &ALL)?;
    lab.grow(&ALL, 5, HEALED_WITHIN).await?;
    lab.links(|rules| rules.between(&ALL, &ALL, |flow| flow.delay_ms = (50, 300)))?;
    let before = lab.tip(&ALL).await;
    let rate = lab.rate(0, SPAN * 2).await?;
    let blocks = lab.tip(&ALL).await - before;
    ensure!(rate > 0, "no transaction in a block for 20 s");
    lab.links(|_| {})?;
    lab.grow(&ALL, 5, HEALED_WITHIN).await?;
    lab.end_load().await?;
    let audit = lab.audit(&ALL).await?;
    Ok(format!("{rate} transactions a second, {blocks} blocks in 20 s; {audit}"))
}

async fn slow(lab: &mut Lab, primary: bool) -> Seen {
    lab.up_proxied(4).await?;
    lab.load(200, &ALL)?;
    lab.grow(&ALL, 20, HEALED_WITHIN).await?;
    let at = lab.primary(0).await?;
    let one = if primary { at } else { (at + 2) % 4 };
    let others: Vec<usize> = ALL.into_iter().filter(|other| *other != one).collect();
    let (asked, view) = (others[0], lab.state(others[0]).await?.view);
    lab.links(|rules| {
        rules.between(&[one], &others, |flow| flow.bytes_per_second = SLOW / 3);
    })?;
    let rate = lab.rate(asked, SPAN * 2).await?;
    let changes = lab.state(asked).await?.view.saturating_sub(view);
    let behind = lab.tip(&others).await.saturating_sub(lab.tip(&[one]).await);
    ensure!(rate >= if primary { 1 } else { 160 }, "{rate} transactions a second");
    lab.links(|_| {})?;
    let took = lab.grow(&ALL, 5, HEALED_WITHIN).await?.as_millis();
    lab.end_load().await?;
    let audit = lab.audit(&ALL).await?;
    Ok(format!(
        "{rate} transactions a second at the others, {changes} view changes, the slow one {behind} heights behind at the end; five heights \
         everywhere {took} ms after; {audit}"
    ))
}

async fn isolated(lab: &mut Lab) -> Seen {
    lab.up_proxied(4).await?;
    lab.load(1_000, &ALL[..3])?;
    lab.grow(&ALL, 20, HEALED_WITHIN).await?;
    lab.links(|rules| rules.between(&[3], &ALL, |flow| flow.cut = true))?;
    lab.still(&[3], Duration::from_secs(60)).await?;
    let missed = lab.tip(&ALL[..3]).await - lab.tip(&[3]).await;
    let goal = lab.tip(&ALL[..3]).await;
    ensure!(missed >= 5, "only {missed} heights while it was away");
    lab.links(|_| {})?;
    let took = lab.reach(&[3], goal, Duration::from_secs(60)).await?.as_millis();
    let signs = lab.signs(0, 3, HEALED_WITHIN).await?.as_millis();
    let report = lab.end_load().await?;
    let audit = lab.audit(&ALL).await?;
    let committed = report.committed;
    Ok(format!(
        "{missed} heights missed, there {took} ms after the healing, in commits {signs} ms after that; {committed} transactions; {audit}"
    ))
}

async fn flaps(lab: &mut Lab) -> Seen {
    lab.up_proxied(4).await?;
    lab.load(50, &ALL)?;
    lab.grow(&ALL, 20, HEALED_WITHIN).await?;
    let before = ALL.iter().map(|index| lab.held(*index)).collect::<anyhow::Result<Vec<_>>>()?;
    let (from, mut least) = (lab.tip(&ALL).await, u64::MAX);
    for _ in 0..12 {
        let height = lab.tip(&ALL).await;
        for _ in 0..5 {
            let one = lab.random.random_range(0..4);
            let now = now_ms();
            lab.links(|rules| {
                rules.between(&[one], &ALL, |flow| {
                    flow.reset_before = now;
                    flow.refuse = true;
                });
            })?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        least = least.min(lab.tip(&ALL).await - height);
    }
    ensure!(least > 0, "no block within five seconds");
    lab.links(|_| {})?;
    let blocks = lab.tip(&ALL).await - from;
    lab.grow(&ALL, 5, HEALED_WITHIN).await?;
    lab.end_load().await?;
    let (mut files, mut memory) = (0, 0);
    for (index, before) in ALL.iter().zip(before) {
        let now = lab.held(*index)?;
        files = files.max(now.files.saturating_sub(before.files));
        memory = memory.max(now.memory_bytes.saturating_sub(before.memory_bytes));
    }
    ensure!(files <= FILES_MORE, "{files} more files open than before");
    ensure!(memory <= MEMORY_MORE, "{memory} bytes of memory more than before");
    let audit = lab.audit(&ALL).await?;
    let memory = memory / 1024 / 1024;
    Ok(format!(
        "{blocks} blocks in 60 s, at least {least} in any five; at most {files} files and {memory} MiB more; {audit}"
    ))
}

/// Waits until a node has so many peers: how long it took.
async fn peers(lab: &Lab, index: usize, count: u64) -> anyhow::Result<Duration> {
    let start = std::time::Instant::now();
    let mut rpc = Rpc::new(&lab.node(index)?.rpc);
    while rpc.peers().await.unwrap_or(0) < count {
        ensure!(start.elapsed() < HEALED_WITHIN, "node{index} has not {count} peers within 30 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(start.elapsed())
}

async fn moved(lab: &mut Lab) -> Seen {
    lab.up(lab.layout(4)).await?;
    lab.load(100, &ALL[..3])?;
    lab.grow(&ALL, 5, HEALED_WITHIN).await?;
    lab.stop(3, Duration::from_secs(5)).await?;
    let node = lab.node(3)?;
    let path = node.home.join("config/config.toml");
    let port: u16 = node.p2p.rsplit_once(':').map_or("", |(_, port)| port).parse()?;
    let text = std::fs::read_to_string(&path)?;
    let fresh = text.replace(&format!(":{port}\""), &format!(":{}\"", port + 5));
    ensure!(fresh != text, "its configuration does not name its port");
    std::fs::write(&path, fresh)?;
    lab.restart(3)?;
    let took = peers(lab, 3, 3).await?.as_millis();
    let signs = lab.signs(0, 3, HEALED_WITHIN).await?.as_millis();
    lab.end_load().await?;
    let audit = lab.audit(&ALL).await?;
    Ok(format!("connected {took} ms after the start, in commits {signs} ms after that; {audit}"))
}

async fn ipv6(lab: &mut Lab) -> Seen {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return Err(NotHere::Needs("IPv6 on the loopback".to_owned()).into());
    }
    let layout = lab.layout(4);
    let edit = |_, text: String| {
        let (rpc, p2p) =
            text.split_once("[rpc]").map_or(("", text.as_str()), |(p2p, rpc)| (rpc, p2p));
        format!("{}[rpc]{rpc}", p2p.replace("127.0.0.1", "[::1]"))
    };
    lab.up_edited(layout, edit).await?;
    lab.load(100, &ALL[..3])?;
    lab.grow(&ALL, 5, HEALED_WITHIN).await?;
    lab.signal(3, Signal::SIGKILL).await?;
    lab.restart(3)?;
    let took = peers(lab, 3, 3).await?.as_millis();
    let signs = lab.signs(0, 3, HEALED_WITHIN).await?.as_millis();
    lab.end_load().await?;
    let audit = lab.audit(&ALL).await?;
    Ok(format!("reconnected {took} ms after the start, in commits {signs} ms after that; {audit}"))
}

async fn small_segments(lab: &mut Lab) -> Seen {
    lab.up(lab.layout(4)).await?;
    let filter = Netfilter::start(lab, "tcp flags syn tcp option maxseg size set 536")?;
    // Connections from before have large segments.
    for index in ALL {
        lab.stop(index, Duration::from_secs(5)).await?;
    }
    for index in ALL {
        lab.restart(index)?;
    }
    lab.reach(&ALL, 1, HEALED_WITHIN).await?;
    lab.load(500, &ALL)?;
    lab.grow(&ALL, 20, HEALED_WITHIN).await?;
    let rate = lab.rate(0, SPAN).await?;
    drop(filter);
    ensure!(rate >= 250, "{rate} transactions a second");
    lab.end_load().await?;
    let audit = lab.audit(&ALL).await?;
    Ok(format!("{rate} transactions a second; {audit}"))
}

async fn black_hole(lab: &mut Lab) -> Seen {
    lab.up(lab.layout(4)).await?;
    lab.load(100, &ALL)?;
    lab.grow(&ALL, 5, HEALED_WITHIN).await?;
    let before = lab.tip(&ALL).await;
    let filter = Netfilter::start(lab, "meta length > 1280 drop")?;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let blocks = lab.tip(&ALL).await - before;
    drop(filter);
    let took = lab.grow(&ALL, 5, HEALED_WITHIN).await?.as_millis();
    lab.end_load().await?;
    let audit = lab.audit(&ALL).await?;
    Ok(format!(
        "{blocks} heights meanwhile, five more everywhere {took} ms after the healing; {audit}"
    ))
}
