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
        let before = self.with(|state| state.waited)?;
        let came = |state: &mut State| (state.counters().completions - before) as usize;
        self.wait_until(timeout, |state| Some(()).filter(|()| came(state) >= want))?;
        self.with(|state| {
            state.waited = state.counters().completions;
            came(state)
        })
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
                // One system call submits and sleeps, unless something has to be submitted, or made by
                // the kernel, before it is known whether there is anything to sleep for.
                state.reap();
                let left = left(deadline);
                let submits = left.is_zero() || state.is_better_submitted();
                if submits {
                    state.submit()?;
                }
                let found = done(state);
                if found.is_some() && !submits {
                    state.submit()?;
                }
                if found.is_some() || left.is_zero() {
                    return Ok(Some(found));
                }
                let left = Self::nap(state, left);
                state.sleep(1, Some(left).filter(|left| *left < LONG), Duration::ZERO)?;
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

    /// Panics when the task is woken, on the thread that wakes it.
    struct Broken;

    impl std::task::Wake for Broken {
        fn wake(self: std::sync::Arc<Self>) {
            panic!("as ordered");
        }
    }

    /// A read from a pipe for which a task waits that panics when it is woken.
    fn breaks(ring: &Ring<crate::Shared>) -> (impl Sized, std::io::PipeWriter) {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut read = ring.push(Read::new(&Fd::new(reader), vec![0; 8], 0)).unwrap();
        let waker = std::task::Waker::from(std::sync::Arc::new(Broken));
        let polled =
            std::pin::Pin::new(&mut read).poll(&mut std::task::Context::from_waker(&waker));
        assert!(polled.is_pending());
        ring.submit().unwrap();
        (read, writer)
    }

    #[test]
    fn a_panic_of_the_thread_that_polls_for_all_wakes_the_next_one() {
        const SOON: Duration = Duration::from_secs(20);

        let ring = Ring::shared().unwrap();
        let (_broken, mut breaker) = breaks(&ring);
        let (reader, mut writer) = std::io::pipe().unwrap();
        let read = ring.push(Read::new(&Fd::new(reader), vec![0; 8], 0)).unwrap();
        let looked = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let leads = scope.spawn(|| ring.inner.wait_until(Some(SOON), |_| None::<()>));
            while !ring.inner.with(|state| state.led).unwrap() {
                std::thread::yield_now();
            }
            let follows = scope.spawn(|| {
                let key = read.key();
                ring.inner.wait_until(Some(SOON), |state| {
                    looked.store(true, std::sync::atomic::Ordering::Release);
                    state.is_done(key).then(Instant::now)
                })
            });
            while !looked.load(std::sync::atomic::Ordering::Acquire) {
                std::thread::yield_now();
            }
            // Behind the look of the one that follows.
            ring.inner.with(|_| ()).unwrap();
            std::io::Write::write_all(&mut breaker, b"x").unwrap();
            assert!(leads.join().is_err());
            let began = Instant::now();
            std::io::Write::write_all(&mut writer, b"x").unwrap();
            let done = follows.join().unwrap().unwrap().expect("it was done in time");
            assert!(done.saturating_duration_since(began) < SOON / 2);
        });
    }

    #[test]
    fn a_panic_before_the_sleep_gives_the_turn_back() {
        const SOON: Duration = Duration::from_secs(20);

        let ring = Ring::shared().unwrap();
        let (_broken, mut breaker) = breaks(&ring);
        let (reader, mut writer) = std::io::pipe().unwrap();
        let read = ring.push(Read::new(&Fd::new(reader), vec![0; 8], 0)).unwrap();
        ring.submit().unwrap();
        std::io::Write::write_all(&mut breaker, b"x").unwrap();
        while ring.inner.with(|state| state.uring.completions()).unwrap() == 0 {
            std::thread::yield_now();
        }
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| ring.inner.wait_until(Some(SOON), |_| None::<()>));
            assert!(waits.join().is_err());
        });
        let began = Instant::now();
        std::io::Write::write_all(&mut writer, b"x").unwrap();
        assert!(read.wait(Some(SOON)).is_ok());
        assert!(began.elapsed() < SOON / 2);
    }
}
