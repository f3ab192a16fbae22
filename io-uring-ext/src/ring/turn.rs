//! How threads that share a ring sleep for completions.
//!
//! None may sleep with the ring's lock held, and none may sleep while another one takes its
//! completion. So one thread at a time has the *turn*: it sleeps on the ring's descriptor and takes
//! completions for all; the others sleep until it reports. While the turn is taken, nobody else takes
//! completions, so the descriptor stays readable until its sleeper has seen it.

use std::time::{Duration, Instant};

use super::wait::left;
use crate::error::Result;

mod sync {
    #[cfg(all(test, model))]
    pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};
    #[cfg(not(all(test, model)))]
    pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
}

use sync::{Condvar, Mutex, MutexGuard};

/// What is shared: a ring, or the model of one.
pub(super) trait Turns {
    /// What its lock protects.
    type State;

    fn with<R>(&self, f: impl FnOnce(&mut Self::State) -> R) -> Result<R>;

    /// Submits, and takes the completions that are there unless somebody has the turn.
    fn submit(state: &mut Self::State) -> Result<()>;

    /// Whether somebody has the turn.
    fn led(state: &mut Self::State) -> &mut bool;

    /// Takes the completions that are there.
    fn reap(state: &mut Self::State);

    /// How long to sleep at most, of what is left.
    fn nap(state: &mut Self::State, left: Duration) -> Duration;

    /// Sleeps until there are completions to take.
    fn sleep(&self, limit: Duration) -> Result<()>;
}

/// The reports of the threads that had the turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// So many so far.
    reports: Mutex<u64>,
    reported: Condvar,
}

enum Next<R> {
    Found(R),
    Over,
    Lead(Duration),
    Follow(u64, Duration),
}

/// The turn, if it has been taken.
struct Lead<'a, T: Turns> {
    turn: &'a Turn,
    ring: &'a T,
    taken: bool,
}

impl<T: Turns> Lead<'_, T> {
    /// Takes the completions that are there, gives the turn back and says so.
    fn end(mut self) -> Result<()> {
        self.give_back()
    }

    fn give_back(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.taken, false) {
            return Ok(());
        }
        let _report = Report(self.turn);
        self.ring.with(|state| {
            *T::led(state) = false;
            T::reap(state);
        })
    }
}

impl<T: Turns> Drop for Lead<'_, T> {
    fn drop(&mut self) {
        // An error is that of a forked child, where nobody waits.
        let _ = self.give_back();
    }
}

/// Reports when it is dropped.
struct Report<'a>(&'a Turn);

impl Drop for Report<'_> {
    fn drop(&mut self) {
        self.0.report();
    }
}

