//! T-120b, T-126b: a validator signs everything twice. Its PREPAREs and COMMITs for two blocks, with other times for each peer, must
//! stand in a block once each; two PRE-PREPAREs must end the view. The application hears of each once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::AsyncReadExt as _;
use serde_json::{Value, json};
use tendermint::Time;
use tendermint::block::Height;
use tercet_consensus::block::BlockId;
use tercet_consensus::key::{Address, Signature};
use tercet_consensus::message::{Message, Phase, PrePrepare, Proposal, Signed, Vote};
use tercet_consensus::sign_bytes;
use tercet_consensus::testing::messages::block_id;
use tercet_consensus::validators::ValidatorIndex;
use tercet_consensus::view::View;
use tercet_node::network::Class;
use tercet_node::network::raw::{Raw, framed};
use tercet_node::wire::{Consensus, Frame};

use super::Blows;
use super::peer::Attacker;
use crate::rpc::{PbftState, Rpc};

/// How often the chain is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Every so many heights something is signed twice: the chain is to go on under load, not to be full of evidence.
const EVERY: u64 = 4;
/// How long evidence may take into a block, in heights.
const COMMITTED_WITHIN: u64 = 40;
/// The patience for that.
const PATIENCE: Duration = Duration::from_secs(20);

/// Height, view and type of an offence.
type Offence = (u64, u64, u64);

/// What was done.
#[derive(Default)]
struct Done {
    votes: u64,
    proposals: u64,
    /// How long the views lasted in which two proposals were signed, from the second on.
    ends: Vec<Duration>,
    /// Views that went on until a timer ended them.
    tolerated: u64,
}

pub(super) async fn equivocate(attacker: &Attacker, until: Instant) -> anyhow::Result<Blows> {
    let mut blows = Blows::default();
    let (_, me) = attacker.member()?;
    let mut peers = Vec::new();
    for other in [attacker.clone()].into_iter().chain(attacker.on_others()) {
        // The validator whose key this is, is down.
        if let Ok(raw) = other.connect(true).await {
            blows.connections += 1;
            peers.push(read_all(raw));
        }
    }
    let (mut done, mut rpc) = (Done::default(), Rpc::new(attacker.rpc()));
    let mut last = (0, u64::MAX);
    let first = rpc.pbft_state().await?.height;
    while Instant::now() < until {
        tokio::time::sleep(LOOK).await;
        let state = rpc.pbft_state().await?;
        let at = (state.height, state.view);
        let mine = state.primary.as_deref() == Some(me.to_string().as_str());
        if at == last || (!mine && state.height < last.0 + EVERY) {
            keep_alive(&mut peers).await;
            continue;
        }
        last = at;
        let Some(index) = index_of(&mut rpc, me).await? else { break };
        if mine {
            propose_twice(attacker, &mut peers, &state, &mut done, &mut rpc).await?;
        } else {
            vote_twice(attacker, &mut peers, &state, (index, me), &mut done).await?;
        }
    }
    blows.messages = 2 * (done.votes + done.proposals) * peers.len() as u64;
    judge(&mut rpc, me, first, &done, &mut blows).await?;
    Ok(blows)
}

/// Reads what a node says, so that it is not dropped for silence.
fn read_all(mut raw: Raw) -> Raw {
    for (_, mut stream) in std::mem::take(&mut raw.inbound) {
        tokio::spawn(async move {
            let mut piece = vec![0; 64 * 1024];
            while stream.read(&mut piece).await.is_ok_and(|read| read > 0) {}
        });
    }
    raw
}

async fn keep_alive(peers: &mut [Raw]) {
    for raw in peers {
        // One that is cut off is noticed by what it is not told.
        drop(raw.write(Class::Consensus, &[0; 4]).await);
    }
}

/// The place of the validator in the set, by the last block; none where it is none any more.
async fn index_of(rpc: &mut Rpc, me: Address) -> anyhow::Result<Option<ValidatorIndex>> {
    let reply: Value = rpc.call("validators", json!({ "per_page": "100" })).await?;
    let list = reply["validators"].as_array().context("validators")?;
    let name = me.to_string();
    let index = list.iter().position(|v| v["address"].as_str() == Some(name.as_str()));
    Ok(index.map(ValidatorIndex::try_from).transpose()?)
}

/// A PREPARE and a COMMIT for one block and for another, to every node, with times of its own for each.
async fn vote_twice(
    attacker: &Attacker,
    peers: &mut [Raw],
    state: &PbftState,
    (index, validator): (ValidatorIndex, Address),
    done: &mut Done,
) -> anyhow::Result<()> {
    let height = Height::try_from(state.height)?;
    let view = View::new(u32::try_from(state.view)?).context("a view")?;
    for (nanos, raw) in (0u64..).zip(peers) {
        let mut frames = Vec::new();
        for phase in [Phase::Prepare, Phase::Commit] {
            for block_id in ids() {
                let time = (Time::now() + Duration::from_nanos(nanos))?;
                let extension = None;
                let message =
                    Vote { phase, height, view, block_id, time, validator, index, extension };
                let signature = attacker.sign(&sign_bytes::vote(&attacker.chain_id, &message));
                let vote = Signed { message, signature: Signature(signature) };
                frames.extend(encode(Message::Vote(vote)));
            }
        }
        drop(raw.write(Class::Consensus, &frames).await);
    }
    done.votes += 2;
    Ok(())
}

