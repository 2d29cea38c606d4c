//! A peer that speaks the right protocols and then writes what it likes, for tests and attacks: what no correct peer sends.

use std::collections::HashSet;
use std::future::{Ready, ready};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::transport::{DialOpts, ListenerId, PortUse, TransportError, TransportEvent};
use libp2p::core::upgrade::{
    InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo, Version,
};
use libp2p::core::{Endpoint, Transport as _};
use libp2p::identity::Keypair;
use libp2p::swarm::{Config, Stream, Swarm, SwarmEvent};
use libp2p::{Multiaddr, noise, tcp};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::behaviour::{Behaviour, ConnectionReport, Event};
use super::limits::Gate;
use super::streams::{FrameReader, Pace};
use super::{
    Class, Hello, HelloContent, HelloError, PeerId, Settings, Transport, address, transport,
};
use bytes::Bytes;

/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(15);

/// A peer that is connected, with all streams of both directions. Its connection ends with it.
pub struct Raw {
    /// Who it is.
    pub peer: PeerId,
    /// What the node writes on.
    pub inbound: Vec<(Class, Stream)>,
    outbound: Vec<(Class, Stream)>,
    hello: HelloContent,
    swarm: AbortHandle,
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.swarm.abort();
    }
}

impl Raw {
    /// Connects to the node that listens there, with the identity and the hello of `settings`, from its address.
    ///
    /// # Errors
    /// Where the node does not let it in.
    pub async fn connect(listen: SocketAddr, settings: Settings) -> io::Result<Raw> {
        let keys = Keypair::ed25519_from_bytes(settings.secret).map_err(io::Error::other)?;
        let transport = transport::over(From(settings.listen.ip()), &keys, &settings.timeouts);
        let gate = Gate::new(settings.limits, HashSet::new());
        let peer = keys.public().to_peer_id();
        let swarm_config = Config::with_tokio_executor();
        let transport = transport.map_err(io::Error::other)?;
        let mut swarm = Swarm::new(transport, Behaviour::new(gate), peer, swarm_config);
        let dialled = swarm.dial(address::multiaddr(listen, Transport::Tcp));
        dialled.map_err(io::Error::other)?;
        let (opened, mut streams) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::Behaviour(ConnectionReport {
                        event: Event::Opened { class, outbound, stream },
                        ..
                    }) => drop(opened.send((class, outbound, stream))),
                    SwarmEvent::ConnectionClosed { .. }
                    | SwarmEvent::OutgoingConnectionError { .. } => return,
                    _ => {}
                }
            }
        });
        let (swarm, hello) = (task.abort_handle(), settings.hello);
        let mut raw = Raw { peer, inbound: Vec::new(), outbound: Vec::new(), hello, swarm };
        while raw.inbound.len() < Class::COUNT || raw.outbound.len() < Class::COUNT {
            let next = timeout(CONNECT_MAX, streams.recv()).await?;
            let (class, outbound, stream) = next.ok_or(io::ErrorKind::ConnectionRefused)?;
            let list = if outbound { &mut raw.outbound } else { &mut raw.inbound };
            list.push((class, stream));
        }
        Ok(raw)
    }

    /// What it writes on.
    ///
    /// # Panics
    /// Never: all classes are open.
    pub fn stream(&mut self, wanted: Class) -> &mut Stream {
        let found = self.outbound.iter_mut().find(|(class, _)| *class == wanted);
        &mut found.expect("all classes are open").1
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// Where the node has cut it off.
    pub async fn write(&mut self, class: Class, bytes: &[u8]) -> io::Result<()> {
        let stream = self.stream(class);
        stream.write_all(bytes).await?;
        stream.flush().await
    }

    /// Writes a frame with its length.
    ///
    /// # Errors
    /// Where the node has cut it off.
    pub async fn write_frame(&mut self, class: Class, frame: &[u8]) -> io::Result<()> {
        self.write(class, &framed(frame)).await
    }

    /// Says hello as a correct peer does.
    ///
    /// # Errors
    /// Where the node has cut it off.
    pub async fn say_hello(&mut self) -> io::Result<()> {
        let hello = self.hello.encode(Vec::new());
        self.write_frame(Class::Consensus, &hello).await
    }

    /// The next frame that the node writes in this class.
    ///
    /// # Errors
    /// Where the node has cut it off.
    pub async fn read_frame(&mut self, wanted: Class) -> io::Result<Vec<u8>> {
        let found = self.inbound.iter_mut().find(|(class, _)| *class == wanted);
        let (_, stream) = found.ok_or(io::ErrorKind::NotFound)?;
        let mut prefix = [0; 4];
        stream.read_exact(&mut prefix).await?;
        let length = usize::try_from(u32::from_be_bytes(prefix)).map_err(io::Error::other)?;
        let mut frame = vec![0; length];
        stream.read_exact(&mut frame).await?;
        Ok(frame)
    }

    /// Waits until the node ends the connection, reading and dropping what it says.
    pub async fn cut_off(&mut self) {
        let reads = self.inbound.iter_mut().map(|(_, stream)| {
            Box::pin(async move {
                let mut bytes = [0; 4096];
                while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
            })
        });
        futures::future::select_all(reads).await;
    }
}

