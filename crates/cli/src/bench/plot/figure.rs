//! What a figure needs to know, whoever measured it.

use super::axis::Axis;
use super::ink::Ink;

/// One or more panels with a heading and a sentence that says what is to be seen.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// Unique on the page, for links.
    pub(crate) id: &'static str,
    /// A word or two, for the list of figures.
    pub(crate) short: &'static str,
    pub(crate) title: &'static str,
    /// One sentence, from the data.
    pub(crate) reading: String,
    /// What a reader must know to read it: conditions, what the axes leave out.
    pub(crate) note: String,
    /// Names that need an explanation.
    pub(crate) terms: Vec<(&'static str, &'static str)>,
    pub(crate) panels: Vec<Panel>,
    /// The numbers behind it.
    pub(crate) table: Table,
    /// Why it is empty.
    pub(crate) missing: Option<String>,
}

/// A plot.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    /// What differs from the panel beside it; may be empty.
    pub(crate) heading: String,
    pub(crate) plot: Plot,
}

#[derive(Clone, Debug)]
pub(crate) enum Plot {
    /// Lines over two axes.
    Lines(Lines),
    /// A row for each case, a dot for each contender.
    Dots(Dots),
}

#[derive(Clone, Debug)]
pub(crate) struct Lines {
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
}

/// A line with a name that is written beside it.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) ink: Ink,
    pub(crate) points: Vec<Point>,
    /// Whether each point has a dot: for measured places of few points, not for distributions.
    pub(crate) dots: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// Shown when somebody points at it.
    pub(crate) title: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Dots {
    pub(crate) x: Axis,
    pub(crate) rows: Vec<Row>,
}

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) dots: Vec<Dot>,
    /// A goal, drawn as a short upright line.
    pub(crate) goal: Option<f64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Dot {
    pub(crate) name: String,
    pub(crate) ink: Ink,
    pub(crate) value: f64,
    /// Whether the value is written beside it; else it shows when somebody points at the dot.
    pub(crate) written: bool,
}

/// Numbers as text, headings first. All rows are as long as the headings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) headings: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self {
            headings: headings.iter().map(|&heading| heading.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Whether a column holds words, which begin at the left, and not figures.
    pub(crate) fn is_words(&self, column: usize) -> bool {
        let mut cells = self.rows.iter().filter_map(|row| row.get(column));
        !cells.any(|cell| cell.starts_with(|first: char| first.is_ascii_digit()))
    }

    pub(crate) fn push(&mut self, row: Vec<String>) {
        debug_assert_eq!(row.len(), self.headings.len());
        self.rows.push(row);
    }
}
