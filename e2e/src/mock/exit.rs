//! `vcmdq mock`: the run, its verdict on standard output, its exit code.

use super::args::MockArgs;
use super::run::run;
use crate::boot::SKIPPED;
use crate::parts::Missing;
use std::process::ExitCode;

/// Runs the sub-command. Exit code: 0 every check held, 1 one did not or is missing, 2 the machine could not
/// be started, [`SKIPPED`] a part is missing, with a line that says which.
#[must_use]
pub fn main(args: &MockArgs) -> ExitCode {
    match run(args) {
        Ok(verdict) => {
            verdict.print();
            match verdict.holds() {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
        Err(error) => match error.downcast_ref::<Missing>() {
            Some(missing) => {
                println!("mock: skipped: {missing}");
                SKIPPED.into()
            }
            None => {
                eprintln!("vcmdq mock: {error:#}");
                2.into()
            }
        },
    }
}
