//! Open loops: the highest rate of which nothing is lost, and what becomes of load around it.
//!
//! A scenario has a [`Source`]; everything about rates is here.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::paired::{Plan, median};

/// What offers load on a fixed schedule, however the server fares.
pub(crate) trait Source {
    /// Offers `rate` requests a second for so long, then waits for what is still to come.
    fn offer(&mut self, rate: f64, duration: Duration) -> Result<Stretch>;
}

/// What a stretch at one rate saw.
#[derive(Debug)]
pub(crate) struct Stretch {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// In which that was sent.
    pub(crate) seconds: f64,
    /// The source never fell behind its schedule by so much that the stretch says nothing about the server.
    pub(crate) in_time: bool,
    /// From the time at which a request was due to its answer, in nanoseconds; empty where the source takes
    /// no times.
    pub(crate) latency: Histogram<u64>,
}

/// How late a source may be, in nanoseconds, before a stretch says nothing about the server.
const LATE: u64 = 20_000_000;

impl Stretch {
    pub(crate) fn new() -> Result<Self> {
        // 100 ns to 10 s with three digits.
        let latency = Histogram::new_with_bounds(100, 10_000_000_000, 3)?;
        Ok(Self { sent: 0, answered: 0, seconds: 0.0, in_time: true, latency })
    }

    /// Books requests that are sent now, where the first of them was due earlier; both in nanoseconds since
    /// the beginning.
    pub(crate) fn send(&mut self, count: u64, due: u64, now: u64) {
        self.in_time &= now <= due.saturating_add(LATE);
        self.sent += count;
        self.seconds = now as f64 / 1e9;
    }

    /// Books requests that were sent over `duration`, of which the latest left so long after its time.
    #[cfg(feature = "xdp")]
    pub(crate) fn sent(&mut self, count: u64, duration: Duration, late: Duration) {
        self.in_time &= late.as_nanos() <= u128::from(LATE);
        self.sent += count;
        self.seconds = duration.as_secs_f64();
    }

    /// Books an answer that came so many nanoseconds after its request was due.
    pub(crate) fn answer(&mut self, nanoseconds: u64) {
        self.latency.saturating_record(nanoseconds);
        self.answered += 1;
    }

    /// Requests a second that were sent.
    pub(crate) fn offered_rate(&self) -> f64 {
        self.sent as f64 / self.seconds.max(1e-9)
    }

    /// The part of the requests that was not answered.
    pub(crate) fn lost(&self) -> f64 {
        1.0 - self.answered as f64 / self.sent.max(1) as f64
    }

    /// Latency in microseconds, where times were taken.
    pub(crate) fn micros(&self, quantile: f64) -> Option<f64> {
        let taken = !self.latency.is_empty();
        taken.then(|| self.latency.value_at_quantile(quantile) as f64 / 1000.0)
    }
}

/// By what a search was ended: 1 where the source was the limit, 0 where requests were lost.
#[cfg(feature = "xdp")]
pub(crate) const BY_SOURCE: &str = "ended by the source";

/// A search for the highest rate that holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Search {
    /// Where it begins, in requests a second.
    pub(crate) from: f64,
    /// The most that is tried.
    pub(crate) ceiling: f64,
    /// At each rate.
    pub(crate) duration: Duration,
    /// The part of the requests that may be lost; 0 for none.
    pub(crate) allowed_loss: f64,
}

/// The search ends when upper and lower bound are so close.
const PRECISION: f64 = 1.03;
/// A source that sends less than this part of a rate does not reach it.
const REACHED: f64 = 0.95;
/// How often a rate may lose before it fails.
const TRIES: usize = 3;
/// How often a rate is offered for that: a stretch in which the source fell behind says nothing of the server.
const ATTEMPTS: usize = 9;
/// How often the first rate is halved before nothing is found.
const HALVINGS: u32 = 6;

