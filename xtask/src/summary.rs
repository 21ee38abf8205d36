//! What is printed when all steps have run.

use std::fmt;
use std::time::Duration;

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// What the step checks holds.
    Passed,
    /// The step could not check; says what is therefore unknown.
    Skipped(String),
    /// What the step checks does not hold; says why.
    Failed(String),
}

/// One row: a step, how it ended, how long it took.
#[derive(Debug)]
pub(crate) struct Row {
    /// Name of the step.
    pub(crate) step: &'static str,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// How long it took.
    pub(crate) took: Duration,
}

/// All rows of a run, in the order in which the steps ran.
#[derive(Debug, Default)]
pub(crate) struct Summary(pub(crate) Vec<Row>);

impl Summary {
    /// Prints the table and the closing line; `true` when no step failed.
    pub(crate) fn report(&self) -> bool {
        print!("\n{self}");
        self.count(|outcome| matches!(outcome, Outcome::Failed(_))) == 0
    }

    fn count(&self, matches: fn(&Outcome) -> bool) -> usize {
        self.0.iter().filter(|row| matches(&row.outcome)).count()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|row| row.step.len()).max().unwrap_or(0);
        for Row {
            step,
            outcome,
            took,
        } in &self.0
        {
            let (word, detail) = match outcome {
                Outcome::Passed => ("passed", ""),
                Outcome::Skipped(what) => ("SKIPPED", what.as_str()),
                Outcome::Failed(why) => ("FAILED", why.lines().next().unwrap_or_default()),
            };
            let row = format!(
                "{step:<width$} {word:<8} {:>7.1} s  {detail}",
                took.as_secs_f64()
            );
            writeln!(f, "{}", row.trim_end())?;
        }
        let passed = self.count(|outcome| *outcome == Outcome::Passed);
        let failed = self.count(|outcome| matches!(outcome, Outcome::Failed(_)));
        let skipped = self.count(|outcome| matches!(outcome, Outcome::Skipped(_)));
        write!(f, "{passed} passed, {failed} failed")?;
        if skipped > 0 {
            write!(f, ", {skipped} skipped")?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(outcomes: &[Outcome]) -> Summary {
        let row = |outcome: &Outcome| Row {
            step: "fmt",
            outcome: outcome.clone(),
            took: Duration::from_millis(1500),
        };
        Summary(outcomes.iter().map(row).collect())
    }

    #[test]
    fn the_longest_name_has_room() {
        let mut summary = summary(&[Outcome::Passed, Outcome::Passed]);
        summary.0[1].step = "differential";
        let text = summary.to_string();
        let words: Vec<_> = text
            .lines()
            .filter_map(|line| line.find("passed "))
            .collect();
        assert_eq!(words, [13, 13]);
    }

    #[test]
    fn a_green_run_ends_with_the_plain_line() {
        let summary = summary(&[Outcome::Passed, Outcome::Passed]);
        assert_eq!(
            summary.to_string().lines().last(),
            Some("2 passed, 0 failed")
        );
        assert!(summary.report());
    }

    #[test]
    fn one_failure_fails_the_whole_and_is_explained() {
        let summary = summary(&[Outcome::Passed, Outcome::Failed("why\nmore".into())]);
        let text = summary.to_string();
        assert!(text.contains("FAILED") && text.contains("why") && !text.contains("more"));
        assert!(text.ends_with("\n1 passed, 1 failed\n"));
        assert!(!summary.report());
    }

    #[test]
    fn a_skipped_step_is_neither_passed_nor_failed() {
        let summary = summary(&[Outcome::Passed, Outcome::Skipped("no rustc".into())]);
        assert!(
            summary
                .to_string()
                .ends_with("\n1 passed, 0 failed, 1 skipped\n")
        );
        assert!(summary.report());
    }
}
