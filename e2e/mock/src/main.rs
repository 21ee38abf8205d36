//! The first process of the kernel that `vcmdq mock` boots, whose iommufd has a mock IOMMU (CONFIG_IOMMUFD_TEST).
//!
//! Makes every check, says a line for each on the console, measures, and switches the machine off. Started
//! by somebody else it does the same in the kernel that it finds, and ends with 0 if every check held.
//!
//! | file | what |
//! |---|---|
//! | `init.rs` | what a first process has to do |
//! | `report.rs` | verdicts and notes for the host |
//! | `call.rs` | calls of iommufd, and those of its mock |
//! | `host.rs` | devices, tables, virtual IOMMUs; what of their caches is still there |
//! | `nest.rs` | a virtual IOMMU with devices in it |
//! | `rig/` | the engine in front of it, and a guest driver |
//! | `world/` | a frame whose streams are devices of the mock |
//! | `nth.rs` | the kernel's fault injection |
//! | `checks/` | what is checked |
//! | `measure/` | what is measured |
#![deny(unsafe_code)]

mod call;
mod checks;
mod host;
mod init;
mod measure;
mod nest;
mod nth;
mod report;
mod rig;
mod world;

use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let first = std::process::id() == 1;
    let start = Instant::now();
    let held = match init::file_systems(first) {
        Ok(()) => checks::run() & measure::run(),
        Err(error) => report::verdict("init", &Err(error)),
    };
    report::done(start.elapsed());
    if first {
        init::switch_off();
    }
    match held {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
