//! Streams with the traits of the async world: `AsyncRead`, `AsyncBufRead` and `AsyncWrite` of tokio
//! (feature `tokio`) and of futures-io (feature `futures-io`).
//!
//! Those traits lend a buffer for the length of one call, and the kernel uses an operation's buffer
//! after that. So a [`Reader`] and a [`Writer`] own a buffer each, and every byte is copied once between
//! it and the caller's. For code that speaks these traits that is the price; code that need not should
//! push [`Read`](crate::op::Read) and [`Send`](crate::op::Send) with buffers of its own, or take a
//! [`Receiver`](crate::buf_ring::Receiver), which copy nothing. `AsyncBufRead` reads without the copy.
//!
//! They work on what is a stream of bytes: connected stream sockets, pipes, terminals. Whether the
//! descriptor is non-blocking makes no difference: the ring waits for it, and no thread does.

#[cfg(feature = "futures-io")]
mod futures_io;
mod reader;
#[cfg(feature = "tokio")]
mod tokio;
mod writer;

use std::fmt;
use std::io;
use std::task::{Context, Poll};

pub use reader::Reader;
pub use writer::Writer;

use crate::error::{Error, StartError};
use crate::mode::{Local, Mode};
use crate::op::{Operation, Target};
use crate::ring::{Ends, Inner, Pending, Ring};

/// Bytes that a [`Reader`] or [`Writer`] can hold, unless told otherwise.
const CAPACITY: usize = 16 * 1024;

/// Both directions of a stream socket: a [`Reader`] and a [`Writer`].
pub struct Duplex<M: Mode = Local> {
    /// What comes.
    pub reader: Reader<M>,
    /// What goes.
    pub writer: Writer<M>,
}

impl<M: Mode> Duplex<M> {
    /// Reads from and writes to `socket`, with 16 KiB of buffer in each direction.
    pub fn new(ring: &Ring<M>, socket: impl Into<Target>) -> Self {
        let socket = socket.into();
        Self { reader: Reader::new(ring, &socket), writer: Writer::new(ring, socket) }
    }

    /// The two directions, for two tasks.
    pub fn into_split(self) -> (Reader<M>, Writer<M>) {
        (self.reader, self.writer)
    }
}

impl<M: Mode> fmt::Debug for Duplex<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Duplex")
            .field("reader", &self.reader)
            .field("writer", &self.writer)
            .finish()
    }
}

/// Starts an operation. When the submission queue is full it comes back, and the task is polled again.
fn start<T: Operation, M: Mode>(
    inner: &M::Ptr<Inner<M>>,
    operation: T,
    context: &Context<'_>,
) -> io::Result<Result<Pending<T, M>, T>> {
    match Pending::start(inner, operation, Ends::WithCompletion) {
        Ok(pending) => Ok(Ok(pending)),
        Err(refused) => match refused.why {
            StartError::QueueFull => {
                context.waker().wake_by_ref();
                Ok(Err(refused.operation))
            }
            why => Err(io::Error::other(why)),
        },
    }
}

/// An operation's output, and whether a cancel is what the caller asked for: the kernel also cancels
/// operations whose submitting thread has exited, and those are to be repeated.
fn poll_end<T: Operation, M: Mode>(
    pending: &mut Pending<T, M>,
    context: &mut Context<'_>,
) -> Poll<io::Result<(T::Output, bool)>> {
    let asked = pending.cancel_was_asked();
    let output = std::pin::Pin::new(pending).poll(context);
    output.map(|output| output.map(|output| (output, asked)).map_err(ring_error))
}

fn ring_error(error: Error) -> io::Error {
    io::Error::other(error)
}

/// Whether the operation is to be repeated after this error; otherwise the error for the caller.
fn repeats(error: io::Error, cancel_was_asked: bool) -> io::Result<()> {
    match error.raw_os_error() {
        Some(libc::EINTR) => Ok(()),
        Some(libc::ECANCELED) if !cancel_was_asked => Ok(()),
        // A task would take `WouldBlock` for "polled too early", and there is nobody to wake it.
        // `WouldBlock` has no place in these traits: the task would wait, and nobody wake it.
        Some(libc::EAGAIN) => Err(io::Error::other("the kernel does not wait for this descriptor")),
        _ => Err(error),
    }
}
