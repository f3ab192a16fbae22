//! Ending everything.

use std::time::{Duration, Instant};

use io_uring::opcode;

use super::{Flight, State};
use crate::error::{Error, Result};
use crate::probe::Refusal;
use crate::ring::inner::count_leaked;
use crate::ring::key::{self, Key, Kind};
use crate::ring::slab::Slab;
use crate::sys::setup::NotResized;

impl State {
    /// Ends everything: publishes what is queued, cancels all, and takes completions until nothing
    /// is in flight. Past the deadline (`None`: there is none) what is left is leaked, never freed;
    /// returns how many operations that were.
    pub(crate) fn close(&mut self, deadline: Option<Instant>) -> usize {
        /// How long to wait before asking again: an operation may have been between two stages, out
        /// of the reach of the first cancel.
        const ASK_AGAIN: Duration = Duration::from_millis(50);

        self.closed = true;
        self.wake_driver();
        self.seal_inbox();
        self.reap();
        let mut ask = Instant::now();
        while self.in_flight > 0 {
            let now = Instant::now();
            let left = deadline.map_or(ASK_AGAIN, |end| end.saturating_duration_since(now));
            if left.is_zero() {
                break;
            }
            if now >= ask {
                self.cancel_everything();
                ask = now + ASK_AGAIN;
            }
            self.queue_cancels();
            if self.enter(1, Some(left.min(ASK_AGAIN))).is_err() {
                break;
            }
            self.reap();
        }
        let left = self.leak();
        if left == 0 {
            self.close_tables();
        }
        if self.led && self.uring.space() > 0 {
            // Its completions have just been taken from the thread that polls for all. One more,
            // which stays in the queue, wakes it.
            let nothing = Key { index: 0, generation: 0 };
            self.push(&opcode::Nop::new().build().user_data(key::encode(Kind::Wake, nothing)));
            // An error is about the ring, and `left` has said so already.
            let _ = self.enter(0, None);
        }
        left
    }

    /// Gives the queues other sizes.
    pub(crate) fn resize(&mut self, entries: u32, completions: u32) -> Result<()> {
        if self.closed {
            return Err(Error::Closed);
        }
        // What is queued would have to fit, and the completions too.
        self.submit()?;
        if self.uring.unsubmitted() > 0 {
            // Chains among it are known by where they lie.
            let errno = std::io::Error::from_raw_os_error(libc::EBUSY);
            let refusal = Refusal::Other { errno };
            return Err(Error::Refused { what: "queues of another size", refusal });
        }
        match self.uring.resize(entries, completions) {
            Ok(()) => {
                self.chains.forget_queue();
                Ok(())
            }
            Err(NotResized::Unchanged(error)) => Err(Error::Refused {
                what: "queues of another size",
                refusal: Refusal::of_register(error, (6, 13)),
            }),
            Err(NotResized::Lost(error)) => {
                // Nobody will see the completions any more.
                self.closed = true;
                self.seal_inbox();
                count_leaked(self.leak());
                self.wake_all_watchers();
                Err(Error::os("mapping the queues of another size", error))
            }
        }
    }

    /// Gives up what the kernel has not ended: its memory is never freed. Returns how many
    /// operations that were.
    pub(super) fn leak(&mut self) -> usize {
        let left = std::mem::take(&mut self.in_flight);
        if left > 0 {
            self.ending.clear();
            self.cancels.clear();
            self.wake_all_watchers();
            self.leak_tables();
            std::mem::forget(std::mem::replace(&mut self.slab, Slab::new(0, Flight::new)));
        }
        left
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // Something is in flight here only when a panic has kept `close` from its end, or in a child.
        self.leak();
    }
}

#[cfg(test)]
mod tests {
    use crate::buf::BufPool;
    use crate::op::Read;
    use crate::{Fd, Ring};

    /// A panic inside `close` leaves a state like this one.
    #[test]
    fn what_is_in_flight_when_closing_did_not_come_to_its_end_is_leaked() {
        let pool = BufPool::local(8, 1).unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        let ring = Ring::local().unwrap();
        ring.push(Read::new(&Fd::new(reader), pool.take().unwrap(), 0)).unwrap().detach();
        ring.submit().unwrap();
        ring.inner.with(|state| state.closed = true).unwrap();
        drop(ring);
        assert_eq!(pool.available(), 0, "the kernel may still write to the buffer");
    }
}
