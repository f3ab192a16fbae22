//! What a ring, its operations and its buffer rings share.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::event::EventfdFlags;

use super::builder::Setup;
use super::key::Key;
use super::state::{Outbox, State, Until, Watched};
use super::turn::Turn;
use crate::error::{Error, Result};
use crate::mode::{Lock, Mode};
use crate::sys::fork::ForkSentinel;
use crate::sys::uring::Uring;

/// Operations leaked by all rings of this process: the kernel did not end them before the shutdown
/// deadline, so their memory can never be freed.
pub fn leaked_operations() -> u64 {
    LEAKED.load(Ordering::Relaxed)
}

static LEAKED: AtomicU64 = AtomicU64::new(0);

pub(super) fn count_leaked(operations: usize) {
    LEAKED.fetch_add(operations as u64, Ordering::Relaxed);
}

pub(crate) struct Inner<M: Mode> {
    state: M::Lock<State>,
    pub(super) turn: Turn,
    fork: Arc<ForkSentinel>,
    event_fd: OnceLock<OwnedFd>,
    /// The ring's own descriptor, duplicated so that it can be polled without the lock.
    ring_fd: OwnedFd,
    setup: Setup,
    shutdown: Duration,
}

impl<M: Mode> Inner<M> {
    pub(super) fn new(
        uring: Uring,
        setup: Setup,
        operations: u32,
        shutdown: Duration,
    ) -> Result<Self> {
        let fork = uring.fork_sentinel();
        let ring_fd = uring
            .fd()
            .try_clone_to_owned()
            .map_err(|error| Error::os("duplicating the ring", error))?;
        Ok(Self {
            state: State::new(uring, operations).into(),
            turn: Turn::default(),
            fork,
            event_fd: OnceLock::new(),
            ring_fd,
            setup,
            shutdown,
        })
    }

    /// Uses the state. What became free meanwhile is dropped after the lock is released, and tasks
    /// are woken then: a buffer's `Drop` and a waker are foreign code and may come back here.
    #[inline]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> Result<R> {
        if self.fork.in_child() {
            return Err(Error::Forked);
        }
        let (answer, outbox) = self.state.with(|state| {
            let answer = f(state);
            (answer, state.take_outbox())
        });
        if let Some(outbox) = outbox {
            self.deliver(outbox);
        }
        Ok(answer)
    }

    fn deliver(&self, mut outbox: Outbox) {
        outbox.deliver();
        self.state.with(|state| state.reuse_outbox(&mut outbox));
    }

    /// Ready when what the task waits for has come, or nothing will come any more because the ring
    /// is closed; the task is woken then. For the operation's owner alone: one task at a time.
    ///
    /// Does not submit: that is the driver's work.
    pub(crate) fn poll_until(
        &self,
        key: Key,
        until: Until,
        context: &Context<'_>,
    ) -> Poll<Result<()>> {
        let mut clone = None;
        loop {
            match self.with(|state| state.watch(key, until, context.waker(), &mut clone))? {
                Watched::Ready => return Poll::Ready(Ok(())),
                Watched::Registered => return Poll::Pending,
                Watched::NeedsClone => clone = Some(context.waker().clone()),
            }
        }
    }

    /// Ready when the ring is closed; until then the task is woken when there is something to submit.
    /// For the driver alone.
    #[cfg(feature = "tokio")]
    pub(crate) fn poll_closed(&self, context: &Context<'_>) -> Poll<Result<()>> {
        let mut clone = None;
        loop {
            match self.with(|state| {
                (state.watch_submissions(context.waker(), &mut clone), state.is_closed())
            })? {
                (_, true) => return Poll::Ready(Ok(())),
                (Watched::Registered, _) => return Poll::Pending,
                (Watched::NeedsClone, _) => clone = Some(context.waker().clone()),
                (Watched::Ready, _) => {
                    // More has come since, or the kernel was busy: again with the next turn.
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }

    pub(crate) fn submit(&self) -> Result<()> {
        self.with(State::submit)?
    }

    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(crate) fn poll_fd(&self) -> Result<BorrowedFd<'_>> {
        if self.setup.iopoll.is_some() {
            return Err(Error::config(
                "a ring to be polled",
                "one that polls its device",
                "nothing tells that the device is done until the ring is waited on",
            ));
        }
        if !self.setup.defer_taskrun {
            return Ok(self.ring_fd.as_fd());
        }
        if let Some(fd) = self.event_fd.get() {
            return Ok(fd.as_fd());
        }
        let fd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| Error::os("eventfd", error.into()))?;
        self.with(|state| state.uring.submitter().register_eventfd(fd.as_raw_fd()))?
            .map_err(|error| Error::os("registering an eventfd with the ring", error))?;
        // Completions from before the registration have signalled nobody.
        rustix::io::write(&fd, &1_u64.to_ne_bytes())
            .map_err(|error| Error::os("writing to an eventfd", error.into()))?;
        Ok(self.event_fd.get_or_init(|| fd).as_fd())
    }

    #[cfg(feature = "packet")]
    pub(crate) fn has_event_fd(&self) -> bool {
        self.event_fd.get().is_some()
    }

    pub(crate) fn acknowledge(&self) -> Result<()> {
        // Making the deferred completions signals the eventfd too, so that comes first.
        self.submit()?;
        if let Some(fd) = self.event_fd.get() {
            // It does not block, and answers `EAGAIN` when there is nothing to clear.
            let _ = rustix::io::read(fd, &mut [0; 8]);
            self.submit()?;
        }
        Ok(())
    }

    /// The ring's descriptor, for whoever sends messages to it.
    pub(crate) fn duplicate(&self) -> Result<OwnedFd> {
        self.ring_fd.try_clone().map_err(|error| Error::os("duplicating the ring", error))
    }

    pub(crate) fn fork_sentinel(&self) -> Arc<ForkSentinel> {
        Arc::clone(&self.fork)
    }

    pub(crate) fn ring_fd(&self) -> BorrowedFd<'_> {
        self.ring_fd.as_fd()
    }

    /// Ends everything; returns how many operations had to be leaked. The second call does nothing.
    pub(super) fn close(&self) -> usize {
        let left = self.with(|state| {
            if state.is_closed() {
                0
            } else {
                state.close(Instant::now().checked_add(self.shutdown))
            }
        });
        // A forked child has nothing to end: what is in flight writes to the parent's memory.
        let left = left.unwrap_or(0);
        count_leaked(left);
        left
    }
}

impl<M: Mode> Drop for Inner<M> {
    fn drop(&mut self) {
        // Reached without a `close` only where the ring's own drop was skipped by a failed build,
        // or in a child: then nothing is in flight, or nothing is ours.
        self.close();
    }
}

impl<M: Mode> fmt::Debug for Inner<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("setup", &self.setup).finish_non_exhaustive()
    }
}