impl Turn {
    /// Sleeps until `done` finds what it looks for in the state; `None` when the time is over before.
    pub(super) fn wait_until<T: Turns, R>(
        &self,
        ring: &T,
        deadline: Option<Instant>,
        mut done: impl FnMut(&mut T::State) -> Option<R>,
    ) -> Result<Option<R>> {
        loop {
            // Given back however this turn ends: what is done without the lock, a waker or a buffer's
            // `Drop`, may panic, and then the others would sleep for ever.
            let mut lead = Lead { turn: self, ring, taken: false };
            // Under the lock: look, and decide what to do meanwhile.
            let next = ring.with(|state| -> Result<Next<R>> {
                T::submit(state)?;
                if let Some(found) = done(state) {
                    return Ok(Next::Found(found));
                }
                let left = left(deadline);
                if left.is_zero() {
                    return Ok(Next::Over);
                }
                let left = T::nap(state, left);
                if std::mem::replace(T::led(state), true) {
                    Ok(Next::Follow(self.reports(), left))
                } else {
                    lead.taken = true;
                    Ok(Next::Lead(left))
                }
            })??;
            match next {
                Next::Found(found) => return Ok(Some(found)),
                Next::Over => return Ok(None),
                Next::Follow(seen, left) => self.await_report(seen, left),
                Next::Lead(left) => {
                    let slept = ring.sleep(left);
                    let reaped = lead.end();
                    slept.and(reaped)?;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        // A counter is whole whatever happened to the thread that held it.
        self.reports.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn reports(&self) -> u64 {
        *self.lock()
    }

    fn report(&self) {
        *self.lock() += 1;
        self.reported.notify_all();
    }

    fn await_report(&self, seen: u64, timeout: Duration) {
        let deadline = Instant::now().checked_add(timeout);
        let mut reports = self.lock();
        while *reports == seen {
            let left = left(deadline);
            if left.is_zero() {
                return;
            }
            let waited = self.reported.wait_timeout(reports, left);
            reports = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
    }
}

/// Every interleaving that loom finds of threads that each wait for a completion and of a kernel that
/// posts them: `RUSTFLAGS="--cfg model" cargo test -p io-uring-ext --lib model`. Loom's clock stands
/// still, so a wake-up that is lost is a deadlock, which it reports.
#[cfg(all(test, model))]
mod model {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// The completion queue, and the ring's descriptor.
    #[derive(Default)]
    struct Queue {
        posted: Mutex<Vec<usize>>,
        readable: Condvar,
    }

    struct State {
        led: bool,
        done: [bool; 2],
        queue: Arc<Queue>,
    }

    struct Ring {
        state: Mutex<State>,
        queue: Arc<Queue>,
        turn: Turn,
    }

    impl Ring {
        fn new() -> Self {
            let queue = Arc::new(Queue::default());
            let state = State { led: false, done: [false; 2], queue: Arc::clone(&queue) };
            Self { state: Mutex::new(state), queue, turn: Turn::default() }
        }

        /// The kernel ends an operation.
        fn post(&self, operation: usize) {
            self.queue.posted.lock().unwrap().push(operation);
            self.queue.readable.notify_all();
        }

        fn wait_for(&self, operation: usize) {
            let done = |state: &mut State| state.done[operation].then_some(());
            assert!(self.turn.wait_until(self, None, done).unwrap().is_some());
        }
    }

    impl Turns for Ring {
        type State = State;

        fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> Result<R> {
            Ok(f(&mut self.state.lock().unwrap()))
        }

        fn submit(state: &mut State) -> Result<()> {
            if !state.led {
                Self::reap(state);
            }
            Ok(())
        }

        fn led(state: &mut State) -> &mut bool {
            &mut state.led
        }

        fn reap(state: &mut State) {
            for operation in state.queue.posted.lock().unwrap().drain(..) {
                state.done[operation] = true;
            }
        }

        fn nap(_state: &mut State, left: Duration) -> Duration {
            left
        }

        fn sleep(&self, _limit: Duration) -> Result<()> {
            let mut posted = self.queue.posted.lock().unwrap();
            while posted.is_empty() {
                posted = self.queue.readable.wait(posted).unwrap();
            }
            Ok(())
        }
    }

    #[test]
    fn each_of_two_threads_gets_its_completion() {
        loom::model(|| {
            let ring = Arc::new(Ring::new());
            let waiting = (0..2).map(|operation| {
                let ring = Arc::clone(&ring);
                thread::spawn(move || ring.wait_for(operation))
            });
            let waiting: Vec<_> = waiting.collect();
            ring.post(1);
            ring.post(0);
            waiting.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    /// Somebody who does not sleep takes completions too, but not from under the one who has the turn.
    #[test]
    fn a_thread_that_only_submits_takes_nothing_from_the_sleeper() {
        loom::model(|| {
            let ring = Arc::new(Ring::new());
            let waiting = {
                let ring = Arc::clone(&ring);
                thread::spawn(move || ring.wait_for(0))
            };
            ring.post(0);
            ring.with(Ring::submit).unwrap().unwrap();
            waiting.join().unwrap();
        });
    }
}
