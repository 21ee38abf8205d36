//! The README's table of goals.

use super::goals::{Goal, Reading, Tally, Verdict};
use super::html::in_words;
use super::plot::Unit;
use super::view::View;
use std::io::{self, Write};

/// The table, with a line that says where and when.
pub(crate) fn write(out: &mut impl Write, view: &View) -> io::Result<()> {
    writeln!(
        out,
        "| goal | figure | measured | demanded | exits taken out |"
    )?;
    writeln!(out, "|---|---|---|---|---|")?;
    for goal in &view.goals {
        write_goal(out, goal)?;
    }
    let tally = in_words(Tally::of(&view.goals));
    writeln!(out, "\n{tally} {}; {}.", view.machine_in_short, view.date)?;
    for warning in &view.warnings {
        writeln!(out, "**{warning}**")?;
    }
    Ok(())
}

fn write_goal(out: &mut impl Write, goal: &Goal) -> io::Result<()> {
    let mut what = goal.what;
    for part in &goal.parts {
        let (measured, demanded) = (
            figure(&part.reading, part.unit, part.verdict()),
            part.bound.show(part.unit),
        );
        let without = part
            .without_exits
            .as_ref()
            .map_or(String::new(), |without| {
                let bound = without.bound.map_or(String::new(), |bound| {
                    format!(" ({})", bound.show(without.unit))
                });
                match without.reading.value() {
                    Some(value) => without.unit.show(value) + &bound,
                    None => "–".to_owned(),
                }
            });
        writeln!(
            out,
            "| {what} | {} | {measured} | {demanded} | {without} |",
            part.name
        )?;
        what = "";
    }
    Ok(())
}

/// In bold what is missed.
fn figure(reading: &Reading, unit: Unit, verdict: Verdict) -> String {
    match (reading, verdict) {
        (Reading::Measured { value, .. }, Verdict::Missed) => format!("**{}**", unit.show(*value)),
        (Reading::Measured { value, .. }, _) => unit.show(*value),
        (Reading::NotMeasured(_), _) => "not measured".to_owned(),
    }
}
