//! [`Ticker`]: time, in equal steps.

use std::time::Duration;

use io_uring::types::{TimeoutFlags, Timespec};
use io_uring::{opcode, squeue};

use super::{EndReason, Engine, Source, common_methods, item_methods};
use crate::error::{Error, Result};
use crate::mode::{Local, Mode};
use crate::op::Target;
use crate::op::sealed::Prepare;
use crate::ring::{Cqe, Ring, RingId};

/// Completes each time a period has passed: `timeout` multishot (Linux 6.4).
///
/// The kernel starts a period when it reports the one before, which for a [`Local`] ring it does
/// inside the owner's own calls. So ticks are never closer together than the period, they come later
/// while the thread is busy, and those missed are not made up for. It is a clock for housekeeping,
/// none for counting time.
///
/// Its results are the numbers of the ticks, from one on. A kernel before 6.4, or one that is given a
/// period beyond what it can count, answers `EINVAL`.
pub struct Ticker<M: Mode = Local>(Engine<TickSource, M>);

/// What a [`Ticker`] has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TickerCounters {
    /// Ticks handed out.
    pub ticks: u64,
    /// Times it was armed.
    pub armed: u64,
    /// Times it ended because the completion queue was full.
    pub overflows: u64,
    /// Times it ended because the thread that had armed it had exited.
    pub orphaned: u64,
}

impl<M: Mode> Ticker<M> {
    /// Ticks every `period`, beginning with the first call, until it is cancelled.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a period of zero, which would be a loop without end in the kernel.
    pub fn new(ring: &Ring<M>, period: Duration) -> Result<Self> {
        Self::with_left(ring, period, None)
    }

    /// Ticks `times` times, and is [`Finished`](EndReason::Finished) then.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and for no times.
    pub fn times(ring: &Ring<M>, period: Duration, times: u32) -> Result<Self> {
        if times == 0 {
            return Err(Error::config("number of ticks", times, "take one or more"));
        }
        Self::with_left(ring, period, Some(times))
    }

    fn with_left(ring: &Ring<M>, period: Duration, left: Option<u32>) -> Result<Self> {
        if period.is_zero() {
            return Err(Error::config("period", "zero", "take a nanosecond or more"));
        }
        let source = TickSource { period, left, ticks: 0 };
        Ok(Self(Engine::new(ring.inner.clone(), source, 4)))
    }

    /// What it has done so far.
    pub fn counters(&self) -> TickerCounters {
        let ends = self.0.ends();
        TickerCounters {
            ticks: self.0.source.ticks,
            armed: ends.armed,
            overflows: ends.overflows,
            orphaned: ends.orphaned,
        }
    }
}

common_methods!([M: Mode] Ticker<M>, 0, TickerCounters);
item_methods!([M: Mode] Ticker<M>, u64);

struct TickSource {
    period: Duration,
    /// Ticks to come, unless there is no limit.
    left: Option<u32>,
    ticks: u64,
}

impl Source for TickSource {
    type Operation = Ticks;
    type Item = u64;
    const WHAT: &'static str = "a multishot timeout";

    fn operation(&self) -> Ticks {
        Ticks { period: self.period.into(), count: self.left.unwrap_or(0) }
    }

    fn ready(&mut self, _ended: Option<EndReason>) -> bool {
        self.left != Some(0)
    }

    fn end(&self, cqe: Cqe) -> Option<EndReason> {
        (cqe.result == -libc::ETIME).then_some(match self.left {
            Some(..=1) => EndReason::Finished,
            _ => EndReason::Overflow,
        })
    }

    fn take(&mut self, cqe: Cqe) -> Option<u64> {
        if cqe.result != -libc::ETIME {
            return None;
        }
        self.left = self.left.map(|left| left.saturating_sub(1));
        self.ticks += 1;
        Some(self.ticks)
    }

    fn discard(&mut self, _cqe: Cqe) {}
}

/// `timeout` with `IORING_TIMEOUT_MULTISHOT`.
struct Ticks {
    period: Timespec,
    count: u32,
}

// SAFETY: the time is part of the operation, which does not move after this.
unsafe impl Prepare for Ticks {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::Timeout::new(&raw const self.period)
            .count(self.count)
            .flags(TimeoutFlags::MULTISHOT)
            .build()
    }
}
