//! Tasks that wait for operations. A waker is the executor's code: it is cloned before the lock is
//! taken, and woken or dropped after it has been released (see [`super::outbox`]).

use std::task::Waker;

use super::State;
use super::outbox::Deferred;
use crate::ring::key::Key;

/// What a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// A completion of the operation that nobody has taken: for operations with many of them.
    Completion,
    /// Its end: the kernel is done with it.
    End,
}

/// A task that waits for an operation.
#[derive(Debug)]
pub(super) struct Watcher {
    until: Until,
    waker: Waker,
}

/// The answer of [`State::watch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    /// There is nothing to wait for: it has come, or nothing will ever come.
    Ready,
    /// The task will be woken.
    Registered,
    /// The task's waker has to be cloned for that.
    NeedsClone,
}

impl State {
    /// Has the task woken when what it waits for has come. `clone` is used up where it is needed.
    pub(crate) fn watch(
        &mut self,
        key: Key,
        until: Until,
        task: &Waker,
        clone: &mut Option<Waker>,
    ) -> Watched {
        let closed = self.closed;
        let Some(flight) = self.slab.get_mut(key) else { return Watched::Ready };
        let came = until == Until::Completion && !flight.results.is_empty();
        // A closed ring has let its operations end, or leaked them.
        if came || !flight.in_flight || closed {
            return Watched::Ready;
        }
        if let Some(watcher) = &mut flight.watcher
            && watcher.waker.will_wake(task)
        {
            watcher.until = until;
            return Watched::Registered;
        }
        let Some(waker) = clone.take() else { return Watched::NeedsClone };
        if let Some(before) = flight.watcher.replace(Watcher { until, waker }) {
            self.outbox.push(Deferred::Release(before.waker));
        }
        Watched::Registered
    }

    /// A completion has come, the last one or not.
    pub(super) fn wake_watcher(&mut self, key: Key, ended: bool) {
        let Some(flight) = self.slab.get_mut(key) else { return };
        let woken = flight.watcher.take_if(|watcher| ended || watcher.until == Until::Completion);
        if let Some(watcher) = woken {
            self.outbox.push(Deferred::Wake(watcher.waker));
        }
    }

    /// Nobody waits for the operation any more.
    pub(super) fn release_watcher(&mut self, key: Key) {
        let watcher = self.slab.get_mut(key).and_then(|flight| flight.watcher.take());
        if let Some(watcher) = watcher {
            self.outbox.push(Deferred::Release(watcher.waker));
        }
    }

    /// Wakes every task that waits, because nothing will come any more.
    pub(super) fn wake_all_watchers(&mut self) {
        let watchers = self.slab.values_mut().filter_map(|flight| flight.watcher.take());
        for watcher in watchers {
            self.outbox.push(Deferred::Wake(watcher.waker));
        }
    }

    /// Makes the caller the ring's driver. False when there is one.
    #[cfg(feature = "tokio")]
    pub(crate) fn claim_driver(&mut self) -> bool {
        !std::mem::replace(&mut self.driven, true)
    }

    /// Has the driver's task woken when there is something to submit, or the ring is closed. Ready
    /// while that is so.
    #[cfg(feature = "tokio")]
    pub(crate) fn watch_submissions(&mut self, task: &Waker, clone: &mut Option<Waker>) -> Watched {
        // The kernel's polling thread takes entries by itself.
        let waiting = !self.sqpoll && self.uring.unsubmitted() > 0;
        let cancels = self.cancel_all || !self.cancels.is_empty() || self.can_cancel_target();
        let cancels = cancels || self.has_late_cancels();
        if self.closed || waiting || cancels {
            return Watched::Ready;
        }
        if self.driver.as_ref().is_some_and(|driver| driver.will_wake(task)) {
            return Watched::Registered;
        }
        let Some(waker) = clone.take() else { return Watched::NeedsClone };
        if let Some(before) = self.driver.replace(waker) {
            self.outbox.push(Deferred::Release(before));
        }
        Watched::Registered
    }

    /// There is something to submit, or the ring is closed.
    pub(super) fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            self.outbox.push(Deferred::Wake(driver));
        }
    }

    /// The driver is gone.
    #[cfg(feature = "tokio")]
    pub(crate) fn release_driver(&mut self) {
        self.driven = false;
        if let Some(driver) = self.driver.take() {
            self.outbox.push(Deferred::Release(driver));
        }
    }
}
