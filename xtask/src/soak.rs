//! Random tests for long: what CI runs for seconds, for minutes.

use anyhow::Result;
use vcmdq_wording::count;

use crate::command::{cargo, run as run_command};
use crate::workspace::Workspace;

/// How many steps are taken when nobody says: twenty million, of which seven in ten are
/// accesses and one in five sends commands.
pub(crate) const CASES: u64 = 20_000_000;

/// The hostile guest's steps for each of these: each is some twenty times as long.
const CASES_PER_STEP: u64 = 20;

/// A test that runs for as long as a variable says.
struct Soak {
    package: &'static str,
    target: &'static str,
    /// The test, or the beginning of several.
    test: &'static str,
    variable: &'static str,
    steps: u64,
}

/// Runs the tests, which show how far they have come. `false` when one of them fails: two SMMUs
/// disagree, or a guest has hurt the host.
///
/// # Errors
///
/// None but those of the terminal; a test that cannot be built has not passed.
pub(crate) fn run(workspace: &Workspace, cases: u64) -> Result<bool> {
    let soaks = [
        Soak {
            package: "vcmdq-dispatch",
            target: "cached",
            test: "law7::law7_cached_core_agrees_with_a_naive_smmu",
            variable: "VCMDQ_SOAK_CASES",
            steps: cases,
        },
        Soak {
            package: "vcmdq",
            target: "registers_hostile",
            test: "law8_hostile_driver",
            variable: "VCMDQ_SOAK_STEPS",
            steps: (cases / CASES_PER_STEP).max(1),
        },
        Soak {
            package: "vcmdq",
            target: "cmdqv_hostile",
            test: "law8_hostile_cmdqv_guest",
            variable: "VCMDQ_SOAK_STEPS",
            steps: (cases / CASES_PER_STEP).max(1),
        },
    ];
    let failed: Vec<_> = soaks
        .iter()
        .filter(|soak| !run_one(workspace, soak))
        .map(|soak| soak.test)
        .collect();
    println!("\nsoak: {}", verdict(soaks.len(), &failed));
    Ok(failed.is_empty())
}

/// The last line, whichever test was the last one.
fn verdict(all: usize, failed: &[&str]) -> String {
    let counts = format!("{} passed, {} failed", all - failed.len(), failed.len());
    match failed {
        [] => counts,
        _ => format!("{counts}: {}", failed.join(", ")),
    }
}

fn run_one(workspace: &Workspace, soak: &Soak) -> bool {
    let arguments = [
        "test",
        "--release",
        "--package",
        soak.package,
        "--test",
        soak.target,
        "--",
        "--nocapture",
        soak.test,
    ];
    let mut command = cargo(workspace, arguments);
    let result = run_command(command.env(soak.variable, soak.steps.to_string()));
    let (test, steps) = (soak.test, count(soak.steps, "random step"));
    match &result {
        Ok(()) => println!("soak: passed, {steps} of {test}"),
        Err(error) => println!("soak: FAILED, {test}: {error:#}"),
    }
    result.is_ok()
}

#[cfg(test)]
mod tests {
    use super::verdict;

    #[test]
    fn the_last_line_names_what_has_failed() {
        assert_eq!(verdict(3, &[]), "3 passed, 0 failed");
        assert_eq!(verdict(3, &["a", "b"]), "1 passed, 2 failed: a, b");
    }
}
