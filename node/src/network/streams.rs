//! Frames on a stream: a big-endian length of four bytes, then the bytes. An empty frame keeps
//! the connection alive and is not delivered.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::peers::Batch;

/// Bytes of the length prefix.
pub(super) const PREFIX_BYTES: usize = 4;
/// How much is asked of the stream at a time. Buffers grow by this as bytes arrive, never by the
/// length that a prefix declares.
const READ_BYTES_MAX: usize = 16 * 1024;
/// Frames up to this size are gathered into one write.
const GATHER_BYTES_MAX: usize = 16 * 1024;

/// Why a stream cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    #[error("connection closed")]
    Closed,
    #[error("connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("it announced a frame of {length} bytes where {limit} is the most")]
    Oversized { length: u32, limit: usize },
    #[error("nothing heard from it for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("it does not read: a write made no progress for {} s", .0.as_secs())]
    Stalled(Duration),
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// The next frame, a slice of the read buffer. `silence` bounds each wait for bytes.
    pub(super) async fn next(
        &mut self,
        limit: usize,
        silence: Option<Duration>,
    ) -> Result<Bytes, StreamError> {
        loop {
            if let Some(frame) = split_frame(&mut self.buffer, limit)? {
                return Ok(frame);
            }
            match silence {
                None => self.fill().await?,
                Some(length) => timeout(length, self.fill())
                    .await
                    .map_err(|_| StreamError::Silent(length))??,
            }
        }
    }

    async fn fill(&mut self) -> Result<(), StreamError> {
        let filled = self.buffer.len();
        self.buffer.resize(filled + READ_BYTES_MAX, 0);
        let outcome = self.stream.read(&mut self.buffer[filled..]).await;
        let read = outcome.as_ref().map_or(0, |read| *read);
        self.buffer.truncate(filled + read);
        match outcome? {
            0 => Err(StreamError::Closed),
            _ => Ok(()),
        }
    }
}

/// Takes a whole frame off the front of `buffer`, if there is one.
fn split_frame(buffer: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, StreamError> {
    let Some(prefix) = buffer.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let length = u32::from_be_bytes(*prefix);
    let oversized = || StreamError::Oversized { length, limit };
    let bytes = usize::try_from(length).map_err(|_| oversized())?;
    if bytes > limit {
        return Err(oversized());
    }
    if buffer.len() - PREFIX_BYTES < bytes {
        return Ok(None);
    }
    buffer.advance(PREFIX_BYTES);
    Ok(Some(buffer.split_to(bytes).freeze()))
}

/// Writes frames; all that wait go out in one write.
#[derive(Debug)]
pub(super) struct FrameWriter<W> {
    stream: W,
    gathered: Vec<u8>,
    stall: Duration,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// `stall` is the longest time in which the peer may take nothing.
    pub(super) fn new(stream: W, stall: Duration) -> Self {
        Self { stream, gathered: Vec::new(), stall }
    }

    /// Writes a batch and flushes. Returns how many bytes that were.
    pub(super) async fn write(&mut self, batch: &Batch<'_>) -> Result<usize, StreamError> {
        let mut written = 0;
        for frame in &batch.frames {
            written += PREFIX_BYTES + frame.len();
            let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
            self.gathered.extend_from_slice(&length.to_be_bytes());
            if frame.len() <= GATHER_BYTES_MAX {
                self.gathered.extend_from_slice(frame);
            }
            if frame.len() > GATHER_BYTES_MAX || self.gathered.len() > GATHER_BYTES_MAX {
                self.write_gathered().await?;
            }
            if frame.len() > GATHER_BYTES_MAX {
                write_all(&mut self.stream, frame, self.stall).await?;
            }
        }
        self.finish().await?;
        Ok(written)
    }

    /// Writes one frame and flushes.
    pub(super) async fn write_one(&mut self, frame: &[u8]) -> Result<(), StreamError> {
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        self.gathered.extend_from_slice(&length.to_be_bytes());
        self.gathered.extend_from_slice(frame);
        self.finish().await
    }

    async fn finish(&mut self) -> Result<(), StreamError> {
        self.write_gathered().await?;
        let flushed = timeout(self.stall, self.stream.flush()).await;
        flushed.map_err(|_| StreamError::Stalled(self.stall))?.map_err(StreamError::from)
    }

    async fn write_gathered(&mut self) -> Result<(), StreamError> {
        write_all(&mut self.stream, &self.gathered, self.stall).await?;
        self.gathered.clear();
        Ok(())
    }
}

/// `write_all` that fails when the peer takes nothing for `stall`.
async fn write_all<W: AsyncWrite + Unpin>(
    stream: &mut W,
    mut bytes: &[u8],
    stall: Duration,
) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        let written = timeout(stall, stream.write(bytes)).await;
        match written.map_err(|_| StreamError::Stalled(stall))?? {
            0 => return Err(StreamError::Closed),
            written => bytes = &bytes[written..],
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::ClassLimit;
    use crate::network::peers::Lane;
    use futures::executor::block_on;
    use futures::io::Cursor;

    fn read_all(bytes: Vec<u8>, limit: usize) -> (Vec<Bytes>, StreamError) {
        let mut reader = FrameReader::new(Cursor::new(bytes));
        let mut frames = Vec::new();
        loop {
            match block_on(reader.next(limit, None)) {
                Ok(frame) => frames.push(frame),
                Err(error) => return (frames, error),
            }
        }
    }

    #[test]
    fn frames_come_out_as_they_went_in() {
        let sizes = [1, 3, 17, GATHER_BYTES_MAX, GATHER_BYTES_MAX + 1, 100_000, 2];
        let limit = ClassLimit {
            frame_bytes_max: 100_000,
            queue_frames_max: 10,
            queue_bytes_max: 1_000_000,
        };
        let lane = Lane::new(limit);
        for size in sizes {
            lane.push(Bytes::from(vec![u8::try_from(size % 251).unwrap(); size])).unwrap();
        }
        let mut writer = FrameWriter::new(Vec::new(), Duration::from_secs(1));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let written = runtime.block_on(async { writer.write(&lane.take().await).await.unwrap() });
        assert_eq!(written, writer.stream.len());
        let (frames, end) = read_all(writer.stream, 100_000);
        let read: Vec<usize> = frames.iter().map(Bytes::len).collect();
        assert_eq!(read, sizes);
        assert!(frames.iter().all(|f| f.iter().all(|b| usize::from(*b) == f.len() % 251)));
        assert!(matches!(end, StreamError::Closed));
    }

    #[test]
    fn a_length_above_the_limit_ends_the_stream_before_anything_is_allocated() {
        let mut buffer = BytesMut::from(&[0xff; 4][..]);
        let capacity = buffer.capacity();
        let error = split_frame(&mut buffer, 1000).unwrap_err();
        assert!(matches!(error, StreamError::Oversized { length: u32::MAX, limit: 1000 }));
        assert_eq!(buffer.capacity(), capacity);
    }

    #[test]
    fn a_truncated_frame_is_not_delivered_and_its_declared_length_not_allocated() {
        let mut bytes = 50_000_000_u32.to_be_bytes().to_vec();
        bytes.extend_from_slice(&[1; 10]);
        let mut reader = FrameReader::new(Cursor::new(bytes));
        let error = block_on(reader.next(100_000_000, None)).unwrap_err();
        assert!(matches!(error, StreamError::Closed));
        assert!(reader.buffer.capacity() < 4 * READ_BYTES_MAX);
    }
}
