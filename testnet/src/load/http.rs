//! A minimal HTTP/1.1 client: one kept-alive connection, one request at a time.
//!
//! The load generator shares the machine with the nodes that it measures, so a request must cost
//! next to nothing: bytes are prepared by the caller, and of a reply only the status, the framing
//! and the body are read. Both framings are understood, because CometBFT sends a length with short
//! replies and chunks with long ones.

use std::io;
use std::ops::Range;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest head (status line and headers) of a reply, in bytes.
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest body of a reply, in bytes: the largest block, in base64, with room.
pub(crate) const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Longest line that announces a chunk, in bytes.
const CHUNK_LINE_BYTES_MAX: usize = 256;
/// What one read asks of the socket, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// How long a connection may take to open: everything here is near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Why an exchange over HTTP failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// Nothing listens there, or it does not answer the call.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// The connection broke while it was in use.
    #[error("connection broken")]
    Broken(#[source] io::Error),
    /// The other side closed the connection before it answered.
    #[error("connection closed without an answer")]
    Closed,
    /// The answer did not come in time.
    #[error("no answer in time")]
    Timeout,
    /// The bytes are not an HTTP reply that this client can read.
    #[error("not a readable HTTP reply: {0}")]
    Malformed(&'static str),
    /// The reply is longer than this client is willing to hold.
    #[error("reply too large: {0}")]
    TooLarge(&'static str),
}

/// What of the reply comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expect {
    #[default]
    Head,
    Sized(usize),
    ChunkSize,
    Chunk(usize),
    Trailer,
}

/// Puts replies together from whatever pieces the socket hands over.
#[derive(Debug, Default)]
pub(crate) struct ReplyParser {
    buffer: Vec<u8>,
    at: usize,
    expect: Expect,
    head: Vec<u8>,
    body: Vec<u8>,
    status: u16,
    close: bool,
}

impl ReplyParser {
    /// Where the bytes that were read go.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Whether nothing of a reply has come yet.
    pub(crate) fn untouched(&self) -> bool {
        self.buffer.is_empty() && self.expect == Expect::Head
    }

    /// Whether the other side closes the connection after this reply.
    pub(crate) fn closes(&self) -> bool {
        self.close
    }

    /// The body of the reply that `poll` found last.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// A header of the reply that `poll` found last; empty where it has none of that name.
    pub(crate) fn header(&self, name: &str) -> &str {
        let text = std::str::from_utf8(&self.head).unwrap_or_default();
        let mut headers = text.split("\r\n").filter_map(|line| line.split_once(':'));
        let found = headers.find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.trim())
    }

    /// Goes on with the bytes that are there: the status, once the reply is whole.
    pub(crate) fn poll(&mut self) -> Result<Option<u16>, HttpError> {
        loop {
            let done = match self.expect {
                Expect::Head => {
                    if !self.head()? {
                        return Ok(None);
                    }
                    false
                }
                Expect::Sized(length) => {
                    if !self.take(length) {
                        return Ok(None);
                    }
                    true
                }
                Expect::ChunkSize => {
                    if !self.chunk_size()? {
                        return Ok(None);
                    }
                    false
                }
                Expect::Chunk(length) => {
                    if !self.chunk(length)? {
                        return Ok(None);
                    }
                    false
                }
                Expect::Trailer => match self.line()? {
                    None => return Ok(None),
                    Some(line) => line.is_empty(),
                },
            };
            if done {
                self.buffer.drain(..self.at);
                self.at = 0;
                self.expect = Expect::Head;
                return Ok(Some(self.status));
            }
        }
    }

    fn head(&mut self) -> Result<bool, HttpError> {
        let Some(length) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(HttpError::TooLarge("head"));
            }
            return Ok(false);
        };
        let bytes = self.buffer.get(..length).unwrap_or_default();
        let head = Head::read(bytes)?;
        self.head.clear();
        self.head.extend_from_slice(bytes);
        self.body.clear();
        self.status = head.status;
        self.close = head.close;
        self.at = length + 4;
        self.expect = match (head.chunked, head.length) {
            (true, _) => Expect::ChunkSize,
            (false, Some(length)) if length > BODY_BYTES_MAX => {
                return Err(HttpError::TooLarge("body"));
            }
            (false, Some(length)) => Expect::Sized(length),
            (false, None) => return Err(HttpError::Malformed("neither a length nor chunks")),
        };
        Ok(true)
    }

    fn take(&mut self, length: usize) -> bool {
        let Some(bytes) = self.buffer.get(self.at..self.at + length) else { return false };
        self.body.extend_from_slice(bytes);
        self.at += length;
        true
    }

    fn chunk_size(&mut self) -> Result<bool, HttpError> {
        let Some(line) = self.line()? else { return Ok(false) };
        let text = std::str::from_utf8(self.buffer.get(line).unwrap_or_default());
        let digits = text.ok().and_then(|text| text.split(';').next()).map(str::trim);
        let length = digits
            .and_then(|digits| usize::from_str_radix(digits, 16).ok())
            .ok_or(HttpError::Malformed("chunk size"))?;
        if length > BODY_BYTES_MAX - self.body.len().min(BODY_BYTES_MAX) {
            return Err(HttpError::TooLarge("body"));
        }
        self.expect = if length == 0 { Expect::Trailer } else { Expect::Chunk(length) };
        Ok(true)
    }

    fn chunk(&mut self, length: usize) -> Result<bool, HttpError> {
        if self.buffer.len() < self.at + length + 2 {
            return Ok(false);
        }
        self.take(length);
        if self.buffer.get(self.at..self.at + 2) != Some(b"\r\n") {
            return Err(HttpError::Malformed("chunk without its end"));
        }
        self.at += 2;
        self.expect = Expect::ChunkSize;
        // What has been taken is dropped, so that a long body is not held twice.
        self.buffer.drain(..self.at);
        self.at = 0;
        Ok(true)
    }

    /// The next line without its end, consumed.
    fn line(&mut self) -> Result<Option<Range<usize>>, HttpError> {
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        let Some(length) = rest.windows(2).position(|two| two == b"\r\n") else {
            if rest.len() > CHUNK_LINE_BYTES_MAX {
                return Err(HttpError::TooLarge("chunk line"));
            }
            return Ok(None);
        };
        let line = self.at..self.at + length;
        self.at += length + 2;
        Ok(Some(line))
    }
}

