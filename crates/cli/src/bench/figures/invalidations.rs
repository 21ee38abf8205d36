//! The figure of invalidations against the number of cached entries.

use super::content::{Content, ns};
use crate::bench::plot::{Axis, Hue, Lines, Panel, Plot, Point, Scale, Series, Table, Unit};
use vcmdq_measure::tlb::{
    BY_ADDRESS_ABSENT, BY_ADDRESS_PRESENT, BY_ASID, BY_RANGE, CACHE, HASH, TlbCosts,
};

/// A panel for each kind of invalidation.
pub(super) fn content(costs: &TlbCosts) -> Content {
    let kinds = [BY_ADDRESS_PRESENT, BY_ADDRESS_ABSENT, BY_RANGE, BY_ASID];
    let mut table = Table::new(&["what is invalidated", "table", "entries", "each"]);
    for point in &costs.points {
        table.push(vec![
            point.what.clone(),
            point.table.clone(),
            Unit::Count.show(point.entries as f64),
            ns(point.ns.ns),
        ]);
    }
    Content {
        reading: reading(costs),
        note: "The hash table is scanned for whatever is not one exact page, as in emulators of today; \
               neither side pays for locks that nobody else wants."
            .to_owned(),
        terms: Vec::new(),
        panels: kinds.into_iter().map(|kind| panel(costs, kind)).collect(),
        table,
    }
}

fn panel(costs: &TlbCosts, what: &str) -> Panel {
    let tables = [(CACHE, Hue::Blue), (HASH, Hue::Red)];
    let series = tables.map(|(table, hue)| {
        let points = costs.curve(what, table).into_iter();
        let points = points.map(|point| Point {
            x: point.entries as f64,
            y: point.ns.ns,
            title: Some(format!(
                "{} entries, {}",
                Unit::Count.show(point.entries as f64),
                ns(point.ns.ns)
            )),
        });
        Series {
            name: table.to_owned(),
            ink: hue.solid(),
            points: points.collect(),
            dots: true,
        }
    });
    Panel {
        heading: format!("Invalidating {what}"),
        plot: Plot::Lines(Lines {
            x: Axis::new("cached entries", Scale::Doubling, Unit::Count),
            y: Axis::new("each, logarithmic", Scale::Log, Unit::Nanoseconds),
            series: series.into(),
        }),
    }
}

/// An ASID in the largest table of both kinds.
fn reading(costs: &TlbCosts) -> String {
    let last = |table| costs.curve(BY_ASID, table).last().copied();
    match last(CACHE).zip(last(HASH)) {
        Some((cache, hash)) => format!(
            "Invalidating an ASID among {} entries costs {}; a table that must be scanned takes {}.",
            Unit::Count.show(cache.entries as f64),
            ns(cache.ns.ns),
            ns(hash.ns.ns)
        ),
        None => String::new(),
    }
}
