//! What a person finds in the table.

use super::*;
use crate::testing::{all_rows, report, row};

fn text(report: &Report) -> String {
    let mut text = String::new();
    write(&mut text, report).unwrap();
    text
}

#[test]
fn every_mode_and_every_goal_is_in_the_table() {
    let mut rows = all_rows();
    let slow = Case::of(Mode::Coalesced);
    rows.retain(|row| row.case != slow);
    rows.push(row(slow, 9_000, 0.0));
    let report = report(rows);
    let text = text(&report);
    for mode in Mode::ALL.into_iter().filter(|mode| !mode.is_reference()) {
        assert!(
            text.contains(&format!("\n  {}", mode.name())),
            "{}",
            mode.name()
        );
    }
    for goal in goals(&report) {
        assert!(text.contains(&goal.name), "{}", goal.name);
    }
    assert!(
        text.contains("MISSED") && text.contains(" met"),
        "both occur"
    );
    assert!(text.contains("adaptive: ") && text.contains(" flips, "));
}

#[test]
fn a_report_without_rows_is_a_table_without_verdicts() {
    let text = text(&report(Vec::new()));
    assert!(text.contains("not measured") && !text.contains("MISSED"));
}

#[test]
fn times_have_three_digits() {
    assert_eq!(
        [120.0, 12_340.0, 123_400.0].map(us),
        ["0.12", "12.3", "123"]
    );
}
