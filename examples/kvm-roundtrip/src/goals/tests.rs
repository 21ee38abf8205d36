//! Goals of reports that nobody has measured.

use super::*;
use crate::testing::{all_rows, report, row};

fn of<'a>(goals: &'a [Goal], name: &str) -> &'a Goal {
    let found = goals.iter().find(|goal| goal.name.starts_with(name));
    found.unwrap_or_else(|| panic!("no goal {name}"))
}

#[test]
fn ratios_are_of_the_rows_that_they_name() {
    let goals = goals(&report(all_rows()));
    let close = |name: &str, expected: f64| {
        let measured = of(&goals, name).measured.unwrap();
        assert!(
            (measured / expected - 1.0).abs() < 0.01,
            "{name}: {measured}"
        );
    };
    close("trap: time away", 30_500.0 / 30_000.0);
    close("coalesced: round trip", 3_000.0 / 2_500.0);
    close("shared page: median, against rtrb", 150.0 / 125.0);
    close("shared page: median, against bare", 150.0 / 120.0);
    close("shared page: 64 pages", 981_000.0 / 10_150.0);
    close("trap, inline: 64 pages", 981_000.0 / 40_900.0);
    close("Linux's waiter: shared page", 0.995);
    assert_eq!(of(&goals, "trap: time away").met(), Some(true));
    assert_eq!(of(&goals, "coalesced: round trip").met(), Some(true));
}

#[test]
fn exits_are_taken_out_of_both_sides() {
    let goals = goals(&report(all_rows()));
    let without = |name: &str| {
        let goal = of(&goals, name).without_exits.clone().unwrap();
        goal.measured.unwrap()
    };
    assert!((without("trap, inline: 64 pages") / (951_000.0 / 10_900.0) - 1.0).abs() < 0.01);
    assert!((without("shared page: 64 pages") / (951_000.0 / 10_150.0) - 1.0).abs() < 0.01);
    assert!((without("trap: time away") - 0.5).abs() < 0.05);
}

#[test]
fn what_is_worse_than_its_bound_is_missed() {
    let mut rows = all_rows();
    let slow = Case::of(Mode::Coalesced);
    rows.retain(|row| row.case != slow);
    rows.push(row(slow, 9_000, 0.0));
    let goals = goals(&report(rows));
    assert_eq!(of(&goals, "coalesced: round trip").met(), Some(false));
}

#[test]
fn what_was_not_measured_is_neither_met_nor_missed() {
    let goals = goals(&report(Vec::new()));
    assert!(!goals.is_empty());
    for goal in goals {
        assert_eq!((goal.measured, goal.met()), (None, None), "{}", goal.name);
    }
}
