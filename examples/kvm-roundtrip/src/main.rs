//! What a guest under KVM waits for its invalidations, as a table.
//!
//! `cargo run --release -p kvm-roundtrip`

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use kvm_roundtrip::{Measured, Mode, Options, Progress, measure, table};
use std::process::ExitCode;

/// Measures what a guest under KVM waits for its invalidations.
#[derive(Debug, Parser)]
struct Args {
    /// A smoke run: few rounds, too few to compare.
    #[arg(long)]
    quick: bool,
    /// Only these ways, beside the references.
    #[arg(long, value_delimiter = ',', value_parser = mode)]
    modes: Vec<Mode>,
    /// So many vCPUs, instead of 1 to the number of CPUs.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=64))]
    vcpus: Vec<u32>,
    /// So many pages of 4 KiB, instead of 1, 4, 16, 32 and 64.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=128))]
    pages: Vec<u32>,
    /// Rounds of each vCPU for each row and pass, instead of as many as there is time for.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: Option<u32>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// The mode of a name as JSON has it.
fn mode(name: &str) -> Result<Mode, String> {
    let quoted = format!("\"{name}\"");
    serde_json::from_str(&quoted)
        .map_err(|_| "one of in_exit, worker, inline, coalesced, shared_page, adaptive".to_owned())
}

/// How far it is, on a terminal. It never ticks by itself: the processors are all in use.
struct Bar(ProgressBar);

impl Progress for Bar {
    fn begin(&mut self, runs: u64) {
        self.0.set_length(runs);
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} runs, {eta} left");
        self.0
            .set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    }

    fn step(&mut self) {
        self.0.inc(1);
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let options = Options {
        quick: args.quick,
        modes: args.modes,
        vcpus: args.vcpus,
        pages: args.pages,
        rounds: args.rounds,
    };
    let mut bar = Bar(ProgressBar::new(0));
    let measured = measure(&options, &mut bar);
    bar.0.finish_and_clear();
    match measured {
        Ok(measured) => print(&measured, args.json),
        Err(error) => {
            eprintln!("kvm-roundtrip: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(measured: &Measured, json: bool) -> ExitCode {
    let report = match measured {
        Measured::Report(report) => report,
        Measured::Nothing(why) => {
            println!("kvm-roundtrip: nothing measured: {why}");
            return ExitCode::SUCCESS;
        }
    };
    let mut text = String::new();
    let written = if json {
        serde_json::to_string_pretty(report)
            .map(|json| text = json)
            .map_err(|error| error.to_string())
    } else {
        table::write(&mut text, report).map_err(|error| error.to_string())
    };
    match written {
        Ok(()) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("kvm-roundtrip: {error}");
            ExitCode::FAILURE
        }
    }
}
