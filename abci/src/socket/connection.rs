//! A connection to an application, as its client sees it: what leaves and what comes, without a wait that nobody can end.

use super::frames::{self, NoFrame, VARINT_BYTES_MAX};
use crate::remote::{Address, GaveUp, Stream, TICK, Watch};
use bytes::BytesMut;
use prost::Message;
use std::io::{self, ErrorKind, Read, Write};
use tendermint_proto::v0_38::abci::{Request, Response};

const CHUNK: usize = 64 * 1024;

/// Why a connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// It ended: the application is gone, or closed it.
    #[error("the application closed the connection")]
    Closed,
    /// It broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A response that is none.
    #[error("what came is no response of ABCI: {0}")]
    Malformed(String),
    /// A frame that is none.
    #[error(transparent)]
    Frame(#[from] NoFrame),
    /// Whoever waits gave up.
    #[error(transparent)]
    GaveUp(#[from] GaveUp),
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
    pub(super) fn send(&mut self, watch: &mut Watch<'_>) -> Result<(), Fault> {
        let mut sent = 0;
        while sent < self.outbox.len() {
            match self.stream.write(&self.outbox[sent..]) {
                Ok(0) => return Err(Fault::Closed),
                Ok(bytes) => sent += bytes,
                Err(error) if is_tick(&error) => {
                    self.fill()?;
                    watch.tick()?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.outbox.clear();
        Ok(())
    }

    /// The next response.
    pub(super) fn receive(&mut self, watch: &mut Watch<'_>) -> Result<Response, Fault> {
        loop {
            if let Some(frame) = frames::take(&mut self.inbox)? {
                let response = Response::decode(frame);
                return response.map_err(|error| Fault::Malformed(error.to_string()));
            }
            if !self.fill()? {
                watch.tick()?;
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
}

fn is_tick(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
