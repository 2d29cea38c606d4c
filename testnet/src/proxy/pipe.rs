//! The bytes of one link: accepted, dialled on, and passed in both directions as the rules say.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{Flow, Rules, now_ms};

/// Bytes that are passed on at a time.
const CHUNK_BYTES: usize = 4_096;
/// Chunks of one direction that may be under way; more stay with the sender.
const CHUNKS_MAX: usize = 64;
/// Pause after a port could not be opened again, or a connection not be accepted.
const PAUSE: Duration = Duration::from_millis(20);

/// Where `from` dials `to`.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) at: SocketAddr,
    pub(super) target: SocketAddr,
    pub(super) rules: watch::Receiver<Rules>,
}

impl Link {
    fn flow(&self) -> Flow {
        self.rules.borrow().flow(self.from, self.to)
    }

    /// Accepts until the rules end.
    pub(super) async fn serve(mut self, listener: std::net::TcpListener) {
        let mut listener = TcpListener::from_std(listener).ok();
        loop {
            self.rules.mark_unchanged();
            if self.flow().refuse {
                listener = None;
                if self.rules.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let Some(open) = &listener else {
                listener = TcpListener::bind(self.at).await.ok();
                if listener.is_none() {
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            };
            tokio::select! {
                accepted = open.accept() => match accepted {
                    Ok((client, _)) => drop(tokio::spawn(self.clone().carry(client))),
                    Err(_) => tokio::time::sleep(PAUSE).await,
                },
                changed = self.rules.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn carry(mut self, mut client: TcpStream) {
        let opened = now_ms();
        let (from, to) = (self.from, self.to);
        let Ok(mut server) = TcpStream::connect(self.target).await else {
            let _ = client.set_zero_linger();
            return;
        };
        let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
        let reset = {
            let (client, server) = (client.split(), server.split());
            let (there, back) = (self.rules.clone(), self.rules.clone());
            let pumps = async {
                tokio::try_join!(
                    pump(client.0, server.1, Way { from, to, rules: there }),
                    pump(server.0, client.1, Way { from: to, to: from, rules: back }),
                )
            };
            tokio::select! {
                ended = pumps => ended.is_err(),
                _ = self.rules.wait_for(|rules| rules.flow(from, to).reset_before > opened) => true,
            }
        };
        if reset {
            let _ = client.set_zero_linger().and_then(|()| server.set_zero_linger());
        }
    }
}

/// One direction.
struct Way {
    from: usize,
    to: usize,
    rules: watch::Receiver<Rules>,
}

/// Passes bytes on until their end, which is passed on too. What is read waits until it is due; its order stays.
async fn pump(mut read: ReadHalf<'_>, mut write: WriteHalf<'_>, way: Way) -> io::Result<()> {
    let (queue, mut queued) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let Way { from, to, rules: mut gate } = way;
    let rules = gate.clone();
    let reading = async move {
        let mut random = StdRng::seed_from_u64(now_ms());
        let mut last = Instant::now();
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let length = read.read(&mut chunk).await?;
            chunk.truncate(length);
            let (least, most) = rules.borrow().flow(from, to).delay_ms;
            let delay = random.random_range(least..=most.max(least));
            last = last.max(Instant::now() + Duration::from_millis(delay));
            if queue.send((last, chunk)).await.is_err() || length == 0 {
                return Ok(());
            }
        }
    };
    let writing = async move {
        while let Some((due, chunk)) = queued.recv().await {
            tokio::time::sleep_until(due).await;
            let open = gate.wait_for(|rules| !rules.flow(from, to).cut).await;
            let rate = open.map_err(|_| io::ErrorKind::BrokenPipe)?.flow(from, to).bytes_per_second;
            if rate > 0 {
                let bytes = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
                tokio::time::sleep(Duration::from_secs(1) * bytes / rate).await;
            }
            if chunk.is_empty() {
                return write.shutdown().await;
            }
            write.write_all(&chunk).await?;
        }
        Ok(())
    };
    tokio::try_join!(reading, writing).map(|_| ())
}