/// What a search has found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Highest {
    pub(crate) rate: f64,
    /// Why no higher rate holds: the source could not offer one, or it is the most that is tried; or else too
    /// many requests were lost.
    by_source: bool,
}

impl Highest {
    /// Who was the limit, as a figure.
    #[cfg(feature = "xdp")]
    pub(crate) fn by_source(self) -> (&'static str, f64) {
        (BY_SOURCE, f64::from(u8::from(self.by_source)))
    }
}

/// What was seen at a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Holds,
    /// Too many requests were lost that the source had sent in time.
    Lost,
    /// The source fell behind, every time.
    Behind,
}

impl Search {
    /// The highest rate that holds, within 3 %. `None` where no rate holds.
    pub(crate) fn highest(&self, source: &mut dyn Source) -> Result<Option<Highest>> {
        let Some((mut good, mut bad, mut why)) = self.bounds(source)? else { return Ok(None) };
        while bad / good > PRECISION {
            let middle = (good * bad).sqrt();
            match self.outcome(source, middle)? {
                Outcome::Holds => good = middle,
                failed => (bad, why) = (middle, failed),
            }
        }
        Ok(Some(Highest { rate: good, by_source: why == Outcome::Behind }))
    }

    /// A rate that holds, one up to twice as high that does not or is the most that is tried, and why.
    fn bounds(&self, source: &mut dyn Source) -> Result<Option<(f64, f64, Outcome)>> {
        let mut good = self.from;
        let mut why = self.outcome(source, good)?;
        if why == Outcome::Holds {
            while 2.0 * good <= self.ceiling {
                why = self.outcome(source, 2.0 * good)?;
                if why != Outcome::Holds {
                    return Ok(Some((good, 2.0 * good, why)));
                }
                good *= 2.0;
            }
            return Ok(Some((good, self.ceiling, Outcome::Behind)));
        }
        let mut bad = self.from;
        for _ in 0..HALVINGS {
            let lower = bad / 2.0;
            match self.outcome(source, lower)? {
                Outcome::Holds => return Ok(Some((lower, bad, why))),
                failed => (bad, why) = (lower, failed),
            }
        }
        Ok(None)
    }

    /// A short pause of the machine is no limit: a rate fails when it fails every time.
    fn outcome(&self, source: &mut dyn Source, rate: f64) -> Result<Outcome> {
        let mut losses = 0;
        for _ in 0..ATTEMPTS {
            let stretch = source.offer(rate, self.duration)?;
            if !stretch.in_time || stretch.offered_rate() < REACHED * rate || stretch.sent == 0 {
                continue;
            }
            if stretch.lost() <= self.allowed_loss {
                return Ok(Outcome::Holds);
            }
            losses += 1;
            if losses == TRIES {
                break;
            }
        }
        Ok(if losses == TRIES { Outcome::Lost } else { Outcome::Behind })
    }
}

/// What became of one rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    /// Requests a second that were sent.
    pub(crate) offered: f64,
    /// Requests a second that were answered.
    pub(crate) answered: f64,
    pub(crate) latency: Option<Latency>,
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

/// The rates of a sweep, as parts of the highest of which nothing is lost.
const AROUND: [f64; 12] = [0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.95, 1.0, 1.1, 1.25, 1.5, 2.0];

/// Load around and beyond `highest`, and at the rate at which everybody is compared, in ascending order.
pub(crate) fn sweep(
    source: &mut dyn Source,
    common: f64,
    highest: f64,
    duration: Duration,
) -> Result<Vec<Point>> {
    let mut rates: Vec<f64> = AROUND.iter().map(|part| part * highest).collect();
    rates.push(common);
    rates.sort_by(f64::total_cmp);
    rates.into_iter().map(|rate| Ok(Point::of(&source.offer(rate, duration)?))).collect()
}

