//! Lines over two axes, each with its name beside it.

use super::canvas::{Canvas, DrawResult, Margins, UNIT, axes, letter, place, title_above, write};
use super::figure::{Lines, Series};
use super::labels::{self, Area, Place};
use super::tips::Tip;
use plotters::prelude::*;

/// Room to the right for names behind the ends of lines.
const MARGINS: Margins = Margins {
    left: 62,
    right: 18,
    top: 26,
    bottom: 44,
};

/// Draws it; what can be pointed at comes back.
pub(super) fn draw(plot: &Lines, canvas: &Canvas<'_>) -> DrawResult<Vec<Tip>> {
    let all = || plot.series.iter().flat_map(|series| &series.points);
    let x = plot.x.extent(all().map(|point| point.x));
    let y = plot.y.extent(all().map(|point| point.y));
    let margins = Margins {
        right: if plot.series.iter().any(|series| series.dots) {
            names_width(&plot.series)
        } else {
            MARGINS.right
        },
        ..MARGINS
    };
    let name_y = |at| plot.y.word(at);
    let mut chart = axes(canvas, (&plot.x, &x), (&y, &name_y), margins)?;
    let mut named = Vec::new();
    let mut tips = Vec::new();
    for series in &plot.series {
        let points = series.points.iter().filter_map(|point| {
            let at = (plot.x.place(point.x)?, plot.y.place(point.y)?);
            Some((at, point.title.as_deref()))
        });
        let points: Vec<_> = points.collect();
        let colour = series.ink.colour();
        let line = points.iter().map(|(at, _)| *at);
        chart.draw_series(LineSeries::new(line, colour.stroke_width(2 * UNIT as u32)))?;
        if series.dots {
            let dot = |(at, _): &(_, _)| Circle::new(*at, 4 * UNIT, colour.filled());
            chart.draw_series(points.iter().map(dot))?;
        }
        let pixel = |at: &(f64, f64)| place(chart.backend_coord(at));
        let pixels: Vec<Place> = points.iter().map(|(at, _)| pixel(at)).collect();
        tips.push(Tip::Line(pixels.clone(), series.name.clone()));
        for (at, title) in &points {
            if let Some(title) = title {
                tips.push(Tip::Spot(pixel(at), format!("{}: {title}", series.name)));
            }
        }
        named.push((series.name.clone(), pixels));
    }
    name(canvas, plot, &named)?;
    title_above(canvas, plot.y.title)?;
    Ok(tips)
}

/// Writes the names.
fn name(canvas: &Canvas<'_>, plot: &Lines, lines: &[(String, Vec<Place>)]) -> DrawResult<()> {
    let (width, height) = canvas.dim_in_pixel();
    let inside = Area(
        f64::from((MARGINS.left + 4) * UNIT),
        f64::from((MARGINS.top - 6) * UNIT),
        f64::from(width),
        f64::from(height) - f64::from((MARGINS.bottom + 2) * UNIT),
    );
    let places = labels::beside(lines, inside, letter());
    for ((series, (text, _)), label) in plot.series.iter().zip(lines).zip(&places) {
        if let Some(label) = label {
            write(canvas, text, label, series.ink.colour())?;
        }
    }
    Ok(())
}

/// Pixels that the longest name needs behind the end of its line.
fn names_width(series: &[Series]) -> i32 {
    let longest = series
        .iter()
        .map(|series| series.name.chars().count())
        .max();
    let letters = longest.unwrap_or(0) as f64 * letter().width / f64::from(UNIT);
    letters.round() as i32 + 14
}
