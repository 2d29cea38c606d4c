//! Floods of messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tendermint::Time;
use tendermint::block::Height;
use tercet_consensus::block::{BlockId, HEIGHT_MAX};
use tercet_consensus::key::{Address, Signature};
use tercet_consensus::message::{
    Message, Phase, Signed, SignedVote, ViewChange, ViewChangeMessage, Vote,
};
use tercet_consensus::sign_bytes;
use tercet_consensus::testing::messages::block_id;
use tercet_consensus::validators::ValidatorIndex;
use tercet_consensus::view::View;
use tercet_node::hostile_bytes::{TARGETS, input};
use tercet_node::network::Class;
use tercet_node::network::raw::{Raw, framed};
use tercet_node::wire::{Consensus, Frame};
use tokio::sync::mpsc;

use super::Blows;
use super::peer::Attacker;

/// So many messages are written at once.
const BATCH: usize = 64;
/// Votes of nobody a second.
const UNKNOWN_RATE: u64 = 10_000;
/// Votes with bad signatures a second.
const BAD_RATE: u64 = 50_000;
/// So many of them are written at once: a connection lasts for a hundred, and for what is under way then.
const BAD_BATCH: usize = 512;
/// Connections that are made at a time to go on with.
const BAD_DIALS: usize = 4;
/// Signed in advance for one height.
const SIGNED: u32 = 512;
/// A pause after the victim refused a connection.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);

/// How a flood is sent.
#[derive(Clone, Copy)]
struct Plan {
    /// Whether it proves a validator's key.
    as_validator: bool,
    /// Messages a second, where it is not as many as there can be.
    rate: Option<u64>,
    /// How many connections are made ahead at a time, to go on with.
    dials: usize,
}

/// Sends what `batch` makes until the end, as a new identity whenever it is cut off.
async fn flood(
    attacker: &Attacker,
    until: Instant,
    plan: Plan,
    mut batch: impl AsyncFnMut() -> anyhow::Result<(Class, Vec<Vec<u8>>)>,
) -> anyhow::Result<Blows> {
    let (mut blows, begun) = (Blows::default(), Instant::now());
    let refused = Arc::new(AtomicU64::new(0));
    let mut pool = dial(attacker, plan, &refused);
    while let Ok(Some(mut raw)) = tokio::time::timeout_at(until.into(), pool.recv()).await {
        blows.connections += 1;
        let from = Instant::now();
        while Instant::now() < until {
            let due = plan.rate.map_or(Duration::ZERO, |rate| {
                Duration::from_secs(blows.messages) / u32::try_from(rate).unwrap_or(u32::MAX)
            });
            tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
            let (class, frames) = batch().await?;
            let bytes: Vec<u8> = frames.iter().flat_map(|frame| framed(frame)).collect();
            if !write(&mut raw, class, &bytes).await {
                blows.ended(Some(from.elapsed()));
                break;
            }
            blows.messages += frames.len() as u64;
            blows.bytes += bytes.len() as u64;
        }
    }
    let rate = blows.messages as f64 / begun.elapsed().as_secs_f64();
    blows.more.insert("messages a second".to_owned(), rate);
    let refused = refused.load(Ordering::Relaxed) as f64;
    blows.more.insert("connections refused".to_owned(), refused);
    Ok(blows)
}

/// Connections, as they are wanted.
fn dial(attacker: &Attacker, plan: Plan, refused: &Arc<AtomicU64>) -> mpsc::Receiver<Raw> {
    let (ready, pool) = mpsc::channel(1);
    for _ in 0..plan.dials {
        let (attacker, ready, refused) = (attacker.clone(), ready.clone(), refused.clone());
        tokio::spawn(async move {
            while !ready.is_closed() {
                match attacker.connect(plan.as_validator).await {
                    Ok(raw) => drop(ready.send(raw).await),
                    Err(_) => {
                        refused.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(REFUSED_PAUSE).await;
                    }
                }
            }
        });
    }
    pool
}

/// Whether the victim took it.
async fn write(raw: &mut Raw, class: Class, bytes: &[u8]) -> bool {
    let written = tokio::time::timeout(super::CUT_WITHIN, raw.write(class, bytes)).await;
    written.is_ok_and(|written| written.is_ok())
}

fn encode(message: Message) -> Vec<u8> {
    match Consensus::Message(message).encode() {
        Frame::Consensus(bytes) | Frame::Body(bytes) => bytes.to_vec(),
    }
}

/// The height that the victim is at, asked for ten times a second.
struct Clock<'a> {
    attacker: &'a Attacker,
    height: Height,
    asked: Instant,
}

