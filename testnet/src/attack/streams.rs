//! What is done to streams and below them: T-43, T-44, T-111, T-117.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tendermint::block::Height;
use tercet_node::network::raw::{Raw, below_yamux, framed};
use tercet_node::network::{Class, ClassLimits};
use tercet_node::wire::{Sync, SyncRequest};

use super::peer::Attacker;
use super::{Blows, CUT_WITHIN};

/// How often a peer that does nothing else says that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Requests for blocks that are sent at once, and how often.
const REQUESTS: u64 = 64;

/// Yamux frame types and flags (the specification of yamux).
const DATA: u8 = 0;
const WINDOW_UPDATE: u8 = 1;
const PING: u8 = 2;
const GO_AWAY: u8 = 3;
const SYN: u16 = 1;
const RST: u16 = 8;

fn header(kind: u8, flags: u16, stream: u32, length: u32) -> Vec<u8> {
    let mut bytes = vec![0, kind];
    bytes.extend(flags.to_be_bytes());
    bytes.extend(stream.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

/// What is written instead of yamux, each on a connection of its own.
fn nonsense() -> Vec<Vec<u8>> {
    let odd = |count: u32| (0..count).map(|n| 2 * n + 1);
    let mut version = header(DATA, SYN, 1, 0);
    version[0] = 7;
    let reset = |id| [header(DATA, SYN, id, 0), header(DATA, RST, id, 0)].concat();
    vec![
        version,
        header(9, SYN, 1, 0),
        header(DATA, SYN, 1, u32::MAX),
        header(DATA, SYN, 2, 0),
        header(DATA, SYN, 0, 0),
        [header(DATA, SYN, 1, 0), header(DATA, SYN, 1, 0)].concat(),
        [header(WINDOW_UPDATE, SYN, 1, u32::MAX), header(WINDOW_UPDATE, 0, 1, u32::MAX)].concat(),
        header(GO_AWAY, 0, 0, 77),
        (0..1_000).flat_map(|n| header(DATA, 0, 2 * n + 1, 0)).collect(),
        odd(1_000).flat_map(|id| header(DATA, SYN, id, 0)).collect(),
        odd(20_000).flat_map(reset).collect(),
        (0..20_000).flat_map(|n| header(PING, SYN, 0, n)).collect(),
        // A window's worth of data that nobody reads, on as many streams as there may be.
        odd(16)
            .flat_map(|id| {
                let mut frame = header(DATA, SYN, id, 256 * 1024);
                frame.resize(frame.len() + 256 * 1024, 1);
                frame
            })
            .collect(),
        (0..4_096).map(|_| rand::random()).collect(),
    ]
}

/// T-43.
pub(super) async fn yamux(attacker: &Attacker) -> anyhow::Result<Blows> {
    let mut blows = Blows::default();
    // In two halves: one address may not begin more at once.
    for half in nonsense().chunks(7) {
        let tries = half.iter().map(|bytes| async move {
            let mut socket = below_yamux(attacker.listen, Attacker::secret()).await?;
            let begun = Instant::now();
            drop(socket.write_all(bytes).await);
            drop(socket.flush().await);
            Ok::<_, std::io::Error>((bytes.len(), ends(&mut socket, begun).await))
        });
        for outcome in join_all(tries).await {
            match outcome {
                Ok((bytes, after)) => {
                    blows.connections += 1;
                    blows.bytes += bytes as u64;
                    blows.ended(after);
                }
                Err(error) => blows.failures.push(format!("not connected: {error}")),
            }
        }
    }
    Ok(blows)
}

/// After how long the victim closes; what it says is read and dropped.
async fn ends(
    socket: &mut (impl AsyncRead + AsyncWrite + Unpin),
    begun: Instant,
) -> Option<Duration> {
    let mut bytes = [0; 4096];
    let closed = async { while socket.read(&mut bytes).await.is_ok_and(|read| read > 0) {} };
    tokio::time::timeout(CUT_WITHIN, closed).await.ok().map(|()| begun.elapsed())
}

/// T-44.
pub(super) async fn zero_window(attacker: &Attacker) -> anyhow::Result<Blows> {
    let mut blows = Blows::default();
    let mut raw = attacker.connect(false).await?;
    blows.connections = 1;
    let begun = Instant::now();
    while begun.elapsed() < CUT_WITHIN {
        let mut frames = Vec::new();
        for id in 0..REQUESTS {
            let (from, count) = (Height::from(1u32), 64);
            let request = SyncRequest { id, from, count, bytes_max: 4 << 20 };
            frames.extend(framed(&Sync::Request(request).encode()));
        }
        let pause = Duration::from_millis(50);
        let asks = tokio::time::timeout(pause, raw.write(Class::Sync, &frames)).await;
        let stays = raw.write(Class::Consensus, &[0; 4]).await;
        blows.messages += REQUESTS;
        blows.bytes += frames.len() as u64;
        if stays.is_err() || asks.is_ok_and(|asks| asks.is_err()) {
            blows.ended(Some(begun.elapsed()));
            return Ok(blows);
        }
        tokio::time::sleep(pause).await;
    }
    blows.ended(None);
    Ok(blows)
}

/// Until the victim ends the connection, saying now and then that one is there where `alive`.
async fn until_cut(mut raw: Raw, alive: bool) -> Option<Duration> {
    let begun = Instant::now();
    while begun.elapsed() < CUT_WITHIN {
        if tokio::time::timeout(KEEP_ALIVE, raw.cut_off()).await.is_ok() {
            return Some(begun.elapsed());
        }
        if alive && raw.write(Class::Consensus, &[0; 4]).await.is_err() {
            return Some(begun.elapsed());
        }
    }
    None
}

type Cut = std::io::Result<Option<Duration>>;
/// One try, which says after how long it was cut off.
type Attempt<'a> = Pin<Box<dyn Future<Output = Cut> + Send + 'a>>;

async fn all(attempts: Vec<Attempt<'_>>) -> Blows {
    let mut blows = Blows::default();
    for outcome in join_all(attempts).await {
        match outcome {
            Ok(after) => {
                blows.connections += 1;
                blows.ended(after);
            }
            Err(error) => blows.failures.push(format!("not connected: {error}")),
        }
    }
    blows
}

/// T-111.
pub(super) async fn lengths(attacker: &Attacker) -> anyhow::Result<Blows> {
    let limits = ClassLimits::default();
    // All at once, which one address may not.
    let attacker = &attacker.with_addresses(u16::MAX);
    let mut attempts: Vec<Attempt<'_>> = Vec::new();
    for class in Class::ALL {
        let most = u32::try_from(limits.of(class).frame_bytes_max)?.to_be_bytes();
        // A lie above the limit, and one below it of which nothing comes, or little.
        for bytes in [vec![0xff; 4], most.to_vec(), [&most[..], &[1; 1000]].concat()] {
            attempts.push(Box::pin(async move {
                let mut raw = attacker.connect(false).await?;
                raw.write(class, &bytes).await?;
                Ok(until_cut(raw, class != Class::Consensus).await)
            }));
        }
    }
    Ok(all(attempts).await)
}

/// T-117.
pub(super) async fn silent(attacker: &Attacker) -> anyhow::Result<Blows> {
    let opened: Attempt<'_> = Box::pin(async {
        let mut socket = below_yamux(attacker.listen, Attacker::secret()).await?;
        let streams: Vec<u8> = (0..8).flat_map(|n| header(DATA, SYN, 2 * n + 1, 0)).collect();
        socket.write_all(&streams).await?;
        socket.flush().await?;
        Ok(ends(&mut socket, Instant::now()).await)
    });
    let no_hello: Attempt<'_> =
        Box::pin(async { Ok(until_cut(attacker.connect_silently(false).await?, false).await) });
    let hello_alone: Attempt<'_> =
        Box::pin(async { Ok(until_cut(attacker.connect(false).await?, false).await) });
    let halves = [Class::Bodies, Class::Transactions, Class::Sync].map(|class| -> Attempt<'_> {
        Box::pin(async move {
            let mut raw = attacker.connect(false).await?;
            raw.write(class, &[0, 0]).await?;
            Ok(until_cut(raw, true).await)
        })
    });
    let mut attempts = vec![opened, no_hello, hello_alone];
    attempts.extend(halves);
    Ok(all(attempts).await)
}
