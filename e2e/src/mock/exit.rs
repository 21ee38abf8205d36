//! `vcmdq mock`: the run, its verdict on standard output, its exit code.

use super::args::MockArgs;
use super::run::run;
use crate::boot::exit_code;
use std::process::ExitCode;

/// Runs the sub-command. Exit code: 0 every check held, 1 one did not or is missing, 2 the machine could not
/// be started, [`SKIPPED`](crate::boot::SKIPPED) a part is missing, with a line that says which.
#[must_use]
pub fn main(args: &MockArgs) -> ExitCode {
    let holds = run(args).map(|verdict| {
        verdict.print();
        verdict.holds()
    });
    exit_code("mock", holds)
}
