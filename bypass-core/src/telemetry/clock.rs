//! [`Clock`]: nanoseconds, read in user space.

use std::time::Duration;

/// A clock for time-stamping packets: it reads the processor's time-stamp counter where that runs
/// at a constant rate in all states (some 10 ns a reading), and `CLOCK_MONOTONIC` elsewhere.
///
/// Detection, calibration against `CLOCK_MONOTONIC` and the fallback are the `quanta` crate's. All
/// clocks of a process share one calibration, so their readings can be compared across threads.
#[derive(Clone, Debug)]
pub struct Clock {
    quanta: quanta::Clock,
    epoch: quanta::Instant,
}

impl Clock {
    /// The first of a process calibrates the counter, which takes up to 200 ms; clones are free.
    #[must_use]
    pub fn new() -> Self {
        let quanta = quanta::Clock::new();
        let epoch = quanta.now();
        Self { quanta, epoch }
    }

    /// Nanoseconds since the clock was made. Clones agree.
    #[must_use]
    pub fn now(&self) -> u64 {
        let nanos = self.quanta.now().duration_since(self.epoch).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// How long ago `earlier`, a reading of this clock, was.
    #[must_use]
    pub fn since(&self, earlier: u64) -> Duration {
        Duration::from_nanos(self.now().saturating_sub(earlier))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn it_runs_forward_and_as_fast_as_the_system_clock() {
        let (clock, system) = (Clock::new(), Instant::now());
        let begin = clock.now();
        let mut last = begin;
        while system.elapsed() < Duration::from_millis(50) {
            let now = clock.now();
            assert!(now >= last, "{now} after {last}");
            last = now;
        }
        let (ours, theirs) = (clock.since(begin), system.elapsed());
        let drift = ours.abs_diff(theirs);
        assert!(drift < Duration::from_millis(5), "{ours:?} against {theirs:?}");
    }

    #[test]
    fn clones_agree_across_threads() {
        let clock = Clock::new();
        let before = clock.now();
        let there = { clock.clone() };
        let other = std::thread::spawn(move || there.now()).join().unwrap();
        assert!(before <= other && other <= clock.now());
    }
}
