//! [`Chart`]: lines over two axes.

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::page::{Area, FAINT, GREY, INK, Look, text};
use super::scale::Scale;

/// What is measured along an axis, with its unit.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    pub(super) label: String,
    pub(super) scale: Scale,
}

#[derive(Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<(Look, Vec<(f64, f64)>)>,
    /// Whether the line is drawn on which both are the same, under this name.
    pub(super) diagonal: Option<&'static str>,
}

impl Chart {
    pub(super) fn draw(&self, area: &Area<'_>) -> Result<()> {
        let (x, y) = (&self.x.scale, &self.y.scale);
        let mut chart = ChartBuilder::on(area)
            .margin_top(4)
            .margin_right(18)
            .caption(&self.title, text(13.5, INK, HPos::Left))
            .x_label_area_size(40)
            .y_label_area_size(62)
            .build_cartesian_2d(x.clone(), y.clone())?;
        chart
            .configure_mesh()
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .axis_style(GREY)
            .label_style(text(11.5, INK, HPos::Left))
            .axis_desc_style(text(12.0, INK, HPos::Left))
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .draw()?;
        if let Some(name) = self.diagonal {
            let end = x.end().min(y.end());
            chart.draw_series([PathElement::new([(0.0, 0.0), (end, end)], GREY)])?;
            let (right, top) = chart.backend_coord(&(end, end));
            let (left, above) = area.get_base_pixel();
            // Above the line, where nothing can be: more answers than were asked for.
            let beside = (right - left - 34, top - above + 9);
            area.draw_text(name, &text(11.5, GREY, HPos::Right), beside)?;
        }
        for (look, line) in &self.lines {
            chart.draw_series(LineSeries::new(line.iter().copied(), look.line()))?;
            chart.draw_series(line.iter().map(|at| look.mark(*at)))?;
        }
        Ok(())
    }
}
