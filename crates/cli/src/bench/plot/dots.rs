//! A row for each case, and in it a dot for each contender: how far apart they are is what is seen.

use super::canvas::{Canvas, DrawResult, Margins, UNIT, axes, letter, place, write};
use super::figure::{Dots, Row};
use super::ink::{AXIS, Ink, TEXT};
use super::labels::{Anchor, Label};
use super::tips::Tip;
use plotters::prelude::*;

/// Pixels for a row.
const ROW: i32 = 46;

const MARGINS: Margins = Margins {
    left: 0,
    right: 28,
    top: 8,
    bottom: 44,
};

/// Pixels from top to bottom.
pub(super) fn height(plot: &Dots) -> i32 {
    MARGINS.top + MARGINS.bottom + ROW * plot.rows.len().max(1) as i32
}

/// Draws it; what can be pointed at comes back.
pub(super) fn draw(plot: &Dots, canvas: &Canvas<'_>) -> DrawResult<Vec<Tip>> {
    let values = |row: &Row| {
        let dots = row.dots.iter().map(|dot| dot.value);
        dots.chain(row.goal).collect::<Vec<_>>()
    };
    let x = plot.x.extent(plot.rows.iter().flat_map(values));
    let rows = plot.rows.len().max(1) as f64;
    let middle = |at: usize| rows - at as f64 - 0.5;
    let y = super::axis::Extent {
        low: 0.0,
        high: rows,
        marks: (0..plot.rows.len()).map(middle).collect(),
    };
    let name = |at: f64| {
        let row = plot.rows.get((rows - at) as usize);
        row.map_or_else(String::new, |row| row.name.clone())
    };
    let longest = plot.rows.iter().map(|row| row.name.chars().count()).max();
    let letters = longest.unwrap_or(0) as f64 * letter().width / f64::from(UNIT);
    let margins = Margins {
        left: letters as i32 + 16,
        ..MARGINS
    };
    let mut chart = axes(canvas, (&plot.x, &x), (&y, &name), margins)?;
    let mut tips = Vec::new();
    for (row, at) in plot.rows.iter().zip((0..).map(middle)) {
        let mut placed: Vec<(f64, usize)> = row
            .dots
            .iter()
            .enumerate()
            .filter_map(|(dot, value)| Some((plot.x.place(value.value)?, dot)))
            .collect();
        placed.sort_by(|a, b| a.0.total_cmp(&b.0));
        let span = placed.iter().map(|(x, _)| (*x, at));
        chart.draw_series(LineSeries::new(span, AXIS.stroke_width(2 * UNIT as u32)))?;
        if let Some(goal) = row.goal.and_then(|goal| plot.x.place(goal)) {
            let upright = [(goal, at - 0.32), (goal, at + 0.32)];
            chart.draw_series(LineSeries::new(upright, TEXT.stroke_width(2 * UNIT as u32)))?;
            let title = format!("goal: {}", plot.x.word(goal));
            tips.push(Tip::Spot(
                place(chart.backend_coord(&(goal, at + 0.3))),
                title,
            ));
        }
        for &(x, dot) in &placed {
            chart.draw_series(circle((x, at), row.dots[dot].ink))?;
        }
        let pixels = placed
            .iter()
            .map(|&(x, dot)| (place(chart.backend_coord(&(x, at))), dot));
        let pixels: Vec<_> = pixels.collect();
        tips.extend(values_beside(plot, row, &pixels, canvas)?);
    }
    Ok(tips)
}

/// A dot; an open one for a dashed ink.
fn circle(at: (f64, f64), ink: Ink) -> Option<Circle<(f64, f64), i32>> {
    let style = if ink.dashed {
        ink.colour().stroke_width(2 * UNIT as u32)
    } else {
        ink.colour().filled()
    };
    Some(Circle::new(at, 6 * UNIT, style))
}

/// Writes each value above its dot, or below it where the one before is too near.
fn values_beside(
    plot: &Dots,
    row: &Row,
    pixels: &[((f64, f64), usize)],
    canvas: &Canvas<'_>,
) -> DrawResult<Vec<Tip>> {
    let mut tips = Vec::new();
    let mut ends = [f64::MIN; 2];
    for &((x, y), dot) in pixels {
        let dot = &row.dots[dot];
        let text = plot.x.unit.show(dot.value);
        tips.push(Tip::Spot(
            (x, y),
            format!("{}, {}: {text}", row.name, dot.name),
        ));
        if !dot.written {
            continue;
        }
        let half = text.chars().count() as f64 * letter().width / 2.0;
        // With no room on either side it shows only when somebody points at it.
        let Some(side) = ends.iter().position(|end| x - half > *end) else {
            continue;
        };
        ends[side] = x + half + f64::from(4 * UNIT);
        let shift = f64::from(if side == 0 { -15 } else { 16 } * UNIT);
        let label = Label {
            at: (x, y + shift),
            anchor: Anchor::Middle,
        };
        write(canvas, &text, &label, dot.ink.colour())?;
    }
    Ok(tips)
}
