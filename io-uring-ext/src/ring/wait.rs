//! Sleeping for completions.
//!
//! A `Local` ring sleeps inside `io_uring_enter`. A `Shared` ring must not sleep with its lock held,
//! and a thread must not sleep while another one takes its completion. So one thread at a time has
//! the *turn*: it polls the ring and takes completions for all; the others sleep until it reports.
//! While the turn is taken, nobody else takes completions, so the poll cannot miss one.

use std::os::fd::BorrowedFd;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::Inner;
use super::state::State;
use crate::error::{Error, Result};
use crate::mode::Mode;

/// The reports of the threads that had the turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// So many so far.
    reports: Mutex<u64>,
    reported: Condvar,
}

impl Turn {
    fn reports(&self) -> u64 {
        *self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self) {
        *self.reports.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.reported.notify_all();
    }

    fn await_report(&self, seen: u64, timeout: Duration) {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.reported.wait_timeout_while(reports, timeout, |now| *now == seen));
    }
}

/// Sleeps at most so long at once where no limit was given.
const LONG: Duration = Duration::from_secs(3600);

impl<M: Mode> Inner<M> {
    pub(super) fn wait(&self, want: usize, timeout: Option<Duration>) -> Result<usize> {
        if M::LOCAL {
            return self.with(|state| state.wait(want, timeout))?;
        }
        let before = self.with(|state| state.counters().completions)?;
        let came = |state: &mut State| (state.counters().completions - before) as usize;
        let enough =
            self.wait_until(timeout, |state| Some(came(state)).filter(|came| *came >= want))?;
        match enough {
            Some(came) => Ok(came),
            None => self.with(came),
        }
    }

    /// Submits, and sleeps until `done` finds what it looks for in the state. `None` when the time
    /// is over before.
    pub(crate) fn wait_until<R>(
        &self,
        timeout: Option<Duration>,
        mut done: impl FnMut(&mut State) -> Option<R>,
    ) -> Result<Option<R>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            // Under the lock: look, and decide what to do meanwhile.
            let next = self.with(|state| -> Result<Next<R>> {
                state.submit()?;
                if let Some(found) = done(state) {
                    return Ok(Next::Found(found));
                }
                let left = left(deadline);
                if left.is_zero() {
                    return Ok(Next::Over);
                }
                let left = state.nap(Some(left)).unwrap_or(left);
                if M::LOCAL {
                    state.wait(1, Some(left).filter(|left| *left < LONG))?;
                    return Ok(Next::Look);
                }
                if state.led {
                    return Ok(Next::Follow(self.turn.reports(), left));
                }
                state.led = true;
                Ok(Next::Lead(left))
            })??;
            match next {
                Next::Found(found) => return Ok(Some(found)),
                Next::Over => return Ok(None),
                Next::Look => {}
                Next::Follow(seen, left) => self.turn.await_report(seen, left),
                Next::Lead(left) => {
                    let polled = poll(self.ring_fd(), left);
                    let reaped = self.with(|state| {
                        state.led = false;
                        state.reap();
                    });
                    self.turn.report();
                    polled.and(reaped)?;
                }
            }
        }
    }
}

enum Next<R> {
    Found(R),
    Over,
    Look,
    Lead(Duration),
    Follow(u64, Duration),
}

fn left(deadline: Option<Instant>) -> Duration {
    deadline.map_or(LONG, |deadline| deadline.saturating_duration_since(Instant::now()))
}

fn poll(fd: BorrowedFd<'_>, timeout: Duration) -> Result<()> {
    let timeout = Timespec::try_from(timeout.min(LONG)).ok();
    match rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(Error::os("polling the ring", error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Read;
    use crate::{Fd, Ring};

    /// The thread that closes the ring takes the completion for which the other one polls.
    #[test]
    fn closing_a_ring_wakes_the_thread_that_polls_for_all() {
        const SOON: Duration = Duration::from_secs(20);

        let ring = Ring::shared().unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        let read = ring.push(Read::new(&Fd::new(reader), vec![0; 8], 0)).unwrap();
        ring.submit().unwrap();
        let waiting = std::thread::spawn(move || {
            let began = Instant::now();
            let errno = read.wait(Some(SOON)).unwrap().result.unwrap_err().raw_os_error();
            (errno, began.elapsed())
        });
        while !ring.inner.with(|state| state.led).unwrap() {
            std::thread::yield_now();
        }
        assert_eq!(ring.close(), 0);
        let (errno, took) = waiting.join().unwrap();
        assert_eq!(errno, Some(libc::ECANCELED));
        assert!(took < SOON / 2, "it slept for {took:?}");
    }
}
