//! Networks that fall apart. Nodes reach each other through the proxy.

use std::time::Duration;

use rand::seq::IndexedRandom;

use super::lab::Lab;
use super::{Row, Seen};
use crate::chaos::Kind;

/// Blocks must come again within this after the network is whole.
const HEALED_WITHIN: Duration = Duration::from_secs(30);
/// What is left of the network must decide within this.
const GOES_ON_WITHIN: Duration = Duration::from_secs(20);

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "T-100a",
        fault: "Four validators split 2/2",
        how: "proxy: nothing passes between the halves for 10 s; connections stay open",
        must: "no block meanwhile; S; L within 30 s of the healing",
        run: |lab| Box::pin(split(lab, &[0, 1], &[2, 3], 10)),
    },
    Row {
        id: "T-100b",
        fault: "Four validators split 3/1",
        how: "proxy: as T-100a for 25 s, so that connections end by their silence",
        must: "the three go on, the one stands; S; L within 30 s of the healing",
        run: |lab| Box::pin(split(lab, &[0, 1, 2], &[3], 25)),
    },
    Row {
        id: "T-100c",
        fault: "Seven validators split 4/3",
        how: "proxy: as T-100a",
        must: "no block meanwhile; S; L within 30 s of the healing",
        run: |lab| Box::pin(split(lab, &[0, 1, 2, 3], &[4, 5, 6], 10)),
    },
    Row {
        id: "T-100d",
        fault: "Seven validators split 5/2",
        how: "proxy: as T-100a",
        must: "the five go on, the two stand; S; L within 30 s of the healing",
        run: |lab| Box::pin(split(lab, &[0, 1, 2, 3, 4], &[5, 6], 10)),
    },
    Row {
        id: "T-101",
        fault: "Links that carry one direction only",
        how: "proxy, three times: nobody hears a random replica, nobody hears the primary, the primary hears nobody",
        must: "the other three decide five heights within 20 s each time; S; L within 30 s of each healing",
        run: |lab| Box::pin(one_way(lab)),
    },
    Row {
        id: "T-102a",
        fault: "The primary reached by f+1 of seven only",
        how: "proxy: three links of the primary cut",
        must: "the others decide five heights within 20 s; S; L within 30 s of the healing",
        run: |lab| Box::pin(primary_reached_by(lab, 3)),
    },
    Row {
        id: "T-102b",
        fault: "The primary reached by 2f of seven only",
        how: "proxy: two links of the primary cut",
        must: "as T-102a",
        run: |lab| Box::pin(primary_reached_by(lab, 4)),
    },
    Row {
        id: "T-103",
        fault: "Nodes cut off one after the other, and back in another order (swizzle)",
        how: "`chaos --kind swizzle`: three rounds of 16 s in random orders",
        must: "five new blocks at all within 30 s of the last healing; S",
        run: |lab| Box::pin(swizzle(lab)),
    },
];

fn others(of: usize, count: usize) -> Vec<usize> {
    (0..count).filter(|index| *index != of).collect()
}

/// Cuts `a` off from `b`; `a` goes on where it is a quorum.
async fn split(lab: &mut Lab, a: &[usize], b: &[usize], secs: u64) -> Seen {
    let all: Vec<usize> = (0..a.len() + b.len()).collect();
    lab.up_proxied(all.len()).await?;
    lab.load(100, a)?;
    lab.grow(&all, 5, GOES_ON_WITHIN).await?;
    let before = lab.tip(&all).await;
    lab.links(|rules| rules.between(a, b, |flow| flow.cut = true))?;
    let span = Duration::from_secs(secs);
    let mut seen = String::new();
    if 3 * a.len() > 2 * all.len() {
        let (still, grown) = tokio::join!(lab.still(b, span), lab.grow(a, 5, GOES_ON_WITHIN));
        still?;
        let (grown, blocks) = (grown?.as_millis(), lab.tip(a).await - before);
        seen += &format!("{blocks} heights meanwhile, the first five in {grown} ms; ");
    } else {
        lab.still(&all, span).await?;
    }
    lab.links(|_| {})?;
    let took = lab.grow(&all, 5, HEALED_WITHIN).await?.as_millis();
    lab.end_load().await?;
    let audit = lab.audit(&all).await?;
    Ok(format!("{seen}five heights everywhere {took} ms after the healing; {audit}"))
}

async fn one_way(lab: &mut Lab) -> Seen {
    let all = [0, 1, 2, 3];
    lab.up_proxied(4).await?;
    lab.load(100, &all)?;
    let mut seen = Vec::new();
    for case in ["a mute replica", "a mute primary", "a deaf primary"] {
        lab.grow(&all, 5, GOES_ON_WITHIN).await?;
        let primary = lab.primary(0).await?;
        let replica = *others(primary, 4).choose(&mut lab.random).unwrap_or(&primary);
        let one = if case == "a mute replica" { replica } else { primary };
        let rest = others(one, 4);
        lab.links(|rules| match case {
            "a deaf primary" => rules.on(&rest, &[one], |flow| flow.cut = true),
            _ => rules.on(&[one], &rest, |flow| flow.cut = true),
        })?;
        let took = lab.grow(&rest, 5, GOES_ON_WITHIN).await?.as_millis();
        tokio::time::sleep(Duration::from_secs(5)).await;
        lab.links(|_| {})?;
        let healed = lab.grow(&all, 5, HEALED_WITHIN).await?.as_millis();
        seen.push(format!("{case}: five heights in {took} ms, everywhere {healed} ms after"));
    }
    lab.end_load().await?;
    seen.push(lab.audit(&all).await?);
    Ok(seen.join("; "))
}

async fn primary_reached_by(lab: &mut Lab, reached: usize) -> Seen {
    let all = [0, 1, 2, 3, 4, 5, 6];
    lab.up_proxied(7).await?;
    lab.load(100, &all)?;
    lab.grow(&all, 5, GOES_ON_WITHIN).await?;
    let primary = lab.primary(0).await?;
    let rest = others(primary, 7);
    let cut: Vec<usize> = rest.choose_multiple(&mut lab.random, 6 - reached).copied().collect();
    let view = lab.state(rest[0]).await?.view;
    lab.links(|rules| rules.between(&[primary], &cut, |flow| flow.cut = true))?;
    let took = lab.grow(&rest, 5, GOES_ON_WITHIN).await?.as_millis();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let changes = lab.state(rest[0]).await?.view.saturating_sub(view);
    lab.links(|_| {})?;
    let healed = lab.grow(&all, 5, HEALED_WITHIN).await?.as_millis();
    lab.end_load().await?;
    let audit = lab.audit(&all).await?;
    Ok(format!(
        "five heights in {took} ms, {changes} view changes meanwhile; everywhere {healed} ms after the healing; {audit}"
    ))
}

async fn swizzle(lab: &mut Lab) -> Seen {
    lab.up_proxied(4).await?;
    let outcome = lab.chaos(Kind::Swizzle, 3, Duration::from_secs(16)).await?;
    Ok(outcome.figures.join("; "))
}
