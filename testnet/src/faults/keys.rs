//! One validator key in two places.

use std::fs;

use super::lab::Lab;
use super::machine::SOON;
use super::{Row, Seen};

const ALL: [usize; 5] = [0, 1, 2, 3, 4];

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "T-57a",
        fault: "Two connected nodes with one validator key",
        how: "a full node gets the key of a validator that runs",
        must: "both say so and sign nothing; the others go on; S; with the copy gone, the first signs again after a restart",
        run: |lab| Box::pin(connected(lab)),
    },
    Row {
        id: "T-57b",
        fault: "Two nodes with one validator key that are not connected",
        how: "as T-57a, the two do not know each other; the copy has no journal; load",
        must: "no two signatures for one height and view; S",
        run: |lab| Box::pin(apart(lab)),
    },
];

/// Gives node 4, which is down, the key of node 3.
fn copy_key(lab: &Lab) -> anyhow::Result<()> {
    let file = "config/priv_validator_key.json";
    fs::copy(lab.node(3)?.home.join(file), lab.node(4)?.home.join(file))?;
    Ok(())
}

async fn connected(lab: &mut Lab) -> Seen {
    let layout = crate::layout::Layout { full_nodes: 1, ..lab.layout(4) };
    lab.up(layout).await?;
    lab.stop(4, SOON).await?;
    copy_key(lab)?;
    let before = lab.state(0).await?.height;
    lab.restart(4)?;
    for index in [3, 4] {
        lab.holds_back(index, "another node holds this validator key").await?;
    }
    let after = lab.state(0).await?.height;
    lab.grow(&ALL, 3, SOON).await?;
    lab.stop(4, SOON).await?;
    lab.stop(3, SOON).await?;
    lab.back(3).await?;
    lab.is_in_commits(3, 0).await?;
    let audit = lab.sound(&[0, 1, 2, 3]).await?;
    Ok(format!("both hold after {} blocks; {audit}", after - before))
}

async fn apart(lab: &mut Lab) -> Seen {
    let layout = crate::layout::Layout { full_nodes: 1, ..lab.layout(4) };
    lab.up(layout).await?;
    lab.load(100, &[0, 1])?;
    for index in [3, 4] {
        lab.stop(index, SOON).await?;
    }
    copy_key(lab)?;
    for (index, other) in [(3, 4), (4, 3)] {
        forget_peer(lab, index, other)?;
    }
    lab.back(3).await?;
    lab.is_in_commits(3, 0).await?;
    lab.restart(4)?;
    lab.reach(&[4], lab.tip(&[0]).await, SOON).await?;
    lab.grow(&[0, 1, 2], 200, 3 * SOON).await?;
    let mut holds = Vec::new();
    for index in [3, 4] {
        let hold = lab.pbft(index).await?["hold"].as_str().map(str::to_owned);
        holds.push(format!(
            "node{index} {}",
            hold.map_or("signs".to_owned(), |hold| format!("holds: {hold}"))
        ));
    }
    lab.end_load().await?;
    let audit = lab.sound(&ALL).await?;
    Ok(format!("after 200 heights {}; {audit}", holds.join(", ")))
}

/// Takes a peer out of a node's configuration, and refuses it.
fn forget_peer(lab: &Lab, index: usize, other: usize) -> anyhow::Result<()> {
    let path = lab.node(index)?.home.join("config/config.toml");
    let peer = lab.node(other)?.p2p;
    let text = fs::read_to_string(&path)?;
    let text = text.replace(&format!("{peer},"), "").replace(&format!(",{peer}"), "");
    fs::write(&path, text)?;
    Ok(())
}
