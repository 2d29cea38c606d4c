//! Frames on a stream: a big-endian length of four bytes, then the bytes. An empty frame keeps
//! the connection alive and is not delivered.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::peers::Batch;

/// Bytes of the length prefix.
pub(super) const PREFIX_BYTES: usize = 4;
/// How much is asked of the stream at a time. Buffers grow by this as bytes arrive, never by the
/// length that a prefix declares.
const READ_BYTES_MAX: usize = 16 * 1024;
/// How much is asked of the stream at a time within a frame that is longer than that.
const READ_LARGE_BYTES_MAX: usize = 64 * 1024;
/// Frames up to this size are gathered into one write.
const GATHER_BYTES_MAX: usize = 16 * 1024;
/// Frames up to this size are copied out of the read buffer, so that one that is kept for long
/// does not keep the buffer.
const COPY_BYTES_MAX: usize = 4 * 1024;
/// Frames up to this size are no burden to anyone: they take nothing from the [`Budget`].
const BUDGET_FREE_BYTES_MAX: usize = 256 * 1024;
/// The unit of the budget.
const BUDGET_UNIT_BYTES: usize = 1024;

/// Why a stream cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    #[error("connection closed")]
    Closed,
    #[error("connection closed within a frame")]
    Truncated,
    #[error("connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("it announced a frame of {length} bytes where {limit} is the most")]
    Oversized { length: u32, limit: usize },
    #[error("nothing heard from it for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("it does not read: a write made no progress for {} s", .0.as_secs())]
    Stalled(Duration),
    #[error("it is too slow: a frame of {0} bytes was not through in its time")]
    Slow(usize),
}

/// The memory for long frames that are under way, shared by peers. Who finds it used up waits,
/// and so does his peer.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    free: Arc<Semaphore>,
    units: u32,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        let units = u32::try_from(bytes / BUDGET_UNIT_BYTES).unwrap_or(u32::MAX);
        Self { free: Arc::new(Semaphore::new(units as usize)), units }
    }

    async fn reserve(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        if bytes <= BUDGET_FREE_BYTES_MAX {
            return None;
        }
        // A frame longer than the whole budget takes all of it.
        let units = u32::try_from(bytes.div_ceil(BUDGET_UNIT_BYTES)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.free).acquire_many_owned(units.min(self.units)).await;
        // It fails only when the semaphore is closed, which it never is.
        permit.ok()
    }
}

/// How long frames may take.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// The longest time in which nothing happens: no byte taken of a write, or added to a frame.
    pub(super) stall: Duration,
    /// The longest wait for the next frame.
    pub(super) silence: Option<Duration>,
    /// The least bytes a second of a frame that is under way, beyond the time of a stall.
    pub(super) rate_bytes_min: usize,
    /// Where memory for long frames comes from; none if there is no bound.
    pub(super) budget: Option<Budget>,
}

impl Pace {
    /// When `bytes` that begin now have to be through.
    fn deadline(&self, bytes: usize) -> Instant {
        let rate = u32::try_from(self.rate_bytes_min).unwrap_or(u32::MAX).max(1);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Instant::now() + self.stall + Duration::from_secs(1) * bytes / rate
    }
}

