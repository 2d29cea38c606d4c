//! Configuration, genesis and data that do not belong together.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::lab::Lab;
use super::machine::SOON;
use super::{Row, Seen};
use crate::rpc::Rpc;

const ALL: [usize; 4] = [0, 1, 2, 3];

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "T-190a",
        fault: "Garbage for a configuration, another genesis, data of another version",
        how: "each edit of a file of a stopped node, one at a time; data/ compared before and after",
        must: "refuses with the reason; no block, vote or watermark touched; with the right file it goes on; S",
        run: |lab| Box::pin(garbage(lab)),
    },
    Row {
        id: "T-190b",
        fault: "Peers of another chain",
        how: "an empty home with another chain id dials a running network",
        must: "refused by both sides with the reason; the network goes on; S",
        run: |lab| Box::pin(other_chain(lab)),
    },
];

/// What is changed: the file, the text that stands there or nothing for all of it, what stands there then, and words of the reason.
const EDITS: &[(&str, &str, &str, &str)] = &[
    ("config/config.toml", "", "\u{1}\u{2} = [", "config.toml line 1"),
    ("config/config.toml", "proxy_app", "proxi_app", "did you mean \"proxy_app\"?"),
    ("config/config.toml", "persistent_kvstore", "postgres", "is not \"kvstore\""),
    ("config/config.toml", "127.0.0.1", "127.0.0.1.1", "laddr"),
    ("config/genesis.json", "", "{}", "chain_id is missing"),
    ("config/genesis.json", "testnet-", "another-", "a chain of another genesis"),
    ("config/genesis.json", "\"10\"", "\"11\"", "a chain of another genesis"),
    ("config/node_key.json", "", "{}", "node_key.json"),
    ("config/priv_validator_key.json", "", "{}", "priv_validator_key.json"),
    ("data/journal/FORMAT", "1", "2", "use the version that wrote it"),
    ("data/chain/FORMAT", "1", "0", "use the version that wrote it"),
];

/// What a chain and its validator cannot do without, by file: RocksDB writes new files at each start, but never these again.
fn contents(data: &Path) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for folder in
        [data.to_owned(), data.join("journal"), data.join("chain"), data.join("kvstore.db")]
    {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let kept = path
                .extension()
                .is_some_and(|kind| ["sst", "blob", "json"].iter().any(|k| kind == *k));
            if kept {
                found.insert(path.clone(), fs::read(&path)?);
            }
        }
    }
    Ok(found)
}

async fn garbage(lab: &mut Lab) -> Seen {
    lab.up(lab.layout(4)).await?;
    lab.stop(3, SOON).await?;
    lab.back(3).await?;
    lab.stop(3, SOON).await?;
    let (home, before) = (lab.node(3)?.home, contents(&lab.data(3)?)?);
    let mut lines = Vec::new();
    for (file, from, to, words) in EDITS {
        let path = home.join(file);
        let good = fs::read_to_string(&path)?;
        ensure!(good.contains(from), "{file} has no {from}");
        fs::write(&path, if from.is_empty() { (*to).to_owned() } else { good.replace(from, to) })?;
        let why = lab.refused(3, &[words]).await.with_context(|| format!("{file}: {to:?}"))?;
        fs::write(&path, good)?;
        let after = contents(&lab.data(3)?)?;
        let changed = before.iter().find(|(path, bytes)| after.get(*path) != Some(bytes));
        ensure!(changed.is_none(), "{file}: {to:?} changed {changed:?}");
        lines.push(why);
    }
    lab.back(3).await?;
    lab.is_in_commits(3, 0).await?;
    let audit = lab.sound(&ALL).await?;
    let last = lines.last().cloned().unwrap_or_default();
    Ok(format!("{} refusals, such as `{last}`; {audit}", lines.len()))
}

async fn other_chain(lab: &mut Lab) -> Seen {
    let layout = crate::layout::Layout { full_nodes: 1, ..lab.layout(4) };
    lab.up(layout).await?;
    lab.stop(4, SOON).await?;
    let node = lab.node(4)?;
    fs::remove_dir_all(node.home.join("data"))?;
    let genesis = node.home.join("config/genesis.json");
    fs::write(&genesis, fs::read_to_string(&genesis)?.replace("testnet-", "another-"))?;
    lab.restart(4)?;
    let start = std::time::Instant::now();
    let said = |index: usize| -> anyhow::Result<Option<String>> {
        let log = lab.log(index)?;
        let line = log.lines().find(|line| line.contains("WARN refused peer"));
        Ok(line.and_then(|line| line.split_once("WARN ")).map(|(_, text)| text.to_owned()))
    };
    let (ours, theirs) = loop {
        if let (Some(ours), Some(theirs)) = (said(4)?, said(0)?) {
            break (ours, theirs);
        }
        ensure!(start.elapsed() < SOON, "no reason in the logs: {:?} {:?}", said(4)?, said(0)?);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    lab.grow(&ALL, 5, SOON).await?;
    let peers: Value = Rpc::new(&node.rpc).call("net_info", json!({})).await?;
    ensure!(peers["n_peers"] == "0", "it has peers: {peers}");
    let audit = lab.sound(&ALL).await?;
    let (ours, theirs) = (lab.short(&ours), lab.short(&theirs));
    Ok(format!("the stranger: `{ours}`; the network: `{theirs}`; {audit}"))
}
