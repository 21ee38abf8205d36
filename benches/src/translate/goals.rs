//! Rows of the table of goals.

use crate::table;

/// What was measured, beside what, and what was to be reached.
#[derive(Clone, Debug, Default)]
pub struct Goals(Vec<Vec<String>>);

impl Goals {
    /// A row. `met` is `None` where nothing is to be reached.
    pub fn row(
        &mut self,
        what: &str,
        measured: String,
        beside: String,
        goal: &str,
        met: Option<bool>,
    ) {
        let met = met.map_or_else(String::new, table::yes_no);
        self.0.push(vec![
            what.to_owned(),
            measured,
            beside,
            goal.to_owned(),
            met,
        ]);
    }

    /// Prints all of them.
    pub fn print(&self, title: &str) {
        let header = ["what", "measured", "beside", "goal", "met"];
        table::print(title, &header, &self.0);
    }
}

/// A time in nanoseconds, for a person.
#[must_use]
pub fn ns(time: f64) -> String {
    if time < 1e3 {
        format!("{time:.1} ns")
    } else {
        format!("{:.1} us", time / 1e3)
    }
}
