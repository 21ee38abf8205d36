//! The figure of what an idle engine costs.

use super::content::Content;
use crate::bench::plot::{Axis, Dot, Dots, Hue, Panel, Plot, Row, Scale, Table, Unit};
use vcmdq_measure::idle::{ADAPTIVE, Idle, IdleCase, NOTHING, SHARED_PAGE, TRAP};

/// A row for each doorbell mode.
pub(super) fn content(idle: &Idle) -> Content {
    let share = |name| Some(idle.find(name)?.cpu_share);
    let show = |share| Unit::Share.show(share);
    let reading = match share(ADAPTIVE).zip(share(SHARED_PAGE)) {
        Some((adaptive, page)) => format!(
            "With nothing to do an adaptive worker uses {} of a core; one that polls a mapped page {}.",
            show(adaptive),
            show(page)
        ),
        None => String::new(),
    };
    let mut table = Table::new(&["doorbell", "share of a core", "flips"]);
    for case in &idle.cases {
        table.push(vec![
            case.name.clone(),
            show(case.cpu_share),
            case.flips.to_string(),
        ]);
    }
    Content {
        reading,
        note: format!(
            "Processor time of the whole process in {} ms without work, behind a burst of commands.",
            idle.idle_ms
        ),
        terms: Vec::new(),
        panels: vec![Panel {
            heading: String::new(),
            plot: Plot::Dots(Dots {
                x: Axis::new("share of a core", Scale::Linear, Unit::Share),
                rows: idle.cases.iter().map(row).collect(),
            }),
        }],
        table,
    }
}

fn row(case: &IdleCase) -> Row {
    Row {
        name: case.name.clone(),
        dots: vec![Dot {
            name: String::new(),
            ink: match case.name.as_str() {
                TRAP => Hue::Orange.solid(),
                SHARED_PAGE => Hue::Blue.solid(),
                ADAPTIVE => Hue::Sky.solid(),
                NOTHING => Hue::Grey.dashed(),
                _ => Hue::Grey.solid(),
            },
            value: case.cpu_share,
            written: true,
        }],
        goal: (case.name == ADAPTIVE).then_some(0.01),
    }
}
