//! What all pictures have in common: title, command, machine, colours, marks.

use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::environment::Environment;

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Told apart by everybody, colour-blind or not (Okabe and Ito), on white.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(128, 128, 128),
];
/// Ours among contestants that need no telling apart.
pub(super) const OURS: RGBColor = COLOURS[0];
pub(super) const INK: RGBColor = RGBColor(34, 34, 34);
pub(super) const FAINT: RGBColor = RGBColor(225, 225, 225);
pub(super) const GREY: RGBColor = RGBColor(95, 95, 95);

const MARGIN: i32 = 16;
/// Of the caption.
const LINE: i32 = 17;
/// Pixels of a letter, about.
const LETTER: f64 = 6.6;

/// Pixels of a font, which the library takes for points of another kind.
pub(super) const fn font(pixels: f64) -> (&'static str, f64) {
    ("sans-serif", pixels * 1.24)
}

pub(super) fn text(pixels: f64, colour: RGBColor, at: HPos) -> TextStyle<'static> {
    let pos = Pos::new(at, VPos::Center);
    TextStyle { font: font(pixels).into_font(), color: colour.to_backend_color(), pos }
}

/// How a contestant is drawn wherever it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) colour: RGBColor,
    mark: usize,
    pub(super) ours: bool,
}

impl Look {
    /// Of the contestant with that place among those of its scenario.
    pub(super) fn of(index: usize, ours: bool) -> Self {
        // Marks change at another pace than colours.
        Self { colour: COLOURS[index % COLOURS.len()], mark: index % 3, ours }
    }

    pub(super) fn line(&self) -> ShapeStyle {
        self.colour.stroke_width(if self.ours { 3 } else { 1 })
    }

    /// The contestant's mark there.
    pub(super) fn mark<'a, C: Clone + 'static>(
        &self,
        at: C,
    ) -> DynElement<'static, SVGBackend<'a>, C> {
        match self.mark {
            0 => Circle::new(at, 4, self.colour.filled()).into_dyn(),
            1 => TriangleMarker::new(at, 6, self.colour.filled()).into_dyn(),
            _ => Cross::new(at, 4, self.colour.stroke_width(2)).into_dyn(),
        }
    }
}

/// A page with a picture of that size below its title.
pub(super) fn page(
    environment: &Environment,
    title: &str,
    (width, height): (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Result<()>,
) -> Result<String> {
    let caption = wrapped(&environment.describe(), (f64::from(width) / LETTER * 0.95) as usize);
    let (above, below) = (58, LINE * caption.len() as i32 + 14);
    let mut svg = String::new();
    {
        let size = (width, height + (above + below) as u32);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        let heading = text(18.0, INK, HPos::Left);
        root.draw_text(title, &heading, (MARGIN, 20))?;
        let command = TextStyle::from(("monospace", 15.0).into_font());
        let command = command.color(&GREY).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw_text(&environment.command, &command, (MARGIN, 42))?;
        for (line, said) in caption.iter().enumerate() {
            let y = above + height as i32 + 8 + LINE / 2 + LINE * line as i32;
            root.draw_text(said, &text(11.5, GREY, HPos::Left), (MARGIN, y))?;
        }
        draw(&root.margin(above, below, MARGIN, MARGIN))?;
        root.present()?;
    }
    // What the library says though it is so anyway is a third of its pictures.
    for default in [" opacity=\"1\"", " stroke=\"none\" stroke-width=\"1\""] {
        svg = svg.replace(default, "");
    }
    Ok(svg)
}

/// Names beside their marks, in rows; returns the height that they took.
pub(super) fn legend(area: &Area<'_>, entries: &[(&str, Look)]) -> Result<i32> {
    const ROW: i32 = 20;
    let right = area.dim_in_pixel().0 as i32;
    let (mut x, mut y) = (4, ROW / 2);
    for (name, look) in entries {
        let wide = 48 + (name.chars().count() as f64 * LETTER) as i32;
        if x + wide > right && x > 4 {
            (x, y) = (4, y + ROW);
        }
        area.draw(&PathElement::new([(x, y), (x + 24, y)], look.line()))?;
        area.draw(&look.mark((x + 12, y)))?;
        area.draw_text(name, &text(12.5, INK, HPos::Left), (x + 30, y))?;
        x += wide;
    }
    Ok(y + ROW / 2 + 6)
}

/// Lines of at most so many letters, broken between words.
pub(super) fn wrapped(text: &str, letters: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= letters => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("unbreakable", 3), ["unbreakable"]);
    }
}
