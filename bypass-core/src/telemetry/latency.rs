//! [`Latency`]: a histogram of times.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest time that is told apart from longer ones: a minute, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// A histogram of times in nanoseconds, from 1 ns to a minute, exact to 0.1 % (HdrHistogram).
/// Recording allocates nothing.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Latency {
    /// An empty histogram, of some 350 KiB.
    ///
    /// # Panics
    ///
    /// Never: the bounds are constants that HdrHistogram accepts.
    #[must_use]
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST, 3).expect("these bounds are valid"))
    }

    /// Records a time in nanoseconds; one beyond a minute counts as a minute.
    pub fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos);
    }

    /// Adds the times of another histogram.
    ///
    /// # Panics
    ///
    /// Never: all have the same bounds.
    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }

    /// Forgets all times.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// Nanoseconds that a share of all times, such as 99.9 %, do not exceed; 0 without any.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> u64 {
        self.0.value_at_percentile(percent)
    }

    /// The usual figures.
    #[must_use]
    pub fn summary(&self) -> LatencySummary {
        LatencySummary {
            count: self.0.len(),
            min: self.0.min(),
            p50: self.percentile(50.0),
            p90: self.percentile(90.0),
            p99: self.percentile(99.0),
            p999: self.percentile(99.9),
            max: self.0.max(),
        }
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

/// The usual figures of a [`Latency`], in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LatencySummary {
    /// How many times were recorded.
    pub count: u64,
    /// The shortest.
    pub min: u64,
    /// The median.
    pub p50: u64,
    /// 90 % are no longer.
    pub p90: u64,
    /// 99 % are no longer.
    pub p99: u64,
    /// 99.9 % are no longer.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

impl fmt::Display for LatencySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |nanos: u64| nanos as f64 / 1000.0;
        let (p50, p90, p99, p999) = (us(self.p50), us(self.p90), us(self.p99), us(self.p999));
        write!(f, "p50 {p50:.1} µs, p90 {p90:.1}, p99 {p99:.1}, p99.9 {p999:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_times() {
        let (mut low, mut high) = (Latency::new(), Latency::new());
        (1..=500).for_each(|i| low.record(i * 1000));
        (501..=1000).for_each(|i| high.record(i * 1000));
        low.merge(&high);
        let summary = low.summary();
        assert_eq!(summary.count, 1000);
        for (got, want) in [(summary.p50, 500_000), (summary.p99, 990_000), (summary.min, 1000)] {
            assert!(got.abs_diff(want) <= want / 500, "{got} for {want}");
        }
        low.record(u64::MAX);
        assert!(low.summary().max.abs_diff(LONGEST) <= LONGEST / 500);
        low.clear();
        assert_eq!(low.summary(), LatencySummary::default());
    }
}
