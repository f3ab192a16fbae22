//! To the kernel: submitting, and sleeping for completions.

use std::time::Duration;

use super::State;
use crate::error::{Error, Result};
use crate::sys::uring::Entered;

impl State {
    /// Submits everything that waits, lets the kernel do what it has deferred, takes completions.
    /// Makes no system call when there is nothing to do.
    pub(crate) fn submit(&mut self) -> Result<()> {
        self.release_slots();
        self.repeat_late_cancels();
        loop {
            self.queue_cancels();
            let waiting = self.uring.unsubmitted();
            let idle = if self.sqpoll {
                !self.uring.poller_sleeps() || waiting == 0
            } else {
                waiting == 0
            };
            // A device is asked whether it is done only when somebody enters the ring.
            let asks = self.iopoll && self.in_flight > 0;
            if idle && !asks && !self.uring.kernel_has_work() {
                break;
            }
            let entered = self.enter(0, None)?;
            if !self.led {
                self.reap();
            }
            let progress = self.uring.unsubmitted() < waiting;
            if entered == Entered::Done
                && (!progress || (self.cancels.is_empty() && !self.cancel_all))
            {
                break;
            }
            if entered == Entered::Busy && !progress {
                break;
            }
        }
        if !self.led {
            self.reap();
        }
        Ok(())
    }

    /// Submits, and sleeps until `want` completions have been taken since the last call returned, or the
    /// time is over. Returns how many that were.
    pub(crate) fn wait(&mut self, want: usize, timeout: Option<Duration>) -> Result<usize> {
        self.wait_batch(want, timeout, Duration::ZERO)
    }

    /// [`wait`](Self::wait), but after `min` one completion is enough.
    pub(crate) fn wait_batch(
        &mut self,
        want: usize,
        timeout: Option<Duration>,
        min: Duration,
    ) -> Result<usize> {
        let before = self.waited;
        let want = want.saturating_sub((self.counters.completions - before) as usize);
        if want == 0 {
            self.submit()?;
        } else {
            self.sleep(want, timeout, min)?;
        }
        self.waited = self.counters.completions;
        Ok((self.waited - before) as usize)
    }

    /// Submits, and sleeps until `want` completions are there to take, or the time is over; after `min`
    /// one is enough. Takes them. One system call, or none when they are there.
    pub(crate) fn sleep(
        &mut self,
        want: usize,
        timeout: Option<Duration>,
        min: Duration,
    ) -> Result<()> {
        self.release_slots();
        let timeout = self.nap(timeout);
        self.repeat_late_cancels();
        self.queue_cancels();
        if !self.cancels.is_empty() || self.cancel_all {
            // Those that found no room must not wait for as long as this sleeps.
            self.submit()?;
        }
        if self.uring.completions() < want {
            self.enter_batch(want, timeout, min)?;
        }
        self.reap();
        self.queue_cancels();
        Ok(())
    }

    /// Whether to submit before sleeping: there are operations that end with their submission, completions
    /// that the kernel has put off, or more cancels than the submission queue takes at once.
    pub(crate) fn is_better_submitted(&mut self) -> bool {
        !self.ending.is_empty()
            || !self.cancels.is_empty()
            || self.cancel_all
            || self.uring.kernel_has_work()
    }

    pub(super) fn enter(&mut self, want: usize, timeout: Option<Duration>) -> Result<Entered> {
        self.enter_batch(want, timeout, Duration::ZERO)
    }

    fn enter_batch(
        &mut self,
        want: usize,
        timeout: Option<Duration>,
        min: Duration,
    ) -> Result<Entered> {
        self.counters.enters += 1;
        let overflown = self.uring.overflown();
        // Counted on the rising edge: once per time that completions had to wait in the kernel.
        self.counters.overflows += u64::from(overflown && !self.overflown);
        self.overflown = overflown;
        let entered = self.uring.enter_batch(want, timeout, min);
        #[cfg(feature = "tracing")]
        self.trace_submitted();
        self.mend_cut_chain();
        entered.map_err(|error| Error::os("io_uring_enter", error))
    }
}
