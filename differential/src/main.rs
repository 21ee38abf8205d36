//! `vcmdq-differential`: see the library.

use anyhow::Result;
use clap::Parser;
use indicatif::ProgressBar;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use vcmdq_differential::machine::DEVICES;
use vcmdq_differential::run::{Plan, Side, run};
use vcmdq_e2e::boot::SKIPPED;
use vcmdq_e2e::parts::{self, Missing, Qemu};

/// Random accesses through the engine and through QEMU's SMMUv3.
///
/// Exit code: 0 no difference but known ones, 1 another one or a failure, 2 bad usage, 3 a QEMU with its test
/// devices is not to be had.
#[derive(Debug, Parser)]
struct Arguments {
    /// Accesses
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    cases: u64,
    /// What chooses them
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Only this world, as a difference names it
    #[arg(long, value_name = "N")]
    world: Option<u64>,
    /// Stop after so many unknown differences
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    most: u64,
    /// Tell the engine of a smaller OAS than QEMU has: differences must be found
    #[arg(long)]
    misled: bool,
    /// Tell one of them nothing of what is changed: differences must be found
    #[arg(long)]
    untold: Option<Untold>,
    /// Where QEMU is unpacked if the system has none; the last one counts
    #[arg(
        long,
        value_name = "DIR",
        default_value = "target/e2e",
        overrides_with = "directory"
    )]
    directory: PathBuf,
}

/// Who is told nothing.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Untold {
    /// The engine: its caches contradict its walks
    Engine,
    /// QEMU's SMMU
    Qemu,
}

fn main() -> ExitCode {
    match perform(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(arguments: &Arguments) -> Result<ExitCode> {
    let found = parts::qemu(&arguments.directory, &|what| eprintln!("{what}"));
    let qemu = match found.and_then(|qemu| has_devices(&qemu).map(|()| qemu)) {
        Ok(qemu) => qemu,
        Err(missing) => {
            println!("differential: skipped: {missing}");
            return Ok(ExitCode::from(SKIPPED));
        }
    };
    let plan = Plan {
        cases: arguments.cases,
        seed: arguments.seed,
        only: arguments.world,
        most: arguments.most,
        misled: arguments.misled,
        untold: arguments.untold.map(|side| match side {
            Untold::Engine => Side::Engine,
            Untold::Qemu => Side::Qemu,
        }),
    };
    let start = Instant::now();
    // Shown on a terminal only.
    let bar = ProgressBar::new(plan.cases);
    let report = run(&qemu, &plan, &|cases| bar.set_position(cases));
    bar.finish_and_clear();
    let report = report?;
    let seconds = start.elapsed().as_secs_f64();
    print!("{report}");
    println!(
        "seed {}, {seconds:.1} s, {:.0} accesses/s",
        plan.seed,
        report.cases as f64 / seconds
    );
    Ok(if report.unknown == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// QEMU lists both devices that do DMA.
fn has_devices(qemu: &Qemu) -> Result<(), Missing> {
    let listed = qemu
        .command()
        .args(["-machine", "none", "-device", "help"])
        .output();
    let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let listed = listed.unwrap_or_default();
    match DEVICES
        .iter()
        .find(|device| !listed.contains(&format!("\"{device}\"")))
    {
        None => Ok(()),
        Some(device) => Err(Missing(format!(
            "this QEMU has no {device}: name one of version 10.2 or newer in VCMDQ_QEMU"
        ))),
    }
}
