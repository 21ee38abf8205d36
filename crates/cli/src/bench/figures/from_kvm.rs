//! Figures of what a guest under KVM sees.

use super::content::{Content, Names, curve, filled, ns, quantile_table};
use super::inks::of_mode;
use super::{kinds, unmap};
use crate::bench::plot::{Axis, Figure, Lines, Panel, Plot, Scale, Unit};
use kvm_roundtrip::{Case, Mode, Report};
use vcmdq_measure::data::Section;

const LATENCY: Names = (
    "latency",
    "Latency",
    "What a guest waits for one TLBI and SYNC",
);
const UNMAP: Names = (
    "unmap",
    "Unmap",
    "Unmapping 4K to 256K, one TLBI for each page",
);
const RANGE: Names = (
    "unmap-range",
    "Unmap by range",
    "Unmapping 16K to 256K with one range TLBI",
);
const KINDS: Names = (
    "kinds",
    "Waiters",
    "Other ways to wait: as Linux does, after a pause, not at all",
);

/// All of them, in the order of the page.
pub(super) fn figures(kvm: &Section<Report>) -> Vec<Figure> {
    vec![
        filled(LATENCY, kvm, |report| Ok(latency(report))),
        filled(UNMAP, kvm, |report| Ok(unmap::content(report, false))),
        filled(RANGE, kvm, |report| Ok(unmap::content(report, true))),
        filled(KINDS, kvm, |report| Ok(kinds::content(report))),
    ]
}

/// One TLBI and SYNC of one vCPU that spins; the references beside it.
fn latency(report: &Report) -> Content {
    let rows: Vec<_> = Mode::ALL
        .iter()
        .filter_map(|mode| report.row(&Case::of(*mode)))
        .collect();
    let series = rows.iter().map(|row| {
        let latency = &row.latency;
        let cdf = latency.cdf.iter().map(|point| (point.ns, point.share));
        let quantiles = [latency.p50, latency.p99, latency.p999];
        let mode = row.case.mode;
        curve(mode.name(), of_mode(mode), latency.count, cdf, quantiles)
    });
    let mut table = quantile_table("how the queue is consumed");
    for row in &rows {
        let latency = &row.latency;
        let mut cells = vec![row.case.mode.name().to_owned(), latency.count.to_string()];
        cells.extend([latency.p50, latency.p99, latency.p999, latency.max].map(ns));
        table.push(cells);
    }
    let median = |mode| Some(report.row(&Case::of(mode))?.latency.passes_p50);
    let reading = match (median(Mode::SharedPage), median(Mode::InExit)) {
        (Some(page), Some(exit)) => format!(
            "Through the shared page a guest waits {}; with the exit that consumes {}, {} as long.",
            ns(page),
            ns(exit),
            Unit::Times.show(exit / page)
        ),
        _ => "Each curve is a way in which the queue is consumed.".to_owned(),
    };
    Content {
        reading,
        note: "One vCPU that spins, software backend, by the guest's own clock. Grey and purple: no engine."
            .to_owned(),
        terms: rows
            .iter()
            .map(|row| (row.case.mode.name(), row.case.mode.describe()))
            .collect(),
        panels: vec![Panel {
            heading: String::new(),
            plot: Plot::Lines(Lines {
                x: Axis::new("time, logarithmic", Scale::Log, Unit::Nanoseconds),
                y: Axis::new(
                    "share of rounds that took at most so long",
                    Scale::Nines,
                    Unit::Share,
                ),
                series: series.collect(),
            }),
        }],
        table,
    }
}

/// The values of a field of the cases with commands, in order.
pub(super) fn distinct(report: &Report, field: impl Fn(&Case) -> u32) -> Vec<u32> {
    let cases = report.rows.iter().map(|row| &row.case);
    let cases = cases.filter(|case| !case.mode.is_reference());
    let mut values: Vec<_> = cases.map(field).collect();
    values.sort_unstable();
    values.dedup();
    values
}
