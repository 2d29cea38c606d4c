//! A stream that lets `GET /tx?hash="…"` in. CometBFT's clients write quotes as they are, and the HTTP parser refuses them, so they
//! are percent-encoded on the way to it, in request lines of GET alone.
//!
//! To know where a request line begins it must know where the request before ends. A GET ends at its empty line, unless it announces a
//! body. From the first request on that is no plain GET, everything passes as it is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a request must begin with.
const GET: &[u8] = b"GET ";
/// Headers that announce more than a plain GET, in lower case.
const NOT_PLAIN: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"upgrade"];
/// The most bytes that are read at a time while requests are looked at.
const PIECE_BYTES: usize = 4_096;

/// The stream.
pub(crate) struct Quotes<S> {
    stream: S,
    place: Place,
    /// What has been read and not been handed on.
    ready: Vec<u8>,
    /// How much of it was handed on.
    taken: usize,
}

/// Where in a request the next byte is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// In the method: so many bytes of [`GET`] have come.
    Method(usize),
    /// In the rest of the request line.
    Target,
    /// In a header line, with as much of its beginning as matters.
    Header(Vec<u8>),
    /// In something else, for the rest of the connection.
    Other,
}

impl<S> Quotes<S> {
    /// Wraps `stream`.
    pub(crate) fn new(stream: S) -> Quotes<S> {
        Quotes { stream, place: Place::Method(0), ready: Vec::new(), taken: 0 }
    }

    /// Takes what was read, with quotes in request lines encoded.
    fn take(&mut self, bytes: &[u8]) {
        for (at, byte) in bytes.iter().enumerate() {
            if self.place == Place::Other {
                return self.ready.extend_from_slice(bytes.get(at..).unwrap_or_default());
            }
            match (&self.place, byte) {
                (Place::Target, b'"') => self.ready.extend_from_slice(b"%22"),
                (Place::Target, b'<') => self.ready.extend_from_slice(b"%3C"),
                (Place::Target, b'>') => self.ready.extend_from_slice(b"%3E"),
                _ => self.ready.push(*byte),
            }
            self.place = std::mem::replace(&mut self.place, Place::Other).after(*byte);
        }
    }
}

impl Place {
    /// Where the byte after `byte` is.
    fn after(self, byte: u8) -> Place {
        match self {
            Place::Method(count) if GET.get(count) != Some(&byte) => Place::Other,
            Place::Method(count) if count + 1 == GET.len() => Place::Target,
            Place::Method(count) => Place::Method(count + 1),
            Place::Target if byte == b'\n' => Place::Header(Vec::new()),
            Place::Header(line) if byte == b'\n' => match line.as_slice() {
                b"" | b"\r" => Place::Method(0),
                line if NOT_PLAIN.iter().any(|name| line.starts_with(name)) => Place::Other,
                _ => Place::Header(Vec::new()),
            },
            Place::Header(mut line) => {
                // One more than the longest name is enough to tell an empty line and the names apart.
                if line.len() < NOT_PLAIN.iter().map(|name| name.len()).max().unwrap_or(0) + 1 {
                    line.push(byte.to_ascii_lowercase());
                }
                Place::Header(line)
            }
            other => other,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Quotes<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.taken == self.ready.len() {
            if self.place == Place::Other {
                self.ready = Vec::new();
                self.taken = 0;
                return Pin::new(&mut self.stream).poll_read(cx, buffer);
            }
            let mut piece = [0; PIECE_BYTES];
            let mut read = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            self.ready.clear();
            self.taken = 0;
            self.take(read.filled());
        }
        let rest = self.ready.get(self.taken..).unwrap_or_default();
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..count).unwrap_or_default());
        self.taken += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Quotes<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What comes out of `pieces`.
    fn through(pieces: &[&[u8]]) -> String {
        let mut quotes = Quotes::new(());
        pieces.iter().for_each(|piece| quotes.take(piece));
        String::from_utf8_lossy(&quotes.ready).into_owned()
    }

    const PLAIN: &str = "GET /tx?hash=\"0x<1>\" HTTP/1.1\r\nHost: \"a\"\r\n\r\n";
    const ENCODED: &str = "GET /tx?hash=%220x%3C1%3E%22 HTTP/1.1\r\nHost: \"a\"\r\n\r\n";

    #[test]
    fn quotes_in_the_request_lines_of_get_are_encoded_and_nothing_else() {
        assert_eq!(through(&[PLAIN.as_bytes(), PLAIN.as_bytes()]), ENCODED.repeat(2));
        let post = "POST /\"x\" HTTP/1.1\r\nContent-Length: 4\r\n\r\n\"GET";
        assert_eq!(through(&[post.as_bytes(), PLAIN.as_bytes()]), format!("{post}{PLAIN}"));
    }

    #[test]
    fn nothing_is_touched_after_a_get_with_a_body() {
        for header in ["content-length: 99", "Transfer-Encoding: chunked", "UPGRADE: websocket"] {
            let first = format!("GET / HTTP/1.1\r\n{header}\r\n\r\n");
            assert_eq!(through(&[first.as_bytes(), PLAIN.as_bytes()]), format!("{first}{PLAIN}"));
        }
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_does_not_matter(text in "(GET /\"[a-z]{0,3}|\r\n|content-length: 1|POST|\"|.){0,20}", cut in 0usize..200) {
            let bytes = text.as_bytes();
            let (a, b) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(through(&[a, b]), through(&[bytes]));
        }
    }
}
