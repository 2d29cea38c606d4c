//! The life of one connection: hello in both directions, then a reader and a writer a class.

use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use libp2p::PeerId;
use libp2p::swarm::{ConnectionId, Stream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::hello::{HELLO_BYTES_MAX, Hello, HelloContent, HelloError, VerifySignature};
use super::peers::Peer;
use super::rooms::Rooms;
use super::streams::{Budget, FrameReader, FrameWriter, PREFIX_BYTES, Pace, Received, StreamError};
use super::{Class, ClassLimits, Inbound, Inboxes, Timeouts};

/// How long a connection stays open after a refused hello.
const LINGER: Duration = Duration::from_millis(200);
/// The least bytes a second of a frame under way from or to a validator.
const VALIDATOR_RATE_BYTES_MIN: usize = 8 * 1024;
/// The same for other peers (CometBFT's block sync asks as much).
const RATE_BYTES_MIN: usize = 128 * 1024;

/// A negotiated stream on its way to the session.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) class: Class,
    pub(super) outbound: bool,
    pub(super) stream: Stream,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// Its hello was refused, which was reported already.
    #[error("its hello was refused")]
    Refused,
    #[error("no hello from it within {} s", .0.as_secs())]
    HelloTimeout(Duration),
    #[error("{1}")]
    Stream(Class, StreamError),
    /// The node no longer takes messages: it is stopping.
    #[error("this node is stopping")]
    Stopping,
}

/// What a session tells the task that owns the swarm.
#[derive(Debug)]
pub(super) enum Report {
    /// The hello is done; the session waits for its peer entry.
    Ready(ConnectionId, Hello),
    /// The hello is refused; the session stays a moment longer.
    Refused(ConnectionId, HelloError),
    /// The session is over and the connection has to be closed.
    Ended(ConnectionId, End),
}

/// What all sessions share.
pub(super) struct Shared {
    pub(super) hello: HelloContent,
    pub(super) verify: Arc<VerifySignature>,
    pub(super) classes: ClassLimits,
    pub(super) inboxes: Inboxes,
    /// For frames that wait in the inboxes.
    pub(super) rooms: Rooms,
    pub(super) timeouts: Timeouts,
    /// For long frames of peers that are no validators.
    pub(super) budget: Budget,
    pub(super) reports: mpsc::UnboundedSender<Report>,
}

impl Shared {
    /// How long frames of `class` may take; `validator`: from or to a validator.
    fn pace(&self, class: Class, validator: bool) -> Pace {
        // Only the consensus stream carries keep-alives.
        let silence = (class == Class::Consensus).then_some(self.timeouts.silence);
        Pace {
            stall: self.timeouts.write_stall,
            silence,
            rate_bytes_min: if validator { VALIDATOR_RATE_BYTES_MIN } else { RATE_BYTES_MIN },
            budget: (!validator).then(|| self.budget.clone()),
        }
    }
}

/// One connection.
pub(super) struct Session {
    pub(super) connection: ConnectionId,
    pub(super) peer: PeerId,
    /// Our hello, encoded.
    pub(super) hello: Vec<u8>,
    pub(super) streams: mpsc::UnboundedReceiver<Opened>,
    /// Comes when this connection is the one that carries the peer.
    pub(super) go: oneshot::Receiver<Arc<Peer>>,
    pub(super) shared: Arc<Shared>,
}

/// The streams that are open before the hello is done, both halves of each class.
#[derive(Default)]
struct Streams {
    inbound: Vec<(Class, FrameReader<Stream>)>,
    outbound: Vec<(Class, Stream)>,
}

impl Streams {
    fn add(&mut self, opened: Opened) {
        let Opened { class, outbound, stream } = opened;
        if outbound {
            self.outbound.push((class, stream));
        } else {
            self.inbound.push((class, FrameReader::new(stream)));
        }
    }

    /// Both halves of the consensus class, once they are there.
    fn consensus(&mut self) -> Option<(&mut FrameReader<Stream>, &mut Stream)> {
        let reader = self.inbound.iter_mut().find(|(class, _)| *class == Class::Consensus)?;
        let writer = self.outbound.iter_mut().find(|(class, _)| *class == Class::Consensus)?;
        Some((&mut reader.1, &mut writer.1))
    }
}

impl Session {
    /// Runs until the connection has to be closed, and reports why.
    pub(super) async fn run(self) {
        let (connection, shared) = (self.connection, Arc::clone(&self.shared));
        let end = self.live().await;
        // It fails only when the network has stopped.
        let _ = shared.reports.send(Report::Ended(connection, end));
    }