/// What of a reply's head matters here.
struct Head {
    status: u16,
    length: Option<usize>,
    chunked: bool,
    close: bool,
}

impl Head {
    fn read(bytes: &[u8]) -> Result<Self, HttpError> {
        let text = std::str::from_utf8(bytes).map_err(|_| HttpError::Malformed("head"))?;
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5))
            .and_then(|code| code.parse().ok())
            .ok_or(HttpError::Malformed("status line"))?;
        let mut head = Self { status, length: None, chunked: false, close: false };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                let length = value.parse().map_err(|_| HttpError::Malformed("content length"))?;
                head.length = Some(length);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                head.chunked = value.eq_ignore_ascii_case("chunked");
            } else if name.eq_ignore_ascii_case("connection") {
                head.close = value.eq_ignore_ascii_case("close");
            }
        }
        Ok(head)
    }
}

/// A kept-alive connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    parser: ReplyParser,
}

impl Connection {
    /// Connects to `host:port`, without Nagle's delay.
    pub(crate) async fn open(address: &str) -> Result<Self, HttpError> {
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
            .await
            .map_err(|_| HttpError::Connect(io::ErrorKind::TimedOut.into()))?
            .map_err(HttpError::Connect)?;
        stream.set_nodelay(true).map_err(HttpError::Connect)?;
        Ok(Self { stream, parser: ReplyParser::default() })
    }

    /// Sends a whole request and waits for its reply: status and body.
    ///
    /// After an error, the connection must not be used again.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<(u16, &[u8]), HttpError> {
        self.stream.write_all(request).await.map_err(HttpError::Broken)?;
        loop {
            self.parser.buffer().reserve(READ_BYTES);
            let read = self.stream.read_buf(self.parser.buffer()).await;
            if read.map_err(HttpError::Broken)? == 0 {
                return Err(HttpError::Closed);
            }
            if let Some(status) = self.parser.poll()? {
                return Ok((status, self.parser.body()));
            }
        }
    }

    /// A header of the last reply; empty where it has none of that name.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.parser.header(name)
    }

    /// The body of the last reply.
    pub(crate) fn body(&self) -> &[u8] {
        self.parser.body()
    }

    /// Whether the last exchange failed before any byte of a reply came.
    pub(crate) fn untouched(&self) -> bool {
        self.parser.untouched()
    }

    /// Whether the other side closes this connection now.
    pub(crate) fn closes(&self) -> bool {
        self.parser.closes()
    }
}

/// The bytes of a POST of JSON to `/`.
pub(crate) fn post(host: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZED: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-length: 5\r\n\r\nhello";
    const CHUNKED: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\nTransfer-Encoding: chunked\r\n\
        Connection: close\r\n\r\n4\r\nwiki\r\n6;name=value\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n\
        0\r\nX-Trailer: yes\r\n\r\n";

    fn feed(parser: &mut ReplyParser, pieces: &[&[u8]]) -> Option<u16> {
        let mut status = None;
        for piece in pieces {
            assert_eq!(status, None, "a reply ended before its last piece");
            parser.buffer().extend_from_slice(piece);
            status = parser.poll().expect("readable");
        }
        status
    }

    #[test]
    fn a_reply_is_read_wherever_the_reads_split_it() {
        for (bytes, status, body) in [
            (SIZED, 200, b"hello".as_slice()),
            (CHUNKED, 500, b"wikipedia in \r\n\r\nchunks.".as_slice()),
        ] {
            for split in 0..bytes.len() {
                let (one, two) = bytes.split_at(split);
                let mut parser = ReplyParser::default();
                assert!(parser.untouched());
                assert_eq!(feed(&mut parser, &[one, two]), Some(status), "split at {split}");
                assert_eq!(parser.body(), body);
                assert_eq!(parser.header("X-Trailer"), "");
                let chunked = parser.header("transfer-encoding") == "chunked";
                assert_eq!(chunked, status == 500);
                assert!(parser.untouched());
                assert_eq!(parser.closes(), status == 500);
            }
            let mut parser = ReplyParser::default();
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(feed(&mut parser, &single), Some(status));
            assert_eq!(parser.body(), body);
        }
    }

    #[test]
    fn replies_on_one_connection_follow_each_other() {
        let mut parser = ReplyParser::default();
        for _ in 0..3 {
            assert_eq!(feed(&mut parser, &[CHUNKED]), Some(500));
            assert_eq!(feed(&mut parser, &[SIZED]), Some(200));
            assert_eq!(parser.body(), b"hello");
        }
    }

    #[test]
    fn what_is_not_a_reply_is_refused() {
        for bytes in [
            b"SSH-2.0-OpenSSH\r\n\r\n".as_slice(),
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
        ] {
            let mut parser = ReplyParser::default();
            parser.buffer().extend_from_slice(bytes);
            assert!(parser.poll().is_err(), "{}", String::from_utf8_lossy(bytes));
        }
        let mut parser = ReplyParser::default();
        parser.buffer().extend(std::iter::repeat_n(b'x', HEAD_BYTES_MAX + 1));
        assert!(matches!(parser.poll(), Err(HttpError::TooLarge("head"))));
    }
}
