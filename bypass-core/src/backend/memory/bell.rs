//! [`Bell`]: wakes the other end of a link, and costs nothing while that end is awake.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::{Error, Result};

/// One end's sleeping place.
#[derive(Debug)]
struct Side {
    fd: OwnedFd,
    /// It sleeps, or is about to: ring once.
    armed: AtomicBool,
    /// Somebody polls the descriptor from outside: ring always.
    watched: AtomicBool,
}

/// Rings at the other end, and hears it ring here.
#[derive(Debug)]
pub(super) struct Bell {
    here: Arc<Side>,
    there: Arc<Side>,
}

/// The bells of the two ends.
pub(super) fn bells() -> Result<(Bell, Bell)> {
    let side = || -> Result<_> {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .map_err(|error| Error::os("make an eventfd for a memory link", error))?;
        Ok(Arc::new(Side { fd, armed: AtomicBool::new(false), watched: AtomicBool::new(false) }))
    };
    let (a, b) = (side()?, side()?);
    let bell =
        |here: &Arc<Side>, there: &Arc<Side>| Bell { here: here.clone(), there: there.clone() };
    Ok((bell(&a, &b), bell(&b, &a)))
}

impl Bell {
    /// Wakes the other end if it sleeps. Returns the number of system calls made.
    pub(super) fn ring(&self) -> u64 {
        // Pairs with the fence in `arm`: either the sleeper sees the packets, or we see it armed.
        fence(Ordering::SeqCst);
        let wake = self.there.watched.load(Ordering::Relaxed)
            || (self.there.armed.load(Ordering::Relaxed)
                && self.there.armed.swap(false, Ordering::Relaxed));
        if wake {
            // The counter can only be full of earlier rings, which wake it just as well.
            let _already_ringing = rustix::io::write(&self.there.fd, &1u64.to_ne_bytes());
        }
        u64::from(wake)
    }

    /// Asks to be woken by the next ring; look for packets once more before sleeping.
    pub(super) fn arm(&self) {
        self.here.armed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Sleeps until the bell rings (true), the time is over or a signal comes (false).
    pub(super) fn sleep(&self, timeout: Option<Duration>) -> Result<bool> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut fds = [PollFd::new(&self.here.fd, PollFlags::IN)];
        let rang = match poll(&mut fds, timeout.as_ref()) {
            Ok(n) => n > 0,
            Err(Errno::INTR) => false,
            Err(error) => return Err(Error::os("wait on a memory link", error)),
        };
        self.here.armed.store(false, Ordering::Relaxed);
        if rang {
            self.silence();
        }
        Ok(rang)
    }

    /// Called when there is nothing to receive: a watched descriptor stops being readable.
    /// Returns the number of system calls made.
    pub(super) fn settle(&self) -> u64 {
        let watched = self.here.watched.load(Ordering::Relaxed);
        if watched {
            self.silence();
            // Pairs with the fence in `ring`: what arrives after this is seen, or rings again.
            fence(Ordering::SeqCst);
        }
        u64::from(watched)
    }

    /// The descriptor for an event loop; from now on every ring is written to it.
    pub(super) fn watch(&self, pending: bool) -> BorrowedFd<'_> {
        let first = !self.here.watched.swap(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if first || pending {
            // What came before the watching began was not written: let the loop look once.
            let _already_ringing = rustix::io::write(&self.here.fd, &1u64.to_ne_bytes());
        }
        self.here.fd.as_fd()
    }

    fn silence(&self) {
        let _nothing_to_read = rustix::io::read(&self.here.fd, &mut [0; 8]);
    }
}
