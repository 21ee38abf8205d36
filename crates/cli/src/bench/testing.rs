//! A view of nothing, for tests of those who show one.

use super::goals::{Bound, Goal, Part, Reading};
use super::plot::{Figure, Table, Unit};
use super::view::View;

/// A goal of one figure that may be 1.5.
pub(super) fn goal(id: &'static str, what: &'static str, reading: Reading) -> Goal {
    Goal {
        id,
        what,
        parts: vec![Part {
            name: "median".to_owned(),
            bound: Bound::AtMost(1.5),
            unit: Unit::Times,
            reading,
            without_exits: None,
        }],
        note: "a & b".to_owned(),
    }
}

/// These goals and figures.
pub(super) fn view(goals: Vec<Goal>, figures: Vec<Figure>) -> View {
    View {
        date: "2030-01-01".to_owned(),
        machine_in_short: "a machine".to_owned(),
        headline: "It is fast.".to_owned(),
        under: "No <b>markup</b> here.".to_owned(),
        warnings: vec!["careful".to_owned()],
        goals,
        figures,
        facts: vec![("kernel", "Linux".to_owned())],
        placement: Table::new(&["thread", "CPU"]),
        command: "vcmdq bench".to_owned(),
    }
}
