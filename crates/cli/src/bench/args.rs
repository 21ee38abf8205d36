//! The command line of `bench`.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Where the page goes.
    #[arg(long, value_name = "FILE", default_value = "target/bench.html")]
    pub(crate) html: PathBuf,
    /// Where everything that was measured goes, for programs and for --from.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Prints the tables of the README instead of those for a terminal.
    #[arg(long)]
    pub(crate) markdown: bool,
    /// A smoke run of some seconds: everything is called, the figures mean nothing.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Measures only these.
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    pub(crate) only: Vec<What>,
    /// Measures nothing, shows what an earlier run wrote with --json.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "only"])]
    pub(crate) from: Option<PathBuf>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// The engine beside its baselines inside one process.
    Rows,
    /// What a guest under KVM sees.
    Kvm,
}

impl BenchArgs {
    pub(crate) fn wants(&self, what: What) -> bool {
        self.only.is_empty() || self.only.contains(&what)
    }
}
