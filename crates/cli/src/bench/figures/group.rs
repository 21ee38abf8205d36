//! The figure of group commit: calls of the backend, and what each producer waits.

use super::content::{Content, ns};
use super::from_rows::distributions;
use crate::bench::plot::{Axis, Dot, Dots, Hue, Ink, Panel, Plot, Row, Scale, Table, Unit, digits};
use vcmdq_measure::data::Latencies;
use vcmdq_measure::group_commit::{
    BASELINE, GroupCase, GroupCommit, ONE_RING, ONE_RING_BLOCKING, RINGS_BLOCKING, RINGS_LONG,
};

/// Calls to the left, times to the right.
pub(super) fn content(group: &GroupCommit) -> Content {
    let cases = group.cases.iter();
    let named = cases.map(|case| (short(case), ink(case), &case.latencies));
    let named: Vec<(String, Ink, &Latencies)> = named.collect();
    let calls = |name| Some(group.find(name)?.calls_per_sync);
    let reading = match calls(ONE_RING).zip(calls(BASELINE)) {
        Some((own, baseline)) => format!(
            "Eight producers on one ring share calls: {} for a SYNC, where synchronous consumption makes {}.",
            digits(own),
            digits(baseline)
        ),
        None => String::new(),
    };
    Content {
        reading,
        note: format!(
            "Eight producers each; a call to the backend takes {}. A producer waits from its last SYNC to its next one.",
            ns(group.per_call_ns as f64)
        ),
        terms: Vec::new(),
        panels: vec![
            Panel {
                heading: "Backend calls for a SYNC".to_owned(),
                plot: Plot::Dots(Dots {
                    x: Axis::new("calls per SYNC", Scale::Linear, Unit::Count),
                    rows: group.cases.iter().map(row).collect(),
                }),
            },
            distributions("What a producer waits", &named),
        ],
        table: table(group),
    }
}

/// Its name without what all have in common.
fn short(case: &GroupCase) -> String {
    let name = case.name.as_str();
    name.strip_prefix("8 producers, ")
        .unwrap_or(name)
        .to_owned()
}

fn ink(case: &GroupCase) -> Ink {
    match case.name.as_str() {
        BASELINE => Hue::Red.solid(),
        ONE_RING => Hue::Blue.solid(),
        ONE_RING_BLOCKING => Hue::Blue.dashed(),
        RINGS_LONG => Hue::Purple.solid(),
        RINGS_BLOCKING => Hue::Green.dashed(),
        _ => Hue::Green.solid(),
    }
}

fn row(case: &GroupCase) -> Row {
    Row {
        name: short(case),
        dots: vec![Dot {
            name: String::new(),
            ink: ink(case),
            value: case.calls_per_sync,
            written: true,
        }],
        goal: (case.name == ONE_RING).then_some(0.3),
    }
}

fn table(group: &GroupCommit) -> Table {
    let mut table = Table::new(&[
        "who",
        "SYNCs",
        "calls",
        "requests",
        "calls per SYNC",
        "median",
        "p99",
    ]);
    for case in &group.cases {
        table.push(vec![
            case.name.clone(),
            case.syncs.to_string(),
            case.calls.to_string(),
            case.requests.to_string(),
            digits(case.calls_per_sync),
            ns(case.latencies.p50 as f64),
            ns(case.latencies.p99 as f64),
        ]);
    }
    table
}
