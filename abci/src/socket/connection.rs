//! Frames on a connection: each message after its length as an unsigned varint (CometBFT `libs/protoio`).

use super::address::{Address, Stream};
use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;
use tendermint_proto::v0_38::abci::{Request, Response};

/// The largest response in bytes (CometBFT `abci/client`, `maxMsgSize` of the socket's reader).
pub const RESPONSE_BYTES_MAX: usize = 104_857_600;
/// How often a wait looks around.
const TICK: Duration = Duration::from_millis(100);
const CHUNK: usize = 64 * 1024;
/// The most bytes of a varint.
const VARINT_BYTES_MAX: usize = 10;

/// Why a connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// It ended: the application is gone, or closed it.
    #[error("the application closed the connection")]
    Closed,
    /// It broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A frame that is none.
    #[error("what came is no response of ABCI: {0}")]
    Malformed(String),
    /// The response is larger than allowed.
    #[error("a response of {0} bytes is larger than {RESPONSE_BYTES_MAX}")]
    TooLarge(u64),
    /// Whoever waits gave up.
    #[error("gave up")]
    GaveUp,
}

/// Told now and then during a wait; an error ends it.
pub(super) trait Patience {
    fn tick(&mut self) -> Result<(), Fault>;
}

/// A connection, and what came of it so far.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    inbox: BytesMut,
    outbox: Vec<u8>,
    chunk: Box<[u8]>,
}

impl Connection {
    pub(super) fn open(address: &Address) -> io::Result<Connection> {
        let stream = address.connect()?;
        stream.set_timeouts(TICK)?;
        let (inbox, chunk) = (BytesMut::new(), vec![0; CHUNK].into_boxed_slice());
        Ok(Connection { stream, inbox, outbox: Vec::new(), chunk })
    }

    /// Puts a request behind those that have not left yet.
    pub(super) fn queue(&mut self, request: &Request) {
        self.outbox.reserve(request.encoded_len() + VARINT_BYTES_MAX);
        request
            .encode_length_delimited(&mut self.outbox)
            .unwrap_or_else(|_| unreachable!("a Vec grows"));
    }

    /// How many bytes have not left yet.
    pub(super) fn queued(&self) -> usize {
        self.outbox.len()
    }

    /// Sends what was queued. Where the application does not read, what it answers is read meanwhile, or both would wait for ever.
    pub(super) fn send(&mut self, patience: &mut dyn Patience) -> Result<(), Fault> {
        let mut sent = 0;
        while sent < self.outbox.len() {
            match self.stream.write(&self.outbox[sent..]) {
                Ok(0) => return Err(Fault::Closed),
                Ok(bytes) => sent += bytes,
                Err(error) if is_tick(&error) => {
                    self.fill()?;
                    patience.tick()?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.outbox.clear();
        Ok(())
    }

    /// The next response.
    pub(super) fn receive(&mut self, patience: &mut dyn Patience) -> Result<Response, Fault> {
        loop {
            if let Some(frame) = self.frame()? {
                let response = Response::decode(frame);
                return response.map_err(|error| Fault::Malformed(error.to_string()));
            }
            if !self.fill()? {
                patience.tick()?;
            }
        }
    }

    /// Reads what is there, or waits for a moment; false where nothing came.
    fn fill(&mut self) -> Result<bool, Fault> {
        match self.stream.read(&mut self.chunk) {
            Ok(0) => Err(Fault::Closed),
            Ok(bytes) => {
                self.inbox.extend_from_slice(&self.chunk[..bytes]);
                Ok(true)
            }
            Err(error) if is_tick(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn frame(&mut self) -> Result<Option<Bytes>, Fault> {
        let mut rest = &self.inbox[..];
        let length = match prost::encoding::decode_varint(&mut rest) {
            Ok(length) => length,
            Err(_) if self.inbox.len() < VARINT_BYTES_MAX => return Ok(None),
            Err(error) => return Err(Fault::Malformed(error.to_string())),
        };
        let size = usize::try_from(length).ok().filter(|size| *size <= RESPONSE_BYTES_MAX);
        let size = size.ok_or(Fault::TooLarge(length))?;
        if rest.len() < size {
            return Ok(None);
        }
        let prefix = self.inbox.len() - rest.len();
        self.inbox.advance(prefix);
        Ok(Some(self.inbox.split_to(size).freeze()))
    }
}

fn is_tick(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
