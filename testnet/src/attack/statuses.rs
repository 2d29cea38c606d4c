//! T-112b: what strangers may ask of a node without a signature: STATUS that lack everything and say something else each time of whom their
//! sender is connected to, and FETCH-BLOCK, from as many connections as it lets in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use tendermint::block::{Height, parts};
use tercet_consensus::block::BlockId;
use tercet_consensus::status::{Bitmap, Status};
use tercet_consensus::testing::messages::block_id;
use tercet_consensus::validators::VALIDATORS_MAX;
use tercet_consensus::view::View;
use tercet_node::network::Class;
use tercet_node::network::raw::framed;
use tercet_node::wire::{Consensus, FetchBlock, Frame};
use tokio::sync::watch;

use super::Blows;
use super::peer::Attacker;
use super::replay::count;
use crate::rpc::Rpc;

/// Strangers: most of the inbound connections that a node has room for.
const STRANGERS: usize = 32;
/// From so many addresses at least.
const ADDRESSES: u16 = 8;
/// So many messages are written at once.
const BATCH: u8 = 32;
/// How often the strangers ask where the chain is.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A pause after the victim refused a connection.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);
/// The most bytes that one stranger may have said to him in a second, what every peer is told included.
const SAID_MAX: f64 = (1 << 20) as f64;

/// The victim's height, and its last block.
type Place = (Height, BlockId);

/// What all strangers count.
#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    cut: AtomicU64,
    messages: AtomicU64,
    bytes: AtomicU64,
    said: AtomicU64,
}

pub(super) async fn flood(attacker: &Attacker, until: Instant) -> anyhow::Result<Blows> {
    let attacker = attacker.with_addresses(ADDRESSES);
    let mut rpc = Rpc::new(&attacker.rpc);
    let (place, look) = watch::channel(last_block(&mut rpc).await?);
    let (counts, begun) = (Arc::new(Counts::default()), Instant::now());
    let strangers = (0..STRANGERS)
        .map(|_| tokio::spawn(stranger(attacker.clone(), until, look.clone(), counts.clone())));
    let strangers: Vec<_> = strangers.collect();
    while Instant::now() < until {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Ok(last) = last_block(&mut rpc).await {
            place.send_replace(last);
        }
    }
    for stranger in strangers {
        stranger.await?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let said = of(&counts.said) as f64 / seconds / STRANGERS as f64;
    let mut blows = Blows {
        connections: of(&counts.connections),
        messages: of(&counts.messages),
        bytes: of(&counts.bytes),
        cut: of(&counts.cut),
        ..Blows::default()
    };
    blows.more.insert("messages a second".to_owned(), blows.messages as f64 / seconds);
    blows.more.insert("bytes a second that each stranger is told".to_owned(), said);
    if said > SAID_MAX {
        blows.failures.push(format!("each stranger is told {said:.0} bytes a second"));
    }
    Ok(blows)
}

/// Sends until the end, as a new identity whenever it is cut off.
async fn stranger(
    attacker: Attacker,
    until: Instant,
    look: watch::Receiver<Place>,
    counts: Arc<Counts>,
) {
    while Instant::now() < until {
        let Ok(mut raw) = attacker.connect(false).await else {
            tokio::time::sleep(REFUSED_PAUSE).await;
            continue;
        };
        counts.connections.fetch_add(1, Ordering::Relaxed);
        // It reads as well: who does not is dropped for that.
        let said = count(&mut raw);
        while Instant::now() < until {
            let place = *look.borrow();
            let bytes: Vec<u8> = (0..BATCH).flat_map(|n| framed(&ask(place, n))).collect();
            let written = raw.write(Class::Consensus, &bytes);
            let most = until.saturating_duration_since(Instant::now()).max(super::CUT_WITHIN);
            if !tokio::time::timeout(most, written).await.is_ok_and(|written| written.is_ok()) {
                counts.cut.fetch_add(1, Ordering::Relaxed);
                break;
            }
            counts.messages.fetch_add(u64::from(BATCH), Ordering::Relaxed);
            counts.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        counts.said.fetch_add(said.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// Asks for the last block, or says that all is lacking: at the victim's height, at one below, and with a list as long as one may be.
fn ask((height, last): Place, n: u8) -> Vec<u8> {
    let message = match n % 8 {
        0 => Consensus::FetchBlock(FetchBlock { height, block_id: last }),
        _ => {
            let below = Height::try_from(height.value().saturating_sub(1).max(1)).unwrap_or(height);
            let list = if n == 1 { u32::try_from(VALIDATORS_MAX).unwrap_or(0) } else { 0 };
            Consensus::Status(Status {
                height: if n % 8 == 2 { below } else { height },
                start_view: View::ZERO,
                view: View::ZERO,
                pre_prepares: Vec::new(),
                prepares: Vec::new(),
                commits: Vec::new(),
                view_changes: (0..list).map(|index| (index, View::ZERO)).collect(),
                blocks: (0..16).map(block_id).collect(),
                direct: Bitmap::from_bytes(vec![n]),
                lacks_extensions: true,
            })
        }
    };
    match message.encode() {
        Frame::Consensus(bytes) | Frame::Body(bytes) => bytes.to_vec(),
    }
}

/// The height that the victim decides, and the block below it.
async fn last_block(rpc: &mut Rpc) -> anyhow::Result<Place> {
    let block: Value = rpc.call("block", json!({})).await?;
    let text = |path: &str| block.pointer(path).and_then(Value::as_str).context("a block's text");
    let total = block.pointer("/block_id/parts/total").and_then(Value::as_u64);
    let total = u32::try_from(total.context("a number of parts")?)?;
    let part_set_header = parts::Header::new(total, text("/block_id/parts/hash")?.parse()?)?;
    let hash = text("/block_id/hash")?.parse()?;
    let height: u64 = text("/block/header/height")?.parse()?;
    Ok((Height::try_from(height + 1)?, BlockId { hash, part_set_header }))
}
