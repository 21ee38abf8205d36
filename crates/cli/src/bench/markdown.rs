//! The README's table: a row for each goal.

use super::goals::{Goal, Part, Reading, Tally, Verdict};
use super::html::in_words;
use super::plot::Unit;
use super::view::View;
use std::io::{self, Write};

/// The table, with a line that says where and when.
pub(crate) fn write(out: &mut impl Write, view: &View) -> io::Result<()> {
    writeln!(out, "| goal | measured | demanded | exits taken out |")?;
    writeln!(out, "|---|---|---|---|")?;
    for goal in &view.goals {
        writeln!(
            out,
            "| {} | {} | {} | {} |",
            goal.what,
            each(goal, measured),
            demanded(goal),
            each(goal, without_exits).trim_matches([';', ' '])
        )?;
    }
    let tally = in_words(Tally::of(&view.goals));
    writeln!(
        out,
        "\n{tally} Missed figures are bold. {}; {}.",
        view.machine_in_short, view.date
    )?;
    for warning in &view.warnings {
        writeln!(out, "**{warning}**")?;
    }
    Ok(())
}

fn each(goal: &Goal, show: impl Fn(&Part) -> String) -> String {
    let parts: Vec<String> = goal.parts.iter().map(show).collect();
    parts.join("; ")
}

/// With the name of the figure where a goal has several.
fn measured(part: &Part) -> String {
    let value = figure(&part.reading, part.unit, part.own_verdict());
    format!("{} {value}", part.name)
}

/// Each demand once, in the order of the figures.
fn demanded(goal: &Goal) -> String {
    let mut demands: Vec<String> = Vec::new();
    for part in &goal.parts {
        let demand = part.bound.show(part.unit);
        if !demands.contains(&demand) {
            demands.push(demand);
        }
    }
    demands.join("; ")
}

fn without_exits(part: &Part) -> String {
    let Some(without) = &part.without_exits else {
        return String::new();
    };
    let value = figure(&without.reading, without.unit, without.verdict());
    match without.bound {
        Some(bound) => format!("{value} ({})", bound.show(without.unit)),
        None => value,
    }
}

/// In bold what is missed.
fn figure(reading: &Reading, unit: Unit, verdict: Verdict) -> String {
    match (reading, verdict) {
        (Reading::Measured { value, .. }, Verdict::Missed) => format!("**{}**", unit.show(*value)),
        (Reading::Measured { value, .. }, _) => unit.show(*value),
        (Reading::NotMeasured(_), _) => "not measured".to_owned(),
    }
}
