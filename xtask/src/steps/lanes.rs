//! Steps beside each other: each in a process of its own, whose output is shown when it is over.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use super::{Place, Step};
use crate::command::show;
use crate::parallel;
use crate::summary::{Outcome, Row};
use crate::workspace::Workspace;

/// Runs these steps: those of one [`Place`] one after the other, and the places beside each other.
pub(super) fn run(workspace: &Workspace, steps: &[&'static Step]) -> Vec<Row> {
    let logs = workspace.target.join("steps");
    let program = kept(&logs);
    let lane = |place| -> Vec<&'static Step> {
        let there = steps.iter().filter(|step| step.place == place);
        there.copied().collect()
    };
    let lanes = [lane(Place::Usual), lane(Place::Own)];
    let rows = parallel::each(&lanes, |lane| {
        let rows = lane.iter().map(|step| row(step, &program, &logs));
        rows.collect::<Vec<Row>>()
    });
    rows.into_iter().flatten().collect()
}

/// This program in `directory`, where it stays when a step builds it anew.
fn kept(directory: &Path) -> Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let (program, kept) = (std::env::current_exe()?, directory.join("xtask"));
    if kept.exists() {
        fs::remove_file(&kept)?;
    }
    fs::hard_link(program, &kept).context("this program cannot be kept")?;
    Ok(kept)
}

fn row(step: &Step, program: &Result<PathBuf>, logs: &Path) -> Row {
    let start = Instant::now();
    let outcome = match program {
        Ok(program) => {
            let outcome = perform(step.name, program, logs);
            outcome.unwrap_or_else(|e| Outcome::Failed(format!("{e:#}")))
        }
        Err(error) => Outcome::Failed(format!("{error:#}")),
    };
    Row {
        step: step.name,
        outcome,
        took: start.elapsed(),
    }
}

fn perform(name: &str, program: &Path, logs: &Path) -> Result<Outcome> {
    // One file, so that both outputs keep their order.
    let path = logs.join(name).with_extension("log");
    let log = fs::File::create(&path)?;
    let mut command = Command::new(program);
    command.args(["test", "--only", name]).stdin(Stdio::null());
    command.stdout(log.try_clone()?).stderr(log);
    show(&command);
    let status = command.status().context("this program does not start")?;
    let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
    println!("{}", without_table(name, &text));
    Ok(outcome_in(name, &text, status.success()))
}

/// All but the table at the end, which has only the one row.
fn without_table<'a>(name: &str, text: &'a str) -> &'a str {
    let table = text.rfind(&format!("\n{name} "));
    table.map_or(text, |table| &text[..table])
}

/// How the step says that it has ended, in all that it has printed.
fn outcome_in(name: &str, text: &str, succeeded: bool) -> Outcome {
    let after = |words: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(words))
    };
    let skipped = after(&format!("SKIPPED: {name}: "));
    match (succeeded, skipped) {
        (true, Some(what)) => Outcome::Skipped(what.to_owned()),
        (true, None) if after(&format!("== {name} passed in ")).is_some() => Outcome::Passed,
        _ => {
            let why = after(&format!("== {name} FAILED after "));
            let why = why.and_then(|why| why.split_once(": "));
            Outcome::Failed(why.map_or("it broke off", |(_, why)| why).to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steps_last_words_are_its_outcome() {
        let passed = "== x: about\n== x passed in 1.0 s\n\nx passed 1.0 s\n";
        assert_eq!(outcome_in("x", passed, true), Outcome::Passed);
        let skipped = "== x: about\nSKIPPED: x: not checked: y\n";
        let what = Outcome::Skipped("not checked: y".into());
        assert_eq!(outcome_in("x", skipped, true), what);
        let failed = "== x FAILED after 1.0 s: `cargo` failed: z\n";
        let why = Outcome::Failed("`cargo` failed: z".into());
        assert_eq!(outcome_in("x", failed, false), why);
    }

    #[test]
    fn this_program_is_kept_as_often_as_it_is_asked() {
        let directory = Workspace::find().expect("cargo metadata").target;
        let directory = directory.join(format!("steps-{}", std::process::id()));
        for _ in 0..2 {
            let program = kept(&directory).expect("a link");
            let mut command = Command::new(program);
            assert!(crate::command::succeeds(command.arg("--list")));
        }
        fs::remove_dir_all(&directory).expect("a directory");
    }

    #[test]
    fn the_table_of_one_row_is_not_shown() {
        let text = "\n== x: about\nx and y\n== x passed in 1.0 s\n\nx passed 1.0 s\n1 passed\n";
        let shown = "\n== x: about\nx and y\n== x passed in 1.0 s\n";
        assert_eq!(without_table("x", text), shown);
        assert_eq!(without_table("x", "it broke off"), "it broke off");
    }

    #[test]
    fn what_does_not_say_how_it_ended_has_failed() {
        let broke_off = Outcome::Failed("it broke off".into());
        assert_eq!(outcome_in("x", "== x: about\n", true), broke_off);
        assert_eq!(outcome_in("x", "== y passed in 1.0 s\n", true), broke_off);
        assert_eq!(outcome_in("x", "== x passed in 1.0 s\n", false), broke_off);
    }
}
