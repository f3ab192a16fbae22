//! [`Meter`] and [`Snapshot`]: everything about one stretch of time, to print or to store.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::board::{Place, Showing};
use super::usage::seconds;
use super::{Clock, Latency, LatencySummary, Usage};
use crate::{Endpoint, Stats};

/// Measures the calling thread from [`start`](Self::start) on, or as a worker on a
/// [`Board`](super::Board), where others can see it.
#[derive(Debug)]
pub struct Meter {
    clock: Clock,
    begin: u64,
    usage: Usage,
    /// Times that the application records; those that were shown on a board are there, not here.
    pub latency: Latency,
    place: Option<Place>,
}

impl Meter {
    /// Begins to measure.
    #[must_use]
    pub fn start(clock: Clock) -> Self {
        let begin = clock.now();
        // Where the kernel does not tell, the figures count from the thread's start.
        let usage = Usage::of_thread().unwrap_or_default();
        Self { clock, begin, usage, latency: Latency::new(), place: None }
    }

    pub(super) fn on(place: Place) -> Self {
        Self { place: Some(place), ..Self::start(Clock::new()) }
    }

    /// The clock that it measures with.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Records that `packets` took from `begin`, a reading of the [clock](Self::clock), until now.
    pub fn record(&mut self, begin: u64, packets: usize) {
        if packets > 0 {
            let nanos = self.clock.now().saturating_sub(begin);
            self.latency.record_n(nanos, packets as u64);
        }
    }

    /// Shows the endpoint's counters and everything else on the board, if somebody has asked since it
    /// was last called: otherwise this is one relaxed load. Call it in every turn of the loop.
    #[inline]
    pub fn show(&mut self, endpoint: &dyn Endpoint) {
        self.show_with(endpoint, |_| {});
    }

    /// As [`show`](Self::show), with what the application counts beside the endpoint.
    #[inline]
    pub fn show_with(&mut self, endpoint: &dyn Endpoint, more: impl FnOnce(&mut Showing<'_>)) {
        if self.place.as_ref().is_some_and(Place::is_asked) {
            self.put_up(false, endpoint, more);
        }
    }

    /// As [`show`](Self::show), whether somebody has asked or not: a worker's last word.
    pub fn show_now(&mut self, endpoint: &dyn Endpoint) {
        self.put_up(true, endpoint, |_| {});
    }

    #[cold]
    fn put_up(&mut self, last: bool, endpoint: &dyn Endpoint, more: impl FnOnce(&mut Showing<'_>)) {
        let cost = (self.clock.since(self.begin), self.used());
        if let Some(place) = &mut self.place {
            place.answer(last, endpoint, more, cost, &mut self.latency);
        }
    }

    fn used(&self) -> Usage {
        Usage::of_thread().unwrap_or_default().since(&self.usage)
    }

    /// What happened since the start, with the endpoint's counters.
    #[must_use]
    pub fn snapshot(&self, stats: Stats) -> Snapshot {
        let mut latency = self.latency.clone();
        if let Some(place) = &self.place {
            place.add_shown(&mut latency);
        }
        Snapshot {
            elapsed: self.clock.since(self.begin),
            stats,
            usage: self.used(),
            latency: latency.summary(),
        }
    }
}

/// Counters, drops by cause, latency and cost over a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// How long, in seconds when printed as JSON.
    #[serde(serialize_with = "seconds")]
    pub elapsed: Duration,
    /// The endpoint's counters.
    pub stats: Stats,
    /// What the thread cost.
    pub usage: Usage,
    /// The recorded times, in nanoseconds.
    pub latency: LatencySummary,
}

impl Snapshot {
    /// As one line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Maps with string keys, numbers and nothing else: there is nothing to fail on.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// `count` per second of the stretch.
    #[must_use]
    pub fn rate(&self, count: u64) -> f64 {
        count as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { elapsed, stats, usage, latency } = self;
        let cpu = 100.0 * usage.cpu().as_secs_f64() / elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        let (rx, tx) = (self.rate(stats.rx_packets), self.rate(stats.tx_packets));
        writeln!(
            f,
            "received {} ({rx:.0}/s), sent {} ({tx:.0}/s)",
            stats.rx_packets, stats.tx_packets
        )?;
        write!(f, "dropped {}", stats.drops.total())?;
        for (cause, n) in stats.drops.iter() {
            write!(f, ", {} {n}", cause.name())?;
        }
        writeln!(f)?;
        if latency.count > 0 {
            writeln!(f, "latency {latency}")?;
        }
        let (user, system) = (usage.user, usage.system);
        let (voluntary, involuntary) = (usage.voluntary_switches, usage.involuntary_switches);
        write!(f, "cpu {cpu:.1} % (user {user:.3?}, system {system:.3?}), ")?;
        write!(f, "context switches {voluntary} voluntary, {involuntary} involuntary")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DropCause;

    #[test]
    fn a_snapshot_shows_every_drop_by_its_cause() {
        let mut stats = Stats { rx_packets: 10, ..Stats::default() };
        stats.drops[DropCause::UdpChecksum] = 3;
        stats.drops[DropCause::RxQueueFull] = 4;
        let mut meter = Meter::start(Clock::new());
        meter.latency.record(2_000);
        let snapshot = meter.snapshot(stats);
        let text = snapshot.to_string();
        assert!(text.contains("dropped 7, rx_queue_full 4, udp_checksum 3"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&snapshot.to_json()).unwrap();
        assert_eq!(json["stats"]["drops"]["udp_checksum"], 3);
        assert_eq!(json["stats"]["rx_packets"], 10);
        assert_eq!(json["latency"]["count"], 1);
        assert!(json["usage"]["user"].is_f64() && json["elapsed"].as_f64() > Some(0.0), "{json}");
    }
}
