//! [`PendingChain`]: a chain that has been started.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::parts::{Member, Parts, Taker};
use super::summary::Tally;
use super::{Chain, ChainDone, StartedChain};
use crate::error::{Error, NotStarted, Result};
use crate::mode::Mode;
use crate::ring::Inner;
use crate::ring::state::{State, Until};

/// A chain that has been started, and the right to its results.
///
/// Dropping it cancels every member that has not ended; what each owns is freed when the kernel is done
/// with it. Forgetting it keeps the members' places taken until the ring is dropped.
///
/// [`wait`](Self::wait) sleeps for the results; as a [`Future`] it gives the same without sleeping, and
/// ends as that of [`Pending`](crate::Pending) does.
#[must_use = "dropping it cancels the chain; `detach` lets it run"]
pub struct PendingChain<P: Parts, M: Mode> {
    inner: M::Ptr<Inner<M>>,
    keys: P::Keys,
    /// Taken or given away: nothing to do on drop.
    released: bool,
}

impl<P: Parts, M: Mode> PendingChain<P, M> {
    pub(super) fn start(inner: &M::Ptr<Inner<M>>, chain: Chain<P>) -> StartedChain<P, M> {
        let mut parts = Some(chain.parts);
        let started = inner.with(|state| parts.take().map(|parts| state.start_chain(parts)));
        match (started, parts) {
            (Ok(Some(Ok(keys))), _) => Ok(Self { inner: inner.clone(), keys, released: false }),
            (Ok(Some(Err((parts, why)))), _) => Err(NotStarted { operation: Chain { parts }, why }),
            (Err(error), Some(parts)) => {
                Err(NotStarted { operation: Chain { parts }, why: error.into() })
            }
            (Ok(None), _) | (Err(_), None) => unreachable!("the parts are there until they start"),
        }
    }

    /// Whether the kernel is done with every member, so that [`try_take`](Self::try_take) succeeds. Does
    /// not look for new completions; [`Ring::submit`](crate::Ring::submit) does.
    pub fn is_done(&self) -> bool {
        self.inner.with(|state| is_done::<P>(&self.keys, state)).unwrap_or(false)
    }

    /// The results and what the members owned, if the kernel is done with all of them.
    ///
    /// # Errors
    ///
    /// Gives itself back when it is not.
    pub fn try_take(mut self) -> Result<ChainDone<P::Output>, Self> {
        match self.take() {
            Some(done) => Ok(done),
            None => Err(self),
        }
    }

    /// Submits, sleeps until the kernel is done with every member, and returns the results.
    ///
    /// # Errors
    ///
    /// [`ChainWaitError::TimedOut`] gives the chain back; it goes on.
    pub fn wait(
        mut self,
        timeout: Option<Duration>,
    ) -> Result<ChainDone<P::Output>, ChainWaitError<P, M>> {
        let done = self.inner.wait_until(timeout, |state| {
            (is_done::<P>(&self.keys, state) || state.is_closed()).then_some(())
        });
        match (done, self.take()) {
            (_, Some(done)) => Ok(done),
            (Ok(Some(())), None) => Err(ChainWaitError::Ring(Error::Closed)),
            (Ok(None), None) => Err(ChainWaitError::TimedOut(self)),
            (Err(error), None) => Err(ChainWaitError::Ring(error)),
        }
    }

    /// Asks the kernel to end the chain early: the member that runs, and all behind it, hard links or
    /// not. The request is never lost: it waits when the submission queue is full, and where a member has
    /// not begun yet it is repeated when it has.
    ///
    /// # Errors
    ///
    /// As [`Ring::submit`](crate::Ring::submit).
    pub fn cancel(&self) -> Result<()> {
        self.inner.with(|state| P::each(&self.keys, &mut |member| state.cancel(member.key)))
    }

    /// Lets the chain run to its end without anybody to take its results.
    pub fn detach(mut self) {
        self.release(false);
    }

    fn release(&mut self, cancel: bool) {
        self.released = true;
        // In a forked child there is nothing to let go of.
        let _ = self.inner.with(|state| {
            P::each(&self.keys, &mut |&Member { key, limit, .. }| {
                state.abandon(key, cancel);
                // A time limit ends with its member.
                if let Some(limit) = limit {
                    state.abandon(limit, false);
                }
            });
        });
    }

    fn take(&mut self) -> Option<ChainDone<P::Output>> {
        let taken = self.inner.with(|state| {
            if !is_done::<P>(&self.keys, state) {
                return None;
            }
            let mut taker = Taker { state, tally: Tally::default() };
            let taken = P::take(&self.keys, &mut taker)?;
            Some((taken, taker.tally.summary()))
        });
        let (taken, summary) = taken.ok().flatten()?;
        self.released = true;
        Some(ChainDone { results: P::complete(taken), summary })
    }
}

fn is_done<P: Parts>(keys: &P::Keys, state: &mut State) -> bool {
    let mut done = true;
    P::each(keys, &mut |&Member { key, limit, .. }| {
        done &= state.is_done(key) && limit.is_none_or(|limit| state.is_done(limit));
    });
    done
}

impl<P: Parts, M: Mode> Unpin for PendingChain<P, M> {}

impl<P: Parts, M: Mode> Future for PendingChain<P, M> {
    type Output = Result<ChainDone<P::Output>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.released {
            return Poll::Pending;
        }
        // One at a time: the first that is not done wakes the task, which then looks for the next one.
        let mut polled = Poll::Ready(Ok(()));
        P::each(&self.keys, &mut |&Member { key, limit, .. }| {
            for key in std::iter::once(key).chain(limit) {
                if matches!(polled, Poll::Ready(Ok(()))) {
                    polled = self.inner.poll_until(key, Until::End, context);
                }
            }
        });
        ready!(polled)?;
        let done = self.take();
        self.released = true;
        Poll::Ready(done.ok_or(Error::Closed))
    }
}

impl<P: Parts, M: Mode> Drop for PendingChain<P, M> {
    fn drop(&mut self) {
        if !self.released {
            self.release(true);
        }
    }
}

impl<P: Parts, M: Mode> fmt::Debug for PendingChain<P, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingChain").finish_non_exhaustive()
    }
}

/// [`PendingChain::wait`] has no results.
#[derive(thiserror::Error)]
pub enum ChainWaitError<P: Parts, M: Mode> {
    /// The time is over; here is the chain, which goes on.
    #[error("the chain is still in flight after the time given to wait for it")]
    TimedOut(PendingChain<P, M>),
    /// The ring does not work; the members' memory is freed when the kernel is done with it.
    #[error(transparent)]
    Ring(Error),
}

impl<P: Parts, M: Mode> fmt::Debug for ChainWaitError<P, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(pending) => f.debug_tuple("TimedOut").field(pending).finish(),
            Self::Ring(error) => f.debug_tuple("Ring").field(error).finish(),
        }
    }
}
