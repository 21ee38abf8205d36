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
            each(goal, |part| measured(part, goal.parts.len() > 1)),
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
fn measured(part: &Part, named: bool) -> String {
    let value = figure(&part.reading, part.unit, part.own_verdict());
    if named {
        format!("{} {value}", part.name)
    } else {
        value
    }
}

/// Each demand once, those of a kind together: `≤ 4 ns / 8 ns; ≥ 4×`.
fn demanded(goal: &Goal) -> String {
    let mut kinds: Vec<(String, Vec<String>)> = Vec::new();
    for part in &goal.parts {
        let demand = part.bound.show(part.unit);
        let Some((sign, limit)) = demand.split_once(' ') else {
            continue;
        };
        let found = kinds.iter_mut().find(|(kind, _)| kind == sign);
        match found {
            Some((_, limits)) if limits.iter().any(|known| known == limit) => {}
            Some((_, limits)) => limits.push(limit.to_owned()),
            None => kinds.push((sign.to_owned(), vec![limit.to_owned()])),
        }
    }
    let kinds = kinds.iter();
    let kinds = kinds.map(|(sign, limits)| format!("{sign} {}", limits.join(" / ")));
    kinds.collect::<Vec<_>>().join("; ")
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

#[cfg(test)]
mod tests {
    use super::super::goals::{Bound, WithoutExits};
    use super::super::testing::{goal, view};
    use super::*;

    #[test]
    fn a_row_for_each_goal_with_what_is_missed_in_bold() -> io::Result<()> {
        let mut several = goal("", "Second", Reading::of(3.0, String::new()));
        several.parts.push(several.parts[0].clone());
        several.parts[1].name = "p99".to_owned();
        several.parts[1].bound = Bound::AtMost(4.0);
        let mut twice = goal("", "Third", Reading::NotMeasured("no KVM".to_owned()));
        twice.parts[0].without_exits = Some(WithoutExits {
            reading: Reading::of(2.0, String::new()),
            unit: Unit::Times,
            bound: Some(Bound::AtLeast(5.0)),
        });
        let first = goal("", "First", Reading::of(1.0, "1 against 1".to_owned()));
        let mut table = Vec::new();
        write(&mut table, &view(vec![first, several, twice], Vec::new()))?;
        let table = String::from_utf8_lossy(&table);
        for row in [
            "| First | 1× | ≤ 1.5× |  |",
            "| Second | median **3×**; p99 3× | ≤ 1.5× / 4× |  |",
            "| Third | not measured | ≤ 1.5× | **2×** (≥ 5×) |",
            "1 of 3 goals is met, 2 are missed.",
            "**careful**",
        ] {
            assert!(table.contains(row), "no '{row}' in\n{table}");
        }
        Ok(())
    }
}
