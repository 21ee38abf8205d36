//! Which switch was caught by which test.

use super::switch::Switch;

/// What became of a switch.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) switch: Switch,
    /// The tests that noticed; none when nobody did.
    pub(super) caught_by: Vec<String>,
}

/// One line while the work goes on.
pub(super) fn line(verdict: &Verdict) -> String {
    format!("{:<14} {}", verdict.switch.name, catcher(verdict))
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
}
