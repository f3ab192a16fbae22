//! [`Scale`]: where a value lies on an axis, and what is written beside it.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// What an axis is scaled by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scale {
    kind: Kind,
    range: Range<f64>,
    ticks: Vec<f64>,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// From 0.
    Linear,
    /// In decades.
    Logarithmic,
    /// In decades of microseconds.
    Times,
    /// By name, at 0, 1, 2 and so on.
    Names(&'static [&'static str]),
}

/// So many values are written on an axis, about.
const TICKS: f64 = 6.0;

impl Scale {
    /// From 0 to a bit beyond the largest.
    pub(super) fn linear(values: impl Iterator<Item = f64>) -> Self {
        let largest = values.fold(0.0, f64::max);
        let largest = if largest > 0.0 { largest } else { 1.0 };
        let step = round_step(largest / TICKS);
        let ticks =
            (0..).map(|tick| f64::from(tick) * step).take_while(|tick| *tick <= largest * 1.05);
        Self { kind: Kind::Linear, range: 0.0..largest * 1.06, ticks: ticks.collect() }
    }

    /// Around all values, which are above 0.
    fn logarithmic(values: impl Iterator<Item = f64>) -> Self {
        let logs: Vec<f64> = values.filter(|value| *value > 0.0).map(f64::log10).collect();
        let low = logs.iter().copied().fold(f64::INFINITY, f64::min);
        let high = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low <= high { (low - 0.1, high + 0.1) } else { (0.0, 1.0) };
        let within: &[f64] = if high - low < 1.3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let decades = low.floor() as i32..=high.ceil() as i32;
        let ticks =
            decades.flat_map(|decade| within.iter().map(move |of| of * 10_f64.powi(decade)));
        let ticks = ticks.filter(|tick| (low..=high).contains(&tick.log10())).collect();
        Self { kind: Kind::Logarithmic, range: 10_f64.powf(low)..10_f64.powf(high), ticks }
    }

    /// Around all times, which are in microseconds, and at least a decade long.
    pub(super) fn times(values: impl Iterator<Item = f64> + Clone) -> Self {
        let smallest = values.clone().fold(f64::INFINITY, f64::min);
        let scale =
            Self::logarithmic(values.chain(smallest.is_finite().then_some(10.0 * smallest)));
        Self { kind: Kind::Times, ..scale }
    }

    /// Logarithmic where the values are orders of magnitude apart, linear otherwise.
    pub(super) fn fitting(values: impl Iterator<Item = f64> + Clone) -> Self {
        let smallest = values.clone().fold(f64::INFINITY, f64::min);
        let largest = values.clone().fold(0.0, f64::max);
        if smallest > 0.0 && largest / smallest > 20.0 {
            Self::logarithmic(values)
        } else {
            Self::linear(values)
        }
    }

    /// Of things that have names and no size.
    pub(super) fn names(names: &'static [&'static str]) -> Self {
        let ticks: Vec<f64> = (0..names.len()).map(|place| place as f64).collect();
        Self { kind: Kind::Names(names), range: -0.3..names.len() as f64 - 0.7, ticks }
    }

    /// The value at the far end.
    pub(super) fn end(&self) -> f64 {
        self.range.end
    }

    /// Where the value lies between the ends, as a part of the whole.
    fn place(&self, value: f64) -> f64 {
        let straight = |value: f64| match self.kind {
            Kind::Logarithmic | Kind::Times => value.log10(),
            Kind::Linear | Kind::Names(_) => value,
        };
        let [begin, end, value] = [self.range.start, self.range.end, value].map(straight);
        ((value - begin) / (end - begin)).clamp(0.0, 1.0)
    }
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (begin, end): (i32, i32)) -> i32 {
        begin + (f64::from(end - begin) * self.place(*value)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

/// What is written at a tick.
impl ValueFormatter<f64> for Scale {
    fn format(value: &f64) -> String {
        short(*value)
    }

    fn format_ext(&self, value: &f64) -> String {
        match self.kind {
            Kind::Names(names) => {
                names.get(*value as usize).copied().unwrap_or_default().to_owned()
            }
            Kind::Times => time(*value),
            Kind::Linear | Kind::Logarithmic => short(*value),
        }
    }
}

/// Microseconds in the unit that suits them.
fn time(micros: f64) -> String {
    match micros {
        _ if micros >= 1e6 => format!("{} s", short(micros / 1e6)),
        _ if micros >= 1e3 => format!("{} ms", short(micros / 1e3)),
        _ => format!("{} µs", short(micros)),
    }
}

/// 1, 2 or 5 times a power of ten, at least as large.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= step * 0.999);
    factor.unwrap_or(10.0) * power
}

/// A value on an axis or beside a dot: three digits at most, thousands with `k`, millions with `M`.
pub(super) fn short(value: f64) -> String {
    let (value, suffix) = match value.abs() {
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 10_000.0 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let scale = Scale::linear([3.0, 930_000.0].into_iter());
        assert_eq!(scale.ticks, [0.0, 200_000.0, 400_000.0, 600_000.0, 800_000.0]);
        let scale = Scale::logarithmic([3.0, 30.0].into_iter());
        assert_eq!(scale.ticks, [5.0, 10.0, 20.0]);
        let scale = Scale::logarithmic([3.0, 90_000.0].into_iter());
        assert_eq!(scale.ticks, [10.0, 100.0, 1000.0, 10_000.0, 100_000.0]);
    }

    #[test]
    fn every_value_lies_on_its_axis() {
        for values in [vec![], vec![0.0], vec![7.0], vec![0.001, 5e9]] {
            for scale in
                [Scale::fitting(values.iter().copied()), Scale::logarithmic(values.iter().copied())]
            {
                assert!(scale.range.start < scale.range.end, "{scale:?}");
                for value in values.iter().filter(|value| **value > 0.0) {
                    assert!(scale.range.contains(value), "{value} on {scale:?}");
                }
                let ends = (scale.range.start, scale.range.end);
                assert_eq!((scale.map(&ends.0, (10, 90)), scale.map(&ends.1, (10, 90))), (10, 90));
            }
        }
    }

    #[test]
    fn decades_are_equally_long() {
        let scale = Scale::logarithmic([1.0, 100.0].into_iter());
        let places = [1.0, 10.0, 100.0].map(|value| scale.map(&value, (0, 2200)));
        assert_eq!(places, [100, 1100, 2100]);
        let times = Scale::times([20.0, 30.0].into_iter());
        assert_eq!(times.ticks, [20.0, 50.0, 100.0, 200.0]);
        assert_eq!([0.5, 20.0, 1500.0, 2e6].map(time), ["0.5 µs", "20 µs", "1.5 ms", "2 s"]);
        assert_eq!(Scale::names(&["a", "b"]).format_ext(&1.0), "b");
    }

    #[test]
    fn values_are_short() {
        let shown = [0.0, 0.0123, 2.0, 43.56, 9_876.0, 12_345.0, 770_000.0, 1.5e6].map(short);
        assert_eq!(shown, ["0", "0.012", "2", "43.6", "9876", "12.3k", "770k", "1.5M"]);
    }
}
