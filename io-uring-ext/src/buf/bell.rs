//! [`Bell`]: telling tasks that buffers have come back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::ring::{Deferred, Outbox};

/// Wakes the tasks that have run out of buffers. A [`BufSource`](crate::buf_ring::BufSource) has one
/// if it can tell when a buffer comes back.
///
/// Nothing is locked or allocated while no task waits.
#[derive(Debug, Default)]
pub struct Bell {
    awaited: AtomicBool,
    tasks: Mutex<Vec<Waker>>,
}

impl Bell {
    /// A bell for which nobody waits.
    pub const fn new() -> Self {
        Self { awaited: AtomicBool::new(false), tasks: Mutex::new(Vec::new()) }
    }

    /// Wakes all that wait. To be called when another buffer can be supplied, without a lock that a
    /// task might need.
    pub fn ring(&self) {
        if self.awaited.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        let tasks = {
            let mut tasks = self.tasks();
            self.awaited.store(false, Ordering::SeqCst);
            std::mem::take(&mut *tasks)
        };
        // The lock is free again: a waker is foreign code.
        let mut outbox = Outbox::default();
        tasks.into_iter().for_each(|task| outbox.push(Deferred::Wake(task)));
        outbox.deliver();
    }

    /// Wakes the task with the next ring. Whoever registers looks for buffers once more afterwards:
    /// one may just have come back.
    pub(crate) fn register(&self, task: &Waker) {
        if self.tasks().iter().any(|waiting| waiting.will_wake(task)) {
            return;
        }
        let task = task.clone();
        let mut tasks = self.tasks();
        tasks.push(task);
        self.awaited.store(true, Ordering::SeqCst);
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
