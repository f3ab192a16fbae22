//! [`Pending`]: an operation that has been started.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::key::Key;
use super::state::Until;
use super::{Cqe, Ends, Inner};
use crate::error::{Error, NotStarted, Result};
use crate::mode::Mode;
use crate::op::{Completions, Operation};

/// An operation that has been started, or is given back because it could not be.
pub type Started<T, M> = Result<Pending<T, M>, NotStarted<T>>;

/// An operation that has been started, and the right to its result.
///
/// Dropping it cancels the operation; what it owns is freed when the kernel is done with it.
/// Forgetting it keeps the operation's place taken until the ring is dropped.
///
/// [`wait`](Self::wait) sleeps for the result; as a [`Future`] it gives the same without sleeping,
/// under any executor, as long as somebody [drives](crate::driver) the ring.
///
/// The future's output is `Ok` when the kernel is done with the operation, also when that is because
/// the ring was closed and cancelled it. It is [`Error::Closed`] only for an operation whose memory had
/// to be leaked when the ring was closed (see [`Ring::close`](crate::Ring::close)), and
/// [`Error::Forked`] in a child process. Polled again after that, it stays pending.
#[must_use = "dropping it cancels the operation; `detach` lets it run"]
pub struct Pending<T: Operation, M: Mode> {
    inner: M::Ptr<Inner<M>>,
    key: Key,
    /// Taken or given away: nothing to do on drop.
    released: bool,
    operation: PhantomData<fn() -> T>,
}

impl<T: Operation, M: Mode> Pending<T, M> {
    pub(crate) fn start(inner: &M::Ptr<Inner<M>>, operation: T, ends: Ends) -> Started<T, M> {
        let mut operation = Some(operation);
        let started =
            inner.with(|state| operation.take().map(|operation| state.start(operation, ends)));
        match (started, operation) {
            (Ok(Some(Ok(key))), _) => {
                Ok(Self { inner: inner.clone(), key, released: false, operation: PhantomData })
            }
            (Ok(Some(Err((operation, why)))), _) => Err(NotStarted { operation, why }),
            (Err(error), Some(operation)) => Err(NotStarted { operation, why: error.into() }),
            (Ok(None), _) | (Err(_), None) => {
                unreachable!("the operation is there until it is started")
            }
        }
    }

    /// Whether the kernel is done with the operation, so that [`try_take`](Self::try_take) succeeds.
    /// Does not look for new completions; [`Ring::submit`](crate::Ring::submit) does.
    pub fn is_done(&self) -> bool {
        self.inner.with(|state| state.is_done(self.key)).unwrap_or(false)
    }

    /// The result and what the operation owned, if the kernel is done with it.
    ///
    /// # Errors
    ///
    /// Gives itself back when it is not.
    pub fn try_take(mut self) -> Result<T::Output, Self> {
        match self.take() {
            Some(output) => Ok(output),
            None => Err(self),
        }
    }

    /// Submits, sleeps until the kernel is done with the operation, and returns its result.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] gives the operation back; it goes on.
    pub fn wait(mut self, timeout: Option<Duration>) -> Result<T::Output, WaitError<T, M>> {
        let key = self.key;
        let done = self.inner.wait_until(timeout, |state| {
            // A closed ring has let its operations end, or leaked them; either way nothing changes
            // any more.
            (state.is_done(key) || state.is_closed()).then_some(())
        });
        match (done, self.take()) {
            (_, Some(output)) => Ok(output),
            (Ok(Some(())), None) => Err(WaitError::Ring(Error::Closed)),
            (Ok(None), None) => Err(WaitError::TimedOut(self)),
            (Err(error), None) => Err(WaitError::Ring(error)),
        }
    }

    /// Asks the kernel to end the operation early. Its result comes as always, and says whether the
    /// cancel was in time: `ECANCELED`, or `EINTR` where a worker of the kernel was interrupted at it. The request is never lost: it waits when the submission queue is full.
    ///
    /// # Errors
    ///
    /// As [`Ring::submit`](crate::Ring::submit).
    pub fn cancel(&self) -> Result<()> {
        self.inner.with(|state| state.cancel(self.key))
    }

    /// Asks the kernel to end the operation early and waits until it has: for getting the buffer back.
    /// The result says whether the cancel was in time.
    ///
    /// # Errors
    ///
    /// As the future itself.
    pub async fn cancelled(self) -> Result<T::Output> {
        self.cancel()?;
        self.await
    }

    /// Lets the operation run to its end without anybody to take its result.
    pub fn detach(mut self) {
        self.released = true;
        // In a forked child there is nothing to let go of.
        let _ = self.inner.with(|state| state.abandon(self.key, false));
    }

    /// Whether somebody asked for it to end early, alone or with everything.
    pub(crate) fn cancel_was_asked(&self) -> bool {
        self.inner.with(|state| state.cancel_was_asked(self.key)).unwrap_or(true)
    }

    pub(crate) fn key(&self) -> Key {
        self.key
    }

    pub(crate) fn ring(&self) -> &M::Ptr<Inner<M>> {
        &self.inner
    }

    /// The first completion, while more are to come.
    pub(crate) fn first_result(&self) -> Option<Cqe> {
        self.inner.with(|state| state.first_result(self.key)).ok().flatten()
    }

    fn take(&mut self) -> Option<T::Output> {
        let mut completions = Completions::default();
        let taken =
            self.inner.with(|state| state.take::<T>(self.key, &mut completions)).ok().flatten()?;
        self.released = true;
        Some(taken.complete(completions))
    }
}

impl<T: Operation, M: Mode> Unpin for Pending<T, M> {}

impl<T: Operation, M: Mode> Future for Pending<T, M> {
    type Output = Result<T::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.released {
            return Poll::Pending;
        }
        ready!(self.inner.poll_until(self.key, Until::End, context))?;
        let output = self.take();
        self.released = true;
        Poll::Ready(output.ok_or(Error::Closed))
    }
}

impl<T: Operation, M: Mode> Drop for Pending<T, M> {
    fn drop(&mut self) {
        if !self.released {
            // In a forked child there is nothing to cancel.
            let _ = self.inner.with(|state| state.abandon(self.key, true));
        }
    }
}

impl<T: Operation, M: Mode> fmt::Debug for Pending<T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("key", &self.key).finish_non_exhaustive()
    }
}

/// [`Pending::wait`] has no result.
#[derive(thiserror::Error)]
pub enum WaitError<T: Operation, M: Mode> {
    /// The time is over; here is the operation, which goes on.
    #[error("the operation is still in flight after the time given to wait for it")]
    TimedOut(Pending<T, M>),
    /// The ring does not work; the operation's memory is freed when the kernel is done with it.
    #[error(transparent)]
    Ring(Error),
}

impl<T: Operation, M: Mode> fmt::Debug for WaitError<T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(pending) => f.debug_tuple("TimedOut").field(pending).finish(),
            Self::Ring(error) => f.debug_tuple("Ring").field(error).finish(),
        }
    }
}
