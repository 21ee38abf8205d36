//! The figure of full rings drained by one thread.

use super::content::{Content, ns};
use super::inks::of_contender;
use crate::bench::plot::{Axis, Dot, Dots, Panel, Plot, Row, Scale, Table, Unit};
use vcmdq_measure::drains::{self, Drain, Drains};

/// Streams without a cost of the backend, and with one.
pub(super) fn content(drains: &Drains) -> Content {
    let dear = format!(
        "A backend that takes {} for a call and {} for a command",
        ns(drains.injected.per_call_ns as f64),
        ns(drains.injected.per_command_ns as f64)
    );
    Content {
        reading: reading(drains),
        note: format!(
            "One thread drains a full ring; medians of interleaved rounds.{}",
            honest(drains)
        ),
        terms: Vec::new(),
        panels: vec![
            panel(drains, false, "Software backend, or none".to_owned()),
            panel(drains, true, dear),
        ],
        table: table(drains),
    }
}

fn panel(drains: &Drains, injected: bool, heading: String) -> Panel {
    let streams = drains.streams.iter();
    let rows = streams.filter(|drain| drain.injected == injected).map(row);
    Panel {
        heading,
        plot: Plot::Dots(Dots {
            x: Axis::new("per command, logarithmic", Scale::Log, Unit::Nanoseconds),
            rows: rows.collect(),
        }),
    }
}

fn row(drain: &Drain) -> Row {
    let dots = drain.costs.iter().map(|cost| Dot {
        name: cost.name.clone(),
        ink: of_contender(&cost.name),
        value: cost.ns,
        written: [drains::ENGINE, drains::BASELINE].contains(&cost.name.as_str()),
    });
    Row {
        name: drain.name.clone(),
        dots: dots.collect(),
        goal: drain.goal_ns,
    }
}

fn reading(drains: &Drains) -> String {
    let with_goals = drains.streams.iter();
    let faster = with_goals.filter(|drain| drain.goal_ns.is_some());
    let faster = faster.filter_map(|drain| {
        let ratio = drain.cost(drains::BASELINE)? / drain.cost(drains::ENGINE)?;
        Some(format!("{} ({})", Unit::Times.show(ratio), drain.name))
    });
    let faster: Vec<String> = faster.collect();
    format!(
        "The engine is {} as fast as synchronous consumption under a mutex.",
        faster.join(", ")
    )
}

/// Whether the baseline is as good as others' engines of its kind.
fn honest(drains: &Drains) -> String {
    let against = drains.streams.iter().filter_map(|drain| {
        let ratio = drain.cost(drains::BASELINE_BARE)? / drain.published_ns?;
        Some(format!("{} ({})", Unit::Times.show(ratio), drain.name))
    });
    let against: Vec<String> = against.collect();
    if against.is_empty() {
        return String::new();
    }
    format!(
        " The baseline without a backend takes {} of what OpenVMM's consumer took on another machine, as \
         published; up to 1.3× it counts as an honest one.",
        against.join(", ")
    )
}

fn table(drains: &Drains) -> Table {
    let mut table = Table::new(&[
        "stream",
        "backend",
        "who",
        "per command",
        "half of the rounds",
    ]);
    for drain in &drains.streams {
        let backend = if drain.injected {
            "with a cost"
        } else {
            "as it is"
        };
        for cost in &drain.costs {
            table.push(vec![
                drain.name.clone(),
                backend.to_owned(),
                cost.name.clone(),
                ns(cost.ns),
                format!("{} to {}", ns(cost.p25), ns(cost.p75)),
            ]);
        }
        if let Some(published) = drain.published_ns {
            table.push(vec![
                drain.name.clone(),
                "none".to_owned(),
                "OpenVMM, published".to_owned(),
                ns(published),
                String::new(),
            ]);
        }
    }
    table
}
