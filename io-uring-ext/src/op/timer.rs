//! [`Nop`], [`Timeout`] and what changes a running timeout.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use io_uring::types::{TimeoutFlags, Timespec};
use io_uring::{opcode, squeue};

use super::sealed::Prepare;
use super::{Completions, Operation, Target};
use crate::mode::{Mode, OwnedBy};
use crate::ring::key::{Key, Kind, encode};
use crate::ring::{Ends, Pending, RingId, Started};

/// Does nothing, and completes (Linux 5.1). For waking a ring and for measuring it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nop(());

impl Nop {
    /// Nothing.
    pub fn new() -> Self {
        Self(())
    }
}

// SAFETY: the entry points to nothing.
unsafe impl Prepare for Nop {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::Nop::new().build()
    }
}

impl Operation for Nop {
    type Output = io::Result<()>;

    fn complete(self, completions: Completions) -> io::Result<()> {
        completions.result_or(0).map(drop)
    }
}

/// The clock that a time is measured by (`clock_gettime(2)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Clock {
    /// `CLOCK_MONOTONIC`: never set, stands still while the machine is suspended.
    #[default]
    Monotonic,
    /// `CLOCK_BOOTTIME`: never set, goes on while the machine is suspended (timeouts: Linux 5.15).
    Boottime,
    /// `CLOCK_REALTIME`: the time of day; follows when somebody sets it (timeouts: Linux 5.15).
    Realtime,
}

impl Clock {
    fn flags(self) -> TimeoutFlags {
        match self {
            Self::Monotonic => TimeoutFlags::empty(),
            Self::Boottime => TimeoutFlags::BOOTTIME,
            Self::Realtime => TimeoutFlags::REALTIME,
        }
    }
}

/// A moment at which something is to happen: after a while, or at a time of a clock.
///
/// A time beyond the clock's end is its end, so `Duration::MAX` means never.
#[derive(Clone, Copy, Debug)]
pub struct When {
    time: Timespec,
    flags: TimeoutFlags,
}

impl When {
    /// So long after the kernel has got the request, on the monotonic clock.
    pub fn after(duration: Duration) -> Self {
        Self::after_on(Clock::Monotonic, duration)
    }

    /// So long after the kernel has got the request, on this clock.
    pub fn after_on(clock: Clock, duration: Duration) -> Self {
        Self { time: timespec(duration), flags: clock.flags() }
    }

    /// At this time of the clock, counted from where it counts from (`IORING_TIMEOUT_ABS`). A time in
    /// the past is now.
    pub fn at(clock: Clock, time: Duration) -> Self {
        Self { time: timespec(time), flags: clock.flags() | TimeoutFlags::ABS }
    }

    /// What the kernel reads; it stays where it is as long as `self` does.
    pub(crate) fn time(&self) -> *const Timespec {
        &raw const self.time
    }

    pub(crate) fn flags(&self) -> TimeoutFlags {
        self.flags
    }
}

impl From<Duration> for When {
    fn from(duration: Duration) -> Self {
        Self::after(duration)
    }
}

impl From<SystemTime> for When {
    /// At this time of day; a time before 1970 is now.
    fn from(time: SystemTime) -> Self {
        Self::at(Clock::Realtime, time.duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

/// The kernel's seconds are signed and it refuses negative ones, so what does not fit is as late as can
/// be told.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    let seconds = duration.as_secs().min(i64::MAX as u64);
    Timespec::new().sec(seconds).nsec(duration.subsec_nanos())
}

/// Completes when a time has come (`IORING_OP_TIMEOUT`, Linux 5.4).
#[derive(Clone, Copy, Debug)]
pub struct Timeout {
    when: When,
    flags: TimeoutFlags,
}

impl Timeout {
    /// `duration` from the moment of submission, on the monotonic clock.
    pub fn after(duration: Duration) -> Self {
        Self::new(When::after(duration))
    }

    /// At a moment told by any clock.
    pub fn new(when: impl Into<When>) -> Self {
        Self { when: when.into(), flags: TimeoutFlags::empty() }
    }

    /// Lets a chain go on after it (`IORING_TIMEOUT_ETIME_SUCCESS`, Linux 5.16). Without this, a timeout
    /// that expires is a failure to the [chain](crate::chain) that it is a member of.
    #[must_use]
    pub fn expiry_is_success(mut self) -> Self {
        self.flags |= TimeoutFlags::ETIME_SUCCESS;
        self
    }
}

/// How a [`Timeout`] ended.
#[derive(Debug)]
pub enum TimeoutEnd {
    /// The time has passed.
    Expired,
    /// It was cancelled before.
    Cancelled,
    /// The kernel did not accept it.
    Failed(io::Error),
}

// SAFETY: the time is part of the operation, which does not move after this.
unsafe impl Prepare for Timeout {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        let flags = self.when.flags() | self.flags;
        opcode::Timeout::new(self.when.time()).flags(flags).build()
    }
}

impl Operation for Timeout {
    type Output = TimeoutEnd;

