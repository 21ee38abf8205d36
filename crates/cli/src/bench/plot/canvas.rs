//! A panel becomes an SVG that can stand in a page.

use super::axis::{Axis, Extent};
use super::figure::{Panel, Plot};
use super::ink::{AXIS, GRID, TEXT};
use super::labels::{Anchor, Label, Place};
use super::tips::{self, Tip};
use super::{dots, lines};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// plotters counts in whole units, so a unit is a quarter of a pixel.
pub(super) const UNIT: i32 = 4;

/// Pixels of the letters.
const LETTERS: i32 = 13;

/// How large a panel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// As wide as the page.
    Wide,
    /// Half of it.
    Half,
}

impl Size {
    /// Width and height in pixels at which letters have their natural size.
    pub(super) fn pixels(self) -> (i32, i32) {
        match self {
            Self::Wide => (1040, 430),
            Self::Half => (510, 400),
        }
    }
}

/// What plotters draws on.
pub(super) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The panel as an SVG element without outer references, `name` being what it shows.
///
/// # Errors
///
/// plotters cannot draw it; the text says why.
pub(crate) fn svg(panel: &Panel, size: Size, name: &str) -> Result<String, String> {
    let (width, height) = match &panel.plot {
        Plot::Lines(_) => size.pixels(),
        Plot::Dots(dots) => (size.pixels().0, dots::height(dots)),
    };
    let mut drawn = String::new();
    let tips = {
        let units = ((width * UNIT) as u32, (height * UNIT) as u32);
        let canvas = SVGBackend::with_string(&mut drawn, units).into_drawing_area();
        let tips = match &panel.plot {
            Plot::Lines(plot) => lines::draw(plot, &canvas),
            Plot::Dots(plot) => dots::draw(plot, &canvas),
        };
        let tips = tips.and_then(|tips| canvas.present().map(|()| tips));
        tips.map_err(|error| format!("a plot cannot be drawn: {error}"))?
    };
    Ok(embeddable(&drawn, name, &tips))
}

/// What goes wrong while drawing.
pub(super) type DrawResult<T> =
    Result<T, DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>>;

/// Writes `text` at a place in units.
pub(super) fn write(
    canvas: &Canvas<'_>,
    text: &str,
    label: &Label,
    colour: RGBColor,
) -> DrawResult<()> {
    let h_pos = match label.anchor {
        Anchor::Start => HPos::Left,
        Anchor::Middle => HPos::Center,
        Anchor::End => HPos::Right,
    };
    let style = letters(colour).pos(Pos::new(h_pos, VPos::Center));
    let at = (label.at.0.round() as i32, label.at.1.round() as i32);
    canvas.draw(&Text::new(text.to_owned(), at, style))
}

/// Writes the title of an upright axis, level, above it.
pub(super) fn title_above(canvas: &Canvas<'_>, title: &str) -> DrawResult<()> {
    let at = (f64::from(4 * UNIT), f64::from(10 * UNIT));
    let anchor = Anchor::Start;
    write(canvas, title, &Label { at, anchor }, TEXT)
}

/// How words look.
pub(super) fn letters(colour: RGBColor) -> TextStyle<'static> {
    // The SVG backend divides sizes by 1.24.
    let size = f64::from(LETTERS * UNIT) * 1.24;
    ("sans-serif", size.round())
        .with_color(colour)
        .into_text_style(&(1, 1))
}

/// Height and width of letters, in units.
pub(super) fn letter() -> super::labels::Type {
    super::labels::Type {
        height: f64::from((LETTERS + 3) * UNIT),
        width: f64::from(LETTERS * UNIT) * 0.6,
    }
}

/// Two axes and what lies between them.
pub(super) type Chart<'c, 'b> = ChartContext<'c, SVGBackend<'b>, Cartesian2d<Extent, Extent>>;

/// Room beside the axes, in pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Margins {
    pub(super) left: i32,
    pub(super) right: i32,
    pub(super) top: i32,
    pub(super) bottom: i32,
}

/// The axes of a plot without a line in it. `name_y` writes the marks of the upright axis; all marks
/// have lines across the plot.
pub(super) fn axes<'c, 'b>(
    canvas: &'c Canvas<'b>,
    (x, x_extent): (&Axis, &Extent),
    (y_extent, name_y): (&Extent, &dyn Fn(f64) -> String),
    margins: Margins,
) -> DrawResult<Chart<'c, 'b>> {
    let mut chart = ChartBuilder::on(canvas)
        .margin_top(margins.top * UNIT)
        .margin_right(margins.right * UNIT)
        .x_label_area_size(margins.bottom * UNIT)
        .y_label_area_size(margins.left * UNIT)
        .build_cartesian_2d(x_extent.clone(), y_extent.clone())?;
    chart
        .configure_mesh()
        .bold_line_style(GRID.stroke_width(UNIT as u32))
        .light_line_style(TRANSPARENT)
        .axis_style(AXIS.stroke_width(UNIT as u32))
        .label_style(letters(TEXT))
        .set_all_tick_mark_size(4 * UNIT)
        .x_label_formatter(&|place| x.word(*place))
        .y_label_formatter(&|place| name_y(*place))
        .x_desc(x.title)
        .axis_desc_style(letters(TEXT))
        .draw()?;
    Ok(chart)
}

/// The pixel of a pair of places, in units.
pub(super) fn place((x, y): (i32, i32)) -> Place {
    (f64::from(x), f64::from(y))
}

/// The drawing without its own size, so that the page decides, and with what pointing shows.
fn embeddable(drawn: &str, name: &str, tips: &[Tip]) -> String {
    let inside = drawn.split_once('>').map_or(drawn, |(_, inside)| inside);
    let view = drawn
        .split_once("viewBox=\"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("", |(view, _)| view);
    let inside = inside.trim_end().trim_end_matches("</svg>");
    let name = tips::escape(name);
    let tips = tips::draw(tips);
    format!("<svg role=\"img\" aria-label=\"{name}\" viewBox=\"{view}\">{inside}{tips}</svg>")
}