/// What became of load around the highest rate of one contestant.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Curve {
    pub(crate) scenario: &'static str,
    pub(crate) contestant: &'static str,
    /// What is offered and answered, in the plural.
    pub(crate) unit: &'static str,
    /// The rate at which everybody is compared, per second.
    pub(crate) common_rate: f64,
    /// By what was offered; the median of the sweeps.
    pub(crate) points: Vec<Point>,
}

/// Sweeps of every contestant in turn, where `highest` says around which rate.
///
/// They come after the paired rounds, which find that rate, and are no part of their ratios.
pub(crate) fn curves(
    plan: &Plan,
    (unit, common_rate): (&'static str, f64),
    rounds: usize,
    highest: impl Fn(&'static str) -> Option<f64>,
    mut measure: impl FnMut(&'static str, f64) -> Result<Vec<Point>>,
) -> Result<Vec<Curve>> {
    let contestants: Vec<_> = plan.contestants().collect();
    let mut sweeps: Vec<Vec<Vec<Point>>> = vec![Vec::new(); contestants.len()];
    let mut order: Vec<usize> = (0..contestants.len()).collect();
    for round in 1..=rounds {
        eprintln!("{}: sweep {round} of {rounds}", plan.scenario);
        fastrand::shuffle(&mut order);
        for &index in &order {
            let Some(highest) = highest(contestants[index]) else { continue };
            sweeps[index].push(measure(contestants[index], highest)?);
        }
    }
    let curves = contestants.into_iter().zip(sweeps).filter(|(_, sweeps)| !sweeps.is_empty());
    let curves = curves.map(|(contestant, sweeps)| {
        let points = Point::medians(&sweeps);
        Curve { scenario: plan.scenario, contestant, unit, common_rate, points }
    });
    Ok(curves.collect())
}

impl Point {
    fn of(stretch: &Stretch) -> Self {
        let latency = || {
            let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|part| stretch.micros(part));
            Some(Latency { p50: p50?, p90: p90?, p99: p99?, p999: p999? })
        };
        let offered = stretch.offered_rate();
        Self { offered, answered: offered * (1.0 - stretch.lost()), latency: latency() }
    }

    /// Of sweeps over the same rates, rate by rate and figure by figure.
    fn medians(sweeps: &[Vec<Self>]) -> Vec<Self> {
        let rates = sweeps.iter().map(Vec::len).min().unwrap_or(0);
        let at = |rate: usize| {
            let middle = |figure: &dyn Fn(&Self) -> Option<f64>| {
                median(sweeps.iter().filter_map(|sweep| figure(&sweep[rate])).collect())
            };
            let late =
                |figure: fn(&Latency) -> f64| middle(&|point| point.latency.as_ref().map(figure));
            let latency = || {
                Some(Latency {
                    p50: late(|latency| latency.p50)?,
                    p90: late(|latency| latency.p90)?,
                    p99: late(|latency| latency.p99)?,
                    p999: late(|latency| latency.p999)?,
                })
            };
            Some(Self {
                offered: middle(&|point| Some(point.offered))?,
                answered: middle(&|point| Some(point.answered))?,
                latency: latency(),
            })
        };
        (0..rates).filter_map(at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers up to its capacity and drops the rest; the source itself makes `fastest` at most.
    struct Simulated {
        capacity: f64,
        fastest: f64,
        /// Stretches until one in which something else stops the server.
        hiccup_in: u32,
        stretches: u32,
    }

    fn simulated(capacity: f64) -> Simulated {
        Simulated { capacity, fastest: f64::INFINITY, hiccup_in: u32::MAX, stretches: 0 }
    }

    impl Source for Simulated {
        fn offer(&mut self, rate: f64, duration: Duration) -> Result<Stretch> {
            self.stretches += 1;
            let capacity = if self.stretches == self.hiccup_in { 1.0 } else { self.capacity };
            let (rate, seconds) = (rate.min(self.fastest), duration.as_secs_f64());
            let mut stretch = Stretch::new()?;
            stretch.sent = (rate * seconds) as u64;
            stretch.answered = (rate.min(capacity) * seconds) as u64;
            stretch.seconds = stretch.sent as f64 / rate;
            stretch.latency.record_n(10_000, stretch.answered)?;
            Ok(stretch)
        }
    }

    const SEARCH: Search = Search {
        from: 10_000.0,
        ceiling: 4e6,
        duration: Duration::from_secs(1),
        allowed_loss: 0.0,
    };

    fn near(found: Option<Highest>, capacity: f64) {
        let found = found.unwrap().rate;
        assert!(found <= capacity * 1.0001 && found > capacity / 1.04, "{found} for {capacity}");
    }

    #[test]
    fn the_highest_rate_is_found_wherever_it_lies() {
        for capacity in [400.0, 3_000.0, 10_000.0, 19_999.0, 123_456.0, 3.9e6] {
            near(SEARCH.highest(&mut simulated(capacity)).unwrap(), capacity);
        }
        assert!(!SEARCH.highest(&mut simulated(123_456.0)).unwrap().unwrap().by_source);
        let most = SEARCH.highest(&mut simulated(1e9)).unwrap();
        near(most, SEARCH.ceiling);
        assert!(most.unwrap().by_source);
        assert_eq!(SEARCH.highest(&mut simulated(1.0)).unwrap(), None);
    }

    #[test]
    fn a_source_that_is_too_slow_ends_the_search() {
        let mut source = Simulated { fastest: 100_000.0, ..simulated(1e9) };
        let found = SEARCH.highest(&mut source).unwrap();
        near(found, 100_000.0 / REACHED);
        assert!(found.unwrap().by_source, "nothing was lost");
    }

    #[test]
    fn one_hiccup_is_forgiven() {
        for hiccup_in in 1..8 {
            let mut source = Simulated { hiccup_in, ..simulated(500_000.0) };
            near(SEARCH.highest(&mut source).unwrap(), 500_000.0);
        }
    }

    #[test]
    fn what_may_be_lost_may_be_lost() {
        let search = Search { allowed_loss: 0.2, ..SEARCH };
        near(search.highest(&mut simulated(80_000.0)).unwrap(), 100_000.0);
    }

    #[test]
    fn a_sweep_goes_beyond_what_is_answered() {
        let mut source = simulated(50_000.0);
        let points = sweep(&mut source, 20_000.0, 50_000.0, Duration::from_secs(1)).unwrap();
        assert_eq!(points.len(), AROUND.len() + 1);
        assert!(points.is_sorted_by(|a, b| a.offered <= b.offered));
        assert!(points.iter().any(|point| (point.offered - 20_000.0).abs() < 1.0));
        let last = points.last().unwrap();
        assert!((last.offered - 100_000.0).abs() < 2.0 && (last.answered - 50_000.0).abs() < 2.0);
        assert!((last.latency.unwrap().p99 - 10.0).abs() < 0.1);
    }

    #[test]
    fn curves_are_medians_of_sweeps_and_leave_out_who_has_no_rate() {
        let plan = Plan { scenario: "s", subjects: vec!["a"], peers: vec!["b"], rounds: 3 };
        let mut rounds = 0.0;
        let curves = curves(
            &plan,
            ("requests", 10.0),
            3,
            |name| (name == "a").then_some(100.0),
            |_, highest| {
                rounds += 1.0;
                let latency = (rounds < 3.0).then_some(Latency {
                    p50: rounds,
                    p90: 2.0,
                    p99: 3.0,
                    p999: 4.0,
                });
                Ok(vec![Point { offered: highest, answered: rounds, latency }])
            },
        );
        let curves = curves.unwrap();
        assert_eq!((curves.len(), curves[0].contestant, curves[0].points.len()), (1, "a", 1));
        let point = curves[0].points[0];
        assert_eq!((point.offered, point.answered), (100.0, 2.0));
        assert_eq!(point.latency.unwrap().p50, 1.5, "of the two sweeps that had answers");
    }
}
