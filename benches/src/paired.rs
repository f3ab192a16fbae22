//! The method: interleaved rounds in random order, ratios within a round, and a null run beside
//! them.
//!
//! A round runs every contestant once, each subject twice, in an order drawn anew. A ratio is taken
//! between two runs of the same round, which lie seconds apart, so what drifts over minutes (clock
//! rate, a noisy neighbour) cancels out. The second run of a subject is its null: the spread of A
//! against A is what the machine's noise alone makes of a ratio, and a difference below it is not
//! claimed.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::report::Fact;

/// What one run of one contestant measured, by metric.
pub(crate) type Sample = BTreeMap<&'static str, f64>;

/// Who is compared, and how often.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) scenario: &'static str,
    /// Ours.
    pub(crate) subjects: Vec<&'static str>,
    /// Theirs.
    pub(crate) peers: Vec<&'static str>,
    /// How many rounds count; at least seven for a figure that is shown to anyone.
    pub(crate) rounds: usize,
}

impl Plan {
    /// Ours, then theirs.
    pub(crate) fn contestants(&self) -> impl Iterator<Item = &'static str> {
        self.subjects.iter().chain(&self.peers).copied()
    }
}

/// The runs of all rounds.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    /// By contestant, one sample per round.
    samples: BTreeMap<&'static str, Vec<Sample>>,
    /// By subject, the second run of each round.
    nulls: BTreeMap<&'static str, Vec<Sample>>,
}

/// One subject against one peer in one metric; the unit of the JSON output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) scenario: &'static str,
    pub(crate) metric: &'static str,
    pub(crate) subject: &'static str,
    pub(crate) peer: &'static str,
    /// The median of the subject's runs, in the unit of the metric.
    pub(crate) ours: f64,
    /// The median of the peer's runs.
    pub(crate) theirs: f64,
    /// Of ours / theirs, each within one round.
    pub(crate) ratio_median: f64,
    pub(crate) ratio_min: f64,
    pub(crate) ratio_max: f64,
    /// Highest less lowest ratio of the subject against itself.
    pub(crate) null_spread: f64,
    pub(crate) pairs: usize,
}

