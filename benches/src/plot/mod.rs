//! Pictures of a report, as SVG: load against answers, latency, medians with their extremes.
//!
//! They are drawn from the report alone, so one that was saved as JSON gives the same ones.

mod chart;
mod curves;
mod dots;
mod page;
mod scale;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::report::Report;

/// The command that draws what was measured before.
pub(crate) const COMMAND: &str = "plot";

/// A picture and the name of its file.
struct Picture {
    name: String,
    svg: String,
}

/// Draws every picture that the report has figures for into `folder`, which is made if it is not there.
pub(crate) fn draw(report: &Report, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut pictures = Vec::new();
    for scenario in report.scenarios() {
        let name = |kind| format!("{}-{kind}.svg", file_name(scenario));
        if let Some(svg) = curves::picture(report, scenario)? {
            pictures.push(Picture { name: name("load"), svg });
        }
        if let Some(svg) = dots::picture(report, scenario)? {
            pictures.push(Picture { name: name("medians"), svg });
        }
    }
    ensure!(!pictures.is_empty(), "the report has no figure that could be drawn");
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let write = |Picture { name, svg }: Picture| {
        let file = folder.join(name);
        fs::write(&file, svg).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    };
    pictures.into_iter().map(write).collect()
}

/// Letters and digits of a scenario's name, with single hyphens for all else.
fn file_name(scenario: &str) -> String {
    let words = scenario.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    let words: Vec<String> =
        words.filter(|word| !word.is_empty()).map(str::to_ascii_lowercase).collect();
    words.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;
    use crate::open_loop::{Curve, Latency, Point};
    use crate::report::Fact;

    fn report() -> Report {
        let mut report = Report::new(Environment::read("bench <unit> & more".to_owned()));
        let fact = |contestant, value| Fact {
            scenario: "unit, 1 %",
            contestant,
            metric: "requests per second",
            value,
            min: value * 0.9,
            max: value * 1.1,
        };
        report.facts = vec![fact("ours", 200_000.0), fact("a peer", 90_000.0)];
        let points = (1..=10).map(|step| {
            let (offered, p50) = (f64::from(step) * 20_000.0, f64::from(step) * 3.0);
            let latency = Latency { p50, p90: 2.0 * p50, p99: 3.0 * p50, p999: 9.0 * p50 };
            Point { offered, answered: offered.min(150_000.0), latency: Some(latency) }
        });
        report.curves = vec![Curve {
            scenario: "unit, 1 %",
            contestant: "ours",
            unit: "requests",
            common_rate: 40_000.0,
            points: points.collect(),
        }];
        report
    }

    fn drawn(report: &Report) -> Vec<(String, String)> {
        let folder = tempfile::tempdir().unwrap();
        let files = draw(report, folder.path()).unwrap();
        let name = |file: &PathBuf| file.file_name().unwrap().to_str().unwrap().to_owned();
        files.iter().map(|file| (name(file), fs::read_to_string(file).unwrap())).collect()
    }

    #[test]
    fn a_report_becomes_pictures_that_name_everything() {
        let report = report();
        let pictures = drawn(&report);
        let names: Vec<&str> = pictures.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["unit-1-load.svg", "unit-1-medians.svg"]);
        for (name, svg) in &pictures {
            for said in ["bench &lt;unit&gt; &amp; more", "ours", &report.environment.kernel] {
                assert!(svg.contains(said), "{name} does not say {said}");
            }
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            assert!(svg.len() < 60_000, "{name} has {} bytes", svg.len());
        }
        assert!(pictures[0].1.contains("p99.9") && pictures[1].1.contains("a peer"));
    }

    #[test]
    fn a_saved_report_gives_the_same_pictures() {
        let report = report();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("report.json");
        report.write_json(&file).unwrap();
        assert_eq!(drawn(&Report::read_json(&file).unwrap()), drawn(&report));
    }

    #[test]
    fn a_report_without_figures_is_refused() {
        let mut report = report();
        report.facts.clear();
        report.curves.clear();
        assert!(draw(&report, Path::new("/nonexistent")).is_err());
    }
}
