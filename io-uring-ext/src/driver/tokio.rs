//! [`TokioDriver`]: a ring driven by a task of tokio's.
//!
//! Relies on the ring to keep its descriptors open as long as anybody holds it.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::tokio::io::Interest;
use ::tokio::io::unix::AsyncFd;
use ::tokio::runtime::Handle;

use crate::error::{Error, Result};
use crate::mode::{Local, Mode};
use crate::ring::{Inner, Ring};

/// Submits what tasks have pushed, once per turn of the scheduler, and takes completions when the
/// ring's [descriptor](Ring::poll_fd) is readable. A future to be spawned: it ends when the ring is
/// closed or dropped.
///
/// For a [`Local`] ring, on a current-thread runtime, in a `LocalSet`:
///
/// ```
/// use io_uring_ext::driver::TokioDriver;
/// use io_uring_ext::op::{Read, Send};
/// use io_uring_ext::{Fd, Ring};
/// use std::os::unix::net::UnixStream;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
/// let tasks = tokio::task::LocalSet::new();
/// tasks.block_on(&runtime, async {
///     let ring = Ring::local()?;
///     tokio::task::spawn_local(TokioDriver::new(&ring)?);
///
///     let (a, b) = UnixStream::pair()?;
///     let (a, b) = (Fd::new(a), Fd::new(b));
///     let read = ring.push(Read::new(&b, vec![0; 16], 0))?;
///     ring.push(Send::new(&a, b"hello".to_vec()))?.detach();
///     assert_eq!(read.await?.buf, b"hello");
///     Ok(())
/// })
/// # }
/// ```
///
/// For a [`Shared`](crate::Shared) ring it is `Send`: `tokio::spawn` it on any runtime. There the
/// kernel works in the name of the thread that submitted, so the operations in flight may end with
/// `ECANCELED` when the runtime, and with it its threads, goes away.
///
/// A fixed file that is dropped is closed by the ring's next call, and dropping it does not wake the
/// driver: where the peer waits for that, close it with an operation.
///
/// Dropping it, or the runtime with it, harms nothing: operations in flight stay the ring's, and
/// another driver may take over.
#[must_use = "it does its work when it is polled: spawn it"]
pub struct TokioDriver<M: Mode = Local> {
    fd: AsyncFd<PollFd<M>>,
}

/// The ring's descriptor, kept open by the ring.
struct PollFd<M: Mode> {
    inner: M::Ptr<Inner<M>>,
    number: RawFd,
}

impl<M: Mode> AsRawFd for PollFd<M> {
    fn as_raw_fd(&self) -> RawFd {
        self.number
    }
}

impl<M: Mode> Drop for PollFd<M> {
    fn drop(&mut self) {
        // In a forked child there is nothing to drive.
        let _ = self.inner.with(|state| state.release_driver());
    }
}

impl<M: Mode> TokioDriver<M> {
    /// A driver for the ring, in the runtime whose context this is called in.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when the ring has a driver already, which would not be told of what is
    /// pushed; [`Error::Os`] outside of a runtime, or when `epoll` refuses the descriptor.
    ///
    /// # Panics
    ///
    /// As every use of tokio's I/O, when the runtime was built without `enable_io`.
    pub fn new(ring: &Ring<M>) -> Result<Self> {
        const WHAT: &str = "watching the ring with tokio";
        Handle::try_current().map_err(|error| Error::os(WHAT, io::Error::other(error)))?;
        let number = ring.poll_fd()?.as_raw_fd();
        if !ring.inner.with(|state| state.claim_driver())? {
            return Err(Error::config("drivers of a ring", 2, "drop the other one first"));
        }
        let fd = PollFd { inner: ring.inner.clone(), number };
        // SAFETY: the ring's eventfd or its own descriptor, of which it has one each, opened once and
        // closed with the last handle to the ring; `PollFd` owns one and says the same number always.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Self { fd: fd.map_err(|error| Error::os(WHAT, error.into()))? })
    }
}

impl<M: Mode> Future for TokioDriver<M> {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let inner = &self.fd.get_ref().inner;
        loop {
            inner.submit()?;
            if inner.poll_closed(context)?.is_ready() {
                return Poll::Ready(Ok(()));
            }
            let readable = self.fd.poll_read_ready(context);
            let mut readable = ready!(readable).map_err(|error| Error::os("epoll", error))?;
            // Edge-triggered: what comes from now on makes it readable again, so that an eventfd
            // need not be read. Readiness that comes while completions are taken is not cleared.
            inner.submit()?;
            readable.clear_ready();
        }
    }
}

impl<M: Mode> fmt::Debug for TokioDriver<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioDriver").field("fd", &self.fd.get_ref().number).finish_non_exhaustive()
    }
}
