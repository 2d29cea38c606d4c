//! The encrypted, multiplexed transport below the swarm.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::io::BufReader;
use futures::{AsyncRead, AsyncWrite};
use libp2p::core::Transport as _;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::swarm::DialError;
use libp2p::{PeerId, noise, quic, tcp};
use tokio::time::{Instant, Sleep};

use super::muxer::Multiplex;
use super::{StartError, Timeouts, Transport};

/// Streams of a peer that may be open or in negotiation at a moment.
pub(super) const STREAMS_MAX: usize = 16;
/// The socket is read in pieces of this size: Noise alone would ask for 8 KiB at a time.
const READ_BYTES_MAX: usize = 64 * 1024;
/// QUIC: most bytes of a stream that were received and not yet read.
const QUIC_STREAM_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// QUIC: the same of all streams of a connection.
const QUIC_CONNECTION_BYTES_MAX: u32 = 8 * 1024 * 1024;
/// QUIC: a peer from which nothing comes for this long is gone.
const QUIC_IDLE_MS_MAX: u32 = 6_000;
/// QUIC: an idle connection sends something this often.
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Depth at which the search for the cause of an error ends.
const CAUSES_MAX: usize = 16;

/// TCP, Noise and Yamux, or QUIC.
pub(super) fn build(
    keys: &Keypair,
    kind: Transport,
    timeouts: &Timeouts,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, StartError> {
    match kind {
        Transport::Tcp => build_tcp(keys, timeouts),
        Transport::Quic => Ok(build_quic(keys, timeouts)),
    }
}

fn build_tcp(
    keys: &Keypair,
    timeouts: &Timeouts,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, StartError> {
    over(tcp::tokio::Transport::new(tcp::Config::default().nodelay(true)), keys, timeouts)
}

/// Noise and Yamux over any transport of bytes.
pub(super) fn over<T>(
    tcp: T,
    keys: &Keypair,
    timeouts: &Timeouts,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, StartError>
where
    T: libp2p::core::Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Dial: Send,
    T::ListenerUpgrade: Send,
    T::Error: Send + Sync,
{
    let stall = timeouts.write_stall;
    let tcp = tcp.map(move |stream, _| {
        BufReader::with_capacity(READ_BYTES_MAX, Guarded::new(stream, stall))
    });
    let noise = noise::Config::new(keys).map_err(|_| StartError::Key)?;
    Ok(TransportTimeout::with_outgoing_timeout(tcp, timeouts.dial)
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(Multiplex::new())
        .timeout(timeouts.handshake)
        .boxed())
}

fn build_quic(keys: &Keypair, timeouts: &Timeouts) -> Boxed<(PeerId, StreamMuxerBox)> {
    let mut config = quic::Config::new(keys);
    config.handshake_timeout = timeouts.dial;
    config.max_idle_timeout = QUIC_IDLE_MS_MAX;
    config.keep_alive_interval = QUIC_KEEP_ALIVE;
    config.max_concurrent_stream_limit = u32::try_from(STREAMS_MAX).unwrap_or(u32::MAX);
    config.max_stream_data = QUIC_STREAM_BYTES_MAX;
    config.max_connection_data = QUIC_CONNECTION_BYTES_MAX;
    let quic = quic::tokio::Transport::new(config)
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));
    TransportTimeout::new(quic, timeouts.handshake).boxed()
}

/// Whether a dial failed because nothing listens there.
pub(super) fn refused(error: &DialError) -> bool {
    let DialError::Transport(errors) = error else { return false };
    errors.iter().any(|(_, error)| {
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        for _ in 0..CAUSES_MAX {
            let Some(error) = cause else { break };
            // The source of a wrapping io error is the source of what it wraps.
            cause = match error.downcast_ref::<io::Error>() {
                Some(io) if io.kind() == io::ErrorKind::ConnectionRefused => return true,
                Some(io) => match io.get_ref() {
                    Some(inner) => Some(inner),
                    None => io.source(),
                },
                None => error.source(),
            };
        }
        false
    })
}

/// A socket whose writes fail when the other side takes nothing for a while: also while the
/// connection is being closed, which would otherwise last as long as the other side likes.
struct Guarded<S> {
    stream: S,
    stall: Duration,
    timer: Pin<Box<Sleep>>,
    waiting: bool,
}

impl<S> Guarded<S> {
    fn new(stream: S, stall: Duration) -> Self {
        Self { stream, stall, timer: Box::pin(tokio::time::sleep(stall)), waiting: false }
    }

    /// Passes `outcome` on, unless it has been pending for too long.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.waiting = false;
            return outcome;
        }
        if !self.waiting {
            self.waiting = true;
            self.timer.as_mut().reset(Instant::now() + self.stall);
        }
        match self.timer.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(context, outcome)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_close(context);
        self.watch(context, outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::AsyncWriteExt;
    use libp2p::core::transport::TransportError;

    #[test]
    fn a_refused_dial_is_recognised_through_the_layers() {
        let os = io::Error::from(io::ErrorKind::ConnectionRefused);
        let layered = TransportError::Other(io::Error::other(io::Error::other(os)));
        let address = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        assert!(refused(&DialError::Transport(vec![(address, layered)])));
        assert!(!refused(&DialError::Aborted));
    }

    #[tokio::test]
    async fn a_write_that_nobody_takes_fails() {
        let mut guarded = Guarded::new(Full(10), Duration::from_millis(20));
        let error = guarded.write_all(&[0; 100]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    /// Takes so many bytes and then nothing.
    struct Full(usize);

    impl AsyncWrite for Full {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 { Poll::Pending } else { Poll::Ready(Ok(taken)) }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
}
