//! Measures what was asked for.

use super::args::{BenchArgs, What};
use super::load::Watch;
use super::machine::Machine;
use super::results::Results;
use crate::progress::Progress;
use kvm_roundtrip::{Measured, Report};
use vcmdq_measure::data::Section;
use vcmdq_measure::{Options, Part};

/// Runs everything; takes minutes, seconds with `--quick`.
pub(crate) fn measure(args: &BenchArgs, progress: &Progress) -> Results {
    let machine = Machine::here();
    let watch = Watch::begin();
    // The guest first: what the rows leave behind in caches and threads could not be told from it.
    let mut failures = Vec::new();
    let kvm = guest(args, progress).unwrap_or_else(|why| {
        failures.push(why.clone());
        Section::Skipped(why)
    });
    let rows = if args.wants(What::Rows) {
        let options = Options {
            quick: args.quick,
            only: None,
        };
        Section::Measured(vcmdq_measure::measure(&options, &Bar(progress)))
    } else {
        Section::Skipped("it was not asked for (--only)".to_owned())
    };
    Results {
        machine,
        command: command(args),
        quick: args.quick,
        load: watch.end(),
        failures,
        rows,
        kvm,
    }
}

/// What a guest under KVM sees, if there is KVM here.
///
/// # Errors
///
/// The measurement failed; the text says how.
fn guest(args: &BenchArgs, progress: &Progress) -> Result<Section<Report>, String> {
    if !args.wants(What::Kvm) {
        let why = "it was not asked for (--only)";
        return Ok(Section::Skipped(why.to_owned()));
    }
    let options = kvm_roundtrip::Options {
        quick: args.quick,
        ..kvm_roundtrip::Options::default()
    };
    match kvm_roundtrip::measure(&options, &mut Bar(progress)) {
        Ok(Measured::Report(report)) => Ok(Section::Measured(report)),
        Ok(Measured::Nothing(why)) => Ok(Section::Skipped(why)),
        Err(error) => Err(format!("the measurement in the guest failed: {error}")),
    }
}

/// What to type to do the same again.
fn command(args: &BenchArgs) -> String {
    let mut words = vec!["cargo run --release -- bench".to_owned()];
    if args.quick {
        words.push("--quick".to_owned());
    }
    if !args.only.is_empty() {
        let names = args.only.iter().map(|what| match what {
            What::Rows => "rows",
            What::Kvm => "kvm",
        });
        words.push(format!("--only {}", names.collect::<Vec<_>>().join(",")));
    }
    words.join(" ")
}

/// The bar, told by what measures inside one process.
struct Bar<'a>(&'a Progress);

impl vcmdq_measure::Progress for Bar<'_> {
    fn part(&self, part: Part, steps: u64) {
        self.0.begin(part.name(), steps);
    }

    fn step(&self) {
        self.0.advance();
    }
}

/// The bar, told by the guest's VMM.
impl kvm_roundtrip::Progress for Bar<'_> {
    fn begin(&mut self, runs: u64) {
        self.0.begin("a guest under KVM", runs);
    }

    fn step(&mut self) {
        self.0.advance();
    }
}
