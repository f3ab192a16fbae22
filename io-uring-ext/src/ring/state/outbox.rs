//! What a ring owes to code that is not its own, paid after its lock has been released: a buffer's
//! `Drop` and a task's waker may call into the ring, and may panic.

use std::collections::VecDeque;
use std::task::Waker;

#[cfg(feature = "tracing")]
use super::trace;
use crate::sys::payload::Payload;

/// Something to do without the lock.
#[derive(Debug)]
pub(crate) enum Deferred {
    /// Frees what an operation owned.
    Free(Payload),
    /// Wakes a task.
    Wake(Waker),
    /// Lets go of a waker that is not needed any more.
    Release(Waker),
    /// Tells the subscriber what has happened.
    #[cfg(feature = "tracing")]
    Tell(trace::Record),
}

/// What is to be done without the lock, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Deferred>,
    /// Spans of operations that have begun; they go back into the state.
    #[cfg(feature = "tracing")]
    pub(super) spans: trace::Spans,
}

impl Outbox {
    pub(crate) fn push(&mut self, deferred: Deferred) {
        self.queue.push_back(deferred);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Does all of it. A panic stops nothing: the rest is done while unwinding, or a task would wait
    /// for ever because of another one's waker.
    pub(crate) fn deliver(&mut self) {
        struct All<'a>(&'a mut Outbox);

        impl All<'_> {
            fn run(&mut self) {
                while let Some(deferred) = self.0.queue.pop_front() {
                    self.0.run(deferred);
                }
            }
        }

        impl Drop for All<'_> {
            fn drop(&mut self) {
                self.run();
            }
        }

        All(self).run();
    }

    fn run(&mut self, deferred: Deferred) {
        match deferred {
            Deferred::Free(payload) => drop(payload),
            Deferred::Wake(waker) => waker.wake(),
            Deferred::Release(waker) => drop(waker),
            #[cfg(feature = "tracing")]
            Deferred::Tell(record) => record.tell(&mut self.spans),
        }
    }

    /// Takes the other one's memory if that is more. Nothing is dropped.
    pub(super) fn reuse(&mut self, other: &mut Self) {
        if self.is_empty() && self.queue.capacity() < other.queue.capacity() {
            std::mem::swap(&mut self.queue, &mut other.queue);
        }
    }
}
