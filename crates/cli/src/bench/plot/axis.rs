//! Axes: where a value lies, which values get a mark, and how it is written.

use super::unit::Unit;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use std::ops::Range;

/// One direction of a plot.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(crate) title: &'static str,
    pub(crate) scale: Scale,
    pub(crate) unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From zero.
    Linear,
    /// A decade is as wide as another; values must be above zero.
    Log,
    /// The same, with marks at the values themselves, which are few and double from one to the next.
    Doubling,
    /// For shares: 90 %, 99 % and 99.9 % are equally far apart, so that a tail can be seen.
    Nines,
}

/// The part of an axis that is drawn, in places (see [`Axis::place`]).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Extent {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) marks: Vec<f64>,
}

/// Shares above it would lie beyond every axis.
const MOST_NINES: f64 = 0.999_9;

impl Axis {
    pub(crate) fn new(title: &'static str, scale: Scale, unit: Unit) -> Self {
        Self { title, scale, unit }
    }

    /// Where `value` lies, on an axis that is linear; `None` if it has no place.
    pub(crate) fn place(&self, value: f64) -> Option<f64> {
        let place = match self.scale {
            Scale::Linear => value,
            Scale::Log | Scale::Doubling => value.log10(),
            Scale::Nines => -(1.0 - value.clamp(0.0, MOST_NINES)).log10(),
        };
        place.is_finite().then_some(place)
    }

    /// How the value at `place` is written.
    pub(crate) fn word(&self, place: f64) -> String {
        self.unit.show(match self.scale {
            Scale::Linear => place,
            // Rounded, else 10^3 is not quite a thousand.
            Scale::Log | Scale::Doubling => significant(10f64.powf(place)),
            Scale::Nines => 1.0 - 10f64.powf(-place),
        })
    }

    /// What must be drawn to show `values`. Without any: something that can be drawn.
    pub(crate) fn extent(&self, values: impl Iterator<Item = f64>) -> Extent {
        let mut places: Vec<f64> = values.filter_map(|value| self.place(value)).collect();
        places.sort_by(f64::total_cmp);
        let (Some(&first), Some(&last)) = (places.first(), places.last()) else {
            return Extent {
                low: 0.0,
                high: 1.0,
                marks: Vec::new(),
            };
        };
        match self.scale {
            Scale::Linear => linear(last),
            Scale::Log => decades(first, last),
            Scale::Doubling => doubling(&places, first, last),
            Scale::Nines => nines(last),
        }
    }
}

/// A linear axis for plotters, with our marks and none of its own.
impl Ranged for Extent {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let part = (value - self.low) / (self.high - self.low);
        limit.0 + (f64::from(limit.1 - limit.0) * part).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            Vec::new()
        } else {
            self.marks.clone()
        }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

fn significant(value: f64) -> f64 {
    let unit = 10f64.powf(value.abs().log10().floor() - 5.0);
    if unit.is_normal() {
        // Dividing by a whole number is exact where multiplying by a fraction is not.
        (value / unit).round() / (1.0 / unit)
    } else {
        value
    }
}

fn linear(last: f64) -> Extent {
    let high = if last > 0.0 { last * 1.08 } else { 1.0 };
    let raw = high / 5.0;
    let decade = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|step| step * decade)
        .into_iter()
        .find(|step| *step >= raw)
        .unwrap_or(raw);
    let count = (high / step).floor() as usize;
    Extent {
        low: 0.0,
        high,
        marks: (0..=count).map(|at| at as f64 * step).collect(),
    }
}

/// Decades; with few of them also twice and five times of each.
fn decades(first: f64, last: f64) -> Extent {
    let room = ((last - first) * 0.06).max(0.08);
    let (low, high) = (first - room, last + room);
    let within: &[f64] = if high - low > 2.5 {
        &[1.0]
    } else {
        &[1.0, 2.0, 5.0]
    };
    let decades = low.floor() as i32..=high.ceil() as i32;
    let marks = decades.flat_map(|decade| {
        within
            .iter()
            .map(move |step| f64::from(decade) + step.log10())
    });
    Extent {
        low,
        high,
        marks: marks.filter(|at| (low..=high).contains(at)).collect(),
    }
}

fn doubling(places: &[f64], first: f64, last: f64) -> Extent {
    let mut marks = places.to_vec();
    marks.dedup_by(|a, b| (*a - *b).abs() < 1e-9);
    let room = ((last - first) * 0.04).max(0.05);
    Extent {
        low: first - room,
        high: last + room,
        marks,
    }
}

fn nines(last: f64) -> Extent {
    let high = last.max(1.0) * 1.02;
    let marks = [0.0, 0.5, 0.9, 0.99, 0.999, MOST_NINES].map(|share: f64| -(1.0 - share).log10());
    Extent {
        low: 0.0,
        high,
        marks: marks.into_iter().filter(|at| *at <= high).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(axis: &Axis, values: &[f64]) -> Vec<String> {
        let extent = axis.extent(values.iter().copied());
        extent.marks.iter().map(|at| axis.word(*at)).collect()
    }

    #[test]
    fn decades_are_marked_with_round_values() {
        let axis = Axis::new("", Scale::Log, Unit::Nanoseconds);
        assert_eq!(
            words(&axis, &[90.0, 1_200_000.0]),
            ["100 ns", "1 µs", "10 µs", "100 µs", "1 ms"]
        );
        assert_eq!(words(&axis, &[90.0, 400.0]), ["100 ns", "200 ns"]);
    }

    #[test]
    fn doubling_values_are_their_own_marks() {
        let axis = Axis::new("", Scale::Doubling, Unit::Kibibytes);
        assert_eq!(
            words(&axis, &[4.0, 16.0, 4.0, 256.0]),
            ["4K", "16K", "256K"]
        );
    }

    #[test]
    fn a_share_of_nines_keeps_the_tail_apart() {
        let axis = Axis::new("", Scale::Nines, Unit::Share);
        assert_eq!(
            words(&axis, &[0.1, 1.0]),
            ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"]
        );
        assert_eq!(axis.place(1.0), axis.place(MOST_NINES));
    }

    #[test]
    fn linear_axes_begin_at_zero() {
        let axis = Axis::new("", Scale::Linear, Unit::Count);
        assert_eq!(words(&axis, &[3.0, 9.0]), ["0", "2", "4", "6", "8"]);
    }

    #[test]
    fn what_cannot_be_placed_is_left_out() {
        for scale in [Scale::Linear, Scale::Log, Scale::Doubling, Scale::Nines] {
            let axis = Axis::new("", scale, Unit::Count);
            let extent = axis.extent([f64::NAN].into_iter());
            assert!(extent.low < extent.high, "{scale:?}");
        }
        let axis = Axis::new("", Scale::Log, Unit::Count);
        assert_eq!(axis.place(0.0), None);
    }
}
