//! What all multishot operations have in common: arming, completions, ends.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::EndReason;
use crate::buf::Bell;
use crate::error::{Error, Result, StartError};
use crate::mode::Mode;
use crate::op::sealed::Prepare;
use crate::ring::key::Key;
use crate::ring::state::State;
use crate::ring::{self, Cqe, Inner, Until};

/// What is particular to one kind.
pub(crate) trait Source {
    /// The operation that is armed.
    type Operation: Prepare;
    /// What a result is to the application.
    type Item;
    /// What fails, in errors.
    const WHAT: &'static str;

    /// The operation, to be armed.
    fn operation(&self) -> Self::Operation;

    /// Gets ready for results. Whether to arm an operation that has ended for `ended`, a reason that
    /// is not final, or that never was armed.
    fn ready(&mut self, ended: Option<EndReason>) -> bool;

    /// What rings when it may have become ready. `None`: it tells nobody.
    fn bell(&self) -> Option<Arc<Bell>> {
        None
    }

    /// Why this last completion was the last, where it says more than an error does.
    fn end(&self, cqe: Cqe) -> Option<EndReason>;

    /// What a completion brings.
    fn take(&mut self, cqe: Cqe) -> Option<Self::Item>;

    /// What is left of the completion that was taken last.
    fn rest(&mut self) -> Option<Self::Item> {
        None
    }

    /// A completion that nobody will take: what it brought goes back.
    fn discard(&mut self, cqe: Cqe);
}

/// How often a multishot operation was armed, and why it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) armed: u64,
    pub(crate) no_buffers: u64,
    pub(crate) overflows: u64,
    pub(crate) orphaned: u64,
}

/// A multishot operation, armed and re-armed on a ring.
pub(crate) struct Engine<S: Source, M: Mode> {
    ring: M::Ptr<Inner<M>>,
    pub(crate) source: S,
    armed: Option<Key>,
    /// Completions taken from the operation and not handed out yet.
    pub(crate) fetched: VecDeque<Cqe>,
    ended: Option<EndReason>,
    /// It was cancelled, and the completion that ends it has not been looked at.
    cancelled: bool,
    ends: Ends,
}

impl<S: Source, M: Mode> Engine<S, M> {
    /// Arms nothing yet. `capacity` completions are fetched without an allocation.
    pub(crate) fn new(ring: M::Ptr<Inner<M>>, source: S, capacity: usize) -> Self {
        let fetched = VecDeque::with_capacity(capacity);
        Self {
            ring,
            source,
            armed: None,
            fetched,
            ended: None,
            cancelled: false,
            ends: Ends::default(),
        }
    }

    /// The next result, without sleeping. Errors come in their place among the results.
    pub(crate) fn next(&mut self) -> Result<Option<S::Item>> {
        let before = self.ends.no_buffers;
        loop {
            if let Some(item) = self.next_fetched()? {
                return Ok(Some(item));
            }
            // Where several share their buffers, those that seem to be there may be in completions
            // that the others have not looked at. Let them have a turn.
            let in_vain = self.ends.no_buffers > before + 1;
            if in_vain || !self.pull()? {
                return Ok(None);
            }
        }
    }

    /// The next result among the completions that have been fetched.
    pub(crate) fn next_fetched(&mut self) -> Result<Option<S::Item>> {
        if let Some(item) = self.source.rest() {
            return Ok(Some(item));
        }
        while let Some(cqe) = self.fetched.pop_front() {
            let reason = if cqe.more() { None } else { Some(self.end(cqe)) };
            if let Some(item) = self.source.take(cqe) {
                return Ok(Some(item));
            }
            if let Some(EndReason::Error(errno)) = reason {
                return Err(Error::os(S::WHAT, io::Error::from_raw_os_error(errno)));
            }
        }
        Ok(None)
    }

    /// Arms where that is due, and fetches completions. Whether any came.
    pub(crate) fn pull(&mut self) -> Result<bool> {
        self.arm_if_due()?;
        self.ring.submit()?;
        self.fetch()
    }

    fn fetch(&mut self) -> Result<bool> {
        if let Some(key) = self.armed {
            let fetched = &mut self.fetched;
            self.ring.with(|state| state.swap_results(key, fetched))?;
        }
        Ok(!self.fetched.is_empty())
    }

    fn arm_if_due(&mut self) -> Result<()> {
        let ready = self.source.ready(self.ended);
        if self.armed.is_some() || !ready || self.is_over() {
            return Ok(());
        }
        let operation = self.source.operation();
        let started = self.ring.with(|state| {
            // What comes back is only another handle on what the source owns.
            state.start(operation, ring::Ends::WithCompletion).map_err(|(_, why)| why)
        })?;
        match started {
            Ok(key) => {
                self.armed = Some(key);
                self.ended = None;
                self.ends.armed += 1;
                Ok(())
            }
            // Tried again with the next call, when completions have been taken.
            Err(StartError::QueueFull) => Ok(()),
            Err(StartError::TooMany { capacity }) => Err(Error::config(
                "operations",
                capacity,
                "a multishot operation needs one of its own",
            )),
            Err(StartError::Ring(error)) => Err(error),
        }
    }

