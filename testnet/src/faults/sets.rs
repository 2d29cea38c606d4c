//! Applications that change the validator set at every height, and such that do not agree.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rand::Rng;
use serde_json::Value;

use super::lab::Lab;
use super::{Row, Seen, wrong_app};
use crate::layout::Layout;

/// All nodes of four.
const ALL: [usize; 4] = [0, 1, 2, 3];
/// What every wait may take.
const WITHIN: Duration = Duration::from_secs(30);
/// The most power that all validators together may have.
const POWER_MAX: u64 = i64::MAX.unsigned_abs() / 8;
/// Changes of powers, one after the other.
const CHANGES: u64 = 20;

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "T-131",
        fault: "The validator set changes all the time",
        how: "val= transactions: 20 powers at random, a fifth validator with half of the power joins, the primary leaves and returns, powers above \
              the limit, power 0 of nobody, two changes of one in one block",
        must: "what no set can take is refused; S; L; light client jumps over each change verify",
        run: |lab| Box::pin(sets(lab)),
    },
    Row {
        id: "T-133a",
        fault: "The application of one of four computes another hash",
        how: "the node runs with an application that diverges at one transaction",
        must: "that node ends with a reason that names the application hash; S; L of the others",
        run: |lab| Box::pin(one_diverges(lab)),
    },
    Row {
        id: "T-133b",
        fault: "The applications of two of four compute other hashes",
        how: "as T-133a, with two",
        must: "no block after the one that diverged; S; every log says why (`explain-divergence` is not there yet); at most 100 view changes in 10 s",
        run: |lab| Box::pin(two_diverge(lab)),
    },
];

/// The transaction that gives a node's key a power.
fn change(lab: &Lab, index: usize, power: u64) -> anyhow::Result<String> {
    let path = lab.node(index)?.home.join("config/priv_validator_key.json");
    let key: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let key = key["pub_key"]["value"].as_str().context("no public key")?.to_owned();
    Ok(format!("val=ed25519!{key}!{power}"))
}

async fn submit(lab: &Lab, to: usize, index: usize, power: u64) -> anyhow::Result<(u32, u64)> {
    lab.submit(to, &change(lab, index, power)?).await
}

/// Changes a power, and fails where the application does not take it.
async fn set(lab: &Lab, to: usize, index: usize, power: u64) -> anyhow::Result<()> {
    let (code, _) = submit(lab, to, index, power).await?;
    ensure!(code == 0, "power {power} of node{index} has code {code}");
    Ok(())
}

async fn sets(lab: &mut Lab) -> Seen {
    let all = [0, 1, 2, 3, 4];
    let layout = Layout { full_nodes: 2, ..lab.layout(4) };
    lab.up(layout).await?;
    for number in 0..CHANGES {
        let (index, power) = (lab.random.random_range(0..4), lab.random.random_range(5..15));
        // A transaction of before would be known already.
        set(lab, 0, index, 100 * power + number).await?;
    }
    for index in ALL {
        set(lab, 0, index, 10).await?;
    }
    set(lab, 0, 4, 40).await?;
    let joined = lab.grow(&all, 5, WITHIN).await?.as_millis();
    let signs = signed_by(lab, 4).await?;
    ensure!(signs, "the fifth validator is not in the set");
    set(lab, 0, 4, 11).await?;
    lab.grow(&all, 5, WITHIN).await?;
    let primary = lab.primary(5).await.unwrap_or(0);
    let to = (primary + 1) % 4;
    set(lab, to, primary, 0).await?;
    let left = lab.grow(&all, 5, WITHIN).await?.as_millis();
    set(lab, to, primary, 11).await?;
    lab.grow(&all, 5, WITHIN).await?;
    let (overflow, _) = submit(lab, to, 1, POWER_MAX).await?;
    let (nobody, _) = submit(lab, to, 5, 0).await?;
    ensure!(overflow != 0 && nobody != 0, "codes {overflow} and {nobody} for what no set can take");
    let (first, second) = (change(lab, 1, 12)?, change(lab, 1, 13)?);
    let (one, other) = tokio::join!(lab.submit(to, &first), lab.submit(to, &second));
    let same = one?.1 == other?.1;
    lab.grow(&all, 5, WITHIN).await?;
    let audit = lab.audit(&[0, 1, 2, 3, 4, 5]).await?;
    let same = if same { "in one block" } else { "in two blocks" };
    Ok(format!(
        "{CHANGES} changes of powers; five heights {joined} ms after 40 of 80 joined, {left} ms after the primary left; codes {overflow} and {nobody} for \
         too much power and for nobody; two changes of one validator {same}; {audit}"
    ))
}

