//! [`Runner`]: a thread, a ring, and a future.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake as _, Waker};

use super::alarm::Alarm;
use crate::error::{Error, Result, StartError};
use crate::mode::Local;
use crate::op::{Fd, Read};
use crate::ring::{Pending, Ring};

type AlarmRead = Pending<Read<Box<[u8]>>, Local>;

/// Runs a future on the thread of a [`Local`] ring, and sleeps in the ring when there is nothing to
/// do.
///
/// It is not an executor: give it one that is a future, as async-executor's `LocalExecutor` is with
/// `run`, and the thread has tasks. One `io_uring_enter` submits what the tasks have pushed in this
/// turn, sleeps, and brings the completions of the next. Wakes from other threads end the sleep.
///
/// ```
/// use async_executor::LocalExecutor;
/// use io_uring_ext::driver::Runner;
/// use io_uring_ext::op::{Read, Send};
/// use io_uring_ext::{Fd, Ring};
/// use std::os::unix::net::UnixStream;
///
/// let ring = Ring::local()?;
/// let (a, b) = UnixStream::pair()?;
/// let (a, b) = (Fd::new(a), Fd::new(b));
///
/// let executor = LocalExecutor::new();
/// let reader = executor.spawn(async {
///     let read = ring.push(Read::new(&b, vec![0; 16], 0)).map_err(|refused| refused.why)?;
///     Ok::<_, Box<dyn std::error::Error>>(read.await?.buf)
/// });
/// ring.push(Send::new(&a, b"hello".to_vec()))?.detach();
///
/// let received = Runner::new(&ring)?.block_on(executor.run(reader))??;
/// assert_eq!(received, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It has one operation of the ring's in flight, a read from an eventfd for wakes from other threads.
pub struct Runner<'ring> {
    ring: &'ring Ring<Local>,
    alarm: Arc<Alarm>,
    /// What the alarm writes to.
    event_fd: Fd,
    /// The read from it, which ends the ring's sleep.
    armed: RefCell<Option<AlarmRead>>,
    spins: u32,
}

impl<'ring> Runner<'ring> {
    /// A runner that sleeps at once when there is nothing to do.
    ///
    /// # Errors
    ///
    /// When there is no eventfd to be had.
    pub fn new(ring: &'ring Ring<Local>) -> Result<Self> {
        let (alarm, event_fd) = Alarm::new()?;
        Ok(Self { ring, alarm, event_fd: Fd::new(event_fd), armed: RefCell::new(None), spins: 0 })
    }

    /// Looks for completions and wakes so many times before it sleeps: a lower latency, for CPU time.
    /// A look costs a few nanoseconds and no system call.
    #[must_use]
    pub fn spins(mut self, spins: u32) -> Self {
        self.spins = spins;
        self
    }

    /// Runs the future to its end. What it has spawned elsewhere and not awaited stays where it is;
    /// operations in flight go on with the next call.
    ///
    /// # Errors
    ///
    /// As [`Ring::submit`]; [`Error::Config`] when all of the ring's operations are in use and none is
    /// left for the runner's own. The future is dropped then.
    pub fn block_on<F: Future>(&self, future: F) -> Result<F::Output> {
        let mut future = pin!(future);
        let waker = Waker::from(Arc::clone(&self.alarm));
        let mut context = Context::from_waker(&waker);
        // What is run inside the future of another `block_on` of the same runner sees the wakes of both:
        // that one looks again.
        let _look_again = LookAgain(&self.alarm);
        loop {
            self.alarm.look();
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Ok(output);
            }
            self.pass_time()?;
        }
    }

    /// Submits, and comes back when there was a wake.
    fn pass_time(&self) -> Result<()> {
        if self.alarm.is_woken() {
            return self.ring.submit();
        }
        for _ in 0..self.spins {
            self.ring.submit()?;
            if self.alarm.is_woken() {
                return Ok(());
            }
            std::hint::spin_loop();
        }
        while !self.alarm.is_woken() {
            if self.arm()? && self.alarm.fall_asleep() {
                self.ring.inner.with(|state| {
                    let slept = state.wait(1, None);
                    // Before the tasks are woken, which is done when the ring is released: their
                    // wakes come from this thread and have no sleep to end.
                    self.alarm.wake_up();
                    slept
                })??;
            }
        }
        Ok(())
    }

    /// Sees to it that the ring reads from the eventfd. False if there was no room for that in the
    /// submission queue.
    fn arm(&self) -> Result<bool> {
        let mut armed = self.armed.borrow_mut();
        let buf = match armed.take().map(Pending::try_take) {
            Some(Err(reading)) => {
                *armed = Some(reading);
                return Ok(true);
            }
            Some(Ok(done)) => done.buf,
            None => Box::from([0; 8]),
        };
        match self.ring.push(Read::new(&self.event_fd, buf, 0)) {
            Ok(reading) => {
                *armed = Some(reading);
                Ok(true)
            }
            Err(refused) => match refused.why {
                // Taking completions makes room; the loop comes back here.
                StartError::QueueFull => self.ring.submit().map(|()| false),
                StartError::TooMany { capacity } => {
                    Err(Error::config("operations", capacity, "a runner needs one of its own"))
                }
                StartError::Ring(error) => Err(error),
            },
        }
    }
}

/// Leaves a wake behind.
struct LookAgain<'a>(&'a Arc<Alarm>);

impl Drop for LookAgain<'_> {
    fn drop(&mut self) {
        self.0.wake_by_ref();
    }
}

impl Ring<Local> {
    /// Runs the future to its end with a [`Runner`] of its own.
    ///
    /// # Errors
    ///
    /// As [`Runner::new`] and [`Runner::block_on`].
    pub fn block_on<F: Future>(&self, future: F) -> Result<F::Output> {
        Runner::new(self)?.block_on(future)
    }
}

impl fmt::Debug for Runner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("alarm", &self.alarm)
            .field("spins", &self.spins)
            .finish_non_exhaustive()
    }
}
