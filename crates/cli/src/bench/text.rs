//! The results for a terminal.

use super::goals::{Goal, Part, Reading, Tally, Verdict};
use super::html::in_words;
use super::plot::{Table, Unit};
use super::view::View;
use std::io::{self, Write};

/// Everything but the curves.
pub(crate) fn write(out: &mut impl Write, view: &View) -> io::Result<()> {
    writeln!(out, "{}", view.headline)?;
    writeln!(out, "{} {}", in_words(Tally::of(&view.goals)), view.under)?;
    for warning in &view.warnings {
        writeln!(out, "NOTE: {warning}")?;
    }
    writeln!(out)?;
    for goal in &view.goals {
        write_goal(out, goal)?;
    }
    for figure in &view.figures {
        writeln!(out, "\n{}", figure.title)?;
        match &figure.missing {
            Some(why) => writeln!(out, "  not measured: {why}")?,
            None => {
                writeln!(out, "  {}", figure.reading)?;
                write_table(out, &figure.table)?;
            }
        }
    }
    writeln!(out, "\nWhere and how")?;
    for (what, value) in &view.facts {
        writeln!(out, "  {what:<20} {value}")?;
    }
    writeln!(out, "  {:<20} {}", "again", view.command)?;
    write_table(out, &view.placement)
}

fn write_goal(out: &mut impl Write, goal: &Goal) -> io::Result<()> {
    writeln!(out, "{:<13} {}", word(goal.verdict()), goal.what)?;
    for part in &goal.parts {
        write_part(out, part)?;
    }
    Ok(())
}

fn write_part(out: &mut impl Write, part: &Part) -> io::Result<()> {
    let goal = part.bound.show(part.unit);
    write_reading(out, &part.name, &part.reading, part.unit, &goal)?;
    if let Some(without) = &part.without_exits {
        let goal = without.bound.map(|bound| bound.show(without.unit));
        let goal = goal.unwrap_or_default();
        write_reading(
            out,
            "  exits taken out",
            &without.reading,
            without.unit,
            &goal,
        )?;
    }
    Ok(())
}

fn write_reading(
    out: &mut impl Write,
    name: &str,
    reading: &Reading,
    unit: Unit,
    goal: &str,
) -> io::Result<()> {
    match reading {
        Reading::Measured { value, from } => {
            let value = unit.show(*value);
            writeln!(out, "  {:<4}{name:<52}{value:>10}  {goal:<10} {from}", "")
        }
        Reading::NotMeasured(why) => {
            writeln!(out, "  {:<4}{name:<52}{:>10}  {goal:<10} {why}", "", "–")
        }
    }
}

/// In capitals what somebody should look at.
fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Met => "met",
        Verdict::Missed => "MISSED",
        Verdict::NotMeasured => "not measured",
    }
}

/// Words to the left, figures to the right.
fn write_table(out: &mut impl Write, table: &Table) -> io::Result<()> {
    if table.rows.is_empty() {
        return Ok(());
    }
    let width = |column: usize| {
        let cells = table.rows.iter().chain([&table.headings]);
        let widths = cells.filter_map(|row| row.get(column).map(|cell| cell.chars().count()));
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table.headings.len()).map(width).collect();
    for row in [&table.headings].into_iter().chain(&table.rows) {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, width))| {
            if column == 0 || table.is_words(column) {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        writeln!(out, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}