/// A frame and the memory that was reserved for it.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) bytes: Bytes,
    /// Given back when whoever takes the frame has room for it.
    pub(super) reserved: Option<OwnedSemaphorePermit>,
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

    /// The next frame of at most `limit` bytes.
    pub(super) async fn next(
        &mut self,
        limit: usize,
        pace: &Pace,
    ) -> Result<Received, StreamError> {
        if self.buffer.is_empty() {
            match pace.silence {
                None => self.fill(READ_BYTES_MAX).await?,
                Some(length) => timeout(length, self.fill(READ_BYTES_MAX))
                    .await
                    .map_err(|_| StreamError::Silent(length))??,
            }
        }
        let begun = pace.deadline(0);
        while self.buffer.len() < PREFIX_BYTES {
            self.fill_until(begun, pace, (READ_BYTES_MAX, PREFIX_BYTES)).await?;
        }
        let length = declared(&self.buffer, limit)?;
        let reserved = match &pace.budget {
            Some(budget) => budget.reserve(length).await,
            None => None,
        };
        let wanted = PREFIX_BYTES + length;
        let deadline = pace.deadline(length);
        let step = if wanted > READ_BYTES_MAX { READ_LARGE_BYTES_MAX } else { READ_BYTES_MAX };
        while self.buffer.len() < wanted {
            self.fill_until(deadline, pace, (step, length)).await?;
        }
        self.buffer.advance(PREFIX_BYTES);
        let frame = self.buffer.split_to(length);
        let copy = length <= COPY_BYTES_MAX;
        let bytes = if copy { Bytes::copy_from_slice(&frame) } else { frame.freeze() };
        Ok(Received { bytes, reserved })
    }

    /// More of a frame of `length` bytes, which has to be through by `deadline`: something has to
    /// come within the time of a stall, however long the whole may take.
    async fn fill_until(
        &mut self,
        deadline: Instant,
        pace: &Pace,
        (step, length): (usize, usize),
    ) -> Result<(), StreamError> {
        let next = deadline.min(Instant::now() + pace.stall);
        let filled = timeout_at(next, self.fill(step)).await;
        filled.map_err(|_| StreamError::Slow(length))?
    }

    async fn fill(&mut self, step: usize) -> Result<(), StreamError> {
        let filled = self.buffer.len();
        self.buffer.resize(filled + step, 0);
        let outcome = self.stream.read(&mut self.buffer[filled..]).await;
        let read = outcome.as_ref().map_or(0, |read| *read);
        self.buffer.truncate(filled + read);
        match outcome? {
            0 if filled > 0 => Err(StreamError::Truncated),
            0 => Err(StreamError::Closed),
            _ => Ok(()),
        }
    }
}

/// The length that the prefix at the front of `buffer` declares. The prefix must be there.
fn declared(buffer: &[u8], limit: usize) -> Result<usize, StreamError> {
    let prefix = buffer.first_chunk::<PREFIX_BYTES>().ok_or(StreamError::Closed)?;
    let length = u32::from_be_bytes(*prefix);
    match usize::try_from(length) {
        Ok(bytes) if bytes <= limit => Ok(bytes),
        _ => Err(StreamError::Oversized { length, limit }),
    }
}

/// Writes frames; all that wait go out in one write.
#[derive(Debug)]
pub(super) struct FrameWriter<W> {
    stream: W,
    gathered: Vec<u8>,
    pace: Pace,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(super) fn new(stream: W, pace: Pace) -> Self {
        Self { stream, gathered: Vec::new(), pace }
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
                write_all(&mut self.stream, frame, &self.pace).await?;
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
        let flushed = timeout(self.pace.stall, self.stream.flush()).await;
        flushed.map_err(|_| StreamError::Stalled(self.pace.stall))?.map_err(StreamError::from)
    }

    async fn write_gathered(&mut self) -> Result<(), StreamError> {
        write_all(&mut self.stream, &self.gathered, &self.pace).await?;
        self.gathered.clear();
        self.gathered.shrink_to(2 * GATHER_BYTES_MAX);
        Ok(())
    }
}

