//! T-115: everything that was heard is said again, and it must not be passed on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::AsyncReadExt as _;
use tercet_node::network::Class;
use tercet_node::network::raw::{Raw, framed};
use tokio::sync::mpsc;

use super::Blows;
use super::peer::Attacker;

/// The most frames that are remembered: those of a thousand heights and more.
const HEARD_MAX: usize = 60_000;
/// How many are said at once.
const BATCH: usize = 64;
/// Longest frame that is remembered.
const FRAME_BYTES_MAX: usize = 1 << 20;

pub(super) async fn replay(attacker: &Attacker, duration: Duration) -> anyhow::Result<Blows> {
    let mut blows = Blows::default();
    // Somebody listens to what the victim says all the time.
    let mut other = attacker.connect(false).await?;
    let said = count(&mut other);
    let (heard, before) = listen(attacker, &mut other, &said, duration / 2).await?;
    let mut mouth = attacker.connect(false).await?;
    // It reads as well: who does not is dropped for that.
    drop(count(&mut mouth));
    blows.connections = 3;
    let (begun, said_before) = (Instant::now(), said.load(Ordering::Relaxed));
    while begun.elapsed() < duration / 2 && !heard.is_empty() {
        for batch in heard.chunks(BATCH) {
            let bytes: Vec<u8> = batch.iter().flat_map(|frame| framed(frame)).collect();
            // Keeps the connection that listens from falling silent.
            let kept = other.write(Class::Consensus, &[0; 4]).await;
            if kept.is_err() || mouth.write(Class::Consensus, &bytes).await.is_err() {
                blows.failures.push("a peer that says only what it heard was cut off".to_owned());
                return Ok(blows);
            }
            blows.messages += batch.len() as u64;
            blows.bytes += bytes.len() as u64;
            if begun.elapsed() > duration / 2 {
                break;
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let during = (said.load(Ordering::Relaxed) - said_before) as f64 / seconds;
    let said_again = blows.bytes as f64 / seconds;
    blows.more.insert("frames heard".to_owned(), heard.len() as f64);
    blows.more.insert("bytes a second said again".to_owned(), said_again);
    blows.more.insert("bytes a second that the victim says, before".to_owned(), before);
    blows.more.insert("bytes a second that the victim says, during".to_owned(), during);
    if during > 2.0 * before {
        blows.failures.push("what is said again is passed on".to_owned());
    }
    Ok(blows)
}

/// The frames of the consensus class that all validators say, and how many bytes of all classes the victim said a second meanwhile.
async fn listen(
    attacker: &Attacker,
    other: &mut Raw,
    said: &AtomicU64,
    duration: Duration,
) -> anyhow::Result<(Vec<Vec<u8>>, f64)> {
    let begun = Instant::now();
    let (told, mut telling) = mpsc::channel(BATCH);
    for attacker in attacker.on_others().chain([attacker.clone()]) {
        tokio::spawn(hear(attacker.connect(false).await?, told.clone()));
    }
    let mut frames = VecDeque::new();
    while begun.elapsed() < duration {
        // Not silent.
        other.write(Class::Consensus, &[0; 4]).await?;
        let heard = tokio::time::timeout(Duration::from_secs(1), telling.recv()).await;
        let Ok(Some(frame)) = heard else { continue };
        frames.push_back(frame);
        if frames.len() > HEARD_MAX {
            frames.pop_front();
        }
    }
    let rate = said.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    Ok((frames.into_iter().collect(), rate))
}

/// Tells what one node says, but for its hello, as long as somebody wants to know.
async fn hear(mut raw: Raw, tell: mpsc::Sender<Vec<u8>>) {
    let (mut hello, mut buffer) = (true, Vec::new());
    let mut piece = vec![0; 64 * 1024];
    while !tell.is_closed() && raw.write(Class::Consensus, &[0; 4]).await.is_ok() {
        let found = raw.inbound.iter_mut().find(|(class, _)| *class == Class::Consensus);
        let Some((_, stream)) = found else { return };
        let read = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut piece)).await;
        let Ok(Ok(read)) = read else { continue };
        buffer.extend_from_slice(piece.get(..read).unwrap_or_default());
        while let Some(frame) = next(&mut buffer) {
            let skipped = frame.is_empty() || std::mem::take(&mut hello);
            if !skipped && tell.send(frame).await.is_err() {
                return;
            }
        }
    }
}

/// Takes a whole frame from the front.
fn next(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let prefix = buffer.first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*prefix)).ok()?;
    if length > FRAME_BYTES_MAX || buffer.len() < 4 + length {
        return None;
    }
    let frame = buffer.get(4..4 + length)?.to_vec();
    buffer.drain(..4 + length);
    Some(frame)
}

/// Counts what comes on all streams.
pub(super) fn count(raw: &mut Raw) -> Arc<AtomicU64> {
    let counted = Arc::new(AtomicU64::new(0));
    for (_, mut stream) in std::mem::take(&mut raw.inbound) {
        let counted = counted.clone();
        tokio::spawn(async move {
            let mut piece = vec![0; 64 * 1024];
            while let Ok(read) = stream.read(&mut piece).await
                && read > 0
            {
                counted.fetch_add(read as u64, Ordering::Relaxed);
            }
        });
    }
    counted
}
