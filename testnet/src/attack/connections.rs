//! T-26, T-48: connections by the thousand, slow ones, and many identities of one address.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use super::Blows;
use super::peer::Attacker;

/// The most that are open at a time.
const OPEN_MAX: usize = 10_000;
/// How many are opened at once.
const BATCH: usize = 64;
/// After so many batches an identity more connects in full.
const IDENTITY_EVERY: usize = 4;
/// Identities that stay connected.
const IDENTITIES_MAX: usize = 64;
/// Longest wait for the victim's system to accept.
const CONNECT_MAX: Duration = Duration::from_millis(500);

pub(super) async fn flood(attacker: &Attacker, until: Instant) -> anyhow::Result<Blows> {
    let mut blows = Blows::default();
    let mut open: VecDeque<TcpStream> = VecDeque::new();
    let mut identities = VecDeque::new();
    let (mut refused, mut most) = (0u64, 0);
    for round in 0.. {
        if Instant::now() >= until {
            break;
        }
        let dials = (0..BATCH).map(|n| dial(attacker.listen, source(n)));
        for mut stream in futures::future::join_all(dials).await.into_iter().flatten() {
            // The beginning of a handshake, of which the rest never comes.
            drop(stream.write_all(b"\x13/mult").await);
            open.push_back(stream);
            blows.connections += 1;
        }
        // One byte more each, to the oldest.
        for stream in open.iter_mut().take(BATCH) {
            drop(stream.try_write(b"i"));
        }
        most = most.max(open.len());
        while open.len() > OPEN_MAX {
            open.pop_front();
        }
        if round % IDENTITY_EVERY == 0 {
            match tokio::time::timeout(CONNECT_MAX, attacker.connect(false)).await {
                Ok(Ok(raw)) => identities.push_back(raw),
                _ => refused += 1,
            }
            if identities.len() > IDENTITIES_MAX {
                identities.pop_front();
            }
        }
    }
    blows.more.insert("open at once, on this side".to_owned(), most as f64);
    blows.more.insert("identities let in".to_owned(), identities.len() as f64);
    blows.more.insert("identities refused".to_owned(), refused as f64);
    Ok(blows)
}

/// Half of them come from one address, half from any of the loopback's.
fn source(n: usize) -> IpAddr {
    let other: [u8; 2] = rand::random();
    let ip = match n % 2 {
        0 => Ipv4Addr::LOCALHOST,
        _ => Ipv4Addr::new(127, 1, other[0], other[1].clamp(1, 254)),
    };
    IpAddr::V4(ip)
}

async fn dial(to: SocketAddr, from: IpAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    tokio::time::timeout(CONNECT_MAX, socket.connect(to)).await?
}
