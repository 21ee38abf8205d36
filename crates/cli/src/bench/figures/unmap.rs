//! The figures of unmaps as a guest sees them: time against size.

use super::content::{Content, ns};
use super::from_kvm::distinct;
use super::inks::of_mode;
use crate::bench::plot::{Axis, Lines, Panel, Plot, Point, Scale, Series, Table, Unit};
use kvm_roundtrip::{Case, Cost, Mode, Report};

/// Time against size, a panel for each backend and number of vCPUs.
pub(super) fn content(report: &Report, range: bool) -> Content {
    let mut panels = Vec::new();
    let mut table = Table::new(&[
        "how the queue is consumed",
        "vCPUs",
        "backend",
        "size",
        "mean",
        "median",
        "p99",
    ]);
    for backend in [Cost::Software, Cost::Injected] {
        for vcpus in distinct(report, |case| case.vcpus) {
            let modes = Mode::ALL.iter().filter(|mode| !mode.is_reference());
            let series = modes.map(|mode| {
                let points = sizes(report, *mode, vcpus, range, backend);
                for (case, point) in &points {
                    let row = report.row(case).map(|row| &row.latency);
                    let time = |what: fn(&kvm_roundtrip::Latency) -> f64| {
                        row.map_or(String::new(), |row| ns(what(row)))
                    };
                    table.push(vec![
                        mode.name().to_owned(),
                        vcpus.to_string(),
                        in_words(backend).to_owned(),
                        Unit::Kibibytes.show(point.x),
                        time(|row| row.passes_mean),
                        time(|row| row.passes_p50),
                        time(|row| row.passes_p99),
                    ]);
                }
                Series {
                    name: mode.name().to_owned(),
                    ink: of_mode(*mode),
                    points: points.into_iter().map(|(_, point)| point).collect(),
                    dots: true,
                }
            });
            let plural = if vcpus == 1 { "" } else { "s" };
            panels.push(Panel {
                heading: format!("{vcpus} vCPU{plural}, {}", title(backend)),
                plot: Plot::Lines(Lines {
                    x: Axis::new("size of the unmap", Scale::Doubling, Unit::Kibibytes),
                    y: Axis::new("mean time, logarithmic", Scale::Log, Unit::Nanoseconds),
                    series: series.collect(),
                }),
            });
        }
    }
    Content {
        reading: unmap_reading(report, range),
        note: "Means, each the median of several passes; every vCPU has a ring of its own, and with the \
               exit that consumes one mutex is for all of them. Where vCPUs and worker outnumber the CPUs, \
               some time is waiting for a CPU."
            .to_owned(),
        terms: Vec::new(),
        panels,
        table,
    }
}

/// A mode's means over the sizes.
fn sizes(
    report: &Report,
    mode: Mode,
    vcpus: u32,
    range: bool,
    backend: Cost,
) -> Vec<(Case, Point)> {
    let mut points = Vec::new();
    for pages in distinct(report, |case| case.pages) {
        let case = Case {
            vcpus,
            pages,
            range,
            backend,
            ..Case::of(mode)
        };
        if let Some(row) = report.row(&case) {
            let size = f64::from(4 * pages);
            let mean = row.latency.passes_mean;
            points.push((
                case,
                Point {
                    x: size,
                    y: mean,
                    title: Some(format!("{} in {}", Unit::Kibibytes.show(size), ns(mean))),
                },
            ));
        }
    }
    points
}

/// The largest unmap of the most vCPUs at a price.
fn unmap_reading(report: &Report, range: bool) -> String {
    let last = |field: fn(&Case) -> u32| distinct(report, field).last().copied();
    let (Some(vcpus), Some(pages)) = (last(|case| case.vcpus), last(|case| case.pages)) else {
        return String::new();
    };
    let mean = |mode| {
        let case = Case {
            vcpus,
            pages,
            range,
            backend: Cost::Injected,
            ..Case::of(mode)
        };
        Some(report.row(&case)?.latency.passes_mean)
    };
    let own = Mode::ALL.into_iter().filter(|mode| mode.is_engine());
    let own = own.filter_map(|mode| Some((mode, mean(mode)?)));
    let best = own.min_by(|a, b| a.1.total_cmp(&b.1));
    match best.zip(mean(Mode::InExit)) {
        Some(((mode, best), exit)) => format!(
            "{} from {vcpus} vCPUs on a backend with a cost: {} by '{}', {} in the exit.",
            Unit::Kibibytes.show(f64::from(4 * pages)),
            ns(best),
            mode.name(),
            ns(exit)
        ),
        None => "Each line is a way in which the queue is consumed.".to_owned(),
    }
}

fn title(backend: Cost) -> &'static str {
    match backend {
        Cost::Nothing => "no backend",
        Cost::Software => "software backend",
        Cost::Injected => "5 µs per call and 2.4 µs per command on top",
    }
}

fn in_words(backend: Cost) -> &'static str {
    match backend {
        Cost::Nothing => "none",
        Cost::Software => "software",
        Cost::Injected => "with a cost",
    }
}