    /// The operation has ended: notes why, and frees its place. Returns what ended it, also where it
    /// stays ended because it was cancelled.
    fn end(&mut self, cqe: Cqe) -> EndReason {
        let cancelled = std::mem::take(&mut self.cancelled) || self.cancel_was_asked();
        let reason = self.source.end(cqe).unwrap_or_else(|| match -cqe.result {
            libc::ENOBUFS => EndReason::NoBuffers,
            libc::ECANCELED if cancelled => EndReason::Cancelled,
            libc::ECANCELED => EndReason::Orphaned,
            errno if errno > 0 => EndReason::Error(errno),
            _ => EndReason::Overflow,
        });
        self.ends.no_buffers += u64::from(reason == EndReason::NoBuffers);
        self.ends.overflows += u64::from(reason == EndReason::Overflow);
        self.ends.orphaned += u64::from(reason == EndReason::Orphaned);
        let stays = cancelled && !reason.is_final();
        self.ended = Some(if stays { EndReason::Cancelled } else { reason });
        if let Some(key) = self.armed.take() {
            let mut rest = VecDeque::new();
            let operation = self.ring.with(|state| state.take::<S::Operation>(key, &mut rest));
            debug_assert!(rest.is_empty(), "completions after the terminal one");
            drop(operation);
        }
        reason
    }

    fn cancel_was_asked(&self) -> bool {
        let Some(key) = self.armed else { return true };
        self.ring.with(|state| state.cancel_was_asked(key)).unwrap_or(true)
    }

    /// Sleeps until there is a result. `None` when the time is over, or nothing is armed.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<S::Item>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(item) = self.next()? {
                return Ok(Some(item));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let Some(key) = self.armed else { return Ok(None) };
            let over = left.is_some_and(|left| left.is_zero());
            // A closed ring has let its operations end, or leaked them.
            let something = |state: &mut State| match state.first_result(key) {
                Some(_) => Some(true),
                None => state.is_closed().then_some(false),
            };
            if over {
                return self.next();
            }
            match self.ring.wait_until(left, something)? {
                Some(true) => {}
                Some(false) => return Err(Error::Closed),
                None => return self.next(),
            }
        }
    }

    /// The next result. `None` when it has ended and is not armed again. Leaves submitting to the
    /// ring's driver.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<S::Item>>> {
        loop {
            if let Some(item) = self.next_fetched()? {
                return Poll::Ready(Ok(Some(item)));
            }
            self.arm_if_due()?;
            let Some(key) = self.armed else {
                return self.poll_arm(context).map(|()| Ok(None));
            };
            ready!(self.ring.poll_until(key, Until::Completion, context))?;
            if !self.fetch()? {
                return Poll::Ready(Err(Error::Closed));
            }
        }
    }

    /// Waits until the operation, which is not armed, can be armed. Ready if it cannot.
    fn poll_arm(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.is_over() {
            return Poll::Ready(());
        }
        if !self.source.ready(self.ended) {
            let Some(bell) = self.source.bell() else { return Poll::Ready(()) };
            bell.register(context.waker());
            if !self.source.ready(self.ended) {
                return Poll::Pending;
            }
        }
        // It has just become ready, or the submission queue was full and the driver makes room.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Asks the kernel to end the operation; nothing is armed again until [`rearm`](Self::rearm).
    pub(crate) fn cancel(&mut self) -> Result<()> {
        let Some(key) = self.armed else {
            self.ended = Some(EndReason::Cancelled);
            return Ok(());
        };
        self.cancelled = true;
        self.ring.with(|state| {
            state.cancel(key);
            state.submit()
        })?
    }

    pub(crate) fn rearm(&mut self) {
        if self.armed.is_none() {
            self.ended = None;
        }
    }

    /// Whether it stays ended.
    fn is_over(&self) -> bool {
        self.ended.is_some_and(EndReason::is_final)
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.armed.is_some()
    }

    /// Why it ended, while it is not armed.
    pub(crate) fn ended(&self) -> Option<EndReason> {
        self.ended
    }

    pub(crate) fn ends(&self) -> Ends {
        self.ends
    }
}

// Nothing in it is pinned.
impl<S: Source, M: Mode> Unpin for Engine<S, M> {}

impl<S: Source, M: Mode> Drop for Engine<S, M> {
    fn drop(&mut self) {
        while let Some(cqe) = self.fetched.pop_front() {
            self.source.discard(cqe);
        }
        if let Some(key) = self.armed.take() {
            // In a forked child there is nothing to cancel.
            let _ = self.ring.with(|state| state.abandon(key, true));
        }
    }
}