/// `write_all` that fails when the peer takes nothing for a while, or little for long.
async fn write_all<W: AsyncWrite + Unpin>(
    stream: &mut W,
    mut bytes: &[u8],
    pace: &Pace,
) -> Result<(), StreamError> {
    let (length, deadline) = (bytes.len(), pace.deadline(bytes.len()));
    while !bytes.is_empty() {
        let written = timeout(pace.stall, stream.write(bytes)).await;
        match written.map_err(|_| StreamError::Stalled(pace.stall))?? {
            0 => return Err(StreamError::Closed),
            written => bytes = &bytes[written..],
        }
        if !bytes.is_empty() && Instant::now() > deadline {
            return Err(StreamError::Slow(length));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::ClassLimit;
    use crate::network::peers::Lane;
    use futures::io::Cursor;
    use futures::ready;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    fn pace() -> Pace {
        let stall = Duration::from_millis(100);
        Pace { stall, silence: None, rate_bytes_min: 1_000_000, budget: None }
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().build().unwrap().block_on(future)
    }

    async fn read_all(bytes: Vec<u8>, limit: usize) -> (Vec<Bytes>, StreamError) {
        let mut reader = FrameReader::new(Cursor::new(bytes));
        let mut frames = Vec::new();
        loop {
            match reader.next(limit, &pace()).await {
                Ok(frame) => frames.push(frame.bytes),
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
        let mut writer = FrameWriter::new(Vec::new(), pace());
        let written = run(async { writer.write(&lane.take().await).await.unwrap() });
        assert_eq!(written, writer.stream.len());
        let (frames, end) = run(read_all(writer.stream, 100_000));
        let read: Vec<usize> = frames.iter().map(Bytes::len).collect();
        assert_eq!(read, sizes);
        assert!(frames.iter().all(|f| f.iter().all(|b| usize::from(*b) == f.len() % 251)));
        assert!(matches!(end, StreamError::Closed));
    }

    #[test]
    fn a_length_above_the_limit_ends_the_stream_before_anything_is_allocated() {
        let mut reader = FrameReader::new(Cursor::new(vec![0xff; 4]));
        let error = run(reader.next(1000, &pace())).unwrap_err();
        assert!(matches!(error, StreamError::Oversized { length: u32::MAX, limit: 1000 }));
        assert!(reader.buffer.capacity() <= 2 * READ_BYTES_MAX);
    }

    #[test]
    fn a_truncated_frame_is_not_delivered_and_its_declared_length_not_allocated() {
        let mut bytes = 50_000_000_u32.to_be_bytes().to_vec();
        bytes.extend_from_slice(&[1; 10]);
        let mut reader = FrameReader::new(Cursor::new(bytes));
        let error = run(reader.next(100_000_000, &pace())).unwrap_err();
        assert!(matches!(error, StreamError::Truncated));
        assert!(reader.buffer.capacity() <= 4 * READ_LARGE_BYTES_MAX);
    }

    /// Gives or takes one byte every twenty milliseconds.
    struct Drip(Pin<Box<tokio::time::Sleep>>);

    impl Drip {
        fn new() -> Self {
            Self(Box::pin(tokio::time::sleep(Duration::ZERO)))
        }

        fn one(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
            ready!(self.0.as_mut().poll(context));
            self.0.as_mut().reset(Instant::now() + Duration::from_millis(20));
            Poll::Ready(Ok(1))
        }
    }

    impl AsyncRead for Drip {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            bytes[0] = 0;
            self.one(context)
        }
    }

    impl AsyncWrite for Drip {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.one(context)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_frame_that_drips_in_or_out_ends_the_stream() {
        run(async {
            let mut reader = FrameReader::new(Drip::new());
            reader.buffer.extend_from_slice(&1000_u32.to_be_bytes());
            let error = reader.next(1000, &pace()).await.unwrap_err();
            assert!(matches!(error, StreamError::Slow(1000)), "{error}");
            let mut writer = FrameWriter::new(Drip::new(), pace());
            let error = writer.write_one(&[0; 1000]).await.unwrap_err();
            assert!(matches!(error, StreamError::Slow(1004)), "{error}");
        });
    }

    #[test]
    fn long_frames_wait_for_the_budget_and_short_ones_do_not() {
        let budget = Budget::new(2 * 1024 * 1024);
        let pace = Pace { budget: Some(budget), ..pace() };
        let framed = |length: usize| {
            let mut bytes = u32::try_from(length).unwrap().to_be_bytes().to_vec();
            bytes.resize(PREFIX_BYTES + length, 1);
            FrameReader::new(Cursor::new(bytes))
        };
        run(async {
            // Longer than the budget: all of it.
            let first = framed(3_000_000).next(4_000_000, &pace).await.unwrap();
            let mut second = framed(1_000_000);
            let mut second = std::pin::pin!(second.next(4_000_000, &pace));
            assert!(futures::poll!(second.as_mut()).is_pending(), "the budget is used up");
            framed(BUDGET_FREE_BYTES_MAX).next(4_000_000, &pace).await.unwrap();
            drop(first);
            assert_eq!(second.await.unwrap().bytes.len(), 1_000_000);
        });
    }
}
