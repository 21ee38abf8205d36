//! `vcmdq boot`: the run, its verdict on standard output, its exit code.

use super::args::BootArgs;
use super::latency::latency;
use super::run::boot;
use crate::parts::Missing;
use anyhow::Result;
use std::process::ExitCode;

/// Exit code when a part is not to be had: nothing is known then.
pub const SKIPPED: u8 = 3;

/// Runs the sub-command. Exit code: 0 every check held, 1 one did not, 2 a machine could not be
/// started, [`SKIPPED`] a part is missing, with a line that says which.
#[must_use]
pub fn main(args: &BootArgs) -> ExitCode {
    let run = if args.latency {
        latency(args)
    } else {
        boot(args)
    };
    exit_code(
        "boot",
        run.map(|verdict| {
            verdict.print();
            verdict.holds()
        }),
    )
}

/// The exit code of a sub-command: whether all checks held, or why there was no run, which is printed.
pub(crate) fn exit_code(name: &str, holds: Result<bool>) -> ExitCode {
    match holds {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => match error.downcast_ref::<Missing>() {
            Some(missing) => {
                println!("{name}: skipped: {missing}");
                SKIPPED.into()
            }
            None => {
                eprintln!("vcmdq {name}: {error:#}");
                2.into()
            }
        },
    }
}
