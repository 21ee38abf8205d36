//! The command line of `vcmdq boot`.

use super::plan::Mode;
use clap::{Args, ValueEnum};
use smmu_core::caps::Stages;
use std::path::PathBuf;

/// The translation stages that the SMMU offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Offer {
    /// Stage 1.
    #[default]
    One,
    /// Stage 2, which Linux then uses for everything.
    Two,
    /// Both: Linux uses stage 1, and stage 2 where it is asked for one.
    Both,
}

impl Offer {
    /// What the engine calls it.
    pub(super) fn stages(self) -> Stages {
        match self {
            Self::One => Stages::One,
            Self::Two => Stages::Two,
            Self::Both => Stages::Both,
        }
    }
}

/// Whose SMMU the guest has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Whose {
    /// The engine's.
    #[default]
    Engine,
    /// QEMU's own, which nobody here wrote.
    Qemu,
}

/// Boots a stock Linux for arm64 under QEMU with its PCIe devices behind the engine's SMMU.
#[derive(Clone, Debug, Args)]
pub struct BootArgs {
    /// How the guest's kernel uses the SMMU; one machine for each.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Mode::Strict, Mode::Lazy, Mode::Passthrough])]
    pub modes: Vec<Mode>,
    /// How often each machine runs all checks: it is started again in between, on the same frame.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub boots: u32,
    /// Shows the guest's console.
    #[arg(long)]
    pub console: bool,
    /// Virtual CPUs.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub cpus: u32,
    /// Seconds that one boot with its checks may take.
    #[arg(long, value_name = "S", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
    /// Drops every Nth batch of TLB invalidations once the guest has its disk: a run with it must fail, which shows that the
    /// checks look.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub drop_invalidations: Option<u64>,
    /// Ends a machine when a check has failed.
    #[arg(long)]
    pub stop_at_failure: bool,
    /// Leaves the SMMU out: devices use guest-physical addresses.
    #[arg(long)]
    pub no_smmu: bool,
    /// Puts a Tegra241 CMDQV beside the SMMU, one queue for each CPU, and boots a kernel that has its
    /// driver, which Debian's has not (`cargo xtask kernel` builds one).
    #[arg(long, conflicts_with = "no_smmu")]
    pub cmdqv: bool,
    /// The translation stages that the SMMU offers.
    #[arg(long, value_enum, default_value_t, conflicts_with = "no_smmu")]
    pub stages: Offer,
    /// A program in the guest drives the device through iommufd, with a stage 2 under it and a stage 1 of
    /// its own on top, then with dirty tracking. Takes the kernel of `--cmdqv` and the program that
    /// `cargo xtask guest` builds, and offers both stages and HTTU.
    #[arg(long, conflicts_with_all = ["no_smmu", "stages", "cmdqv", "record", "latency"])]
    pub nesting: bool,
    /// Whose SMMU the program of `--nesting` has under it. On QEMU's own the guest boots by UEFI and ACPI,
    /// with QEMU's NVMe controller; what needs HTTU is left out.
    #[arg(long, value_enum, default_value_t, conflicts_with_all = ["drop_invalidations", "no_ril"])]
    pub smmu: Whose,
    /// The SMMU offers no range invalidation.
    #[arg(long)]
    pub no_ril: bool,
    /// The device interrupts by INTx; without this by MSI, whose messages go through the SMMU.
    #[arg(long)]
    pub intx: bool,
    /// Puts readers and writers on every CPU instead of the checks, and writes what the guest's queues
    /// carry meanwhile into a recording. Takes one mode.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["latency", "no_smmu", "boots"])]
    pub record: Option<PathBuf>,
    /// Runs Linux's dma_map_benchmark instead of the checks, on QEMU's own SMMU, on the engine's, and on
    /// its VCMDQs, and shows their latencies beside each other. Takes the kernel of `--cmdqv` and the program that
    /// `cargo xtask kernel` builds with it; what the machines look like is not to be chosen.
    #[arg(long, conflicts_with_all = CHOICES)]
    pub latency: bool,
    /// How often each of those guests is started; the medians are shown.
    #[arg(long, value_name = "N", default_value_t = 3, requires = "latency", value_parser = clap::value_parser!(u32).range(1..=99))]
    pub rounds: u32,
    /// Where fetched packages are kept; the last one counts.
    #[arg(long, value_name = "DIR", default_value_os_t = default_directory(), overrides_with = "directory")]
    pub directory: PathBuf,
}

/// What says how a machine looks or what is checked in it, which `--latency` decides itself.
const CHOICES: [&str; 10] = [
    "modes",
    "boots",
    "cpus",
    "drop_invalidations",
    "no_smmu",
    "cmdqv",
    "stages",
    "smmu",
    "no_ril",
    "intx",
];

impl BootArgs {
    /// What the SMMU offers.
    pub(super) fn offer(&self) -> Offer {
        match self.nesting {
            true => Offer::Both,
            false => self.stages,
        }
    }
}

/// A part of cargo's build directory, which is what may be thrown away.
pub(crate) fn default_directory() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    PathBuf::from(target).join("e2e")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Tool {
        #[command(flatten)]
        boot: BootArgs,
    }

    fn parse(words: &str) -> Result<BootArgs, clap::Error> {
        let words = ["boot"].into_iter().chain(words.split_whitespace());
        Tool::try_parse_from(words).map(|tool| tool.boot)
    }

    #[test]
    fn the_last_directory_counts() {
        let args =
            parse("--directory a --directory b").expect("one given by a script, one behind it");
        assert_eq!(args.directory, PathBuf::from("b"));
    }

    #[test]
    fn a_choice_that_the_latencies_would_ignore_is_refused() {
        let args = parse("--latency --rounds 5 --timeout 60").expect("nothing is chosen");
        assert!(args.latency && args.rounds == 5);
        for choice in [
            "--modes lazy",
            "--boots 2",
            "--cpus 2",
            "--drop-invalidations 3",
            "--no-smmu",
            "--cmdqv",
            "--stages two",
            "--smmu qemu",
            "--no-ril",
            "--intx",
        ] {
            assert!(parse(choice).is_ok(), "{choice}");
            let error = parse(&format!("--latency {choice}")).expect_err(choice);
            assert!(error.to_string().contains("cannot be used with"), "{error}");
        }
    }
}
