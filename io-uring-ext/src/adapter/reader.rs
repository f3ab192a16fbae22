//! [`Reader`].

use std::fmt;
use std::io;
use std::task::{Context, Poll, ready};

use super::{CAPACITY, poll_end, repeats, start};
use crate::mode::{Local, Mode};
use crate::op::{Read, Target};
use crate::ring::{Inner, Pending, Ring};

/// Reads a stream through a buffer of its own: `AsyncRead` and `AsyncBufRead`.
///
/// One read is in flight while a task waits for data; what it brings beyond what the task took stays in
/// the buffer for the next. A future that reads may be dropped without losing data, as long as the
/// reader is kept. Dropping the reader cancels the read; data that it had brought is lost.
#[cfg_attr(feature = "tokio", doc = "```")]
#[cfg_attr(not(feature = "tokio"), doc = "```ignore")]
/// use io_uring_ext::adapter::Reader;
/// use io_uring_ext::{Fd, Ring};
/// use std::io::Write;
/// use tokio::io::AsyncBufReadExt;
///
/// let ring = Ring::local()?;
/// let (pipe, mut writer) = std::io::pipe()?;
/// writer.write_all(b"one\ntwo\n")?;
///
/// let mut lines = Reader::new(&ring, &Fd::new(pipe)).lines();
/// assert_eq!(ring.block_on(lines.next_line())??.as_deref(), Some("one"));
/// assert_eq!(ring.block_on(lines.next_line())??.as_deref(), Some("two"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reader<M: Mode = Local> {
    inner: M::Ptr<Inner<M>>,
    source: Target,
    capacity: usize,
    /// What has been read, unless a read is in flight, which has it then.
    buf: Vec<u8>,
    /// How much of it has been taken.
    taken: usize,
    reading: Option<Pending<Read<Vec<u8>>, M>>,
}

impl<M: Mode> Reader<M> {
    /// Reads from `source` through 16 KiB.
    pub fn new(ring: &Ring<M>, source: impl Into<Target>) -> Self {
        Self::with_capacity(ring, source, CAPACITY)
    }

    /// Reads from `source` through `capacity` bytes: what one read can bring. At least one.
    pub fn with_capacity(ring: &Ring<M>, source: impl Into<Target>, capacity: usize) -> Self {
        Self {
            inner: ring.inner.clone(),
            source: source.into(),
            capacity: capacity.max(1),
            buf: Vec::new(),
            taken: 0,
            reading: None,
        }
    }

    /// What has been read and not been taken.
    pub fn buffer(&self) -> &[u8] {
        &self.buf[self.taken..]
    }

    /// What there is, after a read if that is nothing. Empty at the end of the stream.
    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        while self.taken == self.buf.len() {
            match &mut self.reading {
                None => {
                    let mut buf = std::mem::take(&mut self.buf);
                    self.taken = 0;
                    buf.clear();
                    buf.reserve_exact(self.capacity);
                    match start(&self.inner, Read::new(&self.source, buf, 0), context)? {
                        Ok(reading) => self.reading = Some(reading),
                        Err(refused) => {
                            self.buf = refused.into_buf();
                            return Poll::Pending;
                        }
                    }
                }
                Some(reading) => {
                    let ended = ready!(poll_end(reading, context));
                    self.reading = None;
                    let (done, asked) = ended?;
                    self.buf = done.buf;
                    match done.result {
                        Ok(0) => {
                            self.buf.clear();
                            return Poll::Ready(Ok(&[]));
                        }
                        Ok(_) => {}
                        Err(error) => {
                            self.buf.clear();
                            repeats(error, asked)?;
                        }
                    }
                }
            }
        }
        Poll::Ready(Ok(self.buffer()))
    }

    /// So much of the buffer has been taken.
    pub(super) fn take(&mut self, amount: usize) {
        self.taken = self.taken.saturating_add(amount).min(self.buf.len());
    }

    /// Copies what there is into the caller's memory, as much as `put` says it took.
    pub(super) fn poll_copy(
        &mut self,
        context: &mut Context<'_>,
        put: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        let copied = put(ready!(self.poll_fill(context))?);
        self.take(copied);
        Poll::Ready(Ok(copied))
    }
}

// Nothing in it is pinned.
impl<M: Mode> Unpin for Reader<M> {}

impl<M: Mode> fmt::Debug for Reader<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("source", &self.source)
            .field("buffered", &self.buffer().len())
            .field("reading", &self.reading.is_some())
            .finish_non_exhaustive()
    }
}
