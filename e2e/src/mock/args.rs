//! The command line of `vcmdq mock`.

use crate::boot::default_directory;
use clap::Args;
use std::path::PathBuf;

/// Runs the iommufd backend inside a Linux whose iommufd has a mock IOMMU.
#[derive(Clone, Debug, Args)]
pub struct MockArgs {
    /// Shows the kernel's console.
    #[arg(long)]
    pub console: bool,
    /// Virtual CPUs.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub cpus: u32,
    /// Seconds that the run may take.
    #[arg(long, value_name = "S", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
    /// Runs under KVM instead of by emulation; not every machine's KVM gets a Linux through its start.
    #[arg(long)]
    pub kvm: bool,
    /// Loses every invalidation on its way into the kernel: a run with it must fail, which shows that the checks
    /// look.
    #[arg(long)]
    pub lose_invalidations: bool,
    /// Where kernel, program and fetched packages lie; the last one counts.
    #[arg(long, value_name = "DIR", default_value_os_t = default_directory(), overrides_with = "directory")]
    pub directory: PathBuf,
}
