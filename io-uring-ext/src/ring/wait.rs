//! Sleeping for completions.
//!
//! A `Local` ring sleeps inside `io_uring_enter`; threads that share a ring take turns (`turn.rs`).

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::Inner;
use super::state::State;
use super::turn::Turns;
use crate::error::{Error, Result};
use crate::mode::Mode;

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
        if !M::LOCAL {
            return self.turn.wait_until(self, deadline, done);
        }
        loop {
            let over = self.with(|state| -> Result<Option<Option<R>>> {
                state.submit()?;
                let found = done(state);
                let left = left(deadline);
                if found.is_some() || left.is_zero() {
                    return Ok(Some(found));
                }
                let left = Self::nap(state, left);
                state.wait(1, Some(left).filter(|left| *left < LONG))?;
                Ok(None)
            })??;
            if let Some(found) = over {
                return Ok(found);
            }
        }
    }
}

impl<M: Mode> Turns for Inner<M> {
    type State = State;

    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> Result<R> {
        Self::with(self, f)
    }

    fn submit(state: &mut State) -> Result<()> {
        state.submit()
    }

    fn led(state: &mut State) -> &mut bool {
        &mut state.led
    }

    fn reap(state: &mut State) {
        state.reap();
    }

    fn nap(state: &mut State, left: Duration) -> Duration {
        state.nap(Some(left)).unwrap_or(left)
    }

    fn sleep(&self, limit: Duration) -> Result<()> {
        poll(self.ring_fd(), limit)
    }
}

pub(super) fn left(deadline: Option<Instant>) -> Duration {
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
