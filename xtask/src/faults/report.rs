//! Which switch was caught by which test.

use std::cmp::Reverse;
use std::time::Duration;

use super::switch::Switch;

/// How many of the slowest are named.
const SLOWEST: usize = 5;

/// What became of a switch.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) switch: Switch,
    /// The tests that noticed; none when nobody did.
    pub(super) caught_by: Vec<String>,
    /// How long the tests were asked.
    pub(super) took: Duration,
}

/// One line while the work goes on.
pub(super) fn line(verdict: &Verdict) -> String {
    let (name, took) = (&verdict.switch.name, verdict.took.as_secs_f64());
    format!("{name:<14} {took:>6.1} s  {}", catcher(verdict))
}

/// Those that took longest.
pub(super) fn slowest(verdicts: &[Verdict]) -> String {
    let mut all: Vec<&Verdict> = verdicts.iter().collect();
    all.sort_by_key(|verdict| Reverse(verdict.took));
    let of = |verdict: &&Verdict| {
        let took = verdict.took.as_secs_f64();
        format!("{} {took:.1} s", verdict.switch.name)
    };
    let names: Vec<String> = all.iter().take(SLOWEST).map(of).collect();
    format!("slowest: {}", names.join(", "))
}

/// All verdicts, as columns.
pub(super) fn table(verdicts: &[Verdict]) -> String {
    let abouts = verdicts
        .iter()
        .map(|verdict| verdict.switch.about.chars().count());
    let width = abouts.max().unwrap_or_default().max("what it breaks".len());
    let row = |switch: &str, about: &str, catcher: &str| {
        format!("{switch:<14} {about:<width$} {catcher}\n")
    };
    let head = row("switch", "what it breaks", "caught by");
    let rows = verdicts.iter().map(|verdict| {
        row(
            &verdict.switch.name,
            &verdict.switch.about,
            &catcher(verdict),
        )
    });
    [head].into_iter().chain(rows).collect()
}

fn catcher(verdict: &Verdict) -> String {
    match verdict.caught_by.as_slice() {
        [] => format!("NOT CAUGHT by any test named law{}_…", verdict.switch.law),
        [test] => test.clone(),
        [test, others @ ..] => format!("{test} and {} more", others.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::switch::example;
    use super::*;

    fn verdict(caught_by: &[&str]) -> Verdict {
        let caught_by = caught_by.iter().map(|test| (*test).to_owned()).collect();
        Verdict {
            switch: example("break_law4a"),
            caught_by,
            took: Duration::ZERO,
        }
    }

    #[test]
    fn what_nobody_noticed_cannot_be_overlooked() {
        assert!(line(&verdict(&[])).contains("NOT CAUGHT by any test named law4_"));
    }

    #[test]
    fn the_table_says_what_was_broken_and_who_noticed() {
        let text = table(&[
            verdict(&["t::law4_x"]),
            verdict(&["t::law4_x", "t::law4_y"]),
        ]);
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[1], "break_law4a    does wrong     t::law4_x");
        assert!(rows[2].ends_with("t::law4_x and 1 more"));
    }

    #[test]
    fn those_that_took_longest_are_named_first() {
        let verdicts: Vec<Verdict> = (1..=9)
            .map(|seconds| Verdict {
                switch: example(&format!("break_law{seconds}a")),
                took: Duration::from_secs(seconds),
                ..verdict(&[])
            })
            .collect();
        let text = slowest(&verdicts);
        assert!(
            text.starts_with("slowest: break_law9a 9.0 s, break_law8a"),
            "{text}"
        );
        assert!(!text.contains("break_law4a"), "{text}");
    }
}
