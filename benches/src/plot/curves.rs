//! Load: what was answered of what was offered, and how late.

use anyhow::Result;

use super::chart::{Axis, Chart};
use super::page::{Look, legend, page};
use super::scale::{Scale, short};
use crate::open_loop::{Curve, Latency, Point};
use crate::report::Report;

const WIDTH: u32 = 960;
const PANEL: u32 = 300;

const PERCENTILES: [&str; 4] = ["p50", "p90", "p99", "p99.9"];

impl Latency {
    /// In the order of [`PERCENTILES`].
    fn percentiles(&self) -> [f64; 4] {
        [self.p50, self.p90, self.p99, self.p999]
    }
}

/// The curves of one scenario.
struct Curves<'a>(Vec<(&'a Curve, Look)>);

/// The load of the scenario, if it has curves.
pub(super) fn picture(report: &Report, scenario: &str) -> Result<Option<String>> {
    let curves = report.curves.iter().filter(|curve| curve.scenario == scenario).enumerate();
    let look = |index, curve: &Curve| Look::of(index, report.is_ours(scenario, curve.contestant));
    let curves = Curves(curves.map(|(index, curve)| (curve, look(index, curve))).collect());
    let Some((Curve { unit, common_rate, .. }, _)) = curves.0.first() else { return Ok(None) };
    let offered = Axis {
        label: format!("offered, {unit} per second"),
        scale: Scale::linear(curves.points().map(|point| point.offered)),
    };
    let mut charts = vec![curves.answered(unit, &offered)];
    if curves.points().any(|point| point.latency.is_some()) {
        charts.push(curves.percentiles(
            &format!("latency at {} {unit} per second", short(*common_rate)),
            *common_rate,
        ));
        charts.extend([0, 2].map(|percentile| curves.latency(percentile, &offered)));
    }
    let columns = charts.len().min(2);
    let rows = charts.len().div_ceil(columns);
    let names: Vec<(&str, Look)> =
        curves.0.iter().map(|(curve, look)| (curve.contestant, *look)).collect();
    let title = format!("{scenario}: load");
    let size = (WIDTH, PANEL * rows as u32 + 50);
    let svg = page(&report.environment, &title, size, |area| {
        let (_, below) = area.split_vertically(legend(area, &names)?);
        let panels = below.split_evenly((rows, columns));
        charts.iter().zip(&panels).try_for_each(|(chart, panel)| chart.draw(panel))
    })?;
    Ok(Some(svg))
}

impl Curves<'_> {
    fn points(&self) -> impl Iterator<Item = &Point> + Clone {
        self.0.iter().flat_map(|(curve, _)| &curve.points)
    }

    /// A line for everyone, through what is known of its points.
    fn lines(&self, at: impl Fn(&Point) -> Option<(f64, f64)>) -> Vec<(Look, Vec<(f64, f64)>)> {
        let line = |curve: &Curve| curve.points.iter().filter_map(&at).collect();
        self.0.iter().map(|(curve, look)| (*look, line(curve))).collect()
    }

    fn answered(&self, unit: &str, offered: &Axis) -> Chart {
        // With room for the diagonal's name.
        let scale = Scale::linear(self.points().map(|point| 1.12 * point.answered));
        Chart {
            title: "answered, against offered".to_owned(),
            x: offered.clone(),
            y: Axis { label: format!("answered, {unit} per second"), scale },
            lines: self.lines(|point| Some((point.offered, point.answered))),
            diagonal: Some("y = x: nothing is lost"),
        }
    }

    /// One percentile against the offered load.
    fn latency(&self, percentile: usize, offered: &Axis) -> Chart {
        let late = |point: &Point| Some(point.latency.as_ref()?.percentiles()[percentile]);
        Chart {
            title: format!("latency of what is answered, {}", PERCENTILES[percentile]),
            x: offered.clone(),
            y: micros(self.points().filter_map(late)),
            lines: self.lines(|point| Some((point.offered, late(point)?))),
            diagonal: None,
        }
    }

    /// All percentiles at the rate at which everybody is compared.
    fn percentiles(&self, title: &str, rate: f64) -> Chart {
        let lines: Vec<(Look, Vec<(f64, f64)>)> = self
            .0
            .iter()
            .filter_map(|(curve, look)| {
                let distance = |point: &&Point| (point.offered - rate).abs();
                let nearest =
                    curve.points.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
                let percentiles = nearest.latency.as_ref()?.percentiles();
                let places = percentiles.into_iter().enumerate();
                Some((*look, places.map(|(place, late)| (place as f64, late)).collect()))
            })
            .collect();
        let values = lines.iter().flat_map(|(_, line)| line).map(|(_, late)| *late);
        Chart {
            title: title.to_owned(),
            x: Axis { label: "percentile".to_owned(), scale: Scale::names(&PERCENTILES) },
            y: micros(values),
            lines,
            diagonal: None,
        }
    }
}

fn micros(values: impl Iterator<Item = f64> + Clone) -> Axis {
    Axis { label: "latency".to_owned(), scale: Scale::times(values) }
}
