//! What is shown when somebody points at a place of a figure: `title` elements, which need no script.

use super::canvas::UNIT;
use super::labels::Place;

/// Something to point at.
#[derive(Clone, Debug)]
pub(super) enum Tip {
    /// Around a place.
    Spot(Place, String),
    /// Along a line.
    Line(Vec<Place>, String),
}

/// The elements for them, invisible. Spots lie above lines.
pub(super) fn draw(tips: &[Tip]) -> String {
    let lines = tips.iter().filter_map(|tip| match tip {
        Tip::Line(places, title) if !places.is_empty() => Some(line(places, title)),
        _ => None,
    });
    let spots = tips.iter().filter_map(|tip| match tip {
        Tip::Spot(place, title) => Some(spot(*place, title)),
        Tip::Line(..) => None,
    });
    lines.chain(spots).collect()
}

fn line(places: &[Place], title: &str) -> String {
    let points: Vec<String> = places
        .iter()
        .map(|(x, y)| format!("{x:.0},{y:.0}"))
        .collect();
    format!(
        "<polyline class=\"tip\" stroke-width=\"{}\" points=\"{}\"><title>{}</title></polyline>",
        12 * UNIT,
        points.join(" "),
        escape(title)
    )
}

fn spot((x, y): Place, title: &str) -> String {
    format!(
        "<circle class=\"tip\" cx=\"{x:.0}\" cy=\"{y:.0}\" r=\"{}\"><title>{}</title></circle>",
        9 * UNIT,
        escape(title)
    )
}

/// `text` as it may stand in an element or between quotes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spots_lie_above_lines_and_text_is_escaped() {
        let drawn = draw(&[
            Tip::Spot((1.0, 2.0), "a < b & \"c\"".to_owned()),
            Tip::Line(vec![(0.0, 0.0), (4.0, 4.0)], "line".to_owned()),
            Tip::Line(Vec::new(), "nothing".to_owned()),
        ]);
        assert!(drawn.starts_with("<polyline"), "{drawn}");
        assert!(drawn.contains("a &lt; b &amp; &quot;c&quot;"), "{drawn}");
        assert!(!drawn.contains("nothing"), "{drawn}");
    }
}
