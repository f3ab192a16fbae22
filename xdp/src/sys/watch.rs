//! [`Watched`]: a descriptor that tokio watches.
//!
//! # What the unsafe code here relies on
//!
//! [`AsyncFd`] wants a descriptor that stays the same, and open, for as long as it is watched. An
//! [`OwnedFd`] is one, for nobody here closes it, nor puts another in its place: what is watched is
//! lent out by shared reference only.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll};

use ::tokio::io::Interest;
use ::tokio::io::unix::AsyncFd;

/// A descriptor that tokio watches, with the readiness that was seen taken away by asking.
#[derive(Debug)]
pub(crate) struct Watched(AsyncFd<Rc<OwnedFd>>);

impl Watched {
    /// Has the runtime of the current context watch it.
    pub(crate) fn new(fd: Rc<OwnedFd>, interest: Interest) -> io::Result<Self> {
        // SAFETY: an `Rc<OwnedFd>` that is never lent out mutably has one open descriptor until it is
        // dropped, which is after tokio has let go of it.
        let watched = unsafe { AsyncFd::register_with_interest(fd, interest) };
        Ok(Self(watched.map_err(io::Error::from)?))
    }

    /// Whether it has become readable since this was last asked; else the task is woken when it does.
    pub(crate) fn poll_read(&self, context: &mut Context<'_>) -> io::Result<Poll<()>> {
        match self.0.poll_read_ready(context) {
            Poll::Ready(readable) => readable?.clear_ready(),
            Poll::Pending => return Ok(Poll::Pending),
        }
        Ok(Poll::Ready(()))
    }

    /// Whether it has become writable since this was last asked; else the task is woken when it does.
    pub(crate) fn poll_write(&self, context: &mut Context<'_>) -> io::Result<Poll<()>> {
        match self.0.poll_write_ready(context) {
            Poll::Ready(writable) => writable?.clear_ready(),
            Poll::Pending => return Ok(Poll::Pending),
        }
        Ok(Poll::Ready(()))
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}
