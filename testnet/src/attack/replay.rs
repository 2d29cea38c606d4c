//! T-115: everything that was heard is said again, and it must not be passed on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::AsyncReadExt as _;
use tercet_node::network::Class;
use tercet_node::network::raw::{Raw, framed};

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
    let mut ear = attacker.connect(false).await?;
    let (heard, listening) = listen(&mut ear, duration / 2).await;
    // Somebody else listens to what the victim says meanwhile.
    let mut other = attacker.connect(false).await?;
    let said = count(&mut other);
    let mut mouth = attacker.connect(false).await?;
    blows.connections = 3;
    let begun = Instant::now();
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
    let (before, during) = (listening, said.load(Ordering::Relaxed) as f64 / seconds);
    let said_again = blows.bytes as f64 / seconds;
    blows.more.insert("frames heard".to_owned(), heard.len() as f64);
    blows.more.insert("bytes a second said again".to_owned(), said_again);
    blows.more.insert("bytes a second that the victim says, before".to_owned(), before);
    blows.more.insert("bytes a second that the victim says, during".to_owned(), during);
    if during > 2.0 * before + said_again {
        blows.failures.push("what is said again is amplified".to_owned());
    }
    Ok(blows)
}

/// The frames of the consensus class, and how many bytes of all classes came a second.
async fn listen(raw: &mut Raw, duration: Duration) -> (Vec<Vec<u8>>, f64) {
    let begun = Instant::now();
    let mut frames = VecDeque::new();
    let (mut bytes, mut buffer) = (0usize, Vec::new());
    let mut piece = vec![0; 64 * 1024];
    while begun.elapsed() < duration {
        // Not silent.
        if raw.write(Class::Consensus, &[0; 4]).await.is_err() {
            break;
        }
        let found = raw.inbound.iter_mut().find(|(class, _)| *class == Class::Consensus);
        let Some((_, stream)) = found else { break };
        let read = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut piece)).await;
        let Ok(Ok(read)) = read else { continue };
        bytes += read;
        buffer.extend_from_slice(&piece[..read]);
        while let Some(frame) = next(&mut buffer) {
            frames.push_back(frame);
            if frames.len() > HEARD_MAX {
                frames.pop_front();
            }
        }
    }
    let rate = bytes as f64 / begun.elapsed().as_secs_f64();
    (frames.into_iter().filter(|frame| !frame.is_empty()).skip(1).collect(), rate)
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
fn count(raw: &mut Raw) -> Arc<AtomicU64> {
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