impl<'a> Clock<'a> {
    async fn new(attacker: &'a Attacker) -> anyhow::Result<Clock<'a>> {
        Ok(Clock { attacker, height: attacker.height().await?, asked: Instant::now() })
    }

    async fn height(&mut self) -> anyhow::Result<Height> {
        if self.asked.elapsed() > Duration::from_millis(100) {
            self.height = self.attacker.height().await.unwrap_or(self.height);
            self.asked = Instant::now();
        }
        Ok(self.height)
    }
}

fn vote(height: Height, view: View, sender: (ValidatorIndex, Address), id: BlockId) -> Vote {
    let (index, validator) = sender;
    let (phase, time) = (Phase::Commit, Time::now());
    Vote { phase, height, view, block_id: id, time, validator, index, extension: None }
}

fn view(number: u32) -> View {
    View::new(number).unwrap_or(View::ZERO)
}

/// T-110.
pub(super) async fn protobuf(attacker: &Attacker, until: Instant) -> anyhow::Result<Blows> {
    const CLASSES: [(&str, Class); 4] = [
        ("consensus", Class::Consensus),
        ("body", Class::Bodies),
        ("transactions", Class::Transactions),
        ("sync", Class::Sync),
    ];
    let targets: Vec<_> = CLASSES
        .iter()
        .filter_map(|(name, class)| {
            let target = TARGETS.iter().find(|target| target.name == *name)?;
            Some((target, *class, (target.corpus)()))
        })
        .collect();
    let mut seed = 0;
    let plan = Plan { as_validator: false, rate: None, dials: 1 };
    flood(attacker, until, plan, async || {
        seed += BATCH as u64;
        let turn = usize::try_from(seed / BATCH as u64).unwrap_or(0) % targets.len();
        let (target, class, corpus) = &targets[turn];
        let frames = (seed..seed + BATCH as u64).map(|seed| input(target, corpus, seed));
        Ok((*class, frames.filter(|frame| !frame.is_empty()).collect()))
    })
    .await
}

/// T-112: of nobody, and of a validator for a height that is long over.
pub(super) async fn unknown_votes(attacker: &Attacker, until: Instant) -> anyhow::Result<Blows> {
    let mut clock = Clock::new(attacker).await?;
    let member = attacker.member()?;
    let plan = Plan { as_validator: false, rate: Some(UNKNOWN_RATE), dials: 1 };
    flood(attacker, until, plan, async || {
        let height = clock.height().await?;
        let long_over = Height::try_from((height.value() / 2).max(1))?;
        let frames = (0..BATCH).map(|n| {
            let message = match n % 4 {
                0 => vote(long_over, View::ZERO, member, block_id(1)),
                _ => vote(height, View::ZERO, (0, Address::new(rand::random())), block_id(1)),
            };
            encode(Message::Vote(Signed { message, signature: Signature([7; 64]) }))
        });
        Ok((Class::Consensus, frames.collect()))
    })
    .await
}

/// T-112: signed by a validator, for another chain.
pub(super) async fn foreign_votes(attacker: &Attacker, until: Instant) -> anyhow::Result<Blows> {
    let mut clock = Clock::new(attacker).await?;
    let member = attacker.member()?;
    let mut signed: (Height, Vec<Vec<u8>>) = (Height::from(0u32), Vec::new());
    let plan = Plan { as_validator: false, rate: Some(UNKNOWN_RATE), dials: 1 };
    flood(attacker, until, plan, async || {
        let height = clock.height().await?;
        if signed.0 != height {
            let frames = (0..16).map(|n| {
                let message = vote(height, View::ZERO, member, block_id(n));
                let signature = attacker.sign(&sign_bytes::vote("another-chain", &message));
                encode(Message::Vote(Signed { message, signature: Signature(signature) }))
            });
            signed = (height, frames.collect());
        }
        Ok((Class::Consensus, signed.1.iter().cycle().take(BATCH).cloned().collect()))
    })
    .await
}

/// T-114: the names of all validators, and signatures of nobody.
pub(super) async fn bad_signatures(attacker: &Attacker, until: Instant) -> anyhow::Result<Blows> {
    let mut clock = Clock::new(attacker).await?;
    let list = (0..).zip(attacker.validators.list());
    let senders: Vec<_> = list.map(|(index, member)| (index, member.address)).collect();
    let plan = Plan { as_validator: true, rate: Some(BAD_RATE), dials: BAD_DIALS };
    flood(attacker, until, plan, async || {
        let height = clock.height().await?;
        let frames = (0..BAD_BATCH).map(|n| {
            let message = vote(height, View::ZERO, senders[n % senders.len()], block_id(1));
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&rand::random::<[u8; 32]>());
            encode(Message::Vote(Signed { message, signature: Signature(signature) }))
        });
        Ok((Class::Consensus, frames.collect()))
    })
    .await
}

/// T-113: validly signed, for the height after the next and for views and heights up to the last.
pub(super) async fn future(attacker: &Attacker, until: Instant) -> anyhow::Result<Blows> {
    let mut clock = Clock::new(attacker).await?;
    let mut signed: (Height, Vec<Vec<u8>>) = (Height::from(0u32), Vec::new());
    let mut turn = 0;
    let plan = Plan { as_validator: true, rate: None, dials: 1 };
    flood(attacker, until, plan, async || {
        let height = clock.height().await?;
        if signed.0 != height {
            signed = (height, sign_future(attacker, height)?);
        }
        turn += BATCH;
        let frames = signed.1.iter().cycle().skip(turn % signed.1.len()).take(BATCH);
        Ok((Class::Consensus, frames.cloned().collect()))
    })
    .await
}

fn sign_future(attacker: &Attacker, height: Height) -> anyhow::Result<Vec<Vec<u8>>> {
    let sender = attacker.member()?;
    let last = Height::try_from(HEIGHT_MAX)?;
    let heights = [height, height.increment(), height.increment().increment(), last];
    let mut frames = Vec::new();
    for n in 0..SIGNED {
        let at = heights[n as usize % heights.len()];
        // Near views and the farthest.
        let to = if n % 8 == 0 { view(View::MAX.number() - n) } else { view(1 + n) };
        let message = vote(at, to, sender, block_id(u8::try_from(n % 251)?));
        let signature = attacker.sign(&sign_bytes::vote(&attacker.chain_id, &message));
        let signed: SignedVote = Signed { message, signature: Signature(signature) };
        frames.push(encode(Message::Vote(signed)));
        let (index, validator) = sender;
        let message = ViewChange { height: at, view: to, prepared: None, validator, index };
        let signature = attacker.sign(&sign_bytes::view_change(&attacker.chain_id, &message));
        let signed = Signed { message, signature: Signature(signature) };
        let message = ViewChangeMessage { signed, certificate: None };
        frames.push(encode(Message::ViewChange(message)));
    }
    Ok(frames)
}
