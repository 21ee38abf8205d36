//! Figures of many rings and many guests at one engine.

use super::content::{Content, ns};
use super::from_rows::{distributions, latency_table};
use crate::bench::plot::{Axis, Hue, Lines, Panel, Plot, Point, Scale, Series, Table, Unit};
use vcmdq_measure::blocked::Blocked;
use vcmdq_measure::fairness::Fairness;
use vcmdq_measure::throughput::{self, Throughput};

/// Commands per second against rings: a panel for each number of workers, a line for each stream
/// with all rings busy and with few.
pub(super) fn throughput(throughput: &Throughput) -> Content {
    let mut workers: Vec<usize> = throughput
        .points
        .iter()
        .map(|point| point.workers)
        .collect();
    workers.sort_unstable();
    workers.dedup();
    let flat = &throughput.flat;
    Content {
        reading: format!(
            "16 busy rings cost {} per command; among 4096 rings, the others idle, {} ({}).",
            ns(flat.rings_16.ns),
            ns(flat.rings_4096.ns),
            Unit::Times.show(flat.ratio)
        ),
        note: "One producer thread writes into all busy rings, so its own time bounds what can be seen. \
               Dashed: only 16 rings are busy."
            .to_owned(),
        terms: Vec::new(),
        panels: workers
            .into_iter()
            .map(|workers| of_workers(throughput, workers))
            .collect(),
        table: throughput_table(throughput),
    }
}

fn of_workers(throughput: &Throughput, workers: usize) -> Panel {
    let mut series: Vec<Series> = Vec::new();
    for (stream, hue) in [
        (throughput::NEIGHBOURS, Hue::Blue),
        (throughput::RECORDED, Hue::Green),
        (throughput::RANDOM, Hue::Orange),
    ] {
        for (all, ink, name) in [
            (true, hue.solid(), stream.to_owned()),
            (false, hue.dashed(), format!("{stream}, 16 busy")),
        ] {
            series.push(Series {
                name,
                ink,
                points: points(throughput, workers, stream, all),
                dots: true,
            });
        }
    }
    let plural = if workers == 1 { "" } else { "s" };
    Panel {
        heading: format!("{workers} worker{plural}"),
        plot: Plot::Lines(Lines {
            x: Axis::new("rings", Scale::Doubling, Unit::Count),
            y: Axis::new(
                "commands per second, logarithmic",
                Scale::Log,
                Unit::PerSecond,
            ),
            series: series
                .into_iter()
                .filter(|line| line.points.len() > usize::from(line.ink.dashed))
                .collect(),
        }),
    }
}

/// One line: all rings busy, or 16 of however many.
fn points(throughput: &Throughput, workers: usize, stream: &str, all: bool) -> Vec<Point> {
    let points = throughput.points.iter();
    let mine = points.filter(|point| {
        let busy = if all {
            point.busy == point.rings
        } else {
            point.busy == 16
        };
        point.workers == workers && point.stream == stream && busy
    });
    let points = mine.map(|point| Point {
        x: point.rings as f64,
        y: point.commands_per_second,
        title: Some(format!(
            "{} rings, {} busy: {}, {} per command",
            point.rings,
            point.busy,
            Unit::PerSecond.show(point.commands_per_second),
            ns(point.ns_per_command.ns)
        )),
    });
    let mut points: Vec<Point> = points.collect();
    points.sort_by(|a, b| a.x.total_cmp(&b.x));
    points
}

fn throughput_table(throughput: &Throughput) -> Table {
    let mut table = Table::new(&[
        "stream",
        "workers",
        "rings",
        "busy",
        "commands",
        "per command",
    ]);
    for point in &throughput.points {
        table.push(vec![
            point.stream.clone(),
            point.workers.to_string(),
            point.rings.to_string(),
            point.busy.to_string(),
            Unit::PerSecond.show(point.commands_per_second),
            ns(point.ns_per_command.ns),
        ]);
    }
    table
}

/// Alone and beside a flood, a panel for each doorbell.
pub(super) fn fairness(fairness: &Fairness) -> Content {
    let mut panels = Vec::new();
    let mut rows = Vec::new();
    for case in &fairness.cases {
        let both = [
            ("alone".to_owned(), Hue::Blue.solid(), &case.alone),
            (
                "beside a flood".to_owned(),
                Hue::Red.solid(),
                &case.beside_flood,
            ),
        ];
        panels.push(distributions(&case.name, &both));
        rows.extend(both.map(|(name, ink, times)| (format!("{}, {name}", case.name), ink, times)));
    }
    let ratios = fairness.cases.iter().map(|case| {
        format!(
            "{} by {} (the median {})",
            Unit::Times.show(case.ratio_p999),
            case.name,
            Unit::Times.show(case.ratio_p50)
        )
    });
    let floods = fairness.cases.iter().map(|case| {
        format!(
            "{} by {}",
            Unit::PerSecond.show(case.flood_commands_per_second),
            case.name
        )
    });
    Content {
        reading: format!(
            "Beside a guest that floods the same worker, the p99.9 of an idle guest's SYNC is {} of what it is alone.",
            ratios.collect::<Vec<_>>().join(" and ")
        ),
        note: format!(
            "The flooding guest gets done, in commands: {}.",
            floods.collect::<Vec<_>>().join(", ")
        ),
        terms: Vec::new(),
        panels,
        table: latency_table(&rows),
    }
}

/// While nobody blocks and while as many instances as workers do, a panel for each number of workers.
pub(super) fn blocked(blocked: &Blocked) -> Content {
    let mut panels = Vec::new();
    let mut rows = Vec::new();
    for case in &blocked.cases {
        let both = [
            (
                "nobody blocked".to_owned(),
                Hue::Blue.solid(),
                &case.without,
            ),
            ("backends blocked".to_owned(), Hue::Red.solid(), &case.with),
        ];
        let plural = if case.workers == 1 { "" } else { "s" };
        let heading = format!("{} worker{plural}, as many blocked", case.workers);
        rows.extend(both.clone().map(|(name, ink, times)| {
            (
                format!("{} worker{plural}, {name}", case.workers),
                ink,
                times,
            )
        }));
        panels.push(distributions(&heading, &both));
    }
    let ratios = blocked.cases.iter().map(|case| {
        let plural = if case.workers == 1 { "" } else { "s" };
        format!(
            "{} with {} worker{plural}",
            Unit::Times.show(case.ratio_p99),
            case.workers
        )
    });
    Content {
        reading: format!(
            "While as many instances as workers are blocked, the p99 of all others is {} of what it is else.",
            ratios.collect::<Vec<_>>().join(" and ")
        ),
        note: format!("A call blocks for {} ms.", blocked.blocked_for_ms),
        terms: Vec::new(),
        panels,
        table: latency_table(&rows),
    }
}
