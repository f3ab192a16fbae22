//! What a ring owes to code that is not its own, paid after its lock has been released: a buffer's
//! `Drop` and a task's waker may call into the ring, and may panic.

use std::collections::VecDeque;
use std::task::Waker;

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
}

impl Deferred {
    fn run(self) {
        match self {
            Self::Free(payload) => drop(payload),
            Self::Wake(waker) => waker.wake(),
            Self::Release(waker) => drop(waker),
        }
    }
}

/// What is to be done without the lock, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox(VecDeque<Deferred>);

impl Outbox {
    pub(crate) fn push(&mut self, deferred: Deferred) {
        self.0.push_back(deferred);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Does all of it. A panic stops nothing: the rest is done while unwinding, or a task would wait
    /// for ever because of another one's waker.
    pub(crate) fn deliver(&mut self) {
        struct All<'a>(&'a mut Outbox);

        impl All<'_> {
            fn run(&mut self) {
                while let Some(deferred) = self.0.0.pop_front() {
                    deferred.run();
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

    /// Takes the other one's memory if that is more; both are empty, or this one keeps what it has.
    pub(crate) fn reuse(&mut self, other: Self) {
        if self.is_empty() && self.0.capacity() < other.0.capacity() {
            *self = other;
        }
    }
}
