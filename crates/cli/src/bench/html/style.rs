//! The page's style sheet: what `style.css` says, and a rule for each ink of the figures.

use crate::bench::plot::{AXIS, GRID, Hue, TEXT, hex};
use std::fmt::Write;

/// The whole sheet.
pub(super) fn sheet() -> String {
    let mut sheet = include_str!("style.css").to_owned();
    let themed = [
        (TEXT, "var(--text)"),
        (AXIS, "var(--axis)"),
        (GRID, "var(--line)"),
    ];
    for (colour, value) in themed {
        rule(&mut sheet, &hex(colour), value);
    }
    for hue in Hue::ALL {
        let dashed = hue.dashed().hex();
        let _infallible = writeln!(
            sheet,
            "svg polyline[stroke=\"{dashed}\"] {{ stroke-dasharray: 22 18; }}"
        );
    }
    // The light colours are the drawing's own.
    sheet.push_str("@media (prefers-color-scheme: dark) {\n");
    for hue in Hue::ALL {
        for ink in [hue.solid(), hue.dashed()] {
            rule(&mut sheet, &ink.hex(), hue.dark());
        }
        let _infallible = writeln!(
            sheet,
            ".key .{} {{ background: {1}; border-color: {1}; }}",
            name(hue),
            hue.dark()
        );
    }
    sheet.push_str("}\n@media (prefers-color-scheme: light) {\n");
    for hue in Hue::ALL {
        let _infallible = writeln!(
            sheet,
            ".key .{} {{ background: {1}; border-color: {1}; }}",
            name(hue),
            hue.solid().hex()
        );
    }
    sheet.push_str("}\n");
    sheet
}

/// The class of a key's dot.
pub(super) fn name(hue: Hue) -> String {
    format!("{hue:?}").to_lowercase()
}

/// Lines, areas and words of one colour. A text's stroke is its halo and stays.
fn rule(sheet: &mut String, colour: &str, value: &str) {
    let _infallible = writeln!(
        sheet,
        "svg [fill=\"{colour}\"] {{ fill: {value}; }} \
         svg :not(text)[stroke=\"{colour}\"] {{ stroke: {value}; }}"
    );
}
