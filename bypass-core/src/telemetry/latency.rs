//! [`Latency`]: a histogram of times.

use std::fmt;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

/// The longest time that is told apart from longer ones: a minute, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// A histogram of times in nanoseconds, from 1 ns to a minute, exact to 0.1 % (HdrHistogram).
/// Recording allocates nothing.
#[derive(Clone, Debug)]
pub struct Latency {
    times: Histogram<u64>,
    /// Of all times, as they were, in nanoseconds.
    sum: u64,
}

/// Leading bits of a time that tell [buckets](Latency::buckets) apart: each is 3 % wide at the most.
const BUCKET_BITS: u32 = 6;

impl Latency {
    /// An empty histogram, of some 350 KiB.
    ///
    /// # Panics
    ///
    /// Never: the bounds are constants that HdrHistogram accepts.
    #[must_use]
    pub fn new() -> Self {
        let times = Histogram::new_with_bounds(1, LONGEST, 3).expect("these bounds are valid");
        Self { times, sum: 0 }
    }

    /// Records a time in nanoseconds; one beyond a minute counts as a minute.
    pub fn record(&mut self, nanos: u64) {
        self.record_n(nanos, 1);
    }

    /// Records a time that `n` packets took.
    pub fn record_n(&mut self, nanos: u64, n: u64) {
        self.times.saturating_record_n(nanos, n);
        self.sum = self.sum.wrapping_add(nanos.min(LONGEST).wrapping_mul(n));
    }

    /// Adds the times of another histogram.
    ///
    /// # Panics
    ///
    /// Never: all have the same bounds.
    pub fn merge(&mut self, other: &Self) {
        self.times.add(&other.times).expect("all histograms have the same bounds");
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// Forgets all times.
    pub fn clear(&mut self) {
        self.times.reset();
        self.sum = 0;
    }

    /// How many times were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.times.len()
    }

    /// The sum of all times, in nanoseconds.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// How many times were no longer than each of `bounds`, in nanoseconds and rising. Exact to 0.1 %
    /// of the bound.
    #[must_use]
    pub fn up_to(&self, bounds: &[u64]) -> Vec<u64> {
        let mut counts = vec![0; bounds.len()];
        for step in self.times.iter_recorded() {
            let first = bounds.partition_point(|&bound| bound < step.value_iterated_to());
            if let Some(count) = counts.get_mut(first) {
                *count += step.count_since_last_iteration();
            }
        }
        let mut sum = 0;
        for count in &mut counts {
            sum += *count;
            *count = sum;
        }
        counts
    }

    /// The times in steps of 3 %: the longest of a step in nanoseconds, and how many are in it. Steps
    /// without any are left out. The bounds are always the same, so that counts can be subtracted.
    #[must_use]
    pub fn buckets(&self) -> Vec<(u64, u64)> {
        let mut buckets: Vec<(u64, u64)> = Vec::new();
        for step in self.times.iter_recorded() {
            let (time, count) = (step.value_iterated_to(), step.count_since_last_iteration());
            let rest = (u64::BITS - time.leading_zeros()).saturating_sub(BUCKET_BITS);
            let bound = time | ((1 << rest) - 1);
            match buckets.last_mut() {
                Some((last, n)) if *last == bound => *n += count,
                _ => buckets.push((bound, count)),
            }
        }
        buckets
    }

    /// Nanoseconds that a share of all times, such as 99.9 %, do not exceed; 0 without any.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> u64 {
        self.times.value_at_percentile(percent)
    }

    /// The usual figures.
    #[must_use]
    pub fn summary(&self) -> LatencySummary {
        LatencySummary {
            count: self.times.len(),
            min: self.times.min(),
            p50: self.percentile(50.0),
            p90: self.percentile(90.0),
            p99: self.percentile(99.0),
            p999: self.percentile(99.9),
            max: self.times.max(),
        }
    }
}

/// The summary, with the sum and the [buckets](Latency::buckets).
impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Whole {
            #[serde(flatten)]
            summary: LatencySummary,
            sum: u64,
            buckets: Vec<(u64, u64)>,
        }
        Whole { summary: self.summary(), sum: self.sum, buckets: self.buckets() }
            .serialize(serializer)
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
    #[test]
    fn buckets_have_every_time_once_and_are_narrow() {
        let mut latency = Latency::new();
        let times = (0..2000).map(|n: u64| n * n * 37 % 1_000_003);
        times.clone().for_each(|time| latency.record(time));
        let buckets = latency.buckets();
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0), "{buckets:?}");
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), 2000);
        for (bound, _) in &buckets {
            let low = bound - bound / 30;
            assert!(times.clone().any(|time| (low..=*bound).contains(&time)), "{bound}");
        }
        assert_eq!(latency.sum(), times.sum::<u64>());
    }

    #[test]
    fn times_are_counted_up_to_bounds() {
        let mut latency = Latency::new();
        (1..=1000).for_each(|time| latency.record_n(time * 1000, 2));
        let counts = latency.up_to(&[500, 1_000, 250_500, 999_500, 5_000_000]);
        assert_eq!(counts, [0, 2, 500, 1998, 2000]);
    }
}
