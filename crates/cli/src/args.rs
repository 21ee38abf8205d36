//! The command line.

use crate::error::ToolError;
use clap::{Args, Parser, Subcommand, ValueEnum};
use smmu_core::Capabilities;
use smmu_core::spec::register::{Idr0, Idr1, Idr3, Idr5};
use std::path::PathBuf;
use std::str::FromStr;

/// Replays, decodes and measures SMMUv3 command streams through the vcmdq engine.
///
/// Without a sub-command: replays the bundled streams of a real Linux guest, then a storm of vSVA
/// invalidations, each beside a baseline, and checks what was invalidated.
/// Exit code: 0 all checks held, 1 a check failed, 2 bad usage or input.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Replays recorded command streams (without FILE: the bundled ones).
    Replay(ReplayArgs),
    /// Runs the vSVA storm: munmap, fork, exit, huge pages, of many address spaces.
    Storm(StormArgs),
    /// Lists a command stream: names, fields, covered ranges, and what is wrong with it.
    ///
    /// Exit code 1 if a record is illegal or cut off; the listing goes on behind it.
    Decode(DecodeArgs),
    /// Measures everything: the engine beside its baselines, and what a guest under KVM sees.
    ///
    /// Prints tables with the goals and writes a page with figures. Takes some minutes, in which nothing
    /// else should run. Exit code: 0 it was measured, whether or not goals are met, 1 a measurement failed, 2 bad
    /// usage.
    #[cfg(feature = "bench")]
    Bench(crate::bench::BenchArgs),
    /// Boots an unmodified Linux for arm64 under QEMU on the engine's SMMU, and checks what it reads
    /// and writes through it.
    ///
    /// Exit code: 0 every check held, 1 one did not, 2 a machine could not be started, 3 a part (QEMU,
    /// kernel, busybox) is not to be had.
    #[cfg(feature = "boot")]
    Boot(vcmdq_e2e::boot::BootArgs),
    /// Runs the iommufd backend inside a Linux for x86-64 whose iommufd has a mock IOMMU, under QEMU, checks
    /// what its ioctls do there, and measures them.
    ///
    /// Exit code: 0 every check held, 1 one did not, 2 the machine could not be started, 3 a part (QEMU,
    /// kernel, program) is not to be had.
    #[cfg(feature = "boot")]
    Mock(vcmdq_e2e::mock::MockArgs),
}

/// What every measured run can be told.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    /// Producer threads, as many as the guest has CPUs that insert commands. By default one less than
    /// there are CPUs here: the worker needs one, too.
    #[arg(long, value_name = "N", default_value_t = beside_a_worker(), value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) vcpus: u32,
    /// How often each recorded stream is replayed; `storm` has none.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: u32,
    /// Operations of the storm, for each producer thread; `replay` has none.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) ops: u32,
    /// Seed of the storm; the same seed is the same storm.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Checks every Nth submission: what it invalidates is cached before, and looked for after.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) check_every: u32,
    /// Rounds of the single-threaded drain comparison; 0 leaves it out. `storm` has none.
    #[arg(long, value_name = "N", default_value_t = 300)]
    pub(crate) drain_rounds: u32,
    /// log2 of the number of slots of the command queue.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=19))]
    pub(crate) log2size: u8,
    /// Microseconds that a worker looks for work before it sleeps.
    #[arg(long, value_name = "US", default_value_t = 50)]
    pub(crate) spin_us: u64,
    /// How PROD reaches the engine.
    #[arg(long, value_enum, default_value_t = Doorbell::Trap)]
    pub(crate) doorbell: Doorbell,
    /// What executes the invalidations.
    #[arg(long, value_enum, default_value_t = BackendKind::Software)]
    pub(crate) backend: BackendKind,
    /// Prints one JSON document instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What executes the invalidations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendKind {
    /// The software translation core.
    Software,
    /// Nothing at all: a run with it must fail, which shows that the checks look.
    Nothing,
    /// A translation core that forgets everything each time: a run with it must fail too.
    Everything,
}

/// How PROD reaches the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Doorbell {
    /// A call for each write, as from a VMM's exit handler.
    Trap,
    /// A page that the guest stores into and a worker polls.
    Page,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Streams: recordings, or raw dumps of 16-byte little-endian commands.
    pub(crate) files: Vec<PathBuf>,
    /// Has each recorded ring replayed by a producer of its own, on a ring of its own, and what was
    /// published together submitted together. Needs recordings; --vcpus has no meaning then.
    #[arg(long, requires = "files")]
    pub(crate) as_published: bool,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StormArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DecodeArgs {
    /// A stream: a recording, or a raw dump of 16-byte little-endian commands.
    pub(crate) file: PathBuf,
    /// IDR0 to IDR5 of the SMMU that the stream was written for, which decide what is legal.
    /// A recording says that itself. The default for a raw dump is the SMMU of the bundled streams,
    /// and IDR0.ATS and IDR0.MSI besides, so that ATC_INV and messages of SYNCs can be read too.
    #[arg(long, value_name = "IDR0,…,IDR5")]
    pub(crate) caps: Option<Caps>,
    /// Prints one JSON document instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// IDR0 to IDR5 of the recorded SMMU, with ATS (bit 10) and MSI (bit 13).
pub(crate) const DEFAULT_IDRS: &str = "0x0d44341b,0x02730010,0,0x1414,0,0x74";

/// Capabilities as written on the command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caps(pub(crate) Capabilities);

impl FromStr for Caps {
    type Err = ToolError;

    fn from_str(text: &str) -> Result<Self, ToolError> {
        let bad = || ToolError::Caps(text.to_owned());
        let values: Option<Vec<u32>> = text.split(',').map(|word| number(word.trim())).collect();
        let [idr0, idr1, _, idr3, _, idr5] = values.ok_or_else(bad)?[..] else {
            return Err(bad());
        };
        Ok(Self(Capabilities {
            idr0: Idr0::from_bits(idr0),
            idr1: Idr1::from_bits(idr1),
            idr3: Idr3::from_bits(idr3),
            idr5: Idr5::from_bits(idr5),
            ..Capabilities::default()
        }))
    }
}

fn number(word: &str) -> Option<u32> {
    match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => word.parse().ok(),
    }
}

/// Producers that leave a CPU to the worker.
fn beside_a_worker() -> u32 {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(cpus.saturating_sub(1))
        .unwrap_or(1)
        .clamp(1, 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn default_capabilities_are_the_recorded_ones_with_ats_and_msi() {
        let Caps(caps) = DEFAULT_IDRS.parse().expect("well formed");
        let recorded = "0x0d44101b,0x02730010,0,0x1414,0,0x74";
        let Caps(mut other) = recorded.parse().expect("well formed");
        assert!(!other.idr0.ats() && !other.idr0.msi());
        other.idr0.set_ats(true);
        other.idr0.set_msi(true);
        assert_eq!(caps, other);
    }

    #[test]
    fn capabilities_need_six_numbers() {
        for bad in [
            "",
            "1,2,3",
            "1,2,3,4,5,6,7",
            "a,0,0,0,0,0",
            "0x100000000,0,0,0,0,0",
        ] {
            assert!(bad.parse::<Caps>().is_err(), "{bad}");
        }
    }
}
