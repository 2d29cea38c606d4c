//! Yamux as libp2p needs it. `libp2p-yamux` does the same but leaves the receive window of a
//! connection at 1 GiB, which is how much a peer could make this node hold, and cannot say in
//! which pieces a long write is cut.

use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::io;
use std::iter;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use yamux::{Connection, ConnectionError, Mode, Stream};

use super::transport::STREAMS_MAX;

/// Most bytes of all streams of a connection that were received and not yet read: 256 KiB a
/// stream, and 2 MiB for those that a fast peer fills, bodies most likely. What stands in a window
/// is in front of the next vote, so more would be faster over long distances only, and slower for
/// votes everywhere.
const RECEIVE_WINDOW_BYTES_MAX: usize = STREAMS_MAX * 256 * 1024 + 2 * 1024 * 1024;
/// A long write goes out in pieces of this size, and pieces of other streams go between.
const PIECE_BYTES: usize = 32 * 1024;

/// Makes a connection a multiplexer.
#[derive(Debug, Clone)]
pub(super) struct Multiplex(yamux::Config);

impl Multiplex {
    pub(super) fn new() -> Self {
        let mut config = yamux::Config::default();
        config
            .set_max_num_streams(STREAMS_MAX)
            .set_max_connection_receive_window(Some(RECEIVE_WINDOW_BYTES_MAX))
            .set_split_send_size(PIECE_BYTES);
        Self(config)
    }
}

impl UpgradeInfo for Multiplex {
    type Info = &'static str;
    type InfoIter = iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<C> for Multiplex {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<Result<Muxer<C>, io::Error>>;

    fn upgrade_inbound(self, socket: C, _: &'static str) -> Self::Future {
        ready(Ok(Muxer::new(socket, self.0, Mode::Server)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<C> for Multiplex {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<Result<Muxer<C>, io::Error>>;

    fn upgrade_outbound(self, socket: C, _: &'static str) -> Self::Future {
        ready(Ok(Muxer::new(socket, self.0, Mode::Client)))
    }
}

/// A multiplexed connection.
#[derive(Debug)]
pub(super) struct Muxer<C> {
    connection: Connection<C>,
    /// Inbound streams that came while the connection was driven for other reasons. Yamux lets
    /// no more than [`STREAMS_MAX`] be open.
    waiting: VecDeque<Stream>,
    waker: Option<Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn new(socket: C, config: yamux::Config, mode: Mode) -> Self {
        let connection = Connection::new(socket, config, mode);
        Self { connection, waiting: VecDeque::new(), waker: None }
    }

    /// Drives the connection until a stream comes in.
    fn drive(&mut self, context: &mut Context<'_>) -> Poll<Result<Stream, ConnectionError>> {
        let next = ready!(self.connection.poll_next_inbound(context));
        Poll::Ready(next.unwrap_or(Err(ConnectionError::Closed)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = Stream;
    type Error = ConnectionError;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Stream, ConnectionError>> {
        if let Some(stream) = self.waiting.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let outcome = self.drive(context);
        if outcome.is_pending() {
            self.waker = Some(context.waker().clone());
        }
        outcome
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Stream, ConnectionError>> {
        self.connection.poll_new_outbound(context)
    }

    fn poll_close(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        self.connection.poll_close(context)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, ConnectionError>> {
        let stream = ready!(self.drive(context))?;
        self.waiting.push_back(stream);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        // Drives on, after others had their turn.
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