/// Checks the hello of a peer for this node as the network does; every proof of a key is taken for good.
///
/// # Errors
/// Why it is refused.
pub fn check_hello(ours: &HelloContent, hello: &[u8]) -> Result<Hello, HelloError> {
    let peer = PeerId::from(Keypair::ed25519_from_bytes([1; 32]).expect("a key").public());
    ours.check(hello, &peer, &|_, _, _| true)
}

/// The bytes of a hello.
#[must_use]
pub fn encode_hello(content: &HelloContent, known_peers: Vec<String>) -> Vec<u8> {
    content.encode(known_peers)
}

/// Cuts a stream of bytes into frames of at most so many bytes, as far as it is one.
pub async fn read_frames(stream: &[u8], frame_bytes_max: usize, mut take: impl FnMut(Bytes)) {
    let pace = Pace { stall: CONNECT_MAX, silence: None, rate_bytes_min: 1, budget: None };
    let mut reader = FrameReader::new(futures::io::Cursor::new(stream));
    while let Ok(frame) = reader.next(frame_bytes_max, &pace).await {
        take(frame.bytes);
    }
}

/// A frame with its length.
#[must_use]
pub fn framed(frame: &[u8]) -> Vec<u8> {
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), frame].concat()
}

/// Makes an encrypted connection; what is written on it the node takes for yamux.
///
/// # Errors
/// Where the node does not let it in.
pub async fn below_yamux(
    listen: SocketAddr,
    secret: [u8; 32],
) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>> {
    let keys = Keypair::ed25519_from_bytes(secret).map_err(io::Error::other)?;
    let noise = noise::Config::new(&keys).map_err(io::Error::other)?;
    let mut transport = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1)
        .authenticate(noise)
        .multiplex(Bare);
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let dial = transport.dial(address::multiaddr(listen, Transport::Tcp), options);
    let connected = timeout(CONNECT_MAX, dial.map_err(io::Error::other)?).await?;
    connected.map(|(_, held)| held.0).map_err(io::Error::other)
}

/// TCP connections from one address of this machine: libp2p binds none that it does not listen on.
struct From(IpAddr);

impl libp2p::core::Transport for From {
    type Output = tcp::tokio::TcpStream;
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<Self::Output>>;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(&mut self, _: ListenerId, to: Multiaddr) -> Result<(), TransportError<io::Error>> {
        Err(TransportError::MultiaddrNotSupported(to))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(
        &mut self,
        to: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let from = SocketAddr::new(self.0, 0);
        let Some(to) = address::socket(&to) else {
            return Err(TransportError::MultiaddrNotSupported(to));
        };
        Ok(Box::pin(async move {
            let socket = match to {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            socket.bind(from)?;
            let stream = socket.connect(to).await?;
            stream.set_nodelay(true)?;
            Ok(tcp::tokio::TcpStream(stream))
        }))
    }

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Poll::Pending
    }
}

/// Agrees on yamux and leaves the connection as it is.
#[derive(Clone, Copy)]
struct Bare;

impl UpgradeInfo for Bare {
    type Info = &'static str;
    type InfoIter = std::iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once("/yamux/1.0.0")
    }
}

impl<C> OutboundConnectionUpgrade<C> for Bare {
    type Output = Held<C>;
    type Error = io::Error;
    type Future = Ready<Result<Held<C>, io::Error>>;

    fn upgrade_outbound(self, socket: C, _: &'static str) -> Self::Future {
        ready(Ok(Held(socket)))
    }
}

impl<C> InboundConnectionUpgrade<C> for Bare {
    type Output = Held<C>;
    type Error = io::Error;
    type Future = Ready<Result<Held<C>, io::Error>>;

    fn upgrade_inbound(self, socket: C, _: &'static str) -> Self::Future {
        ready(Ok(Held(socket)))
    }
}

/// A connection that passes for a multiplexer and is none.
struct Held<C>(C);

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Held<C> {
    type Substream = C;
    type Error = io::Error;

    fn poll_inbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<C>> {
        Poll::Pending
    }

    fn poll_outbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<C>> {
        Poll::Pending
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Poll::Pending
    }
}
