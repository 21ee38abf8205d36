//! `cargo xtask`: every check of this project, the same for people and for CI.
//!
//! `cargo xtask test` runs the [`steps`] one after the other; `cargo xtask break` shows
//! that the tests notice when a law is broken ([`faults`]).

mod command;
mod faults;
mod fuzz;
mod guest;
mod kernel;
mod parallel;
mod soak;
mod steps;
mod summary;
mod workspace;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};

use crate::steps::STEPS;
use crate::workspace::Workspace;

/// Every check of this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run the steps; the last line says how many passed and failed
    Test {
        /// Run these steps and no other
        #[arg(long, value_name = "STEP", value_delimiter = ',', value_parser = step_names())]
        only: Vec<String>,
        /// Leave these steps out
        #[arg(long, value_name = "STEP", value_delimiter = ',', value_parser = step_names())]
        skip: Vec<String>,
    },
    /// Show the steps of `test`, one line each
    List,
    /// Break the laws on purpose and demand that a test named for the law fails
    Break {
        /// Switches such as `break_law4a`; all of them when none is named
        switches: Vec<String>,
        /// Show the switches and what they break, and build nothing
        #[arg(long)]
        list: bool,
    },
    /// Boot an unmodified Linux on the engine: `vcmdq boot` with these arguments
    Boot {
        /// Such as `--boots 10` or `--console`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build the guest's kernel with `tegra241-cmdqv` and iommufd, and `dma_map_benchmark`, into target/e2e
    ///
    /// Takes some ten minutes on two processors, 2.5 GB below target/e2e and a mirror of Debian, from which come the kernel's
    /// source and whatever compiler and tools the system lacks; nothing is installed. It may be stopped: the next run goes
    /// on where that was. Behind it, target/e2e/kernel-build may be removed. Exit code: 0 it is built, 1 something is missing
    /// or does not build.
    Kernel {
        /// Build the x86-64 one whose iommufd has a mock IOMMU instead (`vcmdq mock`)
        #[arg(long)]
        mock: bool,
    },
    /// Run the iommufd backend in a kernel with a mock IOMMU: builds the program, then `vcmdq mock` with these arguments
    Mock {
        /// Such as `--console` or `--kvm`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build the program that uses stage 2 in the guest (`vcmdq boot --nesting`) into target/e2e
    Guest,
    /// Search for inputs that break something, as many targets at a time as there are processors
    Fuzz {
        /// Such as `ste` or `descriptors`; all of them when none is named
        targets: Vec<String>,
        /// How long each is searched
        #[arg(long, value_name = "N", default_value_t = fuzz::SECONDS)]
        seconds: u64,
        /// Run the target with this input instead, and show what breaks
        #[arg(long, value_name = "FILE", conflicts_with = "seconds")]
        input: Option<PathBuf>,
    },
    /// Compare the engine with QEMU's SMMU: `vcmdq-differential` with these arguments
    Differential {
        /// Such as `--cases 100000` or `--seed 7`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run the cached core against a naive SMMU, and hostile guests against the engine, for minutes
    ///
    /// Optimised, and the same steps each time: what fails, fails again. The default takes ten minutes on two
    /// processors, four of them to build. Exit code: 0 nothing was found, 1 a test has failed.
    Soak {
        /// Random steps of the cached core; each of the hostile guests makes a twentieth of them
        #[arg(long, value_name = "N", default_value_t = soak::CASES, value_parser = clap::value_parser!(u64).range(1..))]
        cases: u64,
    },
}

fn step_names() -> PossibleValuesParser {
    PossibleValuesParser::new(STEPS.iter().map(|step| step.name))
}

fn main() -> ExitCode {
    match perform(Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Performs a task; 1 when what it checks is not as it should be, of another tool the code with which that ended.
fn perform(task: Task) -> Result<ExitCode> {
    let holds = match task {
        Task::Test { only, skip } => {
            let chosen = steps::choose(&only, &skip);
            steps::run_all(&Workspace::find()?, &chosen).report()
        }
        Task::List => {
            let width = STEPS.iter().map(|step| step.name.len()).max();
            let width = width.unwrap_or(0);
            for step in STEPS {
                println!("{:<width$} {}", step.name, step.about);
            }
            true
        }
        Task::Break { switches, list } => {
            let workspace = Workspace::find()?;
            if list {
                faults::list(&workspace)?;
            } else {
                faults::run(&workspace, &switches)?;
            }
            true
        }
        Task::Boot { arguments } => {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let mut command = steps::boot_tool(&Workspace::find()?, &arguments);
            return run_tool(&mut command);
        }
        Task::Differential { arguments } => {
            let mut command = steps::differential_tool(&Workspace::find()?);
            command.args(arguments);
            return run_tool(&mut command);
        }
        Task::Kernel { mock } => kernel::run(&Workspace::find()?, mock)?,
        Task::Mock { arguments } => {
            let workspace = Workspace::find()?;
            guest::install_target(&guest::MOCK)?;
            guest::build(&workspace, &guest::MOCK)?;
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let mut command = steps::mock_tool(&workspace, &arguments);
            return run_tool(&mut command);
        }
        Task::Guest => {
            let workspace = Workspace::find()?;
            guest::install_target(&guest::NESTING)?;
            let program = guest::build(&workspace, &guest::NESTING)?;
            println!("program: {}", program.display());
            true
        }
        Task::Fuzz {
            targets,
            seconds,
            input,
        } => fuzz::perform(&Workspace::find()?, &targets, seconds, input.as_deref())?,
        Task::Soak { cases } => soak::run(&Workspace::find()?, cases)?,
    };
    Ok(match holds {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Shows and runs a tool of the workspace. What its code means stands in its `--help`.
fn run_tool(command: &mut Command) -> Result<ExitCode> {
    command::show(command);
    Ok(code_of(command.status()?.code()))
}

/// The same code; 1 for a tool that a signal has ended.
fn code_of(code: Option<i32>) -> ExitCode {
    let code = code.and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_unknown_step_is_refused_by_name() {
        let error = Arguments::try_parse_from(["cargo xtask", "test", "--only", "nonsense"])
            .expect_err("no such step")
            .to_string();
        assert!(
            error.contains("nonsense") && error.contains("clippy"),
            "{error}"
        );
    }

    #[test]
    fn a_tool_ends_with_its_own_code() {
        for code in [0, 1, 2, 3, 101] {
            assert_eq!(code_of(Some(code.into())), ExitCode::from(code));
        }
        assert_eq!(code_of(None), ExitCode::FAILURE);
        assert_eq!(code_of(Some(-1)), ExitCode::FAILURE);
    }

    #[test]
    fn steps_can_be_separated_by_commas() {
        let arguments = Arguments::try_parse_from(["cargo xtask", "test", "--only", "fmt,docs"]);
        match arguments.expect("two steps").task {
            Task::Test { only, skip } => {
                assert_eq!(only, ["fmt", "docs"]);
                assert!(skip.is_empty());
            }
            other => panic!("parsed as {other:?}"),
        }
    }
}