/// Whether the key of a node is among the validators of now.
async fn signed_by(lab: &Lab, index: usize) -> anyhow::Result<bool> {
    let tx = change(lab, index, 0)?;
    let key = tx.split('!').nth(1).unwrap_or_default().to_owned();
    let mut rpc = crate::rpc::Rpc::new(&lab.node(0)?.rpc);
    let validators: Value = rpc.call("validators", serde_json::json!({})).await?;
    Ok(validators.to_string().contains(&key))
}

/// Starts four validators, of which these have the wrong application.
async fn up_with_wrong(lab: &mut Lab, wrong: &[usize]) -> anyhow::Result<()> {
    lab.up(lab.layout(4)).await?;
    for index in wrong {
        lab.stop(*index, Duration::from_secs(5)).await?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("wrong-app").arg(&lab.node(*index)?.home);
        lab.replace(*index, command)?;
        lab.grow(&ALL, 3, WITHIN).await?;
    }
    Ok(())
}

async fn one_diverges(lab: &mut Lab) -> Seen {
    up_with_wrong(lab, &[3]).await?;
    let (code, height) = lab.submit(0, &format!("{}1", wrong_app::TRIGGER)).await?;
    ensure!(code == 0, "code {code}");
    lab.gone(3, WITHIN).await?;
    let took = lab.grow(&ALL[..3], 5, WITHIN).await?.as_millis();
    let said = last_with(lab, 3, "ERROR")?;
    ensure!(said.contains("app_hash"), "it says {said:?}");
    let audit = lab.audit(&ALL[..3]).await?;
    Ok(format!(
        "block {height} diverges; \"{said}\"; five heights at the others in {took} ms; {audit}"
    ))
}

async fn two_diverge(lab: &mut Lab) -> Seen {
    up_with_wrong(lab, &[2, 3]).await?;
    let (_, height) = lab.submit(0, &format!("{}1", wrong_app::TRIGGER)).await?;
    let view = lab.state(0).await?.view;
    lab.still(&ALL, Duration::from_secs(10)).await?;
    let changes = lab.state(0).await?.view - view;
    let tip = lab.tip(&ALL).await;
    ensure!(tip <= height + 1, "height {tip} was decided after {height} diverged");
    let mut said = String::new();
    for index in ALL {
        said = last_with(lab, index, "app_hash")?;
    }
    // The others have another hash, as they should.
    let audit = lab.audit(&ALL[..2]).await?;
    ensure!(
        changes <= 100,
        "it stands at {tip}, and every log says why, with {changes} view changes in 10 s"
    );
    Ok(format!(
        "block {height} diverges, the chain stands at {tip} after {changes} view changes; every log: \"{said}\"; {audit}"
    ))
}

/// The last line of a node's log that has this in it.
fn last_with(lab: &Lab, index: usize, what: &str) -> anyhow::Result<String> {
    let log = std::fs::read_to_string(lab.node(index)?.log())?;
    let line = log.lines().rev().find(|line| line.contains(what));
    let Some(line) = line else {
        bail!("node{index} says nothing of {what}, but at last: {}", lab.last_lines(index)?);
    };
    Ok(line.to_owned())
}
