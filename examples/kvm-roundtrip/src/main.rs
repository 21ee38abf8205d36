//! What a guest under KVM waits for its invalidations, as a table.
//!
//! `cargo run --release -p kvm-roundtrip`

use clap::Parser;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use kvm_roundtrip::{Measured, Mode, Options, Progress, measure, table};
use std::io::{self, Write};
use std::process::ExitCode;

/// Measures what a guest under KVM waits for its invalidations.
#[derive(Debug, Parser)]
struct Args {
    /// A smoke run: few rounds, too few to compare.
    #[arg(long)]
    quick: bool,
    /// Only these ways, beside the references.
    #[arg(long, value_name = "MODE", value_delimiter = ',', value_parser = modes())]
    modes: Vec<Mode>,
    /// So many vCPUs, instead of 1 to the number of CPUs.
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=64))]
    vcpus: Vec<u32>,
    /// So many pages of 4 KiB, instead of 1, 4, 16, 32 and 64.
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=128))]
    pages: Vec<u32>,
    /// Rounds of each vCPU for each row and pass, instead of as many as there is time for.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: Option<u32>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// The modes that consume, by the names that they have in JSON.
fn modes() -> impl TypedValueParser<Value = Mode> {
    PossibleValuesParser::new(MODES).try_map(|name| serde_json::from_value(name.into()))
}

const MODES: [&str; 6] = [
    "in_exit",
    "worker",
    "inline",
    "coalesced",
    "shared_page",
    "adaptive",
];

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
        Ok(measured) => print(&measured, &options, args.json),
        Err(error) => {
            eprintln!("kvm-roundtrip: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(measured: &Measured, options: &Options, json: bool) -> ExitCode {
    let report = match measured {
        Measured::Report(report) => report,
        // Who reads standard output as JSON must not take this for it.
        Measured::Nothing(why) => {
            eprintln!("kvm-roundtrip: nothing measured: {why}");
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
    if options.quick && !json {
        text.push_str("\nA smoke run (--quick): too few rounds for these figures to say anything of a goal.\n");
    }
    match written.and_then(|()| show(&text).map_err(|error| error.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvm-roundtrip: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output. Whoever reads it may stop when he has enough.
fn show(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_mode_that_consumes_can_be_named() {
        let all = format!("--modes={}", MODES.join(","));
        let args = Args::try_parse_from(["kvm-roundtrip", &all]).expect("all are modes");
        let consuming = Mode::ALL.into_iter().filter(|mode| !mode.is_reference());
        assert_eq!(args.modes, consuming.collect::<Vec<_>>());
    }

    #[test]
    fn another_mode_is_refused_with_those_that_there_are() {
        for name in ["nonsense", "empty_exit", ""] {
            let error = Args::try_parse_from(["kvm-roundtrip", "--modes", name]);
            let error = error.expect_err("no such mode").to_string();
            assert!(MODES.iter().all(|mode| error.contains(mode)), "{error}");
        }
    }
}