/// Two PRE-PREPAREs for the view of which he is primary. It must end at once, not when its timer does.
async fn propose_twice(
    attacker: &Attacker,
    peers: &mut [Raw],
    state: &PbftState,
    done: &mut Done,
    rpc: &mut Rpc,
) -> anyhow::Result<()> {
    let height = Height::try_from(state.height)?;
    let view = View::new(u32::try_from(state.view)?).context("a view")?;
    let mut frames = Vec::new();
    for block_id in ids() {
        let (prepared_view, time) = (None, Time::now());
        let message = Proposal { height, view, prepared_view, block_id, time };
        let signature = attacker.sign(&sign_bytes::proposal(&attacker.chain_id, &message));
        let proposal = Signed { message, signature: Signature(signature) };
        let message = PrePrepare { proposal, justification: None };
        frames.extend(encode(Message::PrePrepare(message)));
    }
    for raw in peers {
        drop(raw.write(Class::Consensus, &frames).await);
    }
    let begun = Instant::now();
    done.proposals += 1;
    let timeout = Duration::from_millis(state.timeout_ms.max(1));
    loop {
        let now = rpc.pbft_state().await?;
        if (now.height, now.view) > (state.height, state.view) {
            done.ends.push(begun.elapsed());
            return Ok(());
        }
        if begun.elapsed() > 4 * timeout {
            done.tolerated += 1;
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn ids() -> [BlockId; 2] {
    let n = rand::random::<u8>() / 2;
    [block_id(n), block_id(255 - n)]
}

fn encode(message: Message) -> Vec<u8> {
    match Consensus::Message(message).encode() {
        Frame::Consensus(bytes) | Frame::Body(bytes) => framed(&bytes),
    }
}

/// What the chain made of it.
async fn judge(
    rpc: &mut Rpc,
    me: Address,
    first: u64,
    done: &Done,
    blows: &mut Blows,
) -> anyhow::Result<()> {
    let stopped = rpc.status().await?.sync_info.latest_block_height;
    let begun = Instant::now();
    let mut tip = stopped;
    while tip < stopped + COMMITTED_WITHIN && begun.elapsed() < PATIENCE {
        tokio::time::sleep(LOOK).await;
        tip = rpc.status().await?.sync_info.latest_block_height;
    }
    let (mut found, mut twice) = (BTreeMap::<Offence, u64>::new(), 0);
    let (mut told_not, mut latest) = (BTreeSet::new(), 0);
    for height in first..=tip {
        let offences = offences(rpc, height, me).await?;
        // The kvstore sets the power of whom it is told of in the same block, and no other block changes a validator here.
        if is_updated(rpc, height).await? == offences.is_empty() {
            told_not.insert(height);
        }
        for offence in offences {
            latest = latest.max(height.saturating_sub(offence.0));
            if found.insert(offence, height).is_some() {
                twice += 1;
            }
        }
    }
    let of = |kind| found.keys().filter(|(_, _, k)| *k == kind).count();
    let (prepares, commits) = (of(1), of(2));
    let mut more = |name: &str, figure: f64| {
        blows.more.insert(name.to_owned(), figure);
    };
    more("offences by PREPARE and COMMIT", done.votes as f64);
    more("offences by PRE-PREPARE", done.proposals as f64);
    more("evidence in blocks: PREPARE", prepares as f64);
    more("evidence in blocks: COMMIT", commits as f64);
    more("heights from the offence to the block, at most", latest as f64);
    let slowest = done.ends.iter().max().copied().unwrap_or_default();
    more("views with two proposals ended after, at most, ms", slowest.as_secs_f64() * 1e3);
    let failures = &mut blows.failures;
    if prepares == 0 || commits == 0 {
        failures.push("an offence of a kind is in no block".to_owned());
    }
    if twice > 0 {
        failures.push(format!("{twice} offences stand in two blocks"));
    }
    if !told_not.is_empty() {
        failures.push(format!("the application heard of evidence otherwise at {told_not:?}"));
    }
    if done.tolerated > 0 {
        failures.push(format!("{} views with two proposals went on", done.tolerated));
    }
    // What came after its height was decided is nobody's business; most of it does not.
    if (prepares + commits) as u64 * 2 < done.votes {
        failures.push("fewer than half of the offences are in a block".to_owned());
    }
    Ok(())
}

/// The offences in a block, all of which must be those of `me`.
async fn offences(rpc: &mut Rpc, height: u64, me: Address) -> anyhow::Result<Vec<Offence>> {
    let reply: Value = rpc.call("block", json!({ "height": height.to_string() })).await?;
    let list = reply["block"]["evidence"]["evidence"].as_array().context("evidence")?;
    let offence = |evidence: &Value| -> anyhow::Result<Offence> {
        let vote = &evidence["value"]["vote_a"];
        let accused = vote["validator_address"].as_str().context("an address")?;
        anyhow::ensure!(accused == me.to_string(), "block {height} accuses {accused}");
        let at = vote["height"].as_str().context("a height")?.parse()?;
        let view = vote["round"].as_u64().context("a round")?;
        Ok((at, view, vote["type"].as_u64().context("a type")?))
    };
    list.iter().map(offence).collect()
}

/// Whether the application changed a validator in this block.
async fn is_updated(rpc: &mut Rpc, height: u64) -> anyhow::Result<bool> {
    let asked = json!({ "height": height.to_string() });
    let reply: Value = rpc.call("block_results", asked).await?;
    Ok(reply["validator_updates"].as_array().is_some_and(|updates| !updates.is_empty()))
}
