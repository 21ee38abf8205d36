//! `vcmdq`: replays, decodes and measures SMMUv3 command streams.
//!
//! Without arguments it does the main job: the bundled streams of a real Linux guest, then a
//! storm of vSVA invalidations, go through guest memory, ring, doorbell, worker, dispatch and
//! the software translation core, and beside it through a baseline that consumes under a
//! lock in the producer's thread. What is invalidated is put there before and looked for after.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | everything was done and every check held |
//! | 1 | a check failed, or a decoded stream has damaged records |
//! | 2 | the arguments or a file cannot be used; the message says what to do |
//! | 3 | `boot` and `mock` only: QEMU or another part is not to be had |
#![forbid(unsafe_code)]

mod args;
#[cfg(feature = "bench")]
mod bench;
mod check;
mod decode;
mod drain;
mod drive;
mod error;
mod machine;
mod main_job;
mod output;
mod progress;
mod replay;
mod report;
mod storm;
mod trace;

use args::{Cli, Command};
use clap::Parser;
use error::ToolError;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        // Whoever reads our output has enough of it.
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error);
            error.exit_code()
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode, ToolError> {
    match &cli.command {
        None => main_job::run(&cli.run, main_job::Part::All),
        Some(Command::Replay(args)) if args.files.is_empty() => {
            main_job::run(&args.run, main_job::Part::Replay(trace::bundled()?, false))
        }
        Some(Command::Replay(args)) => {
            let traces = args.files.iter().map(|file| trace::read(file));
            main_job::run(
                &args.run,
                main_job::Part::Replay(traces.collect::<Result<_, _>>()?, args.as_published),
            )
        }
        Some(Command::Storm(args)) => main_job::run(&args.run, main_job::Part::Storm),
        Some(Command::Decode(args)) => decode::run(args),
        #[cfg(feature = "bench")]
        Some(Command::Bench(args)) => bench::main(args),
        #[cfg(feature = "boot")]
        Some(Command::Boot(args)) => Ok(vcmdq_e2e::boot::main(args)),
        #[cfg(feature = "boot")]
        Some(Command::Mock(args)) => Ok(vcmdq_e2e::mock::main(args)),
    }
}
