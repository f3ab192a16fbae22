//! What a scenario found, as a table for people and as JSON.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::open_loop::Curve;
use crate::paired::Row;

/// A figure of one contestant that is not compared as a ratio.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Fact {
    pub(crate) scenario: &'static str,
    pub(crate) contestant: &'static str,
    pub(crate) metric: &'static str,
    /// The median of the rounds.
    pub(crate) value: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// The result of a scenario.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound(deserialize = "'de: 'static"))]
pub(crate) struct Report {
    pub(crate) environment: Environment,
    pub(crate) rows: Vec<Row>,
    pub(crate) facts: Vec<Fact>,
    /// Of scenarios that offer load, where they were asked to sweep it.
    pub(crate) curves: Vec<Curve>,
    /// What limits the conclusions, for the reader.
    pub(crate) notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(environment: Environment) -> Self {
        Self {
            environment,
            rows: Vec::new(),
            facts: Vec::new(),
            curves: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Prints the tables in Markdown, as they go into `BENCHMARKS.md`.
    pub(crate) fn print(&self) {
        println!("`{}`\n\n{}.\n", self.environment.command, self.environment.describe());
        let scenarios = self.scenarios();
        for scenario in &scenarios {
            if scenarios.len() > 1 {
                println!("**{scenario}**\n");
            }
            self.print_rows(scenario);
            self.print_facts(scenario);
        }
        for note in &self.notes {
            println!("{note}\n");
        }
    }

    /// In the order in which they come.
    pub(crate) fn scenarios(&self) -> Vec<&'static str> {
        let rows = self.rows.iter().map(|row| row.scenario);
        let facts = self.facts.iter().map(|fact| fact.scenario);
        distinct(rows.chain(facts))
    }

    /// One line per pair and metric.
    fn print_rows(&self, scenario: &str) {
        let mut rows = self.rows.iter().filter(|row| row.scenario == scenario).peekable();
        if rows.peek().is_none() {
            return;
        }
        println!(
            "| metric | subject | peer | ours | theirs | ratio (min–max) | null spread | pairs |"
        );
        println!("|---|---|---|--:|--:|---|--:|--:|");
        for row in rows {
            let Row {
                metric,
                subject,
                peer,
                ratio_median,
                ratio_min,
                ratio_max,
                null_spread,
                pairs,
                ..
            } = row;
            let (ours, theirs) = (figure(row.ours), figure(row.theirs));
            println!(
                "| {metric} | {subject} | {peer} | {ours} | {theirs} \
                 | {ratio_median:.3} ({ratio_min:.3}–{ratio_max:.3}) \
                 | {null_spread:.3} | {pairs} |"
            );
        }
        println!();
    }

    /// One line per contestant, one column per metric.
    fn print_facts(&self, scenario: &str) {
        let facts = || self.facts.iter().filter(|fact| fact.scenario == scenario);
        let metrics = distinct(facts().map(|fact| fact.metric));
        if metrics.is_empty() {
            return;
        }
        println!("| contestant | {} |", metrics.join(" | "));
        println!("|---|{}", "--:|".repeat(metrics.len()));
        for contestant in distinct(facts().map(|fact| fact.contestant)) {
            let value = |metric: &&str| {
                let fact =
                    facts().find(|fact| fact.contestant == contestant && fact.metric == *metric);
                fact.map_or_else(|| "–".to_owned(), |fact| figure(fact.value))
            };
            let cells: Vec<String> = metrics.iter().map(value).collect();
            println!("| {contestant} | {} |", cells.join(" | "));
        }
        println!();
    }

    /// Whether that is one of ours, which the others are compared with.
    pub(crate) fn is_ours(&self, scenario: &str, contestant: &str) -> bool {
        self.rows.iter().any(|row| row.scenario == scenario && row.subject == contestant)
    }

    pub(crate) fn write_json(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
    }

    /// What [`write_json`](Self::write_json) has written.
    pub(crate) fn read_json(file: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        // A report borrows the names in it for as long as the program runs, which reads one.
        serde_json::from_str(text.leak())
            .with_context(|| format!("{} is no report of a benchmark", file.display()))
    }
}

/// Each name once, in the order of the first time.
pub(crate) fn distinct(names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut distinct = Vec::new();
    for name in names {
        if !distinct.contains(&name) {
            distinct.push(name);
        }
    }
    distinct
}

/// Three or four significant digits, thousands with `k`.
fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 10_000.0 => format!("{:.1}k", value / 1000.0),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_their_leading_digits() {
        let shown = [0.0, 0.01234, 2.345678, 512.3, 345_678.0].map(figure);
        assert_eq!(shown, ["0", "0.0123", "2.35", "512", "345.7k"]);
    }

    #[test]
    fn the_json_row_has_the_agreed_fields() {
        let row = Row {
            scenario: "s",
            metric: "m",
            subject: "a",
            peer: "b",
            ours: 1.0,
            theirs: 2.0,
            ratio_median: 0.5,
            ratio_min: 0.4,
            ratio_max: 0.6,
            null_spread: 0.1,
            pairs: 7,
        };
        let json = serde_json::to_value(row).unwrap();
        let mut keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        let mut expected =
            ["scenario", "metric", "subject", "peer", "ours", "theirs", "pairs", "null_spread"]
                .to_vec();
        expected.extend(["ratio_median", "ratio_min", "ratio_max"]);
        expected.sort_unstable();
        assert_eq!(keys, expected);
    }

    #[test]
    fn scenarios_and_names_keep_their_order() {
        let fact = |scenario, contestant| Fact {
            scenario,
            contestant,
            metric: "m",
            value: 1.0,
            min: 1.0,
            max: 1.0,
        };
        let mut report = Report::new(Environment::read("bench".to_owned()));
        report.facts = vec![fact("b", "x"), fact("a", "x"), fact("b", "y")];
        assert_eq!(report.scenarios(), ["b", "a"]);
    }
}
