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
    } else if time < 1e6 {
        format!("{:.1} µs", time / 1e3)
    } else {
        format!("{:.1} ms", time / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::ns;

    #[test]
    fn a_time_has_the_unit_in_which_it_is_short() {
        assert_eq!(ns(12.34), "12.3 ns");
        assert_eq!(ns(2_500.0), "2.5 µs");
        assert_eq!(ns(33_046_500.0), "33.0 ms");
    }
}
