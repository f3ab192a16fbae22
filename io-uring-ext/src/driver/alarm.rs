//! [`Alarm`]: wakes a thread that sleeps in its ring.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Wake;

use rustix::event::EventfdFlags;

use crate::error::{Error, Result};

/// The thread runs, and has not been woken since it last looked.
const RUNS: u8 = 0;
/// The thread sleeps or is about to, and nobody has woken it.
const SLEEPS: u8 = 1;
/// The thread has been woken since it last looked.
const WOKEN: u8 = 2;

/// The waker of a thread that sleeps in `io_uring_enter`.
///
/// Nothing but a completion ends that sleep. So the ring reads from an eventfd, and a wake writes to
/// it, but only while the thread sleeps: a task that wakes another one on the same thread costs one
/// atomic exchange.
#[derive(Debug)]
pub(super) struct Alarm {
    state: AtomicU8,
    event_fd: OwnedFd,
}

impl Alarm {
    /// The alarm, and the descriptor from which eight bytes can be read when it has gone off.
    pub(super) fn new() -> Result<(Arc<Self>, OwnedFd)> {
        // Only the ring reads from it, which waits without blocking anybody.
        let event_fd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC)
            .map_err(|error| Error::os("eventfd", error.into()))?;
        let readable =
            event_fd.try_clone().map_err(|error| Error::os("duplicating an eventfd", error))?;
        Ok((Arc::new(Self { state: AtomicU8::new(RUNS), event_fd }), readable))
    }

    /// The thread looks at everything from now on. Wakes from before have been for that.
    pub(super) fn look(&self) {
        self.state.swap(RUNS, Ordering::Acquire);
    }

    /// Whether there was a wake since the last look.
    pub(super) fn is_woken(&self) -> bool {
        self.state.load(Ordering::Relaxed) == WOKEN
    }

    /// The thread is about to sleep. False if it has been woken, and must not.
    pub(super) fn fall_asleep(&self) -> bool {
        let answer =
            self.state.compare_exchange(RUNS, SLEEPS, Ordering::Relaxed, Ordering::Relaxed);
        answer.is_ok()
    }

    /// The thread does not sleep any more, whatever the reason.
    pub(super) fn wake_up(&self) {
        // A failure means that it has been woken, which is to be remembered.
        let _ = self.state.compare_exchange(SLEEPS, RUNS, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::AcqRel) == SLEEPS {
            // It counts to 2⁶⁴ and is read with every sleep that it ends, so it is never full.
            let _ = rustix::io::write(&self.event_fd, &1_u64.to_ne_bytes());
        }
    }
}
