//! Time in tasks: [`Ring::sleep`] and [`Ring::timeout`].

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::error::{Error, Result, StartError};
use crate::mode::{Local, Mode};
use crate::op::{Timeout, TimeoutEnd};
use crate::ring::{Ends, Inner, Pending, Ring};

/// Passes time; see [`Ring::sleep`].
#[must_use = "it begins when it is awaited, and ends when it is dropped"]
pub struct Sleep<M: Mode = Local> {
    inner: M::Ptr<Inner<M>>,
    /// `None`: beyond what the clock can tell.
    deadline: Option<Instant>,
    running: Option<Pending<Timeout, M>>,
}

impl<M: Mode> Sleep<M> {
    /// Whether nobody asked for the timer, which has ended early, to be cancelled: then the kernel did
    /// because the thread that had submitted it has exited.
    fn is_orphan(&self) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|running| !running.cancel_was_asked())
    }
}

impl<M: Mode> Unpin for Sleep<M> {}

impl<M: Mode> Future for Sleep<M> {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        const WHAT: &str = "sleeping in the ring";
        loop {
            let orphan = self.is_orphan();
            if let Some(running) = &mut self.running {
                let ended = ready!(Pin::new(running).poll(context));
                self.running = None;
                match ended? {
                    TimeoutEnd::Expired => return Poll::Ready(Ok(())),
                    TimeoutEnd::Cancelled if orphan => {}
                    TimeoutEnd::Cancelled => {
                        let error = io::Error::from_raw_os_error(libc::ECANCELED);
                        return Poll::Ready(Err(Error::os(WHAT, error)));
                    }
                    TimeoutEnd::Failed(error) => return Poll::Ready(Err(Error::os(WHAT, error))),
                }
            }
            let left = self.deadline.map_or(LONGEST, |deadline| {
                deadline.saturating_duration_since(Instant::now()).min(LONGEST)
            });
            if left.is_zero() {
                return Poll::Ready(Ok(()));
            }
            match Pending::start(&self.inner, Timeout::after(left), Ends::WithCompletion) {
                Ok(running) => self.running = Some(running),
                Err(refused) => match refused.why {
                    StartError::QueueFull => {
                        // The driver makes room before the next turn.
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    StartError::TooMany { capacity } => {
                        let why = "a task that sleeps needs one of its own";
                        return Poll::Ready(Err(Error::config("operations", capacity, why)));
                    }
                    StartError::Ring(error) => return Poll::Ready(Err(error)),
                },
            }
        }
    }
}

/// A century: more nanoseconds than the kernel's clock counts would be refused with `EINVAL`.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// [`Ring::timeout`] has no output.
#[derive(Debug, thiserror::Error)]
pub enum TimeoutError {
    /// The time was over first; the future has been dropped.
    #[error("the time given was over first: {0:?}")]
    Elapsed(Duration),
    /// The ring did not tell the time.
    #[error(transparent)]
    Ring(#[from] Error),
}

impl<M: Mode> Ring<M> {
    /// Passes `duration`, counted from this call, on the monotonic clock (`IORING_OP_TIMEOUT`, Linux
    /// 5.4).
    ///
    /// Dropping the future cancels the timer. So it can be raced against anything, and polled again
    /// after it has lost.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when all of the ring's operations are in use; [`Error::Os`] with `ECANCELED`
    /// when everything on the ring was cancelled or the ring was closed; [`Error::Closed`].
    ///
    /// ```
    /// use io_uring_ext::Ring;
    /// use std::time::{Duration, Instant};
    ///
    /// let ring = Ring::local()?;
    /// let start = Instant::now();
    /// ring.block_on(ring.sleep(Duration::from_millis(2)))??;
    /// assert!(start.elapsed() >= Duration::from_millis(2));
    /// # Ok::<(), io_uring_ext::Error>(())
    /// ```
    pub fn sleep(&self, duration: Duration) -> Sleep<M> {
        let deadline = Instant::now().checked_add(duration);
        Sleep { inner: self.inner.clone(), deadline, running: None }
    }

    /// Gives the future `duration` to end, and drops it when the time is over. An operation's future
    /// is cancelled by that.
    ///
    /// # Errors
    ///
    /// [`TimeoutError::Elapsed`] when the time is over; [`TimeoutError::Ring`] as
    /// [`sleep`](Self::sleep).
    ///
    /// ```
    /// use io_uring_ext::driver::TimeoutError;
    /// use io_uring_ext::{Fd, Ring, op::Read};
    /// use std::time::Duration;
    ///
    /// let ring = Ring::local()?;
    /// let (reader, _writer) = std::io::pipe()?;
    /// let read = ring.push(Read::new(&Fd::new(reader), vec![0; 8], 0))?;
    /// let answer = ring.block_on(ring.timeout(Duration::from_millis(2), read))?;
    /// assert!(matches!(answer, Err(TimeoutError::Elapsed(_)))); // nobody wrote
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn timeout<F: Future>(
        &self,
        duration: Duration,
        future: F,
    ) -> impl Future<Output = Result<F::Output, TimeoutError>> + use<F, M> {
        let mut sleep = self.sleep(duration);
        async move {
            let mut future = pin!(future);
            poll_fn(move |context| {
                if let Poll::Ready(output) = future.as_mut().poll(context) {
                    return Poll::Ready(Ok(output));
                }
                ready!(Pin::new(&mut sleep).poll(context))?;
                Poll::Ready(Err(TimeoutError::Elapsed(duration)))
            })
            .await
        }
    }
}

impl<M: Mode> fmt::Debug for Sleep<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