    fn complete(self, completions: Completions) -> TimeoutEnd {
        match completions.result_or(0) {
            Ok(_) => TimeoutEnd::Expired,
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME) => TimeoutEnd::Expired,
                Some(libc::ECANCELED) => TimeoutEnd::Cancelled,
                _ => TimeoutEnd::Failed(error),
            },
        }
    }
}

/// The time limit of a chain's member (`IORING_OP_LINK_TIMEOUT`, Linux 5.5).
#[derive(Debug)]
pub(crate) struct Limit(pub(crate) When);

// SAFETY: as for `Timeout`. Its completion may come before its member's; it owns what it points to
// until then, and nothing else.
unsafe impl Prepare for Limit {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::LinkTimeout::new(self.0.time()).flags(self.0.flags()).build()
    }
}

/// Gives a running [`Timeout`] another moment to expire (`IORING_TIMEOUT_UPDATE`, Linux 5.11). Made by
/// [`Pending::update`].
#[derive(Debug)]
pub struct TimeoutUpdate {
    timeout: Key,
    when: When,
}

// SAFETY: the time is part of the operation, which does not move after this.
unsafe impl Prepare for TimeoutUpdate {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        // The clock is the timeout's own; only the kind of time is told.
        let flags = self.when.flags() & TimeoutFlags::ABS;
        opcode::TimeoutUpdate::new(encode(Kind::Operation, self.timeout), self.when.time())
            .flags(flags)
            .build()
    }
}

impl Operation for TimeoutUpdate {
    /// `NotFound` when the timeout is over; `EALREADY` when it is expiring right now.
    type Output = io::Result<()>;

    fn complete(self, completions: Completions) -> io::Result<()> {
        completions.result_or(0).map(drop)
    }
}

/// Ends a running [`Timeout`] (`IORING_OP_TIMEOUT_REMOVE`, Linux 5.5). Made by [`Pending::remove`].
#[derive(Debug)]
pub struct TimeoutRemove {
    timeout: Key,
}

// SAFETY: the entry points to nothing.
unsafe impl Prepare for TimeoutRemove {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::TimeoutRemove::new(encode(Kind::Operation, self.timeout)).build()
    }
}

impl Operation for TimeoutRemove {
    /// `NotFound` when the timeout is over; `EALREADY` when it is expiring right now.
    type Output = io::Result<()>;

    fn complete(self, completions: Completions) -> io::Result<()> {
        completions.result_or(0).map(drop)
    }
}

impl<M: Mode> Pending<Timeout, M>
where
    TimeoutUpdate: OwnedBy<M>,
    TimeoutRemove: OwnedBy<M>,
{
    /// Queues another moment for the timeout to expire. A relative one counts from now, an absolute one
    /// is told by the clock that the timeout was made with.
    ///
    /// # Errors
    ///
    /// As [`Ring::push`](crate::Ring::push).
    pub fn update(&self, when: impl Into<When>) -> Started<TimeoutUpdate, M> {
        let update = TimeoutUpdate { timeout: self.key(), when: when.into() };
        Pending::start(self.ring(), update, Ends::WithCompletion)
    }

    /// Queues the end of the timeout, which then is [`Cancelled`](TimeoutEnd::Cancelled). Unlike
    /// [`cancel`](Pending::cancel), this says whether it was in time.
    ///
    /// # Errors
    ///
    /// As [`Ring::push`](crate::Ring::push).
    pub fn remove(&self) -> Started<TimeoutRemove, M> {
        Pending::start(self.ring(), TimeoutRemove { timeout: self.key() }, Ends::WithCompletion)
    }
}
