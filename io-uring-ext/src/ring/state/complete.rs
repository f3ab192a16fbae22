//! From the kernel: completions, each given to its operation.

use io_uring::cqueue;

use super::chain::Linked;
use super::{Deferred, State};
use crate::ring::Cqe;
use crate::ring::key::{self, Key, Kind};

impl State {
    /// Takes every completion that is there.
    pub(crate) fn reap(&mut self) {
        // Those that the kernel's polling thread has taken.
        #[cfg(feature = "tracing")]
        self.trace_submitted();
        while let Some((user_data, cqe)) = self.uring.pop() {
            self.counters.completions += 1;
            self.deliver(user_data, cqe);
        }
        self.settle();
    }

    /// Gives a completion to its operation.
    pub(super) fn deliver(&mut self, user_data: u64, cqe: Cqe) {
        let key = match key::decode(user_data) {
            Some((Kind::Operation, key)) => key,
            Some((Kind::Cancel, key)) => return self.cancel_answered(key, cqe),
            Some((kind @ (Kind::Message | Kind::FileMessage), key)) => {
                return self.mail_came(kind, key, cqe);
            }
            Some((kind, key)) => return self.tag_came(kind, key),
            None => return,
        };
        let Some(flight) = self.slab.get_mut(key).filter(|flight| flight.in_flight) else {
            self.counters.stale += 1;
            return;
        };
        let cqe = if flight.cut { Cqe { result: -libc::ECANCELED, ..cqe } } else { cqe };
        if flight.abandoned {
            flight.payload.discard(cqe);
        } else {
            flight.results.push_back(cqe);
        }
        // The first one is when the kernel starts the next member of a chain, though a zero-copy send goes
        // on until the other end has its data.
        let next = flight.linked.as_mut().and_then(Linked::answered);
        #[cfg(feature = "tracing")]
        self.trace_completion(key, cqe);
        if let Some(next) = next {
            self.start_next(next);
        }
        if cqueue::more(cqe.flags) {
            self.wake_watcher(key, false);
        } else {
            self.end(key);
        }
    }

    /// Ends the operations that end in their submission and that the kernel has consumed. Their
    /// failures, if any, are among the completions that have been delivered.
    pub(super) fn settle(&mut self) {
        if self.ending.is_empty() || self.uring.overflown() {
            // A failure may wait inside the kernel; the next `enter` brings it out.
            return;
        }
        while let Some((position, key)) = self.ending.front().copied() {
            if !self.uring.consumed(position) {
                break;
            }
            self.ending.pop_front();
            // A failure has ended it already, and the place may serve another operation.
            if self.slab.get_mut(key).is_some_and(|flight| flight.in_flight) {
                #[cfg(feature = "tracing")]
                self.trace_settled(key);
                self.end(key);
            }
        }
    }

    /// The kernel is done with the operation's memory.
    pub(super) fn end(&mut self, key: Key) {
        #[cfg(feature = "tracing")]
        self.trace_end(key);
        let Some(flight) = self.slab.get_mut(key) else { return };
        flight.in_flight = false;
        self.in_flight -= 1;
        if flight.abandoned {
            let payload = flight.payload.evict();
            self.outbox.push(Deferred::Free(payload));
            self.slab.vacate(key);
            self.place_is_vacant();
        } else {
            self.wake_watcher(key, true);
        }
    }
}
