//! Figures of what was measured inside one process.

use super::content::{Content, Names, curve, filled, ns, quantile_table};
use super::inks::of_contender;
use crate::bench::plot::{Axis, Figure, Ink, Lines, Panel, Plot, Scale, Table, Unit};
use vcmdq_measure::InProcess;
use vcmdq_measure::data::{Latencies, Section};
use vcmdq_measure::trips::{self, RoundTrips};

const TRIPS: Names = (
    "round-trips",
    "Round trips",
    "A round trip inside one process",
);
const DRAINS: Names = (
    "full-rings",
    "Full rings",
    "What a command costs in a full ring",
);
const THROUGHPUT: Names = (
    "throughput",
    "Throughput",
    "Throughput against the number of rings",
);
const GROUP: Names = (
    "group-commit",
    "Group commit",
    "Group commit: SYNCs that wait at the same time",
);
const FAIRNESS: Names = (
    "fairness",
    "Fairness",
    "An idle guest's SYNC beside a flooding guest",
);
const BLOCKED: Names = (
    "blocked",
    "Blocked backends",
    "A SYNC while other guests' backends block",
);
const TLB: Names = (
    "invalidations",
    "Cache size",
    "An invalidation against the size of the cache",
);
const IDLE: Names = ("idle", "Idle workers", "What an idle worker costs");

/// All of them, in the order of the page.
pub(super) fn figures(rows: &Section<InProcess>) -> Vec<Figure> {
    use super::{full_rings, group, idle, invalidations, many};
    vec![
        part(TRIPS, rows, |rows| &rows.round_trips, round_trips),
        part(DRAINS, rows, |rows| &rows.drains, full_rings::content),
        part(THROUGHPUT, rows, |rows| &rows.throughput, many::throughput),
        part(GROUP, rows, |rows| &rows.group_commit, group::content),
        part(TLB, rows, |rows| &rows.tlb, invalidations::content),
        part(FAIRNESS, rows, |rows| &rows.fairness, many::fairness),
        part(BLOCKED, rows, |rows| &rows.blocked, many::blocked),
        part(IDLE, rows, |rows| &rows.idle, idle::content),
    ]
}

/// The figure of a part, or an empty one that says why.
fn part<T>(
    names: Names,
    rows: &Section<InProcess>,
    part: impl Fn(&InProcess) -> &Section<T>,
    show: impl Fn(&T) -> Content,
) -> Figure {
    filled(names, rows, |rows| match part(rows) {
        Section::Skipped(why) => Err(why.clone()),
        Section::Measured(measured) => Ok(show(measured)),
    })
}

fn round_trips(trips: &RoundTrips) -> Content {
    let all = trips.contenders.iter();
    let named = all.map(|one| (one.name.clone(), of_contender(&one.name), one));
    let named: Vec<_> = named.collect();
    let median = |name| trips.find(name).map(|latencies| latencies.p50 as f64);
    let reading = match median(trips::SHARED_PAGE).zip(median(trips::RTRB)) {
        Some((page, rtrb)) => format!(
            "A TLBI and its SYNC through a shared page take {}, {} of what two bare rtrb queues take ({}).",
            ns(page),
            Unit::Times.show(page / rtrb),
            ns(rtrb)
        ),
        None => String::new(),
    };
    Content {
        reading,
        note: format!(
            "Without a guest; the cost of looking at the clock, {}, is taken off. A 16-byte record that \
             the other core has just written takes {} to read: no fetch can be faster.",
            ns(trips.clock_cost_ns as f64),
            ns(trips.record_read.ns)
        ),
        terms: Vec::new(),
        panels: vec![distributions("", &named)],
        table: latency_table(&named),
    }
}

/// Cumulative distributions.
pub(super) fn distributions(heading: &str, all: &[(String, Ink, &Latencies)]) -> Panel {
    let series = all.iter().map(|(name, ink, latencies)| {
        let cdf = latencies.cdf.iter();
        let cdf = cdf.map(|point| (point.ns as f64, point.share));
        let quantiles = [latencies.p50, latencies.p99, latencies.p999].map(|time| time as f64);
        curve(name, *ink, latencies.count, cdf, quantiles)
    });
    Panel {
        heading: heading.to_owned(),
        plot: Plot::Lines(Lines {
            x: Axis::new("time, logarithmic", Scale::Log, Unit::Nanoseconds),
            y: Axis::new("share that took at most so long", Scale::Nines, Unit::Share),
            series: series.collect(),
        }),
    }
}

/// Their numbers.
pub(super) fn latency_table(all: &[(String, Ink, &Latencies)]) -> Table {
    let mut table = quantile_table("who");
    for (name, _, latencies) in all {
        let times = [latencies.p50, latencies.p99, latencies.p999, latencies.max];
        let mut row = vec![name.clone(), latencies.count.to_string()];
        row.extend(times.map(|time| ns(time as f64)));
        table.push(row);
    }
    table
}