/// Runs the plan: one round that does not count, then the rounds that do.
pub(crate) fn run(
    plan: &Plan,
    mut measure: impl FnMut(&'static str) -> Result<Sample>,
) -> Result<Runs> {
    let mut runs = Runs::default();
    let first_runs = plan.subjects.iter().chain(&plan.peers).map(|name| (*name, false));
    let mut order: Vec<_> =
        first_runs.chain(plan.subjects.iter().map(|name| (*name, true))).collect();
    for round in 0..=plan.rounds {
        eprintln!(
            "{}: round {round} of {}{}",
            plan.scenario,
            plan.rounds,
            if round == 0 { " (warm-up)" } else { "" }
        );
        fastrand::shuffle(&mut order);
        for &(name, null) in &order {
            // The null runs warm nothing up that the first runs do not.
            if round == 0 && null {
                continue;
            }
            let sample = measure(name)?;
            if round > 0 {
                let kind = if null { &mut runs.nulls } else { &mut runs.samples };
                kind.entry(name).or_default().push(sample);
            }
        }
    }
    Ok(runs)
}

impl Runs {
    /// The median over the rounds, where the contestant measures this metric.
    pub(crate) fn median(&self, name: &str, metric: &str) -> Option<f64> {
        median(self.values(name, metric))
    }

    fn values(&self, name: &str, metric: &str) -> Vec<f64> {
        let samples = self.samples.get(name).into_iter().flatten();
        samples.filter_map(|sample| sample.get(metric).copied()).collect()
    }

    /// Of every contestant, each of `metrics` that it measures.
    pub(crate) fn facts(&self, plan: &Plan, metrics: &[&'static str]) -> Vec<Fact> {
        let of = |contestant, metric| {
            let values = self.values(contestant, metric);
            let (min, max) = extent(&values)?;
            let value = median(values)?;
            Some(Fact { scenario: plan.scenario, contestant, metric, value, min, max })
        };
        let metrics_of =
            |contestant| metrics.iter().filter_map(move |metric| of(contestant, metric));
        plan.contestants().flat_map(metrics_of).collect()
    }

    /// Every subject against every peer in `metric`; pairs of which one does not measure it are
    /// left out.
    pub(crate) fn rows(&self, plan: &Plan, metric: &'static str) -> Vec<Row> {
        let pairs = plan
            .subjects
            .iter()
            .flat_map(|subject| plan.peers.iter().map(move |peer| (*subject, *peer)));
        pairs.filter_map(|(subject, peer)| self.row(plan.scenario, metric, subject, peer)).collect()
    }

    fn row(
        &self,
        scenario: &'static str,
        metric: &'static str,
        subject: &'static str,
        peer: &'static str,
    ) -> Option<Row> {
        let ours = self.samples.get(subject)?;
        let ratios = ratios_of(ours, self.samples.get(peer)?, metric);
        let (ratio_min, ratio_max) = extent(&ratios)?;
        let (null_min, null_max) = extent(&ratios_of(ours, self.nulls.get(subject)?, metric))?;
        Some(Row {
            scenario,
            metric,
            subject,
            peer,
            ours: self.median(subject, metric)?,
            theirs: self.median(peer, metric)?,
            pairs: ratios.len(),
            ratio_median: median(ratios)?,
            ratio_min,
            ratio_max,
            null_spread: null_max - null_min,
        })
    }
}

/// Ratios round by round.
fn ratios_of(ours: &[Sample], theirs: &[Sample], metric: &str) -> Vec<f64> {
    let pairs = ours.iter().zip(theirs);
    pairs
        .filter_map(|(ours, theirs)| Some(ours.get(metric)? / theirs.get(metric)?))
        .filter(|r| r.is_finite())
        .collect()
}

fn extent(values: &[f64]) -> Option<(f64, f64)> {
    let mut values = values.iter().copied();
    let first = values.next()?;
    Some(values.fold((first, first), |(min, max), value| (min.min(value), max.max(value))))
}

/// The middle value; between the two middle ones where their number is even.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { (values[middle - 1] + upper) / 2.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rounds: usize) -> Plan {
        Plan { scenario: "unit", subjects: vec!["ours"], peers: vec!["slow", "fast"], rounds }
    }

    /// A machine that grows slower from run to run, on which `ours` is twice as fast as `slow`.
    fn drifting(rounds: usize) -> (Runs, Vec<&'static str>) {
        let (mut runs, mut log) = (0.0, Vec::new());
        let measure = |name: &'static str| {
            runs += 1.0;
            log.push(name);
            let speed = match name {
                "ours" => 200.0,
                "slow" => 100.0,
                _ => 400.0,
            };
            Ok(Sample::from([("rate", speed / (1.0 + runs / 1000.0))]))
        };
        let runs = run(&plan(rounds), measure).unwrap();
        (runs, log)
    }

    #[test]
    fn each_round_runs_everyone_once_and_each_subject_twice() {
        let (_, log) = drifting(7);
        let count = |name| log.iter().filter(|logged| **logged == name).count();
        assert_eq!((count("ours"), count("slow"), count("fast")), (1 + 14, 1 + 7, 1 + 7));
    }

    #[test]
    fn ratios_within_a_round_cancel_drift() {
        let (runs, _) = drifting(21);
        let rows = runs.rows(&plan(21), "rate");
        assert_eq!(rows.iter().map(|row| row.peer).collect::<Vec<_>>(), ["slow", "fast"]);
        let row = &rows[0];
        assert_eq!(row.pairs, 21);
        assert!((row.ratio_median - 2.0).abs() < 0.01, "{row:?}");
        assert!(row.ratio_min <= row.ratio_median && row.ratio_median <= row.ratio_max, "{row:?}");
        assert!(row.null_spread > 0.0 && row.null_spread < 0.02, "{row:?}");
    }

    #[test]
    fn a_metric_that_one_side_does_not_measure_makes_no_row() {
        let measure =
            |name| Ok(if name == "ours" { Sample::from([("p50", 1.0)]) } else { Sample::new() });
        let runs = run(&plan(1), measure).unwrap();
        assert_eq!(runs.rows(&plan(1), "p50"), []);
    }

    #[test]
    fn facts_have_the_median_between_their_extremes() {
        let (runs, _) = drifting(7);
        let facts = runs.facts(&plan(7), &["rate", "nothing"]);
        assert_eq!(
            facts.iter().map(|fact| fact.contestant).collect::<Vec<_>>(),
            ["ours", "slow", "fast"]
        );
        assert!(
            facts.iter().all(|fact| fact.min < fact.value && fact.value < fact.max),
            "{facts:?}"
        );
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middles() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
