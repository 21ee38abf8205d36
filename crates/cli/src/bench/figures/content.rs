//! What the figures of all sources share.

use crate::bench::plot::{Figure, Ink, Panel, Point, Series, Table, Unit};
use std::cmp::Ordering;
use vcmdq_measure::data::Section;

/// Names of a figure: on the page, in the list of figures, above it.
pub(super) type Names = (&'static str, &'static str, &'static str);

/// What a figure adds to its names.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) reading: String,
    pub(super) note: String,
    pub(super) terms: Vec<(&'static str, &'static str)>,
    pub(super) panels: Vec<Panel>,
    pub(super) table: Table,
}

/// The figure of what was measured, or an empty one that says why.
pub(super) fn filled<T>(
    (id, short, title): Names,
    source: &Section<T>,
    show: impl FnOnce(&T) -> Result<Content, String>,
) -> Figure {
    let content = match source {
        Section::Skipped(why) => Err(why.clone()),
        Section::Measured(measured) => show(measured),
    };
    let missing = content.as_ref().err().cloned();
    let content = content.unwrap_or_default();
    Figure {
        id,
        short,
        title,
        reading: content.reading,
        note: content.note,
        terms: content.terms,
        panels: content.panels,
        table: content.table,
        missing,
    }
}

pub(super) fn ns(value: f64) -> String {
    Unit::Nanoseconds.show(value)
}

/// What is rarer is in the table, as the longest.
const RAREST: f64 = 0.9999;

/// A cumulative distribution of `count` times, with something to point at for its median, 99th and
/// 99.9th percentile.
pub(super) fn curve(
    name: &str,
    ink: Ink,
    count: u64,
    cdf: impl Iterator<Item = (f64, f64)>,
    quantiles: [f64; 3],
) -> Series {
    // The longest of a thousand stands at 99.9 %: what is rarer was not seen.
    let most = (1.0 - 1.0 / count.max(2) as f64).min(RAREST);
    let mut whole = false;
    let seen = cdf.take_while(|(_, share)| !std::mem::replace(&mut whole, *share >= most));
    let curve = seen.map(|(ns, share)| Point {
        x: ns,
        y: share.min(most),
        title: None,
    });
    let named = [(0.5, "half"), (0.99, "99 %"), (0.999, "99.9 %")];
    let named = named.into_iter().zip(quantiles);
    let spots = named.filter(|((share, _), _)| *share <= most);
    let spots = spots.map(|((share, words), time)| Point {
        x: time,
        y: share,
        title: Some(format!("{words} took at most {}", ns(time))),
    });
    let mut points: Vec<Point> = curve.chain(spots).collect();
    let order = |a: &Point, b: &Point| (a.y, a.x).partial_cmp(&(b.y, b.x));
    points.sort_by(|a, b| order(a, b).unwrap_or(Ordering::Equal));
    Series {
        name: name.to_owned(),
        ink,
        points,
        dots: false,
    }
}

/// A table of distributions; rows have who, how many, and four times.
pub(super) fn quantile_table(who: &str) -> Table {
    Table::new(&[who, "rounds", "median", "p99", "p99.9", "longest"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plot::Hue;

    #[test]
    fn a_curve_rises_and_claims_no_more_than_was_seen() {
        let cdf = [(1.0, 0.4), (2.0, 0.9), (9.0, 0.99), (50.0, 1.0)];
        let series = curve("", Hue::Blue.solid(), 100, cdf.into_iter(), [1.5, 8.0, 9.0]);
        let shares: Vec<_> = series.points.iter().map(|point| point.y).collect();
        assert_eq!(shares, [0.4, 0.5, 0.9, 0.99, 0.99]);
        let titles = series.points.iter().filter(|point| point.title.is_some());
        assert_eq!(titles.count(), 2);
    }
}
