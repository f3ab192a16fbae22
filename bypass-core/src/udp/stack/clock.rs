//! The clock of the stack's timers.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The monotonic clock as of the last tick of the kernel (a few milliseconds ago at most), which is
/// read without a system call and in a fraction of the time that a precise answer takes.
pub(super) fn now() -> Duration {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    // Both are positive, and the nanoseconds less than a second.
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec.cast_unsigned() as u32)
}
