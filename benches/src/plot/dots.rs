//! Medians of what is compared, with their extremes: a row for each contestant, a column for each metric.

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::page::{Area, FAINT, GREY, INK, OURS, page, text, wrapped};
use super::scale::{Scale, short};
use crate::report::{Fact, Report, distinct};

const WIDTH: u32 = 960;
const ROW: u32 = 24;
/// For what is measured, over its column, and for its axis below.
const HEAD: i32 = 50;
const FOOT: i32 = 24;
/// Columns at most.
const COLUMNS: usize = 5;
const LETTER: f64 = 7.0;

/// The medians of the scenario, if it has facts about what it compares.
pub(super) fn picture(report: &Report, scenario: &str) -> Result<Option<String>> {
    let facts = || report.facts.iter().filter(|fact| fact.scenario == scenario);
    let rows = report.rows.iter().filter(|row| row.scenario == scenario).map(|row| row.metric);
    let mut metrics = distinct(rows);
    metrics.retain(|metric| facts().any(|fact| fact.metric == *metric));
    if metrics.is_empty() {
        // Of contestants that have nobody to be compared with.
        metrics = distinct(facts().map(|fact| fact.metric));
    }
    metrics.truncate(COLUMNS);
    if metrics.is_empty() {
        return Ok(None);
    }
    let contestants = distinct(facts().map(|fact| fact.contestant));
    let letters = contestants.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let names = (letters as f64 * LETTER) as i32 + 12;
    let height = ROW * contestants.len() as u32 + (HEAD + FOOT) as u32;
    let title = format!("{scenario}: medians, lowest and highest");
    let svg = page(&report.environment, &title, (WIDTH, height), |area| {
        for (row, name) in contestants.iter().enumerate() {
            let mut style = text(12.5, INK, HPos::Right);
            if report.is_ours(scenario, name) {
                style.font = style.font.style(FontStyle::Bold);
            }
            area.draw_text(name, &style, (names - 8, middle(row)))?;
        }
        let (_, columns) = area.split_horizontally(names);
        for (metric, column) in metrics.iter().zip(columns.split_evenly((1, metrics.len()))) {
            let of = |name: &&str| {
                facts().find(|fact| fact.metric == *metric && fact.contestant == *name)
            };
            let facts: Vec<Option<&Fact>> = contestants.iter().map(of).collect();
            draw(&column, report, metric, &facts)?;
        }
        Ok(())
    })?;
    Ok(Some(svg))
}

/// The height of a row.
fn middle(row: usize) -> i32 {
    HEAD + ROW as i32 * row as i32 + ROW as i32 / 2
}

/// One metric of everybody.
fn draw(area: &Area<'_>, report: &Report, metric: &str, facts: &[Option<&Fact>]) -> Result<()> {
    let wide = area.dim_in_pixel().0;
    let center = text(12.0, INK, HPos::Center);
    for (line, said) in wrapped(metric, wide as usize / 7).iter().take(3).enumerate() {
        area.draw_text(said, &center, (wide as i32 / 2, 8 + 15 * line as i32))?;
    }
    let values = facts.iter().flatten().flat_map(|fact| [fact.min, fact.value, fact.max]);
    let scale = Scale::fitting(values);
    let (_, plot) = area.split_vertically(HEAD);
    let mut chart = ChartBuilder::on(&plot)
        .margin_left(8)
        .margin_right(40)
        .x_label_area_size(FOOT)
        .build_cartesian_2d(scale, 0..facts.len() as i32 * ROW as i32)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .bold_line_style(FAINT)
        .light_line_style(TRANSPARENT)
        .axis_style(GREY)
        .label_style(text(11.0, INK, HPos::Left))
        .draw()?;
    for (row, fact) in facts.iter().enumerate() {
        let Some(fact) = *fact else { continue };
        let Fact { min, value, max, .. } = *fact;
        // From the bottom.
        let y = (facts.len() - row) as i32 * ROW as i32 - ROW as i32 / 2;
        let colour = if report.is_ours(fact.scenario, fact.contestant) { OURS } else { GREY };
        chart.draw_series([PathElement::new([(min, y), (max, y)], colour.stroke_width(2))])?;
        chart.draw_series([Circle::new((value, y), 5, colour.filled())])?;
        let beside = text(11.0, INK, HPos::Left);
        chart
            .draw_series([EmptyElement::at((max, y)) + Text::new(short(value), (7, 0), beside)])?;
    }
    Ok(())
}
