//! Time in cycles of the time stamp counter, for what takes a few of them.
//!
//! # What the unsafe code here relies on
//!
//! Every x86-64 processor has `rdtsc` and `lfence`; neither touches memory.

/// The counter now; everything before has been done, nothing behind has begun.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn now() -> u64 {
    use std::arch::x86_64::{_mm_lfence, _rdtsc};
    // SAFETY: see the module's head.
    unsafe { _mm_lfence() };
    // SAFETY: see the module's head.
    let now = unsafe { _rdtsc() };
    // SAFETY: see the module's head.
    unsafe { _mm_lfence() };
    now
}

/// Nanoseconds, where there is no such counter.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn now() -> u64 {
    static BEGIN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    BEGIN.get_or_init(std::time::Instant::now).elapsed().as_nanos() as u64
}
