//! [`Poller`]: readiness, each time it comes.

use bitflags::bitflags;
use io_uring::{opcode, squeue};

use super::{EndReason, Engine, Source, common_methods, item_methods};
use crate::mode::{Local, Mode};
use crate::op::Target;
use crate::op::sealed::Prepare;
use crate::ring::{Cqe, Ring, RingId};

bitflags! {
    /// What a descriptor can be ready for (`poll(2)`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct PollEvents: u32 {
        /// There is something to read.
        const IN = libc::POLLIN as u32;
        /// There is something urgent to read.
        const PRI = libc::POLLPRI as u32;
        /// There is room to write.
        const OUT = libc::POLLOUT as u32;
        /// There is an error. Always reported.
        const ERR = libc::POLLERR as u32;
        /// The other end is gone. Always reported.
        const HUP = libc::POLLHUP as u32;
        /// The peer writes no more. Always reported.
        const RDHUP = libc::POLLRDHUP as u32;
    }
}

/// Reports each time that a descriptor becomes ready: `poll` multishot (Linux 5.13;
/// `io_uring_prep_poll_multishot(3)`).
///
/// It is about edges: what has been reported is not reported again before something new happens, so
/// whoever is told reads until there is nothing more. Edges that come before the first is handed out
/// may be reported as one. There is no other kind: the kernel refuses to combine a multishot with
/// `IORING_POLL_ADD_LEVEL` (`io_poll_add_prep` in `io_uring/poll.c`).
///
/// A file that cannot be polled is an error: `EPERM`.
pub struct Poller<M: Mode = Local>(Engine<PollSource, M>);

/// What a [`Poller`] has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PollerCounters {
    /// Reports handed out.
    pub events: u64,
    /// Times it was armed.
    pub armed: u64,
    /// Times it ended because the completion queue was full.
    pub overflows: u64,
    /// Times it ended because the thread that had armed it had exited.
    pub orphaned: u64,
}

impl<M: Mode> Poller<M> {
    /// Watches `fd` for `events`, beginning with the first call. Reports at once what it is ready for
    /// already.
    pub fn new(ring: &Ring<M>, fd: impl Into<Target>, events: PollEvents) -> Self {
        let source = PollSource { fd: fd.into(), events, seen: 0 };
        Self(Engine::new(ring.inner.clone(), source, 4))
    }

    /// What it has done so far.
    pub fn counters(&self) -> PollerCounters {
        let ends = self.0.ends();
        PollerCounters {
            events: self.0.source.seen,
            armed: ends.armed,
            overflows: ends.overflows,
            orphaned: ends.orphaned,
        }
    }
}

common_methods!([M: Mode] Poller<M>, 0, PollerCounters);
item_methods!([M: Mode] Poller<M>, PollEvents);

struct PollSource {
    fd: Target,
    events: PollEvents,
    seen: u64,
}

impl Source for PollSource {
    type Operation = PollMulti;
    type Item = PollEvents;
    const WHAT: &'static str = "a multishot poll";

    fn operation(&self) -> PollMulti {
        let events = (self.events & PollEvents::all()).bits();
        PollMulti { fd: self.fd.clone(), events }
    }

    fn ready(&mut self, _ended: Option<EndReason>) -> bool {
        true
    }

    fn end(&self, _cqe: Cqe) -> Option<EndReason> {
        None
    }

    fn take(&mut self, cqe: Cqe) -> Option<PollEvents> {
        let events = u32::try_from(cqe.result).ok()?;
        self.seen += 1;
        Some(PollEvents::from_bits_retain(events))
    }

    fn discard(&mut self, _cqe: Cqe) {}
}

/// `poll` with `IORING_POLL_ADD_MULTI`.
struct PollMulti {
    fd: Target,
    events: u32,
}

// SAFETY: the entry points to nothing; the operation owns the descriptor.
unsafe impl Prepare for PollMulti {
    fn target(&self) -> Option<&Target> {
        Some(&self.fd)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::PollAdd::new(self.fd.number(), self.events).multi(true).build()
    }
}