    async fn live(mut self) -> End {
        let limit = self.shared.timeouts.hello;
        let (hello, streams) = match timeout(limit, self.greet()).await {
            Err(_) => return End::HelloTimeout(limit),
            Ok(Err(end)) => return end,
            Ok(Ok(greeted)) => greeted,
        };
        let _ = self.shared.reports.send(Report::Ready(self.connection, hello));
        match self.go.await {
            Ok(peer) => carry(self.shared, self.peer, peer, streams, self.streams).await,
            Err(_) => End::Stopping,
        }
    }

    async fn greet(&mut self) -> Result<(Hello, Streams), End> {
        let mut streams = Streams::default();
        loop {
            streams.add(self.streams.recv().await.ok_or(End::Stopping)?);
            let Some((reader, writer)) = streams.consensus() else { continue };
            let pace = self.shared.pace(Class::Consensus, false);
            let mut writer = FrameWriter::new(writer, pace.clone());
            let (said, heard) =
                tokio::join!(writer.write_one(&self.hello), reader.next(HELLO_BYTES_MAX, &pace));
            let failed = |error| End::Stream(Class::Consensus, error);
            let heard = heard.map_err(failed)?.bytes;
            let shared = &self.shared;
            match shared.hello.check(&heard, &self.peer, &*shared.verify) {
                Ok(hello) => {
                    said.map_err(failed)?;
                    return Ok((hello, streams));
                }
                Err(error) => {
                    // It fails only when the network has stopped.
                    let _ = shared.reports.send(Report::Refused(self.connection, error));
                    // Leaves the peer the time to read our hello, so that both sides can say why.
                    let _ = timeout(LINGER, reader.next(HELLO_BYTES_MAX, &pace)).await;
                    return Err(End::Refused);
                }
            }
        }
    }
}

/// Reads and writes until the first stream fails.
async fn carry(
    shared: Arc<Shared>,
    id: PeerId,
    peer: Arc<Peer>,
    streams: Streams,
    mut more: mpsc::UnboundedReceiver<Opened>,
) -> End {
    let mut tasks = JoinSet::new();
    let mut next = Some(streams);
    loop {
        let streams = next.take().unwrap_or_default();
        for (class, reader) in streams.inbound {
            tasks.spawn(read(Arc::clone(&shared), id, Arc::clone(&peer), class, reader));
        }
        for (class, stream) in streams.outbound {
            let writer = FrameWriter::new(stream, shared.pace(class, peer.validator));
            tasks.spawn(write(Arc::clone(&peer), class, writer, shared.timeouts.keep_alive));
        }
        tokio::select! {
            Some(ended) = tasks.join_next() => return ended.unwrap_or(End::Stopping),
            Some(opened) = more.recv() => next.get_or_insert_default().add(opened),
            else => return End::Stopping,
        }
    }
}

async fn read<R: AsyncRead + Unpin>(
    shared: Arc<Shared>,
    id: PeerId,
    peer: Arc<Peer>,
    class: Class,
    mut reader: FrameReader<R>,
) -> End {
    let limit = shared.classes.of(class).frame_bytes_max;
    let inbox = shared.inboxes.of(class);
    let pace = shared.pace(class, peer.validator);
    loop {
        // What is reserved for the frame is held until the inbox has taken it.
        let Received { bytes, reserved: _reserved } = match reader.next(limit, &pace).await {
            Ok(received) => received,
            Err(error) => return End::Stream(class, error),
        };
        peer.traffic.add_received(class, PREFIX_BYTES + bytes.len());
        if bytes.is_empty() {
            continue;
        }
        let share = peer.share(class, bytes.len()).await;
        // A closed room is one of a network that has stopped.
        let Some(room) = shared.rooms.take(class, bytes.len()).await else { return End::Stopping };
        let inbound = Inbound { peer: id, class, bytes, room: Some(room), share };
        if inbox.send(inbound).await.is_err() {
            return End::Stopping;
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(
    peer: Arc<Peer>,
    class: Class,
    mut writer: FrameWriter<W>,
    keep_alive: Duration,
) -> End {
    let lane = &peer.lanes[class.index()];
    loop {
        let outcome = if class == Class::Consensus {
            match timeout(keep_alive, lane.take()).await {
                Ok(batch) => writer.write(&batch).await,
                Err(_) => writer.write_one(&[]).await.map(|()| PREFIX_BYTES),
            }
        } else {
            let batch = lane.take().await;
            writer.write(&batch).await
        };
        match outcome {
            Ok(written) => peer.traffic.add_sent(class, written),
            Err(error) => return End::Stream(class, error),
        }
    }
}
