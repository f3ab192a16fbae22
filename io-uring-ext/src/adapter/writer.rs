//! [`Writer`].

use std::fmt;
use std::io::{self, IoSlice};
use std::net;
use std::task::{Context, Poll, ready};

use super::{CAPACITY, poll_end, repeats, start};
use crate::mode::{Local, Mode};
use crate::op::{Send, Shutdown, Target, Write};
use crate::ring::{Inner, Pending, Ring};

/// Writes a stream through a buffer of its own: `AsyncWrite`.
///
/// A write copies what fits into the buffer, starts the operation, and is done; the next one waits for
/// that operation. So an error may be about the write before, and `flush` is what tells that everything
/// has gone to the kernel: flush before dropping, because dropping cancels. Many small writes are many
/// operations; a `BufWriter` around it collects them.
///
/// Shutting down (`close` in futures-io) flushes, and ends the sending half of a socket; other
/// descriptors, such as the end of a pipe, are let go of, and closed if nobody else holds them. Writing
/// after that is an error.
#[cfg_attr(feature = "tokio", doc = "```")]
#[cfg_attr(not(feature = "tokio"), doc = "```ignore")]
/// use io_uring_ext::adapter::Writer;
/// use io_uring_ext::{Fd, Ring};
/// use tokio::io::AsyncWriteExt;
///
/// let ring = Ring::local()?;
/// let (reader, pipe) = std::io::pipe()?;
/// let mut writer = Writer::new(&ring, &Fd::new(pipe));
/// ring.block_on(async {
///     writer.write_all(b"hello").await?;
///     writer.shutdown().await
/// })??;
/// assert_eq!(std::io::read_to_string(reader)?, "hello"); // up to the end, which shutdown has made
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Writer<M: Mode = Local> {
    inner: M::Ptr<Inner<M>>,
    /// `None` once it has been shut down.
    sink: Option<Target>,
    /// Sends instead of writes: a write to a socket that the peer has closed raises `SIGPIPE`.
    sends: bool,
    capacity: usize,
    /// What is still to be written, unless an operation is in flight, which has it then.
    buf: Vec<u8>,
    writing: Option<Writing<M>>,
    closing: Option<Pending<Shutdown, M>>,
}

enum Writing<M: Mode> {
    Send(Pending<Send<Vec<u8>>, M>),
    Write(Pending<Write<Vec<u8>>, M>),
}

/// What an operation did with its buffer, and whether its cancel was asked for.
type Written = (io::Result<usize>, Vec<u8>, bool);

impl<M: Mode> Writing<M> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Written>> {
        Poll::Ready(Ok(match self {
            Self::Send(send) => {
                let (done, asked) = ready!(poll_end(send, context))?;
                (done.result, done.buf, asked)
            }
            Self::Write(write) => {
                let (done, asked) = ready!(poll_end(write, context))?;
                (done.result, done.buf, asked)
            }
        }))
    }
}

impl<M: Mode> Writer<M> {
    /// Writes to `sink` through 16 KiB.
    pub fn new(ring: &Ring<M>, sink: impl Into<Target>) -> Self {
        Self::with_capacity(ring, sink, CAPACITY)
    }

    /// Writes to `sink` through `capacity` bytes: what one operation can take. At least one.
    pub fn with_capacity(ring: &Ring<M>, sink: impl Into<Target>, capacity: usize) -> Self {
        let sink = sink.into();
        Self {
            inner: ring.inner.clone(),
            sends: sink.is_stream(),
            sink: Some(sink),
            capacity: capacity.max(1),
            buf: Vec::new(),
            writing: None,
            closing: None,
        }
    }

    /// Accepts bytes, as many as fit, once what came before has been written.
    pub(super) fn poll_put(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_written(context))?;
        if self.sink.is_none() || self.closing.is_some() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the writer has been shut down",
            )));
        }
        for slice in slices {
            let room = self.capacity - self.buf.len();
            self.buf.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let accepted = self.buf.len();
        if accepted > 0 {
            // Where the queue is full the next flush or write starts it.
            let _ = self.poll_start(context)?;
        }
        Poll::Ready(Ok(accepted))
    }

    /// Ready when the kernel has taken everything.
    pub(super) fn poll_written(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some(writing) = &mut self.writing {
                let ended = ready!(writing.poll(context));
                self.writing = None;
                let (result, buf, asked) = ended?;
                self.buf = buf;
                if let Err(error) = self.account(result, asked) {
                    self.buf.clear();
                    return Poll::Ready(Err(error));
                }
            }
            if self.buf.is_empty() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_start(context))?;
        }
    }

    /// Takes from the buffer what has been written.
    fn account(&mut self, result: io::Result<usize>, asked: bool) -> io::Result<()> {
        match result {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                self.buf.drain(..written.min(self.buf.len()));
                Ok(())
            }
            Err(error) => repeats(error, asked),
        }
    }

    /// Starts to write what is in the buffer.
    fn poll_start(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(sink) = &self.sink else { return Poll::Ready(Ok(())) };
        let buf = std::mem::take(&mut self.buf);
        let refused = if self.sends {
            match start(&self.inner, Send::new(sink, buf), context)? {
                Ok(send) => {
                    self.writing = Some(Writing::Send(send));
                    return Poll::Ready(Ok(()));
                }
                Err(refused) => refused.into_buf(),
            }
        } else {
            match start(&self.inner, Write::new(sink, buf, 0), context)? {
                Ok(write) => {
                    self.writing = Some(Writing::Write(write));
                    return Poll::Ready(Ok(()));
                }
                Err(refused) => refused.into_buf(),
            }
        };
        self.buf = refused;
        Poll::Pending
    }

    /// Ready when everything is written and the peer is told that nothing more comes.
    pub(super) fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_written(context))?;
        loop {
            let Some(sink) = &self.sink else { return Poll::Ready(Ok(())) };
            match &mut self.closing {
                None => {
                    let shutdown = Shutdown::new(sink, net::Shutdown::Write);
                    match start(&self.inner, shutdown, context)? {
                        Ok(closing) => self.closing = Some(closing),
                        Err(_) => return Poll::Pending,
                    }
                }
                Some(closing) => {
                    let ended = ready!(poll_end(closing, context));
                    self.closing = None;
                    let (result, asked) = ended?;
                    match result.map_err(|error| (error.raw_os_error(), error)) {
                        // No socket, or one that the peer has ended: there is nobody to tell.
                        Ok(()) | Err((Some(libc::ENOTSOCK | libc::ENOTCONN), _)) => {
                            self.sink = None;
                        }
                        Err((_, error)) => repeats(error, asked)?,
                    }
                }
            }
        }
    }
}

// Nothing in it is pinned.
impl<M: Mode> Unpin for Writer<M> {}

impl<M: Mode> fmt::Debug for Writer<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("sink", &self.sink)
            .field("buffered", &self.buf.len())
            .field("writing", &self.writing.is_some())
            .finish_non_exhaustive()
    }
}
